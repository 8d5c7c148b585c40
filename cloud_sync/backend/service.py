"""A worker of the reference backend: one broker connection, one database thread.

Messages are collected while a commit runs and committed together; answers go out after it. What
does not fit the queue is dropped: the gateways send it again, since nobody acknowledged it.
"""

import asyncio
import secrets
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.session import Publish
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings
from cloud_sync.wire import PAYLOAD_BYTES_MAX, UP_TOPICS

if TYPE_CHECKING:
    import ssl

MESSAGES_PER_COMMIT_MAX: Final = 500
QUEUE_MESSAGES_MAX: Final = 5000

_Answer = TypeVar("_Answer")


COMMIT_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # bounds of the histogram


@dataclass(slots=True)
class Flow:
    """What went through since the start."""

    commits: int = 0
    commit_seconds: float = 0.0  # all of them, with their transactions
    commits_within: list[int] = field(default_factory=lambda: [0] * len(COMMIT_SECONDS))  # each bound's and no less
    dropped: int = 0  # messages the queue had no room for
    connections: int = 0

    def count(self, seconds: float) -> None:
        """A transaction that took so long."""
        self.commits += 1
        self.commit_seconds += seconds
        index = bisect_left(COMMIT_SECONDS, seconds)
        if index < len(COMMIT_SECONDS):
            self.commits_within[index] += 1


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Seconds are the event loop's time."""

    brokers: tuple[BrokerAddress, ...]
    relay_seconds: float = 1.0  # how often the command table is looked at
    timer_seconds_max: float | None = None  # demos and tests: no reconnect pause is longer
    tls: "ssl.SSLContext | None" = None
    topics: tuple[str, ...] = UP_TOPICS
    takes: Callable[[str], bool] = lambda _topic: True  # which of them are this worker's


def wall_clock() -> int:
    """Unix seconds of this host."""
    return int(time.time())


class BackendService:
    """Runs until cancelled. `open_backend` is called on the database thread, which alone uses the result."""

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        settings: ServiceSettings,
        clock: Callable[[], int] = wall_clock,
        say: Callable[..., None] = lambda _event, **_details: None,
    ) -> None:
        """`clock` gives the Unix seconds that acks and orders carry. `say(event, **details)` writes a line of a log."""
        self.flow = Flow()
        self.has_started = False  # its database was opened
        self._say = say
        self.connected_event = asyncio.Event()
        self._open_backend = open_backend
        self._settings = settings
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="backend-database")
        self._backend: asyncio.Task[Backend] | None = None
        self._queue: deque[Received] = deque()
        self._wake = asyncio.Event()
        self._is_asked = False
        self._transport = MqttTransport(_transport_settings(settings), secrets.SystemRandom().random)

    async def run(self) -> None:
        """Serves. Ends with cancellation, or with the exception of a database that failed."""
        try:
            await self.call(lambda _backend: None)  # a database that cannot be opened ends it here
            self.has_started = True
            async with asyncio.TaskGroup() as group:
                group.create_task(self._transport.run(self))
                group.create_task(self._work())
        finally:
            if self._backend is not None and self._backend.done() and not self._backend.exception():
                await asyncio.get_running_loop().run_in_executor(self._executor, self._backend.result().close)
            self._executor.shutdown(wait=False)

    async def call(self, ask: Callable[[Backend], _Answer]) -> _Answer:
        """Runs `ask(backend)` on the database thread: place an order, read balances."""
        loop = asyncio.get_running_loop()
        if self._backend is None:
            self._backend = asyncio.ensure_future(self._opened())
        backend = await asyncio.shield(self._backend)
        answer = await loop.run_in_executor(self._executor, ask, backend)
        self._is_asked = True  # an order may have been placed
        self._wake.set()
        return answer

    @property
    def is_connected(self) -> bool:
        """Whether a broker has granted the subscriptions."""
        return self.connected_event.is_set()

    @property
    def queued(self) -> int:
        """Messages that wait for a transaction."""
        return len(self._queue)

    async def _opened(self) -> Backend:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._open_backend)

    # --- what the transport reports ---

    def connected(self) -> None:
        self.flow.connections += 1
        self.connected_event.set()
        self._say("connected")

    def disconnected(self, reason: str) -> None:
        self.connected_event.clear()
        self._say("disconnected", reason=reason)

    def message(self, topic: str, payload: bytes) -> None:
        if not self._settings.takes(topic):
            return
        if len(self._queue) >= QUEUE_MESSAGES_MAX:
            self.flow.dropped += 1
            return
        # One byte more than allowed is enough for the refusal, so a giant is not kept in memory.
        self._queue.append(Received(topic, payload[: PAYLOAD_BYTES_MAX + 1]))
        self._wake.set()

    # --- the work ---

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        relay_at = 0.0
        while True:
            if not self._queue and loop.time() < relay_at:
                await self._sleep_until(relay_at)
            self._wake.clear()
            messages = [self._queue.popleft() for _ in range(min(len(self._queue), MESSAGES_PER_COMMIT_MAX))]
            if messages:
                began = loop.time()
                self._answer(await self._on_database(partial(_take, messages, self._clock(), began)))
                self.flow.count(loop.time() - began)
            if self._is_asked or loop.time() >= relay_at:
                self._is_asked = False
                if self._transport.is_connected:
                    self._answer(await self._on_database(partial(_due, self._clock(), loop.time())))
                relay_at = loop.time() + self._settings.relay_seconds

    async def _sleep_until(self, when: float) -> None:
        try:
            async with asyncio.timeout_at(when):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _on_database(self, ask: Callable[[Backend], list[Publish]]) -> list[Publish]:
        assert self._backend is not None
        return await asyncio.get_running_loop().run_in_executor(self._executor, ask, self._backend.result())

    def _answer(self, messages: list[Publish]) -> None:
        for message in messages:
            self._transport.publish(message.topic, message.payload, message.qos, message.retain)


def _take(messages: list[Received], at: int, now: float, backend: Backend) -> list[Publish]:
    return backend.take(messages, at, now)


def _due(at: int, now: float, backend: Backend) -> list[Publish]:
    return [*backend.commands_due(now), *backend.marks_due(at, now)]


def _transport_settings(settings: ServiceSettings) -> TransportSettings:
    transport = TransportSettings(
        client_id=f"backend-{secrets.token_hex(6)}",
        brokers=settings.brokers,
        topics=settings.topics,
        waiting_max=4096,
        tls=settings.tls,
    )
    return transport if settings.timer_seconds_max is None else transport.capped(settings.timer_seconds_max)
