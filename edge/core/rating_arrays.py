"""The rating through a kernel that works on whole arrays: what goes in and out, packed and unpacked.

The same Rate as `reference_rate`, to the bit, with one call per round over the border. Units as
in edge.core.rating; arrays hold signed 64-bit integers. The layout is native/include/kernel.h's,
which says what each array means; this module neither imports nor needs the kernel.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Protocol

from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.core.rating import (
    ENERGY_WH_MAX,
    CompiledTariff,
    Interval,
    Position,
    Rate,
    RatedInterval,
    RatedLine,
    check_intervals,
)

NO_CYCLE = -(2**63)  # cycle_start_at of a position that belongs to no cycle yet

Int64s = array  # of type code "q"
_rated, _rated_line = quickly(RatedInterval), quickly(RatedLine)


@dataclass(frozen=True, slots=True)
class PackedTariffs:
    """Tariffs as flat tables: `struct tariff_tables`. Numbers of segments, periods and cells are over all tariffs."""

    tariff_first_segment: "Int64s[int]"
    tariff_first_period: "Int64s[int]"
    tariff_position_count: "Int64s[int]"
    tariff_energy_wh_max: "Int64s[int]"
    segment_start_at: "Int64s[int]"
    segment_period: "Int64s[int]"
    segment_cycle_start_at: "Int64s[int]"
    period_first_cell: "Int64s[int]"
    period_position: "Int64s[int]"
    cell_limit_wh: "Int64s[int]"
    cell_price_micro_per_kwh: "Int64s[int]"


@dataclass(frozen=True, slots=True)
class PackedIntervals:
    """Accounts with their positions, and their intervals one account after the other."""

    position_stride: int  # entries of energy_wh for each account
    tariff: "Int64s[int]"
    first_interval: "Int64s[int]"  # one more than accounts
    energy_wh: "Int64s[int]"
    cycle_start_at: "Int64s[int]"
    interval_start_at: "Int64s[int]"
    interval_end_at: "Int64s[int]"
    interval_energy_wh: "Int64s[int]"


class KernelDetails(Protocol):
    """What a kernel says about every interval: `struct tariff_details`."""

    @property
    def cell_stride(self) -> int: ...

    @property
    def energy_wh(self) -> "Int64s[int]": ...

    @property
    def cycle_start_at(self) -> "Int64s[int]": ...

    @property
    def estimated(self) -> "Int64s[int]": ...

    @property
    def cell_energy_wh(self) -> "Int64s[int]": ...


class KernelBills(Protocol):
    """What a kernel answers: an amount for each interval, and what stands behind it."""

    @property
    def amount_nano(self) -> "Int64s[int]": ...

    @property
    def details(self) -> KernelDetails | None: ...


class Kernel(Protocol):
    """A rating kernel with its tariffs. Raises ValueError, and rates nothing, when it refuses."""

    def rate_arrays(self, intervals: PackedIntervals, details: bool = False) -> KernelBills: ...


RateAccounts = Callable[[Sequence[Position], Sequence[Interval]], Sequence[RatedInterval | None]]


def array_rate(open_kernel: Callable[[PackedTariffs], Kernel], tariffs: Sequence[CompiledTariff]) -> Rate:
    """A Rate on a kernel: `array_rate(native.kernel.TariffKernel, tariffs)`."""
    kernel = open_kernel(pack_tariffs(tariffs))
    cells = [_cells(tariff) for tariff in tariffs]

    def rate(positions: Sequence[Position], intervals: Sequence[Interval]) -> Sequence[RatedInterval]:
        order = _by_account(intervals)
        packed, bills = _rate_packed(kernel, tariffs, positions, intervals, order)
        explained = [interval.explained for interval in intervals]
        if order is None:
            return _unpack(bills, packed, tariffs, cells, explained)
        rated = _unpack(bills, packed, tariffs, cells, [explained[index] for index in order])
        places = sorted(range(len(order)), key=order.__getitem__)  # the inverse of the order
        return [rated[place] for place in places]

    return rate


def array_rate_accounts(
    open_kernel: Callable[[PackedTariffs], Kernel], tariffs: Sequence[CompiledTariff]
) -> RateAccounts:
    """Like array_rate, but what `merge_rated` makes of the intervals of each account, without making them.

    None for an account without intervals. Its place in the answer is the position's.
    """
    kernel = open_kernel(pack_tariffs(tariffs))
    cells = [_cells(tariff) for tariff in tariffs]

    def rate(positions: Sequence[Position], intervals: Sequence[Interval]) -> Sequence[RatedInterval | None]:
        packed, bills = _rate_packed(kernel, tariffs, positions, intervals, _by_account(intervals))
        merged: list[RatedInterval | None] = []
        for account, position in enumerate(positions):
            rows = range(packed.first_interval[account], packed.first_interval[account + 1])
            stride, count = packed.position_stride, tariffs[position.tariff].position_count
            merged.append(_unpack_merged(bills, rows, stride, count, cells[position.tariff]) if rows else None)
        return merged

    return rate


def merge_rated(rated: Sequence[RatedInterval]) -> RatedInterval:
    """What intervals of one account, at least one, come to together, and the position after the last.

    One line for each period, block and price, in the order in which they first had energy.
    """
    lines = ((line.period, line.block, line.price_micro_per_kwh, line.energy_wh) for r in rated for line in r.lines)
    last = rated[-1]
    return RatedInterval(
        amount_nano=sum(interval.amount_nano for interval in rated),
        lines=_merged_lines(lines),
        cycle_energy_wh=last.cycle_energy_wh,
        cycle_start_at=last.cycle_start_at,
        estimated=any(interval.estimated for interval in rated),
    )


def pack_tariffs(tariffs: Sequence[CompiledTariff]) -> PackedTariffs:
    """The tables of several tariffs, one after the other."""
    segment_start_at, segment_period, segment_cycle_start_at = array("q"), array("q"), array("q")
    periods = [period for tariff in tariffs for period in tariff.periods]
    first_periods = [0, *accumulate(len(tariff.periods) for tariff in tariffs)]
    for tariff, first_period in zip(tariffs, first_periods, strict=False):
        calendar = tariff.calendar
        segment_start_at.extend([*calendar.starts, calendar.end_at])  # the end is a segment of its own
        segment_period.extend(first_period + period for period in (*calendar.periods, calendar.periods[-1]))
        segment_cycle_start_at.extend([*calendar.cycle_starts, calendar.cycle_starts[-1]])
    return PackedTariffs(
        tariff_first_segment=array("q", [0, *accumulate(len(t.calendar.starts) + 1 for t in tariffs)]),
        tariff_first_period=array("q", first_periods),
        tariff_position_count=array("q", [tariff.position_count for tariff in tariffs]),
        tariff_energy_wh_max=array("q", [tariff.energy_wh_max for tariff in tariffs]),
        segment_start_at=segment_start_at,
        segment_period=segment_period,
        segment_cycle_start_at=segment_cycle_start_at,
        period_first_cell=array("q", [0, *accumulate(len(period.prices_micro_per_kwh) for period in periods)]),
        period_position=array("q", [period.position for period in periods]),
        cell_limit_wh=array("q", [limit for period in periods for limit in (*period.limits_wh, ENERGY_WH_MAX)]),
        cell_price_micro_per_kwh=array("q", [price for period in periods for price in period.prices_micro_per_kwh]),
    )


def pack_intervals(positions: Sequence[Position], intervals: Sequence[Interval]) -> PackedIntervals:
    """Positions and intervals as arrays. The intervals must be sorted by account."""
    stride = max((len(position.cycle_energy_wh) for position in positions), default=1)
    energies: list[int] = []
    for position in positions:
        energies.extend(position.cycle_energy_wh)
        energies.extend([0] * (stride - len(position.cycle_energy_wh)))
    counts = [0] * (len(positions) + 1)
    for interval in intervals:
        if not 0 <= interval.account < len(positions):
            raise ValueError(f"account {interval.account} has no position")
        counts[interval.account + 1] += 1
    cycles = (NO_CYCLE if p.cycle_start_at is None else p.cycle_start_at for p in positions)
    return PackedIntervals(
        position_stride=stride,
        tariff=array("q", [position.tariff for position in positions]),
        first_interval=array("q", accumulate(counts)),
        energy_wh=array("q", energies),
        cycle_start_at=array("q", cycles),
        interval_start_at=array("q", [interval.start_at for interval in intervals]),
        interval_end_at=array("q", [interval.end_at for interval in intervals]),
        interval_energy_wh=array("q", [interval.energy_wh for interval in intervals]),
    )


def _check_counts(tariffs: Sequence[CompiledTariff], positions: Sequence[Position]) -> None:
    """What the arrays cannot show: a position with too few or too many entries for its tariff."""
    for position in positions:
        known = 0 <= position.tariff < len(tariffs)
        if not known or len(position.cycle_energy_wh) != tariffs[position.tariff].position_count:
            raise ValueError("a position does not fit its tariff")


def _by_account(intervals: Sequence[Interval]) -> list[int] | None:
    """Indexes of the intervals with those of an account together, in their order; None if they stand so."""
    accounts = [interval.account for interval in intervals]
    if all(before <= after for before, after in pairwise(accounts)):
        return None
    return sorted(range(len(accounts)), key=accounts.__getitem__)  # stable


def _rate_packed(
    kernel: Kernel,
    tariffs: Sequence[CompiledTariff],
    positions: Sequence[Position],
    intervals: Sequence[Interval],
    order: Sequence[int] | None,
) -> tuple[PackedIntervals, KernelBills]:
    """The kernel's answer, or ValueError in the words of the reference."""
    try:
        _check_counts(tariffs, positions)
        packed = pack_intervals(positions, intervals if order is None else [intervals[index] for index in order])
        return packed, kernel.rate_arrays(packed, details=True)
    except (ValueError, OverflowError):
        check_intervals(tariffs, positions, intervals)  # says which interval and why
        raise


