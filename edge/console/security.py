"""What every answer carries and every change must prove (SECURITY.md R26, R27).

Plain ASGI, no threads: headers on each response, an allow-list of names against DNS rebinding,
and for whatever changes something the Origin, a cookie of SameSite=Strict and a signed token.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.console.settings import ConsoleSettings

# No 'unsafe-inline' anywhere: plots carry presentation attributes, never a style element.
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers would then send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
FORM_COOKIE = "wattgate_form"
_FORM_TYPE = "application/x-www-form-urlencoded"


class SecureResponses:
    """Adds the headers, and no-store unless the response says otherwise (static files do)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_secured if scope["type"] == "http" else send)


class AllowedHosts:
    """Answers only to the names of the site, so that a rebound name gets nothing."""

    def __init__(self, app: ASGIApp, settings: ConsoleSettings, refuse: Callable[[Request], Response]) -> None:
        self.app = app
        self.settings = settings
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not host_is_allowed(Headers(scope=scope).get("host", ""), self.settings):
            await self.refuse(Request(scope, receive))(scope, receive, send)
            return
        await self.app(scope, receive, send)


def secure(headers: MutableHeaders) -> None:
    """Puts the security headers on one response."""
    for name, value in SECURITY_HEADERS.items():
        headers[name] = value
    headers.setdefault("cache-control", "no-store")


def host_is_allowed(host: str, settings: ConsoleSettings) -> bool:
    """Whether this Host header names the site: an allowed name, or numbers, with any port."""
    try:
        parts = urlsplit(f"//{host}")
        name = (parts.hostname or "").rstrip(".")
        _ = parts.port  # raises when it is no number
    except ValueError:
        return False
    if not name or parts.netloc != host or "@" in host:
        return False
    return name in map(str.lower, settings.allowed_hosts) or (settings.allow_ip_addresses and _is_ip_address(name))


class FormGuard:
    """Hands out and checks the token of forms: a salted MAC over the browser's own cookie."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._secret = secrets.token_bytes(32)  # per process: a restart makes open forms ask again

    def cookie_of(self, request: Request) -> str:
        """The browser's form cookie, or a new one for a browser without."""
        return request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(18)

    def token(self, cookie: str) -> str:
        """A new token for this cookie. The salt differs each time, so compression reveals nothing."""
        salt = secrets.token_hex(8)
        return f"{salt}.{self._mac(salt, cookie)}"

    def keep_cookie(self, response: Response, cookie: str) -> None:
        """Sets the form cookie on a response."""
        response.set_cookie(
            FORM_COOKIE, cookie, httponly=True, samesite="strict", secure=self._settings.secure_cookies, path="/"
        )

    async def read(self, request: Request) -> dict[str, str]:
        """The fields of a form that proved it is ours. First failing check wins: origin, type, size, token."""
        if not _same_origin(request):
            raise HTTPException(403, "origin")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise HTTPException(415, "form_type")
        try:
            text = (await self._body(request)).decode()
            fields = {name: values[0] for name, values in parse_qs(text, max_num_fields=20).items()}
        except ValueError:  # not UTF-8, or too many fields
            raise HTTPException(400, "malformed") from None
        if not self._token_is_good(fields.get("form_token", ""), request.cookies.get(FORM_COOKIE, "")):
            raise HTTPException(403, "form_token")
        return fields

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._settings.form_bytes_max:
                raise HTTPException(413, "too_long")
        return bytes(body)

    def _token_is_good(self, token: str, cookie: str) -> bool:
        salt, _, mac = token.partition(".")
        return bool(cookie) and hmac.compare_digest(mac.encode(), self._mac(salt, cookie).encode())

    def _mac(self, salt: str, cookie: str) -> str:
        return hmac.digest(self._secret, f"{salt}.{cookie}".encode(), "sha256").hex()


def _same_origin(request: Request) -> bool:
    """Whether the Origin names this very host and port. A missing Origin is a refusal."""
    try:
        origin = urlsplit(request.headers.get("origin", ""))
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and origin.netloc.lower() == request.headers.get("host", "").lower()


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
