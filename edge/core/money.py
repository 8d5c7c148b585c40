"""Orders and requests about credits and debts: one table of what each leads to, and what refuses it.

A command that was answered leads to nothing; a refusal is the stored result of its order, or, where
no signed order carried it, a `RequestRefused`. The readings it is judged by are recorded before.
Each check stands in order where its reasons are listed; `unknown_account` comes first of all.
Source: RULES.md 5 and 10, COSEM 111 to 113, SMETS2. Amounts nano-currency.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, State
from edge.core.charge import Rating
from edge.core.credit import Moment, limit_day, limit_refusal, purchase_day, purchase_events, two_vouch
from edge.core.credit_terms import HUNDREDTHS_OF_PERCENT, PaymentMode
from edge.core.debt import DebtKind
from edge.core.emergency import is_offered
from edge.core.instalment import InstalmentPlan, instalment_plan
from edge.core.purchase_order import OrderOperation, balance_after, order_fault, order_key
from edge.core.tenancy import tenancy_events, tenancy_refusal
from edge.core.units import MoneyNano

DEBT_NANO_MAX = 10**17
CAP_DAYS_MAX = 366
NO_CREDIT = "no_credit"  # the local reason of a cut that credit ends

Found = list[ev.Event] | str  # what it leads to, or why not
_Judge = Callable[[State, Any, Rating], Found]


def money_events(state: State, command: cmd.MoneyCommand, rating: Rating) -> list[ev.Event]:
    """What a command about credits and debts leads to."""
    if command.cid is not None and command.cid in state.applied:
        return []
    order_type, judge = _JUDGES[type(command)]
    known = command.account_id in state.accounts
    found = judge(state, command, rating) if known else "unknown_account"
    at, account_id = command.received.at, command.account_id
    if isinstance(found, str):
        if command.cid is None:
            return [ev.RequestRefused(at, account_id, order_type, found)]
        return [ev.OrderRefused(at, command.cid, order_type, account_id, found)]
    return found if command.cid is None else [*found, ev.OrderApplied(at, command.cid, order_type, account_id)]


def _select_emergency_credit(state: State, command: cmd.SelectEmergencyCredit, _rating: Rating) -> Found:
    """Reasons: not_offered. The supply comes back if that credit covers the balance."""
    account, at = state.accounts[command.account_id], command.received.at
    terms, live_nano = account.policy.credit, account.recorded_live_nano
    if account.mode is PaymentMode.CREDIT or not is_offered(terms, account.emergency.invoked, live_nano):
        return "not_offered"
    limit_nano = terms.emergency_limit_nano
    found: list[ev.Event] = [ev.EmergencyCreditSelected(at, account.account_id, limit_nano, live_nano, command.actor)]
    if account.local_reason == NO_CREDIT and live_nano > account.threshold_nano - limit_nano:
        found.append(ev.LocalReasonCleared(at, account.account_id, live_nano))
    return found


def _set_debt(state: State, command: cmd.SetDebt, _rating: Rating) -> Found:
    """Reasons: amount, above_limit, terms."""
    if command.amount_nano < 0:
        return "amount"
    if command.amount_nano > DEBT_NANO_MAX:
        return "above_limit"
    share_known = 0 <= command.share <= HUNDREDTHS_OF_PERCENT
    cap_known = (command.cap_nano is None or command.cap_nano >= 0) and 1 <= command.cap_days <= CAP_DAYS_MAX
    if not (share_known and cap_known and command.daily_nano >= 0):
        return "terms"
    change_nano = command.amount_nano - state.accounts[command.account_id].debts.amount_nano(command.kind)
    return [
        ev.DebtSet(
            at=command.received.at,
            account=command.account_id,
            debt=command.kind.value,
            change_nano=MoneyNano(change_nano),
            amount_nano=command.amount_nano,
            share=command.share,
            cap_nano=command.cap_nano,
            cap_days=command.cap_days,
            daily_nano=command.daily_nano,
            reference=command.reference,
        )
    ]


def _agree_instalments(state: State, command: cmd.AgreeInstalments, _rating: Rating) -> Found:
    """Reasons: plan_stands, above_old_debt, terms."""
    debts = state.accounts[command.account_id].debts
    if debts.plan is not None:
        return "plan_stands"
    if command.total_nano > debts.amount_nano(DebtKind.OLD):
        return "above_old_debt"
    plan = _plan_of(command)
    if plan is None:
        return "terms"
    return [ev.InstalmentsAgreed(command.received.at, command.account_id, plan.plan_id, plan.parts)]


def _plan_of(command: cmd.AgreeInstalments) -> InstalmentPlan | None:
    try:
        return instalment_plan(command.plan_id, command.total_nano, command.shares)
    except ValueError:
        return None


def _take_purchase_order(state: State, command: cmd.TakePurchaseOrder, rating: Rating) -> Found:
    """Reasons: duplicate, those of `order_fault`, then the limits of a payment."""
    account, order = state.accounts[command.account_id], command.order
    key = order_key(account.account_id, order.number)
    if key in state.purchase_orders:
        return "duplicate"
    fault = order_fault(order, account.policy.credit.unit, account.purchase)
    if fault is not None:
        return fault
    live_before = account.recorded_live_nano
    live_nano = balance_after(order, live_before)  # before blocks of purchases are charged
    posting_nano, day = MoneyNano(live_nano - live_before), limit_day(state, account, command.received, rating.zone)
    over = limit_refusal(state, account, posting_nano, live_before, day) if posting_nano > 0 else None
    if over is not None:
        return over
    applied = ev.PurchaseOrderApplied(
        at=command.received.at,
        account=account.account_id,
        number=order.number,
        operation=order.operation.value,
        unit=order.unit.value,
        value_nano=order.value_nano,
        alarm_nano=order.alarm_nano,
        trip_nano=order.trip_nano,
        live_balance_nano=live_nano,
        limit_day=day,
        posting_nano=posting_nano,
        balance_nano=MoneyNano(account.money_nano + posting_nano),
    )
    if order.operation is not OrderOperation.APPEND:
        return [applied]  # what is left was set by whoever counts there
    moment = Moment(command.received, rating.zone, live_before, rating.purchases.get(account.tariff))
    day = purchase_day(state, account, command.received, rating.zone)
    return [applied, *purchase_events(account, "", posting_nano, day, moment)]


def _change_tenant(state: State, command: cmd.ChangeTenant, rating: Rating) -> Found:
    """Reasons: those of `tenancy_refusal`."""
    return tenancy_refusal(state, command) or tenancy_events(state, command, rating)


def _change_payment_mode(state: State, command: cmd.ChangePaymentMode, _rating: Rating) -> Found:
    """No reasons. In credit mode nothing keeps a supply open for want of credit."""
    account, at = state.accounts[command.account_id], command.received.at
    if account.mode is command.mode:
        return []
    live_nano = account.recorded_live_nano
    found: list[ev.Event] = [
        ev.PaymentModeChanged(at, account.account_id, command.mode.value, command.received, live_nano)
    ]
    if command.mode is PaymentMode.CREDIT and account.local_reason == NO_CREDIT:
        found.append(ev.LocalReasonCleared(at, account.account_id, live_nano))
    return found


def _post_correction(state: State, command: cmd.PostCorrection, _rating: Rating) -> Found:
    """Reasons: amount, reference, two_signatures, above_limit, above_maximum_balance."""
    account = state.accounts[command.account_id]
    if command.amount_nano == 0:
        return "amount"
    if not command.reference:
        return "reference"
    if not two_vouch(command.signed_by):
        return "two_signatures"
    if abs(command.amount_nano) > account.policy.payment_nano_max:
        return "above_limit"
    if command.amount_nano > 0 and account.recorded_live_nano + command.amount_nano > _balance_max(account):
        return "above_maximum_balance"
    return [
        ev.CorrectionPosted(
            at=command.received.at,
            account=account.account_id,
            reference=command.reference,
            reason=command.reason,
            signed_by=command.signed_by,
            posting_nano=command.amount_nano,
            balance_nano=MoneyNano(account.money_nano + command.amount_nano),
        )
    ]


def _balance_max(account: Account) -> int:
    return account.policy.credit.balance_nano_max


def _move_reserved_credit(state: State, command: cmd.MoveReservedCredit, _rating: Rating) -> Found:
    """Reasons: amount, not_available (the balance does not hold it), not_reserved."""
    account, amount_nano = state.accounts[command.account_id], command.amount_nano
    if amount_nano == 0:
        return "amount"
    if amount_nano > account.recorded_live_nano - account.threshold_nano and amount_nano > 0:
        return "not_available"
    if -amount_nano > account.reserved_nano:
        return "not_reserved"
    return [
        ev.ReservedCreditMoved(
            at=command.received.at,
            account=account.account_id,
            change_nano=amount_nano,
            reserved_nano=MoneyNano(account.reserved_nano + amount_nano),
            posting_nano=MoneyNano(-amount_nano),
            balance_nano=MoneyNano(account.money_nano - amount_nano),
        )
    ]


_JUDGES: Mapping[type, tuple[str, _Judge]] = {
    cmd.SelectEmergencyCredit: ("emergency_credit", _select_emergency_credit),
    cmd.SetDebt: ("set_debt", _set_debt),
    cmd.AgreeInstalments: ("instalments", _agree_instalments),
    cmd.TakePurchaseOrder: ("purchase_order", _take_purchase_order),
    cmd.ChangeTenant: ("change_tenant", _change_tenant),
    cmd.ChangePaymentMode: ("payment_mode", _change_payment_mode),
    cmd.PostCorrection: ("correction", _post_correction),
    cmd.MoveReservedCredit: ("reserved_credit", _move_reserved_credit),
}
