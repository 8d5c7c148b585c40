"""The tables of notices on their way to customers; what each column is stands in schema_notices.sql."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE notice (
    gateway TEXT NOT NULL, account TEXT NOT NULL, number BIGINT NOT NULL, raised_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL, seq BIGINT NOT NULL, body BYTEA NOT NULL, state TEXT NOT NULL,
    round BIGINT NOT NULL DEFAULT 1, due_at BIGINT NOT NULL, changed_at BIGINT NOT NULL, closed_at BIGINT,
    receipt_cid TEXT, receipt_problem TEXT, PRIMARY KEY (gateway, account, number, raised_at));
CREATE INDEX notice_due ON notice (state, due_at);
CREATE TABLE notice_attempt (
    gateway TEXT NOT NULL, account TEXT NOT NULL, number BIGINT NOT NULL, raised_at BIGINT NOT NULL,
    attempt BIGINT NOT NULL, round BIGINT NOT NULL, channel TEXT NOT NULL, address TEXT NOT NULL,
    verified BIGINT NOT NULL, text_hash TEXT NOT NULL, started_at BIGINT NOT NULL, outcome TEXT, proof TEXT,
    reference TEXT, ended_at BIGINT, PRIMARY KEY (gateway, account, number, raised_at, attempt));
CREATE INDEX notice_attempt_started ON notice_attempt (started_at);
CREATE TABLE notice_contact (
    gateway TEXT NOT NULL, account TEXT NOT NULL, channel TEXT NOT NULL, address TEXT NOT NULL,
    language TEXT NOT NULL, preference BIGINT NOT NULL, verified_at BIGINT, added_at BIGINT NOT NULL,
    PRIMARY KEY (gateway, account, channel));
CREATE TABLE notice_mark (
    gateway TEXT NOT NULL, epoch BIGINT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (gateway, epoch))
"""


def upgrade() -> None:
    """Makes them."""
    for statement in TABLES.split(";"):
        op.execute(statement)
