"""One demo for all tests of this folder: the product as it is started by hand, its agent killed at the worst moments.

The demo takes its 100 seconds once, whichever of pytest's processes starts it; the others look on through its folder.
Times are real seconds.
"""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
AUDITOR = ROOT / "tests" / "auditor" / "audit.py"
DEMO_SECONDS = 100
START_S_MAX = 40.0
END_S_MAX = 90.0  # drained and stopped, on a busy machine
STOP_S_MAX = 20.0
LOOK_S = 0.05

# A line of the demo: what is in the air at that instant. The agent is killed when the line is seen.
WORST_MOMENTS = {
    r"bill of": "the month's bills: some accounts have theirs, others not yet",
    r"A01: CUT": "a cut is decided and journaled, the relay not yet read back open",
    r"A01: paid": "a voucher's money is committed, the customer and the cloud have no answer yet",
    r"cloud link down": "nothing can be acknowledged, all of it waits in the journal",
}


def wattgate() -> list[str]:
    """The installed program, or the module where there is only a tree."""
    script = Path(sys.executable).with_name("wattgate")
    in_tree = os.environ.get("WATTGATE_TREE") == "1" or os.environ.get("PYTHONPATH")
    return [str(script)] if script.exists() and not in_tree else [sys.executable, "-m", "edge.cli"]


def free_port() -> int:
    """A port that no other test running beside this one will ask for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def family_of(mark: str) -> list[str]:
    """The processes that inherited a mark and are there, as their command lines."""
    alive = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                alive.append(f"{process.name} {command}")
    return alive


def comes_true(condition: Callable[[], object], within_s: float) -> bool:
    """Whether it becomes true in time."""
    look, end = threading.Event(), time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        look.wait(LOOK_S)
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps out, meanwhile, every process and thread that asks for the same."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Program:
    """A running `wattgate`, its lines as they come, and every process that came from it."""

    def __init__(self, arguments: list[str], folder: Path, on_line: Callable[[str], None] | None = None) -> None:
        self.mark = f"WATTGATE_TEST_MARK={uuid.uuid4().hex}"  # inherited by all that it starts
        name, _, value = self.mark.partition("=")
        self.lines: list[str] = []
        self.ended = False
        self._on_line = on_line
        self.process = subprocess.Popen(
            [*wattgate(), *arguments],
            cwd=folder,
            env={**os.environ, name: value, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self._on_line is not None:
                self._on_line(self.lines[-1])
        self.ended = True

    def wait_for(self, pattern: str, within_s: float) -> str:
        """The first line in which the pattern is found, whether it was said already or not."""
        return first_line(lambda: self.lines, pattern, lambda: self.ended, within_s)

    def end(self, within_s: float) -> int:
        """The exit status, once it ends by itself."""
        status = self.process.wait(within_s)
        self._reader.join(within_s)
        return status

    def family(self) -> list[str]:
        """Its processes that are there."""
        return family_of(self.mark)

    def put_down(self) -> None:
        """Ends whatever is left of it, for a test that failed half-way."""
        for line in self.family():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        self.end(STOP_S_MAX)


def first_line(lines: Callable[[], list[str]], pattern: str, ended: Callable[[], bool], within_s: float) -> str:
    """The first line in which the pattern is found. Fails with all of them when it does not come."""
    found: list[str] = []

    def heard() -> bool:
        over = ended()  # asked first, so that the last lines are looked at
        found[:] = [line for line in lines() if re.search(pattern, line)]
        return bool(found) or over

    comes_true(heard, within_s)
    assert found, f"no line with {pattern!r} within {within_s} s:\n" + "\n".join(lines())
    return found[0]


class KilledDemo(Program):
    """The long demo itself. Its agent is killed at each of the worst moments, once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._killed: dict[str, int] = {}  # by moment, the agent's process id
        where = ["--data", str(folder / "data"), "--port", str(free_port())]
        super().__init__(["demo", "--seconds", str(DEMO_SECONDS), "--json", *where], folder, self._heard)
        (folder / "mark").write_text(self.mark)
        self._end = threading.Thread(target=self._tell_end, daemon=True)
        self._end.start()

    def _heard(self, line: str) -> None:
        with (self._folder / "lines").open("a", encoding="utf-8") as told:
            told.write(f"{line}\n")
        for moment in WORST_MOMENTS.keys() - self._killed.keys():
            if re.search(moment, line):
                with alone(self._folder / "calm.lock"):
                    pid = int((self._folder / "data" / "agent.pid").read_text("ascii"))
                    self._killed[moment] = pid
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def _tell_end(self) -> None:
        self._reader.join()
        end = {"status": self.process.wait(), "killed": self._killed}
        new = self._folder / "end.new"
        new.write_text(json.dumps(end), "utf-8")
        new.rename(self._folder / "end")


class StreetDemo:
    """The long demo, seen from any of pytest's processes through its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.data = folder / "data"

    @property
    def lines(self) -> list[str]:
        """What it has said so far."""
        told = self._folder / "lines"
        return told.read_text("utf-8").splitlines() if told.exists() else []

    def wait_for(self, pattern: str, within_s: float) -> str:
        """The first line in which the pattern is found, whether it was said already or not."""
        return first_line(lambda: self.lines, pattern, (self._folder / "end").exists, within_s)

    @property
    def address(self) -> str:
        """Of its console."""
        found = re.search(r"http://\S+", self.wait_for("Console: ", START_S_MAX))
        assert found is not None
        return found[0]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Its agent is not killed meanwhile."""
        with alone(self._folder / "calm.lock"):
            yield

    def end(self) -> Mapping[str, Any]:
        """Its exit status, and which process was killed at which moment, once it has ended by itself."""
        assert comes_true((self._folder / "end").exists, DEMO_SECONDS + END_S_MAX), "\n".join(self.lines)
        end: Mapping[str, Any] = json.loads((self._folder / "end").read_text("utf-8"))
        return end

    def result(self) -> Mapping[str, Any]:
        """Its JSON object, once it has ended with status 0."""
        assert self.end()["status"] == 0, "\n".join(self.lines)
        result: Mapping[str, Any] = json.loads(self.lines[-1])
        return result

    def family(self) -> list[str]:
        """Its processes that are there."""
        return family_of((self._folder / "mark").read_text())


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreetDemo]:
    """The long demo, as soon as it is started: a test waits for the line or the end it needs."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    own = tmp_path_factory.getbasetemp()
    folder = own / "street" if run is None else own.parent / f"street_{run[:8]}"
    started = None
    with alone(folder.with_suffix(".lock")):
        if folder.exists():
            (folder / "shared").touch()
        else:
            folder.mkdir()
            started = KilledDemo(folder)
    view = StreetDemo(folder)
    yield view
    if started is not None:
        if (folder / "shared").exists():
            view.end()
        started.put_down()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts `wattgate` with arguments. What is left of it at the end of the test is ended."""
    started: list[Program] = []

    def run(*arguments: str) -> Program:
        started.append(Program(list(arguments), tmp_path))
        return started[-1]

    yield run
    for program in started:
        program.put_down()


@pytest.fixture
def port() -> int:
    """For a console that is to be had at its port."""
    return free_port()


@pytest.fixture
def check_gone() -> Callable[[Any, float], None]:
    """Fails, naming them, if some processes of a program are still there after that time."""

    def check(program: Any, within_s: float) -> None:
        gone = comes_true(lambda: program.family() == [], within_s)
        assert gone, "still there: " + "; ".join(program.family())

    return check
