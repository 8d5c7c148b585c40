"""Keeps the journal and the cloud in step: drives the sync session over a transport.

Reads what is due from the journal, publishes it, moves the journal's mark when the backend has
acknowledged, and hands orders in, unchecked, one after the other. `now` is the event loop's time
in seconds; times of the cloud are Unix seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from cloud_sync.session import (
    Acknowledged,
    Action,
    DocumentArrived,
    Fenced,
    Fetch,
    HelloFacts,
    Leave,
    OrderArrived,
    Publish,
    ServerTime,
    SyncSession,
)
from edge.agent.snapshot import CloudView
from edge.core.units import UnixSeconds
from edge.ports import Journal

ARRIVALS_MAX: Final = 64


class LinkEvents(Protocol):
    """What a transport reports, on the event loop's thread."""

    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...

    def message(self, topic: str, payload: bytes) -> None: ...


class Transport(Protocol):
    """A broker connection that keeps itself up (cloud_sync.transport, or the simulator's)."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool: ...

    def leave(self, reason: str) -> None: ...

    async def run(self, events: LinkEvents) -> None: ...


class CloudLink:
    """Runs until cancelled. A failing journal or handler ends `run` with its exception."""

    def __init__(
        self,
        session: SyncSession,
        transport: Transport,
        journal: Journal,
        hello_facts: Callable[[], HelloFacts],
        on_order: Callable[[bytes], Awaitable[None]],
        on_document: Callable[[bytes], Awaitable[None]],
        on_ack_time: Callable[[UnixSeconds], None],
        on_fenced: Callable[[str], None] | None = None,
    ) -> None:
        """`on_order` and `on_document` get envelopes whose signature nobody has checked yet."""
        self._session = session
        self._transport = transport
        self._journal = journal
        self._hello_facts = hello_facts
        self._on_order = on_order
        self._on_document = on_document
        self._on_ack_time = on_ack_time
        self._on_fenced = on_fenced
        self._fetches: asyncio.Queue[Fetch] = asyncio.Queue()
        self._arrivals: asyncio.Queue[OrderArrived | DocumentArrived] = asyncio.Queue(ARRIVALS_MAX)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._last_ack_at: UnixSeconds | None = None
        self._failure: asyncio.Future[None] | None = None

    async def run(self) -> None:
        self._failure = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._transport.run(self))
                group.create_task(self._serve_fetches())
                group.create_task(self._serve_arrivals())
                group.create_task(_result_of(self._failure))
        finally:
            self._session.disconnected(self._now())
            self._set_timer()

    def notify_appended(self) -> None:
        """The agent has committed: send what is new. Cheap, and harmless at any time."""
        self._perform(self._session.appended(self._journal.heads(), self._now()))

    def view(self) -> CloudView:
        return CloudView(
            connected=self._session.is_connected,
            last_ack_at=self._last_ack_at,
            backlog=self._session.backlog(),
        )

    # --- what the transport reports ---

    def connected(self) -> None:
        self._session.appended(self._journal.heads(), self._now())
        self._perform(self._session.connected(self._hello_facts(), self._now()))

    def disconnected(self, _reason: str) -> None:
        self._perform(self._session.disconnected(self._now()))

    def message(self, topic: str, payload: bytes) -> None:
        self._perform(self._session.message(topic, payload, self._now()))

    # --- what the session wants ---

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish(topic, payload, qos, retain):
                    self._transport.publish(topic, payload, qos, retain)  # a dropped one is sent again in time
                case Fetch():
                    self._fetches.put_nowait(action)
                case Acknowledged(stream, seq):
                    self._journal.acknowledge(stream, seq)
                case OrderArrived() | DocumentArrived():
                    if not self._arrivals.full():  # the cloud repeats what got no result
                        self._arrivals.put_nowait(action)
                case ServerTime(at):
                    self._last_ack_at = UnixSeconds(at)
                    self._on_ack_time(UnixSeconds(at))
                case Leave(reason):
                    self._transport.leave(reason)
                case Fenced(stream):
                    if self._on_fenced is not None:
                        self._on_fenced(stream)
        self._set_timer()

    async def _serve_fetches(self) -> None:
        while True:
            fetch = await self._fetches.get()
            records = await self._journal.read(fetch.stream, fetch.after_seq, fetch.count)
            self._perform(self._session.records(fetch, records, self._now()))

    async def _serve_arrivals(self) -> None:
        """One after the other: an order's commit is finished before the next is looked at."""
        while True:
            arrival = await self._arrivals.get()
            handler = self._on_order if isinstance(arrival, OrderArrived) else self._on_document
            await handler(arrival.envelope)

    def _set_timer(self) -> None:
        due = self._session.get_timer()
        if due == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = self._timer_at = None
        try:
            self._perform(self._session.handle_timer(self._now()))
        except Exception as error:
            # Raised here it would only be logged by the loop; `run` must end with it.
            if self._failure is not None and not self._failure.done():
                self._failure.set_exception(error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _result_of(failure: asyncio.Future[None]) -> None:
    await failure
