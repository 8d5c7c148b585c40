"""The tariff document: read strictly, proven before it is accepted, compiled for the rating.

A document is a plain JSON object (edge/tariffs/README.md describes it key by key). Prices and
limits are decimal strings, read exactly: prices to micro-currency per kWh, limits in kWh to Wh.
Days are local days since 1970-01-01. Source: RULES.md 3 and 10.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, NoReturn

from edge.core.calendar import (
    DAYS_IN_MONTH,
    MINUTES_PER_DAY,
    WEEKDAYS,
    CalendarVersion,
    Cycle,
    CycleLength,
    Schedule,
    ZoneOffsets,
    compile_calendar,
    leap_day_of_year,
    parse_date,
    parse_minute,
)
from edge.core.rating import AMOUNT_NANO_MAX, ENERGY_WH_MAX, CompiledTariff, PeriodPrices

FORMAT = 1
PERIODS_MAX = 64
BLOCKS_MAX = 64
_SEASONS_MAX = 24
_DAY_TYPES_MAX = 16
_RANGES_MAX = 24
_WINDOWS_MAX = 512
_DATES_MAX = 4096
_ENERGY_KWH_MAX_DEFAULT = "1000000"  # 10^9 Wh in a cycle leaves room for prices up to 9,000 per kWh
_PRICE_DIGITS = 6
_LIMIT_DIGITS = 3
_DAYS_IN_LEAP_YEAR = 366
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
_DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,12}))?")
_MONTH_DAY = re.compile(r"([0-9]{2})-([0-9]{2})")
_REQUIRED = ("format", "id", "version", "currency", "minor_digits", "time_zone", "valid_from", "cycle", "prices")
_OPTIONAL = ("title", "seasons", "day_types", "periods", "blocks", "cycle_energy_kwh_max", "provenance")


class TariffRefused(Exception):
    """Why a document is not a tariff: the JSON pointer of the fault, what is there, what may be there."""

    def __init__(self, pointer: str, found: str, allowed: str) -> None:
        super().__init__(f"tariff refused at {pointer or '/'}: found {found}; allowed is {allowed}")
        self.pointer = pointer
        self.found = found
        self.allowed = allowed


class BlockScope(Enum):
    """What moves the block position: all periods together (China), or each its own (URDB, GB)."""

    CYCLE = "cycle"
    PERIOD = "period"


@dataclass(frozen=True, slots=True)
class Tariff:
    """One accepted version of a tariff."""

    tariff_id: str
    version: int
    title: str
    currency: str
    minor_digits: int
    time_zone: str
    first_day: int  # valid from local midnight of this day
    cycle: Cycle
    schedule: Schedule
    block_scope: BlockScope
    periods: tuple[PeriodPrices, ...]
    energy_wh_max: int

    @property
    def order_matters(self) -> bool:
        """Whether the order of intervals within a cycle changes the cost (RULES.md 3).

        It does not when every period has the same steps from block to block, or its own blocks.
        """
        if self.block_scope is BlockScope.PERIOD:
            return False
        rows = [period.prices_micro_per_kwh for period in self.periods]
        return len({tuple(price - row[0] for price in row) for row in rows}) > 1


def load_tariff(document: Any) -> Tariff:
    """The tariff that a document states. Raises TariffRefused for the first fault found."""
    keys = _object(document, "", _REQUIRED, _OPTIONAL)
    _integer(keys["format"], "/format", FORMAT, FORMAT)
    seasons, season_of_date = _seasons(keys.get("seasons"))
    day_types, day_type_of_weekday, day_type_of_day = _day_types(keys.get("day_types"))
    names, plans = _periods(keys.get("periods"), seasons, day_types)
    scope, limits = _blocks(keys.get("blocks"), names)
    energy_wh_max = _energy_max(keys.get("cycle_energy_kwh_max", _ENERGY_KWH_MAX_DEFAULT), limits)
    prices = _prices(keys["prices"], names, limits, energy_wh_max)
    _provenance(keys.get("provenance", {}), document)
    return Tariff(
        tariff_id=_text(keys["id"], "/id", _ID, "a name of a-z, 0-9, '.', '_' and '-', at most 64 characters"),
        version=_integer(keys["version"], "/version", 1, 1_000_000_000),
        title=_title(keys.get("title", "")),
        currency=_text(keys["currency"], "/currency", _CURRENCY, "an ISO 4217 code like CNY"),
        minor_digits=_integer(keys["minor_digits"], "/minor_digits", 0, 4),
        time_zone=_text(keys["time_zone"], "/time_zone", _ZONE, "an IANA zone like Asia/Shanghai"),
        first_day=_date(keys["valid_from"], "/valid_from"),
        cycle=_cycle(keys["cycle"]),
        schedule=Schedule(season_of_date, day_type_of_weekday, day_type_of_day, plans),
        block_scope=scope,
        periods=tuple(
            PeriodPrices(name, index if scope is BlockScope.PERIOD else 0, limits[index], prices[index])
            for index, name in enumerate(names)
        ),
        energy_wh_max=energy_wh_max,
    )


def compile_tariff(versions: Sequence[Tariff], zone: ZoneOffsets, first_at: int, end_at: int) -> CompiledTariff:
    """Tables for the rating over [first_at, end_at), from the dated versions of one tariff, in order.

    A version that is not yet valid waits: its periods begin at its first local midnight, and the
    block position runs on. Raises ValueError when the versions do not belong together or the
    span is not covered by them and the zone.
    """
    _check_versions(versions, zone)
    calendars: list[CalendarVersion] = []
    periods: list[PeriodPrices] = []
    for version in versions:
        calendars.append(CalendarVersion(version.first_day, version.schedule, version.cycle, len(periods)))
        periods.extend(version.periods)
    first = versions[0]
    return CompiledTariff(
        tariff_id=first.tariff_id,
        calendar=compile_calendar(calendars, zone, first_at, end_at),
        periods=tuple(periods),
        position_count=len(first.periods) if first.block_scope is BlockScope.PERIOD else 1,
        energy_wh_max=min(version.energy_wh_max for version in versions),
    )


def _check_versions(versions: Sequence[Tariff], zone: ZoneOffsets) -> None:
    first = versions[0]
    for before, after in pairwise(versions):
        if not (before.version < after.version and before.first_day < after.first_day):
            raise ValueError(f"versions {before.version} and {after.version} of {first.tariff_id} are not in order")
    for version in versions:
        if version.time_zone != zone.name:
            raise ValueError(f"tariff {version.tariff_id} is for zone {version.time_zone}, not {zone.name}")
        if _shape(version) != _shape(first):
            raise ValueError(
                f"versions {first.version} and {version.version} of {first.tariff_id} differ in id, currency, "
                "cycle or block scope (or in periods that count for themselves): close the cycle and begin anew"
            )


def _shape(version: Tariff) -> tuple[object, ...]:
    """What must not change while a block position runs on."""
    names = [period.name for period in version.periods] if version.block_scope is BlockScope.PERIOD else []
    return version.tariff_id, version.currency, version.minor_digits, version.cycle, version.block_scope, names


# --- the parts of a document -----------------------------------------------------------------


def _title(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        _refuse("/title", value, "text of at most 200 characters")
    return value


def _cycle(value: Any) -> Cycle:
    length = _object(value, "/cycle", ("length",), ("start_day", "start_month"))["length"]
    if length not in [choice.value for choice in CycleLength]:
        _refuse("/cycle/length", length, "day, month or year")
    allowed = {"day": (), "month": ("start_day",), "year": ("start_day", "start_month")}[length]
    keys = _object(value, "/cycle", ("length",), allowed)
    return Cycle(
        CycleLength(length),
        _integer(keys.get("start_day", 1), "/cycle/start_day", 1, 28),
        _integer(keys.get("start_month", 1), "/cycle/start_month", 1, 12),
    )


def _seasons(value: Any) -> tuple[list[str], tuple[int, ...]]:
    """Names, and the season of each of the 366 dates."""
    if value is None:
        return ["year"], (0,) * _DAYS_IN_LEAP_YEAR
    names: list[str] = []
    spans: list[_Span] = []
    for index, item in enumerate(_list(value, "/seasons", 1, _SEASONS_MAX)):
        pointer = f"/seasons/{index}"
        keys = _object(item, pointer, ("name", "dates"))
        names.append(_name(keys["name"], f"{pointer}/name", names))
        for number, dates in enumerate(_list(keys["dates"], f"{pointer}/dates", 1, _RANGES_MAX)):
            here = f"{pointer}/dates/{number}"
            first, last = (_month_day(text, f"{here}/{n}") for n, text in enumerate(_list(dates, here, 2, 2)))
            spans.extend(_Span(*ends, index, here) for ends in _unwrapped(first, last + 1, _DAYS_IN_LEAP_YEAR))
    _cover(spans, _DAYS_IN_LEAP_YEAR, "/seasons", _format_month_day, "in the year")
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
    for index, item in enumerate(_list(value, "/day_types", 1, _DAY_TYPES_MAX)):
        pointer = f"/day_types/{index}"
        keys = _object(item, pointer, ("name",), ("weekdays", "dates"))
        names.append(_name(keys["name"], f"{pointer}/name", names))
        for number, text in enumerate(_list(keys.get("weekdays", []), f"{pointer}/weekdays", 0, len(WEEKDAYS))):
            if text not in WEEKDAYS or WEEKDAYS.index(text) in of_weekday:
                _refuse(f"{pointer}/weekdays/{number}", text, f"one of {', '.join(WEEKDAYS)}, each in one day type")
            of_weekday[WEEKDAYS.index(text)] = index
        for number, text in enumerate(_list(keys.get("dates", []), f"{pointer}/dates", 0, _DATES_MAX)):
            day = _date(text, f"{pointer}/dates/{number}")
            if day in of_day:
                _refuse(f"{pointer}/dates/{number}", text, "a date that no day type has yet")
            of_day[day] = index
    for number, name in enumerate(WEEKDAYS):
        if number not in of_weekday:
            _refuse_saying("/day_types", f"no day type for {name}", "every weekday in exactly one day type")
    return names, tuple(of_weekday[number] for number in range(len(WEEKDAYS))), of_day


_Plan = tuple[tuple[int, int], ...]


def _periods(value: Any, seasons: list[str], day_types: list[str]) -> tuple[list[str], tuple[tuple[_Plan, ...], ...]]:
    """Names, and for each season and day type the (first minute, period) pairs of its day."""
    names: list[str] = []
    windows: list[tuple[_Span, list[int], list[int]]] = []  # minutes and period, seasons, day types
    for index, item in enumerate(_list([{"name": "all"}] if value is None else value, "/periods", 1, PERIODS_MAX)):
        pointer = f"/periods/{index}"
        keys = _object(item, pointer, ("name",), ("windows",))
        names.append(_name(keys["name"], f"{pointer}/name", names))
        whole_day = [{"from": "00:00", "to": "24:00"}]
        for number, window in enumerate(_list(keys.get("windows", whole_day), f"{pointer}/windows", 1, _WINDOWS_MAX)):
            windows.extend(_window(window, f"{pointer}/windows/{number}", index, seasons, day_types))
    plans = []
    for season, season_name in enumerate(seasons):
        row = []
        for day_type, day_type_name in enumerate(day_types):
            spans = [span for span, of_seasons, of_types in windows if season in of_seasons and day_type in of_types]
            where = f"in season {season_name} on day type {day_type_name}"
            row.append(_plan(_cover(spans, MINUTES_PER_DAY, "/periods", _format_minute, where)))
        plans.append(tuple(row))
    return names, tuple(plans)


def _window(
    value: Any, pointer: str, period: int, seasons: list[str], day_types: list[str]
) -> list[tuple["_Span", list[int], list[int]]]:
    keys = _object(value, pointer, ("from", "to"), ("seasons", "day_types"))
    of_seasons = _chosen(keys.get("seasons"), f"{pointer}/seasons", seasons)
    of_types = _chosen(keys.get("day_types"), f"{pointer}/day_types", day_types)
    first, end = _minute(keys["from"], f"{pointer}/from"), _minute(keys["to"], f"{pointer}/to")
    if first in (end, MINUTES_PER_DAY):
        _refuse_saying(pointer, f"{keys['from']} to {keys['to']}", "a window with minutes in it, e.g. 00:00 to 24:00")
    return [(_Span(*ends, period, pointer), of_seasons, of_types) for ends in _unwrapped(first, end, MINUTES_PER_DAY)]


def _plan(spans: Sequence["_Span"]) -> _Plan:
    """Neighbours of one period become one entry, so that no boundary stands where nothing changes."""
    plan: list[tuple[int, int]] = []
    for span in spans:
        if not plan or plan[-1][1] != span.what:
            plan.append((span.first, span.what))
    return tuple(plan)


def _blocks(value: Any, names: list[str]) -> tuple[BlockScope, list[tuple[int, ...]]]:
    """Scope, and the limits of each period in Wh."""
    if value is None:
        return BlockScope.CYCLE, [()] * len(names)
    keys = _object(value, "/blocks", ("limits_kwh",), ("scope",))
    scope = keys.get("scope", BlockScope.CYCLE.value)
    if scope not in [choice.value for choice in BlockScope]:
        _refuse("/blocks/scope", scope, "cycle or period")
    limits, pointer = keys["limits_kwh"], "/blocks/limits_kwh"
    if isinstance(limits, dict) and scope == BlockScope.PERIOD.value:
        by_period = _object(limits, pointer, tuple(names))
        return BlockScope.PERIOD, [_limits(by_period[name], f"{pointer}/{name}") for name in names]
    return BlockScope(scope), [_limits(limits, pointer)] * len(names)


def _limits(value: Any, pointer: str) -> tuple[int, ...]:
    limits: list[int] = []
    for index, text in enumerate(_list(value, pointer, 0, BLOCKS_MAX - 1)):
        limit_wh = _decimal(text, f"{pointer}/{index}", _LIMIT_DIGITS)
        if limit_wh <= (limits[-1] if limits else 0):
            _refuse(f"{pointer}/{index}", text, "a limit above 0 and above the one before it")
        limits.append(limit_wh)
    return tuple(limits)


def _energy_max(value: Any, limits: list[tuple[int, ...]]) -> int:
    pointer = "/cycle_energy_kwh_max"
    energy_wh_max = _decimal(value, pointer, _LIMIT_DIGITS)
    highest_wh = max((row[-1] for row in limits if row), default=1)
    if not highest_wh <= energy_wh_max <= ENERGY_WH_MAX:
        _refuse(pointer, value, f"the highest block limit up to {ENERGY_WH_MAX // 1000} kWh")
    return energy_wh_max


def _prices(value: Any, names: list[str], limits: list[tuple[int, ...]], energy_wh_max: int) -> list[tuple[int, ...]]:
    """Prices by period and block, in micro per kWh, each within the bounds of the rating."""
    keys = _object(value, "/prices", (), ("table", "base_by_period", "adder_by_block"))
    if set(keys) == {"table"}:
        table = _object(keys["table"], "/prices/table", tuple(names))
        rows = zip(names, limits, strict=True)
        prices = [_price_row(table[name], f"/prices/table/{name}", row) for name, row in rows]
    elif set(keys) == {"base_by_period", "adder_by_block"}:
        base = _object(keys["base_by_period"], "/prices/base_by_period", tuple(names))
        longest = max(limits, key=len)
        adders = _price_row(keys["adder_by_block"], "/prices/adder_by_block", longest)
        bases = [_decimal(base[name], f"/prices/base_by_period/{name}", _PRICE_DIGITS) for name in names]
        counts = [len(row) + 1 for row in limits]
        prices = [tuple(low + adder for adder in adders[:n]) for low, n in zip(bases, counts, strict=True)]
    else:
        found = ", ".join(sorted(keys)) or "no key"
        _refuse_saying("/prices", found, "either table, or base_by_period with adder_by_block")
    for name, row in zip(names, prices, strict=True):
        for block, price in enumerate(row):
            _check_price(price, energy_wh_max, f"period {name}, block {block + 1}")
    return prices


def _price_row(value: Any, pointer: str, limits: tuple[int, ...]) -> tuple[int, ...]:
    items = _list(value, pointer, len(limits) + 1, len(limits) + 1)
    return tuple(_decimal(text, f"{pointer}/{index}", _PRICE_DIGITS) for index, text in enumerate(items))


def _check_price(price: int, energy_wh_max: int, where: str) -> None:
    """The kernel's bound: no amount of a cycle may leave 64 bits (RULES.md 10)."""
    highest = AMOUNT_NANO_MAX // energy_wh_max
    if not 0 <= price <= highest:
        found = f"a price of {_format_micro(price)} in {where}"
        _refuse_saying("/prices", found, f"0 to {_format_micro(highest)} per kWh with this cycle_energy_kwh_max")


