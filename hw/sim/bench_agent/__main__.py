"""The whole agent, measured: `python3 build.py bench agent`.

Beside thingsboard-gateway and collectd in one run, then alone: memory, start, idle, a simulated day's writing.
Whoever is not installed is named as not compared. README.md says what is measured, and what not.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hw.sim.bench_agent import measure
from hw.sim.bench_agent.broker import AGENT
from hw.sim.bench_agent.flash import NoDevice
from hw.sim.bench_agent.measure import Cost, Day, Footprint, Idle, Start
from hw.sim.bench_agent.peers import COLLECTD, THINGSBOARD

PARTS = ("compare", "memory", "start", "idle", "day")
RSS_GOAL_MB, CONSOLE_RSS_GOAL_MB, START_GOAL_S, DAY_GOAL_BYTES = 40.0, 50.0, 0.3, 3_000_000
PEER_GOALS = {THINGSBOARD: 0.10, COLLECTD: 1.0}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the goals, met or not."""

    goal: str
    found: str
    met: bool


@dataclass(slots=True)
class Report:
    """All that was measured; what was not is left out."""

    costs: list[Cost]
    footprints: list[Footprint]
    starts: list[Start]
    idle: Idle | None
    day: Day | None
    not_measured: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints tables and goals or one JSON object. 1 if something could not be run to its end."""
    options = read_arguments(arguments)
    began = time.monotonic()
    peers, missing = given_peers(options)
    report = Report([], [], [], None, None, missing)
    try:
        measure_all(options, peers, report)
    except (OSError, RuntimeError) as error:
        print(f"bench agent: {error}", file=sys.stderr)
        return 1
    goals = goals_of(report)
    if options.json:
        said = asdict(report) | {"goals": [asdict(goal) for goal in goals], "machine": machine()}
        print(json.dumps(said | {"seconds": round(time.monotonic() - began, 1)}))
    else:
        print(as_text(report, goals))
    return 0


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; build.py gives the first three."""
    parser = argparse.ArgumentParser(
        prog="bench agent",
        description="Measures the whole agent with 128 meters and a broker, beside two other gateways.",
        epilog="example: python3 build.py bench agent --quick --json",
    )
    parser.add_argument("--meters", type=Path, required=True, metavar="PROGRAM", help="meters.c, compiled")
    parser.add_argument("--thingsboard", type=Path, metavar="PYTHON", help="a Python with thingsboard-gateway")
    parser.add_argument("--collectd", type=Path, metavar="DIR", help="where collectd-core and libmodbus5 are unpacked")
    parser.add_argument("--only", choices=PARTS, action="append", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="shorter runs: a first look")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def given_peers(options: argparse.Namespace) -> tuple[dict[str, Path], list[str]]:
    """The peers there are, and a sentence for each that is not."""
    places = {THINGSBOARD: options.thingsboard, COLLECTD: options.collectd}
    missing = [f"{name}: not compared, it is not installed" for name, place in places.items() if place is None]
    return {name: place.resolve() if name == COLLECTD else place for name, place in places.items() if place}, missing


def measure_all(options: argparse.Namespace, peers: Mapping[str, Path], report: Report) -> None:
    """Fills the report, part by part, each in a folder of its own."""
    parts, quick, program = options.only or PARTS, options.quick, options.meters.resolve()
    if "compare" in parts:
        windows, window_s = (2, 60.0) if quick else (5, 60.0)
        report.costs = _in_folder(lambda folder: measure.compare(program, peers, folder, windows, window_s))
    if "memory" in parts:
        cases = [(9600, False), (9600, True)] if quick else [(9600, False), (0, False), (9600, True)]
        for baud, console in cases:
            seconds = 15.0 if quick else 60.0
            case = partial(measure.footprint, program, baud=baud, console=console, seconds=seconds)
            report.footprints.append(_in_folder(case))
    if "start" in parts:
        report.starts = _in_folder(lambda folder: measure.starts(program, peers, folder, 3 if quick else 7))
    if "idle" in parts:
        report.idle = _in_folder(lambda folder: measure.idle(program, folder))
    if "day" in parts:
        try:
            report.day = _in_folder(lambda folder: measure.day(program, folder, 1200 if quick else 600))
        except NoDevice as problem:
            report.not_measured.append(f"device bytes: not measured, no file system could be mounted: {problem}")


