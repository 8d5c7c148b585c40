"""Time-based and consumption-based credit: so much of each period for nothing, or for having used little.

A time-based credit is granted at the start of each day, week or billing month; what is not spent by
its end may lapse. A consumption-based one is granted at the end of a period in which no more than a
stated energy was used. Grants are spent before the token credit, in the order of their priority,
by what the account was charged since. Source: COSEM Credit (class_id 112, credit_type 3 and 4),
RULES.md 5. Amounts nano-currency, energy Wh, days local days since 1970-01-01.
"""

from collections.abc import Iterator

from edge.core import events as ev
from edge.core.account import Account
from edge.core.calendar import weekday
from edge.core.credit_terms import CreditGrant, GrantKind, GrantPeriod
from edge.core.daily_charges import Days
from edge.core.issue_cycle import ends_billing_month
from edge.core.units import MoneyNano

_SUNDAY = 6


def grant_events(account: Account, days: Days) -> Iterator[ev.Event]:
    """What the grants of an account come to at a daily freeze, its charges posted: spent, lapsed, granted."""
    grants = sorted(account.policy.credit.grants, key=lambda grant: (grant.priority, grant.name))
    if not grants and not account.grants:
        return
    spent = _spent(account, grants)
    if spent:
        yield ev.GrantedCreditSpent(days.at, account.account_id, spent, account.consumed_nano)
    left = {name: state.left_nano for name, state in account.grants.items()}
    left |= {name: MoneyNano(left[name] - amount_nano) for name, amount_nano in spent}
    money_nano = account.money_nano
    for grant in grants:
        if not any(_ends_period(grant.period, account, day) for day in range(days.first_day, days.end_day)):
            continue
        unspent_nano = left.get(grant.name, 0)
        if grant.lapses and unspent_nano:
            money_nano = MoneyNano(money_nano - unspent_nano)
            posting = MoneyNano(-unspent_nano)
            yield ev.GrantedCreditLapsed(days.at, account.account_id, grant.name, posting, money_nano)
        amount_nano = _granted(account, grant)
        money_nano = MoneyNano(money_nano + amount_nano)
        marks = (account.consumed_nano, account.consumed_wh)
        yield ev.CreditPeriodBegan(
            days.at, account.account_id, grant.name, grant.kind.value, *marks, amount_nano, money_nano
        )


def _spent(account: Account, grants: list[CreditGrant]) -> tuple[tuple[str, MoneyNano], ...]:
    """What was charged since the freeze before, taken from the grants in their order."""
    rest_nano = account.consumed_nano - account.granted_mark_nano
    found = []
    for grant in grants:
        state = account.grants.get(grant.name)
        part = min(rest_nano, state.left_nano) if state is not None else 0
        if part > 0:
            found.append((grant.name, MoneyNano(part)))
            rest_nano -= part
    return tuple(found)


def _granted(account: Account, grant: CreditGrant) -> MoneyNano:
    if grant.kind is GrantKind.TIME:
        return grant.amount_nano
    state = account.grants.get(grant.name)
    if state is None:
        return MoneyNano(0)  # the period just ended was not seen from its start
    little = account.consumed_wh - state.since_wh <= grant.energy_wh_max
    return grant.amount_nano if little else MoneyNano(0)


def _ends_period(period: GrantPeriod, account: Account, day: int) -> bool:
    match period:
        case GrantPeriod.DAY:
            return True
        case GrantPeriod.WEEK:
            return weekday(day) == _SUNDAY
        case GrantPeriod.MONTH:
            return ends_billing_month(account.policy.issue_day, day)
