"""edge.core.blockers: with none of them the cut happens; each one alone stops it, with its evidence."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Hold
from edge.core.blockers import BLOCKERS
from edge.core.calendar import daily_windows
from edge.core.policy import LegalProfile, OfflinePolicy, Policy
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
DUE = "2024-04-16T08:00"


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
        case "operator_hold":
            change(site, operator_hold="dispute 4711")
        case "minimum_debt":
            change_policy(site, minimum_debt_nano=MoneyNano(11 * NANO))
        case "batch_limit":
            site.state = replace(site.state, local_cuts=(UnixSeconds(at(DUE) - 3599),))
        case "cloud_out_of_reach":
            change_policy(site, offline=OfflinePolicy.KEEP)
            site.cloud_silent_s = 1


EVIDENCE: dict[str, dict[str, object]] = {
    "keep_supply": {},
    "operator_hold": {"reference": "dispute 4711"},
    "minimum_debt": {"debt_nano": 10 * NANO, "debt_nano_min": 11 * NANO},
    "batch_limit": {"cuts": 1, "cuts_max": 1},
    "cloud_out_of_reach": {"silent_s": 1, "silent_s_max": 0},
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


def test_one_cut_an_hour_on_a_small_site_and_the_next_one_after_it(due: Any, at: Any) -> None:
    due.state = replace(due.state, local_cuts=(UnixSeconds(at(DUE)),))
    assert cut_events(due.round(at(DUE) + 3599, 0)) == []
    assert cut_events(due.round(at(DUE) + 3600, 0))
