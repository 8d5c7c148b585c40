"""Proves the contracts of the kernel with Frama-C WP: `python3 build.py prove` runs this.

Says how many goals of how many are proved, and which functions are not under proof. Exit status:
0 all goals proved, 1 one is not, 2 a program is missing. Standard library only.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
NATIVE = HERE.parent
PACKAGES = {"frama-c": "frama-c-base", "why3": "why3", "cvc4": "cvc4", "z3": "z3"}
LEMMAS = "lemmas"  # in a list of functions: the lemmas of the contracts
# Their goals are proved one and all. What a function calls enters by its contract.
PROVEN = (
    LEMMAS,
    "runs_are_good",
    "cells_are_good",
    "periods_are_good",
    "segments_are_good",
    "tariff_check_tables",
    "energy_left",
    "position_is_good",
    "take",
    "small",
    "apart",
    "signed_wh",
    "usual_energy",
    "intervals_are_usual",
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
    "one_of",
    "find_segment",
    "seconds_in",
    "set_to_zero",
    "starts_over",
    "later",
    "skip_to",
    "skip_into",
    "note_cells",
    "price_bound",
    "rate_part",
    "remainder_of",
    "count_above",
    "left_over",
    "share_of",
    "find_threshold",
    "segments_within",
    "rate_shared",
    "rate_interval",
    "rate_single",
    "copy_positions",
    "sum_of",
    "find_cell",
    "enter_cycle",
    "rate_row",
    "tariff_rate",
)
OPEN_GOAL = re.compile(r"\[(?:Failed|Timeout|Unknown)\] Goal (?:typed_)?(\S+)")
SECONDS_A_GOAL = 20
SECONDS_A_GOAL_OF_A_SEED = 8  # no goal of the sound kernel takes half of it


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
    functions = options.functions.split(",")
    proved, goals, open_goals = prove_all(options.source, functions)
    for goal in open_goals:
        print(f"not proved: {goal}")
    print(f"{proved} of {goals} goals proved, in {len(set(functions) - {LEMMAS})} functions")
    print(f"not under proof: {', '.join(unproven(options.source))}")
    return 0 if goals > 0 and proved == goals and not open_goals else 1


def prove_all(source: Path, functions: Sequence[str]) -> tuple[int, int, list[str]]:
    """(goals proved, goals, names of the others) of all these functions, two at a time; no goals if one fails."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda function: prove(source, function), functions))
    if any(goals == 0 for _, goals, _ in results):
        return 0, 0, [f"{f}: not understood" for f, (_, goals, _) in zip(functions, results, strict=True) if not goals]
    return sum(row[0] for row in results), sum(row[1] for row in results), [goal for row in results for goal in row[2]]


def prove(source: Path, function: str) -> tuple[int, int, list[str]]:
    """(goals proved, goals, names of the others) of one function; no goals if the file is not understood."""
    with tempfile.TemporaryDirectory() as folder:
        command, config = frama_c(source, function, SECONDS_A_GOAL, Path(folder))
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(config))
    counts = re.search(r"Proved goals:\s+(\d+) / (\d+)", done.stdout)
    if done.returncode != 0 or counts is None:
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
        return 0, 0, []
    return int(counts[1]), int(counts[2]), OPEN_GOAL.findall(done.stdout)


def first_open_goal(source: Path, function: str) -> str:
    """The first goal of a function that is not proved, without trying those after it; empty if all are proved."""
    with tempfile.TemporaryDirectory() as folder:
        command, config = frama_c(source, function, SECONDS_A_GOAL_OF_A_SEED, Path(folder))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment(config), start_new_session=True
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                if found := OPEN_GOAL.search(line):
                    os.killpg(running.pid, signal.SIGTERM)
                    return found[1]
    return ""


def frama_c(source: Path, function: str, seconds: int, folder: Path) -> tuple[list[str], Path]:
    """The command that proves a function, and the provers it finds."""
    config = folder / "why3.conf"
    subprocess.run(["why3", "-C", str(config), "config", "detect"], capture_output=True, check=False)
    what = ["-wp-prop", "@lemma"] if function == LEMMAS else ["-wp-rte", "-wp-fct", function]
    command = [
        "frama-c", "-c11", f"-cpp-extra-args=-I{NATIVE / 'include'}", "-wp", "-wp-prover", "cvc4,z3",
        "-wp-timeout", str(seconds), "-wp-par", "1", *what, str(source),
    ]  # fmt: skip
    return command, config


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
        return first_open_goal(copy, function) != ""


def try_defects() -> int:
    """Tries every seed, as many at a time as there are cores; 1 if the proof does not notice one."""
    rows = seeds()
    noticed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (function, good, bad), found in zip(rows, pool.map(lambda row: broken(*row), rows), strict=True):
            noticed += found
            print(f"{'noticed' if found else 'MISSED '}  {function}: {good} -> {bad}", flush=True)
    print(f"{noticed} of {len(rows)} defects noticed")
    return 0 if noticed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
