"""The gateway between two awaits: cancelled in a commit, overtaken by a payment, and a whole street in one round."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from edge.bus.records import RelayState
from edge.core import events as ev

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000


def test_cancellation_in_a_commit_leaves_the_state_and_the_log_as_one(virtual: Run, kit: Any) -> None:
    """At the end of the agent the round is cancelled; orders are still taken after it, on the same state."""

    async def scenario(cancel_after_s: float) -> Any:
        world = kit.World(kit.House(1, opening_nano=YUAN), slot_s=1800)
        await world.live(6)
        world.poll_once()
        round_ = asyncio.ensure_future(world.gateway.take_round())
        await asyncio.sleep(cancel_after_s)
        round_.cancel()
        await asyncio.gather(round_, return_exceptions=True)
        await world.desk.take_order(kit.seal(kit.credit("M01", 50 * YUAN, "P1")), "cloud")
        assert world.gateway.state == world.log.replay()
        return world

    for tenth_ms in range(40):
        virtual(scenario(tenth_ms / 10_000))


def test_payment_that_overtakes_a_round_is_not_followed_by_its_cut(virtual: Run, kit: Any) -> None:
    """What a round wanted is old when a payment came in between: the wish is that of the newest state."""

    async def scenario() -> Any:
        world = kit.World(*(kit.House(number, opening_nano=(1 if number == 3 else 99) * YUAN) for number in (1, 2, 3)))
        paid: list[asyncio.Future[Any]] = []

        def at_the_cut(events: Sequence[ev.Event]) -> None:
            """Two relays change by hand and the customer pays, all in the moment after the commit."""
            if paid or not any(isinstance(event, ev.DisconnectControlChanged) for event in events):
                return
            for house in list(world.houses.values())[:2]:
                house.switch(False, world.physical_at)
                world.actuation.on_relay(RelayState(house.relay_id, world.read(), False))
            order = kit.seal(kit.credit("M03", 50 * YUAN, "P1"))
            paid.append(asyncio.ensure_future(world.desk.take_order(order, "cloud")))

        world.on_events = at_the_cut
        await world.live(20)
        assert [answer.result().code for answer in paid] == ["applied"]
        return world

    world = virtual(scenario())
    assert len(world.log.of(ev.DisconnectControlChanged)) == 2
    assert world.houses["A03"].commands == []  # paid before the command left


def test_street_that_gets_its_notices_in_one_round_needs_one_receipt_each(virtual: Run, kit: Any) -> None:
    async def scenario() -> tuple[int, int]:
        world = kit.World(*(kit.House(number, opening_nano=YUAN) for number in range(1, 129)))
        await world.live(1)
        submits = 0
        submit = world.gateway.submit

        async def counted(command: Any) -> Any:
            nonlocal submits
            submits += 1
            return await submit(command)

        world.gateway.submit = counted
        await world.live(5)
        return submits, len(world.log.of(ev.NoticeDelivered))

    submits, delivered = virtual(scenario())
    assert delivered == 2 * 128
    assert submits < 1000
