"""The reference rating against vectors, worked examples, and a watt-hour by watt-hour count."""

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.calendar import CompiledCalendar
from edge.core.rating import (
    AMOUNT_NANO_MAX,
    AT_MAX,
    ENERGY_WH_MAX,
    INTERVAL_S_MAX,
    CompiledTariff,
    Interval,
    PeriodPrices,
    Position,
    RatedInterval,
    reference_rate,
    share_by_seconds,
)
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import round_half_away
from edge.zone import zone_offsets

VECTORS = Path(__file__).parent.parent / "vectors"
NANO_PER_MINOR = 10_000_000
SPAN = ("2023-12-01T00:00+00:00", "2025-01-01T00:00+00:00")


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / name).read_text("utf-8").splitlines()]


DOCUMENTS = {line["id"]: line["document"] for line in lines_of("rating_tariffs.jsonl")}
EXAMPLES = {line["id"]: line for line in lines_of("rating_worked_examples.jsonl")}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@cache
def compiled(*names: str) -> CompiledTariff:
    """The tariff of the vectors, or its versions."""
    versions = [load_tariff(DOCUMENTS[name]) for name in names]
    first_at, end_at = (at(text) for text in SPAN)
    return compile_tariff(versions, zone_offsets(versions[0].time_zone, first_at, end_at), first_at, end_at)


def rate(tariff: CompiledTariff, before_wh: Sequence[int], *intervals: tuple[str, str, int]) -> Sequence[RatedInterval]:
    """One account's intervals, with its block position before them."""
    return reference_rate([tariff])(
        [Position(0, tuple(before_wh))], [Interval(0, at(start), at(end), wh) for start, end, wh in intervals]
    )


def energy_by_block(rated: Sequence[RatedInterval], blocks: int) -> list[int]:
    totals = [0] * blocks
    for interval in rated:
        for line in interval.lines:
            totals[line.block - 1] += line.energy_wh
    return totals


def check_charge(rated: Sequence[RatedInterval], expect: dict[str, Any]) -> None:
    amount_nano = sum(interval.amount_nano for interval in rated)
    assert amount_nano == expect["charge_nano"]
    assert round_half_away(amount_nano, NANO_PER_MINOR) == expect["charge_minor"]


@pytest.mark.parametrize("vector", lines_of("rating.jsonl"), ids=lambda vector: vector["id"])
def test_vector_costs_what_it_says(vector: dict[str, Any]) -> None:
    tariffs = [compiled(name) for name in vector["tariffs"]]
    positions = [
        Position(p["tariff"], tuple(p["cycle_energy_wh"]), p["cycle_start"] and at(p["cycle_start"]))
        for p in vector["positions"]
    ]
    intervals = [Interval(i["account"], at(i["start"]), at(i["end"]), i["energy_wh"]) for i in vector["intervals"]]
    rated = reference_rate(tariffs)(positions, intervals)
    assert len(rated) == len(vector["expect"])
    for interval, expect in zip(rated, vector["expect"], strict=True):
        lines = [[line.period, line.block, line.energy_wh, line.price_micro_per_kwh] for line in interval.lines]
        assert lines == expect["lines"]
        assert interval.amount_nano == expect["amount_nano"] == sum(line.amount_nano for line in interval.lines)
        assert list(interval.cycle_energy_wh) == expect["cycle_energy_wh"]
        assert interval.estimated == expect["estimated"]
        if "cycle_start" in expect:
            assert interval.cycle_start_at == at(expect["cycle_start"])


@pytest.mark.parametrize(
    ("case", "tariff"),
    [
        ("hlj-300-month", "cn_hlj"),
        ("hlj-170-exact", "cn_hlj"),
        ("hlj-second-half", "cn_hlj"),
        ("hen-250", "cn_hen_flat"),
        ("sd-year-cross", "cn_sd"),
        ("zj-year-all-tiers", "cn_zj"),
    ],
)
def test_worked_example_of_blocks_agrees(case: str, tariff: str) -> None:
    given_, expect = EXAMPLES[case]["input"], EXAMPLES[case]["expect"]
    rated = rate(
        compiled(tariff),
        [given_["cycle_energy_before_Wh"]],
        ("2024-04-01T00:00+08:00", "2024-04-30T00:00+08:00", given_["energy_Wh"]),
    )
    check_charge(rated, expect)
    assert energy_by_block(rated, 3) == expect["energy_by_tier_Wh"]


