"""The worked examples about accounts, run through step, ledger and replay exactly as they stand.

tests/vectors/worked_examples.json is unchanged; here its words become tariff documents, commands and
registers. Prices micro per kWh, energy Wh, money nano.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.allocation import Standing, payment_for
from edge.core.calendar import daily_windows
from edge.core.credit_terms import CreditTerms, CreditUnit
from edge.core.disconnect_control import ControlState
from edge.core.emergency import CreditStatus, emergency_status, emergency_used
from edge.core.landlord import pooled_sample
from edge.core.ledger import apply
from edge.core.notices import cut_instant
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.units import MoneyNano, UnixSeconds, WattHours

EXAMPLES = json.loads((Path(__file__).parent.parent / "vectors" / "worked_examples.json").read_text("utf-8"))
TARIFFS = EXAMPLES["tariffs"]
CASES = {case["id"]: case for case in EXAMPLES["cases"]}
NANO = 1_000_000_000
MINOR_NANO = 10_000_000
DAY_S = 86_400
START = "2024-04-01T00:00"
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)

Json = dict[str, Any]


def decimal(micro: int) -> str:
    sign, micro = ("-" if micro < 0 else ""), abs(micro)
    return f"{sign}{micro // 10**6}.{micro % 10**6:06d}"


def tiers(rows: Any) -> Json:
    limits = [f"{row['upto_Wh'] // 1000}.{row['upto_Wh'] % 1000:03d}" for row in rows[:-1]]
    return {
        "blocks": {"scope": "cycle", "limits_kwh": limits},
        "prices": {"table": {"all": [decimal(row["price_micro_per_kWh"]) for row in rows]}},
    }


def flat(micro: int, **parts: Any) -> Json:
    return {"blocks": None, "prices": {"table": {"all": [decimal(micro)]}}, **parts}


class Bench:
    """A site with one tariff, and the events of a whole story replayed at its end."""

    def __init__(self, make_site: Callable[..., Any], document: Callable[..., Json], at: Callable[[str], int]) -> None:
        self._make_site, self._document, self.at = make_site, document, at

    def site(self, *versions: Json) -> Any:
        documents = []
        for number, parts in enumerate(versions, 1):
            made = self._document(version=number, **parts)
            documents.append({key: value for key, value in made.items() if value is not None})
        return self._make_site(*documents)

    def replayed(self, site: Any) -> Any:
        """The account, after a replay of the journal has given the same state."""
        assert reduce(apply, site.events, State()) == site.state
        account = site.state.accounts["A01"]
        assert account.money_nano == sum(getattr(event, "posting_nano", 0) for event in site.events)
        return account


@pytest.fixture
def bench(make_site: Any, document: Any, at: Any) -> Bench:
    return Bench(make_site, document, at)


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def supplied(site: Any) -> bool:
    return bool(site.state.accounts["A01"].control_state is ControlState.CONNECTED)


# --- energy and bills ------------------------------------------------------------------------


def presettle(given: Json, expect: Json, bench: Bench) -> None:
    site, start = bench.site(tiers(TARIFFS[given["tariff"]]["tiers"])), bench.at(START)
    site.open(start, given["reading_at_last_issue_Wh"], given["money_balance_micro"] * 1000, QUIET)
    (frozen,) = of(site.round(start + 5 * DAY_S, given["frozen_reading_Wh"]), ev.RegisterFrozen)[-1:]
    account = bench.replayed(site)
    assert account.energy_since_issue_wh == expect["energy_Wh"]
    assert frozen.estimate_nano == account.estimate_nano == expect["estimate_nano"]
    assert frozen.live_balance_nano == site.last.figures["A01"].live_nano == expect["live_balance_nano"]
    assert frozen.live_balance_nano // MINOR_NANO == expect["live_balance_minor_display"]


def settlement(given: Json, expect: Json, bench: Bench) -> None:
    site, start = bench.site(tiers(TARIFFS[given["tariff"]]["tiers"])), bench.at(START)
    site.open(start, given["reading_at_last_issue_Wh"], given["money_balance_micro"] * 1000, QUIET)
    month_end = bench.at("2024-05-01T00:00")
    site.round(month_end - 1, given["reading_at_issue_Wh"])
    before = site.last.figures["A01"]
    assert before.estimate_nano == given["estimate_before_issue_nano"]
    assert before.live_nano == expect["live_balance_before_micro"] * 1000
    (bill,) = of(site.round(month_end, given["reading_at_issue_Wh"]), ev.BillIssued)
    account = bench.replayed(site)
    assert bill.bill_minor == expect["issued_bill_minor"]
    assert account.money_nano == expect["money_balance_after_micro"] * 1000
    assert account.estimate_nano == expect["estimate_after_issue_nano"]
    assert site.last.figures["A01"].live_nano == expect["live_balance_after_micro"] * 1000
    assert account.issue.register_wh == expect["new_reading_at_last_issue_Wh"]
    site.round(month_end + 60, given["reading_at_issue_Wh"])
    assert sum(site.state.accounts["A01"].cycle_energy_wh) == expect["cycle_energy_before_next_Wh"]


def daily_series(given: Json, expect: Json, bench: Bench) -> None:
    site, start = bench.site(tiers(TARIFFS[given["tariff"]]["tiers"])), bench.at(START)
    site.open(start, 0, 0, QUIET)
    register = 0
    for day, energy_wh in enumerate(given["daily_energy_Wh"], 1):
        register += energy_wh
        site.round(start + day * DAY_S, register)
    (bill,) = of(site.events, ev.BillIssued)
    bench.replayed(site)
    assert (bill.energy_wh, bill.amount_nano) == (expect["month_energy_Wh"], expect["charge_nano"])
    assert bill.bill_minor == expect["charge_minor"] != expect["sum_of_daily_rounded_to_minor"]


def unit_plus_daily(given: Json, expect: Json, bench: Bench) -> None:
    (segment,) = given["segments"]
    tariff = TARIFFS[segment["tariff"]]
    standing = [{"name": "daily", "amount": decimal(tariff["daily_micro"]), "per": "day"}]
    site, start = bench.site(flat(tariff["unit_micro_per_kWh"], standing_charges=standing)), bench.at(START)
    assert segment["days"] == 30  # April here, as the example's thirty days
    site.open(start, 0, 0, QUIET)
    for day in range(1, segment["days"] + 1):
        site.round(start + day * DAY_S, segment["energy_Wh"] * day // segment["days"])
    (bill,) = of(site.events, ev.BillIssued)
    account = bench.replayed(site)
    assert bill.amount_nano + bill.standing_nano == expect["charge_nano"]
    assert bill.bill_minor == expect["charge_minor"]
    assert account.money_nano == -expect["charge_minor"] * MINOR_NANO


def tariff_change(given: Json, expect: Json, bench: Bench) -> None:
    site = bench.site(tiers(TARIFFS[given["old_tariff"]]["tiers"]), tiers(given["new_tiers"]))
    first, *later = given["readings"]
    effective_at = bench.at(given["effective"])
    site.open(bench.at(first["at"]), first["Wh"], 0, QUIET)
    clock = site.clock(bench.at(first["at"]))
    site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))
    site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", UnixSeconds(effective_at), cid="c-1"))
    for reading in later:
        site.round(bench.at(reading["at"]), reading["Wh"])
    freezes = {event.at: event for event in of(site.events, ev.RegisterFrozen)}
    (bill,) = of(site.events, ev.BillIssued)
    bench.replayed(site)
    assert freezes[effective_at].estimate_nano == expect["before_nano"]
    assert bill.amount_nano - expect["before_nano"] == expect["after_nano"]
    assert (bill.amount_nano, bill.bill_minor) == (expect["charge_nano"], expect["charge_minor"])


def tariff_change_interpolated(given: Json, expect: Json, bench: Bench) -> None:
    prices = (given["old_price_micro_per_kWh"], given["new_price_micro_per_kWh"])
    site = bench.site(*(flat(price) for price in prices))
    before, after = given["readings"]
    effective_at = bench.at(given["effective"])
    site.open(bench.at(before["at"]), before["Wh"], 0, QUIET)
    clock = site.clock(bench.at(before["at"]))
    site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))
    site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", UnixSeconds(effective_at), cid="c-1"))
    events = site.round(bench.at(after["at"]), after["Wh"])
    (frozen,) = [event for event in of(events, ev.RegisterFrozen) if event.at == effective_at]
    account = bench.replayed(site)
    assert frozen.register_wh - before["Wh"] == expect["energy_before_Wh"]
    assert account.recorded.register_wh - frozen.register_wh == expect["energy_after_Wh"]
    assert account.estimate_nano == expect["charge_nano"]
    assert (frozen.quality, expect["quality"]) == ("interpolated", "estimated")


def freeze(given: Json, expect: Json, bench: Bench) -> None:
    site = bench.site(tiers(TARIFFS["cn_hlj"]["tiers"]))
    before, after = given["samples"]
    site.open(bench.at(before["at"]), before["Wh"], 0, QUIET)
    (frozen,) = of(site.round(bench.at(after["at"]), after["Wh"]), ev.RegisterFrozen)
    bench.replayed(site)
    assert (frozen.register_wh, frozen.quality) == (expect["frozen_Wh"], expect["quality"])


# --- money -----------------------------------------------------------------------------------


def payments(given: Json, expect: Json, bench: Bench) -> None:
    site, now = bench.site(tiers(TARIFFS["cn_hlj"]["tiers"])), bench.at(START)
    site.open(now, 0, given["opening_micro"] * 1000, QUIET)
    applied, balances = [], []
    for payment in given["payments"]:
        events = site.pay(now + 60, payment["micro"] * 1000, payment["id"])
        applied.append(bool(of(events, ev.PaymentApplied)))
        balances.append(site.state.accounts["A01"].money_nano)
    bench.replayed(site)
    assert applied == expect["applied"]
    assert balances == [micro * 1000 for micro in expect["balance_micro"]]


def emergency_credit(given: Json, expect: Json, bench: Bench) -> None:
    standing = [{"name": "daily", "amount": decimal(given["daily_micro"]), "per": "day"}]
    site, start = bench.site(flat(given["unit_micro_per_kWh"], standing_charges=standing)), bench.at(START)
    limit_nano = given["emergency_credit_micro"] * 1000
    credit = CreditTerms(emergency_limit_nano=MoneyNano(limit_nano), emergency_threshold_nano=MoneyNano(NANO))
    policy = replace(Policy(), legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, credit=credit, reserve_days=0)
    site.open(start, 0, 0, policy)
    site.do(cmd.SelectEmergencyCredit(site.clock(start), "A01"))
    for day in range(1, given["days"] + 1):
        site.round(start + day * DAY_S, given["energy_Wh"] * day // given["days"])
    account, now = bench.replayed(site), start + given["days"] * DAY_S
    live_nano = site.last.figures["A01"].live_nano
    assert account.emergency.used_nano == expect["emergency_used_micro"] * 1000
    assert emergency_used(credit, True, live_nano, 0) == account.emergency.used_nano
    assert emergency_status(credit, True, live_nano, 0) is CreditStatus.EXHAUSTED
    assert account.debts.accumulated_nano == expect["standing_debt_micro"] * 1000
    to_clear = payment_for(0, account.debts, 0, Standing(live_nano, 0, account.emergency.used_nano, 0))
    assert to_clear == expect["to_clear_micro"] * 1000
    assert supplied(site)
    assert expect["supply"] == f"off after {given['energy_Wh'] // 1000} kWh"
    site.round(now + 60, given["energy_Wh"] + 1)
    assert not supplied(site)
    one_more_wh = given["unit_micro_per_kWh"]
    site.pay(now + 120, to_clear + one_more_wh - 1)
    assert not supplied(site)
    site.pay(now + 180, 1, "P2")
    assert supplied(site)
    assert site.state.accounts["A01"].money_nano == site.state.accounts["A01"].estimate_nano
    bench.replayed(site)


def purchase_orders(given: Json, expect: Json, bench: Bench) -> None:
    assert given["unit"] == "kWh x 10^-4"
    tenth_wh_nano = 100_000  # of an account credited in energy: priced 1 a kWh
    site, now = bench.site(flat(1_000_000)), bench.at(START)
    policy = replace(QUIET, credit=CreditTerms(unit=CreditUnit.ENERGY))
    site.open(now, 0, 0, policy)
    applied, remaining = [], []
    for entry in given["orders"]:
        order = PurchaseOrder(
            number=entry["order"],
            operation=OrderOperation(entry["op"]),
            unit=CreditUnit.ENERGY,
            value_nano=MoneyNano(entry["value"] * tenth_wh_nano),
            alarm_nano=MoneyNano(given["alarm_threshold"] * tenth_wh_nano),
            trip_nano=MoneyNano(given["trip_threshold"] * tenth_wh_nano),
        )
        events = site.do(cmd.TakePurchaseOrder(site.clock(now + 60), "A01", order))
        applied.append(bool(of(events, ev.PurchaseOrderApplied)))
        remaining.append(site.last.figures["A01"].live_nano // tenth_wh_nano)
    account = bench.replayed(site)
    assert (applied, remaining) == (expect["applied"], expect["remaining_after"])
    assert account.purchase.alarm_nano == given["alarm_threshold"] * tenth_wh_nano
    assert account.threshold_nano == given["trip_threshold"] * tenth_wh_nano


def account_split(given: Json, expect: Json, bench: Bench) -> None:
    site, start = bench.site(tiers(TARIFFS[given["tariff"]]["tiers"])), bench.at(START)
    bases = [1_000_000 * room for room in range(1, len(given["rooms_Wh"]) + 1)]
    site.open(start, sum(bases), 0, QUIET)
    month_end = bench.at("2024-05-01T00:00")
    rooms = [
        cmd.Sample("A01", UnixSeconds(month_end), WattHours(base + energy_wh))
        for base, energy_wh in zip(bases, given["rooms_Wh"], strict=True)
    ]
    pooled = pooled_sample("A01", rooms)
    assert pooled is not None
    site.do(cmd.TakeRound(site.clock(month_end), (pooled,), record=True))
    (bill,) = of(site.events, ev.BillIssued)
    bench.replayed(site)
    assert (bill.energy_wh, bill.amount_nano) == (expect["energy_Wh"], expect["charge_nano"])
    assert bill.bill_minor == expect["charge_minor"]


# --- 7 + 0 + 3 -------------------------------------------------------------------------------


def policy_703(given: Json) -> Policy:
    base = CASES["703-pure"]["input"]
    stated = given.get("policy", base["policy"])
    evaluate_at = stated["evaluate_at"]
    parts: Json = {"evaluate_at": "freeze" if evaluate_at == "freeze instant" else evaluate_at}
    if "notice_window" in stated:
        parts["notice_windows"] = daily_windows([tuple(stated["notice_window"])])
        parts["cut_windows"] = daily_windows([tuple(stated["cut_window"])], stated["cut_days"], stated["holidays"])
    return replace(
        Policy(),
        reserve_days=stated["reserve_days"],
        grace_hours=stated["grace_hours"],
        pre_cut_notice_minutes=stated["pre_cut_notice_minutes"],
        daily_energy_default_wh=WattHours(base["mean_daily_energy_for_reserve_Wh"]),
        cut_reading_age_s_max=3600,
        **parts,
    )


def timeline_703(given: Json, expect: Json, bench: Bench) -> None:
    base = CASES["703-pure"]["input"]
    site, start = bench.site(tiers(TARIFFS[base["tariff"]]["tiers"])), bench.at(base["period_start"])
    protected = given.get("protected", False)
    site.open(start, 0, base["opening_balance_micro"] * 1000, policy_703(given), protected=protected)
    now, end = start, bench.at("2024-04-17T00:00")
    while now < end:
        now += 1800
        site.round(now, (now - start) * base["daily_energy_Wh"] // DAY_S)
        episode = site.state.accounts["A01"].episode
        for notice in episode.notices if episode else ():
            if notice.receipt is None:
                site.receipt(now, notice.number)
    bench.replayed(site)
    wanted = [(bench.at(event["at"]), event["event"]) for event in expect["events"]]
    assert [(event.at, named(event)) for event in site.events if named(event)] == wanted
    assert any(event["event"] == "cut" for event in expect["events"]) is expect.get("cut", True)
    frozen = {event.at: event for event in of(site.events, ev.RegisterFrozen)}
    for day in expect.get("days", []):
        event = frozen[bench.at(day["freeze"])]
        assert sum(event.cycle_energy_wh) == day["cycle_energy_Wh"]
        assert (event.estimate_nano, event.live_balance_nano) == (day["estimate_nano"], day["live_balance_nano"])


def named(event: Any) -> str:
    if isinstance(event, ev.NoticeRaised):
        return f"notice_{event.number}"
    if isinstance(event, ev.CaseEscalated):
        return "escalate"
    cut = isinstance(event, ev.DisconnectControlChanged) and event.trigger == "local_disconnect"
    return "cut" if cut else ""


def in_arrears(given: Json, bench: Bench, balance_nano: int) -> Any:
    """Notice 2 handed over when the example says so, notice 3 half an hour before the grace ends."""
    site, notice_at = bench.site(tiers(TARIFFS["cn_hlj"]["tiers"])), bench.at(given["notice_2_at"])
    site.open(notice_at - 8 * 3600, 0, balance_nano, replace(Policy(), cut_reading_age_s_max=3600))
    site.round(notice_at, 0)
    site.receipt(notice_at, 2)
    return site


def clock_703(given: Json, expect: Json, bench: Bench) -> None:
    site, paid_at = in_arrears(given, bench, given["balance_before_nano"]), bench.at(given["payment_at"])
    grace_ends = bench.at(given["notice_2_at"]) + 72 * 3600
    if paid_at > grace_ends - 1800:
        site.round(grace_ends - 1800, 0)
        site.receipt(grace_ends - 1800, 3)
    site.pay(paid_at, given["payment_micro"] * 1000)
    account = bench.replayed(site)
    assert account.money_nano == expect["balance_after_nano"]
    if "grace_ends" in expect:
        assert cut_instant(account, site.clock(paid_at), site.rating.zone) == bench.at(expect["grace_ends"])
        site.round(grace_ends - 1800, 0)
        site.receipt(grace_ends - 1800, 3)
    site.round(grace_ends, 0)
    assert supplied(site) is not expect["cut"]
    if expect.get("next_negative_starts_new_grace"):
        site.round(grace_ends + 3600, 10)
        episode = site.state.accounts["A01"].episode
        assert [notice.number for notice in episode.notices] == [2]
        assert episode.grace_clock is None


def timeline_703_clock(given: Json, expect: Json, bench: Bench) -> None:
    notice_at = bench.at(given["notice_2_at_wall"])
    site = in_arrears({"notice_2_at": given["notice_2_at_wall"]}, bench, -NANO)
    elapsed_s = given["monotonic_elapsed_hours"] * 3600
    site.round(notice_at + elapsed_s, 0)
    back_at = bench.at(given["wall_now_after_step"])
    assert (back_at - notice_at) // 3600 == expect["elapsed_hours_by_wall"]
    site.elapsed_offset_s = notice_at + elapsed_s - back_at
    site.round(back_at, 0)
    episode = site.state.accounts["A01"].episode
    assert episode.grace_elapsed_s // 3600 == expect["elapsed_hours_by_monotonic"]
    site.round(back_at + 12 * 3600, 0)  # 72 hours monotonic, fewer by the wall
    assert supplied(site) is not expect["cut_now"]


def timeline_703_jump(given: Json, expect: Json, bench: Bench) -> None:
    site = bench.site(tiers(TARIFFS["cn_hlj"]["tiers"]))
    moments = [bench.at(text) for text in given["at"]]
    before, after = (micro * 1000 for micro in given["live_balance_micro"])
    used_wh = (before - after) // 510_000
    site.open(moments[0], 0, used_wh * 510_000 + after, replace(Policy(), daily_energy_default_wh=WattHours(10_000)))
    site.round(moments[0], 0)
    assert site.last.figures["A01"].reserve_nano == given["reserve_micro"] * 1000
    site.round(moments[1], used_wh)
    happened = [(event.at, named(event)) for event in site.events if named(event)]
    assert happened == [(bench.at(event["at"]), event["event"]) for event in expect["events"]]
    site.receipt(moments[1], 2)
    account = bench.replayed(site)
    assert cut_instant(account, site.clock(moments[1]), site.rating.zone) == bench.at(expect["grace_ends"])


RUN: dict[str, Callable[[Json, Json, Bench], None]] = {
    "presettle": presettle,
    "settlement": settlement,
    "daily_series": daily_series,
    "unit_plus_daily": unit_plus_daily,
    "tariff_change": tariff_change,
    "tariff_change_interpolated": tariff_change_interpolated,
    "freeze": freeze,
    "payments": payments,
    "emergency_credit": emergency_credit,
    "purchase_orders": purchase_orders,
    "account_split": account_split,
    "timeline_703": timeline_703,
    "timeline_703_protected": timeline_703,
    "timeline_703_clock": timeline_703_clock,
    "timeline_703_jump": timeline_703_jump,
    "clock_703": clock_703,
}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["kind"] in RUN])
def test_the_account_gives_what_the_worked_example_says(name: str, bench: Bench) -> None:
    case = CASES[name]
    check_example = RUN[case["kind"]]
    check_example(case["input"], case["expect"], bench)


def test_every_kind_run_here_is_among_the_examples() -> None:
    assert set(RUN) <= {case["kind"] for case in CASES.values()}
