"""The anchor: written after commits of money and never before, and what a start concludes from it."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.wire import record_hash
from edge.ports import AnchorError, AnchorState
from edge.store.anchoring import judge
from edge.store.chain import first_seal
from edge.store.journal import JournalError, SqliteJournal
from hw.file_anchor import FileAnchor

GATEWAY = "gw-1"
LED, EVT, RES, RDG = (("led", b'{"account":"A1"}'), ("evt", b"{}"), ("res", b"{}"), ("rdg", b"{}"))


class MemoryAnchor:
    """An anchor that can fail, and that knows the journal's place at each write."""

    def __init__(self) -> None:
        self.state: AnchorState | None = None
        self.writes = 0
        self.fails = False

    def read(self) -> AnchorState | None:
        return self.state

    def write(self, state: AnchorState) -> None:
        if self.fails:
            raise AnchorError("the anchor does not answer")
        self.writes += 1
        self.state = state


def opened(path: Path, anchor: Any) -> SqliteJournal:
    return SqliteJournal.open(path, GATEWAY, record_hash, None, anchor)


def run(path: Path, anchor: Any, work: Callable[[SqliteJournal], Any]) -> Any:
    async def life() -> Any:
        journal = opened(path, anchor)
        found = await work(journal)
        await journal.close()
        return found

    return asyncio.run(life())


# --- when it is written ----------------------------------------------------------------------


def test_anchor_follows_money_results_and_readings_and_no_observation(tmp_path: Path) -> None:
    anchor = MemoryAnchor()

    async def work(journal: SqliteJournal) -> list[tuple[int, int]]:
        seen = []
        for entries in ([LED], [EVT], [RDG, EVT], [RES], [EVT, LED, LED], [EVT, EVT], [RDG]):
            await journal.append(entries)
            assert anchor.state is not None
            seen.append((journal.position().place, anchor.state.place))
        return seen

    assert run(tmp_path / "journal.db", anchor, work) == [
        (1, 1), (2, 1), (4, 4), (5, 5), (8, 8), (10, 8), (11, 11),
    ]  # fmt: skip


def test_anchor_has_everything_after_an_orderly_end(tmp_path: Path) -> None:
    anchor = MemoryAnchor()

    async def work(journal: SqliteJournal) -> None:
        await journal.append([LED])
        await journal.append([EVT])

    run(tmp_path / "journal.db", anchor, work)
    assert anchor.state is not None
    assert anchor.state.place == 2


def test_anchor_is_written_after_the_commit_and_before_anybody_is_told(tmp_path: Path) -> None:
    order: list[str] = []

    class Listening(MemoryAnchor):
        def write(self, state: AnchorState) -> None:
            super().write(state)
            order.append(f"anchor {state.place}")

    async def work(journal: SqliteJournal) -> None:
        journal._connection.set_trace_callback(lambda text: order.append(text) if text == "COMMIT" else None)
        order.clear()
        await journal.append([LED])
        order.append("told")

    run(tmp_path / "journal.db", Listening(), work)
    assert order == ["COMMIT", "anchor 1", "told"]


def test_commit_that_fails_leaves_the_anchor(tmp_path: Path) -> None:
    anchor = MemoryAnchor()

    async def work(journal: SqliteJournal) -> AnchorState | None:
        await journal.append([LED])
        before = anchor.state
        with pytest.raises(JournalError):
            await journal.append([LED, ("led", b"no JSON, which the index refuses")])
        assert anchor.state == before
        return before

    run(tmp_path / "journal.db", anchor, work)


def test_anchor_that_fails_stops_no_payment_and_is_tried_again(tmp_path: Path) -> None:
    anchor = MemoryAnchor()

    async def work(journal: SqliteJournal) -> None:
        anchor.fails = True
        await journal.append([LED])
        faults = [journal.anchor_fault]
        anchor.fails = False
        await journal.append([EVT])  # while it lags behind, anything is a reason to try
        assert [*faults, journal.anchor_fault] == ["the anchor does not answer", None]
        assert anchor.state is not None
        assert anchor.state.place == 2

    run(tmp_path / "journal.db", anchor, work)


def test_starts_are_counted(tmp_path: Path) -> None:
    anchor = MemoryAnchor()
    for _ in range(3):
        run(tmp_path / "journal.db", anchor, lambda journal: journal.append([LED]))
    assert anchor.state is not None
    assert anchor.state.boots == 3


def test_without_an_anchor_nothing_is_judged(tmp_path: Path) -> None:
    run(tmp_path / "journal.db", None, lambda journal: journal.append([LED]))
    journal = opened(tmp_path / "journal.db", None)
    journal._connection.close()
    assert journal.recovery is None


# --- what a start concludes ------------------------------------------------------------------

