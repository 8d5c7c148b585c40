"""The late charge: simple, for every day an issued bill is overdue. Never on a prepaid estimate.

Arrears in nano-currency, shares in parts per million a day (1 per mille is 1000), days local days
since 1970-01-01. Days run from the day after the due date to the day of payment, both counted.
Source: Supply Business Rules, article 98, by secondary copies: households 1 per mille, others 2 in
the year the debt fell overdue and 3 in later years, at least 1.00 (RULES.md 3).

On a live account a bill is open with what its issue left below zero. A payment settles the oldest first,
and the days of what it settled are known from then on: no other day is ever charged, so nothing is posted
twice or taken back. What they cost is a line of the next bill, as RULES.md 10 has it: whoever pays up to
zero is restored at once, and no payment falls short by a charge it brought about.
"""

from collections.abc import Sequence
from dataclasses import replace

from edge.core.calendar import date_from_day, day_from_date
from edge.core.lean import dataclass
from edge.core.terms import LateCharge
from edge.core.units import MoneyNano, round_half_away

OPEN_BILLS_MAX = 60
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Arrears:
    """An issued bill that was paid late, or still is open on the day given."""

    amount_nano: int
    overdue_from_day: int  # the day after the due date
    paid_on_day: int


@dataclass(frozen=True, slots=True)
class LateFee:
    """The charge, and the days behind it."""

    days_same_year: int
    days_later_years: int
    amount_nano: int


@dataclass(frozen=True, slots=True)
class OpenBill:
    """What of an issued bill is not paid yet."""

    amount_nano: MoneyNano
    due_day: int
    share_nano: MoneyNano = MoneyNano(0)  # what the days of its parts paid late came to
    charged_nano: MoneyNano = MoneyNano(0)  # the same, or the minimum: once for a bill


@dataclass(frozen=True, slots=True)
class SettledPart:
    """What a payment settled of one bill, and what its days cost. No days: it was in time."""

    amount_nano: MoneyNano
    due_day: int
    days_same_year: int
    days_later_years: int
    share_nano: MoneyNano  # by the days
    late_nano: MoneyNano  # charged: more where the bill's charge is raised to the minimum


def late_fee(terms: LateCharge, arrears: Arrears, minor_nano: int) -> LateFee:
    """What a late payment costs: exact nano, at least the minimum; nothing when it was in time or nothing was due."""
    fee = _by_days(terms, arrears)
    if not fee.days_same_year:
        return fee
    return replace(fee, amount_nano=max(fee.amount_nano, terms.minimum_minor * minor_nano))


def newly_open(bills: Sequence[OpenBill], bill_nano: int, below_nano: int) -> MoneyNano:
    """What a bill just issued leaves open. `below_nano`: how far the money lies below its limit after it."""
    return MoneyNano(max(0, min(bill_nano, below_nano - _open_nano(bills))))


def with_bill(bills: tuple[OpenBill, ...], bill: OpenBill) -> tuple[OpenBill, ...]:
    """The open bills with one more. The two oldest become one, due with the later, where there are too many."""
    bills = (*bills, bill)
    if len(bills) <= OPEN_BILLS_MAX:
        return bills
    first, second, *rest = bills
    one = OpenBill(
        MoneyNano(first.amount_nano + second.amount_nano),
        max(first.due_day, second.due_day),
        MoneyNano(first.share_nano + second.share_nano),
        MoneyNano(first.charged_nano + second.charged_nano),
    )
    return one, *rest


def settle(
    bills: Sequence[OpenBill], credit_nano: int, below_nano: int, paid_day: int, late: tuple[LateCharge | None, int]
) -> tuple[SettledPart, ...]:
    """What a payment settles, the oldest bill first. `late`: the terms, and the nano of a minor unit.

    What is open beyond `below_nano`, where the money stood before it, was made good by something else
    (a correction, say): that much goes without a charge.
    """
    free_nano, parts = max(0, _open_nano(bills) - below_nano), list[SettledPart]()
    for bill in bills:
        free = MoneyNano(min(free_nano, bill.amount_nano))
        free_nano -= free
        paid = MoneyNano(max(0, min(credit_nano, bill.amount_nano - free)))
        credit_nano -= paid
        if free:
            parts.append(SettledPart(free, bill.due_day, 0, 0, MoneyNano(0), MoneyNano(0)))
        if paid:
            parts.append(_part(bill, paid, paid_day, *late))
    return tuple(parts)


def after_settling(bills: tuple[OpenBill, ...], parts: Sequence[SettledPart]) -> tuple[OpenBill, ...]:
    """The open bills after these parts of them, which come in the bills' order."""
    for part in parts:
        first, *rest = bills
        if first.amount_nano == part.amount_nano:
            bills = tuple(rest)
            continue
        left = OpenBill(
            MoneyNano(first.amount_nano - part.amount_nano),
            first.due_day,
            MoneyNano(first.share_nano + part.share_nano),
            MoneyNano(first.charged_nano + part.late_nano),
        )
        bills = (left, *rest)
    return bills


def _part(bill: OpenBill, paid: MoneyNano, paid_day: int, terms: LateCharge | None, minor_nano: int) -> SettledPart:
    if terms is None or paid_day <= bill.due_day:
        return SettledPart(paid, bill.due_day, 0, 0, MoneyNano(0), MoneyNano(0))
    fee = _by_days(terms, Arrears(paid, bill.due_day + 1, paid_day))
    charge_nano = max(bill.share_nano + fee.amount_nano, terms.minimum_minor * minor_nano)
    late_nano = MoneyNano(max(0, charge_nano - bill.charged_nano))
    days = (fee.days_same_year, fee.days_later_years)
    return SettledPart(paid, bill.due_day, *days, MoneyNano(fee.amount_nano), late_nano)


def _by_days(terms: LateCharge, arrears: Arrears) -> LateFee:
    first, last = arrears.overdue_from_day, arrears.paid_on_day
    if arrears.amount_nano <= 0 or last < first:
        return LateFee(0, 0, 0)
    next_year = day_from_date(date_from_day(first)[0] + 1, 1, 1)
    same_year = min(last + 1, next_year) - first
    later_years = last + 1 - first - same_year
    share_ppm = same_year * terms.same_year_ppm_per_day + later_years * terms.later_year_ppm_per_day
    return LateFee(same_year, later_years, round_half_away(arrears.amount_nano * share_ppm, _PPM))


def _open_nano(bills: Sequence[OpenBill]) -> int:
    return sum(bill.amount_nano for bill in bills)
