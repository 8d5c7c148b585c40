"""The link between journal and cloud: what it reads, what it moves, and how it ends."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cloud_sync.acks import sign_ack
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.wire import Ack, Mark, decode_batch, topic_of
from edge.agent.cloud_link import ARRIVALS_MAX, CloudLink, LinkEvents

GATEWAY = "gw-1"


class Pipe:
    """A transport under the test's hand."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.events: LinkEvents | None = None

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        self.sent.append((topic.rpartition("/")[2], payload))
        return True

    def leave(self, reason: str) -> None:
        raise AssertionError(reason)

    async def run(self, events: LinkEvents) -> None:
        self.events = events
        await asyncio.Event().wait()

    def spans(self) -> list[tuple[int, int]]:
        batches = [decode_batch(payload, GATEWAY, "led") for name, payload in self.sent if name == "led"]
        return [(batch.first, batch.first + len(batch.bodies) - 1) for batch in batches]


class Street:
    """A link with everything around it, running."""

    def __init__(self, journal: Any, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
        self.journal = journal
        self.pipe = Pipe()
        self.orders: list[bytes] = []
        self.documents: list[bytes] = []
        self.times: list[int] = []
        self.fenced: list[str] = []
        self.hold: asyncio.Event | None = None
        self.signer = signers[Role.INGEST]
        settings = SessionSettings().capped(0.05)
        session = SyncSession(GATEWAY, "boot", "1", journal.heads(), ring, lambda: 0.0, settings)
        facts = HelloFacts(at=5, clock_quality="ntp", roster=())
        self.link = CloudLink(
            session, self.pipe, journal, lambda: facts, self.take_order, self.take_document, self.times.append,
            self.fenced.append,
        )  # fmt: skip

    async def take_order(self, envelope: bytes) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.orders.append(envelope)
        if envelope == b"bug":
            raise KeyError("bug")

    async def take_document(self, envelope: bytes) -> None:
        self.documents.append(envelope)

    def arrive(self, channel: str, payload: bytes) -> None:
        assert self.pipe.events is not None
        self.pipe.events.message(topic_of(GATEWAY, channel), payload)

    def acknowledge(self, seq: int, at: int = 9000) -> None:
        mark = Mark(1, seq, self.journal.records["led"][seq - 1].hash.hex())
        ack = Ack(v=1, gw=GATEWAY, kid=self.signer.kid, at=at, marks={"led": mark})
        self.arrive("dn/ack", sign_ack(ack, self.signer))


@pytest.fixture
def with_street(
    journal: Any, ring: KeyRing, signers: Mapping[Role, Signer], run_async: Any, comes_true: Any
) -> Callable[[Callable[[Street], Any]], None]:
    """Runs a scenario beside a running link, and ends the link with it."""

    def run(scenario: Callable[[Street], Any]) -> None:
        async def both() -> None:
            street = Street(journal, ring, signers)
            task = asyncio.create_task(street.link.run())
            await comes_true(lambda: street.pipe.events is not None)
            try:
                await scenario(street)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        run_async(both())

    return run


def test_committed_records_go_out_and_the_ack_moves_the_journals_mark(with_street: Any, comes_true: Any) -> None:
    async def scenario(street: Street) -> None:
        street.journal.write("led", b"{}")
        street.link.notify_appended()
        assert street.pipe.sent == []
        assert not street.link.view().connected
        street.pipe.events.connected()  # type: ignore[union-attr]
        await comes_true(lambda: street.pipe.spans() == [(1, 1)])
        assert [name for name, _ in street.pipe.sent] == ["st", "hello", "led"]
        street.journal.write("led", b"{}")
        street.link.notify_appended()
        await comes_true(lambda: street.pipe.spans() == [(1, 1), (2, 2)])
        assert street.link.view().backlog["led"] == 2
        street.acknowledge(2)
        assert street.journal.acked["led"] == 2
        assert street.times == [9000]
        view = street.link.view()
        assert (view.connected, view.last_ack_at, view.backlog["led"]) == (True, 9000, 0)

    with_street(scenario)


def test_without_an_ack_it_is_sent_again(with_street: Any, comes_true: Any) -> None:
    async def scenario(street: Street) -> None:
        street.journal.write("led", b"{}")
        street.pipe.events.connected()  # type: ignore[union-attr]
        await comes_true(lambda: len(street.pipe.spans()) == 3)
        street.acknowledge(1)
        assert street.journal.acked["led"] == 1

    with_street(scenario)


def test_lost_connection_shows_and_stops_the_sending(with_street: Any, comes_true: Any) -> None:
    async def scenario(street: Street) -> None:
        street.pipe.events.connected()  # type: ignore[union-attr]
        assert street.link.view().connected
        street.pipe.events.disconnected("gone")  # type: ignore[union-attr]
        street.pipe.sent.clear()
        street.journal.write("led", b"{}")
        street.link.notify_appended()
        assert not street.link.view().connected
        street.pipe.events.connected()  # type: ignore[union-attr]
        await comes_true(lambda: street.pipe.spans() == [(1, 1)])

    with_street(scenario)


def test_orders_are_handed_in_one_after_the_other_and_too_many_are_dropped(with_street: Any, comes_true: Any) -> None:
    async def scenario(street: Street) -> None:
        street.hold = asyncio.Event()
        street.pipe.events.connected()  # type: ignore[union-attr]
        for number in range(ARRIVALS_MAX + 20):
            street.arrive("dn/cmd", b"%d" % number)
        street.hold.set()
        await comes_true(lambda: len(street.orders) == ARRIVALS_MAX)
        street.arrive("dn/cfg", b"document")
        await comes_true(lambda: street.documents == [b"document"])
        assert street.orders == [b"%d" % number for number in range(ARRIVALS_MAX)]

    with_street(scenario)


def test_forged_ack_moves_nothing(with_street: Any, comes_true: Any, signers: Mapping[Role, Signer]) -> None:
    async def scenario(street: Street) -> None:
        street.journal.write("led", b"{}")
        street.pipe.events.connected()  # type: ignore[union-attr]
        await comes_true(lambda: street.pipe.spans())
        street.signer = signers[Role.OPS]
        street.acknowledge(1)
        assert street.journal.acked["led"] == 0
        assert street.times == []

    with_street(scenario)


def test_fence_is_reported_to_the_agent(with_street: Any) -> None:
    async def scenario(street: Street) -> None:
        street.pipe.events.connected()  # type: ignore[union-attr]
        mark = Mark(2, 0, "0" * 64, fenced=True)
        ack = Ack(v=1, gw=GATEWAY, kid=street.signer.kid, at=1, marks={"led": mark})
        street.arrive("dn/ack", sign_ack(ack, street.signer))
        assert street.fenced == ["led"]

    with_street(scenario)


@pytest.mark.parametrize("where", ["handler", "journal"])
def test_failure_of_a_handler_or_the_journal_ends_the_run(
    where: str, journal: Any, ring: KeyRing, signers: Mapping[Role, Signer], run_async: Any, comes_true: Any
) -> None:
    async def scenario() -> None:
        street = Street(journal, ring, signers)
        task = asyncio.create_task(street.link.run())
        await comes_true(lambda: street.pipe.events is not None)
        journal.write("led", b"{}")
        if where == "journal":
            journal.records["led"] = None
            journal.heads = dict
        street.pipe.events.connected()  # type: ignore[union-attr]
        street.arrive("dn/cmd", b"bug")
        with pytest.raises(ExceptionGroup) as failed:
            await task
        assert isinstance(failed.value.exceptions[0], KeyError if where == "handler" else TypeError)
        assert not street.link.view().connected

    if where == "journal":
        journal.write("led", b"{}")
    run_async(scenario())
