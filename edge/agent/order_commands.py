"""What a signed order asks of the core: one row for each type, from its typed arguments to one command.

A row makes the command or says why there is none; every rule about money and supply stays in the core. Whose key
may sign which type, and the shape of the arguments, is the table of cloud_sync.order_types. A type without a row
is answered `not_supported`. Source: CONTRACT.md, Down.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from cloud_sync import order_types as of
from cloud_sync.wire import Order
from edge.core import commands as cmd
from edge.core.account import State
from edge.core.credit_terms import CreditUnit, PaymentMode
from edge.core.debt import DebtKind
from edge.core.disconnect_control import Trigger
from edge.core.lean import dataclass
from edge.core.policy import NoticeProof, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.rating import AT_MAX
from edge.core.supply_hold import SupplyHold, SupplyHoldKind
from edge.core.units import ClockReading, MoneyNano, UnixSeconds


class PolicyTerms(Protocol):
    """What a policy document says: the normal policy, and what stands under each risk level."""

    @property
    def normal(self) -> Policy: ...

    @property
    def levels(self) -> Mapping[str, Policy]: ...


# A policy document's text and the key that vouches for it; ValueError says what is wrong with the text.
PolicyReader = Callable[[str, str], PolicyTerms]


@dataclass(frozen=True, slots=True)
class Asked:
    """An order and what it is judged by: when and where it came in, and what is known here."""

    order: Order
    door: str
    clock: ClockReading
    state: State
    signed_by: tuple[str, ...]  # the order's own key, and the second person's where there is one
    accounts_by_meter: Mapping[str, str]
    newest_sample: Callable[[str], cmd.Sample | None]
    read_policy: PolicyReader

    @property
    def account_id(self) -> str:
        """Of the order's meter; empty when it names none, or one nobody knows."""
        return self.accounts_by_meter.get(self.order.meter, "")

    @property
    def sample(self) -> cmd.Sample | None:
        return self.newest_sample(self.order.meter)


def command_of(asked: Asked) -> cmd.Command | str:
    """What to tell the core, or why the order is refused: a bad argument must not end the agent."""
    make = ORDERS.get(asked.order.type)
    if make is None:
        return "not_supported"
    try:
        arguments = of.typed_arguments(asked.order.type, asked.order.args)
    except msgspec.ValidationError:
        return "arguments"
    return make(asked, arguments)


# --- payments --------------------------------------------------------------------------------


def _credit(asked: Asked, said: of.CreditArguments) -> cmd.Command | str:
    paid_at = _instant(asked.order.nbf if said.paid_at is msgspec.UNSET else said.paid_at)
    if paid_at is None:
        return "arguments"
    return cmd.ApplyPayment(
        received=asked.clock,
        account_id=asked.account_id,
        payment_id=said.payment_id,
        amount_nano=MoneyNano(said.amount_nano),
        door=asked.door,
        paid_at=paid_at,
        cid=asked.order.cid,
        sample=asked.sample,
    )


def _refund(asked: Asked, said: of.RefundArguments) -> cmd.Command | str:
    return _take_back(asked, said.payment_id, said.amount_nano)


def _reverse(asked: Asked, said: of.ReverseArguments) -> cmd.Command | str:
    receipt = asked.state.receipts.get(said.payment_id)
    left_nano = 0 if receipt is None else receipt.amount_nano - receipt.reversed_nano
    return _take_back(asked, said.payment_id, left_nano)


def _take_back(asked: Asked, payment_id: str, amount_nano: int) -> cmd.Command | str:
    if asked.state.payments.get(payment_id, asked.account_id) != asked.account_id:
        return "other_account"  # two persons vouched for this meter, not for the one the payment is of
    return cmd.ReversePayment(asked.clock, payment_id, MoneyNano(amount_nano), asked.order.cid, asked.signed_by)


# --- supply and notices ----------------------------------------------------------------------


def _cut(asked: Asked, said: of.SwitchArguments) -> cmd.Command:
    return _switch(asked, Trigger.REMOTE_DISCONNECT, said.reason)


def _restore(asked: Asked, said: of.SwitchArguments) -> cmd.Command:
    return _switch(asked, Trigger.REMOTE_RECONNECT, said.reason)


