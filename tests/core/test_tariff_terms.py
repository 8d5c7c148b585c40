"""What a document says around the energy, its bands, its limits and its versions: read exactly, proven, and applied."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.calendar import Cycle, CycleLength, fixed_zone, parse_date
from edge.core.rating import Interval, reference_rate
from edge.core.tariff import TariffRefused, compile_tariff, load_tariff, load_versions
from edge.core.terms import (
    ChargePart,
    ChargeSpan,
    ContractStep,
    Demand,
    DemandKind,
    DemandUnit,
    HistoryBands,
    LateCharge,
    LimitRaise,
    LimitRules,
    MinimumBill,
    OverContract,
    PowerFactorAdjustment,
    Ratchet,
    Rounding,
    RoundingRule,
    StandingCharge,
    Surcharge,
    Terms,
)

ALL_MONTHS = tuple(range(1, 13))
MakeDocument = Callable[..., dict[str, Any]]

TERMS: dict[str, Any] = {
    "standing_charges": [
        {"name": "daily", "amount": "0.601", "per": "day"},
        {"name": "meter", "amount": "12", "per": "month"},
    ],
    "minimum_bill": {"amount": "0.000001", "per": "month"},
    "demand": [
        {"name": "transformer", "kind": "capacity", "unit": "kVA", "prices": ["26"]},
        {
            "name": "contract",
            "kind": "contract",
            "limits": ["99.5"],
            "prices": ["38", "40.25"],
            "months": [7, 8],
            "periods": ["all"],
            "window_min": 30,
            "slip_min": 5,
            "day_divisor": 31,
            "over_contract": {"threshold_percent": "105", "factor": 2},
            "ratchet": {"percent": "80.5", "months": 11, "of_months": [1, 12]},
            "contract": [{"valid_from": "2024-01-01", "size": "500"}, {"valid_from": "2024-06-16", "size": "0"}],
        },
        {"name": "peak", "kind": "measured", "prices": ["8"]},
    ],
    "power_factor": {"standard": "0.85"},
    "surcharges": [
        {"name": "fund", "price_per_kwh": "0.019"},
        {"name": "rebate", "price_per_kwh": "-0.000001"},
        {"name": "local", "percent": "-1.25", "base": ["basic", "energy"]},
        {"name": "tax", "percent": "13", "base": ["all"]},
    ],
    "late_charge": {"class": "other", "same_year_per_mille": "2", "later_year_per_mille": "3.5", "minimum": "1.00"},
    "rounding": {"rule": "down", "step_minor": 5},
}


def test_everything_around_the_energy_is_read_exactly(document: MakeDocument) -> None:
    assert load_tariff(document(**TERMS)).terms == Terms(
        standing_charges=(
            StandingCharge("daily", 601_000_000, ChargeSpan.DAY),
            StandingCharge("meter", 12_000_000_000, ChargeSpan.MONTH),
        ),
        minimum_bill=MinimumBill(1_000, ChargeSpan.MONTH),
        demands=(
            Demand(
                "transformer", DemandKind.CAPACITY, DemandUnit.KVA, (), (26_000_000,), ALL_MONTHS, ("all",), 15, 1, 30,
                None, None, (),
            ),
            Demand(
                "contract", DemandKind.CONTRACT, DemandUnit.KW, (99_500,), (38_000_000, 40_250_000), (7, 8), ("all",),
                30, 5, 31, OverContract(10_500, 2), Ratchet(8_050, 11, (1, 12)),
                (ContractStep(parse_date("2024-01-01"), 500_000), ContractStep(parse_date("2024-06-16"), 0)),
            ),
            Demand(
                "peak", DemandKind.MEASURED, DemandUnit.KW, (), (8_000_000,), ALL_MONTHS, ("all",), 15, 1, 30,
                None, None, (),
            ),
        ),
        power_factor=PowerFactorAdjustment(85, (ChargePart.ENERGY, ChargePart.BASIC)),
        surcharges=(
            Surcharge("fund", None, (), 19_000),
            Surcharge("rebate", None, (), -1),
            Surcharge("local", -125, (ChargePart.ENERGY, ChargePart.BASIC), None),
            Surcharge("tax", 1_300, tuple(ChargePart), None),
        ),
        late_charge=LateCharge("other", 2_000, 3_500, 100),
        rounding=Rounding(RoundingRule.DOWN, 5),
    )  # fmt: skip


def test_a_document_without_terms_asks_for_nothing(document: MakeDocument) -> None:
    tariff = load_tariff(document())
    assert tariff.terms == Terms()
    assert tariff.terms.rounding == Rounding(RoundingRule.HALF_AWAY, 1)
    assert (tariff.bands, tariff.limit_rules, tariff.counts_purchases) == (None, LimitRules(), False)


def test_later_years_cost_as_much_as_the_first_when_nothing_is_said(document: MakeDocument) -> None:
    late = {"class": "residential", "same_year_per_mille": "1"}
    assert load_tariff(document(late_charge=late)).terms.late_charge == LateCharge("residential", 1_000, 1_000, 0)


def test_vend_is_a_month_in_which_purchases_count(document: MakeDocument) -> None:
    tariff = load_tariff(document(cycle={"length": "vend", "start_day": 5}))
    assert (tariff.cycle, tariff.counts_purchases) == (Cycle(CycleLength.MONTH, 5), True)
    assert not load_tariff(document()).counts_purchases


# --- bands -----------------------------------------------------------------------------------

BANDS = HistoryBands(("low", "mid", "high"), (30_000, 100_000), 3, (False, True), 1)


@pytest.mark.parametrize(
    ("months_wh", "band"),
    [
        ([], 1),
        ([30_000], 1),
        ([29_999], 0),
        ([30_000, 30_000, 29_999], 0),
        ([100_000, 100_000, 100_000], 1),
        ([100_000, 100_000, 100_001], 2),
        ([0, 100_000, 100_000, 100_001], 2),
        ([10**9, 0, 0, 0], 0),
    ],
)
def test_band_follows_the_exact_mean_of_the_last_months(months_wh: list[int], band: int) -> None:
    assert BANDS.band_of(months_wh) == band


def banded(document: MakeDocument) -> dict[str, Any]:
    bands = [{"name": "A", "limit_kwh": "30", "limit_included": True}, {"name": "B"}]
    shape = {"base_by_period": {"all": "1"}, "adder_by_block": ["0", "1", "2"]}
    return document(
        bands={"months": 2, "bands": bands, "without_history": "B"},
        prices={"by_band": {"A": {"table": {"all": ["1", "2", "3.5"]}}, "B": shape}},
    )


def test_a_band_has_its_own_prices_and_the_tariff_starts_in_that_without_history(document: MakeDocument) -> None:
    tariff = load_tariff(banded(document))
    assert tariff.bands == HistoryBands(("A", "B"), (30_000,), 2, (True,), 1)
    assert tariff.periods[0].prices_micro_per_kwh == (1_000_000, 2_000_000, 3_000_000)
    assert tariff.in_band(0).periods[0].prices_micro_per_kwh == (1_000_000, 2_000_000, 3_500_000)
    assert tariff.in_band(0).in_band(1) == tariff


def test_a_price_out_of_bounds_is_found_in_any_band(document: MakeDocument) -> None:
    wrong = banded(document)
    wrong["prices"]["by_band"]["A"]["table"]["all"][2] = "9000.000001"
    with pytest.raises(TariffRefused, match=r"/prices/by_band/A: found a price of 9000\.000001 in period all, block 3"):
        load_tariff(wrong)


# --- limits of a customer --------------------------------------------------------------------


def raised(document: MakeDocument) -> dict[str, Any]:
    raises = [{"name": "family", "added_kwh": ["1200", "1200"]}, {"name": "heat_pump", "added_kwh": ["0", "600"]}]
    return document(
        cycle={"length": "year"},
        blocks={"limits_kwh": ["2760", "4800"], "by_months_in_service": True, "raises": raises},
    )


@pytest.mark.parametrize(
    ("months", "raises", "limits_wh"),
    [
        (12, [], (2_760_000, 4_800_000)),
        (8, [], (1_840_000, 3_200_000)),
        (12, ["family"], (3_960_000, 6_000_000)),
        (1, ["family", "heat_pump"], (330_000, 550_000)),
    ],
)
def test_limits_follow_the_customer(
    document: MakeDocument, months: int, raises: list[str], limits_wh: tuple[int, ...]
) -> None:
    tariff = load_tariff(raised(document))
    assert tariff.limit_rules == LimitRules(
        True, (LimitRaise("family", (1_200_000, 1_200_000)), LimitRaise("heat_pump", (0, 600_000)))
    )
    customer = tariff.for_customer(months, raises)
    assert customer.periods[0].limits_wh == customer.prices_by_band[0][0].limits_wh == limits_wh


def test_months_in_service_count_only_where_the_tariff_says_so(document: MakeDocument) -> None:
    tariff = load_tariff(document())
    assert tariff.for_customer(3) == tariff


@pytest.mark.parametrize(("months", "raises"), [(0, []), (13, []), (12, ["pool"]), (12, ["family", "family"])])
def test_what_the_tariff_does_not_know_of_a_customer_is_refused(
    document: MakeDocument, months: int, raises: list[str]
) -> None:
    with pytest.raises(ValueError, match="tariff cn-hlj: "):
        load_tariff(raised(document)).for_customer(months, raises)


def test_limits_that_would_fall_together_are_refused(document: MakeDocument) -> None:
    blocks = {"limits_kwh": ["0.1", "0.101"], "by_months_in_service": True}
    tariff = load_tariff(document(blocks=blocks, cycle={"length": "year"}))
    assert tariff.for_customer(12).periods[0].limits_wh == (100, 101)
    with pytest.raises(ValueError, match="limits of 1 months are no longer apart"):
        tariff.for_customer(1)


def test_raised_limits_stay_within_the_energy_of_a_cycle(document: MakeDocument) -> None:
    wrong = raised(document) | {"cycle_energy_kwh_max": "6599"}
    with pytest.raises(TariffRefused, match="/cycle_energy_kwh_max"):
        load_tariff(wrong)
    assert load_tariff(wrong | {"cycle_energy_kwh_max": "6600"}).energy_wh_max == 6_600_000


# --- versions in one document ----------------------------------------------------------------


def dated(document: MakeDocument, number: int, valid_from: str, **changes: Any) -> dict[str, Any]:
    return document(version=number, valid_from=valid_from, **changes)


def test_a_document_of_one_version_and_one_of_several_are_read_alike(document: MakeDocument) -> None:
    single = document()
    assert load_versions(single) == (load_tariff(single),)
    assert load_versions({"format": 1, "versions": [single]}) == (load_tariff(single),)


def test_block_position_runs_on_over_a_change_of_version(document: MakeDocument) -> None:
    """Worked example tariff-change-mid-month: prices rise by 0.02 on 16 April."""
    new = {"base_by_period": {"all": "0.02"}, "adder_by_block": ["0.51", "0.56", "0.81"]}
    first = dated(document, 1, "2024-01-01", valid_to="2024-04-15")
    versions = load_versions({"format": 1, "versions": [first, dated(document, 2, "2024-04-16", prices=new)]})
    days = [parse_date(text) * 86_400 - 8 * 3600 for text in ("2024-04-01", "2024-04-16", "2024-05-01")]
    table = compile_tariff(versions, fixed_zone("Asia/Shanghai", 8 * 3600, days[2]), days[0], days[2])
    intervals = [Interval(0, days[0], days[1], 100_000), Interval(0, days[1], days[2], 80_000)]
    rated = reference_rate([table])([table.fresh_position(0)], intervals)
    assert [interval.amount_nano for interval in rated] == [51_000_000_000, 42_900_000_000]


def test_versions_without_a_last_day_end_where_the_next_begins(document: MakeDocument) -> None:
    documents = [dated(document, number, f"202{number}-01-01") for number in (1, 3, 4)]
    assert [version.version for version in load_versions({"format": 1, "versions": documents})] == [1, 3, 4]


@given(days=st.lists(st.tuples(st.integers(1, 28), st.none() | st.integers(1, 28)), min_size=1, max_size=4))
def test_versions_are_accepted_when_no_day_has_two_or_none(days: list[tuple[int, int | None]]) -> None:
    """By counting days: every day from the first to the last belongs to exactly one version."""
    documents = []
    for number, (first, last) in enumerate(days, 1):
        ends = {} if last is None else {"valid_to": f"2024-02-{last:02d}"}
        documents.append(MINIMAL | {"version": number, "valid_from": f"2024-02-{first:02d}"} | ends)
    try:
        load_versions({"format": 1, "versions": documents})
        accepted = True
    except TariffRefused:
        accepted = False
    counts: Counter[int] = Counter()
    spans = [(first, last) for first, last in days]
    for (first, last), following in zip(spans, [*spans[1:], None], strict=True):
        open_end = 28 if following is None else following[0] - 1
        counts.update(range(first, (open_end if last is None else last) + 1))
    ends_well = all(last is None or last >= first for first, last in days)
    rising = all(before[0] < after[0] for before, after in pairwise(days))
    once = set(counts.values()) == {1} and set(counts) == set(range(min(counts), max(counts) + 1)) if counts else False
    assert accepted == (ends_well and rising and once)


# --- coverage --------------------------------------------------------------------------------

MINIMAL: dict[str, Any] = {
    "format": 1,
    "id": "minimal",
    "version": 1,
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2024-01-01",
    "cycle": {"length": "month"},
    "prices": {"table": {"all": ["1"]}},
}


def clock(quarter: int) -> str:
    return f"{quarter // 4:02d}:{quarter % 4 * 15:02d}"


@given(
    edges=st.lists(st.integers(1, 95), min_size=1, max_size=4, unique=True),
    moved=st.none() | st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 96)),
)
def test_a_day_is_accepted_when_every_minute_is_covered_once(
    edges: list[int], moved: tuple[int, bool, int] | None
) -> None:
    """Windows that share out a day, one end of one of them moved anywhere; against counting quarters of an hour."""
    edges = sorted(edges)
    windows = [list(ends) for ends in pairwise([*edges, edges[0]])]  # the last runs over midnight
    if moved is not None:
        windows[moved[0] % len(windows)][moved[1]] = moved[2]
    periods = [
        {"name": f"p{n}", "windows": [{"from": clock(first), "to": clock(end)}]}
        for n, (first, end) in enumerate(windows)
    ]
    prices = {"table": {period["name"]: ["1"] for period in periods}}
    try:
        load_tariff(MINIMAL | {"periods": periods, "prices": prices})
        accepted = True
    except TariffRefused:
        accepted = False
    counts: Counter[int] = Counter()
    for first, end in windows:
        counts.update(range(first, end) if first < end else [*range(first, 96), *range(end)])
    sound = all(first not in (end, 96) for first, end in windows)
    assert accepted == (sound and counts == Counter(range(96)))
