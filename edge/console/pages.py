"""The pages for reading: the street, one account, the event log, and health for programs."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.console.console import Console, console_of
from edge.console.formats import formats_for
from edge.console.kinds import KINDS, OTHER, is_of_kind, known_kind
from edge.console.parts import account_parts, ledger_line, ledger_part
from edge.console.plot import balance_plots, plot_unit
from edge.console.street import COUNTED, conditions
from edge.core.units import SECONDS_PER_DAY, UnixSeconds

# Batches read at most when a filter finds little: a page answers in bounded time.
_FILTER_BATCHES_MAX = 10
_DIGITS_MAX = 18


async def street(request: Request) -> Response:
    """All meters, worst first; `?show=cut` and the like leave one condition."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    show = wanted_condition(console, request)
    parts = console.street.current(snapshot, console.language_of(request))
    return console.page(
        request,
        "street.html",
        parts=parts.parts,
        row_ids=parts.rows_shown(show),
        show=show,
        counted=COUNTED,
        live=f"/live?view=street&show={show or ''}&seen={console.run_id}-{parts.version}",
    )


async def account(request: Request) -> Response:
    """One account: why it is cut or not, its balance over time, its ledger."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    view = find_account(snapshot, request.path_params["account_id"])
    language = console.language_of(request)
    formats = formats_for(snapshot, language).of(view.unit)
    records = await console.ledger.account_records(view.account_id, console.settings.ledger_lines)
    since = UnixSeconds(snapshot.at - console.settings.plot_days * SECONDS_PER_DAY)
    history = await console.ledger.balance_history(view.account_id, since)
    return console.form_page(
        request,
        "account.html",
        account=view,
        parts=account_parts(console.environment, snapshot, view, language, console.settings.low_days),
        ledger=ledger_part(console.environment, records, language, formats),
        plots=balance_plots(history, (snapshot.at, view.live_balance_nano), formats),
        plot_unit=plot_unit(formats),
        live=f"/live?view=account&id={view.account_id}&seen={console.run_id}-{snapshot.version}",
    )


async def events(request: Request) -> Response:
    """The event log, newest first, a page at a time."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    before = request.query_params.get("before", "")
    wanted = request.query_params.get("account", "")
    kind = known_kind(request.query_params.get("kind"))
    records, older = await _event_page(console, wanted, kind, whole_number(before))
    formats = formats_for(snapshot, console.language_of(request))
    units = {view.account_id: view.unit for view in snapshot.accounts}
    return console.page(
        request,
        "events.html",
        lines=[ledger_line(record, formats.of(units.get(str(record.get("account")), "money"))) for record in records],
        wanted=wanted,
        kind=kind,
        kinds=(*KINDS, OTHER),
        before=before,
        older=older,
        accounts=sorted(snapshot.accounts, key=lambda view: view.position),
    )


async def health(request: Request) -> Response:
    """Whether the agent publishes: 200 with its version, or 503 while it starts."""
    snapshot = console_of(request).source.current
    if snapshot is None:
        return JSONResponse({"status": "starting"}, 503, headers={"retry-after": "2"})
    return JSONResponse(
        {
            "status": "ok",
            "gateway": snapshot.gateway_id,
            "software_version": snapshot.software_version,
            "snapshot_version": snapshot.version,
            "at": snapshot.at,
            "clock_quality": snapshot.clock_quality,
            "accounts": len(snapshot.accounts),
            "cloud_connected": snapshot.cloud.connected,
            "journal_seq": snapshot.journal_seq,
            "recovery": None if snapshot.recovery is None else snapshot.recovery.reason,
        }
    )


async def static(request: Request) -> Response:
    """A file from memory. Its address changes with its content, so it may be kept for ever."""
    file = console_of(request).static.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404, "not_found")
    return Response(
        file.body, media_type=file.media_type, headers={"cache-control": "public, max-age=31536000, immutable"}
    )


def starting(request: Request) -> Response:
    """Says that the agent has not finished its first round; the page asks again by itself."""
    response = console_of(request).page(request, "message.html", 503, code="starting", retry=True)
    response.headers["retry-after"] = "2"
    return response


def find_account(snapshot: StreetSnapshot, account_id: str) -> AccountView:
    """The account of that id, or a page that says there is none."""
    for view in snapshot.accounts:
        if view.account_id == account_id:
            return view
    raise HTTPException(404, "no_account")


def wanted_condition(console: Console, request: Request) -> str | None:
    """The condition asked for, if it is one."""
    show = request.query_params.get("show")
    return show if show in conditions(console.settings.low_days) else None


def whole_number(text: str) -> int | None:
    """A number from an address, if it is one of a size that occurs."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS_MAX else None


async def _event_page(
    console: Console, wanted: str, kind: str, before: int | None
) -> tuple[list[Mapping[str, Any]], int | None]:
    """Records for one page, and where the next one starts; None at the end of the log."""
    size = console.settings.events_per_page
    found: list[Mapping[str, Any]] = []
    for _ in range(_FILTER_BATCHES_MAX):
        batch = await console.ledger.event_records(size, before)
        for record in batch:
            before = int(record["order"])
            if (not wanted or record.get("account") == wanted) and is_of_kind(record, kind):
                found.append(record)
            if len(found) == size:
                return found, before
        if len(batch) < size:
            return found, None
    return found, before
