"""How fast the devices of a line answer, and so how long each of them is waited for.

An answering time runs from the end of the request to the end of the answer, less what the answer's own bytes take on
the wire. Times in seconds (`_s`), for people in milliseconds (`_ms`). No I/O, no clock.

A device that is not known yet is waited for as long as the line says, or 1.1 times what its model documents if that is
longer. Once it has answered often enough it is waited for twice as long as its slowest answer took, never below what
its model documents. Whatever looks like a slow answer forgets what was learnt; an answer that came late, and was whole,
doubles the wait. A late answer is never believed for that: the transaction drains whatever the wait was.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf
from typing import Final

from edge.bus.frame import Request
from edge.bus.records import AnswerView
from edge.bus.transaction import Timing
from edge.core.lean import dataclass

LEARNT_AFTER: Final = 32  # answers without trouble
SHORTEST_S: Final = 0.050  # below it a busy machine or an adapter that collects bytes would look like a dead meter
_FACTOR: Final = 2.0
_MARGIN_S: Final = 0.020  # an adapter hands over what it has every 16 ms
_FRAME_BYTES: Final = 3  # device id and CRC
DOCUMENTED_MARGIN: Final = 1.1
UNDOCUMENTED_S: Final = 0.5  # the slowest answer any model documents
# Upper ends of the classes that answers are counted in; a class above them all is the last one.
BOUNDS_S: Final = tuple(
    ms / 1000
    for ms in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 750)
)


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Between which bounds a device's wait lies."""

    shortest_s: float
    longest_s: float
    late_s: float  # not longer than this after answers that came late
    byte_s: float  # of the wire: an adapter may hand over an answer only when it is whole

    @classmethod
    def of_device(cls, timing: Timing, documented_ms: int | None, over_network: bool) -> "WaitLimits":
        """`over_network`: the way there may be slower than the device, and nobody knows by how much."""
        documented_s = DOCUMENTED_MARGIN * (documented_ms or 0) / 1000
        longest_s = max(timing.response_timeout_s, documented_s)
        # Wait and drain together outlast the slowest answer, also where the drain was set shorter than it.
        slowest_s = documented_s or DOCUMENTED_MARGIN * UNDOCUMENTED_S
        shortest_s = max(SHORTEST_S, documented_s, slowest_s - timing.drain_silence_s)
        if over_network:
            shortest_s = longest_s
        return cls(min(shortest_s, longest_s), longest_s, max(longest_s, timing.drain_silence_s), timing.byte_s)


class AnswerTimes:
    """Of one device."""

    __slots__ = ("_base_s", "_heard", "_limits", "_longest_s", "_slowest_s", "counts", "slowest_s")

    def __init__(self, limits: WaitLimits) -> None:
        self._limits, self._longest_s = limits, limits.longest_s
        self._heard, self._slowest_s = 0, 0.0  # since the last trouble
        self._base_s = inf  # the wait that was learnt, without the answer's own time on the wire
        self.counts, self.slowest_s = [0] * (len(BOUNDS_S) + 1), 0.0  # since the start

    def answered(self, answer_s: float) -> None:
        """It did, whatever it said."""
        self.counts[bisect_left(BOUNDS_S, answer_s)] += 1
        self._heard += 1
        if answer_s > self._slowest_s:
            self._slowest_s = answer_s
            self.slowest_s = max(self.slowest_s, answer_s)
            self._learn()
        elif self._heard == LEARNT_AFTER:
            self._learn()

    def failed(self, reason: str) -> None:
        """It did not, or not in a way that can be believed: how fast it is has to be learnt anew."""
        self._heard, self._slowest_s, self._base_s = 0, 0.0, inf
        if reason == "late_reply":
            self._longest_s = min(2 * self._longest_s, self._limits.late_s)

    def wait_s(self, request: Request, switching: bool) -> float:
        """How long to wait for an answer to begin. A device may take its time over `switching` and what follows it."""
        return self._longest_s if switching else self._wait_s(request.answer_pdu_bytes + _FRAME_BYTES)

    @property
    def read_wait_s(self) -> float:
        """The wait for an answer without length, for people."""
        return self._wait_s(0)

    def _wait_s(self, answer_bytes: int) -> float:
        wait_s = self._base_s + answer_bytes * self._limits.byte_s
        if wait_s > self._longest_s:
            return self._longest_s
        return wait_s if wait_s > self._limits.shortest_s else self._limits.shortest_s

    def _learn(self) -> None:
        if self._heard >= LEARNT_AFTER:
            self._base_s = _FACTOR * self._slowest_s + _MARGIN_S


def answer_view(times: Sequence[AnswerTimes]) -> AnswerView:
    """Of some devices together."""
    counts = [sum(column) for column in zip(*(one.counts for one in times), strict=True)]
    slowest_s = max((one.slowest_s for one in times), default=0.0)
    p50_ms, p95_ms, p99_ms = (_percentile_ms(counts, percent, slowest_s) for percent in (50, 95, 99))
    return AnswerView(sum(counts), p50_ms, p95_ms, p99_ms, _ceiling_ms(slowest_s) if sum(counts) else None)


def _percentile_ms(counts: Sequence[int], percent: int, slowest_s: float) -> int | None:
    """The upper end of the class in which that share of the answers is reached, rounded up to a millisecond."""
    total = sum(counts)
    if total == 0:
        return None
    reached = 0
    for bound_s, count in zip(BOUNDS_S, counts, strict=False):
        reached += count
        if 100 * reached >= percent * total:
            return _ceiling_ms(min(bound_s, slowest_s))
    return _ceiling_ms(slowest_s)


def _ceiling_ms(seconds: float) -> int:
    return -(-round(seconds * 1_000_000) // 1000)
