"""Watches whether the lines keep up: a round over all devices that takes longer than the poll interval is told.

Nothing is lost then, readings only come later than was meant; so it is a record for a technician, with both times,
once while it lasts. Times in milliseconds.
"""

from collections.abc import Mapping

from edge.bus.records import LinePulse
from edge.core.commands import NoteCondition
from edge.core.units import ClockReading
from edge.core.watch import LINE_RULES, Facts, Thresholds, WatchState, observe

_LIMITS = Thresholds()


class LineWatch:
    """All lines of a gateway. `look` is called once a round."""

    def __init__(self) -> None:
        self._states: dict[str, WatchState] = {}

    def look(self, clock: ClockReading, lines: Mapping[str, LinePulse]) -> list[NoteCondition]:
        """What began or ended since the last look, by line."""
        notes = []
        for line_id, pulse in lines.items():
            cycle_ms = pulse.cycle_ms if pulse.open else None  # that of a closed line is an old one
            facts = Facts(clock.elapsed_ms // 1000, cycle_ms=cycle_ms, poll_interval_ms=pulse.poll_interval_ms)
            before = self._states.get(line_id, WatchState())
            self._states[line_id], conditions = observe(before, facts, _LIMITS, LINE_RULES)
            notes += [NoteCondition(clock, one.name, "", f"{line_id}: {one.detail}") for one in conditions]
        return notes
