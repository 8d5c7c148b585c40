"""`wattgate verify`: a good store is good, every fault is named with its record, and looking changes nothing."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.wire import record_hash
from edge.cli import main
from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.core.units import UnixSeconds
from edge.store.checkpoint import Checkpoint, Sums, encode_state, packed
from edge.store.codec import decode_event, encode_event
from edge.store.event_log import DailyCheckpoints, JournalEventLog
from edge.store.journal import SqliteJournal
from edge.store.packing import body_of
from edge.store.schema import SCHEMA_VERSION
from edge.store.verify import Report, verify_store
from hw.file_anchor import FileAnchor

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
GATEWAY = "gw-vector"
FLIPS, FLIPS_SLOW = 250, 2500


def recorded_events() -> list[list[ev.Event]]:
    """The events of the recorded journal, in commits of up to five."""
    with closing(sqlite3.connect(f"{VECTOR.as_uri()}?mode=ro&immutable=1", uri=True)) as vector:
        bodies = [row[0] for row in vector.execute("SELECT body FROM record ORDER BY place")]
    events = [decode_event(body) for body in bodies]
    return [events[at : at + 5] for at in range(0, len(events), 5)]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a gateway that lived through the recorded events, with its checkpoints and anchor."""
    return live_through(tmp_path_factory.mktemp("lived"), len(recorded_events()))


@pytest.fixture
def young(tmp_path: Path) -> Path:
    """One that lived through the first of them only, so that looking at it again and again is quick."""
    return live_through(tmp_path, 12)


def live_through(folder: Path, commits: int) -> Path:
    """Commits recorded events, with what the agent adds of itself."""

    async def live() -> None:
        journal = SqliteJournal.open(
            folder / "journal.db", GATEWAY, record_hash, None, FileAnchor(folder / "anchor.json")
        )
        log = JournalEventLog(journal)
        state, keeper = State(), DailyCheckpoints(journal, log.restore())
        writing = asyncio.ensure_future(keeper.run())
        for number, events in enumerate(recorded_events()[:commits]):
            await log.append(events)
            for event in events:
                state = apply(state, event)
            keeper.committed(events, state)
            await asyncio.sleep(0)
            if number == 10:
                journal.acknowledge("led", 15)
        await keeper.written()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await journal.close()

    asyncio.run(live())
    return folder


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(lived, tmp_path / "store"))


def verify(folder: Path) -> Report:
    return verify_store(folder, record_hash, FileAnchor(folder / "anchor.json"))


def tamper(folder: Path, *statements: str) -> None:
    """What somebody does who has the file: guards away, guards back."""
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as foreign:
        triggers = foreign.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            foreign.execute(f"DROP TRIGGER {name}")
        foreign.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            foreign.execute(statement)
        for _, sql in triggers:
            foreign.execute(sql)
        foreign.execute("PRAGMA journal_mode=DELETE")


def told(report: Report) -> list[str]:
    return [f"{found.stream} {found.seq}: {found.problem}" for found in report.problems]


# --- good stores -----------------------------------------------------------------------------


def test_good_store_is_good_and_says_what_it_holds(folder: Path) -> None:
    report = verify(folder)
    assert told(report) == []
    assert report.records == {"led": 175, "res": 11, "evt": 13, "rdg": 87}
    assert report.gateway == GATEWAY
    assert report.anchor == "agrees"
    assert report.checkpoints > 20
    assert report.place == 286


