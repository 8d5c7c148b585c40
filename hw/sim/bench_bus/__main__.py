"""The line master against the wire's limit, and its cost beside other clients: `python3 build.py bench bus`.

First what it makes of the wire, in simulated time, exact; then what it costs on pseudo-terminals at the pace of a
wire, in real time, one process a client. Who is not installed is named. README.md says what is measured, and what not.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hw.sim.bench_bus import simulated
from hw.sim.bench_bus.processes import OURS, PYMODBUS, WHOLE, Cost, Load, compare, go_before_others
from hw.sim.bench_bus.wire import Pace

PEERS = (PYMODBUS, "minimalmodbus")
LIBMODBUS = "libmodbus"
CPU_LOAD = Load(8, Pace(9600, 0.020))
SHARE_LOADS = tuple(Load(1, Pace(baud, ms / 1000)) for baud, ms in ((9600, 20), (19_200, 20), (115_200, 5)))
SHARE_GOAL, REQUESTS_GOAL, ROUND_GOAL_S, DEAD_GOAL, CPU_GOAL = 0.995, 0.15, 4.0, 0.10, 0.40


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the goals, met or not."""

    goal: str
    found: str
    met: bool


@dataclass(frozen=True, slots=True)
class Simulated:
    """All that simulated time can tell."""

    shares: list[simulated.LineShare]
    readings: list[simulated.Reading]
    round_s: dict[int, float]  # by the meters' turnaround in milliseconds
    relay_waits: list[simulated.RelayWait]
    dead: simulated.DeadCost

    @property
    def requests_per_value(self) -> float:
        points = sum(reading.points for reading in self.readings)
        return sum(reading.requests for reading in self.readings) / points


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints tables and goals or one JSON object. 1 if a client believed a wrong value."""
    options = read_arguments(arguments)
    began = time.monotonic()
    said = simulate(options.quick)
    costs: list[Cost] = []
    before_others = False
    peers, missing = installed(options.libmodbus)
    if options.line is None:
        missing = [*missing, "processor time: not measured, no program for the paced line was given (--line)"]
    else:
        before_others = go_before_others()
        costs = measure(options.line, peers, options.libmodbus, options.quick)
    goals = [*goals_of_wire(said), *goals_of_cost(costs)]
    report = {
        "simulated": asdict(said) | {"requests_per_value": said.requests_per_value},
        "costs": [asdict(cost) for cost in costs],
        "not_compared": missing,
        "goals": [asdict(goal) for goal in goals],
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": sys.version.split()[0]}
        | {"before_others": before_others},
        "seconds": round(time.monotonic() - began, 1),
    }
    if not before_others:
        missing.append("the machine's other work counts too: this user may not run before it (SCHED_FIFO)")
    print(json.dumps(report) if options.json else as_text(said, costs, missing, goals))
    return 1 if any(cost.wrong for cost in costs) else 0


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; build.py gives the first two."""
    parser = argparse.ArgumentParser(
        prog="bench bus",
        description="Measures the line master against the limit of the wire and against other clients.",
        epilog="example: python3 build.py bench bus --quick --json",
    )
    parser.add_argument("--line", type=Path, metavar="PROGRAM", help="paced_line, compiled; without: simulated only")
    parser.add_argument("--libmodbus", type=Path, metavar="FILE", help="libmodbus.so.5")
    parser.add_argument("--quick", action="store_true", help="shorter runs: a first look")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def simulate(quick: bool) -> Simulated:
    """Simulated time: shares, requests, rounds, commands, dead meters."""
    run_s = 20.0 if quick else 60.0
    paces = [Pace(baud, ms / 1000) for baud in simulated.BAUDS for ms in simulated.TURNAROUNDS_MS]
    commands = 30 if quick else 200
    return Simulated(
        shares=[simulated.line_share(pace, run_s) for pace in paces],
        readings=simulated.readings(),
        round_s={ms: simulated.round_s(ms / 1000) for ms in (20, 50)},
        relay_waits=[simulated.relay_wait(faults, commands) for faults in (False, True)],
        dead=simulated.dead_cost(),
    )


def installed(libmodbus: Path | None) -> tuple[list[str], list[str]]:
    """The peers there are, and a sentence for each that is not."""
    peers, missing = [], []
    for peer in PEERS:
        try:
            version(peer)
            peers.append(peer)
        except PackageNotFoundError:
            missing.append(f"{peer}: not compared, it is not installed")
    if libmodbus is None:
        missing.append(f"{LIBMODBUS}: not compared, its library is not here (Debian package libmodbus5)")
    else:
        peers.append(LIBMODBUS)
    return peers, missing


