"""A street process with a line of DL/T 645 meters beside one of Modbus: read with the product's own commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from hw.sim.street import SOCKET_FILE, StreetControl

ADDRESS = 320_100_000_147
METER: dict[str, Any] = {
    "meter_id": "M01", "device_id": ADDRESS, "model": "dlt645_2007", "start_wh": 1_234_567,
    "profile": "household", "seed": 1, "scale_percent": 100, "relay": "own",
}  # fmt: skip
SPEC: dict[str, Any] = {
    "speed": 60,
    "wall_start_at": 1_782_662_400,
    "lines": [
        {"id": "line-1", "protocol": "dlt645", "devices": [METER]},
        {"id": "line-2", "devices": [{**METER, "meter_id": "M02", "device_id": 7, "model": "hiking_dds238_2"}]},
    ],
}


@pytest.fixture
def street(tmp_path: Path, until: Callable[..., None]) -> Iterator[tuple[Path, StreetControl]]:
    """The folder of a running street, and the hand on it."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC), "utf-8")
    folder = tmp_path / "street"
    command = [sys.executable, "-m", "hw.sim.street", "--spec", str(tmp_path / "spec.json"), "--directory", str(folder)]
    process = subprocess.Popen([*command, "--parent-pid", str(os.getpid())])
    try:
        until(lambda: (folder / SOCKET_FILE).exists())
        yield folder, StreetControl(folder / SOCKET_FILE)
    finally:
        process.terminate()
        process.wait()


def test_the_register_on_the_wire_is_the_one_the_street_reports(
    street: tuple[Path, StreetControl], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, control = street
    control.stop_load()
    line = ["--line", str(folder / "line-1"), "--protocol", "dlt645", "--address", str(ADDRESS), "--json"]
    points = "energy_import_total,voltage_l1,status_word_3,meter_date"
    assert main(["meter", "read", *line, "--points", points]) == 0
    read = json.loads(capsys.readouterr().out)["points"]
    reported = control.registers()["meters"]["M01"]
    assert round(1000 * float(read["energy_import_total"]["value"])) == reported["register_wh"]
    assert 217 <= float(read["voltage_l1"]["value"]) <= 223
    assert (read["status_word_3"]["value"], read["meter_date"]["value"][:6]) == ("0", "260629")
    control.relay("M01", False)
    assert main(["meter", "read", *line, "--points", "status_word_3"]) == 0
    assert json.loads(capsys.readouterr().out)["points"]["status_word_3"]["value"] == "16"
    modbus = ["--line", str(folder / "line-2"), "--model", "hiking_dds238_2", "--device-id", "7", "--json"]
    assert main(["meter", "read", *modbus, "--points", "energy_import_total"]) == 0
