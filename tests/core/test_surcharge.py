"""edge.core.surcharge: prices with taxes in them charge to the nano what the bill's own lines add up to."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.bill import Usage, bill_tables, make_bill
from edge.core.calendar import fixed_zone
from edge.core.rating import Interval, reference_rate
from edge.core.surcharge import with_surcharges
from edge.core.tariff import Tariff, load_tariff

DAY_S = 86_400
SHANGHAI = fixed_zone("Asia/Shanghai", 8 * 3600, 1_900_000_000)
VAT = {"name": "vat", "percent": "13", "base": ["all"]}
FUND = {"name": "fund", "price_per_kwh": "0.019"}
THIRD = {"name": "levy", "percent": "33.33", "base": ["energy"]}
ON_ENERGY = {"name": "levy", "percent": "5", "base": ["energy"]}


def tariff_of(document: Any, *surcharges: Any, **parts: Any) -> Tariff:
    prices = {"table": {"all": ["0.51", "0.56", "0.81"]}}
    standing = [{"name": "daily", "amount": "0.6", "per": "day"}]
    parts = {"prices": prices, "standing_charges": standing, **parts}
    return load_tariff(document(surcharges=list(surcharges), **parts))


def charge_of(tariff: Tariff, energy_wh: int, days: int, start_at: int) -> int:
    end_at = start_at + days * DAY_S
    tables = bill_tables([tariff], SHANGHAI, start_at - DAY_S, end_at + DAY_S)
    rated = reference_rate([tables])([tables.fresh_position(0)], [Interval(0, start_at, end_at, energy_wh)])
    return make_bill([tariff], SHANGHAI, Usage(start_at, end_at, rated)).charge_nano


CASES = [
    (),
    (FUND,),
    (VAT,),
    (ON_ENERGY,),
    (FUND, VAT),
    (VAT, FUND),
    (ON_ENERGY, FUND, VAT),
    ({"name": "rebate", "price_per_kwh": "-0.02"},),
    ({"name": "rebate", "percent": "-10", "base": ["energy", "standing"]}, VAT),
    ({"name": "line", "percent": "20", "base": ["standing"]}, VAT),
]


@pytest.mark.parametrize("surcharges", CASES, ids=lambda case: "-".join(item["name"] for item in case) or "none")
@settings(max_examples=15, deadline=None)
@given(energy_wh=st.integers(0, 400_000), days=st.integers(1, 28))
def test_raised_prices_come_to_the_charge_of_the_bills_own_lines(
    document: Any, at: Any, surcharges: Any, energy_wh: int, days: int
) -> None:
    tariff, start_at = tariff_of(document, *surcharges), at("2024-04-01T00:00")
    raised = with_surcharges(tariff)
    assert raised is not None
    assert raised.terms.surcharges == ()
    assert charge_of(raised, energy_wh, days, start_at) == charge_of(tariff, energy_wh, days, start_at)


def test_thirteen_percent_on_energy_and_fund_is_in_the_price(document: Any) -> None:
    raised = with_surcharges(tariff_of(document, FUND, VAT))
    assert raised is not None
    prices = raised.periods[0].prices_micro_per_kwh
    assert prices == (597_770, 654_270, 936_770)  # (0.51 + 0.019) x 1.13
    assert raised.terms.standing_charges[0].amount_nano == 678_000_000


@pytest.mark.parametrize(
    ("surcharges", "parts"),
    [
        ((VAT,), {"prices": {"table": {"all": ["0.510001", "0.56", "0.81"]}}}),
        ((THIRD,), {"prices": {"table": {"all": ["0.5", "0.5", "1.00001"]}}}),
        (
            ({"name": "levy", "percent": "33.33", "base": ["energy"]},),
            {"prices": {"table": {"all": ["0.5"] * 2 + ["1.00001"]}}},
        ),
        (({"name": "rebate", "price_per_kwh": "-0.52"},), {}),
    ],
)
def test_what_does_not_stay_whole_or_falls_below_zero_is_not_charged_on_site(
    document: Any, surcharges: Any, parts: Any
) -> None:
    assert with_surcharges(tariff_of(document, *surcharges, **parts)) is None


def test_a_price_that_would_leave_the_kernels_bounds_is_not_raised(document: Any) -> None:
    prices = {"table": {"all": ["0.51", "0.56", "90"]}}
    tariff = tariff_of(document, VAT, prices=prices, cycle_energy_kwh_max="100000000")
    assert with_surcharges(tariff) is None


def test_a_standing_charge_that_does_not_stay_whole_is_not_raised(document: Any) -> None:
    standing = [{"name": "daily", "amount": "0.000001", "per": "day"}]
    levy = {"name": "levy", "percent": "0.01", "base": ["standing"]}
    assert with_surcharges(tariff_of(document, levy, standing_charges=standing)) is None
    assert with_surcharges(tariff_of(document, {**levy, "percent": "10"}, standing_charges=standing)) is not None


def test_every_band_is_raised(document: Any) -> None:
    bands = {"months": 3, "bands": [{"name": "d1", "limit_kwh": "30", "limit_included": True}, {"name": "d2"}]}
    by_band = {name: {"table": {"all": [price]}} for name, price in (("d1", "10"), ("d2", "20"))}
    tariff = load_tariff(
        {
            key: value
            for key, value in document(bands=bands, prices={"by_band": by_band}, surcharges=[VAT]).items()
            if key != "blocks"
        }
    )
    raised = with_surcharges(tariff)
    assert raised is not None
    assert [band[0].prices_micro_per_kwh for band in raised.prices_by_band] == [(11_300_000,), (22_600_000,)]
    assert raised.in_band(1).periods[0].prices_micro_per_kwh == (22_600_000,)