def test_limits_scaled_by_months_of_the_contract_are_limits_like_others() -> None:
    given_, expect = EXAMPLES["zj-part-year"]["input"], EXAMPLES["zj-part-year"]["expect"]
    prices = [str(tier["price_micro_per_kWh"]) for tier in given_["tiers"]]
    limits = [str(tier["upto_Wh"] // 1000) for tier in given_["tiers"][:-1]]
    document = DOCUMENTS["cn_zj"] | {
        "blocks": {"limits_kwh": limits},
        "prices": {"table": {"all": [f"0.{price}" for price in prices]}},
    }
    first_at, end_at = (at(text) for text in SPAN)
    tariff = compile_tariff([load_tariff(document)], zone_offsets("Asia/Shanghai", first_at, end_at), first_at, end_at)
    rated = rate(tariff, [0], ("2024-05-16T00:00+08:00", "2024-12-31T00:00+08:00", given_["energy_Wh"]))
    check_charge(rated, expect)
    assert energy_by_block(rated, 3) == expect["energy_by_tier_Wh"]


def test_thirty_days_cost_what_their_sum_costs() -> None:
    case = EXAMPLES["hlj-telescoping"]
    days = [
        (f"2024-04-{day + 1:02d}T00:00+08:00", f"2024-04-{day + 1:02d}T23:59+08:00", wh)
        for day, wh in enumerate(case["input"]["daily_energy_Wh"])
    ]
    rated = rate(compiled("cn_hlj"), [0], *days)
    check_charge(rated, case["expect"])
    assert rated[-1].cycle_energy_wh == (case["expect"]["month_energy_Wh"],)
    rounded = sum(round_half_away(day.amount_nano, NANO_PER_MINOR) for day in rated)
    assert rounded == case["expect"]["sum_of_daily_rounded_to_minor"]  # what must not be billed


def test_yearly_blocks_are_shared_by_the_periods_of_a_day() -> None:
    case = EXAMPLES["zj-tou-cross-midday"]
    spans = [("2024-04-02T00:00+08:00", "2024-04-02T08:00+08:00"), ("2024-04-02T08:00+08:00", "2024-04-02T22:00+08:00")]
    spans.append(("2024-04-02T22:00+08:00", "2024-04-03T00:00+08:00"))
    energies = [interval["energy_Wh"] for interval in case["input"]["intervals"]]
    rated = rate(
        compiled("cn_zj_tou"),
        [case["input"]["cycle_energy_before_Wh"]],
        *[(*span, wh) for span, wh in zip(spans, energies, strict=True)],
    )
    check_charge(rated, case["expect"])
    assert rated[-1].cycle_energy_wh == (case["expect"]["cycle_energy_after_Wh"],)


@pytest.mark.parametrize(
    ("order", "first", "second"),
    [
        (
            "a",
            ("2024-04-02T00:00+08:00", "2024-04-02T08:00+08:00"),
            ("2024-04-02T08:00+08:00", "2024-04-02T09:00+08:00"),
        ),
        (
            "b",
            ("2024-04-02T21:00+08:00", "2024-04-02T22:00+08:00"),
            ("2024-04-02T22:00+08:00", "2024-04-02T23:00+08:00"),
        ),
    ],
)
def test_order_matters_where_the_steps_differ_by_period(
    order: str, first: tuple[str, str], second: tuple[str, str]
) -> None:
    case = EXAMPLES["tou-order-matters"]
    energies = [part["energy_Wh"] for part in case["input"][f"order_{order}"]]
    before_wh = [case["input"]["cycle_energy_before_Wh"]]
    rated = rate(compiled("order_matters"), before_wh, (*first, energies[0]), (*second, energies[1]))
    assert sum(interval.amount_nano for interval in rated) == case["expect"][f"charge_{order}_nano"]


def test_adders_by_period_and_block_add_up_to_the_month() -> None:
    case = EXAMPLES["hen-tou-200"]
    energy = case["input"]["energy_by_period_Wh"]
    rated = rate(
        compiled("cn_hen"),
        [case["input"]["cycle_energy_before_Wh"]],
        ("2024-04-02T08:00+08:00", "2024-04-02T22:00+08:00", energy["peak"]),
        ("2024-04-02T22:00+08:00", "2024-04-03T08:00+08:00", energy["valley"]),
    )
    check_charge(rated, case["expect"])


def test_hour_changes_its_period_with_the_heating_season() -> None:
    case = EXAMPLES["sd-heating-switch"]
    hours = [(hour["from"], hour["to"], hour["energy_Wh"]) for hour in case["input"]["hours"]]
    amounts = [rate(compiled("cn_sd_tou"), [0], hour)[0].amount_nano for hour in hours]
    assert amounts == case["expect"]["hour_charge_nano"]


def test_constant_load_of_a_day_falls_into_its_periods() -> None:
    case = EXAMPLES["zj-ci-summer-day"]
    energy_wh = case["input"]["constant_power_W"] * 24
    rated = rate(compiled("cn_zj_ci"), [0], ("2024-07-15T00:00+08:00", "2024-07-16T00:00+08:00", energy_wh))
    check_charge(rated, case["expect"])
    assert {line.period: line.energy_wh for line in rated[0].lines} == case["expect"]["energy_by_period_Wh"]


def test_period_starts_at_its_first_second() -> None:
    case = EXAMPLES["tou-boundary"]
    tariff = compiled("cn_zj_ci")
    calendar = tariff.calendar
    found = [
        tariff.periods[calendar.periods[calendar.index_at(at(f"2024-07-15T{instant}+08:00"))]].name
        for instant in case["input"]["instants"]
    ]
    assert found == case["expect"]["period"]


def test_price_change_does_not_reset_the_blocks() -> None:
    case = EXAMPLES["tariff-change-mid-month"]
    readings = case["input"]["readings"]
    spans = [(a["at"], b["at"], b["Wh"] - a["Wh"]) for a, b in pairwise(readings)]
    rated = rate(compiled("cn_hlj", "cn_hlj_april"), [0], *spans)
    check_charge(rated, case["expect"])
    assert [r.amount_nano for r in rated] == [case["expect"]["before_nano"], case["expect"]["after_nano"]]
    assert not any(interval.estimated for interval in rated)


def test_price_change_without_a_reading_is_shared_out_by_seconds() -> None:
    case = EXAMPLES["tariff-change-no-reading"]
    before, after = case["input"]["readings"]
    rated = rate(compiled("cn_hlj", "cn_hlj_april"), [0], (before["at"], after["at"], after["Wh"] - before["Wh"]))
    assert [line.energy_wh for line in rated[0].lines] == [
        case["expect"]["energy_before_Wh"],
        case["expect"]["energy_after_Wh"],
    ]
    assert rated[0].amount_nano == case["expect"]["charge_nano"]
    assert rated[0].estimated


def test_meter_exchange_goes_on_in_the_blocks() -> None:
    case = EXAMPLES["meter-exchange"]
    old, new = case["input"]["old"], case["input"]["new"]
    rated = rate(
        compiled("cn_hlj"),
        [case["input"]["cycle_energy_before_Wh"]],
        ("2024-04-01T00:00+08:00", "2024-04-10T00:00+08:00", old["to_Wh"] - old["from_Wh"]),
        ("2024-04-10T00:00+08:00", "2024-04-20T00:00+08:00", new["to_Wh"] - new["from_Wh"]),
    )
    check_charge(rated, case["expect"])


def test_rooms_of_one_account_share_its_blocks() -> None:
    case = EXAMPLES["landlord-account"]
    span = ("2024-04-30T23:00+08:00", "2024-04-30T23:00+08:00")
    rated = rate(compiled("cn_hen_flat"), [0], *[(*span, wh) for wh in case["input"]["rooms_Wh"]])
    check_charge(rated, case["expect"])


# --- properties ------------------------------------------------------------------------------

START = at("2024-03-30T00:00+00:00")
moments = st.integers(START, START + 3 * 86_400)
energies = st.integers(0, 5_000)


@st.composite
def runs(draw: st.DrawFn) -> list[Interval]:
    """Intervals of one account over some days, with gaps, some of no length."""
    ends = sorted(draw(st.lists(moments, min_size=2, max_size=12)))
    kept = draw(st.lists(st.booleans(), min_size=len(ends) - 1, max_size=len(ends) - 1))
    return [
        Interval(0, start, end, draw(energies)) for start, end, keep in zip(ends, ends[1:], kept, strict=False) if keep
    ]


def price_each_watt_hour(tariff: CompiledTariff, before_wh: int, parts: Sequence[tuple[int, int]]) -> int:
    """Cost by looking up every single watt-hour: slow, and nothing in it can be wrong at a limit."""
    amount_nano, position_wh = 0, before_wh
    for period_index, energy_wh in parts:
        period = tariff.periods[period_index]
        for _ in range(energy_wh):
            position_wh += 1
            block = sum(position_wh > limit for limit in period.limits_wh)
            amount_nano += period.prices_micro_per_kwh[block]
    return amount_nano


@given(
    limits=st.lists(st.integers(1, 60), max_size=4, unique=True).map(sorted),
    data=st.data(),
    before_wh=st.integers(0, 80),
    energy_wh=st.integers(0, 120),
)
def test_blocks_cost_what_each_watt_hour_costs(
    limits: list[int], data: st.DataObject, before_wh: int, energy_wh: int
) -> None:
    prices = data.draw(st.lists(st.integers(-9, 99), min_size=len(limits) + 1, max_size=len(limits) + 1))
    period = PeriodPrices("all", 0, tuple(limits), tuple(prices))
    tariff = CompiledTariff("made-up", CompiledCalendar((0,), (0,), (0,), 1000), (period,), 1, 1000)
    rated = reference_rate([tariff])([Position(0, (before_wh,))], [Interval(0, 10, 20, energy_wh)])
    assert rated[0].amount_nano == price_each_watt_hour(tariff, before_wh, [(0, energy_wh)])
    assert rated[0].cycle_energy_wh == (before_wh + energy_wh,)


@pytest.mark.parametrize("name", ["cn_hen", "cn_zj_tou", "order_matters", "gb_night"])
@given(run=runs(), cut=st.integers(0, 100))
def test_any_split_within_a_segment_costs_the_same(name: str, run: list[Interval], cut: int) -> None:
    tariff = compiled(name)
    calendar = tariff.calendar
    split: list[Interval] = []
    for interval in run:
        middle = interval.start_at + (interval.end_at - interval.start_at) * cut // 100
        inside = calendar.index_at(max(interval.start_at, interval.end_at - 1)) == calendar.index_at(interval.start_at)
        if not (inside and interval.start_at < middle < interval.end_at):
            split.append(interval)
            continue
        first_wh = interval.energy_wh * cut // 97  # not in proportion to time
        first_wh = min(first_wh, interval.energy_wh)
        split.append(Interval(0, interval.start_at, middle, first_wh))
        split.append(Interval(0, middle, interval.end_at, interval.energy_wh - first_wh))
    whole = reference_rate([tariff])([tariff.fresh_position(0)], run)
    parts = reference_rate([tariff])([tariff.fresh_position(0)], split)
    assert sum(r.amount_nano for r in whole) == sum(r.amount_nano for r in parts)
    assert [r.cycle_energy_wh for r in whole][-1:] == [r.cycle_energy_wh for r in parts][-1:]


@pytest.mark.parametrize("name", ["cn_hen", "cn_zj_tou", "order_matters", "own_blocks", "gb_night"])
@given(run=runs())
def test_split_at_calendar_boundaries_costs_the_same(name: str, run: list[Interval]) -> None:
    tariff = compiled(name)
    split: list[Interval] = []
    for interval in run:
        inner = [t for t in tariff.calendar.starts if interval.start_at < t < interval.end_at]
        edges = [interval.start_at, *inner, interval.end_at]
        durations = [end - start for start, end in pairwise(edges)]
        shares = share_by_seconds(interval.energy_wh, durations) if sum(durations) else [interval.energy_wh]
        split.extend(Interval(0, a, b, wh) for a, b, wh in zip(edges, edges[1:], shares, strict=False))
    whole = reference_rate([tariff])([tariff.fresh_position(0)], run)
    parts = reference_rate([tariff])([tariff.fresh_position(0)], split)
    assert sum(r.amount_nano for r in whole) == sum(r.amount_nano for r in parts)
    assert [r.cycle_energy_wh for r in whole][-1:] == [r.cycle_energy_wh for r in parts][-1:]
    assert not any(r.estimated for r in parts)


@given(parts=st.permutations([("peak", 120), ("valley", 80), ("peak", 40), ("valley", 60), ("peak", 7)]))
def test_order_is_immaterial_with_adders(parts: list[tuple[str, int]]) -> None:
    tariff = compiled("cn_hen")
    hours = {"peak": "T12:00+08:00", "valley": "T23:00+08:00"}
    intervals = [
        Interval(0, at(f"2024-04-{day + 1:02d}{hours[p]}"), at(f"2024-04-{day + 1:02d}{hours[p]}") + 60, kwh * 1000)
        for day, (p, kwh) in enumerate(parts)
    ]
    rated = reference_rate([tariff])([tariff.fresh_position(0)], intervals)
    # 307 kWh: 180 x 0.56 + 80 x 0.61 + 47 x 0.86, 167 x 0.03, -140 x 0.12
    assert sum(r.amount_nano for r in rated) == 178_230_000_000


@given(energy_wh=st.integers(0, ENERGY_WH_MAX), durations=st.lists(st.integers(1, 100_000), min_size=1, max_size=30))
def test_shares_add_up_and_none_is_off_by_a_whole_watt_hour(energy_wh: int, durations: list[int]) -> None:
    shares = share_by_seconds(energy_wh, durations)
    total_s = sum(durations)
    assert sum(shares) == energy_wh
    for share, duration in zip(shares, durations, strict=True):
        assert abs(share * total_s - energy_wh * duration) < total_s


# --- walls -----------------------------------------------------------------------------------

HOUR = (at("2024-04-02T00:00+08:00"), at("2024-04-02T01:00+08:00"))


@pytest.mark.parametrize(
    ("position", "intervals", "sentence"),
    [
        (Position(1, (0,)), [], "there is no tariff 1"),
        (Position(-1, (0,)), [], "there is no tariff -1"),
        (Position(0, (0, 0)), [], "counts 1 energies"),
        (Position(0, (-1,)), [], "is not within 1000000000 Wh"),
        (Position(0, (1_000_000_001,)), [], "is not within 1000000000 Wh"),
        (Position(0, (0,), AT_MAX + 1), [], "cycle start"),
        (Position(0, (0,)), [Interval(1, *HOUR, 1)], "account 1 has no position"),
        (Position(0, (0,)), [Interval(-1, *HOUR, 1)], "account -1 has no position"),
        (Position(0, (0,)), [Interval(0, HOUR[1], HOUR[0], 1)], "is not a span of 0 to 90000000 s"),
        (Position(0, (0,)), [Interval(0, HOUR[0], HOUR[0] + INTERVAL_S_MAX + 1, 1)], "is not a span of 0 to"),
        (Position(0, (0,)), [Interval(0, *HOUR, 1), Interval(0, HOUR[1] - 1, HOUR[1], 1)], "interval 1: starts at"),
        (Position(0, (0,)), [Interval(0, at(SPAN[0]) - 1, HOUR[1], 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, at(SPAN[0]), at(SPAN[0]), 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, HOUR[0], at(SPAN[1]) + 1, 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, *HOUR, -1)], "energy -1 Wh"),
        (Position(0, (10**9,)), [Interval(0, *HOUR, 1)], "energy 1 Wh, allowed is 0 up to 1000000000 Wh"),
        (Position(0, (0,)), [Interval(0, *HOUR, 10**9), Interval(0, HOUR[1], HOUR[1], 1)], "interval 1: energy 1 Wh"),
    ],
)
def test_what_cannot_be_rated_is_refused_with_its_place(
    position: Position, intervals: list[Interval], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        reference_rate([compiled("cn_hlj")])([position], intervals)


def test_what_is_just_within_the_walls_is_rated() -> None:
    tariff = compiled("cn_hlj")
    first_at, end_at = (at(text) for text in SPAN)
    intervals = [Interval(0, first_at, first_at + 1, 0), Interval(0, end_at - 1, end_at, 10**9)]
    rated = reference_rate([tariff])([Position(0, (0,))], intervals)
    assert rated[1].amount_nano == 170_000 * 510_000 + 90_000 * 560_000 + (10**9 - 260_000) * 810_000


def test_bounds_keep_every_amount_within_64_bits() -> None:
    assert ENERGY_WH_MAX * INTERVAL_S_MAX < 2**63
    assert AMOUNT_NANO_MAX < 2**63
