"""The programs of the whole path as processes that can be killed: three brokers, two databases' servers, the backend.

Everything listens on the loopback address, on a port that was free, in a folder of its own.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from cloud_sync.keys import KEYRING_FILE

ADDRESS: Final = "127.0.0.1"
PAUSE_SECONDS_MAX: Final = 0.2
PORTS: Final = (15_000, 32_000)  # below what Linux gives to outgoing connections

AMQTT: Final = """
import asyncio, logging, sys
from amqtt.broker import Broker
for name in ("amqtt", "transitions"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""
MOSQUITTO: Final = "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
NATS: Final = """
server_name: "{name}"
listen: "127.0.0.1:{client}"
jetstream {{ store_dir: "{folder}/{name}" }}
mqtt {{
  listen: "127.0.0.1:{port}"
  stream_replicas: {size}, consumer_replicas: {size}, consumer_memory_storage: true
}}
"""
NATS_CLUSTER: Final = """
cluster {{ name: "street", listen: "127.0.0.1:{own}", routes: [{routes}] }}
"""


def free_port() -> int:
    """A port that no outgoing connection is given.

    Else a client that knocks at a killed broker's port may, some day, be given that port for its own end: it then talks
    to itself, and the broker cannot come back.
    """
    while True:
        port = random.randrange(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((ADDRESS, port))
            return port


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1.0):
        return True
    return False


class Program:
    """A process that is started, killed and started again with the same arguments."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.command, self.log = command, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.is_running
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def limit_files(self, size_bytes: int) -> None:
        """No file of its may grow beyond this, as on a disk that is full."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


class Broker(Program):
    """One server that speaks MQTT on `port`."""

    def __init__(self, command: Sequence[str], log: Path, port: int) -> None:
        super().__init__(command, log)
        self.port = port

    @property
    def is_ready(self) -> bool:
        return self.is_running and answers(self.port)


def new_amqtt(folder: Path) -> Broker:
    port = free_port()
    return Broker([sys.executable, "-c", AMQTT, str(port)], folder / "amqtt.log", port)


def new_mosquitto(folder: Path) -> Broker:
    port = free_port()
    configuration = folder / f"mosquitto-{port}.conf"
    configuration.write_text(MOSQUITTO.format(port=port))
    return Broker(["mosquitto", "-c", str(configuration)], folder / f"mosquitto-{port}.log", port)


def new_nats(folder: Path) -> Broker:
    return new_nats_cluster(folder, 1)[0]


def new_nats_cluster(folder: Path, size: int) -> list[Broker]:
    """Servers that know of each other and keep what they keep three times."""
    names = [f"nats-{number}" for number in range(size)]
    ports = {name: (free_port(), free_port(), free_port()) for name in names}
    brokers = []
    for name, (client, port, own) in ports.items():
        text = NATS.format(name=name, client=client, folder=folder, port=port, size=size)
        if size > 1:
            routes = ", ".join(f'"nats://{ADDRESS}:{ports[other][2]}"' for other in names if other != name)
            text += NATS_CLUSTER.format(own=own, routes=routes)
        configuration = folder / f"{name}.conf"
        configuration.write_text(text)
        brokers.append(Broker(["nats-server", "-c", str(configuration)], folder / f"{name}.log", port))
    return brokers


NEW_BROKER: Final[dict[str, Callable[[Path], Broker]]] = {
    "amqtt": new_amqtt,
    "Mosquitto": new_mosquitto,
    "NATS": new_nats,
}


class BackendProgram(Program):
    """`python -m cloud_sync.backend` on one database, at one broker or an ordered list."""

    def __init__(self, folder: Path, place: str, ports: Sequence[int], keys: Path) -> None:
        command = [sys.executable, "-m", "cloud_sync.backend", "--db", place, "--keys", str(keys)]
        command += [part for port in ports for part in ("--broker", f"{ADDRESS}:{port}")]
        super().__init__([*command, "--timer-max", str(PAUSE_SECONDS_MAX)], folder / "backend.log")

    def text(self) -> str:
        return self.log.read_text("utf-8") if self.log.exists() else ""


def gateway_program(card: Path, keys: Path, gateway_id: str, port: int, charges: int) -> Program:
    """One gateway on its card."""
    script = Path(__file__).with_name("gateway.py")
    told = [str(card), str(keys / KEYRING_FILE), gateway_id, f"{ADDRESS}:{port}", str(charges)]
    return Program([sys.executable, str(script), *told], card.with_suffix(".log"))


class SqliteDatabases:
    """Files. Their server is the backend itself."""

    server = None

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count(1)

    def new(self) -> str:
        return f"sqlite:///{self._folder}/cloud-{next(self._numbers)}.db"

    def back_up(self, place: str) -> str:
        """A copy, while nobody has it open."""
        copy = self.new()
        _copy_file(place, copy)
        return copy

    def restore(self, place: str, copy: str) -> None:
        for ending in ("-wal", "-shm"):
            Path(place.removeprefix("sqlite:///") + ending).unlink(missing_ok=True)
        _copy_file(copy, place)


def _copy_file(place: str, other: str) -> None:
    """With what is still in the write-ahead log of a backend that was killed."""
    import sqlite3

    with (
        contextlib.closing(sqlite3.connect(place.removeprefix("sqlite:///"))) as source,
        contextlib.closing(sqlite3.connect(other.removeprefix("sqlite:///"))) as target,
    ):
        source.backup(target)


class PostgresqlDatabases:
    """A PostgreSQL server of this suite's own, since it is killed."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def new(self) -> str:
        return str(self.server.new())

    def back_up(self, place: str) -> str:
        return str(self.server.copy(place))

    def restore(self, place: str, copy: str) -> None:
        self.server.replace(place, copy)

    def kill(self) -> None:
        """kill -9 of the postmaster and of every process that it has."""
        postmaster = self.server.pid
        for pid in [postmaster, *_children(postmaster)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.forget()

    def start(self) -> None:
        """Again, if it is not running."""
        if not self.server.is_running:
            self.server.start()

    def limit_files(self, place: str) -> None:
        """Nothing more goes into any file by the hands of those who serve this database now."""
        for pid in self.server.serving(place):
            self.server.run("/usr/bin/prlimit", f"--pid={pid}", "--fsize=0")


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found
