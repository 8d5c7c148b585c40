"""Local time on integers: zone offsets as data, dates, daily windows, the compiled calendar.

`at` is Unix seconds, a day is days since 1970-01-01 in the local calendar, a minute is the
wall clock's minute of the day (0..1439). Nothing here reads a zone file or a clock: offsets
come in as data (edge/zone.py makes them). Every span is half-open: it holds its first second
and ends before its last. Source: RULES.md 3; the date arithmetic is H. Hinnant's
days_from_civil, the proleptic Gregorian calendar in integers.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum
from itertools import pairwise

from edge.core.lean import dataclass
from edge.core.units import SECONDS_PER_DAY

MINUTES_PER_DAY = 1440
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # of a leap year
_SECONDS_PER_MINUTE = 60
_OFFSET_S_MAX = 18 * 3600  # POSIX and Java allow no zone further from UTC
_SEARCH_S_MAX = 400 * SECONDS_PER_DAY  # a year of holidays and a little: longer closed means closed for good


@dataclass(frozen=True, slots=True)
class ZoneOffsets:
    """A time zone over a span: (first instant, seconds east of UTC) pairs, ascending.

    The first offset also holds before the first pair, the last one up to `end_at`, from where
    nothing is known and every question is refused (ValueError).
    """

    name: str
    transitions: tuple[tuple[int, int], ...]
    end_at: int
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)  # before, and from each start on

    def __post_init__(self) -> None:
        starts = tuple(start for start, _ in self.transitions)
        if not starts or list(starts) != sorted(set(starts)):
            raise ValueError(f"zone {self.name}: transitions must be given in rising order, at least one")
        if any(abs(offset) > _OFFSET_S_MAX for _, offset in self.transitions):
            raise ValueError(f"zone {self.name}: an offset is more than 18 hours")
        for (_, before), (start, after) in pairwise(self.transitions):
            if (start + before - 1) // SECONDS_PER_DAY > (start + after) // SECONDS_PER_DAY:
                raise ValueError(f"zone {self.name}: at {start} the date goes back, so days do not follow each other")
        offsets = tuple(offset for _, offset in self.transitions)
        object.__setattr__(self, "starts", starts)
        object.__setattr__(self, "_offsets", (offsets[0], *offsets))

    def offset_at(self, at: int) -> int:
        """Seconds east of UTC at an instant."""
        if at >= self.end_at:
            raise ValueError(f"zone {self.name}: offsets are known before {self.end_at}, asked for {at}")
        return self._offsets[bisect_right(self.starts, at)]

    def next_transition(self, at: int) -> int:
        """The first instant after `at` at which the offset may change, or the end of the span."""
        index = bisect_right(self.starts, at)
        return min(self.starts[index], self.end_at) if index < len(self.starts) else self.end_at


def fixed_zone(name: str, offset_s: int, end_at: int) -> ZoneOffsets:
    """A zone without changes, for tests and for places that have none."""
    return ZoneOffsets(name, ((0, offset_s),), end_at)


# --- dates -----------------------------------------------------------------------------------


def day_from_date(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the Gregorian calendar."""
    shifted = year - (month <= 2)  # the year starts in March, so that the leap day is its last
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def date_from_day(day: int) -> tuple[int, int, int]:
    """(year, month, day of the month): the inverse of `day_from_date`."""
    era, day_of_era = divmod(day + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted_month + 2) // 5 + 1


