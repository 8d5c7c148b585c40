"""One fault after the other in the life of one cloud: nothing lost, nothing doubled, all chains whole.

What one leaves behind meets the next; `faults/` has each alone, on every broker. Real processes, gateways with the
real session, a steady load of ledger records, readings and payments. After each fault everything is put in order again,
and gateways and cloud must have the same records and balances, with each payment once.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.acks import sign_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import BackendService, ServiceSettings
from cloud_sync.keys import KEYRING_FILE, generate_key_directory, generate_keys, load_key_ring
from cloud_sync.orders import sign_order
from cloud_sync.session import SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportEvents, TransportSettings
from cloud_sync.wire import CHANNELS, ZERO_HASH, Ack, Batch, Mark, Order, encode_payload, topic_of
from edge.core.units import ClockQuality, ClockReading, UnixSeconds
from hw.sim.fleet.connection import WatchedTransport
from hw.sim.fleet.fleet import Fleet, Load, gateway_ids
from hw.sim.fleet.gateway import FleetGateway, Wiring
from hw.sim.fleet.stage import ADDRESS, Stage, family, postgresql_user

GATEWAYS, METERS, SLOTS, SLOT_S = 3, 4, 30, 0.03
PAUSE_S_MAX, LOOK_S, HEALING_S_MAX, HARM_S, RESTORING_S = 0.3, 0.02, 40.0, 0.4, 1.1
LARGEST_FILE_BYTES = 8192
PAYMENT_NANO = 7_000_000_000


# --- a pipe that does what pipes do ----------------------------------------------------------


@dataclass
class Pipe:
    """What happens to messages on their way, both ways; nothing at rest."""

    chance: random.Random = field(default_factory=lambda: random.Random(6))
    dropped: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    cut_short: float = 0.0
    flipped: float = 0.0

    def carry(self, payload: bytes, deliver: Callable[[bytes], None]) -> None:
        """Delivers a message as the pipe does: not at all, twice, later, or another one."""
        draw = self.chance.random
        if draw() < self.dropped:
            return
        if payload and draw() < self.cut_short:
            payload = payload[: self.chance.randrange(len(payload))]
        if payload and draw() < self.flipped:
            place = self.chance.randrange(len(payload))
            payload = payload[:place] + bytes((payload[place] ^ 1 << self.chance.randrange(8),)) + payload[place + 1 :]
        for _ in range(2 if draw() < self.doubled else 1):
            if draw() < self.late:
                asyncio.get_running_loop().call_later(self.chance.uniform(0.0, 0.2), deliver, payload)
            else:
                deliver(payload)


def transport_through(pipe: Pipe) -> type[WatchedTransport]:
    class Heard:
        def __init__(self, events: TransportEvents) -> None:
            self.connected, self.disconnected, self._message = events.connected, events.disconnected, events.message

        def message(self, topic: str, payload: bytes) -> None:
            pipe.carry(payload, lambda carried: self._message(topic, carried))

    class PipedTransport(WatchedTransport):
        def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
            if retain:
                return super().publish(topic, payload, qos, retain)
            publish = super().publish

            def send(carried: bytes) -> None:
                publish(topic, carried, qos, retain)

            pipe.carry(payload, send)
            return True

        async def run(self, events: TransportEvents) -> None:
            await super().run(Heard(events))

    return PipedTransport


# --- the life --------------------------------------------------------------------------------


class Life:
    """A cloud of processes, gateways that work, and payments that are made."""

    def __init__(self, stage: Stage, port: int, engine: str) -> None:
        self.stage, self.port, self.engine = stage, port, engine
        self.keys = stage.folder / "keys"
        generate_key_directory(self.keys)
        self.db = stage.start_postgresql() if engine == "postgresql" else f"sqlite:///{stage.folder}/cloud.db"
        with self.desk() as desk:
            desk.enroll_all(gateway_ids(GATEWAYS), 1)
        workers, options = 2 if engine == "postgresql" else 1, ["--timer-max", str(PAUSE_S_MAX)]
        stage.start_backend(self.db, port, self.keys, workers, options)
        self.pipe = Pipe()
        self.payments: list[tuple[str, str, str]] = []
        self.running: dict[str, asyncio.Task[None]] = {}
        load = Load(GATEWAYS, METERS, SLOTS, GATEWAYS)
        self.fleet = Fleet(load, self.wiring())
        for gateway in self.fleet.gateways:
            gateway.journal._keeps_acknowledged = True

    def wiring(self) -> Wiring:
        return Wiring(
            load_key_ring(self.keys / KEYRING_FILE),
            self.settings,
            random.Random(5).random,
            SessionSettings().capped(PAUSE_S_MAX),
            transport_through(self.pipe),
        )

    def settings(self, gateway_id: str, session: SyncSession) -> TransportSettings:
        brokers = (BrokerAddress(ADDRESS, self.port),)
        settings = TransportSettings(
            gateway_id, brokers, session.topics(), session.will(), connect_timeout_seconds=2.0, stall_seconds=2.0
        )
        return settings.capped(PAUSE_S_MAX)

    @contextlib.contextmanager
    def desk(self) -> Iterator[Backend]:
        """The cloud's tables, for whoever places an order or looks."""
        with contextlib.closing(Backend.from_directory(self.db, self.keys)) as backend:
            yield backend

    def pay(self) -> None:
        """One more payment."""
        number = len(self.payments)
        gateway = self.fleet.gateways[number % GATEWAYS]
        payment = gateway.gateway_id, f"M{number % METERS + 1:03d}", f"payment-{number}"
        self.payments.append(payment)
        with self.desk() as desk:
            desk.credit(*payment, PAYMENT_NANO, 1000)

    def pay_all_again(self) -> None:
        """What channels do that are not sure."""
        with self.desk() as desk:
            for payment in self.payments:
                desk.credit(*payment, PAYMENT_NANO, 1000)

    async def work(self) -> None:
        """A steady load."""
        for _ in range(SLOTS):
            for gateway in self.fleet.gateways:
                gateway.commit_slot()
            await asyncio.sleep(SLOT_S)

    def start(self, gateway: FleetGateway) -> None:
        self.running[gateway.gateway_id] = asyncio.create_task(gateway.run())

    async def stop(self, gateway: FleetGateway) -> None:
        task = self.running.pop(gateway.gateway_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def on_thread(self, do: Callable[..., Any], *arguments: Any) -> Any:
        """Something that blocks, while the gateways go on."""
        return await asyncio.to_thread(do, *arguments)

    async def survive(self, fault: Callable[["Life"], Awaitable[None]]) -> list[str]:
        """Lets a fault fall into the load; what is wrong when all has healed."""
        working = asyncio.create_task(self.work())
        await asyncio.sleep(HARM_S / 2)
        await self.on_thread(self.pay)
        await fault(self)
        await self.on_thread(self.pay)
        await working
        found = ["it was not looked at"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEALING_S_MAX):
                while found:
                    await asyncio.sleep(LOOK_S)
                    if self.has_settled() and await self.on_thread(self.is_paid):
                        found = await self.on_thread(self.found)
        if found:
            found.append((self.stage.folder / "backend.log").read_text()[-1000:])
        return found

    def has_settled(self) -> bool:
        for task in self.running.values():
            if task.done():
                task.result()  # a gateway ends by a bug alone
        return not any(sum(gateway.session.backlog().values()) for gateway in self.fleet.gateways)

    def is_paid(self) -> bool:
        with self.desk() as desk:
            sql = "SELECT count(*) FROM command WHERE type = 'credit' AND result = 'applied'"
            return bool(desk.database.execute(sql).fetchone()[0] == len(self.payments))

    def found(self) -> list[str]:
        """Everything that must not be."""
        with self.desk() as desk:
            found = [*self.fleet.disagreements(desk.database), *desk.problems()]
        for gateway in self.fleet.gateways:
            mine = [payment_id for gateway_id, _, payment_id in self.payments if gateway_id == gateway.gateway_id]
            bodies = [record.body for record in gateway.journal._chains["led"].records]
            credited = [body for body in bodies if b'"PaymentApplied"' in body]
            if len(credited) != len(mine) or not all(
                sum(f'"{payment_id}"'.encode() in body for body in credited) == 1 for payment_id in mine
            ):
                found.append(f"{gateway.gateway_id}: {len(credited)} credits for {len(mine)} payments")
        return found

    def alarms(self) -> set[str]:
        with self.desk() as desk:
            return {alarm["kind"] for alarm in desk.alarms()}

    def quarantined(self) -> int:
        with self.desk() as desk:
            return sum(row["count"] for row in desk.quarantined())


# --- the faults ------------------------------------------------------------------------------


async def broker_killed(life: Life) -> None:
    """kill -9, and up again."""
    await life.on_thread(life.stage.kill, "mosquitto")
    await asyncio.sleep(HARM_S)
    await life.on_thread(life.stage.start_again, "mosquitto")


async def worker_killed(life: Life) -> None:
    """kill -9 of whoever commits; of several one, which is started again by itself."""
    if life.engine == "postgresql":
        worker = family(life.stage.processes["backend"].pid)[1]
        os.kill(worker, signal.SIGKILL)
        await asyncio.sleep(HARM_S)
        return
    await life.on_thread(life.stage.kill, "backend")
    await life.on_thread(life.stage.start_again, "backend")


async def database_killed(life: Life) -> None:
    """kill -9 of the database; SQLite is part of the worker."""
    name = "postgresql" if life.engine == "postgresql" else "backend"
    await life.on_thread(life.stage.kill, name)
    await asyncio.sleep(HARM_S)
    await life.on_thread(life.stage.start_again, name)


async def gateway_killed(life: Life) -> None:
    """A gateway loses its power, and with it the marks it had not written yet."""
    gateway = life.fleet.gateways[0]
    await life.stop(gateway)
    for chain in gateway.journal._chains.values():
        chain.acked = max(0, chain.acked - 5)
    gateway.restart("boot-2")
    life.start(gateway)


async def everything_killed(life: Life) -> None:
    """The lights go out."""
    for name in list(life.stage.processes):
        await life.on_thread(life.stage.kill, name)
    await gateway_killed(life)
    for name in list(life.stage.processes):
        await life.on_thread(life.stage.start_again, name)


async def messages_lost_doubled_and_late(life: Life) -> None:
    """A third of all messages, both ways."""
    life.pipe.dropped, life.pipe.doubled, life.pipe.late = 0.3, 0.3, 0.3
    await asyncio.sleep(2 * HARM_S)
    life.pipe.dropped = life.pipe.doubled = life.pipe.late = 0.0


async def messages_cut_short_and_flipped(life: Life) -> None:
    """Bytes that were something else."""
    before = await life.on_thread(life.quarantined)
    life.pipe.cut_short, life.pipe.flipped = 0.2, 0.2
    await asyncio.sleep(2 * HARM_S)
    life.pipe.cut_short = life.pipe.flipped = 0.0
    assert await life.on_thread(life.quarantined) > before


async def messages_forged(life: Life) -> None:
    """Somebody with the run of the broker: forged records, acks and orders, and true ones again and again."""
    victim = life.fleet.gateways[1]
    thief = Thief()
    transport = MqttTransport(life.settings("thief", thief), random.Random(1).random)  # type: ignore[arg-type]
    stealing = asyncio.create_task(transport.run(thief))
    try:
        async with asyncio.timeout(HEALING_S_MAX):
            await thief.listening.wait()
        await life.on_thread(life.pay_all_again)
        for topic, payload in [*forgeries(life, victim), *thief.heard[:200], *thief.heard[:200]]:
            transport.publish(topic, payload, 1, False)
            await asyncio.sleep(0)
        await asyncio.sleep(HARM_S)
        assert victim.unbelieved > 0
        assert victim.session.refusals.total() > 0
    finally:
        stealing.cancel()
        await asyncio.gather(stealing, return_exceptions=True)
    assert "fork" in await life.on_thread(life.alarms)


class Thief:
    """Hears what comes down to all gateways."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.listening = asyncio.Event()

    def topics(self) -> tuple[str, ...]:
        return ("mg/1/+/+/dn/ack", "mg/1/+/+/dn/cmd")

    def will(self) -> None:
        return None

    def connected(self) -> None:
        self.listening.set()

    def disconnected(self, reason: str) -> None:
        self.listening.clear()

    def message(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))


def forgeries(life: Life, victim: FleetGateway) -> Iterator[tuple[str, bytes]]:
    """Everything somebody can make who has no key."""
    _ring, stolen = generate_keys(credit_nano_max=10**18)
    roles = {role.value: signer for role, signer in stolen.items()}
    name = victim.gateway_id
    bodies = ('{"account":"A001","posting_nano":1000000000000,"balance_nano":1000000000000}',)
    for first, previous_hash in ((1, ZERO_HASH), (2, bytes(31) + b"\1")):
        for stream in ("led", "res", "rdg"):
            said = Batch(1, name, stream, 1, first, previous_hash.hex(), bodies)
            yield topic_of(name, f"up/{stream}"), encode_payload(said)
    mark = Mark(1, victim.journal.heads()["led"].seq, victim.journal.heads()["led"].hash.hex())
    ingest, vend = roles["ingest"], roles["vend"]
    yield topic_of(name, "dn/ack"), sign_ack(Ack(1, name, ingest.kid, 9_999_999_999, {"led": mark}), ingest)
    args = {"amount_nano": 10**15, "payment_id": "forged", "paid_at": 1}
    yield topic_of(name, "dn/cmd"), sign_order(Order(1, "forged-1", name, "M001", "credit", args, 0, vend.kid), vend)
    for channel in sorted(CHANNELS):
        for payload in (b"", b"\1", b"\0{}", b"\1" * 5000):
            yield topic_of(name, channel), payload


async def backup_restored(life: Life) -> None:
    """The database of a while ago comes back: what was acknowledged since is gone there."""
    await life.on_thread(_swap_database, life, "keep")
    await asyncio.sleep(2 * HARM_S)
    await life.on_thread(life.pay)
    await asyncio.sleep(HARM_S)
    await life.on_thread(_stop_database, life)
    await asyncio.sleep(RESTORING_S)  # the second of the last acknowledgement is over, as it is after any restore
    await life.on_thread(_swap_database, life, "restore")
    await life.on_thread(life.pay_all_again)  # as channels do that have no confirmation


def _stop_database(life: Life) -> list[str]:
    names = ["backend"] + (["postgresql"] if life.engine == "postgresql" else [])
    for name in names:
        life.stage.kill(name)
    return names


def _swap_database(life: Life, what: str) -> None:
    """Copies the stopped database away, or back in its place."""
    stage, names = life.stage, _stop_database(life)
    copy = stage.folder / "backup"
    if life.engine == "postgresql":
        data = stage.folder / "pg" / "data"
        sources = [data]
    else:
        sources = sorted(stage.folder.glob("cloud.db*"))
    if what == "keep":
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        _copy(sources, copy)
    else:
        for source in sources:
            shutil.rmtree(source) if source.is_dir() else source.unlink()
        _copy(sorted(copy.iterdir()), stage.folder / "pg" if life.engine == "postgresql" else stage.folder)
    for name in reversed(names):
        stage.start_again(name)


def _copy(sources: list[Path], folder: Path) -> None:
    """With owners and times, as a backup does."""
    subprocess.run(["cp", "-a", *map(str, sources), str(folder)], check=True)


async def clock_of_a_gateway_at_1970(life: Life) -> None:
    """A gateway without a clock."""
    gateway = life.fleet.gateways[2]
    await life.stop(gateway)
    gateway.clock = ClockReading(UnixSeconds(17), 0, "boot-3", ClockQuality.UNSET)
    gateway.restart("boot-3")
    life.start(gateway)
    await asyncio.sleep(HARM_S)


async def clock_of_the_cloud_at_1970(life: Life) -> None:
    """A backend without a clock takes the place of the one that has one."""
    await life.on_thread(life.stage.kill, "backend")
    addresses = (BrokerAddress(ADDRESS, life.port),)
    service = BackendService(
        lambda: Backend.from_directory(life.db, life.keys),
        ServiceSettings(addresses, PAUSE_S_MAX, PAUSE_S_MAX),
        clock=lambda: 17,
    )
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(HEALING_S_MAX):
        while service.flow.commits < 5:
            await asyncio.sleep(LOOK_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await life.on_thread(life.stage.start_again, "backend")


async def two_gateways_with_one_identity(life: Life) -> None:
    """A copied card in another box: it goes on from an older state, with records of its own."""
    victim = life.fleet.gateways[1]
    copy = victim.journal.copy()
    await asyncio.sleep(HARM_S)  # the original goes on, so that the copy is behind
    async with asyncio.timeout(HEALING_S_MAX):
        while victim.journal.heads()["led"].acked_seq <= copy.heads()["led"].seq:
            await asyncio.sleep(LOOK_S)
    twin = FleetGateway(victim.gateway_id, METERS + 1, life.wiring(), copy, boot_id="boot-twin")
    running = asyncio.create_task(twin.run())
    for _ in range(6):
        twin.commit_slot()
        await asyncio.sleep(HARM_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not twin.journal.is_acknowledged("led")
    assert await life.on_thread(life.alarms) & {"fork", "two_devices"}


async def disk_full(life: Life) -> None:
    """No file may grow any more: nothing is acknowledged, and afterwards nothing is missing."""
    name, user = ("postgresql", postgresql_user()) if life.engine == "postgresql" else ("backend", None)
    for pid in family(life.stage.processes[name].pid):
        limiting = ["prlimit", f"--fsize={LARGEST_FILE_BYTES}:", "--pid", str(pid)]
        await life.on_thread(partial(subprocess.run, limiting, user=user, check=False))
    await asyncio.sleep(2 * HARM_S)
    await life.on_thread(life.stage.kill, name)
    await life.on_thread(life.stage.start_again, name)


FAULTS: Mapping[str, Callable[[Life], Awaitable[None]]] = {
    "broker killed": broker_killed,
    "worker killed": worker_killed,
    "database killed": database_killed,
    "gateway killed": gateway_killed,
    "messages lost, doubled, late": messages_lost_doubled_and_late,
    "messages cut short, flipped": messages_cut_short_and_flipped,
    "messages forged, orders replayed": messages_forged,
    "backup restored": backup_restored,
    "a gateway's clock at 1970": clock_of_a_gateway_at_1970,
    "the cloud's clock at 1970": clock_of_the_cloud_at_1970,
    "two gateways with one identity": two_gateways_with_one_identity,
    "disk full": disk_full,
    "everything killed": everything_killed,
}


@pytest.mark.slow
@pytest.mark.needs_program("mosquitto")
@pytest.mark.needs_program("psql")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_after_one_fault_after_the_other_nothing_is_lost_and_nothing_doubled(engine: str, short_folder: Path) -> None:
    async def live(life: Life) -> dict[str, list[str]]:
        for gateway in life.fleet.gateways:
            life.start(gateway)
        found = {}

        for name, fault in FAULTS.items():
            found[name] = await life.survive(fault)
            if found[name]:
                break  # what follows would only repeat it
        for gateway in life.fleet.gateways:
            await life.stop(gateway)
        return found

    with Stage(short_folder) as stage:
        life = Life(stage, stage.start_mosquitto(), engine)
        found = asyncio.run(live(life))
        assert found == {name: [] for name in FAULTS}
        with life.desk() as desk:
            assert desk.counts()["led"] > GATEWAYS * METERS * SLOTS * len(FAULTS)
