"""A line whose bytes take their time, inside the event loop of whoever reads it.

A byte takes `bits_per_byte` bits of the baud rate, a meter answers `turnaround_s` after the end of the request, and
the limit is T = (8 + 5 + 2n) c / baud + max(turnaround, t3.5) + t3.5 for n registers. Seconds of the loop. On a virtual
loop only the waiting that the master itself decides on counts, and twice the same run gives twice the same figure.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.bus.frame import crc16
from edge.core.units import ClockQuality, UnixSeconds
from edge.ports import BytePort, ClockReading

BITS_PER_BYTE = 11  # start, 8 data, parity or a second stop bit, stop
REQUEST_BYTES = 8
ANSWER_OVERHEAD_BYTES = 5
ROUNDING_S = 1e-9
READ_COILS, WRITE_COIL = 1, 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a line and its meters are."""

    baud: int
    turnaround_s: float
    bits_per_byte: int = BITS_PER_BYTE

    @property
    def byte_s(self) -> float:
        return self.bits_per_byte / self.baud

    @property
    def gap_s(self) -> float:
        """t3.5: 3.5 characters of 11 bits up to 19,200 baud, 1.75 ms above (Modbus over Serial Line V1.02, 2.5.1.1)."""
        return 3.5 * BITS_PER_BYTE / self.baud if self.baud <= 19_200 else 0.00175

    def limit_s(self, wire_bytes: int) -> float:
        """The shortest time from the start of one request to the start of the next."""
        return wire_bytes * self.byte_s + max(self.turnaround_s, self.gap_s) + self.gap_s


@dataclass(slots=True)
class Tally:
    """What passed over the line."""

    requests: int = 0
    unanswered: int = 0
    limit_s: float = 0.0  # of all exchanges before the latest request
    latest_at: float = 0.0  # when the latest request began
    latest_limit_s: float = 0.0  # and the least time it takes
    gaps_broken: int = 0
    writes_at: list[float] = field(default_factory=list)


class PacedWire:
    """A port with meters behind it. `dead` device ids never answer; every `spoil_every`-th answer has a bad CRC."""

    def __init__(self, pace: Pace, dead: frozenset[int] = frozenset(), spoil_every: int = 0) -> None:
        self.pace, self.dead, self.spoil_every = pace, dead, spoil_every
        self.tally = Tally()
        self._coils: dict[int, bool] = {}
        self._quiet_at = 0.0
        self._answered = 0

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        self._loop, self._on_bytes = asyncio.get_running_loop(), on_bytes
        return self

    def write(self, data: bytes) -> None:
        now, tally = self._loop.time(), self.tally
        tally.requests += 1
        tally.limit_s += tally.latest_limit_s
        tally.latest_at, tally.latest_limit_s = now, 0.0
        tally.gaps_broken += bool(self._quiet_at) and now < self._quiet_at + self.pace.gap_s - ROUNDING_S
        sent_at = now + len(data) * self.pace.byte_s
        if data[1] == WRITE_COIL:
            tally.writes_at.append(now)
        if data[0] in self.dead:
            tally.unanswered += 1
            self._quiet_at = sent_at
            return
        answer = self._answer(data)
        tally.latest_limit_s = self.pace.limit_s(len(data) + len(answer))
        wait_s = max(self.pace.turnaround_s, self.pace.gap_s) + len(answer) * self.pace.byte_s
        self._quiet_at = sent_at + wait_s
        self._loop.call_at(self._quiet_at, self._on_bytes, answer)

    def close(self) -> None:
        """Nothing to let go."""

    def _answer(self, data: bytes) -> bytes:
        device_id, function_code, address, count = struct.unpack_from(">BBHH", data)
        if function_code == WRITE_COIL:
            self._coils[address] = count != 0
            return data
        if function_code == READ_COILS:
            bits = sum(self._coils.get(address + index, True) << index for index in range(count))
            values = bits.to_bytes((count + 7) // 8, "little")
        else:
            values = bytes(2 * count)
        body = bytes((device_id, function_code, len(values))) + values
        self._answered += 1
        spoiled = self.spoil_every and self._answered % self.spoil_every == 0
        return body + (crc16(body) ^ bool(spoiled)).to_bytes(2, "little")


class LoopClock:
    """The accounting clock of a loop: what it has run so far, from an arbitrary day on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def read(self) -> ClockReading:
        elapsed_ms = int(self._loop.time() * 1000)
        return ClockReading(UnixSeconds(1_700_000_000 + elapsed_ms // 1000), elapsed_ms, "boot", ClockQuality.NTP)
