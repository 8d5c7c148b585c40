"""The broker over TLS: only one whose certificate the product's CA signed, for its name, and now; and we show ours."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context

ADDRESS = "127.0.0.1"
CONNACK = b"\x20\x02\x00\x00"


class TlsBroker:
    """Accepts whoever shows a certificate of its CA, and keeps who did."""

    def __init__(self, ca: Any, certificate: tuple[str, str]) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.context.load_verify_locations(ca.file)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.clients: list[str] = []
        self.heard = b""

    async def start(self) -> BrokerAddress:
        self.server = await asyncio.start_server(self._serve, ADDRESS, 0, ssl=self.context)
        return BrokerAddress(ADDRESS, self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = writer.get_extra_info("peercert")["subject"]
        self.clients.append(subject[0][0][1])
        writer.write(CONNACK)
        while data := await reader.read(4096):
            self.heard += data
        writer.close()


class Listener:
    """Whether there is a connection."""

    is_connected = False

    def connected(self) -> None:
        self.is_connected = True

    def disconnected(self, reason: str) -> None:
        self.is_connected = False

    def message(self, topic: str, payload: bytes) -> None:
        raise AssertionError("nobody sends anything")


def test_broker_of_our_ca_is_spoken_to_and_sees_our_certificate(
    tmp_path: Path, new_ca: Any, run_async: Any, comes_true: Any
) -> None:
    ca = new_ca(tmp_path, "product")
    broker, context = TlsBroker(ca, ca.issue("broker")), gateway_tls_context(ca.file, *ca.issue("gw-1"))

    async def scenario() -> None:
        transport = MqttTransport(TransportSettings("gw-1", (await broker.start(),), (), tls=context), lambda: 0.0)
        listener = Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected)
        assert transport.publish("up", b"a value" * 10_000, 0, False)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # What was given before the end is sent before the end: the last packet is DISCONNECT.
        await comes_true(lambda: broker.heard.endswith(b"\xe0\x00"))

    run_async(scenario())
    assert broker.clients == ["gw-1"]
    assert broker.heard.count(b"a value") == 10_000


@pytest.mark.parametrize("fault", ["other CA", "wrong name", "expired", "no certificate of ours"])
def test_broker_that_is_not_proven_is_told_nothing(
    fault: str, tmp_path: Path, new_ca: Any, run_async: Any, comes_true: Any
) -> None:
    ca, stranger = new_ca(tmp_path, "product"), new_ca(tmp_path, "stranger")
    certificate = {
        "other CA": lambda: stranger.issue("broker"),
        "wrong name": lambda: ca.issue("broker", address="127.0.0.2"),
        "expired": lambda: ca.issue("broker", valid_days=-1),
        "no certificate of ours": lambda: ca.issue("broker"),
    }[fault]()
    ours = (stranger if fault == "no certificate of ours" else ca).issue("gw-1")
    bad, good = TlsBroker(ca, certificate), TlsBroker(ca, ca.issue("good"))
    context = gateway_tls_context(ca.file, *ours)

    attempts: list[None] = []

    def share() -> float:
        attempts.append(None)
        return 0.5

    async def scenario() -> None:
        brokers = (await bad.start(), await good.start())
        transport = MqttTransport(TransportSettings("gw-1", brokers, (), tls=context).capped(0.02), share)
        listener = Listener()
        task = asyncio.create_task(transport.run(listener))
        await comes_true(lambda: listener.is_connected or len(attempts) > 4)
        assert listener.is_connected == (fault != "no certificate of ours")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_async(scenario())
    assert (bad.clients, bad.heard) == ([], b"")
    assert good.clients == ([] if fault == "no certificate of ours" else ["gw-1"])
