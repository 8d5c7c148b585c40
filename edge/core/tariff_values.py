"""The plain values of a tariff document and how they are refused: where, what was found, what is allowed.

Decimals are strings, read exactly as integers of 10^-digits; a JSON number may have become a float
on its way and is refused. Nothing here descends deeper than the value asked for. Source: RULES.md 1, 3.
"""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from edge.core.calendar import DAYS_IN_MONTH, leap_day_of_year, parse_date, parse_minute

PRICE_DIGITS = 6  # micro-currency
LIMIT_DIGITS = 3  # Wh of a kWh, W of a kW
PERCENT_DIGITS = 2  # hundredths of a percent
NANO_PER_MICRO = 1000
NAME_PATTERN = r"[a-z0-9][a-z0-9_]{0,31}"
_NAME = re.compile(NAME_PATTERN)
_DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,12}))?")
_MONTH_DAY = re.compile(r"([0-9]{2})-([0-9]{2})")


class TariffRefused(Exception):
    """Why a document is not a tariff: the JSON pointer of the fault, what is there, what may be there."""

    def __init__(self, pointer: str, found: str, allowed: str) -> None:
        super().__init__(f"tariff refused at {pointer or '/'}: found {found}; allowed is {allowed}")
        self.pointer = pointer
        self.found = found
        self.allowed = allowed


def read_object(value: Any, pointer: str, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The object, after proof that it has the keys it must have and no unknown one."""
    if not isinstance(value, dict):
        refuse(pointer, value, "an object")
    for key in value:
        if key not in required and key not in optional:
            refuse_saying(
                f"{pointer}/{escaped(str(key)[:64])}", "an unknown key", f"{', '.join((*required, *optional))}"
            )
    for key in required:
        if key not in value:
            refuse_saying(pointer, f"no key {key}", f"an object with {', '.join(required)}")
    return value


def read_list(value: Any, pointer: str, count_min: int, count_max: int) -> list[Any]:
    """The list, after proof of its length."""
    if not isinstance(value, list) or not count_min <= len(value) <= count_max:
        count = f"{count_min}" if count_min == count_max else f"{count_min} to {count_max}"
        refuse(pointer, value, f"a list of {count} entries")
    return value


def read_integer(value: Any, pointer: str, low: int, high: int) -> int:
    """An integer within its bounds; neither true nor 1.0 is one."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        refuse(pointer, value, f"{low}" if low == high else f"an integer from {low} to {high}")
    return value


def read_text(value: Any, pointer: str, pattern: re.Pattern[str], allowed: str) -> str:
    """Text of the pattern."""
    if not isinstance(value, str) or not pattern.fullmatch(value):
        refuse(pointer, value, allowed)
    return value


def read_name(value: Any, pointer: str, taken: Sequence[str]) -> str:
    """A name that the others do not have."""
    name = read_text(value, pointer, _NAME, "a name of a-z, 0-9 and '_', at most 32 characters")
    if name in taken:
        refuse(pointer, value, "a name that is not taken yet")
    return name


def read_chosen(value: Any, pointer: str, names: list[str]) -> list[int]:
    """Indexes of the names listed; all when the key is absent."""
    if value is None:
        return list(range(len(names)))
    chosen: list[int] = []
    for index, name in enumerate(read_list(value, pointer, 1, len(names))):
        if name not in names or names.index(name) in chosen:
            refuse(f"{pointer}/{index}", name, f"one of {', '.join(names)}, each once")
        chosen.append(names.index(name))
    return chosen


def read_decimal(value: Any, pointer: str, digits: int) -> int:
    """A decimal string as an exact integer of 10^-digits. More digits than that are refused, not rounded."""
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None or len(match[3] or "") > digits:
        refuse(pointer, value, f'a decimal string like "0.51" with at most {digits} digits after the point')
    sign, whole, fraction = match[1], match[2], match[3] or ""
    number = int(whole + fraction.ljust(digits, "0"))
    return -number if sign else number


def read_amount(value: Any, pointer: str, low: int = 0) -> int:
    """A decimal string of money or a price, exactly, in micro-currency; not below `low`."""
    micro = read_decimal(value, pointer, PRICE_DIGITS)
    if micro < low:
        refuse(pointer, value, f"an amount not below {format_micro(low)}")
    return micro


def read_within(value: Any, pointer: str, digits: int, low: int, high: int) -> int:
    """A decimal string within whole bounds, as an integer of 10^-digits."""
    number = read_decimal(value, pointer, digits)
    if not low * 10**digits <= number <= high * 10**digits:
        refuse(pointer, value, f"a decimal string from {low} to {high}")
    return number


def read_choice(value: Any, pointer: str, choices: Sequence[str]) -> str:
    """One of the words allowed."""
    if not isinstance(value, str) or value not in choices:
        refuse(pointer, value, ", ".join(choices[:-1]) + f" or {choices[-1]}" if choices[1:] else choices[0])
    return value


def read_flag(value: Any, pointer: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        refuse(pointer, value, "true or false")
    return value


def read_date(value: Any, pointer: str) -> int:
    """The local day of a date."""
    try:
        return parse_date(value if isinstance(value, str) else "")
    except ValueError:
        refuse(pointer, value, "a date of the calendar like 2024-10-01")


def read_minute(value: Any, pointer: str) -> int:
    """The minute of a time of the day, 0 to 1440."""
    try:
        return parse_minute(value if isinstance(value, str) else "")
    except ValueError:
        refuse(pointer, value, "a time from 00:00 to 24:00")


def read_month_day(value: Any, pointer: str) -> int:
    """The day of a leap year, 0 to 365."""
    match = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= 12 or not 1 <= int(match[2]) <= DAYS_IN_MONTH[int(match[1]) - 1]:
        refuse(pointer, value, "a month and day like 10-01 (02-29 is one)")
    return leap_day_of_year(int(match[1]), int(match[2]))


# --- saying what is wrong -------------------------------------------------------------------


def refuse(pointer: str, value: Any, allowed: str) -> NoReturn:
    """Raises TariffRefused for a value that may not stand where it stands."""
    raise TariffRefused(pointer, describe(value), allowed)


def refuse_saying(pointer: str, found: str, allowed: str) -> NoReturn:
    """Raises TariffRefused with what was found in words of our own."""
    raise TariffRefused(pointer, found, allowed)


def escaped(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def describe(value: Any) -> str:
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


def format_minute(minute: int) -> str:
    """A minute of the day as 08:00."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def format_month_day(day: int) -> str:
    """A day of a leap year as 02-29."""
    for month, count in enumerate(DAYS_IN_MONTH):
        if day < count:
            return f"{month + 1:02d}-{day + 1:02d}"
        day -= count
    return "the end of the year"


def format_micro(price: int) -> str:
    """A price with all its digits."""
    whole, fraction = divmod(abs(price), 10**PRICE_DIGITS)
    return f"{'-' if price < 0 else ''}{whole}.{fraction:06d}"
