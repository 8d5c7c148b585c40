"""The calendar of a tariff document: cycle, seasons, day types and periods, proven to cover every minute once.

Days of a year are counted in a leap year (0 to 365), so what holds for it holds for every year;
minutes are the wall clock's. Source: RULES.md 3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.core import tariff_keys as keys_of
from edge.core.calendar import MINUTES_PER_DAY, WEEKDAYS, Cycle, CycleLength, Schedule
from edge.core.lean import dataclass
from edge.core.tariff_values import (
    format_minute,
    format_month_day,
    read_choice,
    read_chosen,
    read_date,
    read_integer,
    read_list,
    read_minute,
    read_month_day,
    read_name,
    read_object,
    refuse,
    refuse_saying,
)

PERIODS_MAX = 64
_SEASONS_MAX = 24
_DAY_TYPES_MAX = 16
_RANGES_MAX = 24
_WINDOWS_MAX = 512
_ALL_WINDOWS_MAX = 4096  # each is looked at for every season and day type
_DATES_MAX = 4096
_DAYS_IN_LEAP_YEAR = 366
PURCHASES = "vend"  # a month in which energy bought is counted, not energy used


def read_cycle(value: Any) -> tuple[Cycle, bool]:
    """When blocks start over, and whether purchases move them instead of use."""
    lengths = [*(choice.value for choice in CycleLength), PURCHASES]
    keys = read_object(value, "/cycle", *keys_of.CYCLE)
    length = read_choice(keys["length"], "/cycle/length", lengths)
    allowed = {"day": (), "year": ("start_day", "start_month")}.get(length, ("start_day",))
    read_object(value, "/cycle", ("length",), allowed)
    cycle = Cycle(
        CycleLength.MONTH if length == PURCHASES else CycleLength(length),
        read_integer(keys.get("start_day", 1), "/cycle/start_day", 1, 28),
        read_integer(keys.get("start_month", 1), "/cycle/start_month", 1, 12),
    )
    return cycle, length == PURCHASES


def read_schedule(document: Mapping[str, Any]) -> tuple[list[str], Schedule]:
    """Names of the periods, and which is in force at every minute of a leap and a normal year."""
    seasons, season_of_date = _seasons(document.get("seasons"))
    day_types, day_type_of_weekday, day_type_of_day = _day_types(document.get("day_types"))
    names, plans = _periods(document.get("periods"), seasons, day_types)
    return names, Schedule(season_of_date, day_type_of_weekday, day_type_of_day, plans)


def _seasons(value: Any) -> tuple[list[str], tuple[int, ...]]:
    """Names, and the season of each of the 366 dates."""
    if value is None:
        return ["year"], (0,) * _DAYS_IN_LEAP_YEAR
    names: list[str] = []
    spans: list[_Span] = []
    for index, item in enumerate(read_list(value, "/seasons", 1, _SEASONS_MAX)):
        pointer = f"/seasons/{index}"
        keys = read_object(item, pointer, *keys_of.SEASON)
        names.append(read_name(keys["name"], f"{pointer}/name", names))
        for number, dates in enumerate(read_list(keys["dates"], f"{pointer}/dates", 1, _RANGES_MAX)):
            here = f"{pointer}/dates/{number}"
            first, last = (read_month_day(text, f"{here}/{n}") for n, text in enumerate(read_list(dates, here, 2, 2)))
            spans.extend(_Span(*ends, index, here) for ends in _unwrapped(first, last + 1, _DAYS_IN_LEAP_YEAR))
    _cover(spans, _DAYS_IN_LEAP_YEAR, "/seasons", format_month_day, "in the year")
    season_of_date = [0] * _DAYS_IN_LEAP_YEAR
    for span in spans:
        season_of_date[span.first : span.end] = [span.what] * (span.end - span.first)
    return names, tuple(season_of_date)


def _day_types(value: Any) -> tuple[list[str], tuple[int, ...], Mapping[int, int]]:
    """Names, the day type of each weekday, and the days that are of another type than their weekday's."""
    if value is None:
        return ["day"], (0,) * len(WEEKDAYS), {}
    names: list[str] = []
    of_weekday: dict[int, int] = {}
    of_day: dict[int, int] = {}
    for index, item in enumerate(read_list(value, "/day_types", 1, _DAY_TYPES_MAX)):
        pointer = f"/day_types/{index}"
        keys = read_object(item, pointer, *keys_of.DAY_TYPE)
        names.append(read_name(keys["name"], f"{pointer}/name", names))
        for number, text in enumerate(read_list(keys.get("weekdays", []), f"{pointer}/weekdays", 0, len(WEEKDAYS))):
            if text not in WEEKDAYS or WEEKDAYS.index(text) in of_weekday:
                refuse(f"{pointer}/weekdays/{number}", text, f"one of {', '.join(WEEKDAYS)}, each in one day type")
            of_weekday[WEEKDAYS.index(text)] = index
        for number, text in enumerate(read_list(keys.get("dates", []), f"{pointer}/dates", 0, _DATES_MAX)):
            day = read_date(text, f"{pointer}/dates/{number}")
            if day in of_day:
                refuse(f"{pointer}/dates/{number}", text, "a date that no day type has yet")
            of_day[day] = index
    for number, name in enumerate(WEEKDAYS):
        if number not in of_weekday:
            refuse_saying("/day_types", f"no day type for {name}", "every weekday in exactly one day type")
    return names, tuple(of_weekday[number] for number in range(len(WEEKDAYS))), of_day


