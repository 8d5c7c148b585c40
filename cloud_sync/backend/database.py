"""The backend's database as a port: one engine behind a URL, and what of SQL may be relied on.

`sqlite:///FILE` or a path is the embedded default; `postgresql://...` needs the extra `[backend]`. Statements are
written in the subset that both speak: `?` for a value, ON CONFLICT, RETURNING, no row ids. A transaction is all or
nothing and durable when it has ended.
"""

import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

POSTGRESQL_SCHEMES = ("postgresql://", "postgres://")
_SQLITE_SCHEME = "sqlite:///"


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "bigint"
    BYTES = "bytea"


@dataclass(frozen=True)
class Table:
    """Rows that are written many at once. A row of a key that is there replaces it; without a key rows are added."""

    name: str
    columns: Mapping[str, Kind]
    key: tuple[str, ...] = ()

    @property
    def replaced(self) -> str:
        """What becomes of a row that has the key of a new one; nothing to say without a key."""
        if not self.key:
            return ""
        others = (column for column in self.columns if column not in self.key)
        changes = ", ".join(f"{column} = excluded.{column}" for column in others)
        return f" ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"


class Rows(Protocol):
    """What a statement gives back."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> Sequence[Sequence[Any]] | None: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """One connection, for one thread at a time."""

    insertion_order: str  # to sort the rows of a table by, where one of them came after another in the same second

    @property
    def Error(self) -> type[Exception]:
        """The database failed: nothing of the transaction stands."""

    @property
    def Contradictions(self) -> tuple[type[Exception], ...]:
        """Some of them: the rows contradict the statement, or no row can hold its values. It may go on."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any: ...
    def close(self) -> None: ...

    def begin(self, *, shared: bool) -> None:
        """Begins a transaction; alone at the database, or beside others that are shared too."""

    def end(self) -> None:
        """Commits; returns after the sync."""

    def give_up(self) -> None:
        """Rolls back, if there is still something to roll back."""

    @property
    def is_usable(self) -> bool:
        """Whether the transaction under way may go on; a full disk may have ended it."""

    def open_epochs(self, gateway_ids: Sequence[str]) -> dict[str, int]:
        """The open epoch of each of these that is enrolled. Until the transaction ends nobody else changes them."""

    def write(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Adds rows, or sets them by the table's key; a key is at most once among them."""

    def among(self, column: str, values: Sequence[str]) -> tuple[str, Any]:
        """The condition that a column is one of these, and the value its `?` stands for."""

    def holding(self, column: str) -> str:
        """The condition that a column of bytes holds the bytes that `?` stands for."""

    def lead(self, brokers: str) -> bool:
        """Whether this connection is the one of all at these brokers that sends commands of its own accord.

        It stays so while open. Who is at other brokers reaches other gateways, so each of them needs one that sends.
        """

    def queue(self) -> None:
        """Waits for other transactions that did the same to end: for rows that belong to no gateway alone."""


def open_database(place: Path | str) -> Database:
    """The database, made if absent. Raises ValueError for what is none of ours, and an engine's errors."""
    url = str(place)
    if url.startswith(POSTGRESQL_SCHEMES):
        with of_the_extra("PostgreSQL"):
            from cloud_sync.backend.postgresql import open_postgresql

        return open_postgresql(url)
    from cloud_sync.backend.sqlite import open_sqlite

    if "://" in url and not url.startswith(_SQLITE_SCHEME):
        raise ValueError(f"{url}: no such database; allowed are a file, sqlite:///FILE and postgresql://...")
    return open_sqlite(url.removeprefix(_SQLITE_SCHEME))


def open_existing(place: Path | str) -> Database:
    """The same, but a file that is not there is refused: whoever asks a backend did not mean to make one."""
    path = Path(str(place).removeprefix(_SQLITE_SCHEME))
    if not str(place).startswith(POSTGRESQL_SCHEMES) and not path.exists():
        raise ValueError(f"{path}: there is no such database; a backend makes it")
    return open_database(place)


def migrate(place: Path | str) -> None:
    """Brings the tables up to date; those of SQLite are so whenever the file is opened."""
    if str(place).startswith(POSTGRESQL_SCHEMES):
        with of_the_extra("PostgreSQL"):
            from cloud_sync.backend.migrate import bring_up

        bring_up(str(place))


@contextmanager
def of_the_extra(what: str) -> Iterator[None]:
    """Imports of what only the extra [backend] brings: ValueError says so where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"{what} needs the extra [backend], which is not installed here ({missing.name}):"
            " pip install 'wattgate[backend]'"
        ) from missing


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Every error that a database may raise, of the engines that are loaded, and others."""
    psycopg = sys.modules.get("psycopg")
    return (*others, sqlite3.Error) if psycopg is None else (*others, sqlite3.Error, psycopg.Error)


@contextmanager
def transaction(database: Database, *, shared: bool = False) -> Iterator[None]:
    """All or nothing; returns after the sync. `shared`: beside others that are, with gateways of their own."""
    database.begin(shared=shared)
    try:
        yield
        database.end()
    except BaseException:
        database.give_up()
        raise


@contextmanager
def savepoint(database: Database) -> Iterator[None]:
    """One message inside a transaction: what it did is undone when it fails, the rest stands."""
    database.execute("SAVEPOINT message")
    try:
        yield
    except BaseException:
        if database.is_usable:
            database.execute("ROLLBACK TO SAVEPOINT message")
            database.execute("RELEASE SAVEPOINT message")
        raise
    database.execute("RELEASE SAVEPOINT message")
