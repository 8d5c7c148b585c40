"""The journal: one append-only, hash-chained SQLite table, which is also the outbox.

Every record belongs to a stream (led, res, evt, rdg) and carries the SHA-256 of the record
before it in that stream; `place` is the order of all of them together, for replay, and sealed
once per commit. Commits run in a one-thread executor that alone uses the connection. Settings
and why: DESIGN.md (Decisions, Journal), measured: WAL with synchronous=EXTRA loses nothing at a
power cut. Tables: schema.py; chains: chain.py; the head outside the card: anchoring.py.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from edge.ports import Anchor, StoredRecord, StreamHead
from edge.store.anchoring import AnchorKeeper, Recovery
from edge.store.chain import (
    NO_HASH,
    STREAMS,
    ChainBroken,
    ChainCheck,
    RecordHash,
    SealCheck,
    first_seal,
    mark_hash,
    next_seal,
)
from edge.store.checkpoint import Checkpoint, Position
from edge.store.packing import body_of, stored_body
from edge.store.schema import SCHEMA_VERSION, SchemaError, prepare

__all__ = ["NO_HASH", "SCHEMA_VERSION", "STREAMS", "JournalError", "RecordHash", "SqliteJournal"]

SNAPSHOTS_KEPT = 2
# What the log may hold before it goes into the file. It is then written over from its beginning, which costs the
# file system less than a log that grows.
_LOG_BYTES = 1_024_000

_Result = TypeVar("_Result")


class JournalError(Exception):
    """The journal cannot be used: what is wrong, in which file. The agent stops and reconciles."""


class SqliteJournal:
    """A journal in one file. Build it with `SqliteJournal.open`.

    `recovery` is set when the anchor knows of more, or of another history: see anchoring.py.
    """

    def __init__(
        self, path: Path, gateway_id: str, record_hash: RecordHash, executor: Executor | None, anchor: Anchor | None
    ) -> None:
        self._path = path
        self._gateway_id = gateway_id
        self._record_hash = record_hash
        self._anchor = AnchorKeeper(anchor, gateway_id)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            # EXCLUSIVE before the first read: then there is no -shm file. EXTRA before WAL, which comes last.
            for pragma in ("locking_mode=EXCLUSIVE", "synchronous=EXTRA", "recursive_triggers=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self.epoch = prepare(self._connection, gateway_id, self._anchor.before_upgrade)
            (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()  # an older file keeps its own
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_BYTES // page_bytes}")
            self._heads = _read_heads(self._connection, gateway_id, self.epoch)
            self._place, self._seal = _read_seal(self._connection, gateway_id)
            self.recovery: Recovery | None = self._anchor.start(self.epoch, self._place, self._seal, self._seal_at)
        except BaseException:
            self._connection.close()
            raise
        # Where the outbox marks stand, by stream: the loop's, while `_heads` is replaced by the executor's thread.
        self._acked = {stream: head.acked_seq for stream, head in self._heads.items()}
        self._acked_written = dict(self._acked)
        # What `heads` said last, and of which heads: it is asked after each commit and each acknowledgement.
        self._told: tuple[Mapping[str, StreamHead], Mapping[str, StreamHead]] | None = None
        self._own_executor = None if executor else ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._executor = executor or self._own_executor
        self._failed: str | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        gateway_id: str,
        record_hash: RecordHash,
        executor: Executor | None = None,
        anchor: Anchor | None = None,
    ) -> "SqliteJournal":
        """Opens or makes the journal of a gateway. JournalError names the file and what is wrong."""
        try:
            return cls(path, gateway_id, record_hash, executor, anchor)
        except (sqlite3.Error, ValueError, TypeError) as error:  # a damaged file gives values of any kind
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise JournalError(f"{path}: is in use by another program; a journal has one user") from error
            raise JournalError(f"{path}: {error}") from error

    def heads(self) -> Mapping[str, StreamHead]:
        """The newest record of each stream, as committed, and how far it was acknowledged."""
        heads, told = self._heads, self._told
        if told is None or told[0] is not heads:
            told = heads, {name: replace(head, acked_seq=self._acked[name]) for name, head in heads.items()}
            self._told = told
        return told[1]

    def position(self) -> Position:
        """Where the journal stands over all streams, as committed."""
        heads = {stream: (head.epoch, head.seq, head.hash.hex()) for stream, head in self._heads.items()}
        return Position(self._place, self._seal.hex(), heads)

    @property
    def anchor_fault(self) -> str | None:
        """Why the anchor does not have the newest head, or None. It is tried again with the next money."""
        return self._anchor.fault

    def replay(self, after: Position | None = None) -> Iterator[StoredRecord]:
        """All records in the order they were written, or those after a position, chains checked.

        JournalError at the first break. Only before the agent runs: it uses the connection on the calling thread.
        """
        start = after or Position(0, first_seal(self._gateway_id).hex(), {})
        chain = ChainCheck(self._gateway_id, self._record_hash)
        chain.heads = {
            stream: (epoch, seq, bytes.fromhex(digest)) for stream, (epoch, seq, digest) in start.heads.items()
        }
        seals = SealCheck(start.place, bytes.fromhex(start.seal))
        try:
            yield from self._checked_rows(start.place, chain, seals)
            seals.end()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # text of a damaged file
            raise JournalError(f"{self._path}: cannot be read: {error}") from error
        except ChainBroken as broken:
            raise JournalError(f"{self._path}: {broken}") from broken
        self._compare_heads(chain)

    def _checked_rows(self, after_place: int, chain: ChainCheck, seals: SealCheck) -> Iterator[StoredRecord]:
        """Records and seals in one pass: at a place both have, the record comes first."""
        statement = (
            "SELECT place, 0, stream, epoch, seq, hash, body FROM record WHERE place > ?1"
            " UNION ALL SELECT place, 1, NULL, NULL, NULL, hash, NULL FROM seal WHERE place > ?1 ORDER BY 1, 2"
        )
        for place, is_seal, *row in self._connection.execute(statement, (after_place,)):
            if is_seal:
                seals.seal(place, row[3])
            else:
                record = chain.take(tuple(row))
                seals.record(place, record)
                yield record

    def _compare_heads(self, chain: ChainCheck) -> None:
        """The heads come from an index, which can be damaged by itself."""
        for stream, head in self._heads.items():
            epoch, seq, digest = chain.heads.get(stream, (self.epoch, 0, NO_HASH))
            if epoch != self.epoch:
                seq, digest = 0, NO_HASH
            if (head.seq, head.hash) != (seq, digest):
                raise JournalError(f"{self._path}: {stream} ends at {seq}, its index says {head.seq}")

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, oldest first. Damaged ones are left out: they only cost time. Before the agent runs."""
        rows = self._connection.execute("SELECT place, hash, body FROM checkpoint ORDER BY place").fetchall()
        return [found for row in rows if (found := Checkpoint.read(*row)) is not None]

    def snapshot(self, checkpoint: Checkpoint) -> bytes | None:
        """The state stored with a checkpoint, if it is there and stands where the chains say. Before the agent runs."""
        position = checkpoint.position
        for stream, (epoch, seq, digest) in position.heads.items():
            where = "SELECT hash, place FROM record WHERE stream = ? AND epoch = ? AND seq = ?"
            row = self._connection.execute(where, (stream, epoch, seq)).fetchone()
            # Readings may have been thinned away meanwhile.
            if seq > 0 and stream != "rdg" and (row is None or row[0].hex() != digest or row[1] > position.place):
                return None
        if position.place and self._seal_at(position.place) != bytes.fromhex(position.seal):
            return None
        row = self._connection.execute("SELECT state FROM snapshot WHERE place = ?", (position.place,)).fetchone()
        return None if row is None else checkpoint.state_of(row[0])

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        """Commits (stream, body) pairs in one transaction. Returns when the disk has them, or raises JournalError.

        A commit that is under way is not stopped by a cancellation: the record may be there all the same.
        """
        return await self._run(self._commit, list(entries), dict(self._acked))

    async def open_epoch(self, epoch: int, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        """Ends RECOVERY: the entries are the first records of a new epoch, and the anchor holds from here on.

        All chains begin anew; nothing of an older epoch is sent any more (CONTRACT.md, Up).
        """
        assert epoch > self.epoch
        assert entries
        records = await self._run(self._commit_epoch, epoch, list(entries))
        self._acked = dict.fromkeys(STREAMS, 0)
        self._acked_written = dict(self._acked)
        self._told = None
        self.recovery = None
        return records

    async def add_checkpoint(self, checkpoint: Checkpoint, state: bytes | None) -> None:
        """Stores a checkpoint and the state it was made of. Only the newest states are kept."""
        await self._run(self._commit_checkpoint, checkpoint, state)

    async def backup(self, target: Path) -> None:
        """Writes a whole copy of the journal as it is committed. FileExistsError: a file is never written over."""
        await self._run(write_backup, self._connection, target)

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        """Records of a stream above `after_seq`, oldest first."""
        rows = await self.query(
            "SELECT epoch, seq, hash, body FROM record WHERE stream = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
            (stream, self.epoch, after_seq, count_max),
        )
        return [
            StoredRecord(stream, epoch, seq, digest, body_of(stream, stored)) for epoch, seq, digest, stored in rows
        ]

    async def query(self, statement: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows of a reading statement, run where the commits run, so that it sees only what is committed."""
        return await self._run(lambda: self._connection.execute(statement, tuple(parameters)).fetchall())

    def acknowledge(self, stream: str, seq: int) -> None:
        """Moves the outbox mark forward, never past the head. It is written with the next commit."""
        if self._acked[stream] < seq <= self._heads[stream].seq:
            self._acked[stream] = seq
            self._told = None

    async def close(self) -> None:
        """Writes the marks and closes the file. After a failure it only closes it."""
        try:
            if self._failed is None:
                await self._run(self._commit, [], dict(self._acked))
                await self._run(self._anchor.end, self.epoch, self._place, self._seal)
        finally:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._connection.close)
            if self._own_executor is not None:
                self._own_executor.shutdown()

    # --- on the executor's thread ---

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
        marks = [] if acked == self._acked_written else list(acked.items())
        if not entries and not marks:
            return []
        records, heads = self._next_records(entries, self._heads)
        self._write(records, heads, [(stream, self.epoch, seq) for stream, seq in marks], self.epoch)
        self._acked_written = acked
        return records

    def _commit_epoch(self, epoch: int, entries: list[tuple[str, bytes]]) -> list[StoredRecord]:
        none = {stream: StreamHead(stream, epoch, 0, NO_HASH, 0) for stream in STREAMS}
        records, heads = self._next_records(entries, none)
        self._write(records, heads, [(stream, epoch, 0) for stream in STREAMS], epoch)
        self.epoch = epoch
        self._anchor.begin_anew(epoch, self._place, self._seal)
        return records

    def _next_records(
        self, entries: list[tuple[str, bytes]], heads: Mapping[str, StreamHead]
    ) -> tuple[list[StoredRecord], dict[str, StreamHead]]:
        """The records that continue the chains, and the heads after them."""
        heads = dict(heads)
        records = []
        for stream, body in entries:
            head = heads[stream]
            seq = head.seq + 1
            digest = self._record_hash(self._gateway_id, stream, head.epoch, seq, head.hash, body)
            heads[stream] = replace(head, seq=seq, hash=digest)
            records.append(StoredRecord(stream, head.epoch, seq, digest, body))
        return records, heads

    def _write(
        self, records: list[StoredRecord], heads: dict[str, StreamHead], marks: list[tuple[str, int, int]], epoch: int
    ) -> None:
        """One transaction, then the anchor."""
        places = range(self._place + 1, self._place + 1 + len(records))
        rows = [
            (place, r.stream, r.epoch, r.seq, r.hash, stored_body(r.stream, r.body))
            for place, r in zip(places, records, strict=True)
        ]
        seal, last = self._seal, self._place + len(records)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        if records:
            seal = next_seal(self._seal, last, [row[:5] for row in rows])
            connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("INSERT INTO seal VALUES (?, ?)", (last, seal))
        hashed = [(*mark, mark_hash(self._gateway_id, *mark)) for mark in marks]
        connection.executemany("INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)", hashed)
        if epoch != self.epoch:
            connection.execute("UPDATE identity SET epoch = ?", (epoch,))
        connection.execute("COMMIT")
        self._heads, self._place, self._seal = heads, last, seal
        self._anchor.committed({record.stream for record in records}, epoch, last, seal)

    def _commit_checkpoint(self, checkpoint: Checkpoint, state: bytes | None) -> None:
        connection = self._connection
        place = checkpoint.position.place
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (place, checkpoint.hash, checkpoint.body))
        if state is not None:
            connection.execute("INSERT INTO snapshot VALUES (?, ?)", (place, state))
            older = "SELECT place FROM snapshot ORDER BY place DESC LIMIT -1 OFFSET ?"
            connection.execute(f"DELETE FROM snapshot WHERE place IN ({older})", (SNAPSHOTS_KEPT,))
        connection.execute("COMMIT")

    def _seal_at(self, place: int) -> bytes | None:
        row = self._connection.execute("SELECT hash FROM seal WHERE place = ?", (place,)).fetchone()
        return None if row is None else row[0]


def write_backup(connection: sqlite3.Connection, target: Path) -> None:
    """A copy in one file, by SQLite itself: complete under its name, or not there at all."""
    if target.exists():
        raise FileExistsError(f"{target}: is there already")
    new = target.with_name(target.name + ".new")
    new.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:  # of the copy: the journal is as good as before
        new.unlink(missing_ok=True)
        raise OSError(f"{target}: {error}") from error
    with new.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(new, target)


def _read_seal(connection: sqlite3.Connection, gateway_id: str) -> tuple[int, bytes]:
    """The last place and its seal."""
    row = connection.execute("SELECT place, hash FROM seal ORDER BY place DESC LIMIT 1").fetchone()
    place, seal = row or (0, first_seal(gateway_id))
    (last,) = connection.execute("SELECT max(place) FROM record").fetchone()
    if last is not None and last > place:
        raise SchemaError(f"the last record is at place {last}, the last seal at {place}: half a commit")
    return place, seal


def _read_heads(connection: sqlite3.Connection, gateway_id: str, epoch: int) -> dict[str, StreamHead]:
    marks = _read_marks(connection, gateway_id, epoch)
    heads = {}
    for stream in STREAMS:
        row = connection.execute(
            "SELECT seq, hash FROM record WHERE stream = ? AND epoch = ? ORDER BY seq DESC LIMIT 1", (stream, epoch)
        ).fetchone()
        seq, digest = row or (0, NO_HASH)
        acked_seq = marks.get(stream, 0)
        if acked_seq > seq:
            # Going on would give a sequence number that the cloud has seen to another record.
            raise SchemaError(f"{stream} ends at {seq}, but {acked_seq} was acknowledged: records are missing")
        heads[stream] = StreamHead(stream, epoch, seq, digest, acked_seq)
    return heads


def _read_marks(connection: sqlite3.Connection, gateway_id: str, epoch: int) -> dict[str, int]:
    """How far each stream was acknowledged. A damaged mark is forgotten: that only means sending again."""
    rows = connection.execute("SELECT stream, acked_seq, hash FROM mark WHERE epoch = ?", (epoch,))
    return {stream: seq for stream, seq, digest in rows if digest == mark_hash(gateway_id, stream, epoch, seq)}
