-- The reference backend's tables. Money nano-currency, energy Wh, times Unix seconds.

CREATE TABLE IF NOT EXISTS gateway (
    id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,          -- the one epoch records are taken from; a permit raises it
    enrolled_at INTEGER NOT NULL,
    online INTEGER NOT NULL DEFAULT 0,
    boot TEXT,
    software TEXT,
    clock TEXT,
    roster TEXT,                     -- JSON of the last hello
    hello_at INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS boot (    -- boots of a gateway that another one has followed
    gateway TEXT NOT NULL REFERENCES gateway(id),
    boot TEXT NOT NULL,
    followed_at INTEGER NOT NULL,
    returns INTEGER NOT NULL DEFAULT 0, -- how often it said hello again
    PRIMARY KEY (gateway, boot)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS stream (  -- how far each stream is taken, without a hole
    gateway TEXT NOT NULL REFERENCES gateway(id),
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (gateway, stream, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS record (
    gateway TEXT NOT NULL,
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, stream, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS record_is_never_changed BEFORE UPDATE ON record
BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END;

CREATE TRIGGER IF NOT EXISTS record_is_never_deleted BEFORE DELETE ON record
WHEN OLD.stream != 'rdg'             -- readings go when they are old
BEGIN SELECT RAISE(ABORT, 'a record of money, a result or an event is never deleted'); END;

CREATE TRIGGER IF NOT EXISTS record_is_never_replaced BEFORE INSERT ON record
WHEN EXISTS (SELECT 1 FROM record WHERE gateway = NEW.gateway AND stream = NEW.stream
             AND epoch = NEW.epoch AND seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'a record is never replaced'); END;

CREATE TABLE IF NOT EXISTS aside (   -- came before its turn; its predecessor is asked for again
    gateway TEXT NOT NULL,
    stream TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    previous_hash BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (gateway, stream, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,           -- as the topic says; empty when the topic is not ours
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload_hash BLOB NOT NULL,
    payload BLOB NOT NULL,           -- its beginning
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    UNIQUE (topic, reason, payload_hash)
) STRICT;

CREATE TABLE IF NOT EXISTS alarm (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    UNIQUE (gateway, kind, detail)
) STRICT;

CREATE TABLE IF NOT EXISTS account ( -- projection of led; audit.py rebuilds and compares it
    gateway TEXT NOT NULL,
    account TEXT NOT NULL,
    money_nano INTEGER NOT NULL,     -- sum of posting_nano
    estimate_nano INTEGER,           -- as last recorded
    register_wh INTEGER,
    at INTEGER,
    seq INTEGER NOT NULL,            -- the record that last touched it
    PRIMARY KEY (gateway, account)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS document (
    gateway TEXT NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (gateway, kind, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS command (
    cid TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateway(id),
    meter TEXT NOT NULL,
    type TEXT NOT NULL,
    supply_version INTEGER,
    envelope BLOB NOT NULL,
    document BLOB,                   -- envelope of the document it activates, sent before it
    created_at INTEGER NOT NULL,
    sent_count INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    result_body BLOB,
    result_at INTEGER
) STRICT;

CREATE INDEX IF NOT EXISTS command_pending ON command (gateway, created_at) WHERE result IS NULL;

CREATE TABLE IF NOT EXISTS payment (
    payment_id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    meter TEXT NOT NULL,
    amount_nano INTEGER NOT NULL,
    cid TEXT NOT NULL UNIQUE REFERENCES command(cid),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS device_key ( -- whose signature makes a checkpoint of this gateway
    gateway TEXT NOT NULL REFERENCES gateway(id),
    kid TEXT NOT NULL,
    public_key BLOB NOT NULL,
    pinned_at INTEGER NOT NULL,
    PRIMARY KEY (gateway, kid)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS checkpoint ( -- the leaves of each day's tree, in the order of their taking
    day INTEGER NOT NULL,            -- of received_at, UTC, days since 1970
    leaf INTEGER NOT NULL,           -- from 0
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,            -- of the ledger record it names
    envelope BLOB NOT NULL,          -- as the device signed it: the bytes of the leaf
    received_at INTEGER NOT NULL,
    PRIMARY KEY (day, leaf),
    UNIQUE (gateway, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS checkpoint_is_never_changed BEFORE UPDATE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'a checkpoint is never changed'); END;

CREATE TRIGGER IF NOT EXISTS checkpoint_is_never_deleted BEFORE DELETE ON checkpoint
BEGIN SELECT RAISE(ABORT, 'a checkpoint is never deleted'); END;

CREATE TABLE IF NOT EXISTS tree_head ( -- every head that was given out
    day INTEGER NOT NULL,
    size INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (day, size)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS tree_head_is_never_changed BEFORE UPDATE ON tree_head
BEGIN SELECT RAISE(ABORT, 'a head that was given out is never changed'); END;

CREATE TRIGGER IF NOT EXISTS tree_head_is_never_deleted BEFORE DELETE ON tree_head
BEGIN SELECT RAISE(ABORT, 'a head that was given out is never deleted'); END;
