"""Every fault a line is known for, with every kind of request, on every kind of line: no wrong value, next read good.

The rows stand in `hw/sim/wire_faults.py`. Here they are played byte by byte against the line's Transaction, in made-up
time; a sample of them over real pseudo-terminals and sockets. And the proof that each check earns its place: with any
one taken out, rows get through.
"""

import asyncio
import dataclasses
import struct
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edge.bus.frame import FRAMINGS, MBAP, RTU, Framing, Request
from edge.bus.loop import LineLoop, line_loop
from edge.bus.transaction import Timing
from hw.sim.wire_faults import FAULTS, GOOD, Kind, Parts

VARIANTS = 40  # each row turns to another byte, bit or noise with each
SERIAL = Timing.of_serial(9_600, 0.3, 0.55, 5.0)
TCP = replace(SERIAL, gap_s=0.0, byte_s=0.0)
LATE_S = 0.4  # after the timeout, before the end of the drain
PACKED_S = 0.010  # a serial server sends in one segment what came within such a time
# Framing and timing by kind of line.
LINES: dict[str, tuple[str, Timing]] = {
    "serial": ("rtu", SERIAL),
    "serial with local echo": ("rtu_echoed", SERIAL),
    "rtu+tcp": ("rtu", SERIAL),
    "tcp": ("mbap", TCP),
}
# A request that is spoiled and a good one after it, which a stale answer to the first would fit.
REQUESTS: dict[str, tuple[tuple[str, int, int, tuple[int, ...]], ...]] = {
    "money register": (("read", 4, 0x48, (2,)), ("read", 3, 0x2000, (14,))),
    # 20 coils from 0x310: what comes back is as long as the request, and its count is the request's address.
    "relay state": (("read", 1, 0x0310, (8,)), ("read", 1, 0x0310, (20,)), ("read", 3, 0x1A, (1,))),
    "relay switched": (("write", 5, 3, (0xFF00,)), ("write", 16, 0x1A, (1,)), ("write", 6, 0x1A, (1,))),
}

# The sample over pseudo-terminals.
TRANSACTIONS = 1_000
SIDE_BY_SIDE = 100  # lines whose timeouts pass together
PTY_FAULTS = (
    "late_reply", "wrong_unit", "wrong_function", "wrong_count", "wrong_echo_value", "crc_error", "truncated",
    "noise_before", "noise_after", "echo_of_request", "silence",
)  # fmt: skip
# Long beside the answer's microseconds: the kernel hands a terminal's bytes over when it gets to it.
PTY_TIMING = Timing(gap_s=0.0, byte_s=0.0, response_timeout_s=0.300, drain_silence_s=0.200, drain_s_max=2.0)
PTY_LATE_S = 0.380
# What a busy machine delivers later still, or looks for too late, must fall into the drain.
LATE_LINES, LATE_REPLY_S, LATE_TIMING = 200, 1.0, replace(PTY_TIMING, drain_silence_s=1.7, drain_s_max=4.0)
# A stall of this machine moves what comes a millisecond apart into the next exchange: these stay in made-up time.
NOT_IN_REAL_TIME = ("noise_after_apart", "doubled_apart", "late_reply_twice")
# What is late is a second from the timeout and from the end of the drain: a stall of this machine that bridges that
# makes a late answer one in time, which on a serial line nothing tells from a good one.
REAL_TIMING = replace(PTY_TIMING, drain_silence_s=2.4, drain_s_max=6.0)
REAL_LATE_S = 1.5
# After a stall longer than all of this, what was to be late is there when the port is looked at.
MAY_BE_IN_TIME = ("late_reply", "pause_beyond_the_timeout")
NAMED_OTHERWISE = {"trailing_bytes", "noise_before", "late_reply", "crc", "truncated", "wrong_echo"}


def test_the_table_has_more_than_enough_faults_for_every_kind_of_request_on_every_kind_of_line() -> None:
    for line, (framing, _) in LINES.items():
        for kind in REQUESTS:
            rows = [fault for fault in FAULTS if any(True for _ in spoiled(framing, fault, kind))]
            assert len(rows) >= 27, (line, kind, len(rows))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("line", LINES)
