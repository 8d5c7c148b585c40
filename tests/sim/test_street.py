"""The street as its users meet it: a process, terminals, a socket and files."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hw.sim.clock import ScaledClock
from hw.sim.street import StreetControl, default_street

Start = Callable[..., Any]
Until = Callable[..., None]


def decode_wh(type_: str, registers: bytes) -> int:
    """A reader of our own: float32 kWh, or hundredths of kWh, floored to Wh."""
    if type_ == "f32":
        return int(Fraction(struct.unpack(">f", registers)[0]) * 1000)
    return int.from_bytes(registers, "big") * 10


@pytest.fixture
def spec() -> dict[str, Any]:
    return default_street()


def test_every_register_on_the_wire_is_the_one_the_street_reports(start_street: Start) -> None:
    street = start_street()
    masters = {line_id: street.master(line_id) for line_id in ("line-1", "line-2")}
    before = street.control.registers()["meters"]
    read = {
        meter_id: masters[meter["line"]].read(meter["device_id"], meter["function_code"], meter["address"], 2)
        for meter_id, meter in before.items()
    }
    after = street.control.registers()["meters"]
    assert len(read) == 13
    for meter_id, registers in read.items():
        register_wh = decode_wh(before[meter_id]["type"], registers)
        assert before[meter_id]["register_wh"] <= register_wh <= after[meter_id]["register_wh"]
        assert after[meter_id]["register_wh"] > before[meter_id]["start_register_wh"]


def test_a_stopped_street_reads_to_the_watt_hour_and_leaves_its_registers_behind(start_street: Start) -> None:
    street = start_street()
    master = street.master("line-2")
    street.control.stop_load()
    saved = street.saved_registers()["meters"]
    for meter_id, meter in street.control.registers()["meters"].items():
        assert saved[meter_id]["registers"] == meter["registers"]
        assert decode_wh(meter["type"], bytes.fromhex(meter["registers"])) == meter["register_wh"]
        if meter["line"] == "line-2":
            raw = master.read(meter["device_id"], meter["function_code"], meter["address"], 2)
            assert raw.hex() == meter["registers"]
    street.control.quit()
    assert street.wait() == 0
    assert street.saved_registers()["meters"] == saved


def test_the_relay_board_cuts_and_restores_a_customer(start_street: Start) -> None:
    street = start_street()
    master = street.master("line-1")
    assert master.ask(100, "0500000000") == bytes.fromhex("0500000000")  # M01 hangs on coil 0
    assert master.ask(100, "0100000008") == bytes.fromhex("0101fe")
    report = street.control.registers()
    cut = report["meters"]["M01"]
    assert (cut["relay_closed"], cut["power_w"]) == (False, 0)
    assert struct.unpack(">f", master.read(11, 4, 6, 2)) == (0.0,)  # current
    assert struct.unpack(">f", master.read(11, 4, 0, 2))[0] > 200  # voltage
    street.control.registers(at=report["at"] + 3600)
    assert master.read(11, 4, 72, 2).hex() == cut["registers"]
    assert master.ask(100, "050000ff00") == bytes.fromhex("050000ff00")
    assert struct.unpack(">f", master.read(11, 4, 6, 2))[0] > 0
    assert street.control.registers()["meters"]["M01"]["relay_closed"]


def test_the_dds238_switches_by_function_16_and_refuses_function_6(start_street: Start) -> None:
    street = start_street()
    master = street.master("line-1")
    assert master.ask(15, "06001a0000") == bytes.fromhex("8601")
    assert street.control.registers()["meters"]["M05"]["relay_closed"]
    assert master.ask(15, "10001a0001020000") == bytes.fromhex("10001a0001")
    assert master.read(15, 3, 26, 1) == b"\0\0"
    assert master.read(15, 3, 13, 2) == b"\0\0\0\0"  # current and power
    assert not street.control.registers()["meters"]["M05"]["relay_closed"]


def test_orders_silence_stick_and_move_by_hand(start_street: Start) -> None:
    street = start_street()
    master = street.master("line-1")
    street.control.silence("M01", True)
    assert master.is_silent(11, "0400480002")
    assert master.read(12, 4, 72, 2)
    street.control.silence("M01", False)
    assert master.read(11, 4, 72, 2)

    street.control.stuck("M05", True)
    assert master.ask(15, "10001a0001020000") == bytes.fromhex("10001a0001")
    assert master.read(15, 3, 26, 1) == b"\0\1"
    street.control.relay("M05", closed=False)
    assert master.read(15, 3, 26, 1) == b"\0\0"

    street.control.scale("M02", 0)
    assert street.control.registers()["meters"]["M02"]["power_w"] == 0


def test_registers_can_be_asked_for_an_instant_to_come(start_street: Start, spec: dict[str, Any]) -> None:
    spec["speed"] = 1_000_000
    street = start_street(spec)
    midnight_at = spec["wall_start_at"] + 20 * 86_400
    assert street.control.relay("M01", closed=False, at=midnight_at - 1)["scheduled_at"] == midnight_at - 1
    answer = street.control.registers(at=midnight_at)
    assert answer["at"] == midnight_at
    assert answer["meters"]["M01"]["relay_closed"] is False
    assert answer["meters"]["M02"]["relay_closed"] is True


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "silence", "meter_id": "M99", "on": True}, "there is no meter 'M99'"),
        ({"do": "relay", "meter_id": "AREA", "closed": True}, "no contact carries"),
        ({"do": "scale", "meter_id": "M01", "percent": -5, "at": 9_999_999_999}, "percent"),
        ({"do": "scale", "meter_id": "AREA", "percent": 5, "at": 9_999_999_999}, "area meter"),
        ({"do": "dance"}, "dance"),
        ({"do": "stop_load", "when": 3}, "when"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_and_the_street_goes_on(
    start_street: Start, request_: dict[str, Any], words: str
) -> None:
    street = start_street()
    with pytest.raises(RuntimeError, match=words):
        street.control.request(**request_)
    assert street.control.registers()["ok"]


def test_the_street_and_its_reader_have_the_same_time(start_street: Start, spec: dict[str, Any]) -> None:
    spec["speed"], spec["quality"] = 1000, "rtc"
    street = start_street(spec)
    assert street.control.registers()["ok"]
    clock = ScaledClock(street.directory / "clock.json")
    before_at = clock.at()
    assert before_at <= street.control.registers()["at"] <= clock.at()
    assert clock.read().quality.value == "rtc"
    assert clock.speed == 1000


READER = """
import os, sys
line = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
while True:
    os.write(line, bytes.fromhex("0b0400480002f177"))
    os.read(line, 9)
    print("read", flush=True)
