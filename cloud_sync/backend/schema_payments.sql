
-- Payment channels and what came in through them. Money nano-currency, times Unix seconds.

CREATE TABLE IF NOT EXISTS channel (
    id TEXT PRIMARY KEY,
    key_hash BLOB NOT NULL,              -- SHA-256 of the secret, which is 256 random bits
    approves INTEGER NOT NULL DEFAULT 0, -- 1: may only be the second key of a reversal
    payment_nano_max INTEGER NOT NULL,
    day_nano_max INTEGER NOT NULL,       -- of what a UTC day takes in
    added_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS channel_payment (
    channel TEXT NOT NULL REFERENCES channel(id),
    idempotency_key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    payment_id TEXT NOT NULL UNIQUE,     -- follows from channel and key: a retry cannot make another
    gateway TEXT NOT NULL,
    meter TEXT NOT NULL,
    amount_nano INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    cid TEXT,                            -- of the order; null: it is still to be placed
    reversal_cid TEXT,
    PRIMARY KEY (channel, idempotency_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS channel_payment_day ON channel_payment (channel, received_at);

CREATE TABLE IF NOT EXISTS customer_key ( -- who may look at an account; a new key replaces the old
    gateway TEXT NOT NULL REFERENCES gateway(id),
    account TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    key_hash BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, account)
) STRICT, WITHOUT ROWID;
