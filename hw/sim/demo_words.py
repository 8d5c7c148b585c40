"""The demo's live lines: events worth seeing, as one English sentence each. Money rounded down for the eye."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

SITE_ZONE = timezone(timedelta(hours=8))
NANO_PER_MINOR = 10_000_000

Event = Mapping[str, Any]


def simulated_time(at: int) -> str:
    """Wall time of the site."""
    return datetime.fromtimestamp(at, UTC).astimezone(SITE_ZONE).strftime("%a %d %b %H:%M")


def money(nano: int) -> str:
    """An amount in whole hundredths, rounded towards minus infinity as on a customer's display."""
    minor = nano // NANO_PER_MINOR
    sign, minor = ("-", -minor) if minor < 0 else ("", minor)
    return f"{sign}{minor // 100}.{minor % 100:02}"


def event_in_words(event: Event) -> str | None:
    """One line for an event, None for one that is not worth a line."""
    tell = _WORDS.get(event["type"])
    return None if tell is None else tell(event)


def _payment_refused(event: Event) -> str:
    return f"{event['account']}: payment {event['payment_id']} refused: {event['reason']}"


def _switched(event: Event) -> str:
    state = "CONNECTED" if event["control_state"] == "connected" else "CUT"
    return f"{event['account']}: {state} ({event['reason']}), balance {money(event['live_balance_nano'] or 0)}"


def _observed(event: Event) -> str:
    state = "closed" if event["connected"] else "open"
    return f"{event['account']}: relay read back {state}" + ("" if event["connected"] == event["wanted"] else " (!)")


def _bill(event: Event) -> str:
    return f"{event['account']}: bill of {event['bill_minor'] / 100:.2f} for {event['energy_wh'] / 1000:.3f} kWh"


def _notice(event: Event) -> str:
    return f"{event['account']}: notice {event['number']}, balance {money(event['live_balance_nano'])}"


def _condition(event: Event) -> str:
    if event["condition"] == "checkpoint_signed":  # its detail is the document itself, for those who verify it
        return f"checkpoint signed, {len(event['detail']) // 2} bytes"
    return " ".join(part for part in (event["account"], event["condition"].replace("_", " "), event["detail"]) if part)


def _deferred(event: Event) -> str:
    return f"{event['account']}: cut deferred: " + ", ".join(code.replace("_", " ") for code, _ in event["blockers"])


_WORDS: Mapping[str, Callable[[Event], str]] = {
    "PaymentApplied": lambda event: f"{event['account']}: paid {money(event['amount_nano'])} by {event['door']}",
    "PaymentRefused": _payment_refused,
    "NoticeRaised": _notice,
    "CutDeferred": _deferred,
    "CaseEscalated": lambda event: f"{event['account']}: protected and in arrears: a person has to decide",
    "DisconnectControlChanged": _switched,
    "OutputStateObserved": _observed,
    "BillIssued": _bill,
    "HoldRaised": lambda event: f"{event['account']}: hold: {event['reason']}",
    "HoldCleared": lambda event: f"{event['account']}: hold cleared: {event['reason']}",
    "ConditionNoted": _condition,
}
