"""A line whose rounds take longer than its poll interval is told once, with both times."""

from dataclasses import replace
from typing import Any

from edge.agent.line_watch import LineWatch
from edge.bus.records import LinePulse
from edge.core.units import ClockQuality, ClockReading, UnixSeconds

LINE = LinePulse(open=True, cycle_ms=4_000, poll_interval_ms=5_000, silent={})


def told(changes: list[tuple[int, dict[str, Any]]], line: LinePulse = LINE) -> list[tuple[int, str, str]]:
    """Looks every ten seconds for ten minutes; `changes` of the line by second."""
    watch, notes = LineWatch(), []
    for second in range(0, 600, 10):
        for _, change in (entry for entry in changes if entry[0] == second):
            line = replace(line, **change)
        clock = ClockReading(UnixSeconds(1_700_000_000 + second), second * 1000, "boot-1", ClockQuality.NTP)
        notes += [(second, note.condition, note.detail) for note in watch.look(clock, {"line-1": line})]
    return notes


def test_a_round_longer_than_the_interval_is_told_with_both_times_once_it_has_stood_for_a_minute() -> None:
    assert told([(100, {"cycle_ms": 6_250})]) == [(160, "cycle_too_short", "line-1: 6.250 / 5.000 s")]


def test_one_long_round_is_not_told() -> None:
    assert told([(100, {"cycle_ms": 60_000}), (150, {"cycle_ms": 4_000})]) == []


def test_its_end_is_told_when_a_twentieth_of_the_interval_is_free_again() -> None:
    changes = [(0, {"cycle_ms": 6_000}), (200, {"cycle_ms": 4_900}), (400, {"cycle_ms": 4_500})]
    assert [(second, name) for second, name, _ in told(changes)] == [
        (60, "cycle_too_short"),
        (460, "cycle_long_enough"),
    ]


def test_a_line_without_a_round_or_that_is_closed_tells_nothing() -> None:
    assert told([(0, {"cycle_ms": None})]) == []
    assert told([(0, {"cycle_ms": 60_000, "open": False})]) == []


def test_each_line_is_told_by_its_own_name() -> None:
    watch, notes = LineWatch(), []
    lines = {name: replace(LINE, cycle_ms=cycle_ms) for name, cycle_ms in (("a", 9_000), ("b", 1_000))}
    for second in (0, 60):
        clock = ClockReading(UnixSeconds(1_700_000_000), second * 1000, "boot-1", ClockQuality.NTP)
        notes += watch.look(clock, lines)
    assert [note.detail for note in notes] == ["a: 9.000 / 5.000 s"]
