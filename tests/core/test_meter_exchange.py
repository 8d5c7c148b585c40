"""A meter is exchanged: charged up to the last register once, nothing between the two unless somebody estimates it."""

from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register
from edge.core.units import UnixSeconds, WattHours

START, LAST, FIRST = "2024-05-01T08:00", "2024-05-01T09:00", "2024-05-01T11:00"
OPENED_WH = 9_000


def exchange(site: Any, at: Any, last_wh: int, **changes: Any) -> list[Any]:
    last, first = Register(UnixSeconds(at(LAST)), WattHours(last_wh)), Register(UnixSeconds(at(FIRST)), WattHours(10))
    command = cmd.ExchangeMeter(site.clock(at(FIRST)), "A01", "M77", last, first, "technician", **changes)
    events: list[Any] = site.do(command)
    return events


@pytest.fixture
def opened(site: Any, at: Any) -> Any:
    site.open(at(START), OPENED_WH, 100 * 10**9)
    return site


def used_wh(site: Any) -> int:
    return sum(site.state.accounts["A01"].cycle_energy_wh)


def test_the_gap_between_two_meters_costs_nothing(opened: Any, at: Any) -> None:
    exchange(opened, at, 9_100)
    assert used_wh(opened) == 100
    opened.round(at("2024-05-01T12:00"), 60)
    assert opened.last.figures["A01"].fresh.cycle_energy_wh == (150,)


def test_an_estimate_for_the_gap_is_charged_once_and_the_record_says_so(opened: Any, at: Any) -> None:
    [event] = [one for one in exchange(opened, at, 9_100, estimated_wh=400) if isinstance(one, ev.MeterExchanged)]
    assert (event.last_wh, event.estimated_wh, event.first_wh) == (9_100, 400, 10)
    assert used_wh(opened) == 500
    assert opened.state.accounts["A01"].recorded == Register(UnixSeconds(at(FIRST)), WattHours(10))
    assert exchange(opened, at, 9_100, estimated_wh=400) == []
    assert used_wh(opened) == 500


@pytest.mark.parametrize("estimated_wh", [-1, 40_002, 10**9])
def test_an_estimate_above_what_the_breaker_lets_through_is_refused_and_moves_nothing(
    opened: Any, at: Any, estimated_wh: int
) -> None:
    before = opened.state
    [event] = exchange(opened, at, 9_100, estimated_wh=estimated_wh)
    assert event.condition == "meter_exchange_refused"
    assert opened.state == before


@pytest.mark.parametrize("last_wh", [8_999, 29_002])
def test_a_last_register_that_cannot_be_believed_is_refused_and_moves_nothing(
    opened: Any, at: Any, last_wh: int
) -> None:
    before = opened.state
    events = exchange(opened, at, last_wh)
    assert [event.condition for event in events] == ["meter_exchange_refused"]
    assert opened.state == before


def test_a_larger_breaker_makes_a_larger_last_register_believable(opened: Any, at: Any) -> None:
    exchange(opened, at, 59_000, power_w_max=50_000)
    assert used_wh(opened) == 50_000


def test_where_the_last_register_came_from_and_the_signed_record_are_in_the_journal(opened: Any, at: Any) -> None:
    events = exchange(opened, at, 9_100, last_source="estimated", record="ab" * 32)
    assert (events[-1].last_source, events[-1].record) == ("estimated", "ab" * 32)
