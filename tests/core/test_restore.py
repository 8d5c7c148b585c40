"""edge.core.restore: each link of the way back to supply is found when it alone fails."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core.disconnect_control import ControlState
from edge.core.policy import Policy
from edge.core.restore import LINKS, RestoreFacts, diagnose_restore, failing_link
from edge.core.units import MoneyNano

GOOD = RestoreFacts(MoneyNano(5), attempts=1, answered=True, output_connected=True, voltage_tenths=2301)
READY, CUT = ControlState.READY_FOR_RECONNECTION, ControlState.DISCONNECTED


@pytest.fixture
def account(site: Any, at: Any) -> Any:
    site.open(at("2024-04-13T00:00"), 0, 5)
    return site.state.accounts["A01"]


def test_nothing_fails_while_the_supply_is_on(account: Any) -> None:
    links = diagnose_restore(account, GOOD)
    assert [link.code for link in links] == [code for code, _ in LINKS]
    assert failing_link(links) is None


@pytest.mark.parametrize(
    ("code", "fields", "facts"),
    [
        ("paid", {"local_reason": "no_credit", "control_state": READY}, {"live_nano": MoneyNano(-1)}),
        ("no_operators_cut", {"control_state": CUT}, {"output_connected": False}),
        ("no_load_limit", {"local_reason": "load_limit", "control_state": READY}, {"output_connected": False}),
        ("no_key_needed", {"control_state": READY, "policy": Policy(control_mode=2)}, {"output_connected": False}),
        ("command_sent", {}, {"attempts": 0, "answered": None, "output_connected": False}),
        ("answered", {}, {"answered": False, "output_connected": None}),
        ("relay_closed", {}, {"output_connected": False}),
        ("voltage", {}, {"voltage_tenths": 999}),
        ("voltage", {}, {"voltage_tenths": None}),
    ],
)
def test_the_first_broken_link_is_named(account: Any, code: str, fields: Any, facts: Any) -> None:
    found = failing_link(diagnose_restore(replace(account, **fields), replace(GOOD, **facts)))
    assert found is not None
    assert found.code == code


def test_what_nobody_knows_is_told_only_when_nothing_is_broken(account: Any) -> None:
    facts = replace(GOOD, answered=None, output_connected=None, voltage_tenths=100)
    found = failing_link(diagnose_restore(account, facts))
    assert found is not None
    assert (found.code, found.holds) == ("voltage", False)
