"""The record as a page to print and to sign by hand, in Chinese and English side by side.

One HTML file without scripts and without anything from elsewhere. Every value is escaped.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files

from edge.commission.record import RelayTest, SignedRecord, fingerprint

LANGUAGES = ("en", "zh")
_STYLE = """@page{size:A4;margin:18mm}body{font:11pt/1.45 sans-serif;color:#111;max-width:170mm;margin:10mm auto}
h1{font-size:16pt;margin:0 0 6mm}table{border-collapse:collapse;width:100%}
th,td{border:1px solid #888;padding:2mm 3mm;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{width:38%;font-weight:normal;background:#f2f2f2}.hand{height:22mm}code{font-size:8.5pt}"""


def say(language: str, key: str, **values: object) -> str:
    """The sentence of a key with its values filled in."""
    return _words(language)[key].format(**values)


def record_page(signed: SignedRecord) -> str:
    """The whole page."""
    rows = "".join(
        f"<tr><th>{escape(_both(f'field.{name}'))}</th><td>{text}</td></tr>\n" for name, text in _rows(signed)
    )
    hand = f'<tr><th>{escape(_both("field.hand"))}</th><td class="hand"></td></tr>\n'
    title = escape(_both("title"))
    return (
        f'<!DOCTYPE html>\n<html lang="zh"><head><meta charset="utf-8"><title>{title} {escape(signed.record.meter_id)}'
        f"</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<table>\n{rows}{hand}</table></body></html>\n"
    )


def steps_text(language: str, test: RelayTest) -> str:
    """What was told to the relay and what was read back."""
    parts = (step.split(":") for step in test.steps)
    return ", ".join(f"{say(language, f'step.{told}')}: {say(language, f'state.{state}')}" for told, state in parts)


def _rows(signed: SignedRecord) -> Iterator[tuple[str, str]]:
    """(field, its value as HTML)."""
    record, line, witness = signed.record, signed.record.line, signed.record.witness
    link = "" if line.baud is None else f", {line.baud} {line.format}"
    for name in ("meter_id", "at", "model", "serial", "position", "installer", "wattgate"):
        yield name, escape(f"{getattr(record, name)}") or "-"
    yield "line", escape(f"{line.line_id}: {line.address}{link}")
    yield "device_id", f"{line.device_id}"
    yield "identity", escape(", ".join(f"{name} {value}" for name, value in record.identity.items())) or "-"
    yield "account", escape(record.account or "-")
    role = "" if record.area_role is None else f" ({_both(f'word.{record.area_role}')})"
    yield "area", escape(f"{record.area or '-'}{role}")
    yield "ct_ratio", f"{record.ct_ratio}"
    yield "register", escape(f"{witness.register} {witness.unit} ({witness.point})")
    yield "display", escape("-" if witness.display is None else f"{witness.display} {witness.unit}")
    yield "agree", escape(_answer(witness.agree, "word.unknown"))
    yield "voltages", escape(", ".join(f"{name} {value} V" for name, value in witness.voltages.items()))
    yield "relay", escape(record.relay or "-")
    yield from _relay_rows(record.relay_test)
    yield "key", f"<code>{escape(signed.signature.public_key)}</code>"
    yield "fingerprint", f"<code>{escape(fingerprint(signed.signature.public_key))}</code>"
    yield "signature", f"<code>{escape(signed.signature.signature)}</code>"


def _relay_rows(test: RelayTest | None) -> Iterator[tuple[str, str]]:
    if test is None:
        yield "relay_test", "-"
        return
    steps = "<br>".join(escape(steps_text(language, test)) for language in reversed(LANGUAGES))
    yield "relay_test", f"{escape(_both(f'word.{test.result}'))}<br>{steps}"
    watts = (test.power_before_w, test.power_open_w, test.power_after_w)
    yield "power", ", ".join("-" if value is None else f"{value} W" for value in watts)
    yield "switches_load", escape(_answer(test.switches_load, "word.no_load"))


def _answer(value: bool | None, unknown: str) -> str:
    return _both({True: "word.yes", False: "word.no", None: unknown}[value])


def _both(key: str) -> str:
    chinese, english = say("zh", key), say("en", key)
    return chinese if chinese == english else f"{chinese} {english}"


@cache
def _words(language: str) -> Mapping[str, str]:
    words: dict[str, str] = json.loads((files("edge.commission") / "catalogue" / f"{language}.json").read_text("utf-8"))
    return words
