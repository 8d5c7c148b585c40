"""Where typed tokens come in: a locked door first, then the meter's decoder, then the core, then one answer.

One entry at a time: what the decoder is asked with is what the core judges by. An answer is given only
after the commit, so a power cut before it leaves either nothing, or a token that is "used" when typed
again and counted once. Waits are seconds of the accounting clock, amounts Wh or s, money nano-currency.

Codes of answers. Accepted: applied, count_sync, key_section, key_changed. Refused: the reasons of
edge.core.token, what refuses a payment, unknown_account, no_decoder, and not_handed_over: the token is
for the meter's own decoder, and no meter model of ours has a register to take it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, State
from edge.core.lean import dataclass
from edge.core.step import Stepped
from edge.core.token import (
    KEY_EXPIRY_MAX,
    EnterToken,
    KeySectionAccepted,
    StsMemory,
    TokenAccepted,
    TokenKind,
    TokenRefused,
    TokenRelayed,
    enter_token,
)
from edge.core.units import ClockReading
from edge.ports import DoorAnswer, TokenReader

KIOSK = "kiosk"
KEPT_INTERVAL_S = 60


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """A meter's decoder as commissioned: STS has a base year, OpenPAYGO a count, a relayed one neither."""

    reader: TokenReader
    base_year: int | None = None
    key_expiry: int = KEY_EXPIRY_MAX
    tid: int | None = None  # what is spent from the start
    count: int | None = None

    @property
    def relayed(self) -> bool:
        """The meter decodes its tokens itself: nothing is remembered here."""
        return self.base_year is None and self.count is None


def door_of(actor: str) -> str:
    """The door of an actor: each has its own lock."""
    return KIOSK if actor == KIOSK else f"console:{actor}"


class TokenDesk:
    """Takes what people type, for the accounts whose meters have a decoder."""

    def __init__(
        self,
        decoders: Mapping[str, DecoderFacts],
        read_clock: Callable[[], ClockReading],
        state: Callable[[], State],
        submit: Callable[[cmd.Command], Awaitable[Stepped]],
    ) -> None:
        """`decoders` by meter id."""
        self._decoders = decoders
        self._read_clock = read_clock
        self._state = state
        self._submit = submit
        self._turn = asyncio.Lock()
        self._kept_ms: dict[str, int] = {}  # when a refusal that locks nothing was last journaled, by door

    async def commission(self) -> None:
        """Begins every decoder that is new. One that is known keeps what it remembers."""
        for meter_id, facts in self._decoders.items():
            if facts.relayed:
                continue
            clock, memory = self._read_clock(), self._state().tokens.memory(meter_id)
            if memory is not None and isinstance(memory, StsMemory) is not (facts.base_year is not None):
                detail = f"{meter_id}: the site book has another scheme than the journal; its tokens are refused"
                await self._submit(cmd.NoteCondition(clock, "decoder_refused", "", detail))
            spent = (facts.base_year, facts.key_expiry, facts.tid, facts.count)
            await self._submit(cmd.CommissionDecoder(clock, meter_id, *spent))

    async def enter_token(self, account_id: str, text: str, door: str) -> DoorAnswer:
        """What becomes of typed digits. Nothing is decoded or journaled while the door is locked."""
        async with self._turn:
            account = self._state().accounts.get(account_id)
            if account is None:
                return DoorAnswer(False, "unknown_account", {})
            facts = self._decoders.get(account.meter_id)
            if facts is None:
                return DoorAnswer(False, "no_decoder", {"account": account_id})
            return await self._enter(account, facts.reader, text, door)

    async def _enter(self, account: Account, reader: TokenReader, text: str, door: str) -> DoorAnswer:
        tokens, clock = self._state().tokens, self._read_clock()
        unit = account.policy.credit.unit.value
        params = {"account": account.account_id, "unit": unit}
        wait_s = tokens.wait_s(door, clock)
        if wait_s:
            return DoorAnswer(False, "locked", {**params, **_wait(wait_s, clock)})
        read = reader.read(text, tokens.memory(account.meter_id))
        entry = EnterToken(clock, account.account_id, account.meter_id, door, read, unit)
        expected = enter_token(tokens, entry)
        if isinstance(expected, TokenRefused) and expected.clock is None and not self._keeps(door, clock):
            return DoorAnswer(False, expected.reason, params)
        if isinstance(expected, TokenRelayed):
            return await self._relay(entry, params)
        return _answer(await self._submit(entry), params, clock)

    def _keeps(self, door: str, clock: ClockReading) -> bool:
        """A refusal that locks nothing can come as fast as somebody types: one a minute wears no disk."""
        kept_ms = self._kept_ms.get(door)
        if kept_ms is not None and clock.elapsed_ms - kept_ms < KEPT_INTERVAL_S * 1000:
            return False
        self._kept_ms[door] = clock.elapsed_ms
        return True

    async def _relay(self, entry: EnterToken, params: Mapping[str, Any]) -> DoorAnswer:
        """For the meter's own decoder. It is kept and said that nobody could hand it over: never a false success."""
        if self._keeps(entry.door, entry.received):
            await self._submit(entry)
            note = cmd.NoteCondition(entry.received, "token_not_handed_over", entry.account_id, entry.decoder)
            await self._submit(note)
        return DoorAnswer(False, "not_handed_over", params)


def _wait(wait_s: int, clock: ClockReading) -> dict[str, Any]:
    return {"wait_s": wait_s, "open_at": clock.at + wait_s} if wait_s else {}


def _answer(stepped: Stepped, params: Mapping[str, Any], clock: ClockReading) -> DoorAnswer:
    """The answer an entry's one event of its own gives."""
    for event in stepped.events:
        match event:
            case TokenAccepted(kind=TokenKind.CREDIT.value):
                return DoorAnswer(True, "applied", {**params, **_credit(event, stepped)})
            case TokenAccepted():
                return DoorAnswer(True, event.kind, params)
            case KeySectionAccepted():
                code = "key_changed" if event.completes else "key_section"
                return DoorAnswer(True, code, {**params, "section": event.section.number})
            case TokenRefused():
                return DoorAnswer(False, event.reason, {**params, **_wait(event.wait_s, clock)})
    raise AssertionError(stepped.events)  # the account was there: nobody closes one


def _credit(event: TokenAccepted, stepped: Stepped) -> dict[str, Any]:
    """Amount in the token's unit, and the balance after it as nano of the account's."""
    facts: dict[str, Any] = {"unit": event.unit, "amount": event.amount, "payment_id": event.token_id}
    for payment in stepped.events:
        if isinstance(payment, ev.PaymentApplied) and payment.payment_id == event.token_id:
            facts["balance_nano"] = payment.balance_nano
    figures = stepped.figures.get(event.account)
    return facts if figures is None else {**facts, "live_balance_nano": figures.live_nano}
