"""edge.core.emergency, and emergency credit in the account: every status, selection, use, repayment, supply."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import CreditTerms, PaymentMode
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.emergency import CreditStatus, emergency_status, emergency_used, is_given_back, is_offered
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.units import MoneyNano

NANO = 1_000_000_000
DAY_S = 86_400
TERMS = CreditTerms(emergency_limit_nano=MoneyNano(5 * NANO), emergency_threshold_nano=MoneyNano(2 * NANO))
POLICY = replace(Policy(), legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, reserve_days=0, credit=TERMS)
WH_PER_UNIT = 2000  # at 0.50 a kWh


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def flat(make_site: Any, document: Any) -> Any:
    """A site at 0.50 a kWh all day."""
    made = document(prices={"table": {"all": ["0.5"]}})
    return make_site({key: value for key, value in made.items() if key != "blocks"})


def select(site: Any, at: int, **changes: Any) -> list[Any]:
    return list(site.do(replace(cmd.SelectEmergencyCredit(site.clock(at), "A01"), **changes)))


def read(site: Any, at: int, register_wh: int) -> None:
    """Two rounds: the notice that informs comes in the first, a cut in the second."""
    site.round(at, register_wh)
    site.round(at + 1, register_wh)


def connected(site: Any) -> bool:
    assert reduce(apply, site.events, State()) == site.state
    return bool(site.state.accounts["A01"].control_state is ControlState.CONNECTED)


# --- the table of statuses ---------------------------------------------------------------------

STATUSES = [
    (False, 3 * NANO, CreditStatus.ENABLED, 0),
    (False, 2 * NANO, CreditStatus.ENABLED, 0),
    (False, 2 * NANO - 1, CreditStatus.SELECTABLE, 0),
    (False, -9 * NANO, CreditStatus.SELECTABLE, 0),
    (True, 2 * NANO - 1, CreditStatus.INVOKED, 0),
    (True, 1, CreditStatus.INVOKED, 0),
    (True, 0, CreditStatus.IN_USE, 0),
    (True, -1, CreditStatus.IN_USE, 1),
    (True, -5 * NANO + 1, CreditStatus.IN_USE, 5 * NANO - 1),
    (True, -5 * NANO, CreditStatus.EXHAUSTED, 5 * NANO),
    (True, -9 * NANO, CreditStatus.EXHAUSTED, 5 * NANO),
]


@pytest.mark.parametrize(("invoked", "live", "status", "used"), STATUSES)
def test_the_status_follows_from_the_live_balance(invoked: bool, live: int, status: CreditStatus, used: int) -> None:
    assert emergency_status(TERMS, invoked, live, 0) is status
    assert emergency_used(TERMS, invoked, live, 0) == used
    assert is_offered(TERMS, invoked, live) is (status is CreditStatus.SELECTABLE)


@pytest.mark.parametrize(("invoked", "live", "status", "used"), STATUSES)
def test_an_overdraft_shifts_use_and_not_the_offer(invoked: bool, live: int, status: CreditStatus, used: int) -> None:
    overdraft = 100 * NANO
    assert emergency_used(TERMS, invoked, live - overdraft, -overdraft) == used
    if invoked:
        assert emergency_status(TERMS, invoked, live - overdraft, -overdraft) is status


def test_without_a_limit_there_is_no_emergency_credit() -> None:
    assert emergency_status(CreditTerms(), False, -NANO, 0) is None
    assert not is_offered(replace(TERMS, emergency_limit_nano=MoneyNano(0)), False, -NANO)


@pytest.mark.parametrize(("live", "back"), [(2 * NANO - 1, False), (2 * NANO, True)])
def test_it_is_given_back_at_its_own_threshold(live: int, back: bool) -> None:
    assert is_given_back(TERMS, True, live) is back
    assert not is_given_back(TERMS, False, live)


# --- in the account ------------------------------------------------------------------------------


def test_it_is_refused_while_it_is_not_offered_and_selected_once(flat: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    flat.open(start, 0, 2 * NANO, POLICY)
    (refused,) = select(flat, start)
    assert (refused.request, refused.reason) == ("emergency_credit", "not_offered")
    flat.round(start + 3600, 1)
    assert of(select(flat, start + 3600), ev.EmergencyCreditSelected)[0].limit_nano == 5 * NANO
    assert of(select(flat, start + 3601), ev.RequestRefused)
    assert select(flat, start + 3602, cid="c-1")[0].reason == "not_offered"
    assert flat.state.applied == {"c-1": "rejected:not_offered"}


def test_a_supply_lasts_until_the_emergency_credit_is_used_up(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, NANO, POLICY)
    select(flat, start)
    read(flat, start + 3600, 6 * WH_PER_UNIT)
    assert connected(flat)
    read(flat, start + 7200, 6 * WH_PER_UNIT + 1)
    assert not connected(flat)
    assert flat.state.accounts["A01"].local_reason == "no_credit"


def test_without_a_selection_the_supply_is_cut_at_the_threshold(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, NANO, POLICY)
    read(flat, start + 3600, WH_PER_UNIT)
    assert connected(flat)
    read(flat, start + 7200, WH_PER_UNIT + 1)
    assert not connected(flat)


def test_selecting_it_brings_a_cut_supply_back(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, 0, POLICY)
    read(flat, start + 3600, 100)
    assert not connected(flat)
    select(flat, start + 3660)
    assert connected(flat)
    read(flat, start + 7200, 200)
    assert connected(flat)


def test_selecting_it_does_not_help_where_it_does_not_reach(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, -5 * NANO, POLICY)
    read(flat, start + 3600, 1)
    select(flat, start + 3660)
    assert not connected(flat)


def test_selecting_it_does_not_undo_an_operators_cut(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, 0, POLICY)
    read(flat, start + 3600, 100)
    flat.do(cmd.SwitchSupply(flat.clock(start + 3601), "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1))
    select(flat, start + 3660)
    assert flat.state.accounts["A01"].control_state is ControlState.DISCONNECTED


def test_what_is_used_is_recorded_at_the_freeze_and_moves_no_money(flat: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    flat.open(start, 0, NANO, POLICY)
    select(flat, start)
    for day, used_wh in ((1, 2 * WH_PER_UNIT), (2, 3 * WH_PER_UNIT), (3, 3 * WH_PER_UNIT)):
        read(flat, start + day * DAY_S, used_wh)
    drawn = of(flat.events, ev.EmergencyCreditDrawn)
    assert [(event.at, event.change_nano, event.used_nano) for event in drawn] == [
        (start + DAY_S, NANO, NANO),
        (start + 2 * DAY_S, NANO, 2 * NANO),
    ]
    assert flat.state.accounts["A01"].money_nano == NANO


def test_a_payment_repays_it_and_it_is_given_back_only_at_its_threshold(flat: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    flat.open(start, 0, NANO, POLICY)
    select(flat, start)
    read(flat, start + DAY_S, 4 * WH_PER_UNIT)
    now = start + DAY_S + 60
    (first,) = of(flat.pay(now, 2 * NANO, "P1"), ev.PaymentAllocated)
    assert (first.emergency_nano, first.token_nano, first.emergency_used_nano) == (2 * NANO, 0, NANO)
    assert flat.state.accounts["A01"].emergency.invoked
    events = flat.pay(now, 3 * NANO, "P2")
    (second,) = of(events, ev.PaymentAllocated)
    assert (second.emergency_nano, second.token_nano) == (NANO, 2 * NANO)
    assert of(events, ev.EmergencyCreditGivenBack)[0].live_balance_nano == 2 * NANO
    assert flat.state.accounts["A01"].emergency == type(flat.state.accounts["A01"].emergency)()
    assert connected(flat)


def test_it_is_not_given_back_while_it_is_in_use_whatever_its_threshold_says(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    terms = replace(TERMS, emergency_threshold_nano=MoneyNano(-3 * NANO))
    flat.open(start, 0, -4 * NANO, replace(POLICY, credit=terms))
    select(flat, start)
    flat.pay(start + 60, 2 * NANO, "P1")
    assert flat.state.accounts["A01"].emergency.invoked
    flat.pay(start + 120, 2 * NANO, "P2")
    assert not flat.state.accounts["A01"].emergency.invoked


def test_a_payment_that_leaves_the_balance_below_zero_restores_nothing(flat: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    flat.open(start, 0, 0, POLICY)
    read(flat, start, 0)
    select(flat, start)
    read(flat, start + 7200, 6 * WH_PER_UNIT)
    assert not connected(flat)
    flat.pay(start + 7260, 6 * NANO - 1, "P1")
    assert not connected(flat)
    flat.pay(start + 7320, 1, "P2")
    assert connected(flat)


@pytest.mark.parametrize(
    ("terms", "used", "accumulated"),
    [
        ({}, 0, 1),
        ({"emergency_pays_standing": True}, 1, 0),
        ({"suspend_debt_emergency": True}, 0, 1),
        ({"emergency_pays_standing": True, "suspend_debt_emergency": True}, 0, 1),
    ],
)
def test_what_emergency_credit_may_not_pay_becomes_accumulated_debt(
    make_site: Any, document: Any, at: Any, terms: Any, used: int, accumulated: int
) -> None:
    site = make_site(document(standing_charges=[{"name": "daily", "amount": "1", "per": "day"}]))
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, replace(POLICY, credit=replace(TERMS, **terms)))
    select(site, start)
    site.round(start + DAY_S, 0)
    account = site.state.accounts["A01"]
    assert (account.emergency.used_nano, account.debts.accumulated_nano) == (used * NANO, accumulated * NANO)
    assert account.money_nano == -used * NANO


def test_suspend_debt_emergency_accumulates_only_while_it_is_in_use(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(standing_charges=[{"name": "daily", "amount": "1", "per": "day"}]))
    start = at("2024-04-01T00:00")
    site.open(start, 0, 3 * NANO // 2, replace(POLICY, credit=replace(TERMS, suspend_debt_emergency=True)))
    select(site, start)
    for day in (1, 2, 3):
        site.round(start + day * DAY_S, 0)
    posted = [(event.posting_nano, event.accumulated_nano) for event in of(site.events, ev.DailyChargePosted)]
    assert posted == [(-NANO, 0), (-NANO // 2, NANO // 2), (0, NANO)]


def test_with_emergency_pays_standing_no_more_than_the_limit_is_drawn(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(standing_charges=[{"name": "daily", "amount": "4", "per": "day"}]))
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, replace(POLICY, credit=replace(TERMS, emergency_pays_standing=True)))
    select(site, start)
    for day in (1, 2):
        site.round(start + day * DAY_S, 0)
    posted = [(event.posting_nano, event.accumulated_nano) for event in of(site.events, ev.DailyChargePosted)]
    assert posted == [(-4 * NANO, 0), (-NANO, 3 * NANO)]
    assert site.state.accounts["A01"].emergency.used_nano == 5 * NANO


def test_under_7_0_3_it_holds_a_due_cut_back_until_it_is_used_up(flat: Any, at: Any) -> None:
    start = at("2024-04-13T00:00")
    policy = replace(POLICY, legal_profile=LegalProfile.PREPAID_BY_AGREEMENT)
    flat.open(start, 0, -NANO, policy)
    select(flat, start)
    for moment, number in (("2024-04-13T07:00", 2), ("2024-04-16T07:00", 3)):
        flat.round(at(moment), 0)
        flat.receipt(at(moment), number)
    (deferred,) = of(flat.round(at("2024-04-16T08:00"), 0), ev.CutDeferred)
    assert deferred.blockers == (("emergency_credit", {"left_nano": 4 * NANO}),)
    flat.round(at("2024-04-16T09:00"), 4 * WH_PER_UNIT)
    assert connected(flat)
    flat.round(at("2024-04-16T10:00"), 4 * WH_PER_UNIT + 1)
    assert not connected(flat)


def test_there_is_none_in_credit_mode(flat: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    flat.open(start, 0, 0, POLICY)
    select(flat, start)
    flat.do(cmd.ChangePaymentMode(flat.clock(start), "A01", PaymentMode.CREDIT))
    assert not flat.state.accounts["A01"].emergency.invoked
    assert of(select(flat, start), ev.RequestRefused)
