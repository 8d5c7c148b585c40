"""Proves the contracts of the kernel with Frama-C WP: `python3 build.py prove` runs this.

Says how many goals of how many are proved, and which functions are not under proof. Exit status:
0 all goals proved, 1 one is not, 2 a program is missing. Standard library only.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parent
PACKAGES = {"frama-c": "frama-c-base", "why3": "why3", "cvc4": "cvc4", "z3": "z3"}
# Their goals are proved one and all. What a function calls enters by its contract.
PROVEN = (
    "runs_are_good",
    "cells_are_good",
    "periods_are_good",
    "segments_are_good",
    "tariff_check_tables",
    "energy_left",
    "position_is_good",
    "check_intervals",
    "fits",
    "cells_within",
    "cells_of",
    "check_account",
    "check_accounts",
    "split",
    "multiply",
    "block_cost",
    "first_second",
    "find_segment",
    "seconds_in",
    "set_to_zero",
    "enter_cycle",
    "remainder_of",
    "count_above",
    "left_over",
    "find_threshold",
    "tariff_rate",
)
SECONDS_A_GOAL = 20


def main() -> int:
    """Proves, or breaks the kernel as defects.txt says and looks whether the proof breaks too."""
    parser = argparse.ArgumentParser(prog="build.py prove")
    parser.add_argument("--defects", action="store_true", help="each seeded defect must break the proof (slow)")
    parser.add_argument("--source", type=Path, default=NATIVE / "src/kernel.c", help="prove another copy")
    parser.add_argument("--functions", default=",".join(PROVEN), help="only these")
    options = parser.parse_args()
    missing = [f"{name} (Debian package {package})" for name, package in PACKAGES.items() if not shutil.which(name)]
    if missing:
        print(f"build.py: missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    if options.defects:
        return try_defects()
    proved, goals, open_goals = prove(options.source, options.functions)
    for goal in open_goals:
        print(f"not proved: {goal}")
    print(f"{proved} of {goals} goals proved, in {len(options.functions.split(','))} functions")
    print(f"not under proof: {', '.join(unproven(options.source))}")
    return 0 if goals > 0 and proved == goals and not open_goals else 1


def prove(source: Path, functions: str) -> tuple[int, int, list[str]]:
    """(goals proved, goals, names of the others) of some functions; no goals if the file is not understood."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "why3.conf"
        subprocess.run(["why3", "-C", str(config), "config", "detect"], capture_output=True, check=False)
        command = [
            "frama-c", "-c11", f"-cpp-extra-args=-I{NATIVE / 'include'}", "-wp", "-wp-rte", "-wp-prover", "cvc4,z3",
            "-wp-timeout", str(SECONDS_A_GOAL), "-wp-par", "2", "-wp-fct", functions, str(source),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(config))
    counts = re.search(r"Proved goals:\s+(\d+) / (\d+)", done.stdout)
    if done.returncode != 0 or counts is None:
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        return 0, 0, []
    open_goals = re.findall(r"\[(?:Failed|Timeout|Unknown)\] Goal (?:typed_)?(\S+)", done.stdout)
    return int(counts[1]), int(counts[2]), open_goals


def environment(config: Path) -> dict[str, str]:
    """Ours, with the provers of this machine as just detected."""
    return {**os.environ, "WHY3CONFIG": str(config)}


def unproven(source: Path) -> list[str]:
    """Functions of the kernel whose bodies are tested and fuzzed only."""
    names = re.findall(r"^(\w+)\(.*[^;]$", source.read_text("ascii"), re.MULTILINE)
    return sorted(set(names) - set(PROVEN))


def seeds() -> list[tuple[str, str, str]]:
    """(function, text as it is, text with the defect) of defects.txt."""
    lines = (HERE / "defects.txt").read_text("ascii").splitlines()
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [(function, good, bad) for function, good, bad in rows]


def broken(function: str, good: str, bad: str) -> bool:
    """Whether the proof of a function breaks with a defect in it."""
    text = (NATIVE / "src/kernel.c").read_text("ascii")
    start = text.index(f"\n{function}(")
    if good not in text[start:]:
        raise ValueError(f"defects.txt: {function} has no: {good}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "kernel.c"
        copy.write_text(text[:start] + text[start:].replace(good, bad, 1), "ascii")
        proved, goals, open_goals = prove(copy, function)
    return goals > 0 and (proved < goals or bool(open_goals))


def try_defects() -> int:
    """Tries every seed; 1 if the proof does not notice one."""
    missed = 0
    rows = seeds()
    for function, good, bad in rows:
        noticed = broken(function, good, bad)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED '}  {function}: {good} -> {bad}", flush=True)
    print(f"{len(rows) - missed} of {len(rows)} seeded defects break the proof")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
