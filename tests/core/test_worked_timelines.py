"""7+0+3 by the worked examples, read from their file and put through `step` unchanged."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register
from edge.core.calendar import daily_windows
from edge.core.policy import Policy
from edge.core.units import UnixSeconds, WattHours

VECTORS = Path(__file__).parent.parent / "vectors" / "worked_examples.json"
CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in json.loads(VECTORS.read_text("utf-8"))["cases"]}
ROUND_S = 900
TOLD = {"notice_1", "notice_2", "notice_3", "cut", "escalate"}


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def inputs_of(case: dict[str, Any]) -> dict[str, Any]:
    """A case's inputs, those of the case it refers to included."""
    given = case["input"]
    base = inputs_of(CASES[given["same_as"]]) if "same_as" in given else {}
    return {**base, **given}


def policy_of(given: dict[str, Any]) -> Policy:
    rules = given["policy"]
    notice, cut = rules.get("notice_window"), rules.get("cut_window")
    holidays = rules.get("holidays", [])
    return Policy(
        reserve_days=rules["reserve_days"],
        daily_energy_default_wh=WattHours(given["mean_daily_energy_for_reserve_Wh"]),
        grace_hours=rules["grace_hours"],
        pre_cut_notice_minutes=rules["pre_cut_notice_minutes"],
        evaluate_at="freeze" if rules["evaluate_at"] == "freeze instant" else rules["evaluate_at"],
        notice_windows=daily_windows([notice], holidays=holidays) if notice else None,
        cut_windows=daily_windows([cut], rules["cut_days"], holidays) if cut else None,
    )


def name_of(event: ev.Event) -> str:
    match event:
        case ev.NoticeRaised():
            return f"notice_{event.number}"
        case ev.DisconnectControlChanged(trigger="local_disconnect"):
            return "cut"
        case ev.CaseEscalated():
            return "escalate"
    return type(event).__name__


