"""kill -9 of whatever is on the way, during load, on every broker and both databases: 0 lost, 0 doubled."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cloud_sync.faults.street import Street

ROUNDS = 30


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
