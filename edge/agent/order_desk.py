"""Where signed orders come in, by whatever door: checked, turned into one command, answered once.

First failing check wins: signature and role (nothing is stored for an order nobody vouches
for, it is only counted and noted), then what the core decides. A repeated order answers with
its stored result. Source: CONTRACT.md, Down.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from cloud_sync.wire import Document, Order
from edge.agent.pricing import not_charged_on_site, read_tariff, tariff_key
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.disconnect_control import Trigger
from edge.core.lean import dataclass
from edge.core.policy import Policy
from edge.core.rating import AT_MAX
from edge.core.step import Stepped
from edge.core.tariff import Tariff, TariffRefused
from edge.core.units import ClockReading, MoneyNano, UnixSeconds
from edge.ports import DoorAnswer

NOTE_INTERVAL_S = 60


@dataclass(frozen=True, slots=True)
class Refused:
    """An envelope that is not obeyed. `order` is there when the signature was good."""

    reason: str
    order: Order | None = None


class PolicyTerms(Protocol):
    """What a policy document says: the normal policy, and what stands under each risk level."""

    @property
    def normal(self) -> Policy: ...

    @property
    def levels(self) -> Mapping[str, Policy]: ...


# A policy document's text and the key that vouches for it; ValueError says what is wrong with the text.
PolicyReader = Callable[[str, str], PolicyTerms]


class OrderChecks(Protocol):
    """Signature, role, window: what cloud_sync.orders knows, bound to this gateway's key ring."""

    def order(self, envelope: bytes, clock: ClockReading) -> Order | Refused: ...

    def signed_by(self, order: Order) -> tuple[str, ...]: ...

    def document(self, envelope: bytes) -> Document | Refused: ...

    def voucher(self, text: str) -> bytes | Refused: ...


