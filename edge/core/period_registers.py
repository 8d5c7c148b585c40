"""Energy that a meter itself has counted by period, made ready for the rating.

The rating asks the calendar which period energy is of; a meter with a register for each period has
already answered. Here such an interval becomes one short piece of time for each period, in a
calendar made for it, so that reference and kernel rate it like any other. Wh, Unix seconds.
Source: RULES.md 3: with a full price table the order of periods within an interval matters and no
register knows it; the order of the tariff is taken and the result is marked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge.core.bill import tagged_name, untagged_name
from edge.core.calendar import CompiledCalendar
from edge.core.lean import dataclass
from edge.core.rating import CompiledTariff, Interval, share_by_seconds


@dataclass(frozen=True, slots=True)
class PeriodEnergies:
    """Energy by name of period over [start_at, end_at)."""

    start_at: int
    end_at: int
    energy_wh: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RegisterTables:
    """Tables and intervals for the rating. `estimated`: energy was shared out over a change of version or cycle."""

    tariff: CompiledTariff
    intervals: tuple[Interval, ...]
    estimated: bool


def register_tables(tables: CompiledTariff, energies: Sequence[PeriodEnergies]) -> RegisterTables:
    """`tables` (of bill.bill_tables) with a calendar of the registers' own, and the intervals in it.

    Raises ValueError when an interval is too short to hold its periods, a second for each.
    """
    index_of = {period.name: index for index, period in enumerate(tables.periods)}
    starts: list[int] = []
    periods: list[int] = []
    cycle_starts: list[int] = []
    intervals: list[Interval] = []
    estimated = False
    for entry in energies:
        stretches = _stretches(tables, entry.start_at, entry.end_at)
        shared = {
            name: share_by_seconds(wh, [stretch.end_at - stretch.start_at for stretch in stretches])
            for name, wh in entry.energy_wh.items()
        }
        estimated = estimated or (len(stretches) > 1 and any(entry.energy_wh.values()))
        for number, stretch in enumerate(stretches):
            at = stretch.start_at
            if stretch.end_at - at < len(shared):
                raise ValueError(f"from {at} to {stretch.end_at} there is no room for {len(shared)} periods")
            for name, shares in shared.items():
                starts.append(at)
                periods.append(index_of[tagged_name(name, stretch.version)])
                cycle_starts.append(stretch.cycle_start_at)
                intervals.append(Interval(0, at, at + 1, shares[number]))
                at += 1
    calendar = CompiledCalendar(tuple(starts), tuple(periods), tuple(cycle_starts), tables.calendar.end_at)
    return RegisterTables(replace(tables, calendar=calendar), tuple(intervals), estimated)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A span of one version and one cycle."""

    start_at: int
    end_at: int
    version: int
    cycle_start_at: int


def _stretches(tables: CompiledTariff, start_at: int, end_at: int) -> list[_Stretch]:
    calendar = tables.calendar
    stretches: list[_Stretch] = []
    index = calendar.index_at(start_at)
    at = start_at
    while at < end_at:
        segment_end = calendar.starts[index + 1] if index + 1 < len(calendar.starts) else calendar.end_at
        version = untagged_name(tables.periods[calendar.periods[index]].name)[1]
        cycle_start_at = calendar.cycle_starts[index]
        last = stretches[-1] if stretches else None
        here = min(segment_end, end_at)
        if last is not None and (last.version, last.cycle_start_at) == (version, cycle_start_at):
            stretches[-1] = replace(last, end_at=here)
        else:
            stretches.append(_Stretch(at, here, version, cycle_start_at))
        at, index = here, index + 1
    return stretches
