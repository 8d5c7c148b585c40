"""Power cuts at every write of the store: nothing acknowledged is lost, nothing is half there or twice there.

The real store runs once on a real file system while trace_writes.c writes down every write, sync, rename
and removal. Then the power is cut at each of these, and inside each write at every 512 bytes; what the
disk had not been told to keep is lost, kept, kept in part or turned into noise. Each disk is opened again
by the real store. `told` is the moment when somebody was told that a commit is done.
"""

import asyncio
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cloud_sync.wire import record_hash
from edge.agent.pricing import Pricing
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.rating import reference_rate
from edge.core.step import step
from edge.core.units import ClockQuality, ClockReading, UnixSeconds
from edge.ports import AnchorState
from edge.store.codec import decode_event
from edge.store.event_log import JournalEventLog
from edge.store.journal import JournalError, SqliteJournal
from edge.store.packing import stored_body
from edge.store.verify import verify_store
from edge.zone import zone_offsets
from hw.file_anchor import FileAnchor

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
TARIFF = HERE.parents[1] / "edge" / "tariffs" / "demo-street.json"
GATEWAY = "gw-vector"
SECTOR_BYTES = 512
CUTS_SLOW = 100_000
# Where files live in memory a cut costs two milliseconds.
MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.needs_program("gcc")


@dataclass(frozen=True, slots=True)
class Op:
    """One thing done to the disk, see trace_writes.c."""

    kind: str
    name: str
    offset: int
    data: bytes


@dataclass(slots=True)
class File:
    """A file as it was last synced, and what was done to it since."""

    synced: bytes = b""
    since: list[Op] = field(default_factory=list)

    def sync(self) -> None:
        self.synced, self.since = done(self.synced, self.since), []


def done(content: bytes, ops: Sequence[Op]) -> bytes:
    """A file's content after writes and truncations."""
    file = bytearray(content)
    for op in ops:
        if op.kind == "T":
            del file[op.offset :]
            file.extend(bytes(op.offset - len(file)))
        else:
            write(file, op.offset, op.data)
    return bytes(file)


def write(file: bytearray, offset: int, data: bytes) -> None:
    """One write. What a file is made longer by is zero."""
    file.extend(bytes(max(0, offset - len(file))))
    file[offset : offset + len(data)] = data


class Disk:
    """Files and the folder they are in, each with what was not synced yet."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.folder = {name: File(content) for name, content in files.items()}
        self.synced_folder = dict(self.folder)
        self.folder_since: list[dict[str, File]] = []  # the folder after each change since its last sync
        self.told = 0

    def take(self, op: Op) -> None:
        """Does one op."""
        if op.name == "told":
            self.told = max(self.told, int(op.data)) if op.kind == "W" else self.told
        elif op.kind in ("W", "T"):
            self.folder[op.name].since.append(op)
        elif op.kind == "S":
            self.folder[op.name].sync()
        elif op.kind == "D":
            self.synced_folder, self.folder_since = dict(self.folder), []
        else:
            self._change_folder(op)

    def _change_folder(self, op: Op) -> None:
        if op.kind == "C":
            self.folder[op.name] = File()
        elif op.kind == "R":
            self.folder[op.data.decode()] = self.folder.pop(op.name)
        else:
            del self.folder[op.name]
        self.folder_since.append(dict(self.folder))

    def after_cut(self, rule: str, chance: random.Random) -> dict[str, bytes]:
        """What is there when the power is back. `rule`: none | all | some | noise of what was not synced."""
        versions = [self.synced_folder, *self.folder_since]
        chosen = {"none": 0, "all": -1}.get(rule, chance.randrange(len(versions)))
        return {name: survivors(file, rule, chance) for name, file in versions[chosen].items()}


def survivors(file: File, rule: str, chance: random.Random) -> bytes:
    """One file after the cut, sector by sector."""
    if rule == "none" or not file.since:
        return file.synced
    whole = done(file.synced, file.since)
    if rule == "all":
        return whole
    kept = bytearray(done(file.synced, [op for op in file.since if op.kind == "T" and chance.random() < 0.5]))
    for op in (op for op in file.since if op.kind == "W"):
        for start, piece in sectors(op):
            if chance.random() < 0.5:
                write(kept, start, piece)
            elif rule == "noise" and start >= len(file.synced):
                write(kept, start, chance.randbytes(len(piece)))
    return bytes(kept)


def sectors(op: Op) -> Iterator[tuple[int, bytes]]:
    """A write cut at the disk's sectors."""
    start, end = op.offset, op.offset + len(op.data)
    while start < end:
        stop = min(end, start - start % SECTOR_BYTES + SECTOR_BYTES)
        yield start, op.data[start - op.offset : stop - op.offset]
        start = stop


