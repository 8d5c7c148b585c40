"""What a notice says, in English and Chinese, from its record alone.

Money nano-currency, shown exactly: every digit that is not a zero at the end, at least two. Catalogues are JSON,
message id to text, in `catalogue/`; both languages have the same ids and the same fields.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Final
from zoneinfo import ZoneInfo

NANO: Final = 10**9
_DIGITS_MIN: Final = 2


@dataclass(frozen=True, slots=True)
class Words:
    """A notice as a customer reads it."""

    subject: str
    body: str

    @property
    def hash(self) -> str:
        """Hex SHA-256 of all of it."""
        return hashlib.sha256(f"{self.subject}\n\n{self.body}".encode()).hexdigest()


def render(record: dict[str, Any], language: str, zone: ZoneInfo, currency: str, name: str) -> Words:
    """The words of a NoticeRaised record."""
    texts, number = catalogue(language), record["number"]
    balance_nano = record["live_balance_nano"]
    fields = {
        "name": name,
        "account": record["account"],
        "balance": money(balance_nano),
        "owed": money(max(0, -balance_nano)),
        "currency": currency,
        "read_at": datetime.fromtimestamp(record["register_at"], zone).strftime("%Y-%m-%d %H:%M"),
        "document_hash": record.get("document_hash", ""),
    }
    lines = [texts[f"notice_{number}.body"].format(**fields)]
    if fields["document_hash"]:
        lines.append(texts["document"].format(**fields))
    return Words(texts[f"notice_{number}.subject"].format(**fields), "\n".join(lines))


def money(amount_nano: int) -> str:
    """An amount in decimals, exact."""
    whole, part = divmod(abs(amount_nano), NANO)
    decimals = f"{part:09d}".rstrip("0").ljust(_DIGITS_MIN, "0")
    return f"{'-' if amount_nano < 0 else ''}{whole}.{decimals}"


@cache
def catalogue(language: str) -> dict[str, str]:
    """The texts of a language by their ids."""
    file = resources.files("cloud_sync.notices").joinpath("catalogue", f"{language}.json")
    texts: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return texts