"""


def test_the_street_survives_a_reader_killed_with_9(start_street: Start) -> None:
    street = start_street()
    master = street.master("line-1")
    boot_id = ScaledClock(street.directory / "clock.json").read().boot_id
    for _ in range(3):
        reader = subprocess.Popen([sys.executable, "-c", READER, street.directory / "line-1"], stdout=subprocess.PIPE)
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"read\n"
        reader.kill()
        reader.communicate()
        master.listen(0.1)
        assert len(master.read(11, 4, 72, 2)) == 4
    assert street.process.poll() is None
    assert ScaledClock(street.directory / "clock.json").read().boot_id == boot_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_while_somebody_waits(start_street: Start, number: int) -> None:
    street = start_street()
    assert street.control.registers()["ok"]
    with StreetControl(street.directory / "street.sock") as waiting:
        waiting._socket.sendall(b'{"do":"registers","at":9999999999}\n')
        assert sorted(os.listdir(street.directory)) == ["clock.json", "line-1", "line-2", "street.sock"]
        street.process.send_signal(number)
        assert street.wait() == 0
    assert sorted(os.listdir(street.directory)) == ["clock.json", "registers.json"]
    assert len(street.saved_registers()["meters"]) == 13


PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-m", "hw.sim.street", "--spec", sys.argv[1], "--directory", sys.argv[2]])
time.sleep(60)
"""


def test_it_does_not_outlive_the_process_that_started_it(tmp_path: Path, spec: dict[str, Any], until: Until) -> None:
    spec_path = tmp_path / "spec.json"
    spec_path.write_text(json.dumps(spec))
    directory = tmp_path / "s"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, spec_path, directory])
    try:
        with StreetControl(directory / "street.sock") as control:
            assert control.registers()["ok"]
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not (directory / "street.sock").exists())
    until(lambda: (directory / "registers.json").exists())


def refuse(spec_path: Path, directory: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "hw.sim.street", "--spec", spec_path, "--directory", directory],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_a_wrong_spec_is_one_sentence_and_status_2_and_nothing_is_started(tmp_path: Path, spec: dict[str, Any]) -> None:
    spec["lines"][0]["devices"][0]["model"] = "abacus"
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert "spec.json: $.lines[0].devices[0].model: 'abacus' is not one of" in refuse(path, tmp_path / "s")
    assert "missing.json: No such file" in refuse(tmp_path / "missing.json", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path, spec: dict[str, Any], start_street: Start) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert "at most 107 bytes" in refuse(path, tmp_path / ("x" * 120))
    assert "Not a directory" in refuse(path, path / "below-a-file")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "line-2").write_text("keep me")
    assert "is in the way" in refuse(path, tmp_path / "blocked")
    street = start_street()
    assert street.control.registers()["ok"]
    assert "another street is running here" in refuse(path, street.directory)
    assert street.control.registers()["ok"]


def test_what_a_killed_street_left_behind_does_not_stop_the_next(start_street: Start) -> None:
    street = start_street()
    street.control.stop_load()
    street.process.kill()
    street.process.wait()
    assert sorted(os.listdir(street.directory)) == ["clock.json", "line-1", "line-2", "registers.json", "street.sock"]
    again = start_street()
    assert again.directory == street.directory
    assert len(again.master("line-1").read(11, 4, 72, 2)) == 4
    assert not (again.directory / "registers.json").exists()


def test_a_script_that_only_steers_does_not_load_the_server() -> None:
    code = "import sys, hw.sim.street; print([m for m in sys.modules if m.startswith(('pymodbus', 'serial'))])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == "[]\n"


def test_the_control_says_when_there_is_no_street(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(FileNotFoundError):
        StreetControl(tmp_path / "street.sock", patience_s=0.1)
    assert time.monotonic() - began < 5
