"""Accounts that are credited in energy or in time: shown in kWh and days, everywhere a balance stands."""

import html
import re
from typing import Any

import pytest

from edge.agent.snapshot import EmergencyView
from edge.console.formats import MINUS, Formats
from edge.console.language import load_languages
from edge.core.units import MoneyNano

KWH = 1_000_000_000
DAY_NANO = 86_400 * 1_000_000
ENGLISH, CHINESE = load_languages()["en"], load_languages()["zh-CN"]


def formats(unit: str, language: Any = ENGLISH) -> Formats:
    from datetime import UTC

    return Formats(language, "CNY", 2, UTC).of(unit)


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


@pytest.mark.parametrize(
    ("unit", "nano", "balance", "to_pay"),
    [
        ("money", 12_345_000_001, "12.34", "12.35"),
        ("energy", 12_345_000_001, "12.345 kWh", "12.346 kWh"),
        ("energy", -1, f"{MINUS}0.001 kWh", "0.000 kWh"),
        ("time", 3 * DAY_NANO + 4 * 3600 * 1_000_000 + 1, "3 d 4 h", "3 d 4 h 1 min"),
        ("time", 0, "0 min", "0 min"),
        ("time", -1, f"{MINUS}1 min", "0 min"),
    ],
)
def test_a_balance_is_rounded_down_and_an_amount_to_pay_up_in_every_unit(
    unit: str, nano: int, balance: str, to_pay: str
) -> None:
    assert formats(unit).money(nano) == balance
    assert formats(unit).money_to_pay(nano) == to_pay


def test_a_posting_shows_its_sign_and_a_lone_amount_its_unit() -> None:
    assert formats("energy").money(5 * KWH, signed=True) == "+5.000 kWh"
    assert formats("time").money(-DAY_NANO, signed=True) == f"{MINUS}1 d"
    assert [formats(unit).with_unit(KWH) for unit in ("money", "energy")] == ["1.00 CNY", "1.000 kWh"]
    assert formats("time", CHINESE).with_unit(2 * DAY_NANO) == CHINESE.text("{n} d").format(n=2)


@pytest.fixture
def mixed(world: Any, make_account: Any) -> Any:
    """One account of each unit."""
    energy = {"money_nano": MoneyNano(60 * KWH), "estimate_nano": MoneyNano(20 * KWH),
              "live_balance_nano": MoneyNano(40 * KWH), "suggested_top_up_nano": MoneyNano(7 * KWH)}  # fmt: skip
    time = {"money_nano": MoneyNano(9 * DAY_NANO), "estimate_nano": MoneyNano(2 * DAY_NANO),
            "live_balance_nano": MoneyNano(-DAY_NANO), "suggested_top_up_nano": MoneyNano(DAY_NANO),
            "control_state": "ready_for_reconnection", "control_reason": "no_credit",
            "output_connected": False}  # fmt: skip
    world.publish(
        [
            make_account(2, unit="energy", emergency=EmergencyView("invoked", MoneyNano(KWH), MoneyNano(0)), **energy),
            make_account(5, unit="time", **time),
            make_account(8),
        ],
        version=2,
    )
    return world


@pytest.mark.parametrize(("tag", "days"), [("en", "1 d"), ("zh-CN", CHINESE.text("{n} d").format(n=1))])
def test_the_street_shows_each_balance_in_its_unit(mixed: Any, tag: str, days: str) -> None:
    page = mixed.get("/", headers={"accept-language": tag}).text
    balances = re.findall(r'<div class="money[^"]*">([^<]*)</div>', page)
    assert sorted(balances) == sorted([f"{MINUS}{days}", "40.000 kWh", "98.96"])


def test_the_page_of_an_energy_account_speaks_of_energy_only(mixed: Any) -> None:
    page = mixed.get("/account/A-1002").text
    text = text_of(page)
    assert "Balance now 40.000 kWh" in text
    assert "Suggested top-up 7.000 kWh" in text
    assert "Credit on account 60.000 kWh" in text
    assert "Used since the last issue 20.000 kWh" in text
    assert "Emergency credit 1.000 kWh selected" in text
    assert "Balance over time, kWh" in text
    assert "+20.000 kWh" in text  # a payment in the ledger
    assert "CNY" not in text
    chinese = text_of(mixed.get("/account/A-1002", headers={"accept-language": "zh-CN"}).text)
    assert "账上额度 60.000 kWh" in chinese


def test_the_page_of_a_time_account_says_how_much_to_pay_in_days(mixed: Any) -> None:
    text = text_of(mixed.get("/account/A-1005").text)
    assert f"Balance now {MINUS}1 d" in text
    assert "Returns once 1 d is paid." in text
    assert "Balance over time, days" in text
    assert "CNY" not in text


def test_the_event_log_shows_each_posting_in_the_unit_of_its_account(mixed: Any) -> None:
    text = text_of(mixed.get("/events").text)
    assert "Payment P-77120" in text or "+20.000 kWh" in text
    assert "+20.000 kWh" in text  # A-1002
    assert "+5 h 33 min" in text  # A-1005: the same nano are seconds there


def test_a_voucher_for_an_energy_account_is_answered_in_its_unit(mixed: Any) -> None:
    text = text_of(mixed.get(mixed.enter("ABCD").headers["location"]).text)
    assert "Amount 50.000 kWh" in text
    assert "New balance 18.795 kWh" in text
