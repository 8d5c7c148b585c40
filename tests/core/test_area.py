"""The loss of a transformer area: the worked examples to the digit, and what a missing meter does to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.area import Area, FrozenRegister, area_loss, line_loss, supplied
from edge.core.units import WattHours, round_half_away

EXAMPLES = json.loads((Path(__file__).parent.parent / "vectors" / "worked_examples.json").read_text("utf-8"))
CASES = {case["id"]: case for case in EXAMPLES["cases"]}
AREA = Area("T1", ("S1",), ("M1", "M2"), ("G1",), ct_ratio=60)
PPM_PER_HUNDREDTH = 100


def frozen(**registers: int | tuple[int, int]) -> dict[str, FrozenRegister]:
    return {
        meter: FrozenRegister(*(WattHours(value) for value in (wh if isinstance(wh, tuple) else (wh,))))
        for meter, wh in registers.items()
    }


BEFORE = frozen(S1=(1_000, 50), G1=7, M1=10, M2=20)
AFTER = frozen(S1=(201_000, 3_550), G1=400_007, M1=6_000_010, M2=5_500_020)


def check_loss(loss: Any, expect: dict[str, int]) -> None:
    assert loss.loss_wh == expect["loss_Wh"]
    assert loss.rate_hundredths == round_half_away(expect["loss_ppm"], PPM_PER_HUNDREDTH)


def test_line_loss_is_supply_less_sales_as_in_the_example() -> None:
    case = CASES["loss-6pct"]
    check_loss(line_loss(case["input"]["supply_Wh"], case["input"]["sold_Wh"], 1), case["expect"])


def test_reverse_flow_ratio_and_generation_are_in_the_supply_as_in_the_example() -> None:
    case = CASES["loss-solar"]
    given, expect = case["input"], case["expect"]
    supply_wh = supplied(
        given["area_meter_forward_Wh"], given["area_meter_reverse_Wh"], given["multiplier"], given["generation_Wh"]
    )
    assert supply_wh == expect["supply_Wh"]
    check_loss(line_loss(supply_wh, given["sold_Wh"], 1), expect)


def test_the_example_from_registers_at_two_frozen_instants() -> None:
    loss = area_loss(AREA, BEFORE, AFTER)
    check_loss(loss, CASES["loss-solar"]["expect"])
    assert (loss.coverage_hundredths, loss.incomplete, loss.negative) == (10_000, False, False)


@pytest.mark.parametrize("meter", AREA.meters)
@pytest.mark.parametrize("side", ["before", "after"])
def test_without_any_one_meter_the_loss_is_incomplete_and_says_which(meter: str, side: str) -> None:
    before, after = dict(BEFORE), dict(AFTER)
    (before if side == "before" else after).pop(meter)
    loss = area_loss(AREA, before, after)
    assert (loss.incomplete, loss.missing, loss.coverage_hundredths) == (True, (meter,), 7_500)


def test_a_register_that_fell_counts_as_not_read() -> None:
    assert area_loss(AREA, BEFORE, {**AFTER, **frozen(M1=9)}).missing == ("M1",)
    assert area_loss(AREA, BEFORE, {**AFTER, **frozen(S1=(201_000, 49))}).missing == ("S1",)


def test_a_reverse_register_that_is_there_only_once_counts_as_not_read() -> None:
    assert area_loss(AREA, BEFORE, {**AFTER, **frozen(S1=201_000)}).missing == ("S1",)


def test_more_sold_than_supplied_is_flagged_and_not_while_a_meter_is_missing() -> None:
    assert line_loss(100, 101, 2).negative
    assert line_loss(100, 101, 2).rate_hundredths == -100
    assert not line_loss(100, 101, 2, ("S1",)).negative


@pytest.mark.parametrize("supply_wh", [0, -5])
def test_without_supply_there_is_no_rate(supply_wh: int) -> None:
    assert line_loss(supply_wh, 3, 1).rate_hundredths is None


def test_full_coverage_is_said_only_of_every_meter() -> None:
    assert line_loss(1, 1, 20_001, ("M1",)).coverage_hundredths == 9_999


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_loss_and_sales_make_the_supply_and_the_rate_is_the_nearest(forward: int, sold: int, made: int) -> None:
    after = frozen(S1=(forward, 0), G1=made, M1=sold, M2=0)
    loss = area_loss(AREA, frozen(S1=(0, 0), G1=0, M1=0, M2=0), after)
    assert loss.loss_wh + loss.sold_wh == loss.supply_wh == forward * 60 + made
    assert loss.rate_hundredths is not None
    assert abs(loss.rate_hundredths * loss.supply_wh - loss.loss_wh * 10_000) * 2 <= loss.supply_wh
