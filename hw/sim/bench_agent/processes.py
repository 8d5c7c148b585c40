"""Processes and what they cost, from the kernel's own books; the meters' process and what it has seen.

Processor time is the process's own clock (all threads, also ended ones), in seconds; memory in MB of 10^6 bytes; a
wake-up is a voluntary context switch of any thread. Times are monotonic nanoseconds, which all processes share.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hw.sim.demo_processes import end_with_parent

END_S = 10.0
MB = 1_000_000
_CPUCLOCK_SCHED = 2  # of clock_gettime(2): a process's processor time, by its id


@dataclass(frozen=True, slots=True)
class Memory:
    """RSS counts shared pages whole, PSS its share of them; private ones are nobody else's."""

    rss_mb: float
    pss_mb: float
    private_mb: float


class Process:
    """A started program."""

    def __init__(self, process: "subprocess.Popen[bytes]", began_ns: int) -> None:
        self.popen, self.began_ns = process, began_ns

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def cpu_s(self) -> float:
        """Processor time since the start."""
        return time.clock_gettime((~self.popen.pid << 3) | _CPUCLOCK_SCHED)

    def memory(self) -> Memory:
        """What it holds now."""
        kilobytes = {}
        for line in Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text("ascii").splitlines()[1:]:
            name, value = line.split(":")
            kilobytes[name] = int(value.split()[0])
        private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
        return Memory(*(round(part * 1024 / MB, 1) for part in (kilobytes["Rss"], kilobytes["Pss"], private)))

    def wake_ups(self) -> int:
        """How often a thread of it went to sleep and was woken."""
        count = 0
        for task in Path(f"/proc/{self.popen.pid}/task").iterdir():
            for line in (task / "status").read_text("ascii").splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    count += int(line.split()[1])
        return count

    def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        if self.running:
            self.popen.terminate()
        try:
            self.popen.wait(END_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def running(
    command: Sequence[str], log: Path, folder: Path, more: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """A program, until the end of the block; its messages are in the log. RuntimeError if it ended by itself."""
    with log.open("wb") as output:
        began_ns = time.monotonic_ns()
        process = Process(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(more or {})},
                preexec_fn=end_with_parent,
            ),
            began_ns,
        )
    try:
        yield process
        if not process.running:
            raise RuntimeError(f"{Path(command[0]).name} ended by itself:\n{log.read_text(errors='replace')[-2000:]}")
    finally:
        process.stop()


def agent_command(config: Path) -> list[str]:
    """`wattgate run` as installed beside this Python; where it is not installed, the module."""
    script = Path(sys.executable).with_name("wattgate")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "edge.cli"]
    return [*program, "run", "--config", str(config)]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the meters have seen of one client since the last reset; times 0 until there is one."""

    requests: int
    values: int
    first_request_ns: int
    first_answer_ns: int
    first_value_ns: int  # the second answer with one meter's money register: read, and confirmed


class Meters:
    """The process of the meters. `lines[client][line]` is (terminal, TCP port)."""

    def __init__(self, process: "subprocess.Popen[str]", clients: int, lines: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out, self._clients = process.stdin, process.stdout, clients
        places = [self._out.readline().split() for _ in range(clients * lines)]
        found = [(path, int(port)) for path, port in places]
        self.lines = [found[index * lines : (index + 1) * lines] for index in range(clients)]

    def seen(self, *, reset: bool = False) -> list[Seen]:
        """What was seen of each client; with `reset` it counts anew from here."""
        self._in.write("reset\n" if reset else "stats\n")
        self._in.flush()
        return [Seen(*(int(number) for number in self._out.readline().split())) for _ in range(self._clients)]


@contextmanager
def meters_running(
    program: Path, lines: int, meters: int, clients: int = 1, baud: int = 0, turnaround_ms: int = 0, speed: int = 1
) -> Iterator[Meters]:
    """The meters of a site, until the end of the block."""
    numbers = (lines, meters, clients, baud, turnaround_ms * 1000, speed)
    command = [str(program), *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Meters(process, clients, lines)
        finally:
            process.kill()
