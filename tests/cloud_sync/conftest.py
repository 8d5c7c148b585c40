"""What the cloud tests share: keys, an in-memory journal, and two real brokers.

Everything listens on the loopback address and ends with its test.
"""

import asyncio
import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import open_database
from cloud_sync.backend.ingest import Received
from cloud_sync.keys import KeyRing, Role, Signer, generate_keys
from cloud_sync.wire import STREAMS, ZERO_HASH, Head, Hello, encode_payload, record_hash, roster_hash, topic_of
from edge.ports import StoredRecord, StreamHead

GATEWAY = "gw-1"
POLL_INTERVAL_S = 0.01
ADDRESS = "127.0.0.1"

KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

AMQTT_SCRIPT = """
import asyncio, logging, sys
from amqtt.broker import Broker
for name in ("amqtt", "transitions"):
    logging.getLogger(name).setLevel(logging.ERROR)
async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


class MemoryJournal:
    """A journal that forgets nothing while the test runs. Appending is committing."""

    def __init__(self, gateway_id: str = GATEWAY, epoch: int = 1) -> None:
        self.gateway_id = gateway_id
        self.epoch = epoch
        self.records: dict[str, list[StoredRecord]] = {stream: [] for stream in STREAMS}
        self.acked: dict[str, int] = dict.fromkeys(STREAMS, 0)

    def heads(self) -> Mapping[str, StreamHead]:
        return {
            stream: StreamHead(
                stream, self.epoch, len(records), records[-1].hash if records else ZERO_HASH, self.acked[stream]
            )
            for stream, records in self.records.items()
        }

    def write(self, stream: str, body: bytes) -> StoredRecord:
        records = self.records[stream]
        previous_hash = records[-1].hash if records else ZERO_HASH
        seq = len(records) + 1
        digest = record_hash(self.gateway_id, stream, self.epoch, seq, previous_hash, body)
        records.append(StoredRecord(stream, self.epoch, seq, digest, body))
        return records[-1]

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        return [self.write(stream, body) for stream, body in entries]

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        return self.after(stream, after_seq, count_max)

    def after(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        assert after_seq >= 0
        assert count_max > 0
        return self.records[stream][after_seq : after_seq + count_max]

    def acknowledge(self, stream: str, seq: int) -> None:
        assert self.acked[stream] < seq <= len(self.records[stream])
        self.acked[stream] = seq

    @property
    def all_acked(self) -> bool:
        return all(self.acked[stream] == len(records) for stream, records in self.records.items())


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
            # What RFC 5280 wants of every certificate, and Python from 3.13 on asks for.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        )
        if is_ca:
            flags = dict.fromkeys(KEY_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
            builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
        return builder.sign(self.key, hashes.SHA256())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class BrokerProcess:
    """A real broker that can be killed and started again on its port."""

    def __init__(self, command: Callable[[int], list[str]], until: Callable[..., None]) -> None:
        self.port = port_nobody_is_given()
        self._command = command
        self._until = until
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command(self.port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._until(self._answers, 20.0, "a broker that accepts connections")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False


def port_nobody_is_given() -> int:
    """A free port below those of outgoing connections: who knocks at a killed broker could else be given its port."""
    while True:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((ADDRESS, port))
            return port


class PostgresqlServer:
    """A PostgreSQL of Debian's for this test run, in a folder of its own, reached by a socket in it."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert programs, "PostgreSQL's initdb is not in /usr/lib/postgresql: install the package postgresql"
        self.folder, self._bin = folder, programs[-1].parent
        self._numbers = count(1)
        folder.chmod(0o755)
        data = self._data = folder / "data"
        data.mkdir()
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(data, "postgres")
            shutil.chown(folder, "postgres")
        self.run("initdb", "-D", str(data), "-A", "trust", "-U", "wattgate", "-E", "UTF8", "--no-sync")
        self.start()
        self.template = f"postgresql://wattgate@/wattgate_empty?host={folder}"
        self._make("wattgate_empty", "template1")
        open_database(self.template).close()

    def new(self) -> str:
        """The URL of a new database that has our tables."""
        name = f"wattgate_{next(self._numbers)}"
        self._make(name, "wattgate_empty")
        return f"postgresql://wattgate@/{name}?host={self.folder}"

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=50"
        self.run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")

    def forget(self) -> None:
        """It was killed: its process ids, which nobody may have collected yet, mean nothing any more."""
        for left in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            (self.folder / left).unlink(missing_ok=True)

    @property
    def is_running(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def serving(self, url: str) -> list[int]:
        """Processes that serve connections to this database."""
        return [row[0] for row in self._ask("SELECT pid FROM pg_stat_activity WHERE datname = %s", (name_in(url),))]

    def copy(self, url: str) -> str:
        """The URL of a copy; nobody may be connected to the original."""
        name = f"wattgate_{next(self._numbers)}"
        self._make(name, name_in(url))
        return url.replace(name_in(url), name)

    def replace(self, url: str, copy: str) -> None:
        """From now on the first is what the second is."""
        self._ask(f"DROP DATABASE {name_in(url)} WITH (FORCE)")
        self._make(name_in(url), name_in(copy))

    def _ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        import psycopg

        with psycopg.connect(f"postgresql://wattgate@/postgres?host={self.folder}", autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _make(self, name: str, template: str) -> None:
        self._ask(f"CREATE DATABASE {name} TEMPLATE {template}")

    def run(self, program: str, *arguments: str) -> None:
        """Runs a program of PostgreSQL's, or any other by its whole path, as the server's user."""
        as_whom = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_whom, str(self._bin / program), *arguments]
        done = subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr


def name_in(url: str) -> str:
    """The database that a URL of ours means."""
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def new_postgresql() -> type[PostgresqlServer]:
    return PostgresqlServer


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    # Not below pytest's folder, which only its owner may enter; and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="wattgate-pg-") as folder:
        server = PostgresqlServer(Path(folder))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_program("psql"))])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Where a new database may be made, on each engine."""
    if request.param == "sqlite":
        numbers = count(1)
        return lambda: f"sqlite:///{tmp_path}/cloud-{next(numbers)}.db"
    make: Callable[[], str] = request.getfixturevalue("postgresql").new
    return make


@pytest.fixture(scope="session")
def keys() -> tuple[KeyRing, Mapping[Role, Signer]]:
    return generate_keys(credit_nano_max=1_000_000_000_000)


@pytest.fixture
def ring(keys: tuple[KeyRing, Mapping[Role, Signer]]) -> KeyRing:
    return keys[0]


@pytest.fixture
def signers(keys: tuple[KeyRing, Mapping[Role, Signer]]) -> Mapping[Role, Signer]:
    return keys[1]


@pytest.fixture(scope="session")
def new_ca() -> type[Ca]:
    return Ca


@pytest.fixture(scope="session")
def new_broker() -> type[BrokerProcess]:
    return BrokerProcess


@pytest.fixture(scope="session")
def new_journal() -> type[MemoryJournal]:
    return MemoryJournal


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def backend(keys: tuple[KeyRing, Mapping[Role, Signer]], new_place: Callable[[], str]) -> Iterator[Backend]:
    """A backend with one gateway enrolled, on each engine."""
    ring, signers = keys
    with contextlib.closing(Backend(new_place(), ring, signers)) as backend:
        backend.enroll(GATEWAY, at=1000)
        yield backend


@pytest.fixture
def as_hello() -> Callable[[MemoryJournal], Received]:
    """A journal's hello, as the broker gives it."""

    def said(journal: MemoryJournal) -> Received:
        heads = {
            name: Head(head.epoch, head.seq, head.hash.hex(), head.acked_seq) for name, head in journal.heads().items()
        }
        hello = Hello(1, journal.gateway_id, journal.epoch, "boot", "ntp", 1000, "1.0", (), roster_hash(()), heads)
        return Received(topic_of(journal.gateway_id, "up/hello"), encode_payload(hello))

    return said


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket in it, and which another user may enter."""
    with tempfile.TemporaryDirectory(prefix="wattgate-") as folder:
        yield Path(folder)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of this machine that somebody listens on."""
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        listener.listen()
        yield listener.getsockname()[1]


def amqtt_command(port: int) -> list[str]:
    return [sys.executable, "-c", AMQTT_SCRIPT, str(port)]


def mosquitto_command(folder: Path) -> Callable[[int], list[str]]:
    def command(port: int) -> list[str]:
        configuration = folder / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        return ["mosquitto", "-c", str(configuration)]

    return command


@pytest.fixture(params=["amqtt", pytest.param("mosquitto", marks=pytest.mark.needs_program("mosquitto"))])
def broker(request: pytest.FixtureRequest, tmp_path: Path, until: Callable[..., None]) -> Iterator[BrokerProcess]:
    """The demo's broker and Debian's: nothing may depend on which one it is."""
    command = amqtt_command if request.param == "amqtt" else mosquitto_command(tmp_path)
    process = BrokerProcess(command, until)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def run_async() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a test's coroutine on a real loop, with an end."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await coroutine

        return asyncio.run(bounded())

    return run


@pytest.fixture
def comes_true() -> Callable[..., Coroutine[Any, Any, None]]:
    """Waits on the loop for what another process or thread brings about."""

    async def wait(condition: Callable[[], object], within_s: float = 20.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(POLL_INTERVAL_S)

    return wait
