"""Pieces of a page that change while it is open, each under the id of its element.

The street is rendered once per snapshot and language, whoever looks. A piece remembers in which
snapshot it last changed, so a browser gets only what it has not seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.console.formats import Formats, formats_for, unit_of
from edge.console.language import Language, load_languages
from edge.console.settings import ConsoleSettings
from edge.console.street import COUNTED, Street, row_of, survey
from edge.console.words import evidence, live_balance, posting, sentence

PARTS_ABOVE_ROWS = ("recovery", "asof", "alerts", "strip", "count-all", *(f"count-{code}" for code in COUNTED))


@dataclass(frozen=True, slots=True)
class Part:
    """The HTML of one element, and the snapshot it came with."""

    html: str
    changed_in: int


@dataclass(frozen=True, slots=True)
class StreetParts:
    """The street page of one snapshot in one language."""

    version: int
    street: Street
    parts: Mapping[str, Part]
    order: tuple[str, ...]  # ids of all rows, worst first
    order_changed_in: int

    def rows_shown(self, show: str | None) -> tuple[str, ...]:
        """Ids of the rows a filter leaves, in order."""
        if show is None:
            return self.order
        matching = {row_id(row.account.account_id) for row in self.street.rows if show in row.conditions}
        return tuple(identifier for identifier in self.order if identifier in matching)


@dataclass(slots=True)
class StreetRenderer:
    """Renders the street at most once per snapshot and language."""

    environment: Environment
    settings: ConsoleSettings
    _newest: dict[str, StreetParts] = field(default_factory=dict)

    def current(self, snapshot: StreetSnapshot, language: Language) -> StreetParts:
        """The parts for this snapshot."""
        before = self._newest.get(language.tag)
        if before is not None and before.version == snapshot.version:
            return before
        formats = formats_for(snapshot, language)
        street = survey(snapshot, formats, self.settings.low_days)
        html = self._render(street, snapshot, formats)
        order = tuple(row_id(row.account.account_id) for row in street.rows)
        unchanged = before is not None and before.order == order
        newest = StreetParts(
            version=snapshot.version,
            street=street,
            parts=_dated(html, before.parts if before else {}, snapshot.version),
            order=order,
            order_changed_in=before.order_changed_in if before and unchanged else snapshot.version,
        )
        self._newest[language.tag] = newest
        return newest

    def _render(self, street: Street, snapshot: StreetSnapshot, formats: Formats) -> dict[str, str]:
        macros: Any = self.environment.get_template("street_parts.html").make_module(
            words_of(formats.language, formats)
        )
        html = {
            "recovery": recovery_banner(self.environment, snapshot, formats),
            "alerts": str(macros.alerts(snapshot)),
            "asof": str(macros.asof(snapshot)),
            "strip": str(macros.strip(snapshot)),
            "count-all": str(macros.number("all", street.total)),
        }
        for code in COUNTED:
            html[f"count-{code}"] = str(macros.number(code, street.counts[code]))
        for row in street.rows:
            html[row_id(row.account.account_id)] = str(macros.row(row, row_id(row.account.account_id)))
        return html


def account_parts(
    environment: Environment, snapshot: StreetSnapshot, account: AccountView, language: Language, low_days: int
) -> dict[str, str]:
    """The changing pieces of an account's page, without its ledger."""
    formats = formats_for(snapshot, language)
    macros: Any = environment.get_template("account_parts.html").make_module(words_of(language, formats))
    row = row_of(account, snapshot, formats, low_days)
    return {
        "recovery": recovery_banner(environment, snapshot, formats),
        "head": str(macros.head(row, snapshot)),
        "why": str(macros.why(row, snapshot)),
        "notices": str(macros.notices(account, snapshot)),
        "meter": str(macros.meter(row)),
    }


def recovery_banner(environment: Environment, snapshot: StreetSnapshot, formats: Formats) -> str:
    """Why nothing is charged or switched, in every language; an empty element outside RECOVERY."""
    macros: Any = environment.get_template("recovery.html").make_module(words_of(formats.language, formats))
    return str(macros.banner(snapshot))


def ledger_part(
    environment: Environment, records: Iterable[Mapping[str, Any]], language: Language, formats: Formats
) -> str:
    """The ledger of an account in words, newest first; `formats` are those of its unit."""
    macros: Any = environment.get_template("account_parts.html").make_module(words_of(language, formats))
    return str(macros.ledger([ledger_line(record, formats) for record in records]))


def ledger_line(record: Mapping[str, Any], formats: Formats) -> dict[str, Any]:
    """One record as a page shows it."""
    posted, balance = posting(record), live_balance(record)
    return {
        "at": record.get("at"),
        "account": str(record.get("account") or ""),
        "stream": str(record.get("stream", "led")),
        "seq": record.get("seq", ""),
        "hash": str(record.get("hash", ""))[:8],
        "text": sentence(record, formats),
        "posting": None if posted is None else formats.money(posted, signed=True),
        "balance": None if balance is None else formats.money(balance),
    }


def words_of(language: Language, formats: Formats | None) -> dict[str, Any]:
    """The functions every template has: words and formats, nothing that reads or writes."""
    return {
        "language": language,
        "_": language.text,
        "count": language.count,
        "term": language.term,
        "line_reason": language.line_reason,
        "format": formats,
        "unit_of": unit_of,
        "evidence": evidence,
        "every_language": _reader_first(language),
    }


def _reader_first(language: Language) -> list[Language]:
    """All languages, the reader's own first: for what everybody in front of a page must understand."""
    return [language, *(other for other in load_languages().values() if other.tag != language.tag)]


def row_id(account_id: str) -> str:
    """The id of an account's element on the street page."""
    return f"account-{account_id}"


def _dated(html: Mapping[str, str], before: Mapping[str, Part], version: int) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for identifier, text in html.items():
        known = before.get(identifier)
        parts[identifier] = known if known is not None and known.html == text else Part(text, version)
    return parts
