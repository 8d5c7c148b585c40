"""When a notice may be sent: the first minute outside the quiet hours of the site's zone.

Unix seconds. Walking by minutes of real time is right on days that have 23 or 25 hours.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

_MINUTE_S = 60
_MINUTES_MAX = 2 * 24 * 60


def first_allowed(at: int, quiet_from: str, quiet_until: str, zone: ZoneInfo) -> int:
    """`at` itself when it is not quiet, else the start of the first minute that is not."""
    if not _is_quiet(at, quiet_from, quiet_until, zone):
        return at
    minute = at - at % _MINUTE_S
    for number in range(1, _MINUTES_MAX + 1):
        if not _is_quiet(minute + number * _MINUTE_S, quiet_from, quiet_until, zone):
            return minute + number * _MINUTE_S
    raise AssertionError("quiet hours are shorter than a day")


def _is_quiet(at: int, quiet_from: str, quiet_until: str, zone: ZoneInfo) -> bool:
    local = datetime.fromtimestamp(at, zone).strftime("%H:%M")
    if quiet_from <= quiet_until:
        return quiet_from <= local < quiet_until
    return local >= quiet_from or local < quiet_until
