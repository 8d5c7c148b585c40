"""Blocks that count what is bought in a month, on a live account: exact, replayable, the same as billed at the vend."""

from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.calendar import Cycle, CycleLength
from edge.core.charge import top_up_nano
from edge.core.credit_terms import CreditTerms, IssueCycle
from edge.core.debt import DebtKind
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.purchased import Bought, PurchaseBlocks, as_used, credit_for, lines_kept, not_sold_here, purchase
from edge.core.rating import PeriodPrices
from edge.core.tariff import load_tariff
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

UNIT = 10**9
# Homelight 20A, 2024/25: 1.9028 up to 350 kWh bought in the month, 2.1562 above.
BLOCKS = {
    "id": "vend",
    "cycle": {"length": "vend"},
    "blocks": {"scope": "cycle", "limits_kwh": ["350"]},
    "prices": {"table": {"all": ["1.9028", "2.1562"]}},
}
FIRST, SECOND = 1_902_800, 2_156_200  # nano a Wh is micro a kWh
DEARER = SECOND - FIRST


@pytest.fixture
def vend(make_site: Any, document: Any, at: Any) -> Any:
    """An account on a tariff whose blocks count purchases, opened without credit at the start of May."""
    site = make_site(without_blocks(document))
    site.open(at("2024-05-01T00:00"), register_wh=1000, tariff="vend@1")
    return site


def without_blocks(document: Any, **changes: Any) -> Any:
    return {**document(), **BLOCKS, **changes}


def of_kind(events: Any, kind: Any) -> Any:
    return [event for event in events if isinstance(event, kind)]


def test_a_purchase_within_the_first_block_costs_no_more_than_its_price(vend: Any, at: Any) -> None:
    [bought] = of_kind(vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST), ev.EnergyBought)
    assert (bought.energy_wh, bought.before_wh, bought.posting_nano, bought.rest_nano) == (350_000, 0, 0, 0)
    assert [(line.block, line.energy_wh, line.amount_nano) for line in bought.lines] == [(1, 350_000, 350_000 * FIRST)]


def test_a_purchase_over_the_limit_buys_the_rest_at_the_second_price(vend: Any, at: Any) -> None:
    amount = 350_000 * FIRST + 100_000 * SECOND + 7
    [bought] = of_kind(vend.pay(at("2024-05-02T12:00"), amount), ev.EnergyBought)
    assert [(line.block, line.energy_wh) for line in bought.lines] == [(1, 350_000), (2, 100_000)]
    assert (bought.posting_nano, bought.rest_nano) == (-100_000 * DEARER, 7)
    # Whatever is used is charged at the first price: the balance is worth just what was bought.
    assert vend.state.accounts["A01"].money_nano == 450_000 * FIRST + 7


def test_energy_bought_is_used_whenever_without_a_second_price(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST + 100_000 * SECOND)
    vend.round(at("2024-05-20T00:00"), 1000 + 400_000)
    vend.round(at("2024-06-20T00:00"), 1000 + 449_999)
    assert vend.state.accounts["A01"].recorded_live_nano in range(
        FIRST, FIRST + 10**7
    )  # one Wh, and cents of two bills
    assert {line.price_micro_per_kwh for event in of_kind(vend.events, ev.BillIssued) for line in event.lines} == {
        FIRST
    }


def test_the_second_purchase_of_a_month_goes_on_where_the_first_one_ended(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 300_000 * FIRST)
    [bought] = of_kind(vend.pay(at("2024-05-25T12:00"), 50_000 * FIRST + 50_000 * SECOND, "P2"), ev.EnergyBought)
    assert (bought.before_wh, [line.energy_wh for line in bought.lines]) == (300_000, [50_000, 50_000])


