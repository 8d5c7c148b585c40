"""What `wattgate broker config` writes, in a real Mosquitto with TLS: each gateway under its own id, and nothing else.

SECURITY R9, R12, R21, R22.
"""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import BackendService, ServiceSettings
from cloud_sync.broker.files import mosquitto_files
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context
from cloud_sync.wire import CHANNELS, topic_of
from edge.agent.cloud_link import CloudLink
from edge.cli import main

pytestmark = pytest.mark.needs_program("mosquitto")
ADDRESS, PAUSE_S_MAX = "127.0.0.1", 0.2
VICTIM, NEIGHBOUR = "gw-1", "gw-2"


class Ear:
    """Whoever listens to a broker, and what was heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.connections = self.losses = 0

    def connected(self) -> None:
        self.connections += 1

    def disconnected(self, reason: str) -> None:
        self.losses += 1

    def message(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))


class Street:
    """A broker with TLS, a backend behind it, and the gateway gw-1."""

    def __init__(self, folder: Path, ca: Any, broker: Any, keys: Any, journal: Any) -> None:
        self.folder, self.ca, self.port, self.keys, self.journal = folder, ca, broker.port, keys, journal
        self.orders: list[bytes] = []
        self.transport = self.client(VICTIM, VICTIM, ())
        settings = SessionSettings().capped(PAUSE_S_MAX)
        session = SyncSession(VICTIM, "boot", "1.0", journal.heads(), keys[0], random.Random(1).random, settings)
        self.session, own = session, self.client(VICTIM, VICTIM, session.topics())
        facts = HelloFacts(at=1000, clock_quality="ntp", roster=())
        self.link = CloudLink(session, own, journal, lambda: facts, self.take_order, self.take_order, lambda _at: None)
        options = ServiceSettings(
            (BrokerAddress(ADDRESS, self.port),), PAUSE_S_MAX, PAUSE_S_MAX, self.context("backend")
        )
        self.service = BackendService(self.open_backend, options, clock=lambda: 5000)

    def open_backend(self) -> Backend:
        backend = Backend(self.folder / "cloud.db", self.keys[0], self.keys[1], resend_seconds_max=PAUSE_S_MAX)
        for gateway in (VICTIM, NEIGHBOUR):
            backend.enroll(gateway, 1000)
        return backend

    async def take_order(self, envelope: bytes) -> None:
        self.orders.append(envelope)

    def context(self, name: str) -> Any:
        return gateway_tls_context(self.ca.file, *self.ca.issue(name))

    def client(self, certificate: str, client_id: str, topics: tuple[str, ...]) -> MqttTransport:
        """A connection with this certificate, which calls itself what it likes."""
        settings = TransportSettings(
            client_id, (BrokerAddress(ADDRESS, self.port),), topics, tls=self.context(certificate)
        )
        return MqttTransport(settings.capped(PAUSE_S_MAX), random.Random(2).random)


@pytest.fixture
def street(tmp_path: Path, new_ca: Any, new_broker: Any, until: Any, keys: Any, journal: Any) -> Any:
    ca = new_ca(tmp_path, "product")
    certificate, key = map(Path, ca.issue("broker"))

    def command(port: int) -> list[str]:
        files = mosquitto_files(tmp_path, Path(ca.file), certificate, key, port, ["backend", "other-worker"])
        for name, content in files.items():
            (tmp_path / name).write_text(content, "utf-8")
        with (tmp_path / "mosquitto.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("user root\n")  # else it may not read the test's folder
        return ["mosquitto", "-c", str(tmp_path / "mosquitto.conf")]

    broker = new_broker(command, until)
    broker.start()
    yield Street(tmp_path, ca, broker, keys, journal)
    broker.kill()


@pytest.fixture
def beside(run_async: Any) -> Callable[..., None]:
    """Runs a scenario while others run."""

    def run(scenario: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, Any]) -> None:
        async def whole() -> None:
            tasks = [asyncio.create_task(other) for other in others]
            try:
                await scenario
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [one for one in ended if not isinstance(one, asyncio.CancelledError)]

        run_async(whole())

    return run


def test_gateway_and_backend_speak_and_a_neighbour_hears_and_says_nothing(
    street: Street, beside: Any, comes_true: Any
) -> None:
    everything = ("#", "$SYS/#", "mg/1/#", *(topic_of(VICTIM, channel) for channel in CHANNELS))
    ear, mouth_ear = Ear(), Ear()
    spy, mouth = street.client(NEIGHBOUR, "spy", everything), street.client("gw-3", "mouth", ())

    async def scenario() -> None:
        await comes_true(lambda: spy.is_connected and mouth.is_connected)
        street.journal.write("led", b'{"type":"x","account":"a","posting_nano":5,"balance_nano":5}')
        street.link.notify_appended()
        await comes_true(lambda: street.journal.all_acked)
        before = street.session.refusals.total()
        for channel in CHANNELS:
            assert mouth.publish(topic_of(VICTIM, channel), b"\0{}", 1, False), "Mosquitto says yes and throws it away"
        await street.service.call(lambda backend: backend.credit(VICTIM, "m-1", "payment-1", 7, 1))
        await comes_true(lambda: street.orders)
        assert len(street.orders) >= 1
        assert street.session.refusals.total() == before, "nothing of the stranger's came through"
        assert await street.service.call(lambda backend: backend.quarantined()) == []
        assert {topic for topic, _ in ear.heard} <= {topic_of(NEIGHBOUR, "dn/ack")}, "its own marks, and nothing else"

    beside(scenario(), street.service.run(), street.link.run(), spy.run(ear), mouth.run(mouth_ear))


def test_claiming_another_ones_client_id_does_not_throw_it_off(street: Street, beside: Any, comes_true: Any) -> None:
    victim, twin = street.client(VICTIM, VICTIM, ()), street.client(NEIGHBOUR, VICTIM, ())
    ear, twins_ear = Ear(), Ear()

    async def scenario() -> None:
        await comes_true(lambda: victim.is_connected)
        await comes_true(lambda: twin.is_connected)
        assert victim.publish(topic_of(VICTIM, "st"), b"x", 1, False)
        await comes_true(lambda: not victim._connection._unconfirmed)  # type: ignore[union-attr]
        assert (ear.connections, ear.losses) == (1, 0)

    beside(scenario(), victim.run(ear), twin.run(twins_ear))


def test_two_devices_with_one_certificate_are_told(street: Street, beside: Any, comes_true: Any) -> None:
    facts = HelloFacts(at=1000, clock_quality="ntp", roster=())
    settings = SessionSettings().capped(PAUSE_S_MAX)
    session = SyncSession(
        VICTIM, "other-boot", "1.0", street.journal.heads(), street.keys[0], random.Random(3).random, settings
    )
    clone = CloudLink(
        session, street.client(VICTIM, VICTIM, session.topics()), street.journal, lambda: facts,
        street.take_order, street.take_order, lambda _at: None,
    )  # fmt: skip

    async def alarms() -> set[str]:
        return {alarm["kind"] for alarm in await street.service.call(lambda backend: backend.alarms())}

    async def scenario() -> None:
        async with asyncio.timeout(30):
            while "two_devices" not in await alarms():
                await asyncio.sleep(PAUSE_S_MAX)
        assert await street.service.call(lambda backend: backend.balances()) == []

    beside(scenario(), street.service.run(), street.link.run(), clone.run())


def test_a_workers_stolen_certificate_moves_no_mark_and_gives_no_order(
    street: Street, beside: Any, comes_true: Any
) -> None:
    ear = Ear()
    thief = street.client("other-worker", "thief", ("mg/1/+/+/up/+",))

    async def scenario() -> None:
        await comes_true(lambda: thief.is_connected and street.link.view().connected)
        street.journal.write("led", b'{"type":"x"}')
        street.link.notify_appended()
        await comes_true(lambda: ear.heard)  # it may read: that is what a worker does
        old = [payload for _topic, payload in ear.heard]
        for payload in (b"\0{}", b"{}", b"", b"\1" * 200, b"x" * 5000, *old):
            for channel in ("dn/ack", "dn/cmd", "dn/cfg"):
                assert thief.publish(topic_of(VICTIM, channel), payload, 1, False)
        await comes_true(lambda: street.session.refusals.total() >= 4)
        assert street.journal.acked["led"] == 0, "only a signed answer moves a mark"
        assert street.session.server_time == 0

    beside(scenario(), street.link.run(), thief.run(ear))


def test_command_writes_both_files_and_names_what_is_wrong(
    tmp_path: Path, new_ca: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = new_ca(tmp_path, "product")
    certificate, key = ca.issue("broker")
    given = ["broker", "config", str(tmp_path / "b"), "--ca", ca.file, "--certificate", certificate, "--key", key]
    assert main([*given, "--backend", "worker-1", "--backend", "worker-2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["mosquitto.conf", "wattgate.acl"]
    acl = (tmp_path / "b" / "wattgate.acl").read_text("utf-8")
    assert acl.count("\nuser ") == 2
    assert "user worker-2" in acl
    configuration = (tmp_path / "b" / "mosquitto.conf").read_text("utf-8")
    assert f"acl_file {tmp_path / 'b' / 'wattgate.acl'}" in configuration
    assert "@" not in configuration
    for more, said in ((["--backend", "a b"], "'a b' is not a common name"), (["--ca", str(tmp_path / "no")], "no")):
        assert main([*given, *more]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--port", "70000"])
