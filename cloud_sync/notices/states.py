"""What a notice's way to its customer is made of: states, what may happen, and which follows.

A pair that has no row is refused: nothing that was sent is sent again, unless a person says so.
"""

from enum import Enum
from typing import Final


class State(Enum):
    """Where a notice is."""

    WAITING = "waiting"  # until it is due, may be sent, and there is somebody to send it to
    SENDING = "sending"  # committed before the first byte leaves
    ACCEPTED = "accepted"  # a channel has taken it; whether the customer has it is not known yet
    DELIVERED = "delivered"
    IN_DOUBT = "in_doubt"  # it may have been sent: only a person sends it again
    FAILED = "failed"  # every channel has refused
    WITHDRAWN = "withdrawn"  # the customer paid before it was sent


class Trigger(Enum):
    """What happens to a notice."""

    CLAIM = "claim"
    LATER = "later"  # certainly not sent: the same channel again after a pause
    REFUSE = "refuse"  # certainly not sent, and never will be: the next channel
    EXHAUST = "exhaust"  # no channel is left
    ACCEPT = "accept"
    DELIVER = "deliver"
    LOSE = "lose"  # no answer, or the process ended in between
    CLOSE = "close"  # its episode is over
    RESEND = "resend"  # a person


TRANSITIONS: Final[dict[State, dict[Trigger, State]]] = {
    State.WAITING: {
        Trigger.CLAIM: State.SENDING,
        Trigger.EXHAUST: State.FAILED,
        Trigger.CLOSE: State.WITHDRAWN,
    },
    State.SENDING: {
        Trigger.LATER: State.WAITING,
        Trigger.REFUSE: State.WAITING,
        Trigger.ACCEPT: State.ACCEPTED,
        Trigger.DELIVER: State.DELIVERED,
        Trigger.LOSE: State.IN_DOUBT,
    },
    State.ACCEPTED: {
        Trigger.DELIVER: State.DELIVERED,
        Trigger.REFUSE: State.WAITING,  # the provider reports that it could not be delivered
    },
    State.IN_DOUBT: {Trigger.RESEND: State.WAITING, Trigger.CLOSE: State.WITHDRAWN},
    State.FAILED: {Trigger.RESEND: State.WAITING, Trigger.CLOSE: State.WITHDRAWN},
    State.DELIVERED: {},
    State.WITHDRAWN: {},
}


class NotPossible(Exception):
    """What happened has no row for the state the notice is in."""


def follow(state: State, trigger: Trigger) -> State:
    """The state after. Raises NotPossible."""
    after = TRANSITIONS[state].get(trigger)
    if after is None:
        raise NotPossible(f"a notice that is {state.value} cannot {trigger.value}")
    return after
