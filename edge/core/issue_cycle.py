"""At which local midnights a bill is issued: month, half month, ten days, week, or at each vend only.

Days are local days since 1970-01-01. Source: RULES.md 2. Blocks and periods of the tariff run on
regardless of these cycles.
"""

from edge.core.calendar import date_from_day, weekday
from edge.core.credit_terms import IssueCycle

_SUNDAY = 6
_DAYS_BEFORE = {IssueCycle.HALF_MONTH: (15,), IssueCycle.TEN_DAYS: (10, 20)}


def is_issued_after(cycle: IssueCycle, issue_day: int, day: int) -> bool:
    """Whether a bill is issued at 24:00 of a local day. `issue_day`: of the month, 0 its last day."""
    match cycle:
        case IssueCycle.MONTH:
            return ends_billing_month(issue_day, day)
        case IssueCycle.WEEK:
            return weekday(day) == _SUNDAY
        case IssueCycle.VEND:
            return False
        case IssueCycle.HALF_MONTH | IssueCycle.TEN_DAYS:
            return date_from_day(day)[2] in _DAYS_BEFORE[cycle] or ends_billing_month(0, day)


def ends_billing_month(issue_day: int, day: int) -> bool:
    """Whether a billing month ends with a local day: months stay the policy's, however often bills come."""
    return date_from_day(day)[2] == issue_day if issue_day else date_from_day(day + 1)[2] == 1
