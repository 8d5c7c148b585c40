"""The virtual event loop: time passes only when everybody waits for it.

Seconds, from 0: doubles stay far finer than the clock's resolution for centuries (wall time lives
in the clock). Jobs of an executor run inline after a fixed delay, as a disk would take it; whoever
plays the disk is asked before and after each, and may say that the power is gone.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

COMMIT_S = 0.004

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


def _always(_name: str, _result: object = None) -> bool:
    return True


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose `select()` moves the clock. A deadlock is an error at once, not a hang."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = self
        self._clock_resolution = 1e-6  # above the spacing of floats, or the loop would spin for ever
        self._jobs: list[asyncio.Future[Any]] = []
        self.powered = True
        self.before_job: Callable[[str], bool] = _always
        self.after_job: Callable[[str, object], bool] = _always

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> tuple[()]:
        """What asyncio asks when nobody is ready: the next timer's time is now."""
        if timeout is None:
            raise RuntimeError("deadlock: nobody is ready and nobody waits for a time")
        self.now += max(timeout, 0.0)
        return ()

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

    def _process_events(self, _events: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
