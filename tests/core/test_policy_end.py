"""The end of a policy or of a risk level, once known, is known for good: no clock set back revives it."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.units import ClockQuality, UnixSeconds

NANO = 10**9
HARSH = Policy(grace_hours=1, cuts_per_hour_hundredths_of_percent=10_000)


@pytest.fixture
def due(site: Any, at: Any) -> Any:
    """An account below zero since 1 April, both notices received; a cut is due by 5 April at noon."""
    site.open(at("2024-04-01T08:00"), policy=HARSH, opening_nano=-20 * NANO)
    site.round(at("2024-04-01T08:10"), 0)
    site.receipt(at("2024-04-01T08:11"), 2)
    return site


def give(site: Any, policy: Policy) -> None:
    account = site.state.accounts["A01"]
    site.state = replace(site.state, accounts={"A01": replace(account, policy=policy)})


def reboot(site: Any, name: str, moment: int, *, doubted: bool = True) -> None:
    """Power comes back with the wall at an instant that nobody vouches for."""
    site.boot_id, site.doubted = name, doubted
    site.elapsed_offset_s += 60 - site.clock(moment).elapsed_ms // 1000


def cuts(site: Any) -> list[Any]:
    return [event for event in site.events if getattr(event, "reason", "") == "no_credit"]


def ended(site: Any) -> list[Any]:
    return [event for event in site.events if isinstance(event, ev.PolicyEnded)]


def until_a_cut_is_due(site: Any, first_at: int) -> None:
    """Hours of rounds, with receipts for whatever is handed over."""
    for minute in range(0, 400, 10):
        moment = first_at + 60 * minute
        site.round(moment, 0)
        episode = site.state.accounts["A01"].episode
        for notice in episode.notices if episode is not None else ():
            if notice.receipt is None:
                site.receipt(moment, notice.number)


def test_without_an_end_this_account_is_cut(due: Any, at: Any) -> None:
    until_a_cut_is_due(due, at("2024-04-01T08:20"))
    assert cuts(due)


def test_a_policy_seen_to_end_between_two_records_stays_ended_over_a_power_cut(due: Any, at: Any) -> None:
    give(due, replace(HARSH, valid_until=UnixSeconds(at("2024-04-02T00:00"))))
    due.round(at("2024-04-02T00:01"), None, record=False)  # no reading record says how late it is
    assert [event.valid_until for event in ended(due)] == [at("2024-04-02T00:00")]
    reboot(due, "boot-2", at("2024-04-01T08:12"))
    until_a_cut_is_due(due, at("2024-04-01T08:12"))
    assert cuts(due) == []
    assert len(ended(due)) == 1


def test_the_backends_time_ends_a_policy_where_the_wall_is_behind(due: Any, at: Any) -> None:
    give(due, replace(HARSH, valid_until=UnixSeconds(at("2024-04-02T00:00"))))
    due.quality = ClockQuality.FLOOR
    clock = due.clock(at("2024-04-01T08:20"))
    due.do(cmd.TakeRound(clock, (), server_at=UnixSeconds(at("2024-04-02T00:00"))))
    assert [(event.at, event.known_at) for event in ended(due)] == [(clock.at, at("2024-04-02T00:00"))]
    due.quality = ClockQuality.RTC
    reboot(due, "boot-2", at("2024-04-01T08:30"))
    until_a_cut_is_due(due, at("2024-04-01T08:30"))
    assert cuts(due) == []


def test_an_untrusted_wall_ends_no_policy(due: Any, at: Any) -> None:
    give(due, replace(HARSH, valid_until=UnixSeconds(at("2024-04-02T00:00"))))
    due.quality = ClockQuality.UNSET
    due.round(at("2030-01-01T00:00"), None, record=False)
    assert ended(due) == []


def test_a_new_policy_with_a_later_end_is_in_force(due: Any, at: Any) -> None:
    give(due, replace(HARSH, valid_until=UnixSeconds(at("2024-04-01T08:30"))))
    due.round(at("2024-04-01T08:31"), None, record=False)
    give(due, replace(HARSH, version=2, valid_until=UnixSeconds(at("2025-01-01T00:00"))))
    until_a_cut_is_due(due, at("2024-04-01T08:40"))
    assert cuts(due)


def test_a_doubted_clock_forward_over_the_end_keeps_the_supply(due: Any, at: Any) -> None:
    give(due, replace(HARSH, valid_until=UnixSeconds(at("2024-06-01T00:00"))))
    reboot(due, "boot-2", at("2025-01-01T00:00"))
    until_a_cut_is_due(due, at("2025-01-01T00:00"))
    assert cuts(due) == []
    assert due.state.accounts["A01"].passed_at >= at("2024-06-01T00:00")  # by the record itself


@pytest.mark.parametrize("doubted", [False, True])
def test_a_clock_forward_over_the_end_of_a_level_gives_the_normal_policy(due: Any, at: Any, doubted: bool) -> None:
    normal = Policy(grace_hours=72)
    account = due.state.accounts["A01"]
    account = replace(account, normal_policy=normal, risk_level="high", risk_until=UnixSeconds(at("2024-06-01T00:00")))
    due.state = replace(due.state, accounts={"A01": account})
    reboot(due, "boot-2", at("2024-07-01T00:00"), doubted=doubted)
    due.round(at("2024-07-01T00:01"), 0)
    assert due.state.accounts["A01"].policy == normal
    reboot(due, "boot-3", at("2024-04-01T09:00"))
    due.round(at("2024-04-01T09:00"), 0)
    assert (due.state.accounts["A01"].policy, due.state.accounts["A01"].risk_level) == (normal, "")
    assert cuts(due) == []


def test_the_backends_time_ends_a_level_too(due: Any, at: Any) -> None:
    normal = Policy(grace_hours=72)
    until = UnixSeconds(at("2024-04-02T00:00"))
    account = replace(due.state.accounts["A01"], normal_policy=normal, risk_level="high", risk_until=until)
    due.state = replace(due.state, accounts={"A01": account})
    due.quality = ClockQuality.FLOOR
    due.do(cmd.TakeRound(due.clock(at("2024-04-01T08:20")), (), server_at=until))
    assert due.state.accounts["A01"].policy == normal


def test_the_end_of_a_policy_replays(due: Any, at: Any) -> None:
    due.do(
        cmd.ChangeTerms(
            due.clock(at("2024-04-01T08:15")),
            "A01",
            replace(HARSH, valid_until=UnixSeconds(at("2024-04-01T08:30"))),
            protected=False,
        )
    )
    due.round(at("2024-04-01T08:31"), None, record=False)
    assert due.state.accounts["A01"].known_at == at("2024-04-01T08:31")
    assert reduce(apply, due.events, State()) == due.state
