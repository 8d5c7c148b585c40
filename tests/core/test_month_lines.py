"""What power costs a live account: by capacity, by contract with its rule for more, by what was measured."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.credit_terms import CreditTerms, IssueCycle
from edge.core.demand import Contracted, DemandMeter, measured
from edge.core.ledger import apply
from edge.core.month_lines import not_measured_here
from edge.core.policy import Policy
from edge.core.surcharge import with_surcharges
from edge.core.tariff import load_tariff
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

UNIT = 10**9
CONTRACT = {
    "name": "contract",
    "kind": "contract",
    "unit": "kW",
    "prices": ["38"],
    "window_min": 15,
    "slip_min": 1,
    "day_divisor": 30,
    "over_contract": {"threshold_percent": "105", "factor": 2},
}
CAPACITY = {"name": "capacity", "kind": "capacity", "unit": "kVA", "prices": ["23.5"], "day_divisor": 30}
MEASURED = {"name": "peak", "kind": "measured", "unit": "kW", "prices": ["40"], "window_min": 15, "slip_min": 15}


@pytest.fixture
def power_site(make_site: Any, document: Any) -> Any:
    """A site whose tariff has these demand charges, with an account opened at an instant."""

    def make(opened_at: int, *charges: Any, contracted: Contracted = Contracted(), **changes: Any) -> Any:  # noqa: B008
        policy = changes.pop("policy", Policy())
        site = make_site(document(demand=list(charges), **changes))
        opening = cmd.OpenAccount(
            received=site.clock(opened_at),
            account_id="A01",
            meter_id="M01",
            policy=policy,
            tariff="cn-hlj@1",
            register=Register(UnixSeconds(opened_at), WattHours(0)),
            contracted=contracted,
        )
        site.do(opening)
        return site

    return make


def posted(site: Any) -> Any:
    return [event for event in site.events if isinstance(event, ev.DemandChargePosted)]


def run_slots(site: Any, first_at: int, powers_w: list[int], wh: int = 0) -> int:
    """A reading record each quarter of an hour; the register after the last."""
    for number, power_w in enumerate(powers_w, start=1):
        wh += power_w // 4
        site.round(first_at + number * 900, wh, power_w_max=1_000_000)
    return wh


def test_a_whole_month_of_capacity_costs_its_price_once(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), CAPACITY, contracted=Contracted(capacity_va=315_000))
    site.round(at("2024-06-01T00:05"), 0)
    [event] = posted(site)
    assert (event.at, event.posting_nano) == (at("2024-06-01T00:00"), -315_000 * 23_500_000)
    assert [(line.days, line.power_w) for line in event.lines] == [(None, 315_000)]


def test_a_part_of_a_month_costs_a_thirtieth_a_day(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-12T08:00"), CAPACITY, contracted=Contracted(capacity_va=315_000))
    site.round(at("2024-06-01T00:05"), 0)
    [line] = posted(site)[0].lines
    assert (line.days, line.day_divisor, line.amount_nano) == (20, 30, 315_000 * 23_500_000 * 20 // 30)


@pytest.mark.parametrize(
    ("peak_w", "billed_w"), [(400_000, 500_000), (525_000, 500_000), (526_000, 527_000), (560_000, 595_000)]
)
def test_above_105_percent_of_the_contract_the_excess_counts_double(
    power_site: Any, at: Any, peak_w: int, billed_w: int
) -> None:
    site = power_site(at("2024-05-01T00:00"), CONTRACT, contracted=Contracted(contract_w=500_000))
    run_slots(site, at("2024-05-20T10:00"), [100_000, peak_w, 100_000])
    site.round(at("2024-06-01T00:05"), 10**6, power_w_max=1_000_000)
    [event] = posted(site)
    assert event.power_w_max == peak_w
    assert [(line.power_w, line.basis_w) for line in event.lines] == [(billed_w, 500_000)]
    assert event.posting_nano == -billed_w * 38_000_000


def test_the_contract_of_the_document_stands_where_the_account_has_none(power_site: Any, at: Any) -> None:
    stated = {**CONTRACT, "contract": [{"valid_from": "2020-01-01", "size": "100"}]}
    site = power_site(at("2024-05-01T00:00"), stated)
    site.round(at("2024-06-01T00:05"), 0)
    assert [line.power_w for line in posted(site)[0].lines] == [100_000]


def test_the_measuring_begins_anew_with_each_month(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), MEASURED)
    wh = run_slots(site, at("2024-05-20T10:00"), [0, 80_000, 0])
    wh = run_slots(site, at("2024-06-20T10:00"), [0, 60_000, 0], wh)
    site.round(at("2024-07-01T00:05"), wh)
    assert [(event.power_w_max, event.posting_nano) for event in posted(site)] == [
        (80_000, -80_000 * 40_000_000),
        (60_000, -60_000 * 40_000_000),
    ]


def test_where_nothing_was_measured_nothing_is_billed(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), MEASURED)
    site.round(at("2024-06-01T00:05"), 500_000)
    assert [(event.power_w_max, event.lines, event.posting_nano) for event in posted(site)] == [(None, (), 0)]


def test_no_gap_restart_or_set_clock_makes_a_peak(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), MEASURED)
    wh = run_slots(site, at("2024-05-20T10:00"), [4_000, 4_000])
    site.round(at("2024-05-20T18:00"), wh + 60_000)  # eight hours unheard
    site.boot_id = "boot-2"
    site.round(at("2024-05-20T18:15"), wh + 90_000)
    site.elapsed_offset_s -= 7_200  # the wall goes two hours on by itself
    site.quality = ClockQuality.UNSET
    site.round(at("2024-05-20T20:20"), wh + 91_000)
    site.quality = ClockQuality.NTP
    site.round(at("2024-05-20T20:30"), wh + 91_000)
    assert site.state.accounts["A01"].demand.power_w_max == 4_000


def test_a_new_meter_and_an_accepted_register_are_no_peak(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), MEASURED)
    wh = run_slots(site, at("2024-05-20T10:00"), [4_000, 4_000])
    moment = at("2024-05-20T10:40")
    last, first = Register(UnixSeconds(moment), WattHours(wh)), Register(UnixSeconds(moment), WattHours(9_000_000))
    site.do(cmd.ExchangeMeter(site.clock(moment), "A01", "M02", last, first, "technician"))
    run_slots(site, at("2024-05-20T10:45"), [2_000, 2_000], 9_000_000)
    assert site.state.accounts["A01"].demand.power_w_max == 4_000


def test_the_bill_holds_the_month_lines_and_the_rounding_is_last(power_site: Any, at: Any) -> None:
    minimum = {"amount": "9000", "per": "month"}
    site = power_site(
        at("2024-05-12T00:00"), CAPACITY, contracted=Contracted(capacity_va=315_001), minimum_bill=minimum
    )
    site.round(at("2024-06-01T00:05"), 100_003)
    money = [event for event in site.events if getattr(event, "posting_nano", 0)]
    kinds = [type(event).__name__ for event in money]
    assert kinds == ["DemandChargePosted", "BillIssued", "MinimumBillPosted"]
    [bill] = [event for event in site.events if isinstance(event, ev.BillIssued)]
    assert bill.month_nano == -posted(site)[0].posting_nano
    assert bill.bill_minor == 900_000
    assert site.state.accounts["A01"].money_nano == -9000 * UNIT
    assert site.state.accounts["A01"].month_nano == 0


def test_with_weekly_bills_power_is_still_paid_by_the_month(power_site: Any, at: Any) -> None:
    policy = Policy(credit=CreditTerms(issue_cycle=IssueCycle.WEEK))
    site = power_site(at("2024-05-01T00:00"), CAPACITY, contracted=Contracted(capacity_va=1_000), policy=policy)
    site.round(at("2024-06-10T00:05"), 0)
    assert len(posted(site)) == 1
    bills = [event.month_nano for event in site.events if isinstance(event, ev.BillIssued)]
    assert [nano for nano in bills if nano] == [1_000 * 23_500_000]
    assert len(bills) == 6


def test_a_tenant_who_leaves_pays_his_part_of_the_month(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-01T00:00"), CAPACITY, contracted=Contracted(capacity_va=30_000))
    moment = at("2024-05-11T12:00")
    change = cmd.ChangeTenant(site.clock(moment), "A01", "next", MoneyNano(0), sample=site.sample(moment, 1000))
    site.do(change)
    site.round(at("2024-06-01T00:05"), 1000)
    days = [line.days for event in posted(site) for line in event.lines]
    assert days == [10, 21]
    bills = [event for event in site.events if isinstance(event, ev.BillIssued)]
    assert [bill.month_nano for bill in bills] == [30_000 * 23_500_000 * n // 30 for n in days]


def test_a_surcharge_on_the_basic_charge_is_in_its_price(document: Any) -> None:
    levy = {"name": "levy", "percent": "10", "base": ["basic"]}
    raised = with_surcharges(load_tariff(document(demand=[CAPACITY], surcharges=[levy])))
    assert raised is not None
    assert raised.terms.demands[0].prices_micro_per_kw_month == (25_850_000,)
    odd = {"name": "levy", "percent": "0.01", "base": ["basic"]}
    uneven = {**CAPACITY, "prices": ["23.500001"]}
    assert with_surcharges(load_tariff(document(demand=[uneven], surcharges=[odd]))) is None


def test_a_life_with_month_lines_replays_to_the_bit(power_site: Any, at: Any) -> None:
    site = power_site(at("2024-05-03T00:00"), CONTRACT, CAPACITY, contracted=Contracted(7_000, 9_000))
    wh = run_slots(site, at("2024-05-20T10:00"), [1_000, 9_876, 5_432])
    wh = run_slots(site, at("2024-06-20T10:00"), [1_000, 19_876, 5_432], wh)
    site.round(at("2024-07-03T00:00"), wh)
    assert reduce(apply, site.events, State()) == site.state
    assert len(posted(site)) == 2


def test_a_tariff_by_a_contract_nobody_has_is_not_scheduled(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(), document(version=2, demand=[CAPACITY]))
    site.open(at("2024-05-01T00:00"))
    site.do(cmd.AcceptTariff(site.clock(at("2024-05-02T00:00")), "cn-hlj@2", "{}"))
    order = cmd.ScheduleTariff(site.clock(at("2024-05-02T00:00")), "cn-hlj@2", UnixSeconds(at("2024-05-10T00:00")))
    [refused] = site.do(replace(order, cid="c1"))
    assert refused.reason == "unknown_contract"
    terms = cmd.ChangeTerms(site.clock(at("2024-05-03T00:00")), "A01", Policy(), False, Contracted(capacity_va=5))
    site.do(terms)
    assert [type(event) for event in site.do(replace(order, cid="c2"))] == [ev.TariffScheduled, ev.OrderApplied]


def test_power_is_measured_from_the_day_its_tariff_is_in_force(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(), document(version=2, demand=[MEASURED]))
    site.open(at("2024-05-01T00:00"))
    site.do(cmd.AcceptTariff(site.clock(at("2024-05-02T00:00")), "cn-hlj@2", "{}"))
    effective_at = UnixSeconds(at("2024-05-10T00:00"))
    site.do(cmd.ScheduleTariff(site.clock(at("2024-05-02T00:00")), "cn-hlj@2", effective_at))
    wh = run_slots(site, at("2024-05-09T10:00"), [0, 50_000])
    before: Any = site.state.accounts["A01"]
    assert before.demand is None
    run_slots(site, at("2024-05-10T10:00"), [0, 20_000], wh)
    assert site.state.accounts["A01"].demand.power_w_max == 20_000


@pytest.mark.parametrize(
    ("charge", "fault"),
    [
        ({**MEASURED, "window_min": 30, "slip_min": 30}, "demand charge peak measured over 30 minutes, not 15"),
        ({**MEASURED, "ratchet": {"percent": "80", "months": 11}}, "demand charge peak with a ratchet"),
    ],
)
def test_what_is_not_measured_here_is_named(document: Any, charge: Any, fault: str) -> None:
    tariff = load_tariff(document(demand=[charge]))
    assert not_measured_here(tariff.terms, ["all"]) == [fault]
    assert not_measured_here(tariff.terms, ["peak", "valley"])[0].endswith("in some periods only")


def test_a_record_a_little_early_is_measured_and_one_between_is_not(at: Any, site: Any) -> None:
    moment = at("2024-05-20T10:00")
    meter = measured(DemandMeter(900), 0, site.clock(moment))
    early = measured(meter, 210, site.clock(moment + 840))
    assert early.power_w_max == 900
    assert measured(meter, 100, site.clock(moment + 400)) == meter
