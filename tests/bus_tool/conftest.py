"""Lines for the installer's commands: pymodbus's own server with virtual meters, and faults byte by byte.

The server runs in a thread of its own, since the command under test has the loop of its own.
"""

import asyncio
import os
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimDevice

from hw.sim.device import Device, ExceptionCode
from hw.sim.line import Fault, Line
from hw.sim.meter import Meter
from hw.sim.models import MODELS

WAIT_S = 10.0
SETTLE_S = 0.05
SPEEDS = {getattr(termios, f"B{baud}"): baud for baud in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)}


class Draw:
    """A constant load."""

    energy_ws = 7_200_000
    power_w = 500


def meter(device_id: int, model: str = "eastron_sdm120", name: str | None = None) -> Meter:
    """A virtual meter with 1,234 kWh on its counter."""
    source = Draw()
    return Meter(name or f"M{device_id}", device_id, MODELS[model], 1_234_000, source, None, lambda: 1_700_000_000)


class SettableMeter:
    """A meter whose address and speed can be set, as its model says; `restart` brings them about where that is due."""

    def __init__(self, line: "SimLine", inner: Meter, registers: dict[int, str], at_once: bool = True) -> None:
        self.line, self.inner, self.registers, self.at_once = line, inner, registers, at_once
        self.silent = False
        self.device_id = inner.device_id
        self.settings: dict[int, tuple[int, ...]] = {}
        self.written: list[tuple[int, int, tuple[int, ...]]] = []
        self.refuses = False
        self.dies_on_write = False
        self.on_write: Callable[[], object] = lambda: None

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        if function_code == 3 and address in self.settings:
            return list(self.settings[address])
        return self.inner.read(function_code, address, count)

    def write(self, function_code: int, address: int, values: Sequence[int]) -> ExceptionCode | None:
        self.written.append((function_code, address, tuple(values)))
        if self.refuses or address not in self.registers:
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        self.settings[address] = tuple(values)
        self.on_write()
        if self.dies_on_write:
            self.silent = True
        elif self.at_once:
            self.restart()
        return None

    def restart(self) -> None:
        """What was written is what counts."""
        for address, values in self.settings.items():
            self.line.apply(self, self.registers[address], values)


class SimLine:
    """One line in a thread: devices by id, faults both ways, the speed at which its meters listen."""

    def __init__(self) -> None:
        self.devices: dict[int, Device] = {}
        self.baud: int | None = None  # None: every speed is right, as on a pseudo-terminal
        self.fault_to_gateway: Fault | None = None
        self.fault_to_devices: Fault | None = None
        self.asked: list[bytes] = []
        self._line = Line(self.devices, lambda: None, silence_s=0.004)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started),), daemon=True)
        self._thread.start()
        assert started.wait(WAIT_S)
        self.path = self._line.gateway_path
        self._held = os.open(self.path, os.O_RDWR | os.O_NOCTTY)

    def add(self, *devices: Any) -> "SimLine":
        self.devices.update({device.device_id: device for device in devices})
        return self

    def apply(self, device: SettableMeter, setting: str, values: Sequence[int]) -> None:
        """A setting takes effect: in a moment, after the answer has left."""
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.002, self._apply_now, device, setting, tuple(values))

    def say_now(self, data: bytes) -> None:
        """Bytes to the gateway that nobody asked for; on the line's own thread."""
        os.write(self._line._descriptors[0], data)

    def babble(self, data: bytes, every_s: float) -> None:
        """Noise, again and again."""

        def again() -> None:
            if not self._stop.is_set():
                self.say_now(data)
                self._loop.call_later(every_s, again)

        self._loop.call_soon_threadsafe(again)

    def hang_up(self) -> None:
        """The adapter is pulled out; on the line's own thread."""
        self._loop.remove_reader(self._line._descriptors[0])
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self._line._descriptors[0])
        os.close(nothing)

    def settle(self) -> None:
        """Returns when a setting that was to take effect has done so."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.01, done.set)
        assert done.wait(WAIT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)
        self._loop.close()
        os.close(self._held)

    def gateway_baud(self) -> int:
        """The speed the gateway has set."""
        return SPEEDS[termios.tcgetattr(self._held)[5]]

    async def _serve(self, started: threading.Event) -> None:
        await self._line.open()
        self._line.fault_to_devices = self._to_devices
        self._line.fault_to_gateway = self._to_gateway
        started.set()
        await self._stop.wait()
        await self._line.close()

    def _apply_now(self, device: SettableMeter, setting: str, values: tuple[int, ...]) -> None:
        if setting == "address":
            old, new = device.device_id, float_or_whole(values)
            if self.devices.get(old) is device:
                del self.devices[old]
            device.device_id = device.inner.device_id = new
            self.devices[new] = device
        elif setting == "baud":
            self.baud = {0: 2400, 1: 4800, 2: 9600, 3: 19200, 4: 38400, 5: 1200}[float_or_whole(values)]

    def _to_devices(self, data: bytes) -> Sequence[tuple[float, bytes]]:
        self.asked.append(data)
        if self.baud is not None and self.gateway_baud() != self.baud:
            return []
        return self.fault_to_devices(data) if self.fault_to_devices else [(0.0, data)]

    def _to_gateway(self, data: bytes) -> Sequence[tuple[float, bytes]]:
        return self.fault_to_gateway(data) if self.fault_to_gateway else [(0.0, data)]


def float_or_whole(values: Sequence[int]) -> int:
    """A setting as Eastron writes it, a float32, or as one register."""
    if len(values) == 1:
        return values[0]
    number: float = struct.unpack(">f", struct.pack(">2H", *values))[0]
    return int(number)


@pytest.fixture(autouse=True)
def virtual_meters_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual meter averages no power and a virtual contact does not bounce: their seconds are not waited for."""
    monkeypatch.setattr("edge.commission.steps._POWER_SETTLE_S", SETTLE_S)
    monkeypatch.setattr("edge.commission.steps._SETTLE_S", SETTLE_S)


@pytest.fixture
def sim_line() -> Iterator[Callable[[], SimLine]]:
    """Makes lines."""
    lines: list[SimLine] = []

    def make() -> SimLine:
        lines.append(SimLine())
        return lines[-1]

    yield make
    for line in lines:
        line.close()


@pytest.fixture
def tcp_server() -> Iterator[Callable[..., str]]:
    """Starts pymodbus's TCP server, framer RTU or SOCKET, with devices; returns the LINE that reaches it."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    threads: list[threading.Thread] = []

    def start(kind: str, devices: Sequence[SimDevice]) -> str:
        started = threading.Event()
        address: list[str] = []

        async def serve() -> None:
            framer = FramerType.RTU if kind == "rtu+tcp" else FramerType.SOCKET
            server = ModbusTcpServer(
                list(devices), framer=framer, address=("127.0.0.1", 0), ignore_missing_devices=True
            )
            await server.serve_forever(background=True)
            listening = cast(asyncio.Server, server.transport)
            address.append(f"{kind}://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
            started.set()
            await stop.wait()
            await server.shutdown()  # type: ignore[no-untyped-call]

        threads.append(threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True))
        threads[-1].start()
        assert started.wait(WAIT_S)
        return address[0]

    yield start
    loop.call_soon_threadsafe(stop.set)
    for thread in threads:
        thread.join(WAIT_S)
    loop.close()


@pytest.fixture(scope="session")
def parts() -> SimpleNamespace:
    """The tools of this file by name: test modules cannot import them."""
    return SimpleNamespace(meter=meter, SettableMeter=SettableMeter)
