"""Demand: windows, the contract with its jump, ratchet, blocks, part months."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.calendar import parse_date
from edge.core.demand import (
    DemandPart,
    PastDemand,
    contract_parts,
    demand_charge,
    max_demand,
    minute_powers,
    over_contract,
    ratcheted,
)
from edge.core.terms import ContractStep, Demand, DemandKind, DemandUnit, OverContract, Ratchet

ALL_YEAR = tuple(range(1, 13))
DEMAND = Demand(
    "basic", DemandKind.MEASURED, DemandUnit.KW, (), (38_000_000,), ALL_YEAR, ("all",), 15, 1, 30, None, None, ()
)
RULE = OverContract(10_500, 2)


@given(st.lists(st.integers(0, 10**6), min_size=15, max_size=120))
def test_a_sliding_window_never_reads_less_than_clock_blocks(powers_w: list[int]) -> None:
    sliding, blocks = max_demand(powers_w, 15, 1), max_demand(powers_w, 15, 15)
    assert sliding is not None
    assert blocks is not None
    assert blocks <= sliding <= max(powers_w)


def test_minutes_that_fill_no_window_measure_nothing() -> None:
    assert max_demand([300_000] * 14, 15, 1) is None


def test_a_mean_is_cut_off_to_whole_watts() -> None:
    assert max_demand([0] * 14 + [14], 15, 1) == 0
    assert max_demand([0] * 14 + [15], 15, 1) == 1


def test_energy_is_spread_over_the_minutes_of_its_interval() -> None:
    assert minute_powers(0, [(120, 10), (180, 1)]) == [300, 300, 60]


@pytest.mark.parametrize("end_at", [59, 90, 0, -60])
def test_readings_off_the_minute_give_no_minutes(end_at: int) -> None:
    assert minute_powers(0, [(end_at, 10)]) is None


@pytest.mark.parametrize(
    ("measured_w", "billed_w"),
    [(0, 500_000), (500_000, 500_000), (525_000, 500_000), (525_001, 525_002), (526_000, 527_000), (560_000, 595_000)],
)
def test_up_to_the_threshold_the_contract_above_it_the_excess_twice(measured_w: int, billed_w: int) -> None:
    assert over_contract(RULE, 500_000, measured_w) == billed_w


def test_a_threshold_between_two_watts_is_rounded_half_away() -> None:
    assert over_contract(RULE, 10, 11) == 12  # the threshold is 10.5 W: 11 + 0.5, rounded up


def test_the_ratchet_keeps_a_share_of_the_highest_counted_month() -> None:
    rule = Ratchet(8_000, 3, (6, 7, 8))
    past = [PastDemand(6, 900), PastDemand(7, 500), PastDemand(8, 600), PastDemand(9, 800)]
    assert ratcheted(rule, 100, past) == 480  # June is four months back, September does not count
    assert ratcheted(rule, 481, past) == 481
    assert ratcheted(rule, 100, []) == 100


def test_blocks_of_demand_are_filled_from_the_lowest() -> None:
    demand = replace(DEMAND, limits_w=(100_000, 300_000), prices_micro_per_kw_month=(10, 20, 30))
    assert demand_charge(demand, DemandPart(350_000, None)) == 100_000 * 10 + 200_000 * 20 + 50_000 * 30
    assert demand_charge(demand, DemandPart(100_000, None)) == 100_000 * 10
    assert demand_charge(demand, DemandPart(0, None)) == 0


def test_a_part_month_bills_thirtieths_rounded_half_away_to_the_nano() -> None:
    assert demand_charge(replace(DEMAND, prices_micro_per_kw_month=(1,)), DemandPart(1, 15)) == 1  # 0.5
    assert demand_charge(replace(DEMAND, prices_micro_per_kw_month=(1,)), DemandPart(1, 14)) == 0
    assert demand_charge(DEMAND, DemandPart(1000, 30)) == demand_charge(DEMAND, DemandPart(1000, None))


def test_a_change_of_contract_within_the_month_cuts_it_by_days() -> None:
    first, end = parse_date("2024-03-01"), parse_date("2024-04-01")
    steps = (ContractStep(first, 400), ContractStep(parse_date("2024-03-21"), 600))
    assert contract_parts(steps, first, end, True) == [DemandPart(400, 20), DemandPart(600, 11)]


def test_a_whole_month_of_one_contract_is_billed_once_however_many_days_it_has() -> None:
    first, end = parse_date("2024-03-01"), parse_date("2024-04-01")
    steps = (ContractStep(first, 400), ContractStep(parse_date("2024-03-21"), 400))
    assert contract_parts(steps, first, end, True) == [DemandPart(400, None)]
    assert contract_parts(steps, first, end - 1, False) == [DemandPart(400, 30)]


def test_before_its_first_step_nothing_is_contracted() -> None:
    first, end = parse_date("2024-03-01"), parse_date("2024-04-01")
    assert contract_parts((ContractStep(end - 1, 400),), first, end, True) == [DemandPart(0, 30), DemandPart(400, 1)]
