"""The backend on SQLite: one file, one writer at a time, durable commits, readers beside it.

WAL with synchronous=FULL syncs at every commit, which is what an acknowledgement promises.
"""

import json
import sqlite3
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.database import Table

APPLICATION_ID: Final = 0x57474244  # "WGBD"
# What came with each: 2 checkpoints, 3 boots, 4 notices, 5 payments. What is missing is made at the next opening.
SCHEMA_VERSION: Final = 5
SCHEMAS: Final = ("schema.sql", "schema_notices.sql", "schema_payments.sql")
BUSY_SECONDS_MAX: Final = 10.0


class SqliteDatabase(sqlite3.Connection):
    """A connection as the port wants it. Every transaction is alone: SQLite has one writer."""

    insertion_order = "rowid"
    Contradictions = (sqlite3.IntegrityError, sqlite3.DataError)

    def begin(self, *, shared: bool) -> None:
        self.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.execute("COMMIT")

    def give_up(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")

    @property
    def is_usable(self) -> bool:
        return self.in_transaction

    def open_epochs(self, gateway_ids: Sequence[str]) -> dict[str, int]:
        condition, among = self.among("id", gateway_ids)
        return dict(self.execute(f"SELECT id, epoch FROM gateway WHERE {condition}", (among,)).fetchall())

    def write(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        places = ", ".join("?" * len(table.columns))
        self.executemany(
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({places}){table.replaced}", rows
        )

    def among(self, column: str, values: Sequence[str]) -> tuple[str, str]:
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(values)

    def holding(self, column: str) -> str:
        return f"instr({column}, ?) > 0"

    def lead(self, brokers: str) -> bool:
        return True

    def queue(self) -> None:
        """Nobody else is writing."""


def open_sqlite(path: Path | str) -> SqliteDatabase:
    """The file, made if absent. Raises ValueError for a file of something else."""
    database = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS_MAX, factory=SqliteDatabase
    )
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


def _create(database: sqlite3.Connection) -> None:
    """Makes the tables that are not there yet."""
    folder = resources.files("cloud_sync.backend")
    script = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCHEMAS)
    database.executescript(
        f"BEGIN IMMEDIATE; {script}; PRAGMA application_id={APPLICATION_ID};"
        f" PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    )
