"""The bill around the energy: standing charges by local day, demand, percentages, minimum, rounding, corrections."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.bill import (
    Bill,
    Customer,
    DemandSample,
    LineKind,
    MissingInput,
    Usage,
    bill_tables,
    billing_months,
    make_bill,
    rebill,
    round_total,
)
from edge.core.calendar import ZoneOffsets, format_date, parse_date
from edge.core.demand import PastDemand
from edge.core.late_charge import Arrears
from edge.core.period_registers import PeriodEnergies, register_tables
from edge.core.rating import Interval, reference_rate
from edge.core.tariff import Tariff, load_tariff, load_versions
from edge.core.terms import Rounding, RoundingRule

UNIT = 10**9
MINOR = 10_000_000
# London in 2024: summer time from 31 March 01:00 UTC to 27 October 01:00 UTC.
LONDON = ZoneOffsets(
    "Europe/London", ((0, 0), (1_711_846_800, 3600), (1_729_990_800, 0), (1_743_296_400, 3600)), 1_800_000_000
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def tariff_of(**parts: Any) -> Tariff:
    return load_tariff(document_of(**parts))


def document_of(**parts: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "id": "test",
        "version": 1,
        "currency": "GBP",
        "minor_digits": 2,
        "time_zone": "Europe/London",
        "valid_from": "2023-01-01",
        "cycle": {"length": "month"},
        "prices": {"table": {"all": ["0.25"]}},
        **parts,
    }


def bill_of(
    versions: Sequence[Tariff],
    first: str,
    end: str,
    energy_wh: int = 0,
    customer: Customer | None = None,
    **usage: Any,
) -> Bill:
    start_at, end_at = at(first), at(end)
    tables = bill_tables(versions, LONDON, start_at, end_at)
    rated = reference_rate([tables])([tables.fresh_position(0)], [Interval(0, start_at, end_at, energy_wh)])
    return make_bill(versions, LONDON, Usage(start_at, end_at, rated, **usage), customer)


def amounts(bill: Bill, kind: LineKind) -> list[int]:
    return [line.amount_nano for line in bill.lines if line.kind is kind]


DAILY = [{"name": "standing", "amount": "0.60", "per": "day"}]
APRIL = ("2024-04-01T00:00+01:00", "2024-05-01T00:00+01:00")


@pytest.mark.parametrize(
    ("first", "end", "days"),
    [
        ("2024-03-31T00:00+00:00", "2024-04-01T00:00+01:00", 1),  # 23 hours
        ("2024-10-27T00:00+01:00", "2024-10-28T00:00+00:00", 1),  # 25 hours
        ("2024-03-01T00:00+00:00", "2024-04-01T00:00+01:00", 31),
        ("2024-04-01T00:00+01:00", "2024-04-01T00:01+01:00", 1),
        ("2024-04-01T23:59+01:00", "2024-04-02T00:01+01:00", 2),
    ],
)
def test_each_local_day_is_charged_once_whatever_its_hours(first: str, end: str, days: int) -> None:
    bill = bill_of([tariff_of(standing_charges=DAILY)], first, end)
    assert amounts(bill, LineKind.STANDING) == [days * 600_000_000]


def test_days_without_power_are_caught_up_exactly_once_over_bills_that_part_a_day() -> None:
    tariff = tariff_of(standing_charges=DAILY)
    first = bill_of([tariff], "2024-04-01T00:00+01:00", "2024-04-10T12:00+01:00")
    customer = Customer(standing_from_day=first.standing_to_day)
    second = bill_of([tariff], "2024-04-10T12:00+01:00", "2024-05-01T00:00+01:00", customer=customer)
    assert sum(amounts(first, LineKind.STANDING) + amounts(second, LineKind.STANDING)) == 30 * 600_000_000
    gap = Customer(standing_from_day=parse_date("2024-03-30"))
    assert amounts(bill_of([tariff], *APRIL, customer=gap), LineKind.STANDING) == [32 * 600_000_000]


def test_a_month_begun_is_charged_once() -> None:
    tariff = tariff_of(standing_charges=[{"name": "fixed", "amount": "12", "per": "month"}])
    assert amounts(bill_of([tariff], "2024-01-15T00:00+00:00", "2024-02-15T00:00+00:00"), LineKind.STANDING) == [
        12 * UNIT
    ]
    assert amounts(bill_of([tariff], "2024-01-15T00:00+00:00", "2024-02-15T00:01+00:00"), LineKind.STANDING) == [
        24 * UNIT
    ]


def test_months_of_a_bill_end_on_the_same_day_of_the_next_month_or_on_its_last() -> None:
    months = billing_months(parse_date("2024-01-31"), parse_date("2024-04-05"))
    assert [(format_date(month.first_day), format_date(month.end_day), month.whole) for month in months] == [
        ("2024-01-31", "2024-02-29", True),
        ("2024-02-29", "2024-03-31", True),
        ("2024-03-31", "2024-04-05", False),
    ]


def test_a_change_of_version_within_the_bill_prices_each_day_and_each_wh_by_its_own() -> None:
    later = document_of(
        version=2,
        valid_from="2024-04-16",
        prices={"table": {"all": ["0.30"]}},
        standing_charges=[{"name": "standing", "amount": "0.70", "per": "day"}],
        surcharges=[{"name": "vat", "percent": "10", "base": ["energy", "standing"]}],
    )
    first = document_of(
        standing_charges=DAILY, surcharges=[{"name": "vat", "percent": "5", "base": ["energy", "standing"]}]
    )
    versions = load_versions({"format": 1, "versions": [first, later]})
    bill = bill_of(versions, *APRIL, energy_wh=30_000)
    assert amounts(bill, LineKind.ENERGY) == [15_000 * 250_000, 15_000 * 300_000]
    assert amounts(bill, LineKind.STANDING) == [15 * 600_000_000, 15 * 700_000_000]
    assert amounts(bill, LineKind.SURCHARGE) == [
        (3_750_000_000 + 9 * UNIT) // 20,
        (4_500_000_000 + 10_500_000_000) // 10,
    ]
    assert bill.estimated


def test_a_tax_is_taken_of_the_surcharges_before_it_and_not_of_itself() -> None:
    tariff = tariff_of(
        surcharges=[
            {"name": "fund", "price_per_kwh": "0.02"},
            {"name": "levy", "percent": "10", "base": ["energy"]},
            {"name": "vat", "percent": "20", "base": ["energy", "surcharges"]},
        ]
    )
    bill = bill_of([tariff], *APRIL, energy_wh=100_000)
    assert amounts(bill, LineKind.ENERGY) == [25 * UNIT]
    assert amounts(bill, LineKind.SURCHARGE) == [2 * UNIT, 2_500_000_000, (25 * UNIT + 4_500_000_000) // 5]


def test_the_minimum_bill_raises_what_is_below_it_and_nothing_else() -> None:
    tariff = tariff_of(minimum_bill={"amount": "10", "per": "month"})
    assert amounts(bill_of([tariff], *APRIL, energy_wh=39_999), LineKind.MINIMUM) == [250_000]
    assert amounts(bill_of([tariff], *APRIL, energy_wh=40_000), LineKind.MINIMUM) == []
    by_day = tariff_of(minimum_bill={"amount": "1", "per": "day"})
    assert bill_of([by_day], *APRIL).bill_minor == 3000


CONTRACT = {
    "name": "contract",
    "kind": "contract",
    "prices": ["38"],
    "over_contract": {"threshold_percent": "105", "factor": 2},
}


def sample(power_w: int, first: str = "2024-04-10T08:00+01:00", periods: tuple[str, ...] = ("all",)) -> DemandSample:
    return DemandSample(at(first), at(first) + 900, power_w, frozenset(periods))


def test_a_contract_that_nobody_stated_is_asked_for() -> None:
    with pytest.raises(MissingInput) as missing:
        bill_of([tariff_of(demand=[CONTRACT])], *APRIL, demand_samples=[sample(560_000)])
    assert missing.value.needed == "contract_w"


def test_a_demand_that_nobody_measured_is_asked_for() -> None:
    with pytest.raises(MissingInput) as missing:
        bill_of([tariff_of(demand=[CONTRACT])], *APRIL, customer=Customer(contract_w=500_000))
    assert missing.value.needed == "max_demand_w"


def test_the_customers_own_contract_goes_before_the_documents() -> None:
    stated = {**CONTRACT, "contract": [{"valid_from": "2023-01-01", "size": "400"}]}
    customer = Customer(contract_w=500_000)
    bill = bill_of([tariff_of(demand=[stated])], *APRIL, customer=customer, demand_samples=[sample(560_000)])
    assert amounts(bill, LineKind.DEMAND) == [595 * 38 * UNIT]


def test_the_highest_demand_of_each_month_is_billed_and_kept_for_the_ratchet() -> None:
    demand = {"name": "peak", "kind": "measured", "prices": ["8"], "ratchet": {"percent": "80", "months": 11}}
    samples = [sample(5_000), sample(4_000), sample(1_000, "2024-05-10T08:00+01:00")]
    bill = bill_of([tariff_of(demand=[demand])], APRIL[0], "2024-06-01T00:00+01:00", demand_samples=samples)
    assert amounts(bill, LineKind.DEMAND) == [40 * UNIT, 32 * UNIT]
    assert bill.demands == (PastDemand(4, 5_000), PastDemand(5, 1_000))


def test_a_demand_is_due_in_its_months_only() -> None:
    demand = {"name": "peak", "kind": "measured", "prices": ["8"], "months": [6, 7]}
    bill = bill_of([tariff_of(demand=[demand])], *APRIL, demand_samples=[sample(5_000)])
    assert amounts(bill, LineKind.DEMAND) == []


def test_a_demand_of_one_period_does_not_take_a_reading_over_two() -> None:
    tariff = tariff_of(
        periods=[
            {"name": "day", "windows": [{"from": "08:00", "to": "22:00"}]},
            {"name": "night", "windows": [{"from": "22:00", "to": "08:00"}]},
        ],
        prices={"table": {"day": ["1"], "night": ["1"]}},
        demand=[{"name": "peak", "kind": "measured", "prices": ["8"], "periods": ["day"]}],
    )
    samples = [sample(5_000, periods=("day",)), sample(9_000, periods=("night",))]
    assert amounts(bill_of([tariff], *APRIL, demand_samples=samples), LineKind.DEMAND) == [40 * UNIT]
    with pytest.raises(ValueError, match="read it where periods change"):
        bill_of([tariff], *APRIL, demand_samples=[sample(5_000, periods=("day", "night"))])


def test_the_power_factor_moves_basic_and_energy_charge_and_asks_for_the_reactive_register() -> None:
    tariff = tariff_of(
        demand=[{"name": "kva", "kind": "capacity", "unit": "kVA", "prices": ["26"]}],
        power_factor={"standard": "0.90"},
        standing_charges=DAILY,
    )
    customer = Customer(capacity_va=100_000)
    bill = bill_of([tariff], *APRIL, 100_000, customer, reactive_import_varh=61_974)
    assert amounts(bill, LineKind.POWER_FACTOR) == [(25 + 2600) * UNIT * 25 // 1000]
    with pytest.raises(MissingInput) as missing:
        bill_of([tariff], *APRIL, 100_000, customer)
    assert missing.value.needed == "reactive_import_varh"


def test_arrears_get_a_late_charge_that_no_surcharge_is_taken_of() -> None:
    tariff = tariff_of(
        late_charge={"class": "residential", "same_year_per_mille": "1", "minimum": "1.00"},
        surcharges=[{"name": "vat", "percent": "20", "base": ["all"]}],
    )
    arrears = Arrears(10_000 * UNIT, parse_date("2024-03-01"), parse_date("2024-03-10"))
    bill = bill_of([tariff], *APRIL, customer=Customer(arrears=arrears))
    assert (amounts(bill, LineKind.LATE), amounts(bill, LineKind.SURCHARGE)) == ([100 * UNIT], [0])


@pytest.mark.parametrize(
    ("rule", "amount", "rounded"),
    [
        (RoundingRule.HALF_AWAY, 15, 20),
        (RoundingRule.HALF_AWAY, -15, -20),
        (RoundingRule.HALF_AWAY, 14, 10),
        (RoundingRule.HALF_EVEN, 25, 20),
        (RoundingRule.HALF_EVEN, 35, 40),
        (RoundingRule.HALF_EVEN, -25, -20),
        (RoundingRule.HALF_EVEN, 26, 30),
        (RoundingRule.DOWN, 19, 10),
        (RoundingRule.DOWN, -11, -20),
    ],
)
def test_a_total_is_rounded_by_its_rule(rule: RoundingRule, amount: int, rounded: int) -> None:
    assert round_total(Rounding(rule, 1), amount, 10) == rounded
    assert round_total(Rounding(rule, 10), amount, 1) == rounded


@given(st.integers(0, 10**8), st.integers(-9999, 9999), st.integers(0, 10**6))
def test_lines_add_up_to_whole_minor_units_half_a_unit_from_the_exact_charge(wh: int, vat: int, fixed: int) -> None:
    sign, size = ("-" if vat < 0 else ""), abs(vat)
    tariff = tariff_of(
        standing_charges=[{"name": "fixed", "amount": f"0.{fixed % 10**6:06d}", "per": "day"}],
        surcharges=[{"name": "vat", "percent": f"{sign}{size // 100}.{size % 100:02d}", "base": ["all"]}],
    )
    bill = bill_of([tariff], *APRIL, energy_wh=wh)
    assert sum(line.amount_nano for line in bill.lines) == bill.bill_minor * MINOR
    assert bill.charge_nano + sum(amounts(bill, LineKind.ROUNDING)) == bill.bill_minor * MINOR
    assert 2 * abs(bill.bill_minor * MINOR - bill.charge_nano) <= MINOR


def test_a_wrong_bill_is_taken_back_line_by_line_and_billed_anew() -> None:
    wrong = bill_of([tariff_of(standing_charges=DAILY)], *APRIL, energy_wh=33_333)
    right = bill_of([tariff_of(standing_charges=DAILY, prices={"table": {"all": ["0.24"]}})], *APRIL, energy_wh=33_333)
    correction = rebill(wrong, right)
    assert [line.amount_nano for line in correction[: len(wrong.lines)]] == [-line.amount_nano for line in wrong.lines]
    assert all(line.reverses for line in correction[: len(wrong.lines)])
    assert correction[len(wrong.lines) :] == right.lines
    assert sum(line.amount_nano for line in correction) == (right.bill_minor - wrong.bill_minor) * MINOR


def test_a_bill_of_one_year_rates_each_wh_once() -> None:
    bill = bill_of([tariff_of()], "2024-01-01T00:00+00:00", "2025-01-01T00:00+00:00", energy_wh=1_234_567)
    assert (bill.energy_wh, sum(amounts(bill, LineKind.ENERGY))) == (1_234_567, 1_234_567 * 250_000)


def test_period_registers_are_rated_by_their_own_period_and_shared_by_seconds_over_a_cycle() -> None:
    tariff = tariff_of(
        periods=[
            {"name": "day", "windows": [{"from": "08:00", "to": "22:00"}]},
            {"name": "night", "windows": [{"from": "22:00", "to": "08:00"}]},
        ],
        blocks={"limits_kwh": ["1"]},
        prices={"base_by_period": {"day": "1", "night": "0.5"}, "adder_by_block": ["0", "1"]},
    )
    first, end = at("2024-04-30T00:00+01:00"), at("2024-05-02T00:00+01:00")
    tables = bill_tables([tariff], LONDON, first, end)
    energies = [PeriodEnergies(first, end, {"day": 2_000, "night": 1_000})]
    made = register_tables(tables, energies)
    rated = reference_rate([made.tariff])([made.tariff.fresh_position(0)], made.intervals)
    # One day in each month: 1 kWh by day and 0.5 by night, the second in block 2.
    assert [(line.energy_wh, line.block) for one in rated for line in one.lines] == [(1000, 1), (500, 2)] * 2
    assert made.estimated
    assert not register_tables(tables, [PeriodEnergies(first, first + 3600, {"day": 5, "night": 1})]).estimated
    with pytest.raises(ValueError, match="no room for 2 periods"):
        register_tables(tables, [PeriodEnergies(first, first + 1, {"day": 5, "night": 1})])
