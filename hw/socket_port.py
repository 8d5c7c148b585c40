"""A TCP connection to a Modbus server or a serial device server as a byte port of the event loop.

Reading goes through one small buffer made once: asyncio's plain protocol allocates 256 KiB for each
read. Also chooses the kind of port for an address: a device path, tcp://host:port (Modbus TCP) or
rtu+tcp://host:port (RTU frames through a transparent server).
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from edge.ports import BytePort, PortOpener
from hw.line_words import in_language
from hw.rs485 import ADAPTER, Direction
from hw.serial_facts import SYSFS, LineWarning, serial_warnings
from hw.serial_port import serial_opener

__all__ = ["Direction", "LineWarning", "SocketPort", "in_language", "line_warnings", "opener_for", "socket_opener"]

_BUFFER_BYTES = 512
_CONNECT_S_MAX = 5.0
# A server that was switched off says nothing: without this the kernel goes on trying for a quarter of an hour.
_UNACKNOWLEDGED_MS_MAX = 10_000
_KEEPALIVE_IDLE_S, _KEEPALIVE_EVERY_S = 10, 5
_SCHEMES = ("tcp", "rtu+tcp")
_NO_CONNECTION = f"no connection within {_CONNECT_S_MAX:.0f} seconds"
_HUNG_UP = "the other side closed the connection"


def opener_for(address: str, baud: int, format: str = "8N1", direction: Direction = ADAPTER) -> PortOpener:
    """The opener for a line's address. Raises ValueError with a sentence for an address of no known form."""
    if "://" not in address:
        if not address.startswith("/"):
            raise _bad_address(address, "a device is given with its whole path")
        return serial_opener(address, baud, format, direction)
    from urllib.parse import urlsplit  # half a megabyte, which serial lines do without

    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as problem:
        raise _bad_address(address, str(problem)) from problem
    if parts.scheme not in _SCHEMES:
        raise _bad_address(address, f"{parts.scheme}:// is not known")
    if not host or not port or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise _bad_address(address, "host and port are needed, and nothing else")
    return socket_opener(host, port)


def line_warnings(
    address: str, format: str = "8N1", direction: Direction = ADAPTER, sysfs: Path = SYSFS
) -> tuple[LineWarning, ...]:
    """What a technician should know about a line that can be used; nothing for a device that is not there."""
    return () if "://" in address else serial_warnings(address, format, direction, sysfs)


def socket_opener(host: str, port: int) -> PortOpener:
    """Connects on demand, within 5 seconds or not at all."""

    async def open_port(on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        loop = asyncio.get_running_loop()
        where = f"{host}:{port}"
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                _, socket_port = await loop.create_connection(lambda: SocketPort(where, on_bytes, on_lost), host, port)
        except TimeoutError as problem:
            raise OSError(errno.ETIMEDOUT, f"{where}: {_NO_CONNECTION}") from problem
        except OSError as problem:
            known = os.strerror(problem.errno) if problem.errno and problem.errno > 0 else str(problem)
            raise OSError(problem.errno or errno.EIO, f"{where}: {known}") from problem
        return socket_port

    return open_port


class SocketPort(asyncio.BufferedProtocol):
    """An open connection."""

    def __init__(self, where: str, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._where, self._on_bytes, self._on_lost = where, on_bytes, on_lost
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        _notice_silence(transport.get_extra_info("socket"))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport is not None:
            self._on_bytes(bytes(self._buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._on_lost(f"{self._where}: {exc or _HUNG_UP}")

    def write(self, data: bytes) -> None:
        if self._transport is None:
            raise OSError(errno.ENOTCONN, f"{self._where}: not connected")
        self._transport.write(data)

    def close(self) -> None:
        """Drops the connection. Nothing is called back after this."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


def _notice_silence(connection: socket.socket) -> None:
    """A connection whose other end is gone without a word is given up, while talking and while not."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS_MAX)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_EVERY_S)


def _bad_address(address: str, why: str) -> ValueError:
    return ValueError(
        f"line address {address!r}: {why}; allowed: /dev/ttyUSB0 (a serial device), tcp://host:port (Modbus TCP), "
        "rtu+tcp://host:port (RTU through a transparent server)"
    )
