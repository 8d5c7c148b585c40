"""The report an installer can send: port, timings, errors and answer times of each meter, and what to do about them.

It holds nothing of the gateway: no configuration, no keys, no accounts. Milliseconds and percent.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edge.bus.scan_records import Found, ScanReport
from edge.bus_tool.show import (
    LANGUAGES,
    diagnosis_json,
    diagnosis_lines,
    found_json,
    latency_json,
    link_text,
    say,
)
from hw.port_facts import PortFacts

REPEATS = 20
_ERROR_PERCENT_MAX = 2
_TIMEOUT_STEP_MS = 50
_TIMEOUT_MS = (100, 2_000)
Recommendation = tuple[str, dict[str, object]]


def recommendations(report: ScanReport, facts: PortFacts) -> Iterator[Recommendation]:
    """(key of the catalogue, its values), the port first."""
    if facts.latency_timer_ms is not None and facts.latency_timer_ms > 1:
        yield "latency_timer", {"ms": facts.latency_timer_ms}
    if facts.parity_kept is False:
        yield "parity", {}
    slowest_ms = max((row.health.latencies_ms[-1] for row in report.found if row.health.latencies_ms), default=None)
    if slowest_ms is not None:
        yield "response_timeout", {"ms": _timeout_ms(slowest_ms)}
    for row in report.found:
        failed, asked = sum(row.health.errors.values()), len(row.health.all)
        if asked and 100 * failed > _ERROR_PERCENT_MAX * asked:
            yield "errors", {"id": row.device_id, "percent": 100 * failed // asked}
    for diagnosis in report.diagnoses:
        yield "diagnosis", {"code": diagnosis.code}


def doctor_json(
    line: str, report: ScanReport, facts: PortFacts, system: dict[str, str], opened: int, seconds: float
) -> dict[str, Any]:
    """The report as one object."""
    advice = list(recommendations(report, facts))
    return {
        "line": line,
        **system,
        "port": asdict(facts),
        "opened": opened,
        "questions": report.questions,
        "seconds": round(seconds, 1),
        "meters": [found_json(row) for row in report.found],
        "diagnoses": [diagnosis_json(row) for row in report.diagnoses],
        "recommendations": [
            {"code": code, "values": values, "text": {lang: _advice(lang, code, values) for lang in LANGUAGES}}
            for code, values in advice
        ],
    }


def doctor_text(language: str, line: str, report: ScanReport, facts: PortFacts, system: dict[str, str], opened: int,
                seconds: float) -> str:  # fmt: skip
    """The report as lines."""
    unknown = say(language, "doctor.unknown")
    parity = {True: "doctor.parity_kept", False: "doctor.parity_lost", None: "doctor.unknown"}[facts.parity_kept]
    timer = unknown if facts.latency_timer_ms is None else f"{facts.latency_timer_ms} ms"
    counts = {"opened": opened, "questions": report.questions, "seconds": round(seconds, 1)}
    advice = [_advice(language, code, values) for code, values in recommendations(report, facts)]
    return "\n".join([
        say(language, "doctor.title", line=line, **system),
        say(language, "doctor.system", **system),
        say(language, "doctor.port", kind=facts.kind, driver=facts.driver or unknown, usb=facts.usb_id or unknown,
            timer=timer, parity=say(language, parity)),
        say(language, "doctor.timing", **counts),
        *([_meter_line(language, row) for row in report.found] or [say(language, "scan.nothing")]),
        *diagnosis_lines(language, report.diagnoses),
        say(language, "doctor.recommendations"),
        *(f"- {text}" for text in advice or [say(language, "recommend.nothing")]),
    ])  # fmt: skip


def _meter_line(language: str, row: Found) -> str:
    health, unknown = row.health, say(language, "model.unknown")
    latency = {name: "-" if value is None else value for name, value in latency_json(health.latencies_ms).items()}
    errors = ", ".join(f"{code} {count}" for code, count in health.errors.items())
    return say(
        language, "doctor.meter", id=row.device_id, link=link_text(row.link),
        models=" / ".join(row.recognition.models) or unknown, asked=len(health.all),
        failed=sum(health.errors.values()), errors=errors or say(language, "doctor.none"), **latency,
    )  # fmt: skip


def _advice(language: str, code: str, values: dict[str, object]) -> str:
    if code == "diagnosis":
        name = values["code"]
        return say(language, "recommend.diagnosis", name=say(language, f"diagnosis.{name}"),
                   advice=say(language, f"advice.{name}"))  # fmt: skip
    return say(language, f"recommend.{code}", **values)


def _timeout_ms(slowest_ms: float) -> int:
    """Twice the slowest answer, in steps people write."""
    low, high = _TIMEOUT_MS
    return min(high, max(low, -(-int(2 * slowest_ms) // _TIMEOUT_STEP_MS) * _TIMEOUT_STEP_MS))