def positions(ops: Sequence[Op]) -> Iterator[tuple[int, Op | None]]:
    """Every moment a cut can come at: (ops done whole, the part of the next one that is done)."""
    for number, op in enumerate(ops):
        yield number, None
        if op.kind == "W" and op.name != "told":
            pieces = list(sectors(op))
            for count in range(1, len(pieces)):
                yield number, Op("W", op.name, op.offset, b"".join(piece for _, piece in pieces[:count]))
    yield len(ops), None


# --- what was recorded -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recording:
    """One path: the disk before it, what was done, and the records that were there in the end."""

    path: str
    before: dict[str, bytes]
    told_before: int
    ops: list[Op]
    bodies: list[bytes]
    ends: frozenset[int]  # counts of records at which a commit ends

    def cuts(self, rules: Sequence[str], chance: random.Random) -> Iterator[tuple[str, dict[str, bytes], int]]:
        """(where, disk when the power is back, records somebody was told of) for every moment and rule."""
        for number, disk, part in self._moments():
            for rule in rules:
                yield f"{self.path} {number} {part} {rule}", disk.after_cut(rule, chance), disk.told

    def some_cuts(self, count: int, chance: random.Random) -> Iterator[tuple[dict[str, bytes], int]]:
        """(disk, records told of) for some moments spread over the path."""
        number_of_moments = sum(1 for _ in positions(self.ops))
        wanted = {number_of_moments * number // (count + 1) for number in range(1, count + 1)}
        for number, (_number, disk, _part) in enumerate(self._moments()):
            if number in wanted:
                yield disk.after_cut("some", chance), disk.told

    def _moments(self) -> Iterator[tuple[int, Disk, int]]:
        disk, taken = Disk(self.before), 0
        disk.told = self.told_before
        for number, part in positions(self.ops):
            while taken < number:
                disk.take(self.ops[taken])
                taken += 1
            if part is None:
                yield number, disk, 0
                continue
            since = disk.folder[part.name].since
            since.append(part)
            yield number, disk, len(part.data)
            since.pop()


class Recorder:
    """Runs paths of the workload with every write written down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "trace.so"
        source = str(HERE / "trace_writes.c")
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(self.library), source, "-ldl"]
        subprocess.run(command, check=True, capture_output=True)

    def record(self, path: str, before: Mapping[str, bytes], told: int = 0, synced: bool = True) -> Recording:
        """One run of a path on a disk."""
        root = Path(tempfile.mkdtemp(dir=self.folder))
        put(root, before)
        notes = root.with_suffix(".notes")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            "LD_PRELOAD": str(self.library),
            "TRACE_ROOT": f"{root}/",
            "TRACE_FILE": str(notes),
        }
        command = [sys.executable, str(HERE / "power_cut_workload.py"), str(root), path, *([] if synced else ["off"])]
        subprocess.run(command, check=True, env=environment, timeout=60)
        ops = list(read_notes(notes.read_bytes()))
        bodies, ends = content_of(root)
        shutil.rmtree(root)
        notes.unlink()
        return Recording(path, dict(before), told, ops, bodies, ends)


def read_notes(content: bytes) -> Iterator[Op]:
    """The ops that trace_writes.c wrote down."""
    at = 0
    while at < len(content):
        kind, name_size, offset, size = struct.unpack_from("<cHQI", content, at)
        at += 15
        name, data = content[at : at + name_size], content[at + name_size : at + name_size + size]
        at += name_size + size
        yield Op(kind.decode(), name.decode(), offset, data)


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder hold these files and no other."""
    for name in os.listdir(folder):
        if name not in files:
            os.unlink(folder / name)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def content_of(folder: Path) -> tuple[list[bytes], frozenset[int]]:
    """All bodies of a store, and where its commits end."""
    journal = SqliteJournal.open(folder / "journal.db", GATEWAY, record_hash)
    try:
        bodies = [record.body for record in journal.replay()]
        seals = journal._connection.execute("SELECT place FROM seal").fetchall()
    finally:
        journal._connection.close()
    return bodies, frozenset({0} | {place for (place,) in seals})


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    folder = Path(tempfile.mkdtemp(prefix="wattgate-cuts-", dir=MEMORY if MEMORY.is_dir() else None))
    yield Recorder(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def life(recorder: Recorder) -> Recording:
    """From an empty card through payments, freezes, bill, notices, cut and restore to a close in order."""
    return recorder.record("life", {})


@pytest.fixture(scope="module")
def closed(life: Recording) -> dict[str, bytes]:
    """The disk after that."""
    disk = Disk({})
    for op in life.ops:
        disk.take(op)
    return disk.after_cut("all", random.Random(0))


@pytest.fixture
def bench(recorder: Recorder) -> Iterator[Path]:
    """Where disks are opened again."""
    folder = Path(tempfile.mkdtemp(dir=recorder.folder))
    yield folder
    shutil.rmtree(folder)


# --- what must hold --------------------------------------------------------------------------


def fault_after(bench: Path, files: Mapping[str, bytes], told: int, recording: Recording) -> str | None:
    """What is wrong with a disk when the real store opens it again; None if nothing is."""
    put(bench, files)
    try:
        journal = SqliteJournal.open(
            bench / "journal.db", GATEWAY, record_hash, None, FileAnchor(bench / "anchor.json")
        )
    except JournalError as error:
        return f"does not open: {error}"
    try:
        bodies = [record.body for record in journal.replay()]
    except JournalError as error:
        return f"does not replay: {error}"
    finally:
        journal._connection.close()
    if journal.recovery is not None and not (recording.path == "epoch" and journal.epoch == 1):
        return f"is not the newest store: {journal.recovery.detail}"
    if len(bodies) < told:
        return f"{told} records were acknowledged, {len(bodies)} are there"
    if bodies != recording.bodies[: len(bodies)]:
        return "holds other records"
    if len(bodies) not in recording.ends:
        return f"holds half a commit: {len(bodies)} records"
    return None


def faults_of(recording: Recording, bench: Path, rules: Sequence[str], chance: random.Random) -> tuple[int, list[str]]:
    """(cuts made, what was wrong after them)."""
    count, faults = 0, []
    for where, files, told in recording.cuts(rules, chance):
        count += 1
        fault = fault_after(bench, files, told, recording)
        if fault is not None:
            faults.append(f"{where}: {fault}")
    return count, faults


def short_paths(recorder: Recorder, closed: Mapping[str, bytes], crashed: Sequence[Recording]) -> list[Recording]:
    """Starts on what a life left, or a cut; an upgrade; the end of RECOVERY."""
    first, second = ({"journal.db": (VECTORS / f"journal_schema_{version}.db").read_bytes()} for version in (1, 2))
    second["anchor.json"] = json.dumps(json.loads((VECTORS / "journal_schema_2.json").read_bytes())["anchor"]).encode()
    return [
        recorder.record("start", closed, told_of(closed)),
        recorder.record("epoch", closed, told_of(closed)),
        recorder.record("upgrade", first, 286),
        recorder.record("upgrade", second, 286),
        *crashed,
    ]


def told_of(_files: Mapping[str, bytes]) -> int:
    """How many records a store closed in order holds: all of the life's were told."""
    return LIFE_RECORDS


LIFE_RECORDS = 54


def crashed_starts(recorder: Recorder, life: Recording, count: int, chance: random.Random) -> list[Recording]:
    """A start with two more commits in what a cut left, so that the power can go again in the middle of that."""
    return [recorder.record("recovery", files, told) for files, told in life.some_cuts(count, chance)]


def test_life_has_all_that_may_be_cut(life: Recording) -> None:
    """A trace without syncs, payments or a removed log would prove nothing."""
    assert len(life.bodies) == LIFE_RECORDS
    assert {op.kind for op in life.ops} == set("CWTSDRU")
    text = b" ".join(life.bodies)
    for kind in (b"PaymentApplied", b"BillIssued", b"NoticeRaised", b"RegisterFrozen", b"DisconnectControlChanged"):
        assert kind in text
    readings = [body for body in life.bodies if b"ReadingsRecorded" in body]
    assert len(readings) > 1
    assert all(len(stored_body("rdg", body)) < len(body) for body in readings)
    assert sum(op.kind == "W" and op.name == "told" for op in life.ops) == len(life.ends) - 1


def test_no_cut_at_any_write_of_a_life_loses_or_halves_anything(life: Recording, bench: Path) -> None:
    count, faults = faults_of(replace(life, ops=life.ops[:200]), bench, ("none", "some"), random.Random(1))
    assert count > 500
    assert faults == []


def test_no_cut_during_a_start_after_a_cut_loses_or_halves_anything(
    recorder: Recorder, life: Recording, bench: Path
) -> None:
    for recording in crashed_starts(recorder, life, 2, random.Random(2)):
        count, faults = faults_of(recording, bench, ("some",), random.Random(3))
        assert count > 20
        assert faults == []


def test_no_cut_during_upgrade_or_end_of_recovery_loses_or_halves_anything(
    recorder: Recorder, closed: dict[str, bytes], bench: Path
) -> None:
    for recording in short_paths(recorder, closed, ()):
        ops = recording.ops[:60]
        short = Recording(
            recording.path, recording.before, recording.told_before, ops, recording.bodies, recording.ends
        )
        count, faults = faults_of(short, bench, ("none",), random.Random(4))
        assert count >= 9
        assert faults == []


def test_after_a_cut_every_payment_that_comes_again_counts_once_and_verify_finds_nothing(
    life: Recording, bench: Path
) -> None:
    """The cloud repeats what it got no result for; here it repeats everything, and twice."""
    paid = [event for body in life.bodies if isinstance(event := decode_event(body), ev.PaymentApplied)]
    assert len(paid) == 2
    text = TARIFF.read_text("utf-8")
    documents = {"demo-street@1": text}
    rating = Pricing("Asia/Shanghai", 2, reference_rate, zone_offsets).rating
    for files, told in life.some_cuts(30, random.Random(5)):
        assert fault_after(bench, files, told, life) is None
        journal = SqliteJournal.open(
            bench / "journal.db", GATEWAY, record_hash, None, FileAnchor(bench / "anchor.json")
        )
        log = JournalEventLog(journal)
        state = log.restore().state
        events: list[ev.Event] = []
        if state.accounts:
            state = replace(state, tariffs=documents)
            for event in (*paid, *paid):
                clock = ClockReading(UnixSeconds(1_776_000_000), 1, "after", ClockQuality.NTP)
                command = cmd.ApplyPayment(
                    clock, event.account, event.payment_id, event.amount_nano, event.door, event.paid_at
                )
                stepped = step(state, command, rating(state, clock.at, documents))
                state, events = stepped.state, [*events, *stepped.events]
        asyncio.run(_commit(journal, events))
        bodies, _ends = content_of(bench)
        applied = [event for body in bodies if isinstance(event := decode_event(body), ev.PaymentApplied)]
        expected = sorted(event.payment_id for event in paid) if state.accounts else []
        assert sorted(event.payment_id for event in applied) == expected
        assert verify_store(bench, record_hash, FileAnchor(bench / "anchor.json")).problems == []


async def _commit(journal: SqliteJournal, events: Sequence[ev.Event]) -> None:
    await JournalEventLog(journal).append(events)
    await journal.close()


def test_without_syncs_the_same_cuts_do_lose_payments(recorder: Recorder, bench: Path) -> None:
    unsynced = recorder.record("life", {}, synced=False)
    _count, faults = faults_of(replace(unsynced, ops=unsynced.ops[:150]), bench, ("none",), random.Random(6))
    assert any("were acknowledged" in fault or "not the newest" in fault for fault in faults)


def test_what_was_lost_without_syncs_the_anchor_notices(recorder: Recorder, bench: Path) -> None:
    """The mutant does not only lose: the start says so, and nothing is charged on the store that forgot."""
    unsynced = recorder.record("life", {}, synced=False)
    noticed = lost = 0
    for _where, files, told in unsynced.cuts(("none",), random.Random(7)):
        put(bench, files)
        journal = SqliteJournal.open(
            bench / "journal.db", GATEWAY, record_hash, None, FileAnchor(bench / "anchor.json")
        )
        records = sum(1 for _ in journal.replay())
        journal._connection.close()
        lost += records < told
        noticed += records < told and journal.recovery is not None
        if lost > 100:
            break
    assert lost > 100
    assert noticed * 10 >= lost * 9  # what only observations were lost of needs no RECOVERY


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_hundred_thousand_cuts_lose_double_and_halve_nothing(
    recorder: Recorder, life: Recording, closed: dict[str, bytes], bench: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    chance = random.Random(seed)
    recordings = [life, *short_paths(recorder, closed, crashed_starts(recorder, life, 12, chance))]
    count = 0
    faults: list[str] = []
    rules: tuple[str, ...] = ("none", "all", "some", "noise")
    while count < CUTS_SLOW and not faults:
        for recording in recordings:
            made, found = faults_of(recording, bench, rules, chance)
            count += made
            faults += found
        rules = ("some", "noise")  # the others give the same again
    assert faults == [], seed
    assert count >= CUTS_SLOW


def test_anchor_of_the_future_is_what_recovery_is_about(tmp_path: Path) -> None:
    """The epoch path begins in RECOVERY, or its cuts would show nothing."""
    anchor = FileAnchor(tmp_path / "anchor.json")
    anchor.write(AnchorState(GATEWAY, 3, 1, 10_000, bytes(32)))
    journal = SqliteJournal.open(tmp_path / "journal.db", GATEWAY, record_hash, None, anchor)
    journal._connection.close()
    assert journal.recovery is not None
