"""A channel's day for both sides' books, as JSON and CSV, and its statistics. Days are UTC, amounts decimal strings."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from cloud_sync.payments.types import Payment, Statistics, amount_of, nano_of

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
APPLIED: Final = "applied"  # how a gateway's result says that the money is on the account


class Reconciliation(msgspec.Struct, frozen=True):
    """Every payment id of a channel's day with its result, and totals by result; `waiting` has no answer yet."""

    channel: str
    day: str
    count: int
    total: str
    totals: dict[str, str]
    payments: list[Payment]


def day_number(text: str) -> int:
    """Days since 1970 of a date as 2026-12-31. Raises ValueError."""
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ValueError(f"{text!r} is not a day: allowed is a date as 2026-12-31") from None


def reconciliation(channel_id: str, day: int, payments: Sequence[Payment]) -> Reconciliation:
    """The day as a document."""
    nano: dict[str, int] = {}
    for payment in payments:
        result = payment.result or "waiting"
        nano[result] = nano.get(result, 0) + nano_of(payment.amount)
    totals = {result: amount_of(amount) for result, amount in sorted(nano.items())}
    total = amount_of(sum(nano.values()))
    return Reconciliation(channel_id, _day_text(day), len(payments), total, totals, list(payments))


def as_csv(document: Reconciliation) -> str:
    """A line for each payment, then one with the total."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(("payment_id", "gateway", "meter", "amount", "received_at", "result", "answered_at", "reversal"))
    for paid in document.payments:
        when = datetime.fromtimestamp(paid.received_at, UTC).isoformat()
        row = (paid.payment_id, paid.gateway, paid.meter, paid.amount, when, paid.result or "waiting")
        lines.writerow((*row, paid.answered_at, paid.reversal_result or paid.reversal_cid))
    lines.writerow(("total", "", document.count, document.total, "", "", "", ""))
    return out.getvalue()


def statistics(day: int, payments: Sequence[Payment]) -> Statistics:
    """Counts, and percentiles of the time from receipt to the gateway's answer."""
    seconds = sorted(paid.answered_at - paid.received_at for paid in payments if paid.answered_at is not None)
    applied = sum(1 for paid in payments if paid.result == APPLIED)
    waiting = sum(1 for paid in payments if paid.result is None)
    shares = [_percentile(seconds, share) for share in (50, 90, 99)]
    return Statistics(_day_text(day), len(payments), applied, len(payments) - applied - waiting, waiting, *shares)


def _percentile(values: Sequence[int], share: int) -> int | None:
    """The smallest value that this share of all does not exceed."""
    return values[-(-len(values) * share // 100) - 1] if values else None


def _day_text(day: int) -> str:
    return date.fromordinal(day + _EPOCH_DAY).isoformat()
