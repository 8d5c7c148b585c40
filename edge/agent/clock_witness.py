"""The gateway's clock, and how far its wall time is borne out by a second witness.

Two witnesses know time besides the wall: the boot's own monotonic clock, which shows a step (SECURITY.md R10), and the
time in the backend's signed acknowledgements, carried on by the monotonic clock. What an acknowledgement says has
passed: it is a floor, and a wall behind it is not trusted (CONTRACT.md, Clock). With a backend a wall is doubted until
one of this boot agrees with it; without one it is doubted from its first step to the end of the boot. A doubted clock
measures no time across boots (edge.core.units), which is all that the doubt costs. Seconds, milliseconds of the boot.
"""

from edge.core.frozen import quickly
from edge.core.units import CLOCK_STEP_S_MAX, ClockQuality, ClockReading, UnixSeconds, stepped_seconds
from edge.ports import Clock

AGREES_WITHIN_S = 30  # an acknowledgement takes its time through the broker, and comes in whole seconds
MS = 1000

_reading = quickly(ClockReading)


class WitnessedClock:
    """Implements `edge.ports.Clock` over another one. `has_backend`: signed acknowledgements are to be expected."""

    def __init__(self, clock: Clock, has_backend: bool, recorded: ClockReading | None = None) -> None:
        """`recorded` is the newest reading of this boot that the journal knows: a program may start again in it."""
        self._clock, self._has_backend, self._last = clock, has_backend, recorded
        self._stepped = recorded is not None and recorded.doubted
        self._heard_at: UnixSeconds | None = None
        self._heard_elapsed_ms = 0
        self._said: tuple[ClockReading, ClockReading] | None = None  # the last reading, and what was made of it

    def read(self) -> ClockReading:
        """The clock's reading, with the quality and the doubt that the witnesses leave it."""
        reading = self._clock.read()
        if self._said is not None and self._said[0] is reading:
            return self._said[1]
        self._watch(reading)
        said = self._witnessed(reading)
        self._said = (reading, said)
        return said

    def _witnessed(self, reading: ClockReading) -> ClockReading:
        behind_s = self._behind_s(reading)
        doubted = self._stepped if not self._has_backend else behind_s is None or abs(behind_s) > AGREES_WITHIN_S
        if reading.quality.trusted and behind_s is not None and behind_s > AGREES_WITHIN_S:
            return _reading(reading.at, reading.elapsed_ms, reading.boot_id, ClockQuality.FLOOR, doubted)
        return _reading(reading.at, reading.elapsed_ms, reading.boot_id, reading.quality, True) if doubted else reading

    def heard(self, server_at: UnixSeconds) -> None:
        """A signed acknowledgement came, with the backend's time. An older one, or one again, says nothing new."""
        if self._heard_at is None or server_at > self._heard_at:
            self._heard_at, self._heard_elapsed_ms = server_at, self._clock.read().elapsed_ms
            self._said = None

    def _watch(self, reading: ClockReading) -> None:
        last, self._last = self._last, reading
        if last is None or not last.quality.trusted or not reading.quality.trusted:
            return
        put_right = last.quality is ClockQuality.RTC and reading.quality is ClockQuality.NTP
        if not put_right:
            self._stepped = self._stepped or abs(stepped_seconds(last, reading)) > CLOCK_STEP_S_MAX

    def _behind_s(self, reading: ClockReading) -> int | None:
        """How far the wall is behind the backend's time as this boot has carried it on; None before any was heard."""
        if self._heard_at is None:
            return None
        return self._heard_at + (reading.elapsed_ms - self._heard_elapsed_ms) // MS - reading.at
