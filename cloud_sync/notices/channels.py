"""What takes a message to a customer: an HTTP provider of SMS, a mail server, a signed webhook.

A channel answers with what is certain. LATER and REFUSED mean that nothing was sent; where that cannot be known the
answer is IN_DOUBT. Sources: RFC 5321 (reply codes), RFC 3207 (STARTTLS), RFC 9110 (status codes).
"""

import hashlib
import hmac
import json
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from enum import Enum
from http.client import HTTPException, HTTPMessage
from typing import IO, Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cloud_sync.notices.settings import Receipt, Settings, SmsProvider, Smtp, Webhook, check_url
from cloud_sync.notices.words import Words

ANSWER_BYTES_MAX: Final = 64 * 1024
PROOF_CHARACTERS_MAX: Final = 500
# Nothing was taken, and asking again is right (429 Too Many Requests, 503 Service Unavailable, 425 Too Early).
_NOT_TAKEN: Final = frozenset((425, 429, 503))


class Answer(Enum):
    """What a channel did with a message."""

    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    LATER = "later"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, what was said word for word, and the provider's id of the message."""

    answer: Answer
    proof: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One notice for one address. `message_id` is the same for every attempt through a channel."""

    message_id: str
    address: str
    words: Words
    facts: Mapping[str, Any]  # the record, for programs


class Channel(Protocol):
    """One way to customers."""

    receipt: Receipt
    repeatable: bool  # sending the same message again through it reaches the customer once

    def send(self, message: Message, at: int) -> Outcome:
        """Hands the message over, or says why not."""

    def ask(self, reference: str) -> Outcome:
        """What became of a message that was accepted."""


class SmsChannel:
    """SMS through an HTTP provider."""

    def __init__(self, settings: SmsProvider) -> None:
        self._settings = settings
        self.receipt: Receipt = settings.receipt
        self.repeatable = settings.idempotent
        token = "" if settings.token_file is None else settings.token_file.read_text("utf-8").strip()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, message: Message, at: int) -> Outcome:
        """POST {id, to, text}."""
        content = {"id": message.message_id, "to": message.address, "text": message.words.body}
        headers = {**self._headers, "Idempotency-Key": message.message_id}
        return self._outcome(_exchange(self._settings.url, content, headers, self._settings.timeout_s, self.repeatable))

    def ask(self, reference: str) -> Outcome:
        """GET url/<reference>."""
        url = f"{self._settings.url.rstrip('/')}/{quote(reference, safe='')}"
        return self._outcome(_exchange(url, None, self._headers, self._settings.timeout_s, repeatable=True))

    def _outcome(self, outcome: Outcome) -> Outcome:
        """The provider's own state, where it has taken the message."""
        if outcome.answer is not Answer.ACCEPTED:
            return outcome
        said = _object(outcome.proof)
        states = {"delivered": Answer.DELIVERED, "accepted": Answer.ACCEPTED, "failed": Answer.REFUSED}
        # Taken, but in words that are not the agreed ones: it is not known what was done.
        answer = states.get(str(said.get("state")), Answer.IN_DOUBT)
        return Outcome(answer, _short(outcome.proof), _short(said.get("id", "")))


