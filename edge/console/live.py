"""Server-sent events: what changed on an open page, at most once a second.

A message is JSON: `parts` (element id -> HTML) and, on the street, `order` (ids of the rows).
Its id is `run-version`; a browser that comes back says which it saw last and gets the difference.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge.agent.snapshot import StreetSnapshot
from edge.console.console import Console, console_of
from edge.console.formats import formats_for
from edge.console.language import Language
from edge.console.pages import find_account, wanted_condition, whole_number
from edge.console.parts import PARTS_ABOVE_ROWS, account_parts, ledger_part

_RETRY_MS = 3000


async def live(request: Request) -> Response:
    """An open stream of changes for the page that asked."""
    console = console_of(request)
    if console.live_clients >= console.settings.live_clients_max:
        raise HTTPException(503, "too_many")
    view = request.query_params.get("view")
    changes: _StreetChanges | _AccountChanges
    if view == "street":
        changes = _StreetChanges(console, console.language_of(request), wanted_condition(console, request))
    elif view == "account":
        changes = _AccountChanges(console, console.language_of(request), _account_asked_for(console, request))
    else:
        raise HTTPException(404, "not_found")
    seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
    return StreamingResponse(
        _messages(console, changes, _version_seen(console, seen)),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


class _StreetChanges:
    """What the street page has not seen."""

    def __init__(self, console: Console, language: Language, show: str | None) -> None:
        self._console = console
        self._language = language
        self._show = show
        self._order: tuple[str, ...] | None = None

    async def since(self, snapshot: StreetSnapshot, seen: int) -> Mapping[str, Any]:
        newest = self._console.street.current(snapshot, self._language)
        order = newest.rows_shown(self._show)
        shown_before = set(order if self._order is None else self._order)
        changed = {
            identifier: newest.parts[identifier].html
            for identifier in (*PARTS_ABOVE_ROWS, *order)
            if newest.parts[identifier].changed_in > seen
            or (identifier not in shown_before and identifier not in PARTS_ABOVE_ROWS)
        }
        message: dict[str, Any] = {"parts": changed}
        if order != self._order:
            message["order"] = order
        self._order = order
        return message


class _AccountChanges:
    """What an account page has not seen. The ledger is read again only when the journal grew."""

    def __init__(self, console: Console, language: Language, account_id: str) -> None:
        self._console = console
        self._language = language
        self._account_id = account_id
        self._sent: dict[str, str] = {}
        self._journal_seq = -1

    async def since(self, snapshot: StreetSnapshot, seen: int) -> Mapping[str, Any]:
        console = self._console
        view = next((one for one in snapshot.accounts if one.account_id == self._account_id), None)
        if view is None:  # taken from the roster while the page was open
            return {"parts": {}}
        parts = account_parts(console.environment, snapshot, view, self._language, console.settings.low_days)
        if snapshot.journal_seq != self._journal_seq:
            self._journal_seq = snapshot.journal_seq
            records = await console.ledger.account_records(view.account_id, console.settings.ledger_lines)
            formats = formats_for(snapshot, self._language).of(view.unit)
            parts["ledger"] = ledger_part(console.environment, records, self._language, formats)
        changed = {identifier: html for identifier, html in parts.items() if self._sent.get(identifier) != html}
        self._sent.update(changed)
        return {"parts": changed}


async def _messages(console: Console, changes: _StreetChanges | _AccountChanges, seen: int) -> AsyncIterator[bytes]:
    console.live_clients += 1
    try:
        yield f"retry: {_RETRY_MS}\n\n".encode()
        while True:
            snapshot = await _newer(console, seen)
            if console.stopping.is_set():
                return
            if snapshot is None:
                yield b": alive\n\n"
                continue
            message = await changes.since(snapshot, seen)
            seen = snapshot.version
            if message["parts"] or "order" in message:
                data = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
                yield f"id: {console.run_id}-{seen}\ndata: {data}\n\n".encode()
            await _pause(console)
    finally:
        console.live_clients -= 1


async def _newer(console: Console, seen: int) -> StreetSnapshot | None:
    """The next snapshot; None when it is time for a sign of life, or to stop."""
    waiting = asyncio.create_task(console.source.wait_newer(seen))
    stopping = asyncio.create_task(console.stopping.wait())
    try:
        await asyncio.wait(
            (waiting, stopping), timeout=console.settings.live_heartbeat_s, return_when=asyncio.FIRST_COMPLETED
        )
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        stopping.cancel()


async def _pause(console: Console) -> None:
    """Waits the least time between two messages, unless the console stops."""
    try:
        await asyncio.wait_for(console.stopping.wait(), console.settings.live_interval_s)
    except TimeoutError:
        return


def _account_asked_for(console: Console, request: Request) -> str:
    account_id = request.query_params.get("id", "")
    if console.source.current is not None:
        find_account(console.source.current, account_id)
    return account_id


def _version_seen(console: Console, seen: str) -> int:
    """The version the browser has, or -1: another process's versions say nothing here."""
    run_id, _, version = seen.rpartition("-")
    number = whole_number(version)
    return number if run_id == console.run_id and number is not None else -1
