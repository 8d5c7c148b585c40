"""edge.core.step: typed tokens become credit once, whole, and only in the account's own unit."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import NANO_PER_WATT_HOUR, CreditTerms, CreditUnit
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.token import EnterToken, PaygoToken, StsToken, TokenAccepted, TokenKind, TokenRefused, Unreadable
from edge.core.units import MoneyNano

ENERGY = replace(Policy(), credit=CreditTerms(unit=CreditUnit.ENERGY))
TIME = replace(Policy(), credit=CreditTerms(unit=CreditUnit.TIME))
START, LATER = "2024-04-13T00:00", "2024-04-13T01:00"


def sts(tid: int = 5_000_000, tenths: int = 250) -> StsToken:
    """25.0 kWh."""
    return StsToken(token_class=0, subclass=0, random=3, tid=tid, amount_tenths=tenths)


def metered(site: Any, at: Any, policy: Policy = ENERGY) -> Any:
    """An account whose decoder takes STS, and another one OpenPAYGO."""
    site.open(at(START), 0, 0, policy)
    site.do(cmd.CommissionDecoder(site.clock(at(START)), "M01", base_year=1993))
    site.do(cmd.CommissionDecoder(site.clock(at(START)), "P01", count=3))
    return site


def enter(site: Any, at: Any, read: Any, when: str = LATER, decoder: str = "M01", account: str = "A01") -> list[Any]:
    done: list[Any] = site.do(EnterToken(site.clock(at(when)), account, decoder, "kiosk", read, "ignored"))
    return done


def money(site: Any) -> int:
    amount: int = site.state.accounts["A01"].money_nano
    return amount


def test_an_energy_token_is_credit_in_watt_hours_with_its_money_in_one_step(site: Any, at: Any) -> None:
    metered(site, at)
    events = enter(site, at, sts())
    assert [type(event).__name__ for event in events][:2] == ["TokenAccepted", "PaymentApplied"]
    assert events[1].payment_id == events[0].token_id == "sts:M01:1993:5000000"
    assert money(site) == 25_000 * NANO_PER_WATT_HOUR
    assert events[1].door == "token"


def test_a_token_counts_once(site: Any, at: Any) -> None:
    metered(site, at)
    enter(site, at, sts())
    (refused,) = enter(site, at, sts())
    assert (refused.reason, money(site)) == ("used", 25_000 * NANO_PER_WATT_HOUR)


def test_time_tokens_are_seconds(site: Any, at: Any) -> None:
    metered(site, at, TIME)
    token = PaygoToken(TokenKind.CREDIT, value=2, count=5, amount_s=2 * 86_400)
    enter(site, at, token, decoder="P01")
    assert money(site) == 2 * 86_400 * 1_000_000
    (refused,) = enter(site, at, token, decoder="P01")
    assert refused.reason == "used"


@pytest.mark.parametrize("policy", [Policy(), TIME])
def test_a_token_of_another_unit_is_refused_and_not_spent(site: Any, at: Any, policy: Policy) -> None:
    metered(site, at, policy)
    (refused,) = enter(site, at, sts())
    assert (refused.reason, money(site)) == ("unit", 0)
    site.do(cmd.ChangeTerms(site.clock(at(LATER)), "A01", ENERGY, protected=False))
    assert isinstance(enter(site, at, sts())[0], TokenAccepted)


def test_a_limit_refuses_and_leaves_the_token_unspent(site: Any, at: Any) -> None:
    most = MoneyNano(24_000 * NANO_PER_WATT_HOUR)
    metered(site, at, replace(ENERGY, payment_nano_max=most))
    (refused,) = enter(site, at, sts())
    assert isinstance(refused, TokenRefused)
    assert (refused.reason, money(site)) == ("above_limit", 0)
    site.do(cmd.ChangeTerms(site.clock(at(LATER)), "A01", ENERGY, protected=False))
    enter(site, at, sts())
    assert money(site) == 25_000 * NANO_PER_WATT_HOUR


def test_a_wrong_entry_locks_the_door_over_a_replay_of_the_journal(site: Any, at: Any) -> None:
    metered(site, at)
    (wrong,) = enter(site, at, Unreadable("crc", guess=True))
    assert (wrong.reason, wrong.wait_s) == ("crc", 60)
    site.state = reduce(apply, site.events, State())
    (locked,) = enter(site, at, sts(), "2024-04-13T01:00:59")
    assert (locked.reason, money(site)) == ("locked", 0)
    enter(site, at, sts(), "2024-04-13T01:01:00")
    assert money(site) == 25_000 * NANO_PER_WATT_HOUR


def test_a_decoder_commissioned_again_keeps_what_it_remembers(site: Any, at: Any) -> None:
    metered(site, at)
    enter(site, at, sts())
    assert site.do(cmd.CommissionDecoder(site.clock(at(LATER)), "M01", base_year=1993)) == []
    assert enter(site, at, sts())[0].reason == "used"


def test_nobodys_token_is_nothing(site: Any, at: Any) -> None:
    metered(site, at)
    assert enter(site, at, sts(), account="A99") == []


def test_a_token_restores_a_supply_like_any_payment(site: Any, at: Any) -> None:
    metered(site, at, replace(ENERGY, grace_hours=0, pre_cut_notice_minutes=0))
    for minute in range(1, 6):
        when = f"2024-04-13T00:0{minute}"
        site.round(at(when), 100)
        for number in (2, 3):
            site.receipt(at(when), number)
    assert site.state.accounts["A01"].control_state.value == "ready_for_reconnection"
    enter(site, at, sts())
    assert site.state.accounts["A01"].control_state.value == "connected"
    assert [event for event in site.events if isinstance(event, ev.PaymentApplied)]