def test_blocks_start_over_with_the_month_and_not_with_each_purchase(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-31T23:59"), 400_000 * SECOND)
    [bought] = of_kind(vend.pay(at("2024-06-01T00:00"), 10 * FIRST, "P2"), ev.EnergyBought)
    assert (bought.before_wh, bought.posting_nano) == (0, 0)


def test_the_rest_too_little_for_a_watt_hour_is_counted_with_the_next_purchase(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST)
    for number in range(3):  # each is less than a Wh of the second block
        vend.pay(at("2024-05-03T12:00"), SECOND - 1, f"R{number}")
    last = of_kind(vend.events, ev.EnergyBought)[-1]
    assert (last.before_wh, last.energy_wh, last.rest_nano) == (350_001, 1, SECOND - 3)
    assert vend.state.accounts["A01"].money_nano == 350_000 * FIRST + 3 * (SECOND - 1) - 2 * DEARER


def test_energy_that_is_owed_is_bought_when_it_is_paid(vend: Any, at: Any) -> None:
    vend.round(at("2024-05-02T00:00"), 1000 + 500)
    assert vend.last.figures["A01"].live_nano == -500 * FIRST
    vend.pay(at("2024-05-02T12:00"), 500 * FIRST)
    assert vend.state.accounts["A01"].recorded_live_nano == 0
    assert vend.state.accounts["A01"].bought.energy_wh == 500


def test_a_clock_that_is_not_trusted_begins_no_new_month(vend: Any, at: Any) -> None:
    vend.round(at("2024-05-20T00:00"), 2000)
    vend.pay(at("2024-05-20T12:00"), 400_000 * SECOND)
    vend.quality = ClockQuality.UNSET
    for moment in ("2030-01-01T00:00", "2023-12-20T00:00"):
        [bought] = of_kind(vend.pay(at(moment), SECOND, moment), ev.EnergyBought)
        assert [line.block for line in bought.lines] == [2]


def test_a_reversal_gives_back_what_the_blocks_had_cost_and_the_place_in_them(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST + 100_000 * SECOND)
    found = reversed_payment(vend, at("2024-05-03T12:00"), 60_000 * SECOND, "c1")
    [returned] = of_kind(found, ev.BoughtEnergyReturned)
    assert (returned.energy_wh, returned.posting_nano) == (60_000, 60_000 * DEARER)
    account = vend.state.accounts["A01"]
    assert (account.money_nano, account.bought.energy_wh) == (390_000 * FIRST, 390_000)
    reversed_payment(vend, at("2024-05-04T12:00"), 350_000 * FIRST + 40_000 * SECOND, "c2")
    account = vend.state.accounts["A01"]
    assert (account.money_nano, account.bought.energy_wh, account.bought.posted_nano) == (0, 0, 0)


def reversed_payment(site: Any, moment: int, amount_nano: int, cid: str) -> Any:

    return site.do(cmd.ReversePayment(site.clock(moment), "P1", MoneyNano(amount_nano), cid, ("k1", "k2")))


def test_after_a_reversal_in_a_later_month_its_blocks_stay_where_they_are(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST + 100_000 * SECOND)
    vend.pay(at("2024-06-02T12:00"), 10_000 * FIRST, "P2")
    reversed_payment(vend, at("2024-06-03T12:00"), 100_000 * SECOND, "c1")
    account = vend.state.accounts["A01"]
    assert (account.bought.energy_wh, account.money_nano) == (10_000, 360_000 * FIRST)


def test_what_goes_to_debts_buys_no_energy(vend: Any, at: Any) -> None:

    debt = cmd.SetDebt(vend.clock(at("2024-05-01T12:00")), "A01", DebtKind.ACCUMULATED, MoneyNano(5 * UNIT), "old")
    vend.do(debt)
    found = vend.pay(at("2024-05-02T12:00"), 5 * UNIT + 100 * FIRST)
    assert [type(event) for event in found[:3]] == [ev.PaymentApplied, ev.PaymentAllocated, ev.EnergyBought]
    assert found[2].energy_wh == 100


def test_a_new_first_price_leaves_as_many_watt_hours_in_the_balance(make_site: Any, document: Any, at: Any) -> None:

    dearer = without_blocks(document, version=2, prices={"table": {"all": ["2.5", "3"]}})
    site = make_site(without_blocks(document), dearer)
    site.open(at("2024-05-01T00:00"), tariff="vend@1")
    site.pay(at("2024-05-02T12:00"), 1000 * FIRST + 5)
    site.do(cmd.AcceptTariff(site.clock(at("2024-05-03T00:00")), "vend@2", "{}"))
    effective_at = UnixSeconds(at("2024-05-10T00:00"))
    site.do(cmd.ScheduleTariff(site.clock(at("2024-05-03T00:00")), "vend@2", effective_at))
    site.round(at("2024-05-10T00:10"), 400)
    [moved] = of_kind(site.events, ev.BoughtEnergyRepriced)
    left_wh = moved.live_balance_nano // FIRST
    assert left_wh in (600, 601)  # energy is shared out by seconds over the change
    assert moved.posting_nano == left_wh * (2_500_000 - FIRST)
    account = site.state.accounts["A01"]
    assert account.recorded_live_nano // 2_500_000 == 600


def test_the_bill_holds_what_the_blocks_cost_and_money_stays_whole(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 350_000 * FIRST + 100_000 * SECOND + 9)
    vend.round(at("2024-06-01T00:10"), 1000 + 123_457)
    [bill] = of_kind(vend.events, ev.BillIssued)
    [rounding] = of_kind(vend.events, ev.RoundingPosted)
    assert bill.bought_nano == 100_000 * DEARER
    assert bill.amount_nano + bill.bought_nano - rounding.posting_nano == bill.bill_minor * 10_000_000
    assert vend.state.accounts["A01"].bought.posted_nano == 0


def test_with_the_vend_cycle_each_payment_first_issues_what_was_used(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(without_blocks(document))
    terms = CreditTerms(issue_cycle=IssueCycle.VEND)
    site.open(at("2024-05-01T00:00"), tariff="vend@1", policy=Policy(credit=terms))
    site.pay(at("2024-05-02T12:00"), 400_000 * SECOND)
    site.round(at("2024-05-20T12:00"), 5000)
    found = site.pay(at("2024-05-21T12:00"), 10 * UNIT, "P2")
    kinds = [type(event).__name__ for event in found]
    assert kinds.index("BillIssued") < kinds.index("PaymentApplied") < kinds.index("EnergyBought")
    [bill] = of_kind(found, ev.BillIssued)
    first = of_kind(site.events, ev.EnergyBought)[0]
    assert (bill.energy_wh, bill.bought_nano) == (5000, -first.posting_nano)


def test_a_life_of_purchases_replays_to_the_bit(vend: Any, at: Any) -> None:
    for day in range(2, 28):
        vend.pay(at(f"2024-05-{day:02d}T10:00"), 31_415_926_535 + day, f"P{day}")
        vend.round(at(f"2024-05-{day:02d}T20:00"), 1000 + day * 9_000)
    reversed_payment(vend, at("2024-05-28T00:00"), 0, "c0")
    assert reduce(apply, vend.events, State()) == vend.state
    lines = [line for event in of_kind(vend.events, ev.EnergyBought) for line in event.lines]
    paid = sum(event.amount_nano for event in of_kind(vend.events, ev.PaymentApplied))
    assert sum(line.amount_nano for line in lines) + vend.state.accounts["A01"].bought.rest_nano == paid


def test_the_suggested_payment_reaches_the_reserve_after_its_blocks(vend: Any, at: Any) -> None:
    vend.pay(at("2024-05-02T12:00"), 349_000 * FIRST)
    vend.round(at("2024-05-20T00:00"), 1000 + 349_000)
    account, figures = vend.state.accounts["A01"], vend.last.figures["A01"]
    suggested = top_up_nano(account, figures, vend.rating, at("2024-05-20T00:00"))
    vend.pay(at("2024-05-20T00:01"), suggested, "P2")
    after = vend.state.accounts["A01"].recorded_live_nano
    assert figures.reserve_nano <= after < figures.reserve_nano + 10_000_000 + SECOND


BLOCKS_OF = PurchaseBlocks(Cycle(CycleLength.MONTH), PeriodPrices("all", 0, (100, 250), (3, 5, 2)))


@pytest.mark.parametrize("before", [0, 40, 100, 180, 250, 400])
@pytest.mark.parametrize("need", [1, 3, 299, 300, 301, 700, 5000])
def test_the_credit_for_a_balance_is_enough(before: int, need: int) -> None:
    bought = Bought(WattHours(before), first_day=19_844, rest_nano=MoneyNano(1))
    credit = credit_for(BLOCKS_OF, bought, need, 19_850)
    found = purchase(BLOCKS_OF, bought, credit, 19_850)
    assert credit - found.block_nano >= need


def test_what_stays_bought_is_the_first_that_was(at: Any) -> None:
    lines = purchase(BLOCKS_OF, Bought(), 100 * 3 + 150 * 5 + 40 * 2, 19_850).lines
    kept = lines_kept(lines, 40 * 2 + 51)
    assert [(line.block, line.energy_wh) for line in kept] == [(1, 100), (2, 139)]
    assert lines_kept(lines, 10**9) == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"standing_charges": [{"name": "daily", "amount": "1", "per": "day"}]}, "standing charges"),
        ({"minimum_bill": {"amount": "1", "per": "month"}}, "a minimum bill"),
        ({"prices": {"table": {"all": ["0", "1"]}}}, "a price of 0"),
    ],
)
def test_what_no_purchase_can_be_priced_beside_is_named(document: Any, changes: Any, fault: str) -> None:
    assert not_sold_here(load_tariff(without_blocks(document, **changes))) == [f"{fault} beside a vend cycle"]


def test_a_tariff_that_counts_use_is_used_as_it_is(document: Any) -> None:
    tariff = load_tariff(document())
    assert as_used(tariff) is tariff
    assert not_sold_here(tariff) == []
