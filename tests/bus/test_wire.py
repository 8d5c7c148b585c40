"""A talker whose port has a wire: the wire sends and takes good answers, everything else goes the way it always did."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.frame import MBAP, RTU, RTU_ECHOED, Framing, Request
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing

TIMING = Timing.of_serial(9600, 0.3, 0.55, 5.0)
FIRST, SECOND = RTU.read(5, 4, 0x48, 2), RTU.read(6, 4, 0x48, 2)
COMMAND = RTU.write(7, 5, 0, (0xFF00,))
GOOD_ANSWER = bytes.fromhex("05 04 04 43 66 33 33 1F 3A")
WAIT_S = 0.2
# Times of the virtual loop, beside the 0.3 s of the timeout and the 0.55 s of the drain.
SOON_S, REST_OF_DRAIN_S, PAST_TIMEOUT_S, IN_DRAIN_S, LONG_S = 0.1, 0.2, 0.4, 0.5, 1.0
BEHIND = bytes(99)  # the wire's buffer does not end with the answer

Run = Callable[[Callable[[], Awaitable[None]]], None]


class ScriptedWire:
    """Does what a test says."""

    def __init__(self) -> None:
        self.armed: list[tuple[bytes, float, int]] = []
        self.gives_back = True

    def listen(self, answered: Callable[[Any, float, float], None], ended: Callable[..., None]) -> None:
        self.answered, self.ended = answered, ended

    def arm(self, request: bytes, at: float, answer_bytes: int, byte_s: float, first_s: float, part_s: float) -> None:
        assert (byte_s, first_s, part_s) == (TIMING.byte_s, WAIT_S, TIMING.response_timeout_s)
        self.armed.append((request, at, answer_bytes))

    def disarm(self) -> bool:
        return self.gives_back


class Port:
    """Has a wire; what is written past it is noted."""

    def __init__(self) -> None:
        self.wire, self.written = ScriptedWire(), list[bytes]()

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> "Port":
        self.on_bytes, self.on_lost = on_bytes, on_lost
        return self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        pass


class Source:
    """Asks in turn; commands go before."""

    def __init__(self, *requests: Request) -> None:
        self.asks = [Ask(request) for request in requests]
        self.took: list[Outcome] = []

    def next_ask(self, now: float) -> Ask | None:
        return self.asks[0] if self.asks else None

    def due_at(self) -> float | None:
        return None

    def wait_s(self, ask: Ask) -> float | None:
        return WAIT_S

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        self.asks.remove(ask)
        self.took.append(outcome)


class Talk:
    """A talker on a port with a wire, on a virtual loop."""

    def __init__(self, *requests: Request, framing: Framing = RTU) -> None:
        self.port, self.source, self.unasked = Port(), Source(*requests), 0
        self.talker = Talker(framing, TIMING, self.source, self._note)

    def _note(self) -> None:
        self.unasked += 1

    async def __aenter__(self) -> "Talk":
        self.task = asyncio.ensure_future(self.talker.serve(self.port, lambda: None))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def wire(self) -> ScriptedWire:
        return self.port.wire

    @property
    def armed(self) -> list[bytes]:
        return [request for request, _, _ in self.wire.armed]

    def now(self) -> float:
        return asyncio.get_running_loop().time()


def test_a_good_answer_is_taken_and_the_next_request_waits_for_its_gap(virtual: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with Talk(FIRST, SECOND) as talk:
            assert talk.wire.armed == [(FIRST.frame, TIMING.gap_s, 9)]
            await asyncio.sleep(LONG_S)  # nothing of the talker's own runs meanwhile
            assert (talk.source.took, talk.armed) == ([], [FIRST.frame])
            talk.wire.answered(GOOD_ANSWER + BEHIND, 0.8, 0.9)
            (taken,) = talk.source.took
            assert (taken.reason, taken.words, taken.sent) == (None, (0x4366, 0x3333), True)
            assert taken.answer_s == pytest.approx(0.1 - 17 * TIMING.byte_s)
            assert talk.wire.armed[1] == (SECOND.frame, 0.9 + TIMING.gap_s, 9)
            assert talk.port.written == []

    virtual(story())


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (GOOD_ANSWER[:-1] + b"\x00", "crc"),
        (b"\x06" + GOOD_ANSWER[1:], "wrong_unit"),
        (b"\x00" + GOOD_ANSWER, "noise_before"),
        (GOOD_ANSWER[:5], "truncated"),
        (b"", "timeout"),
    ],
)
def test_what_the_wire_does_not_believe_is_judged_drained_and_named(
    virtual: Callable[[Any], Any], received: bytes, reason: str
) -> None:
    async def story() -> None:
        async with Talk(FIRST, SECOND) as talk:
            await asyncio.sleep(PAST_TIMEOUT_S)
            talk.wire.ended(0.004, received, talk.now() if received else 0.0)
            assert talk.source.took == []
            await asyncio.sleep(IN_DRAIN_S)
            assert talk.armed == [FIRST.frame]  # the line is listened to
            await asyncio.sleep(LONG_S)
            assert [taken.reason for taken in talk.source.took] == [reason]
            assert talk.armed == [FIRST.frame, SECOND.frame]
            assert talk.port.written == []

    virtual(story())


def test_an_answer_that_comes_after_all_is_put_together_from_its_parts(virtual: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with Talk(FIRST) as talk:
            await asyncio.sleep(SOON_S)
            talk.wire.ended(0.004, GOOD_ANSWER[:5], talk.now())
            talk.port.on_bytes(GOOD_ANSWER[5:])
            assert [(taken.reason, taken.words) for taken in talk.source.took] == [(None, (0x4366, 0x3333))]

    virtual(story())


def test_bytes_in_the_gap_are_nobodys_and_the_request_is_sent_once_the_line_is_silent(
    virtual: Callable[[Any], Any],
) -> None:
    async def story() -> None:
        async with Talk(FIRST) as talk:
            talk.wire.ended(None, b"noise", talk.now())
            assert talk.unasked == 1
            await asyncio.sleep(LONG_S)
            assert talk.armed == [FIRST.frame, FIRST.frame]
            assert talk.source.took == []

    virtual(story())


def test_a_command_takes_the_place_of_a_request_that_waits_and_is_next_after_one_that_is_sent(
    virtual: Callable[[Any], Any],
) -> None:
    async def story(waits: bool) -> None:
        async with Talk(FIRST) as talk:
            talk.wire.gives_back = waits
            talk.source.asks.insert(0, Ask(COMMAND))
            talk.talker.talk_first()
            assert talk.armed == ([FIRST.frame, COMMAND.frame] if waits else [FIRST.frame])
            if not waits:
                talk.wire.answered(GOOD_ANSWER + BEHIND, 0.0, 0.1)
                assert talk.armed == [FIRST.frame, COMMAND.frame]
            assert talk.wire.armed[1][2] == 0  # the answer to a write is judged by the table alone

    for waits in (True, False):
        virtual(story(waits))


@pytest.mark.parametrize("framing", [RTU_ECHOED, MBAP])
def test_only_plain_rtu_is_judged_by_the_wire(virtual: Callable[[Any], Any], framing: Framing) -> None:
    async def story() -> None:
        async with Talk(FIRST, framing=framing) as talk:
            assert [answer_bytes for _, _, answer_bytes in talk.wire.armed] == [0]

    virtual(story())


def test_a_port_that_is_lost_in_an_exchange_is_drained_before_the_next_one_is_used(
    wire: SimpleNamespace, virtual: Callable[[Any], Any]
) -> None:
    async def story() -> None:
        async with Talk(FIRST) as talk:
            talk.port.on_lost("gone")
            assert await talk.task == "gone"
            again = Port()
            talk.task = asyncio.ensure_future(talk.talker.serve(again, lambda: None))
            await asyncio.sleep(IN_DRAIN_S)
            assert again.wire.armed == []
            await asyncio.sleep(REST_OF_DRAIN_S)
            assert [request for request, _, _ in again.wire.armed] == [FIRST.frame]

    virtual(story())
