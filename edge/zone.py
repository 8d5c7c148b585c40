"""A time zone's offsets as plain data for the core, which reads no zone files.

Instants are Unix seconds, offsets seconds east of UTC. Source: the IANA database through
the standard library's zoneinfo (Debian: package tzdata).
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from edge.core.calendar import ZoneOffsets
from edge.core.units import SECONDS_PER_DAY

_MARGIN_S = 400 * SECONDS_PER_DAY  # a cycle that holds the first instant may have begun a year before it


def zone_offsets(name: str, first_at: int, end_at: int) -> ZoneOffsets:
    """The offsets of a zone over [first_at, end_at) with 400 days before and after.

    Raises zoneinfo.ZoneInfoNotFoundError (or ValueError for a path) when there is no such zone.
    """
    zone = ZoneInfo(name)
    start, end = first_at - _MARGIN_S, end_at + _MARGIN_S
    transitions = [(start, _offset_s(zone, start))]
    for at in range(start + SECONDS_PER_DAY, end + SECONDS_PER_DAY, SECONDS_PER_DAY):
        if _offset_s(zone, at) != transitions[-1][1]:
            transitions.append(_change_between(zone, at - SECONDS_PER_DAY, at))
    return ZoneOffsets(name, tuple(transitions), end)


def _change_between(zone: ZoneInfo, before: int, after: int) -> tuple[int, int]:
    """(first second of the new offset, the offset): bisection between two instants that differ."""
    offset_before = _offset_s(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset_s(zone, middle) == offset_before:
            before = middle
        else:
            after = middle
    return after, _offset_s(zone, after)


def _offset_s(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, UTC).astimezone(zone).utcoffset()
    assert offset is not None
    return offset.days * SECONDS_PER_DAY + offset.seconds
