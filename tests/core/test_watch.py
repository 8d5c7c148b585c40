"""Conditions of a meter or an area: each begins, stays within its hysteresis, ends, and is not told too often."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.area import line_loss
from edge.core.watch import (
    LINE_RULES,
    RULES,
    Facts,
    Thresholds,
    VoltageQuality,
    WatchState,
    check_thresholds,
    day_crossed,
    mean_power,
    observe,
)

LIMITS = Thresholds(rated_w=100_000, contract_w=80_000, hold_s=60, repeat_s=900)

# begins, facts that begin it, facts in between that leave it standing, facts that end it
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "voltage_out_of_band": ({"voltages_mv": (197_999,)}, {"voltages_mv": (198_000,)}, {"voltages_mv": (199_000,)}),
    "voltage_unqualified": (
        {"voltage_qualified_hundredths": 9_799},
        {"voltage_qualified_hundredths": None},
        {"voltage_qualified_hundredths": 9_800},
    ),
    "overloaded": ({"power_w": 100_001}, {"power_w": 95_001}, {"power_w": 95_000}),
    "demand_over_contract": ({"demand_w": 80_001}, {"demand_w": 76_001}, {"demand_w": 76_000}),
    "currents_imbalanced": (
        {"currents_ma": (10_000, 10_000, 6_999)},
        {"currents_ma": (10_000, 10_000, 7_499)},
        {"currents_ma": (10_000, 10_000, 7_500)},
    ),
    "phase_lost": (
        {"voltages_mv": (220_000, 220_000, 131_999)},
        {"voltages_mv": (220_000, 220_000, 175_999)},
        {"voltages_mv": (220_000, 220_000, 176_000)},
    ),
    "power_reversed": ({"powers_w": (900, 900, -51)}, {"powers_w": (900, 900, -1)}, {"powers_w": (900, 900, 0)}),
    "phase_sequence_reversed": (
        {"phase_sequence_reversed": True},
        {"phase_sequence_reversed": None},
        {"phase_sequence_reversed": False},
    ),
    "cover_opened": ({"cover_open": True}, {"cover_open": None}, {"cover_open": False}),
    "clock_wrong": ({"clock_offset_s": -301}, {"clock_offset_s": 61}, {"clock_offset_s": 60}),
    "meter_silent": ({"silent_s": 601}, {"silent_s": None}, {"silent_s": 600}),
    "usage_stopped": (
        {"day_energy_wh": 0, "mean_day_wh": 1_000},
        {"day_energy_wh": 0, "mean_day_wh": 1},
        {"day_energy_wh": 900, "mean_day_wh": 1_000},
    ),
    "usage_dropped": (
        {"day_energy_wh": 2_999, "mean_day_wh": 10_000},
        {"day_energy_wh": 5_999, "mean_day_wh": 10_000},
        {"day_energy_wh": 6_000, "mean_day_wh": 10_000},
    ),
    "tier_nearly_used": (
        {"tier_used_wh": 136_000, "tier_limit_wh": 170_000},
        {"tier_used_wh": None, "tier_limit_wh": 170_000},
        {"tier_used_wh": 0, "tier_limit_wh": 170_000},
    ),
    "line_loss_high": (
        {"loss": line_loss(100_000, 92_990, 2)},
        {"loss": line_loss(100_000, 94_990, 2)},
        {"loss": line_loss(100_000, 95_000, 2)},
    ),
    "line_loss_negative": (
        {"loss": line_loss(100, 101, 2)},
        {"loss": line_loss(100, 99, 2, ("M1",))},
        {"loss": line_loss(100, 99, 2)},
    ),
    "line_loss_incomplete": (
        {"loss": line_loss(100, 99, 2, ("M1",))},
        {"loss": None},
        {"loss": line_loss(100, 99, 2)},
    ),
    "cycle_too_short": (
        {"cycle_ms": 5_001, "poll_interval_ms": 5_000},
        {"cycle_ms": 4_751, "poll_interval_ms": 5_000},
        {"cycle_ms": 4_750, "poll_interval_ms": 5_000},
    ),
}
ALL_RULES = (*RULES, *LINE_RULES)
BEGINS = {rule.begins: rule for rule in ALL_RULES}


class Watched:
    """One meter under watch; its looks are told in seconds."""

    def __init__(self) -> None:
        self.state = WatchState()

    def look(self, now_s: int, **facts: Any) -> list[str]:
        self.state, conditions = observe(self.state, Facts(now_s, **facts), LIMITS, ALL_RULES)
        return [condition.name for condition in conditions]

    def hold(self, now_s: int, name: str, **facts: Any) -> list[str]:
        """Two looks, a hold time apart, and what was told of one rule."""
        told = self.look(now_s, **facts) + self.look(now_s + LIMITS.hold_s, **facts)
        return [condition for condition in told if condition in (name, BEGINS[name].ends)]


def test_every_rule_of_the_table_has_its_case_here() -> None:
    assert set(WAYS) == set(BEGINS)
    names = [name for rule in ALL_RULES for name in (rule.begins, rule.ends)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", WAYS)
def test_a_condition_begins_stands_within_its_hysteresis_and_ends_once(name: str) -> None:
    begin, between, end = WAYS[name]
    watched = Watched()
    assert watched.hold(0, name, **between if name not in ("usage_stopped", "line_loss_incomplete") else {}) == []
    assert watched.hold(1_000, name, **begin) == [name]
    assert watched.hold(2_000, name, **begin) == []
    assert watched.hold(3_000, name, **between) == []
    assert watched.hold(4_000, name, **end) == [BEGINS[name].ends]
    assert watched.hold(5_000, name, **end) == []


@pytest.mark.parametrize("name", WAYS)
def test_what_is_not_known_begins_and_ends_nothing(name: str) -> None:
    watched = Watched()
    assert watched.hold(0, name) == []
    watched.hold(1_000, name, **WAYS[name][0])
    assert watched.hold(2_000, name) == []
    assert name in watched.state.standing


@pytest.mark.parametrize("name", [rule.begins for rule in ALL_RULES if not rule.at_once])
def test_a_value_that_does_not_stand_for_the_hold_time_is_not_told(name: str) -> None:
    begin, _, end = WAYS[name]
    watched = Watched()
    told = watched.look(0, **begin) + watched.look(59, **begin) + watched.look(60, **end) + watched.look(61, **begin)
    assert name not in told


@pytest.mark.parametrize("name", WAYS)
def test_a_condition_that_comes_and_goes_begins_again_only_after_the_repeat_time(name: str) -> None:
    begin, _, end = WAYS[name]
    watched = Watched()
    told = []
    for turn in range(100):
        told += watched.hold(turn * 200, name, **(end if turn % 2 else begin))
    assert 2 <= told.count(name) <= 100 * 200 // LIMITS.repeat_s + 1


def test_all_phases_gone_is_no_lost_phase() -> None:
    watched = Watched()
    assert watched.hold(0, "phase_lost", voltages_mv=(0, 0, 0)) == []


def test_a_small_current_is_never_imbalanced() -> None:
    assert Watched().hold(0, "currents_imbalanced", currents_ma=(4_999, 0, 0)) == []


def test_power_that_goes_back_on_all_phases_is_a_feeding_area_and_no_wrong_transformer() -> None:
    assert Watched().hold(0, "power_reversed", powers_w=(-900, -900, -900)) == []


def test_an_untrusted_clock_is_a_wrong_one() -> None:
    assert Watched().hold(0, "clock_wrong", clock_trusted=False) == ["clock_wrong"]


def test_nothing_is_watched_against_a_limit_that_is_not_given() -> None:
    facts = Facts(0, power_w=10**9, demand_w=10**9)
    assert observe(WatchState(), facts, Thresholds(hold_s=0))[1] == ()


def test_the_tier_condition_says_in_how_many_days_it_is_used_up() -> None:
    facts = Facts(0, tier_used_wh=136_000, tier_limit_wh=170_000, mean_day_wh=8_000, day=20_000)
    (condition,) = observe(WatchState(), facts, LIMITS)[1]
    assert condition.detail == "136.000 / 170.000 kWh, +4 d"


@pytest.mark.parametrize(
    ("used", "mean", "expected"), [(0, 10, 110), (95, 10, 100), (90, 10, 101), (100, 10, 100), (50, 0, None)]
)
def test_the_day_a_tier_is_crossed(used: int, mean: int, expected: int | None) -> None:
    assert day_crossed(used, 100, mean, 100) == expected


def test_the_qualified_rate_counts_seconds_with_all_phases_in_the_band() -> None:
    quality = VoltageQuality()
    for voltages, seconds in (((198_000, 235_400), 70), ((220_000, 235_401), 20), ((), 500), ((197_999,), 10)):
        quality = quality.after(voltages, seconds, LIMITS)
    assert (quality.measured_s, quality.qualified_hundredths) == (100, 7_000)
    assert VoltageQuality().qualified_hundredths is None


def test_mean_power_of_a_window() -> None:
    assert mean_power((0, 1_000), (900, 1_250)) == 1_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"voltage_mv_min": 240_000}, "voltage_mv_min"),
        ({"voltage_return_mv": 18_700}, "voltage_return_mv"),
        ({"loss_return_hundredths": 701}, "loss_return_hundredths"),
        ({"rated_w": 0}, "rated_w"),
        ({"hold_s": -1}, "hold_s"),
    ],
)
def test_thresholds_no_site_can_mean_are_refused_by_name(change: dict[str, int], field: str) -> None:
    check_thresholds(Thresholds())
    with pytest.raises(ValueError, match=f"thresholds.{field}"):
        check_thresholds(Thresholds(**change))


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(180_000, 250_000)), max_size=60))
def test_begins_and_ends_alternate_whatever_the_voltage_does(steps: list[tuple[int, int]]) -> None:
    watched, now_s, told = Watched(), 0, []
    for seconds, voltage in steps:
        now_s += seconds
        told += watched.look(now_s, voltages_mv=(voltage,))
    assert told == ["voltage_out_of_band", "voltage_in_band"] * (len(told) // 2) + told[len(told) // 2 * 2 :]
    assert told[:1] in ([], ["voltage_out_of_band"])
