"""The late charge: simple, both days counted, dearer in later years, at least the minimum."""

import pytest

from edge.core.calendar import parse_date
from edge.core.late_charge import Arrears, late_fee
from edge.core.terms import LateCharge

HOUSEHOLD = LateCharge("residential", 1000, 1000, 100)
OTHER = LateCharge("other", 2000, 3000, 100)
MINOR_NANO = 10_000_000
UNIT = 10**9


def fee_nano(terms: LateCharge, amount_nano: int, first: str, last: str) -> int:
    return late_fee(terms, Arrears(amount_nano, parse_date(first), parse_date(last)), MINOR_NANO).amount_nano


def test_the_day_of_payment_counts() -> None:
    assert fee_nano(HOUSEHOLD, 10_000 * UNIT, "2024-04-02", "2024-04-02") == 10 * UNIT
    assert fee_nano(HOUSEHOLD, 10_000 * UNIT, "2024-04-02", "2024-04-03") == 20 * UNIT


def test_payment_in_time_costs_nothing_not_even_the_minimum() -> None:
    assert fee_nano(HOUSEHOLD, 10_000 * UNIT, "2024-04-02", "2024-04-01") == 0


@pytest.mark.parametrize("amount_nano", [0, -5 * UNIT])
def test_nothing_owed_costs_nothing(amount_nano: int) -> None:
    assert fee_nano(HOUSEHOLD, amount_nano, "2024-04-02", "2024-06-01") == 0


def test_a_small_charge_is_raised_to_the_minimum() -> None:
    assert fee_nano(HOUSEHOLD, 10 * UNIT, "2024-04-02", "2024-04-03") == UNIT


def test_it_is_simple_and_not_compound() -> None:
    assert fee_nano(HOUSEHOLD, 1_000 * UNIT, "2023-01-01", "2023-12-31") == 365 * UNIT


def test_the_first_of_january_begins_the_later_years_for_good() -> None:
    fee = late_fee(OTHER, Arrears(1_000 * UNIT, parse_date("2023-12-31"), parse_date("2025-01-01")), MINOR_NANO)
    assert (fee.days_same_year, fee.days_later_years) == (1, 367)  # 2024 has 366 days
    assert fee.amount_nano == (1 * 2 + 367 * 3) * UNIT


def test_a_share_that_does_not_come_out_even_is_rounded_half_away_to_the_nano() -> None:
    assert fee_nano(LateCharge("x", 1000, 1000, 0), 1_500, "2024-04-02", "2024-04-02") == 2
