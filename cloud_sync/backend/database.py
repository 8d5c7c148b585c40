"""The backend's SQLite file: one writer at a time, durable commits, readers beside it.

WAL with synchronous=FULL syncs at every commit, which is what an acknowledgement promises.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x57474244  # "WGBD"
SCHEMA_VERSION: Final = 3  # 1 had no checkpoints, 2 no boots; what is missing is made at the next opening
BUSY_SECONDS_MAX: Final = 10.0


def open_database(path: Path | str) -> sqlite3.Connection:
    """The database, made if absent. Raises ValueError for a file of something else."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS_MAX)
    try:
        found = database.execute("PRAGMA application_id").fetchone()[0]
        has_tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if has_tables and (found != APPLICATION_ID or not 1 <= version <= SCHEMA_VERSION):
            raise ValueError(f"{path}: not a backend database of schema 1 to {SCHEMA_VERSION}")
        for setting in ("synchronous=FULL", "journal_mode=WAL", "foreign_keys=ON", "recursive_triggers=ON"):
            database.execute("PRAGMA " + setting)
        if version < SCHEMA_VERSION:
            _create(database)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; returns after the sync."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def savepoint(database: sqlite3.Connection) -> Iterator[None]:
    """One message inside a transaction: what it did is undone when it fails, the rest stands."""
    database.execute("SAVEPOINT message")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # a full disk may have rolled back everything
            database.execute("ROLLBACK TO message")
            database.execute("RELEASE message")
        raise
    database.execute("RELEASE message")


def _create(database: sqlite3.Connection) -> None:
    """Makes the tables that are not there yet."""
    script = resources.files("cloud_sync.backend").joinpath("schema.sql").read_text(encoding="utf-8")
    database.executescript(
        f"BEGIN IMMEDIATE; {script}; PRAGMA application_id={APPLICATION_ID};"
        f" PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    )
