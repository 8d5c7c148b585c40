"""edge.core.relay_command: the control cases of the worked examples unchanged, and agreement with COSEM."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from edge.core.disconnect_control import ControlState, Trigger, transition
from edge.core.relay_command import CONTROL_STATES, RelayAnswer, RelayCommand, RelayState, relay_answer

VECTORS = Path(__file__).parent.parent / "vectors" / "worked_examples.json"
CASES = json.loads(VECTORS.read_text("utf-8"))["control_cases"]
TRIGGERS = {
    RelayCommand.TRIP: Trigger.REMOTE_DISCONNECT,
    RelayCommand.TRIP_DELAY_OVER: Trigger.REMOTE_DISCONNECT,
    RelayCommand.CLOSE_ALLOWED: Trigger.REMOTE_RECONNECT,
    RelayCommand.CLOSE_DIRECT: Trigger.REMOTE_RECONNECT,
    RelayCommand.LOCAL_TRIP: Trigger.LOCAL_DISCONNECT,
    RelayCommand.LOCAL_CLOSE: Trigger.LOCAL_RECONNECT,
    RelayCommand.KEY_3S: Trigger.MANUAL_RECONNECT,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_control_case_of_the_worked_examples(case: dict[str, Any]) -> None:
    answer = relay_answer(RelayState(case["state"]), RelayCommand(case["command"]))
    assert (answer.state.value, answer.reply) == (case["new_state"], case["reply"])


def test_zero_delay_trips_at_once() -> None:
    answer = relay_answer(RelayState.CLOSED, RelayCommand.TRIP, trip_delay_s=0)
    assert answer == RelayAnswer(RelayState.OPEN_REMOTE, "ok_direct_trip")


@pytest.mark.parametrize("state", list(RelayState))
def test_kept_supply_is_never_opened_and_only_a_release_ends_it(state: RelayState) -> None:
    if not state.value.endswith("_keep"):
        return
    for command in RelayCommand:
        after = relay_answer(state, command).state
        assert after.value.endswith("_keep") or command is RelayCommand.KEEP_SUPPLY_RELEASE
        if state is RelayState.CLOSED_KEEP:
            assert CONTROL_STATES[after] is ControlState.CONNECTED


def test_hand_and_key_close_nothing_for_somebody_who_has_not_paid() -> None:
    for state, command in product(RelayState, (RelayCommand.KEY_3S, RelayCommand.LOCAL_CLOSE)):
        assert relay_answer(state, command, local_reason_stands=True) == RelayAnswer(state, "-")


@pytest.mark.parametrize(("state", "command"), list(product(RelayState, TRIGGERS)))
def test_each_move_of_a_relay_is_one_that_the_disconnect_control_has(state: RelayState, command: RelayCommand) -> None:
    """What the meter does by itself is never more than COSEM allows, whatever mode a policy names."""
    after = CONTROL_STATES[relay_answer(state, command).state]
    before = CONTROL_STATES[state]
    if after is before:
        return
    reached = [
        transition(
            before, TRIGGERS[command], control_mode=mode, local_reason_stands=False, keep_supply=False, protected=False
        )
        for mode in (2, 4, 5, 6)
    ]
    direct = before is ControlState.READY_FOR_RECONNECTION and command is RelayCommand.CLOSE_DIRECT
    assert after in reached or direct  # a remote close of a supply that may be closed: COSEM asks for the key
