"""Boundaries an account crosses between two readings: local midnights and changes of tariff.

At each one the register is frozen (the sample nearest, else interpolated by seconds), what was
used up to it is charged, and what falls due there happens: the daily freeze, the issue of the
bill, the new tariff. Source: RULES.md 2 and 3. Energy Wh, money nano-currency.
"""

from dataclasses import dataclass

from edge.core import events as ev
from edge.core.account import Account, Register, State
from edge.core.calendar import ZoneOffsets, local_date, next_local_midnight
from edge.core.charge import Rating, rate_to
from edge.core.ledger import apply
from edge.core.reading import freeze_register
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
    if midnight and _is_issue_instant(account, zone, boundary_at):
        _issue_bill(crossing, boundary_at)
    _activate_tariffs(crossing, boundary_at)


def _is_issue_instant(account: Account, zone: ZoneOffsets, midnight_at: UnixSeconds) -> bool:
    """Whether the bill is issued at this midnight: 24:00 of the month's last day, or of the policy's day."""
    if midnight_at <= account.issue.at:
        return False
    _, _, day = local_date(zone, midnight_at)
    return day == (account.policy.issue_day + 1 if account.policy.issue_day else 1)


def _issue_bill(crossing: _Crossing, at: UnixSeconds) -> None:
    """Money falls by the exact bill, then the rounding line brings it to the minor unit (RULES.md 1)."""
    account, minor_nano = crossing.account, crossing.rating.minor_nano
    amount = account.estimate_nano
    bill_minor = round_half_away(amount, minor_nano)
    rounding = MoneyNano(amount - bill_minor * minor_nano)
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
        )
    )
    if rounding:
        balance = MoneyNano(crossing.account.money_nano + rounding)
        crossing.emit(ev.RoundingPosted(at, account.account_id, rounding, balance))


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
