"""`wattgate payments run` as a process: killed and started again, told to end, and with a port that is taken."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import generate_key_directory
from cloud_sync.payments.channels import add_channel
from edge.cli import main

NANO = 10**9
PAYMENT = {"gateway": "gw-1", "meter": "M01", "amount": "1.50"}


class Server:
    """The process, which can be killed and started again on its port."""

    def __init__(self, folder: Path, place: str, until: Callable[..., None]) -> None:
        self.keys, self.place, self._until = folder / "keys", place, until
        generate_key_directory(self.keys)
        self.backend = Backend.from_directory(place, self.keys)
        self.backend.enroll("gw-1", 1)
        self.key = add_channel(self.backend.database, "bank-1", 100 * NANO, 1000 * NANO, 1)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def words(self, port: int) -> list[str]:
        return ["payments", "run", "--db", self.place, "--keys", str(self.keys), "--port", str(port), "--json"]

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", *self.words(self.port)], stdout=subprocess.PIPE
        )
        self._until(self._answers, 30.0, "an API that answers")

    def end(self, how: signal.Signals) -> tuple[int, bytes]:
        assert self.process is not None
        self.process.send_signal(how)
        told, _ = self.process.communicate(timeout=30)
        status, self.process = self.process.returncode, None
        return status, told

    def pay(self, key: str) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": key}
        return httpx.post(f"http://127.0.0.1:{self.port}/v1/payments", json=PAYMENT, headers=headers, timeout=30).json()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/openapi.json", timeout=5).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture
def server(tmp_path: Path, new_place: Callable[[], str], until: Callable[..., None]) -> Iterator[Server]:
    server = Server(tmp_path, new_place(), until)
    yield server
    if server.process is not None:
        server.end(signal.SIGKILL)
    server.backend.close()


def test_answers_are_the_same_after_kill_9_and_it_ends_in_order(server: Server) -> None:
    server.start()
    first = [server.pay(f"key-{number}") for number in range(10)]
    server.end(signal.SIGKILL)
    server.start()
    assert [server.pay(f"key-{number}") for number in range(10)] == first
    placed = server.backend.database.execute("SELECT count(*) FROM command WHERE type = 'credit'").fetchone()[0]
    assert placed == len({paid["payment_id"] for paid in first}) == 10
    status, told = server.end(signal.SIGTERM)
    assert (status, json.loads(told)) == (0, {"ended": True})


def test_port_that_is_taken_is_named(server: Server, taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(server.words(taken_port)) == 2
    assert f"cannot listen on 127.0.0.1 port {taken_port}" in capsys.readouterr().err
