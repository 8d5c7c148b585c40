"""The command line of the seeded world: `wattgate sim`.

Exit status: 0 nothing found, 1 a violation (or a mutant nobody caught), 2 bad arguments.
"""

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import msgspec

from hw.sim.world.faults import FAULTS
from hw.sim.world.mutants import MUTANTS, catch
from hw.sim.world.world import DAY_MS, HOUR_MS, Report, Setting, run_world

EXAMPLE = """example:
  wattgate sim --seed 7 --days 14 --meters 8 --faults all
  wattgate sim --seed 7 --count 20 --json             seeds 7 to 26 on all cores, one JSON object
  wattgate sim --faults noise,power_cut --days 30     only these faults
  wattgate sim --mutants                              plants each known fault into the product
"""
SEED_MAX = 2**63 - 1
DAYS_MAX, METERS_MAX, COUNT_MAX, JOBS_MAX = 3660, 128, 100_000, 256
FOUND_SHOWN_MAX = 50


def add_sim_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `sim` to the commands of `wattgate`."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "A whole site in virtual time, with faults and an auditor. / 虚拟时间中的整个现场 (带故障与审计)。"
    sim = commands.add_parser(
        "sim", help="a world from a seed", description=text, epilog=_epilog(), formatter_class=raw
    )
    sim.add_argument("--seed", type=_whole(0, SEED_MAX), help="the world's seed (default: a random one, printed)")
    sim.add_argument("--days", type=_whole(1, DAYS_MAX), default=12, help="days to live (12)")
    sim.add_argument("--meters", type=_whole(1, METERS_MAX), default=8, help="customers on the site (8)")
    sim.add_argument("--faults", type=_faults, default=tuple(FAULTS), metavar="all|none|NAME,...", help="(all)")
    sim.add_argument("--count", type=_whole(1, COUNT_MAX), default=1, metavar="N", help="so many seeds, counted up (1)")
    sim.add_argument("--jobs", type=_whole(1, JOBS_MAX), metavar="N", help="worlds at a time (one a core)")
    sim.add_argument("--mutants", action="store_true", help="plant each known fault: the auditor must catch all")
    sim.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    sim.set_defaults(run=run_sim)


def _epilog() -> str:
    return EXAMPLE + "faults:\n" + "".join(f"  {name:<16}{fault.what}\n" for name, fault in FAULTS.items())


def run_sim(options: argparse.Namespace) -> int:
    """Runs the worlds that were asked for and says what came of them."""
    if options.mutants:
        return _run_mutants(as_json=options.json)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    if not options.json:
        print(f"seed {seed}, faults {','.join(options.faults) or 'none'}", flush=True)
    totals = Totals()
    settings = [
        Setting(number, options.days, options.meters, options.faults) for number in range(seed, seed + options.count)
    ]
    for report in _reports(settings, options.jobs or os.cpu_count() or 1):
        totals.add(report)
        if len(settings) > 1:
            _say_progress(totals, len(settings))
        if not options.json:
            _print_violations(report)
    _print_totals(totals, as_json=options.json)
    return 1 if totals.violations else 0


def _reports(settings: Sequence[Setting], jobs: int) -> Iterator[Report]:
    """What the worlds come to, in their order: a world knows nothing of the others, so each may have a core."""
    if min(jobs, len(settings)) == 1:
        yield from map(run_world, settings)
        return
    with ProcessPoolExecutor(min(jobs, len(settings)), get_context("spawn")) as pool:
        yield from pool.map(run_world, settings)


def _say_progress(totals: "Totals", count: int) -> None:
    """A line for each world that is over, to whoever waits: a terminal or a file."""
    found = len(totals.violations)
    so_far = f"{totals.meter_years:.3f} meter-years and {found} violation{'' if found == 1 else 's'} so far"
    print(f"world {len(totals.hashes)} of {count}: {so_far}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Totals:
    """The sums of several worlds."""

    violations: list[dict[str, Any]] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    meter_years: float = 0.0
    sometimes: Counter[str] = field(default_factory=Counter)
    hashes: list[str] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """One world more."""
        seed = report.setting.seed
        self.violations += [
            {"seed": seed, "at": when(found.true_ms), "rule": found.rule, "detail": found.detail}
            for found in report.violations
        ]
        for name in ("power_cuts", "payments", "relay_switches", "cuts", "restores"):
            self.figures[name] += getattr(report, name)
        self.meter_years += report.meter_years
        self.sometimes.update(report.sometimes)
        self.hashes.append(report.trace_hash)

    @property
    def trace_hash(self) -> str:
        """Of one world its own, of several a hash over theirs."""
        from hashlib import sha256

        return self.hashes[0] if len(self.hashes) == 1 else sha256("".join(self.hashes).encode()).hexdigest()

    def as_object(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "violations": self.violations,
            "meter_years": round(self.meter_years, 3),
            **{name: self.figures[name] for name in ("power_cuts", "payments", "relay_switches", "cuts", "restores")},
            "trace_hash": self.trace_hash,
            "sometimes": dict(self.sometimes),
        }


def when(true_ms: int) -> str:
    """A simulated time: day and time of day since the world began (local midnight)."""
    days, rest = divmod(true_ms, DAY_MS)
    hours, rest = divmod(rest, HOUR_MS)
    return f"day {days} {hours:02}:{rest // 60_000:02}:{rest // 1000 % 60:02}.{rest % 1000:03}"


def _print_violations(report: Report) -> None:
    for found in report.violations[:FOUND_SHOWN_MAX]:
        print(f"seed {report.setting.seed}, {when(found.true_ms)}: {found.rule}: {found.detail}", flush=True)
    more = len(report.violations) - FOUND_SHOWN_MAX
    if more > 0:
        print(f"seed {report.setting.seed}: and {more} more", flush=True)


def _print_totals(totals: Totals, *, as_json: bool) -> None:
    content = totals.as_object()
    if as_json:
        print(msgspec.json.encode(content).decode())
        return
    never = [name for name, count in totals.sometimes.items() if not count]
    for name in ("meter_years", "power_cuts", "payments", "relay_switches", "cuts", "restores", "trace_hash"):
        print(f"{name}: {content[name]}")
    print(
        f"sometimes: {len(totals.sometimes) - len(never)} of {len(totals.sometimes)}; never: {', '.join(never) or '-'}"
    )
    print(f"violations: {len(totals.violations)}")


def _run_mutants(*, as_json: bool) -> int:
    caught: dict[str, Any] = {}
    for name, mutant in MUTANTS.items():
        found = catch(name)
        caught[name] = found
        if not as_json:
            print(f"{'caught' if found else 'MISSED'} {name} ({mutant.what}): {found or '-'}", flush=True)
    missed = [name for name, found in caught.items() if found is None]
    if as_json:
        print(msgspec.json.encode({"caught": caught, "missed": missed}).decode())
    else:
        print(f"{len(caught) - len(missed)} of {len(caught)} caught")
    return 1 if missed else 0


def _whole(least: int, most: int) -> Any:
    """A whole number within limits, or one sentence."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def _faults(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(FAULTS)
    if text == "none":
        return ()
    names: Sequence[str] = text.split(",")
    for name in names:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of all, none, {', '.join(FAULTS)}")
    return tuple(name for name in FAULTS if name in names)
