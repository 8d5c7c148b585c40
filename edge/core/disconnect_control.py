"""Disconnect control as a table: which trigger moves a supply to which control state.

Source: IEC 62056-6-2, Disconnect control (class_id 70), transitions (a) to (h) and
control_mode 0 to 6; RULES.md 7 and 10. A prepayment cut is a local disconnect, an operator's
cut a remote one. A missing row, or a row whose letter the mode lacks, is a refusal: no row
lets a top-up undo an operator's cut.
"""

from enum import Enum

from edge.core.lean import dataclass


class ControlState(Enum):
    """COSEM control_state; what the relay really does is output_state, kept apart."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    READY_FOR_RECONNECTION = "ready_for_reconnection"


class Trigger(Enum):
    """Who asks."""

    REMOTE_DISCONNECT = "remote_disconnect"
    REMOTE_RECONNECT = "remote_reconnect"
    MANUAL_DISCONNECT = "manual_disconnect"
    MANUAL_RECONNECT = "manual_reconnect"
    LOCAL_DISCONNECT = "local_disconnect"
    LOCAL_RECONNECT = "local_reconnect"


_CONNECTED = ControlState.CONNECTED
_READY = ControlState.READY_FOR_RECONNECTION
_DISCONNECTED = ControlState.DISCONNECTED

# (state, trigger) -> rows (letter of the transition, next state), the first whose letter the mode has wins.
TRANSITIONS: dict[tuple[ControlState, Trigger], tuple[tuple[str, ControlState], ...]] = {
    (_CONNECTED, Trigger.REMOTE_DISCONNECT): (("b", _DISCONNECTED),),
    (_READY, Trigger.REMOTE_DISCONNECT): (("c", _DISCONNECTED),),
    (_DISCONNECTED, Trigger.REMOTE_RECONNECT): (("a", _CONNECTED), ("d", _READY)),
    (_READY, Trigger.MANUAL_RECONNECT): (("e", _CONNECTED),),
    (_CONNECTED, Trigger.MANUAL_DISCONNECT): (("f", _READY),),
    (_CONNECTED, Trigger.LOCAL_DISCONNECT): (("g", _READY),),
    (_READY, Trigger.LOCAL_RECONNECT): (("h", _CONNECTED),),
}

# control_mode -> the transitions it has. Mode 0 never opens: the supply is always connected.
MODES: dict[int, str] = {0: "", 1: "bcdefg", 2: "abcefg", 3: "bcdeg", 4: "abceg", 5: "bcdefgh", 6: "bcdegh"}

# These reconnect only when no local reason (no credit) stands: RULES.md 10.
GUARDED = frozenset({Trigger.MANUAL_RECONNECT, Trigger.LOCAL_RECONNECT})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a trigger moves nothing. `reason`: no_transition | local_reason | keep_supply | protected."""

    reason: str


def transition(
    state: ControlState,
    trigger: Trigger,
    *,
    control_mode: int,
    local_reason_stands: bool,
    keep_supply: bool,
    protected: bool,
    arm: bool = False,
) -> ControlState | Refusal:
    """The next control state, or why there is none. First failing check wins, in this order:
    a missing row, protection, keep supply, the guard on reconnects. `arm` leaves out rows that close at once.
    """
    for letter, target in TRANSITIONS.get((state, trigger), ()):
        if letter not in MODES[control_mode] or (arm and target is ControlState.CONNECTED):
            continue
        if target is not ControlState.CONNECTED and state is ControlState.CONNECTED:
            if protected:
                return Refusal("protected")
            if keep_supply:
                return Refusal("keep_supply")
        if trigger in GUARDED and local_reason_stands:
            return Refusal("local_reason")
        return target
    return Refusal("no_transition")
