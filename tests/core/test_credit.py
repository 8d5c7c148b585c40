"""edge.core.credit: limits that refuse at limit + 1, days that only go on, reversals that give debts back."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.credit_terms import CreditTerms, check_credit_terms
from edge.core.debt import DebtKind
from edge.core.disconnect_control import ControlState
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.units import ClockQuality, MoneyNano

NANO = 1_000_000_000
DAY_S = 86_400
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)
PAYMENT, BALANCE, METER_DAY, SITE_DAY = 40 * NANO, 100 * NANO, 60 * NANO, 90 * NANO
LIMITED = replace(
    QUIET,
    payment_nano_max=MoneyNano(PAYMENT),
    credit=CreditTerms(
        balance_nano_max=MoneyNano(BALANCE),
        meter_day_nano_max=MoneyNano(METER_DAY),
        gateway_day_nano_max=MoneyNano(SITE_DAY),
    ),
)


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def why(events: Any) -> str | None:
    refused = of(events, ev.PaymentRefused)
    return refused[0].reason if refused else None


def account(site: Any) -> Any:
    assert reduce(apply, site.events, State()) == site.state
    return site.state.accounts["A01"]


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize(
    ("before", "amount", "reason"),
    [
        ((), PAYMENT, "above_limit"),
        ((PAYMENT,), METER_DAY - PAYMENT, "above_meter_day_limit"),
        ((PAYMENT, 5 * NANO), METER_DAY - PAYMENT - 5 * NANO, "above_meter_day_limit"),
    ],
)
def test_a_limit_allows_itself_and_refuses_a_nano_more(
    site: Any, at: Any, before: Any, amount: int, excess: int, reason: str
) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, 0, LIMITED)
    for number, paid in enumerate(before):
        site.pay(now, paid, f"P{number}")
    assert why(site.pay(now, amount + excess, "last")) == (reason if excess else None)
    assert account(site).money_nano == sum(before) + (0 if excess else amount)


@pytest.mark.parametrize(("excess", "reason"), [(0, None), (1, "above_maximum_balance")])
def test_the_balance_after_a_payment_has_its_limit(site: Any, at: Any, excess: int, reason: str | None) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, BALANCE - 10 * NANO, LIMITED)
    assert why(site.pay(now, 10 * NANO + excess)) == reason


def test_the_balance_that_has_its_limit_is_the_live_one(site: Any, at: Any) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, BALANCE, LIMITED)
    site.round(now + 3600, 10_000)
    assert why(site.pay(now + 3600, 5_100_000_000)) is None


@pytest.mark.parametrize(("excess", "reason"), [(0, None), (1, "above_gateway_day_limit")])
def test_all_meters_of_a_gateway_share_one_limit_of_a_day(site: Any, at: Any, excess: int, reason: str | None) -> None:
    now = at("2024-04-08T10:00")
    for number in range(1, 4):
        site.open(now, 0, 0, LIMITED, account_id=f"A0{number}")
    site.pay(now, PAYMENT, "P1", account_id="A01")
    site.pay(now, PAYMENT, "P2", account_id="A02")
    assert why(site.pay(now, 10 * NANO + excess, "P3", account_id="A03")) == reason


def test_a_refused_payment_uses_up_nothing_and_its_id_may_come_again(site: Any, at: Any) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, 0, LIMITED)
    site.pay(now, PAYMENT, "P1")
    assert why(site.pay(now, PAYMENT, "P2")) == "above_meter_day_limit"
    assert why(site.pay(now, METER_DAY - PAYMENT, "P3")) is None
    assert why(site.pay(now + DAY_S, PAYMENT, "P2")) is None


def test_a_new_local_day_begins_at_midnight_and_only_by_a_clock_that_is_trusted(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T10:00"), 0, 0, LIMITED)
    site.pay(at("2024-04-08T23:59:59"), PAYMENT, "P1")
    site.quality = ClockQuality.FLOOR
    assert why(site.pay(at("2024-04-09T00:00"), PAYMENT, "P2")) == "above_meter_day_limit"
    site.quality = ClockQuality.NTP
    assert why(site.pay(at("2024-04-09T00:00"), PAYMENT, "P2")) is None


def test_a_clock_set_back_opens_no_day_again(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T10:00"), 0, 0, LIMITED)
    site.pay(at("2024-04-08T10:00"), PAYMENT, "P1")
    assert why(site.pay(at("2024-04-07T10:00"), PAYMENT, "P2")) == "above_meter_day_limit"


@pytest.mark.parametrize("wall", ["1970-01-01T08:00", "2106-02-07T00:00"])
def test_a_clock_from_nowhere_refuses_no_payment_and_moves_no_day(site: Any, at: Any, wall: str) -> None:
    site.open(at("2024-04-08T10:00"), 0, 0, LIMITED)
    site.quality = ClockQuality.UNSET
    assert why(site.pay(at(wall), PAYMENT, "P1")) is None
    assert site.state.paid_day == 0


@settings(max_examples=60, deadline=None)
@given(
    payments=st.lists(
        st.tuples(st.integers(1, 2), st.integers(-5, 45), st.integers(-40, 40), st.sampled_from(ClockQuality)),
        max_size=40,
    )
)
def test_no_day_takes_in_more_than_its_limits_whatever_the_clock_does(
    make_site: Any, document: Any, at: Any, payments: Any
) -> None:
    site, now = make_site(document()), at("2024-04-08T10:00")
    for number in (1, 2):
        site.open(now, 0, 0, LIMITED, account_id=f"A0{number}")
    for index, (number, units, days, quality) in enumerate(payments):
        site.quality = quality
        site.pay(now + days * DAY_S, units * NANO, f"P{index}", account_id=f"A0{number}")
    by_day: dict[tuple[str, int], int] = {}
    for event in of(site.events, ev.PaymentApplied):
        for key in ((event.account, event.limit_day), ("site", event.limit_day)):
            by_day[key] = by_day.get(key, 0) + event.amount_nano
    assert all(amount <= (SITE_DAY if name == "site" else METER_DAY) for (name, _), amount in by_day.items())
    days = [event.limit_day for event in of(site.events, ev.PaymentApplied)]
    assert days == sorted(days)
    assert reduce(apply, site.events, State()) == site.state


# --- reversals -----------------------------------------------------------------------------------


@pytest.fixture
def owing(site: Any, at: Any) -> Any:
    """10.00 paid: 1.00 to payment debt, 2.00 to accumulated debt, 3.00 to old debt, 4.00 to the balance."""
    now = at("2024-04-08T10:00")
    site.open(now, 0, 0, replace(QUIET, credit=CreditTerms(old_debt_share=3000)))
    for kind, units in ((DebtKind.PAYMENT, 50), (DebtKind.ACCUMULATED, 2), (DebtKind.OLD, 30)):
        site.do(cmd.SetDebt(site.clock(now), "A01", kind, MoneyNano(units * NANO), "agreement", share=1000))
    site.pay(now, 10 * NANO, "P1")
    assert debts(site) == [49, 0, 27]
    assert account(site).money_nano == 4 * NANO
    return site


def debts(site: Any) -> list[int]:
    found = account(site).debts
    return [found.payment.amount_nano // NANO, found.accumulated_nano // NANO, found.old_nano // NANO]


def reverse(
    site: Any, at: int, units: int, cid: str, payment_id: str = "P1", signed_by: tuple[str, ...] = ("ops-1", "ops-2")
) -> str:
    site.do(cmd.ReversePayment(site.clock(at), payment_id, MoneyNano(units * NANO), cid, signed_by))
    return str(site.state.applied[cid])


@pytest.mark.parametrize(
    ("units", "owed", "money"),
    [
        (3, [49, 0, 27], 1),
        (4, [49, 0, 27], 0),
        (6, [49, 0, 29], 0),
        (8, [49, 1, 30], 0),
        (10, [50, 2, 30], 0),
    ],
)
def test_a_reversal_takes_the_credit_first_and_then_owes_the_debts_again(
    owing: Any, at: Any, units: int, owed: list[int], money: int
) -> None:
    assert reverse(owing, at("2024-04-08T11:00"), units, "c-1") == "applied"
    assert (debts(owing), account(owing).money_nano) == (owed, money * NANO)


def test_parts_of_a_payment_taken_back_one_by_one_never_exceed_it(owing: Any, at: Any) -> None:
    now = at("2024-04-08T11:00")
    answers = [reverse(owing, now, units, f"c-{n}") for n, units in enumerate((7, 4, 3, 1))]
    assert answers == ["applied", "rejected:above_payment", "applied", "rejected:above_payment"]
    assert (debts(owing), account(owing).money_nano) == ([50, 2, 30], 0)


def test_a_reversal_gives_the_rate_cap_back(site: Any, at: Any) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, 0, QUIET)
    terms: Any = {"share": 10_000, "cap_nano": MoneyNano(5 * NANO)}
    site.do(cmd.SetDebt(site.clock(now), "A01", DebtKind.PAYMENT, MoneyNano(50 * NANO), "agreement", **terms))
    site.pay(now, 5 * NANO, "P1")
    reverse(site, now, 5, "c-1")
    site.pay(now, 5 * NANO, "P2")
    assert debts(site) == [45, 0, 0]


@pytest.mark.parametrize(
    ("payment_id", "units", "reason"),
    [("P9", 1, "unknown_payment"), ("P1", 0, "amount"), ("P1", -1, "amount"), ("P1", 11, "above_payment")],
)
def test_reversals_are_refused_with_their_reason(owing: Any, at: Any, payment_id: str, units: int, reason: str) -> None:
    assert reverse(owing, at("2024-04-08T11:00"), units, "c-1", payment_id) == f"rejected:{reason}"


def test_a_reversal_opens_an_episode_and_never_cuts_at_once(site: Any, at: Any) -> None:
    now = at("2024-04-08T10:00")
    site.open(now, 0, -NANO, replace(Policy(), reserve_days=0))
    site.pay(now, 10 * NANO, "P1")
    reverse(site, now + 60, 10, "c-1")
    site.round(now + 120, 0)
    assert [notice.number for notice in account(site).episode.notices] == [2]
    site.round(now + 180, 0)
    assert account(site).control_state is ControlState.CONNECTED


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (CreditTerms(old_debt_share=10_001), "old_debt_share"),
        (CreditTerms(emergency_limit_nano=MoneyNano(-1)), "emergency_limit_nano"),
        (CreditTerms(gateway_day_nano_max=MoneyNano(-1)), "gateway_day_nano_max"),
    ],
)
def test_terms_no_site_can_mean_are_named(terms: CreditTerms, field: str) -> None:
    check_credit_terms(CreditTerms())
    with pytest.raises(ValueError, match=field):
        check_credit_terms(terms)
