"""The late charge of a live account: on issued bills paid late, the oldest first, by the day of payment."""

import json
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.late_charge import OPEN_BILLS_MAX, OpenBill, after_settling, settle, with_bill
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.terms import LateCharge
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds

UNIT = 10**9
MINOR_NANO = 10_000_000
HOUSEHOLD = {"class": "residential", "same_year_per_mille": "1", "minimum": "1.00"}
OTHERS = {"class": "other", "same_year_per_mille": "2", "later_year_per_mille": "3", "minimum": "1.00"}
POSTPAID = Policy(legal_profile=LegalProfile.POSTPAID_STATUTORY)
VECTORS = Path(__file__).parents[1] / "vectors" / "worked_examples.json"


@pytest.fixture
def late_site(make_site: Any, document: Any, at: Any) -> Any:
    """A site at one price of 1.00 with a late charge, with an account opened on a day."""

    def make(opened: str = "2024-05-01T00:00", late: Any = HOUSEHOLD, **opening: Any) -> Any:
        prices = {"base_by_period": {"all": "1"}, "adder_by_block": ["0", "0", "0"]}
        site = make_site(document(late_charge=late, prices=prices))
        site.open(at(opened), **{"policy": POSTPAID, **opening})
        return site

    return make


def of(site: Any, kind: type) -> Any:
    return [event for event in site.events if isinstance(event, kind)]


def test_a_bill_paid_late_is_charged_with_the_next_bill(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)  # 5000.00, due on 16 June
    site.pay(at("2024-06-20T09:00"), 5_000 * UNIT)
    [settled] = of(site, ev.BillsSettled)
    [part] = settled.parts
    assert (part.amount_nano, part.days_same_year, part.days_later_years) == (5_000 * UNIT, 4, 0)
    assert part.late_nano == 20 * UNIT
    site.round(at("2024-07-01T00:00"), 5_000_000)
    [charge] = of(site, ev.LateChargePosted)
    assert (charge.at, charge.posting_nano) == (at("2024-07-01T00:00"), -20 * UNIT)
    bill = of(site, ev.BillIssued)[-1]
    assert (bill.month_nano, bill.bill_minor) == (20 * UNIT, 2_000)
    assert site.state.accounts["A01"].money_nano == -20 * UNIT


def test_whoever_pays_up_to_zero_is_at_zero(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 100_000)
    site.pay(at("2024-08-20T09:00"), 100 * UNIT, sample=site.sample(at("2024-08-20T09:00"), 100_000))
    assert site.state.accounts["A01"].recorded_live_nano == 0
    assert [part.late_nano for part in of(site, ev.BillsSettled)[0].parts] == [round(6.5 * UNIT)]


def test_payment_on_the_due_date_costs_nothing_and_a_day_later_the_minimum(late_site: Any, at: Any) -> None:
    for day, late_nano in (("2024-06-16", 0), ("2024-06-17", UNIT)):
        site = late_site()
        site.round(at("2024-06-01T00:00"), 100_000)
        site.pay(at(f"{day}T23:59"), 100 * UNIT)
        assert site.state.accounts["A01"].late_nano == late_nano
        assert site.state.accounts["A01"].open_bills == ()


