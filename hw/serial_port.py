"""A serial device as a byte port of the event loop: /dev/ttyUSB0, /dev/ttyAMA0, a pseudo-terminal.

pyserial opens the device and sets it raw with its baud rate and format; after that the descriptor is
read and written by the loop itself. One master per device: it is locked for itself (flock) and closed
to others (TIOCEXCL). Who turns an RS-485 line around is told by a Direction. Times are seconds of the
loop. Source: termios(3), tty_ioctl(4).
"""

import asyncio
import errno
import fcntl
import os
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import serial  # type: ignore[import-untyped, unused-ignore]

from edge.ports import BytePort, PortOpener
from hw.rs485 import (
    ADAPTER,
    NO_KERNEL_MODE,
    NO_RTS,
    OTHER_KERNEL_MODE,
    Direction,
    Ioctl,
    bytes_unsent,
    set_kernel_mode,
    set_rts,
    system_ioctl,
)
from hw.serial_facts import NO_PARITY, SYSFS, serial_facts

_READ_BYTES = 512
_PSEUDO_TERMINAL_MAJORS = range(136, 144)  # the kernel's Documentation/admin-guide/devices.txt
_PARITIES = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}
_USED = "is used by another program: a line can have only one master"
_KNOWN = {
    errno.ENOENT: "there is no such device; is the adapter plugged in?",
    errno.EACCES: "no permission; the user must be in the group that owns it (often dialout)",
    errno.ENOTTY: "this is not a serial device",
}
_GONE = "the device is gone"
_ABOUT_DIRECTION = (NO_KERNEL_MODE, OTHER_KERNEL_MODE, NO_RTS)
_BITS_PER_BYTE = 11
_MS = 1_000


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """A device and how it is set. ValueError for a format that does not exist."""

    path: str
    baud: int
    format: str = "8N1"
    direction: Direction = ADAPTER

    def __post_init__(self) -> None:
        parse_format(self.format)


