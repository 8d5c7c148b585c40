"""A database that comes back from a backup, and one whose disk is full: 0 lost, 0 doubled after it."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cloud_sync.faults.street import Street

ROUNDS = 20
FILE_BYTES_MAX = 65_536  # less than the database has by then, more than the backend's log
FULL_TIMES = 2


def test_restored_backup_is_filled_up_again_by_the_gateways_and_the_banks(
    street: "Street", databases: Any, play: Any
) -> None:
    async def stop() -> None:
        street.is_kept = False
        street.backend.kill()

    async def scenario() -> None:
        async with street.running():
            await street.takes_records()
            await street.load(ROUNDS)
            await stop()
            await street.banks_are_done()
            copy = await asyncio.to_thread(databases.back_up, street.place)
            street.is_kept = True
            await street.takes_records()
            await street.load(ROUNDS)
            await street.settled()
            await stop()
            await asyncio.to_thread(databases.restore, street.place, copy)
            street.is_kept = True
            await street.load(ROUNDS)
            await street.pay_again()
            await street.settled()
            await street.check_books()

    play(scenario())


def test_full_disk_stops_the_backend_and_costs_nothing(
    street: "Street", databases: Any, play: Any, comes_true: Any
) -> None:
    def fill() -> None:
        if databases.server is None:
            street.backend.limit_files(FILE_BYTES_MAX)
        else:
            databases.limit_files(street.place)

    async def scenario() -> None:
        async with street.running():
            for number in range(FULL_TIMES):
                await street.takes_records()
                await street.load(ROUNDS)
                fill()
                await street.load(ROUNDS)
                await comes_true(lambda number=number: street.backend.text().count("it had to stop") > number)
            await street.settled()
            await street.check_books()

    play(scenario())
