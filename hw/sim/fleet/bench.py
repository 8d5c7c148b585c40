"""How much a cloud takes: `python3 build.py bench fleet`.

A fleet, Mosquitto, the backend with one worker and a database share this machine. Each engine gets the same load: first
ledger records with their readings, then readings alone. The yardstick of the same run is the database given the same
rows in the same transactions by a plain insert: no broker, no chain, no signature. Then what the figures mean for
100,000 gateways of 100 meters.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.database import open_existing, transaction
from cloud_sync.backend.intake import RECORD
from cloud_sync.transport import BrokerAddress
from hw.sim.fleet.commands import WAITING_SECONDS, stage_cloud, wiring_to
from hw.sim.fleet.fleet import Fleet, Load, Report
from hw.sim.fleet.stage import ADDRESS, Stage

ENGINES: Final = ("postgresql", "sqlite")
LEDGER_GOAL, LEDGER_REQUIRED, READINGS_GOAL = 10_000, 5_000, 100_000
FLEET_GATEWAYS, FLEET_METERS, SLOT_SECONDS, DAY_SECONDS = 100_000, 100, 900, 86_400
YARDSTICK_ROWS, ROWS_PER_TRANSACTION = 100_000, 10_000


@dataclass(slots=True)
class Measured:
    """One engine. Memory is proportional set size; processor seconds are of the load alone."""

    engine: str
    ledger: dict[str, Any] = field(default_factory=dict)
    readings: dict[str, Any] = field(default_factory=dict)
    yardstick_rows_per_second: int = 0
    kb_per_connection: dict[str, float] = field(default_factory=dict)
    ledger_cpu_us: dict[str, float] = field(default_factory=dict)  # a ledger record with its reading
    reading_cpu_us: dict[str, float] = field(default_factory=dict)  # a reading of one meter
    bytes_per_ledger_record: float = 0.0
    disagreements: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 1 when the two sides do not agree."""
    parser = argparse.ArgumentParser(prog="python3 build.py bench fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 gateways: a first look, in a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one")
    options = parser.parse_args(arguments)
    load = Load(200, 100, 2, 100) if options.quick else Load(2000, 100, 3, 200)
    found = []
    for engine in options.engine or ENGINES:
        if not options.json:
            print(f"{engine}: {load.gateways} gateways of {load.meters} meters ...", file=sys.stderr, flush=True)
        found.append(measure(engine, load))
    if options.json:
        print(json.dumps({"machine": machine(), "engines": [as_json(measured) for measured in found]}))
    else:
        print("\n".join(lines_of(found)))
    return 1 if any(measured.disagreements for measured in found) else 0


def measure(engine: str, load: Load) -> Measured:
    """Everything about one engine, on a stage of its own."""
    measured = Measured(engine)
    with tempfile.TemporaryDirectory(prefix="wattgate-fleet-") as folder, Stage(Path(folder)) as stage:
        db = stage.start_postgresql() if engine == "postgresql" else f"sqlite:///{folder}/cloud.db"
        port = stage_cloud(stage, db, Path(folder) / "keys", load, workers=1)
        wiring = wiring_to(BrokerAddress(ADDRESS, port), Path(folder) / "keys")
        asyncio.run(_work(stage, Fleet(load, wiring), measured, db))
        with closing(open_existing(db)) as database:
            size = database.execute("SELECT sum(length(body)) FROM record WHERE stream = 'led'").fetchone()[0]
            measured.bytes_per_ledger_record = float(size) / measured.ledger["ledger_records"]
        measured.yardstick_rows_per_second = _yardstick(db, round(measured.bytes_per_ledger_record))
    return measured


async def _work(stage: Stage, fleet: Fleet, measured: Measured, db: str) -> None:
    before = stage.memory_kb()
    async with fleet.connected(WAITING_SECONDS):
        after = stage.memory_kb()
        gateways = len(fleet.gateways)
        measured.kb_per_connection = {
            name: (after[name] - before[name]) / gateways for name in ("mosquitto", "backend")
        }
        ledger, cpu = await _loaded(stage, fleet, fleet.report.load)
        measured.ledger = ledger.as_json()
        measured.ledger_cpu_us = {name: 1e6 * seconds / ledger.ledger_records for name, seconds in cpu.items()}
        only = replace(fleet.report.load, slots=3 * fleet.report.load.slots, has_ledger=False)
        readings, cpu = await _loaded(stage, fleet, only)
        measured.readings = readings.as_json()
        measured.reading_cpu_us = {name: 1e6 * seconds / readings.readings for name, seconds in cpu.items()}
    with closing(open_existing(db)) as database:
        measured.disagreements = list(fleet.disagreements(database))


async def _loaded(stage: Stage, fleet: Fleet, load: Load) -> tuple[Report, dict[str, float]]:
    """What came of a load, and the processor seconds it took of each process and of the fleet."""
    fleet.report = Report(load, fleet.report.connect_seconds)
    for gateway in fleet.gateways:
        gateway.slot = 0
    before, own = stage.processor_seconds(), time.process_time()
    await fleet.run_slots(WAITING_SECONDS)
    used = {name: seconds - before[name] for name, seconds in stage.processor_seconds().items()}
    return fleet.report, used | {"fleet": time.process_time() - own}


