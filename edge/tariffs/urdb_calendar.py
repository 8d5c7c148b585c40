"""The 12 by 24 schedules of a rate as seasons, day types and periods of our document.

A schedule names the period of a structure by month and hour of local time, for weekdays (Monday to
Friday) and for the weekend. Our periods are what the schedules of energy and of demand together
tell apart, so that demand can be measured in periods of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from edge.core.tariff import PERIODS_MAX
from edge.tariffs.urdb_fields import HOURS, MONTHS, Rate, Tiers, read_index, read_list, refuse_saying

_LAST_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_TYPES = ("weekday", "weekend")

_Day = tuple[int, ...]  # 24 period numbers
_Cell = tuple[int, int]  # period of the energy, period of the time-of-use demand


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which period of a structure rules, by month and hour."""

    weekday: tuple[_Day, ...]
    weekend: tuple[_Day, ...]

    def used(self) -> set[int]:
        """The periods that occur in it."""
        return {period for month in (*self.weekday, *self.weekend) for period in month}


def read_schedule(rate: Rate, kind: str, periods: int) -> Schedule:
    """The two schedules of `kind`, energy or demand, whose structure has so many periods."""
    keys = [f"{kind}weekdayschedule", f"{kind}weekendschedule"]
    if periods == 1 and rate.get(keys[0]) is None and rate.get(keys[1]) is None:
        always = ((0,) * HOURS,) * MONTHS  # one period needs no schedule
        return Schedule(always, always)
    parts = [_month_rows(rate.get(key), rate.at(key), periods) for key in keys]
    return Schedule(*parts)


def _month_rows(value: Any, pointer: str, periods: int) -> tuple[_Day, ...]:
    rows = []
    for month, row in enumerate(read_list(value, pointer, MONTHS, MONTHS)):
        here = f"{pointer}/{month}"
        rows.append(
            tuple(
                read_index(item, f"{here}/{hour}", periods)
                for hour, item in enumerate(read_list(row, here, HOURS, HOURS))
            )
        )
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods of the document: what the schedules of energy and demand together tell apart."""

    names: dict[_Cell, str]
    seasons: list[list[int]]  # months, 0 to 11, that have the same days
    day_types: list[str]
    days: dict[tuple[int, str], tuple[_Cell, ...]]  # by season and day type, hour by hour

    def parts(self) -> dict[str, Any]:
        """Seasons, day types and periods, as the document writes them."""
        parts: dict[str, Any] = {}
        if len(self.seasons) > 1:
            parts["seasons"] = [
                {"name": _season_name(number), "dates": _date_ranges(months)}
                for number, months in enumerate(self.seasons)
            ]
        if len(self.day_types) > 1:
            weekdays = {"weekday": ["mon", "tue", "wed", "thu", "fri"], "weekend": ["sat", "sun"]}
            parts["day_types"] = [{"name": name, "weekdays": weekdays[name]} for name in self.day_types]
        parts["periods"] = [{"name": name, "windows": self._windows(cell)} for cell, name in self.names.items()]
        return parts

    def _windows(self, cell: _Cell) -> list[dict[str, Any]]:
        """The hours of a period, each span of hours once for the seasons and day types that share it."""
        places: dict[tuple[int, int], dict[str, list[int]]] = {}  # span: day type: seasons
        for (season, day_type), hours in self.days.items():
            for span in _spans(hours, cell):
                places.setdefault(span, {}).setdefault(day_type, []).append(season)
        windows = []
        for (first, end), by_type in sorted(places.items()):
            for seasons, types in _grouped(by_type):
                window: dict[str, Any] = {"from": f"{first:02d}:00", "to": f"{end:02d}:00"}
                if len(seasons) < len(self.seasons):
                    window["seasons"] = [_season_name(season) for season in seasons]
                if len(types) < len(self.day_types):
                    window["day_types"] = types
                windows.append(window)
        return windows


def combine(rate: Rate, energy: Sequence[Tiers], demand: Schedule | None, own_counts: bool) -> Calendar:
    """The periods of the document. With `own_counts` no period that has tiers may be cut by demand."""
    by_energy = read_schedule(rate, "energy", len(energy))
    cells = {
        (month, day_type): tuple(
            zip(getattr(by_energy, day_type)[month], _demand_row(demand, day_type, month), strict=True)
        )
        for month in range(MONTHS)
        for day_type in _DAY_TYPES
    }
    same = all(cells[month, "weekday"] == cells[month, "weekend"] for month in range(MONTHS))
    day_types = list(_DAY_TYPES[:1] if same else _DAY_TYPES)
    months_of: dict[tuple[tuple[_Cell, ...], ...], list[int]] = {}
    for month in range(MONTHS):
        months_of.setdefault(tuple(cells[month, day_type] for day_type in day_types), []).append(month)
    seasons = list(months_of.values())
    used = sorted({cell for hours in cells.values() for cell in hours})
    for index in sorted(set(range(len(energy))) - {period for period, _ in used}):
        rate.changes.append(f"{energy[index].pointer}: stands in no schedule, left out")
    for period, group in ((number, list(group)) for number, group in groupby(used, key=lambda cell: cell[0])):
        if own_counts and len(group) > 1 and energy[period].limits:
            refuse_saying(
                rate.at("demandweekdayschedule"),
                f"a demand schedule that cuts through energy period {period}, which has tiers",
                "demand periods that hold whole energy periods, or tiers counted for all periods together",
            )
    if len(used) > PERIODS_MAX:
        refuse_saying(rate.at("energyweekdayschedule"), f"{len(used)} periods with those of demand", f"{PERIODS_MAX}")
    return Calendar(
        names={cell: _period_name(cell, demand is not None) for cell in used},
        seasons=seasons,
        day_types=day_types,
        days={
            (number, day_type): cells[months[0], day_type]
            for number, months in enumerate(seasons)
            for day_type in day_types
        },
    )


def _demand_row(demand: Schedule | None, day_type: str, month: int) -> _Day:
    if demand is None:
        return (0,) * HOURS
    return (demand.weekday if day_type == "weekday" else demand.weekend)[month]


def _period_name(cell: _Cell, with_demand: bool) -> str:
    return f"energy_{cell[0]}_demand_{cell[1]}" if with_demand else f"energy_{cell[0]}"


def _season_name(number: int) -> str:
    return f"season_{number}"


def _date_ranges(months: Sequence[int]) -> list[list[str]]:
    """First and last date of each run of months."""
    runs = groupby(enumerate(months), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return [[f"{first + 1:02d}-01", f"{last + 1:02d}-{_LAST_DAYS[last]:02d}"] for first, last in ends]


def _spans(hours: Sequence[_Cell], cell: _Cell) -> Iterator[tuple[int, int]]:
    """(first hour, hour after the last) of each run of hours in a period."""
    for is_ours, group in groupby(range(len(hours)), key=lambda hour: hours[hour] == cell):
        run = list(group)
        if is_ours:
            yield run[0], run[-1] + 1


def _grouped(by_type: Mapping[str, list[int]]) -> list[tuple[list[int], list[str]]]:
    """Day types with the same seasons together."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for day_type, seasons in by_type.items():
        groups.setdefault(tuple(seasons), []).append(day_type)
    return [(list(seasons), types) for seasons, types in groups.items()]
