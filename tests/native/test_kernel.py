"""The kernel against the reference: vectors, random tariffs, walls of its bounds, nothing written on refusal."""

import json
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
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
    reference_rate,
)
from edge.core.rating_arrays import (
    NO_CYCLE,
    PackedIntervals,
    PackedTariffs,
    array_rate,
    array_rate_accounts,
    merge_rated,
    pack_intervals,
    pack_tariffs,
)
from edge.core.tariff import BLOCKS_MAX, PERIODS_MAX, compile_tariff, load_tariff
from edge.zone import zone_offsets
from native.kernel import KernelRefused, TariffKernel

VECTORS = Path(__file__).parent.parent / "vectors"
SPAN = ("2023-12-01T00:00+00:00", "2025-01-01T00:00+00:00")


def lines_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / name).read_text("utf-8").splitlines()]


DOCUMENTS = {line["id"]: line["document"] for line in lines_of("rating_tariffs.jsonl")}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@cache
def compiled(name: str) -> CompiledTariff:
    tariff = load_tariff(DOCUMENTS[name])
    first_at, end_at = (at(text) for text in SPAN)
    return compile_tariff([tariff], zone_offsets(tariff.time_zone, first_at, end_at), first_at, end_at)


@pytest.mark.parametrize("vector", lines_of("rating.jsonl"), ids=lambda vector: vector["id"])
def test_kernel_agrees_with_the_vector(vector: dict[str, Any]) -> None:
    tariffs = [compiled(name) for name in vector["tariffs"]]
    positions = [
        Position(p["tariff"], tuple(p["cycle_energy_wh"]), p["cycle_start"] and at(p["cycle_start"]))
        for p in vector["positions"]
    ]
    intervals = [Interval(i["account"], at(i["start"]), at(i["end"]), i["energy_wh"]) for i in vector["intervals"]]
    rated = array_rate(TariffKernel, tariffs)(positions, intervals)
    for interval, expect in zip(rated, vector["expect"], strict=True):
        lines = [[line.period, line.block, line.energy_wh, line.price_micro_per_kwh] for line in interval.lines]
        assert lines == expect["lines"]
        assert interval.amount_nano == expect["amount_nano"]
        assert list(interval.cycle_energy_wh) == expect["cycle_energy_wh"]
        assert interval.estimated == expect["estimated"]
    assert rated == reference_rate(tariffs)(positions, intervals)


# --- random tariffs --------------------------------------------------------------------------

SPAN_S = 4000


@st.composite
def tariffs(draw: st.DrawFn) -> CompiledTariff:
    """A tariff of some periods, blocks and cycles over [-100, 4000), with prices of either sign."""
    period_count = draw(st.integers(1, 4))
    own = draw(st.booleans())  # whether each period counts for itself
    energy_wh_max = draw(st.sampled_from([1000, 10**9, ENERGY_WH_MAX]))
    price_max = AMOUNT_NANO_MAX // energy_wh_max
    price = st.integers(-price_max, price_max) | st.sampled_from([0, 1, price_max, -price_max])
    periods = []
    for index in range(period_count):
        limits = sorted(draw(st.sets(st.integers(1, 400), max_size=4)))
        prices = draw(st.lists(price, min_size=len(limits) + 1, max_size=len(limits) + 1))
        periods.append(PeriodPrices(f"p{index}", index if own else 0, tuple(limits), tuple(prices)))
    starts = sorted({-100, *draw(st.sets(st.integers(-99, SPAN_S - 1), max_size=12))})
    rows = [draw(st.integers(0, period_count - 1)) for _ in starts]
    cycle_starts, cycle = [], starts[0] - draw(st.integers(0, 50))
    for start in starts:
        cycle = start if draw(st.integers(0, 3)) == 0 else cycle
        cycle_starts.append(cycle)
    calendar = CompiledCalendar(tuple(starts), tuple(rows), tuple(cycle_starts), SPAN_S)
    return CompiledTariff("made-up", calendar, tuple(periods), period_count if own else 1, energy_wh_max)


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[CompiledTariff], list[Position], list[Interval]]:
    """Some tariffs, accounts on them and their intervals, interleaved; mostly what can be rated."""
    of_call = draw(st.lists(tariffs(), min_size=1, max_size=3))
    positions, intervals = [], []
    wild = st.sampled_from([-1, 0, 1, SPAN_S, -100, -101, 2**62, 10**30])
    for account in range(draw(st.integers(0, 4))):
        number = draw(st.integers(0, len(of_call) - 1))
        tariff = of_call[number]
        energies = draw(st.lists(st.integers(0, 200), min_size=tariff.position_count, max_size=tariff.position_count))
        cycle = draw(st.none() | st.integers(-150, SPAN_S))
        positions.append(Position(number, tuple(energies), cycle))
        edge = st.integers(-100, SPAN_S) | st.sampled_from(tariff.calendar.starts)
        ends = sorted(draw(st.lists(edge, min_size=2, max_size=8)))
        for start, end in pairwise(ends):
            energy = draw(st.integers(0, 300))
            intervals.append(Interval(account, start, end, energy, explained=draw(st.booleans())))
    if intervals and draw(st.integers(0, 5)) == 0:
        index = draw(st.integers(0, len(intervals) - 1))
        field = draw(st.sampled_from(["account", "start_at", "end_at", "energy_wh"]))
        intervals[index] = replace(intervals[index], **{field: draw(wild)})  # type: ignore[arg-type]
    if draw(st.booleans()):  # interleaved, each account still in its order
        intervals.sort(key=lambda interval: interval.start_at)
    return of_call, positions, intervals