def _yardstick(db: str, body_bytes: int) -> int:
    """Rows a second that the database takes when nobody asks what they mean."""
    body, digest = b"x" * body_bytes, bytes(32)
    rows = [(f"yard-{seq % 100:03d}", "led", 1, seq, digest, body, 0) for seq in range(YARDSTICK_ROWS)]
    with closing(open_existing(db)) as database:
        began = time.monotonic()
        for start in range(0, YARDSTICK_ROWS, ROWS_PER_TRANSACTION):
            with transaction(database, shared=True):
                database.write(RECORD, rows[start : start + ROWS_PER_TRANSACTION])
        return round(YARDSTICK_ROWS / (time.monotonic() - began))


def machine() -> dict[str, Any]:
    """What all this ran on."""
    return {"cores": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()}


def as_json(measured: Measured) -> dict[str, Any]:
    """All of it, with the goals and the arithmetic."""
    rate, readings = measured.ledger["ledger_records_per_second"], measured.readings["readings_per_second"]
    return {
        "engine": measured.engine,
        "ledger": measured.ledger,
        "readings": measured.readings,
        "yardstick_rows_per_second": measured.yardstick_rows_per_second,
        "share_of_yardstick": round(rate / measured.yardstick_rows_per_second, 3),
        "kb_per_connection": {name: round(value, 1) for name, value in measured.kb_per_connection.items()},
        "ledger_cpu_us": {name: round(value, 1) for name, value in measured.ledger_cpu_us.items()},
        "reading_cpu_us": {name: round(value, 2) for name, value in measured.reading_cpu_us.items()},
        "bytes_per_ledger_record": round(measured.bytes_per_ledger_record),
        "goals": {
            "ledger_required": rate >= LEDGER_REQUIRED,
            "ledger_goal": rate >= LEDGER_GOAL,
            "readings_goal": readings >= READINGS_GOAL,
        },
        "for_100000_gateways": arithmetic(measured),
        "disagreements": measured.disagreements[:20],
    }


def arithmetic(measured: Measured) -> dict[str, float]:
    """What 100,000 gateways of 100 meters would need, by these figures: one frozen register a meter and day."""
    readings = FLEET_GATEWAYS * FLEET_METERS / SLOT_SECONDS
    ledger = FLEET_GATEWAYS * FLEET_METERS / DAY_SECONDS
    cores = {
        name: (readings * measured.reading_cpu_us[name] + ledger * measured.ledger_cpu_us[name]) / 1e6
        for name in ("mosquitto", "backend", "postgresql")
        if name in measured.reading_cpu_us
    }
    return {
        "readings_per_second": round(readings),
        "ledger_records_per_second": round(ledger),
        **{f"{name}_cores": round(value, 2) for name, value in cores.items()},
        "mosquitto_gb": round(FLEET_GATEWAYS * measured.kb_per_connection["mosquitto"] / 1e6, 2),
        "ledger_gb_per_year": round(ledger * DAY_SECONDS * 365 * measured.bytes_per_ledger_record / 1e9, 1),
    }


def lines_of(found: Sequence[Measured]) -> list[str]:
    """The report for people."""
    lines = [", ".join(f"{name} {value}" for name, value in machine().items())]
    for said in map(as_json, found):
        lines += ["", *_engine_lines(said)]
    return lines


def _engine_lines(said: dict[str, Any]) -> list[str]:
    ledger, readings = said["ledger"], said["readings"]
    mark = {True: "met", False: "NOT MET"}
    goals, alone = said["goals"], said["for_100000_gateways"]
    return [
        f"{said['engine']}: {ledger['gateways']} gateways of {ledger['meters']} meters, connected in"
        f" {ledger['connect_seconds']} s",
        f"  ledger records, publish to signed ack   {ledger['ledger_records_per_second']:>9} a second"
        f"   ({LEDGER_REQUIRED}: {mark[goals['ledger_required']]}, {LEDGER_GOAL}: {mark[goals['ledger_goal']]})",
        f"    latency {_latency(ledger)}; {said['share_of_yardstick']:.0%} of what the database takes by a plain insert"
        f" ({said['yardstick_rows_per_second']})",
        f"  readings alone                          {readings['readings_per_second']:>9} a second"
        f"   ({READINGS_GOAL}: {mark[goals['readings_goal']]})",
        f"    latency {_latency(readings)}",
        f"  processor us a ledger record   {_named(said['ledger_cpu_us'])}",
        f"  processor us a reading         {_named(said['reading_cpu_us'])}",
        f"  memory KB a connection         {_named(said['kb_per_connection'])}",
        f"  for 100,000 gateways: {_named(alone)}",
        f"  {len(said['disagreements'])} disagreements between gateways and cloud",
    ]


def _latency(said: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value} ms" for name, value in said["latency_ms"].items())


def _named(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(main())