def _arm(asked: Asked, said: of.SwitchArguments) -> cmd.Command:
    return _switch(asked, Trigger.REMOTE_RECONNECT, said.reason, arm=True)


def _switch(asked: Asked, trigger: Trigger, reason: str, arm: bool = False) -> cmd.Command:
    order = asked.order
    expires_at = None if order.exp is None else UnixSeconds(order.exp)
    return cmd.SwitchSupply(asked.clock, asked.account_id, trigger, reason, order.cid, order.sv, expires_at, arm=arm)


def _keep_supply(asked: Asked, said: of.KeepSupplyArguments) -> cmd.Command:
    return cmd.KeepSupply(asked.clock, asked.account_id, said.keep, asked.order.cid, asked.order.sv)


def _supply_hold(asked: Asked, said: of.SupplyHoldArguments) -> cmd.Command | str:
    if asked.order.meter and not asked.account_id:
        return "unknown_account"  # no account at all would mean the whole site
    until = None if said.until is None else _instant(said.until)
    if said.until is not None and until is None:
        return "arguments"
    hold = SupplyHold(SupplyHoldKind(said.kind), said.reference, until)
    return cmd.SetSupplyHold(asked.clock, asked.account_id, hold, said.stands, asked.order.cid)


def _notice_receipt(asked: Asked, said: of.NoticeReceiptArguments) -> cmd.Command:
    """The grace runs from when the receipt came in here: what was handed over earlier shortens nothing."""
    return cmd.ConfirmNotice(
        received=asked.clock,
        account_id=asked.account_id,
        number=said.number,
        proof=NoticeProof.CLOUD_RECEIPT.value,
        document_hash=said.document_hash,
        raised_at=UnixSeconds(said.raised_at),
        cid=asked.order.cid,
    )


# --- credits and debts -----------------------------------------------------------------------


def _set_debt(asked: Asked, said: of.SetDebtArguments) -> cmd.Command:
    return cmd.SetDebt(
        received=asked.clock,
        account_id=asked.account_id,
        kind=DebtKind(said.kind),
        amount_nano=MoneyNano(said.amount_nano),
        reference=said.reference,
        cid=asked.order.cid,
        share=said.share,
        cap_nano=_money(said.cap_nano),
        cap_days=said.cap_days,
        daily_nano=MoneyNano(said.daily_nano),
        sample=asked.sample,
    )


def _instalments(asked: Asked, said: of.InstalmentsArguments) -> cmd.Command:
    total_nano, cid = MoneyNano(said.total_nano), asked.order.cid
    return cmd.AgreeInstalments(asked.clock, asked.account_id, said.plan_id, total_nano, said.parts, cid, asked.sample)


def _purchase_order(asked: Asked, said: of.PurchaseOrderArguments) -> cmd.Command:
    order = PurchaseOrder(
        number=said.number,
        operation=OrderOperation(said.operation),
        unit=CreditUnit(said.unit),
        value_nano=MoneyNano(said.value_nano),
        alarm_nano=_money(said.alarm_nano),
        trip_nano=_money(said.trip_nano),
    )
    return cmd.TakePurchaseOrder(asked.clock, asked.account_id, order, asked.order.cid, asked.sample)


def _change_tenant(asked: Asked, said: of.ChangeTenantArguments) -> cmd.Command:
    opening_nano, cid = MoneyNano(said.opening_nano), asked.order.cid
    return cmd.ChangeTenant(asked.clock, asked.account_id, said.tenant, opening_nano, cid, asked.sample)


def _payment_mode(asked: Asked, said: of.PaymentModeArguments) -> cmd.Command:
    mode, cid = PaymentMode(said.mode), asked.order.cid
    return cmd.ChangePaymentMode(asked.clock, asked.account_id, mode, cid, asked.sample)


def _correction(asked: Asked, said: of.CorrectionArguments) -> cmd.Command:
    return cmd.PostCorrection(
        received=asked.clock,
        account_id=asked.account_id,
        amount_nano=MoneyNano(said.amount_nano),
        reference=said.reference,
        reason=said.reason,
        signed_by=asked.signed_by,
        cid=asked.order.cid,
        sample=asked.sample,
    )


