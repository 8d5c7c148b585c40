"""The tables of the first PostgreSQL backend. Money nano-currency, energy Wh, times Unix seconds.

Records of money, results and events are kept for ever, in sixteen parts by gateway, and their key is unique in each
part. Records of readings are apart from them, to be divided by the time of their receipt; so far they have one part.
That a reading's sequence is there once is held by the stream's mark, whose gateway is locked while it moves.
"""

from alembic import op

revision = "0001"
down_revision = None

SHARDS = 16

TABLES = """
CREATE TABLE gateway (
    id TEXT PRIMARY KEY, epoch BIGINT NOT NULL, enrolled_at BIGINT NOT NULL, online SMALLINT NOT NULL DEFAULT 0,
    boot TEXT, software TEXT, clock TEXT, roster TEXT, hello_at BIGINT);
CREATE TABLE boot (
    gateway TEXT NOT NULL REFERENCES gateway(id), boot TEXT NOT NULL, followed_at BIGINT NOT NULL,
    returns BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (gateway, boot));
CREATE TABLE stream (
    gateway TEXT NOT NULL REFERENCES gateway(id), stream TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
    hash BYTEA NOT NULL, PRIMARY KEY (gateway, stream, epoch));
CREATE TABLE record (
    gateway TEXT NOT NULL, stream TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL, hash BYTEA NOT NULL,
    body BYTEA NOT NULL, received_at BIGINT NOT NULL) PARTITION BY LIST (stream);
CREATE TABLE record_money PARTITION OF record FOR VALUES IN ('led', 'res', 'evt') PARTITION BY HASH (gateway);
CREATE TABLE record_reading PARTITION OF record FOR VALUES IN ('rdg') PARTITION BY RANGE (received_at);
CREATE TABLE record_reading_rest PARTITION OF record_reading DEFAULT;
CREATE INDEX record_reading_key ON record_reading (gateway, epoch, seq);
CREATE TABLE aside (
    gateway TEXT NOT NULL, stream TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
    previous_hash BYTEA NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (gateway, stream, epoch, seq));
CREATE TABLE quarantine (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gateway TEXT NOT NULL, topic TEXT NOT NULL,
    reason TEXT NOT NULL, payload_hash BYTEA NOT NULL, payload BYTEA NOT NULL, first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL, count BIGINT NOT NULL DEFAULT 1, UNIQUE (topic, reason, payload_hash));
CREATE TABLE alarm (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gateway TEXT NOT NULL, kind TEXT NOT NULL,
    detail TEXT NOT NULL, first_at BIGINT NOT NULL, last_at BIGINT NOT NULL, count BIGINT NOT NULL DEFAULT 1,
    UNIQUE (gateway, kind, detail));
CREATE TABLE account (
    gateway TEXT NOT NULL, account TEXT NOT NULL, money_nano BIGINT NOT NULL, estimate_nano BIGINT,
    register_wh BIGINT, at BIGINT, seq BIGINT NOT NULL, PRIMARY KEY (gateway, account));
CREATE TABLE document (
    gateway TEXT NOT NULL, kind TEXT NOT NULL, version BIGINT NOT NULL, hash TEXT NOT NULL, envelope BYTEA NOT NULL,
    PRIMARY KEY (gateway, kind, version));
CREATE TABLE command (
    number BIGINT GENERATED ALWAYS AS IDENTITY, cid TEXT PRIMARY KEY,
    gateway TEXT NOT NULL REFERENCES gateway(id), meter TEXT NOT NULL, type TEXT NOT NULL, supply_version BIGINT,
    envelope BYTEA NOT NULL, document BYTEA, created_at BIGINT NOT NULL, sent_count BIGINT NOT NULL DEFAULT 0,
    result TEXT, result_body BYTEA, result_at BIGINT);
CREATE INDEX command_pending ON command (gateway, created_at) WHERE result IS NULL;
CREATE TABLE payment (
    payment_id TEXT PRIMARY KEY, gateway TEXT NOT NULL, meter TEXT NOT NULL, amount_nano BIGINT NOT NULL,
    cid TEXT NOT NULL UNIQUE REFERENCES command(cid), created_at BIGINT NOT NULL);
CREATE TABLE device_key (
    gateway TEXT NOT NULL REFERENCES gateway(id), kid TEXT NOT NULL, public_key BYTEA NOT NULL,
    pinned_at BIGINT NOT NULL, PRIMARY KEY (gateway, kid));
CREATE TABLE checkpoint (
    day BIGINT NOT NULL, leaf BIGINT NOT NULL, gateway TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL,
    envelope BYTEA NOT NULL, received_at BIGINT NOT NULL, PRIMARY KEY (day, leaf), UNIQUE (gateway, epoch, seq));
CREATE TABLE tree_head (
    day BIGINT NOT NULL, size BIGINT NOT NULL, envelope BYTEA NOT NULL, PRIMARY KEY (day, size));
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER record_is_never_changed BEFORE UPDATE ON record
    FOR EACH ROW EXECUTE FUNCTION refuse_change('a record is never changed');
CREATE TRIGGER checkpoint_is_never_changed BEFORE UPDATE OR DELETE ON checkpoint
    FOR EACH ROW EXECUTE FUNCTION refuse_change('a checkpoint is never changed or deleted');
CREATE TRIGGER record_is_never_deleted BEFORE DELETE ON record
    FOR EACH ROW WHEN (OLD.stream <> 'rdg')
    EXECUTE FUNCTION refuse_change('a record of money, a result or an event is never deleted');
CREATE TRIGGER tree_head_is_never_changed BEFORE UPDATE OR DELETE ON tree_head
    FOR EACH ROW EXECUTE FUNCTION refuse_change('a head that was given out is never changed or deleted');
"""


def upgrade() -> None:
    """Makes them."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(TABLES)  # past SQLAlchemy, which would take a % for the place of a value
    for shard in range(SHARDS):
        name = f"record_money_{shard:02d}"
        place = f"FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {shard})"
        op.execute(f"CREATE TABLE {name} PARTITION OF record_money {place}")
        op.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (gateway, stream, epoch, seq)")
