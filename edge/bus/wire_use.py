"""How much of its time a line is in use: requests, answers, the silences between them, and listening after a fault.

Seconds of the caller's monotonic clock, shares in whole percent rounded up: a wire that is full is never shown as one
that is not. No I/O.
"""

from math import ceil
from typing import Final

WINDOW_S: Final = 60.0


class WireUse:
    """Of the last whole minute; in the first one, of the time since the start."""

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._rests_since: float | None = None
        self._rested_s = 0.0
        self._last_percent: int | None = None

    def rests(self, now: float) -> None:
        """There is nothing to be asked. May be said again and again."""
        self._turn_over(now)
        if self._rests_since is None:
            self._rests_since = now

    def works(self, now: float) -> None:
        """There is."""
        self._turn_over(now)
        if self._rests_since is not None:
            self._rested_s += now - self._rests_since
            self._rests_since = None

    def percent(self, now: float) -> int | None:
        """None before anything was asked."""
        if self._began_at is None:
            return None
        over = now - self._began_at >= WINDOW_S
        return self._share(now) if over or self._last_percent is None else self._last_percent

    def _turn_over(self, now: float) -> None:
        if self._began_at is None:
            self._began_at = now
        elif now - self._began_at >= WINDOW_S:
            self._last_percent = self._share(now)
            self._began_at, self._rested_s = now, 0.0
            if self._rests_since is not None:
                self._rests_since = now

    def _share(self, now: float) -> int | None:
        assert self._began_at is not None
        whole_s = now - self._began_at
        if whole_s <= 0.0:
            return None
        rested_s = self._rested_s + (0.0 if self._rests_since is None else now - self._rests_since)
        return min(100, ceil(round(100 * (1 - rested_s / whole_s), 6)))
