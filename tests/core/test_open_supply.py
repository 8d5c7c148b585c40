"""edge.core.step: energy through an open relay, and supplies that are opened for too much power."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.policy import LoadLimit, Policy
from edge.core.reading import plausible_energy
from edge.core.units import MoneyNano

NANO = 1_000_000_000
START = "2024-04-13T00:00"
LIMIT = LoadLimit(power_w=3000, period_s=60, restoration_s=600)


def bypasses(events: Any) -> list[int]:
    return [event.energy_wh for event in events if isinstance(event, ev.EnergyWhileDisconnected)]


@pytest.fixture
def opened(site: Any, at: Any) -> Any:
    """An account whose relay was read back open at 10,000 Wh at most."""
    site.open(at(START), 0, 100 * NANO)
    allowed_wh = plausible_energy(20_000, 60, 0)
    sample = site.sample(at("2024-04-13T10:00"), 10_000 - allowed_wh)
    site.do(cmd.ObserveOutputState(site.clock(at("2024-04-13T10:00")), "A01", False, sample))
    return site


def test_energy_through_an_open_relay_is_told_and_charged(opened: Any, at: Any) -> None:
    assert bypasses(opened.round(at("2024-04-13T10:15"), 10_499)) == []
    assert bypasses(opened.round(at("2024-04-13T10:30"), 10_500)) == [500]
    assert bypasses(opened.round(at("2024-04-13T10:45"), 10_900)) == []
    assert bypasses(opened.round(at("2024-04-13T11:00"), 11_100)) == [600]
    assert opened.state.accounts["A01"].estimate_nano == 11_100 * 510_000


def test_energy_between_the_last_sample_and_the_read_back_is_no_bypass(site: Any, at: Any) -> None:
    """Half an hour of 20 kW may have gone through the relay before it opened."""
    site.open(at(START), 0, 100 * NANO)
    sample = site.sample(at("2024-04-13T09:30"), 1000)
    site.do(cmd.ObserveOutputState(site.clock(at("2024-04-13T10:00")), "A01", False, sample))
    assert bypasses(site.round(at("2024-04-13T10:15"), 1000 + 10_000)) == []
    assert bypasses(site.round(at("2024-04-13T11:00"), 1000 + 12_000)) != []


def test_a_closed_relay_is_no_bypass(opened: Any, at: Any) -> None:
    sample = opened.sample(at("2024-04-13T11:00"), 10_100)
    opened.do(cmd.ObserveOutputState(opened.clock(at("2024-04-13T11:00")), "A01", True, sample))
    assert bypasses(opened.round(at("2024-04-13T11:15"), 13_000)) == []


def test_what_was_used_before_the_relay_opened_is_no_bypass(site: Any, at: Any) -> None:
    site.open(at(START), 0, 100 * NANO)
    site.do(cmd.ObserveOutputState(site.clock(at("2024-04-13T10:00")), "A01", False))  # no sample: no ground to tell
    assert bypasses(site.round(at("2024-04-13T10:15"), 10_000)) == []


# --- load limit ------------------------------------------------------------------------------


@pytest.fixture
def limited(site: Any, at: Any) -> Any:
    site.open(at(START), 0, 100 * NANO, replace(Policy(), load_limit=LIMIT))
    return site


def control(site: Any) -> ControlState:
    state: ControlState = site.state.accounts["A01"].control_state
    return state


def test_a_load_above_the_limit_for_its_time_opens_the_supply_and_it_closes_again(limited: Any, at: Any) -> None:
    limited.round(at("2024-04-13T10:00"), 0, power_over_s=59)
    assert control(limited) is ControlState.CONNECTED
    limited.round(at("2024-04-13T10:00:01"), 0, power_over_s=60)
    assert control(limited) is ControlState.READY_FOR_RECONNECTION
    assert limited.state.accounts["A01"].local_reason == "load_limit"
    limited.round(at("2024-04-13T10:10"), 0)
    assert control(limited) is ControlState.READY_FOR_RECONNECTION
    limited.round(at("2024-04-13T10:10:01"), 0)
    assert control(limited) is ControlState.CONNECTED


def test_credit_does_not_shorten_the_pause_of_a_load_limit(limited: Any, at: Any) -> None:
    limited.round(at("2024-04-13T10:00"), 0, power_over_s=60)
    limited.pay(at("2024-04-13T10:01"), 10 * NANO)
    assert control(limited) is ControlState.READY_FOR_RECONNECTION


def test_an_armed_supply_waits_for_the_key(site: Any, at: Any) -> None:
    site.open(at(START), 0, 100 * NANO, replace(Policy(), load_limit=replace(LIMIT, armed=True)))
    site.round(at("2024-04-13T10:00"), 0, power_over_s=60)
    press = cmd.SwitchSupply(site.clock(at("2024-04-13T10:05")), "A01", Trigger.MANUAL_RECONNECT, "key")
    site.do(press)
    assert control(site) is ControlState.READY_FOR_RECONNECTION
    site.round(at("2024-04-13T10:11"), 0)
    assert control(site) is ControlState.READY_FOR_RECONNECTION
    site.do(replace(press, received=site.clock(at("2024-04-13T10:12"))))
    assert control(site) is ControlState.CONNECTED


@pytest.mark.parametrize("protection", [{"protected": True}, {"keep_supply": True}])
def test_a_load_limit_never_opens_a_protected_supply(limited: Any, at: Any, protection: dict[str, bool]) -> None:
    account = replace(limited.state.accounts["A01"], **protection)
    limited.state = replace(limited.state, accounts={"A01": account})
    limited.round(at("2024-04-13T10:00"), 0, power_over_s=600)
    assert control(limited) is ControlState.CONNECTED


def test_without_a_limit_no_load_opens_anything(site: Any, at: Any) -> None:
    site.open(at(START), 0, MoneyNano(NANO))
    site.round(at("2024-04-13T10:00"), 0, power_over_s=10**6)
    assert control(site) is ControlState.CONNECTED


def test_a_meter_that_fell_silent_over_its_limit_opens_nothing(limited: Any, at: Any) -> None:
    """Its newest sample, over the limit for long, is given again every round: it is no reading of now."""
    read_at = at("2024-04-13T10:00")
    late = read_at + Policy().cut_reading_age_s_max + 1
    stale = limited.sample(read_at, 0, power_over_s=600)
    limited.do(cmd.TakeRound(limited.clock(late), (stale,), True))
    assert control(limited) is ControlState.CONNECTED
    limited.do(cmd.TakeRound(limited.clock(late - 1), (stale,), True))
    assert control(limited) is ControlState.READY_FOR_RECONNECTION
