"""Standing charge, time-based debts and instalments: what falls due with each local day, exactly once.

They post at the daily freeze, for all days since the freeze before it, so days without power are
caught up once. A standing charge by the month is due on the first day of each billing month and on
the first day of the account. Each amount comes from the token credit down to the disablement
threshold, then from emergency credit where that may pay it, else it lowers the balance further or
becomes accumulated debt. Source: RULES.md 3, 5 and 10; SMETS2, COSEM Charge (class_id 113).
Amounts nano-currency, days local days since 1970-01-01.
"""

from collections.abc import Iterator
from dataclasses import replace

from edge.core import events as ev
from edge.core.account import Account
from edge.core.calendar import ZoneOffsets, local_day
from edge.core.credit_terms import PaymentMode
from edge.core.debt import DebtKind, TimeDebt
from edge.core.disconnect_control import ControlState
from edge.core.emergency import emergency_used
from edge.core.issue_cycle import ends_billing_month
from edge.core.lean import dataclass
from edge.core.terms import ChargeSpan, StandingCharge, Terms
from edge.core.units import MoneyNano, UnixSeconds

STANDING = "standing"


@dataclass(frozen=True, slots=True)
class Days:
    """The local days a freeze ends, and the instant it ends them."""

    at: UnixSeconds
    first_day: int
    end_day: int  # not among them

    @property
    def count(self) -> int:
        """How many they are."""
        return self.end_day - self.first_day


def days_since(frozen_at: int, midnight_at: UnixSeconds, zone: ZoneOffsets) -> Days:
    """The local days from the freeze before (or the opening) to this midnight."""
    return Days(midnight_at, local_day(zone, frozen_at), local_day(zone, midnight_at - 1) + 1)


def daily_events(account: Account, terms: Terms | None, days: Days, zone: ZoneOffsets) -> Iterator[ev.Event]:
    """What these days cost besides energy, in the order it is collected: standing charges, time debts,
    instalments. `account` is as it is right after the freeze.
    """
    friendly = _is_friendly(account, zone, days.at)
    for charge in terms.standing_charges if terms is not None else ():
        count = _times_due(charge, account, days, zone)
        if count:
            event = _posted(account, (STANDING, charge.name), charge.amount_nano * count, days, count, friendly)
            account = _after(account, event)
            yield event
    supplied = account.control_state is ControlState.CONNECTED
    if supplied or not account.policy.credit.suspend_debt_disabled:
        for kind, debt in ((DebtKind.TIME_1, account.debts.time_1), (DebtKind.TIME_2, account.debts.time_2)):
            amount_nano = _time_debt_due(debt, days)
            if amount_nano:
                event = _posted(account, (kind.value, kind.value), amount_nano, days, days.count, friendly)
                account = _after(account, event)
                yield event
    yield from _instalments(account, days)


def credit_part(account: Account, amount_nano: int, friendly: bool) -> MoneyNano:
    """How much of a charge the credits pay; the rest becomes accumulated debt (RULES.md 5)."""
    terms, live_nano, threshold_nano = account.policy.credit, account.recorded_live_nano, account.threshold_nano
    invoked = account.emergency.invoked
    if account.mode is PaymentMode.CREDIT:
        return MoneyNano(amount_nano)
    if invoked and live_nano <= threshold_nano and terms.suspend_debt_emergency:
        return MoneyNano(0)
    part = min(amount_nano, max(0, live_nano - threshold_nano))
    if invoked and terms.emergency_pays_standing:
        used_nano = emergency_used(terms, invoked, live_nano, threshold_nano)
        part += min(amount_nano - part, terms.emergency_limit_nano - used_nano)
    if invoked or (terms.accumulate_below_threshold and not friendly):
        return MoneyNano(part)
    return MoneyNano(amount_nano)


def _is_friendly(account: Account, zone: ZoneOffsets, at: UnixSeconds) -> bool:
    windows = account.policy.friendly_windows
    return windows is not None and windows.is_open(zone, at)


def _times_due(charge: StandingCharge, account: Account, days: Days, zone: ZoneOffsets) -> int:
    if charge.per is ChargeSpan.DAY:
        return days.count
    opening_day, issue_day = local_day(zone, account.opened_at), account.policy.issue_day
    return sum(
        day == opening_day or ends_billing_month(issue_day, day - 1) for day in range(days.first_day, days.end_day)
    )


def _time_debt_due(debt: TimeDebt, days: Days) -> int:
    return min(debt.amount_nano, debt.daily_nano * days.count)


def _posted(
    account: Account, charge: tuple[str, str], amount_nano: int, days: Days, count: int, friendly: bool
) -> ev.DailyChargePosted:
    paid_nano = credit_part(account, amount_nano, friendly)
    return ev.DailyChargePosted(
        at=days.at,
        account=account.account_id,
        charge=charge[0],
        name=charge[1],
        first_day=days.first_day,
        count=count,
        amount_nano=MoneyNano(amount_nano),
        accumulated_nano=MoneyNano(amount_nano - paid_nano),
        posting_nano=MoneyNano(-paid_nano),
        balance_nano=MoneyNano(account.money_nano - paid_nano),
    )


def _after(account: Account, event: ev.DailyChargePosted) -> Account:
    """The account the next charge of the same midnight finds: only its money matters to that."""
    return replace(account, money_nano=event.balance_nano)


def _instalments(account: Account, days: Days) -> Iterator[ev.InstalmentDue]:
    """Parts due on the day that begins here or before: a part paid early by the old-debt share is not due again."""
    plan = account.debts.plan
    if plan is None:
        return
    left_nano = int(account.debts.old_nano)
    for number, part in enumerate(plan.due_on(days.end_day), plan.next_number + 1):
        moved_nano = min(left_nano, part.amount_nano)
        left_nano -= moved_nano
        yield ev.InstalmentDue(days.at, account.account_id, plan.plan_id, number, part.due_day, MoneyNano(moved_nano))
