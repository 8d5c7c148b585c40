"""Messages that a line, or a neighbour, doubles, turns round, loses, cuts or changes: 0 lost, 0 doubled after it."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cloud_sync.faults.street import Street

ROUNDS = 25
# What is done to messages: whether the backend must have noticed that it cannot believe some of them.
TROUBLES = {
    "duplicated": False,
    "reordered": False,
    "dropped": False,
    "truncated": True,
    "forged": True,
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: f"messages are {trouble}")
def test_messages_that_suffer_on_both_sides_of_the_broker_cost_nothing(
    street: "Street", play: Any, trouble: str
) -> None:
    async def scenario() -> None:
        async with street.running(piped=True):
            await street.takes_records()
            for pipe in street.pipes:
                pipe.trouble = frozenset({trouble})
            await street.load(ROUNDS)
            for pipe in street.pipes:
                assert pipe.done[trouble] > 0
                pipe.trouble = frozenset()
            await street.load(ROUNDS // 5)
            await street.settled()
            await street.check_books()
            assert bool(await street.quarantined()) >= TROUBLES[trouble], "the attempt is visible"

    play(scenario())


def test_everything_at_once_on_connections_that_break_costs_nothing(street: "Street", play: Any) -> None:
    async def scenario() -> None:
        async with street.running(piped=True):
            await street.takes_records()
            for _ in range(3):
                for pipe in street.pipes:
                    pipe.trouble = frozenset(TROUBLES)
                await street.load(ROUNDS // 3)
                for pipe in street.pipes:
                    pipe.cut()
            for pipe in street.pipes:
                pipe.trouble = frozenset()
            await street.settled()
            await street.check_books()

    play(scenario())
