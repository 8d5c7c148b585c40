"""What a customer may do for himself on site, besides entering tokens: select the emergency credit.

One command to the core, which decides; the answer is given after the commit. Codes of answers.
Accepted: emergency_selected. Refused: not_offered, unknown_account. Amounts nano of the account's unit.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.step import Stepped
from edge.core.units import ClockReading
from edge.ports import DoorAnswer


class CustomerDesk:
    """Takes what customers select."""

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
