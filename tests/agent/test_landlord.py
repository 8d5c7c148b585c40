"""One payer, several meters, in the street: one balance, blocks on the sum, and a silent room cuts nobody."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from edge.agent.facts import AccountFacts, MeterPlace, SiteFacts
from edge.agent.metering import POWER_POINT, MeterFacts, Metering
from edge.bus.records import MeterSample
from edge.core import events as ev
from edge.core.units import ClockQuality, ClockReading, UnixSeconds, WattHours

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000


@pytest.fixture
def landlords_street(kit: Any) -> Callable[..., Any]:
    """A street where the first house pays for the second and third too; the fourth pays for itself."""

    class LandlordsWorld(kit.World):  # type: ignore[misc]
        def accounts_by_meter(self) -> dict[str, str]:
            return {"M01": "A01", "M02": "A01", "M03": "A01", "M04": "A04"}

        def site(self) -> SiteFacts:
            site: SiteFacts = super().site()
            landlord, second, third, other = site.accounts
            return replace(site, accounts=(replace(landlord, other_meters=(place(second), place(third))), other))

    def make(opening_nano: int, **changes: Any) -> Any:
        houses = [kit.House(number, power_w=100 * number, opening_nano=opening_nano) for number in (1, 2, 3, 4)]
        return LandlordsWorld(*houses, **changes)

    return make


def place(facts: AccountFacts) -> MeterPlace:
    return MeterPlace(facts.meter_id, facts.line_id, facts.device_id, facts.position)


def test_one_balance_pays_for_all_rooms_to_the_watt_hour(virtual: Run, landlords_street: Any) -> None:
    async def scenario() -> Any:
        world = landlords_street(1000 * YUAN, slot_s=900)
        await world.live(30)
        return world

    world = virtual(scenario())
    assert sorted(world.gateway.state.accounts) == ["A01", "A04"]
    account = world.gateway.state.accounts["A01"]
    start_wh = world.log.of(ev.AccountOpened)[0].register_wh
    used_wh = account.recorded.register_wh - start_wh
    hours = (account.recorded.at - account.opened_at) / 3600
    assert abs(used_wh - 600 * hours) <= 3  # 100 + 200 + 300 W; each register is cut off to whole watt-hours
    assert account.consumed_wh == used_wh
    assert world.gateway.state == world.log.replay()


def test_a_payment_for_any_room_is_the_landlords(virtual: Run, landlords_street: Any) -> None:
    async def scenario() -> Any:
        world = landlords_street(100 * YUAN)
        await world.live(12, world.pay("A03", 50 * YUAN, at_hour=6))
        return world

    [paid] = virtual(scenario()).log.of(ev.PaymentApplied)
    assert (paid.account, paid.amount_nano) == ("A01", 50 * YUAN)


def test_a_silent_room_leaves_the_landlord_uncut_and_is_told(virtual: Run, landlords_street: Any) -> None:
    async def scenario() -> Any:
        world = landlords_street(YUAN)
        await world.live(2)
        world.houses["A03"].silent = True
        await world.live(30)
        cut_while_silent = list(world.log.of(ev.DisconnectControlChanged))
        world.houses["A03"].silent = False
        await world.live(30)
        return world, cut_while_silent

    world, cut_while_silent = virtual(scenario())
    assert [event.account for event in cut_while_silent] == ["A04"]
    assert "A01" in [event.account for event in world.log.of(ev.DisconnectControlChanged)]
    noted = [(e.account, e.condition) for e in world.log.of(ev.ConditionNoted) if e.condition.startswith("meter_")]
    assert noted == [("A01", "meter_silent"), ("A01", "meter_answers")]
    # His relay is the one at the first meter; the rooms have none of their own.
    assert world.houses["A01"].commands == [False]
    assert world.houses["A02"].commands == world.houses["A03"].commands == []


def test_pages_see_all_meters_with_their_own_registers(virtual: Run, landlords_street: Any) -> None:
    async def scenario() -> Any:
        world = landlords_street(100 * YUAN)
        await world.live(3)
        return world

    world = virtual(scenario())
    snapshot = world.gateway.snapshots.current
    assert [view.account_id for view in snapshot.accounts] == ["A01", "A04"]
    view = snapshot.accounts[0]
    others = [(one.meter_id, one.position, one.communication.state) for one in view.other_meters]
    assert others == [("M02", "cabinet 2", "good"), ("M03", "cabinet 3", "good")]
    first_wh = view.register_wh - sum(one.register_wh for one in view.other_meters)
    assert world.metering.newest("M01").register_wh - first_wh in (0, 50)  # the street may have been read once more
    assert snapshot.accounts[1].other_meters == ()


def test_the_account_opens_when_every_room_has_been_read(virtual: Run, landlords_street: Any) -> None:
    async def scenario() -> Any:
        world = landlords_street(100 * YUAN)
        world.houses["A02"].silent = True
        await world.live(2)
        before = sorted(world.gateway.state.accounts)
        world.houses["A02"].silent = False
        await world.live(2)
        return before, sorted(world.gateway.state.accounts)

    assert virtual(scenario()) == (["A04"], ["A01", "A04"])


def test_a_load_limit_goes_by_the_power_of_all_meters() -> None:
    metering = Metering({name: MeterFacts("A1", name, 5_000, WattHours(1), None) for name in ("M1", "M2")})
    for at in (0, 60, 120):
        clock = ClockReading(UnixSeconds(at), at * 1000, "boot-1", ClockQuality.NTP)
        for name in ("M1", "M2"):
            metering.on_sample(MeterSample(name, clock, WattHours(at), {POWER_POINT: Decimal(600)}, "good"))
        [sample] = metering.samples({"A1"}, {"A1": 1_000})
    assert sample.power_over_s == 120
    [sample] = metering.samples({"A1"}, {"A1": 1_200})
    assert sample.power_over_s == 0
    assert (sample.register_wh, metering.latest("M2").register_wh) == (240, 240)  # type: ignore[union-attr]
    assert metering.samples({"A2"}) == ()
