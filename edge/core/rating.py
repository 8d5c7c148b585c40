"""What energy costs: the reference rating, in exact integers. The kernel in C must agree to the bit.

Energy in Wh, prices in micro-currency per kWh, amounts in nano-currency: Wh times micro per
kWh is nano, exactly; there is no rounding here. `at` is Unix seconds, intervals are half-open.
Source: RULES.md 3 and 10; blocks are COSEM Charge.unit_charge_active (IEC 62056-6-2, class_id 113).

The rules, in the order they apply to an interval:

1. An interval that lies in several calendar segments is shared out over them by seconds, whole
   watt-hours, largest remainder (the earlier segment of equals), and is `estimated` if it has energy.
2. An interval of no length belongs to the segment of the second before its end: the energy came
   before the instant it was read at.
3. A block position belongs to the cycle it was counted in. It starts over from zero when the
   account has a part in a later cycle; an earlier cycle never resets it.
4. A part is split exactly at the block limits; the watt-hour that reaches a limit is the lower block's.
"""

import dataclasses
from collections.abc import Callable, Sequence

from edge.core.calendar import CompiledCalendar
from edge.core.lean import dataclass

# 10^11 Wh x 9*10^7 s = 9.0*10^18 < 2^63 - 1: energy shared out by seconds fits in 64 bits.
ENERGY_WH_MAX = 100_000_000_000
INTERVAL_S_MAX = 90_000_000
AT_MAX = 100_000_000_000  # instants, to the year 5138
# energy of a tariff's cycle x its highest price, so that an amount fits in 64 bits
AMOUNT_NANO_MAX = 9_000_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Position:
    """Where an account stands in the blocks of its tariff.

    `cycle_energy_wh` has one entry with block scope `cycle`, one per period with scope `period`
    (`CompiledTariff.fresh_position` makes it). `cycle_start_at` is the cycle it was counted in,
    as the last RatedInterval said; None: the cycle of the account's first interval.
    """

    tariff: int  # index into the tariffs given to `reference_rate`
    cycle_energy_wh: tuple[int, ...]
    cycle_start_at: int | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """Energy of an account over a span. `account` is an index into the positions."""

    account: int
    start_at: int
    end_at: int
    energy_wh: int
    explained: bool = True  # False: only the amount is asked for, and there are no lines


@dataclass(frozen=True, slots=True)
class RatedLine:
    """What one block of one period took of an interval. Blocks are counted from 1, as people do."""

    period: str
    block: int
    energy_wh: int
    price_micro_per_kwh: int
    amount_nano: int


@dataclass(frozen=True, slots=True)
class RatedInterval:
    """The cost of one interval. Lines are in the order of the tariff's periods, then blocks.

    `cycle_energy_wh` and `cycle_start_at` are the position after it: the next Position.
    `estimated`: the energy was shared out by seconds, because no reading stood at a boundary.
    """

    amount_nano: int
    lines: tuple[RatedLine, ...]
    cycle_energy_wh: tuple[int, ...]
    cycle_start_at: int
    estimated: bool


Rate = Callable[[Sequence[Position], Sequence[Interval]], Sequence[RatedInterval]]


@dataclass(frozen=True, slots=True)
class PeriodPrices:
    """A period of one tariff version: its prices by block and the limits between the blocks."""

    name: str
    position: int  # which entry of `cycle_energy_wh` counts for it
    limits_wh: tuple[int, ...]  # one fewer than prices, rising
    prices_micro_per_kwh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompiledTariff:
    """One tariff (all its dated versions) as tables over the span of its calendar."""

    tariff_id: str
    calendar: CompiledCalendar  # its period numbers index `periods`
    periods: tuple[PeriodPrices, ...]
    position_count: int
    energy_wh_max: int  # of an account in one call, its block position included

    def fresh_position(self, tariff: int) -> Position:
        """The position of an account that has used nothing in this cycle."""
        return Position(tariff, (0,) * self.position_count)


def reference_rate(tariffs: Sequence[CompiledTariff]) -> Rate:
    """A Rate in plain Python. Intervals of one account carry its block position on, in the order given.

    Raises ValueError, naming the interval, when `check_intervals` does.
    """

    def rate(positions: Sequence[Position], intervals: Sequence[Interval]) -> Sequence[RatedInterval]:
        check_intervals(tariffs, positions, intervals)
        accounts = [_Account(tariffs[p.tariff], list(p.cycle_energy_wh), p.cycle_start_at) for p in positions]
        return [_rate_interval(accounts[interval.account], interval) for interval in intervals]

    return rate


def check_intervals(
    tariffs: Sequence[CompiledTariff], positions: Sequence[Position], intervals: Sequence[Interval]
) -> None:
    """Refuses (ValueError) what cannot be rated; nothing is rated then.

    First failing check wins: position unknown to the tariff; per interval: account, order of
    its ends, length, overlap with the account's interval before, span of the calendar, energy.
    """
    for index, position in enumerate(positions):
        _check_position(tariffs, index, position)
    last_end: dict[int, int] = {}
    energy_wh = [sum(position.cycle_energy_wh) for position in positions]
    for index, interval in enumerate(intervals):
        if not 0 <= interval.account < len(positions):
            raise ValueError(f"interval {index}: account {interval.account} has no position")
        tariff = tariffs[positions[interval.account].tariff]
        _check_span(tariff, index, interval, last_end.get(interval.account))
        last_end[interval.account] = interval.end_at
        energy_wh[interval.account] += interval.energy_wh
        if interval.energy_wh < 0 or energy_wh[interval.account] > tariff.energy_wh_max:
            raise ValueError(
                f"interval {index}: energy {interval.energy_wh} Wh, allowed is 0 up to {tariff.energy_wh_max} Wh"
                f" together with what the account had before"
            )


