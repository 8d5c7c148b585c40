"""Local time on integers against the standard library's, and calendars on days of 23 and 25 hours."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.calendar import (
    WEEKDAYS,
    CalendarVersion,
    CompiledCalendar,
    Cycle,
    CycleLength,
    DailyWindows,
    Schedule,
    ZoneOffsets,
    compile_calendar,
    daily_windows,
    date_from_day,
    day_from_date,
    days_in_month,
    fixed_zone,
    format_date,
    local_date,
    local_day,
    local_midnight,
    midnight_of,
    minute_of_day,
    month_end,
    month_start,
    next_local_midnight,
    next_month_day,
    next_open,
    parse_date,
    parse_minute,
    weekday,
)
from edge.zone import zone_offsets

FIRST, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2023, 2026))
# Shanghai has no changes, Lord Howe half an hour, Havana and Santiago change at midnight, Casablanca in Ramadan.
ZONES = ["Asia/Shanghai", "Europe/London", "Australia/Lord_Howe", "America/Havana", "America/Santiago"]
ZONES += ["Africa/Casablanca", "Asia/Kathmandu"]


@cache
def zone(name: str) -> ZoneOffsets:
    return zone_offsets(name, FIRST, END)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@given(day=st.dates(date(1600, 1, 1), date(9999, 12, 31)))
def test_dates_agree_with_the_standard_library(day: date) -> None:
    number = day_from_date(day.year, day.month, day.day)
    assert number == (day - date(1970, 1, 1)).days
    assert date_from_day(number) == (day.year, day.month, day.day)
    assert weekday(number) == day.weekday()
    assert format_date(number) == day.isoformat()
    assert parse_date(day.isoformat()) == number
    assert days_in_month(day.year, day.month) >= day.day


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29",
        "2024-13-01",
        "2024-00-10",
        "2024-1-01",
        "2024-01-1",
        "",
        "20240101",
        "2024-01-00",
        "2024-04-31",
        "x024-01-01",
        "0000-01-01",
        "2024-01-011",
        "\u0662024-01-01",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_date(text)


@pytest.mark.parametrize("text", ["24:01", "8:00", "08:60", "08-00", "", "ab:cd", "08:000", "25:00", "-1:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_minute(text)


def test_times_of_day_are_minutes() -> None:
    assert [parse_minute(text) for text in ("00:00", "08:05", "23:59", "24:00")] == [0, 485, 1439, 1440]


@pytest.mark.parametrize("name", ZONES)
@given(instant=st.integers(FIRST, END - 1))
def test_wall_clock_agrees_with_the_standard_library(name: str, instant: int) -> None:
    there = datetime.fromtimestamp(instant, UTC).astimezone(ZoneInfo(name))
    assert local_date(zone(name), instant) == (there.year, there.month, there.day)
    assert minute_of_day(zone(name), instant) == there.hour * 60 + there.minute


@pytest.mark.parametrize("name", ZONES)
@given(instant=st.integers(FIRST, END - 1))
def test_local_day_holds_the_instant_and_begins_as_its_date_does(name: str, instant: int) -> None:
    start, end = local_midnight(zone(name), instant), next_local_midnight(zone(name), instant)
    assert start <= instant < end
    assert 22 * 3600 < end - start < 26 * 3600
    assert local_date(zone(name), start) == local_date(zone(name), end - 1) == local_date(zone(name), instant)
    assert local_date(zone(name), start - 1) != local_date(zone(name), start)


@pytest.mark.parametrize("name", ZONES)
def test_every_second_near_a_clock_change_lies_in_its_own_day(name: str) -> None:
    for change, _ in zone(name).transitions[1:]:
        for instant in (change + seconds for seconds in range(-7200, 7201, 300)):
            assert midnight_of(zone(name), local_day(zone(name), instant)) <= instant
            assert instant < midnight_of(zone(name), local_day(zone(name), instant) + 1)


def test_days_of_a_clock_change_have_23_and_25_hours() -> None:
    london = zone("Europe/London")
    lengths = {}
    for text in ("2024-03-30", "2024-03-31", "2024-10-26", "2024-10-27"):
        start = midnight_of(london, parse_date(text))
        lengths[text] = (next_local_midnight(london, start) - start) / 3600
    assert lengths == {"2024-03-30": 24, "2024-03-31": 23, "2024-10-26": 24, "2024-10-27": 25}


def test_midnight_that_does_not_exist_is_the_jump_over_it() -> None:
    # Havana, 10 March 2024: 00:00 becomes 01:00
    midnight = midnight_of(zone("America/Havana"), parse_date("2024-03-10"))
    assert midnight == at("2024-03-10T01:00-04:00")
    assert minute_of_day(zone("America/Havana"), midnight) == 60


def test_midnight_that_comes_twice_begins_the_day_the_first_time() -> None:
    # Havana, 3 November 2024: 01:00 becomes 00:00, the date stays
    havana = zone("America/Havana")
    midnight = midnight_of(havana, parse_date("2024-11-03"))
    assert midnight == at("2024-11-03T00:00-04:00")
    assert next_local_midnight(havana, midnight) - midnight == 25 * 3600


def test_midnight_that_is_put_off_begins_the_day_when_the_date_changes() -> None:
    # Santiago, 7 April 2024: at 24:00 of the 6th the clock goes back to 23:00, the 6th has 25 hours
    santiago = zone("America/Santiago")
    assert midnight_of(santiago, parse_date("2024-04-07")) == at("2024-04-07T00:00-04:00")
    assert local_midnight(santiago, at("2024-04-06T23:30-04:00")) == at("2024-04-06T00:00-03:00")


def test_zone_in_which_a_date_comes_back_is_refused() -> None:
    # as Newfoundland did until 2011: at 00:01 the clock went back to 23:01 of the day before
    with pytest.raises(ValueError, match="the date goes back"):
        ZoneOffsets("Made/Up", ((0, 0), (86_460, -3600)), 10 * 86_400)


def test_months_begin_and_end_at_local_midnight() -> None:
    shanghai = zone("Asia/Shanghai")
    noon = at("2024-02-29T12:00+08:00")
    assert month_start(shanghai, noon) == at("2024-02-01T00:00+08:00")
    assert month_end(shanghai, noon) == at("2024-03-01T00:00+08:00")
    assert month_end(shanghai, at("2024-12-31T23:59+08:00")) == at("2025-01-01T00:00+08:00")
    assert month_start(shanghai, month_end(shanghai, noon)) == month_end(shanghai, noon)


@pytest.mark.parametrize(
    ("instant", "day", "due"),
    [
        ("2024-04-09T00:00+08:00", 10, "2024-04-10T00:00+08:00"),
        ("2024-04-10T00:00+08:00", 10, "2024-05-10T00:00+08:00"),
        ("2024-04-10T00:01+08:00", 10, "2024-05-10T00:00+08:00"),
        ("2024-12-31T00:00+08:00", 1, "2025-01-01T00:00+08:00"),
        ("2025-01-01T00:00+08:00", 1, "2025-02-01T00:00+08:00"),
    ],
)
def test_next_day_of_the_month_is_after_the_instant(instant: str, day: int, due: str) -> None:
    assert next_month_day(zone("Asia/Shanghai"), at(instant), day) == at(due)


def test_zone_refuses_what_it_does_not_know() -> None:
    short = fixed_zone("Asia/Shanghai", 8 * 3600, 1000)
    assert short.offset_at(-5) == short.offset_at(999) == 8 * 3600
    with pytest.raises(ValueError, match="offsets are known before 1000"):
        short.offset_at(1000)
    with pytest.raises(ValueError, match="rising order"):
        ZoneOffsets("X", ((5, 0), (4, 0)), 10)
    with pytest.raises(ValueError, match="more than 18 hours"):
        ZoneOffsets("X", ((5, 65_000),), 10)
    with pytest.raises(ZoneInfoNotFoundError):
        zone_offsets("Asia/Nowhere", FIRST, END)


@pytest.mark.parametrize("name", ZONES)
def test_zone_data_has_every_change_of_three_years(name: str) -> None:
    there = ZoneInfo(name)
    for instant in range(FIRST, END, 7200 - 1):
        offset = datetime.fromtimestamp(instant, UTC).astimezone(there).utcoffset()
        assert timedelta(seconds=zone(name).offset_at(instant)) == offset


# --- daily windows ---------------------------------------------------------------------------

CUTS = daily_windows([("09:00", "16:00")], ["mon", "tue", "wed", "thu"], ["2024-04-17"])


@pytest.mark.parametrize(
    ("instant", "opens"),
    [
        ("2024-04-16T08:00+08:00", "2024-04-16T09:00+08:00"),
        ("2024-04-16T09:00+08:00", "2024-04-16T09:00+08:00"),
        ("2024-04-16T15:59:59+08:00", "2024-04-16T15:59:59+08:00"),
        ("2024-04-16T16:00+08:00", "2024-04-18T09:00+08:00"),  # the 17th is a holiday
        ("2024-04-18T16:00+08:00", "2024-04-22T09:00+08:00"),  # Friday to Sunday are not cut days
        ("2024-04-13T08:00+08:00", "2024-04-15T09:00+08:00"),
    ],
)
def test_window_opens_at_its_first_minute_on_its_days(instant: str, opens: str) -> None:
    assert next_open(CUTS, zone("Asia/Shanghai"), at(instant)) == at(opens)


def test_no_windows_are_always_open_and_no_days_never() -> None:
    assert next_open(None, zone("Asia/Shanghai"), 12345) == 12345
    assert next_open(DailyWindows(((0, 1440),), frozenset()), zone("Asia/Shanghai"), FIRST) is None
    assert next_open(DailyWindows(()), zone("Asia/Shanghai"), FIRST) is None


def test_window_over_midnight_belongs_to_each_day_by_itself() -> None:
    mondays = daily_windows([("20:00", "06:00")], ["mon"])
    shanghai = zone("Asia/Shanghai")
    assert next_open(mondays, shanghai, at("2024-04-14T21:00+08:00")) == at("2024-04-15T00:00+08:00")
    assert next_open(mondays, shanghai, at("2024-04-15T06:00+08:00")) == at("2024-04-15T20:00+08:00")
    assert next_open(mondays, shanghai, at("2024-04-16T00:00+08:00")) == at("2024-04-22T00:00+08:00")


def test_window_in_an_hour_that_does_not_exist_opens_after_it() -> None:
    window = daily_windows([("01:30", "02:30")])
    london = zone("Europe/London")
    assert next_open(window, london, at("2024-03-31T00:00+00:00")) == at("2024-03-31T02:00+01:00")


@pytest.mark.parametrize("name", ["Asia/Shanghai", "Europe/London", "America/Havana"])
@given(
    instant=st.integers(at("2024-03-08T00:00+00:00"), at("2024-04-02T00:00+00:00")),
    ends=st.lists(st.tuples(st.integers(0, 1439), st.integers(0, 1440)), min_size=1, max_size=3),
    days=st.sets(st.integers(0, 6), min_size=1),
)
def test_next_opening_is_open_and_no_minute_before_it_is(
    name: str, instant: int, ends: list[tuple[int, int]], days: set[int]
) -> None:
    windows = DailyWindows(tuple(ends), frozenset(days))
    found = next_open(windows, zone(name), instant)
    assert found is not None
    assert windows.is_open(zone(name), found)
    for before in (*range(instant, min(found, instant + 90_000), 600), found - 1):
        assert before < instant or before >= found or not windows.is_open(zone(name), before)


def test_windows_from_text_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="'funday' is not one of mon, tue"):
        daily_windows([("09:00", "16:00")], ["funday"])
    with pytest.raises(ValueError, match="'9:00' is not a time"):
        daily_windows([("9:00", "16:00")])


# --- cycles and the compiled calendar --------------------------------------------------------


@pytest.mark.parametrize(
    ("cycle", "day", "first"),
    [
        (Cycle(CycleLength.DAY), "2024-04-09", "2024-04-09"),
        (Cycle(CycleLength.MONTH), "2024-04-01", "2024-04-01"),
        (Cycle(CycleLength.MONTH), "2024-04-30", "2024-04-01"),
        (Cycle(CycleLength.MONTH, 15), "2024-04-15", "2024-04-15"),
        (Cycle(CycleLength.MONTH, 15), "2024-04-14", "2024-03-15"),
        (Cycle(CycleLength.MONTH, 15), "2024-01-14", "2023-12-15"),
        (Cycle(CycleLength.YEAR), "2024-12-31", "2024-01-01"),
        (Cycle(CycleLength.YEAR, 15, 4), "2024-04-15", "2024-04-15"),
        (Cycle(CycleLength.YEAR, 15, 4), "2024-04-14", "2023-04-15"),
    ],
)
def test_cycle_begins_on_its_day(cycle: Cycle, day: str, first: str) -> None:
    assert format_date(cycle.first_day(parse_date(day))) == first


def schedule(*plan: tuple[int, int]) -> Schedule:
    return Schedule((0,) * 366, (0,) * len(WEEKDAYS), {}, ((plan,),))


MONTHS = Cycle(CycleLength.MONTH)


@pytest.mark.parametrize("name", ZONES)
@given(instant=st.integers(FIRST, END - 1))
def test_compiled_period_is_what_the_wall_clock_says(name: str, instant: int) -> None:
    calendar = compiled_day_and_night(name)
    index = calendar.index_at(instant)
    there = datetime.fromtimestamp(instant, UTC).astimezone(ZoneInfo(name))
    assert calendar.periods[index] == (1 if 60 <= there.hour * 60 + there.minute < 1320 else 0)
    assert local_date(zone(name), calendar.cycle_starts[index]) == (there.year, there.month, 1)


@cache
def compiled_day_and_night(name: str) -> CompiledCalendar:
    versions = [CalendarVersion(0, schedule((0, 0), (60, 1), (1320, 0)), MONTHS, 0)]
    return compile_calendar(versions, zone(name), FIRST, END)


def test_segments_join_where_nothing_changes() -> None:
    versions = [CalendarVersion(0, schedule((0, 0)), MONTHS, 0)]
    calendar = compile_calendar(
        versions, zone("Asia/Shanghai"), at("2024-01-15T00:00+08:00"), at("2024-04-01T00:00+08:00")
    )
    assert calendar.starts == tuple(
        at(text) for text in ("2024-01-15T00:00+08:00", "2024-02-01T00:00+08:00", "2024-03-01T00:00+08:00")
    )
    assert calendar.cycle_starts[0] == at("2024-01-01T00:00+08:00")


def test_holidays_and_make_up_days_have_their_own_day_type() -> None:
    plans = ((((0, 0),), ((0, 1),)),)  # one season: working days period 0, days off period 1
    exceptions = {parse_date("2024-10-01"): 1, parse_date("2024-09-29"): 0}  # a holiday Tuesday, a working Sunday
    rules = Schedule((0,) * 366, (0, 0, 0, 0, 0, 1, 1), exceptions, plans)
    calendar = compile_calendar(
        [CalendarVersion(0, rules, MONTHS, 0)], zone("Asia/Shanghai"), at("2024-09-28T00:00+08:00"), END
    )
    days = ["2024-09-28", "2024-09-29", "2024-09-30", "2024-10-01", "2024-10-02"]
    assert [calendar.periods[calendar.index_at(at(f"{day}T12:00+08:00"))] for day in days] == [1, 0, 0, 1, 0]


def test_later_version_waits_for_its_first_midnight() -> None:
    versions = [
        CalendarVersion(parse_date("2024-01-01"), schedule((0, 0)), MONTHS, 0),
        CalendarVersion(parse_date("2024-04-16"), schedule((0, 0)), MONTHS, 1),
    ]
    start, change = at("2024-04-10T00:00+08:00"), at("2024-04-16T00:00+08:00")
    calendar = compile_calendar(versions, zone("Asia/Shanghai"), start, at("2024-04-20T00:00+08:00"))
    assert (calendar.starts, calendar.periods) == ((start, change), (0, 1))


def test_calendar_refuses_what_is_outside_its_span() -> None:
    versions = [CalendarVersion(parse_date("2024-01-01"), schedule((0, 0)), MONTHS, 0)]
    start, end = at("2024-04-10T00:00+08:00"), at("2024-04-20T00:00+08:00")
    calendar = compile_calendar(versions, zone("Asia/Shanghai"), start, end)
    assert calendar.index_at(start) == calendar.index_at(end - 1) == 0
    for outside in (start - 1, end):
        with pytest.raises(ValueError, match=f"spans {start} to {end}, asked for {outside}"):
            calendar.index_at(outside)
    with pytest.raises(ValueError, match="before the tariff is valid, on 2024-01-01"):
        compile_calendar(versions, zone("Asia/Shanghai"), at("2023-12-31T23:00+08:00"), end)
    with pytest.raises(ValueError, match="is known before"):
        compile_calendar(versions, zone("Asia/Shanghai"), start, zone("Asia/Shanghai").end_at + 1)
