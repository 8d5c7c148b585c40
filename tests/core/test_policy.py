"""edge.core.step: signed policies, risk levels that end, and the site book that does not take them back."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.policy import Policy
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds

START = "2024-04-01T00:00"
NORMAL = Policy(policy_id="household", version=3, signed_by="billing-1")
HARSH = replace(NORMAL, grace_hours=24, reserve_days=14)


@pytest.fixture
def opened(site: Any, at: Any) -> Any:
    site.open(at(START), 0, 0)
    return site


def set_policy(site: Any, at: Any, when: str, **changes: Any) -> list[Any]:
    command = cmd.SetPolicy(site.clock(at(when)), ("A01",), NORMAL)
    done: list[Any] = site.do(replace(command, **changes))
    return done


def in_force(site: Any) -> Policy:
    policy: Policy = site.state.accounts["A01"].policy
    return policy


def test_a_signed_policy_takes_effect_and_outlives_the_site_book(opened: Any, at: Any) -> None:
    set_policy(opened, at, "2024-04-02T00:00")
    assert in_force(opened) == NORMAL
    opened.do(cmd.ChangeTerms(opened.clock(at("2024-04-03T00:00")), "A01", Policy(), protected=True))
    assert in_force(opened) == NORMAL
    assert opened.state.accounts["A01"].protected


def test_a_risk_level_ends_at_its_end_and_the_normal_policy_comes_back(opened: Any, at: Any) -> None:
    until = UnixSeconds(at("2024-04-05T00:00"))
    set_policy(opened, at, "2024-04-02T00:00", risk_level="high", risk_policy=HARSH, risk_until=until)
    assert in_force(opened) == HARSH
    opened.round(at("2024-04-04T23:59"), 0)
    assert in_force(opened) == HARSH
    opened.round(at("2024-04-05T00:00"), 0)
    assert in_force(opened) == NORMAL
    assert [event.risk_level for event in opened.events if isinstance(event, ev.RiskLevelExpired)] == ["high"]
    opened.round(at("2024-04-06T00:00"), 0)
    assert len([event for event in opened.events if isinstance(event, ev.RiskLevelExpired)]) == 1


def test_a_clock_nobody_vouches_for_ends_no_level(opened: Any, at: Any) -> None:
    until = UnixSeconds(at("2024-04-05T00:00"))
    set_policy(opened, at, "2024-04-02T00:00", risk_level="high", risk_policy=HARSH, risk_until=until)
    opened.quality = ClockQuality.FLOOR
    opened.round(at("2024-04-09T00:00"), 0)
    assert in_force(opened) == HARSH


def test_a_change_of_policy_keeps_the_episode_and_its_clock(opened: Any, at: Any) -> None:
    opened.pay(at("2024-04-01T01:00"), 1)
    opened.round(at("2024-04-01T02:00"), 10)
    opened.receipt(at("2024-04-01T02:00"), 2)
    before = opened.state.accounts["A01"].episode
    set_policy(opened, at, "2024-04-02T00:00")
    assert opened.state.accounts["A01"].episode == before
    assert opened.state.accounts["A01"].money_nano == MoneyNano(1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account_ids": ("A99",)}, "unknown_account"),
        ({"policy": replace(NORMAL, signed_by="")}, "unsigned"),
        ({"policy": replace(NORMAL, signed_by="site_book")}, "unsigned"),
        ({"risk_level": "high", "risk_policy": HARSH}, "risk_level"),
        ({"risk_until": UnixSeconds(2_000_000_000)}, "risk_level"),
        ({"policy": replace(NORMAL, version=2)}, "older_version"),
        ({"policy": replace(NORMAL, version=4, valid_until=UnixSeconds(1))}, "expired"),
    ],
)
def test_a_policy_is_refused_with_its_reason_and_changes_nothing(
    opened: Any, at: Any, changes: Any, reason: str
) -> None:
    set_policy(opened, at, "2024-04-02T00:00")
    state = opened.state.accounts["A01"]
    (refused,) = set_policy(opened, at, "2024-04-03T00:00", cid="C1", **changes)
    assert (refused.reason, refused.order_type) == (reason, "set_policy")
    assert opened.state.accounts["A01"] == state
    assert set_policy(opened, at, "2024-04-04T00:00", cid="C1") == []