_Plan = tuple[tuple[int, int], ...]


def _periods(value: Any, seasons: list[str], day_types: list[str]) -> tuple[list[str], tuple[tuple[_Plan, ...], ...]]:
    """Names, and for each season and day type the (first minute, period) pairs of its day."""
    names: list[str] = []
    windows: list[tuple[_Span, list[int], list[int]]] = []  # minutes and period, seasons, day types
    for index, item in enumerate(read_list([{"name": "all"}] if value is None else value, "/periods", 1, PERIODS_MAX)):
        pointer = f"/periods/{index}"
        keys = read_object(item, pointer, *keys_of.PERIOD)
        names.append(read_name(keys["name"], f"{pointer}/name", names))
        whole_day = [{"from": "00:00", "to": "24:00"}]
        for number, window in enumerate(
            read_list(keys.get("windows", whole_day), f"{pointer}/windows", 1, _WINDOWS_MAX)
        ):
            windows.extend(_window(window, f"{pointer}/windows/{number}", index, seasons, day_types))
        if len(windows) > _ALL_WINDOWS_MAX:
            refuse_saying(f"{pointer}/windows", "too many windows in all", f"at most {_ALL_WINDOWS_MAX} in all periods")
    plans = []
    for season, season_name in enumerate(seasons):
        row = []
        for day_type, day_type_name in enumerate(day_types):
            spans = [span for span, of_seasons, of_types in windows if season in of_seasons and day_type in of_types]
            where = f"in season {season_name} on day type {day_type_name}"
            row.append(_plan(_cover(spans, MINUTES_PER_DAY, "/periods", format_minute, where)))
        plans.append(tuple(row))
    return names, tuple(plans)


def _window(
    value: Any, pointer: str, period: int, seasons: list[str], day_types: list[str]
) -> list[tuple["_Span", list[int], list[int]]]:
    keys = read_object(value, pointer, *keys_of.WINDOW)
    of_seasons = read_chosen(keys.get("seasons"), f"{pointer}/seasons", seasons)
    of_types = read_chosen(keys.get("day_types"), f"{pointer}/day_types", day_types)
    first, end = read_minute(keys["from"], f"{pointer}/from"), read_minute(keys["to"], f"{pointer}/to")
    if first in (end, MINUTES_PER_DAY):
        refuse_saying(pointer, f"{keys['from']} to {keys['to']}", "a window with minutes in it, e.g. 00:00 to 24:00")
    return [(_Span(*ends, period, pointer), of_seasons, of_types) for ends in _unwrapped(first, end, MINUTES_PER_DAY)]


def _plan(spans: Sequence["_Span"]) -> _Plan:
    """Neighbours of one period become one entry, so that no boundary stands where nothing changes."""
    plan: list[tuple[int, int]] = []
    for span in spans:
        if not plan or plan[-1][1] != span.what:
            plan.append((span.first, span.what))
    return tuple(plan)


# --- coverage --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """Minutes of a day or dates of a year that something claims, half-open."""

    first: int
    end: int
    what: int
    pointer: str


def _unwrapped(first: int, end: int, size: int) -> list[tuple[int, int]]:
    """A span that runs over the end of the day or year, as two that do not."""
    if first < end:
        return [(first, end)]
    return [ends for ends in ((0, end), (first, size)) if ends[0] < ends[1]]


def _cover(spans: Sequence[_Span], size: int, pointer: str, text: Callable[[int], str], where: str) -> list[_Span]:
    """The spans in order, after proof that they hold everything from 0 to `size` exactly once."""
    in_order = sorted(spans, key=lambda span: (span.first, span.end))
    end = 0
    for span in in_order:
        if span.first > end:
            refuse_saying(pointer, f"nothing from {text(end)} to {text(span.first)} {where}", "all covered once")
        if span.first < end:
            refuse_saying(span.pointer, f"{text(span.first)} covered twice {where}", "all covered once")
        end = span.end
    if end < size:
        refuse_saying(pointer, f"nothing from {text(end)} to {text(size)} {where}", "all covered once")
    return in_order
