"""What the tests of the store share: journals in files of their own, and events of every class."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.wire import record_hash
from edge.ports import StoredRecord
from edge.store.journal import SqliteJournal

GATEWAY = "gw-1"


class Store:
    """A journal file, opened and closed as the test likes. Everything open ends with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._executor = ThreadPoolExecutor(1)
        self._opened: list[SqliteJournal] = []

    def open(self, gateway_id: str = GATEWAY) -> SqliteJournal:
        journal = SqliteJournal.open(self.path, gateway_id, record_hash, self._executor)
        self._opened.append(journal)
        return journal

    def write(self, entries: Sequence[tuple[str, bytes]]) -> list[StoredRecord]:
        """Appends in a journal of its own, and closes it."""

        async def work() -> list[StoredRecord]:
            journal = self.open()
            records = list(await journal.append(entries))
            await journal.close()
            return records

        return asyncio.run(work())

    def records(self) -> list[StoredRecord]:
        """All records, replayed in a journal of its own."""

        async def work() -> list[StoredRecord]:
            journal = self.open()
            try:
                return list(journal.replay())
            finally:
                await journal.close()

        return asyncio.run(work())

    def tamper(self, *statements: str) -> None:
        """What somebody else does to the file, with the guards taken away."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as foreign:
            for (name,) in foreign.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                foreign.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                foreign.execute(statement)
            foreign.execute("PRAGMA journal_mode=DELETE")  # all of it in the one file

    def end(self) -> None:
        for journal in self._opened:
            journal._connection.close()
        self._executor.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A journal file that does not exist yet."""
    store = Store(tmp_path / "journal.db")
    yield store
    store.end()


@pytest.fixture(scope="session")
def make_store() -> type[Store]:
    """More of them."""
    return Store


@pytest.fixture
def run_async() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a test's coroutine on a real loop, with an end."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await coroutine

        return asyncio.run(bounded())

    return run
