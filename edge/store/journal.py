"""The journal: one append-only, hash-chained SQLite table, which is also the outbox.

Every record belongs to a stream (led, res, evt, rdg) and carries the SHA-256 of the record
before it in that stream; `place` is the order of all of them together, for replay. Commits
run in a one-thread executor that alone uses the connection. Settings and why: DESIGN.md
(Decisions, Journal), measured: WAL with synchronous=EXTRA loses nothing at a power cut.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from edge.ports import StoredRecord, StreamHead

APPLICATION_ID = 0x57474C31  # "WGL1"
SCHEMA_VERSION = 1
STREAMS = ("led", "res", "evt", "rdg")
NO_HASH = bytes(32)

_Result = TypeVar("_Result")

# (gateway id, stream, epoch, seq, hash of the record before, body) -> SHA-256 of the record
RecordHash = Callable[[str, str, int, int, bytes, bytes], bytes]

_SCHEMA = (
    """CREATE TABLE record (
    place INTEGER PRIMARY KEY,
    stream TEXT NOT NULL CHECK (stream IN ('led', 'res', 'evt', 'rdg')),
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body BLOB NOT NULL
)""",
    "CREATE UNIQUE INDEX record_of_stream ON record (stream, epoch, seq)",
    """CREATE INDEX record_of_account ON record (json_extract(CAST(body AS TEXT), '$.account'), place)
    WHERE stream = 'led'""",
    "CREATE TABLE mark (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, acked_seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE identity (gateway_id TEXT NOT NULL, epoch INTEGER NOT NULL)",
    """CREATE TRIGGER record_is_not_updated BEFORE UPDATE ON record
    BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END""",
    """CREATE TRIGGER record_is_not_deleted BEFORE DELETE ON record
    WHEN OLD.stream IN ('led', 'res', 'evt')
    BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END""",
    """CREATE TRIGGER record_is_not_replaced BEFORE INSERT ON record
    WHEN EXISTS (SELECT 1 FROM record WHERE place = NEW.place
                 OR (stream = NEW.stream AND epoch = NEW.epoch AND seq = NEW.seq))
    BEGIN SELECT RAISE(ABORT, 'a record is never replaced'); END""",
    f"PRAGMA application_id={APPLICATION_ID}",
    f"PRAGMA user_version={SCHEMA_VERSION}",
)


class JournalError(Exception):
    """The journal cannot be used: what is wrong, in which file. The agent stops and reconciles."""


class SqliteJournal:
    """A journal in one file. Build it with `SqliteJournal.open`."""

    def __init__(self, path: Path, gateway_id: str, record_hash: RecordHash, executor: Executor | None) -> None:
        self._path = path
        self._gateway_id = gateway_id
        self._record_hash = record_hash
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            # EXCLUSIVE before the first read: then there is no -shm file. EXTRA before WAL, which comes last.
            for pragma in ("locking_mode=EXCLUSIVE", "synchronous=EXTRA", "recursive_triggers=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self.epoch = _prepare(self._connection, path, gateway_id)
            self._heads = _read_heads(self._connection, path, self.epoch)
        except BaseException:
            self._connection.close()
            raise
        # Where the outbox marks stand, by stream: the loop's, while `_heads` is replaced by the executor's thread.
        self._acked = {stream: head.acked_seq for stream, head in self._heads.items()}
        self._acked_written = dict(self._acked)
        self._own_executor = None if executor else ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._executor = executor or self._own_executor
        self._failed: str | None = None

    @classmethod
    def open(
        cls, path: Path, gateway_id: str, record_hash: RecordHash, executor: Executor | None = None
    ) -> "SqliteJournal":
        """Opens or makes the journal of a gateway. JournalError names the file and what is wrong."""
        try:
            return cls(path, gateway_id, record_hash, executor)
        except (sqlite3.Error, ValueError, TypeError) as error:  # a damaged file gives values of any kind
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise JournalError(f"{path}: is in use by another program; a journal has one user") from error
            raise JournalError(f"{path}: {error}") from error

    def heads(self) -> Mapping[str, StreamHead]:
        """The newest record of each stream, as committed, and how far it was acknowledged."""
        return {stream: replace(head, acked_seq=self._acked[stream]) for stream, head in self._heads.items()}

    def replay(self) -> Iterator[StoredRecord]:
        """All records in the order they were written, chain checked. JournalError at the first break.

        Only before the agent runs: it uses the connection on the calling thread.
        """
        heads = dict.fromkeys(STREAMS, (0, NO_HASH))
        try:
            for row in self._connection.execute("SELECT stream, epoch, seq, hash, body FROM record ORDER BY place"):
                record = self._checked(row, heads)
                heads[record.stream] = (record.seq, record.hash)
                yield record
        except (sqlite3.Error, UnicodeDecodeError) as error:  # text of a damaged file
            raise JournalError(f"{self._path}: cannot be read: {error}") from error
        for stream, (seq, digest) in heads.items():
            head = self._heads[stream]
            if (head.seq, head.hash) != (seq, digest):  # they come from an index, which can be damaged by itself
                raise JournalError(f"{self._path}: {stream} ends at {seq}, its index says {head.seq}")

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        """Commits (stream, body) pairs in one transaction. Returns when the disk has them, or raises JournalError.

        A commit that is under way is not stopped by a cancellation: the record may be there all the same.
        """
        return await self._run(self._commit, list(entries), dict(self._acked))

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        """Records of a stream above `after_seq`, oldest first."""
        rows = await self.query(
            "SELECT stream, epoch, seq, hash, body FROM record WHERE stream = ? AND epoch = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (stream, self.epoch, after_seq, count_max),
        )
        return [StoredRecord(*row) for row in rows]

    async def query(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows of a reading statement, run where the commits run, so that it sees only what is committed."""
        return await self._run(lambda: self._connection.execute(statement, tuple(parameters)).fetchall())

    def acknowledge(self, stream: str, seq: int) -> None:
        """Moves the outbox mark forward, never past the head. It is written with the next commit."""
        if self._acked[stream] < seq <= self._heads[stream].seq:
            self._acked[stream] = seq

    async def close(self) -> None:
        """Writes the marks and closes the file. After a failure it only closes it."""
        try:
            if self._failed is None:
                await self._run(self._commit, [], dict(self._acked))
        finally:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._connection.close)
            if self._own_executor is not None:
                self._own_executor.shutdown()

    async def _run(self, work: Callable[..., _Result], *args: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._guarded, work, *args)

    def _guarded(self, work: Callable[..., _Result], *args: object) -> _Result:
        """Does `work` on the connection. After its first error the connection is not used again.

        What reached the disk is known only after reopening, so nothing is tried twice.
        """
        if self._failed is not None:
            raise JournalError(f"{self._path}: not used any more after an error: {self._failed}")
        try:
            return work(*args)
        except Exception as error:
            in_transaction = self._connection.in_transaction
            if in_transaction or isinstance(error, sqlite3.Error):
                self._failed = str(error)
            if in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise JournalError(f"{self._path}: {error}") from error
            raise

    def _commit(self, entries: list[tuple[str, bytes]], acked: dict[str, int]) -> list[StoredRecord]:
        marks = [] if acked == self._acked_written else [(name, self.epoch, seq) for name, seq in acked.items()]
        if not entries and not marks:
            return []
        heads = dict(self._heads)
        records = []
        for stream, body in entries:
            head = heads[stream]
            seq = head.seq + 1
            digest = self._record_hash(self._gateway_id, stream, self.epoch, seq, head.hash, body)
            heads[stream] = replace(head, seq=seq, hash=digest)
            records.append(StoredRecord(stream, self.epoch, seq, digest, body))
        rows = [(record.stream, record.epoch, record.seq, record.hash, record.body) for record in records]
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO record (stream, epoch, seq, hash, body) VALUES (?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT OR REPLACE INTO mark VALUES (?, ?, ?)", marks)
        connection.execute("COMMIT")
        self._acked_written = acked
        self._heads = heads
        return records

    def _checked(self, row: tuple[Any, ...], heads: Mapping[str, tuple[int, bytes]]) -> StoredRecord:
        """The record of a row, if it is one and follows the record before it in its stream."""
        stream, epoch, seq, found, body = row
        last_seq, last_hash = heads.get(stream, (None, NO_HASH))
        if last_seq is None or not isinstance(epoch, int) or not isinstance(body, bytes):
            raise JournalError(f"{self._path}: stream {stream!r}, seq {seq!r}: is not a record")
        expected = self._record_hash(self._gateway_id, stream, epoch, last_seq + 1, last_hash, body)
        if seq != last_seq + 1 or found != expected:
            raise JournalError(f"{self._path}: {stream} {seq} does not follow {last_seq}: the chain is broken")
        return StoredRecord(stream, epoch, seq, expected, body)


def _prepare(connection: sqlite3.Connection, path: Path, gateway_id: str) -> int:
    """Makes the tables, or checks that the file is a journal of this gateway. Returns its epoch.

    A file of somebody else is left as it is: WAL, which is written into it, is switched on last.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    is_new = tables == 0 and application_id in (0, APPLICATION_ID)
    if not is_new and application_id != APPLICATION_ID:
        raise JournalError(f"{path}: is not a Wattgate journal (application id {application_id:#x})")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != (0 if is_new else SCHEMA_VERSION):
        raise JournalError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}")
    if not is_new:
        _check_identity(connection, path, gateway_id)
    connection.execute("PRAGMA journal_mode=WAL")
    if is_new:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO identity VALUES (?, 1)", (gateway_id,))
        connection.execute("COMMIT")
    (epoch,) = connection.execute("SELECT epoch FROM identity").fetchone()
    return int(epoch)


def _check_identity(connection: sqlite3.Connection, path: Path, gateway_id: str) -> None:
    owners = [row[0] for row in connection.execute("SELECT gateway_id FROM identity")]
    if owners != [gateway_id]:
        found = " and ".join(repr(owner) for owner in owners) or "nobody"
        raise JournalError(f"{path}: is the journal of gateway {found}, not of {gateway_id!r}")


def _read_heads(connection: sqlite3.Connection, path: Path, epoch: int) -> dict[str, StreamHead]:
    marks = dict(connection.execute("SELECT stream, acked_seq FROM mark WHERE epoch = ?", (epoch,)))
    heads = {}
    for stream in STREAMS:
        row = connection.execute(
            "SELECT seq, hash FROM record WHERE stream = ? AND epoch = ? ORDER BY seq DESC LIMIT 1", (stream, epoch)
        ).fetchone()
        seq, digest = row or (0, NO_HASH)
        acked_seq = marks.get(stream, 0)
        if acked_seq > seq:
            # Going on would give a sequence number that the cloud has seen to another record.
            raise JournalError(f"{path}: {stream} ends at {seq}, but {acked_seq} was acknowledged: records are missing")
        heads[stream] = StreamHead(stream, epoch, seq, digest, acked_seq)
    return heads
