"""The processes of the demo: started, looked after, and all stopped again, whatever happens."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2): the child gets a signal when its parent is gone
STOP_S = 5.0


def python(*arguments: str) -> list[str]:
    """The command of a module of ours. -P: what is installed runs, not what lies in the current folder."""
    return [sys.executable, "-P", *arguments]


class Child:
    """One process. It ends with its parent, even if that is killed."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, piped: bool = False) -> None:
        self.name = name
        self._command = command
        self._log = log
        self._piped = piped
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """Starts it (again). Its messages go to the log."""
        with open(self._log, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._piped else log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops the others in order
                preexec_fn=end_with_parent,
                limit=1 << 20,
            )
        return self.process

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        running = self.process is not None and self.process.returncode is None
        return self.process.pid if running and self.process is not None else None

    async def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB (10^6 bytes), from /proc."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1_000_000
    return 0.0


def end_with_parent() -> None:
    """For a child before it begins: it gets SIGTERM when its parent is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)
