"""The supply command of DL/T 645-2007: trip and close by a meter's own relay, control code 1C.

The command ends by itself: `valid_until` is the meter's own clock. That a meter answered is no proof that
its relay moved: read status word 3 back. Source: DL/T 645-2007 clause 7.10 and its 2010 supplement (DL/T
645 fee control); data before the offset: password level and password, operator code, N1 command, N2
reserved, N3..N8 end of validity as ss mm hh DD MM YY in BCD.
"""

from datetime import datetime
from enum import IntEnum

from edge.dlt645.authority import Authority
from edge.dlt645.frame import Request, control_request


class SupplyCommand(IntEnum):
    """N1. Names are those of the fee-control tables (RULES.md 10)."""

    TRIP = 0x1A
    CLOSE_ALLOWED = 0x1B  # the customer presses the key
    DIRECT_CLOSE = 0x1C
    ALARM = 0x2A
    ALARM_END = 0x2B
    KEEP_SUPPLY = 0x3A
    KEEP_SUPPLY_END = 0x3B


def supply_request(address: str, command: SupplyCommand, authority: Authority, valid_until: datetime) -> Request:
    """The request that commands a meter's relay. `valid_until` is local time as the meter's clock shows it."""
    password = bytes((authority.level,)) + bytes.fromhex(authority.password)[::-1]
    end = bytes.fromhex(valid_until.strftime("%S%M%H%d%m%y"))
    return control_request(address, password + bytes.fromhex(authority.operator)[::-1] + bytes((command, 0)) + end)
