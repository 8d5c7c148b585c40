"""An event loop for lines that are to be used to their limit: exact timers, and one wake-up for each exchange.

asyncio's loop on Linux waits in epoll, which counts whole milliseconds and rounds up: a gap of 1.75 ms takes 2, one of
4.01 ms takes 5. At 115,200 baud that is a twentieth of the line. Here the waiting is native/src/line.c's, exact to the
microsecond, which also sends the requests of serial lines when their gaps are over and takes their good answers: Python
wakes once for each. A line has one timer whose time is set, and it and the line's callbacks are called where the loop
waits, without a turn of asyncio. Seconds of the loop's clock (monotonic).
"""

import asyncio
import os
import select
import selectors
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVarTuple

if TYPE_CHECKING:
    from native.line import Came, Lost, Unsent, Wire, Wires

# proc(5): the kernel may ring 50 us late to ring twice at once; 1 ns turns that off for the thread that writes it.
_TIMER_SLACK: Final = Path("/proc/self/timerslack_ns")

Given = TypeVarTuple("Given")


def line_loop() -> asyncio.AbstractEventLoop:
    """A `loop_factory` for asyncio.Runner. Where there is no epoll or no compiled C, asyncio's own loop."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()
    try:
        from native.line import Wires
    except ImportError:
        return asyncio.new_event_loop()
    with suppress(OSError):
        _TIMER_SLACK.write_text("1", "ascii")
    return LineLoop(Wires)


class Timer(Protocol):
    """One moment at which somebody is called, and can be set again and again."""

    def set(self, when: float) -> None:
        """Calls at `when`. A call that was set for earlier may still come, and then sets the next one."""
        ...

    def close(self) -> None:
        """Never calls again."""
        ...


def timer_of(loop: asyncio.AbstractEventLoop, call: Callable[[float], None]) -> Timer:
    """A timer of this loop: its own kind, if it has one. `call` is told the time it was set for."""
    make: Callable[[Callable[[float], None]], Timer] | None = getattr(loop, "line_timer", None)
    return LoopTimer(loop, call) if make is None else make(call)


class LoopTimer:
    """A timer on any event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[float], None]) -> None:
        self._loop, self._call = loop, call
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        if self._handle is not None:
            if self._handle.when() <= when:
                return  # cheaper left alone than set anew
            self._handle.cancel()
        self._handle = self._loop.call_at(when, self._ring, when)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self, when: float) -> None:
        self._handle = None
        self._call(when)


class LineTimer:
    """A timer of a LineLoop: setting it is noting a time, and what was noted before counts no more."""

    __slots__ = ("_noted", "_number", "call", "when")

    def __init__(self, noted: "list[Noted]", number: int, call: Callable[[float], None]) -> None:
        self._noted, self._number, self.call, self.when = noted, number, call, inf

    def set(self, when: float) -> None:
        if when != self.when:
            self.when = when
            heappush(self._noted, (when, self._number, self))

    def close(self) -> None:
        self.when = inf


Noted = tuple[float, int, LineTimer]


class LineLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with timers and wires for lines beside its own."""

    def __init__(self, wires: "type[Wires]") -> None:
        self._lines = LineSelector(self.call_exception_handler, wires)
        super().__init__(self._lines)

    def line_timer(self, call: Callable[[float], None]) -> LineTimer:
        """A timer that is not rounded."""
        return self._lines.timer(call)

    def line_wire(self, descriptor: int, came: "Came", unsent: "Unsent", lost: "Lost") -> "Wire | None":
        """Watches a descriptor that nobody else watches; None when there are too many. To be closed."""
        return self._lines.wire(descriptor, came, unsent, lost)

    def close_line_wire(self, descriptor: int, wire: "Wire") -> None:
        """Nothing is called back after this."""
        self._lines.close_wire(descriptor, wire)

    # Whatever asyncio is given to do ends the waiting in which the lines are served.

    def call_soon(
        self, callback: Callable[[*Given], object], *args: *Given, context: Context | None = None
    ) -> asyncio.Handle:
        self._lines.leave = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Given], object], *args: *Given, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._lines.leave = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        self._lines.leave = True
        super().stop()


class LineSelector(selectors.EpollSelector):
    """epoll whose waiting is in C. Calls the lines' wires and timers itself, bytes before time, and comes back only
    when asyncio has something to do."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], wires: "type[Wires]") -> None:
        super().__init__()
        self._noted: list[Noted] = []
        self._numbers = count()
        self.leave = False
        self._tell = tell
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))
        self._wires = wires(self._epoll.fileno())

    def timer(self, call: Callable[[float], None]) -> LineTimer:
        return LineTimer(self._noted, next(self._numbers), call)

    def wire(self, descriptor: int, came: "Came", unsent: "Unsent", lost: "Lost") -> "Wire | None":
        wire = self._wires.open(descriptor, came, unsent, lost)
        if wire is not None:
            self._epoll.register(descriptor, select.EPOLLIN)
        return wire

    def close_wire(self, descriptor: int, wire: "Wire") -> None:
        self._wires.close(wire)
        with suppress(OSError):  # as selectors do: it may be closed already
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._epoll.close()
        super().close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        until, noted, wires = inf if timeout is None else monotonic() + timeout, self._noted, self._wires
        self.leave = False
        while True:
            while noted and noted[0][0] != noted[0][2].when:
                heappop(noted)
            for wire in wires.wait(noted[0][0] if noted and noted[0][0] < until else until):
                self._call(wire.tell)
            ready = wires.others()
            others = [key for other in ready for key in self._of_asyncio(*other)] if ready else []
            now = monotonic()
            if noted and noted[0][0] <= now:
                self._ring(now)
            if others or self.leave or until <= now:
                return others

    def _ring(self, now: float) -> None:
        """Calls the timers that are due."""
        noted, due = self._noted, []
        while noted and noted[0][0] <= now:
            due.append(heappop(noted))
        for when, _, timer in due:
            if when == timer.when:
                timer.when = inf
                self._call(timer.call, when)

    def _of_asyncio(self, descriptor: int, events: int) -> list[tuple[selectors.SelectorKey, int]]:
        """As EpollSelector says it; nothing for a line's reader that went away a moment ago."""
        key = self.get_map().get(descriptor)
        if key is None:
            return []
        write = selectors.EVENT_WRITE if events & ~select.EPOLLIN else 0
        read = selectors.EVENT_READ if events & ~select.EPOLLOUT else 0
        return [(key, (read | write) & key.events)]

    def _call(self, call: Callable[..., None], *given: float) -> None:
        """As asyncio calls: what goes wrong is told, and the loop goes on."""
        try:
            call(*given)
        except Exception as problem:
            self._tell({"message": "Exception in a callback of a line", "exception": problem})
