"""A stranger's gateway, written from the exported contract, against the real backend over a real broker.

It runs in a Python that has the standard library and two packages, linked into a folder; the test
shows that in there our product cannot be imported.
"""

import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import KEYRING_FILE, generate_key_directory

CLIENT = Path(__file__).with_name("stranger.py")
CLIENT_LINES_MAX = 150
GATEWAY = "stranger-1"
LIBRARIES = ("paho", "cryptography", "cffi", "_cffi_backend", "pycparser")
PRODUCT = ("edge", "cloud_sync", "native", "hw", "wattgate", "msgspec")

pytestmark = pytest.mark.needs_program("mosquitto")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The folder with the two libraries a stranger may use, and what these need."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        (folder / source.name).symlink_to(source)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python without site-packages, without the environment's paths, in an empty folder."""
    (tmp_path / "empty").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path / "empty", env={}
        )

    return run


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """The exported contract, as anybody gets it."""
    command = [sys.executable, "-m", "edge.cli", "contract", "export", str(tmp_path / "contract")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return tmp_path / "contract"


@pytest.fixture
def broker_port(tmp_path: Path, until: Callable[..., None]) -> Iterator[int]:
    """A Mosquitto on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    process = subprocess.Popen(
        ["mosquitto", "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        return False

    until(answers, 20.0, "a broker that accepts connections")
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def cloud(tmp_path: Path, broker_port: int, until: Callable[..., None]) -> Iterator[Path]:
    """The folder of a running reference backend: cloud.db and keys. The stranger's first payment waits in it."""
    generate_key_directory(tmp_path / "keys")
    with contextlib.closing(Backend.from_directory(tmp_path / "cloud.db", tmp_path / "keys")) as backend:
        backend.enroll(GATEWAY, int(time.time()))
        backend.credit(GATEWAY, "M01", "P-1", 7_000_000_000, int(time.time()))
    command = [
        sys.executable, "-m", "cloud_sync.backend", "--db", str(tmp_path / "cloud.db"), "--timer-max", "0.5",
        "--broker", f"127.0.0.1:{broker_port}", "--keys", str(tmp_path / "keys"),
    ]  # fmt: skip
    process = subprocess.Popen(command)

    def sends() -> bool:
        """It sends orders once its subscription stands."""
        with contextlib.closing(Backend.from_directory(tmp_path / "cloud.db", tmp_path / "keys")) as backend:
            row = backend.database.execute("SELECT sent_count FROM command").fetchone()
            return bool(row[0])

    until(sends, 20.0, "a backend that listens")
    yield tmp_path
    process.terminate()
    process.wait(10)


def test_the_product_cannot_be_imported_where_the_stranger_runs(outside: Any, packages: Path) -> None:
    assert len(CLIENT.read_text("utf-8").splitlines()) <= CLIENT_LINES_MAX
    program = "import sys; sys.path.append(sys.argv[1]); import {}"
    for name in PRODUCT:
        ended = outside("-c", program.format(name), str(packages))
        assert ended.returncode == 1
        assert f"ModuleNotFoundError: No module named '{name}'" in ended.stderr
    assert outside("-c", program.format("paho.mqtt.client, cryptography"), str(packages)).returncode == 0


def test_a_gateway_written_from_the_contract_alone_sells_electricity(
    outside: Any, packages: Path, contract: Path, broker_port: int, cloud: Path
) -> None:
    keyring = cloud / "keys" / KEYRING_FILE
    ended = outside(str(CLIENT), str(contract), str(keyring), str(broker_port), GATEWAY, str(packages))
    assert ended.returncode == 0, ended.stderr
    said = {line["step"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert said["vectors"]["used"] > 20
    assert said["hello"]["mark"] == {"epoch": 1, "seq": 0, "hash": "0" * 64}
    for step, stream_seq in (("led", 2), ("duplicate", 2), ("fork", 2), ("credit", 3), ("result", 1)):
        mark = said[step]["mark"]
        assert (mark["epoch"], mark["seq"], mark["ours"]) == (1, stream_seq, True), step
    assert said["credit"]["order"]["args"]["payment_id"] == "P-1"
    with contextlib.closing(Backend.from_directory(cloud / "cloud.db", cloud / "keys")) as backend:
        assert backend.problems() == []
        assert backend.counts() == {"led": 3, "res": 1}
        assert [balance.money_nano for balance in backend.balances()] == [7_000_000_003]
        assert backend.result_of(said["credit"]["order"]["cid"]) == "applied"
        assert [(alarm["kind"], alarm["count"]) for alarm in backend.alarms()] == [("fork", 1)]
        assert [row["reason"] for row in backend.quarantined()] == ["fork"]
