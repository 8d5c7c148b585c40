"""Tariffs of a site: compiled when they are new or when time runs out, over all that is still to be rated."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import pytest

from edge.agent.pricing import (
    RENEW_BEFORE_END_S,
    SPAN_AHEAD_S,
    Pricing,
    load_documents,
    not_charged_on_site,
    read_tariff,
    tariff_key,
)
from edge.core.account import Account, Register, State
from edge.core.calendar import ZoneOffsets
from edge.core.charge import figures_of
from edge.core.policy import Policy
from edge.core.rating import CompiledTariff, Rate, reference_rate
from edge.core.rating_arrays import array_rate
from edge.core.tariff import TariffRefused
from edge.core.terms import ChargePart, Surcharge
from edge.core.units import SECONDS_PER_DAY, MoneyNano, UnixSeconds, WattHours
from edge.tariffs.presets import load_preset, preset_text
from edge.zone import zone_offsets
from native.kernel import TariffKernel


class Counted:
    """A pricing that counts how often it compiles."""

    def __init__(self, kit: Any) -> None:
        self.compiled: list[list[str]] = []
        self.spans: list[tuple[int, int]] = []
        self.documents = {kit.tariff_key: kit.tariff}
        self.pricing = Pricing("Asia/Shanghai", 2, self.make_rate, self.read_zone)

    def make_rate(self, tariffs: Sequence[CompiledTariff]) -> Rate:
        self.compiled.append([tariff.tariff_id for tariff in tariffs])
        return reference_rate(tariffs)

    def read_zone(self, name: str, first_at: int, end_at: int) -> ZoneOffsets:
        assert name == "Asia/Shanghai"
        self.spans.append((first_at, end_at))
        return zone_offsets(name, first_at, end_at)

    def rate(self, state: State, now: int) -> MoneyNano:
        """The live balance of the account, after 1 kWh since its record."""
        rating = self.pricing.rating(state, UnixSeconds(now))
        account = state.accounts["A1"]
        register = Register(UnixSeconds(max(now, account.recorded.at)), WattHours(account.recorded.register_wh + 1000))
        return figures_of(rating, [account], {"A1": register})["A1"].live_nano


@pytest.fixture
def counted(kit: Any) -> Counted:
    return Counted(kit)


@pytest.fixture
def state(kit: Any) -> State:
    """One account, recorded at the start."""
    register = Register(UnixSeconds(kit.start_at), WattHours(1000))
    account = Account("A1", "M1", Policy(), kit.tariff_key, MoneyNano(0), register, register, frozen=register)
    return State(accounts={"A1": account}, tariffs={kit.tariff_key: kit.tariff})


def recorded_at(state: State, at: int) -> State:
    account = replace(state.accounts["A1"], recorded=Register(UnixSeconds(at), WattHours(1000)))
    return replace(state, accounts={"A1": account})


def test_tariff_is_named_by_id_and_version(kit: Any) -> None:
    assert tariff_key(read_tariff(kit.tariff)) == "demo-street@1"
    assert load_documents([kit.tariff]) == {"demo-street@1": kit.tariff}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000, '"text"'])
def test_document_that_is_no_tariff_is_a_value_error(text: str) -> None:
    with pytest.raises((ValueError, TariffRefused)):
        read_tariff(text)


def test_rounds_of_a_year_compile_once(counted: Counted, state: State, kit: Any) -> None:
    for day in range(0, 200, 10):
        at = kit.start_at + day * SECONDS_PER_DAY
        counted.pricing.rating(recorded_at(state, at), UnixSeconds(at))
    assert len(counted.compiled) == 1


def test_new_tariff_is_compiled_and_the_old_one_stays(counted: Counted, state: State, kit: Any) -> None:
    counted.pricing.rating(state, UnixSeconds(kit.start_at))
    both = replace(state, tariffs={**state.tariffs, "demo-street@2": kit.tariff_document(version=2)})
    rating = counted.pricing.rating(both, UnixSeconds(kit.start_at))
    assert set(rating.indexes) == set(rating.positions) == {"demo-street@1", "demo-street@2"}
    assert len(counted.compiled) == 2
    assert counted.pricing.rating(both, UnixSeconds(kit.start_at)) is rating


def test_tariff_that_is_being_commissioned_is_priced_before_it_is_stored(counted: Counted, kit: Any) -> None:
    rating = counted.pricing.rating(State(), UnixSeconds(kit.start_at), counted.documents)
    assert rating.indexes == {"demo-street@1": 0}


def test_end_of_the_span_is_never_reached(counted: Counted, state: State, kit: Any) -> None:
    """A gateway that runs for years: the reserve of every day can be rated."""
    for day in range(0, 1500, 50):
        at = kit.start_at + day * SECONDS_PER_DAY
        assert counted.rate(recorded_at(state, at), at + 3600) < 0
        assert counted.spans[-1][1] - at >= RENEW_BEFORE_END_S
    assert 3 < len(counted.compiled) < 12


def test_oldest_record_is_covered_however_long_the_gateway_was_off(counted: Counted, state: State, kit: Any) -> None:
    now = kit.start_at + 500 * SECONDS_PER_DAY
    assert counted.rate(state, now) < 0
    assert counted.spans[-1][0] < kit.start_at


@pytest.mark.parametrize("now", [0, 946_684_800, 1_700_000_000])
def test_clock_that_is_not_set_yet_does_not_end_the_agent(counted: Counted, state: State, kit: Any, now: int) -> None:
    """A boot without network time: the record is of 2026, the clock says 1970."""
    assert counted.rate(state, now) < 0
    assert counted.rate(state, kit.start_at + 60) < 0  # and then the time comes
    assert counted.spans[-1] == (counted.spans[0][0], max(counted.spans[0][1], kit.start_at + SPAN_AHEAD_S))


@pytest.mark.parametrize("make_rate", [reference_rate, partial(array_rate, TariffKernel)])
@pytest.mark.parametrize("now", [0, 1_772_380_800])
def test_site_without_accounts_or_without_a_valid_tariff_rates_nothing(kit: Any, now: int, make_rate: Any) -> None:
    """A first boot without network time, and one whose commissioning is not done."""
    pricing = Pricing("Asia/Shanghai", 2, make_rate, zone_offsets)
    for documents in ({}, {kit.tariff_key: kit.tariff}):
        rating = pricing.rating(State(), UnixSeconds(now), documents)
        assert figures_of(rating, [], {}) == {}
        assert set(rating.valid_from) == set(documents)


def test_record_that_is_older_than_all_before_is_covered(counted: Counted, state: State, kit: Any) -> None:
    counted.pricing.rating(State(tariffs=state.tariffs), UnixSeconds(kit.start_at + 300 * SECONDS_PER_DAY))
    assert counted.rate(state, kit.start_at + 300 * SECONDS_PER_DAY) < 0


@pytest.mark.parametrize("day", ["2026-03-05", "2027-04-06", "2027-04-07", "2027-12-31", "2090-01-01", "9999-12-31"])
def test_tariff_that_is_valid_later_waits_and_disturbs_nobody(
    counted: Counted, state: State, kit: Any, day: str
) -> None:
    later = replace(state, tariffs={**state.tariffs, "demo-street@2": document_of(kit, 2, day)})
    rating = counted.pricing.rating(later, UnixSeconds(kit.start_at))
    assert rating.valid_from["demo-street@2"] == (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400 - 8 * 3600
    assert counted.rate(later, kit.start_at + 60) < 0


def test_tariff_that_waited_prices_from_its_first_day(counted: Counted, state: State, kit: Any) -> None:
    later = replace(state, tariffs={**state.tariffs, "demo-street@2": document_of(kit, 2, "2028-06-01")})
    first_at = counted.pricing.rating(later, UnixSeconds(kit.start_at)).valid_from["demo-street@2"]
    for before_days in range(700, -1, -50):
        at = first_at - before_days * SECONDS_PER_DAY
        rating = counted.pricing.rating(recorded_at(later, at), UnixSeconds(at))
        assert before_days > 200 or "demo-street@2" in rating.indexes
    account = replace(later.accounts["A1"], tariff="demo-street@2")
    then = recorded_at(replace(later, accounts={"A1": account}), first_at)
    assert counted.rate(then, first_at + 60) < 0


def document_of(kit: Any, version: int, valid_from: str) -> str:
    document: dict[str, Any] = json.loads(kit.tariff)
    return json.dumps({**document, "version": version, "valid_from": valid_from})


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cn-two-part", "a power-factor adjustment (no meter model here has reactive_import_total and reactive"),
    ],
)
def test_tariff_whose_parts_an_account_here_does_not_charge_is_named_with_them(name: str, part: str) -> None:
    fault = not_charged_on_site(load_preset(name)[-1])
    assert fault is not None
    assert part in fault


@pytest.mark.parametrize(
    "name",
    [
        "za-homelight-20a-2425",
        "demo-street",
        "cn-heilongjiang",
        "cn-zhejiang-tou",
        "cn-zhejiang-ci",
        "gb-cap-2024q2",
        "gb-cap-2024q3",
    ],
)
def test_tariff_of_energy_and_standing_charges_is_charged_here(name: str) -> None:
    assert not_charged_on_site(load_preset(name)[-1]) is None


def test_an_account_pays_the_price_of_the_band_of_its_last_months() -> None:
    document = preset_text("ke-domestic-2025")
    tariff = read_tariff(document)
    assert not_charged_on_site(tariff) is None
    assert tariff.bands is not None
    pricing = Pricing(tariff.time_zone, tariff.minor_digits, reference_rate, zone_offsets)
    key, now = tariff_key(tariff), UnixSeconds(1_767_225_600)
    register = Register(now, WattHours(0))
    account = Account("A1", "M1", Policy(), key, MoneyNano(0), register, register, frozen=register)
    rating = pricing.rating(State(accounts={"A1": account}, tariffs={key: document}), now)
    later = {"A1": Register(UnixSeconds(now + 60), WattHours(1000))}
    prices = set()
    months: Any
    for months in ((), (5_000,) * 3, (60_000,) * 3, (500_000,) * 3, (500_000,) * 3 + (5_000,) * 3):
        banded = replace(account, month_energies_wh=months)
        band = tariff.in_band(tariff.bands.band_of(months))
        cost = figures_of(rating, [banded], later)["A1"].estimate_nano
        assert cost == 1000 * band.periods[0].prices_micro_per_kwh[0]
        prices.add(cost)
    assert len(prices) == len(tariff.bands.names)


def taxed(kit: Any, percent: str) -> str:
    tax = {"name": "vat", "percent": percent, "base": ["energy"]}
    return json.dumps({**json.loads(kit.tariff), "surcharges": [tax]})


def test_a_tax_on_energy_is_in_the_price_an_account_is_charged(counted: Counted, state: State, kit: Any) -> None:
    bare = counted.rate(state, kit.start_at + 60)
    assert not_charged_on_site(read_tariff(taxed(kit, "10"))) is None
    with_tax = replace(state, tariffs={kit.tariff_key: taxed(kit, "10")})
    assert counted.rate(with_tax, kit.start_at + 60) * 10 == bare * 11


def test_a_tax_that_leaves_no_whole_price_is_named() -> None:
    shandong = load_preset("cn-shandong")[-1]  # 0.5469 a kWh
    tax = Surcharge("tax", 3333, (ChargePart.ENERGY,), None)
    fault = not_charged_on_site(replace(shandong, terms=replace(shandong.terms, surcharges=(tax,))))
    assert fault is not None
    assert "surcharges that do not come out whole" in fault