def _provenance(value: Any, document: Any) -> None:
    """Where figures come from: JSON pointer of a part of the document, and a sentence."""
    if not isinstance(value, dict):
        _refuse("/provenance", value, "an object")
    for pointer, text in value.items():
        here = f"/provenance/{_escaped(str(pointer)[:64])}"
        if not isinstance(text, str) or not 1 <= len(text) <= 500:
            _refuse(here, text, "text of 1 to 500 characters")
        if not (isinstance(pointer, str) and _resolves(document, pointer)):
            _refuse_saying(here, "no such place in this document", "the JSON pointer of a part of the document")


def _resolves(value: Any, pointer: str) -> bool:
    if not pointer.startswith("/"):
        return False
    for token in pointer[1:].split("/"):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isascii() and token.isdigit() and int(token) < len(value):
            value = value[int(token)]
        else:
            return False
    return True


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


def _cover(spans: Sequence[_Span], size: int, pointer: str, text: Any, where: str) -> list[_Span]:
    """The spans in order, after proof that they hold everything from 0 to `size` exactly once."""
    in_order = sorted(spans, key=lambda span: (span.first, span.end))
    end = 0
    for span in in_order:
        if span.first > end:
            _refuse_saying(pointer, f"nothing from {text(end)} to {text(span.first)} {where}", "all covered once")
        if span.first < end:
            _refuse_saying(span.pointer, f"{text(span.first)} covered twice {where}", "all covered once")
        end = span.end
    if end < size:
        _refuse_saying(pointer, f"nothing from {text(end)} to {text(size)} {where}", "all covered once")
    return in_order


