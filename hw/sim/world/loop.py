"""The virtual event loop: time passes only when everybody waits for it.

Seconds, from 0: doubles stay far finer than the clock's resolution for centuries (wall time lives
in the clock). Jobs of an executor run inline after a fixed delay, as a disk would take it; whoever
plays the disk is asked before and after each, and may say that the power is gone.

A world runs some five callbacks for each transaction of a line, so the turn of the loop is our own: timers lie as
tuples in one heap, those of the same instant in the order in which they were set, and a callback is its object and
nothing else. asyncio keeps the rest: tasks, futures, locks, time-outs.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from heapq import heappop, heappush
from math import inf
from typing import Any, TypeVar, TypeVarTuple

COMMIT_S = 0.004
RESOLUTION_S = 1e-6  # above the spacing of floats, or a timer could ring before its time for ever

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


def _always(_name: str, _result: object = None) -> bool:
    return True


class Call(asyncio.TimerHandle):
    """What is to be called: at once, or when its time has come. asyncio's handle without what debugging needs."""

    __slots__ = ("live",)

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None):
        self._when, self._callback, self._args, self._context = when, callback, args, context
        self.live = True

    def cancel(self) -> None:
        self.live = False

    def cancelled(self) -> bool:
        return not self.live

    def when(self) -> float:
        return self._when

    def __repr__(self) -> str:
        return f"<Call {self._callback!r} at {self._when}>"


class SetTimer:
    """One moment at which somebody is called, and can be set again and again: a timer of `edge.bus.loop`."""

    __slots__ = ("_call", "_loop", "when")

    def __init__(self, loop: "VirtualLoop", call: Callable[[float], None]) -> None:
        self._loop, self._call, self.when = loop, call, inf

    def set(self, when: float) -> None:
        if when != self.when:
            self.when = when
            self._loop.call_at(when, self._ring, when)

    def close(self) -> None:
        self.when = inf

    def _ring(self, when: float) -> None:
        if when == self.when:
            self.when = inf
            self._call(when)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in which waiting moves the clock. A deadlock is an error at once, not a hang."""

    _ready: deque[Call]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._timers: list[tuple[float, int, Call]] = []
        self._timers_set = 0
        self._jobs: list[asyncio.Future[Any]] = []
        self.powered = True
        self.before_job: Callable[[str], bool] = _always
        self.after_job: Callable[[str, object], bool] = _always

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[[*_Arguments], object], *args: *_Arguments, context: Context | None = None
    ) -> Call:
        call = Call(self.now, callback, args, context)
        self._ready.append(call)
        return call

    def call_at(
        self, when: float, callback: Callable[[*_Arguments], object], *args: *_Arguments, context: Context | None = None
    ) -> Call:
        call = Call(when, callback, args, context)
        self._timers_set += 1
        heappush(self._timers, (when, self._timers_set, call))
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> Call:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def line_timer(self, call: Callable[[float], None]) -> SetTimer:
        """As that of `edge.bus.loop.LineLoop`."""
        return SetTimer(self, call)

    def _run_once(self) -> None:
        """One turn: what is ready; if nothing is, time goes on to the next timer."""
        timers, ready = self._timers, self._ready
        while timers and not timers[0][2].live:
            heappop(timers)
        if not ready and not self._stopping:
            if not timers:
                raise RuntimeError("deadlock: nobody is ready and nobody waits for a time")
            self.now = max(self.now, timers[0][0])
        end = self.now + RESOLUTION_S
        while timers and timers[0][0] < end:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            call = ready.popleft()
            if call.live:
                self._do(call)

    def _do(self, call: Call) -> None:
        """As asyncio does it: what goes wrong is told, and the loop goes on."""
        try:
            if call._context is None:
                call._callback(*call._args)
            else:
                call._context.run(call._callback, *call._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as problem:
            said = {"message": f"Exception in callback {call!r}", "exception": problem, "handle": call}
            self.call_exception_handler(said)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> asyncio.Future[_Result]:
        """Runs the job here, a commit later, even if whoever waits has been cancelled: as a thread would."""
        done: asyncio.Future[_Result] = self.create_future()
        if not self.powered:
            done.cancel()
            return done
        self._jobs.append(done)
        self.call_later(COMMIT_S, self._work, done, func, args)
        return done

    def cut_power(self) -> None:
        """What was on its way to the disk is not done, and nobody will hear of it."""
        self.powered = False
        for job in self._jobs:
            job.cancel()
        self._jobs.clear()

    def _work(self, done: "asyncio.Future[Any]", func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if done not in self._jobs:
            return
        name = getattr(args[0] if args else func, "__name__", "")
        if not self.before_job(name):
            return
        result, error = None, None
        try:
            result = func(*args)
        except Exception as problem:
            error = problem
        if not self.after_job(name, result):
            return
        self._jobs.remove(done)
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def _write_to_self(self) -> None:
        pass
