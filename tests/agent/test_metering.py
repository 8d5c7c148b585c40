"""The newest sample of every meter, with the one before it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from edge.agent.metering import MeterFacts, Metering
from edge.bus.records import MeterSample, Verdict
from edge.core.account import Register
from edge.core.commands import Sample
from edge.core.units import ClockQuality, ClockReading, UnixSeconds, WattHours


def sample(meter_id: str, at: int, register_wh: int, verdict: Verdict = "good") -> MeterSample:
    clock = ClockReading(UnixSeconds(at), at * 1000, "boot-1", ClockQuality.NTP)
    return MeterSample(meter_id, clock, WattHours(register_wh), {"voltage_l1": Decimal("230.1")}, verdict)


@pytest.fixture
def metering() -> Metering:
    """Two meters with accounts; a third one, M99, has none."""
    return Metering(
        {
            "M1": MeterFacts("A1", "M1", 5_000, WattHours(8), None),
            "M2": MeterFacts("A2", "M2", 20_000, WattHours(1), WattHours(1_000_000)),
        }
    )


def test_nothing_is_known_before_the_first_sample(metering: Metering) -> None:
    assert metering.samples({"A1", "A2"}) == ()
    assert metering.newest("M1") is None
    assert metering.latest("M1") is None


def test_first_sample_has_nothing_before_it(metering: Metering) -> None:
    read = sample("M1", 100, 1000)
    metering.on_sample(read)
    assert metering.samples({"A1", "A2"}) == (
        Sample("A1", UnixSeconds(100), WattHours(1000), None, False, WattHours(8), 5_000, None, clock=read.clock),
    )


def test_newest_sample_comes_with_the_one_before_it(metering: Metering) -> None:
    for at, register_wh in ((100, 1000), (200, 1010), (300, 1020)):
        metering.on_sample(sample("M1", at, register_wh))
    found = metering.latest("M1")
    assert found is not None
    assert (found.at, found.register_wh, found.before) == (300, 1020, Register(UnixSeconds(200), WattHours(1010)))


def test_same_sample_is_given_again_in_the_next_round(metering: Metering) -> None:
    metering.on_sample(sample("M1", 100, 1000))
    assert metering.samples({"A1"}) == metering.samples({"A1"}) != ()


def test_samples_are_those_of_the_accounts_asked_for(metering: Metering) -> None:
    for meter_id in ("M1", "M2", "M99"):
        metering.on_sample(sample(meter_id, 100, 1000))
    assert [entry.account_id for entry in metering.samples({"A2"})] == ["A2"]
    assert [entry.account_id for entry in metering.samples({"A1", "A2", "A3"})] == ["A1", "A2"]
    assert metering.samples(set()) == ()


def test_meter_without_account_is_shown_and_not_charged(metering: Metering) -> None:
    metering.on_sample(sample("M99", 100, 1000))
    newest = metering.newest("M99")
    assert newest is not None
    assert newest.values["voltage_l1"] == Decimal("230.1")
    assert metering.latest("M99") is None


@pytest.mark.parametrize(
    ("verdict", "confirmed"), [("good", False), ("confirmed_falling", True), ("confirmed_jump", True)]
)
def test_implausible_value_that_was_read_twice_is_marked(metering: Metering, verdict: Any, confirmed: bool) -> None:
    metering.on_sample(sample("M2", 100, 1000, verdict))
    found = metering.latest("M2")
    assert found is not None
    assert found.confirmed is confirmed
    assert (found.power_w_max, found.modulus_wh) == (20_000, 1_000_000)


def powered(at: int, power_w: int) -> MeterSample:
    return replace(sample("M1", at, 1000), values={"power_total": Decimal(power_w)})


def test_time_above_a_load_limit_is_counted_while_it_lasts(metering: Metering) -> None:
    found = []
    for at, power_w in ((100, 3000), (110, 3001), (130, 5000), (140, 3000), (150, 3001)):
        metering.on_sample(powered(at, power_w))
        found.append(metering.samples({"A1"}, {"A1": 3000})[0].power_over_s)
    assert found == [0, 0, 20, 0, 0]


def test_without_a_limit_no_time_is_counted(metering: Metering) -> None:
    for at in (100, 200):
        metering.on_sample(powered(at, 10**6))
        assert metering.samples({"A1"})[0].power_over_s == 0


BEHIND_40 = {
    "voltage_l1": Decimal("230.1"),
    "current_l1": Decimal("4.5"),
    "power_total": Decimal("1000.25"),
    "power_factor_total": Decimal("0.98"),
    "energy_import_total": Decimal("1.0005"),
    "frequency": Decimal("50.01"),
}


def test_a_meter_behind_transformers_counts_and_shows_what_really_flows() -> None:
    metering = Metering({"M1": MeterFacts("A1", "M1", 200_000, WattHours(320), None)}, {"M1": 40})
    for at, register_wh in ((100, 1000), (200, 1010)):
        metering.on_sample(replace(sample("M1", at, register_wh), values=BEHIND_40))
    found, newest = metering.latest("M1"), metering.newest("M1")
    assert found is not None
    assert newest is not None
    assert (found.register_wh, found.before) == (40_400, Register(UnixSeconds(100), WattHours(40_000)))
    assert (newest.register_wh, newest.verdict) == (40_400, "good")
    assert dict(newest.values) == {
        **BEHIND_40,
        "current_l1": Decimal("180.0"),
        "power_total": Decimal("40010.00"),
        "energy_import_total": Decimal("40.0200"),
    }
    assert "power_l1" not in newest.values
    assert newest.values.get("power_l1") is None


def test_a_load_limit_goes_by_the_power_behind_the_transformers() -> None:
    metering = Metering({"M1": MeterFacts("A1", "M1", 200_000, WattHours(320), None)}, {"M1": 40})
    for at in (100, 160):
        metering.on_sample(replace(sample("M1", at, 1000), values=BEHIND_40))
        [found] = metering.samples({"A1"}, {"A1": 40_000})
    assert found.power_over_s == 60


def test_without_transformers_a_sample_stays_the_one_that_came(metering: Metering) -> None:
    read = sample("M1", 100, 1000)
    metering.on_sample(read)
    assert metering.newest("M1") is read
