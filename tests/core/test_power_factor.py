"""The power-factor adjustment: the table of 1983 whole, and the mean factor without a root."""

from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.power_factor import STANDARDS_X100, adjustment_ppm, mean_power_factor, reactive_used

ENERGY = st.integers(0, 10**12)

# The table's columns from the best power factor down, in hundredths of a percent.
BELOW_90 = [*range(50, 1001, 50), 1100, 1200, 1300, 1400, 1500, *range(1700, 4501, 200)]
COLUMNS = {
    90: [*[-75] * 6, -60, -45, -30, -15, 0, *BELOW_90],
    85: [*[-110] * 7, -95, -80, -65, -50, -40, -30, -20, -10, 0, *BELOW_90[:35]],
    80: [*[-130] * 9, -115, *range(-100, 0, 10), 0, *BELOW_90[:30]],
}


@pytest.mark.parametrize("standard", STANDARDS_X100)
def test_the_table_is_whole_from_100_to_50(standard: int) -> None:
    column = COLUMNS[standard]
    assert len(column) == 51
    assert [adjustment_ppm(standard, factor) for factor in range(100, 49, -1)] == [percent * 100 for percent in column]


@pytest.mark.parametrize("standard", STANDARDS_X100)
def test_a_worse_power_factor_never_costs_less(standard: int) -> None:
    adjustments = [adjustment_ppm(standard, factor) for factor in range(101)]
    assert adjustments == sorted(adjustments, reverse=True)


def test_standard_that_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="90, 85 and 80, not 95"):
        adjustment_ppm(95, 90)


@given(ENERGY, ENERGY)
def test_mean_power_factor_is_the_root_rounded_half_up(active_wh: int, reactive_varh: int) -> None:
    getcontext().prec = 60
    factor = mean_power_factor(active_wh, reactive_varh)
    apparent = (Decimal(active_wh) ** 2 + Decimal(reactive_varh) ** 2).sqrt()
    if apparent == 0:
        assert factor is None
    else:
        assert factor == int(Decimal(active_wh) * 100 / apparent + Decimal("0.5"))


def test_without_any_energy_there_is_no_power_factor() -> None:
    assert mean_power_factor(0, 0) is None
    assert mean_power_factor(0, 1) == 0


def test_both_directions_of_reactive_energy_count_whatever_their_sign() -> None:
    assert reactive_used(3, -4) == reactive_used(3, 4) == 7
