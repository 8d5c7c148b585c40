"""The agent against Debian's Mosquitto. amqtt carries the long demo, with the same demands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

SECONDS = 12
END_S_MAX = 90.0


@pytest.mark.needs_program("mosquitto")
def test_agent_brings_its_whole_ledger_to_the_cloud_over_mosquitto(
    start: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    options = ("--seconds", str(SECONDS), "--broker", "mosquitto", "--data", str(tmp_path), "--port", str(port))
    demo = start("demo", *options, "--json")
    assert demo.end(END_S_MAX) == 0
    summary = json.loads(demo.lines[-1])
    assert summary["ledger_records"] == summary["cloud_records"] > 24
    assert summary["chain_ok"]
    assert summary["balances_agree"]
    assert summary["accounts_off"] == []
