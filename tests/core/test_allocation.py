"""edge.core.allocation: the order of RULES.md 5, parts that add up to the nano, and what a payment must be."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.allocation import Allocation, Standing, allocate, payment_for
from edge.core.debt import DebtKind, Debts, PaymentDebt, TimeDebt, moved
from edge.core.units import MoneyNano

NANO = 1_000_000_000
ABOVE = Standing(live_nano=0, threshold_nano=0, emergency_used_nano=0, cap_period=7)
AMOUNTS = st.integers(0, 10**15)


def debts_of(payment: int = 0, share: int = 0, cap: int | None = None, accumulated: int = 0, old: int = 0) -> Debts:
    debt = PaymentDebt(MoneyNano(payment), share, None if cap is None else MoneyNano(cap))
    return Debts(payment=debt, accumulated_nano=MoneyNano(accumulated), old_nano=MoneyNano(old))


def parts(allocation: Allocation) -> tuple[int, ...]:
    return (
        allocation.payment_debt_nano,
        allocation.accumulated_debt_nano,
        allocation.old_debt_nano,
        allocation.below_threshold_nano,
        allocation.emergency_nano,
        allocation.token_nano,
    )


def test_a_payment_without_debts_is_token_credit() -> None:
    assert parts(allocate(20 * NANO, Debts(), 0, ABOVE)) == (0, 0, 0, 0, 0, 20 * NANO)


def test_every_part_is_filled_in_its_turn() -> None:
    debts = debts_of(payment=50 * NANO, share=1000, accumulated=3 * NANO, old=100 * NANO)
    standing = Standing(live_nano=-7 * NANO, threshold_nano=0, emergency_used_nano=5 * NANO, cap_period=0)
    expected = (2 * NANO, 3 * NANO, 4 * NANO, 2 * NANO, 5 * NANO, 4 * NANO)
    assert parts(allocate(20 * NANO, debts, 2000, standing)) == expected


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (10, (1, 9, 0, 0, 0, 0)),
        (200, (20, 30, 40, 70, 40, 0)),
        (160, (16, 30, 32, 70, 12, 0)),
        (100, (10, 30, 20, 40, 0, 0)),
    ],
)
def test_a_small_payment_ends_with_the_part_it_does_not_fill(amount: int, expected: tuple[int, ...]) -> None:
    debts = debts_of(payment=1000, share=1000, accumulated=30, old=500)
    assert parts(allocate(amount, debts, 2000, Standing(-120, 0, 50, 0))) == expected


def test_an_overdraft_shifts_the_threshold_that_is_filled_first() -> None:
    standing = Standing(live_nano=-12 * NANO, threshold_nano=-10 * NANO, emergency_used_nano=0, cap_period=0)
    assert parts(allocate(5 * NANO, Debts(), 0, standing)) == (0, 0, 0, 2 * NANO, 0, 3 * NANO)


def test_shares_are_cut_off_to_the_nano() -> None:
    debts = debts_of(payment=NANO, share=3333, old=NANO)
    assert parts(allocate(10, debts, 3333, ABOVE)) == (3, 0, 3, 0, 0, 4)


@given(
    amount=st.integers(1, 10**15),
    owed=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS),
    shares=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
    cap=st.none() | AMOUNTS,
    live=st.integers(-(10**15), 10**15),
    emergency=AMOUNTS,
)
def test_parts_add_up_and_none_pays_more_than_is_owed(
    amount: int, owed: Any, shares: Any, cap: int | None, live: int, emergency: int
) -> None:
    debts = debts_of(payment=owed[0], share=shares[0], cap=cap, accumulated=owed[1], old=owed[2])
    used = min(emergency, max(0, -live))
    found = allocate(amount, debts, shares[1], Standing(live, 0, used, 0))
    assert sum(parts(found)) == amount == found.debts_nano + found.credit_nano
    assert min(parts(found)) >= 0
    assert found.payment_debt_nano <= min(owed[0], amount * shares[0] // 10_000, owed[0] if cap is None else cap)
    assert found.accumulated_debt_nano <= owed[1]
    assert found.old_debt_nano <= min(owed[2], amount * shares[1] // 10_000)
    assert found.emergency_nano <= used
    if found.token_nano:  # the last in the order gets something only when all before it are satisfied
        assert live + found.credit_nano >= 0
        assert found.accumulated_debt_nano == owed[1]
        assert found.emergency_nano == used


@given(
    target=st.integers(-(10**12), 10**12),
    live=st.integers(-(10**12), 10**12),
    owed=st.tuples(*[st.integers(0, 10**12)] * 3),
    shares=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
)
def test_the_payment_for_a_balance_is_enough_and_a_nano_less_is_not(
    target: int, live: int, owed: Any, shares: Any
) -> None:
    debts = debts_of(payment=owed[0], share=shares[0], accumulated=owed[1], old=owed[2])
    standing = Standing(live, 0, 0, 0)
    amount = payment_for(target, debts, shares[1], standing)
    if live >= target:
        assert amount == 0
        return
    assert live + allocate(amount, debts, shares[1], standing).credit_nano >= target
    assert amount == 1 or live + allocate(amount - 1, debts, shares[1], standing).credit_nano < target


def test_time_debts_take_nothing_of_a_payment() -> None:
    debts = replace(Debts(), time_1=TimeDebt(MoneyNano(9 * NANO), MoneyNano(NANO)))
    assert allocate(5 * NANO, debts, 0, ABOVE).token_nano == 5 * NANO
    assert debts.total_nano == 9 * NANO


@pytest.mark.parametrize("kind", list(DebtKind))
def test_one_debt_moves_and_the_others_stay(kind: DebtKind) -> None:
    debts = moved(Debts(), kind, 7)
    assert [debts.amount_nano(other) for other in DebtKind] == [7 if other is kind else 0 for other in DebtKind]
