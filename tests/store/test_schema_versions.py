"""Journals of every schema version replay to the bit, and are brought up to date without a change of what they say.

The recorded journal of a version is a vector for ever: a journal in the field is no younger.
"""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.wire import record_hash
from edge.core.account import State
from edge.core.ledger import apply
from edge.ports import StoredRecord
from edge.store.event_log import JournalEventLog
from edge.store.journal import JournalError, SqliteJournal
from edge.store.schema import SCHEMA_VERSION, STATEMENTS
from edge.store.verify import verify_store
from hw.file_anchor import FileAnchor

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
RECORDED = [version for version in STATEMENTS if version < SCHEMA_VERSION]


@pytest.fixture(params=RECORDED)
def expected(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a recorded journal must give."""
    found: dict[str, Any] = json.loads((VECTORS / f"journal_schema_{request.param}.json").read_text("utf-8"))
    return found


@pytest.fixture
def path(expected: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the recorded journal."""
    shutil.copyfile(VECTORS / f"journal_schema_{expected['schema']}.db", tmp_path / "journal.db")
    if "anchor" in expected:  # version 1 had none
        (tmp_path / "anchor.json").write_text(json.dumps(expected["anchor"]), "utf-8")
    return tmp_path / "journal.db"


def open_it(path: Path, expected: dict[str, Any]) -> SqliteJournal:
    return SqliteJournal.open(path, expected["gateway"], record_hash, None, FileAnchor(path.with_name("anchor.json")))


def said(state: State) -> dict[str, Any]:
    """What the vector states of a state. Fields that came later are not its business."""
    accounts = {}
    for account_id, account in state.accounts.items():
        episode = account.episode
        accounts[account_id] = {
            "meter": account.meter_id,
            "money_nano": account.money_nano,
            "estimate_nano": account.estimate_nano,
            "tariff": account.tariff,
            "issue": [account.issue.at, account.issue.register_wh],
            "recorded": [account.recorded.at, account.recorded.register_wh],
            "frozen": [account.frozen.at, account.frozen.register_wh],
            "cycle_energy_wh": list(account.cycle_energy_wh),
            "energy_since_issue_wh": account.energy_since_issue_wh,
            "control_state": account.control_state.value,
            "control_reason": account.control_reason,
            "supply_version": account.supply_version,
            "output_connected": account.output_connected,
            "protected": account.protected,
            "keep_supply": account.keep_supply,
            "hold": None if account.hold is None else account.hold.reason,
            "notices": None if episode is None else [[n.number, n.raised_at, n.proof] for n in episode.notices],
            "grace_elapsed_s": None if episode is None else episode.grace_elapsed_s,
        }
    return accounts


def test_recorded_journal_replays_to_the_bit(path: Path, expected: dict[str, Any]) -> None:
    journal = open_it(path, expected)
    heads = {name: [head.seq, head.hash.hex(), head.acked_seq] for name, head in journal.heads().items()}
    state = reduce(apply, JournalEventLog(journal).replay(), State())
    journal._connection.close()
    assert heads == expected["heads"]
    assert said(state) == expected["accounts"]
    assert dict(state.applied) == expected["applied"]
    assert sorted(state.payments) == sorted(expected["payments"])
    assert sorted(state.tariffs) == expected["tariffs"]
    assert [list(entry) for entry in state.pending_tariffs] == expected["pending_tariffs"]


def test_journal_that_was_brought_up_to_date_is_good_and_keeps_its_records(
    path: Path, expected: dict[str, Any]
) -> None:
    with closing(sqlite3.connect(path)) as old:
        records = old.execute("SELECT * FROM record ORDER BY place").fetchall()
    journal = open_it(path, expected)
    assert journal.recovery is None
    asyncio.run(journal.close())
    with closing(sqlite3.connect(path)) as new:
        assert new.execute("SELECT * FROM record ORDER BY place").fetchall() == records
        assert new.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    report = verify_store(path.parent, record_hash, FileAnchor(path.with_name("anchor.json")))
    assert (report.problems, report.schema, report.anchor) == ([], SCHEMA_VERSION, "agrees")


def test_upgraded_journal_without_its_anchor_is_recovery_like_any_other(path: Path, expected: dict[str, Any]) -> None:
    asyncio.run(open_it(path, expected).close())
    path.with_name("anchor.json").unlink()
    journal = open_it(path, expected)
    journal._connection.close()
    assert journal.recovery is not None
    assert journal.recovery.reason == "anchor_missing"


def test_upgrade_gives_no_anchor_to_a_journal_that_had_one_and_lost_it(path: Path, expected: dict[str, Any]) -> None:
    """Else an old card put back without its anchor would go on under numbers the cloud knows (SECURITY R8)."""
    path.with_name("anchor.json").unlink(missing_ok=True)
    journal = open_it(path, expected)
    journal._connection.close()
    reason = None if journal.recovery is None else journal.recovery.reason
    assert reason == ("anchor_missing" if "anchor" in expected else None)


def test_upgraded_journal_goes_on_with_packed_readings_behind_its_old_ones(
    path: Path, expected: dict[str, Any]
) -> None:
    with closing(sqlite3.connect(path)) as old:
        (body,) = old.execute("SELECT body FROM record WHERE stream = 'rdg' ORDER BY place DESC LIMIT 1").fetchone()
    assert body.startswith(b"{")
    journal = open_it(path, expected)
    pragmas = ("page_size", "wal_autocheckpoint")
    found = [journal._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == [4096, 250]  # its own pages, and a log of as many bytes
    written, acked_seq = asyncio.run(_one_more(journal, body)), expected["heads"]["rdg"][2]
    with closing(sqlite3.connect(path)) as new:
        rows = new.execute("SELECT body FROM record WHERE stream = 'rdg' ORDER BY place DESC LIMIT 2").fetchall()
    assert [row[0][:1] for row in rows] == [b"\x01", b"{"]
    assert len(rows[0][0]) < len(body)
    journal = open_it(path, expected)
    sent = asyncio.run(_read_and_close(journal, acked_seq))
    assert [record.seq for record in sent] == list(range(acked_seq + 1, written + 1))
    assert [record.body for record in sent[-2:]] == [body, body]
    report = verify_store(path.parent, record_hash, FileAnchor(path.with_name("anchor.json")))
    assert [found for found in report.problems if found.problem.startswith("rdg")] == []
    assert report.records["rdg"] == expected["heads"]["rdg"][0] + 1


async def _one_more(journal: SqliteJournal, body: bytes) -> int:
    (record,) = await journal.append([("rdg", body)])
    await journal.close()
    return record.seq


async def _read_and_close(journal: SqliteJournal, after_seq: int) -> Sequence[StoredRecord]:
    assert len(list(journal.replay())) > 0
    records = await journal.read("rdg", after_seq, 1000)
    await journal.close()
    return records


def test_old_version_can_be_verified_without_being_changed(path: Path, expected: dict[str, Any]) -> None:
    before = path.read_bytes()
    report = verify_store(path, record_hash, None)
    assert (report.problems, report.schema) == ([], expected["schema"])
    assert path.read_bytes() == before


def test_damage_in_an_old_version_is_found_too(path: Path, expected: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("DROP TRIGGER record_is_not_updated")
        foreign.execute("UPDATE record SET body = replace(body, '1', '2') WHERE place = 20")
    problems = [f"{found.stream} {found.seq}" for found in verify_store(path, record_hash, None).problems]
    assert len(problems) >= 2  # the record, and the trigger that is gone


def test_version_from_the_future_is_refused_with_a_clear_sentence_and_left_as_it_is(
    path: Path, expected: dict[str, Any]
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("PRAGMA user_version=99")
        foreign.execute("PRAGMA journal_mode=DELETE")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"schema version 99, this program reads 1 to .*; it was written by a newer"):
        open_it(path, expected)
    assert path.read_bytes() == before


def test_every_version_but_the_newest_has_its_recorded_journal() -> None:
    assert len(RECORDED) == SCHEMA_VERSION - 1
    for version in RECORDED:
        assert (VECTORS / f"journal_schema_{version}.db").exists()
