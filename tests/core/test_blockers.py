"""edge.core.blockers: with none of them the cut happens; each one alone stops it, with its evidence."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Hold
from edge.core.blockers import BLOCKERS, CutFacts, cut_blockers
from edge.core.calendar import daily_windows
from edge.core.credit_terms import CreditTerms, PaymentMode
from edge.core.emergency import EmergencyCredit
from edge.core.policy import LegalProfile, OfflinePolicy, Policy
from edge.core.supply_hold import SupplyHold, SupplyHoldKind
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
DUE = "2024-04-16T08:00"
HELD_UNTIL = 1_713_400_000  # two days after
HOLDS = {
    SupplyHoldKind.OPERATOR: "order 4711",
    SupplyHoldKind.IMPORTANT_CUSTOMER: "list 3",
    SupplyHoldKind.DISPUTE: "case 9",
    SupplyHoldKind.WEATHER: "typhoon",
    SupplyHoldKind.CONTACT_UNVERIFIED: "no telephone",
}


@pytest.fixture
def due(site: Any, at: Any) -> Any:
    """An account that is cut by the next round at 08:00 unless something stands against it."""
    site.open(at("2024-04-13T00:00"), 0, -10 * NANO, Policy())
    site.round(at("2024-04-13T07:00"), 0)
    site.receipt(at("2024-04-13T07:00"), 2)
    site.round(at("2024-04-16T07:00"), 0)
    site.receipt(at("2024-04-16T07:00"), 3)
    return site


def change(site: Any, **fields: Any) -> None:
    account = replace(site.state.accounts["A01"], **fields)
    site.state = replace(site.state, accounts={**site.state.accounts, "A01": account})


def change_policy(site: Any, **fields: Any) -> None:
    change(site, policy=replace(site.state.accounts["A01"].policy, **fields))


def cut_events(events: Any) -> list[Any]:
    return [event for event in events if isinstance(event, ev.DisconnectControlChanged)]


def test_with_no_blocker_the_cut_happens(due: Any, at: Any) -> None:
    (cut,) = cut_events(due.round(at(DUE), 0))
    assert (cut.control_state, cut.reason, cut.local_reason) == ("ready_for_reconnection", "no_credit", "no_credit")


def stand(site: Any, at: Any, code: str) -> None:
    """Puts one blocker in the way and nothing else."""
    match code:
        case "keep_supply":
            change(site, keep_supply=True)
        case "policy_not_valid":
            change_policy(site, signed_by="")
        case "credit_mode":
            change(site, mode=PaymentMode.CREDIT)
        case "mode_changed":
            change(site, mode_clock=site.clock(at(DUE) - 3600))
        case "emergency_credit":
            terms = CreditTerms(emergency_limit_nano=MoneyNano(10 * NANO), emergency_threshold_nano=MoneyNano(NANO))
            change_policy(site, credit=terms)
            change(site, emergency=EmergencyCredit(invoked=True))
        case "minimum_debt":
            change_policy(site, minimum_debt_nano=MoneyNano(11 * NANO))
        case "batch_limit":
            site.state = replace(site.state, local_cuts=(UnixSeconds(at(DUE) - 3599),))
        case "cloud_out_of_reach":
            change_policy(site, offline=OfflinePolicy.KEEP)
            site.cloud_silent_s = 61
        case _:
            kind = SupplyHoldKind(code)
            until = UnixSeconds(HELD_UNTIL) if kind is SupplyHoldKind.WEATHER else None
            hold = SupplyHold(kind, HOLDS[kind], until)
            site.do(cmd.SetSupplyHold(site.clock(at(DUE) - 60), "", hold, stands=True))


EVIDENCE: dict[str, dict[str, object]] = {
    "keep_supply": {},
    "operator_hold": {"reference": "order 4711"},
    "important_customer": {"reference": "list 3"},
    "dispute": {"reference": "case 9"},
    "weather_hold": {"reference": "typhoon", "until": HELD_UNTIL},
    "contact_unverified": {"reference": "no telephone"},
    "policy_not_valid": {"policy": "normal@1"},
    "credit_mode": {},
    "mode_changed": {"passed_s": 3600, "grace_s": 72 * 3600},
    "emergency_credit": {"left_nano": 0},
    "minimum_debt": {"debt_nano": 10 * NANO, "debt_nano_min": 11 * NANO},
    "batch_limit": {"cuts": 1, "cuts_max": 1},
    "cloud_out_of_reach": {"silent_s": 61, "silent_s_max": 60},
}
# These have a test of their own below, because another blocker comes with them or a limit is tried.
ELSEWHERE = {
    "protected",
    "register_hold",
    "stale_reading",
    "not_read_again",
    "clock_not_trusted",
    "notice_not_delivered",
    "window_closed",
    "friendly_period",
}


def test_every_blocker_of_the_table_is_tried_here() -> None:
    assert {code for code, _ in BLOCKERS} == set(EVIDENCE) | ELSEWHERE


@pytest.mark.parametrize("code", list(EVIDENCE))
def test_a_blocker_alone_defers_the_cut_and_is_recorded_once_with_evidence(due: Any, at: Any, code: str) -> None:
    stand(due, at, code)
    events = due.round(at(DUE), 0)
    assert cut_events(events) == []
    (deferred,) = [event for event in events if isinstance(event, ev.CutDeferred)]
    assert [found for found, _ in deferred.blockers] == [code]
    assert dict(deferred.blockers)[code] == EVIDENCE[code]
    again = due.round(at(DUE) + 900, 0) if code != "batch_limit" else []
    assert not any(isinstance(event, ev.CutDeferred) for event in again)


def test_an_untrusted_clock_never_cuts(due: Any, at: Any) -> None:
    due.quality = ClockQuality.FLOOR
    events = due.round(at(DUE), 0)
    assert cut_events(events) == []
    (deferred,) = [event for event in events if isinstance(event, ev.CutDeferred)]
    assert ("clock_not_trusted", {"clock_quality": "floor"}) in deferred.blockers


def test_a_protected_customer_is_refused_before_and_in_the_table(due: Any, at: Any) -> None:
    change(due, protected=True)
    assert cut_events(due.round(at(DUE), 0)) == []


@pytest.mark.parametrize(("age_s", "cut"), [(24 * 3600, True), (24 * 3600 + 1, False)])
def test_a_reading_older_than_a_day_never_cuts(due: Any, at: Any, age_s: int, cut: bool) -> None:
    change_policy(due, cut_reading_age_s_max=10**9, stale_reading_hours=24)
    now = at("2024-04-18T08:00")
    sample = due.sample(now - age_s, 0)
    events = due.do(cmd.TakeRound(due.clock(now), (sample,), True, None))
    assert bool(cut_events(events)) is cut


@pytest.mark.parametrize(("age_s", "cut"), [(900, True), (901, False)])
def test_the_meter_is_read_again_before_the_cut(due: Any, at: Any, age_s: int, cut: bool) -> None:
    now = at(DUE)
    events = due.do(cmd.TakeRound(due.clock(now), (due.sample(now - age_s, 0),), True, None))
    assert bool(cut_events(events)) is cut


def test_a_silent_meter_never_cuts(due: Any, at: Any) -> None:
    events = due.round(at(DUE), None, record=False)
    assert cut_events(events) == []
    (deferred,) = [event for event in events if isinstance(event, ev.CutDeferred)]
    assert {"stale_reading", "not_read_again"} <= {code for code, _ in deferred.blockers}


def test_a_register_hold_never_cuts(due: Any, at: Any) -> None:
    change(due, hold=Hold("register_regression", UnixSeconds(at(DUE)), WattHours(0)))
    change(due, recorded=replace(due.state.accounts["A01"].recorded, register_wh=WattHours(500)))
    events = due.round(at(DUE), 400, confirmed=True)
    assert cut_events(events) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_notice_without_receipt_never_cuts(due: Any, at: Any, number: int) -> None:
    episode = due.state.accounts["A01"].episode
    notices = tuple(replace(n, receipt=None) if n.number == number else n for n in episode.notices)
    change(due, episode=replace(episode, notices=notices))
    assert cut_events(due.round(at(DUE), 0)) == []


def test_a_deemed_receipt_does_not_cut_a_statutory_customer(due: Any, at: Any) -> None:
    episode = due.state.accounts["A01"].episode
    notices = tuple(replace(n, proof="deemed_after_hours") for n in episode.notices)
    change(due, episode=replace(episode, notices=notices))
    change_policy(due, legal_profile=LegalProfile.POSTPAID_STATUTORY)
    events = due.round(at(DUE), 0)
    assert cut_events(events) == []
    change_policy(due, legal_profile=LegalProfile.PREPAID_BY_AGREEMENT)
    assert cut_events(due.round(at(DUE) + 60, 0))


def test_outside_the_cut_window_nobody_is_cut(due: Any, at: Any) -> None:
    change_policy(due, cut_windows=daily_windows([("09:00", "16:00")]))
    assert cut_events(due.round(at("2024-04-16T08:59"), 0)) == []
    assert cut_events(due.round(at("2024-04-16T09:00"), 0))


def test_enforcement_for_hours_ends_with_the_cloud(due: Any, at: Any) -> None:
    change_policy(due, offline=OfflinePolicy.ENFORCE_FOR_HOURS, offline_hours=10)
    due.cloud_silent_s = 36_001
    assert cut_events(due.round(at(DUE), 0)) == []
    due.cloud_silent_s = 36_000
    assert cut_events(due.round(at(DUE) + 60, 0))


def test_a_site_that_keeps_supply_without_its_cloud_cuts_while_the_cloud_answers(due: Any, at: Any) -> None:
    change_policy(due, offline=OfflinePolicy.KEEP)
    due.cloud_silent_s = 880  # since the record of the last slot
    events = due.round(at(DUE), 0)
    assert cut_events(events) == []
    assert any(isinstance(event, ev.CutDeferred) for event in events)  # a record: the cloud acknowledges it at once
    due.cloud_silent_s = 60  # the longest a round may take after that
    assert cut_events(due.round(at(DUE) + 60, 0))


def test_one_cut_an_hour_on_a_small_site_and_the_next_one_after_it(due: Any, at: Any) -> None:
    due.state = replace(due.state, local_cuts=(UnixSeconds(at(DUE)),))
    assert cut_events(due.round(at(DUE) + 3599, 0)) == []
    assert cut_events(due.round(at(DUE) + 3600, 0))


@pytest.mark.parametrize("kind", list(SupplyHoldKind))
def test_a_lifted_hold_lets_the_cut_happen(due: Any, at: Any, kind: SupplyHoldKind) -> None:
    hold = SupplyHold(kind, "case 9")
    for stands in (True, False):
        due.do(cmd.SetSupplyHold(due.clock(at(DUE) - 60), "A01", hold, stands))
    assert cut_events(due.round(at(DUE), 0))


def test_a_hold_ends_at_its_end_but_not_by_a_clock_nobody_vouches_for(due: Any, at: Any) -> None:
    hold = SupplyHold(SupplyHoldKind.WEATHER, "typhoon", UnixSeconds(at(DUE) + 3600))
    due.do(cmd.SetSupplyHold(due.clock(at(DUE) - 60), "", hold, stands=True))
    assert not hold.stands(due.clock(at(DUE) + 3600))
    due.quality = ClockQuality.FLOOR
    assert hold.stands(due.clock(at(DUE) + 3600))
    due.quality = ClockQuality.NTP
    assert cut_events(due.round(at(DUE) + 3599, 0)) == []
    assert cut_events(due.round(at(DUE) + 3600, 0))


def test_a_hold_set_twice_is_one_record_and_is_answered_each_time(due: Any, at: Any) -> None:
    hold = SupplyHold(SupplyHoldKind.DISPUTE, "case 9")
    first = due.do(cmd.SetSupplyHold(due.clock(at(DUE) - 60), "A01", hold, stands=True, cid="C1"))
    second = due.do(cmd.SetSupplyHold(due.clock(at(DUE) - 50), "A01", hold, stands=True, cid="C2"))
    assert [type(event).__name__ for event in first] == ["SupplyHoldChanged", "OrderApplied"]
    assert [type(event).__name__ for event in second] == ["OrderApplied"]
    again = cmd.SetSupplyHold(due.clock(at(DUE) - 40), "A01", hold, stands=False, cid="C2")
    assert due.do(again) == []  # answered already
    unknown = due.do(cmd.SetSupplyHold(due.clock(at(DUE) - 40), "A99", hold, stands=True, cid="C3"))
    assert [(event.reason, event.order_type) for event in unknown] == [("unknown_account", "supply_hold")]


def test_nobody_is_cut_under_a_policy_past_its_end(due: Any, at: Any) -> None:
    change_policy(due, valid_until=UnixSeconds(at(DUE)))
    events = due.round(at(DUE), 0)
    assert cut_events(events) == []
    (deferred,) = [event for event in events if isinstance(event, ev.CutDeferred)]
    assert deferred.blockers == (("policy_not_valid", {"policy": "normal@1", "valid_until": at(DUE)}),)


def test_a_clock_set_back_revives_no_policy(due: Any, at: Any) -> None:
    """The wall has shown the policy's end, and energy is charged up to there; then somebody sets it back."""
    change_policy(due, valid_until=UnixSeconds(at(DUE) - 600))
    due.round(at(DUE) - 60, 0)
    due.elapsed_offset_s = 40 * 86_400
    assert cut_events(due.round(at(DUE) - 40 * 86_400, 0)) == []
    due.quality = ClockQuality.RTC
    (deferred,) = [event for event in due.events if isinstance(event, ev.CutDeferred)][-1:]
    assert [code for code, _ in deferred.blockers] == ["policy_not_valid"]


