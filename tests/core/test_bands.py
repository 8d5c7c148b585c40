"""Bands by the energy of the last months (Kenya) on a live account: a new band from the month's first midnight."""

from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.calendar import midnight_of
from edge.core.charge import BandRates, Rating
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.rating import reference_rate
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import MoneyNano

QUIET = Policy(reserve_days=0, grace_hours=10**6)
LOW, HIGH = 10_000_000, 20_000_000  # prices of the bands
FIRST_DAY = 19_700


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def banded(site: Any, document: Any) -> Any:
    """Up to a mean of 30 kWh in the last three months 10 a kWh, above it 20; without history 10."""
    bands = {"months": 3, "bands": [{"name": "d1", "limit_kwh": "30", "limit_included": True}, {"name": "d2"}]}
    by_band = {name: {"table": {"all": [price]}} for name, price in (("d1", "10"), ("d2", "20"))}
    made = document(bands=bands, prices={"by_band": by_band})
    tariff = load_tariff({key: value for key, value in made.items() if key != "blocks"})
    assert tariff.bands is not None
    zone, rating = site.rating.zone, site.rating
    start, end = midnight_of(zone, FIRST_DAY), midnight_of(zone, FIRST_DAY + 1000)
    tables = [compile_tariff([each], zone, start, end) for each in (tariff, tariff.in_band(0), tariff.in_band(1))]
    key = "cn-hlj@1"
    site.rating = Rating(
        reference_rate(tables),
        {key: 0},
        {key: 1},
        {key: start},
        zone,
        rating.minor_nano,
        bands={key: BandRates(tariff.bands, (1, 2))},
    )
    return site


def prices(site: Any) -> list[int]:
    assert reduce(apply, site.events, State()) == site.state
    return [line.price_micro_per_kwh for bill in of(site.events, ev.BillIssued) for line in bill.lines]


def test_each_month_is_priced_by_the_months_before_it(banded: Any, at: Any) -> None:
    banded.open(at("2024-04-01T00:00"), 0, 0, QUIET)
    register = 0
    for month, kwh in enumerate((40, 10, 40, 50, 0, 0), 5):
        register += kwh * 1000
        banded.round(at(f"2024-{month:02d}-01T00:00"), register)
    counted = [(event.energy_wh, event.whole) for event in of(banded.events, ev.MonthCounted)]
    assert counted == [(kwh * 1000, True) for kwh in (40, 10, 40, 50, 0, 0)]
    # No history; mean 40; mean 25; mean 30 (included); 33.3; 30.
    assert prices(banded) == [LOW, HIGH, LOW, LOW]
    banded.round(at("2024-10-02T00:00"), register + 1000)
    assert [line.price_micro_per_kwh for line in banded.state.accounts["A01"].charged] == [LOW]


def test_energy_on_both_sides_of_the_months_midnight_has_two_prices(banded: Any, at: Any) -> None:
    banded.open(at("2024-04-01T00:00"), 0, 0, QUIET)
    banded.round(at("2024-04-30T12:00"), 60_000)
    banded.round(at("2024-05-01T12:00"), 62_000)
    assert prices(banded) == [LOW]
    assert of(banded.events, ev.BillIssued)[0].energy_wh == 61_000
    (line,) = banded.state.accounts["A01"].charged
    assert (line.energy_wh, line.price_micro_per_kwh) == (1_000, HIGH)


def test_a_month_that_was_not_seen_whole_is_no_history(banded: Any, at: Any) -> None:
    banded.open(at("2024-04-10T00:00"), 0, 0, QUIET)
    banded.round(at("2024-05-01T00:00"), 90_000)
    banded.round(at("2024-06-01T00:00"), 91_000)
    counted = [(event.energy_wh, event.whole) for event in of(banded.events, ev.MonthCounted)]
    assert counted == [(0, False), (1_000, True)]
    assert prices(banded) == [LOW, LOW]
    assert banded.state.accounts["A01"].month_energies_wh == (1_000,)


def test_the_next_tenant_has_no_history(banded: Any, at: Any) -> None:
    banded.open(at("2024-04-01T00:00"), 0, 0, QUIET)
    banded.round(at("2024-05-01T00:00"), 90_000)
    now = at("2024-05-01T00:00")
    order = cmd.ChangeTenant(banded.clock(now), "A01", "tenant-2", MoneyNano(0), sample=banded.sample(now, 90_000))
    banded.do(order)
    banded.round(at("2024-06-01T00:00"), 95_000)
    assert prices(banded) == [LOW, LOW]
    assert banded.state.accounts["A01"].month_energies_wh == (5_000,)


def test_a_tariff_without_bands_counts_no_months(site: Any, at: Any) -> None:
    site.open(at("2024-04-01T00:00"), 0, 0, QUIET)
    site.round(at("2024-06-01T00:00"), 90_000)
    assert of(site.events, ev.MonthCounted) == []
