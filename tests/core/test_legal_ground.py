"""edge.core.notices: three legal grounds, receipts that are deemed, formal notices, judging by the freeze."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.notice_document import document_hash, notice_document
from edge.core.policy import LegalProfile, NoticeProof, OfflinePolicy, Policy
from edge.core.units import ClockQuality

NANO = 1_000_000_000
START = "2024-04-13T00:00"
IMMEDIATE = Policy(legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE)
STATUTORY = Policy(legal_profile=LegalProfile.POSTPAID_STATUTORY, payment_due_days=15)


def cuts(events: Any) -> list[ev.DisconnectControlChanged]:
    return [
        event
        for event in events
        if isinstance(event, ev.DisconnectControlChanged) and event.trigger == "local_disconnect"
    ]


def notices(events: Any) -> list[int]:
    return [event.number for event in events if isinstance(event, ev.NoticeRaised)]


# --- immediate prepayment --------------------------------------------------------------------


def test_immediate_prepayment_is_cut_at_the_threshold_without_grace(site: Any, at: Any) -> None:
    site.open(at(START), 0, NANO, IMMEDIATE)
    assert not cuts(site.round(at("2024-04-13T10:00"), 1960))  # 0.9996 used
    assert not cuts(site.round(at("2024-04-13T10:15"), 1961))  # notice 2; 0.00011 below zero
    assert cuts(site.round(at("2024-04-13T10:16"), 1961))
    assert notices(site.events) == [1, 2]


def test_immediate_prepayment_is_restored_at_zero(site: Any, at: Any) -> None:
    site.open(at(START), 0, -NANO, IMMEDIATE)
    for minute in range(2):
        site.round(at(f"2024-04-13T10:0{minute}"), 0)
    assert cuts(site.events)
    site.pay(at("2024-04-13T11:00"), NANO)
    assert site.events[-1].control_state == "connected"


# --- postpaid by statute ---------------------------------------------------------------------


def postpaid(site: Any, at: Any, policy: Policy = STATUTORY) -> Any:
    """51.00 used in March and not paid: billed on 1 April, due on 16 April, 30 days overdue on 16 May."""
    site.open(at("2024-03-01T00:00"), 0, 0, policy)
    site.round(at("2024-04-01T00:00"), 100_000)
    return site


def test_an_estimate_is_no_debt_of_a_statutory_customer(site: Any, at: Any) -> None:
    site.open(at("2024-03-01T00:00"), 0, 0, STATUTORY)
    site.round(at("2024-03-30T00:00"), 100_000)
    assert notices(site.events) == []


def test_a_statutory_notice_waits_for_an_overdue_bill_and_the_cut_for_thirty_days(site: Any, at: Any) -> None:
    postpaid(site, at)
    for day in ("2024-04-16", "2024-05-01", "2024-05-08"):
        site.round(at(f"{day}T23:59"), 100_000)
    assert notices(site.events) == []
    assert notices(site.round(at("2024-05-09T00:00"), 100_000)) == [2]  # 23 days overdue: 7 more are left
    site.receipt(at("2024-05-09T08:00"), 2)
    assert notices(site.round(at("2024-05-16T07:30"), 100_000)) == [3]
    site.receipt(at("2024-05-16T07:30"), 3)
    assert not cuts(site.round(at("2024-05-16T07:59:59"), 100_000))
    assert cuts(site.round(at("2024-05-16T08:00"), 100_000))


def test_a_paid_bill_ends_the_arrears_although_the_month_runs_on(site: Any, at: Any) -> None:
    postpaid(site, at)
    site.round(at("2024-05-09T00:00"), 130_000)
    assert notices(site.events) == [2]
    site.pay(at("2024-05-09T12:00"), 51 * NANO + 16 * NANO)  # March, and April's bill of 15.30
    assert site.state.accounts["A01"].episode is None
    assert site.state.accounts["A01"].arrears_since is None


def test_a_part_payment_leaves_the_first_due_date(site: Any, at: Any) -> None:
    postpaid(site, at)
    site.pay(at("2024-04-20T00:00"), 50 * NANO)
    assert site.state.accounts["A01"].arrears_since == at("2024-04-01T00:00")


# --- receipts --------------------------------------------------------------------------------


def raised(site: Any, at: Any, **policy: Any) -> Any:
    site.open(at(START), 0, -10 * NANO, replace(Policy(), **policy))
    site.round(at("2024-04-13T08:00"), 0)
    assert notices(site.events) == [2]
    return site


def receipts(site: Any) -> list[tuple[int, str]]:
    return [(event.number, event.proof) for event in site.events if isinstance(event, ev.NoticeDelivered)]


def test_a_notice_is_deemed_delivered_after_the_hours_of_the_policy(site: Any, at: Any) -> None:
    raised(site, at, notice_proof=NoticeProof.DEEMED_AFTER_HOURS, deemed_after_hours=24)
    site.round(at("2024-04-14T07:59:59"), 0)
    assert receipts(site) == []
    site.round(at("2024-04-14T08:00"), 0)
    assert receipts(site) == [(2, "deemed_after_hours")]


@pytest.mark.parametrize(
    ("offline", "silent_s", "deemed"),
    [
        (OfflinePolicy.ENFORCE, 86_400, True),
        (OfflinePolicy.ENFORCE, 86_399, False),
        (OfflinePolicy.ENFORCE, None, False),
        (OfflinePolicy.ENFORCE_FOR_HOURS, 86_400, False),
        (OfflinePolicy.KEEP, 86_400, False),
    ],
)
def test_a_receipt_the_cloud_cannot_send_is_deemed_only_where_the_site_enforces(
    site: Any, at: Any, offline: OfflinePolicy, silent_s: int | None, deemed: bool
) -> None:
    raised(site, at, notice_proof=NoticeProof.CLOUD_RECEIPT, offline=offline)
    site.cloud_silent_s = silent_s
    site.round(at("2024-04-14T08:00"), 0)
    assert bool(receipts(site)) is deemed


def test_nothing_is_deemed_for_a_display_or_a_statutory_customer(site: Any, at: Any) -> None:
    raised(site, at)
    site.cloud_silent_s = 10**6
    site.round(at("2024-04-20T08:00"), 0)
    assert receipts(site) == []


def test_time_that_nobody_vouches_for_deems_nothing(site: Any, at: Any) -> None:
    raised(site, at, notice_proof=NoticeProof.DEEMED_AFTER_HOURS)
    site.boot_id, site.quality = "boot-2", ClockQuality.FLOOR
    site.elapsed_offset_s = at("2024-01-01T00:00") - at("2024-04-20T08:00")  # started now: the boot vouches for itself
    site.round(at("2024-04-21T07:59:59"), 0)
    assert receipts(site) == []
    site.round(at("2024-04-21T08:00"), 0)
    assert receipts(site)


def test_a_formal_notice_is_proved_by_the_hash_of_its_own_document(site: Any, at: Any) -> None:
    raised(site, at, formal_notices=True)
    (notice,) = [event for event in site.events if isinstance(event, ev.NoticeRaised)]
    document = notice_document(
        "A01", 2, notice.at, notice.live_balance_nano, notice.register_at, notice.register_wh, "normal@1"
    )
    assert notice.document_hash == document_hash(document)
    assert b"live_balance_nano=-10000000000\n" in document
    site.receipt(at("2024-04-13T09:00"), 2)  # a receipt of something else
    assert receipts(site) == []
    proof = cmd.ConfirmNotice(site.clock(at("2024-04-13T09:00")), "A01", 2, "local_display", notice.document_hash)
    (delivered,) = site.do(proof)
    assert delivered.document_hash == notice.document_hash
    assert site.state.accounts["A01"].episode.notice(2).receipt is not None


# --- judged by the freeze --------------------------------------------------------------------


def test_judged_by_the_freeze_a_day_that_goes_below_zero_is_noticed_at_midnight(site: Any, at: Any) -> None:
    site.open(at(START), 0, 2 * NANO, replace(Policy(), evaluate_at="freeze", reserve_days=0))
    site.round(at("2024-04-13T20:00"), 10_000)  # 5.10 used
    assert notices(site.events) == []
    site.round(at("2024-04-14T00:00"), 10_000)
    assert notices(site.events) == [2]


def test_an_interpolated_freeze_never_starts_the_clock_alone(site: Any, at: Any) -> None:
    site.open(at(START), 0, 2 * NANO, replace(Policy(), evaluate_at="freeze", reserve_days=0))
    site.round(at("2024-04-13T12:00"), 1_000)
    site.round(at("2024-04-14T02:00"), 8_000, before=None)
    assert site.state.accounts["A01"].judged_quality == "interpolated"
    assert notices(site.events) == [2]  # the live balance says so too
    site.pay(at("2024-04-14T03:00"), 10 * NANO)
    assert site.state.accounts["A01"].episode is None


def test_after_notice_2_by_the_freeze_the_live_balance_decides(site: Any, at: Any) -> None:
    site.open(at(START), 0, -NANO, replace(Policy(), evaluate_at="freeze", reserve_days=0))
    site.round(at("2024-04-14T00:00"), 0)
    assert notices(site.events) == [2]
    site.round(at("2024-04-14T10:00"), 10_000)  # 5.10 since the freeze
    site.pay(at("2024-04-14T11:00"), 2 * NANO)  # the freeze is covered, the energy since is not
    assert site.state.accounts["A01"].episode is not None
    site.pay(at("2024-04-14T12:00"), 5 * NANO, "P2")
    assert site.state.accounts["A01"].episode is None
