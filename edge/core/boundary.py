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
from edge.core.credit_terms import CreditUnit
from edge.core.daily_charges import Days, daily_events, days_since
from edge.core.emergency import emergency_used
from edge.core.issue_cycle import ends_billing_month, is_issued_after
from edge.core.late_charge import newly_open
from edge.core.ledger import apply
from edge.core.month_lines import demand_lines, demand_window_s, month_first_day
from edge.core.purchased import repriced
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
    if _next_boundary(state, account_id, rating.zone) > after.at:
        return []
    crossing = _Crossing(state, account_id, rating, [])
    while (boundary_at := _next_boundary(crossing.state, account_id, rating.zone)) <= after.at:
        _cross(crossing, boundary_at, before, after)
    return crossing.events


def _next_boundary(state: State, account_id: str, zone: ZoneOffsets) -> UnixSeconds:
    recorded_at = state.accounts[account_id].recorded.at
    boundary_at = next_local_midnight(zone, recorded_at)
    for at, changed_id, _tariff in state.pending_tariffs:
        if changed_id == account_id:
            boundary_at = min(boundary_at, max(at, recorded_at + 1))  # one told late takes effect at the next one
    return UnixSeconds(boundary_at)


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
        if ends_billing_month(account.policy.issue_day, local_day(zone, boundary_at) - 1):
            _post_demand(crossing, boundary_at)
        if _is_issue_instant(account, zone, boundary_at):
            _issue_bill(crossing, boundary_at)
        _record_emergency(crossing, boundary_at)
        _count_month(crossing, boundary_at)
    _activate_tariffs(crossing, boundary_at)


def issue_now(state: State, account_id: str, rating: Rating, *, last: bool = False) -> list[ev.Event]:
    """The bill up to the recorded register, at its instant: at a vend, at a change of tenant. Nothing since: none.

    The last one of a tenant holds the month lines of his part of the month.
    """
    crossing = _Crossing(state, account_id, rating, [])
    account = crossing.account
    at = account.recorded.at
    if last:
        _post_demand(crossing, at)
        account = crossing.account
    # An untrusted clock charges energy where time stands.
    if account.month_nano or account.late_nano or account.charged or at > account.issue.at:
        _issue_bill(crossing, at)
        _record_emergency(crossing, at)
    return crossing.events


def _end_days(crossing: _Crossing, days: Days) -> None:
    account = crossing.account
    for event in daily_events(account, crossing.rating.terms.get(account.tariff), days, crossing.rating.zone):
        crossing.emit(event)
    for event in grant_events(crossing.account, days):
        crossing.emit(event)


def _post_demand(crossing: _Crossing, at: UnixSeconds) -> None:
    """What power costs, for the billing month that ends here."""
    account, zone = crossing.account, crossing.rating.zone
    terms = crossing.rating.terms.get(account.tariff)
    opened_day, end_day = local_day(zone, account.opened_at), local_day(zone, at)
    if terms is None or not terms.demands or end_day <= opened_day:
        return
    lines = tuple(demand_lines(account, terms, opened_day, end_day))
    first_day = max(opened_day, month_first_day(account.policy.issue_day, end_day - 1))
    power_w = account.demand.power_w_max if account.demand is not None else None
    amount = MoneyNano(sum(line.amount_nano for line in lines))
    posted = (MoneyNano(-amount), MoneyNano(account.money_nano - amount))
    span = (first_day, end_day)
    crossing.emit(ev.DemandChargePosted(at, account.account_id, *span, power_w, lines, *posted))


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
    late_nano = crossing.account.late_nano
    if late_nano:
        balance = MoneyNano(crossing.account.money_nano - late_nano)
        crossing.emit(ev.LateChargePosted(at, crossing.account_id, MoneyNano(-late_nano), balance))
    account, minor_nano = crossing.account, crossing.rating.minor_nano
    amount, standing, bought = account.estimate_nano, account.standing_nano, account.bought.posted_nano
    before = amount + standing + bought + account.month_nano
    minimum = _missing_to_minimum(crossing, before, at)
    total = before + minimum
    bill_minor = round_half_away(total, minor_nano)
    rounding = MoneyNano(total - bill_minor * minor_nano)
    money_after = account.money_nano - amount - minimum + rounding
    open_nano, due_day = _left_open(crossing, at, bill_minor * minor_nano - late_nano, money_after + late_nano)
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
            bought_nano=bought,
            month_nano=account.month_nano,
            open_nano=open_nano,
            due_day=due_day,
        )
    )
    if minimum:
        balance = MoneyNano(crossing.account.money_nano - minimum)
        crossing.emit(ev.MinimumBillPosted(at, account.account_id, MoneyNano(-minimum), balance))
    if rounding:
        balance = MoneyNano(crossing.account.money_nano + rounding)
        crossing.emit(ev.RoundingPosted(at, account.account_id, rounding, balance))


def _left_open(crossing: _Crossing, at: UnixSeconds, bill_nano: int, money_nano: int) -> tuple[MoneyNano, int]:
    """(what of a bill the money does not cover, the last day to pay it in time). Late charges bear none themselves."""
    account, zone = crossing.account, crossing.rating.zone
    terms, policy = crossing.rating.terms.get(account.tariff), account.policy
    if terms is None or terms.late_charge is None or policy.credit.unit is not CreditUnit.MONEY:
        return MoneyNano(0), 0
    open_nano = newly_open(account.open_bills, bill_nano, -policy.overdraft_nano - money_nano)
    return open_nano, local_day(zone, at) + policy.payment_due_days if open_nano else 0


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
        window_s = demand_window_s(crossing.rating.terms.get(tariff))
        crossing.emit(ev.TariffActivated(at, account.account_id, tariff, position, window_s))
        _reprice_bought(crossing, at, tariff)


def _reprice_bought(crossing: _Crossing, at: UnixSeconds, tariff: str) -> None:
    """Under a tariff whose blocks count purchases: energy that was bought stays as many watt-hours."""
    account, blocks = crossing.account, crossing.rating.purchases.get(tariff)
    before = account.bought.basis_micro_per_kwh
    after = 0 if blocks is None else blocks.basis_micro_per_kwh
    if before == after or account.policy.credit.unit is not CreditUnit.MONEY:
        return
    live_nano = account.recorded_live_nano
    posting = repriced(live_nano, before, after) if after else MoneyNano(0)
    balance = MoneyNano(account.money_nano + posting)
    crossing.emit(ev.BoughtEnergyRepriced(at, account.account_id, before, after, live_nano, posting, balance))
