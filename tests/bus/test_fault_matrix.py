"""Every fault a line is known for, a thousand times each, on a real pseudo-terminal: no wrong value, next read good.

And the proof that each check earns its place: with any one taken out, the same faults get through.
"""

import asyncio
import dataclasses
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edge.bus.frame import MBAP, RTU, Framing
from edge.bus.transaction import Timing

TRANSACTIONS = 1_000
LINES = 100  # side by side, so that their timeouts pass together
# Long beside the answer's microseconds: the kernel hands a terminal's bytes over when it gets to it.
PTY_TIMING = Timing(gap_s=0.0, byte_s=0.0, response_timeout_s=0.300, drain_silence_s=0.200, drain_s_max=2.0)
PTY_LATE_S = 0.380
LATE_DRAIN_S = 0.700  # a busy machine delivers a late reply later still: it must fall into the drain
TIMING = Timing(gap_s=0.0, byte_s=0.0, response_timeout_s=0.006, drain_silence_s=0.010, drain_s_max=0.2)
LATENCY_S = 0.004
LATE_S = 0.008  # after the timeout, before the end of the drain, and before the next answer if there is no drain
FEW = 30

# Fault: reasons under which it may be reported. A cut can fall on a byte another check looks at first.
LINE_FAULTS = {
    "late_reply": {"late_reply"},
    "wrong_unit": {"wrong_unit"},
    "wrong_function": {"wrong_function"},
    "wrong_count": {"wrong_count"},
    "wrong_echo": {"wrong_echo"},
    "crc_error": {"crc"},
    "truncated": {"truncated", "crc", "wrong_echo"},
    "noise_before": {"noise_before"},
    "noise_after": {"trailing_bytes", "noise_before"},  # a whole good frame may stand behind the wrong one
    "echo_of_request": {"echo_of_request"},
    "silence": {"timeout"},
}
TCP_FAULTS = {
    **{fault: reasons for fault, reasons in LINE_FAULTS.items() if fault not in ("crc_error", "wrong_count")},
    "truncated": {"truncated", "wrong_length"},
    "wrong_count": {"wrong_count", "wrong_length"},
    "noise_before": {"wrong_transaction", "wrong_protocol", "noise_before"},
    "stale_transaction": {"wrong_transaction"},
    "wrong_protocol": {"wrong_protocol"},
    "wrong_length": {"wrong_length"},
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", LINE_FAULTS)
def test_a_thousand_faults_on_a_pseudo_terminal_give_no_wrong_value_and_the_next_read_is_good(
    wire: SimpleNamespace, fault: str
) -> None:
    steps = steps_of(wire, RTU, fault, TRANSACTIONS)
    timing = replace(PTY_TIMING, drain_silence_s=LATE_DRAIN_S) if fault == "late_reply" else PTY_TIMING
    lines = asyncio.run(wire.talk_over_ptys(LINES, timing, PTY_LATE_S, steps))
    spoiled = [outcome for _, outcomes in lines for outcome in outcomes[0::2]]
    after = [(slave, outcome) for slave, outcomes in lines for outcome in outcomes[1::2]]
    assert len(spoiled) == len(after) == TRANSACTIONS
    assert {outcome.reason for outcome in spoiled} <= LINE_FAULTS[fault]
    assert {outcome.reason for _, outcome in after} == {None}
    assert not [outcome for slave, outcome in after if wire.believed_wrongly(slave, outcome)]


@pytest.mark.parametrize("fault", TCP_FAULTS)
def test_a_thousand_faults_in_modbus_tcp_give_no_wrong_value_and_the_next_read_is_good(
    wire: SimpleNamespace, fault: str
) -> None:
    slave = wire.Slave(MBAP)
    slave.late_s = LATE_S
    outcomes = wire.converse(slave, TIMING, steps_of(wire, MBAP, fault, TRANSACTIONS))
    assert len(outcomes) == 2 * TRANSACTIONS
    assert {outcome.reason for outcome in outcomes[0::2]} <= TCP_FAULTS[fault]
    assert {outcome.reason for outcome in outcomes[1::2]} == {None}
    assert not [outcome for outcome in outcomes if wire.believed_wrongly(slave, outcome)]


@pytest.mark.parametrize(
    ("framing", "reason"), [(framing, check.reason) for framing in (RTU, MBAP) for check in framing.checks]
)
def test_without_any_one_check_a_wrong_value_gets_through(wire: SimpleNamespace, framing: Framing, reason: str) -> None:
    weakened = dataclasses.replace(framing, checks=tuple(check for check in framing.checks if check.reason != reason))
    assert wrong_beliefs(wire, framing, TIMING) == 0
    assert wrong_beliefs(wire, weakened, TIMING) > 0


def test_without_the_drain_a_late_answer_becomes_the_next_value(wire: SimpleNamespace) -> None:
    impatient = dataclasses.replace(TIMING, drain_silence_s=0.0)
    assert wrong_beliefs(wire, RTU, impatient) > 0


def wrong_beliefs(wire: SimpleNamespace, framing: Framing, timing: Timing) -> int:
    """How many outcomes of a short run through all faults say what is not so."""
    wrong = 0
    for fault in LINE_FAULTS if framing.name == "rtu" else TCP_FAULTS:
        slave = wire.Slave(framing)
        slave.late_s, slave.latency_s = LATE_S, LATENCY_S
        outcomes = wire.converse(slave, timing, steps_of(wire, framing, fault, FEW))
        wrong += sum(wire.believed_wrongly(slave, outcome) for outcome in outcomes)
    return wrong


def steps_of(wire: SimpleNamespace, framing: Framing, fault: str, count: int) -> list[tuple[str, object]]:
    """A spoiled exchange, then a good one, `count` times."""
    pairs = wire.exchanges(framing, fault)
    steps: list[tuple[str, object]] = []
    for index in range(count):
        spoiled, good = pairs[index % len(pairs)]
        steps += [(fault, spoiled), ("none", good)]
    return steps
