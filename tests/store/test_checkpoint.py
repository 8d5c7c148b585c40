"""Checkpoints and snapshots: a start from one gives the same state, and a damaged one only costs time."""

import asyncio
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.wire import record_hash
from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.core.units import UnixSeconds
from edge.store import event_log
from edge.store.checkpoint import Checkpoint, Position, Sums, decode_state, encode_state, packed
from edge.store.codec import decode_event
from edge.store.event_log import EVENTS_MAX, DailyCheckpoints, JournalEventLog
from edge.store.journal import JournalError, SqliteJournal

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
GATEWAY = "gw-vector"


def recorded() -> list[list[ev.Event]]:
    """The recorded events, in commits of four."""
    with closing(sqlite3.connect(f"{VECTOR.as_uri()}?mode=ro&immutable=1", uri=True)) as vector:
        events = [decode_event(row[0]) for row in vector.execute("SELECT body FROM record ORDER BY place")]
    return [events[at : at + 4] for at in range(0, len(events), 4)]


async def live(path: Path, commits: list[list[ev.Event]]) -> State:
    """A gateway's life as far as the store sees it. Returns the state at its end."""
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    log = JournalEventLog(journal)
    restored = log.restore()
    state, keeper = restored.state, DailyCheckpoints(journal, restored)
    writing = asyncio.ensure_future(keeper.run())
    for events in commits:
        await log.append(events)
        state = reduce(apply, events, state)
        keeper.committed(events, state)
    await keeper.written()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await journal.close()
    return state


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, State]:
    """A journal that lived a month, as bytes, and its last state."""
    path = tmp_path_factory.mktemp("life") / "journal.db"
    state = asyncio.run(live(path, recorded()))
    return path.read_bytes(), state


