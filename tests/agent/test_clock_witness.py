"""The clock between its witnesses: who is believed when wall, boot and backend say different things."""

from dataclasses import replace

import pytest

from edge.agent.clock_witness import AGREES_WITHIN_S, WitnessedClock
from edge.core.units import CLOCK_STEP_S_MAX, ClockQuality, ClockReading, UnixSeconds

START_AT = 1_772_380_800
FORTY_DAYS_S = 40 * 86_400


class Hand:
    """A clock that a test sets."""

    def __init__(self, quality: ClockQuality = ClockQuality.NTP) -> None:
        self.quality, self.passed_s, self.ahead_s = quality, 0, 0

    def read(self) -> ClockReading:
        at = UnixSeconds(START_AT + self.passed_s + self.ahead_s)
        return ClockReading(at, 1000 * self.passed_s, "boot-1", self.quality)

    @property
    def true_at(self) -> UnixSeconds:
        return UnixSeconds(START_AT + self.passed_s)


def test_without_a_backend_a_clock_that_goes_on_is_what_it_says() -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=False)
    for _ in range(3):
        hand.passed_s += 3600
        hand.ahead_s += CLOCK_STEP_S_MAX  # it drifts
        assert clock.read() == hand.read()


@pytest.mark.parametrize("step_s", [CLOCK_STEP_S_MAX + 1, -CLOCK_STEP_S_MAX - 1, FORTY_DAYS_S, -FORTY_DAYS_S])
def test_without_a_backend_a_step_is_doubted_to_the_end_of_the_boot(step_s: int) -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=False)
    clock.read()
    hand.ahead_s = step_s
    assert clock.read() == replace(hand.read(), doubted=True)
    hand.ahead_s, hand.passed_s = 0, 86_400
    last = clock.read()
    assert last.doubted
    again = WitnessedClock(hand, has_backend=False, recorded=last)  # the program starts again within the boot
    assert again.read().doubted


def test_a_step_while_the_program_was_down_is_seen_when_it_starts_again_in_the_boot() -> None:
    hand = Hand()
    last = WitnessedClock(hand, has_backend=False).read()
    hand.passed_s, hand.ahead_s = 60, FORTY_DAYS_S
    assert WitnessedClock(hand, has_backend=False, recorded=last).read().doubted


@pytest.mark.parametrize("before", [ClockQuality.UNSET, ClockQuality.FLOOR, ClockQuality.RTC])
def test_a_clock_that_the_network_puts_right_is_not_doubted_for_it(before: ClockQuality) -> None:
    hand = Hand(before)
    hand.ahead_s = -FORTY_DAYS_S
    clock = WitnessedClock(hand, has_backend=False)
    clock.read()
    hand.ahead_s, hand.quality = 0, ClockQuality.NTP
    assert clock.read() == hand.read()


def test_with_a_backend_a_clock_is_doubted_until_an_acknowledgement_of_this_boot_agrees() -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=True)
    assert clock.read() == replace(hand.read(), doubted=True)
    clock.heard(hand.true_at)
    hand.passed_s += 30 * 86_400  # and then a month of silence: the boot carries it on
    assert clock.read() == hand.read()


def test_a_wall_ahead_of_the_backend_is_doubted_while_it_is_and_no_longer() -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=True)
    clock.heard(hand.true_at)
    hand.ahead_s = AGREES_WITHIN_S + 1
    assert clock.read() == replace(hand.read(), doubted=True)  # an acknowledgement may be late: it is no more than that
    hand.ahead_s = AGREES_WITHIN_S
    assert clock.read() == hand.read()


def test_what_the_backend_said_is_a_floor_for_the_clock() -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=True)
    clock.heard(hand.true_at)
    hand.passed_s, hand.ahead_s = 3600, -FORTY_DAYS_S
    assert clock.read() == replace(hand.read(), quality=ClockQuality.FLOOR, doubted=True)
    hand.quality = ClockQuality.UNSET
    assert clock.read().quality is ClockQuality.UNSET  # nothing is made better than it is


def test_an_old_acknowledgement_and_one_that_comes_twice_say_nothing_new() -> None:
    hand = Hand()
    clock = WitnessedClock(hand, has_backend=True)
    clock.heard(hand.true_at)
    hand.passed_s = 7200
    clock.heard(UnixSeconds(START_AT))
    clock.heard(UnixSeconds(START_AT - 3600))
    assert clock.read() == hand.read()
    clock.heard(UnixSeconds(START_AT + 100))  # a newer one that took two hours
    assert clock.read().doubted
    clock.heard(hand.true_at)
    assert clock.read() == hand.read()


def test_an_acknowledgement_counts_at_once_also_for_a_look_at_which_no_time_has_passed() -> None:
    reading = ClockReading(UnixSeconds(START_AT), 0, "boot-1", ClockQuality.NTP)

    class Still:
        def read(self) -> ClockReading:
            return reading

    clock = WitnessedClock(Still(), has_backend=True)
    assert clock.read().doubted
    assert clock.read() is clock.read()
    clock.heard(UnixSeconds(START_AT))
    assert clock.read() == reading
