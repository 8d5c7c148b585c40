"""True time of the world, and what the gateway's clock makes of it.

True time is milliseconds since the world began: what the loop has run, and what was skipped because
nothing happened. The gateway sees wall time with an offset and a quality, and time since its boot.
"""

import asyncio

from edge.core.frozen import quickly
from edge.core.units import ClockQuality, ClockReading, UnixSeconds

START_AT = 1_772_380_800  # Monday 2026-03-02 00:00 in Asia/Shanghai
MS = 1000


_reading = quickly(ClockReading)


class WorldClock:
    """Implements `edge.ports.Clock` for the gateway, and keeps the truth beside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._skipped_ms = 0
        self.boot_ms = 0
        self.boots = 0
        self.offset_s = 0
        self.quality = ClockQuality.NTP
        self._read: tuple[tuple[int, int, ClockQuality, int], ClockReading] | None = None

    def true_ms(self) -> int:
        """Milliseconds since the world began."""
        return round(self._loop.time() * MS) + self._skipped_ms

    def true_at(self) -> int:
        """Unix seconds as they really are."""
        return START_AT + self.true_ms() // MS

    def skip_to(self, true_ms: int) -> None:
        """Lets quiet time pass at once. The loop's time, and with it every timer, stays where it is."""
        self._skipped_ms += max(0, true_ms - self.true_ms())

    def boot(self) -> None:
        """The gateway starts: time since boot begins anew."""
        self.boots += 1
        self.boot_ms = self.true_ms()

    def read(self) -> ClockReading:
        """What the gateway sees. It looks again and again while no time passes."""
        true_ms = self.true_ms()
        seen = (true_ms, self.offset_s, self.quality, self.boots)
        if self._read is None or self._read[0] != seen:
            at = UnixSeconds(START_AT + true_ms // MS + self.offset_s)
            self._read = (seen, _reading(at, true_ms - self.boot_ms, f"boot-{self.boots}", self.quality))
        return self._read[1]