# --- plain values ----------------------------------------------------------------------------


def _object(value: Any, pointer: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(pointer, value, "an object")
    for key in value:
        if key not in required and key not in optional:
            _refuse_saying(
                f"{pointer}/{_escaped(str(key)[:64])}", "an unknown key", f"{', '.join((*required, *optional))}"
            )
    for key in required:
        if key not in value:
            _refuse_saying(pointer, f"no key {key}", f"an object with {', '.join(required)}")
    return value


def _list(value: Any, pointer: str, count_min: int, count_max: int) -> list[Any]:
    if not isinstance(value, list) or not count_min <= len(value) <= count_max:
        count = f"{count_min}" if count_min == count_max else f"{count_min} to {count_max}"
        _refuse(pointer, value, f"a list of {count} entries")
    return value


def _integer(value: Any, pointer: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(pointer, value, f"{low}" if low == high else f"an integer from {low} to {high}")
    return value


def _text(value: Any, pointer: str, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        _refuse(pointer, value, allowed)
    return value


def _name(value: Any, pointer: str, taken: Sequence[str]) -> str:
    name = _text(value, pointer, _NAME, "a name of a-z, 0-9 and '_', at most 32 characters")
    if name in taken:
        _refuse(pointer, value, "a name that is not taken yet")
    return name


def _chosen(value: Any, pointer: str, names: list[str]) -> list[int]:
    """Indexes of the names listed; all when the key is absent."""
    if value is None:
        return list(range(len(names)))
    chosen: list[int] = []
    for index, name in enumerate(_list(value, pointer, 1, len(names))):
        if name not in names or names.index(name) in chosen:
            _refuse(f"{pointer}/{index}", name, f"one of {', '.join(names)}, each once")
        chosen.append(names.index(name))
    return chosen


def _decimal(value: Any, pointer: str, digits: int) -> int:
    """A decimal string as an exact integer of 10^-digits. More digits than that are refused, not rounded."""
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None or len(match[3] or "") > digits:
        _refuse(pointer, value, f'a decimal string like "0.51" with at most {digits} digits after the point')
    sign, whole, fraction = match[1], match[2], match[3] or ""
    number = int(whole + fraction.ljust(digits, "0"))
    return -number if sign else number


def _date(value: Any, pointer: str) -> int:
    try:
        return parse_date(value if isinstance(value, str) else "")
    except ValueError:
        _refuse(pointer, value, "a date of the calendar like 2024-10-01")


def _minute(value: Any, pointer: str) -> int:
    try:
        return parse_minute(value if isinstance(value, str) else "")
    except ValueError:
        _refuse(pointer, value, "a time from 00:00 to 24:00")


def _month_day(value: Any, pointer: str) -> int:
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= 12 or not 1 <= int(match[2]) <= DAYS_IN_MONTH[int(match[1]) - 1]:
        _refuse(pointer, value, "a month and day like 10-01 (02-29 is one)")
    return leap_day_of_year(int(match[1]), int(match[2]))


# --- saying what is wrong --------------------------------------------------------------------


def _refuse(pointer: str, value: Any, allowed: str) -> NoReturn:
    raise TariffRefused(pointer, _describe(value), allowed)


def _refuse_saying(pointer: str, found: str, allowed: str) -> NoReturn:
    raise TariffRefused(pointer, found, allowed)


def _escaped(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _describe(value: Any) -> str:
    """A value in a few words, however large or deep it is."""
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}..." ({len(value)} characters)'
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list):
        return f"a list of {len(value)} entries"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _format_minute(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _format_month_day(day: int) -> str:
    for month, count in enumerate(DAYS_IN_MONTH):
        if day < count:
            return f"{month + 1:02d}-{day + 1:02d}"
        day -= count
    return "the end of the year"


def _format_micro(price: int) -> str:
    whole, fraction = divmod(abs(price), 10**_PRICE_DIGITS)
    return f"{'-' if price < 0 else ''}{whole}.{fraction:06d}"
