"""The event log as a file, newest first: the same filter as on the page, records word for word.

CSV for a spreadsheet (UTF-8 with a byte order mark, or it is read in the wrong characters), JSON with one record a
line for programs. Records come in batches, so that a commit never waits for a whole export, and never more than
`RECORDS_MAX`.
"""

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge.console.console import Console, console_of
from edge.console.formats import Formats, formats_for
from edge.console.kinds import is_of_kind, known_kind
from edge.console.pages import starting
from edge.console.words import sentence
from edge.ports import LedgerReader

RECORDS_MAX = 20_000  # looked at
_BATCH = 200
_COLUMNS = ("order", "stream", "seq", "at", "local_time", "account", "type", "text", "record")
_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson; charset=utf-8"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def export_events(request: Request) -> Response:
    """A download of the filtered log."""
    console = console_of(request)
    wanted_format = request.path_params["format"]
    if wanted_format not in _TYPES:
        raise HTTPException(404, "not_found")
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    account, kind = request.query_params.get("account", ""), known_kind(request.query_params.get("kind"))
    records = filtered(console.ledger, account, kind)
    formats = formats_for(snapshot, console.language_of(request))
    units = {view.account_id: view.unit for view in snapshot.accounts}
    lines = _as_csv(records, formats, units) if wanted_format == "csv" else _as_json(records)
    ending = "csv" if wanted_format == "csv" else "jsonl"
    headers = {"content-disposition": f'attachment; filename="events-{snapshot.journal_seq}.{ending}"'}
    return StreamingResponse(_unless_stopping(console, lines), media_type=_TYPES[wanted_format], headers=headers)


async def filtered(ledger: LedgerReader, account: str, kind: str) -> AsyncIterator[Mapping[str, Any]]:
    """The records of the log that the filter leaves, newest first."""
    before: int | None = None
    for _ in range(RECORDS_MAX // _BATCH):
        batch = await ledger.event_records(_BATCH, before)
        for record in batch:
            if (not account or record.get("account") == account) and is_of_kind(record, kind):
                yield record
        if len(batch) < _BATCH:
            return
        before = int(batch[-1]["order"])


async def _as_json(records: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[str]:
    async for record in records:
        yield json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str) + "\n"


async def _as_csv(
    records: AsyncIterator[Mapping[str, Any]], formats: Formats, units: Mapping[str, str]
) -> AsyncIterator[str]:
    yield "\ufeff" + _row(_COLUMNS)
    async for record in records:
        at, account = record.get("at"), str(record.get("account") or "")
        yield _row(
            (
                str(record.get("order", "")),
                str(record.get("stream", "")),
                str(record.get("seq", "")),
                "" if at is None else str(at),
                formats.local(at).strftime("%Y-%m-%d %H:%M:%S") if isinstance(at, int) else "",
                account,
                str(record.get("type", "")),
                sentence(record, formats.of(units.get(account, "money"))),
                json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str),
            )
        )


def _row(cells: tuple[str, ...]) -> str:
    """A line of the file. What a spreadsheet would take for a formula is made text."""
    target = io.StringIO()
    csv.writer(target).writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return target.getvalue()


async def _unless_stopping(console: Console, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if console.stopping.is_set():
            return
        yield line
