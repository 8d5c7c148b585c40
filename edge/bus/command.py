"""How a relay is told to switch, by the protocol of its line: the requests, and how the last of them ended.

No I/O. What a meter answers to a command proves nothing; whoever commands reads back.
"""

from collections.abc import Generator
from typing import Final

from edge.bus.frame import Framing
from edge.bus.records import RelayOnLine
from edge.bus.transaction import Ask, Outcome
from edge.meters.model import RelaySpec
from edge.meters.records import CONTROL_SUPPLY, READ_DATA

METER_CLOCK: Final = "meter_clock"  # it shows no moment, so no command can be given an end
_TIME_OCTETS, _DATE_OCTETS = 3, 4


def commanded(
    framing: Framing, relay: RelayOnLine, spec: RelaySpec, closed: bool, gap_s: float
) -> Generator[Ask, Outcome, Outcome]:
    """Asks what must be asked to switch a relay; returns the outcome of the request that ended it."""
    words, address = spec.command_words(closed), spec.command_address + relay.channel
    allowed = relay.model.allows_write(spec.command_function_code, address, len(words))
    assert allowed, f"{relay.model.id}: a write to {address:#06x} is not on the allow-list"
    if spec.command_function_code == CONTROL_SUPPLY:
        return (yield from _supplied(framing, relay, words[0], gap_s))
    return (yield Ask(framing.write(relay.device_id, spec.command_function_code, address, words), gap_s))


def _supplied(framing: Framing, relay: RelayOnLine, command: int, gap_s: float) -> Generator[Ask, Outcome, Outcome]:
    """DL/T 645: a command ends by the meter's own clock, so that is read first, the time before the date."""
    from edge.bus.dlt645 import METER_DATE, METER_TIME, Dlt645Framing, meter_clock

    assert isinstance(framing, Dlt645Framing)
    assert relay.authority is not None, f"relay {relay.relay_id}: nobody may command it"
    time = yield Ask(framing.read(relay.device_id, READ_DATA, METER_TIME, _TIME_OCTETS), gap_s)
    if time.reason is not None:
        return time
    date = yield Ask(framing.read(relay.device_id, READ_DATA, METER_DATE, _DATE_OCTETS), gap_s)
    if date.reason is not None:
        return date
    clock = meter_clock(time.words, date.words)
    if clock is None:
        return Outcome(date.request, METER_CLOCK, (), sent=False)
    return (yield Ask(framing.supply(relay.device_id, command, relay.authority, clock), gap_s))
