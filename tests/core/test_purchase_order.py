"""edge.core.purchase_order in the account: numbers count once, append and refresh, units, limits, thresholds."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import NANO_PER_WATT_HOUR, CreditTerms, CreditUnit
from edge.core.disconnect_control import ControlState
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseControl, PurchaseOrder, balance_after, order_fault
from edge.core.units import MoneyNano

NANO = 1_000_000_000
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)
APPEND, REFRESH = OrderOperation.APPEND, OrderOperation.REFRESH


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def order(number: int, operation: OrderOperation, value: int, **changes: Any) -> PurchaseOrder:
    return replace(PurchaseOrder(number, operation, CreditUnit.MONEY, MoneyNano(value)), **changes)


def take(site: Any, at: int, purchase: PurchaseOrder, **changes: Any) -> list[Any]:
    return list(site.do(replace(cmd.TakePurchaseOrder(site.clock(at), "A01", purchase), **changes)))


@pytest.fixture
def opened(site: Any, at: Any) -> Any:
    """2.00 on the account."""
    site.open(at("2024-04-01T00:00"), 0, 2 * NANO, QUIET)
    return site


def money(site: Any) -> int:
    assert reduce(apply, site.events, State()) == site.state
    return int(site.state.accounts["A01"].money_nano)


def connected(site: Any) -> bool:
    return bool(site.state.accounts["A01"].control_state is ControlState.CONNECTED)


def test_append_adds_and_refresh_sets_what_is_left(opened: Any, at: Any) -> None:
    now = at("2024-04-01T01:00")
    take(opened, now, order(1, APPEND, 10 * NANO))
    assert money(opened) == 12 * NANO
    take(opened, now, order(2, REFRESH, 5 * NANO))
    assert money(opened) == 5 * NANO
    take(opened, now, order(3, REFRESH, 0))
    assert money(opened) == 0


def test_refresh_sets_the_live_balance_at_the_reading_that_comes_with_it(opened: Any, at: Any) -> None:
    now = at("2024-04-01T05:00")
    events = take(opened, now, order(1, REFRESH, 5 * NANO), sample=opened.sample(now, 1000))
    assert of(events, ev.ReadingsRecorded)
    assert (opened.last.figures["A01"].live_nano, money(opened)) == (5 * NANO, 5 * NANO + 1000 * 510_000)


@pytest.mark.parametrize("second", [order(7, APPEND, NANO), order(7, REFRESH, 0), order(7, APPEND, 3 * NANO)])
def test_the_same_number_has_no_second_effect(opened: Any, at: Any, second: PurchaseOrder) -> None:
    now = at("2024-04-01T01:00")
    take(opened, now, order(7, APPEND, NANO), cid="c-1")
    take(opened, now + 86_400 * 60, second, cid="c-2")
    assert opened.state.applied == {"c-1": "applied", "c-2": "rejected:duplicate"}
    assert money(opened) == 3 * NANO


def test_numbers_are_the_accounts_own(opened: Any, at: Any) -> None:
    now = at("2024-04-01T01:00")
    opened.open(now, 0, 0, QUIET, account_id="A02")
    take(opened, now, order(7, APPEND, NANO))
    assert of(take(opened, now, order(7, APPEND, NANO), account_id="A02"), ev.PurchaseOrderApplied)
    assert opened.state.purchase_orders == {"A01/7": "A01", "A02/7": "A02"}


@pytest.mark.parametrize(
    ("purchase", "reason"),
    [
        (order(1, APPEND, NANO, unit=CreditUnit.ENERGY), "wrong_unit"),
        (order(1, APPEND, NANO, unit=CreditUnit.TIME), "wrong_unit"),
        (order(1, APPEND, 0), "amount"),
        (order(1, APPEND, -NANO), "amount"),
        (order(1, REFRESH, -1), "amount"),
        (order(1, APPEND, NANO, alarm_nano=MoneyNano(1), trip_nano=MoneyNano(2)), "thresholds"),
        (order(1, APPEND, QUIET.payment_nano_max + 1), "above_limit"),
        (order(1, REFRESH, QUIET.payment_nano_max + 2 * NANO + 1), "above_limit"),
    ],
)
def test_orders_are_refused_with_their_reason(opened: Any, at: Any, purchase: PurchaseOrder, reason: str) -> None:
    (refused,) = take(opened, at("2024-04-01T01:00"), purchase)
    assert (refused.request, refused.reason) == ("purchase_order", reason)
    assert (money(opened), opened.state.purchase_orders) == (2 * NANO, {})


@pytest.mark.parametrize(("value", "fault"), [(NANO_PER_WATT_HOUR - 1, "too_small"), (NANO_PER_WATT_HOUR, None)])
def test_an_order_below_one_watt_hour_is_refused(value: int, fault: str | None) -> None:
    purchase = order(1, APPEND, value, unit=CreditUnit.ENERGY)
    assert order_fault(purchase, CreditUnit.ENERGY, PurchaseControl()) == fault


def test_a_payment_in_money_is_refused_by_an_energy_account(site: Any, at: Any) -> None:
    site.open(at("2024-04-01T00:00"), 0, 0, replace(QUIET, credit=CreditTerms(unit=CreditUnit.ENERGY)))
    (refused,) = site.pay(at("2024-04-01T01:00"), NANO)
    assert refused.reason == "wrong_unit"
    assert of(site.pay(at("2024-04-01T01:00"), NANO, "P2", unit=CreditUnit.ENERGY), ev.PaymentApplied)


def test_an_energy_account_counts_watt_hours_down(make_site: Any, document: Any, at: Any) -> None:
    made = document(prices={"table": {"all": ["1"]}})
    site = make_site({key: value for key, value in made.items() if key != "blocks"})
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, replace(QUIET, credit=CreditTerms(unit=CreditUnit.ENERGY)))
    take(site, start, order(1, APPEND, 500_000 * NANO_PER_WATT_HOUR, unit=CreditUnit.ENERGY))
    site.round(start + 3600, 12_345)
    assert site.last.figures["A01"].live_nano == (500_000 - 12_345) * NANO_PER_WATT_HOUR


def test_thresholds_of_an_order_decide_when_to_tell_and_when_to_cut(site: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    policy = replace(Policy(), legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE)
    site.open(start, 0, 0, policy)
    thresholds = {"alarm_nano": MoneyNano(5 * NANO), "trip_nano": MoneyNano(NANO)}
    take(site, start, order(1, APPEND, 10 * NANO, **thresholds))
    site.round(start + 3600, 9_800)  # 4.998 used
    assert of(site.events, ev.NoticeRaised) == []
    site.round(start + 3700, 10_000)
    assert [event.number for event in of(site.events, ev.NoticeRaised)] == [1]
    assert connected(site)
    for second in (0, 1):  # the notice that informs, then the cut
        site.round(start + 7200 + second, 17_648)  # 0.99952 left
    assert not connected(site)
    take(site, start + 7300, order(2, APPEND, 480_000))
    assert connected(site)


def test_an_overdraft_shifts_both_thresholds(site: Any, at: Any) -> None:
    start = at("2024-04-01T08:00")
    site.open(start, 0, 0, replace(Policy(), overdraft_nano=MoneyNano(10 * NANO)))
    take(site, start, order(1, APPEND, NANO, alarm_nano=MoneyNano(5 * NANO), trip_nano=MoneyNano(2 * NANO)))
    assert site.state.accounts["A01"].threshold_nano == -8 * NANO
    assert site.last.figures["A01"].reserve_nano == -5 * NANO


def test_an_order_without_thresholds_leaves_those_of_the_order_before() -> None:
    control = PurchaseControl().after(order(1, APPEND, 1, alarm_nano=MoneyNano(9), trip_nano=MoneyNano(3)))
    assert control.after(order(2, REFRESH, 1)) == PurchaseControl(MoneyNano(9), MoneyNano(3), 2)
    assert control.after(order(3, APPEND, 1, trip_nano=MoneyNano(4))).trip_nano == 4
    assert (balance_after(order(4, APPEND, 5), -7), balance_after(order(5, REFRESH, 5), -7)) == (-2, 5)