def _in_folder(run: Callable[[Path], Result]) -> Result:
    with tempfile.TemporaryDirectory(prefix="wattgate-bench-") as folder:
        return run(Path(folder))


def goals_of(report: Report) -> list[Goal]:
    """The goals that what was measured can decide."""
    goals = []
    for case in report.footprints:
        limit = CONSOLE_RSS_GOAL_MB if case.console else RSS_GOAL_MB
        where = f"{'console open' if case.console else 'no console'}, {case.baud or 'unpaced'} baud"
        text = f"128 meters, {where}: RSS at most {limit:.0f} MB"
        goals.append(Goal(text, f"{case.memory.rss_mb} MB", case.memory.rss_mb <= limit))
    costs = {cost.gateway: cost for cost in report.costs}
    for name, limit in PEER_GOALS.items():
        if name in costs and AGENT in costs:
            ratio = costs[AGENT].cpu_ms_per_1000 / costs[name].cpu_ms_per_1000
            text = f"processor time for a value at most {limit:.0%} of {name}'s"
            goals.append(Goal(text, f"{ratio:.0%}", ratio <= limit))
    for start in report.starts:
        if start.gateway == AGENT:
            value_s = start.value_s
            text = f"first value {START_GOAL_S} s after the start, store {start.store}"
            goals.append(Goal(text, f"{value_s} s", value_s is not None and value_s <= START_GOAL_S))
    if report.day is not None:
        written = report.day.device_bytes
        text = f"under {DAY_GOAL_BYTES / 1e6:.0f} MB written to the device a day"
        goals.append(Goal(text, f"{written / 1e6:.2f} MB", written < DAY_GOAL_BYTES))
    return goals


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    found = {"cores": os.cpu_count(), "processor": model, "kernel": platform.release(), "load": os.getloadavg()[0]}
    return found | {"python": sys.version.split()[0], "architecture": platform.machine()}


def _lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


def as_text(report: Report, goals: Sequence[Goal]) -> str:
    """Tables for a person."""
    lines = [", ".join(f"{name} {value}" for name, value in machine().items()), ""]
    if report.costs:
        lines += [
            "All at once, the same meters once in 5 s: CPU ms for 1,000 values (least), requests, messages, bytes"
        ]
    for cost in report.costs:
        lines.append(
            f"  {cost.gateway:20} {cost.cpu_ms_per_1000:8.1f} ({cost.cpu_ms_per_1000_min:.1f})  "
            f"{cost.values_per_s:.0f} of {cost.wanted_per_s:.0f} values/s  {cost.requests_per_value:.2f} requests, "
            f"{cost.messages_per_value:.4f} messages, {cost.bytes_per_value:.1f} B a value  "
            f"{cost.wake_ups_per_s:.0f} wake-ups/s  RSS {cost.memory.rss_mb} MB"
        )
    for case in report.footprints:
        memory, where = case.memory, f"{case.baud or 'unpaced'} baud{', console open' if case.console else ''}"
        lines.append(
            f"  alone, {where}: RSS {memory.rss_mb} PSS {memory.pss_mb} private {memory.private_mb} MB, "
            f"{case.values_per_s:.0f} values/s, {case.cpu_ms_per_1000:.1f} ms for 1,000 values"
        )
    for start in report.starts:
        lines.append(
            f"  start of {start.gateway}, store {start.store}: request {start.request_s}, answer {start.answer_s}, "
            f"value {start.value_s}, at the broker {start.broker_s} s; {start.cpu_s} s of processor to the answer"
        )
    if report.idle is not None:
        lines.append(f"  idle: {report.idle.wake_ups_per_s} wake-ups/s, {report.idle.share_of_core:.4%} of a core")
    if report.day is not None:
        day = report.day
        counts = ", ".join(f"{stream} {count}" for stream, count in day.records.items())
        lines.append(
            f"  a day: {day.device_bytes / 1e6:.2f} MB to the device; records {counts}; bodies "
            f"{day.body_bytes / 1e6:.2f} MB; {day.seals} seals"
        )
    lines += [f"  {sentence}" for sentence in report.not_measured]
    return "\n".join(
        [*lines, "", *(f"{'met    ' if goal.met else 'NOT MET'}  {goal.goal}: {goal.found}" for goal in goals)]
    )


if __name__ == "__main__":
    sys.exit(main())
