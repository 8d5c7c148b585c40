"""How readings and models look: exact decimals, JSON objects, and lines for people in English and Chinese.

JSON has the codes of the program; people get the words of catalogue/en.json and catalogue/zh.json.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any
from unicodedata import east_asian_width

from edge.meter_tool.language import LANGUAGES as LANGUAGES
from edge.meter_tool.language import language_of as language_of
from edge.meter_tool.reading import MeterReading
from edge.meters.model import MeterModel
from edge.meters.records import DLT645


def say(language: str, key: str, **values: object) -> str:
    """The sentence of a key with its values filled in."""
    return _words(language)[key].format(**values)


def exact(value: Decimal) -> str:
    """All digits and no exponent; 230.50 is 230.5, and there is no minus zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def reading_json(model: MeterModel, device_id: int, reading: MeterReading) -> dict[str, Any]:
    """One pass over a meter as an object."""
    return {
        "model": model.id,
        "device_id": place_of(model, device_id),
        "points": {
            name: {"value": exact(row.value), "unit": row.unit, "raw": row.raw.hex()}
            for name, row in reading.points.items()
        },
        "failed": reading.failed,
        "requests": reading.requests,
        "errors": reading.errors,
    }


def reading_text(language: str, model: MeterModel, device_id: int, reading: MeterReading) -> str:
    """One pass over a meter as a table."""
    place = place_of(model, device_id)
    lines = [say(language, "reading", name=model.name, vendor=model.vendor, device_id=place)]
    rows = [
        (name, exact(row.value), "" if row.unit == "1" else row.unit, row.raw.hex())
        for name, row in reading.points.items()
    ]
    lines += _columns(rows)
    lines += [
        say(language, "failed", name=name, reason=reason_text(language, code)) for name, code in reading.failed.items()
    ]
    lines.append(say(language, "requests", requests=reading.requests, errors=reading.errors))
    return "\n".join(lines)


def place_of(model: MeterModel, device_id: int) -> int | str:
    """A device id as people know it: of DL/T 645 the twelve digits on the meter."""
    return f"{device_id:012d}" if model.protocol == DLT645 else device_id


def reason_text(language: str, code: str) -> str:
    """What a reason code means, with the code; an exception code has its name."""
    words = _words(language)
    if code.startswith("exception_"):
        name = words.get(f"reason.{code}", words["reason.exception"])
        return f"{name} ({code})"
    return f"{words.get(f'reason.{code}', words['reason.other'])} ({code})"


def model_json(model: MeterModel) -> dict[str, Any]:
    """What there is to know before a model is chosen, as an object."""
    return {
        "id": model.id,
        "vendor": model.vendor,
        "model": model.name,
        "variants": list(model.variants),
        "phases": model.phases,
        "confidence": model.confidence,
        "incomplete": model.incomplete,
        "device_id": model.link.default_device_id,
        "protocol": model.protocol,
        "baud": model.link.default_baud,
        "format": model.link.default_format,
        "relay": relay_kind(model),
        "money_point": model.money_point,
        "points": {
            name: {
                "function_code": point.function_code,
                "address": point.address,
                "count": point.count,
                "type": point.type,
                "order": point.order,
                "unit": point.unit,
                "scale": exact(point.scale),
                "confidence": point.confidence or model.confidence,
                "note": point.note,
            }
            for name, point in model.points.items()
        },
        "hazards": list(model.hazards),
        "sources": list(model.sources),
    }


def relay_kind(model: MeterModel) -> str:
    """none, usable (it can be switched and read back) or unusable (it is there, and too little is known)."""
    if model.relay is not None:
        return "usable"
    return "none" if model.unusable_relay is None else "unusable"


def models_text(language: str, models: Sequence[MeterModel]) -> str:
    """All models, a line each."""
    head = tuple(say(language, f"column.{name}") for name in ("id", "model", "phases", "points", "relay", "line"))
    rows = [head]
    for model in models:
        link = model.link
        place = "" if model.protocol == DLT645 else f" #{link.default_device_id}"
        line = f"{link.default_baud} {link.default_format}{place}"
        relay = say(language, f"relay.{relay_kind(model)}")
        name = f"{model.vendor} {model.name}"
        rows.append((model.id, name, str(model.phases), str(len(model.points)), relay, line))
    return "\n".join(_columns(rows))


def model_text(language: str, model: MeterModel) -> str:
    """One model with its points, its hazards and where they were found out."""
    lines = [models_text(language, [model]), ""]
    lines += _columns(
        [
            (
                name,
                f"FC{row.function_code:02}",
                f"0x{row.address:0{_digits_of(model)}X}",
                row.type,
                row.order,
                row.unit,
                f"x {row.scale}",
            )
            for name, row in model.points.items()
        ]
    )
    reasons = (model.incomplete, model.unusable_relay and model.unusable_relay.reason, model.no_relay_reason)
    for key, texts in (
        ("beware", [*(reason for reason in reasons if reason), *model.hazards]),
        ("notes", [model.link.note, model.tariff_note, *model.notes]),
        ("sources", model.sources),
    ):
        told = [text for text in texts if text]
        if told:
            lines += ["", say(language, key), *(f"- {text}" for text in told)]
    return "\n".join(lines)


def _digits_of(model: MeterModel) -> int:
    return 8 if model.protocol == DLT645 else 4


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows below each other; a Chinese character takes two columns."""
    if not rows:
        return []
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


@cache
def _words(language: str) -> Mapping[str, str]:
    words: dict[str, str] = json.loads((files("edge.meter_tool") / "catalogue" / f"{language}.json").read_text("utf-8"))
    return words