def outcome(rate: Callable[..., Any], positions: Sequence[Position], intervals: Sequence[Interval]) -> Any:
    try:
        return rate(positions, intervals)
    except ValueError as refusal:
        return str(refusal)


@settings(max_examples=4 * settings().max_examples)
@given(call=calls())
def test_kernel_and_reference_agree_to_the_bit(
    call: tuple[list[CompiledTariff], list[Position], list[Interval]],
) -> None:
    of_call, positions, intervals = call
    reference = outcome(reference_rate(of_call), positions, intervals)
    assert outcome(array_rate(TariffKernel, of_call), positions, intervals) == reference


@given(call=calls())
def test_totals_of_accounts_are_the_sums_of_their_intervals(
    call: tuple[list[CompiledTariff], list[Position], list[Interval]],
) -> None:
    of_call, positions, intervals = call
    intervals = sorted(intervals, key=lambda interval: interval.account)
    rated = outcome(reference_rate(of_call), positions, intervals)
    if isinstance(rated, str):
        return
    packed = pack_intervals(positions, intervals)
    bills = TariffKernel(pack_tariffs(of_call)).rate_arrays(packed)
    for account, position in enumerate(positions):
        mine = [r for r, interval in zip(rated, intervals, strict=True) if interval.account == account]
        assert bills.account_amount_nano[account] == sum(r.amount_nano for r in mine)
        first = account * packed.position_stride
        after = tuple(bills.account_energy_wh[first : first + len(position.cycle_energy_wh)])
        assert after == (mine[-1].cycle_energy_wh if mine else position.cycle_energy_wh)
        before = NO_CYCLE if position.cycle_start_at is None else position.cycle_start_at
        assert bills.account_cycle_start_at[account] == (mine[-1].cycle_start_at if mine else before)


@given(call=calls())
def test_accounts_rated_as_one_are_their_intervals_merged(
    call: tuple[list[CompiledTariff], list[Position], list[Interval]],
) -> None:
    of_call, positions, drawn = call
    intervals = [replace(interval, explained=True) for interval in drawn]  # merged ones have their lines in any case
    rated = outcome(reference_rate(of_call), positions, intervals)
    merged = outcome(array_rate_accounts(TariffKernel, of_call), positions, drawn)
    if isinstance(rated, str):
        assert merged == rated
        return
    mine: list[list[Any]] = [[] for _ in positions]
    for interval, of_interval in zip(intervals, rated, strict=True):
        mine[interval.account].append(of_interval)
    assert merged == [merge_rated(of_account) if of_account else None for of_account in mine]


def test_lines_of_intervals_rated_as_one_stand_in_the_order_they_first_had_energy() -> None:
    periods = (PeriodPrices("peak", 0, (10,), (5, 6)), PeriodPrices("valley", 0, (10,), (1, 2)))
    tariff = CompiledTariff("two", CompiledCalendar((0, 10, 20), (1, 0, 1), (0, 0, 0), 30), periods, 1, 1000)
    intervals = [Interval(0, at, at + 10, 8) for at in (0, 10, 20)]
    (rated,) = array_rate_accounts(TariffKernel, [tariff])([tariff.fresh_position(0)], intervals)
    assert rated is not None
    lines = [(line.period, line.block, line.energy_wh) for line in rated.lines]
    assert lines == [("valley", 1, 8), ("peak", 1, 2), ("peak", 2, 6), ("valley", 2, 8)]
    assert (rated.amount_nano, rated.cycle_energy_wh) == (8 + 10 + 36 + 16, (24,))