def test_no_fault_gives_a_wrong_value_or_relay_state_and_the_next_exchange_is_good(
    wire: SimpleNamespace, line: str, fault: str
) -> None:
    framing, timing = LINES[line]
    allowed = set(FAULTS[fault].reasons(kind_of(framing)))
    if line == "rtu+tcp" and GOOD in allowed:  # what came apart may come packed
        allowed |= {"trailing_bytes", "noise_before"}
    for kind in REQUESTS:
        steps = [
            step
            for request, good in spoiled(framing, fault, kind)
            for _ in range(VARIANTS)
            for step in ((fault, request), ("none", good))
        ]
        ended = wire.converse(FRAMINGS[framing], device(wire, framing), timing, steps, WIRES[line])
        assert len(ended) == len(steps)
        assert not [end for end in ended if end.wrong], kind
        assert {end.reason for end in ended[0::2]} <= allowed, kind
        assert {end.reason for end in ended[1::2]} <= {GOOD}, kind


@pytest.mark.parametrize(
    ("framing", "reason"), [(name, check.reason) for name, framing in FRAMINGS.items() for check in framing.checks]
)
def test_without_any_one_check_a_wrong_value_gets_through(wire: SimpleNamespace, framing: str, reason: str) -> None:
    whole = FRAMINGS[framing]
    weakened = dataclasses.replace(whole, checks=tuple(check for check in whole.checks if check.reason != reason))
    assert len(weakened.checks) == len(whole.checks) - 1
    assert any(rows_that_fail(wire, framing, weakened))


def test_without_the_drain_a_late_answer_becomes_the_next_value(wire: SimpleNamespace) -> None:
    impatient = replace(SERIAL, drain_silence_s=0.0)
    assert "late_reply" in rows_that_fail(wire, "rtu", RTU, impatient, latency_s=LATE_S / 2)
    assert not any(rows_that_fail(wire, "rtu", RTU, SERIAL, latency_s=LATE_S / 2))


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (lambda sent, answer: sent + answer, GOOD),
        (lambda sent, answer: answer, "no_local_echo"),
        (lambda sent, answer: sent, "timeout"),
        (lambda sent, answer: b"", "timeout"),
        (lambda sent, answer: sent[:5], "truncated"),
        (lambda sent, answer: sent[1:] + answer, "damaged_local_echo"),
        (lambda sent, answer: b"\x00" + sent + answer, "damaged_local_echo"),
        (lambda sent, answer: sent[:3] + b"\x55" + sent[4:] + answer, "damaged_local_echo"),
        (lambda sent, answer: answer + sent, "damaged_local_echo"),
        (lambda sent, answer: sent + sent + answer, "echo_of_request"),
        (lambda sent, answer: sent + b"\x00" + answer, "noise_before"),
        (lambda sent, answer: sent + answer + b"\x00", "trailing_bytes"),
        (lambda sent, answer: sent + answer[:-1] + b"\x00", "crc"),
    ],
)
def test_a_local_echo_is_swallowed_at_its_place_to_the_byte_and_never_searched_for(
    wire: SimpleNamespace, heard: object, reason: str
) -> None:
    def on_wire(sent: bytes, parts: Parts) -> Parts:
        return [(0.0, heard(sent, b"".join(part for _, part in parts)))]  # type: ignore[operator]

    asked = RTU.read(5, 4, 0x48, 2)
    slave = wire.Slave()
    (end,) = wire.converse(FRAMINGS["rtu_echoed"], slave, SERIAL, [("none", asked)], on_wire)
    assert (end.reason, end.wrong) == (reason, False)
    late = [*on_wire_late(asked.frame, wire.Slave().good(asked.frame))]
    (end,) = wire.converse(FRAMINGS["rtu_echoed"], slave, SERIAL, [("none", asked)], lambda sent, parts: late)
    assert end.reason == "late_reply"


def on_wire_late(sent: bytes, answer: bytes) -> Iterator[tuple[float, bytes]]:
    """The echo at once, the answer after the timeout."""
    yield 0.0, sent
    yield LATE_S, answer


# --- over real pseudo-terminals and sockets --------------------------------------------------


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", PTY_FAULTS)
def test_a_thousand_faults_on_a_pseudo_terminal_give_no_wrong_value_and_the_next_read_is_good(
    wire: SimpleNamespace, fault: str
) -> None:
    pairs = [pair for kind in REQUESTS for pair in spoiled("rtu", fault, kind)]
    steps = [step for at in range(TRANSACTIONS) for step in zip((fault, "none"), pairs[at % len(pairs)], strict=True)]
    usual = (SIDE_BY_SIDE, PTY_TIMING, PTY_LATE_S)
    how = (LATE_LINES, LATE_TIMING, LATE_REPLY_S) if fault == "late_reply" else usual
    with asyncio.Runner(loop_factory=line_loop) as runner:
        lines = runner.run(wire.talk_over_ptys(*how, steps))
    ended = [end for line in lines for end in line]
    assert len(ended) == 2 * TRANSACTIONS
    assert not [end for end in ended if end.wrong]
    assert {end.reason for line in lines for end in line[0::2]} <= FAULTS[fault].rtu
    assert {end.reason for line in lines for end in line[1::2]} == {GOOD}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("framing", "line"), [(RTU, "serial"), (RTU, "wire"), (RTU, "rtu+tcp"), (MBAP, "tcp")])