def is_leap_year(year: int) -> bool:
    """Whether a year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year: int, month: int) -> int:
    """28 to 31."""
    return DAYS_IN_MONTH[month - 1] - (month == 2 and not is_leap_year(year))


def weekday(day: int) -> int:
    """0 for Monday to 6 for Sunday; an index into WEEKDAYS."""
    return (day + 3) % 7  # 1970-01-01 was a Thursday


def parse_date(text: str) -> int:
    """The day of "2024-10-01". ValueError for anything that is not a date in that form."""
    year, month, day = (text[0:4], text[5:7], text[8:10])
    in_form = len(text) == 10 and text[4] == text[7] == "-" and (year + month + day).isascii()
    if not (in_form and (year + month + day).isdigit()):
        raise ValueError(f"{text!r} is not a date like 2024-10-01")
    if not (1 <= int(month) <= 12 and int(year) >= 1 and 1 <= int(day) <= days_in_month(int(year), int(month))):
        raise ValueError(f"{text!r} is not in the calendar")
    return day_from_date(int(year), int(month), int(day))


def format_date(day: int) -> str:
    """The text of a day: the inverse of `parse_date`."""
    return "{:04d}-{:02d}-{:02d}".format(*date_from_day(day))


def parse_minute(text: str) -> int:
    """The minute of "08:00"; "24:00" is the end of the day (1440). ValueError for anything else."""
    digits = text[0:2] + text[3:5]
    if not (len(text) == 5 and text[2] == ":" and digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a time like 08:00")
    hour, minute = int(text[0:2]), int(text[3:5])
    if minute > 59 or hour * 60 + minute > MINUTES_PER_DAY:
        raise ValueError(f"{text!r} is not between 00:00 and 24:00")
    return hour * 60 + minute


# --- instants and local dates ----------------------------------------------------------------


def local_day(zone: ZoneOffsets, at: int) -> int:
    """The local date at an instant, as days since 1970-01-01."""
    return (at + zone.offset_at(at)) // SECONDS_PER_DAY


def local_date(zone: ZoneOffsets, at: int) -> tuple[int, int, int]:
    """(year, month, day of the month) on the wall calendar at an instant."""
    return date_from_day(local_day(zone, at))


def minute_of_day(zone: ZoneOffsets, at: int) -> int:
    """What the wall clock shows at an instant, in minutes."""
    return (at + zone.offset_at(at)) % SECONDS_PER_DAY // _SECONDS_PER_MINUTE


def midnight_of(zone: ZoneOffsets, day: int) -> int:
    """The first instant of a local day.

    Where the clock jumps over midnight it is the jump; a midnight that comes twice (Havana in
    autumn) begins the day the first time, and the day has 25 hours.
    """
    local_s = day * SECONDS_PER_DAY
    index = max(0, bisect_right(zone.starts, local_s + _OFFSET_S_MAX) - 1)
    while index > 0 and zone.starts[index] >= local_s - zone.transitions[index][1]:
        index -= 1  # already the new day when this offset began
    midnight = local_s - zone.transitions[index][1]
    return min(midnight, zone.starts[index + 1]) if index + 1 < len(zone.starts) else midnight


def local_midnight(zone: ZoneOffsets, at: int) -> int:
    """The instant at which the local day of `at` began."""
    return midnight_of(zone, local_day(zone, at))


def next_local_midnight(zone: ZoneOffsets, at: int) -> int:
    """The first local midnight after `at` (24:00 of its day)."""
    return midnight_of(zone, local_day(zone, at) + 1)


def month_start(zone: ZoneOffsets, at: int) -> int:
    """Midnight at which the local month of `at` began."""
    year, month, _ = local_date(zone, at)
    return midnight_of(zone, day_from_date(year, month, 1))


def month_end(zone: ZoneOffsets, at: int) -> int:
    """Midnight at which the local month of `at` ends (24:00 of its last day)."""
    year, month, _ = local_date(zone, at)
    return midnight_of(zone, day_from_date(year, month, days_in_month(year, month)) + 1)


def next_month_day(zone: ZoneOffsets, at: int, day_of_month: int) -> int:
    """The first midnight after `at` that begins a given day (1..28) of a month: when issues fall due."""
    assert 1 <= day_of_month <= 28
    year, month, _ = local_date(zone, at)
    candidate = midnight_of(zone, day_from_date(year, month, day_of_month))
    if candidate > at:
        return candidate
    return midnight_of(zone, day_from_date(year + month // 12, month % 12 + 1, day_of_month))


# --- daily windows ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DailyWindows:
    """When something may be done: minutes of the day, on some weekdays, not on holidays.

    A window whose end is not after its start runs over midnight; its morning belongs to the
    morning's own day, so ("20:00", "06:00") on Mondays opens Monday 00:00-06:00 and 20:00-24:00.
    """

    windows: tuple[tuple[int, int], ...]  # (first minute, end minute), half-open
    weekdays: frozenset[int] = frozenset(range(7))
    holidays: frozenset[int] = frozenset()  # local days

    def is_open(self, zone: ZoneOffsets, at: int) -> bool:
        day, second = divmod(at + zone.offset_at(at), SECONDS_PER_DAY)
        if weekday(day) not in self.weekdays or day in self.holidays:
            return False
        minute = second // _SECONDS_PER_MINUTE
        for first, end in self.windows:
            if first <= minute < end if first < end else minute >= first or minute < end:
                return True
        return False


def daily_windows(
    windows: Sequence[tuple[str, str]], days: Sequence[str] = WEEKDAYS, holidays: Sequence[str] = ()
) -> DailyWindows:
    """Windows from text: ("09:00", "16:00"), ("mon", "tue"), ("2024-10-01",). ValueError names the fault."""
    unknown = [day for day in days if day not in WEEKDAYS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not one of {', '.join(WEEKDAYS)}")
    return DailyWindows(
        tuple((parse_minute(first), parse_minute(end)) for first, end in windows),
        frozenset(WEEKDAYS.index(day) for day in days),
        frozenset(parse_date(holiday) for holiday in holidays),
    )


def next_open(windows: DailyWindows | None, zone: ZoneOffsets, at: int, within_s: int = _SEARCH_S_MAX) -> int | None:
    """The first instant at or after `at` inside the windows. None for `windows`: always open.

    None as the answer: they do not open within 400 days (or the seconds given), or not before the zone's data ends.
    """
    if windows is None:
        return at
    last_at = min(at + within_s, zone.end_at)
    while at < last_at:
        if windows.is_open(zone, at):
            return at
        at = _next_edge(windows, zone, at)
    return None


def next_closed(windows: DailyWindows, zone: ZoneOffsets, at: int) -> int | None:
    """The first instant at or after `at` outside the windows, None if they do not close within 400 days."""
    last_at = min(at + _SEARCH_S_MAX, zone.end_at)
    while at < last_at:
        if not windows.is_open(zone, at):
            return at
        at = _next_edge(windows, zone, at)
    return None


def next_open_outside(
    windows: DailyWindows | None,
    closed: DailyWindows | None,
    zone: ZoneOffsets,
    at: int,
    within_s: int = _SEARCH_S_MAX,
) -> int | None:
    """The first instant at or after `at` inside `windows` and outside `closed`. None as in `next_open`."""
    found: int | None = at
    last_at = at + within_s
    while found is not None and found < last_at:
        opens_at = next_open(windows, zone, found, last_at - found)
        if opens_at is None or closed is None:
            return opens_at
        found = next_closed(closed, zone, opens_at)
        if found == opens_at:
            return found
    return None


def _next_edge(windows: DailyWindows, zone: ZoneOffsets, at: int) -> int:
    """The next instant at which a window may open or close: one of its minutes, midnight, or a clock change."""
    local_s = at + zone.offset_at(at)
    second = local_s % SECONDS_PER_DAY
    edge_s = SECONDS_PER_DAY
    for window in windows.windows:
        for minute in window:
            if second < minute * _SECONDS_PER_MINUTE < edge_s:
                edge_s = minute * _SECONDS_PER_MINUTE
    return min(at + edge_s - second, zone.next_transition(at))


# --- the compiled calendar -------------------------------------------------------------------


class CycleLength(Enum):
    """How long energy is counted before the blocks start over."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Cycle:
    """When the block position starts over: at midnight of a day of the month or of the year."""

    length: CycleLength
    start_day: int = 1  # 1..28
    start_month: int = 1

    def first_day(self, day: int) -> int:
        """The local day on which the cycle that holds `day` began."""
        if self.length is CycleLength.DAY:
            return day
        year, month, day_of_month = date_from_day(day)
        if self.length is CycleLength.MONTH:
            back = day_of_month < self.start_day
            year, month = (year - (month == 1), (month - 2) % 12 + 1) if back else (year, month)
            return day_from_date(year, month, self.start_day)
        before = (month, day_of_month) < (self.start_month, self.start_day)
        return day_from_date(year - before, self.start_month, self.start_day)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which period is in force: by season, day type and minute. Made and proven by the tariff loader."""

    season_of_date: tuple[int, ...]  # 366 entries, by `leap_day_of_year`
    day_type_of_weekday: tuple[int, ...]  # 7 entries
    day_type_of_day: Mapping[int, int]  # exceptions: holidays, working Sundays
    plans: tuple[tuple[tuple[tuple[int, int], ...], ...], ...]  # [season][day type] -> (first minute, period) pairs

    def plan_of(self, day: int) -> tuple[tuple[int, int], ...]:
        """The (first minute, period) pairs of a local day; the first minute of the first is 0."""
        _, month, day_of_month = date_from_day(day)
        season = self.season_of_date[leap_day_of_year(month, day_of_month)]
        return self.plans[season][self.day_type_of_day.get(day, self.day_type_of_weekday[weekday(day)])]


def leap_day_of_year(month: int, day_of_month: int) -> int:
    """0..365, counted in a leap year, so that a date has the same number every year."""
    return sum(DAYS_IN_MONTH[: month - 1]) + day_of_month - 1


@dataclass(frozen=True, slots=True)
class CalendarVersion:
    """One version of a tariff's calendar, in force from a local day on."""

    first_day: int
    schedule: Schedule
    cycle: Cycle
    first_period: int  # added to the schedule's period numbers, so that versions have their own


