"""One life of the gateway: the product's own `run_gateway`, on virtual lines, disk and broker.

What the bootstrap takes from outside (the MQTT connection, the local socket, chance, zone files) is
stood in for while a world runs. A power cut makes every port deaf first and cancels the tasks
afterwards, so nothing that happens while they end can be seen. Seconds of the loop.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from edge import bootstrap
from edge.agent.actuation import Actuation
from edge.agent.cloud_link import CloudLink
from edge.agent.facts import SiteFacts
from edge.agent.gateway import Gateway
from edge.agent.metering import Metering
from edge.agent.order_desk import OrderDesk
from edge.agent.pricing import Pricing
from edge.agent.recovery import StandBy
from edge.bootstrap import Prepared
from edge.bus.line import LineMaster
from edge.bus.records import MeterSample
from edge.core.frozen import quickly
from edge.core.step import Stepped
from edge.core.units import ClockReading, WattHours
from edge.store.journal import SqliteJournal
from edge.zone import zone_offsets
from hw.sim.world.broker import Broker, BrokerClient
from hw.sim.world.clock import WorldClock
from hw.sim.world.disk import WorldAnchor
from hw.sim.world.loop import VirtualLoop

PAGES_EVERY = 32  # rounds
_NO_VALUES: Mapping[str, Decimal] = MappingProxyType({})
_sample = quickly(MeterSample)
read_zone = lru_cache(maxsize=64)(zone_offsets)


@contextmanager
def swapped(target: Any, name: str, value: Any) -> Iterator[None]:
    """`target.name` is something else for a while."""
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


class Machine:
    """A gateway from power-on to power-off."""

    def __init__(
        self,
        prepared: Prepared,
        clock: WorldClock,
        anchor: WorldAnchor,
        broker: Broker,
        chance: random.Random,
        on_round: Callable[[], bool],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        """`on_round()` is called after each round and says whether anybody looks at pages now."""
        self.prepared, self.clock, self.anchor = prepared, clock, anchor
        self.on_round, self.on_failed, self.chance = on_round, on_failed, chance
        self.dead = False
        self.client = BrokerClient(broker)
        self.journal: SqliteJournal | None = None
        self.gateway: Gateway | None = None
        self.metering: Metering | None = None
        self.lines: Mapping[str, LineMaster] = {}
        self.actuation: Actuation | None = None
        self.desk: OrderDesk | None = None
        self.cloud: CloudLink | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def recovering(self) -> bool:
        """Whether it stands by because its store may not be gone on with."""
        return self.journal is not None and self.journal.recovery is not None

    def start(self) -> None:
        """Power on."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.powered = True
        stop = asyncio.Event()
        self._task = loop.create_task(bootstrap.run_gateway(self.prepared, self.clock, stop, anchor=self.anchor))
        self._task.add_done_callback(self._ended)

    def give_readings(self, registers: Sequence[tuple[str, int]]) -> None:
        """Readings (meter, register) without their bytes: what the line would have made of them."""
        if self.metering is not None and self.gateway is not None:
            reading = self.gateway.read_clock()
            for meter_id, register_wh in registers:
                self.metering.on_sample(_sample(meter_id, reading, WattHours(register_wh), _NO_VALUES, "good"))

    def ask_reading(self, line_id: str, meter_id: str) -> None:
        """A reading over the bus, whatever its turn."""
        if line_id in self.lines:
            self.lines[line_id].request_reading(meter_id)

    def backlog(self) -> int:
        """Records the cloud has not acknowledged."""
        return 0 if self.cloud is None else sum(self.cloud.view().backlog.values())

    def cut_power(self) -> None:
        """Nothing this gateway does from here on has any effect."""
        self.dead = True
        self.client.dead = True
        self.client.lose()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.cut_power()
        if self.journal is not None:
            self.journal._connection.close()

    async def end(self) -> None:
        """Takes the tasks of a dead machine away."""
        assert self.dead
        supplies = [] if self.actuation is None else list(self.actuation._by_account.values())
        tasks = [supply.task for supply in supplies if supply.task is not None]
        tasks += [] if self._task is None else [self._task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        failure = None if self.gateway is None else self.gateway._failure
        if failure is not None and failure.done() and not failure.cancelled():
            failure.exception()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self.dead or task.cancelled():
            return
        error = task.exception()
        self.on_failed(RuntimeError("run_gateway returned by itself") if error is None else error)


class Wiring:
    """Which machine the bootstrap is building now."""

    machine: Machine

    def __init__(self) -> None:
        self._pricing_of: dict[str, Pricing] = {}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The bootstrap takes the world's parts where it would take the machine's."""
        stand_ins = {
            "open_journal": self._open_journal(bootstrap.open_journal),
            "Gateway": self._gateway_class(),
            "StandBy": _SeldomSeen,
            "_order_desk": self._order_desk(bootstrap._order_desk),
            "_pricing": self._pricing(bootstrap._pricing),
            "_transport": lambda *_: self.machine.client,
            "serve_local_socket": _serve_nobody,
            "zone_offsets": read_zone,
            "random": _Chance(lambda: self.machine.chance),
        }
        with ExitStack() as stack:
            for name, value in stand_ins.items():
                stack.enter_context(swapped(bootstrap, name, value))
            yield

    def _open_journal(self, real: Callable[..., SqliteJournal]) -> Callable[..., SqliteJournal]:
        def opened(*arguments: Any) -> SqliteJournal:
            self.machine.journal = real(*arguments)
            return self.machine.journal

        return opened

    def _order_desk(self, real: Callable[..., OrderDesk | None]) -> Callable[..., OrderDesk | None]:
        def made(*arguments: Any) -> OrderDesk | None:
            self.machine.desk = real(*arguments)
            return self.machine.desk

        return made

    def _pricing(self, real: Callable[[SiteFacts], Pricing]) -> Callable[[SiteFacts], Pricing]:
        """Compiled tariffs follow from documents and time alone: they need not be made anew at each start."""

        def kept(site: SiteFacts) -> Pricing:
            return self._pricing_of.setdefault(site.gateway_id, real(site))

        return kept

    def _gateway_class(self) -> type[Gateway]:
        wiring = self

        class WorldGateway(Gateway):
            """The gateway, with its rounds counted."""

            def connect(self, lines: Mapping[str, LineMaster], actuation: Actuation, cloud: CloudLink | None) -> None:
                machine = wiring.machine
                machine.gateway, machine.metering = self, self._metering
                machine.lines, machine.actuation, machine.cloud = lines, actuation, cloud
                super().connect(lines, actuation, cloud)

            def _publish(self, clock: ClockReading, stepped: Stepped) -> None:
                if wiring.machine.on_round():
                    super()._publish(clock, stepped)

        return WorldGateway


class _SeldomSeen(StandBy):
    """The gateway in RECOVERY, whose pages nobody looks at either: each 32nd is made, to have tried it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._rounds = 0

    def _publish(self) -> None:
        if self._rounds % PAGES_EVERY == 0:
            super()._publish()
        self._rounds += 1


class _Chance:
    """What the bootstrap takes for the module `random`."""

    def __init__(self, source: Callable[[], random.Random]) -> None:
        self._source = source

    def random(self) -> float:
        return self._source().random()


async def _serve_nobody(*_arguments: Any) -> None:
    """Nobody asks on the local socket."""
    await asyncio.Event().wait()
