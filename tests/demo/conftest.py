"""One demo for all tests of this folder: the product as it is started by hand, its agent killed at the worst moments.

The demo takes its 100 seconds once; what can be looked at while it runs, is. Times are real seconds.
"""

import importlib.util
import json
import os
import re
import signal
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


class Program:
    """A running `wattgate`, its lines as they come, and every process that came from it."""

    def __init__(self, arguments: list[str], folder: Path, on_line: Callable[[str], None] | None = None) -> None:
        self.mark = f"WATTGATE_TEST_MARK={uuid.uuid4().hex}"  # inherited by all that it starts
        name, _, value = self.mark.partition("=")
        self.lines: list[str] = []
        self.said = threading.Condition()
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
            with self.said:
                self.lines.append(line.rstrip("\n"))
                self.said.notify_all()
            if self._on_line is not None:
                self._on_line(line)
        with self.said:
            self.ended = True
            self.said.notify_all()

    def wait_for(self, pattern: str, within_s: float) -> str:
        """The first line in which the pattern is found, whether it was said already or not."""
        found: list[str] = []

        def heard() -> bool:
            found[:] = [line for line in self.lines if re.search(pattern, line)]
            return bool(found) or self.ended

        with self.said:
            self.said.wait_for(heard, within_s)
        assert found, f"no line with {pattern!r} within {within_s} s:\n" + "\n".join(self.lines)
        return found[0]

    def end(self, within_s: float) -> int:
        """The exit status, once it ends by itself."""
        status = self.process.wait(within_s)
        self._reader.join(within_s)
        return status

    def family(self) -> list[str]:
        """The processes that came from it and are there, as their command lines."""
        alive = []
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdigit() and self.mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    alive.append(f"{process.name} {command}")
        return alive

    def put_down(self) -> None:
        """Ends whatever is left of it, for a test that failed half-way."""
        for line in self.family():
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        self.process.wait(STOP_S_MAX)
        self._reader.join(STOP_S_MAX)


class StreetDemo(Program):
    """The one long demo. Its agent is killed at the worst moments, each once."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.killed: dict[str, int] = {}  # by moment, the agent's process id
        self.calm = threading.Lock()  # while it is held nothing is killed
        self._result: dict[str, Any] | None = None
        arguments = ["demo", "--seconds", str(DEMO_SECONDS), "--json", "--data", str(self.data)]
        super().__init__(arguments, folder, self._kill_at_worst_moment)
        self.started_at = time.monotonic()

    def _kill_at_worst_moment(self, line: str) -> None:
        for moment in WORST_MOMENTS.keys() - self.killed.keys():
            if re.search(moment, line):
                with self.calm:
                    pid = int((self.data / "agent.pid").read_text("ascii"))
                    self.killed[moment] = pid
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    @property
    def address(self) -> str:
        """Of its console."""
        found = re.search(r"http://\S+", self.wait_for("Console: ", START_S_MAX))
        assert found is not None
        return found[0]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nothing is killed meanwhile."""
        with self.calm:
            yield

    def result(self) -> Mapping[str, Any]:
        """Its JSON object, once it has ended by itself with status 0."""
        if self._result is None:
            passed_s = time.monotonic() - self.started_at
            status = self.end(max(1.0, DEMO_SECONDS + END_S_MAX - passed_s))
            assert status == 0, "\n".join(self.lines)
            self._result = json.loads(self.lines[-1])
        return self._result


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


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreetDemo]:
    """The long demo, as soon as it is started: a test waits for the line it needs."""
    running = StreetDemo(tmp_path_factory.mktemp("demo"))
    yield running
    running.put_down()


@pytest.fixture(scope="session")
def auditor() -> Any:
    """The auditor as a module, from its file: it is no part of any package."""
    spec = importlib.util.spec_from_file_location("wattgate_auditor", AUDITOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
