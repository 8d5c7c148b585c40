"""How a scan, a change and a doctor's report look: JSON objects for programs, lines for people in English and Chinese.

JSON has the codes of the program and the advice in both languages; people get the words of catalogue/.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from unicodedata import east_asian_width

from edge.bus.scan_records import Diagnosis, Found, Link, Note, ScanReport, percentile
from edge.bus_tool.change import ChangePlan, ChangeReport, Place, Witness

LANGUAGES = ("en", "zh")


def say(language: str, key: str, **values: object) -> str:
    """The sentence of a key with its values filled in."""
    return _words(language)[key].format(**values)


def note_text(language: str, note: Note) -> str:
    """How far a scan is."""
    numbers = {"done": note.done, "total": note.total, "found": note.found}
    return say(language, f"progress.{note.phase}", link=link_text(note.link), **numbers)


def scan_json(line: str, report: ScanReport, seconds: float) -> dict[str, Any]:
    """A scan as one object."""
    return {
        "line": line,
        "links": [link_json(link) for link in report.links],
        "unusable_links": [link_json(link) for link in report.unusable],
        "found": [found_json(row) for row in report.found],
        "diagnoses": [diagnosis_json(row) for row in report.diagnoses],
        "questions": report.questions,
        "seconds": round(seconds, 1),
        "complete": report.complete,
    }


def link_json(link: Link | None) -> dict[str, Any]:
    """Speed and format; null where a server keeps them to itself."""
    known = link if link is not None and link.is_ours else None
    return {"baud": known and known.baud, "format": known and known.format}


def found_json(found: Found) -> dict[str, Any]:
    """Somebody at an address."""
    recognition, health = found.recognition, found.health
    return {
        "device_id": found.device_id,
        **link_json(found.link),
        "also_at": [link_json(link) for link in found.also_at],
        "models": list(recognition.models),
        "confidence": recognition.confidence,
        "identity": dict(recognition.identity),
        "values": dict(recognition.values),
        "evidence": {model: dict(rows) for model, rows in recognition.evidence.items()},
        "asked": len(health.all),
        "errors": health.errors,
        "latency_ms": latency_json(health.latencies_ms),
    }


def latency_json(latencies_ms: tuple[float, ...]) -> dict[str, float | None]:
    """Median, 95th percentile and slowest, to the tenth of a millisecond."""
    named = {"p50": 50, "p95": 95, "max": 100}
    values = {name: percentile(latencies_ms, percent) for name, percent in named.items()}
    return {name: None if value is None else round(value, 1) for name, value in values.items()}


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """A fault with its numbers and what to do, in both languages."""
    return {
        "code": diagnosis.code,
        "confidence": diagnosis.confidence,
        "device_id": diagnosis.device_id,
        **link_json(diagnosis.link),
        "evidence": dict(diagnosis.evidence),
        "advice": {language: say(language, f"advice.{diagnosis.code}") for language in LANGUAGES},
    }


def scan_text(language: str, report: ScanReport, seconds: float, *, quick_only: bool) -> str:
    """A scan as a table, with what is wrong below it."""
    lines = _found_lines(language, report.found) if report.found else [say(language, "scan.nothing")]
    for found in report.found:
        if len(found.recognition.models) > 1:
            models = ", ".join(found.recognition.models)
            lines.append(say(language, "scan.ambiguous", id=found.device_id, models=models))
        if found.also_at:
            links = ", ".join(map(link_text, found.also_at))
            lines.append(say(language, "scan.also_at", id=found.device_id, links=links))
    lines += diagnosis_lines(language, report.diagnoses)
    if report.unusable:
        lines.append(say(language, "scan.unusable", links=", ".join(map(link_text, report.unusable))))
    if not report.complete:
        lines.append(say(language, "scan.ended_early"))
    elif quick_only:
        lines.append(say(language, "scan.quick_only"))
    counts = {"found": len(report.found), "questions": report.questions, "seconds": round(seconds, 1)}
    return "\n".join([*lines, say(language, "scan.summary", **counts)])


def diagnosis_lines(language: str, diagnoses: Sequence[Diagnosis]) -> list[str]:
    """Two lines for each fault: what shows it, and what to do."""
    lines = []
    for row in diagnoses:
        where = say(language, "where.line")
        if row.device_id is not None and row.link is not None:
            where = say(language, "where.device", id=row.device_id, link=link_text(row.link))
        evidence = ", ".join(f"{say(language, f'evidence.{name}')} {value}" for name, value in row.evidence.items())
        name, sure = say(language, f"diagnosis.{row.code}"), say(language, f"sure.{row.confidence}")
        lines.append(say(language, "diagnosis", name=name, confidence=sure, where=where, evidence=evidence))
        lines.append(say(language, "advice", advice=say(language, f"advice.{row.code}")))
    return lines


def link_text(link: Link) -> str:
    """9600 8N1; a dash where a server has settings of its own."""
    return f"{link.baud} {link.format}" if link.is_ours else "-"


def place_text(place: Place) -> str:
    """5 (9600 8N1); 5 behind a server."""
    return f"{place.device_id} ({link_text(place.link)})" if place.link.is_ours else f"{place.device_id}"


def change_json(line: str, plan: ChangePlan, witness: Witness, report: ChangeReport) -> dict[str, Any]:
    """A change of a setting and how it ended."""
    return {
        "line": line,
        "model": plan.model.id,
        "setting": plan.setting,
        "before": place_json(plan.before),
        "after": place_json(plan.after),
        "identity": dict(witness.identity),
        "energy": None if witness.energy is None else f"{witness.energy:f}",
        "status": report.status,
        "reason": report.reason,
        "answers_at": None if report.seen_at is None else place_json(report.seen_at),
    }


def place_json(place: Place) -> dict[str, Any]:
    """Where a meter answers."""
    return {"device_id": place.device_id, **link_json(place.link)}


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows below each other; a Chinese character takes two columns."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _found_lines(language: str, found: Sequence[Found]) -> list[str]:
    names = ("id", "link", "model", "confidence", "serial", "latency", "errors")
    rows = [tuple(say(language, f"column.{name}") for name in names)]
    for row in found:
        recognition, latency = row.recognition, latency_json(row.health.latencies_ms)
        rows.append(
            (
                recognition.identity.get("address", f"{row.device_id}"),
                link_text(row.link),
                " / ".join(recognition.models) or say(language, "model.unknown"),
                say(language, f"confidence.{recognition.confidence or 'none'}"),
                recognition.identity.get("serial", "-"),
                "-" if latency["p50"] is None else f"{latency['p50']} ms",
                f"{sum(row.health.errors.values())}/{len(row.health.all)}",
            )
        )
    return columns(rows)


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


@cache
def _words(language: str) -> Mapping[str, str]:
    words: dict[str, str] = json.loads((files("edge.bus_tool") / "catalogue" / f"{language}.json").read_text("utf-8"))
    return words