def _reserved_credit(asked: Asked, said: of.ReservedCreditArguments) -> cmd.Command:
    amount_nano, cid = MoneyNano(said.amount_nano), asked.order.cid
    return cmd.MoveReservedCredit(asked.clock, asked.account_id, amount_nano, cid, asked.sample)


def _money(amount_nano: int | None) -> MoneyNano | None:
    return None if amount_nano is None else MoneyNano(amount_nano)


# --- documents, other orders -----------------------------------------------------------------


def _set_tariff(asked: Asked, said: of.TariffArguments) -> cmd.Command | str:
    effective_at = _instant(asked.order.nbf if said.effective_at is msgspec.UNSET else said.effective_at)
    if effective_at is None:
        return "arguments"
    if asked.order.meter and asked.account_id not in asked.state.accounts:
        return "unknown_account"
    key = next((key for key, text in asked.state.tariffs.items() if _has_hash(text, said.hash)), "")
    accounts = (asked.account_id,) if asked.order.meter else ()
    return cmd.ScheduleTariff(asked.clock, key, effective_at, accounts, asked.order.cid)


def _set_policy(asked: Asked, said: of.PolicyArguments) -> cmd.Command | str:
    """For one meter, the meters of a segment (`meters`), or the whole site; under a risk level if one is named."""
    account_ids = _accounts_named(asked, said)
    if account_ids is None:
        return "arguments"
    if "" in account_ids:
        return "unknown_account"
    stored = next((one for one in asked.state.policies.values() if _has_hash(one.document, said.hash)), None)
    if stored is None:
        return "unknown_policy"
    try:
        terms = asked.read_policy(stored.document, stored.signed_by)
    except ValueError:
        return "unusable_policy"  # another version of the software stored it
    if terms.normal.version != said.version:
        return "unknown_policy"
    cid, level = asked.order.cid, said.risk_level
    if not level:
        stray = said.risk_until is not None
        return "arguments" if stray else cmd.SetPolicy(asked.clock, account_ids, terms.normal, cid=cid)
    if level not in terms.levels:
        return "unknown_risk_level"
    risk_until = _instant(said.risk_until)
    if risk_until is None:
        return "arguments"  # a level without an end would never fall back
    return cmd.SetPolicy(asked.clock, account_ids, terms.normal, level, terms.levels[level], risk_until, cid)


def _accounts_named(asked: Asked, said: of.PolicyArguments) -> tuple[str, ...] | None:
    """Empty for the whole site; None for what names its meters twice. A meter nobody knows has no account."""
    if said.meters is msgspec.UNSET:
        return (asked.account_id,) if asked.order.meter else ()
    if asked.order.meter:
        return None
    return tuple(dict.fromkeys(asked.accounts_by_meter.get(meter, "") for meter in said.meters))


def _revoke(asked: Asked, said: of.RevokeArguments) -> cmd.Command:
    return cmd.RevokeOrder(asked.clock, said.cid, asked.order.cid)


def _instant(value: int | None) -> UnixSeconds | None:
    """An instant a calendar can hold, or None."""
    return UnixSeconds(value) if value is not None and 0 <= value <= AT_MAX else None


def _has_hash(document: str, digest: str) -> bool:
    return hashlib.sha256(document.encode()).hexdigest() == digest


# Without a row, on purpose: set_roster and set_config (the installer's files), resync (obeyed in RECOVERY only).
ORDERS: Mapping[str, Callable[[Asked, Any], cmd.Command | str]] = {
    "credit": _credit,
    "refund": _refund,
    "reverse": _reverse,
    "cut": _cut,
    "restore": _restore,
    "arm": _arm,
    "keep_supply": _keep_supply,
    "supply_hold": _supply_hold,
    "notice_receipt": _notice_receipt,
    "set_debt": _set_debt,
    "instalments": _instalments,
    "purchase_order": _purchase_order,
    "change_tenant": _change_tenant,
    "payment_mode": _payment_mode,
    "correction": _correction,
    "reserved_credit": _reserved_credit,
    "set_tariff": _set_tariff,
    "set_policy": _set_policy,
    "revoke": _revoke,
}