def share_by_seconds(energy_wh: int, durations_s: Sequence[int]) -> list[int]:
    """Whole watt-hours for each duration, in proportion: largest remainder, the earlier of equals first."""
    total_s = sum(durations_s)
    shares = [energy_wh * duration // total_s for duration in durations_s]
    remainders = [energy_wh * duration % total_s for duration in durations_s]
    by_remainder = sorted(range(len(shares)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: energy_wh - sum(shares)]:
        shares[index] += 1
    return shares


@dataclasses.dataclass(slots=True)
class _Account:
    tariff: CompiledTariff
    energy_wh: list[int]
    cycle_start_at: int | None


def _check_position(tariffs: Sequence[CompiledTariff], index: int, position: Position) -> None:
    if not 0 <= position.tariff < len(tariffs):
        raise ValueError(f"position {index}: there is no tariff {position.tariff}")
    tariff = tariffs[position.tariff]
    if len(position.cycle_energy_wh) != tariff.position_count:
        raise ValueError(f"position {index}: tariff {tariff.tariff_id} counts {tariff.position_count} energies")
    if min(position.cycle_energy_wh) < 0 or sum(position.cycle_energy_wh) > tariff.energy_wh_max:
        raise ValueError(f"position {index}: energy {position.cycle_energy_wh} is not within {tariff.energy_wh_max} Wh")
    if position.cycle_start_at is not None and abs(position.cycle_start_at) > AT_MAX:
        raise ValueError(f"position {index}: cycle start {position.cycle_start_at} is not within {AT_MAX} s of 1970")


def _check_span(tariff: CompiledTariff, index: int, interval: Interval, last_end: int | None) -> None:
    start_at, end_at = interval.start_at, interval.end_at
    if not start_at <= end_at <= start_at + INTERVAL_S_MAX:
        raise ValueError(f"interval {index}: {start_at} to {end_at} is not a span of 0 to {INTERVAL_S_MAX} s")
    if last_end is not None and start_at < last_end:
        raise ValueError(f"interval {index}: starts at {start_at}, before {last_end}, the end of the one before")
    calendar = tariff.calendar
    if _first_second(interval) < calendar.starts[0] or end_at > calendar.end_at:
        raise ValueError(
            f"interval {index}: {start_at} to {end_at} is not within the compiled calendar of {tariff.tariff_id}, "
            f"{calendar.starts[0]} to {calendar.end_at}"
        )


def _first_second(interval: Interval) -> int:
    """The second that says which segment an interval starts in."""
    return interval.start_at if interval.start_at < interval.end_at else interval.end_at - 1


def _rate_interval(account: _Account, interval: Interval) -> RatedInterval:
    tariff, calendar = account.tariff, account.tariff.calendar
    used_wh: dict[tuple[int, int], int] = {}
    parts = _parts(calendar, interval)
    for segment, energy_wh in parts:
        cycle_start_at = calendar.cycle_starts[segment]
        if account.cycle_start_at is not None and cycle_start_at > account.cycle_start_at:
            account.energy_wh = [0] * tariff.position_count
        if account.cycle_start_at is None or cycle_start_at > account.cycle_start_at:
            account.cycle_start_at = cycle_start_at
        _fill_blocks(account, calendar.periods[segment], energy_wh, used_wh)
    lines = tuple(_line(tariff.periods[period], block, used_wh[period, block]) for period, block in sorted(used_wh))
    assert account.cycle_start_at is not None
    return RatedInterval(
        amount_nano=sum(line.amount_nano for line in lines),
        lines=lines if interval.explained else (),
        cycle_energy_wh=tuple(account.energy_wh),
        cycle_start_at=account.cycle_start_at,
        estimated=len(parts) > 1 and interval.energy_wh > 0,
    )


def _parts(calendar: CompiledCalendar, interval: Interval) -> list[tuple[int, int]]:
    """(segment, energy) for each calendar segment an interval lies in."""
    segment = calendar.index_at(_first_second(interval))
    durations_s: list[int] = []
    at = interval.start_at
    while True:
        index = segment + len(durations_s)
        segment_end = calendar.starts[index + 1] if index + 1 < len(calendar.starts) else calendar.end_at
        durations_s.append(min(interval.end_at, segment_end) - at)
        if segment_end >= interval.end_at:
            break
        at = segment_end
    if len(durations_s) == 1:
        return [(segment, interval.energy_wh)]
    return [(segment + n, share) for n, share in enumerate(share_by_seconds(interval.energy_wh, durations_s))]


def _fill_blocks(account: _Account, period_index: int, energy_wh: int, used_wh: dict[tuple[int, int], int]) -> None:
    """Moves the position on by `energy_wh` and notes what fell in each (period, block)."""
    period = account.tariff.periods[period_index]
    for block in range(len(period.prices_micro_per_kwh)):
        last = block == len(period.limits_wh)
        room_wh = energy_wh if last else max(0, period.limits_wh[block] - account.energy_wh[period.position])
        taken_wh = min(energy_wh, room_wh)
        if taken_wh > 0:
            used_wh[period_index, block] = used_wh.get((period_index, block), 0) + taken_wh
            account.energy_wh[period.position] += taken_wh
            energy_wh -= taken_wh


def _line(period: PeriodPrices, block: int, energy_wh: int) -> RatedLine:
    price = period.prices_micro_per_kwh[block]
    return RatedLine(period.name, block + 1, energy_wh, price, energy_wh * price)
