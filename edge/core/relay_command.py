"""The relay commands of national meters as a table: what a relay does with trip, close and keep supply.

COSEM's disconnect control (edge.core.disconnect_control) says what a supply should be; this says
what a meter with its own relay logic answers and where its contact then is. CONTROL_STATES is the
mapping between the two, and the tests hold them to each other. Source: DL/T 645 relay control,
DL/T 698.45 objects 8000-8001; RULES.md 7 and 10 (two tables).
"""

from enum import Enum

from edge.core.disconnect_control import ControlState
from edge.core.lean import dataclass


class RelayState(Enum):
    """Where the contact is, who opened it, and whether keep supply stands."""

    CLOSED = "closed"
    CLOSED_KEEP = "closed_keep"
    WAITING_TRIP = "waiting_trip"
    OPEN_REMOTE = "open_remote"
    OPEN_LOCAL = "open_local"
    OPEN_CLOSE_ALLOWED = "open_close_allowed"
    OPEN_CLOSE_ALLOWED_KEEP = "open_close_allowed_keep"


class RelayCommand(Enum):
    """What the relay is told, or what happens at it."""

    TRIP = "trip"
    PRE_TRIP = "pre_trip"  # a warning trip
    TRIP_DELAY_OVER = "trip_delay_over"
    CLOSE_ALLOWED = "close_allowed"
    CLOSE_DIRECT = "close_direct"
    KEEP_SUPPLY = "keep_supply"
    KEEP_SUPPLY_RELEASE = "keep_supply_release"
    LOCAL_TRIP = "local_trip"
    LOCAL_CLOSE = "local_close"
    KEY_3S = "key_3s"


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """The state after a command, and the meter's reply to it; "-" where nobody is answered."""

    state: RelayState
    reply: str


_S, _C = RelayState, RelayCommand

