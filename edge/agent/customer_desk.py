"""What people do on site, besides entering tokens: select emergency credit, press the key, hand over a notice.

One command to the core, which decides; the answer is given after the commit, and the record names the person.
Codes of answers. Accepted: emergency_selected, switched_on, notice_confirmed. Refused: unknown_account; not_offered;
no_transition, local_reason (a key press reconnects nobody who has not paid); no_notice, other_notice,
other_proof, already_delivered, document. Amounts nano of the account's unit.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.disconnect_control import Trigger
from edge.core.policy import NoticeProof
from edge.core.step import Stepped
from edge.core.switching import KEY_PRESS
from edge.core.units import ClockReading, UnixSeconds
from edge.ports import DoorAnswer


class CustomerDesk:
    """Takes what people on site ask for."""

    def __init__(
        self,
        read_clock: Callable[[], ClockReading],
        state: Callable[[], State],
        newest_sample: Callable[[str], cmd.Sample | None],
        submit: Callable[[cmd.Command], Awaitable[Stepped]],
    ) -> None:
        self._read_clock = read_clock
        self._state = state
        self._newest_sample = newest_sample
        self._submit = submit

    async def select_emergency_credit(self, account_id: str, actor: str) -> DoorAnswer:
        """Selects the emergency credit that is offered. What it covers is supplied at once."""
        account = self._state().accounts.get(account_id)
        if account is None:
            return DoorAnswer(False, "unknown_account", {})
        params: dict[str, Any] = {"account": account_id, "unit": account.policy.credit.unit.value}
        sample = self._newest_sample(account.meter_id)
        command = cmd.SelectEmergencyCredit(self._read_clock(), account_id, sample=sample, actor=actor)
        stepped = await self._submit(command)
        for event in stepped.events:
            if isinstance(event, ev.EmergencyCreditSelected):
                facts = {"limit_nano": event.limit_nano, "live_balance_nano": event.live_balance_nano}
                return DoorAnswer(True, "emergency_selected", {**params, **facts})
            if isinstance(event, ev.RequestRefused):
                return DoorAnswer(False, event.reason, params)
        raise AssertionError(stepped.events)  # without an order's id there is always one of the two

    async def press_key(self, account_id: str, actor: str) -> DoorAnswer:
        """Closes a supply that is ready for reconnection, as the key of a meter does."""
        clock = self._read_clock()
        command = cmd.SwitchSupply(clock, account_id, Trigger.MANUAL_RECONNECT, KEY_PRESS, actor=actor)
        return await self._ask(command, account_id, "switched_on")

    async def confirm_notice(self, account_id: str, number: int, raised_at: int, actor: str) -> DoorAnswer:
        """A notice was shown to the customer on site: the receipt of that very notice, from now on."""
        command = cmd.ConfirmNotice(
            received=self._read_clock(),
            account_id=account_id,
            number=number,
            proof=NoticeProof.LOCAL_DISPLAY.value,
            raised_at=UnixSeconds(raised_at),
            actor=actor,
        )
        return await self._ask(command, account_id, "notice_confirmed")

    async def _ask(self, command: cmd.SwitchSupply | cmd.ConfirmNotice, account_id: str, accepted: str) -> DoorAnswer:
        assert command.actor  # without a name a refusal would leave no record
        stepped = await self._submit(command)
        refused = [event.reason for event in stepped.events if isinstance(event, ev.RequestRefused)]
        return DoorAnswer(not refused, refused[0] if refused else accepted, {"account": account_id})
