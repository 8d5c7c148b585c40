"""What the tests of notices share: a provider of SMS, a mail server with STARTTLS, and a ledger that notices come from.

Servers listen on the loopback address, on free ports, and end with their test. The clock is moved by hand.
"""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.envelope import OVERHEAD_BYTES
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.notices.channels import open_channels
from cloud_sync.notices.contacts import Contact, add_contact
from cloud_sync.notices.delivery import Delivery, Done
from cloud_sync.notices.settings import Settings, SmsProvider, Smtp, Webhook
from cloud_sync.wire import Batch, Hello, RosterEntry, encode_payload, roster_hash, topic_of
from edge.core import events as ev
from edge.core.units import MoneyNano, UnixSeconds, WattHours
from edge.store.codec import encode_event

GATEWAY = "gw-1"
NOON = 1_798_689_600  # 2026-12-31 12:00 in Shanghai
PHONE = "+8613800138000"


class Provider:
    """An HTTP server that answers as it is told, and keeps what it got."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.answers: list[tuple[int, Any]] = []  # the next ones; then `usual`; None hangs up without a word
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.usual: tuple[int, Any] = (200, {"id": "m-1", "state": "delivered"})
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                provider.requests.append((self.command, self.path, dict(self.headers), body))
                provider.may_answer.wait(30)
                status, said = provider.answers.pop(0) if provider.answers else provider.usual
                if status == 0:
                    self.close_connection = True
                    return
                content = json.dumps(said).encode()
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/messages"

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What it was asked to send."""
        return [json.loads(body) for command, _path, _headers, body in self.requests if command == "POST"]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mailbox:
    """What a mail server got; `answers` are what it says to DATA or RCPT instead of 250."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.logins: list[bytes] = []
        self.encrypted: list[bool] = []
        self.data_answers: list[str] = []
        self.recipient_answers: list[str] = []

    def log_in(self, data: Any) -> AuthResult:
        self.logins.append(data.login)
        return AuthResult(success=(data.login, data.password) == (b"wattgate", b"secret"))

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.recipient_answers:
            return self.recipient_answers.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.data_answers:
            answer = self.data_answers.pop(0)
            if not answer:
                server.transport.abort()
            return answer
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.encrypted.append(session.ssl is not None)
        return "250 2.0.0 kept as 4711"


class Street:
    """One backend with one gateway, and the notices that its ledger raises."""

    def __init__(self, place: str, backend: Backend, journal: Any, settings: Settings) -> None:
        self.place, self.backend, self.journal, self.settings = place, backend, journal, settings
        self.database = backend.database
        self.at = NOON
        backend.take([_hello(journal, ("A01", "A02"))], at=NOON, now=0.0)

    def record(self, event: ev.Event) -> None:
        """Journals an event as a gateway does and brings it to the backend."""
        _stream, body = encode_event(event)
        records = self.journal.records["led"]
        previous = records[-1].hash if records else bytes(32)
        kept = self.journal.write("led", body)
        batch = Batch(
            v=1, gw=GATEWAY, stream="led", epoch=1, first=kept.seq, prev=previous.hex(), bodies=(body.decode(),)
        )
        self.backend.take([Received(topic_of(GATEWAY, "up/led"), encode_payload(batch))], at=self.at, now=0.0)

    def raise_notice(self, number: int = 2, account: str = "A01", document_hash: str = "", at: int = NOON) -> None:
        self.record(
            ev.NoticeRaised(
                UnixSeconds(at), account, number, MoneyNano(-1_230_000_000), MoneyNano(-1_230_000_001), MoneyNano(0),
                UnixSeconds(NOON - 600), WattHours(12_345), None, document_hash,
            )
        )  # fmt: skip

    def contact(
        self, channel: str = "sms", address: str = PHONE, preference: int = 1, verified: bool = True,
        language: str = "en", account: str = "A01",
    ) -> None:  # fmt: skip
        verified_at = NOON if verified else None
        add_contact(self.database, Contact(GATEWAY, account, channel, address, language, preference, verified_at), NOON)

    def run(self, settings: Settings | None = None) -> Done:
        """One run at the street's clock."""
        used = settings or self.settings
        return Delivery(self.database, self.backend.desk, used, open_channels(used), lambda: self.at).run_once()

    def orders(self) -> list[dict[str, Any]]:
        """The receipts that were ordered: what they say."""
        sql = "SELECT envelope FROM command WHERE type = 'notice_receipt' ORDER BY created_at"
        rows = self.database.execute(sql).fetchall()
        return [json.loads(bytes(row[0])[OVERHEAD_BYTES:]) for row in rows]


def _hello(journal: Any, accounts: tuple[str, ...]) -> Received:
    roster = tuple(RosterEntry(meter=account.replace("A", "M"), account=account) for account in accounts)
    said = Hello(1, GATEWAY, journal.epoch, "boot", "ntp", 1000, "1.0", roster, roster_hash(roster), {})
    return Received(topic_of(GATEWAY, "up/hello"), encode_payload(said))


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def mail_server(mailbox: Mailbox, new_ca: Any, tmp_path: Path) -> Iterator[Smtp]:
    """How the mail server is reached: it wants STARTTLS and a password."""
    ca = new_ca(tmp_path, "mail-ca")
    certificate, key = ca.issue("mail")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.socket() as probe:  # the controller connects to the number that it is given
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(
        mailbox, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True, auth_required=True,
        authenticator=lambda _server, _session, _envelope, _mechanism, data: mailbox.log_in(data),
    )  # fmt: skip
    controller.start()
    (tmp_path / "password").write_text("secret\n")
    yield Smtp(
        host="127.0.0.1", port=port, sender="notices@example.org",
        ca_file=Path(ca.file), user="wattgate", password_file=tmp_path / "password",
    )  # fmt: skip
    controller.stop()


@pytest.fixture
def settings(provider: Provider, mail_server: Smtp, tmp_path: Path) -> Settings:
    """All three channels, at noon never quiet."""
    (tmp_path / "webhook.secret").write_text("between us\n")
    (tmp_path / "sms.token").write_text("t-1\n")
    return Settings(
        zone="Asia/Shanghai", name="Power Co", email=mail_server,
        sms=SmsProvider(url=provider.url, token_file=tmp_path / "sms.token"),
        webhook=Webhook(secret_file=tmp_path / "webhook.secret"),
    )  # fmt: skip


@pytest.fixture
def street(
    keys: tuple[KeyRing, Mapping[Role, Signer]], new_place: Callable[[], str], journal: Any, settings: Settings
) -> Iterator[Street]:
    """On each engine."""
    ring, signers = keys
    place = new_place()
    with closing(Backend(place, ring, signers)) as backend:
        backend.enroll(GATEWAY, at=1000)
        yield Street(place, backend, journal, settings)