def live_through(site: Any, case: dict[str, Any], days: int) -> None:
    """Rounds every quarter of an hour of constant use; notices are handed over at once."""
    given = inputs_of(case)
    start = seconds(given["period_start"])
    protected = given.get("protected", False)
    site.open(start, 0, given["opening_balance_micro"] * 1000, policy_of(given), protected=protected)
    for at in range(start + ROUND_S, start + days * 86_400 + 1, ROUND_S):
        site.round(at, (at - start) * given["daily_energy_Wh"] // 86_400)
        episode = site.state.accounts["A01"].episode
        for notice in episode.notices if episode else ():
            if notice.receipt is None:
                site.receipt(at, notice.number)


@pytest.mark.parametrize("case_id", ["703-pure", "703-windows", "703-protected"])
def test_timeline_of_the_example(site: Any, case_id: str) -> None:
    case = CASES[case_id]
    live_through(site, case, days=17)
    happened = [(event.at, name_of(event)) for event in site.events if name_of(event) in TOLD]
    assert happened == [(seconds(entry["at"]), entry["event"]) for entry in case["expect"]["events"]]
    assert ("cut" in dict(map(reversed, happened))) is case["expect"].get("cut", True)  # type: ignore[arg-type]
    balances = {name_of(event): event.live_balance_nano for event in site.events if name_of(event) in TOLD}
    for entry in case["expect"]["events"]:
        if "balance_nano" in entry:
            assert balances[entry["event"]] == entry["balance_nano"], entry


def test_every_freeze_of_the_example(site: Any) -> None:
    case = CASES["703-pure"]
    given = inputs_of(case)
    start = seconds(given["period_start"])
    site.open(start, 0, given["opening_balance_micro"] * 1000, policy_of(given))
    for number, day in enumerate(case["expect"]["days"], start=1):
        site.round(start + number * 86_400, number * given["daily_energy_Wh"])
        frozen = [event for event in site.last.events if isinstance(event, ev.RegisterFrozen)][-1]
        figures = site.last.figures["A01"]
        assert frozen.at == seconds(day["freeze"])
        assert frozen.cycle_energy_wh == (day["cycle_energy_Wh"],)
        assert (frozen.estimate_nano, frozen.live_balance_nano) == (day["estimate_nano"], day["live_balance_nano"])
        assert figures.reserve_nano == day["reserve_7d_nano"]
        assert (figures.live_nano < figures.reserve_nano) is day["below_reserve"]
        assert (figures.live_nano < 0) is day["below_zero"]


def in_grace(site: Any, given: dict[str, Any], balance_nano: int) -> None:
    """Notice 2 handed over at its instant."""
    at = seconds(given["notice_2_at"])
    site.open(at - 3600, 0, balance_nano)
    site.round(at, 0)
    site.receipt(at, 2)


def go_on(site: Any, since: int, until: int, register_wh: int = 0) -> None:
    """Rounds without use; notice 3 is handed over at once."""
    for at in range(since, until + 1, ROUND_S):
        site.round(at, register_wh)
        episode = site.state.accounts["A01"].episode
        if episode is not None and episode.notice(3) is not None and episode.notice(3).receipt is None:
            site.receipt(at, 3)


@pytest.mark.parametrize("case_id", ["703-pay-in-time", "703-part-payment"])
def test_payment_within_the_grace(site: Any, case_id: str) -> None:
    given, expect = CASES[case_id]["input"], CASES[case_id]["expect"]
    in_grace(site, given, given["balance_before_nano"])
    paid_at = seconds(given["payment_at"])
    go_on(site, seconds(given["notice_2_at"]) + ROUND_S, paid_at - 1)
    site.pay(paid_at, given["payment_micro"] * 1000)
    assert site.state.accounts["A01"].money_nano == expect["balance_after_nano"]
    go_on(site, paid_at + 60, seconds(given["notice_2_at"]) + 73 * 3600)
    cuts = [event.at for event in site.events if name_of(event) == "cut"]
    assert bool(cuts) is expect["cut"]
    if "grace_ends" in expect:
        assert 0 <= cuts[0] - seconds(expect["grace_ends"]) < ROUND_S
    if expect.get("next_negative_starts_new_grace"):
        assert site.state.accounts["A01"].episode is None or not expect["cut"]
        site.round(seconds(given["notice_2_at"]) + 74 * 3600, 1000)
        fresh = site.state.accounts["A01"].episode
        assert [notice.number for notice in fresh.notices] == [2]
        assert fresh.grace_elapsed_s == 0


def test_clock_set_back_within_the_grace(site: Any) -> None:
    given, expect = CASES["703-clock-back"]["input"], CASES["703-clock-back"]["expect"]
    given = {**given, "notice_2_at": given["notice_2_at_wall"]}
    in_grace(site, given, -(10**9))
    begun, hours = seconds(given["notice_2_at"]), given["monotonic_elapsed_hours"]
    go_on(site, begun + ROUND_S, begun + hours * 3600)
    now = seconds(given["wall_now_after_step"])
    site.elapsed_offset_s = begun + hours * 3600 - now
    site.round(now, 0)
    episode = site.state.accounts["A01"].episode
    assert episode.grace_elapsed_s == expect["elapsed_hours_by_monotonic"] * 3600
    assert (now - begun) // 3600 == expect["elapsed_hours_by_wall"]
    until_both = begun + given["grace_hours"] * 3600
    go_on(site, now + ROUND_S, until_both - 1)
    assert [event for event in site.events if name_of(event) == "cut"] == []
    go_on(site, until_both, until_both + 2 * ROUND_S)
    assert [event for event in site.events if name_of(event) == "cut"]


def test_fall_from_plenty_to_below_zero(site: Any) -> None:
    given, expect = CASES["notice-jump"]["input"], CASES["notice-jump"]["expect"]
    before, after = (value * 1000 for value in given["live_balance_micro"])
    first, second = (seconds(text) for text in given["at"])
    site.open(first, 0, before)
    site.round(first, 0)
    energy_wh = (before - after) // 510_000
    site.round(second, energy_wh)
    told = [(event.at, name_of(event)) for event in site.events if name_of(event) in TOLD]
    assert told == [(seconds(entry["at"]), entry["event"]) for entry in expect["events"]]
    site.receipt(second, 2)
    go_on(site, second + ROUND_S, seconds(expect["grace_ends"]) + ROUND_S, energy_wh)
    (cut,) = [event.at for event in site.events if name_of(event) == "cut"]
    assert cut == seconds(expect["grace_ends"])


def test_freeze_between_two_samples(site: Any) -> None:
    given, expect = CASES["freeze-interpolated"]["input"], CASES["freeze-interpolated"]["expect"]
    first, second = ((seconds(sample["at"]), sample["Wh"]) for sample in given["samples"])
    site.open(first[0] - 3600, first[1] - 100, 100 * 10**9)
    site.round(*first, record=False)
    before = Register(UnixSeconds(first[0]), WattHours(first[1]))
    site.round(*second, before=before)
    (frozen,) = [event for event in site.events if isinstance(event, ev.RegisterFrozen)]
    assert (frozen.register_wh, frozen.quality) == (expect["frozen_Wh"], expect["quality"])


def test_same_payment_twice(site: Any) -> None:
    given, expect = CASES["pay-duplicate"]["input"], CASES["pay-duplicate"]["expect"]
    site.open(seconds("2024-04-01T00:00+08:00"), 0, given["opening_micro"] * 1000)
    for number, payment in enumerate(given["payments"]):
        applied = [
            event
            for event in site.pay(
                seconds("2024-04-02T00:00+08:00") + number, payment["micro"] * 1000, payment_id=payment["id"]
            )
            if isinstance(event, ev.PaymentApplied)
        ]
        assert bool(applied) is expect["applied"][number]
        assert site.state.accounts["A01"].money_nano == expect["balance_micro"][number] * 1000


def test_estimate_of_the_day_and_the_bill_that_takes_its_place(site: Any, make_site: Any, document: Any) -> None:
    given, expect = CASES["presettle-basic"]["input"], CASES["presettle-basic"]["expect"]
    start = seconds("2024-04-01T00:00+08:00")
    site.open(start, given["reading_at_last_issue_Wh"], given["money_balance_micro"] * 1000)
    site.round(start + 5 * 86_400, given["frozen_reading_Wh"])
    frozen = [event for event in site.events if isinstance(event, ev.RegisterFrozen)][-1]
    assert (frozen.estimate_nano, frozen.live_balance_nano) == (expect["estimate_nano"], expect["live_balance_nano"])
    given, expect = CASES["settle-replaces-estimate"]["input"], CASES["settle-replaces-estimate"]["expect"]
    settled = make_site(document())
    settled.open(start, given["reading_at_last_issue_Wh"], given["money_balance_micro"] * 1000)
    settled.round(seconds("2024-05-01T00:00+08:00"), given["reading_at_issue_Wh"])
    (bill,) = [event for event in settled.events if isinstance(event, ev.BillIssued)]
    account = settled.state.accounts["A01"]
    assert (bill.bill_minor, bill.amount_nano) == (expect["issued_bill_minor"], given["estimate_before_issue_nano"])
    assert account.money_nano == expect["money_balance_after_micro"] * 1000
    assert account.issue.register_wh == expect["new_reading_at_last_issue_Wh"]
    assert (account.estimate_nano, settled.last.figures["A01"].live_nano) == (
        expect["estimate_after_issue_nano"],
        expect["live_balance_after_micro"] * 1000,
    )


def test_meter_exchange_is_an_explicit_record(site: Any) -> None:
    """Last of the old, first of the new: block position and money belong to the customer."""
    given, expect = CASES["meter-exchange"]["input"], CASES["meter-exchange"]["expect"]
    start = seconds("2024-04-01T00:00+08:00")
    site.open(start, given["old"]["from_Wh"], 100 * 10**9)
    at = start + 10 * 86_400
    old = Register(UnixSeconds(at), WattHours(given["old"]["to_Wh"]))
    new = Register(UnixSeconds(at), WattHours(given["new"]["from_Wh"]))
    site.do(cmd.ExchangeMeter(site.clock(at), "A01", "M77", old, new, "technician"))
    site.round(at + 10 * 86_400, given["new"]["to_Wh"])
    account = site.state.accounts["A01"]
    assert (account.energy_since_issue_wh, account.estimate_nano) == (expect["energy_Wh"], expect["charge_nano"])
    assert account.meter_id == "M77"
