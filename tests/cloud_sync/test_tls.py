"""The broker over TLS: only one whose certificate the product's CA signed, for its name, and now; and we show ours."""

import asyncio
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings, gateway_tls_context

ADDRESS = "127.0.0.1"
CONNACK = b"\x20\x02\x00\x00"


@dataclass
class Ca:
    """Signs certificates of brokers and devices."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def file(self) -> str:
        path = self.folder / f"{self.name}.pem"
        path.write_bytes(self.certificate(self.key, self.name, is_ca=True).public_bytes(Encoding.PEM))
        return str(path)

    def issue(self, name: str, address: str = ADDRESS, valid_days: int = 1) -> tuple[str, str]:
        """(certificate, key) as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        certificate.write_bytes(self.certificate(key, name, address, valid_days).public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(certificate), str(secret)

    def certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        name: str,
        address: str = ADDRESS,
        valid_days: int = 1,
        is_ca: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=valid_days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class TlsBroker:
    """Accepts whoever shows a certificate of its CA, and keeps who did."""

    def __init__(self, ca: Ca, certificate: tuple[str, str]) -> None:
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
    tmp_path: Path, run_async: Any, comes_true: Any
) -> None:
    ca = Ca(tmp_path, "product")
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
def test_broker_that_is_not_proven_is_told_nothing(fault: str, tmp_path: Path, run_async: Any, comes_true: Any) -> None:
    ca, stranger = Ca(tmp_path, "product"), Ca(tmp_path, "stranger")
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