SEALS = {5: b"\x05" * 32, 9: b"\x09" * 32}
HERE = AnchorState(GATEWAY, 1, 1, 5, SEALS[5])


@pytest.mark.parametrize(
    ("state", "epoch", "place", "reason"),
    [
        (None, 1, 0, None),
        (None, 1, 9, "anchor_missing"),
        (replace(HERE, place=0, seal=first_seal(GATEWAY)), 1, 0, None),
        (replace(HERE, place=0, seal=first_seal(GATEWAY)), 1, 9, None),  # the power went before the first anchor
        (HERE, 1, 5, None),
        (HERE, 1, 9, None),  # further on: the anchor comes after the commit
        (HERE, 1, 4, "journal_behind"),
        (HERE, 1, 0, "journal_missing"),
        (replace(HERE, seal=bytes(32)), 1, 9, "other_history"),
        (replace(HERE, place=6), 1, 9, "other_history"),  # no commit ends there
        (replace(HERE, gateway_id="gw-2"), 1, 5, "other_gateway"),
        (replace(HERE, epoch=2), 1, 9, "journal_behind"),
        (HERE, 2, 9, None),  # a permit opened it
    ],
)
def test_what_a_start_concludes(state: AnchorState | None, epoch: int, place: int, reason: str | None) -> None:
    found = judge(state, GATEWAY, epoch, place, SEALS.get)
    assert (None if found is None else found.reason) == reason
    if found is not None:
        assert found.epoch_min > max(epoch, state.epoch if state is not None else 0)


@given(st.integers(0, 30), st.integers(0, 30))
def test_no_older_store_is_taken_for_the_newest(anchored: int, place: int) -> None:
    seals = {number: number.to_bytes(32, "big") for number in range(1, 31)}
    state = AnchorState(GATEWAY, 1, 1, anchored, seals.get(anchored, first_seal(GATEWAY)))
    assert (judge(state, GATEWAY, 1, place, seals.get) is None) == (place >= anchored)


# --- the anchor in a file --------------------------------------------------------------------


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    anchor = FileAnchor(tmp_path / "anchor.json")
    assert anchor.read() is None
    for state in (HERE, replace(HERE, place=9, seal=SEALS[9], boots=2)):
        anchor.write(state)
        assert anchor.read() == state
    assert os.listdir(tmp_path) == ["anchor.json"]


def test_file_with_any_bit_flipped_is_no_anchor_or_the_same(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    FileAnchor(path).write(HERE)
    image = path.read_bytes()
    refused = 0
    written = len(image[: len(image) // 2].rstrip())
    bits = [*range(8 * written), *range(8 * written, 8 * len(image), 127)]
    for bit in bits:
        spoiled = bytearray(image)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        try:
            assert FileAnchor(path).read() == HERE
        except AnchorError:
            refused += 1
    assert refused > 7 * written


def test_slot_that_a_power_cut_spoiled_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    states = [replace(HERE, place=place, seal=SEALS[9]) for place in (7, 8, 9)]
    for state in states:
        FileAnchor(path).write(state)  # each by a process of its own
    image = path.read_bytes()
    newest = image.index(b'"place": 9')
    for at in range(newest // 4096 * 4096, newest // 4096 * 4096 + 4096, 512):
        path.write_bytes(image[:at] + b"\xa5" * 512 + image[at + 512 :])
        assert FileAnchor(path).read() == states[1]
    path.write_bytes(image)
    FileAnchor(path).write(replace(HERE, place=9, seal=SEALS[9], boots=3))
    assert FileAnchor(path).read() == replace(HERE, place=9, seal=SEALS[9], boots=3)


def test_file_in_place_is_written_without_another_beside_it(tmp_path: Path) -> None:
    """One block and no folder: a new file for each record was most of what a gateway wrote in a day."""
    anchor = FileAnchor(tmp_path / "anchor.json")
    anchor.write(HERE)
    before = (tmp_path / "anchor.json").stat().st_ino
    anchor.write(replace(HERE, boots=2))
    assert (tmp_path / "anchor.json").stat().st_ino == before


def test_file_of_one_object_is_read_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    FileAnchor(path).write(HERE)
    fields = json.loads(path.read_bytes()[:4096])
    del fields["count"], fields["check"]
    check = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
    path.write_text(json.dumps({**fields, "check": check}) + "\n", "utf-8")
    assert FileAnchor(path).read() == HERE
    FileAnchor(path).write(replace(HERE, boots=2))
    assert FileAnchor(path).read() == replace(HERE, boots=2)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"check": 1}', b"\xff" * 5000])
def test_file_of_something_else_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "anchor.json"
    path.write_bytes(content)
    with pytest.raises(AnchorError, match=r"anchor\.json: is not an anchor"):
        FileAnchor(path).read()


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match="nowhere"):
        FileAnchor(tmp_path / "nowhere" / "anchor.json").write(HERE)
