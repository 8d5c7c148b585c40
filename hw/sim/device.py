"""What the line wants of whatever hangs on it, and the Modbus exceptions a device may answer.

Addresses are the 0-based ones of the wire. Source: MODBUS Application Protocol V1.1b3, chapter 7.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol


class ExceptionCode(IntEnum):
    """The three refusals a simple device knows."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_DATA_ADDRESS = 2
    ILLEGAL_DATA_VALUE = 3


class Device(Protocol):
    """One device id on a line. A silent device does not answer at all, whatever it is asked."""

    silent: bool

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        """Registers (function 3, 4) or bits (1, 2) from `address` on."""
        ...

    def write(self, function_code: int, address: int, values: Sequence[int]) -> ExceptionCode | None:
        """Registers (function 6, 16) or bits (5, 15); None is success."""
        ...