@dataclass(frozen=True, slots=True)
class CompiledCalendar:
    """A table of segments over a span: from `starts[i]` to the next start period `periods[i]` is in force.

    `cycle_starts[i]` is the instant at which that segment's cycle began (it may lie before the
    span), so a segment never runs over the end of a cycle.
    """

    starts: tuple[int, ...]
    periods: tuple[int, ...]
    cycle_starts: tuple[int, ...]
    end_at: int

    def index_at(self, at: int) -> int:
        """Index of the segment that holds an instant. ValueError outside the span."""
        if not self.starts[0] <= at < self.end_at:
            raise ValueError(f"the compiled calendar spans {self.starts[0]} to {self.end_at}, asked for {at}")
        return bisect_right(self.starts, at) - 1


def compile_calendar(
    versions: Sequence[CalendarVersion], zone: ZoneOffsets, first_at: int, end_at: int
) -> CompiledCalendar:
    """The calendar of dated versions over [first_at, end_at), by wall clock: 23- and 25-hour days are right."""
    if not first_at < end_at <= zone.end_at:
        raise ValueError(f"zone {zone.name} is known before {zone.end_at}, span {first_at} to {end_at}")
    if local_day(zone, first_at) < versions[0].first_day:
        raise ValueError(f"the span starts before the tariff is valid, on {format_date(versions[0].first_day)}")
    starts: list[int] = []
    rows: list[tuple[int, int]] = []  # (period, cycle start)
    at = first_at
    rules: _DayRules | None = None
    while at < end_at:
        day, second = divmod(at + zone.offset_at(at), SECONDS_PER_DAY)
        if rules is None or rules.day != day:
            rules = _day_rules(versions, zone, day)
        index = bisect_right(rules.plan, second // _SECONDS_PER_MINUTE, key=lambda entry: entry[0]) - 1
        row = (rules.first_period + rules.plan[index][1], rules.cycle_start_at)
        if not rows or rows[-1] != row:
            starts.append(at)
            rows.append(row)
        next_minute = rules.plan[index + 1][0] if index + 1 < len(rules.plan) else MINUTES_PER_DAY
        at = min(at + next_minute * _SECONDS_PER_MINUTE - second, zone.next_transition(at))
    return CompiledCalendar(tuple(starts), tuple(row[0] for row in rows), tuple(row[1] for row in rows), end_at)


@dataclass(frozen=True, slots=True)
class _DayRules:
    """What holds all through a local day."""

    day: int
    plan: tuple[tuple[int, int], ...]
    first_period: int
    cycle_start_at: int


def _day_rules(versions: Sequence[CalendarVersion], zone: ZoneOffsets, day: int) -> _DayRules:
    version = max((v for v in versions if v.first_day <= day), key=lambda v: v.first_day)
    cycle_start_at = midnight_of(zone, version.cycle.first_day(day))
    return _DayRules(day, version.schedule.plan_of(day), version.first_period, cycle_start_at)