# A cell is one price of a tariff: (period, block, price in micro per kWh).
_Cell = tuple[str, int, int]


def _cells(tariff: CompiledTariff) -> list[_Cell]:
    return [
        (period.name, index + 1, price)
        for period in tariff.periods
        for index, price in enumerate(period.prices_micro_per_kwh)
    ]


def _unpack(
    bills: KernelBills,
    packed: PackedIntervals,
    tariffs: Sequence[CompiledTariff],
    cells: Sequence[Sequence[_Cell]],
    explained: Sequence[bool],
) -> list[RatedInterval]:
    details = bills.details
    assert details is not None
    # Out of lists, not arrays: an array makes a new number at every look.
    amounts, cycles, estimated = bills.amount_nano.tolist(), details.cycle_start_at.tolist(), details.estimated.tolist()
    used_wh, after_wh = details.cell_energy_wh.tolist(), details.energy_wh.tolist()
    stride, cell_stride = packed.position_stride, details.cell_stride
    rated: list[RatedInterval] = []
    for account, tariff in enumerate(packed.tariff):
        position_count, of_tariff = tariffs[tariff].position_count, cells[tariff]
        for row in range(packed.first_interval[account], packed.first_interval[account + 1]):
            lines: tuple[RatedLine, ...] = ()
            if explained[row]:
                used = used_wh[row * cell_stride : row * cell_stride + len(of_tariff)]
                lines = tuple([_line(of_tariff[number], wh) for number, wh in enumerate(used) if wh])
            after = tuple(after_wh[row * stride : row * stride + position_count])
            rated.append(_rated(amounts[row], lines, after, cycles[row], estimated[row] != 0))
    return rated


