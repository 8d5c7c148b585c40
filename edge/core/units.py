"""The units of the accounting core, and the quality marks that travel with them.

Energy is integer Wh (reactive: varh), prices are micro-currency per kWh, money is
nano-currency; Wh times micro per kWh is nano, exactly. `at` is wall time in Unix seconds.
Source: RULES.md 1; COSEM Charge.unit_charge_active (IEC 62056-6-2, class_id 113).
"""

from enum import Enum
from typing import NewType

from edge.core.lean import dataclass

WattHours = NewType("WattHours", int)
MoneyNano = NewType("MoneyNano", int)
PriceMicroPerKwh = NewType("PriceMicroPerKwh", int)
UnixSeconds = NewType("UnixSeconds", int)

NANO_PER_UNIT = 1_000_000_000
SECONDS_PER_DAY = 86_400
CLOCK_STEP_S_MAX = 5  # wall and monotonic time differ by no more unless somebody set the clock (SECURITY.md R10)


class ClockQuality(Enum):
    """How far wall time may be believed, best first (CONTRACT.md, Clock)."""

    NTP = "ntp"
    RTC = "rtc"
    FLOOR = "floor"
    UNSET = "unset"

    def __init__(self, value: str) -> None:
        self.trusted = value in ("ntp", "rtc")  # whether decisions that need wall time may use it


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One look at the clock: wall time with its quality, and milliseconds since boot."""

    at: UnixSeconds
    elapsed_ms: int
    boot_id: str
    quality: ClockQuality
    doubted: bool = False  # a second witness is missing, or says otherwise: measures no time across boots

    @property
    def vouched(self) -> bool:
        """Whether time across boots may be measured by it."""
        return self.quality.trusted and not self.doubted


def believed_seconds(since: ClockReading, now: ClockReading) -> int:
    """Seconds from `since` to `now`: monotonic within a boot, else wall time if both ends are vouched for, else 0."""
    if since.boot_id == now.boot_id:
        return max(0, now.elapsed_ms - since.elapsed_ms) // 1000
    if since.vouched and now.vouched:
        return max(0, now.at - since.at)
    return 0


def least_seconds(since: ClockReading, now: ClockReading) -> int:
    """As `believed_seconds`, for a beginning that is never moved on: at least this boot is over since another one."""
    believed_s = believed_seconds(since, now)
    return believed_s if since.boot_id == now.boot_id else max(believed_s, now.elapsed_ms // 1000)


def stepped_seconds(before: ClockReading, after: ClockReading) -> int:
    """How far the wall was set between two readings of one boot, + is forward; 0 across boots, where none can say."""
    if before.boot_id != after.boot_id:
        return 0
    return after.at - before.at - (after.elapsed_ms - before.elapsed_ms) // 1000


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
