"""The journal in words."""

import ast
from pathlib import Path
from typing import Any

import pytest

import edge.core
from edge.console.formats import Formats, formats_for
from edge.console.language import load_languages
from edge.console.words import VARIANTS, live_balance, posting, sentence

NANO = 1_000_000_000
LANGUAGES = load_languages()


@pytest.fixture
def formats(world: Any) -> Formats:
    return formats_for(world.source.current, LANGUAGES["en"])


def told_event_types() -> list[str]:
    """Names of the core's events that reach the ledger, the results or the event log."""
    tree = ast.parse((Path(edge.core.__path__[0]) / "events.py").read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [node.name for node in classes if _stream(node) in ("led", "res", "evt")]


def _stream(node: ast.ClassDef) -> object:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "stream" and part.value is not None:
            return ast.literal_eval(part.value)
    return None


def test_every_event_of_the_core_has_its_sentence() -> None:
    types = told_event_types()
    assert len(types) > 15
    for language in LANGUAGES.values():
        endings = ("", ":true", ":1")
        assert [kind for kind in types if not any(language.knows("record", kind + ending) for ending in endings)] == []


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"type": "NoticeRaised", "number": 2}, "Notice 2: balance below zero."),
        ({"type": "NoticeRaised", "number": 9}, "Notice 9 raised."),
        ({"type": "OutputStateObserved", "connected": True}, "Relay read back: closed, supply on."),
        ({"type": "OutputStateObserved", "connected": False}, "Relay read back: open, supply off."),
        (
            {"type": "OutputStateObserved", "connected": False, "commanded": "open"},
            "Relay told to open: no contact is read back.",
        ),
        (
            {"type": "OrderApplied", "cid": "c1", "order_type": "credit", "result": "applied"},
            "Command c1 (payment): applied.",
        ),
        ({"type": "OrderRefused", "cid": "c1", "order_type": "new", "reason": "odd"}, "Command c1 (new) refused: odd."),
        ({"type": "BillIssued", "bill_minor": 12345, "energy_wh": 250_000}, "Bill over 123.45 for 250.000 kWh."),
        (
            {"type": "DisconnectControlChanged", "control_state": "disconnected", "trigger": "x", "reason": "operator"},
            "Supply commanded off (x): Cut by an operator.",
        ),
        ({"type": "GatewayStarted", "boot_id": "b", "software_version": "0.1.0"}, "Gateway started, software 0.1.0."),
        ({"type": "Odd", "flag": True, "nothing": None}, "Odd (flag: yes, nothing: \N{EN DASH})"),
        ({"type": "Odd", "list": [1, "二"]}, 'Odd (list: [1, "二"])'),
        ({"type": "Odd"}, "Odd"),
        ({}, ""),
    ],
)
def test_a_record_in_words(formats: Formats, record: dict[str, Any], expected: str) -> None:
    assert sentence(record, formats) == expected


def test_braces_in_a_record_are_text_and_never_a_format(formats: Formats) -> None:
    record = {"type": "PaymentApplied", "payment_id": "{balance_nano.__class__}", "door": "{0}", "balance_nano": NANO}
    assert "{balance_nano.__class__} by {0}" in sentence(record, formats)


def test_every_variant_field_is_used_by_a_sentence() -> None:
    english = LANGUAGES["en"]
    likely = ("true", "1", "connected", "interpolated", "meter_silent")
    for kind in VARIANTS:
        assert english.knows("record", kind) or any(english.knows("record", f"{kind}:{one}") for one in likely)


def test_postings_and_balances_come_only_from_whole_numbers() -> None:
    assert posting({"posting_nano": -5}) == -5
    assert posting({"posting_nano": 0}) is None
    assert posting({"posting_nano": "5"}) is None
    assert live_balance({"live_balance_nano": 0}) == 0
    assert live_balance({"live_balance_nano": None, "balance_nano": 3}) is None
