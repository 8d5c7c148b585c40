"""The wires of serial lines in C: the verdict of the Python reference, to the byte, and no exchange goes astray."""

import os
import random
import signal
import socket
import termios
import tty
from collections.abc import Callable, Iterator
from math import inf
from select import EPOLLIN, epoll
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.frame import RTU, Request, crc16
from native._kernel import lib
from native.line import Wire, Wires, answer_verdict

SEED, FAST, SLOW = 20_261_201, 100_000, 3_000_000
ASKED = RTU.read(5, 4, 0x48, 2)
GOOD_ANSWER = bytes.fromhex("05 04 04 43 66 33 33 1F 3A")
BYTE_S, PATIENCE_S = 0.0, 0.002
LONG_S = 60.0


def with_crc(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(2, "little")


# --- the verdict --------------------------------------------------------------------------------


def test_a_hundred_thousand_frames_get_the_verdict_of_the_reference() -> None:
    check_verdicts(random.Random(SEED), FAST)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_millions_of_frames_get_the_verdict_of_the_reference() -> None:
    check_verdicts(random.Random(SEED + 1), SLOW)


@given(st.integers(1, 247), st.sampled_from((3, 4)), st.integers(0, 0xFFFF), st.integers(1, 125), st.binary())
def test_whatever_comes_gets_the_verdict_of_the_reference(
    device_id: int, function_code: int, address: int, count: int, received: bytes
) -> None:
    check_verdict(RTU.read(device_id, function_code, address, count), received)


def test_a_good_answer_is_a_part_until_it_is_whole_and_nothing_once_it_is_longer() -> None:
    for length in range(len(GOOD_ANSWER)):
        assert answer_verdict(ASKED.frame, len(GOOD_ANSWER), GOOD_ANSWER[:length]) is None
    assert answer_verdict(ASKED.frame, len(GOOD_ANSWER), GOOD_ANSWER) is True
    assert answer_verdict(ASKED.frame, len(GOOD_ANSWER), GOOD_ANSWER + b"\x00") is False


def test_our_own_request_heard_again_is_no_answer_though_it_could_be_one() -> None:
    asked = RTU.read(1, 3, 0x0300, 0x01)  # a request that has the shape of an answer with three bytes of data
    assert crc16(asked.frame) == 0
    assert answer_verdict(asked.frame, len(asked.frame), asked.frame) is False
    assert answer_verdict(with_crc(b"\x01\x03\x03\x00\x00\x02"), 8, asked.frame) is True


@pytest.mark.parametrize("function_code", [0, 1, 2, 5, 6, 16, 0x83, 0x84])
def test_only_reads_of_registers_are_judged_here(function_code: int) -> None:
    answer = with_crc(bytes((1, function_code, 2, 0, 7)))
    assert answer_verdict(with_crc(bytes((1, function_code, 0, 0, 0, 1))), len(answer), answer) is False


@pytest.mark.parametrize(("request_bytes", "answer_bytes"), [(0, 9), (2, 9), (8, 0), (8, 4)])
def test_lengths_without_a_head_are_no_exchange(request_bytes: int, answer_bytes: int) -> None:
    assert answer_verdict(ASKED.frame[:request_bytes], answer_bytes, b"") is False


def check_verdicts(chance: random.Random, frames: int) -> None:
    """Good answers and answers damaged in the ways of a line, in like shares; both verdicts must occur."""
    asked, good, seen = ASKED, GOOD_ANSWER, {True: 0, False: 0, None: 0}
    for number in range(frames):
        if number % 16 == 0:
            count = chance.choice((1, 2, 2, 4, 18, 60, 125))
            asked = RTU.read(chance.randint(1, 247), chance.choice((3, 4)), chance.randrange(0x10000), count)
            good = with_crc(asked.good_head + chance.randbytes(2 * count))
        seen[check_verdict(asked, chance.choice(DAMAGES)(chance, asked, good))] += 1
    assert min(seen.values()) > frames / 20, seen


def check_verdict(asked: Request, received: bytes) -> bool | None:
    verdict = answer_verdict(asked.frame, asked.rtu_answer_bytes, received)
    table = RTU.first_failure(asked, asked.frame, received) is None and RTU.exception(asked, received) is None
    assert (verdict is True) is (RTU.good_registers(asked, asked.frame, received) is not None) is table
    is_part = len(received) < asked.rtu_answer_bytes and asked.good_head.startswith(received[:3])
    assert (verdict is None) is is_part
    return verdict


def flipped(chance: random.Random, asked: Request, good: bytes) -> bytes:
    damaged = bytearray(good)
    for _ in range(chance.randint(1, 3)):
        damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def other_head(chance: random.Random, asked: Request, good: bytes) -> bytes:
    """Another device, function or count, with a CRC that fits."""
    body = bytearray(good[:-2])
    body[chance.randrange(3)] = chance.randrange(256)
    return with_crc(bytes(body))


DAMAGES: tuple[Callable[[random.Random, Request, bytes], bytes], ...] = (
    lambda chance, asked, good: good,
    lambda chance, asked, good: good,
    lambda chance, asked, good: good[: chance.randrange(len(good))],
    lambda chance, asked, good: good[: chance.randrange(len(good))],
    lambda chance, asked, good: good + chance.randbytes(chance.randint(1, 3)),
    lambda chance, asked, good: chance.randbytes(1) + good[:-1],
    lambda chance, asked, good: chance.randbytes(len(good)),
    lambda chance, asked, good: asked.frame,
    lambda chance, asked, good: asked.frame + good,
    lambda chance, asked, good: with_crc(bytes((asked.device_id, asked.function_code | 0x80, chance.randint(1, 11)))),
    lambda chance, asked, good: bytes(len(good)),
    flipped,
    other_head,
)


# --- exchanges ----------------------------------------------------------------------------------


class Line:
    """A wire on one end of a pair of sockets, and what it told."""

    def __init__(self, wires: Wires, poll: epoll) -> None:
        self.told: list[tuple[object, ...]] = []
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        wire = wires.open(
            self.ours.fileno(),
            lambda data: self.told.append(("came", data)),
            lambda data: self.told.append(("unsent", data)),
            lambda problem: self.told.append(("lost", problem)),
        )
        assert wire is not None
        poll.register(self.ours.fileno(), EPOLLIN)
        self.wire: Wire = wire
        self.sent_at: float | None = None
        wire.listen(self._answered, self._ended)

    def _answered(self, received: bytes, sent_at: float, at: float) -> None:
        self.told.append(("answered", bytes(received[: len(GOOD_ANSWER)])))

    def _ended(self, sent_at: float | None, received: bytes, at: float) -> None:
        self.sent_at = sent_at
        self.told.append(("ended", sent_at is not None, received))

    def ask(self, at: float | None = None, patience_s: float = LONG_S, answer_bytes: int = 9) -> None:
        self.wire.arm(ASKED.frame, monotonic() if at is None else at, answer_bytes, BYTE_S, patience_s, patience_s)


class Bench:
    """The wires of a loop, waited for by hand."""

    def __init__(self) -> None:
        self.poll = epoll()
        self.wires = Wires(self.poll.fileno())
        self.lines: list[Line] = []

    def line(self) -> Line:
        self.lines.append(Line(self.wires, self.poll))
        return self.lines[-1]

    def wait(self, until: float = inf) -> int:
        """One wake-up. How many wires had something to tell."""
        happened = self.wires.wait(until)
        for wire in happened:
            wire.tell()
        return len(happened)

    def close(self) -> None:
        for line in self.lines:
            line.ours.close()
            line.theirs.close()
        self.poll.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_an_exchange_wakes_once_though_it_is_sent_later_and_comes_in_pieces(bench: Bench) -> None:
    line = bench.line()
    line.theirs.setblocking(False)
    line.ask(monotonic() + LONG_S)
    assert bench.wait(monotonic()) == 0
    with pytest.raises(BlockingIOError):
        line.theirs.recv(99)  # the gap is not over
    assert line.wire.disarm()
    at = monotonic() + 0.002
    line.ask(at)
    assert bench.wait(at) == 0  # sent, and nobody was woken
    assert line.theirs.recv(99) == ASKED.frame
    for piece in (GOOD_ANSWER[:1], GOOD_ANSWER[1:4]):
        line.theirs.send(piece)
        assert bench.wait(monotonic()) == 0
    line.theirs.send(GOOD_ANSWER[4:])
    assert bench.wait() == 1
    assert line.told == [("answered", GOOD_ANSWER)]


@pytest.mark.parametrize(
    "received",
    [
        b"\x06",  # another device
        bytes.fromhex("05 84 02 C3 00"),  # an exception
        GOOD_ANSWER[:-1] + b"\x3b",
        GOOD_ANSWER + b"\x00",
        b"\x00" + GOOD_ANSWER,
        ASKED.frame,
    ],
)
def test_whatever_is_no_good_answer_ends_the_exchange_and_is_handed_over_as_it_came(
    bench: Bench, received: bytes
) -> None:
    line = bench.line()
    line.ask()
    bench.wait(monotonic())
    line.theirs.send(received)
    assert bench.wait() == 1
    assert line.told == [("ended", True, received)]
    line.theirs.send(b"more")
    assert bench.wait() == 1
    assert line.told[1:] == [("came", b"more")]


def test_bytes_before_the_gap_is_over_end_the_exchange_unsent(bench: Bench) -> None:
    line = bench.line()
    line.ask(monotonic() + LONG_S)
    line.theirs.send(b"noise")
    assert bench.wait() == 1
    assert line.told == [("ended", False, b"noise")]
    line.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.theirs.recv(9)


def test_bytes_that_are_there_go_before_a_gap_that_is_over(bench: Bench) -> None:
    line = bench.line()
    line.theirs.send(b"noise")
    line.ask(monotonic() - 1.0)
    assert bench.wait() == 1
    assert line.told == [("ended", False, b"noise")]


def test_an_exchange_without_a_length_is_ended_by_the_first_byte(bench: Bench) -> None:
    line = bench.line()
    line.ask(answer_bytes=0)
    bench.wait(monotonic())
    line.theirs.send(GOOD_ANSWER)
    bench.wait()
    assert line.told == [("ended", True, GOOD_ANSWER)]


@pytest.mark.parametrize("part", [b"", GOOD_ANSWER[:5]])
def test_silence_ends_the_exchange_with_the_part_that_came(bench: Bench, part: bytes) -> None:
    line = bench.line()
    at = monotonic()
    line.ask(at, PATIENCE_S)
    if part:
        bench.wait(at)
        line.theirs.send(part)
    assert bench.wait() == 1
    assert line.told == [("ended", True, part)]
    assert monotonic() >= at + PATIENCE_S
    assert line.sent_at is not None
    assert line.sent_at >= at


def test_a_terminal_that_answers_0_for_nothing_is_silent_and_not_gone(bench: Bench) -> None:
    meter, terminal = os.openpty()
    tty.setraw(terminal)
    settings = termios.tcgetattr(terminal)
    settings[6][termios.VMIN] = settings[6][termios.VTIME] = 0  # as pyserial leaves it
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    os.set_blocking(terminal, False)
    assert os.read(terminal, 1) == b""
    told: list[object] = []
    wire = bench.wires.open(terminal, told.append, told.append, told.append)
    assert wire is not None
    bench.poll.register(terminal, EPOLLIN)
    wire.listen(lambda *_: None, lambda sent_at, data, at: told.append(("ended", data)))
    wire.arm(ASKED.frame, monotonic(), 9, BYTE_S, PATIENCE_S, PATIENCE_S)
    assert bench.wait() == 1
    assert told == [("ended", b"")]
    os.close(meter)
    os.close(terminal)


def test_a_request_the_driver_does_not_take_is_handed_back_from_where_it_stopped(bench: Bench) -> None:
    line = bench.line()
    while True:
        try:
            line.ours.send(bytes(4096))
        except BlockingIOError:
            break
    line.ask()
    assert bench.wait() == 1
    assert line.told == [("unsent", ASKED.frame), ("ended", True, b"")]


def test_a_line_that_is_gone_is_lost_and_an_exchange_with_it(bench: Bench) -> None:
    line, other = bench.line(), bench.line()
    line.ask()
    bench.wait(monotonic())
    line.theirs.recv(99)
    line.theirs.close()
    assert bench.wait() == 1
    assert line.told == [("lost", 0)]
    bench.wires.close(line.wire)
    other.theirs.send(b"x")
    bench.poll.unregister(line.ours)
    assert bench.wait() == 1
    assert other.told == [("came", b"x")]


def test_a_terminal_whose_other_end_is_closed_names_the_errno(bench: Bench) -> None:
    meter, terminal = os.openpty()
    tty.setraw(terminal)
    os.set_blocking(terminal, False)
    lost: list[int] = []
    wire = bench.wires.open(terminal, lambda data: None, lambda data: None, lost.append)
    assert wire is not None
    bench.poll.register(terminal, EPOLLIN)
    os.close(meter)
    assert bench.wait() == 1
    assert len(lost) == 1
    os.close(terminal)


def test_a_waiting_request_can_be_taken_back_and_a_sent_one_cannot(bench: Bench) -> None:
    line = bench.line()
    assert not line.wire.disarm()
    line.ask(monotonic() + LONG_S)
    with pytest.raises(ValueError, match="no exchange of 8 and 9 bytes on this wire now"):
        line.ask()
    assert line.wire.disarm()
    line.ask()
    bench.wait(monotonic())
    assert not line.wire.disarm()
    line.theirs.send(GOOD_ANSWER)
    bench.wait()
    assert line.told == [("answered", GOOD_ANSWER)]


@pytest.mark.parametrize(("request_bytes", "answer_bytes"), [(257, 9), (8, 513)])
def test_lengths_beyond_the_bounds_are_refused_not_cut(bench: Bench, request_bytes: int, answer_bytes: int) -> None:
    line = bench.line()
    with pytest.raises(ValueError, match="no exchange of"):
        line.wire.arm(bytes(request_bytes), 0.0, answer_bytes, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "spans",
    [(-0.1, 0.0, 0.0), (1.1, 0.0, 0.0), (0.0, -0.1, 0.0), (0.0, 1.1e6, 0.0), (0.0, 0.0, -0.1), (0.0, 0.0, 1.1e6)],
)
def test_spans_beyond_the_bounds_are_refused(bench: Bench, spans: tuple[float, float, float]) -> None:
    line = bench.line()
    with pytest.raises(ValueError, match="no exchange of"):
        line.wire.arm(ASKED.frame, 0.0, 9, *spans)


def test_a_flood_is_handed_over_in_pieces_without_loss(bench: Bench) -> None:
    line = bench.line()
    flood = bytes(range(256)) * 9
    line.theirs.send(flood)
    while sum(len(data) for _, data in line.told) < len(flood):  # type: ignore[arg-type, misc]
        bench.wait()
    assert b"".join(data for _, data in line.told) == flood  # type: ignore[misc]


def test_lines_do_not_wait_for_each_other(bench: Bench) -> None:
    lines = [bench.line() for _ in range(5)]
    for line in lines[1:]:
        line.ask(patience_s=LONG_S)
    bench.wait(monotonic())
    for line in lines:
        line.theirs.send(GOOD_ANSWER)
    assert bench.wait() == 5
    assert [line.told[0][0] for line in lines] == ["came", "answered", "answered", "answered", "answered"]


def test_a_wire_that_is_closed_in_the_same_moment_tells_nothing_more(bench: Bench) -> None:
    first, second = bench.line(), bench.line()
    for line in (first, second):
        line.theirs.send(b"x")
    happened = bench.wires.wait(inf)
    assert len(happened) == 2
    bench.wires.close(second.wire)
    again = bench.wires.open(second.ours.fileno(), *[lambda _: None] * 3)
    for wire in happened:
        wire.tell()
    assert (first.told, second.told) == ([("came", b"x")], [])
    assert again is not None
    second.ask()
    assert not again.disarm()  # has its place, and nothing of its exchange


def test_there_are_only_so_many_wires_and_a_closed_one_can_be_had_again(bench: Bench) -> None:
    def wire() -> Wire | None:
        return bench.wires.open(999, lambda data: None, lambda data: None, lambda problem: None)

    wires = [wire() for _ in range(lib.LINE_WIRES)]
    assert None not in wires
    assert wire() is None
    assert wires[7] is not None
    bench.wires.close(wires[7])
    assert wire() is not None


def test_descriptors_of_others_are_named_with_their_events(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        bench.poll.register(ours.fileno(), EPOLLIN)
        theirs.send(b"x")
        assert bench.wait() == 0
        assert bench.wires.others() == [(ours.fileno(), EPOLLIN)]
        ours.recv(1)
        bench.wait(monotonic())
        assert not bench.wires.others()
        bench.poll.unregister(ours.fileno())


def test_a_signal_ends_the_waiting_and_loses_nothing(bench: Bench) -> None:
    line = bench.line()
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        line.ask(monotonic() + LONG_S)
        while not seen:
            assert bench.wait() == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert line.told == []
    assert line.wire.disarm()


def test_an_epoll_that_is_gone_is_an_error_and_no_endless_loop(bench: Bench) -> None:
    wires = Wires(-1)
    with pytest.raises(OSError, match="epoll failed"):
        wires.wait(inf)


def test_no_request_is_ever_sent_early_though_the_timer_is_set_before_its_time(bench: Bench) -> None:
    line = bench.line()
    early = 0
    for number in range(200):
        at = monotonic() + 0.0003 * (number % 4)
        line.ask(at, 0.0)
        bench.wait()
        assert line.sent_at is not None
        early += line.sent_at < at
        line.theirs.recv(99)
    assert early == 0
    assert 0 < bench.wires._struct.lead_ns <= 100_000


def test_without_epoll_pwait2_the_same_is_done(bench: Bench) -> None:
    bench.wires._struct.without_pwait2 = 1
    line = bench.line()
    at = monotonic() + 0.005
    line.ask(at, PATIENCE_S)
    assert bench.wait() == 1
    assert line.told == [("ended", True, b"")]
    assert line.sent_at is not None
    assert line.sent_at >= at