# A missing row leaves the relay as it is, without an answer: nothing local undoes a remote trip.
ROWS: dict[tuple[RelayState, RelayCommand], RelayAnswer] = {
    (_S.CLOSED, _C.TRIP): RelayAnswer(_S.WAITING_TRIP, "ok_delayed"),
    (_S.CLOSED, _C.PRE_TRIP): RelayAnswer(_S.CLOSED, "ok_warning"),
    (_S.CLOSED, _C.CLOSE_ALLOWED): RelayAnswer(_S.CLOSED, "ok_close_allowed"),
    (_S.CLOSED, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED, "ok_direct_close"),
    (_S.CLOSED, _C.KEEP_SUPPLY): RelayAnswer(_S.CLOSED_KEEP, "ok_keep"),
    (_S.CLOSED, _C.LOCAL_TRIP): RelayAnswer(_S.OPEN_LOCAL, "-"),
    (_S.CLOSED_KEEP, _C.TRIP): RelayAnswer(_S.CLOSED_KEEP, "error_keep_supply"),
    (_S.CLOSED_KEEP, _C.PRE_TRIP): RelayAnswer(_S.CLOSED_KEEP, "error_keep_supply"),
    (_S.CLOSED_KEEP, _C.KEEP_SUPPLY): RelayAnswer(_S.CLOSED_KEEP, "ok_keep"),
    (_S.CLOSED_KEEP, _C.KEEP_SUPPLY_RELEASE): RelayAnswer(_S.CLOSED, "ok_release"),
    (_S.WAITING_TRIP, _C.TRIP): RelayAnswer(_S.WAITING_TRIP, "ok_delayed"),
    (_S.WAITING_TRIP, _C.TRIP_DELAY_OVER): RelayAnswer(_S.OPEN_REMOTE, "-"),
    (_S.WAITING_TRIP, _C.CLOSE_ALLOWED): RelayAnswer(_S.CLOSED, "ok_close_allowed"),
    (_S.WAITING_TRIP, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED, "ok_direct_close"),
    (_S.WAITING_TRIP, _C.KEEP_SUPPLY): RelayAnswer(_S.CLOSED_KEEP, "ok_keep"),
    (_S.OPEN_REMOTE, _C.TRIP): RelayAnswer(_S.OPEN_REMOTE, "ok_direct_trip"),
    (_S.OPEN_REMOTE, _C.CLOSE_ALLOWED): RelayAnswer(_S.OPEN_CLOSE_ALLOWED, "ok_close_allowed"),
    (_S.OPEN_REMOTE, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED, "ok_direct_close"),
    (_S.OPEN_REMOTE, _C.KEEP_SUPPLY): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "ok_keep"),
    (_S.OPEN_LOCAL, _C.TRIP): RelayAnswer(_S.OPEN_REMOTE, "ok_direct_trip"),
    (_S.OPEN_LOCAL, _C.CLOSE_ALLOWED): RelayAnswer(_S.OPEN_CLOSE_ALLOWED, "ok_close_allowed"),
    (_S.OPEN_LOCAL, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED, "ok_direct_close"),
    (_S.OPEN_LOCAL, _C.KEEP_SUPPLY): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "ok_keep"),
    (_S.OPEN_LOCAL, _C.LOCAL_CLOSE): RelayAnswer(_S.CLOSED, "-"),
    (_S.OPEN_LOCAL, _C.KEY_3S): RelayAnswer(_S.CLOSED, "-"),
    (_S.OPEN_CLOSE_ALLOWED, _C.TRIP): RelayAnswer(_S.OPEN_REMOTE, "ok_direct_trip"),
    (_S.OPEN_CLOSE_ALLOWED, _C.CLOSE_ALLOWED): RelayAnswer(_S.OPEN_CLOSE_ALLOWED, "ok_close_allowed"),
    (_S.OPEN_CLOSE_ALLOWED, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED, "ok_direct_close"),
    (_S.OPEN_CLOSE_ALLOWED, _C.KEEP_SUPPLY): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "ok_keep"),
    (_S.OPEN_CLOSE_ALLOWED, _C.LOCAL_CLOSE): RelayAnswer(_S.CLOSED, "-"),
    (_S.OPEN_CLOSE_ALLOWED, _C.KEY_3S): RelayAnswer(_S.CLOSED, "-"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.TRIP): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "error_keep_supply"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.PRE_TRIP): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "error_keep_supply"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.CLOSE_ALLOWED): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "ok_close_allowed"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.CLOSE_DIRECT): RelayAnswer(_S.CLOSED_KEEP, "ok_direct_close"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.KEEP_SUPPLY): RelayAnswer(_S.OPEN_CLOSE_ALLOWED_KEEP, "ok_keep"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.KEEP_SUPPLY_RELEASE): RelayAnswer(_S.OPEN_CLOSE_ALLOWED, "ok_release"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.LOCAL_CLOSE): RelayAnswer(_S.CLOSED_KEEP, "-"),
    (_S.OPEN_CLOSE_ALLOWED_KEEP, _C.KEY_3S): RelayAnswer(_S.CLOSED_KEEP, "-"),
}

# Hand and key close nothing for somebody who has not paid (RULES.md 10).
GUARDED = frozenset({RelayCommand.LOCAL_CLOSE, RelayCommand.KEY_3S})

CONTROL_STATES: dict[RelayState, ControlState] = {
    RelayState.CLOSED: ControlState.CONNECTED,
    RelayState.CLOSED_KEEP: ControlState.CONNECTED,
    RelayState.WAITING_TRIP: ControlState.CONNECTED,
    RelayState.OPEN_REMOTE: ControlState.DISCONNECTED,
    RelayState.OPEN_LOCAL: ControlState.READY_FOR_RECONNECTION,
    RelayState.OPEN_CLOSE_ALLOWED: ControlState.READY_FOR_RECONNECTION,
    RelayState.OPEN_CLOSE_ALLOWED_KEEP: ControlState.READY_FOR_RECONNECTION,
}


def relay_answer(
    state: RelayState, command: RelayCommand, *, trip_delay_s: int = 60, local_reason_stands: bool = False
) -> RelayAnswer:
    """What a relay in `state` does with `command`. A trip delay of zero opens at once."""
    if command in GUARDED and local_reason_stands:
        return RelayAnswer(state, "-")
    if (state, command) == (RelayState.CLOSED, RelayCommand.TRIP) and trip_delay_s == 0:
        return RelayAnswer(RelayState.OPEN_REMOTE, "ok_direct_trip")
    return ROWS.get((state, command), RelayAnswer(state, "-"))
