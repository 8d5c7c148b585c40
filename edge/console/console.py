"""What all pages share: the sources they read, the languages, the templates, the guard of forms."""

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from edge.agent.snapshot import SnapshotSource, StreetSnapshot
from edge.console.formats import Formats, formats_for
from edge.console.language import Language, choose, load_languages
from edge.console.parts import StreetRenderer, words_of
from edge.console.security import FormGuard
from edge.console.settings import ConsoleSettings
from edge.ports import CommandDoor, LedgerReader

LANGUAGE_COOKIE = "wattgate_language"
_HERE = Path(__file__).parent
_YEAR_S = 31_536_000
STATIC_TYPES: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "token.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file kept in memory; its fingerprint is in its address, so browsers may keep it too."""

    body: bytes
    media_type: str
    fingerprint: str


@dataclass(slots=True)
class Console:
    """One console. Reads the snapshot and the ledger, and hands what people enter to the one door."""

    source: SnapshotSource
    ledger: LedgerReader
    door: CommandDoor
    settings: ConsoleSettings
    languages: Mapping[str, Language]
    environment: Environment
    static: Mapping[str, StaticFile]
    guard: FormGuard
    street: StreetRenderer
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))  # tells two processes' versions apart
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    live_clients: int = 0

    def language_of(self, request: Request) -> Language:
        """The language this request is answered in."""
        tag = choose(
            request.query_params.get("lang"),
            request.cookies.get(LANGUAGE_COOKIE),
            request.headers.get("accept-language", ""),
            self.settings.default_language,
        )
        return self.languages[tag]

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page. `snapshot` may be None while the agent starts."""
        language = self.language_of(request)
        snapshot: StreetSnapshot | None = self.source.current
        formats: Formats | None = formats_for(snapshot, language) if snapshot else None
        html = self.environment.get_template(template).render(
            **words_of(language, formats),
            snapshot=snapshot,
            static=self.static,
            languages=[(one, _with_language(request, one.tag)) for one in self.languages.values()],
            path=request.url.path,
            token_accounts=self.settings.token_accounts,
            **values,
        )
        response = HTMLResponse(html, status)
        response.headers["content-language"] = language.tag
        if request.query_params.get("lang"):
            response.set_cookie(
                LANGUAGE_COOKIE, language.tag, max_age=_YEAR_S, samesite="strict", secure=self.settings.secure_cookies
            )
        return response

    def form_page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page with a form on it: with token and cookie."""
        cookie = self.guard.cookie_of(request)
        response = self.page(request, template, status, form_token=self.guard.token(cookie), **values)
        self.guard.keep_cookie(response, cookie)
        return response


def make_console(source: SnapshotSource, ledger: LedgerReader, door: CommandDoor, settings: ConsoleSettings) -> Console:
    """Loads catalogues, templates and static files; fails here if one is broken."""
    environment = _environment()
    return Console(
        source=source,
        ledger=ledger,
        door=door,
        settings=settings,
        languages=load_languages(),
        environment=environment,
        static={name: _static(name) for name in STATIC_TYPES},
        guard=FormGuard(settings),
        street=StreetRenderer(environment, settings),
    )


def console_of(request: Request) -> Console:
    """The console a request came to."""
    console = request.app.state.console
    assert isinstance(console, Console)
    return console


@functools.cache
def _environment() -> Environment:
    """The templates, compiled once; escaping is on and a missing value is a fault."""
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _static(name: str) -> StaticFile:
    body = (_HERE / "static" / name).read_bytes()
    return StaticFile(body, STATIC_TYPES[name], hashlib.sha256(body).hexdigest()[:12])


def _with_language(request: Request, tag: str) -> str:
    url = request.url.include_query_params(lang=tag)
    return f"{url.path}?{url.query}"
