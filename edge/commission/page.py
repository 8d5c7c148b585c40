"""The record as a page to print and to sign by hand, in Chinese and English side by side.

One HTML file without scripts and without anything from elsewhere. Every value is escaped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from html import escape
from importlib.resources import files

from edge.commission.record import RelayTest, Signature, SignedRecord, fingerprint

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
    return page_of("title", signed.record.meter_id, _rows(signed))


def page_of(title_key: str, subject: str, rows: Iterable[tuple[str, str]]) -> str:
    """A page of (key of the field's name, its value as HTML), with room for a signature by hand."""
    cells = "".join(f"<tr><th>{escape(both(key))}</th><td>{text}</td></tr>\n" for key, text in rows)
    hand = f'<tr><th>{escape(both("field.hand"))}</th><td class="hand"></td></tr>\n'
    title = escape(both(title_key))
    return (
        f'<!DOCTYPE html>\n<html lang="zh"><head><meta charset="utf-8"><title>{title} {escape(subject)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n<table>\n{cells}{hand}</table></body></html>\n"
    )


def signature_rows(signature: Signature) -> Iterator[tuple[str, str]]:
    """Whose key, and what it signed."""
    yield "field.key", f"<code>{escape(signature.public_key)}</code>"
    yield "field.fingerprint", f"<code>{escape(fingerprint(signature.public_key))}</code>"
    yield "field.signature", f"<code>{escape(signature.signature)}</code>"


def steps_text(language: str, test: RelayTest) -> str:
    """What was told to the relay and what was read back."""
    parts = (step.split(":") for step in test.steps)
    return ", ".join(f"{say(language, f'step.{told}')}: {say(language, f'state.{state}')}" for told, state in parts)


def _rows(signed: SignedRecord) -> Iterator[tuple[str, str]]:
    """(field, its value as HTML)."""
    record, line, witness = signed.record, signed.record.line, signed.record.witness
    link = "" if line.baud is None else f", {line.baud} {line.format}"
    for name in ("meter_id", "at", "model", "serial", "position", "installer", "wattgate"):
        yield f"field.{name}", escape(f"{getattr(record, name)}") or "-"
    yield "field.line", escape(f"{line.line_id}: {line.address}{link}")
    yield "field.device_id", f"{line.device_id}"
    yield "field.identity", escape(", ".join(f"{name} {value}" for name, value in record.identity.items())) or "-"
    yield "field.account", escape(record.account or "-")
    role = "" if record.area_role is None else f" ({both(f'word.{record.area_role}')})"
    yield "field.area", escape(f"{record.area or '-'}{role}")
    yield "field.ct_ratio", f"{record.ct_ratio}"
    yield "field.register", escape(f"{witness.register} {witness.unit} ({witness.point})")
    yield "field.display", escape("-" if witness.display is None else f"{witness.display} {witness.unit}")
    yield "field.agree", escape(_answer(witness.agree, "word.unknown"))
    yield "field.voltages", escape(", ".join(f"{name} {value} V" for name, value in witness.voltages.items()))
    yield "field.relay", escape(record.relay or "-")
    yield from _relay_rows(record.relay_test)
    yield from signature_rows(signed.signature)


def _relay_rows(test: RelayTest | None) -> Iterator[tuple[str, str]]:
    if test is None:
        yield "field.relay_test", "-"
        return
    steps = "<br>".join(escape(steps_text(language, test)) for language in reversed(LANGUAGES))
    yield "field.relay_test", f"{escape(both(f'word.{test.result}'))}<br>{steps}"
    watts = (test.power_before_w, test.power_open_w, test.power_after_w)
    yield "field.power", ", ".join("-" if value is None else f"{value} W" for value in watts)
    yield "field.switches_load", escape(_answer(test.switches_load, "word.no_load"))


def _answer(value: bool | None, unknown: str) -> str:
    return both({True: "word.yes", False: "word.no", None: unknown}[value])


def both(key: str) -> str:
    """A word in both languages."""
    chinese, english = say("zh", key), say("en", key)
    return chinese if chinese == english else f"{chinese} {english}"


@cache
def _words(language: str) -> Mapping[str, str]:
    words: dict[str, str] = json.loads((files("edge.commission") / "catalogue" / f"{language}.json").read_text("utf-8"))
    return words
