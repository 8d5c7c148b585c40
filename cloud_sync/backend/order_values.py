"""What a person types at `wattgate order`, as an order states it: amounts, instants, days and shares.

Amounts are decimals of the account's unit (currency, or kWh of an energy account) and become nano; times are ISO
8601 with an offset or Unix seconds; shares are percent and become hundredths. Each parser is argparse's `type`.
"""

import argparse
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

NANO: Final = 10**9
AMOUNT_NANO_MAX: Final = 9 * 10**18
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def amount_nano(text: str) -> int:
    """An amount above 0."""
    whole = _scaled(text, NANO)
    if whole is None or not 0 < whole <= AMOUNT_NANO_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount above 0, as 12.34")
    return whole


def any_amount_nano(text: str) -> int:
    """An amount that may be 0 or below it."""
    whole = _scaled(text, NANO)
    if whole is None or abs(whole) > AMOUNT_NANO_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount, as 12.34 or -12.34")
    return whole


def share(text: str) -> int:
    """Percent as hundredths of it."""
    hundredths = _scaled(text.removesuffix("%"), 100)
    if hundredths is None or not 0 <= hundredths <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 100 %, as 12.5")
    return hundredths


def part(text: str) -> list[int]:
    """A part of a plan: the local day it is due and its share, as 2026-12-31=40."""
    day, sign, percent = text.partition("=")
    try:
        due_day = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        due_day = -1
    if not sign or due_day < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of a plan, as 2026-12-31=40")
    return [due_day, share(percent)]


def instant(text: str) -> int:
    """Unix seconds of a time that says where it is."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: 2026-12-31T00:00+08:00, or Unix seconds")
    return int(at.timestamp())


def _scaled(text: str, factor: int) -> int | None:
    """A decimal times a factor, where that is a whole number."""
    try:
        scaled = Decimal(text) * factor
        return int(scaled) if scaled == int(scaled) else None
    except (InvalidOperation, ValueError, OverflowError):
        return None
