"""A serial device as a byte port of the event loop: /dev/ttyUSB0, /dev/ttyAMA0, a pseudo-terminal.

pyserial opens the device and sets it raw with its baud rate and format; after that the descriptor is
read and written by the loop itself. One master per device: it is locked for itself (flock) and closed
to others (TIOCEXCL). Source: termios(3), tty_ioctl(4).
"""

import asyncio
import errno
import fcntl
import os
import termios
from collections.abc import Callable

import serial  # type: ignore[import-untyped, unused-ignore]

from edge.ports import BytePort, PortOpener

_READ_BYTES = 512
_PSEUDO_TERMINAL_MAJORS = range(136, 144)  # the kernel's Documentation/admin-guide/devices.txt
_PARITIES = {"N": serial.PARITY_NONE, "E": serial.PARITY_EVEN, "O": serial.PARITY_ODD}


def serial_opener(path: str, baud: int, format: str = "8N1") -> PortOpener:
    """Opens `path` on demand. Raises ValueError at once for a format that does not exist."""
    data_bits, parity, stop_bits = parse_format(format)

    async def open_port(on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        device = _open_device(path, baud, data_bits, parity, stop_bits)
        return SerialPort(path, device, on_bytes, on_lost)

    return open_port


def parse_format(format: str) -> tuple[int, str, int]:
    """8N1 as data bits, parity and stop bits."""
    if len(format) != 3 or format[0] not in "78" or format[1] not in _PARITIES or format[2] not in "12":
        raise ValueError(f"format {format!r}: allowed are 7 or 8, then N, E or O, then 1 or 2, for example 8N1")
    return int(format[0]), _PARITIES[format[1]], int(format[2])


class SerialPort:
    """An open device. Bytes are handed over as they come, in one piece per wake-up."""

    def __init__(
        self, path: str, device: serial.Serial, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]
    ) -> None:
        self._path, self._device, self._on_bytes, self._on_lost = path, device, on_bytes, on_lost
        self._loop = asyncio.get_running_loop()
        self._descriptor: int = device.fileno()
        self._unsent = b""
        self._open = True
        self._loop.add_reader(self._descriptor, self._read)

    def write(self, data: bytes) -> None:
        """Sends all of it, in order; what the driver does not take at once follows when it has room."""
        if not self._open:
            raise OSError(errno.EBADF, f"{self._path} is closed")
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self._send()

    def close(self) -> None:
        """Lets the device go. Nothing is called back after this."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._device.close()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._descriptor, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as problem:
            self._lose(problem.strerror or str(problem))
            return
        if self._unsent:
            self._loop.add_writer(self._descriptor, self._send)
        else:
            self._loop.remove_writer(self._descriptor)

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
            self._lose("the device is gone")

    def _lose(self, reason: str) -> None:
        self.close()
        self._on_lost(f"{self._path}: {reason}")


def _open_device(path: str, baud: int, data_bits: int, parity: str, stop_bits: int) -> serial.Serial:
    try:
        device = serial.Serial(
            path, baud, bytesize=data_bits, parity=parity, stopbits=stop_bits, timeout=0, exclusive=True
        )
    except (serial.SerialException, termios.error, ValueError, OSError) as problem:
        raise _sentence(path, problem) from problem
    try:
        _close_to_others(device.fileno())
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


def _sentence(path: str, problem: BaseException) -> OSError:
    """What went wrong, for a person who stands at the cabinet."""
    number = _error_number(problem)
    if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY):
        return OSError(number, f"{path} is used by another program: a line can have only one master")
    known = {
        errno.ENOENT: "there is no such device; is the adapter plugged in?",
        errno.EACCES: "no permission; the user must be in the group that owns it (often dialout)",
        errno.ENOTTY: "this is not a serial device",
    }
    return OSError(number or errno.EIO, f"{path}: {known.get(number, str(problem))}")


def _error_number(problem: BaseException | None) -> int:
    """The system's error number, which pyserial sometimes leaves in the error it caught; 0 if there is none."""
    while problem is not None:
        number = getattr(problem, "errno", None) or (isinstance(problem, termios.error) and problem.args[0])
        if number:
            return int(number)
        problem = problem.__context__
    return 0
