"""Many gateways at once: connects them, gives them slots to commit, and measures when the cloud has them.

A record counts from its commit on the gateway to the backend's signed acknowledgement, which follows the backend's own
commit. `at_once` gateways have a slot under way, the next one begins when one is done: so the figures are of a cloud
that is given as much as it takes and no more. Seconds are the event loop's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_sync.backend.accounts import balances
from cloud_sync.backend.audit import counts
from cloud_sync.backend.database import Database
from hw.sim.fleet.gateway import FleetGateway, Wiring
from hw.sim.fleet.journal import FleetJournal

CONNECTING_AT_ONCE: Final = 50
LOOK_S: Final = 0.01
PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Load:
    """What a fleet does: so many gateways and meters, quarters of an hour, and gateways with one under way."""

    gateways: int
    meters: int
    slots: int
    at_once: int
    has_ledger: bool = True  # else a slot brings readings alone


@dataclass(slots=True)
class Report:
    """What came of it. Latencies are seconds from a commit to its acknowledgement, of the first stream of the load."""

    load: Load
    connect_seconds: float = 0.0
    seconds: float = 0.0
    ledger_records: int = 0
    readings: int = 0
    messages_unbelieved: int = 0
    latencies: list[float] = field(default_factory=list)

    def percentiles(self) -> dict[int, float]:
        """Latency by percentile, by nearest rank."""
        ordered = sorted(self.latencies)
        return {
            share: ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else 0.0 for share in PERCENTILES
        }

    def as_json(self) -> dict[str, Any]:
        """For programs; milliseconds where it says so."""
        seconds = self.seconds or 1.0
        return {
            "gateways": self.load.gateways,
            "meters": self.load.meters,
            "slots": self.load.slots,
            "at_once": self.load.at_once,
            "connect_seconds": round(self.connect_seconds, 3),
            "seconds": round(self.seconds, 3),
            "ledger_records": self.ledger_records,
            "readings": self.readings,
            "ledger_records_per_second": round(self.ledger_records / seconds),
            "readings_per_second": round(self.readings / seconds),
            "latency_ms": {f"p{share}": round(value * 1000) for share, value in self.percentiles().items()},
            "messages_unbelieved": self.messages_unbelieved,
        }


class Fleet:
    """The gateways of a load. `connected()` keeps them up, `run_slots()` makes them work."""

    def __init__(
        self, load: Load, wiring: Wiring, prefix: str = "fleet", progress: Callable[[int, int], None] | None = None
    ) -> None:
        """`progress(done, all)`: slots of single gateways, now and then."""
        self.report = Report(load)
        self.gateways = [
            FleetGateway(gateway_id, load.meters, wiring, FleetJournal(gateway_id))
            for gateway_id in gateway_ids(load.gateways, prefix)
        ]
        self._progress = progress
        self._done = 0

    @asynccontextmanager
    async def connected(self, within_seconds: float = 120.0) -> Any:
        """All gateways are connected inside, and are gone afterwards. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        running: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(within_seconds):
                for index, gateway in enumerate(self.gateways):
                    running.append(asyncio.create_task(gateway.run()))
                    while index - self._count_connected() > CONNECTING_AT_ONCE:
                        await asyncio.sleep(LOOK_S)
                while self._count_connected() < len(self.gateways):
                    await asyncio.sleep(LOOK_S)
            self.report.connect_seconds = loop.time() - began
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def run_slots(self, within_seconds: float) -> None:
        """Commits every slot of the load and waits until all is acknowledged. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = deque(self.gateways)
        async with asyncio.timeout(within_seconds):
            await asyncio.gather(*(self._work(waiting) for _ in range(self.report.load.at_once)))
        self.report.seconds = loop.time() - began
        self.report.messages_unbelieved = sum(gateway.session.refusals.total() for gateway in self.gateways)

    async def _work(self, waiting: deque[FleetGateway]) -> None:
        slots = self.report.load.slots
        while waiting:
            gateway = waiting.popleft()
            await self._one_slot(gateway)
            if gateway.slot < slots:
                waiting.append(gateway)  # a gateway has one slot under way
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, slots * len(self.gateways))

    async def _one_slot(self, gateway: FleetGateway) -> None:
        loop = asyncio.get_running_loop()
        acknowledged, began = asyncio.Event(), loop.time()
        report, journal = self.report, gateway.journal
        measured = "led" if report.load.has_ledger else "rdg"

        def note(stream: str) -> None:
            if stream == measured and journal.is_acknowledged(measured):
                report.latencies.append(loop.time() - began)
            if journal.is_acknowledged():
                acknowledged.set()

        journal.on_acknowledged = note
        records = gateway.commit_slot(report.load.has_ledger)
        await acknowledged.wait()
        report.ledger_records += records
        report.readings += report.load.meters

    def _count_connected(self) -> int:
        return sum(gateway.link.view().connected for gateway in self.gateways)

    def disagreements(self, database: Database) -> Iterator[str]:
        """Where the cloud's records or balances are not the gateways', one sentence each."""
        known: dict[str, dict[str, int]] = {}
        for balance in balances(database):
            known.setdefault(balance.gateway_id, {})[balance.account_id] = balance.money_nano
        for gateway in self.gateways:
            there = counts(database, gateway.gateway_id)
            here = {stream: head.seq for stream, head in gateway.journal.heads().items() if head.seq}
            if there != here:
                yield f"{gateway.gateway_id}: records here {here}, in the cloud {there}"
            yield from _differences(gateway.gateway_id, gateway.balances(), known.get(gateway.gateway_id, {}))


def gateway_ids(count: int, prefix: str = "fleet") -> list[str]:
    """The ids of a fleet's gateways: what a backend must have enrolled."""
    return [f"{prefix}-{number:05d}" for number in range(1, count + 1)]


def _differences(gateway_id: str, here: Mapping[str, int], there: Mapping[str, int]) -> Iterator[str]:
    for account in sorted(here.keys() | there.keys()):
        if here.get(account, 0) != there.get(account, 0):
            yield f"{gateway_id} {account}: {here.get(account)} nano here, {there.get(account)} in the cloud"
