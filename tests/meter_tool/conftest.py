"""Meters for the command: one that answers only the exact frames it was given, and pymodbus's own servers.

Both run in a thread of their own, since the command under test has the loop of its own.
"""

import asyncio
import os
import select
import threading
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import cast

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import SimDevice

from edge.bus.frame import crc16

WAIT_S = 10.0


class ExactMeter:
    """Answers exactly the requests of a table, whole frame by whole frame, at the far end of a pseudo-terminal."""

    def __init__(self, answers: Mapping[bytes, Sequence[bytes]]) -> None:
        self.answers = {request: list(replies) for request, replies in answers.items()}
        self.asked: list[bytes] = []
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join(WAIT_S)
        for descriptor in (self._master, self._slave, self._stop, self._stopped):
            os.close(descriptor)

    def _serve(self) -> None:
        received = b""
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                return
            with suppress(OSError):
                received += os.read(self._master, 512)
            while len(received) >= 8:  # every read request is 8 bytes
                request, received = received[:8], received[8:]
                self.asked.append(request)
                replies = self.answers.get(request, [])
                reply = replies.pop(0) if len(replies) > 1 else b"".join(replies)
                if reply:
                    os.write(self._master, reply)


@pytest.fixture
def exact_meter() -> Iterator[Callable[[Mapping[bytes, Sequence[bytes]]], ExactMeter]]:
    """Makes meters from tables of request frame: replies, one after the other, the last one for ever."""
    meters: list[ExactMeter] = []

    def make(answers: Mapping[bytes, Sequence[bytes]]) -> ExactMeter:
        meters.append(ExactMeter(answers))
        return meters[-1]

    yield make
    for meter in meters:
        meter.close()


@pytest.fixture
def framed() -> Callable[[bytes], bytes]:
    """A frame with its CRC."""
    return lambda body: body + crc16(body).to_bytes(2, "little")


class Servers:
    """Starts servers (`serial`, `tcp` or `rtu+tcp`) with devices; a call returns the LINE that reaches them."""

    def __init__(self) -> None:
        self._running = ExitStack()

    def __call__(self, kind: str, devices: Sequence[SimDevice]) -> str:
        return self._running.enter_context(_serving(kind, devices))

    def stop_all(self) -> None:
        self._running.close()


@pytest.fixture
def pymodbus_server() -> Iterator[Servers]:
    """See Servers."""
    servers = Servers()
    yield servers
    servers.stop_all()


@contextmanager
def _serving(kind: str, devices: Sequence[SimDevice]) -> Iterator[str]:
    loop, started, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    line = ""
    descriptors: list[int] = []

    async def serve() -> None:
        nonlocal line
        server: ModbusSerialServer | ModbusTcpServer
        if kind == "serial":
            server, line = _serial_server(devices, descriptors)
            await server.serve_forever(background=True)
        else:
            framer = FramerType.RTU if kind == "rtu+tcp" else FramerType.SOCKET
            server = ModbusTcpServer(list(devices), framer=framer, address=("127.0.0.1", 0))
            await server.serve_forever(background=True)
            listening = cast(asyncio.Server, server.transport)
            line = f"{kind}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        started.set()
        await stop.wait()
        await server.shutdown()  # type: ignore[no-untyped-call]

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(WAIT_S)
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_S)
        loop.close()
        for descriptor in descriptors:
            os.close(descriptor)


def _serial_server(devices: Sequence[SimDevice], descriptors: list[int]) -> tuple[ModbusSerialServer, str]:
    """Two pseudo-terminals joined in the middle, as two ends of one wire."""
    loop = asyncio.get_running_loop()
    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    (gateway, gateway_slave), (device, device_slave) = ends
    loop.add_reader(gateway, lambda: os.write(device, os.read(gateway, 512)))
    loop.add_reader(device, lambda: os.write(gateway, os.read(device, 512)))
    descriptors += [gateway, gateway_slave, device, device_slave]
    path = os.ttyname(device_slave)
    return ModbusSerialServer(list(devices), framer=FramerType.RTU, port=path, baudrate=9600), os.ttyname(gateway_slave)
