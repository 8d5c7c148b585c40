"""Who turns an RS-485 line around: the adapter by itself, the kernel's driver, or this program with RTS.

Delays are milliseconds, as the kernel's. The numbers of the calls are those of asm-generic (x86, ARM,
RISC-V). Source: linux/serial.h (struct serial_rs485), tty_ioctl(4).
"""

import errno
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Ioctl = Callable[[int, int, bytes], bytes]

TIOCGRS485: Final = 0x542E
TIOCSRS485: Final = 0x542F
TIOCSERGETLSR: Final = 0x5459
_SETTINGS: Final = struct.Struct("=8I")  # flags, two delays, five words kept for later
_ENABLED, _RTS_ON_SEND, _RTS_AFTER_SEND = 1 << 0, 1 << 1, 1 << 2
_JUDGED: Final = _ENABLED | _RTS_ON_SEND | _RTS_AFTER_SEND
_TRANSMITTER_EMPTY: Final = 1
# What drivers without such a call answer.
_HAS_NOT: Final = (errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

NO_KERNEL_MODE: Final = (
    "the driver of this device has no RS-485 mode; most USB adapters turn the line around by themselves: leave "
    'direction out; where RTS is wired to the transceiver, direction = "rts" is the last resort'
)
OTHER_KERNEL_MODE: Final = (
    "the driver takes the RS-485 mode and not these settings of it; try the other rts_when_sending"
)
NO_RTS: Final = 'this device has no RTS to switch; direction = "rts" needs a UART or an adapter with that line'


@dataclass(frozen=True, slots=True)
class Direction:
    """How the line is turned around. `adapter`: nothing is set; the other fields count for the other two."""

    kind: Literal["adapter", "kernel", "rts"] = "adapter"
    rts_when_sending: Literal["high", "low"] = "high"
    before_ms: int = 0  # from RTS to the first bit
    after_ms: int = 0  # from the last bit to RTS

    @property
    def sends_high(self) -> bool:
        """Whether RTS is asserted while this side sends."""
        return self.rts_when_sending == "high"


ADAPTER: Final = Direction()


def system_ioctl(descriptor: int, call: int, argument: bytes) -> bytes:
    """The system's own; tests give another."""
    return fcntl.ioctl(descriptor, call, argument)


def set_kernel_mode(descriptor: int, direction: Direction, ioctl: Ioctl = system_ioctl) -> None:
    """Leaves the direction to the driver. OSError with a sentence where it cannot, or does otherwise.

    The driver may correct what it is given (it returns what it took), so the answer is read back.
    """
    flags = _ENABLED | (_RTS_ON_SEND if direction.sends_high else _RTS_AFTER_SEND)
    wanted = _SETTINGS.pack(flags, direction.before_ms, direction.after_ms, 0, 0, 0, 0, 0)
    try:
        ioctl(descriptor, TIOCSRS485, wanted)
        taken = _SETTINGS.unpack(ioctl(descriptor, TIOCGRS485, bytes(_SETTINGS.size)))
    except OSError as problem:
        if problem.errno in _HAS_NOT:
            raise OSError(problem.errno, NO_KERNEL_MODE) from problem
        raise
    if taken[0] & _JUDGED != flags:
        raise OSError(errno.EINVAL, OTHER_KERNEL_MODE)


def set_rts(descriptor: int, high: bool, ioctl: Ioctl = system_ioctl) -> None:
    """Moves RTS. OSError with a sentence where there is none."""
    call = termios.TIOCMBIS if high else termios.TIOCMBIC
    try:
        ioctl(descriptor, call, struct.pack("@i", termios.TIOCM_RTS))
    except OSError as problem:
        if problem.errno in _HAS_NOT:
            raise OSError(problem.errno, NO_RTS) from problem
        raise


def bytes_unsent(descriptor: int, ioctl: Ioctl = system_ioctl) -> int:
    """What still waits in the driver, or 1 for a character that is just leaving the UART."""
    waiting: int = struct.unpack("@i", ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]
    if waiting:
        return waiting
    try:
        state: int = struct.unpack("@I", ioctl(descriptor, TIOCSERGETLSR, bytes(4)))[0]
    except OSError:  # a driver that cannot say: the caller has waited as long as the bytes take
        return 0
    return 0 if state & _TRANSMITTER_EMPTY else 1
