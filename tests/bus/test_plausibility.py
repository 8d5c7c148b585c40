"""A money register is believed only if it could have come to this, or if two different readings agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.plausibility import Advance, RegisterReading, RegisterWatch, advance
from edge.core.units import WattHours

POWER_W_MAX = 10_000
HOUR_MS = 3_600_000


def reading(wh: int, at_ms: int, step_wh: int = 1, asked_ms: int | None = None) -> RegisterReading:
    return RegisterReading(WattHours(wh), WattHours(step_wh), at_ms if asked_ms is None else asked_ms, at_ms)


def settled(wh: int = 1_000, at_ms: int = 0) -> RegisterWatch:
    """A watch that has believed one reading."""
    watch = RegisterWatch(POWER_W_MAX)
    assert watch.first(reading(wh, at_ms)) is None
    assert watch.second(reading(wh, at_ms), reading(wh, at_ms)) == "good"
    return watch


@pytest.mark.parametrize(
    ("after_wh", "step_wh", "verdict"),
    [
        (1_000, 1, Advance.PLAUSIBLE),
        (11_001, 1, Advance.PLAUSIBLE),  # all the breaker lets through, and one step
        (11_002, 1, Advance.JUMP),
        (11_063, 63, Advance.PLAUSIBLE),  # a float register above 524 288 kWh
        (11_064, 63, Advance.JUMP),
        (999, 63, Advance.FALLING),  # a step never excuses falling
    ],
)
def test_an_advance_is_held_against_the_power_and_one_step(after_wh: int, step_wh: int, verdict: Advance) -> None:
    assert advance(reading(1_000, 0, step_wh), reading(after_wh, HOUR_MS, step_wh), POWER_W_MAX) is verdict


def test_the_time_between_runs_from_the_earlier_question_to_the_later_answer() -> None:
    before = reading(0, at_ms=HOUR_MS, asked_ms=0)  # the answer was looked at an hour late
    assert advance(before, reading(20_000, 2 * HOUR_MS), POWER_W_MAX) is Advance.PLAUSIBLE


def test_the_first_reading_needs_a_second() -> None:
    watch = RegisterWatch(POWER_W_MAX)
    assert watch.first(reading(1_000, 0)) is None
    assert watch.second(reading(1_000, 0), reading(1_000, 50)) == "good"
    assert watch.first(reading(1_001, HOUR_MS)) == "good"


def test_after_trouble_a_plausible_reading_needs_a_second_too() -> None:
    watch = settled()
    watch.trouble()
    assert watch.first(reading(1_001, HOUR_MS)) is None
    assert watch.second(reading(1_001, HOUR_MS), reading(1_001, HOUR_MS)) == "good"
    assert watch.first(reading(1_002, 2 * HOUR_MS)) == "good"


@pytest.mark.parametrize(("wh", "verdict"), [(900, "confirmed_falling"), (50_000, "confirmed_jump"), (1_500, "good")])
def test_two_readings_that_agree_are_passed_on_with_their_verdict(wh: int, verdict: str) -> None:
    watch = settled()
    watch.trouble()
    assert watch.first(reading(wh, HOUR_MS)) is None
    assert watch.second(reading(wh, HOUR_MS), reading(wh, HOUR_MS + 50)) == verdict
    assert watch.first(reading(wh, 2 * HOUR_MS)) == "good"  # from here on, whatever the core made of it


@pytest.mark.parametrize(("one", "other"), [(900, 1_001), (50_000, 1_001), (1_001, 900), (1_001, 50_000)])
def test_two_readings_that_disagree_are_both_refused(one: int, other: int) -> None:
    watch = settled()
    watch.trouble()
    assert watch.first(reading(one, HOUR_MS)) is None
    assert watch.second(reading(one, HOUR_MS), reading(other, HOUR_MS)) is None
    assert watch.first(reading(1_001, HOUR_MS)) is None  # still troubled
    assert watch.second(reading(1_001, HOUR_MS), reading(1_001, HOUR_MS)) == "good"


@given(st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 2_000_000)), max_size=30))
def test_what_is_called_good_never_falls_and_never_outruns_the_breaker(pairs: list[tuple[int, int]]) -> None:
    watch, at_ms = RegisterWatch(POWER_W_MAX), 0
    believed: tuple[int, int] | None = None
    for first_wh, second_wh in pairs:
        at_ms += HOUR_MS
        verdict, wh = watch.first(reading(first_wh, at_ms)), first_wh
        if verdict is None:
            verdict, wh = watch.second(reading(first_wh, at_ms), reading(second_wh, at_ms)), second_wh
        if verdict == "good" and believed is not None:
            hours = (at_ms - believed[1]) // HOUR_MS
            assert 0 <= wh - believed[0] <= POWER_W_MAX * hours + 1
        if verdict is not None:
            believed = (wh, at_ms)
