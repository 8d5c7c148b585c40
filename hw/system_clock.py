"""The clock of a real gateway: wall time with how far it may be believed, and time since boot.

Quality: `ntp` while the kernel says the clock is disciplined (adjtimex(2) is not TIME_ERROR),
`rtc` when a battery-backed clock set it at boot, `floor` when it is at least not before this
software was made, else `unset`. Units: Unix seconds, milliseconds of CLOCK_BOOTTIME.
"""

import ctypes
import time
from pathlib import Path

from edge.ports import ClockQuality, ClockReading, UnixSeconds

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RTC_DEVICES = Path("/sys/class/rtc")
FLOOR_AT = 1_764_547_200  # 2025-12-01: no gateway runs this software earlier
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
CHECK_INTERVAL_S = 60.0


class SystemClock:
    """Implements `edge.ports.Clock`."""

    def __init__(self) -> None:
        self._boot_id = BOOT_ID.read_text("ascii").strip()
        self._quality = ClockQuality.UNSET
        self._check_at = 0.0

    def read(self) -> ClockReading:
        at, boottime = int(time.time()), time.clock_gettime(time.CLOCK_BOOTTIME)
        if boottime >= self._check_at:
            self._check_at = boottime + CHECK_INTERVAL_S
            self._quality = clock_quality(at, disciplined=_disciplined(), has_rtc=_has_rtc())
        return ClockReading(UnixSeconds(at), int(boottime * 1000), self._boot_id, self._quality)


def clock_quality(at: int, *, disciplined: bool, has_rtc: bool) -> ClockQuality:
    """How far wall time `at` may be believed. A clock before the floor is unset, whatever set it."""
    if at < FLOOR_AT:
        return ClockQuality.UNSET
    if disciplined:
        return ClockQuality.NTP
    return ClockQuality.RTC if has_rtc else ClockQuality.FLOOR


def _has_rtc() -> bool:
    return RTC_DEVICES.is_dir() and any(RTC_DEVICES.iterdir())


def _disciplined() -> bool:
    """What the kernel says of its own clock. A machine that will not say is not believed."""
    timex = (ctypes.c_char * 256)()  # struct timex, all zero: modes 0 only reads
    result: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return 0 <= result < TIME_ERROR
