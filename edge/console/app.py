"""The console as an ASGI application: the table of routes, and what every answer goes through."""

from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge.agent.snapshot import SnapshotSource
from edge.console.console import Console, console_of, make_console
from edge.console.emergency import emergency_answer, emergency_form, select_emergency
from edge.console.export import export_events
from edge.console.live import live
from edge.console.on_site import do_on_site, on_site_answer, on_site_form
from edge.console.pages import account, events, health, static, street
from edge.console.security import AllowedHosts, SecureResponses, secure
from edge.console.settings import ConsoleSettings
from edge.console.site import areas, lines, system
from edge.console.token import enter_token, token_answer, token_form
from edge.console.voucher import RecentAnswers, enter_voucher, voucher_answer, voucher_form
from edge.ports import CommandDoor, LedgerReader

# The whole table: header, form and (later) role tests are generated from it.
ROUTES = (
    Route("/", street, methods=["GET"]),
    Route("/account/{account_id}", account, methods=["GET"]),
    Route("/events", events, methods=["GET"]),
    Route("/events/export/{format}", export_events, methods=["GET"]),
    Route("/lines", lines, methods=["GET"]),
    Route("/areas", areas, methods=["GET"]),
    Route("/system", system, methods=["GET"]),
    Route("/voucher", voucher_form, methods=["GET"]),
    Route("/voucher", enter_voucher, methods=["POST"]),
    Route("/voucher/{answer_id}", voucher_answer, methods=["GET"]),
    Route("/token", token_form, methods=["GET"]),
    Route("/token", enter_token, methods=["POST"]),
    Route("/token/{answer_id}", token_answer, methods=["GET"]),
    Route("/emergency", emergency_form, methods=["GET"]),
    Route("/emergency", select_emergency, methods=["POST"]),
    Route("/emergency/{answer_id}", emergency_answer, methods=["GET"]),
    Route("/on-site", on_site_form, methods=["GET"]),
    Route("/on-site", do_on_site, methods=["POST"]),
    Route("/on-site/{answer_id}", on_site_answer, methods=["GET"]),
    Route("/live", live, methods=["GET"]),
    Route("/health", health, methods=["GET"]),
    Route("/static/{name}", static, methods=["GET"]),
)
# Starlette's own refusals, by status, as codes of the catalogue's `refusal` context.
_CODES = {404: "not_found", 405: "method"}
# Above any page, so that compression runs on the loop and never in a thread.
_GZIP_THREAD_BYTES = 1 << 30


def create_app(source: SnapshotSource, ledger: LedgerReader, door: CommandDoor, settings: ConsoleSettings) -> Starlette:
    """The console over one agent. Reads `source` and `ledger`, changes things only through `door`."""
    console = make_console(source, ledger, door, settings)

    def refuse_host(request: Request) -> Response:
        text = console.language_of(request).text("This console does not answer to that name.")
        return PlainTextResponse(text, 421)

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(SecureResponses),
            Middleware(AllowedHosts, settings=settings, refuse=refuse_host),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5, thread_minimum_size=_GZIP_THREAD_BYTES),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    app.state.console = console
    app.state.answers = RecentAnswers()
    app.state.token_answers = RecentAnswers()
    app.state.emergency_answers = RecentAnswers()
    app.state.on_site_answers = RecentAnswers()
    return app


def stop_live(app: Starlette) -> None:
    """Ends all open streams, so that a server can finish."""
    console: Console = app.state.console
    console.stopping.set()


async def _refused(request: Request, error: Any) -> Response:
    """A refusal as a page, its code in words."""
    console = console_of(request)
    known = console.language_of(request).knows("refusal", error.detail)
    code = error.detail if known else _CODES.get(error.status_code, "malformed")
    response = console.page(request, "message.html", error.status_code, code=code, retry=False)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours: a plain sentence, nothing of its cause. Starlette raises it again for the log."""
    text = console_of(request).language_of(request).text("This page could not be made. The fault has been logged.")
    response = PlainTextResponse(text, 500)
    # Made outside the other middleware, so the headers are put on here.
    secure(MutableHeaders(raw=response.raw_headers))
    return response
