"""What the events of credits and debts do to an account, and to the receipts of payments.

As in edge/core/ledger.py, which calls this: nothing is refused and nothing is rated here. Amounts
nano-currency.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edge.core import events as ev
from edge.core.account import Account, GrantState, Receipt, Register
from edge.core.credit_terms import CreditUnit, PaymentMode
from edge.core.debt import DebtKind, Debts, PaymentDebt, TimeDebt, moved, with_payment_taken
from edge.core.emergency import EmergencyCredit
from edge.core.instalment import InstalmentPlan
from edge.core.late_charge import after_settling
from edge.core.purchase_order import OrderOperation, PurchaseControl, PurchaseOrder
from edge.core.purchased import Bought
from edge.core.units import MoneyNano, WattHours

MONTHS_KEPT = 24  # as many as a tariff may look back on
_TIME_CHARGES = {kind.value: kind for kind in (DebtKind.TIME_1, DebtKind.TIME_2)}


def counted_on(day: int, day_nano: MoneyNano, limit_day: int, amount_nano: int) -> tuple[int, MoneyNano]:
    """(day, what came in on it) after one more amount."""
    return limit_day, MoneyNano((day_nano if limit_day == day else 0) + amount_nano)


def paid_debts(debts: Debts, event: ev.PaymentAllocated | ev.AllocationReversed, sign: int) -> Debts:
    """The debts after a payment (1) or its reversal (-1)."""
    debts = moved(debts, DebtKind.ACCUMULATED, -sign * event.accumulated_debt_nano)
    debts = moved(debts, DebtKind.OLD, -sign * event.old_debt_nano)
    if not event.payment_debt_nano:
        return debts
    return replace(debts, payment=with_payment_taken(debts.payment, sign * event.payment_debt_nano, event.cap_period))


def receipt_allocated(receipt: Receipt, event: ev.PaymentAllocated) -> Receipt:
    """The receipt that says which debts the payment paid."""
    return replace(
        receipt,
        payment_debt_nano=event.payment_debt_nano,
        accumulated_debt_nano=event.accumulated_debt_nano,
        old_debt_nano=event.old_debt_nano,
        cap_period=event.cap_period,
    )


def receipt_taken_back(receipt: Receipt, event: ev.AllocationReversed) -> Receipt:
    """The receipt after debts are owed again."""
    return replace(
        receipt,
        payment_debt_nano=MoneyNano(receipt.payment_debt_nano - event.payment_debt_nano),
        accumulated_debt_nano=MoneyNano(receipt.accumulated_debt_nano - event.accumulated_debt_nano),
        old_debt_nano=MoneyNano(receipt.old_debt_nano - event.old_debt_nano),
    )


def _allocated(account: Account, event: ev.PaymentAllocated) -> Account:
    emergency = replace(account.emergency, used_nano=event.emergency_used_nano)
    debts = paid_debts(account.debts, event, 1)
    return replace(account, money_nano=event.balance_nano, debts=debts, emergency=emergency)


def _allocation_reversed(account: Account, event: ev.AllocationReversed) -> Account:
    return replace(account, money_nano=event.balance_nano, debts=paid_debts(account.debts, event, -1))


def _demand_charge_posted(account: Account, event: ev.DemandChargePosted) -> Account:
    meter = account.demand
    return replace(
        account,
        money_nano=event.balance_nano,
        consumed_nano=MoneyNano(account.consumed_nano - event.posting_nano),
        month_nano=MoneyNano(account.month_nano - event.posting_nano),
        demand=None if meter is None else replace(meter, power_w_max=None),
    )


def _bills_settled(account: Account, event: ev.BillsSettled) -> Account:
    late_nano = MoneyNano(account.late_nano + sum(part.late_nano for part in event.parts))
    return replace(account, open_bills=after_settling(account.open_bills, event.parts), late_nano=late_nano)


def _late_charge_posted(account: Account, event: ev.LateChargePosted) -> Account:
    return replace(
        account,
        money_nano=event.balance_nano,
        consumed_nano=MoneyNano(account.consumed_nano - event.posting_nano),
        month_nano=MoneyNano(account.month_nano - event.posting_nano),
        late_nano=MoneyNano(account.late_nano + event.posting_nano),
    )


def receipt_of_purchase(receipt: Receipt, event: ev.EnergyBought | ev.BoughtEnergyReturned) -> Receipt:
    """The receipt that says what energy stays bought by the payment."""
    basis = event.basis_micro_per_kwh
    return replace(receipt, bought=event.lines, bought_first_day=event.first_day, bought_basis_micro_per_kwh=basis)


def _energy_bought(account: Account, event: ev.EnergyBought) -> Account:
    bought = Bought(
        energy_wh=WattHours(event.before_wh + event.energy_wh),
        first_day=event.first_day,
        rest_nano=event.rest_nano,
        basis_micro_per_kwh=event.basis_micro_per_kwh,
        posted_nano=MoneyNano(account.bought.posted_nano - event.posting_nano),
    )
    return replace(account, money_nano=event.balance_nano, bought=bought)


def _bought_energy_returned(account: Account, event: ev.BoughtEnergyReturned) -> Account:
    before = account.bought
    left_wh = before.energy_wh - event.energy_wh if event.first_day == before.first_day else before.energy_wh
    posted_nano = MoneyNano(before.posted_nano - event.posting_nano)
    bought = replace(before, energy_wh=WattHours(left_wh), posted_nano=posted_nano)
    return replace(account, money_nano=event.balance_nano, bought=bought)


def _bought_energy_repriced(account: Account, event: ev.BoughtEnergyRepriced) -> Account:
    posted_nano = MoneyNano(account.bought.posted_nano - event.posting_nano)
    bought = replace(account.bought, basis_micro_per_kwh=event.basis_micro_per_kwh, posted_nano=posted_nano)
    return replace(account, money_nano=event.balance_nano, bought=bought)


def _debt_set(account: Account, event: ev.DebtSet) -> Account:
    kind, debts = DebtKind(event.debt), account.debts
    if kind is DebtKind.PAYMENT:
        taken = debts.payment.taken if debts.payment.cap_days == event.cap_days else ()
        payment = PaymentDebt(event.amount_nano, event.share, event.cap_nano, event.cap_days, taken)
        return replace(account, debts=replace(debts, payment=payment))
    if kind is DebtKind.TIME_1:
        return replace(account, debts=replace(debts, time_1=TimeDebt(event.amount_nano, event.daily_nano)))
    if kind is DebtKind.TIME_2:
        return replace(account, debts=replace(debts, time_2=TimeDebt(event.amount_nano, event.daily_nano)))
    return replace(account, debts=moved(debts, kind, event.change_nano))


def _instalments_agreed(account: Account, event: ev.InstalmentsAgreed) -> Account:
    return replace(account, debts=replace(account.debts, plan=InstalmentPlan(event.plan_id, event.parts)))


def _instalment_due(account: Account, event: ev.InstalmentDue) -> Account:
    debts = moved(account.debts, DebtKind.OLD, -event.change_nano)
    debts = moved(debts, DebtKind.ACCUMULATED, event.change_nano)
    plan = debts.plan
    if plan is not None:
        ended = event.number == len(plan.parts)
        debts = replace(debts, plan=None if ended else replace(plan, next_number=event.number))
    return replace(account, debts=debts)


def _daily_charge_posted(account: Account, event: ev.DailyChargePosted) -> Account:
    debts = moved(account.debts, DebtKind.ACCUMULATED, event.accumulated_nano)
    account = replace(account, consumed_nano=MoneyNano(account.consumed_nano + event.amount_nano))
    kind = _TIME_CHARGES.get(event.charge)
    if kind is not None:
        return replace(account, money_nano=event.balance_nano, debts=moved(debts, kind, -event.amount_nano))
    standing_nano = MoneyNano(account.standing_nano + event.amount_nano)
    return replace(account, money_nano=event.balance_nano, debts=debts, standing_nano=standing_nano)


def _money_moved(account: Account, event: Any) -> Account:
    return replace(account, money_nano=event.balance_nano)


def _emergency_selected(account: Account, event: ev.EmergencyCreditSelected) -> Account:
    return replace(account, emergency=replace(account.emergency, invoked=True))


def _emergency_drawn(account: Account, event: ev.EmergencyCreditDrawn) -> Account:
    return replace(account, emergency=replace(account.emergency, used_nano=event.used_nano))


def _emergency_given_back(account: Account, event: ev.EmergencyCreditGivenBack) -> Account:
    return replace(account, emergency=EmergencyCredit())


def _purchase_order_applied(account: Account, event: ev.PurchaseOrderApplied) -> Account:
    order = PurchaseOrder(
        event.number,
        OrderOperation(event.operation),
        CreditUnit(event.unit),
        event.value_nano,
        event.alarm_nano,
        event.trip_nano,
    )
    return replace(account, money_nano=event.balance_nano, purchase=account.purchase.after(order))


def _tenant_changed(account: Account, event: ev.TenantChanged) -> Account:
    return replace(
        account,
        money_nano=event.balance_nano,
        tenant=event.tenant,
        tenancy=account.tenancy + 1,
        opened_at=event.register_at,
        issue=Register(event.register_at, event.register_wh),
        cycle_energy_wh=(0,) * len(account.cycle_energy_wh),
        mean_energy_wh=None,
        mean_days=0,
        episode=None,
        arrears_since=None,
        debts=Debts(),
        emergency=EmergencyCredit(),
        reserved_nano=MoneyNano(0),
        purchase=PurchaseControl(),
        standing_nano=MoneyNano(0),
        month_nano=MoneyNano(0),
        open_bills=(),
        late_nano=MoneyNano(0),
        bought=Bought(basis_micro_per_kwh=account.bought.basis_micro_per_kwh),
        grants={},
        granted_mark_nano=account.consumed_nano,
        month_energies_wh=(),
        month_began_at=None,
        month_began_wh=account.consumed_wh,
    )


def _payment_mode_changed(account: Account, event: ev.PaymentModeChanged) -> Account:
    mode = PaymentMode(event.mode)
    return replace(account, mode=mode, mode_clock=event.clock, emergency=EmergencyCredit(), episode=None)


def _reserved_credit_moved(account: Account, event: ev.ReservedCreditMoved) -> Account:
    return replace(account, money_nano=event.balance_nano, reserved_nano=event.reserved_nano)


def _granted_credit_spent(account: Account, event: ev.GrantedCreditSpent) -> Account:
    grants = dict(account.grants)
    for name, amount_nano in event.spent:
        grants[name] = replace(grants[name], left_nano=MoneyNano(grants[name].left_nano - amount_nano))
    return replace(account, grants=grants, granted_mark_nano=event.consumed_nano)


def _granted_credit_lapsed(account: Account, event: ev.GrantedCreditLapsed) -> Account:
    state = replace(account.grants[event.credit], left_nano=MoneyNano(0))
    return replace(account, money_nano=event.balance_nano, grants={**account.grants, event.credit: state})


def _credit_period_began(account: Account, event: ev.CreditPeriodBegan) -> Account:
    before = account.grants.get(event.credit)
    left_nano = MoneyNano(event.posting_nano + (before.left_nano if before is not None else 0))
    grants = {**account.grants, event.credit: GrantState(left_nano, event.consumed_wh)}
    return replace(account, money_nano=event.balance_nano, grants=grants, granted_mark_nano=event.consumed_nano)


def _month_counted(account: Account, event: ev.MonthCounted) -> Account:
    energies = (*account.month_energies_wh, event.energy_wh)[-MONTHS_KEPT:] if event.whole else ()
    return replace(account, month_energies_wh=energies, month_began_at=event.at, month_began_wh=event.consumed_wh)


ACCOUNT_CHANGES: Mapping[type, Callable[[Account, Any], Account]] = {
    ev.PaymentAllocated: _allocated,
    ev.EnergyBought: _energy_bought,
    ev.BoughtEnergyReturned: _bought_energy_returned,
    ev.BoughtEnergyRepriced: _bought_energy_repriced,
    ev.AllocationReversed: _allocation_reversed,
    ev.DebtSet: _debt_set,
    ev.InstalmentsAgreed: _instalments_agreed,
    ev.InstalmentDue: _instalment_due,
    ev.DailyChargePosted: _daily_charge_posted,
    ev.MinimumBillPosted: _money_moved,
    ev.DemandChargePosted: _demand_charge_posted,
    ev.BillsSettled: _bills_settled,
    ev.LateChargePosted: _late_charge_posted,
    ev.EmergencyCreditSelected: _emergency_selected,
    ev.EmergencyCreditDrawn: _emergency_drawn,
    ev.EmergencyCreditGivenBack: _emergency_given_back,
    ev.PurchaseOrderApplied: _purchase_order_applied,
    ev.TenantChanged: _tenant_changed,
    ev.PaymentModeChanged: _payment_mode_changed,
    ev.CorrectionPosted: _money_moved,
    ev.ReservedCreditMoved: _reserved_credit_moved,
    ev.GrantedCreditSpent: _granted_credit_spent,
    ev.GrantedCreditLapsed: _granted_credit_lapsed,
    ev.CreditPeriodBegan: _credit_period_began,
    ev.MonthCounted: _month_counted,
}
