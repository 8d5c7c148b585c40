"""Real ports: a pseudo-terminal and a socket, one master each, and sentences a person can act on."""

import asyncio
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.frame import MBAP
from edge.bus.line import LineMaster, LineSettings, MeterOnLine, MeterSample
from edge.meters.model import load_model
from hw.serial_port import parse_format, serial_opener
from hw.socket_port import opener_for, socket_opener

WAIT_S = 5.0
TIOCGEXCL = 0x80045440  # asm-generic/ioctls.h; not in Python's termios
Wait = Callable[[asyncio.Future[Any]], Awaitable[Any]]


class Heard:
    """What a port calls back."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._came = asyncio.Event()

    def on_bytes(self, data: bytes) -> None:
        self.data += data
        self._came.set()

    def on_lost(self, reason: str) -> None:
        self.lost.set_result(reason)

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(WAIT_S):
            while self.data != wanted:
                self._came.clear()
                await self._came.wait()


def test_bytes_go_through_a_pseudo_terminal_unchanged_both_ways() -> None:
    async def story() -> None:
        master, slave = os.openpty()  # not raw: the port must make it so
        heard = Heard()
        port = await serial_opener(os.ttyname(slave), 9600)(heard.on_bytes, heard.on_lost)
        every_byte = bytes(range(256))
        os.write(master, every_byte)
        await heard.until(every_byte)
        port.write(every_byte)
        port.write(b"\x11\x13")
        got = b""
        while len(got) < 258:
            got += os.read(master, 512)
        assert got == every_byte + b"\x11\x13"
        port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_a_serial_port_has_the_speed_and_format_asked_for() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        heard = Heard()
        port = await serial_opener(os.ttyname(slave), 19_200, "8N2")(heard.on_bytes, heard.on_lost)
        _, _, control, local, _, speed, _ = termios.tcgetattr(slave)
        assert speed == termios.B19200
        assert control & termios.CSTOPB
        assert not local & (termios.ECHO | termios.ICANON)
        port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_a_pseudo_terminal_is_opened_again_with_parity_which_it_has_not() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        heard = Heard()
        for _ in range(3):
            port = await serial_opener(os.ttyname(slave), 2400, "8E1")(heard.on_bytes, heard.on_lost)
            assert termios.tcgetattr(slave)[5] == termios.B2400
            port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_a_second_master_is_refused_and_told_why() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        heard, path = Heard(), os.ttyname(slave)
        port = await serial_opener(path, 9600)(heard.on_bytes, heard.on_lost)
        with pytest.raises(OSError, match="is used by another program: a line can have only one master"):
            await serial_opener(path, 9600)(heard.on_bytes, heard.on_lost)
        port.close()
        again = await serial_opener(path, 9600)(heard.on_bytes, heard.on_lost)
        again.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_a_gateway_that_was_killed_can_open_its_line_again() -> None:
    program = """
import asyncio, os, signal, sys
from hw.serial_port import serial_opener
async def main():
    await serial_opener(sys.argv[1], 9600)(print, print)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""

    async def story() -> None:
        master, slave = os.openpty()
        killed = subprocess.run([sys.executable, "-c", program, os.ttyname(slave)], check=False)
        assert killed.returncode == -signal.SIGKILL
        heard = Heard()
        port = await serial_opener(os.ttyname(slave), 9600)(heard.on_bytes, heard.on_lost)
        exclusive = struct.unpack("i", fcntl.ioctl(slave, TIOCGEXCL, struct.pack("i", 0)))[0]
        assert not exclusive  # it would outlive a killed gateway for as long as the other side holds the device
        port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_a_device_that_goes_away_is_reported_once() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        heard, path = Heard(), os.ttyname(slave)
        port = await serial_opener(path, 9600)(heard.on_bytes, heard.on_lost)
        os.close(master)
        reason = await asyncio.wait_for(heard.lost, WAIT_S)
        assert reason.startswith(f"{path}: ")
        with pytest.raises(OSError, match="is closed"):
            port.write(b"x")
        port.close()
        os.close(slave)

    asyncio.run(story())


