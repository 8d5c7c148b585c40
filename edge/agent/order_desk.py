"""Where signed orders come in, by whatever door: checked, turned into one command, answered once.

First failing check wins: signature and role (nothing is stored for an order nobody vouches
for, it is only counted and noted), then what the core decides. A repeated order answers with
its stored result. Source: CONTRACT.md, Down.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from cloud_sync.wire import Document, Order
from edge.agent.order_commands import Asked, PolicyReader, command_of
from edge.agent.pricing import not_charged_on_site, read_tariff, tariff_key
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.lean import dataclass
from edge.core.step import Stepped
from edge.core.tariff import Tariff, TariffRefused
from edge.core.units import ClockReading
from edge.ports import DoorAnswer

NOTE_INTERVAL_S = 60


@dataclass(frozen=True, slots=True)
class Refused:
    """An envelope that is not obeyed. `order` is there when the signature was good."""

    reason: str
    order: Order | None = None


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
        return command_of(
            Asked(
                order=order,
                door=door,
                clock=clock,
                state=self._state(),
                signed_by=self._checks.signed_by(order),
                accounts_by_meter=self._accounts_by_meter,
                newest_sample=self._newest_sample,
                read_policy=self._read_policy,
            )
        )

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
