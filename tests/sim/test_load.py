"""Load profiles: exact, repeatable, by local time."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.sim.load import PROFILES, QUARTER_S, QUARTERS_PER_DAY, Load, peak_watts, quarters

SHANGHAI_S = 28_800
MONDAY_AT = 1_782_662_400  # 2026-06-29 00:00 +08:00
MONDAY = (MONDAY_AT + SHANGHAI_S) // 86_400
INSTANTS = st.integers(MONDAY_AT, MONDAY_AT + 7 * 86_400)


@given(st.sampled_from(sorted(PROFILES)), st.integers(0, 2**32), st.lists(INSTANTS, min_size=3, max_size=6))
def test_splitting_an_interval_gives_the_same_energy(profile: str, seed: int, instants: list[int]) -> None:
    load = Load(profile, seed, SHANGHAI_S)
    instants.sort()
    parts = [load.energy_ws(start, end) for start, end in pairwise(instants)]
    assert sum(parts) == load.energy_ws(instants[0], instants[-1])


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_energy_of_a_local_day_is_the_sum_of_its_quarters(profile: str) -> None:
    load = Load(profile, 7, SHANGHAI_S)
    assert load.energy_ws(MONDAY_AT, MONDAY_AT + 86_400) == sum(quarters(profile, 7, MONDAY)) * QUARTER_S


def test_the_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    quarters.cache_clear()
    first = quarters("household", 5, MONDAY)
    quarters.cache_clear()
    assert quarters("household", 5, MONDAY) == first
    assert quarters("household", 6, MONDAY) != first
    assert quarters("household", 5, MONDAY + 1) != first


def test_power_follows_local_time_and_not_utc() -> None:
    load = Load("shop", 1, SHANGHAI_S)
    at_noon, at_night = load.watts(MONDAY_AT + 12 * 3600), load.watts(MONDAY_AT + 3 * 3600)
    assert at_noon > 5 * at_night


def test_a_school_is_closed_on_saturday_and_sunday_only() -> None:
    load = Load("school", 1, SHANGHAI_S)
    at_ten = [load.watts(MONDAY_AT + day * 86_400 + 10 * 3600) for day in range(7)]
    assert min(at_ten[:5]) > 3000
    assert max(at_ten[5:]) < 400


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_no_quarter_is_above_the_peak(profile: str) -> None:
    highest = max(max(quarters(profile, seed, day)) for seed in range(20) for day in range(14))
    assert highest <= peak_watts(profile)
    assert len(quarters(profile, 0, 0)) == QUARTERS_PER_DAY


def test_the_scale_counts_from_the_next_second_on_and_zero_draws_nothing() -> None:
    load = Load("household", 1, SHANGHAI_S)
    whole = load.energy_ws(MONDAY_AT, MONDAY_AT + QUARTER_S)
    load.scale_percent = 300
    assert load.energy_ws(MONDAY_AT, MONDAY_AT + QUARTER_S) == 3 * whole
    load.scale_percent = 0
    assert load.energy_ws(MONDAY_AT, MONDAY_AT + QUARTER_S) == 0
