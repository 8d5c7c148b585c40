"""What must be true in the world after a step. Effects state, they do not command an edge.

They are repeated every round; only the relay driver looks for the edge and reads back, and
only a receipt ends a notice.
"""

from edge.core.account import State
from edge.core.disconnect_control import ControlState
from edge.core.frozen import quickly
from edge.core.lean import dataclass


@dataclass(frozen=True, slots=True)
class SetOutputState:
    """The supply of this account must be connected, or must not be."""

    account_id: str
    connected: bool


@dataclass(frozen=True, slots=True)
class DeliverNotice:
    """The customer must get this notice."""

    account_id: str
    number: int


Effect = SetOutputState | DeliverNotice
_set_output = quickly(SetOutputState)


def effects_of(state: State) -> tuple[Effect, ...]:
    """Everything that must be true while this state stands."""
    effects: list[Effect] = []
    for account_id, account in state.accounts.items():
        effects.append(_set_output(account_id, account.control_state is ControlState.CONNECTED))
        if account.episode is not None:
            for notice in account.episode.notices:
                if notice.receipt is None:
                    effects.append(DeliverNotice(account_id, notice.number))
    return tuple(effects)
