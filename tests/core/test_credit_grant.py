"""edge.core.credit_grant: what comes with time or with little use, what is spent first, what lapses."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import CreditGrant, CreditTerms, GrantKind, GrantPeriod, check_credit_terms
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.units import MoneyNano, WattHours

NANO = 1_000_000_000
DAY_S = 86_400
PRICE = 510_000  # a Wh of the first block
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)


def grant(name: str = "free", **changes: Any) -> CreditGrant:
    made = CreditGrant(name, GrantKind.TIME, GrantPeriod.DAY, MoneyNano(NANO))
    return replace(made, **changes)


def policy(*grants: CreditGrant, **changes: Any) -> Policy:
    return replace(QUIET, credit=CreditTerms(grants=grants), **changes)


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def run(site: Any, at: Any, terms: Policy, *daily_wh: int) -> Any:
    """Days from 1 April 2024 (a Monday) with so much energy each; returns the account, replayed."""
    start, register = at("2024-04-01T00:00"), 0
    site.open(start, 0, 0, terms)
    for day, energy_wh in enumerate(daily_wh, 1):
        register += energy_wh
        site.round(start + day * DAY_S - 3600, register, record=day % 2 == 0)
        site.round(start + day * DAY_S, register)
    return account(site)


def account(site: Any) -> Any:
    assert reduce(apply, site.events, State()) == site.state
    found = site.state.accounts["A01"]
    assert found.money_nano == sum(getattr(event, "posting_nano", 0) for event in site.events)
    return found


@pytest.mark.parametrize(
    ("period", "granted_on"),
    [(GrantPeriod.DAY, list(range(2, 32))), (GrantPeriod.WEEK, [8, 15, 22, 29]), (GrantPeriod.MONTH, [16])],
)
def test_a_time_based_credit_is_granted_at_the_start_of_each_period(
    site: Any, at: Any, period: GrantPeriod, granted_on: list[int]
) -> None:
    found = run(site, at, policy(grant(period=period), issue_day=15), *[0] * 30)
    start = at("2024-03-31T00:00")
    assert [(event.at - start) // DAY_S for event in of(site.events, ev.CreditPeriodBegan)] == granted_on
    assert found.money_nano == len(granted_on) * NANO == found.grants["free"].left_nano


def test_what_is_not_spent_of_a_credit_that_lapses_is_taken_back(site: Any, at: Any) -> None:
    found = run(site, at, policy(grant(lapses=True)), 9_000, 1_000, 500, 3_000)
    lapsed = [-event.posting_nano for event in of(site.events, ev.GrantedCreditLapsed)]
    assert lapsed == [NANO - 1_000 * PRICE, NANO - 500 * PRICE]  # 3 kWh spend all of it
    assert found.money_nano == NANO + (1_000 + 500) * PRICE + NANO
    assert found.grants["free"].left_nano == NANO


def test_what_does_not_lapse_adds_up(site: Any, at: Any) -> None:
    found = run(site, at, policy(grant()), 0, 1_000, 0)
    assert of(site.events, ev.GrantedCreditLapsed) == []
    assert found.grants["free"].left_nano == 3 * NANO - 1_000 * PRICE


def test_grants_are_spent_in_the_order_of_their_priority(site: Any, at: Any) -> None:
    grants = (grant("late", priority=9), grant("early", priority=1), grant("middle", priority=5))
    run(site, at, policy(*grants), 0, 3_000)
    (spent,) = of(site.events, ev.GrantedCreditSpent)
    assert spent.spent == (("early", NANO), ("middle", 3_000 * PRICE - NANO))
    left = {name: state.left_nano for name, state in account(site).grants.items()}
    assert left == {"early": NANO, "middle": 3 * NANO - 3_000 * PRICE, "late": 2 * NANO}


def test_what_was_used_before_a_grant_is_not_spent_from_it(site: Any, at: Any) -> None:
    found = run(site, at, policy(grant(period=GrantPeriod.WEEK)), *[2_000] * 7, 100)
    assert found.grants["free"].left_nano == NANO - 100 * PRICE


def test_standing_charges_and_time_debts_spend_it_too(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(standing_charges=[{"name": "daily", "amount": "0.4", "per": "day"}]))
    found = run(site, at, policy(grant(lapses=True)), 0, 0, 0)
    assert [-event.posting_nano for event in of(site.events, ev.GrantedCreditLapsed)] == [6 * NANO // 10] * 2
    assert found.money_nano == NANO - 4 * NANO // 10


@pytest.mark.parametrize(("used_wh", "granted"), [(7_000, True), (7_001, False)])
def test_a_consumption_based_credit_rewards_a_whole_period_of_little_use(
    site: Any, at: Any, used_wh: int, granted: bool
) -> None:
    thrift = grant(kind=GrantKind.CONSUMPTION, period=GrantPeriod.WEEK, energy_wh_max=WattHours(7_000))
    run(site, at, policy(thrift), *[0] * 7, *[1_000] * 6, used_wh - 6_000, 0)
    began = of(site.events, ev.CreditPeriodBegan)
    assert [event.posting_nano for event in began] == [0, NANO if granted else 0]


def test_a_period_that_was_not_seen_from_its_start_is_not_rewarded(site: Any, at: Any) -> None:
    thrift = grant(kind=GrantKind.CONSUMPTION, period=GrantPeriod.MONTH, energy_wh_max=WattHours(10**9))
    found = run(site, at, policy(thrift, issue_day=15), *[0] * 30)
    assert (found.money_nano, found.grants["free"].left_nano) == (0, 0)


def test_a_grant_taken_from_the_policy_is_neither_spent_nor_taken_back(site: Any, at: Any) -> None:
    run(site, at, policy(grant(lapses=True)), 0, 0)
    now = at("2024-04-03T10:00")
    site.do(cmd.ChangeTerms(site.clock(now), "A01", QUIET, protected=False))
    before = len(site.events)
    site.round(at("2024-04-05T00:00"), 1_000)
    assert not of(site.events[before:], ev.GrantedCreditSpent) + of(site.events[before:], ev.GrantedCreditLapsed)
    assert account(site).money_nano == NANO


def test_the_next_tenant_has_nothing_of_the_grants_of_the_former_one(site: Any, at: Any) -> None:
    run(site, at, policy(grant(lapses=True)), 0, 0)
    now = at("2024-04-03T10:00")
    site.do(cmd.ChangeTenant(site.clock(now), "A01", "tenant-2", sample=site.sample(now, 0)))
    assert (account(site).grants, account(site).money_nano) == ({}, 0)
    site.round(at("2024-04-04T00:00"), 0)
    assert of(site.events, ev.GrantedCreditLapsed)[-1].at < now
    assert account(site).money_nano == NANO


@pytest.mark.parametrize("grants", [(grant(), grant()), (grant(""),), (grant(amount_nano=MoneyNano(-1)),)])
def test_grants_no_site_can_mean_are_refused(grants: Any) -> None:
    check_credit_terms(CreditTerms(grants=(grant(), grant("other"))))
    with pytest.raises(ValueError, match="grants"):
        check_credit_terms(CreditTerms(grants=grants))
