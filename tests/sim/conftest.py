"""What the tests of the virtual street share: a Modbus master of their own, and a street process that always ends."""

import json
import os
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hw.sim.street import StreetControl, default_street

ANSWER_TIMEOUT_S = 10.0  # only a broken street waits this long
QUIET_S = 0.15  # how long nothing must come to be called silence


def crc16(data: bytes) -> bytes:
    """The checksum of Modbus over Serial Line V1.02, 6.2.2, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def with_checksum(text: str) -> bytes:
    """A whole frame from its hex without the checksum."""
    data = bytes.fromhex(text)
    return data + crc16(data)


class Master:
    """Speaks raw frames on a line. Sees what is on the wire and nothing else."""

    def __init__(self, path: Path | str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        termios.tcflush(self.descriptor, termios.TCIOFLUSH)

    def ask(self, device_id: int, pdu: str) -> bytes:
        """Sends device id, PDU (hex) and checksum; the answer's PDU, or empty when nobody answers."""
        self.write(with_checksum(f"{device_id:02x}{pdu}"))
        answer = self.listen(ANSWER_TIMEOUT_S)
        if not answer:
            return b""
        assert answer[0] == device_id
        assert crc16(answer[:-2]) == answer[-2:]
        return answer[1:-2]

    def read(self, device_id: int, function_code: int, address: int, count: int) -> bytes:
        """The bytes of some registers."""
        answer = self.ask(device_id, f"{function_code:02x}{address:04x}{count:04x}")
        assert answer[:2] == bytes([function_code, 2 * count])
        return answer[2:]

    def is_silent(self, device_id: int, pdu: str) -> bool:
        self.write(with_checksum(f"{device_id:02x}{pdu}"))
        return self.listen(QUIET_S) == b""

    def write(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    def listen(self, timeout_s: float) -> bytes:
        """What comes until the line has been quiet for a moment."""
        heard = b""
        while select.select([self.descriptor], [], [], 0.02 if heard else timeout_s)[0]:
            heard += os.read(self.descriptor, 1024)
        return heard

    def close(self) -> None:
        os.close(self.descriptor)


class RunningStreet:
    """A street process with everything a test wants to reach."""

    def __init__(self, spec: dict[str, Any], directory: Path, *arguments: str) -> None:
        self.spec, self.directory = spec, directory
        spec_path = directory.with_suffix(".json")
        spec_path.write_text(json.dumps(spec))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hw.sim.street", "--spec", spec_path, "--directory", directory, *arguments],
            stderr=subprocess.PIPE,
        )
        self._masters: list[Master] = []
        self._control: StreetControl | None = None

    @property
    def control(self) -> StreetControl:
        if self._control is None:
            self._control = StreetControl(self.directory / "street.sock")
        return self._control

    def master(self, line_id: str) -> Master:
        assert self.control is not None  # the socket comes last, so the lines are there
        self._masters.append(Master(self.directory / line_id))
        return self._masters[-1]

    def saved_registers(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / "registers.json").read_text())
        return content

    def wait(self) -> int:
        return self.process.wait(ANSWER_TIMEOUT_S)

    def end(self) -> bytes:
        """Ends it whatever state it is in; what it wrote to stderr."""
        for master in self._masters:
            master.close()
        if self._control is not None:
            self._control.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.communicate(timeout=ANSWER_TIMEOUT_S)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise


@pytest.fixture
def frame() -> Callable[[str], bytes]:
    """Makes frames to be sent and compared."""
    return with_checksum


@pytest.fixture
def start_street(tmp_path: Path) -> Iterator[Callable[..., RunningStreet]]:
    """Starts the default street, or another spec, and sees to it that it ends without a word on stderr."""
    running: list[RunningStreet] = []

    def start(spec: dict[str, Any] | None = None, name: str = "s", *arguments: str) -> RunningStreet:
        running.append(RunningStreet(spec or default_street(), tmp_path / name, *arguments))
        return running[-1]

    yield start
    for street in running:
        assert street.end() == b""
