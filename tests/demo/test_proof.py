"""A customer of the demo's street takes a receipt to a third party, who trusts neither the gateway nor the cloud."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.database import open_database
from cloud_sync.keys import load_private_key

pytestmark = pytest.mark.timeout(230)

GATEWAY = "demo-street"


def wattgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", "proof", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_payment_of_the_street_is_proved_with_checkpoints_its_gateway_signed(demo: Any, tmp_path: Path) -> None:
    days = demo.result()["simulated_days"]
    cloud = tmp_path / "cloud.db"  # a copy: giving out a head writes it down
    with closing(sqlite3.connect(demo.data / "cloud.db")) as shared, closing(sqlite3.connect(cloud)) as copy:
        shared.backup(copy)
    with closing(open_database(cloud)) as database:
        (signed,) = database.execute("SELECT count(*) FROM checkpoint").fetchone()
        sql = "SELECT min(seq) FROM record WHERE stream = 'led' AND CAST(body AS TEXT) LIKE '%\"PaymentApplied\"%'"
        (seq,) = database.execute(sql).fetchone()
    assert days - 5 <= signed <= days + 1  # four of the agents were killed, each perhaps before it signed
    given = wattgate(
        "give", "--db", str(cloud), "--keys", str(demo.data / "keys"), GATEWAY, str(seq),
        "--out", str(tmp_path), "--json",
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    files = [f"--{name}={tmp_path / name}.json" for name in ("receipt", "head", "proof")]
    device_key = load_private_key(demo.data / "device.pem").public_key().public_bytes_raw().hex()
    ended = wattgate("verify", *files, "--device-key", device_key, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    facts = json.loads(ended.stdout)
    assert (facts["valid"], facts["seq"], facts["device_key_pinned"]) == (True, seq, True)
    assert json.loads(facts["record"])["type"] == "PaymentApplied"