def measure(line: Path, peers: list[str], libmodbus: Path | None, quick: bool) -> list[Cost]:
    """Real time: everybody on eight lines, then us and the peers on one line at each speed."""
    rounds, seconds = (1, 2.0) if quick else (3, 4.0)
    costs = compare(line, [OURS, WHOLE, *peers], CPU_LOAD, rounds, seconds, libmodbus)
    for load in SHARE_LOADS[-1:] if quick else SHARE_LOADS:
        costs += compare(line, [OURS, WHOLE, *peers], load, 1, seconds, libmodbus)
    return costs


def goals_of_wire(said: Simulated) -> list[Goal]:
    """What simulated time can decide."""
    least = min(said.shares, key=lambda share: share.share)
    broken = sum(share.gaps_broken for share in said.shares)
    worst_round_s = max(said.round_s.values())
    waits = "; ".join(
        f"{wait.longest_s * 1000:.0f} of {wait.limit_s * 1000:.0f} ms {'with' if wait.faults else 'without'} faults"
        for wait in said.relay_waits
    )
    return [
        Goal(
            "99.5 % of the limit with the gap kept, simulated time",
            f"{least.share:.2%} at the least ({least.baud} baud, {least.turnaround_ms} ms), {broken} gaps broken",
            least.share >= SHARE_GOAL and broken == 0,
        ),
        Goal(
            "0.15 requests per value, every model, all points, 9600 baud",
            f"{said.requests_per_value:.3f} over {len(said.readings)} models",
            said.requests_per_value <= REQUESTS_GOAL,
        ),
        Goal(
            "128 meters on 4 lines at 9600 baud in under 4 s a round",
            ", ".join(f"{seconds:.2f} s at {ms} ms" for ms, seconds in said.round_s.items()),
            worst_round_s < ROUND_GOAL_S,
        ),
        Goal(
            "a relay command waits at most one transaction and its drain",
            waits,
            all(wait.longest_s <= wait.limit_s for wait in said.relay_waits),
        ),
        Goal(
            "4 dead meters of 32 cost under 10 %, over 10 minutes from the start",
            f"{said.dead.ten_minutes:.1%}; the first minute {said.dead.first_minute:.1%}, "
            f"the last five {said.dead.last_minutes:.1%}",
            said.dead.ten_minutes < DEAD_GOAL,
        ),
    ]


def goals_of_cost(costs: Sequence[Cost]) -> list[Goal]:
    """What only real time can decide; nothing without the program for it."""
    goals = []
    at_load = {cost.client: cost for cost in costs if cost.lines == CPU_LOAD.lines}
    if PYMODBUS in at_load:
        for client in (OURS, WHOLE):
            ratio = at_load[client].cpu_ms_per_1000 / at_load[PYMODBUS].cpu_ms_per_1000
            text = f"processor time of the {client} at most 40 % of pymodbus's, 8 lines"
            goals.append(Goal(text, f"{ratio:.0%}", ratio <= CPU_GOAL))
    for cost in costs:
        if cost.client == WHOLE:
            where = f"{cost.lines} x {cost.baud} baud, {cost.turnaround_ms:.0f} ms"
            text = f"99.5 % of the limit with the gap kept, real time, {where}"
            found = f"{cost.share:.2%}, {cost.gaps_broken:.0%} of the gaps broken"
            goals.append(Goal(text, found, cost.share >= SHARE_GOAL and cost.gaps_broken == 0))
    return goals


def as_text(said: Simulated, costs: Sequence[Cost], missing: Sequence[str], goals: Sequence[Goal]) -> str:
    """Tables for a person."""
    lines = ["Share of the wire's limit, one line of 32 meters, simulated time"]
    lines += [
        f"  {share.baud:>7} baud  {share.turnaround_ms:>3} ms  {share.share:8.3%}  gaps broken: {share.gaps_broken}"
        for share in said.shares
    ]
    lines += ["", "Requests for all points of a model, and per value"]
    lines += [
        f"  {model.model:24} {model.points:>3} points  {model.requests:>3}  {model.requests / model.points:.3f}"
        for model in said.readings
    ]
    lines += [
        "",
        "Real time: processor ms for 1,000 polls (least), share of the limit, gaps broken",
    ]
    lines += [
        f"  {cost.client:14} {cost.lines} x {cost.baud:>6} {cost.turnaround_ms:>4.0f} ms  {cost.cpu_ms_per_1000:7.1f} "
        f"({cost.cpu_ms_per_1000_min:.1f})  {cost.share:7.2%}  {cost.gaps_broken:4.0%}"
        + (f"  WRONG VALUES: {cost.wrong}" if cost.wrong else "")
        for cost in costs
    ]
    lines += [f"  {sentence}" for sentence in missing]
    lines += ["", *(f"{'met    ' if goal.met else 'NOT MET'}  {goal.goal}: {goal.found}" for goal in goals)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