def test_looking_changes_no_byte_and_leaves_no_file(folder: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    verify(folder)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_store_whose_agent_was_killed_is_read_with_its_log_and_that_stays_too(lived: Path, tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path / "journal.db", GATEWAY, record_hash)
    asyncio.run(_append(journal, [encode_event(event) for events in recorded_events()[:9] for event in events]))
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copyfile(tmp_path / name, killed / name)
    journal._connection.close()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    assert sum(verify(killed).records.values()) == 45
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


async def _append(journal: SqliteJournal, entries: Sequence[tuple[str, bytes]]) -> None:
    await journal.append(entries)


def test_store_in_use_is_not_looked_at(folder: Path) -> None:
    """A lock is a process's own, so the agent has to be another one."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA locking_mode=EXCLUSIVE'); c.execute('PRAGMA journal_mode=WAL');"
        "c.execute('BEGIN IMMEDIATE');"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(folder / "journal.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdin is not None
        agent.stdout.readline()
        try:
            with pytest.raises(ValueError, match=f"is in use by process {agent.pid}"):
                verify(folder)
        finally:
            agent.stdin.close()
    assert verify(folder).problems == []


def test_thinned_readings_are_no_fault_of_the_other_streams(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as own:
        own.execute("DELETE FROM record WHERE stream = 'rdg'")
        own.execute("PRAGMA journal_mode=DELETE")
    assert {found.stream for found in verify(folder).problems} <= {"checkpoint"}  # the state needs readings


def test_new_epoch_and_what_is_before_it_are_both_good(folder: Path) -> None:
    async def open_epoch() -> None:
        journal = SqliteJournal.open(
            folder / "journal.db", GATEWAY, record_hash, None, FileAnchor(folder / "anchor.json")
        )
        note = encode_event(ev.ConditionNoted(UnixSeconds(1_780_000_000), "epoch_opened", "", "x"))
        state = JournalEventLog(journal).restore().state
        await journal.open_epoch(4, [note])
        await journal.append([note])
        content = encode_state(state)
        sums = JournalEventLog(journal).restore().sums
        checkpoint = Checkpoint.make(UnixSeconds(1_780_000_000), journal.position(), sums, content)
        await journal.add_checkpoint(checkpoint, packed(state, content))
        await journal.append([note])
        assert JournalEventLog(journal).restore().replayed == 1
        await journal.close()

    asyncio.run(open_epoch())
    report = verify(folder)
    assert told(report) == []
    assert report.epoch == 4
    assert report.anchor == "agrees"


# --- faults, each with its record ------------------------------------------------------------

FAULTS = {
    "a body": (
        "UPDATE record SET body = replace(CAST(body AS TEXT), '_nano\":8000000000', '_nano\":9000000000')"
        " WHERE stream = 'led' AND CAST(body AS TEXT) LIKE '%PaymentApplied%pay-1%'",
        "led ",
    ),
    "a packed body": (
        "UPDATE record SET body = CAST(substr(body, 1, 20) || x'0000' || substr(body, 23) AS BLOB)"
        " WHERE stream = 'rdg' AND seq = 8",
        "rdg 8: rdg 8: the packed body is damaged: its CRC does not fit",
    ),
    "a missing record": ("DELETE FROM record WHERE stream = 'led' AND seq = 40", "led 41: led 41 does not follow 39"),
    "the last records": ("DELETE FROM record WHERE place > 250", "seal 255: the seal at place 255"),
    "order of two streams": (
        "UPDATE record SET place = CASE place WHEN 4 THEN -5 ELSE 4 END WHERE place IN (4, 5) AND stream <> 'rdg'",
        "seal",
    ),
    "a stream's name": ("UPDATE record SET stream = 'lee' WHERE place = 9", "stream 'lee'"),
    "an epoch": ("UPDATE identity SET epoch = 2", "is in epoch 2, its records end in 1"),
    "the gateway": ("UPDATE identity SET gateway_id = 'gw-2'", "led 1: led 1 does not follow 0"),
    "a second owner": ("INSERT INTO identity VALUES ('gw-2', 1)", "says 2 times whose it is"),
    "a mark": ("UPDATE mark SET acked_seq = 16 WHERE stream = 'led'", "led 16: the mark of what was acknowledged"),
    "a mark above its stream": ("UPDATE mark SET acked_seq = 999 WHERE stream = 'evt'", "but 999 was acknowledged"),
    "a seal": ("UPDATE seal SET hash = zeroblob(32) WHERE place = 50", "the seal at place 50"),
    "a missing seal": ("DELETE FROM seal WHERE place = 50", "the seal at place 55"),
    "a checkpoint": ("UPDATE checkpoint SET body = replace(CAST(body AS TEXT), 'at', 'ta')", ": is damaged"),
    "a snapshot": ("UPDATE snapshot SET state = zeroblob(9)", ": is not the state of its checkpoint"),
    "a guard": ("CREATE TRIGGER more AFTER INSERT ON mark BEGIN SELECT 1; END", "the definition of more"),
    "an index": ("DROP INDEX record_of_account", "the definition of CREATE INDEX record_of_account"),
}


@pytest.mark.parametrize(("statement", "sentence"), FAULTS.values(), ids=FAULTS)
def test_fault_is_named_with_its_record(folder: Path, statement: str, sentence: str) -> None:
    tamper(folder, statement)
    assert any(sentence in line for line in told(verify(folder))), told(verify(folder))


@pytest.mark.parametrize("column", ["type", "name", "tbl_name"])
def test_guard_under_another_name_is_named(folder: Path, column: str) -> None:
    with closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as foreign:
        foreign.execute("PRAGMA writable_schema=ON")
        row = "name = 'seal_is_not_deleted'"
        foreign.execute(f"UPDATE sqlite_master SET {column} = replace({column}, 'e', 'E') WHERE {row}")
    assert any("not the one of schema version" in line for line in told(verify(folder))), told(verify(folder))


def test_places_that_are_gone_are_problems_and_no_end_of_the_look(folder: Path) -> None:
    """One flipped bit in the word PRIMARY: the column is no longer the row's number, and what stands in it is NULL."""
    image = (folder / "journal.db").read_bytes()
    damaged = image.replace(b"TABLE record (\n    place INTEGER PRIMARY", b"TABLE record (\n    place INTEGER QRIMARY")
    assert damaged != image
    (folder / "journal.db").write_bytes(damaged)
    assert told(verify(folder)) != []


def forge(folder: Path, change: Callable[[int, dict[str, Any]], dict[str, Any] | None]) -> None:
    """The journal written anew with changed events and every hash right: only what they say is wrong."""
    with closing(sqlite3.connect(folder / "journal.db")) as old:
        rows = old.execute("SELECT stream, body FROM record ORDER BY place").fetchall()
    (folder / "journal.db").unlink()
    (folder / "anchor.json").unlink()
    entries = []
    for number, (stream, body) in enumerate(rows):
        changed = change(number, json.loads(body_of(stream, body)))
        if changed is not None:
            entries.append((stream, json.dumps(changed).encode()))
    journal = SqliteJournal.open(folder / "journal.db", GATEWAY, record_hash)

    async def write() -> None:
        await journal.append(entries)
        await journal.close()

    asyncio.run(write())


def test_payment_that_counts_twice_is_named(folder: Path) -> None:
    def change(_number: int, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "payment_id": "pay-1"} if body.get("payment_id") == "pay-2" else body

    forge(folder, change)
    assert any("payment pay-1 counts a second time" in line for line in told(verify(folder)))


def test_order_that_is_answered_twice_is_named(folder: Path) -> None:
    forge(folder, lambda _number, body: {**body, "cid": "cid-1"} if body.get("cid") == "cid-3" else body)
    assert any(line.startswith("res ") and "cid-1 is answered a second time" in line for line in told(verify(folder)))


def test_balance_that_is_not_the_sum_of_its_postings_is_named(folder: Path) -> None:
    def change(_number: int, body: dict[str, Any]) -> dict[str, Any]:
        wrong = body["type"] == "PaymentApplied" and body["payment_id"] == "pay-2"
        return {**body, "balance_nano": body["balance_nano"] + 1} if wrong else body

    forge(folder, change)
    assert any(line.startswith("led ") and "after a posting of" in line for line in told(verify(folder)))


def test_record_that_fits_no_state_is_named(folder: Path) -> None:
    forge(folder, lambda number, body: None if body["type"] == "AccountOpened" and body["account"] == "A2" else body)
    assert any("does not fit the state before it" in line for line in told(verify(folder)))


def test_checkpoint_of_another_state_is_named(folder: Path) -> None:
    async def add_wrong_one() -> None:
        journal = SqliteJournal.open(folder / "journal.db", GATEWAY, record_hash)
        restored = JournalEventLog(journal).restore()
        state = State(accounts={}, applied=restored.state.applied)
        content = encode_state(state)
        checkpoint = Checkpoint.make(UnixSeconds(1_790_000_000), journal.position(), Sums(1, 2, 3), content)
        await journal.add_checkpoint(checkpoint, packed(state, content))
        await journal.close()

    asyncio.run(add_wrong_one())
    lines = told(verify(folder))
    assert any("replay gives another state" in line for line in lines)
    assert any("has the sums" in line for line in lines)


# --- bits that flipped (SECURITY R7) ---------------------------------------------------------


def flips_noticed(folder: Path, count: int, seed: int) -> tuple[int, int, list[int]]:
    """(flips that changed what the journal says, how many of these were noticed, places of those that were not)."""
    path = folder / "journal.db"
    image, anchor = path.read_bytes(), FileAnchor(folder / "anchor.json")
    before = everything(path)
    dice = random.Random(seed)
    changed, missed = 0, []
    for _ in range(count):
        place = dice.randrange(8 * len(image))
        damaged = bytearray(image)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        if everything(path) == before:
            continue
        changed += 1
        try:
            noticed = bool(verify_store(folder, record_hash, anchor).problems)
        except ValueError:
            noticed = True  # it is no journal any more, and that is said
        if not noticed:
            missed.append(place)
    path.write_bytes(image)
    return changed, changed - len(missed), missed


def everything(path: Path) -> object:
    """All that a reader can get out of the file."""
    digest = hashlib.sha256()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as reader:
            for pragma in ("application_id", "user_version"):
                digest.update(repr(reader.execute(f"PRAGMA {pragma}").fetchall()).encode())
            for table in ("sqlite_master", "record", "seal", "mark", "identity", "checkpoint", "snapshot"):
                order = "" if table == "sqlite_master" else " ORDER BY 1"
                columns = "type, name, tbl_name, sql" if table == "sqlite_master" else "*"
                for row in reader.execute(f"SELECT {columns} FROM {table}{order}"):
                    digest.update(repr(row).encode())
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    return digest.hexdigest()


def test_bit_that_flipped_and_changed_something_is_noticed(young: Path) -> None:
    changed, noticed, missed = flips_noticed(young, FLIPS, seed=1)
    assert changed > FLIPS // 3
    assert noticed == changed, missed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_of_thousands_of_flipped_bits_at_least_999_in_1000_are_noticed(folder: Path) -> None:
    landing = os.environ.get("WATTGATE_NO_SKIP") == "1"  # a landing is not to be refused for its luck
    seed = 20261201 if landing else random.SystemRandom().randrange(1 << 30)
    changed, noticed, missed = flips_noticed(folder, FLIPS_SLOW, seed)
    assert noticed * 1000 >= changed * 999, (seed, missed)


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run


def test_command_says_good_with_status_0_and_has_json(folder: Path, said: Any) -> None:
    status, text, complaint = said("verify", folder)
    assert (status, complaint) == (0, "")
    assert "good; led 175, res 11, evt 13, rdg 87" in text
    status, text, _ = said("verify", folder / "journal.db", "--json")
    found = json.loads(text)
    assert (status, found["problems"], found["gateway"], found["anchor"]) == (0, [], GATEWAY, "agrees")


def test_command_says_a_line_for_each_problem_with_status_1(folder: Path, said: Any) -> None:
    tamper(folder, "UPDATE mark SET acked_seq = 16 WHERE stream = 'led'", "UPDATE seal SET place = 51 WHERE place = 50")
    status, text, _ = said("verify", folder)
    assert status == 1
    assert "led 16: the mark of what was acknowledged is not as it was written\n" in text
    assert "seal 51: " in text
    status, text, _ = said("verify", folder, "--json")
    assert status == 1
    assert {(found["stream"], found["seq"]) for found in json.loads(text)["problems"]} >= {("led", 16), ("seal", 51)}


def test_older_store_is_told_by_the_anchor_where_it_is_elsewhere_too(folder: Path, tmp_path: Path, said: Any) -> None:
    shutil.copyfile(folder / "anchor.json", tmp_path / "elsewhere.json")
    tamper(folder, "DELETE FROM record WHERE place > 250", "DELETE FROM seal WHERE place > 250")
    (folder / "anchor.json").unlink()
    assert said("verify", folder)[0] == 1  # the checkpoints after it give it away even so
    tamper(
        folder, "DELETE FROM checkpoint WHERE place > 250", "DELETE FROM snapshot WHERE place > 250", "DELETE FROM mark"
    )
    assert said("verify", folder)[0] == 0  # a whole older store: nothing in it can tell
    status, text, _ = said("verify", folder, "--anchor", tmp_path / "elsewhere.json")
    assert (status, text.split(":")[:2]) == (1, ["anchor", " journal_behind"])


@pytest.mark.parametrize("content", [None, b"", b"a shopping list " * 100])
def test_where_there_is_no_journal_one_sentence_says_so_with_status_2(
    tmp_path: Path, said: Any, content: bytes | None
) -> None:
    path = tmp_path / "journal.db"
    if content is not None:
        path.write_bytes(content)
    status, text, complaint = said("verify", tmp_path)
    assert (status, text) == (2, "")
    assert complaint.startswith(f"wattgate: {path}: ")
    assert complaint.count("\n") == 1


def test_version_from_the_future_is_refused_with_a_clear_sentence(folder: Path, said: Any) -> None:
    tamper(folder, "PRAGMA user_version=7")
    status, _, complaint = said("verify", folder)
    assert status == 2
    assert f"schema version 7, this program reads 1 to {SCHEMA_VERSION}; it was written by a newer one" in complaint


def test_anchor_that_is_not_there_is_said_when_it_was_asked_for(folder: Path, said: Any) -> None:
    status, _, complaint = said("verify", folder, "--anchor", folder / "nowhere.json")
    assert (status, complaint.count("\n")) == (2, 1)
