"""Moving the control state of a supply, or saying why not (edge.core.disconnect_control is the table)."""

from edge.core import events as ev
from edge.core.account import Account
from edge.core.credit_terms import PaymentMode
from edge.core.disconnect_control import ControlState, Refusal, Trigger, transition
from edge.core.notices import LEGAL_GROUNDS, enforced_nano, grace_remaining
from edge.core.turn import Turn
from edge.core.units import ClockReading

NO_CREDIT, LOAD_LIMIT = "no_credit", "load_limit"  # why a local disconnect stands
ARMED, KEY_PRESS = "armed", "key_press"


def switch(
    turn: Turn,
    account: Account,
    trigger: Trigger,
    reason: str,
    clock: ClockReading,
    supply_version: int | None = None,
    *,
    arm: bool = False,
    actor: str = "",
) -> Refusal | None:
    """Moves the control state, or says why not."""
    unpaid = trigger is Trigger.MANUAL_RECONNECT and is_unpaid(account, clock)
    target = transition(
        account.control_state,
        trigger,
        control_mode=account.policy.control_mode,
        local_reason_stands=account.local_reason is not None or unpaid,
        keep_supply=account.keep_supply,
        protected=account.protected,
        arm=arm,
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
            actor=actor,
        )
    )
    return None


def is_unpaid(account: Account, clock: ClockReading) -> bool:
    """Below all credit with no grace left: an operator's cut that is armed may hide such a customer."""
    if account.mode is PaymentMode.CREDIT:
        return False
    selected_nano = account.policy.credit.emergency_limit_nano if account.emergency.invoked else 0
    if enforced_nano(account, account.recorded_live_nano) >= account.threshold_nano - selected_nano:
        return False
    conditions = LEGAL_GROUNDS[account.policy.legal_profile].notices_are_conditions
    return not conditions or grace_remaining(account, clock) == 0


def waits_for_key(account: Account) -> bool:
    """Whether a supply that is ready for reconnection is closed by a person on site, and by nothing else."""
    limit = account.policy.load_limit
    limited = account.control_reason == LOAD_LIMIT and limit is not None and limit.armed
    return limited or account.control_reason == ARMED


def reconnect_if_clear(turn: Turn, account_id: str, clock: ClockReading) -> None:
    """Closes a supply that is ready for it once nothing local stands against it."""
    account = turn.state.accounts[account_id]
    if waits_for_key(account):
        return
    if account.control_state is ControlState.READY_FOR_RECONNECTION and account.local_reason is None:
        switch(turn, account, Trigger.LOCAL_RECONNECT, "balance_restored", clock)
