"""What `wattgate broker config --kind nats` writes, in a real NATS server with TLS: each gateway under its own id.

SECURITY R12, R21, R22.
"""

import asyncio
import contextlib
import json
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import BackendService, ServiceSettings
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context
from cloud_sync.wire import CHANNELS, topic_of
from edge.agent.cloud_link import CloudLink
from edge.cli import main

pytestmark = pytest.mark.needs_program("nats-server")
ADDRESS, PAUSE_S_MAX = "127.0.0.1", 0.2
VICTIM, NEIGHBOUR = "gw-1", "gw-2"


class Ear:
    """Whoever listens to a broker, and what was heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def connected(self) -> None: ...

    def disconnected(self, reason: str) -> None: ...

    def message(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def beside(*parts: Any) -> AsyncIterator[None]:
    """Runs parts while the scenario goes on."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Place:
    """A NATS server made by the command, its CA, and clients of it."""

    def __init__(self, folder: Path, ca: Any, port: int) -> None:
        self.folder, self.ca, self.port = folder, ca, port

    def command(self, *more: str) -> list[str]:
        """The arguments of `wattgate broker config` for this place."""
        certificate, key = self.ca.issue("broker")
        (self.folder / "gateways.txt").write_text(f"{VICTIM}\n{NEIGHBOUR}\n")
        given = ["broker", "config", str(self.folder / "b"), "--kind", "nats", "--ca", self.ca.file]
        given += ["--certificate", certificate, "--key", key, "--gateways", str(self.folder / "gateways.txt")]
        return [*given, "--port", str(self.port), "--client-port", str(free_port()), *more]

    def client(self, name: str, topics: tuple[str, ...] = ()) -> MqttTransport:
        settings = TransportSettings(name, (BrokerAddress(ADDRESS, self.port),), topics, tls=self.context(name))
        return MqttTransport(settings.capped(PAUSE_S_MAX), random.Random(2).random)

    def context(self, name: str) -> Any:
        return gateway_tls_context(self.ca.file, *self.ca.issue(name))


@pytest.fixture
def place(tmp_path: Path, new_ca: Any, new_broker: Any, until: Any) -> Any:
    ca = new_ca(tmp_path, "product")

    def command(port: int) -> list[str]:
        assert main(Place(tmp_path, ca, port).command()) == 0
        return ["nats-server", "-c", str(tmp_path / "b" / "nats.conf")]

    broker = new_broker(command, until)
    broker.start()
    yield Place(tmp_path, ca, broker.port)
    broker.kill()


def test_gateway_and_backend_speak_over_nats_and_a_neighbour_says_and_hears_nothing(
    place: Place, keys: Any, journal: Any, run_async: Any, comes_true: Any
) -> None:
    orders: list[bytes] = []

    async def take(envelope: bytes) -> None:
        orders.append(envelope)

    def open_backend() -> Backend:
        ring, signers = keys
        backend = Backend(place.folder / "cloud.db", ring, signers, resend_seconds_max=PAUSE_S_MAX)
        backend.enroll_all([VICTIM, NEIGHBOUR], 1000)
        return backend

    async def scenario() -> None:
        session = SyncSession(
            VICTIM, "boot", "1.0", journal.heads(), keys[0], random.Random(1).random,
            SessionSettings().capped(PAUSE_S_MAX),
        )  # fmt: skip
        facts = HelloFacts(at=1000, clock_quality="ntp", roster=())
        own = place.client(VICTIM, session.topics())
        link = CloudLink(session, own, journal, lambda: facts, take, take, lambda _at: None)
        where = (BrokerAddress(ADDRESS, place.port),)
        service = BackendService(
            open_backend, ServiceSettings(where, PAUSE_S_MAX, PAUSE_S_MAX, place.context("backend")), lambda: 5000
        )
        mouth, ears = place.client(NEIGHBOUR), Ear()
        async with beside(service.run(), link.run(), mouth.run(ears)):
            await comes_true(lambda: link.view().connected and mouth.is_connected)
            journal.write("led", b'{"type":"x","account":"a","posting_nano":5,"balance_nano":5}')
            link.notify_appended()
            await comes_true(lambda: journal.all_acked)
            for channel in sorted(CHANNELS):
                mouth.publish(topic_of(VICTIM, channel), b"\0{}", 1, False)
            await service.call(lambda backend: backend.credit(VICTIM, "m-1", "payment-1", 7, 1))
            await comes_true(lambda: orders)
            assert session.refusals.total() == 0, "nothing of the neighbour's came through"
            assert await service.call(lambda backend: backend.quarantined()) == []

    run_async(scenario())


@pytest.mark.parametrize(
    ("topic", "is_granted"),
    [("#", False), ("mg/1/#", False), (topic_of(VICTIM, "dn/cmd"), False), (topic_of(NEIGHBOUR, "dn/cmd"), True)],
)
def test_nats_grants_a_neighbour_no_subscription_but_its_own(
    place: Place, until: Any, topic: str, is_granted: bool
) -> None:
    answers: list[bool] = []

    def subscribe(*_what_the_broker_said: Any) -> None:
        spy.subscribe(topic, 1)

    spy = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="spy", protocol=mqtt.MQTTv311)
    spy.tls_set_context(place.context(NEIGHBOUR))
    spy.on_connect = subscribe
    spy.on_subscribe = lambda _client, _data, _mid, codes, _properties: answers.append(not codes[0].is_failure)
    spy.connect(ADDRESS, place.port)
    spy.loop_start()
    until(lambda: answers, 10.0, "an answer to the subscription")
    spy.disconnect()
    spy.loop_stop()
    assert answers == [is_granted]


def test_configuration_of_a_cluster_is_one_that_nats_reads(
    tmp_path: Path, new_ca: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given = Place(tmp_path, new_ca(tmp_path, "product"), 8883).command("--route", "nats-2:6222", "--route", "nats-3:1")
    assert main([*given, "--backend", "worker-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["nats.conf"]
    written = tmp_path / "b" / "nats.conf"
    program = shutil.which("nats-server") or "nats-server"
    subprocess.run([program, "-t", "-c", str(written)], check=True, capture_output=True, timeout=30)
    text = written.read_text("utf-8")
    assert "@" not in text
    assert "stream_replicas: 3" in text
    assert 'routes: ["nats://nats-2:6222", "nats://nats-3:1"]' in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--server", "a b"], "'a b' is not a name"),
        (["--backend", "a b"], "'a b' is not a common name"),
        (["--gateways", "{tmp}/none"], "none"),
        (["--kind", "mosquitto"], "Mosquitto has a pattern"),
    ],
)
def test_what_nats_would_misread_is_refused_with_what_is_wrong(
    tmp_path: Path, new_ca: Any, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    given = Place(tmp_path, new_ca(tmp_path, "product"), 8883).command()
    assert main([*given, *(part.format(tmp=tmp_path) for part in more)]) == 2
    assert said in capsys.readouterr().err
