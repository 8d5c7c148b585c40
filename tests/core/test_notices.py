"""edge.core.notices by the worked examples of 7+0+3 (ids 703-*), and around them."""

from dataclasses import replace
from typing import Any

import pytest

from edge.core import events as ev
from edge.core.calendar import daily_windows
from edge.core.policy import Policy
from edge.core.units import ClockQuality, ClockReading, UnixSeconds, believed_seconds, least_seconds

NANO = 1_000_000_000
PURE = Policy(daily_energy_default_wh=10_000, cut_reading_age_s_max=3600)  # type: ignore[arg-type]
ADMIN = {"ReadingsRecorded", "RegisterFrozen", "AccountOpened", "NoticeDelivered", "LocalReasonCleared"}
ADMIN |= {"BalanceEvaluated"}


def run_days(
    site: Any, at: Any, policy: Policy, until: str, step_s: int = 1800, daily_wh: int = 10_000, protected: bool = False
) -> Any:
    """10 kWh a day from 1 April 2024, 60.00 on the account; receipts at once. Returns (time, event) pairs."""
    start, end = at("2024-04-01T00:00"), at(until)
    site.open(start, 0, 60 * NANO, policy, protected=protected)
    now = start
    while now < end:
        now += step_s
        site.round(now, (now - start) * daily_wh // 86_400)
        episode = site.state.accounts["A01"].episode
        for notice in episode.notices if episode else ():
            if notice.receipt is None:
                site.receipt(now, notice.number)
    return [(event.at, named(event)) for event in site.events if type(event).__name__ not in ADMIN]


def named(event: Any) -> str:
    if isinstance(event, ev.NoticeRaised):
        return f"notice_{event.number}"
    if isinstance(event, ev.DisconnectControlChanged):
        return "cut" if event.control_state != "connected" else "restore"
    if isinstance(event, ev.CaseEscalated):
        return "escalate"
    return type(event).__name__


def test_703_pure_notices_and_cut_come_in_order(site: Any, at: Any) -> None:
    happened = run_days(site, at, PURE, "2024-04-17T00:00")
    # The example evaluates at the freezes only; live evaluation raises the notices within the day before.
    assert [name for _, name in happened] == ["notice_1", "notice_2", "notice_3", "cut"]
    first, second, third, cut = (moment for moment, _ in happened)
    assert at("2024-04-05T00:00") < first <= at("2024-04-06T00:00")
    assert at("2024-04-12T00:00") < second <= at("2024-04-13T00:00")
    assert cut == second + 72 * 3600
    assert third == cut - 1800


def test_703_freezes_hold_the_figures_of_the_example(site: Any, at: Any) -> None:
    run_days(site, at, PURE, "2024-04-14T00:00")
    frozen = {event.at: event for event in site.events if isinstance(event, ev.RegisterFrozen)}
    for day, estimate, live in ((2, 5_100_000_000, 54_900_000_000), (12, 56_100_000_000, 3_900_000_000)):
        event = frozen[at(f"2024-04-{day:02}T00:00")]
        assert (event.estimate_nano, event.live_balance_nano) == (estimate, live)
    assert frozen[at("2024-04-13T00:00")].live_balance_nano == -1_200_000_000


@pytest.mark.parametrize(
    ("freeze_day", "reserve_nano"),
    [(2, 35_700_000_000), (11, 35_700_000_000), (12, 36_200_000_000), (13, 36_700_000_000), (14, 37_200_000_000)],
)
def test_703_reserve_is_priced_from_the_present_block_position(
    site: Any, at: Any, freeze_day: int, reserve_nano: int
) -> None:
    start, freeze = at("2024-04-01T00:00"), at(f"2024-04-{freeze_day:02}T00:00")
    site.open(start, 0, 60 * NANO, replace(PURE, grace_hours=10_000))
    site.round(freeze, (freeze_day - 1) * 10_000, power_w_max=20_000)
    assert site.last.figures["A01"].reserve_nano == reserve_nano


def test_703_windows_move_notices_and_cut_to_the_next_open_hour(site: Any, at: Any) -> None:
    policy = replace(
        PURE,
        evaluate_at="06:00",
        notice_windows=daily_windows([("08:00", "20:00")]),
        cut_windows=daily_windows([("09:00", "16:00")], ["mon", "tue", "wed", "thu"]),
    )
    happened = run_days(site, at, policy, "2024-04-17T00:00")
    assert [name for _, name in happened] == ["notice_1", "notice_2", "notice_3", "cut"]
    first, second, third, cut = (moment for moment, _ in happened)
    assert (third, cut) == (at("2024-04-16T08:30"), at("2024-04-16T09:00"))
    assert all(
        at(f"2024-04-{day:02}T08:00") <= moment <= at(f"2024-04-{day:02}T20:00")
        for moment, day in ((first, 6), (second, 13))
    )


def test_703_protected_gets_notices_and_a_person_but_no_notice_3_and_no_cut(site: Any, at: Any) -> None:
    happened = run_days(site, at, PURE, "2024-04-20T00:00", protected=True)
    assert [name for _, name in happened] == ["notice_1", "notice_2", "escalate"]
    assert happened[2][0] == happened[1][0] + 72 * 3600


@pytest.fixture
def in_arrears(site: Any, at: Any) -> Any:
    """Notice 2 handed over on 13 April 2024 at 08:00, balance -16.50, no more use."""
    site.open(at("2024-04-13T00:00"), 0, -16_500_000_000, PURE)
    site.round(at("2024-04-13T08:00"), 0)
    site.receipt(at("2024-04-13T08:00"), 2)
    return site


def test_703_pay_in_time_stops_the_clock_at_exactly_zero(in_arrears: Any, at: Any) -> None:
    in_arrears.round(at("2024-04-16T07:30"), 0)
    in_arrears.receipt(at("2024-04-16T07:30"), 3)
    in_arrears.pay(at("2024-04-16T07:59"), 16_500_000_000)
    account = in_arrears.state.accounts["A01"]
    assert (account.money_nano, account.episode) == (0, None)
    in_arrears.round(at("2024-04-16T08:30"), 0)
    assert "DisconnectControlChanged" not in in_arrears.names()
    in_arrears.round(at("2024-04-16T09:00"), 10)
    fresh = in_arrears.state.accounts["A01"].episode
    assert [notice.number for notice in fresh.notices] == [2]
    assert fresh.grace_clock is None


def test_703_part_payment_does_not_restart_the_clock(in_arrears: Any, at: Any) -> None:
    in_arrears.pay(at("2024-04-15T10:00"), 5_000_000_000)
    in_arrears.round(at("2024-04-16T07:30"), 0)
    in_arrears.receipt(at("2024-04-16T07:30"), 3)
    in_arrears.round(at("2024-04-16T07:59"), 0)
    assert "DisconnectControlChanged" not in in_arrears.names()
    in_arrears.round(at("2024-04-16T08:00"), 0)
    assert named(in_arrears.events[-1]) == "cut"


def test_notice_jump_merges_notice_1_into_notice_2(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 50 * NANO, PURE)
    site.round(at("2024-04-08T00:00"), 0)
    site.round(at("2024-04-12T00:00"), 110_000)
    raised = [event.number for event in site.events if isinstance(event, ev.NoticeRaised)]
    assert raised == [2]


def test_notice_2_starts_the_clock_at_its_receipt_not_before(site: Any, at: Any) -> None:
    site.open(at("2024-04-13T00:00"), 0, -1 * NANO, PURE)
    site.round(at("2024-04-13T08:00"), 0)
    site.round(at("2024-04-20T08:00"), 0)
    assert [event.number for event in site.events if isinstance(event, ev.NoticeRaised)] == [2]
    site.receipt(at("2024-04-20T08:00"), 2)
    site.round(at("2024-04-23T07:29"), 0)
    assert "DisconnectControlChanged" not in site.names()


def test_notice_3_handed_over_late_moves_the_cut(in_arrears: Any, at: Any) -> None:
    in_arrears.round(at("2024-04-16T07:30"), 0)
    in_arrears.round(at("2024-04-16T12:00"), 0)
    in_arrears.receipt(at("2024-04-16T12:00"), 3)
    in_arrears.round(at("2024-04-16T12:29"), 0)
    assert "DisconnectControlChanged" not in in_arrears.names()
    in_arrears.round(at("2024-04-16T12:30"), 0)
    assert named(in_arrears.events[-1]) == "cut"


def test_703_clock_set_back_does_not_cut_early(in_arrears: Any, at: Any) -> None:
    # 60 h have passed by monotonic time when the wall is set back 43 h.
    in_arrears.round(at("2024-04-15T20:00"), 0)
    in_arrears.elapsed_offset_s = 43 * 3600
    in_arrears.round(at("2024-04-14T01:00"), 0)
    in_arrears.round(at("2024-04-14T13:00"), 0)  # 72 h monotonic, 29 h by the wall
    assert "DisconnectControlChanged" not in in_arrears.names()


def test_clock_set_forward_does_not_cut_early(in_arrears: Any, at: Any) -> None:
    in_arrears.elapsed_offset_s = -40 * 86_400
    in_arrears.round(at("2024-05-23T20:00"), 0)  # the wall says 40 days, the boot says 12 h
    in_arrears.round(at("2024-05-23T21:00"), 0)
    assert in_arrears.state.accounts["A01"].episode.notice(3) is None
    assert in_arrears.state.accounts["A01"].episode.grace_elapsed_s == 13 * 3600
    assert "DisconnectControlChanged" not in in_arrears.names()


def test_time_across_boots_counts_only_between_trusted_clocks() -> None:
    def clock(at: int, boot_id: str, quality: ClockQuality) -> ClockReading:
        return ClockReading(UnixSeconds(at), 1_000, boot_id, quality)

    before = clock(1_000, "one", ClockQuality.NTP)
    assert believed_seconds(before, clock(4_600, "two", ClockQuality.RTC)) == 3_600
    for quality in (ClockQuality.FLOOR, ClockQuality.UNSET):
        assert believed_seconds(before, clock(4_600, "two", quality)) == 0
        assert believed_seconds(clock(1_000, "one", quality), clock(4_600, "two", ClockQuality.NTP)) == 0
    assert believed_seconds(before, clock(500, "two", ClockQuality.NTP)) == 0


def test_time_across_boots_is_not_measured_by_a_doubted_clock() -> None:
    def clock(at: int, boot_id: str, doubted: bool) -> ClockReading:
        return ClockReading(UnixSeconds(at), (at - 1_000) * 1_000, boot_id, ClockQuality.NTP, doubted)

    assert believed_seconds(clock(1_000, "one", False), clock(4_600, "two", True)) == 0
    assert believed_seconds(clock(1_000, "one", True), clock(4_600, "two", False)) == 0
    assert believed_seconds(clock(1_000, "one", True), clock(4_600, "one", True)) == 3_600  # the boot needs no wall
    # Where nothing moves the beginning on, this boot's own time still ends it.
    assert least_seconds(clock(1_000, "one", True), clock(4_600, "two", True)) == 3_600
    assert least_seconds(clock(2_000, "one", True), clock(4_600, "one", True)) == 2_600


def started_again(
    site: Any, at: Any, boot_id: str, start_at: int, wall_ahead_s: int = 0, doubted: bool = False
) -> None:
    """A new boot: time since it is 0 at true time `start_at`, and the wall is ahead of that."""
    site.boot_id, site.doubted = boot_id, doubted
    site.elapsed_offset_s = at("2024-01-01T00:00") - start_at - wall_ahead_s


def grace_of(site: Any) -> int:
    """What has elapsed at the newest record."""
    return int(site.state.accounts["A01"].episode.grace_elapsed_s)


def test_a_wall_forty_days_ahead_after_a_power_cut_shortens_no_grace(in_arrears: Any, at: Any) -> None:
    forty_days_s = 40 * 86_400
    in_arrears.round(at("2024-04-13T20:00"), 0)
    started_again(in_arrears, at, "boot-2", at("2024-04-13T20:10"), forty_days_s, doubted=True)
    in_arrears.round(at("2024-04-13T20:15") + forty_days_s, 0)
    assert grace_of(in_arrears) == 12 * 3600
    in_arrears.round(at("2024-04-13T21:15") + forty_days_s, 0)
    assert grace_of(in_arrears) == 13 * 3600
    assert in_arrears.state.accounts["A01"].episode.notice(3) is None


def test_a_wall_forty_days_back_before_a_power_cut_shortens_no_grace(in_arrears: Any, at: Any) -> None:
    forty_days_s = 40 * 86_400
    in_arrears.round(at("2024-04-13T20:00"), 0)
    in_arrears.elapsed_offset_s, in_arrears.doubted = forty_days_s, True
    in_arrears.round(at("2024-04-13T20:10") - forty_days_s, 0)
    started_again(in_arrears, at, "boot-2", at("2024-04-13T21:10"))
    in_arrears.round(at("2024-04-13T21:15"), 0)
    assert grace_of(in_arrears) == 12 * 3600 + 600  # the hour without power is not counted: nobody can say


def test_a_doubt_that_is_lifted_gives_the_time_without_power_back(in_arrears: Any, at: Any) -> None:
    in_arrears.round(at("2024-04-13T20:00"), 0)
    for hour in (21, 22):  # two power cuts, and the cloud out of reach after both
        started_again(in_arrears, at, f"boot-{hour}", at(f"2024-04-13T{hour}:30"), doubted=True)
        in_arrears.round(at(f"2024-04-13T{hour}:40"), 0)
        in_arrears.round(at(f"2024-04-13T{hour}:50"), 0)
    assert grace_of(in_arrears) == 12 * 3600 + 2 * 600
    in_arrears.doubted = False
    in_arrears.round(at("2024-04-13T23:00"), 0)
    assert grace_of(in_arrears) == 15 * 3600


def test_time_given_back_counts_as_none_since_notice_3(in_arrears: Any, at: Any) -> None:
    """Notice 3 was handed over while the clock was doubted: the half hour before the cut is kept in full."""
    in_arrears.round(at("2024-04-16T07:00"), 0)
    started_again(in_arrears, at, "boot-2", at("2024-04-16T09:00"), doubted=True)
    in_arrears.round(at("2024-04-16T09:00"), 0)
    in_arrears.round(at("2024-04-16T09:30"), 0)
    in_arrears.round(at("2024-04-16T09:31"), 0)
    in_arrears.receipt(at("2024-04-16T09:31"), 3)
    in_arrears.doubted = False
    in_arrears.round(at("2024-04-16T09:45"), 0)
    assert "DisconnectControlChanged" not in in_arrears.names()
    in_arrears.round(at("2024-04-16T10:01"), 0)
    assert named(in_arrears.events[-1]) == "cut"


def test_a_step_within_the_boot_ends_what_was_to_be_given_back(in_arrears: Any, at: Any) -> None:
    """No one can say which wall was right, the one before the step or the one after."""
    forty_days_s = 40 * 86_400
    in_arrears.elapsed_offset_s = forty_days_s
    in_arrears.round(at("2024-04-13T20:00") - forty_days_s, 0)  # wrong, and nobody knows
    in_arrears.elapsed_offset_s, in_arrears.doubted = 0, True
    in_arrears.round(at("2024-04-13T20:10"), 0)
    started_again(in_arrears, at, "boot-2", at("2024-04-13T20:20"))
    in_arrears.round(at("2024-04-13T20:30"), 0)
    assert grace_of(in_arrears) == 12 * 3600 + 600


def test_a_power_cut_with_a_dead_clock_adds_nothing_to_the_grace(in_arrears: Any, at: Any) -> None:
    in_arrears.round(at("2024-04-14T08:00"), 0)
    in_arrears.boot_id, in_arrears.quality = "boot-2", ClockQuality.UNSET
    in_arrears.elapsed_offset_s = at("2024-01-01T00:00") - at("1970-01-02T00:00") + 100
    in_arrears.round(at("1970-01-02T00:00"), 0)
    in_arrears.quality = ClockQuality.NTP
    in_arrears.elapsed_offset_s = at("2024-01-01T00:00") - at("2024-04-16T07:45") + 3700
    in_arrears.round(at("2024-04-16T07:45"), 0)  # the hour of this boot counts, the two days before it do not
    episode = in_arrears.state.accounts["A01"].episode
    assert episode.grace_elapsed_s == 24 * 3600 + 3600
    assert "DisconnectControlChanged" not in in_arrears.names()