def serial_opener(
    path: str,
    baud: int,
    format: str = "8N1",
    direction: Direction = ADAPTER,
    sysfs: Path = SYSFS,
    ioctl: Ioctl = system_ioctl,
) -> PortOpener:
    """Opens `path` on demand. Raises ValueError at once for a format that does not exist."""
    settings = SerialSettings(path, baud, format, direction)

    async def open_port(on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        device = _open_device(settings, sysfs, ioctl)
        turn = _RtsTurn(device.fileno(), settings, ioctl) if direction.kind == "rts" else None
        return SerialPort(path, device, on_bytes, on_lost, turn)

    return open_port


def parse_format(format: str) -> tuple[int, str, int]:
    """8N1 as data bits, parity and stop bits. Modbus RTU needs all 8 bits."""
    if len(format) != 3 or format[0] != "8" or format[1] not in _PARITIES or format[2] not in "12":
        raise ValueError(f"format {format!r}: allowed are 8, then N, E or O, then 1 or 2, for example 8N1")
    return int(format[0]), _PARITIES[format[1]], int(format[2])


class SerialPort:
    """An open device. Bytes are handed over as they come, in one piece per wake-up."""

    def __init__(
        self,
        path: str,
        device: serial.Serial,
        on_bytes: Callable[[bytes], None],
        on_lost: Callable[[str], None],
        turn: "_RtsTurn | None" = None,
    ) -> None:
        self._path, self._device, self._on_bytes, self._on_lost = path, device, on_bytes, on_lost
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._descriptor: int = device.fileno()
        self._unsent = b""
        self._open = True
        self._writer_waits = False
        # A loop made for lines reads them itself and sends requests at their time; any other does as ever. Who moves
        # RTS must send himself.
        self.wire: Any = None
        if turn is None and (wire_of := getattr(self._loop, "line_wire", None)) is not None:
            self.wire = wire_of(self._descriptor, on_bytes, self._send_on, self._lose_by)
        if self.wire is None:
            self._loop.add_reader(self._descriptor, self._read)

    def write(self, data: bytes) -> None:
        """Sends all of it, in order; what the driver does not take at once follows when it has room."""
        if not self._open:
            raise OSError(errno.EBADF, f"{self._path} is closed")
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        if self._turn is None:
            self._send()
        else:
            self._turn.to_sending(self._send, self._lose)

    def close(self) -> None:
        """Lets the device go. Nothing is called back after this."""
        if not self._open:
            return
        self._open = False
        if self._turn is not None:
            self._turn.close()
        if self.wire is None:
            self._loop.remove_reader(self._descriptor)
        else:
            self._loop.close_line_wire(self._descriptor, self.wire)  # type: ignore[attr-defined]
        if self._writer_waits:
            self._loop.remove_writer(self._descriptor)
        self._device.close()

    def _send(self) -> None:
        try:
            taken = os.write(self._descriptor, self._unsent)
            self._unsent = self._unsent[taken:]
            if self._turn is not None:
                self._turn.to_listening_after(taken)
        except BlockingIOError:
            pass
        except OSError as problem:
            self._lose(problem.strerror or str(problem))
            return
        if self._unsent:
            self._loop.add_writer(self._descriptor, self._send)
            self._writer_waits = True
        elif self._writer_waits:
            self._loop.remove_writer(self._descriptor)
            self._writer_waits = False

    def _send_on(self, unsent: bytes) -> None:
        """The wire could not send all of a request."""
        self._unsent += unsent
        self._send()

    def _lose_by(self, problem: int) -> None:
        self._lose(os.strerror(problem) if problem else _GONE)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as problem:
            self._lose(problem.strerror or str(problem))
            return
        if data:
            self._on_bytes(data)
        else:
            self._lose(_GONE)

    def _lose(self, reason: str) -> None:
        self.close()
        self._on_lost(f"{self._path}: {reason}")


class _RtsTurn:
    """RTS moved by the loop's timers: up before the first bit, down after the last one has left the UART.

    A timer fires late on a busy machine and never early, so no request is cut off; an answer may be.
    """

    def __init__(self, descriptor: int, settings: SerialSettings, ioctl: Ioctl) -> None:
        self._descriptor, self._direction, self._ioctl = descriptor, settings.direction, ioctl
        self._byte_s = _BITS_PER_BYTE / settings.baud
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._lose: Callable[[str], None] = lambda reason: None

    def to_sending(self, send: Callable[[], None], lose: Callable[[str], None]) -> None:
        """Takes the line, and calls `send` when the transceiver is ready."""
        self._lose = lose
        self.close()
        if self._move(self._direction.sends_high):
            if self._direction.before_ms:
                self._timer = self._loop.call_later(self._direction.before_ms / _MS, send)
            else:
                send()

    def to_listening_after(self, length: int) -> None:
        """Gives the line back when these bytes, and whatever is before them, are out."""
        self.close()
        self._timer = self._loop.call_later(length * self._byte_s, self._look)

    def close(self) -> None:
        """Moves nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        try:
            unsent = bytes_unsent(self._descriptor, self._ioctl)
        except OSError as problem:
            self._lose(problem.strerror or str(problem))
            return
        if unsent:
            self._timer = self._loop.call_later(unsent * self._byte_s, self._look)
        elif self._direction.after_ms:
            listen = partial(self._move, not self._direction.sends_high)
            self._timer = self._loop.call_later(self._direction.after_ms / _MS, listen)
        else:
            self._move(not self._direction.sends_high)

    def _move(self, high: bool) -> bool:
        try:
            set_rts(self._descriptor, high, self._ioctl)
        except OSError as problem:
            self._lose(problem.strerror or str(problem))
            return False
        return True


def _open_device(settings: SerialSettings, sysfs: Path, ioctl: Ioctl) -> serial.Serial:
    path, direction = settings.path, settings.direction
    data_bits, parity, stop_bits = parse_format(settings.format)
    if parity != serial.PARITY_NONE and serial_facts(path, sysfs).is_mini_uart:
        raise OSError(errno.EINVAL, f"{path}: {NO_PARITY}")
    if _is_pseudo_terminal(path):
        parity = serial.PARITY_NONE  # it has no wire; where all else is set already, asking for parity is an error
    device = serial.Serial(
        None, settings.baud, bytesize=data_bits, parity=parity, stopbits=stop_bits, timeout=0, exclusive=True
    )
    device.port = path
    if direction.kind == "rts":
        device.rts = not direction.sends_high  # so that opening does not take the line
    try:
        device.open()
    except (serial.SerialException, termios.error, ValueError, OSError) as problem:
        raise _sentence(path, problem) from problem
    try:
        _close_to_others(device.fileno())
        if direction.kind == "kernel":
            set_kernel_mode(device.fileno(), direction, ioctl)
        elif direction.kind == "rts":
            set_rts(device.fileno(), not direction.sends_high, ioctl)
        device.reset_input_buffer()
    except (termios.error, OSError) as problem:
        device.close()
        raise _sentence(path, problem) from problem
    return device


def _close_to_others(descriptor: int) -> None:
    """flock keeps out only those who ask; TIOCEXCL also keeps out a plain open by another user.

    Its mark lasts until the last close of the device, and of a pseudo-terminal the other side may keep
    the device open: there a killed gateway could never come back, so flock has to do.
    """
    if os.major(os.fstat(descriptor).st_rdev) not in _PSEUDO_TERMINAL_MAJORS:
        fcntl.ioctl(descriptor, termios.TIOCEXCL)


def _is_pseudo_terminal(path: str) -> bool:
    try:
        return os.major(os.stat(path).st_rdev) in _PSEUDO_TERMINAL_MAJORS
    except OSError:
        return False


def _sentence(path: str, problem: BaseException) -> OSError:
    """What went wrong, for a person who stands at the cabinet."""
    if isinstance(problem, OSError) and problem.strerror in _ABOUT_DIRECTION:
        return OSError(problem.errno, f"{path}: {problem.strerror}")
    number = _error_number(problem)
    if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY):
        return OSError(number, f"{path} {_USED}")
    return OSError(number or errno.EIO, f"{path}: {_KNOWN.get(number, str(problem))}")


def _error_number(problem: BaseException | None) -> int:
    """The system's error number, which pyserial sometimes leaves in the error it caught; 0 if there is none."""
    while problem is not None:
        number = getattr(problem, "errno", None) or (isinstance(problem, termios.error) and problem.args[0])
        if number:
            return int(number)
        problem = problem.__context__
    return 0
