"""A landlord's account runs on the sum of its meters: the register of one of them is never taken for it."""

from dataclasses import replace
from typing import Any

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register
from edge.core.demand import Contracted
from edge.core.policy import Policy
from edge.core.units import UnixSeconds, WattHours


def exchange(site: Any, moment: int, last_wh: int, first_wh: int) -> list[Any]:
    last, first = (Register(UnixSeconds(moment), WattHours(wh)) for wh in (last_wh, first_wh))
    events: list[Any] = site.do(cmd.ExchangeMeter(site.clock(moment), "A01", "M77", last, first, "technician"))
    return events


def open_landlord(site: Any, moment: int, meters: int) -> None:
    register = Register(UnixSeconds(moment), WattHours(9_000))
    opening = cmd.OpenAccount(site.clock(moment), "A01", "M01", Policy(), "cn-hlj@1", register)
    site.do(replace(opening, meters=meters))


def test_the_exchange_of_one_of_several_meters_is_refused_and_moves_nothing(site: Any, at: Any) -> None:
    open_landlord(site, at("2024-05-01T08:00"), 2)
    before = site.state
    [event] = exchange(site, at("2024-05-01T09:00"), 9_100, 10)
    assert (event.condition, event.account) == ("meter_exchange_refused", "A01")
    assert "2 meters" in event.detail
    assert site.state == before


def test_an_account_with_one_meter_exchanges_it_as_before(site: Any, at: Any) -> None:
    open_landlord(site, at("2024-05-01T08:00"), 1)
    exchange(site, at("2024-05-01T09:00"), 9_100, 10)
    assert site.state.accounts["A01"].recorded.register_wh == 10


def test_the_site_book_says_how_many_meters_an_account_has(site: Any, at: Any) -> None:
    """Also of one that was opened before that was recorded."""
    open_landlord(site, at("2024-05-01T08:00"), 1)
    terms = (Policy(), False, Contracted(), 3)
    [event] = site.do(cmd.ChangeTerms(site.clock(at("2024-05-01T08:30")), "A01", *terms))
    assert isinstance(event, ev.TermsChanged)
    assert site.do(cmd.ChangeTerms(site.clock(at("2024-05-01T08:31")), "A01", *terms)) == []
    [refused] = exchange(site, at("2024-05-01T09:00"), 9_100, 10)
    assert "3 meters" in refused.detail