class EmailChannel:
    """E-mail through a mail server, with STARTTLS."""

    repeatable = False

    def __init__(self, settings: Smtp) -> None:
        self._settings = settings
        self.receipt: Receipt = settings.receipt
        self._context = ssl.create_default_context(cafile=settings.ca_file) if settings.starttls else None
        file = settings.password_file
        self._password = "" if file is None else file.read_text("utf-8").strip()

    def send(self, message: Message, at: int) -> Outcome:
        """MAIL, RCPT, DATA. Before the end of DATA nothing has been sent."""
        try:
            mail = self._mail(message).as_bytes(policy=SMTP_POLICY)
        except ValueError as problem:
            return Outcome(Answer.REFUSED, _short(str(problem)))
        try:
            server = self._greeted()
        except (OSError, smtplib.SMTPException) as problem:
            return Outcome(Answer.LATER, _short(problem))
        with server:
            try:
                for code, said in self._addressed(server, message.address):
                    if code >= 400:
                        return _by_code(code, said)
            except (OSError, smtplib.SMTPException) as problem:
                return Outcome(Answer.LATER, _short(problem))
            try:
                return _by_code(*server.data(mail))
            except smtplib.SMTPDataError as problem:
                return _by_code(problem.smtp_code, problem.smtp_error)
            except (OSError, smtplib.SMTPException) as problem:
                return Outcome(Answer.IN_DOUBT, _short(problem))

    def ask(self, reference: str) -> Outcome:
        """A mail server tells nothing later."""
        return Outcome(Answer.ACCEPTED, "", reference)

    def _greeted(self) -> smtplib.SMTP:
        settings = self._settings
        server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
        try:
            server.ehlo()
            if self._context is not None:
                server.starttls(context=self._context)
                server.ehlo()
            if settings.user:
                server.login(settings.user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def _addressed(self, server: smtplib.SMTP, address: str) -> Any:
        yield server.mail(self._settings.sender)
        yield server.rcpt(address)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage(policy=SMTP_POLICY)
        mail["From"] = Address(addr_spec=self._settings.sender)
        mail["To"] = Address(addr_spec=message.address)
        mail["Subject"] = message.words.subject
        mail["Message-ID"] = f"<{message.message_id}@{self._settings.sender.partition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.words.body)
        return mail


class WebhookChannel:
    """JSON to a customer's own server, signed."""

    repeatable = True

    def __init__(self, settings: Webhook) -> None:
        self._settings = settings
        self.receipt: Receipt = settings.receipt
        self._secret = settings.secret_file.read_text("utf-8").strip().encode()
        if not self._secret:
            raise ValueError(f"{settings.secret_file}: is empty; a webhook needs a secret")

    def send(self, message: Message, at: int) -> Outcome:
        """POST {id, subject, text, record} with X-Wattgate-Timestamp and X-Wattgate-Signature."""
        words, facts = message.words, dict(message.facts)
        content = {"id": message.message_id, "subject": words.subject, "text": words.body, "record": facts}
        headers = {"X-Wattgate-Timestamp": str(at), "X-Wattgate-Signature": signature(self._secret, at, _json(content))}
        outcome = _exchange(message.address, content, headers, self._settings.timeout_s, self.repeatable)
        return replace(outcome, proof=_short(outcome.proof))

    def ask(self, reference: str) -> Outcome:
        """Its answer was all."""
        return Outcome(Answer.ACCEPTED, "", reference)


def signature(secret: bytes, at: int, body: bytes) -> str:
    """What a receiver of a webhook compares: HMAC-SHA256 over `<timestamp>.<body>`."""
    return "sha256=" + hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def open_channels(settings: Settings) -> dict[str, Channel]:
    """Those that are set up. Raises OSError, ValueError for a secret that cannot be read."""
    channels: dict[str, Channel] = {}
    if settings.sms is not None:
        channels["sms"] = SmsChannel(settings.sms)
    if settings.email is not None:
        channels["email"] = EmailChannel(settings.email)
    if settings.webhook is not None:
        channels["webhook"] = WebhookChannel(settings.webhook)
    return channels


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is a refusal: it could lead to where nobody agreed to send."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _exchange(
    url: str, content: Mapping[str, Any] | None, headers: Mapping[str, str], timeout_s: int, repeatable: bool
) -> Outcome:
    """One request; ACCEPTED with the answer's text if it was taken."""
    unknown = Answer.LATER if repeatable else Answer.IN_DOUBT
    try:
        check_url(url)
    except ValueError as problem:
        return Outcome(Answer.REFUSED, _short(problem))
    body = None if content is None else _json(content)
    request = Request(url, body, {**headers, "Content-Type": "application/json", "User-Agent": "wattgate-notices"})
    try:
        with build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            return Outcome(Answer.ACCEPTED, answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace"))
    except HTTPError as problem:
        said = problem.read(PROOF_CHARACTERS_MAX).decode("utf-8", "replace")
        return Outcome(_by_status(problem.code, unknown), _short(f"{problem.code} {said}"))
    except URLError as problem:  # raised until the request has left whole, not later
        return Outcome(Answer.LATER, _short(problem.reason))
    except (OSError, HTTPException) as problem:
        return Outcome(unknown, _short(repr(problem)))


def _by_status(status: int, unknown: Answer) -> Answer:
    if status in _NOT_TAKEN:
        return Answer.LATER
    return Answer.REFUSED if status < 500 else unknown


def _by_code(code: int, said: bytes | str) -> Outcome:
    """RFC 5321: 2xx done, 4xx not now, 5xx never."""
    text = _short(f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}")
    if code < 400:
        return Outcome(Answer.ACCEPTED, text)
    return Outcome(Answer.LATER if code < 500 else Answer.REFUSED, text)


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def _short(what: object) -> str:
    """Text that any database takes: no NUL, no half of a character."""
    return "".join(letter if letter.isprintable() else " " for letter in str(what)[:PROOF_CHARACTERS_MAX])
