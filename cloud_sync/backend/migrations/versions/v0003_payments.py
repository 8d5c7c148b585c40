"""The tables of payment channels; what each column is stands in schema_payments.sql."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE channel (
    id TEXT PRIMARY KEY, key_hash BYTEA NOT NULL, approves SMALLINT NOT NULL DEFAULT 0,
    payment_nano_max BIGINT NOT NULL, day_nano_max BIGINT NOT NULL, added_at BIGINT NOT NULL, revoked_at BIGINT);
CREATE TABLE channel_payment (
    channel TEXT NOT NULL REFERENCES channel(id), idempotency_key TEXT NOT NULL, request_hash BYTEA NOT NULL,
    payment_id TEXT NOT NULL UNIQUE, gateway TEXT NOT NULL, meter TEXT NOT NULL, amount_nano BIGINT NOT NULL,
    received_at BIGINT NOT NULL, cid TEXT, reversal_cid TEXT, PRIMARY KEY (channel, idempotency_key));
CREATE INDEX channel_payment_day ON channel_payment (channel, received_at);
CREATE TABLE customer_key (
    gateway TEXT NOT NULL REFERENCES gateway(id), account TEXT NOT NULL, name TEXT NOT NULL UNIQUE,
    key_hash BYTEA NOT NULL, made_at BIGINT NOT NULL, PRIMARY KEY (gateway, account))
"""


def upgrade() -> None:
    """Makes them."""
    for statement in TABLES.split(";"):
        op.execute(statement)
