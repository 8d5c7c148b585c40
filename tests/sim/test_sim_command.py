"""hw.sim.world.commands: several worlds, one after the other and at the same time."""

import json
from typing import Any

import pytest

from edge.cli import main


def sim(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    world = ("--seed", "3", "--days", "1", "--meters", "2", "--faults", "none", "--json")
    assert main(["sim", *world, *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_worlds_at_the_same_time_come_to_what_they_come_to_one_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one_by_one = sim(capsys, "--count", "3", "--jobs", "1")
    assert sim(capsys, "--count", "3", "--jobs", "2") == one_by_one
    assert one_by_one["meter_years"] == round(3 * 2 / 365, 3)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_each_world_that_is_over_is_told_of_on_stderr_and_the_result_stays_one_object(
    capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    arguments = ("--seed", "3", "--days", "1", "--meters", "2", "--faults", "none", "--count", "2", "--jobs", jobs)
    assert main(["sim", *arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "world 1 of 2: 0.005 meter-years and 0 violations so far",
        "world 2 of 2: 0.011 meter-years and 0 violations so far",
    ]
    assert json.loads(said.out)["violations"] == []


def test_no_worlds_at_a_time_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["sim", "--jobs", "0"])
    assert refused.value.code == 2
    assert "'0' is not a whole number from 1 to 256" in capsys.readouterr().err
