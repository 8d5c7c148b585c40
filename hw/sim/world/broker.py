"""The broker between gateway and cloud: it loses, delays, doubles, reorders, and is out of reach at times.

And the cloud itself: the reference backend on a database in memory. Delays in seconds of the loop;
`at` of the backend is true Unix seconds.
"""

import asyncio
import random
from collections.abc import Callable

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.session import Publish
from edge.agent.cloud_link import LinkEvents
from hw.sim.world.clock import WorldClock

LATENCY_S = 0.05
COLLECT_S = 0.2  # the backend takes messages of this long in one transaction
ORDERS = ("dn/cmd", "dn/cfg")
RECONNECT_S = 2.0


class Weather:
    """How bad the network is. Shares of messages, and how late one may be."""

    def __init__(self) -> None:
        self.lost = 0.0
        self.doubled = 0.0
        self.late_s = 0.0


class Broker:
    """Carries messages both ways. Everything it drops or delays comes from one chance."""

    def __init__(self, chance: random.Random, cloud: "Cloud", on_up: Callable[[str, bytes], None]) -> None:
        self.weather = Weather()
        self.reachable = True
        self.seen_down: list[tuple[str, bytes]] = []  # what somebody with the broker's password has recorded
        self.money: dict[bytes, tuple[str, int, str]] = {}  # credit orders: account, amount, cid
        self.orders_in_flight = 0
        self.lost = self.doubled = 0
        self.on_down: Callable[[str, bytes], None] = lambda topic, payload: None
        self._chance, self._cloud, self._on_up = chance, cloud, on_up
        self._client: BrokerClient | None = None

    def up(self, message: Publish) -> None:
        """A gateway's publish."""
        self._on_up(message.topic, message.payload)
        for delay_s in self._ways():
            self._send(delay_s, self._cloud.receive, message.topic, message.payload)

    def down(self, message: Publish) -> None:
        """The cloud's publish, or somebody else's who has its password."""
        self.seen_down.append((message.topic, message.payload))
        for delay_s in self._ways():
            self._send(delay_s, self._arrive, message.topic, message.payload)

    def attach(self, client: "BrokerClient") -> None:
        self._client = client

    def detach(self, client: "BrokerClient") -> None:
        if self._client is client:
            self._client = None

    def partition(self) -> None:
        """Nothing passes, and both ends notice."""
        self.reachable = False
        if self._client is not None:
            self._client.lose()

    def heal(self) -> None:
        self.reachable = True

    def _ways(self) -> list[float]:
        """The delays of each copy that arrives."""
        if not self.reachable:
            return []
        if self._chance.random() < self.weather.lost:
            self.lost += 1
            return []
        doubled = self._chance.random() < self.weather.doubled
        self.doubled += doubled
        return [LATENCY_S + self._chance.random() * (0.01 + self.weather.late_s) for _ in range(1 + doubled)]

    def _send(self, delay_s: float, arrive: Callable[[str, bytes], None], topic: str, payload: bytes) -> None:
        self.orders_in_flight += topic.endswith(ORDERS)
        asyncio.get_running_loop().call_later(delay_s, self._land, arrive, topic, payload)

    def _land(self, arrive: Callable[[str, bytes], None], topic: str, payload: bytes) -> None:
        self.orders_in_flight -= topic.endswith(ORDERS)
        if self.reachable:
            arrive(topic, payload)

    def _arrive(self, topic: str, payload: bytes) -> None:
        if self._client is not None:
            self.on_down(topic, payload)
            self._client.arrive(topic, payload)


class BrokerClient:
    """The gateway's connection: implements the Transport of `edge.agent.cloud_link`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._events: LinkEvents | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self.dead = False

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        if self.dead or self._events is None:
            return False
        self._broker.up(Publish(topic, payload, qos, retain))
        return True

    async def run(self, events: LinkEvents) -> None:
        """Connects, and again after each loss, for ever."""
        while True:
            await asyncio.sleep(RECONNECT_S)
            if not self._broker.reachable:
                continue
            self._events = events
            self._lost.clear()
            self._broker.attach(self)
            events.connected()
            await self._lost.wait()
            events.disconnected("connection lost")

    def leave(self, _reason: str) -> None:
        """The gateway gives it up."""
        self.lose()

    def lose(self) -> None:
        """The connection breaks."""
        self._events = None
        self._broker.detach(self)
        self._lost.set()

    def arrive(self, topic: str, payload: bytes) -> None:
        """A message for the gateway."""
        if not self.dead and self._events is not None:
            self._events.message(topic, payload)


class Cloud:
    """The backend, fed in batches, and the relay of its commands."""

    def __init__(self, backend: Backend, clock: WorldClock) -> None:
        self.backend = backend
        self._clock = clock
        self._broker: Broker | None = None
        self._inbox: list[Received] = []

    @property
    def busy(self) -> bool:
        """Whether something was received and not taken yet."""
        return bool(self._inbox)

    def connect(self, broker: Broker) -> None:
        self._broker = broker

    def receive(self, topic: str, payload: bytes) -> None:
        """A message from a gateway; taken together with those of the next moment."""
        if not self._inbox:
            asyncio.get_running_loop().call_later(COLLECT_S, self._take)
        self._inbox.append(Received(topic, payload))

    def relay(self) -> None:
        """Sends commands that are due."""
        self._answer(self.backend.commands_due(asyncio.get_running_loop().time()))

    def _take(self) -> None:
        messages, self._inbox = self._inbox, []
        now = asyncio.get_running_loop().time()
        self._answer(self.backend.take(messages, self._clock.true_at(), now))

    def _answer(self, messages: list[Publish]) -> None:
        assert self._broker is not None
        for message in messages:
            self._broker.down(message)
