"""Moving the control state of a supply, or saying why not (edge.core.disconnect_control is the table)."""

from edge.core import events as ev
from edge.core.account import Account
from edge.core.disconnect_control import ControlState, Refusal, Trigger, transition
from edge.core.turn import Turn
from edge.core.units import ClockReading

NO_CREDIT, LOAD_LIMIT = "no_credit", "load_limit"  # why a local disconnect stands


def switch(
    turn: Turn, account: Account, trigger: Trigger, reason: str, clock: ClockReading, supply_version: int | None = None
) -> Refusal | None:
    """Moves the control state, or says why not."""
    target = transition(
        account.control_state,
        trigger,
        control_mode=account.policy.control_mode,
        local_reason_stands=account.local_reason is not None,
        keep_supply=account.keep_supply,
        protected=account.protected,
    )
    if isinstance(target, Refusal):
        return target
    figures = turn.figures.get(account.account_id)
    turn.emit(
        ev.DisconnectControlChanged(
            at=clock.at,
            account=account.account_id,
            control_state=target.value,
            trigger=trigger.value,
            reason=reason,
            local_reason=reason if trigger is Trigger.LOCAL_DISCONNECT else account.local_reason,
            supply_version=account.supply_version if supply_version is None else supply_version,
            balance_nano=account.money_nano,
            live_balance_nano=figures.live_nano if figures else None,
            register_wh=figures.register.register_wh if figures else None,
            clock=clock,
        )
    )
    return None


def reconnect_if_clear(turn: Turn, account_id: str, clock: ClockReading) -> None:
    """Closes a supply that is ready for it once nothing local stands against it."""
    account = turn.state.accounts[account_id]
    limit = account.policy.load_limit
    if account.control_reason == LOAD_LIMIT and limit is not None and limit.armed:
        return  # the customer presses the key
    if account.control_state is ControlState.READY_FOR_RECONNECTION and account.local_reason is None:
        switch(turn, account, Trigger.LOCAL_RECONNECT, "balance_restored", clock)
