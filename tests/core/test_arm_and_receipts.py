"""Arming a supply, pressing the key, and receipts that name their notice: each refusal in its order, and answered."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.disconnect_control import ControlState, Refusal, Trigger, transition
from edge.core.policy import LegalProfile, NoticeProof, Policy
from edge.core.restore import RestoreFacts, diagnose_restore, failing_link
from edge.core.units import MoneyNano

NANO = 1_000_000_000
START = "2024-04-13T08:00"


def order(site: Any, at: int, trigger: Trigger, cid: str, arm: bool = False) -> list[ev.Event]:
    found: list[ev.Event] = site.do(
        cmd.SwitchSupply(site.clock(at), "A01", trigger, "operator", cid, None, None, arm=arm)
    )
    return found


def press(site: Any, at: int, actor: str = "Li") -> list[ev.Event]:
    found: list[ev.Event] = site.do(
        cmd.SwitchSupply(site.clock(at), "A01", Trigger.MANUAL_RECONNECT, "key_press", actor=actor)
    )
    return found


def armed(site: Any, at: int, opening_nano: int, **policy: Any) -> None:
    site.open(at, 0, opening_nano, replace(Policy(), **policy))
    order(site, at, Trigger.REMOTE_DISCONNECT, "C1")
    order(site, at, Trigger.REMOTE_RECONNECT, "C2", arm=True)
    assert site.state.applied["C2"] == "applied"


@pytest.mark.parametrize("mode", range(7))
def test_arming_never_closes_a_supply_in_any_mode(mode: int) -> None:
    facts = {"control_mode": mode, "local_reason_stands": False, "keep_supply": False, "protected": False}
    for state in ControlState:
        for trigger in Trigger:
            assert transition(state, trigger, arm=True, **facts) is not ControlState.CONNECTED  # type: ignore[arg-type]
    ready = transition(ControlState.DISCONNECTED, Trigger.REMOTE_RECONNECT, arm=True, **facts)  # type: ignore[arg-type]
    assert ready == (ControlState.READY_FOR_RECONNECTION if mode in (1, 3, 5, 6) else Refusal("no_transition"))


def test_an_armed_supply_stays_off_through_rounds_and_payments_until_the_key_is_pressed(site: Any, at: Any) -> None:
    armed(site, at(START), 10 * NANO)
    site.round(at(START) + 60, 0)
    site.pay(at(START) + 90, 5 * NANO)
    account = site.state.accounts["A01"]
    assert (account.control_state, account.local_reason) == (ControlState.READY_FOR_RECONNECTION, None)
    link = failing_link(diagnose_restore(account, RestoreFacts(MoneyNano(15 * NANO), output_connected=False)))
    assert link is not None
    assert link.code == "no_key_needed"
    [moved] = press(site, at(START) + 120)
    assert isinstance(moved, ev.DisconnectControlChanged)
    assert (moved.control_state, moved.reason, moved.actor) == ("connected", "key_press", "Li")


def test_what_is_on_or_cut_by_an_operator_is_not_switched_by_a_key(site: Any, at: Any) -> None:
    site.open(at(START), 0, 10 * NANO)
    refused = ev.RequestRefused(at(START), "A01", "manual_reconnect", "no_transition")
    assert press(site, at(START)) == [refused]
    order(site, at(START), Trigger.REMOTE_DISCONNECT, "C1")
    assert press(site, at(START)) == [refused]


@pytest.mark.parametrize(
    ("profile", "in_grace"),
    [(LegalProfile.PREPAYMENT_IMMEDIATE, False), (LegalProfile.PREPAID_BY_AGREEMENT, True)],
)
def test_a_key_press_reconnects_nobody_whose_credit_and_grace_are_used_up(
    site: Any, at: Any, profile: LegalProfile, in_grace: bool
) -> None:
    """No local cut stands, as the operator's came first: the balance itself must say no."""
    armed(site, at(START), -1 * NANO, legal_profile=profile, grace_hours=72)
    site.round(at(START) + 60, 0)
    site.receipt(at(START) + 60, 2)
    if in_grace:
        [moved] = press(site, at(START) + 120)
        assert isinstance(moved, ev.DisconnectControlChanged)
        order(site, at(START) + 130, Trigger.REMOTE_DISCONNECT, "C3")
        order(site, at(START) + 140, Trigger.REMOTE_RECONNECT, "C4", arm=True)
    late = at(START) + 60 + 72 * 3600
    assert press(site, late) == [ev.RequestRefused(late, "A01", "manual_reconnect", "local_reason")]
    site.pay(late + 10, 1 * NANO)
    [moved] = press(site, late + 20)
    assert isinstance(moved, ev.DisconnectControlChanged)


