"""edge.core.debt and instalment, and debts in the account: caps, daily charges once, suspend flags, plans."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.calendar import daily_windows, parse_date
from edge.core.charge import suggested_top_up_nano, top_up_nano
from edge.core.credit_terms import CreditTerms, CreditUnit, IssueCycle, PaymentMode
from edge.core.debt import CAP_PERIODS_KEPT, DebtKind, PaymentDebt, payment_debt_part, with_payment_taken
from edge.core.disconnect_control import Trigger
from edge.core.instalment import instalment_plan
from edge.core.issue_cycle import is_issued_after
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.units import MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
DAY_S = 86_400
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)
MONDAY = parse_date("2024-04-01")
STANDING = {"standing_charges": [{"name": "daily", "amount": "0.5", "per": "day"}]}


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def quiet(**terms: Any) -> Policy:
    return replace(QUIET, credit=CreditTerms(**terms))


def owe(site: Any, at: int, kind: DebtKind, amount_nano: int, **terms: Any) -> list[Any]:
    order = cmd.SetDebt(site.clock(at), "A01", kind, MoneyNano(amount_nano), "agreement 1", **terms)
    return list(site.do(order))


def account(site: Any) -> Any:
    assert reduce(apply, site.events, State()) == site.state
    return site.state.accounts["A01"]


# --- payment-event debt ------------------------------------------------------------------------


def test_ten_percent_up_to_five_in_a_week_is_one_on_each_working_day_and_nothing_at_the_weekend(
    site: Any, at: Any
) -> None:
    start = at("2024-04-01T00:00")  # a Monday
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.PAYMENT, 100 * NANO, share=1000, cap_nano=MoneyNano(5 * NANO), cap_days=7)
    taken = []
    for day in range(8):
        events = site.pay(start + day * DAY_S + 36_000, 10 * NANO, f"P{day}")
        taken.append(sum(event.payment_debt_nano for event in of(events, ev.PaymentAllocated)))
    assert taken == [NANO] * 5 + [0, 0] + [NANO]
    assert account(site).debts.payment.amount_nano == 94 * NANO
    assert account(site).money_nano == 74 * NANO


def test_a_back_dated_payment_counts_in_the_cap_period_of_its_time(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.PAYMENT, 100 * NANO, share=5000, cap_nano=MoneyNano(5 * NANO))
    site.pay(start + 8 * DAY_S, 10 * NANO, "P1")
    early = UnixSeconds(start + 2 * DAY_S)
    (late,) = of(site.pay(start + 8 * DAY_S, 10 * NANO, "P2", paid_at=early), ev.PaymentAllocated)
    assert late.payment_debt_nano == 5 * NANO
    assert of(site.pay(start + 8 * DAY_S, 10 * NANO, "P3", paid_at=early), ev.PaymentAllocated) == []
    assert account(site).debts.payment.taken == ((late.cap_period, 5 * NANO), (late.cap_period + 1, 5 * NANO))


def test_a_time_of_payment_in_the_future_is_taken_for_now(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.PAYMENT, 100 * NANO, share=1000, cap_nano=MoneyNano(NANO))
    events = [
        site.pay(start + 60, 100 * NANO, name, paid_at=UnixSeconds(at(f"2024-0{5 + number}-01T00:00")))
        for number, name in enumerate(("P1", "P2"))
    ]
    assert [len(of(found, ev.PaymentAllocated)) for found in events] == [1, 0]


def test_a_cap_period_too_long_ago_to_be_known_gives_nothing() -> None:
    debt = PaymentDebt(MoneyNano(NANO), 10_000, MoneyNano(100))
    debt = with_payment_taken(debt, 100, 1000)
    assert payment_debt_part(debt, NANO, 1000) == 0
    assert payment_debt_part(debt, NANO, 1001) == 100
    assert payment_debt_part(debt, NANO, 1000 - CAP_PERIODS_KEPT + 1) == 100
    assert payment_debt_part(debt, NANO, 1000 - CAP_PERIODS_KEPT) == 0


@given(payments=st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 200)), max_size=60))
def test_no_cap_period_ever_gives_more_than_its_cap(payments: Any) -> None:
    debt, taken = PaymentDebt(MoneyNano(10**12), 2500, MoneyNano(10**9)), dict[int, int]()
    for amount, period in payments:
        part = payment_debt_part(debt, amount, period)
        taken[period] = taken.get(period, 0) + part
        debt = with_payment_taken(debt, part, period)
    assert all(amount <= 10**9 for amount in taken.values())
    assert debt.amount_nano == 10**12 - sum(taken.values())


# --- what falls due with the day -----------------------------------------------------------------


def test_standing_charge_posts_once_a_local_day_also_without_energy(make_site: Any, document: Any, at: Any) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T10:00")
    site.open(start, 0, 10 * NANO, QUIET)
    for hour in range(1, 73):
        site.round(start + hour * 3600, 0)
    posted = of(site.events, ev.DailyChargePosted)
    assert [event.at for event in posted] == [at(f"2024-04-0{day}T00:00") for day in (2, 3, 4)]
    assert [event.posting_nano for event in posted] == [-NANO // 2] * 3
    assert account(site).money_nano == 10 * NANO - 3 * NANO // 2


def test_days_without_power_are_caught_up_exactly_once(make_site: Any, document: Any, at: Any) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T10:00")
    site.open(start, 0, 0, QUIET)
    site.round(start + 3600, 100)
    site.round(at("2024-04-29T10:00"), 2_000)
    site.round(at("2024-04-29T11:00"), 2_000)
    assert sum(event.count for event in of(site.events, ev.DailyChargePosted)) == 28
    assert account(site).money_nano == -14 * NANO


def test_a_hold_lifted_by_a_person_does_not_lose_the_days_it_stood(make_site: Any, document: Any, at: Any) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T10:00")
    site.open(start, 5000, 0, QUIET)
    site.round(start + 3600, 100, confirmed=True)
    clock = site.clock(at("2024-04-05T10:00"))
    register = replace(site.state.accounts["A01"].recorded, at=clock.at, register_wh=WattHours(100))
    site.do(cmd.ClearHold(clock, "A01", register, "technician-7"))
    site.round(at("2024-04-06T10:00"), 100)
    (posted,) = of(site.events, ev.DailyChargePosted)
    assert (posted.first_day, posted.count, posted.posting_nano) == (MONDAY, 5, -5 * NANO // 2)


def test_a_standing_charge_by_the_month_is_due_on_the_first_day_of_account_and_month(
    make_site: Any, document: Any, at: Any
) -> None:
    monthly = [{"name": "line", "amount": "12", "per": "month"}]
    site = make_site(document(standing_charges=monthly))
    site.open(at("2024-04-10T10:00"), 0, 0, QUIET)
    for moment in ("2024-04-20T10:00", "2024-05-20T10:00", "2024-06-02T10:00"):
        site.round(at(moment), 0)
    posted = [event.at for event in of(site.events, ev.DailyChargePosted)]
    assert posted == [at(f"2024-0{month}T00:00") for month in ("4-11", "5-02", "6-02")]
    bills = of(site.events, ev.BillIssued)
    assert [(bill.standing_nano, bill.bill_minor) for bill in bills] == [(12 * NANO, 1200), (12 * NANO, 1200)]


def test_a_bill_below_the_minimum_is_raised_to_it_by_a_line_of_its_own(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(minimum_bill={"amount": "10", "per": "month"}, **STANDING))
    site.open(at("2024-04-21T00:00"), 0, 0, QUIET)
    site.round(at("2024-05-01T00:00"), 4_000)
    site.round(at("2024-06-01T00:00"), 104_000)
    first, second = of(site.events, ev.BillIssued)
    (raised,) = of(site.events, ev.MinimumBillPosted)
    assert raised.posting_nano == -(10 - 5) * NANO + 4_000 * 510_000 == -first.minimum_nano
    assert (first.bill_minor, second.minimum_nano) == (1000, 0)
    assert first.amount_nano + first.standing_nano + first.minimum_nano == 10 * NANO
    assert account(site).money_nano == -10 * NANO - 100_000 * 510_000 - 31 * NANO // 2


def test_the_bill_is_rounded_once_on_its_total_with_the_standing_charges_in_it(
    make_site: Any, document: Any, at: Any
) -> None:
    uneven = [{"name": "daily", "amount": "0.6012", "per": "day"}]
    site, start = make_site(document(standing_charges=uneven)), at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    for day in range(1, 31):
        site.round(start + day * DAY_S, day * 8_001)
    (bill,) = of(site.events, ev.BillIssued)
    (rounding,) = of(site.events, ev.RoundingPosted)
    exact_nano = bill.amount_nano + bill.standing_nano
    assert (exact_nano, bill.bill_minor) == (170 * 51 * NANO // 100 + 70_030 * 560_000 + 18_036_000_000, 14_395)
    assert account(site).money_nano == -bill.bill_minor * 10_000_000 == rounding.posting_nano - exact_nano


def test_time_debts_are_collected_by_the_day_until_they_are_paid(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 100 * NANO, QUIET)
    owe(site, start, DebtKind.TIME_1, 5 * NANO, daily_nano=MoneyNano(2 * NANO))
    owe(site, start, DebtKind.TIME_2, 30 * NANO, daily_nano=MoneyNano(NANO))
    for day in range(1, 6):
        site.round(start + day * DAY_S, 0)
    posted = [(event.charge, -event.posting_nano // NANO) for event in of(site.events, ev.DailyChargePosted)]
    assert [amount for charge, amount in posted if charge == "time_1"] == [2, 2, 1]
    assert [amount for charge, amount in posted if charge == "time_2"] == [1] * 5
    found = account(site)
    assert (found.debts.time_1.amount_nano, found.debts.time_2.amount_nano) == (0, 25 * NANO)
    assert found.money_nano == 90 * NANO


def test_suspend_debt_disabled_stops_only_the_time_debts_while_the_supply_is_off(
    make_site: Any, document: Any, at: Any
) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T00:00")
    site.open(start, 0, 100 * NANO, quiet(suspend_debt_disabled=True))
    owe(site, start, DebtKind.TIME_1, 50 * NANO, daily_nano=MoneyNano(NANO))
    site.do(cmd.SwitchSupply(site.clock(start + 60), "A01", Trigger.REMOTE_DISCONNECT, "operator"))
    site.round(start + DAY_S, 0)
    site.do(cmd.SwitchSupply(site.clock(start + DAY_S + 60), "A01", Trigger.REMOTE_RECONNECT, "operator"))
    site.round(start + 2 * DAY_S, 0)
    charges = [(event.charge, event.at) for event in of(site.events, ev.DailyChargePosted)]
    assert charges == [("standing", start + DAY_S), ("standing", start + 2 * DAY_S), ("time_1", start + 2 * DAY_S)]


@pytest.mark.parametrize(
    ("terms", "friendly", "mode", "accumulated", "balance"),
    [
        ({}, False, PaymentMode.PREPAYMENT, 0, -3),
        ({"accumulate_below_threshold": True}, False, PaymentMode.PREPAYMENT, 3, 0),
        ({"accumulate_below_threshold": True}, True, PaymentMode.PREPAYMENT, 0, -3),
        ({"accumulate_below_threshold": True}, False, PaymentMode.CREDIT, 0, -3),
    ],
)
def test_a_charge_no_credit_pays_lowers_the_balance_or_accumulates(
    make_site: Any, document: Any, at: Any, terms: Any, friendly: bool, mode: Any, accumulated: int, balance: int
) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T00:00")
    policy = replace(quiet(**terms), friendly_windows=daily_windows([("00:00", "24:00")]) if friendly else None)
    site.open(start, 0, NANO, policy)
    site.do(cmd.ChangePaymentMode(site.clock(start), "A01", mode))
    owe(site, start, DebtKind.TIME_1, 50 * NANO, daily_nano=MoneyNano(3 * NANO // 2))
    for day in (1, 2):
        site.round(start + day * DAY_S, 0)
    found = account(site)
    assert found.debts.accumulated_nano == accumulated * NANO
    assert found.money_nano == balance * NANO
    assert found.debts.time_1.amount_nano == 47 * NANO


def test_accumulated_debt_is_paid_before_the_balance_rises(make_site: Any, document: Any, at: Any) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T00:00")
    site.open(start, 0, 0, quiet(accumulate_below_threshold=True))
    site.round(start + 4 * DAY_S, 0)
    (allocated,) = of(site.pay(start + 4 * DAY_S + 60, 5 * NANO), ev.PaymentAllocated)
    assert (allocated.accumulated_debt_nano, allocated.token_nano) == (2 * NANO, 3 * NANO)
    assert allocated.posting_nano == -2 * NANO
    assert (account(site).money_nano, account(site).debts.accumulated_nano) == (3 * NANO, 0)


def test_the_days_before_a_payment_are_charged_before_it_is_allocated(make_site: Any, document: Any, at: Any) -> None:
    site, start = make_site(document(**STANDING)), at("2024-04-01T00:00")
    site.open(start, 0, 0, quiet(accumulate_below_threshold=True))
    now = start + 4 * DAY_S + 60
    (allocated,) = of(site.pay(now, 5 * NANO, sample=site.sample(now, 0)), ev.PaymentAllocated)
    assert allocated.accumulated_debt_nano == 2 * NANO


@pytest.mark.parametrize(
    ("accumulated", "share", "wanted"), [(0, 0, 30 * NANO), (5, 0, 35 * NANO), (5, 2000, 43_750_000_000)]
)
def test_the_suggested_top_up_holds_what_it_gives_to_debts(
    site: Any, at: Any, accumulated: int, share: int, wanted: int
) -> None:
    start = at("2024-04-01T00:00")
    order = PurchaseOrder(1, OrderOperation.REFRESH, CreditUnit.MONEY, MoneyNano(0), MoneyNano(30 * NANO))
    site.open(start, 0, 0, quiet())
    site.do(cmd.TakePurchaseOrder(site.clock(start), "A01", order))  # its alarm threshold is the reserve
    owe(site, start, DebtKind.ACCUMULATED, accumulated * NANO)
    owe(site, start, DebtKind.PAYMENT, 10 * NANO, share=share)
    found, figures = account(site), site.last.figures["A01"]
    assert top_up_nano(found, figures, site.rating, start) == wanted
    site.pay(start + 60, top_up_nano(found, figures, site.rating, start))
    assert top_up_nano(account(site), site.last.figures["A01"], site.rating, start) == 0
    assert suggested_top_up_nano(figures, 10_000_000) == 30 * NANO


# --- old debt and instalments ----------------------------------------------------------------------


def test_a_stated_share_of_each_payment_goes_to_old_debt(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, quiet(old_debt_share=3000))
    owe(site, start, DebtKind.OLD, 7 * NANO)
    for number in range(4):
        site.pay(start + 60, 10 * NANO, f"P{number}")
    found = account(site)
    assert (found.debts.old_nano, found.money_nano) == (0, 33 * NANO)


@given(total=st.integers(1, 10**15), weights=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_instalments_add_up_to_the_total(total: int, weights: list[int]) -> None:
    shares = [weight * 10_000 // sum(weights) + 1 for weight in weights[:-1]]
    rest = 10_000 - sum(shares)
    if rest <= 0:
        shares, rest = [], 10_000
    plan = instalment_plan("P", total, [(100 + 30 * n, share) for n, share in enumerate([*shares, rest])])
    assert sum(part.amount_nano for part in plan.parts) == total
    assert min(part.amount_nano for part in plan.parts) >= 0


@pytest.mark.parametrize(
    ("total", "shares", "named"),
    [
        (0, [(1, 10_000)], "total"),
        (NANO, [], "parts"),
        (NANO, [(2, 5_000), (1, 5_000)], "parts"),
        (NANO, [(1, 5_000), (1, 5_000)], "parts"),
        (NANO, [(1, 9_999)], "shares"),
        (NANO, [(1, 10_000), (2, 0)], "shares"),
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(total: int, shares: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        instalment_plan("P", total, shares)


def test_an_instalment_falls_due_on_its_day_and_is_collected_first(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.OLD, 100 * NANO)
    shares = ((parse_date("2024-04-05"), 3000), (parse_date("2024-04-15"), 3000), (parse_date("2024-04-25"), 4000))
    site.do(cmd.AgreeInstalments(site.clock(start), "A01", "plan-1", MoneyNano(100 * NANO), shares))
    site.round(at("2024-04-04T23:59"), 0)
    assert account(site).debts.accumulated_nano == 0
    site.round(at("2024-04-05T00:00"), 0)
    assert account(site).debts.accumulated_nano == 30 * NANO
    (paid,) = of(site.pay(at("2024-04-05T10:00"), 50 * NANO), ev.PaymentAllocated)
    assert (paid.accumulated_debt_nano, paid.token_nano) == (30 * NANO, 20 * NANO)
    site.round(at("2024-04-26T10:00"), 0)  # two parts fell due while nothing was read
    found = account(site)
    assert [event.change_nano for event in of(site.events, ev.InstalmentDue)] == [30 * NANO, 30 * NANO, 40 * NANO]
    assert (found.debts.accumulated_nano, found.debts.old_nano, found.debts.plan) == (70 * NANO, 0, None)
    assert found.money_nano == 20 * NANO


def test_what_old_debt_no_longer_holds_does_not_fall_due(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, quiet(old_debt_share=10_000))
    owe(site, start, DebtKind.OLD, 10 * NANO)
    shares = ((parse_date("2024-04-05"), 5000), (parse_date("2024-04-06"), 5000))
    site.do(cmd.AgreeInstalments(site.clock(start), "A01", "plan-1", MoneyNano(10 * NANO), shares))
    site.pay(start + 60, 8 * NANO)
    site.round(at("2024-04-07T00:00"), 0)
    assert [event.change_nano for event in of(site.events, ev.InstalmentDue)] == [2 * NANO, 0]
    assert account(site).debts.accumulated_nano == 2 * NANO


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"account_id": "A99"}, "unknown_account"),
        ({"total_nano": MoneyNano(11 * NANO)}, "above_old_debt"),
        ({"shares": ((1, 9_000),)}, "terms"),
        ({"total_nano": MoneyNano(0)}, "terms"),
    ],
)
def test_instalments_are_refused_with_their_reason(site: Any, at: Any, change: Any, reason: str) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.OLD, 10 * NANO)
    order = cmd.AgreeInstalments(site.clock(start), "A01", "P", MoneyNano(10 * NANO), ((1, 10_000),), "c-1")
    (refused,) = site.do(replace(order, **change))
    assert (refused.order_type, refused.reason) == ("instalments", reason)


def test_a_second_plan_is_refused_while_one_stands(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    owe(site, start, DebtKind.OLD, 10 * NANO)
    order = cmd.AgreeInstalments(site.clock(start), "A01", "P", MoneyNano(NANO), ((MONDAY + 9, 10_000),))
    site.do(order)
    assert of(site.do(order), ev.RequestRefused)[0].reason == "plan_stands"


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"amount_nano": MoneyNano(-1)}, "amount"),
        ({"amount_nano": MoneyNano(10**17 + 1)}, "above_limit"),
        ({"share": 10_001}, "terms"),
        ({"cap_nano": MoneyNano(-1)}, "terms"),
        ({"cap_days": 0}, "terms"),
        ({"daily_nano": MoneyNano(-1)}, "terms"),
    ],
)
def test_a_debt_under_terms_nobody_can_mean_is_refused(site: Any, at: Any, terms: Any, reason: str) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    order = cmd.SetDebt(site.clock(start), "A01", DebtKind.PAYMENT, MoneyNano(NANO), "agreement 1", "c-1")
    site.do(replace(order, **terms))
    assert site.state.applied == {"c-1": f"rejected:{reason}"}
    assert account(site).debts.total_nano == 0


def test_setting_a_debt_again_replaces_it_and_moves_no_money(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 9 * NANO, QUIET)
    for kind in DebtKind:
        owe(site, start, kind, 5 * NANO)
        (event,) = owe(site, start, kind, 3 * NANO)
        assert (event.change_nano, event.amount_nano) == (-2 * NANO, 3 * NANO)
    assert (account(site).debts.total_nano, account(site).money_nano) == (15 * NANO, 9 * NANO)


# --- when bills come ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cycle", "issue_day", "days"),
    [
        (IssueCycle.MONTH, 0, [31]),
        (IssueCycle.MONTH, 15, [15]),
        (IssueCycle.HALF_MONTH, 0, [15, 31]),
        (IssueCycle.TEN_DAYS, 0, [10, 20, 31]),
        (IssueCycle.WEEK, 0, [3, 10, 17, 24, 31]),
        (IssueCycle.VEND, 0, []),
    ],
)
def test_bills_come_at_the_end_of_the_days_of_their_cycle(cycle: IssueCycle, issue_day: int, days: list[int]) -> None:
    march = parse_date("2024-03-01")
    assert [day + 1 for day in range(31) if is_issued_after(cycle, issue_day, march + day)] == days


@pytest.mark.parametrize("year", ["2023", "2024"])
def test_a_bill_of_the_28th_comes_in_february_too(year: str) -> None:
    first = parse_date(f"{year}-02-01")
    assert [day + 1 for day in range(28) if is_issued_after(IssueCycle.MONTH, 28, first + day)] == [28]


@pytest.mark.parametrize("cycle", [IssueCycle.HALF_MONTH, IssueCycle.TEN_DAYS, IssueCycle.WEEK])
def test_blocks_run_on_over_the_bills_of_a_short_cycle(site: Any, at: Any, cycle: IssueCycle) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, quiet(issue_cycle=cycle))
    for day in range(1, 31):
        site.round(start + day * DAY_S, day * 10_000)
    billed = of(site.events, ev.BillIssued)
    total_nano = sum(bill.amount_nano for bill in billed) + account(site).estimate_nano
    assert total_nano == 169_500_000_000
    assert len(billed) == {IssueCycle.HALF_MONTH: 2, IssueCycle.TEN_DAYS: 3, IssueCycle.WEEK: 4}[cycle]


def test_a_vend_issues_the_bill_up_to_its_reading_before_the_money_comes_in(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 20 * NANO, quiet(issue_cycle=IssueCycle.VEND))
    now = start + 40 * 3600
    events = site.pay(now, 30 * NANO, sample=site.sample(now, 20_000))
    names = [type(event).__name__ for event in events]
    assert names.index("BillIssued") < names.index("PaymentApplied")
    (bill,) = of(events, ev.BillIssued)
    assert (bill.at, bill.amount_nano, bill.bill_minor) == (now, 10_200_000_000, 1020)
    assert account(site).money_nano == 20 * NANO - 10_200_000_000 + 30 * NANO
    assert site.last.figures["A01"].live_nano == 39_800_000_000
    site.pay(now + 60, NANO, "P2", sample=site.sample(now + 60, 20_010))
    assert (account(site).mean_energy_wh, account(site).mean_days) == (20_000, 1)  # a minute says nothing of a day
    site.round(at("2024-05-01T00:00"), 20_100)
    assert len(of(site.events, ev.BillIssued)) == 2


def test_the_default_policy_bills_by_the_month_without_emergency_credit() -> None:
    policy = Policy()
    assert policy.credit == CreditTerms()
    assert (policy.credit.issue_cycle, policy.credit.emergency_limit_nano) == (IssueCycle.MONTH, 0)
    assert policy.legal_profile is LegalProfile.PREPAID_BY_AGREEMENT
