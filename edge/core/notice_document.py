"""The document of a notice, word for word, and the hash that a receipt must name.

A formal notice carries amount, date and document hash (RULES.md 6, S2). The document holds only
ids, dates and figures, so that whoever renders or serves it, on site or in the cloud, makes the
same bytes from the record. Money nano-currency, energy Wh, Unix seconds.
"""

import hashlib

from edge.core.units import MoneyNano, UnixSeconds, WattHours


def notice_document(
    account_id: str,
    number: int,
    at: UnixSeconds,
    live_nano: MoneyNano,
    register_at: UnixSeconds,
    register_wh: WattHours,
    policy: str,
) -> bytes:
    """The notice as bytes: one `name=value` a line, in a fixed order, ASCII."""
    lines = (
        ("document", "wattgate-notice-1"),
        ("account", account_id),
        ("number", number),
        ("at", at),
        ("live_balance_nano", live_nano),
        ("register_at", register_at),
        ("register_wh", register_wh),
        ("policy", policy),
    )
    return "".join(f"{name}={value}\n" for name, value in lines).encode("ascii", "backslashreplace")


def document_hash(document: bytes) -> str:
    """Hex SHA-256 of a document."""
    return hashlib.sha256(document).hexdigest()
