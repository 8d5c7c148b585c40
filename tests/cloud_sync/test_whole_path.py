"""Gateway and backend over real brokers: amqtt, which the demo brings, and Debian's Mosquitto.

Real time is waited for only where a process or a socket decides; every pause is capped.
"""

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync.acks import sign_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import BackendService, ServiceSettings
from cloud_sync.keys import KEYRING_FILE, KeyRing, generate_key_directory, generate_keys, load_key_ring
from cloud_sync.orders import verify_order
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings
from cloud_sync.wire import Ack, Mark, Order, topic_of
from edge.agent.cloud_link import CloudLink

GATEWAY = "gw-1"
PAUSE_SECONDS_MAX = 0.2
POLL_INTERVAL_S = 0.02


class Gateway:
    """A gateway that obeys credits: each counts once, by its command id, and its result is recorded."""

    def __init__(self, journal: Any, ring: KeyRing, port: int) -> None:
        self.journal = journal
        self.ring = ring
        self.balance_nano = 0
        self.orders_seen = 0
        self.refused = 0
        self.applied: dict[str, int] = {}
        settings = SessionSettings(batch_records_max=20).capped(PAUSE_SECONDS_MAX)
        self.session = SyncSession(GATEWAY, "boot", "1.0", journal.heads(), ring, random.Random(1).random, settings)
        self.transport = MqttTransport(
            TransportSettings(
                GATEWAY, (BrokerAddress("127.0.0.1", port),), self.session.topics(), self.session.will()
            ).capped(PAUSE_SECONDS_MAX),
            random.Random(2).random,
        )
        facts = HelloFacts(at=1000, clock_quality="ntp", roster=())
        self.link = CloudLink(
            self.session, self.transport, journal, lambda: facts, self.take_order, self.take_document, lambda _at: None
        )

    async def take_order(self, envelope: bytes) -> None:
        self.orders_seen += 1
        order = verify_order(envelope, self.ring, GATEWAY)
        if not isinstance(order, Order):
            self.refused += 1
            return
        if order.cid in self.applied:
            return
        amount_nano = self.applied[order.cid] = order.args["amount_nano"]
        self.balance_nano += amount_nano
        self.post("PaymentAccepted", amount_nano)
        result = {"type": "CommandApplied", "cid": order.cid, "result": "applied"}
        await self.journal.append([("res", msgspec.json.encode(result))])
        self.link.notify_appended()

    async def take_document(self, envelope: bytes) -> None:
        raise AssertionError(f"nobody sent this: {envelope!r}")

    def post(self, record_type: str, posting_nano: int) -> None:
        body = {"type": record_type, "at": 1, "account": "a-1", "posting_nano": posting_nano,
                "balance_nano": self.balance_nano, "estimate_nano": 7}  # fmt: skip
        self.journal.write("led", msgspec.json.encode(body))

    def charge(self, amount_nano: int) -> None:
        self.balance_nano -= amount_nano
        self.post("BillIssued", -amount_nano)
        self.journal.write("rdg", b'{"registers":[1,2,3]}')
        self.link.notify_appended()


