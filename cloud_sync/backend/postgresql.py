"""The backend on PostgreSQL: several workers write beside each other, each gateway's rows by one at a time.

Ingest shares an advisory lock and locks the rows of the gateways it writes for, in the order of their ids; the desk and
whoever else decides by what it reads takes that lock alone. So what one transaction read still holds when it writes,
as in SQLite, and workers do not wait for each other. `synchronous_commit` stays on: a commit returns after its sync.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, cast
from zlib import crc32

import psycopg
from psycopg.pq import TransactionStatus

from cloud_sync.backend.database import Rows, Table

_EVERYTHING: Final = 0x57474244  # advisory lock; these have one beside it
_QUEUE: Final = 1
_LEADERS: Final = _EVERYTHING + 1  # beside it: which brokers
_USABLE: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class PostgresqlDatabase:
    """A connection as the port wants it."""

    Error: type[Exception] = psycopg.Error
    Contradictions: tuple[type[Exception], ...] = (psycopg.IntegrityError, psycopg.DataError)
    insertion_order = "number"

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._leads = False

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        return cast(Rows, self._connection.execute(_translated(sql).encode(), parameters or None))

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translated(sql).encode(), list(parameters))

    def close(self) -> None:
        self._connection.close()

    def begin(self, *, shared: bool) -> None:
        self.execute("BEGIN")
        self.execute(f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}({_EVERYTHING})")

    def end(self) -> None:
        self.execute("COMMIT")

    def give_up(self) -> None:
        if not self._connection.closed and self._connection.info.transaction_status in _USABLE:
            self.execute("ROLLBACK")

    @property
    def is_usable(self) -> bool:
        return self._connection.info.transaction_status in _USABLE

    def open_epochs(self, gateway_ids: Sequence[str]) -> dict[str, int]:
        sql = "SELECT id, epoch FROM gateway WHERE id = ANY(?) ORDER BY id FOR NO KEY UPDATE"
        return dict(self.execute(sql, (list(gateway_ids),)).fetchall())

    def write(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        columns = ", ".join(table.columns)
        with self._connection.cursor() as cursor:
            if not table.key:
                with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
                    copy.set_types([kind.value for kind in table.columns.values()])
                    for row in rows:
                        copy.write_row(row)
                return
            arrays = ", ".join(f"%s::{kind.value}[]" for kind in table.columns.values())
            sql = f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({arrays}){table.replaced}"
            cursor.execute(sql.encode(), [list(column) for column in zip(*rows, strict=True)])

    def among(self, column: str, values: Sequence[str]) -> tuple[str, list[str]]:
        return f"{column} = ANY(?)", list(values)

    def holding(self, column: str) -> str:
        return f"position(? IN {column}) > 0"

    def lead(self, brokers: str) -> bool:
        if not self._leads:
            group = crc32(brokers.encode()) - 2**31  # an int of 32 bits; two lists of one group only wait for an hello
            sql = f"SELECT pg_try_advisory_lock({_LEADERS}, {group})"  # until the connection ends
            self._leads = bool(self.execute(sql).fetchone()[0])
        return self._leads

    def queue(self) -> None:
        self.execute(f"SELECT pg_advisory_xact_lock({_EVERYTHING}, {_QUEUE})")


def open_postgresql(url: str) -> PostgresqlDatabase:
    """A connection to a database that has our tables, which are made in an empty one. Raises psycopg.Error, ValueError.

    A database of an older or unknown revision is refused with what to do.
    """
    from cloud_sync.backend.migrate import bring_up, revision_of

    connection = psycopg.connect(url, autocommit=True)
    try:
        found, newest = revision_of(url)
        if found is None:
            bring_up(url)
        elif found != newest:
            raise ValueError(f"the database has revision {found}, not {newest}: start the backend once with --migrate")
    except BaseException:
        connection.close()
        raise
    return PostgresqlDatabase(connection)


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    assert "%" not in sql
    return sql.replace("?", "%s")
