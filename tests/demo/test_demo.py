"""The demo to its end, its agent killed four times on the way: nothing is lost, nothing is counted twice."""

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(230)

AUDITOR = Path(__file__).resolve().parents[1] / "auditor" / "audit.py"
PROTECTED = "A04"


@pytest.fixture
def led(demo: Any) -> list[dict[str, Any]]:
    """The ledger records of the agent's journal, in order."""
    demo.result()
    with closing(sqlite3.connect(demo.data / "agent" / "journal.db")) as journal:
        rows = journal.execute("SELECT body FROM record WHERE stream = 'led' ORDER BY place").fetchall()
    return [json.loads(row[0]) for row in rows]


def test_demo_shows_what_it_promises(demo: Any) -> None:
    result = demo.result()
    assert result["meters"] == 12
    assert result["simulated_days"] >= 10
    assert all(result["notices"][number] >= 1 for number in ("1", "2", "3"))
    assert result["cuts"] >= 1
    assert result["restores"] >= 1
    assert result["payments_applied"] >= 4
    assert result["payments_duplicate"] >= 1
    assert result["ledger_records"] >= 100
    assert result["polls_ok"] > 1000
    # A reading the second look does not confirm is read again; on a busy machine an hour lies between the two looks.
    assert result["readings_rejected"] <= result["polls_ok"] // 1000
    assert 0 < result["rss_mb"] < 200


def test_both_sides_agree_to_the_watt_hour_and_the_nano(demo: Any) -> None:
    result = demo.result()
    assert result["cloud_records"] == result["ledger_records"]
    assert result["chain_ok"] is True
    assert result["balances_agree"] is True
    assert result["energy_charged_wh"] == result["energy_metered_wh"] > 0
    assert result["accounts_off"] == []


def test_agent_was_killed_at_each_of_the_worst_moments_and_came_back(demo: Any) -> None:
    killed = demo.end()["killed"]
    assert len(killed) == len(set(killed.values())) == 4
    assert sum("the agent ended with -9 and is started again" in line for line in demo.lines) == 4


def test_auditor_finds_nothing_wrong(demo: Any) -> None:
    result = demo.result()
    command = [sys.executable, "-I", str(AUDITOR), str(demo.data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert done.returncode == 0
    assert found["ledger_records"] == result["ledger_records"]
    assert found["energy_charged_wh"] == result["energy_charged_wh"]
    assert found["cuts"] == result["cuts"]
    assert found["payments"] == result["payments_applied"]


def test_customer_is_warned_three_times_cut_once_and_restored_by_the_payment(led: list[dict[str, Any]]) -> None:
    story = [
        event["type"] + (str(event["number"]) if event["type"] == "NoticeRaised" else "")
        for event in led
        if event.get("account") == "A01"
    ]
    wanted = (
        "NoticeRaised1", "NoticeRaised2", "NoticeRaised3", "DisconnectControlChanged",
        "PaymentApplied", "LocalReasonCleared", "DisconnectControlChanged",
    )  # fmt: skip
    told = [event for event in story if event in wanted]
    assert tuple(told[: len(wanted) - 1]) in [
        wanted[:-1],
        (*wanted[:5], "DisconnectControlChanged"),
    ]
    assert story.count("DisconnectControlChanged") == 2


def test_protected_customer_is_in_arrears_and_never_cut(demo: Any, led: list[dict[str, Any]]) -> None:
    of_account = [event["type"] for event in led if event.get("account") == PROTECTED]
    assert "CaseEscalated" in of_account
    assert "DisconnectControlChanged" not in of_account
    registers = json.loads((demo.data / "registers.json").read_text("utf-8"))
    assert registers["meters"]["M04"]["relay_closed"] is True


def test_every_bill_and_payment_is_there_once(led: list[dict[str, Any]]) -> None:
    bills = Counter(event["account"] for event in led if event["type"] == "BillIssued")
    assert bills == {f"A{number:02}": 1 for number in range(1, 13)}
    payments = Counter(event["payment_id"] for event in led if event["type"] == "PaymentApplied")
    assert set(payments) >= {"P-shop-1", "P-twice", "P-voucher-1", "P-cloud-5"}
    assert set(payments.values()) == {1}


def test_nothing_of_the_demo_runs_on(demo: Any, check_gone: Callable[[Any, float], None]) -> None:
    demo.result()
    check_gone(demo, 5)
