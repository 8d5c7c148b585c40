"""What pages read of the journal: records of one account, the event log, a balance over time.

Reads run where the commits run, one at a time, and see only what is committed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edge.core.units import UnixSeconds
from edge.store.journal import SqliteJournal

# Written as in the index, so that SQLite uses it.
_ACCOUNT = "json_extract(CAST(body AS TEXT), '$.account')"


class JournalReader:
    """The LedgerReader of edge.ports over a journal."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def account_records(self, account_id: str, count_max: int) -> Sequence[Mapping[str, Any]]:
        """Ledger records of one account, newest first: body fields plus `seq` and `hash` (hex)."""
        rows = await self._journal.query(
            f"SELECT seq, hash, body FROM record WHERE {_ACCOUNT} = ? AND stream = 'led' ORDER BY place DESC LIMIT ?",
            (account_id, count_max),
        )
        return [{**_body(row[2]), "seq": row[0], "hash": row[1].hex()} for row in rows]

    async def event_records(self, count_max: int, before_order: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Records of led, res and evt together, newest first: body fields plus `stream`, `seq`, `order`."""
        before = 1 << 62 if before_order is None else before_order
        rows = await self._journal.query(
            "SELECT place, stream, seq, body FROM record WHERE stream IN ('led', 'res', 'evt') AND place < ?"
            " ORDER BY place DESC LIMIT ?",
            (before, count_max),
        )
        return [{**_body(row[3]), "order": row[0], "stream": row[1], "seq": row[2]} for row in rows]

    async def balance_history(self, account_id: str, since: UnixSeconds) -> Sequence[tuple[UnixSeconds, int]]:
        """(at, live balance in nano) at each recorded point since, oldest first."""
        rows = await self._journal.query(
            f"SELECT body FROM record WHERE {_ACCOUNT} = ? AND stream = 'led' ORDER BY place", (account_id,)
        )
        points: list[tuple[UnixSeconds, int]] = []
        for (raw,) in rows:
            body = _body(raw)
            live = body.get("live_balance_nano")
            if live is None and body["type"] == "AccountOpened":
                live = body["balance_nano"]
            elif live is None and points and body["type"] in ("PaymentApplied", "PaymentReversed"):
                points.append((body["at"], points[-1][1]))  # the step is upright in the plot
                live = points[-1][1] + body["posting_nano"]
            if live is not None:
                points.append((body["at"], live))
        return [point for point in points if point[0] >= since]


def _body(raw: Any) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(raw)
    return body