def test_the_time_of_payment_counts_and_not_its_arrival(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.pay(at("2024-06-25T09:00"), 5_000 * UNIT, paid_at=UnixSeconds(at("2024-06-16T23:00")))
    site.round(at("2024-07-01T00:00"), 5_000_000)
    assert of(site, ev.LateChargePosted) == []


def test_payments_settle_the_oldest_bill_first_and_parts_are_charged_by_their_own_days(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.round(at("2024-07-01T00:00"), 7_000_000)  # 2000.00 more, due on 16 July
    site.pay(at("2024-07-10T09:00"), 3_000 * UNIT, "P1")
    site.pay(at("2024-07-17T09:00"), 4_000 * UNIT, "P2")
    first, second = of(site, ev.BillsSettled)
    assert [(part.amount_nano, part.days_same_year) for part in first.parts] == [(3_000 * UNIT, 24)]
    amounts = [(part.amount_nano, part.days_same_year) for part in second.parts]
    assert amounts == [(2_000 * UNIT, 31), (2_000 * UNIT, 1)]
    late_nano = (3 * 24 + 2 * 31 + 2 * 1) * UNIT
    assert site.state.accounts["A01"].late_nano == late_nano
    site.round(at("2024-08-01T00:00"), 7_000_000)
    assert of(site, ev.LateChargePosted)[-1].posting_nano == -late_nano


def test_the_minimum_is_once_for_a_bill_however_many_parts_it_is_paid_in(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 100_000)
    for number, day in enumerate(("17", "18", "27"), start=1):
        site.pay(at(f"2024-06-{day}T09:00"), (10, 10, 80)[number - 1] * UNIT, f"P{number}")
    late = [part.late_nano for event in of(site, ev.BillsSettled) for part in event.parts]
    # 10 x 1 + 10 x 2 + 80 x 11 days at one per mille is 0.91: the minimum, once.
    assert late == [UNIT, 0, 0]


def test_what_a_balance_covers_is_not_open_and_no_estimate_is_charged(late_site: Any, at: Any) -> None:
    site = late_site(opening_nano=60 * UNIT)
    site.round(at("2024-06-01T00:00"), 100_000)
    assert [bill.amount_nano for bill in site.state.accounts["A01"].open_bills] == [40 * UNIT]
    prepaid = late_site(opening_nano=200 * UNIT)
    prepaid.round(at("2024-06-01T00:00"), 100_000)
    prepaid.round(at("2024-06-30T00:05"), 900_000)  # far below zero by the estimate, nothing issued
    prepaid.pay(at("2024-06-30T09:00"), 700 * UNIT)
    assert of(prepaid, ev.BillsSettled) == []
    assert prepaid.state.accounts["A01"].late_nano == 0


def test_a_late_charge_bears_none(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.pay(at("2024-06-20T09:00"), 5_000 * UNIT)
    site.round(at("2024-07-01T00:00"), 5_100_000)
    assert [bill.amount_nano for bill in site.state.accounts["A01"].open_bills] == [100 * UNIT]
    assert site.state.accounts["A01"].money_nano == -120 * UNIT


def test_a_clock_nobody_vouches_for_makes_no_days(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.round(at("2024-06-18T09:00"), 5_000_000)
    unset = replace(site.clock(at("2025-06-18T09:00")), quality=ClockQuality.UNSET)
    doubted = replace(site.clock(at("2025-06-18T09:00")), doubted=True)
    for clock in (unset, doubted):
        copy = replace(site, events=list(site.events))
        copy.pay(clock.at, 5_000 * UNIT, received=clock)
        assert [part.days_same_year for part in of(copy, ev.BillsSettled)[0].parts] == [2]


def test_what_something_else_made_good_is_not_charged(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    signed_by = ("ops-1", "tariff-1")
    site.do(
        cmd.PostCorrection(site.clock(at("2024-06-20T08:00")), "A01", MoneyNano(4_000 * UNIT), "B1", "meter", signed_by)
    )
    site.pay(at("2024-06-20T09:00"), 1_000 * UNIT)
    parts = of(site, ev.BillsSettled)[0].parts
    assert [(part.amount_nano, part.late_nano) for part in parts] == [(4_000 * UNIT, 0), (1_000 * UNIT, 4 * UNIT)]


def test_the_journal_replays(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.pay(at("2024-06-20T09:00"), 2_000 * UNIT)
    site.round(at("2024-07-01T00:00"), 5_100_000)
    site.pay(at("2024-08-20T09:00"), 9_000 * UNIT, "P2")
    site.round(at("2024-09-01T00:00"), 5_100_000)
    assert reduce(apply, site.events, State()) == site.state
    assert len(of(site, ev.LateChargePosted)) == 2


def test_a_new_tenant_owes_nothing_of_the_old_bills(late_site: Any, at: Any) -> None:
    site = late_site()
    site.round(at("2024-06-01T00:00"), 5_000_000)
    site.pay(at("2024-06-20T09:00"), 2_000 * UNIT)
    moment = at("2024-06-21T09:00")
    site.do(cmd.ChangeTenant(site.clock(moment), "A01", "T-2", sample=site.sample(moment, 5_000_000)))
    account = site.state.accounts["A01"]
    assert (account.open_bills, account.late_nano, account.money_nano) == ((), 0, 0)
    assert [event.posting_nano for event in of(site, ev.LateChargePosted)] == [-8 * UNIT]


def test_the_list_of_open_bills_has_a_bound_and_loses_no_money() -> None:
    bills: tuple[OpenBill, ...] = ()
    for week in range(OPEN_BILLS_MAX + 5):
        bills = with_bill(bills, OpenBill(MoneyNano(UNIT), 7 * week))
    assert len(bills) == OPEN_BILLS_MAX
    assert sum(bill.amount_nano for bill in bills) == (OPEN_BILLS_MAX + 5) * UNIT
    assert bills[0].due_day == 7 * 5


@pytest.mark.parametrize("credit_nano", [0, 1, UNIT - 1, UNIT, 3 * UNIT, 9 * UNIT])
def test_what_is_settled_and_what_stays_open_are_what_was_open(credit_nano: int) -> None:
    bills = tuple(OpenBill(MoneyNano(UNIT * (n + 1)), 10 * n) for n in range(3))
    parts = settle(bills, credit_nano, 6 * UNIT, 25, (LateCharge("x", 1000, 1000, 100), MINOR_NANO))
    left = after_settling(bills, parts)
    assert sum(part.amount_nano for part in parts) == min(credit_nano, 6 * UNIT)
    assert sum(bill.amount_nano for bill in left) == 6 * UNIT - min(credit_nano, 6 * UNIT)
    assert all(bill.amount_nano > 0 for bill in left)


def test_the_worked_examples_hold_on_a_live_account(late_site: Any, at: Any) -> None:
    examples = {example["id"]: example for example in json.loads(VECTORS.read_text("utf-8"))["cases"]}
    ten = examples["late-residential"]
    site = late_site()
    site.round(at("2024-06-01T00:00"), ten["input"]["arrears_nano"] // 1_000_000)
    site.pay(at("2024-06-26T09:00"), ten["input"]["arrears_nano"])  # the tenth day after 16 June
    assert site.state.accounts["A01"].late_nano == ten["expect"]["fee_nano"]
    years = examples["late-cross-year"]
    site = late_site("2023-12-01T00:00", OTHERS, policy=replace(POSTPAID, issue_day=10))
    site.round(at("2023-12-11T00:00"), years["input"]["arrears_nano"] // 1_000_000, power_w_max=10**9)
    site.do(cmd.ClearHold(site.clock(at("2023-12-11T00:06")), "A01", site.state.accounts["A01"].recorded, "x"))
    site.pay(at("2024-01-05T09:00"), years["input"]["arrears_nano"])
    [part] = of(site, ev.BillsSettled)[0].parts
    assert (part.days_same_year, part.days_later_years) == (
        years["expect"]["days_same_year"] - 1,  # due on 26 December here
        years["expect"]["days_later_year"],
    )
