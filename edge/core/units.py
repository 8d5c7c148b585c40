"""The units of the accounting core, and the quality marks that travel with them.

Energy is integer Wh (reactive: varh), prices are micro-currency per kWh, money is
nano-currency; Wh times micro per kWh is nano, exactly. `at` is wall time in Unix seconds.
Source: RULES.md 1; COSEM Charge.unit_charge_active (IEC 62056-6-2, class_id 113).
"""

from dataclasses import dataclass
from enum import Enum
from typing import NewType

WattHours = NewType("WattHours", int)
MoneyNano = NewType("MoneyNano", int)
PriceMicroPerKwh = NewType("PriceMicroPerKwh", int)
UnixSeconds = NewType("UnixSeconds", int)

NANO_PER_UNIT = 1_000_000_000
SECONDS_PER_DAY = 86_400


class ClockQuality(Enum):
    """How far wall time may be believed, best first (CONTRACT.md, Clock)."""

    NTP = "ntp"
    RTC = "rtc"
    FLOOR = "floor"
    UNSET = "unset"

    @property
    def trusted(self) -> bool:
        """Whether decisions that need wall time may use it."""
        return self in (ClockQuality.NTP, ClockQuality.RTC)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One look at the clock: wall time with its quality, and milliseconds since boot."""

    at: UnixSeconds
    elapsed_ms: int
    boot_id: str
    quality: ClockQuality


def believed_seconds(since: ClockReading, now: ClockReading) -> int:
    """Seconds from `since` to `now`: monotonic within a boot, else wall time if both ends are trusted, else 0."""
    if since.boot_id == now.boot_id:
        return max(0, now.elapsed_ms - since.elapsed_ms) // 1000
    if since.quality.trusted and now.quality.trusted:
        return max(0, now.at - since.at)
    return 0


class FreezeQuality(Enum):
    """Where a frozen register came from (RULES.md 2)."""

    METER_FREEZE = "meter_freeze"
    GATEWAY_SAMPLE = "gateway_sample"
    INTERPOLATED = "interpolated"


def round_half_away(amount: int, step: int) -> int:
    """`amount` as a whole number of `step`s, half away from zero. Used once per bill."""
    assert step > 0
    whole, rest = divmod(abs(amount), step)
    whole += 2 * rest >= step
    return whole if amount >= 0 else -whole