def test_in_friendly_hours_nobody_is_cut_and_their_end_cuts_at_once(due: Any, at: Any) -> None:
    change_policy(due, friendly_windows=daily_windows([("08:00", "09:00"), ("20:00", "07:00")]))
    assert cut_events(due.round(at(DUE), 0)) == []
    assert cut_events(due.round(at("2024-04-16T08:59:59"), 0)) == []
    assert cut_events(due.round(at("2024-04-16T09:00"), 0))
    codes = [code for code, ask in BLOCKERS if code == "friendly_period"]
    assert codes == ["friendly_period"]


def test_friendly_hours_stand_against_a_cut_by_themselves_too(due: Any, at: Any) -> None:
    change_policy(due, friendly_windows=daily_windows([("08:00", "09:00")]))
    facts = CutFacts(due.clock(at(DUE)), due.rating.zone, MoneyNano(-10 * NANO), 0, None, 0, 1)
    (blocker,) = cut_blockers(due.state.accounts["A01"], facts)
    assert (blocker.code, blocker.evidence) == ("friendly_period", {"ends_at": at("2024-04-16T09:00")})


@pytest.mark.parametrize(("since_s", "cut"), [(60, True), (1000, False)])
def test_the_age_of_a_reading_is_time_that_passed_whatever_the_wall_says(
    due: Any, at: Any, since_s: int, cut: bool
) -> None:
    """Read at 08:00; then the wall is set back by ten hours: by the wall the reading is from the future."""
    read = due.clock(at(DUE))
    due.elapsed_offset_s = 10 * 3600 + since_s
    now = at(DUE) - 10 * 3600
    change_policy(due, grace_hours=60)
    cuts = cut_events(due.round(now + 0, None)) + cut_events(
        due.do(cmd.TakeRound(due.clock(now), (due.sample(at(DUE), 0, clock=read),), True))
    )
    assert bool(cuts) is cut
