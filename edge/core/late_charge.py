"""The late charge: simple, for every day an issued bill is overdue. Never on a prepaid estimate.

Arrears in nano-currency, shares in parts per million a day (1 per mille is 1000), days local days
since 1970-01-01. Days run from the day after the due date to the day of payment, both counted.
Source: Supply Business Rules, article 98, by secondary copies: households 1 per mille, others 2 in
the year the debt fell overdue and 3 in later years, at least 1.00 (RULES.md 3).
"""

from edge.core.calendar import date_from_day, day_from_date
from edge.core.lean import dataclass
from edge.core.terms import LateCharge
from edge.core.units import round_half_away

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


def late_fee(terms: LateCharge, arrears: Arrears, minor_nano: int) -> LateFee:
    """What a late payment costs: exact nano, at least the minimum; nothing when it was in time or nothing was due."""
    first, last = arrears.overdue_from_day, arrears.paid_on_day
    if arrears.amount_nano <= 0 or last < first:
        return LateFee(0, 0, 0)
    next_year = day_from_date(date_from_day(first)[0] + 1, 1, 1)
    same_year = min(last + 1, next_year) - first
    later_years = last + 1 - first - same_year
    share_ppm = same_year * terms.same_year_ppm_per_day + later_years * terms.later_year_ppm_per_day
    amount_nano = round_half_away(arrears.amount_nano * share_ppm, _PPM)
    return LateFee(same_year, later_years, max(amount_nano, terms.minimum_minor * minor_nano))
