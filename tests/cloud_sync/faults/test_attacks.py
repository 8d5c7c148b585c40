"""Whoever may publish anything still moves no mark and no money, and two devices with one identity are told."""

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_sync.acks import sign_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.keys import Role, generate_keys, load_signers
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings
from cloud_sync.wire import Ack, Mark, topic_of

if TYPE_CHECKING:
    from tests.cloud_sync.faults.street import Street

ROUNDS = 25
REPEATS = 3
PAUSE_S = 0.5


class Thief:
    """A client with stolen credentials: it hears everything and may say anything."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        settings = TransportSettings("thief", (BrokerAddress("127.0.0.1", port),), ("mg/1/#",), waiting_max=100_000)
        self._transport = MqttTransport(settings.capped(0.2), random.Random(3).random)

    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...

    def message(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))

    def heard_on(self, channel: str) -> list[tuple[str, bytes]]:
        return [(topic, payload) for topic, payload in self.heard if topic.endswith(channel)]

    def say(self, topic: str, payload: bytes) -> None:
        assert self._transport.publish(topic, payload, 1, False)

    @contextlib.asynccontextmanager
    async def listening(self, comes_true: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(self._transport.run(self))
        try:
            await comes_true(lambda: self._transport.is_connected)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def forged_acks(street: "Street", gateway_id: str) -> list[bytes]:
    """What does not come from the ingest key, each as true as a thief can make it: it names records that are there."""
    head = street.cards[gateway_id].heads()["led"]
    marks = {"led": Mark(1, head.seq, head.hash.hex())}
    _ring, others = generate_keys()
    own = load_signers(street.keys)
    forged = [
        sign_ack(Ack(v=1, gw=gateway_id, kid=signer.kid, at=2**33, marks=marks), signer)
        for signer in (others[Role.INGEST], own[Role.VEND], own[Role.OPS])
    ]
    foreign = Ack(v=1, gw="gw-9", kid=own[Role.INGEST].kid, at=2**33, marks=marks)
    return [*forged, *(one[:-1] for one in forged), sign_ack(foreign, own[Role.INGEST]), b"", b"\1" * 100]


def test_forged_acks_stop_no_record_from_being_sent(street: "Street", play: Any, comes_true: Any) -> None:
    async def scenario() -> None:
        async with street.running():
            await street.load(ROUNDS)
            await street.settled()
            thief, victim = Thief(street.broker.port), street.gateways["gw-1"]
            async with thief.listening(comes_true):
                street.is_kept = False
                street.backend.kill()
                await street.load(ROUNDS)
                before, time_before = street.cards["gw-1"].heads(), victim.session.server_time
                refused_before = victim.session.refusals.total()
                forged = forged_acks(street, "gw-1")
                for ack in forged:
                    thief.say(topic_of("gw-1", "dn/ack"), ack)
                await comes_true(lambda: victim.session.refusals.total() >= refused_before + len(forged))
                assert street.cards["gw-1"].heads() == before, "no mark has moved"
                assert before["led"].seq > before["led"].acked_seq
                assert victim.session.server_time == time_before
            street.is_kept = True
            await street.settled()
            await street.check_books()

    play(scenario())


def test_replayed_credits_and_everything_else_that_was_heard_count_once(
    street: "Street", play: Any, comes_true: Any
) -> None:
    async def scenario() -> None:
        thief = Thief(street.broker.port)
        async with street.running(), thief.listening(comes_true):
            await street.load(ROUNDS, payments_every=5)
            await street.settled()
            heard, credits_heard = list(thief.heard), thief.heard_on("dn/cmd")
            await street.stop_gateway("gw-1")
            street.start_gateway("gw-1")
            await comes_true(lambda: street.gateways["gw-1"].link.view().connected)
            for _ in range(REPEATS):
                for _topic, order in credits_heard:
                    for name in street.gateways:
                        thief.say(topic_of(name, "dn/cmd"), order)
            await street.load(ROUNDS // 5)
            for topic, payload in reversed(heard):
                thief.say(topic, payload)
            await street.load(ROUNDS // 5)
            await comes_true(lambda: all("wrong_gateway" in one.refused for one in street.gateways.values()))
            await street.settled()
            await street.check_books()
            assert await street.alarms() <= {"two_devices"}, "an old hello may look like a second device"

    play(scenario())


def copy_of(card: Any, path: Path) -> Path:
    """What somebody has who has copied the card."""
    with contextlib.closing(sqlite3.connect(path)) as copy:
        card.database.backup(copy)
    return path


def test_two_gateways_with_one_certificate_are_told_and_cost_nothing(
    street: "Street", play: Any, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with street.running(piped=True):
            await street.load(ROUNDS // 2)
            await street.settled()
            twin = street.twin_of("gw-1", copy_of(street.cards["gw-1"], tmp_path / "twin.db"))
            async with twin:
                async with asyncio.timeout(20):
                    while "two_devices" not in await street.alarms():
                        street.gateways["gw-1"].charge(1)
                        street.pipes[0].cut()  # not every broker throws one off for the other: they come back
                        await asyncio.sleep(PAUSE_S)
            street.pipes[0].cut()  # amqtt has thrown away what both had subscribed to
            await street.load(ROUNDS // 2)
            await street.settled()
            await street.check_books()

    play(scenario())


def test_gateway_whose_clock_says_1970_takes_credits_and_no_order_that_ends(
    street: "Street", play: Any, comes_true: Any
) -> None:
    async def cut() -> str:
        placed = await street.ask(lambda backend: backend.cut("gw-1", "m-1", 5000))
        return placed.cid

    async def result_of(cid: str) -> str | None:
        return await street.ask(lambda backend: backend.result_of(cid))

    async def scenario() -> None:
        async with street.running(at=0, is_clock_trusted=False):
            await street.load(ROUNDS)
            refused = await cut()
            await street.settled()
            await street.check_books()
            assert await result_of(refused) == "rejected"
            assert street.gateways["gw-1"].session.server_time > 1_700_000_000, "a floor for the clock"
            await street.stop_gateway("gw-1")
            street.start_gateway("gw-1")
            obeyed = await cut()
            await street.load(ROUNDS // 5)
            await street.settled()
            await street.check_books()
            assert await result_of(obeyed) == "applied"
            assert await street.ask(Backend.alarms) == []

    play(scenario())