def test_an_order_to_arm_is_answered_once(site: Any, at: Any) -> None:
    armed(site, at(START), 10 * NANO)
    assert order(site, at(START), Trigger.REMOTE_RECONNECT, "C2", arm=True) == []
    [refused] = order(site, at(START), Trigger.REMOTE_RECONNECT, "C3", arm=True)
    assert refused == ev.OrderRefused(at(START), "C3", "arm", "A01", "no_transition")


def receipt(site: Any, at: int, **fields: Any) -> list[ev.Event]:
    command = cmd.ConfirmNotice(site.clock(at), "A01", 2, "cloud_receipt", cid="C1")
    found: list[ev.Event] = site.do(replace(command, **fields))
    return found


def test_a_receipt_counts_for_the_notice_it_names_once_and_from_its_coming_in(site: Any, at: Any) -> None:
    assert receipt(site, at(START), cid="C0") == [
        ev.OrderRefused(at(START), "C0", "notice_receipt", "A01", "unknown_account")
    ]
    site.open(at(START), 0, 0)
    assert receipt(site, at(START))[0].reason == "no_notice"  # type: ignore[union-attr]
    site.round(at("2024-04-14T08:00"), 1_000)
    raised_at = site.state.accounts["A01"].episode.notice(2).raised_at
    late = at("2024-04-14T20:00")
    [other] = receipt(site, late, cid="C2", raised_at=raised_at - 1)
    assert other == ev.OrderRefused(late, "C2", "notice_receipt", "A01", "other_notice")
    delivered, answer = receipt(site, late, cid="C3", raised_at=raised_at)
    assert (delivered.receipt.at, delivered.proof) == (late, "cloud_receipt")  # type: ignore[union-attr]
    assert answer == ev.OrderApplied(late, "C3", "notice_receipt", "A01")
    assert receipt(site, late + 60, cid="C3", raised_at=raised_at) == []
    [second] = receipt(site, late + 60, cid="C4", raised_at=raised_at)
    assert second == ev.OrderRefused(late + 60, "C4", "notice_receipt", "A01", "already_delivered")


def test_a_person_who_showed_a_notice_stands_in_the_record_and_is_told_why_not(site: Any, at: Any) -> None:
    site.open(at(START), 0, 0)
    site.round(at("2024-04-14T08:00"), 1_000)
    now = at("2024-04-14T09:00")
    [refused] = receipt(site, now, number=3, cid=None, actor="Li")
    assert refused == ev.RequestRefused(now, "A01", "notice_receipt", "no_notice")
    [delivered] = receipt(site, now, cid=None, actor="Li", proof="local_display")
    assert delivered.actor == "Li"  # type: ignore[union-attr]
    assert receipt(site, now, cid=None) == []  # the agent's own display repeats itself and leaves nothing


def test_nobodys_word_on_site_replaces_the_receipt_that_the_policy_asks_for(site: Any, at: Any) -> None:
    site.open(at(START), 0, 0, replace(Policy(), notice_proof=NoticeProof.CLOUD_RECEIPT))
    site.round(at("2024-04-14T08:00"), 1_000)
    now = at("2024-04-14T09:00")
    [refused] = receipt(site, now, cid=None, actor="Li", proof="local_display")
    assert refused == ev.RequestRefused(now, "A01", "notice_receipt", "other_proof")
    assert site.state.accounts["A01"].episode.notice(2).receipt is None


def test_a_formal_notice_is_not_proved_by_the_receipt_of_another_document(site: Any, at: Any) -> None:
    site.open(at(START), 0, 0, replace(Policy(), formal_notices=True))
    site.round(at("2024-04-14T08:00"), 1_000)
    [refused] = receipt(site, at("2024-04-14T09:00"), document_hash="0" * 64)
    assert refused.reason == "document"  # type: ignore[union-attr]
    notice = site.state.accounts["A01"].episode.notice(2)
    delivered, _ = receipt(site, at("2024-04-14T09:00"), cid="C2", document_hash=notice.document_hash)
    assert delivered.document_hash == notice.document_hash  # type: ignore[union-attr]