class OrderDesk:
    """Takes envelopes and vouchers."""

    def __init__(
        self,
        checks: OrderChecks,
        accounts_by_meter: Mapping[str, str],
        read_clock: Callable[[], ClockReading],
        state: Callable[[], State],
        newest_sample: Callable[[str], cmd.Sample | None],
        submit: Callable[[cmd.Command], Awaitable[Stepped]],
        read_policy: PolicyReader,
    ) -> None:
        self._checks = checks
        self._accounts_by_meter = accounts_by_meter
        self._read_clock = read_clock
        self._state = state
        self._newest_sample = newest_sample
        self._submit = submit
        self._read_policy = read_policy
        self._noted_ms: int | None = None
        self.refused_unauthentic = 0

    async def take_order(self, envelope: bytes, door: str) -> DoorAnswer:
        """Obeys or refuses one envelope."""
        clock = self._read_clock()
        order = self._checks.order(envelope, clock)
        if isinstance(order, Refused):
            return await self._refuse(order, door, clock)
        stored = self._state().applied.get(order.cid)
        if stored is not None:
            return DoorAnswer(False, "duplicate", {"cid": order.cid, "result": stored})
        command = self._command(order, door, clock)
        if isinstance(command, str):
            return await self._refuse(Refused(command, order), door, clock)
        stepped = await self._submit(command)
        return self._answer(order, stepped)

    async def take_voucher(self, text: str) -> DoorAnswer:
        """A signed voucher typed or scanned on site: same bytes, same cid, same check."""
        envelope = self._checks.voucher(text)
        if isinstance(envelope, Refused):
            return DoorAnswer(False, envelope.reason, {})
        return await self.take_order(envelope, "voucher")

    async def take_document(self, envelope: bytes) -> None:
        """Stores a tariff or a policy; a `set_tariff` or `set_policy` order puts it in force."""
        document = self._checks.document(envelope)
        if isinstance(document, Refused):
            await self._note("document_refused", document.reason, self._read_clock())
        elif document.kind == "tariff":
            await self._store(f"{document.kind}_refused", self._tariff_of(document))
        elif document.kind == "policy":
            await self._store(f"{document.kind}_refused", self._policy_of(document))

    async def _store(self, refused: str, command: cmd.Command | str) -> None:
        if isinstance(command, str):
            await self._note(refused, command, self._read_clock())
        else:
            await self._submit(command)

    def _tariff_of(self, document: Document) -> cmd.Command | str:
        try:
            tariff = read_tariff(document.body)
            fault = _tariff_fault(tariff, document.body, self._state().tariffs)
        except (TariffRefused, ValueError) as error:
            return str(error)
        return fault or cmd.AcceptTariff(self._read_clock(), tariff_key(tariff), document.body)

    def _policy_of(self, document: Document) -> cmd.Command | str:
        try:
            policy = self._read_policy(document.body, document.kid).normal
        except ValueError as error:
            return str(error)
        key = f"{policy.policy_id}@{policy.version}"
        stored = self._state().policies.get(key)
        if document.version != policy.version:
            return f"{key} came as version {document.version}"
        if stored is not None and stored.document != document.body:
            return f"{key} is stored already, with other content"
        return cmd.AcceptPolicy(self._read_clock(), key, document.body, document.kid)

    def _command(self, order: Order, door: str, clock: ClockReading) -> cmd.Command | str:
        """What to tell the core, or why the order is refused: a bad argument must not end the agent."""
        make = _COMMANDS.get(order.type)
        return "not_supported" if make is None else make(self, order, door, clock)

    def _credit(self, order: Order, door: str, clock: ClockReading) -> cmd.Command | str:
        paid_at = _instant(order.args.get("paid_at", order.nbf))
        if paid_at is None:
            return "arguments"
        account_id = self._account_of(order)
        return cmd.ApplyPayment(
            received=clock,
            account_id=account_id,
            payment_id=str(order.args["payment_id"]),
            amount_nano=MoneyNano(int(order.args["amount_nano"])),
            door=door,
            paid_at=paid_at,
            cid=order.cid,
            sample=self._newest_sample(order.meter),
        )

    def _reverse(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command | str:
        """Takes back a stated part of a payment (refund), or all that is left of it (reverse)."""
        payment_id = str(order.args["payment_id"])
        state = self._state()
        if state.payments.get(payment_id, self._account_of(order)) != self._account_of(order):
            return "other_account"  # two persons vouched for this meter, not for the one the payment is of
        receipt = state.receipts.get(payment_id)
        left_nano = 0 if receipt is None else receipt.amount_nano - receipt.reversed_nano
        amount_nano = int(order.args["amount_nano"]) if order.type == "refund" else left_nano
        return cmd.ReversePayment(clock, payment_id, MoneyNano(amount_nano), order.cid, self._checks.signed_by(order))

    def _revoke(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command:
        return cmd.RevokeOrder(clock, str(order.args["cid"]), order.cid)

    def _switch(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command:
        trigger = Trigger.REMOTE_DISCONNECT if order.type == "cut" else Trigger.REMOTE_RECONNECT
        expires_at = None if order.exp is None else UnixSeconds(order.exp)
        reason = str(order.args.get("reason", "operator"))
        return cmd.SwitchSupply(clock, self._account_of(order), trigger, reason, order.cid, order.sv, expires_at)

    def _keep_supply(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command:
        return cmd.KeepSupply(clock, self._account_of(order), bool(order.args.get("keep", True)), order.cid, order.sv)

    def _set_tariff(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command | str:
        effective_at = _instant(order.args.get("effective_at", order.nbf))
        if effective_at is None:
            return "arguments"
        state = self._state()
        if order.meter and self._account_of(order) not in state.accounts:
            return "unknown_account"
        key = _document_key(state.tariffs, order.args["hash"])
        accounts = (self._account_of(order),) if order.meter else ()
        return cmd.ScheduleTariff(clock, key, effective_at, accounts, order.cid)

    def _set_policy(self, order: Order, _door: str, clock: ClockReading) -> cmd.Command | str:
        """For one meter, the meters of a segment (`meters`), or the whole site; under a risk level if one is named."""
        account_ids = self._accounts_named(order)
        level, until = order.args.get("risk_level", ""), order.args.get("risk_until")
        if account_ids is None or not isinstance(level, str):
            return "arguments"
        if "" in account_ids:
            return "unknown_account"
        stored = next((one for one in self._state().policies.values() if _is_meant(one.document, order)), None)
        if stored is None:
            return "unknown_policy"
        try:
            terms = self._read_policy(stored.document, stored.signed_by)
        except ValueError:
            return "unusable_policy"  # another version of the software stored it
        if terms.normal.version != order.args["version"]:
            return "unknown_policy"
        if not level:
            return "arguments" if until is not None else cmd.SetPolicy(clock, account_ids, terms.normal, cid=order.cid)
        if level not in terms.levels:
            return "unknown_risk_level"
        risk_until = _instant(until)
        if risk_until is None:
            return "arguments"  # a level without an end would never fall back
        return cmd.SetPolicy(clock, account_ids, terms.normal, level, terms.levels[level], risk_until, order.cid)

    def _accounts_named(self, order: Order) -> tuple[str, ...] | None:
        """Empty for the whole site; None for what names no meters. A meter nobody knows has no account."""
        meters = order.args.get("meters", [order.meter] if order.meter else None)
        if meters is None:
            return ()
        if not isinstance(meters, list) or not meters or (order.meter and "meters" in order.args):
            return None
        if not all(isinstance(meter, str) for meter in meters):
            return None
        return tuple(dict.fromkeys(self._accounts_by_meter.get(meter, "") for meter in meters))

    def _account_of(self, order: Order) -> str:
        return self._accounts_by_meter.get(order.meter, "")

    def _answer(self, order: Order, stepped: Stepped) -> DoorAnswer:
        params: dict[str, Any] = {"cid": order.cid}
        for event in stepped.events:
            if isinstance(event, ev.PaymentApplied):
                params |= {"account": event.account, "amount_nano": event.amount_nano}
                params |= {"balance_nano": event.balance_nano, "payment_id": event.payment_id}
                figures = stepped.figures.get(event.account)
                params |= {} if figures is None else {"live_balance_nano": figures.live_nano}
            elif isinstance(event, ev.PaymentAllocated | ev.AllocationReversed):
                params["balance_nano"] = event.balance_nano  # after what went to debts, or came back from them
            elif isinstance(event, ev.PaymentReversed):
                params |= {"account": event.account, "amount_nano": -event.posting_nano}
                params |= {"balance_nano": event.balance_nano, "payment_id": event.payment_id}
            elif isinstance(event, ev.OrderRefused) and event.cid == order.cid:
                return DoorAnswer(False, event.reason, params)
        return DoorAnswer(True, "applied", params)

    async def _refuse(self, refused: Refused, door: str, clock: ClockReading) -> DoorAnswer:
        order = refused.order
        if refused.reason == "not_yet":
            return DoorAnswer(False, "not_yet", {})  # the cloud sends it again
        if order is None:
            await self._note("order_refused", f"{refused.reason} by {door}", clock)
            return DoorAnswer(False, refused.reason, {})
        await self._submit(cmd.RefuseOrder(clock, order.cid, order.type, refused.reason))
        return DoorAnswer(False, refused.reason, {"cid": order.cid})

    async def _note(self, condition: str, detail: str, clock: ClockReading) -> None:
        """An attempt is visible, but a flood of them does not wear the disk: one record a minute."""
        self.refused_unauthentic += 1
        if self._noted_ms is not None and clock.elapsed_ms - self._noted_ms < NOTE_INTERVAL_S * 1000:
            return
        self._noted_ms = clock.elapsed_ms
        text = detail[:200].encode("utf-8", "replace").decode()  # what a document says may be no text at all
        await self._submit(cmd.NoteCondition(clock, condition, "", text))


def _instant(value: Any) -> UnixSeconds | None:
    """An instant a calendar can hold, or None."""
    is_instant = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= AT_MAX
    return UnixSeconds(value) if is_instant else None


def _tariff_fault(tariff: Tariff, document: str, stored: Mapping[str, str]) -> str | None:
    """Why a tariff may not be stored. Whatever is stored is compiled for ever, so it must fit this site."""
    key = tariff_key(tariff)
    if stored.get(key, document) != document:
        return f"{key} is stored already, with other content"  # a version in force never changes under its name
    missing = not_charged_on_site(tariff)
    if missing is not None:
        return f"{key} {missing}"
    for other in map(read_tariff, stored.values()):
        for name in ("time_zone", "currency", "minor_digits"):
            if getattr(tariff, name) != getattr(other, name):
                return f"{key}: {name} is {getattr(tariff, name)}, here it is {getattr(other, name)}"
    return None


def _is_meant(document: str, order: Order) -> bool:
    return bool(hashlib.sha256(document.encode()).hexdigest() == order.args["hash"])


def _document_key(tariffs: Mapping[str, str], digest: str) -> str:
    """id@version of the stored document with this SHA-256; empty when there is none."""
    found = (key for key, text in tariffs.items() if hashlib.sha256(text.encode()).hexdigest() == digest)
    return next(found, "")


_COMMANDS: Mapping[str, Callable[[OrderDesk, Order, str, ClockReading], cmd.Command | str]] = {
    "credit": OrderDesk._credit,
    "refund": OrderDesk._reverse,
    "reverse": OrderDesk._reverse,
    "cut": OrderDesk._switch,
    "restore": OrderDesk._switch,
    "keep_supply": OrderDesk._keep_supply,
    "set_tariff": OrderDesk._set_tariff,
    "set_policy": OrderDesk._set_policy,
    "revoke": OrderDesk._revoke,
}
