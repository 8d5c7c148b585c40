"""Boundaries an account crosses between two readings: local midnights and changes of tariff.

At each one the register is frozen (the sample nearest, else interpolated by seconds), what was
used up to it is charged, and what falls due there happens: the daily freeze, the issue of the
bill, the new tariff. Source: RULES.md 2 and 3. Energy Wh, money nano-currency.
"""

from dataclasses import dataclass

from edge.core import events as ev
from edge.core.account import Account, Register, State
from edge.core.calendar import ZoneOffsets, local_day, month_start, next_local_midnight
from edge.core.charge import Rating, rate_to
from edge.core.credit_grant import grant_events
from edge.core.daily_charges import Days, daily_events, days_since
from edge.core.emergency import emergency_used
from edge.core.issue_cycle import ends_billing_month, is_issued_after
from edge.core.ledger import apply
from edge.core.reading import freeze_register
from edge.core.terms import ChargeSpan
from edge.core.units import SECONDS_PER_DAY, MoneyNano, UnixSeconds, WattHours, round_half_away


@dataclass(slots=True)
class _Crossing:
    state: State
    account_id: str
    rating: Rating
    events: list[ev.Event]

    @property
    def account(self) -> Account:
        return self.state.accounts[self.account_id]

    def emit(self, event: ev.Event) -> None:
        self.events.append(event)
        self.state = apply(self.state, event)


def cross_boundaries(
    state: State, account_id: str, before: Register | None, after: Register, rating: Rating
) -> list[ev.Event]:
    """Events of every boundary after the recorded register, up to and with `after`, in order."""
    crossing = _Crossing(state, account_id, rating, [])
    while True:
        boundary_at = _next_boundary(crossing)
        if boundary_at > after.at:
            return crossing.events
        _cross(crossing, boundary_at, before, after)


def _next_boundary(crossing: _Crossing) -> UnixSeconds:
    recorded_at = crossing.account.recorded.at
    changes = [at for at, account_id, _ in crossing.state.pending_tariffs if account_id == crossing.account_id]
    upcoming = [max(at, recorded_at + 1) for at in changes]  # one told late takes effect at the next boundary
    return UnixSeconds(min([next_local_midnight(crossing.rating.zone, recorded_at), *upcoming]))


def _cross(crossing: _Crossing, boundary_at: UnixSeconds, before: Register | None, after: Register) -> None:
    account, zone = crossing.account, crossing.rating.zone
    midnight = next_local_midnight(zone, boundary_at - 1) == boundary_at
    near = account.recorded
    if before is not None and near.at <= before.at <= boundary_at:
        # The frozen register lies between what is recorded and what was read, whatever a stray sample said.
        held_wh = min(max(before.register_wh, near.register_wh), after.register_wh)
        near = Register(before.at, WattHours(held_wh))
    frozen = freeze_register((near.at, near.register_wh), (after.at, after.register_wh), boundary_at)
    assert frozen is not None
    frozen_wh, quality = frozen
    register = Register(boundary_at, WattHours(frozen_wh))
    rated = rate_to(crossing.rating, account, register)
    estimate = MoneyNano(account.estimate_nano + rated.amount_nano)
    crossing.emit(
        ev.RegisterFrozen(
            at=boundary_at,
            account=crossing.account_id,
            occasion="daily" if midnight else "tariff_change",
            register_wh=register.register_wh,
            quality=quality.value,
            energy_wh=WattHours(register.register_wh - account.recorded.register_wh),
            day_energy_wh=WattHours(register.register_wh - account.frozen.register_wh),
            lines=rated.lines,
            estimated=rated.estimated,
            estimate_nano=estimate,
            cycle_energy_wh=rated.cycle_energy_wh,
            cycle_start_at=UnixSeconds(rated.cycle_start_at),
            balance_nano=account.money_nano,
            live_balance_nano=MoneyNano(account.money_nano - estimate),
        )
    )
    if midnight:
        _end_days(crossing, days_since(account.frozen.at, boundary_at, zone))
        if _is_issue_instant(account, zone, boundary_at):
            _issue_bill(crossing, boundary_at)
        _record_emergency(crossing, boundary_at)
        _count_month(crossing, boundary_at)
    _activate_tariffs(crossing, boundary_at)


def issue_now(state: State, account_id: str, rating: Rating) -> list[ev.Event]:
    """The bill up to the recorded register, at its instant: at a vend, at a change of tenant. Nothing since: none."""
    crossing = _Crossing(state, account_id, rating, [])
    account = crossing.account
    at = account.recorded.at
    if at > account.issue.at or account.charged:  # an untrusted clock charges energy where time stands
        _issue_bill(crossing, at)
        _record_emergency(crossing, at)
    return crossing.events


