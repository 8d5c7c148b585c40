"""The loop for lines: one timer that is set again and again, bytes before time, and asyncio beside it as ever."""

import asyncio
import os
import socket
import tty
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from edge.bus.loop import LineLoop, LoopTimer, Timer, line_loop, timer_of
from hw.serial_port import serial_opener
from hw.sim.world.loop import VirtualLoop
from native.line import Wire

SHORT_S, LONG_S = 0.002, 60.0


def wire_of(loop: LineLoop, descriptor: int, came: Callable[[bytes], None]) -> Wire:
    """A wire of which only the bytes are of interest."""
    wire = loop.line_wire(descriptor, came, lambda unsent: None, lambda problem: None)
    assert wire is not None
    return wire


def _told_bytes(first: Callable[[str], None], name: str, data: bytes) -> None:
    first(name)


Story = Callable[[LineLoop, socket.socket, socket.socket], Awaitable[None]]


@pytest.fixture
def told() -> Iterator[Callable[[Story], list[str]]]:
    """Runs a story on a line loop with two joined sockets; returns what was told of errors."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def run(story: Story) -> list[str]:
        errors: list[str] = []

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, LineLoop)
            loop.set_exception_handler(lambda _, context: errors.append(str(context["exception"])))
            async with asyncio.timeout(30):
                await story(loop, ours, theirs)

        with asyncio.Runner(loop_factory=line_loop) as runner:
            runner.run(whole())
        return errors

    with ours, theirs:
        yield run


def test_only_the_last_time_a_timer_was_set_for_counts_and_it_rings_once(
    told: Callable[[Story], list[str]],
) -> None:
    rung: list[float] = []

    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        done = asyncio.Event()
        last = timer_of(loop, lambda when: done.set())
        timer = timer_of(loop, rung.append)
        began = loop.time()
        timer.set(began + 0.001)
        timer.set(began + 3600.0)
        timer.set(began + 0.002)
        last.set(began + 0.004)
        await done.wait()
        assert rung == [began + 0.002]
        assert loop.time() >= began + 0.004

    assert told(story) == []


def test_a_closed_timer_and_a_removed_reader_are_not_called_even_if_they_were_due_at_once(
    told: Callable[[Story], list[str]],
) -> None:
    called: list[str] = []

    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        done = asyncio.Event()
        other = ours.dup()
        timers: list[Timer] = []
        wires: dict[int, Wire] = {}

        def first(name: str) -> None:
            called.append(name)
            for descriptor, wire in wires.items():
                loop.close_line_wire(descriptor, wire)
            wires.clear()
            for timer in timers:
                timer.close()
            done.set()

        with other:
            theirs.send(b"x")
            for name, descriptor in (("a", ours.fileno()), ("b", other.fileno())):
                wires[descriptor] = wire_of(loop, descriptor, partial(_told_bytes, first, name))
            timers.append(timer_of(loop, lambda when: called.append("time")))
            timers[0].set(loop.time())
            await done.wait()
            await asyncio.sleep(SHORT_S)

    assert told(story) == []
    assert len(called) == 1
    assert called[0] in ("a", "b")


def test_bytes_that_are_there_are_handed_over_before_a_time_that_is_past(
    told: Callable[[Story], list[str]],
) -> None:
    order: list[str] = []

    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        done = asyncio.Event()

        def ring(when: float) -> None:
            order.append("time")
            done.set()

        wire = wire_of(loop, ours.fileno(), lambda data: order.append(data.decode()))
        theirs.send(b"bytes")
        timer_of(loop, ring).set(loop.time() - 1.0)
        await done.wait()
        loop.close_line_wire(ours.fileno(), wire)

    assert told(story) == []
    assert order == ["bytes", "time"]


def test_what_a_line_tells_asyncio_is_done_at_once_though_nothing_else_happens(
    told: Callable[[Story], list[str]],
) -> None:
    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        answer: asyncio.Future[bytes] = loop.create_future()
        wire = wire_of(loop, ours.fileno(), answer.set_result)
        loop.call_later(0.002, theirs.send, b"late")
        assert await answer == b"late"
        loop.close_line_wire(ours.fileno(), wire)
        slept: asyncio.Future[None] = loop.create_future()

        def sleep(when: float) -> None:
            loop.call_later(SHORT_S, slept.set_result, None)

        timer_of(loop, sleep).set(loop.time())
        await slept
        assert await asyncio.to_thread(lambda: "a thread") == "a thread"

    assert told(story) == []


def test_a_line_s_error_is_told_and_the_others_go_on(told: Callable[[Story], list[str]]) -> None:
    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        done = asyncio.Event()

        def fail(when: float) -> None:
            raise RuntimeError("this line has a bug")

        timer_of(loop, fail).set(loop.time())
        timer_of(loop, lambda when: done.set()).set(loop.time() + 0.001)
        await done.wait()

    assert told(story) == ["this line has a bug"]


def test_on_any_other_loop_a_timer_set_for_earlier_still_rings_and_a_closed_one_never() -> None:
    rung: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        timer, closed = LoopTimer(loop, rung.append), LoopTimer(loop, rung.append)
        timer.set(began + 5.0)
        timer.set(began + 2.0)
        timer.set(began + 9.0)
        closed.set(began + 1.0)
        closed.close()
        await asyncio.sleep(LONG_S)
        assert rung == [began + 2.0]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


def test_a_serial_port_on_a_line_loop_reads_writes_and_notices_that_the_device_is_gone(
    told: Callable[[Story], list[str]],
) -> None:
    async def story(loop: LineLoop, ours: socket.socket, theirs: socket.socket) -> None:
        meter, line = os.openpty()
        tty.setraw(line)
        path = os.ttyname(line)
        came: asyncio.Queue[bytes] = asyncio.Queue()
        lost: asyncio.Future[str] = loop.create_future()
        port = await serial_opener(path, 9600)(came.put_nowait, lost.set_result)
        os.close(line)
        port.write(b"ask")
        asked = b""
        while len(asked) < len(b"ask"):
            asked += await asyncio.to_thread(os.read, meter, 9)
        assert asked == b"ask"
        os.write(meter, b"answer")
        answer = b""
        while len(answer) < len(b"answer"):
            answer += await came.get()
        assert answer == b"answer"
        os.close(meter)
        assert (await lost).startswith(path)
        port.close()

    assert told(story) == []