@pytest.mark.parametrize("group_intervals", [1, 5, 10**6])
@given(call=calls())
def test_totals_alone_are_those_of_the_whole_answer(
    group_intervals: int, call: tuple[list[CompiledTariff], list[Position], list[Interval]]
) -> None:
    of_call, positions, intervals = call
    intervals = sorted(intervals, key=lambda interval: interval.account)
    if isinstance(outcome(reference_rate(of_call), positions, intervals), str):
        return
    kernel, packed = TariffKernel(pack_tariffs(of_call)), pack_intervals(positions, intervals)
    bills = kernel.rate_arrays(packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("native.kernel._GROUP_INTERVALS", group_intervals)
        patch.setattr("native.kernel._WORTH_INTERVALS", 0)
        totals = kernel.rate_totals(packed)
    for name in ("account_amount_nano", "account_energy_wh", "account_cycle_start_at"):
        assert getattr(totals, name) == getattr(bills, name)


@settings(max_examples=4 * settings().max_examples)
@given(
    # short parts have close and equal remainders, long ones far apart
    durations=st.lists(st.integers(1, 5), min_size=2, max_size=12)
    | st.lists(st.integers(1, 50), min_size=2, max_size=40),
    energy_wh=st.integers(0, 10**9) | st.integers(0, 100),
)
def test_energy_is_shared_out_alike_over_many_segments(durations: list[int], energy_wh: int) -> None:
    edges = [0, *accumulate(durations)]
    calendar = CompiledCalendar(tuple(edges[:-1]), tuple(range(len(durations))), (0,) * len(durations), edges[-1])
    periods = tuple(PeriodPrices(f"p{n}", 0, (), (n + 1,)) for n in range(len(durations)))
    tariff = CompiledTariff("made-up", calendar, periods, 1, 10**9)
    call = ([tariff.fresh_position(0)], [Interval(0, 0, edges[-1], energy_wh)])
    assert array_rate(TariffKernel, [tariff])(*call) == reference_rate([tariff])(*call)


# --- walls of the bounds ---------------------------------------------------------------------


def one_price(energy_wh_max: int, price: int, span_s: int = 100) -> CompiledTariff:
    calendar = CompiledCalendar((0, span_s // 2), (0, 0), (0, 0), span_s)
    return CompiledTariff("wall", calendar, (PeriodPrices("all", 0, (), (price,)),), 1, energy_wh_max)


@pytest.mark.parametrize("energy_wh_max", [1, 1000, 10**9, ENERGY_WH_MAX])
@pytest.mark.parametrize("sign", [1, -1])
def test_largest_energy_at_the_largest_price_is_exact(energy_wh_max: int, sign: int) -> None:
    price = sign * (AMOUNT_NANO_MAX // energy_wh_max)
    tariff = one_price(energy_wh_max, price)
    rated = array_rate(TariffKernel, [tariff])([Position(0, (0,))], [Interval(0, 0, 100, energy_wh_max)])
    assert rated[0].amount_nano == energy_wh_max * price
    with pytest.raises(KernelRefused, match="not well formed"):
        TariffKernel(pack_tariffs([one_price(energy_wh_max, price + sign)]))


def test_longest_interval_with_the_largest_energy_is_exact() -> None:
    tariff = one_price(ENERGY_WH_MAX, 1, INTERVAL_S_MAX)
    call = ([Position(0, (0,))], [Interval(0, 0, INTERVAL_S_MAX, ENERGY_WH_MAX)])
    assert array_rate(TariffKernel, [tariff])(*call) == reference_rate([tariff])(*call)
    longer = pack_intervals([Position(0, (0,))], [Interval(0, 0, INTERVAL_S_MAX + 1, 1)])
    with pytest.raises(KernelRefused, match="is too long"):
        TariffKernel(pack_tariffs([one_price(ENERGY_WH_MAX, 1, INTERVAL_S_MAX + 1)])).rate_arrays(longer)


@pytest.mark.parametrize(
    ("position", "intervals", "sentence"),
    [
        (Position(1, (0,)), [], "there is no tariff 1"),
        (Position(-1, (0,)), [], "there is no tariff -1"),
        (Position(0, (-1,)), [], "is not within 1000 Wh"),
        (Position(0, (1001,)), [], "is not within 1000 Wh"),
        (Position(0, (0, 0)), [], "counts 1 energies"),
        (Position(0, (0,), AT_MAX + 1), [], "cycle start"),
        (Position(0, (0,), -AT_MAX - 1), [], "cycle start"),
        (Position(0, (2**70,)), [], "is not within 1000 Wh"),
        (Position(0, (0,)), [Interval(1, 0, 1, 1)], "account 1 has no position"),
        (Position(0, (0,)), [Interval(0, 2, 1, 1)], "is not a span"),
        (Position(0, (0,)), [Interval(0, 0, 101, 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, -1, 1, 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, 0, 0, 1)], "not within the compiled calendar"),
        (Position(0, (0,)), [Interval(0, -(2**63), 1, 1)], "is not a span"),
        (Position(0, (0,)), [Interval(0, 0, 5, 1), Interval(0, 4, 5, 1)], "before 5, the end of the one before"),
        (Position(0, (0,)), [Interval(0, 0, 5, -1)], "energy -1 Wh"),
        (Position(0, (0,)), [Interval(0, 0, 5, 1001)], "energy 1001 Wh"),
        (Position(0, (500,)), [Interval(0, 0, 5, 250), Interval(0, 5, 6, 251)], "interval 1: energy 251 Wh"),
    ],
)
def test_kernel_refuses_in_the_words_of_the_reference(
    position: Position, intervals: list[Interval], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        array_rate(TariffKernel, [one_price(1000, 5)])([position], intervals)


def spoilt(tables: PackedTariffs, name: str, index: int, value: int) -> PackedTariffs:
    changed = array("q", getattr(tables, name))
    changed[index] = value
    return replace(tables, **{name: changed})


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("tariff_first_segment", 0, 1),
        ("tariff_first_segment", 1, 1),
        ("tariff_first_segment", 1, -1),
        ("tariff_first_segment", 1, 2**62),
        ("tariff_first_segment", 2, 5),
        ("tariff_first_period", 1, 0),
        ("tariff_first_period", 2, 3),
        ("tariff_position_count", 0, 0),
        ("tariff_position_count", 0, 2**40),
        ("tariff_energy_wh_max", 0, 0),
        ("tariff_energy_wh_max", 0, ENERGY_WH_MAX + 1),
        ("segment_start_at", 1, 0),
        ("segment_start_at", 0, -AT_MAX - 1),
        ("segment_start_at", 2, AT_MAX + 1),
        ("segment_period", 0, -1),
        ("segment_period", 0, 1),
        ("segment_period", 3, 0),
        ("segment_cycle_start_at", 0, 1),
        ("segment_cycle_start_at", 1, -1),
        ("segment_cycle_start_at", 0, -AT_MAX - 1),
        ("period_first_cell", 0, 1),
        ("period_first_cell", 1, 0),
        ("period_position", 0, 1),
        ("period_position", 0, -1),
        ("cell_limit_wh", 0, 0),
        ("cell_limit_wh", 0, 999),
        ("cell_limit_wh", 0, ENERGY_WH_MAX + 1),
        ("cell_price_micro_per_kwh", 0, AMOUNT_NANO_MAX // 1000 + 1),
        ("cell_price_micro_per_kwh", 0, -(2**63)),
    ],
)
def test_tables_that_break_a_rule_are_refused(name: str, index: int, value: int) -> None:
    tables = pack_tariffs([one_price(1000, 5), one_price(1000, 7)])
    TariffKernel(tables)
    with pytest.raises(KernelRefused, match="not well formed"):
        TariffKernel(spoilt(tables, name, index, value))


@pytest.mark.parametrize("name", list(PackedTariffs.__dataclass_fields__))
def test_tables_of_wrong_length_are_refused(name: str) -> None:
    tables = pack_tariffs([one_price(1000, 5), one_price(1000, 7)])
    with pytest.raises(KernelRefused):
        TariffKernel(replace(tables, **{name: array("q", getattr(tables, name))[:-1]}))


INTERVAL_FIELDS = [name for name in PackedIntervals.__dataclass_fields__ if name != "position_stride"]


@pytest.mark.parametrize("name", INTERVAL_FIELDS)
def test_intervals_of_wrong_length_are_refused(name: str) -> None:
    packed = pack_intervals([Position(0, (0,))] * 2, [Interval(0, 0, 1, 1), Interval(1, 0, 1, 1)])
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    kernel.rate_arrays(packed)
    with pytest.raises(KernelRefused, match="do not fit together"):
        kernel.rate_arrays(replace(packed, **{name: getattr(packed, name)[:-1]}))


@pytest.mark.parametrize("first", [(1, 1, 2), (0, 3, 2), (0, -1, 2), (0, 1, 1), (0, 1, 3), (0, 1, -1)])
def test_runs_of_intervals_that_do_not_follow_are_refused(first: tuple[int, ...]) -> None:
    packed = pack_intervals([Position(0, (0,))] * 2, [Interval(0, 0, 1, 1), Interval(1, 0, 1, 1)])
    with pytest.raises(KernelRefused):
        TariffKernel(pack_tariffs([one_price(1000, 5)])).rate_arrays(replace(packed, first_interval=array("q", first)))


@pytest.mark.parametrize("stride", [0, -1, 2])
def test_stride_that_does_not_fit_is_refused(stride: int) -> None:
    packed = pack_intervals([Position(0, (0,))], [Interval(0, 0, 1, 1)])
    with pytest.raises(KernelRefused):
        TariffKernel(pack_tariffs([one_price(1000, 5)])).rate_arrays(replace(packed, position_stride=stride))


def test_what_is_no_array_of_64_bit_integers_is_refused() -> None:
    packed = pack_intervals([Position(0, (0,))], [Interval(0, 0, 1, 1)])
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    wrongs: tuple[Any, ...] = (array("i", [1, 0]), array("d", [1.0]), b"\1" * 8)
    for wrong in wrongs:
        with pytest.raises(KernelRefused, match="64-bit integers"):
            kernel.rate_arrays(replace(packed, interval_energy_wh=wrong))


def test_nothing_is_written_when_the_last_interval_is_refused() -> None:
    from native._kernel import ffi, lib

    tables = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    marks = {name: ffi.new("int64_t[]", [-77] * 2) for name in ("amount", "sum", "energy", "cycle")}
    detail = {name: ffi.new("int64_t[]", [-77] * 2) for name in ("energy", "cycle", "estimated", "cell")}
    inputs = [ffi.new("int64_t[]", values) for values in ([0, 0], [0, 1, 2], [0, 0], [0, 0], [0, 0], [9, 101], [5, 5])]
    accounts = ffi.new("struct tariff_accounts *", [2, 1, *inputs])
    bills = ffi.new("struct tariff_bills *", list(marks.values()))
    details = ffi.new("struct tariff_details *", [1, *detail.values()])
    assert lib.tariff_rate(tables._tables, accounts, bills, details) == lib.TARIFF_OUTSIDE_SPAN
    assert all(list(written) == [-77, -77] for written in (*marks.values(), *detail.values()))
    inputs[5][1] = 100
    assert lib.tariff_rate(tables._tables, accounts, bills, details) == lib.TARIFF_OK
    assert [list(written) for written in marks.values()] == [[25, 25], [25, 25], [5, 5], [0, 0]]
    assert [list(written) for written in detail.values()] == [[5, 5], [0, 0], [0, 1], [5, 5]]


def test_header_has_the_bounds_of_the_reference() -> None:
    header = (Path(__file__).parent.parent.parent / "native/include/kernel.h").read_text("ascii")
    for name, value in [
        ("TARIFF_ENERGY_WH_MAX", ENERGY_WH_MAX),
        ("TARIFF_INTERVAL_S_MAX", INTERVAL_S_MAX),
        ("TARIFF_AMOUNT_NANO_MAX", AMOUNT_NANO_MAX),
        ("TARIFF_AT_MAX", AT_MAX),
    ]:
        assert f"#define {name} INT64_C({value})" in header


def test_largest_document_fits_the_kernel() -> None:
    periods = tuple(
        PeriodPrices(f"p{n}", n, tuple(range(1, BLOCKS_MAX)), (1,) * BLOCKS_MAX) for n in range(PERIODS_MAX)
    )
    calendar = CompiledCalendar((0,), (0,), (0,), 100)
    tariff = CompiledTariff("large", calendar, periods, PERIODS_MAX, 1000)
    call = ([tariff.fresh_position(0)], [Interval(0, 0, 100, 500)])
    assert array_rate(TariffKernel, [tariff])(*call) == reference_rate([tariff])(*call)


def test_tables_stay_alive_with_the_kernel() -> None:
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    clutter = [array("q", [7]) * 64 for _ in range(1000)]
    bills = kernel.rate_arrays(pack_intervals([Position(0, (0,))], [Interval(0, 0, 1, 3)]))
    assert bills.amount_nano[0] == 15
    assert len(clutter) == 1000


def test_prepared_call_rates_what_now_stands_in_the_arrays() -> None:
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    packed = pack_intervals([Position(0, (0,))] * 2, [Interval(0, 0, 1, 3), Interval(1, 0, 1, 4)])
    call = kernel.prepare(packed, details=True)
    first = call.rate()
    assert list(first.amount_nano) == [15, 20]
    packed.interval_energy_wh[1] = 7
    packed.energy_wh[1] = 100
    assert call.rate() is first
    assert list(first.amount_nano) == [15, 35]
    assert list(first.account_energy_wh) == [3, 107]
    assert first == kernel.rate_arrays(packed, details=True)
    with pytest.raises(BufferError):  # the arrays keep their length as long as the call lives
        packed.interval_energy_wh.append(1)


def test_prepared_call_that_is_refused_keeps_the_numbers_of_the_call_before() -> None:
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    packed = pack_intervals([Position(0, (0,))] * 2, [Interval(0, 0, 1, 3), Interval(1, 0, 1, 4)])
    call = kernel.prepare(packed)
    bills = call.rate()
    packed.interval_energy_wh[0], packed.interval_energy_wh[1] = 9, -1
    with pytest.raises(KernelRefused, match="an energy is below 0"):
        call.rate()
    assert list(bills.amount_nano) == [15, 20]
    packed.first_interval[2] = 3  # would let the kernel read beyond the arrays
    with pytest.raises(KernelRefused, match="first_interval ends with 3 of 2"):
        call.rate()


def test_prepared_call_outlives_the_kernel_and_the_arrays_it_was_made_of() -> None:
    def prepared() -> Any:
        tables = pack_tariffs([one_price(1000, 5)])
        return TariffKernel(tables).prepare(pack_intervals([Position(0, (0,))], [Interval(0, 0, 1, 3)]))

    calls_made = [prepared() for _ in range(100)]
    clutter = [array("q", [7]) * size for size in range(1, 100) for _ in range(20)]
    assert [list(call.rate().amount_nano) for call in calls_made] == [[15]] * 100
    assert len(clutter) == 1980


def test_totals_of_a_fleet_are_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("native.kernel._GROUP_INTERVALS", 1)
    monkeypatch.setattr("native.kernel._WORTH_INTERVALS", 0)
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    intervals = [Interval(account, 0, 1, 3) for account in range(4)]
    packed = pack_intervals([Position(0, (0,))] * 4, intervals)
    assert list(kernel.rate_totals(packed).account_amount_nano) == [15] * 4
    with pytest.raises(KernelRefused, match="an energy is below 0"):
        kernel.rate_totals(replace(packed, interval_energy_wh=array("q", [3, 3, 3, -1])))
    for wrong in ((1, 1, 2, 3, 4), (0, 2, 1, 3, 4), (0, 1, 9, 3, 4), (0, -1, 2, 3, 4), (0, 1, 2, 3, 5)):
        with pytest.raises(KernelRefused):
            kernel.rate_totals(replace(packed, first_interval=array("q", wrong)))


def test_a_call_without_accounts_or_intervals_owes_nothing() -> None:
    kernel = TariffKernel(pack_tariffs([one_price(1000, 5)]))
    nobody, idle = pack_intervals([], []), pack_intervals([Position(0, (8,))], [])
    assert list(kernel.rate_totals(nobody).account_amount_nano) == []
    assert list(kernel.rate_arrays(nobody).amount_nano) == []
    assert list(kernel.rate_totals(idle).account_energy_wh) == [8]


def test_kernel_may_be_called_from_several_threads_at_once() -> None:
    tariff = compiled("cn_zj_tou")
    kernel = TariffKernel(pack_tariffs([tariff]))
    first_at = at(SPAN[0])
    packed = pack_intervals(
        [tariff.fresh_position(0)],
        [Interval(0, first_at + n * 900, first_at + n * 900 + 900, n % 700) for n in range(9000)],
    )
    totals: list[int] = []
    threads = [
        threading.Thread(target=lambda: totals.extend(kernel.rate_arrays(packed).account_amount_nano)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(totals) == 4
    assert len(set(totals)) == 1
