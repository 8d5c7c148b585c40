"""The accounting clock of a simulated street: real monotonic time, made `speed` times as fast.

Wall time is Unix seconds, monotonic time nanoseconds of CLOCK_MONOTONIC, which all processes of one machine share.
So the street and the agent agree on the time by reading one small file once, without talking, and an agent that was
killed and started again finds the same boot going on. Integers only: two processes never differ by a rounding.
"""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from edge.core.units import ClockQuality, UnixSeconds
from edge.ports import ClockReading
from hw.sim.files import write_json

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MILLISECOND = 1_000_000


def start_clock(path: Path, wall_start_at: int, speed: float, quality: ClockQuality) -> None:
    """Writes the clock file: from now on simulated time runs, beginning at `wall_start_at`.

    Each start is a boot of its own: time since boot begins at 0 again, so the boot must not look like the last one.
    """
    assert speed > 0
    write_json(
        path,
        {
            "wall_start_at": wall_start_at,
            "monotonic_start_ns": time.monotonic_ns(),
            "speed": speed,
            "quality": quality.value,
            "boot_id": uuid.uuid4().hex,
        },
    )


class ScaledClock:
    """Implements `edge.ports.Clock` from a clock file. Every process that reads the file has the same time."""

    def __init__(self, path: Path | str, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Raises OSError when there is no file, ValueError or KeyError when it is not a clock."""
        content = json.loads(Path(path).read_text("utf-8"))
        self._wall_start_at = int(content["wall_start_at"])
        self._monotonic_start_ns = int(content["monotonic_start_ns"])
        self.speed = float(content["speed"])
        self._numerator, self._denominator = self.speed.as_integer_ratio()
        self._quality = ClockQuality(content["quality"])
        self._boot_id = str(content["boot_id"])
        self._monotonic_ns = monotonic_ns

    def read(self) -> ClockReading:
        elapsed_ns = self.elapsed_ns()
        return ClockReading(
            at=UnixSeconds(self._wall_start_at + elapsed_ns // NANOSECONDS_PER_SECOND),
            elapsed_ms=elapsed_ns // NANOSECONDS_PER_MILLISECOND,
            boot_id=self._boot_id,
            quality=self._quality,
        )

    def at(self) -> UnixSeconds:
        """Wall time alone, for whoever asks at every Modbus request."""
        return UnixSeconds(self._wall_start_at + self.elapsed_ns() // NANOSECONDS_PER_SECOND)

    def elapsed_ns(self) -> int:
        """Simulated time since the start of the clock."""
        real_ns = self._monotonic_ns() - self._monotonic_start_ns
        return real_ns * self._numerator // self._denominator

    def real_seconds_until(self, at: int) -> float:
        """How long a script has to wait, in real time, until the clock shows `at`; 0 when it is past."""
        missing_ns = (at - self._wall_start_at) * NANOSECONDS_PER_SECOND - self.elapsed_ns()
        return max(0.0, missing_ns / NANOSECONDS_PER_SECOND / self.speed)
