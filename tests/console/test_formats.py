"""Numbers and times as people read them."""

from datetime import UTC, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.console.formats import Formats, formats_for, unit_of
from edge.console.language import load_languages

LANGUAGES = load_languages()
ENGLISH = Formats(LANGUAGES["en"], "CNY", 2, timezone(timedelta(hours=8)))
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00"),
        (9_999_999, "0.00"),
        (10_000_000, "0.01"),
        (-1, f"{MINUS}0.01"),
        (-10_000_000, f"{MINUS}0.01"),
        (-10_000_001, f"{MINUS}0.02"),
        (1_234_567_890_000_000, "1,234,567.89"),
    ],
)
def test_balance_rounds_towards_minus_infinity(nano: int, text: str) -> None:
    assert ENGLISH.money(nano) == text


@given(st.integers(-(10**18), 10**18))
def test_shown_balance_is_never_above_the_true_one_and_less_than_a_minor_unit_below(nano: int) -> None:
    shown = Decimal(ENGLISH.money(nano).replace(MINUS, "-").replace(",", ""))
    assert 0 <= Decimal(nano) / 10**9 - shown < Decimal("0.01")


@given(st.integers(0, 10**18))
def test_paying_what_is_asked_is_always_enough(nano: int) -> None:
    asked = Decimal(ENGLISH.money_to_pay(nano).replace(",", ""))
    assert 0 <= asked - Decimal(nano) / 10**9 < Decimal("0.01")


def test_minor_digits_of_the_currency_are_followed() -> None:
    yen = Formats(LANGUAGES["en"], "JPY", 0, UTC)
    assert yen.money(-1) == f"{MINUS}1"
    dinar = Formats(LANGUAGES["en"], "KWD", 3, UTC)
    assert dinar.money(1_234_567_000) == "1.234"
    assert dinar.money_to_pay(1_234_567_000) == "1.235"


def test_a_posting_carries_its_sign() -> None:
    assert ENGLISH.money(5_000_000_000, signed=True) == "+5.00"
    assert ENGLISH.money(-5_000_000_000, signed=True) == f"{MINUS}5.00"
    assert ENGLISH.money(0, signed=True) == "0.00"


def test_energy_is_exact_to_the_watt_hour() -> None:
    assert ENGLISH.energy(1_234_567) == "1,234.567 kWh"
    assert ENGLISH.energy(-7) == f"{MINUS}0.007 kWh"


def test_a_quantity_never_shows_an_exponent() -> None:
    assert ENGLISH.quantity(Decimal("5E+3")) == "5,000"
    assert ENGLISH.quantity(Decimal("-0.50")) == f"{MINUS}0.50"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "now"),
        (59, "now"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
    ],
)
def test_age_is_coarse(seconds: int, text: str) -> None:
    assert ENGLISH.age(seconds) == text


def test_times_are_in_the_zone_of_the_site_and_words_in_the_language(world: Any) -> None:
    snapshot = world.source.current
    assert formats_for(snapshot, LANGUAGES["en"]).moment(snapshot.at) == "Mon 3 Aug, 14:00"
    assert formats_for(snapshot, LANGUAGES["zh-CN"]).moment(snapshot.at) == "8月3日 周一 14:00"


def test_summer_time_is_followed_for_old_records(world: Any, accounts: Any) -> None:
    world.publish(accounts, version=2, time_zone="Europe/Berlin", utc_offset_s=7200)
    formats = formats_for(world.source.current, LANGUAGES["en"])
    assert formats.stamp(1_767_225_600) == "2026-01-01 01:00"
    assert formats.stamp(1_782_864_000) == "2026-07-01 02:00"


@pytest.mark.parametrize("zone", ["Nowhere/Land", "", "../etc/passwd", "/etc/passwd", "\0"])
def test_an_unknown_zone_falls_back_to_the_offset(world: Any, accounts: Any, zone: str) -> None:
    world.publish(accounts, version=2, time_zone=zone)
    formats = formats_for(world.source.current, LANGUAGES["en"])
    assert formats.stamp(0) == "1970-01-01 08:00"


def test_units_follow_the_name_of_the_point() -> None:
    assert unit_of("power_factor_l1") == ""
    assert unit_of("power_total") == "W"
    assert unit_of("energy_import_t1") == "kWh"
    assert unit_of("something_else") == ""