def test_what_waits_from_before_the_opening_is_thrown_away() -> None:
    async def story() -> None:
        master, slave = os.openpty()
        os.write(master, b"stale\n")
        heard = Heard()
        port = await serial_opener(os.ttyname(slave), 9600)(heard.on_bytes, heard.on_lost)
        os.write(master, b"\x01\x02")
        await heard.until(b"\x01\x02")
        assert heard.data == b"\x01\x02"
        port.close()
        os.close(master)
        os.close(slave)

    asyncio.run(story())


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path: Path) -> None:
    async def story() -> None:
        heard = Heard()
        (tmp_path / "notes.txt").write_text("no adapter")
        for name, sentence in [("ttyUSB9", "there is no such device"), ("notes.txt", "this is not a serial device")]:
            with pytest.raises(OSError, match=f"{name}: {sentence}"):
                await serial_opener(str(tmp_path / name), 9600)(heard.on_bytes, heard.on_lost)

    asyncio.run(story())


@pytest.mark.parametrize("text", ["8N3", "9N1", "8X1", "", "8N", "8n1"])
def test_a_format_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example 8N1"):
        parse_format(text)


@pytest.mark.parametrize(
    "address",
    ["ttyUSB0", "", "tcp://", "tcp://host", "tcp://:502", "udp://host:502", "tcp://host:port", "tcp://host:502/x",
     "rtu+tcp://host:0", "tcp://me@host:502", "tcp://host:70000"],
)  # fmt: skip
def test_a_bad_address_is_refused_with_what_is_allowed(address: str) -> None:
    with pytest.raises(ValueError, match=rf"line address {re.escape(repr(address))}: .*tcp://host:port.*rtu\+tcp"):
        opener_for(address, 9600)


@asynccontextmanager
async def modbus_tcp_slave(slave: Any) -> AsyncIterator[int]:
    """A scripted slave behind a socket; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent := await reader.read(512):
            for _, data in slave.answer(sent):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(("scheme", "tcp"), [("tcp", True), ("rtu+tcp", False)])
def test_a_meter_is_read_through_a_socket_in_both_framings(wire: SimpleNamespace, scheme: str, tcp: bool) -> None:
    async def story() -> None:
        slave = wire.Slave(MBAP) if tcp else wire.Slave()
        slave.hold_float(4, 0x48, 12.5)
        async with modbus_tcp_slave(slave) as port:
            address = f"{scheme}://127.0.0.1:{port}"
            got: asyncio.Future[MeterSample] = asyncio.get_running_loop().create_future()
            master = LineMaster(
                LineSettings("line1", address),
                [MeterOnLine("m1", 7, load_model("eastron_sdm120"), 14_000)],
                [],
                opener_for(address, 9600),
                wire.LoopClock(),
                got.set_result,
                print,
            )
            task = asyncio.ensure_future(master.run())
            sample = await asyncio.wait_for(got, WAIT_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert sample.register_wh == 12_500
            assert master.view().polls_failed == 0

    asyncio.run(story())


def test_a_server_that_hangs_up_is_a_lost_port(wire: SimpleNamespace) -> None:
    async def story() -> None:
        heard = Heard()

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        number = server.sockets[0].getsockname()[1]
        port = await socket_opener("127.0.0.1", number)(heard.on_bytes, heard.on_lost)
        reason = await asyncio.wait_for(heard.lost, WAIT_S)
        assert reason == f"127.0.0.1:{number}: the other side closed the connection"
        with pytest.raises(OSError, match="not connected"):
            port.write(b"x")
        server.close()

    asyncio.run(story())


def test_a_refused_connection_is_said_in_a_sentence() -> None:
    async def story() -> None:
        heard = Heard()
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        number = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        with pytest.raises(OSError, match=f"127.0.0.1:{number}: Connection refused"):
            await socket_opener("127.0.0.1", number)(heard.on_bytes, heard.on_lost)

    asyncio.run(story())


def test_a_line_of_a_missing_device_says_so_and_keeps_trying(tmp_path: Path, wire: SimpleNamespace) -> None:
    async def story() -> None:
        path = str(tmp_path / "ttyUSB0")
        master = LineMaster(LineSettings("line1", path), [], [], opener_for(path, 9600), wire.LoopClock(), print, print)
        task = asyncio.ensure_future(master.run())
        while master.view().last_error is None:
            await asyncio.sleep(0)
        assert "no such device" in (master.view().last_error or "")
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