@contextlib.asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """Runs services beside a scenario; what one of them raises fails the test."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert not failed, failed


def service_at(port: int, database: Path, keys: Any) -> BackendService:
    def open_backend() -> Backend:
        backend = Backend(database, keys[0], keys[1], resend_seconds_max=PAUSE_SECONDS_MAX)
        backend.enroll(GATEWAY, 1000)
        return backend

    settings = ServiceSettings(
        (BrokerAddress("127.0.0.1", port),), relay_seconds=PAUSE_SECONDS_MAX, timer_seconds_max=PAUSE_SECONDS_MAX
    )
    return BackendService(open_backend, settings, clock=lambda: 5000)


async def becomes(ask: Callable[[], Any], wanted: Any) -> None:
    """Asks until the answer is the wanted one."""
    async with asyncio.timeout(20):
        while await ask() != wanted:
            await asyncio.sleep(POLL_INTERVAL_S)


def test_street_pays_and_is_charged_and_both_sides_agree_to_the_nano(
    broker: Any, tmp_path: Path, keys: Any, journal: Any, run_async: Any, comes_true: Any
) -> None:
    async def scenario() -> None:
        service = service_at(broker.port, tmp_path / "cloud.db", keys)
        gateway = Gateway(journal, keys[0], broker.port)
        async with running(service, gateway.link):
            for number in range(30):
                gateway.charge(1000 + number)
            placed = await service.call(lambda b: b.credit(GATEWAY, "m-1", "p-1", 9_000_000_000, 5000))
            again = await service.call(lambda b: b.credit(GATEWAY, "m-1", "p-1", 9_000_000_000, 5000))
            assert (placed.new, again.new, again.cid) == (True, False, placed.cid)
            await becomes(lambda: service.call(lambda b: b.result_of(placed.cid)), "applied")
            await comes_true(lambda: journal.all_acked)
            assert list(gateway.applied.values()) == [9_000_000_000]
            balance = (await service.call(lambda b: b.balances()))[0]
            assert balance.money_nano == gateway.balance_nano == 9_000_000_000 - sum(range(1000, 1030))
            assert balance.estimate_nano == 7
            assert await service.call(lambda b: b.counts()) == {"led": 31, "res": 1, "rdg": 30}
            assert await service.call(lambda b: b.problems()) == []
            assert await service.call(lambda b: b.alarms()) == []
            assert await service.call(lambda b: b.quarantined()) == []
            assert gateway.session.server_time == 5000

    run_async(scenario())


def test_broker_killed_in_the_middle_costs_nothing(
    broker: Any, tmp_path: Path, keys: Any, journal: Any, run_async: Any, comes_true: Any
) -> None:
    async def scenario() -> None:
        service = service_at(broker.port, tmp_path / "cloud.db", keys)
        gateway = Gateway(journal, keys[0], broker.port)
        async with running(service, gateway.link):
            await comes_true(lambda: gateway.link.view().connected)
            for round_number in range(3):
                for number in range(40):
                    gateway.charge(number)
                broker.kill()
                await service.call(
                    partial(
                        Backend.credit,
                        gateway_id=GATEWAY,
                        meter_id="m-1",
                        payment_id=f"p-{round_number}",
                        amount_nano=500,
                        at=5000,
                    )
                )
                gateway.charge(1)
                await comes_true(lambda: not gateway.link.view().connected)
                await asyncio.to_thread(broker.start)
                await comes_true(lambda: gateway.link.view().connected)
            await becomes(lambda: service.call(lambda b: b.metrics()["commands_pending"]), 0)
            await comes_true(lambda: journal.all_acked)
            balance = (await service.call(lambda b: b.balances()))[0]
            assert balance.money_nano == gateway.balance_nano
            assert len(gateway.applied) == 3
            assert await service.call(lambda b: b.counts()) == {"led": 126, "res": 3, "rdg": 123}
            assert await service.call(lambda b: b.problems()) == []
            assert await service.call(lambda b: b.alarms()) == []

    run_async(scenario())


def test_stolen_broker_credentials_move_no_mark_and_no_money(
    broker: Any, tmp_path: Path, keys: Any, journal: Any, run_async: Any, comes_true: Any
) -> None:
    """Whoever may publish anything still signs nothing."""

    async def scenario() -> None:
        gateway = Gateway(journal, keys[0], broker.port)
        thief = MqttTransport(
            TransportSettings("thief", (BrokerAddress("127.0.0.1", broker.port),), ("nothing",)), lambda: 0.0
        )
        _ring, thieves_keys = generate_keys()
        ingest = next(signer for role, signer in thieves_keys.items() if role.value == "ingest")
        journal.write("led", b'{"type":"x"}')
        async with running(gateway.link), running_transport(thief):
            await comes_true(lambda: gateway.link.view().connected and thief.is_connected)
            mark = Mark(1, 1, journal.records["led"][0].hash.hex())
            ack = sign_ack(Ack(v=1, gw=GATEWAY, kid=ingest.kid, at=9999, marks={"led": mark}), ingest)
            desk = Backend(":memory:", *keys)
            desk.enroll("gw-2", 1)
            foreign = desk.desk.envelope(desk.credit("gw-2", "m-1", "p", 5, 1).cid)
            assert foreign is not None
            for payload in (ack, foreign, foreign[:-1], b"", b"\1", b"\1" * 100, b"{}", b"x" * 5000):
                for channel in ("dn/ack", "dn/cmd"):
                    assert thief.publish(topic_of(GATEWAY, channel), payload, 1, False)
            # Of the orders seven are not empty or too long, and the acks are all refused.
            await comes_true(lambda: gateway.refused == 6 and gateway.session.refusals.total() >= 10)
            assert gateway.balance_nano == 0
            assert journal.acked["led"] == 0
            assert gateway.session.server_time == 0
            desk.close()

    run_async(scenario())


@contextlib.asynccontextmanager
async def running_transport(transport: MqttTransport) -> AsyncIterator[None]:
    class Deaf:
        def connected(self) -> None: ...

        def disconnected(self, reason: str) -> None: ...

        def message(self, topic: str, payload: bytes) -> None: ...

    task = asyncio.create_task(transport.run(Deaf()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_backend_killed_before_its_commit_has_acknowledged_nothing(
    broker: Any, tmp_path: Path, journal: Any, run_async: Any, comes_true: Any, until: Any
) -> None:
    """Another writer holds the database, so the backend hangs between receiving and committing; then kill -9."""
    keys, database = tmp_path / "keys", tmp_path / "cloud.db"
    generate_key_directory(keys)
    ring = load_key_ring(keys / KEYRING_FILE)
    with contextlib.closing(Backend.from_directory(database, keys)) as backend:
        backend.enroll(GATEWAY, 1)
    command = [
        sys.executable, "-m", "cloud_sync.backend", "--db", str(database), "--broker", f"127.0.0.1:{broker.port}",
        "--keys", str(keys), "--timer-max", str(PAUSE_SECONDS_MAX),
    ]  # fmt: skip

    def is_online() -> bool:
        with contextlib.closing(sqlite3.connect(database)) as reader:
            return bool(reader.execute("SELECT online FROM gateway").fetchone()[0])

    async def scenario() -> None:
        gateway = Gateway(journal, ring, broker.port)
        async with running(gateway.link):
            await comes_true(lambda: gateway.link.view().connected)
            process = subprocess.Popen(command)
            try:
                # The hello may have been said before the backend listened: the retained status is not.
                await comes_true(is_online)
                with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    gateway.charge(5)
                    await comes_true(lambda: gateway.session.get_timer() is not None)  # sent, and waiting for its ack
                    await asyncio.sleep(PAUSE_SECONDS_MAX)  # what a wrong backend would need to acknowledge
                    process.kill()
                    process.wait()
                    assert journal.acked["led"] == 0
                    assert other.execute("SELECT count(*) FROM record").fetchone() == (0,)
                    other.execute("ROLLBACK")
                process = subprocess.Popen(command)
                await comes_true(lambda: journal.all_acked)
            finally:
                process.terminate()
            assert process.wait(10) == 0

    run_async(scenario())
    with contextlib.closing(Backend.from_directory(database, keys)) as backend:
        assert backend.counts() == {"led": 1, "rdg": 1}
        assert backend.problems() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--db", "{tmp}/x.db", "--broker", "127.0.0.1:1", "--keys", "{tmp}/none"], "keyring.json"),
        (["--db", "{tmp}/none/x.db", "--broker", "127.0.0.1:1", "--keys", "{tmp}/keys"], "unable to open"),
        (["--db", "{tmp}/x.db", "--broker", "nowhere", "--keys", "{tmp}/keys"], "HOST:PORT"),
        (["--db", "{tmp}/x.db", "--broker", "127.0.0.1:1", "--keys", "{tmp}/keys", "--enroll", "a b"], "gateway id"),
    ],
)
def test_backend_that_cannot_start_says_why_and_exits_with_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    generate_key_directory(tmp_path / "keys")
    command = [sys.executable, "-m", "cloud_sync.backend", *(text.format(tmp=tmp_path) for text in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
