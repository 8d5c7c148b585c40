"""The comparison of the kernel with others: its case is one case, its checks find a difference, its goals say so."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "native/bench/bench_tariff.py"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The script as a module; it is installed nowhere."""
    spec = importlib.util.spec_from_file_location("bench_tariff", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["bench_tariff"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_tariff"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain loop, compiled; the kernel needed a compiler as well."""
    target = tmp_path_factory.mktemp("bench") / "plain_loop.so"
    source = str(ROOT / "native/bench/plain_loop.c")
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", *strict, "-shared", "-fPIC", source, "-o", str(target)], check=True)
    return target


def test_everyone_that_needs_no_package_makes_the_same_bills(bench: Any, library: Path) -> None:
    makers = bench.year_makers(str(library), 1)
    named = [name for name in makers if name not in (bench.NUMPY, bench.PYSAM, bench.RATEBOOK)]
    candidates = {name: makers[name]() for name in named}
    assert len(candidates) == 9
    assert bench.differ(candidates) == []
    assert all(candidate.bills == 1 for candidate in candidates.values())


def test_a_round_of_accounts_is_one_round_for_everyone(bench: Any, library: Path) -> None:
    candidates = {name: make() for name, make in bench.round_makers(str(library)).items()}
    assert bench.differ(candidates) == []
    assert {len(candidate.months) for candidate in candidates.values()} == {bench.ACCOUNTS}


def test_a_bill_that_differs_by_more_than_the_allowance_is_named(bench: Any, library: Path) -> None:
    makers = bench.year_makers(str(library), 1)
    kernel, loop = makers[bench.KERNEL](), makers[bench.LOOP]()
    months = [*loop.months[:-1], loop.months[-1] * (1 + 3e-9)]
    (sentence,) = bench.differ({bench.KERNEL: kernel, bench.LOOP: replace(loop, months=months)})
    assert sentence.startswith(f"{bench.LOOP}: its bills differ")
    (sentence,) = bench.differ({bench.KERNEL: kernel, bench.LOOP: replace(loop, months=loop.months[:-1])})
    assert sentence.startswith(f"{bench.LOOP}: its bills differ")


def test_blocks_of_each_period_by_itself_are_another_bill(bench: Any) -> None:
    energies = bench.make_energies(1)
    own = bench.ratebook_months(energies)
    shared = bench.python_year(energies, exact=False).months
    assert len(own) == len(shared) == 12
    assert all(mine < theirs for mine, theirs in zip(own, shared, strict=True))


def test_who_is_not_installed_is_named_with_the_reason(bench: Any) -> None:
    def absent() -> Any:
        raise ImportError("No module named 'no_such_peer'")

    reasons: dict[str, str] = {}
    assert bench.make_all({"peer": absent}, reasons) == {}
    assert reasons == {"peer": "No module named 'no_such_peer'"}


def rows(bench: Any, **ms: float) -> list[Any]:
    names = {"kernel": bench.KERNEL, "loop": bench.LOOP, "pysam": bench.PYSAM, "ratebook": bench.RATEBOOK}
    return [bench.Row(names[key], 1, v, v, v / ms["kernel"], v / ms["kernel"], 1) for key, v in ms.items()]


def test_goals_are_met_or_not_and_a_missing_peer_meets_none(bench: Any) -> None:
    good = rows(bench, kernel=0.05, loop=0.04, pysam=1.3, ratebook=4.1)
    assert all(goal.met for goal in bench.goals(good, good, good))
    slow = rows(bench, kernel=0.051, loop=0.02, pysam=1.2)
    found = bench.goals(slow, rows(bench, kernel=0.07, loop=0.02), rows(bench, kernel=0.6))
    assert not any(goal.met for goal in found)
    assert [goal.found for goal in found if goal.what.endswith(bench.RATEBOOK)] == [None]
    text = bench.as_text(
        {
            "machine": bench.machine(),
            "not_compared": {bench.RATEBOOK: "not here"},
            "bills_agree_within": bench.AGREES_WITHIN,
            "tables": {"a year": [bench.asdict(row) for row in slow]},
            "goals": [bench.asdict(goal) for goal in found],
        }
    )
    assert "not compared: ratebook: not here" in text
    assert text.count("NOT MET") == len(found)


def test_script_prints_one_json_object(
    bench: Any, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "ACCOUNTS", 10)  # a fleet of one: this is about the shape of the answer
    monkeypatch.setattr(bench, "SAMPLES_MAX", 1)
    monkeypatch.setattr(bench, "SAMPLE_MS", 0.01)
    monkeypatch.setattr(sys, "argv", ["bench", "--loop", str(library), "--quick", "--json"])
    assert bench.main() == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["tables"]) == 3
    assert set(report["not_compared"]) <= {bench.NUMPY, bench.PYSAM, bench.RATEBOOK}
    assert len(report["goals"]) == 6
    assert report["machine"]["Python"]