def _end_days(crossing: _Crossing, days: Days) -> None:
    account = crossing.account
    for event in daily_events(account, crossing.rating.terms.get(account.tariff), days, crossing.rating.zone):
        crossing.emit(event)
    for event in grant_events(crossing.account, days):
        crossing.emit(event)


def _count_month(crossing: _Crossing, at: UnixSeconds) -> None:
    """At the start of a calendar month: the energy of the one before, for a tariff whose bands go by it."""
    account, zone = crossing.account, crossing.rating.zone
    if account.tariff not in crossing.rating.bands or month_start(zone, at) != at:
        return
    began_at = month_start(zone, at - 1)
    whole = began_at in (account.month_began_at, account.opened_at)
    energy = WattHours(account.consumed_wh - account.month_began_wh if whole else 0)
    crossing.emit(ev.MonthCounted(at, account.account_id, energy, whole, account.consumed_wh))


def _record_emergency(crossing: _Crossing, at: UnixSeconds) -> None:
    """What is used of the emergency credit follows from the live balance; a change of it is recorded here."""
    account = crossing.account
    live_nano, emergency = account.recorded_live_nano, account.emergency
    used_nano = emergency_used(account.policy.credit, emergency.invoked, live_nano, account.threshold_nano)
    if used_nano != emergency.used_nano:
        change_nano = MoneyNano(used_nano - emergency.used_nano)
        crossing.emit(ev.EmergencyCreditDrawn(at, account.account_id, change_nano, used_nano, live_nano))


def _is_issue_instant(account: Account, zone: ZoneOffsets, midnight_at: UnixSeconds) -> bool:
    """Whether the bill is issued at this midnight, by the cycle of the policy."""
    policy = account.policy
    ended_day = local_day(zone, midnight_at) - 1
    return midnight_at > account.issue.at and is_issued_after(policy.credit.issue_cycle, policy.issue_day, ended_day)


def _issue_bill(crossing: _Crossing, at: UnixSeconds) -> None:
    """Money falls by the exact bill, then the rounding line brings it to the minor unit (RULES.md 1).

    The bill's total holds the standing charges of its period, which were posted by the day.
    """
    account, minor_nano = crossing.account, crossing.rating.minor_nano
    amount, standing = account.estimate_nano, account.standing_nano
    minimum = _missing_to_minimum(crossing, amount + standing, at)
    bill_minor = round_half_away(amount + standing + minimum, minor_nano)
    rounding = MoneyNano(amount + standing + minimum - bill_minor * minor_nano)
    crossing.emit(
        ev.BillIssued(
            at=at,
            account=account.account_id,
            issued_from=account.issue.at,
            register_from_wh=account.issue.register_wh,
            register_to_wh=account.recorded.register_wh,
            energy_wh=account.energy_since_issue_wh,
            days=max(1, (at - account.issue.at) // SECONDS_PER_DAY),
            lines=account.charged,
            amount_nano=amount,
            bill_minor=bill_minor,
            estimate_nano=MoneyNano(0),
            posting_nano=MoneyNano(-amount),
            balance_nano=MoneyNano(account.money_nano - amount),
            standing_nano=standing,
            minimum_nano=minimum,
        )
    )
    if minimum:
        balance = MoneyNano(crossing.account.money_nano - minimum)
        crossing.emit(ev.MinimumBillPosted(at, account.account_id, MoneyNano(-minimum), balance))
    if rounding:
        balance = MoneyNano(crossing.account.money_nano + rounding)
        crossing.emit(ev.RoundingPosted(at, account.account_id, rounding, balance))


def _missing_to_minimum(crossing: _Crossing, charged_nano: int, at: UnixSeconds) -> MoneyNano:
    """What a bill lacks to the minimum of its days, or of the billing months that end in it."""
    account, zone = crossing.account, crossing.rating.zone
    terms = crossing.rating.terms.get(account.tariff)
    if terms is None or terms.minimum_bill is None:
        return MoneyNano(0)
    minimum = terms.minimum_bill
    days = range(local_day(zone, account.issue.at), local_day(zone, at - 1) + 1)
    issue_day = account.policy.issue_day
    months = sum(ends_billing_month(issue_day, day) for day in days)
    count = len(days) if minimum.per is ChargeSpan.DAY else months
    return MoneyNano(max(0, minimum.amount_nano * count - charged_nano))


def _activate_tariffs(crossing: _Crossing, at: UnixSeconds) -> None:
    """The newest tariff due here takes over. The block position is the customer's and stays."""
    due = [
        tariff
        for effective_at, account_id, tariff in crossing.state.pending_tariffs
        if account_id == crossing.account_id and effective_at <= at
    ]
    for tariff in due:
        account, count = crossing.account, crossing.rating.positions[tariff]
        position = account.cycle_energy_wh
        if len(position) != count:
            position = (sum(position), *(0,) * (count - 1))
        crossing.emit(ev.TariffActivated(at, account.account_id, tariff, position))
