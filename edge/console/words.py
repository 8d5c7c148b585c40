"""The journal in words: one sentence for each record, in the reader's language.

The catalogue holds a sentence per record type under the context `record`, with the record's own
fields as {names}. Where one field changes the sentence, it stands behind the type
(`NoticeRaised:2`). A type without words is shown by its name and its fields, so nothing is
ever hidden.
"""

import json
from collections.abc import Mapping
from typing import Any

from edge.console.formats import Formats

# The fields whose value chooses among a type's sentences: the first for whose value there are words.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "NoticeRaised": ("number",),
    "RegisterFrozen": ("quality",),
    "DisconnectControlChanged": ("control_state",),
    "OutputStateObserved": ("commanded", "connected"),
    "KeepSupplyChanged": ("keep",),
    "SupplyHoldChanged": ("stands",),
    "CloudLinkChanged": ("connected",),
    "ConditionNoted": ("condition",),
}
# Fields that hold a code, with the context of its words.
CODES: Mapping[str, str] = {
    "reason": "reason",
    "local_reason": "reason",
    "trigger": "trigger",
    "control_state": "control",
    "proof": "proof",
    "door": "door",
    "quality": "quality",
    "occasion": "occasion",
    "order_type": "order",
    "result": "result",
    "condition": "condition_noted",
    "clock_quality": "clock",
}
_ENVELOPE = frozenset({"type", "at", "account", "seq", "hash", "stream", "order", "epoch", "prev"})


class _Fields(dict[str, str]):
    """Fields of a record as text; one that is missing is a dash, never an error on a page."""

    def __missing__(self, key: str) -> str:
        return "\N{EN DASH}"


def sentence(record: Mapping[str, Any], formats: Formats) -> str:
    """What this record says."""
    kind = str(record.get("type", ""))
    fields = _Fields({key: value_in_words(key, value, formats) for key, value in record.items()})
    for key in (*(f"{kind}:{_variant(record.get(name))}" for name in VARIANTS.get(kind, ())), kind):
        if formats.language.knows("record", key):
            return formats.language.term("record", key).format_map(fields)
    details = ", ".join(f"{key}: {text}" for key, text in fields.items() if key not in _ENVELOPE)
    return f"{kind} ({details})" if details else kind


def value_in_words(key: str, value: object, formats: Formats) -> str:
    """One field as text, by what its name says it is: money, energy, time, a code."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return formats.language.text("yes") if value else formats.language.text("no")
    if isinstance(value, int):
        return _number(key, value, formats)
    if isinstance(value, str):
        return formats.language.term(CODES[key], value) if key in CODES else value
    return json.dumps(value, ensure_ascii=False, default=str)


def evidence(code: str, figures: Mapping[str, int | str], formats: Formats) -> str:
    """What shows that a blocker stands; empty where its name says all there is."""
    fields = _Fields({key: value_in_words(key, value, formats) for key, value in figures.items()})
    for key in (f"{code}:{','.join(sorted(figures))}", code):
        if formats.language.knows("evidence", key):
            return formats.language.term("evidence", key).format_map(fields)
    return ", ".join(f"{key}: {text}" for key, text in fields.items())


def posting(record: Mapping[str, Any]) -> int | None:
    """What this record moved on the account, in nano; None when it moves no money."""
    value = record.get("posting_nano")
    return value if isinstance(value, int) and value != 0 else None


def live_balance(record: Mapping[str, Any]) -> int | None:
    """The live balance this record states, if it does."""
    value = record.get("live_balance_nano")
    return value if isinstance(value, int) else None


def _number(key: str, value: int, formats: Formats) -> str:
    if key.endswith(("_nano", "_nano_min")):
        return formats.money(value)
    if key.endswith("_minor"):
        return formats.minor(value)
    if key.endswith("_wh"):
        return formats.energy(value)
    if key == "at" or key.endswith("_at"):
        return formats.moment(value)
    if key.endswith(("_s", "_s_max")):
        return formats.age(value)
    return str(value)


def _variant(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
