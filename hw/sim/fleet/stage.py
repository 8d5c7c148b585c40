"""What a fleet speaks to when it is given nothing: a Mosquitto, a database and the backend, as processes.

Everything is on the loopback address, on free ports, in one folder, and ends with the stage.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ADDRESS: Final = "127.0.0.1"
STARTING_SECONDS_MAX: Final = 60.0
LOOK_S: Final = 0.05
MOSQUITTO: Final = """listener {port} {address}
allow_anonymous true
persistence false
max_queued_messages 1000
set_tcp_nodelay true
"""


class StageError(Exception):
    """Something that is needed is missing or did not start. A sentence for people."""


@dataclass(frozen=True, slots=True)
class _Program:
    command: list[str]
    is_up: Callable[[], bool]
    user: str | None


class Stage:
    """Processes that end together, in the order opposite to their start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._programs: dict[str, _Program] = {}
        self._ending = ExitStack()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start_mosquitto(self) -> int:
        """A broker; its port."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise StageError("mosquitto is missing: install the package mosquitto, or name a broker")
        port = free_port()
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(MOSQUITTO.format(port=port, address=ADDRESS))
        self._start("mosquitto", [program, "-c", str(configuration)], lambda: answers(port))
        return port

    def start_postgresql(self) -> str:
        """A PostgreSQL with its syncs on, as a site runs it; the URL of an empty database."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise StageError("PostgreSQL is missing: install the package postgresql, or name a database")
        place, data = self.folder / "pg", self.folder / "pg" / "data"
        data.mkdir(parents=True)
        user = postgresql_user()
        if user is not None:
            self.folder.chmod(0o755)
            for path in (place, data):
                shutil.chown(path, user)
        making = [str(found[-1]), "-D", str(data), "-A", "trust", "-U", "wattgate", "-E", "UTF8"]
        done = subprocess.run(making, cwd="/", user=user, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StageError(f"initdb: {done.stderr.strip()}")
        server = [str(found[-1].with_name("postgres")), "-D", str(data), "-k", str(place), "-c", "listen_addresses="]
        url = f"postgresql://wattgate@/postgres?host={place}"
        command = [*server, "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"]
        self._start("postgresql", command, lambda: connects(url), user)
        return url

    def start_backend(self, db: str, port: int, keys: Path, workers: int = 1, options: Sequence[str] = ()) -> None:
        """The backend; it has subscribed when this returns."""
        command = [sys.executable, "-P", "-m", "cloud_sync.backend", "--db", db, "--broker", f"{ADDRESS}:{port}"]
        command += ["--keys", str(keys), "--workers", str(workers), *options]
        log = self.folder / "backend.log"
        self._start("backend", command, lambda: said(log, "connected") >= workers)

    def kill(self, name: str) -> None:
        """Kills a program with all below it, as `kill -9` does. It can be started again."""
        process = self.processes[name]
        for pid in family(process.pid) if process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def start_again(self, name: str) -> None:
        """Starts a program that has ended as it was started before; it is up when this returns."""
        program = self._programs[name]
        self._start(name, program.command, program.is_up, program.user)

    def memory_kb(self) -> dict[str, int]:
        """Resident memory of each, with its children, not counting twice what they share."""
        return {
            name: sum(proportional_kb(pid) for pid in family(process.pid)) for name, process in self.processes.items()
        }

    def processor_seconds(self) -> dict[str, float]:
        """Processor time each has used, with its children."""
        return {name: sum(used_seconds(pid) for pid in family(process.pid)) for name, process in self.processes.items()}

    def _start(self, name: str, command: list[str], is_up: Callable[[], bool], user: str | None = None) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd="/", user=user, stdout=log, stderr=subprocess.STDOUT)
        self.processes[name] = process
        self._programs[name] = _Program(command, is_up, user)
        self._ending.callback(end, process)
        self._wait_for(name)

    def _wait_for(self, name: str) -> None:
        until = time.monotonic() + STARTING_SECONDS_MAX
        while not self._programs[name].is_up():
            if self.processes[name].poll() is not None or time.monotonic() > until:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise StageError(f"{name} did not start:\n{log[-2000:]}")
            time.sleep(LOOK_S)


def postgresql_user() -> str | None:
    """Who runs PostgreSQL, which refuses to be root; None: whoever runs this."""
    return "postgres" if os.geteuid() == 0 else None


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process orderly, and after ten seconds anyhow."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((ADDRESS, port), 1.0):
            return True
    except OSError:
        return False


def connects(url: str) -> bool:
    """Whether a PostgreSQL takes connections."""
    import psycopg

    try:
        with psycopg.connect(url):
            return True
    except psycopg.OperationalError:
        return False


def said(log: Path, event: str) -> int:
    """How often a log of JSON lines tells of something."""
    lines: list[Any] = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return sum(line["event"] == event for line in lines)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def proportional_kb(pid: int) -> int:
    """Memory that a process has in use, what it shares with others divided by their number."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def used_seconds(pid: int) -> float:
    """Processor time of a process, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