def test_every_row_over_a_real_device_or_socket_gives_no_wrong_value_and_the_next_read_is_good(
    wire: SimpleNamespace, framing: Framing, line: str
) -> None:
    """Each row has a line of its own; a busy machine may hand bytes over in other pieces, so reasons are looser. A
    serial line is a wire in C on the gateway's loop, and plain callbacks on any other."""
    rows = {
        (fault, kind): pairs
        for fault in FAULTS
        if fault not in NOT_IN_REAL_TIME
        for kind in REQUESTS
        if (pairs := list(spoiled(framing.name, fault, kind)))
    }
    scripts = {
        f"{fault}, {kind}": [step for pair in pairs for step in zip((fault, "none"), pair, strict=True)]
        for (fault, kind), pairs in rows.items()
    }
    with asyncio.Runner(loop_factory=line_loop if line == "wire" else None) as runner:
        assert isinstance(runner.get_loop(), LineLoop) is (line == "wire")
        ended = runner.run(wire.talk_side_by_side(framing, line, REAL_TIMING, REAL_LATE_S, scripts))
    assert ended.keys() == scripts.keys()
    for row, ends in ended.items():
        fault = row.partition(",")[0]
        allowed = FAULTS[fault].reasons(kind_of(framing.name)) | NAMED_OTHERWISE
        allowed |= {GOOD} if fault in MAY_BE_IN_TIME else set()
        assert not [end for end in ends if end.wrong], row
        assert {end.reason for end in ends[0::2]} <= allowed, row
        assert {end.reason for end in ends[1::2]} == {GOOD}, row


# --- tools -----------------------------------------------------------------------------------


def kind_of(framing: str) -> Kind:
    return "mbap" if framing == "mbap" else "rtu"


def spoiled(framing: str, fault: str, kind: str) -> Iterator[tuple[Request, Request]]:
    """The requests of a kind that a fault can befall, each with the good one after it."""
    makes = FRAMINGS[framing]
    for what, function_code, address, words in REQUESTS[kind]:
        if not FAULTS[fault].spoils(kind_of(framing), function_code):
            continue
        if what == "read":
            first, second = (makes.read(5, function_code, at, *words) for at in (address, address + 0x101))
        else:
            first, second = (makes.write(5, function_code, at, words) for at in (address, address + 1))
        yield first, second


def device(wire: SimpleNamespace, framing: str) -> SimpleNamespace:
    slave: SimpleNamespace = wire.Slave(FRAMINGS[framing])
    slave.late_s = LATE_S
    return slave


def as_it_comes(sent: bytes, parts: Parts) -> Parts:
    return parts


def behind_an_echo(sent: bytes, parts: Parts) -> Parts:
    return [(0.0, sent), *parts]


def packed(sent: bytes, parts: Parts) -> Parts:
    """What came within a serial server's packing time is one segment."""
    segments: Parts = []
    for delay_s, part in parts:
        if segments and delay_s - segments[-1][0] < PACKED_S:
            segments[-1] = (segments[-1][0], segments[-1][1] + part)
        else:
            segments.append((delay_s, part))
    return segments


WIRES = {"serial": as_it_comes, "serial with local echo": behind_an_echo, "rtu+tcp": packed, "tcp": as_it_comes}


def rows_that_fail(
    wire: SimpleNamespace, name: str, framing: Framing, timing: Timing | None = None, latency_s: float = 0.0
) -> Iterator[str]:
    """Faults that make a line believe what is not so, or fall over."""
    on_wire = behind_an_echo if name == "rtu_echoed" else as_it_comes
    for fault in FAULTS:
        pairs = [pair for kind in REQUESTS for pair in spoiled(name, fault, kind)]
        steps = [step for pair in pairs for _ in range(8) for step in zip((fault, "none"), pair, strict=True)]
        slave = device(wire, name)
        slave.latency_s = latency_s
        try:
            ended = wire.converse(framing, slave, timing or (TCP if name == "mbap" else SERIAL), steps, on_wire)
        except (IndexError, struct.error):
            yield fault
            continue
        if any(end.wrong for end in ended):
            yield fault