@pytest.fixture
def path(life: tuple[bytes, State], tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    (tmp_path / "journal.db").write_bytes(life[0])
    return tmp_path / "journal.db"


@pytest.fixture
def tamper(path: Path) -> Callable[..., None]:
    """Runs statements with the guards away."""

    def run(*statements: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
            for (name,) in foreign.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                foreign.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                foreign.execute(statement)
            foreign.execute("PRAGMA journal_mode=DELETE")

    return run


def restored(path: Path) -> tuple[State, int, Sums]:
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    try:
        found = JournalEventLog(journal).restore()
    finally:
        journal._connection.close()
    return found.state, found.replayed, found.sums


def whole(path: Path) -> State:
    """The state by replay from the beginning."""
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    try:
        return reduce(apply, JournalEventLog(journal).replay(), State())
    finally:
        journal._connection.close()


RECORDS = sum(len(events) for events in recorded())


def test_start_from_a_snapshot_gives_the_same_state_and_replays_little(path: Path, life: tuple[bytes, State]) -> None:
    state, replayed, sums = restored(path)
    assert state == life[1] == whole(path)
    assert 0 < replayed < RECORDS // 10
    assert sums.balances_nano == sums.credits_nano + sums.charges_nano
    assert sums.balances_nano == sum(account.money_nano for account in state.accounts.values())


def test_one_checkpoint_a_day_and_only_the_newest_states_are_kept(path: Path) -> None:
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    checkpoints = journal.checkpoints()
    (states,) = journal._connection.execute("SELECT count(*) FROM snapshot").fetchone()
    journal._connection.close()
    assert len({checkpoint.at for checkpoint in checkpoints}) == len(checkpoints) == 34
    assert states == 2


def test_where_no_day_ends_a_start_replays_no_more_than_so_many_events(tmp_path: Path) -> None:
    """After a clock that was far ahead no midnight passes for weeks; the records go on."""
    path, at = tmp_path / "journal.db", recorded()[0][0].at
    noted: list[list[ev.Event]] = [[ev.ConditionNoted(at, "clock_set", "", str(number))] for number in range(900)]
    asyncio.run(live(path, noted[:450]))
    assert restored(path)[1] == 450 - EVENTS_MAX
    state = asyncio.run(live(path, noted[450:]))  # the next life goes on counting
    assert (restored(path)[0], restored(path)[1]) == (state, 900 - 2 * EVENTS_MAX)
    assert len(checkpoints_of(path)) == 2


def checkpoints_of(path: Path) -> list[Checkpoint]:
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    try:
        return journal.checkpoints()
    finally:
        journal._connection.close()


def test_next_life_goes_on_with_the_checkpoints_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    commits = recorded()
    asyncio.run(live(path, commits[:40]))
    asyncio.run(live(path, commits[40:]))
    journal = SqliteJournal.open(path, GATEWAY, record_hash)
    days = [checkpoint.at for checkpoint in journal.checkpoints()]
    journal._connection.close()
    assert days == sorted(set(days))
    assert restored(path)[0] == whole(path)


SPOILT = {
    "newest state": "UPDATE snapshot SET state = zeroblob(20) WHERE place = (SELECT max(place) FROM snapshot)",
    "both states": "UPDATE snapshot SET state = zeroblob(20)",
    "no states": "DELETE FROM snapshot",
    "newest checkpoint": "UPDATE checkpoint SET body = x'7b7d' WHERE place = (SELECT max(place) FROM checkpoint)",
    "all checkpoints": "UPDATE checkpoint SET hash = zeroblob(32)",
    "no checkpoints": "DELETE FROM checkpoint",
    "states in each other's place": "UPDATE snapshot SET place = 1 - place",
}


@pytest.mark.parametrize("statement", SPOILT.values(), ids=SPOILT)
def test_damaged_snapshot_only_costs_time(path: Path, tamper: Any, life: tuple[bytes, State], statement: str) -> None:
    tamper(statement)
    state, replayed, _ = restored(path)
    assert state == life[1]
    assert replayed <= RECORDS


def test_without_any_snapshot_everything_is_replayed(path: Path, tamper: Any) -> None:
    tamper("DELETE FROM snapshot")
    assert restored(path)[1] == RECORDS


def test_snapshot_of_another_version_of_the_software_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, life: tuple[bytes, State]
) -> None:
    monkeypatch.setattr(event_log, "state_shape", lambda: "another")
    state, replayed, _ = restored(path)
    assert (state, replayed) == (life[1], RECORDS)


def test_snapshot_of_another_history_is_not_believed(path: Path, tamper: Any) -> None:
    """A checkpoint that does not stand where the chains say: here its seal is another's."""
    tamper("UPDATE seal SET hash = zeroblob(32) WHERE place IN (SELECT place FROM snapshot)")
    with pytest.raises(JournalError, match="the seal at place"):  # and the full replay finds out why
        restored(path)


def test_break_after_the_snapshot_is_found_at_the_start(path: Path, tamper: Any) -> None:
    tamper("UPDATE record SET body = CAST('{}' AS BLOB) WHERE place = (SELECT max(place) FROM record)")
    with pytest.raises(JournalError, match="the chain is broken"):
        restored(path)


def test_state_comes_back_from_bytes_as_it_was(life: tuple[bytes, State]) -> None:
    state = life[1]
    content = encode_state(state)
    assert decode_state(content) == state
    assert encode_state(decode_state(content)) == content
    stored = packed(state, content)
    assert stored is not None
    assert zlib.decompress(stored) == content


def test_checkpoint_says_the_same_after_it_was_stored() -> None:
    position = Position(7, "ab" * 32, {"led": (1, 7, "cd" * 32)})
    made = Checkpoint.make(UnixSeconds(5), position, Sums(3, -1, 2), b"state")
    assert Checkpoint.read(7, made.hash, made.body) == made
    assert Checkpoint.read(8, made.hash, made.body) is None
    assert Checkpoint.read(7, bytes(32), made.body) is None


def test_state_that_has_no_bytes_costs_the_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_state: State) -> bytes:
        raise TypeError("no bytes for this")

    monkeypatch.setattr(event_log, "encode_state", refuse)
    asyncio.run(live(tmp_path / "journal.db", recorded()[:12]))
    assert restored(tmp_path / "journal.db")[1] == 48
