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


def test_no_worlds_at_a_time_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["sim", "--jobs", "0"])
    assert refused.value.code == 2
    assert "'0' is not a whole number from 1 to 256" in capsys.readouterr().err
