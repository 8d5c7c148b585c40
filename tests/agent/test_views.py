"""The street as pages see it: what is shown is what was decided by, and nothing is decided here."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.agent.views import Sources, make_snapshot
from edge.bus.records import DeviceStatus
from edge.core.charge import Figures

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000


@pytest.fixture
def snapshot(virtual: Run, kit: Any) -> Callable[..., StreetSnapshot]:
    """The snapshot of one house after some hours."""

    def take(hours: float, *, silent_from: float | None = None, **house: Any) -> StreetSnapshot:
        async def scenario() -> StreetSnapshot:
            world = kit.World(kit.House(1, **house))
            await world.live(hours if silent_from is None else silent_from)
            if silent_from is not None:
                world.houses["A01"].silent = True
                await world.live(hours - silent_from)
            found = world.gateway.snapshots.current
            assert isinstance(found, StreetSnapshot)
            return found

        result = virtual(scenario())
        assert isinstance(result, StreetSnapshot)
        return result

    return take


def test_snapshot_says_who_where_and_when(snapshot: Any, kit: Any) -> None:
    street = snapshot(2, opening_nano=10 * YUAN)
    assert (street.gateway_id, street.currency, street.minor_digits) == ("gw-1", "CNY", 2)
    assert (street.time_zone, street.utc_offset_s, street.clock_quality) == ("Asia/Shanghai", 8 * 3600, "ntp")
    assert kit.start_at < street.at <= kit.start_at + 2 * 3600
    assert street.version > 1
    assert street.journal_seq > 0
    (line,) = street.lines
    assert (line.line_id, line.address, line.open) == ("line-1", "/dev/ttyUSB0", True)
    (account,) = street.accounts
    assert (account.account_id, account.meter_id, account.position) == ("A01", "M01", "cabinet 1")


def test_money_estimate_and_balance_of_a_snapshot_agree(snapshot: Any) -> None:
    for hours in (1, 5, 12):
        (account,) = snapshot(hours, opening_nano=10 * YUAN).accounts
        assert account.money_nano - account.estimate_nano == account.live_balance_nano
        assert account.estimate_nano > 0


def test_days_left_are_whole_days_and_none_below_zero(snapshot: Any) -> None:
    # 600 W is 14.4 kWh or about 7.7 yuan a day.
    (plenty,) = snapshot(26, opening_nano=50 * YUAN).accounts
    assert plenty.days_left is not None
    assert 3 <= plenty.days_left <= 6
    (little,) = snapshot(3, opening_nano=YUAN).accounts
    assert little.days_left == 0
    (nothing,) = snapshot(8, opening_nano=YUAN).accounts
    assert nothing.live_balance_nano < 0
    assert nothing.days_left is None
    assert nothing.suggested_top_up_nano > -nothing.live_balance_nano
    assert nothing.suggested_top_up_nano % 10_000_000 == 0


def test_days_left_are_unknown_without_a_reserve(snapshot: Any, kit: Any) -> None:
    (account,) = snapshot(2, opening_nano=10 * YUAN, policy=replace(kit.policy, reserve_days=0)).accounts
    assert account.days_left is None


def test_customer_in_arrears_has_notices_a_cut_instant_and_blockers(snapshot: Any) -> None:
    (account,) = snapshot(8, opening_nano=YUAN).accounts
    assert [notice.number for notice in account.notices] == [1, 2]
    assert all(notice.receipt_at is not None and notice.proof == "local_display" for notice in account.notices)
    notice_2 = account.notices[1]
    assert account.grace_ends_at is not None
    assert account.grace_ends_at >= notice_2.receipt_at + 6 * 3600
    assert [blocker.code for blocker in account.blockers] == ["notice_not_delivered"]


def test_customer_with_only_a_warning_has_no_cut_instant(snapshot: Any) -> None:
    (account,) = snapshot(2, opening_nano=YUAN).accounts
    assert [notice.number for notice in account.notices] == [1]
    assert account.grace_ends_at is None
    assert account.blockers == ()


def test_cut_customer_shows_why_and_what_was_read_back(snapshot: Any) -> None:
    (account,) = snapshot(18, opening_nano=YUAN).accounts
    assert (account.control_state, account.control_reason) == ("ready_for_reconnection", "no_credit")
    assert account.output_connected is False


def test_silent_meter_keeps_its_last_reading_and_says_so(snapshot: Any, kit: Any) -> None:
    (account,) = snapshot(10, silent_from=4, opening_nano=10 * YUAN).accounts
    assert account.communication.state == "silent"
    assert account.communication.last_error == "timeout"
    assert account.reading_at <= kit.start_at + 4 * 3600


STATUS = DeviceStatus(1, ("M01",), (), 95, 5, 2, {"timeout": 5}, None, "timeout", False)


@pytest.mark.parametrize(
    ("ok", "failed", "heard", "silent", "state"),
    [
        (100, 0, True, False, "good"),
        (95, 5, True, False, "good"),  # one request in twenty
        (94, 6, True, False, "degraded"),
        (0, 0, False, False, "never"),
        (0, 9, False, True, "never"),
        (100, 9, True, True, "silent"),
    ],
)
def test_quality_of_communication_is_told_in_four_words(
    virtual: Run, kit: Any, ok: int, failed: int, heard: bool, silent: bool, state: str
) -> None:
    async def scenario() -> AccountView:
        world = kit.World(kit.House(1, opening_nano=10 * YUAN))
        await world.live(1)
        clock = world.read()
        status = replace(STATUS, polls_ok=ok, polls_failed=failed, last_ok=clock if heard else None, silent=silent)
        gateway = world.gateway
        stepped = await gateway.take_round()
        assert stepped is None
        sources = Sources(
            site=gateway.site,
            metering=world.metering,
            lines={"line-1": replace(world.view(), devices={1: status})},
            cloud=gateway.snapshots.current.cloud,
            ledger_head=world.log.heads()["led"],
            cloud_silent_s=None,
            switching=lambda _account_id: False,
        )
        rating = gateway.rating()
        account = gateway.state.accounts["A01"]
        from edge.core.charge import figures_of

        figures: dict[str, Figures] = figures_of(rating, [account], {})
        view = make_snapshot(1, gateway.state, figures, rating, clock, sources).accounts[0]
        assert (view.communication.polls_ok, view.communication.polls_failed) == (ok, failed)
        return view

    assert virtual(scenario()).communication.state == state
