"""The rating through a kernel that works on whole arrays: what goes in and out, packed and unpacked.

The same Rate as `reference_rate`, to the bit, with one call per round over the border. Units as
in edge.core.rating; arrays hold signed 64-bit integers. The layout is native/include/kernel.h's,
which says what each array means; this module neither imports nor needs the kernel.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

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


def array_rate(open_kernel: Callable[[PackedTariffs], Kernel], tariffs: Sequence[CompiledTariff]) -> Rate:
    """A Rate on a kernel: `array_rate(native.kernel.TariffKernel, tariffs)`."""
    kernel = open_kernel(pack_tariffs(tariffs))
    cells = [_cells(tariff) for tariff in tariffs]

    def rate(positions: Sequence[Position], intervals: Sequence[Interval]) -> Sequence[RatedInterval]:
        order = sorted(range(len(intervals)), key=lambda index: intervals[index].account)  # stable: keeps their order
        try:
            _check_counts(tariffs, positions)
            packed = pack_intervals(positions, [intervals[index] for index in order])
            bills = kernel.rate_arrays(packed, details=True)
        except (ValueError, OverflowError):
            check_intervals(tariffs, positions, intervals)  # says which interval and why
            raise
        rated: list[RatedInterval | None] = [None] * len(intervals)
        for row, index in enumerate(order):
            position = positions[intervals[index].account]
            rated[index] = _unpack(bills, row, packed.position_stride, tariffs[position.tariff], cells[position.tariff])
        return [interval for interval in rated if interval is not None]

    return rate


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


@dataclass(frozen=True, slots=True)
class _Cell:
    """One price of a tariff."""

    period: str
    block: int
    price_micro_per_kwh: int


def _cells(tariff: CompiledTariff) -> list[_Cell]:
    return [
        _Cell(period.name, index + 1, price)
        for period in tariff.periods
        for index, price in enumerate(period.prices_micro_per_kwh)
    ]


def _unpack(bills: KernelBills, row: int, stride: int, tariff: CompiledTariff, cells: Sequence[_Cell]) -> RatedInterval:
    details = bills.details
    assert details is not None
    first = row * details.cell_stride
    used_wh = details.cell_energy_wh[first : first + len(cells)]
    return RatedInterval(
        amount_nano=bills.amount_nano[row],
        lines=tuple(
            RatedLine(cell.period, cell.block, wh, cell.price_micro_per_kwh, wh * cell.price_micro_per_kwh)
            for cell, wh in zip(cells, used_wh, strict=True)
            if wh
        ),
        cycle_energy_wh=tuple(details.energy_wh[row * stride : row * stride + tariff.position_count]),
        cycle_start_at=details.cycle_start_at[row],
        estimated=bool(details.estimated[row]),
    )
