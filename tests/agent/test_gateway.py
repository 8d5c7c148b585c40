"""The gateway on virtual time: what it decides, what it does, and that a crash anywhere changes neither."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edge.bus.records import MeterSample, Verdict
from edge.core import events as ev
from edge.core.disconnect_control import ControlState
from edge.core.units import ClockQuality, WattHours

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000
HOUR_S = 1.0  # of the virtual loop
STORY = ("NoticeRaised", "NoticeDelivered", "DisconnectControlChanged", "PaymentApplied", "EpisodeClosed")


def test_story_of_a_customer_runs_from_the_warning_to_the_light(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN), kit.House(2, opening_nano=100 * YUAN))
        await world.live(30, world.pay("A01", 50 * YUAN, at_hour=20))
        return world

    world = virtual(scenario())
    assert [event.number for event in world.log.of(ev.NoticeRaised)] == [1, 2, 3]
    assert [(event.account, event.number) for event in world.log.of(ev.NoticeDelivered)] == [
        ("A01", 1), ("A01", 2), ("A01", 3),
    ]  # fmt: skip
    changes = world.log.of(ev.DisconnectControlChanged)
    assert [(event.account, event.control_state) for event in changes] == [
        ("A01", "ready_for_reconnection"), ("A01", "connected"),
    ]  # fmt: skip
    notice_2 = world.log.of(ev.NoticeDelivered)[1]
    assert changes[0].at >= notice_2.at + 6 * 3600
    assert [event.connected for event in world.log.of(ev.OutputStateObserved) if event.account == "A01"] == [
        True, False, True,
    ]  # fmt: skip
    assert world.houses["A01"].commands == [False, True]
    assert world.houses["A02"].commands == []
    assert world.gateway.state == world.log.replay()


def test_cut_customer_uses_nothing_and_is_charged_nothing(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN))
        await world.live(24)
        return world

    world = virtual(scenario())
    (cut,) = world.log.of(ev.DisconnectControlChanged)
    house = world.houses["A01"]
    assert not house.closed
    # The relay opened at once: what the meter still counted is what flowed while the command was on the wire.
    assert house.energy_ws // 3600 - cut.register_wh <= house.power_w * 60 // 3600
    account = world.gateway.state.accounts["A01"]
    assert account.money_nano == YUAN
    assert account.output_connected is False


def test_protected_customer_is_never_switched_off(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN, protected=True))
        await world.live(30)
        return world

    world = virtual(scenario())
    assert world.log.names("CaseEscalated", "DisconnectControlChanged") == ["CaseEscalated"]
    assert world.houses["A01"].commands == []


# --- crashes ---------------------------------------------------------------------------------

HOURS = 30


def final_books(world: Any) -> dict[str, Any]:
    """What may not depend on where a gateway crashed: money, energy, supply, and what was answered."""
    state = world.log.replay()
    assert state == world.gateway.state
    account = state.accounts["A01"]
    house = world.houses["A01"]
    return {
        "money": account.money_nano,
        "control_state": account.control_state,
        "local_reason": account.local_reason,
        "episode": account.episode,
        "closed": house.closed,
        "output_connected": account.output_connected,
        "applied": state.applied,
        "payments": state.payments,
        "payments_applied": len(world.log.of(ev.PaymentApplied)),
        "notices": sorted({event.number for event in world.log.of(ev.NoticeRaised)}),
        "notices_raised": len(world.log.of(ev.NoticeRaised)),
        "cuts": len(world.log.of(ev.DisconnectControlChanged)),
        "opened": len(world.log.of(ev.AccountOpened)),
        "charged_more_than_metered": account.recorded.register_wh > house.energy_ws // 3600,
    }


async def story(kit: Any, crash_before: int | None = None, crash_after: int | None = None) -> Any:
    world = kit.World(kit.House(1, power_w=1000, opening_nano=YUAN))
    world.log.crash_before, world.log.crash_after = crash_before, crash_after
    await world.live(HOURS, world.pay("A01", 50 * YUAN, at_hour=18))
    return world


def test_crash_at_every_point_ends_in_the_same_books(virtual: Run, kit: Any) -> None:
    undisturbed = virtual(story(kit))
    expected = final_books(undisturbed)
    assert expected["notices_raised"] == 3
    assert expected["cuts"] == 2
    assert undisturbed.starts == 1
    for point in range(1, undisturbed.log.appends + 1):
        for where in ("crash_before", "crash_after"):
            world = virtual(story(kit, **{where: point}))
            assert world.starts == 2, (where, point)
            assert final_books(world) == expected, (where, point)


def test_crash_shortens_no_grace(virtual: Run, kit: Any) -> None:
    async def scenario(point: int | None) -> tuple[int, int]:
        world = await story(kit, crash_after=point)
        receipt = next(event for event in world.log.of(ev.NoticeDelivered) if event.number == 2)
        cut = world.log.of(ev.DisconnectControlChanged)[0]
        return cut.at - receipt.at, world.log.appends

    _, appends = virtual(scenario(None))
    for point in range(1, appends + 1, 3):
        assert virtual(scenario(point))[0] >= 6 * 3600, point


def test_reboot_with_an_unset_clock_shortens_no_grace_and_cuts_nobody(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN))
        await world.live(8)
        world.boot_id, world.quality = "boot-2", ClockQuality.UNSET
        world.clock_offset_s = -1_700_000_000  # back in the seventies
        world.start()
        await world.live(40)
        return world

    world = virtual(scenario())
    assert [event.number for event in world.log.of(ev.NoticeRaised)][:2] == [1, 2]
    assert world.log.of(ev.DisconnectControlChanged) == []
    assert world.houses["A01"].closed


def test_a_clock_that_is_set_is_noted_and_the_graces_are_recorded_by_it_at_once(virtual: Run, kit: Any) -> None:
    """A power cut later, no grace may be measured from the wall as it was before the step."""

    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=100 * YUAN), slot_s=86_400)
        await world.live(3.2)
        world.clock_offset_s = 3600  # the same slot, as far as records go
        await world.live(1)
        return world

    world = virtual(scenario())
    (noted,) = [event for event in world.log.of(ev.ConditionNoted) if event.condition == "clock_set"]
    assert noted.detail == "+3600 s"
    assert [event.at for event in world.log.of(ev.ReadingsRecorded)][1:] == [noted.at]


# --- a journal that fails --------------------------------------------------------------------


def test_nothing_is_acted_on_when_the_journal_fails(virtual: Run, kit: Any) -> None:
    """Whichever append fails: no command leaves the gateway that is not in the log, and the agent ends."""

    async def scenario(fail_at: int | None) -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN))
        world.log.fail_at = fail_at
        published: list[ev.Event] = []
        world.on_events = published.extend
        if fail_at is None:
            await world.live(18)
        else:
            with pytest.raises(OSError, match="disk full"):
                await world.live(18)
        assert published == world.log.events
        assert world.gateway.state == world.log.replay()
        return world

    whole = virtual(scenario(None))
    assert whole.houses["A01"].commands == [False]
    for fail_at in range(1, whole.log.appends + 1):
        world = virtual(scenario(fail_at))
        logged_cut = bool(world.log.of(ev.DisconnectControlChanged))
        assert world.houses["A01"].commands == ([False] if logged_cut else []), fail_at
        assert world.log.appends == fail_at  # and nothing is tried again


def test_failure_in_an_order_ends_the_run_too(virtual: Run, kit: Any) -> None:
    async def scenario() -> None:
        world = kit.World(kit.House(1, opening_nano=YUAN))

        async def pay_on_a_full_disk() -> None:
            await asyncio.sleep(1.25 * HOUR_S)
            world.log.fail_at = 1
            with pytest.raises(OSError, match="disk full"):
                await world.desk.take_order(kit.seal(kit.credit("M01", YUAN, "P1")), "cloud")

        with pytest.raises(OSError, match="disk full"):
            await world.live(10, pay_on_a_full_disk())
        assert "P1" not in world.gateway.state.payments

    virtual(scenario())


# --- opening ---------------------------------------------------------------------------------


def test_account_opens_at_the_first_good_reading_and_nothing_before_it_is_charged(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        house = kit.House(1, opening_nano=7 * YUAN)
        world = kit.World(house)
        world.reading = False
        world.start()
        read: list[tuple[Verdict, int]] = [("confirmed_jump", 9_000_000), ("confirmed_falling", 1), ("good", 1_000_000)]
        for verdict, register_wh in read:
            sample = MeterSample("M01", world.read(), WattHours(register_wh), {}, verdict)
            world.metering.on_sample(sample)
            await world.gateway.take_round()
        return world

    (opened,) = virtual(scenario()).log.of(ev.AccountOpened)
    assert (opened.register_wh, opened.balance_nano) == (1_000_000, 7 * YUAN)


def test_account_waits_for_its_clock_and_its_tariff(virtual: Run, kit: Any) -> None:
    """A first boot in the seventies: nothing is priced that has no price, and the agent goes on."""

    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=7 * YUAN))
        world.quality, world.clock_offset_s = ClockQuality.UNSET, -kit.start_at
        await world.live(3)
        assert world.log.of(ev.AccountOpened) == []
        world.quality, world.clock_offset_s = ClockQuality.NTP, 0
        await world.live(3)
        return world

    (opened,) = virtual(scenario()).log.of(ev.AccountOpened)
    assert opened.register_at > kit.start_at


# --- missing data ----------------------------------------------------------------------------


def test_silent_meter_flips_no_balance_and_is_not_cut(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        house = kit.House(1, opening_nano=YUAN)
        world = kit.World(house)
        await world.live(6)
        assert [event.number for event in world.log.of(ev.NoticeRaised)] == [1, 2]
        house.silent = True
        await world.live(60)
        return world

    world = virtual(scenario())
    assert [event.number for event in world.log.of(ev.NoticeRaised)] == [1, 2, 3]
    assert world.log.of(ev.EpisodeClosed) == []
    assert world.log.of(ev.DisconnectControlChanged) == []
    assert [[code for code, _ in event.blockers] for event in world.log.of(ev.CutDeferred)] == [
        ["not_read_again"], ["stale_reading", "not_read_again"],
    ]  # fmt: skip
    assert world.houses["A01"].commands == []
    silent = [event.condition for event in world.log.of(ev.ConditionNoted) if event.account == "A01"]
    assert silent == ["meter_silent"]


def test_restart_without_any_sample_decides_nothing(virtual: Run, kit: Any) -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        world = kit.World(kit.House(1, opening_nano=YUAN), kit.House(2, opening_nano=2 * YUAN))
        await world.live(5)
        before = world.log.names(*STORY)
        world.reading = False
        world.boot_id = "boot-2"
        world.start()
        await world.live(80)
        assert False not in [*world.houses["A01"].commands, *world.houses["A02"].commands]
        return before, world.log.names(*STORY)

    before, after = virtual(scenario())
    # Time goes on: notice 3 is due by the grace clock. Nobody is cut, and no episode closes, on what was not read.
    assert after[: len(before)] == before
    assert set(after[len(before) :]) <= {"NoticeRaised", "NoticeDelivered"}


def test_restart_finds_the_supply_as_it_was_and_leaves_it_so(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN))
        await world.live(20)
        assert world.gateway.state.accounts["A01"].control_state is ControlState.READY_FOR_RECONNECTION
        world.start()
        await world.live(5)
        return world

    world = virtual(scenario())
    assert world.houses["A01"].commands == [False]
    assert not world.houses["A01"].closed


def test_payment_counts_once_by_whatever_door_it_comes(virtual: Run, kit: Any) -> None:
    async def scenario() -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN))

        async def both_doors() -> None:
            await asyncio.sleep(1.1 * HOUR_S)
            envelope = kit.seal(kit.credit("M01", 5 * YUAN, "P1"))
            first, second = await asyncio.gather(
                world.desk.take_order(envelope, "cloud"), world.desk.take_voucher(envelope.decode())
            )
            world.start()  # and after a restart too
            third = await world.desk.take_order(envelope, "cloud")
            assert [first.code, second.code, third.code] == ["applied", "applied", "duplicate"]

        await world.live(1, both_doors())
        await asyncio.sleep(HOUR_S)
        await both_doors()
        return world

    world = virtual(scenario())
    assert len(world.log.of(ev.PaymentApplied)) == 1
    assert world.log.replay().accounts["A01"].money_nano == 6 * YUAN