def _unpack_merged(
    bills: KernelBills, rows: range, stride: int, position_count: int, cells: Sequence[_Cell]
) -> RatedInterval:
    details = bills.details
    assert details is not None
    used: list[tuple[int, int, int]] = []  # (first row with energy, cell, energy)
    for number in range(len(cells)):
        of_cell = details.cell_energy_wh[
            rows.start * details.cell_stride + number : rows.stop * details.cell_stride : details.cell_stride
        ]
        if energy_wh := sum(of_cell):
            used.append((next(row for row, wh in enumerate(of_cell) if wh), number, energy_wh))
    after = rows[-1] * stride
    return RatedInterval(
        amount_nano=sum(bills.amount_nano[rows.start : rows.stop]),
        lines=_merged_lines((*cells[number], energy_wh) for _, number, energy_wh in sorted(used)),
        cycle_energy_wh=tuple(details.energy_wh[after : after + position_count]),
        cycle_start_at=details.cycle_start_at[rows[-1]],
        estimated=any(details.estimated[rows.start : rows.stop]),
    )


def _merged_lines(parts: Iterable[tuple[str, int, int, int]]) -> tuple[RatedLine, ...]:
    """Lines of (period, block, price, energy) parts, each price of a block once, in the order they first come."""
    used_wh: dict[_Cell, int] = {}
    for period, block, price, energy_wh in parts:
        used_wh[period, block, price] = used_wh.get((period, block, price), 0) + energy_wh
    return tuple(_line(cell, energy_wh) for cell, energy_wh in used_wh.items())


def _line(cell: _Cell, energy_wh: int) -> RatedLine:
    period, block, price = cell
    return _rated_line(period, block, energy_wh, price, energy_wh * price)
