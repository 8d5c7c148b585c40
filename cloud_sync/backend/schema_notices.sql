-- Notices on their way to customers (cloud_sync/notices). Times Unix seconds.

CREATE TABLE IF NOT EXISTS notice (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    number INTEGER NOT NULL,             -- 1, 2 or 3 of 7+0+3
    raised_at INTEGER NOT NULL,          -- by the gateway's clock, as the record states it
    epoch INTEGER NOT NULL,              -- the record it was read from
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,                  -- that record
    state TEXT NOT NULL,                 -- cloud_sync/notices/states.py
    round INTEGER NOT NULL DEFAULT 1,    -- attempts of an earlier round do not count any more
    due_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    closed_at INTEGER,                   -- the gateway closed the episode: nothing more to tell
    receipt_cid TEXT,                    -- the order that told the gateway
    receipt_problem TEXT,
    PRIMARY KEY (gateway, account, number, raised_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS notice_due ON notice (state, due_at);

CREATE TABLE IF NOT EXISTS notice_attempt ( -- every time something was handed to a channel, kept as proof
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    number INTEGER NOT NULL,
    raised_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,            -- from 1
    round INTEGER NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    verified INTEGER NOT NULL,           -- whether the address was known to be the customer's
    text_hash TEXT NOT NULL,             -- hex SHA-256 of what was said
    started_at INTEGER NOT NULL,
    outcome TEXT,                        -- none while it is under way
    proof TEXT,                          -- what the channel answered
    reference TEXT,                      -- the provider's id of the message
    ended_at INTEGER,
    PRIMARY KEY (gateway, account, number, raised_at, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS notice_attempt_started ON notice_attempt (started_at);

CREATE TABLE IF NOT EXISTS notice_contact (
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    language TEXT NOT NULL,
    preference INTEGER NOT NULL,         -- the lowest is tried first
    verified_at INTEGER,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, account, channel)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS notice_mark ( -- how far each ledger has been read
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) STRICT, WITHOUT ROWID;
