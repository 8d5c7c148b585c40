"""Keeps N worker processes up: one that ends is started again, after a pause that grows.

A worker that says it cannot start (exit status 2) before any ran for long ends them all.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from cloud_sync.backend.log import say

PAUSE_SECONDS_FIRST: Final = 0.5
PAUSE_SECONDS_MAX: Final = 30.0
RUNNING_SECONDS: Final = 30.0  # who ran for as long starts anew with the first pause
ENDING_SECONDS_MAX: Final = 10.0
EXIT_CANNOT_START: Final = 2


async def keep_workers(arguments_of: Callable[[int], Sequence[str]], count: int) -> int:
    """Runs workers 1 to `count` until SIGINT or SIGTERM. The exit status."""
    tasks = [asyncio.ensure_future(_keep(arguments_of(number), number)) for number in range(1, count + 1)]
    everything = asyncio.gather(*tasks)
    for stopping in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(stopping, everything.cancel)
    try:
        await everything
    except asyncio.CancelledError:
        return 0
    except _CannotStart:
        return EXIT_CANNOT_START
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    raise AssertionError("workers are kept until told otherwise")


class _CannotStart(Exception):
    """A worker has said why."""


async def _keep(arguments: Sequence[str], number: int) -> None:
    loop, pause = asyncio.get_running_loop(), PAUSE_SECONDS_FIRST
    while True:
        began = loop.time()
        command = (sys.executable, "-P", "-m", "cloud_sync.backend", *arguments)
        process = await asyncio.create_subprocess_exec(*command)
        say("worker_started", worker=number, pid=process.pid)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        ran_seconds = loop.time() - began
        say("worker_ended", worker=number, pid=process.pid, status=status, ran_seconds=round(ran_seconds, 3))
        if ran_seconds >= RUNNING_SECONDS:
            pause = PAUSE_SECONDS_FIRST
        elif status == EXIT_CANNOT_START and pause == PAUSE_SECONDS_FIRST:
            raise _CannotStart
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(ENDING_SECONDS_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
