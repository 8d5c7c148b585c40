"""Clients beside each other in real time: each a process of its own against lines that take the time of a wire.

One run compares them in turn, round after round, so that a slow moment of the machine falls on all. Processor times
are milliseconds for 1,000 polls; the share is of the line's limit, lateness of the simulated meters taken out.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hw.sim.bench_bus.clients import COUNT
from hw.sim.bench_bus.wire import Pace

OURS, WHOLE, PYMODBUS = "transaction", "line master", "pymodbus"
END_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a client is put to."""

    lines: int
    pace: Pace

    @property
    def limit_s(self) -> float:
        return self.pace.limit_s(8 + 5 + 2 * COUNT)


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one client under one load."""

    client: str
    lines: int
    baud: int
    turnaround_ms: float
    cpu_ms_per_1000: float
    cpu_ms_per_1000_min: float
    share: float  # of the limit with the gap kept
    gaps_broken: float  # share of the requests sent before t3.5 was over
    wrong: int


@dataclass(frozen=True, slots=True)
class _Run:
    cpu_ms_per_1000: float
    share: float
    gaps_broken: float
    wrong: int


def go_before_others() -> bool:
    """Lets this process, and the meters and clients it starts, run before all else on the machine, where that is
    allowed: a busy neighbour's turn of some milliseconds is no property of a client. Returns whether it is so."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        return False
    return True


def compare(
    line_program: Path, clients: Sequence[str], load: Load, rounds: int, seconds: float, libmodbus: Path | None
) -> list[Cost]:
    """Every client in turn, `rounds` times."""
    runs: dict[str, list[_Run]] = {client: [] for client in clients}
    for number in range(rounds):
        for client in clients if number % 2 == 0 else reversed(clients):
            runs[client].append(_run(line_program, client, load, seconds, libmodbus))
    return [_median(client, load, of_client) for client, of_client in runs.items()]


def _median(client: str, load: Load, runs: Sequence[_Run]) -> Cost:
    return Cost(
        client=client,
        lines=load.lines,
        baud=load.pace.baud,
        turnaround_ms=load.pace.turnaround_s * 1000,
        cpu_ms_per_1000=statistics.median(run.cpu_ms_per_1000 for run in runs),
        cpu_ms_per_1000_min=min(run.cpu_ms_per_1000 for run in runs),
        share=statistics.median(run.share for run in runs),
        gaps_broken=statistics.median(run.gaps_broken for run in runs),
        wrong=sum(run.wrong for run in runs),
    )


def _run(line_program: Path, client: str, load: Load, seconds: float, libmodbus: Path | None) -> _Run:
    with _lines(line_program, load) as (process, paths):
        command = [sys.executable, "-m", "hw.sim.bench_bus.clients", client, "--baud", str(load.pace.baud)]
        command += [
            "--seconds",
            str(seconds),
            *(["--library", str(libmodbus)] if client == "libmodbus" else []),
            *paths,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + END_S, check=False)
        stats, _ = process.communicate("", timeout=END_S)
    if done.returncode != 0:
        raise RuntimeError(f"{client} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    counts = [[int(number) for number in line.split()] for line in stats.splitlines()]
    requests = sum(count[0] for count in counts)
    unused_s = sum(count[2] for count in counts) / 1e9
    return _Run(
        cpu_ms_per_1000=report["cpu_s"] * 1e6 / max(report["polls"], 1),
        share=requests * load.limit_s / (requests * load.limit_s + unused_s),
        gaps_broken=sum(count[1] for count in counts) / max(requests, 1),
        wrong=report["wrong"],
    )


@contextmanager
def _lines(line_program: Path, load: Load) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The meters' process and the paths of its terminals."""
    pace = load.pace
    numbers = (pace.baud, round(pace.turnaround_s * 1e6), pace.bits_per_byte, load.lines)
    command = [str(line_program), *map(str, numbers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline().strip() for _ in range(load.lines)]
        finally:
            process.kill()
