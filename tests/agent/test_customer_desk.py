"""The customer's own wishes: the emergency credit is selected once, recorded with who asked, and answered."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from edge.agent.customer_desk import CustomerDesk
from edge.agent.recovery import StandBy
from edge.core import events as ev
from edge.core.credit_terms import CreditTerms
from edge.core.units import MoneyNano

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000
TERMS = CreditTerms(emergency_limit_nano=MoneyNano(5 * YUAN), emergency_threshold_nano=MoneyNano(2 * YUAN))


def desk_of(world: Any) -> CustomerDesk:
    gateway = world.gateway
    return CustomerDesk(world.read, lambda: gateway.state, gateway.newest_sample, gateway.submit)


def street(kit: Any, opening_nano: int = 10 * YUAN) -> Any:
    policy = replace(kit.policy, credit=TERMS)
    return kit.World(kit.House(1, opening_nano=opening_nano, policy=policy), kit.House(2))


def test_what_is_offered_is_selected_once_with_the_name_of_who_asked(virtual: Run, kit: Any) -> None:
    async def scenario() -> None:
        world = street(kit, 1 * YUAN)
        await world.live(1)
        answer = await desk_of(world).select_emergency_credit("A01", "kiosk")
        assert (answer.accepted, answer.code) == (True, "emergency_selected")
        assert answer.params["limit_nano"] == 5 * YUAN
        assert answer.params["unit"] == "money"
        (selected,) = world.log.of(ev.EmergencyCreditSelected)
        assert (selected.account, selected.actor) == ("A01", "kiosk")
        again = await desk_of(world).select_emergency_credit("A01", "kiosk")
        assert (again.accepted, again.code) == (False, "not_offered")
        assert world.log.replay() == world.gateway.state

    virtual(scenario())


def test_it_is_not_offered_with_a_good_balance_nor_where_there_is_none(virtual: Run, kit: Any) -> None:
    async def scenario() -> None:
        world = street(kit)
        await world.live(1)
        desk = desk_of(world)
        assert [(await desk.select_emergency_credit(name, "console")).code for name in ("A01", "A02", "A09")] == [
            "not_offered", "not_offered", "unknown_account",
        ]  # fmt: skip
        assert world.log.of(ev.EmergencyCreditSelected) == []

    virtual(scenario())


def test_the_snapshot_says_whether_it_may_be_selected_and_in_what_unit(virtual: Run, kit: Any) -> None:
    async def scenario() -> None:
        world = street(kit, 1 * YUAN)
        await world.live(1)
        first, second = world.gateway.snapshots.current.accounts
        assert first.emergency is not None
        assert (first.emergency.status, first.emergency.limit_nano, first.unit) == ("selectable", 5 * YUAN, "money")
        assert second.emergency is None
        await desk_of(world).select_emergency_credit("A01", "console")
        await world.live(1)
        assert world.gateway.snapshots.current.accounts[0].emergency.status in ("invoked", "in_use")

    virtual(scenario())


def test_in_recovery_nothing_is_selected(virtual: Run) -> None:
    door = object.__new__(StandBy)
    answer = virtual(door.select_emergency_credit("A01", "console"))
    assert (answer.accepted, answer.code) == (False, "recovery")
