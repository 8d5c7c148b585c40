"""What two readings mean: every kind of change, and what a register showed at midnight."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.reading import DeltaKind, RegisterDelta, delta, freeze_register, plausible_energy
from edge.core.units import FreezeQuality

EXAMPLES = [
    json.loads(line)
    for line in (Path(__file__).parent.parent / "vectors/rating_worked_examples.jsonl").read_text("utf-8").splitlines()
]
MIDNIGHT = 1_712_592_000


@pytest.mark.parametrize("case", [e for e in EXAMPLES if e["kind"] == "register_delta"], ids=lambda case: case["id"])
def test_worked_example_of_a_register_agrees(case: dict[str, Any]) -> None:
    given_, expect = case["input"], case["expect"]
    found = delta(given_["previous_Wh"], given_["current_Wh"], given_["max_plausible_step_Wh"], given_["modulus_Wh"])
    assert found == RegisterDelta(DeltaKind(expect["class"]), expect["delta_Wh"])


@pytest.mark.parametrize(
    ("before_wh", "after_wh", "modulus_wh", "kind", "energy_wh"),
    [
        (1000, 1000, None, DeltaKind.SAME, 0),
        (1000, 1001, None, DeltaKind.NORMAL, 1),
        (1000, 1400, None, DeltaKind.NORMAL, 400),
        (1000, 1401, None, DeltaKind.JUMP, None),
        (1000, 999, None, DeltaKind.REGRESSION, None),
        (1000, 0, None, DeltaKind.REGRESSION, None),
        (9_900, 300, 10_000, DeltaKind.ROLLOVER, 400),
        (9_900, 301, 10_000, DeltaKind.REGRESSION, None),
        (9_999, 0, 10_000, DeltaKind.ROLLOVER, 1),
        (20_000, 5, 10_000, DeltaKind.REGRESSION, None),
    ],
)
def test_change_of_a_register_is_told(
    before_wh: int, after_wh: int, modulus_wh: int | None, kind: DeltaKind, energy_wh: int | None
) -> None:
    assert delta(before_wh, after_wh, 400, modulus_wh) == RegisterDelta(kind, energy_wh)


@given(
    before_wh=st.integers(0, 10**10),
    after_wh=st.integers(0, 10**10),
    cap=st.integers(0, 10**6),
    modulus=st.none() | st.integers(1, 10**10),
)
def test_energy_is_never_negative_and_never_implausible(
    before_wh: int, after_wh: int, cap: int, modulus: int | None
) -> None:
    found = delta(before_wh, after_wh, cap, modulus)
    assert found.energy_wh is None or 0 <= found.energy_wh <= cap
    assert (found.energy_wh is None) == (found.kind in (DeltaKind.REGRESSION, DeltaKind.JUMP))


def test_plausible_energy_is_power_by_time_and_one_step() -> None:
    assert plausible_energy(20_000, 3600) == 20_001
    assert plausible_energy(20_000, 1) == 7  # 5.6 rounded up, and the watt-hour cut off before
    assert plausible_energy(20_000, 60, step_wh=8) == 342
    assert plausible_energy(20_000, -5, step_wh=8) == 8


def test_worked_example_of_a_freeze_agrees() -> None:
    case = next(e for e in EXAMPLES if e["kind"] == "freeze")
    before, after = (
        (int(datetime.fromisoformat(sample["at"]).timestamp()), sample["Wh"]) for sample in case["input"]["samples"]
    )
    frozen = freeze_register(before, after, (before[0] + after[0]) // 2)
    assert frozen == (case["expect"]["frozen_Wh"], FreezeQuality(case["expect"]["quality"]))


@pytest.mark.parametrize(
    ("before", "after", "frozen"),
    [
        ((-60, 100), (61, 200), (100, FreezeQuality.GATEWAY_SAMPLE)),
        ((-61, 100), (60, 200), (200, FreezeQuality.GATEWAY_SAMPLE)),
        ((-30, 100), (30, 200), (100, FreezeQuality.GATEWAY_SAMPLE)),
        ((-30, 100), (29, 200), (200, FreezeQuality.GATEWAY_SAMPLE)),
        ((-61, 100), (61, 200), (150, FreezeQuality.INTERPOLATED)),
        ((-100, 100), (200, 110), (103, FreezeQuality.INTERPOLATED)),
        ((-100, 100), (0, 110), (110, FreezeQuality.GATEWAY_SAMPLE)),
        ((0, 100), (0, 110), (100, FreezeQuality.GATEWAY_SAMPLE)),
        (None, (60, 200), (200, FreezeQuality.GATEWAY_SAMPLE)),
        (None, (61, 200), None),
        ((-100, 100), (100, 99), None),
        ((-5, 100), (100, 99), (100, FreezeQuality.GATEWAY_SAMPLE)),
    ],
)
def test_register_at_midnight_is_the_nearer_sample_or_a_line(
    before: tuple[int, int] | None, after: tuple[int, int], frozen: tuple[int, FreezeQuality] | None
) -> None:
    moved = None if before is None else (MIDNIGHT + before[0], before[1])
    assert freeze_register(moved, (MIDNIGHT + after[0], after[1]), MIDNIGHT) == frozen


def test_tolerance_is_a_choice() -> None:
    assert freeze_register((0, 100), (1000, 200), 300, tolerance_s=300) == (100, FreezeQuality.GATEWAY_SAMPLE)
    assert freeze_register((0, 100), (1000, 200), 300, tolerance_s=299) == (130, FreezeQuality.INTERPOLATED)
