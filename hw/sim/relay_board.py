"""Contacts that carry a customer's load, and the Modbus board with eight of them.

Coil on = contact closed = supply on, as with the DDS238's own register. Functions: 1 read coils, 5 write one, 15
write several; anything else is refused. A board keeps its coils while the gateway is away.
"""

from collections.abc import Sequence

from hw.sim.device import ExceptionCode

CHANNELS = 8
READ_COILS, WRITE_SINGLE_COIL, WRITE_MULTIPLE_COILS = 1, 5, 15


class Relay:
    """One contact. A stuck one takes a command, says so, and stays as it is: only the read-back tells."""

    __slots__ = ("closed", "stuck")

    def __init__(self, closed: bool = True) -> None:
        self.closed = closed
        self.stuck = False

    def command(self, closed: bool) -> None:
        """What came over the bus. A hand on the contact sets `closed` itself."""
        if not self.stuck:
            self.closed = closed


class RelayBoard:
    """A device on a line. All contacts start closed: a street is found with its lights on."""

    def __init__(self) -> None:
        self.relays = tuple(Relay() for _ in range(CHANNELS))
        self.silent = False

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        if function_code != READ_COILS:
            return ExceptionCode.ILLEGAL_FUNCTION
        if address + count > CHANNELS:
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        return [int(relay.closed) for relay in self.relays[address : address + count]]

    def write(self, function_code: int, address: int, values: Sequence[int]) -> ExceptionCode | None:
        if function_code not in (WRITE_SINGLE_COIL, WRITE_MULTIPLE_COILS):
            return ExceptionCode.ILLEGAL_FUNCTION
        if address + len(values) > CHANNELS:
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        for relay, value in zip(self.relays[address:], values, strict=False):
            relay.command(bool(value))
        return None
