"""kill -9 of whatever is on the way, during load, on every broker and both databases: 0 lost, 0 doubled."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cloud_sync.faults.street import Street

ROUNDS = 20
KILLS = 2
CHARGES_OUTSIDE = 200


def test_broker_is_killed_under_load_and_nothing_is_lost_or_doubled(street: "Street", play: Any) -> None:
    async def scenario() -> None:
        async with street.running():
            await street.load(ROUNDS)
            street.broker.kill()
            await street.load(ROUNDS)
            street.broker.start()
            await street.load(ROUNDS)
            await street.settled()
            await street.check_books()

    play(scenario())


def test_backend_is_killed_under_load_and_nothing_is_lost_or_doubled(street: "Street", play: Any) -> None:
    async def scenario() -> None:
        async with street.running():
            for _ in range(KILLS):
                await street.takes_records()
                await street.load(ROUNDS)
                street.backend.kill()
                await street.load(ROUNDS // 5)
            await street.settled()
            await street.check_books()

    play(scenario())


def test_server_of_the_database_is_killed_under_load_and_nothing_is_lost_or_doubled(
    street: "Street", databases: Any, play: Any
) -> None:
    """SQLite has no server but the backend: there both die, and the machine with them, but for its disk."""

    async def scenario() -> None:
        async with street.running():
            await street.takes_records()
            await street.load(ROUNDS)
            if databases.server is None:
                street.backend.kill()
                street.broker.kill()
            else:
                databases.kill()
            await street.load(ROUNDS)
            if databases.server is None:
                street.broker.start()
            else:
                await asyncio.to_thread(databases.start)
            await street.load(ROUNDS)
            await street.settled()
            await street.check_books()

    play(scenario())


def test_gateway_is_killed_under_load_and_nothing_is_lost_or_doubled(
    street: "Street", play: Any, comes_true: Any
) -> None:
    killed = "gw-1"

    async def scenario() -> None:
        async with street.running(outside=[killed]):
            card, gateway = street.cards[killed], street.gateway_outside(killed, CHARGES_OUTSIDE)
            try:
                for number in range(KILLS):
                    before = card.heads()["led"].acked_seq
                    gateway.start()
                    street.pay(killed)
                    await comes_true(lambda before=before: card.heads()["led"].acked_seq > before)
                    await street.load(ROUNDS // 5)
                    if number < KILLS - 1:
                        gateway.kill()
                await comes_true(lambda: card.heads()["rdg"].seq == CHARGES_OUTSIDE)
                await street.settled()
                await street.check_books()
            finally:
                gateway.kill()

    play(scenario())
