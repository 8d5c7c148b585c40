"""edge.core.disconnect_control: every pair of state and trigger, in every mode."""

from itertools import product

import pytest

from edge.core.disconnect_control import MODES, ControlState, Refusal, Trigger, transition

CONNECTED, READY, DISCONNECTED = (
    ControlState.CONNECTED,
    ControlState.READY_FOR_RECONNECTION,
    ControlState.DISCONNECTED,
)
# The Blue Book's arrows, written out once more: letter -> (from, trigger, to).
ARROWS = {
    "a": (DISCONNECTED, Trigger.REMOTE_RECONNECT, CONNECTED),
    "b": (CONNECTED, Trigger.REMOTE_DISCONNECT, DISCONNECTED),
    "c": (READY, Trigger.REMOTE_DISCONNECT, DISCONNECTED),
    "d": (DISCONNECTED, Trigger.REMOTE_RECONNECT, READY),
    "e": (READY, Trigger.MANUAL_RECONNECT, CONNECTED),
    "f": (CONNECTED, Trigger.MANUAL_DISCONNECT, READY),
    "g": (CONNECTED, Trigger.LOCAL_DISCONNECT, READY),
    "h": (READY, Trigger.LOCAL_RECONNECT, CONNECTED),
}
MODE_ARROWS = {0: "", 1: "bcdefg", 2: "abcefg", 3: "bcdeg", 4: "abceg", 5: "bcdefgh", 6: "bcdegh"}


def move(state: ControlState, trigger: Trigger, mode: int = 6, **facts: bool) -> ControlState | Refusal:
    told = {"local_reason_stands": False, "keep_supply": False, "protected": False, **facts}
    return transition(state, trigger, control_mode=mode, **told)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_each_mode_has_the_arrows_of_the_standard_and_no_other(mode: int) -> None:
    allowed = {ARROWS[letter][:2]: ARROWS[letter][2] for letter in MODE_ARROWS[mode]}
    for state, trigger in product(ControlState, Trigger):
        expected = allowed.get((state, trigger), Refusal("no_transition"))
        assert move(state, trigger, mode) == expected, (mode, state, trigger)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_no_mode_lets_anything_local_or_manual_undo_an_operators_cut(mode: int) -> None:
    for trigger in (Trigger.LOCAL_RECONNECT, Trigger.MANUAL_RECONNECT):
        assert isinstance(move(DISCONNECTED, trigger, mode), Refusal)


@pytest.mark.parametrize("trigger", [Trigger.LOCAL_RECONNECT, Trigger.MANUAL_RECONNECT])
def test_nobody_reconnects_while_a_local_reason_stands(trigger: Trigger) -> None:
    assert move(READY, trigger, local_reason_stands=True) == Refusal("local_reason")
    assert move(READY, trigger) is CONNECTED


@pytest.mark.parametrize("trigger", list(Trigger))
@pytest.mark.parametrize("mode", sorted(MODES))
def test_neither_a_protected_customer_nor_kept_supply_is_ever_opened(trigger: Trigger, mode: int) -> None:
    for facts in ({"protected": True}, {"keep_supply": True}):
        moved = move(CONNECTED, trigger, mode, **facts)
        assert isinstance(moved, Refusal)
    if move(CONNECTED, trigger, mode) is not CONNECTED and not isinstance(move(CONNECTED, trigger, mode), Refusal):
        assert move(CONNECTED, trigger, mode, protected=True) == Refusal("protected")
        assert move(CONNECTED, trigger, mode, keep_supply=True) == Refusal("keep_supply")


def test_an_operator_may_take_over_a_local_cut_and_close_allowed_needs_no_credit_check() -> None:
    assert move(READY, Trigger.REMOTE_DISCONNECT, local_reason_stands=True) is DISCONNECTED
    assert move(DISCONNECTED, Trigger.REMOTE_RECONNECT, local_reason_stands=True) is READY
    assert move(DISCONNECTED, Trigger.REMOTE_RECONNECT, mode=4) is CONNECTED
