"""`wattgate bus` on pseudo-terminals: pymodbus's server answers for the meters, faults are put on the wire."""

import fcntl
import json
import os
import re
import signal
import string
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.bus.scan_records import Link, Note
from edge.bus_tool.show import LANGUAGES, note_text, say
from hw.port_facts import port_facts

ROOT = Path(__file__).resolve().parent.parent.parent
CATALOGUE = ROOT / "edge" / "bus_tool" / "catalogue"
AT_9600 = ("--baud", "9600", "--format", "8N1", "--timeout-ms", "200")


@pytest.fixture
def scanned(said: Any) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Scans with --json; (exit status, the object, what was told meanwhile)."""

    def run(line: Any, *more: str) -> tuple[int, dict[str, Any], str]:
        status, text, told = said("bus", "scan", "--line", line.path, *AT_9600, *more, "--json")
        return status, json.loads(text), told

    return run


def codes(answer: dict[str, Any]) -> list[str]:
    return [row["code"] for row in answer["diagnoses"]]


# --- scan -----------------------------------------------------------------------------------------


def test_real_servers_are_found_with_model_serial_and_latency(sim_line: Any, parts: Any, scanned: Any) -> None:
    models = {2: "eastron_sdm120", 3: "chint_dtsu666", 17: "hiking_dds238_2", 18: "chint_ddsu666"}
    line = sim_line().add(*(parts.meter(number, model) for number, model in models.items()))
    status, answer, told = scanned(line, "--ids", "1-20")
    assert (status, answer["complete"], answer["diagnoses"]) == (0, True, [])
    assert {row["device_id"]: row["models"] for row in answer["found"]} == {
        number: [model] for number, model in models.items()
    }
    first = answer["found"][0]
    assert (first["confidence"], first["asked"], first["errors"]) == ("certain", 16, {})
    assert first["identity"]["serial"].isdigit()
    assert set(first["latency_ms"]) == {"p50", "p95", "max"}
    assert "quick pass at 9600 8N1: 0 of 10 addresses" in told
    assert "full pass at 9600 8N1: 0 of 10 addresses" in told


def test_a_meter_at_another_speed_is_found_at_its_speed(sim_line: Any, parts: Any, said: Any) -> None:
    line = sim_line().add(parts.meter(1))
    line.baud = 2400
    command = (
        "bus",
        "scan",
        "--line",
        line.path,
        "--baud",
        "9600,2400",
        "--format",
        "8N1",
        "--timeout-ms",
        "150",
        "--ids",
        "1-2",
        "--json",
    )
    status, text, _ = said(*command)
    answer = json.loads(text)
    assert [(row["device_id"], row["baud"], row["format"]) for row in answer["found"]] == [(1, 2400, "8N1")]
    assert status == 0


def test_two_meters_that_answer_together_are_named(sim_line: Any, parts: Any, scanned: Any) -> None:
    """Their frames come one behind the other; the second one has another serial number."""
    line = sim_line().add(parts.meter(5), parts.meter(4))
    line.fault_to_gateway = lambda data: [(0.0, data + data if data[0] == 5 else data)]
    status, answer, _ = scanned(line, "--ids", "1-6")
    (fault,) = answer["diagnoses"]
    assert (status, fault["code"], fault["confidence"], fault["device_id"]) == (1, "two_on_one_address", "certain", 5)
    assert "set-address" in fault["advice"]["en"]
    assert "set-address" in fault["advice"]["zh"]
    assert {row["device_id"] for row in answer["found"]} == {4, 5}


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        (lambda data: bytes(byte ^ 0xFF for byte in data), "swapped_wires"),
        (lambda data: data + b"\xf7", "no_termination"),
        (lambda data: data[:-2] + b"\x00\x00" if len(data) > 30 else data, "no_termination"),
    ],
)
def test_a_fault_of_the_wire_has_its_name(
    spoiled: Callable[[bytes], bytes], code: str, sim_line: Any, parts: Any, scanned: Any
) -> None:
    line = sim_line().add(*(parts.meter(number) for number in range(1, 4)))
    line.fault_to_gateway = lambda data: [(0.0, spoiled(data))]
    for _ in range(3):  # in real time: on a busy machine late answers look like a second device
        status, answer, _ = scanned(line, "--ids", "1-3")
        if codes(answer) == [code]:
            break
    assert (status, codes(answer)) == (1, [code])


def test_noise_is_told_from_everything_else(sim_line: Any, parts: Any, scanned: Any) -> None:
    line = sim_line().add(parts.meter(1))
    line.babble(b"\xa5\x5a\x13", every_s=0.15)
    status, answer, _ = scanned(line, "--ids", "1-2")
    assert status == 1
    assert "noise" in codes(answer)
    assert answer["diagnoses"][0]["evidence"]["unasked_bytes"] >= 3


def test_an_echo_is_named_and_can_be_told_beforehand(sim_line: Any, parts: Any, scanned: Any) -> None:
    line = sim_line().add(parts.meter(1))

    def echoing(data: bytes) -> list[tuple[float, bytes]]:
        line.say_now(data)
        return [(0.005, data)]

    line.fault_to_devices = echoing
    status, answer, _ = scanned(line, "--ids", "1-3")
    assert (status, codes(answer), answer["complete"]) == (1, ["local_echo"], False)
    status, answer, _ = scanned(line, "--ids", "1-3", "--local-echo")
    assert (status, [row["device_id"] for row in answer["found"]]) == (0, [1])


def test_a_line_without_anybody_is_silent(sim_line: Any, scanned: Any) -> None:
    status, answer, _ = scanned(sim_line(), "--ids", "1-3")
    assert (status, codes(answer), answer["found"]) == (1, ["silent_line"], [])


def sdm120(device_id: int) -> SimDevice:
    """An SDM120 as pymodbus keeps one: holding and input registers are the same to it."""
    image = [0] * 360
    for address, value in {0: 230.5, 70: 50.0, 72: 1234.5, 342: 1234.5}.items():
        image[address : address + 2] = floated(value)
    identity = SimData(64512, values=[0, 4711, 32, 517], datatype=DataType.REGISTERS)
    return SimDevice(device_id, simdata=[SimData(0, values=image, datatype=DataType.REGISTERS), identity])


@pytest.mark.parametrize("kind", ["tcp", "rtu+tcp"])
def test_a_line_behind_a_server_is_scanned_without_settings(kind: str, tcp_server: Any, said: Any) -> None:
    line = tcp_server(kind, [sdm120(1), sdm120(3)])
    status, text, told = said("bus", "scan", "--line", line, "--ids", "1-4", "--timeout-ms", "200", "--json")
    answer = json.loads(text)
    assert [(row["device_id"], row["models"], row["baud"]) for row in answer["found"]] == [
        (1, ["eastron_sdm120"], None),
        (3, ["eastron_sdm120"], None),
    ]
    assert answer["found"][0]["identity"] == {"serial": "4711", "model_code": "32", "sw_version": "517"}
    assert (status, answer["links"]) == (0, [{"baud": None, "format": None}])
    assert "9600" not in told


def test_people_read_the_scan_in_their_language(sim_line: Any, parts: Any, said: Any) -> None:
    line = sim_line().add(parts.meter(1), parts.meter(2, "eastron_sdm630"))
    command = ("bus", "scan", "--line", line.path, *AT_9600, "--ids", "1-2")
    status, text, told = said(*command)
    assert status == 0
    assert "eastron_sdm120" in text
    assert "Address 2: several models fit and none is chosen" in text
    _, text, told = said(*command, "--lang", "zh")
    assert "有多个型号相符" in text
    assert "快速扫描" in told


def test_a_line_that_another_program_holds_is_left_to_it(sim_line: Any, said: Any) -> None:
    line = sim_line()
    held = os.open(line.path, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        for command in (
            ("scan",),
            ("doctor",),
            ("set-address", "--model", "eastron_sdm120", "--device-id", "1", "--to", "2"),
        ):
            status, text, complaint = said("bus", command[0], "--line", line.path, *command[1:])
            assert (status, text) == (2, "")
            assert "used by another program" in complaint
    finally:
        os.close(held)
    assert line.asked == []


# --- changes --------------------------------------------------------------------------------------


@pytest.fixture
def changing(said: Any, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """set-address or set-baud with --json and a journal of its own."""

    def run(line: Any, command: str, *more: str) -> tuple[int, dict[str, Any], str]:
        status, text, told = said(
            *("bus", command, "--line", line.path, *AT_9600, "--model", "eastron_sdm120"),
            *("--journal", str(tmp_path / "change.json"), "--json", *more),
        )
        return status, json.loads(text) if text else {}, told

    return run


def settable(line: Any, parts: Any, device_id: int = 1, **more: Any) -> Any:
    device = parts.SettableMeter(line, parts.meter(device_id), {20: "address", 28: "baud"}, **more)
    line.add(device)
    return device


def floated(value: float) -> tuple[int, ...]:
    return struct.unpack(">2H", struct.pack(">f", value))


def test_an_address_is_changed_with_a_witness(sim_line: Any, parts: Any, changing: Any, tmp_path: Path) -> None:
    line = sim_line()
    device = settable(line, parts)
    status, answer, told = changing(line, "set-address", "--device-id", "1", "--to", "9", "--yes", "--wait-s", "5")
    assert (status, answer["status"], answer["answers_at"]["device_id"]) == (0, "confirmed", 9)
    assert (answer["before"]["device_id"], answer["after"]["device_id"]) == (1, 9)
    assert answer["identity"]["serial"] in told
    assert device.written == [(16, 20, floated(9))]
    assert not (tmp_path / "change.json").exists()


def test_a_speed_is_changed_and_the_meter_met_at_the_new_one(sim_line: Any, parts: Any, changing: Any) -> None:
    line = sim_line()
    device = settable(line, parts)
    line.baud = 9600
    status, answer, told = changing(line, "set-baud", "--device-id", "1", "--to", "2400", "--yes", "--wait-s", "5")
    assert (status, answer["status"], answer["answers_at"]["baud"], line.baud) == (0, "confirmed", 2400, 2400)
    assert "will not understand it" in told
    assert device.written == [(16, 28, floated(0))]


def test_a_change_that_does_not_come_about_is_put_back(
    sim_line: Any, parts: Any, changing: Any, tmp_path: Path
) -> None:
    line = sim_line()
    device = settable(line, parts, at_once=False)
    status, answer, _ = changing(line, "set-address", "--device-id", "1", "--to", "9", "--yes", "--wait-s", "0")
    assert (status, answer["status"], answer["answers_at"]["device_id"]) == (1, "rolled_back", 1)
    assert device.written == [(16, 20, floated(9)), (16, 20, floated(1))]
    assert not (tmp_path / "change.json").exists()


def test_without_a_yes_nothing_is_written(sim_line: Any, parts: Any, changing: Any, monkeypatch: Any) -> None:
    line = sim_line()
    device = settable(line, parts)
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        status, _, complaint = changing(line, "set-address", "--device-id", "1", "--to", "9")
    assert status == 2
    assert "--yes" in complaint
    assert device.written == []


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("no\n", 2), ("\n", 2)])
def test_a_person_is_asked_at_a_terminal(
    answer: str, status: int, sim_line: Any, parts: Any, changing: Any, monkeypatch: Any
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    line = sim_line()
    device = settable(line, parts)
    monkeypatch.setattr(sys, "stdin", Terminal())
    found, _, told = changing(line, "set-address", "--device-id", "1", "--to", "9", "--wait-s", "3")
    assert "Write it? (yes/no)" in told
    assert (found, len(device.written)) == (status, 0 if status else 1)


def test_a_lost_meter_is_kept_in_the_journal_and_found_again(
    sim_line: Any, parts: Any, changing: Any, said: Any, tmp_path: Path
) -> None:
    line, journal = sim_line(), tmp_path / "change.json"
    device = settable(line, parts)
    device.dies_on_write = True
    options = ("--device-id", "1", "--to", "9", "--yes", "--wait-s", "0")
    status, answer, _ = changing(line, "set-address", *options)
    assert (status, answer["status"], answer["answers_at"]) == (1, "lost", None)
    assert json.loads(journal.read_text())["status"] == "lost"
    recover = ("bus", "recover", "--line", line.path, "--timeout-ms", "200", "--journal", str(journal), "--json")
    assert json.loads(said(*recover)[1])["status"] == "lost"

    status, _, complaint = changing(line, "set-address", *options)
    assert status == 2
    assert "wattgate bus recover" in complaint
    device.silent = device.dies_on_write = False
    status, text, _ = said(*recover)
    assert (status, json.loads(text)["status"]) == (1, "pending")
    device.restart()
    line.settle()
    status, text, _ = said(*recover)
    assert (status, json.loads(text)["status"], json.loads(text)["answers_at"]["device_id"]) == (0, "after", 9)
    assert not journal.exists()
    assert len(device.written) == 1


def test_a_power_cut_between_write_and_answer_leaves_the_way_to_the_meter(
    sim_line: Any, parts: Any, said: Any, tmp_path: Path
) -> None:
    line, journal = sim_line(), tmp_path / "change.json"
    device = settable(line, parts)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "edge.cli", "bus", "set-address", "--line", line.path, *AT_9600),
            *("--model", "eastron_sdm120", "--device-id", "1", "--to", "9", "--yes", "--journal", str(journal)),
        ],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    device.on_write = lambda: running.send_signal(signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL
    line.settle()
    assert json.loads(journal.read_text())["after"]["device_id"] == 9
    status, text, _ = said("bus", "recover", "--line", line.path, "--timeout-ms", "200", "--journal", str(journal))
    assert (status, "the meter answers at 9" in text, journal.exists()) == (0, True, False)


def test_a_line_that_is_lost_in_the_middle_of_a_change_says_how_to_go_on(
    sim_line: Any, parts: Any, changing: Any, tmp_path: Path
) -> None:
    line = sim_line()
    device = settable(line, parts)
    device.on_write = line.hang_up
    status, _, complaint = changing(line, "set-address", "--device-id", "1", "--to", "9", "--yes", "--wait-s", "0")
    assert status == 1
    assert "the line is gone" in complaint
    assert "wattgate bus recover" in complaint
    assert (tmp_path / "change.json").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "no change is open"),
        ("{}", "cannot be used"),
        ("\x00", "cannot be used"),
        ('{"line": 3}', "cannot be used"),
    ],
)
def test_recover_without_a_good_journal_says_so(text: str | None, what: str, said: Any, tmp_path: Path) -> None:
    journal = tmp_path / "change.json"
    if text is not None:
        journal.write_text(text)
    status, _, complaint = said("bus", "recover", "--line", "/dev/null", "--journal", str(journal))
    assert status == 2
    assert what in complaint


# --- doctor ---------------------------------------------------------------------------------------


def test_the_doctor_reports_port_times_errors_and_what_to_do(sim_line: Any, parts: Any, said: Any) -> None:
    line = sim_line().add(parts.meter(1), parts.meter(2))
    count = 0

    def spoiled(data: bytes) -> list[tuple[float, bytes]]:
        nonlocal count
        count += data[0] == 2
        return [(0.0, data[:-1] if data[0] == 2 and count % 8 == 0 else data)]

    line.fault_to_gateway = spoiled
    command = ("bus", "doctor", "--line", line.path, *AT_9600, "--ids", "1-2")
    status, text, _ = said(*command, "--json")
    report = json.loads(text)
    assert set(report["port"]) == {"kind", "driver", "latency_timer_ms", "parity_kept", "usb_id"}
    assert {row["device_id"]: row["asked"] for row in report["meters"]} == {1: 40, 2: 40}
    assert report["meters"][1]["errors"]["truncated"] >= 3
    assert {row["code"] for row in report["recommendations"]} >= {"response_timeout", "errors"}
    assert status in (0, 1)
    text = said(*command)[1]
    assert "Address 2 (9600 8N1" in text
    assert "truncated" in text
    assert "Recommendations:" in text


def test_the_doctors_report_holds_no_secret_of_the_machine(
    sim_line: Any, parts: Any, said: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("WATTGATE_SECRET", "letmein-4711")
    line = sim_line().add(parts.meter(1))
    text = said("bus", "doctor", "--line", line.path, *AT_9600, "--ids", "1", "--json")[1]
    assert "letmein" not in text
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text


def test_facts_of_a_port_are_those_of_the_system(tmp_path: Path) -> None:
    device = tmp_path / "devices" / "usb1" / "1-1" / "1-1:1.0" / "ttyUSB0"
    device.mkdir(parents=True)
    (device / "latency_timer").write_text("16\n")
    (device.parent.parent / "idVendor").write_text("0403\n")
    (device.parent.parent / "idProduct").write_text("6001\n")
    drivers = tmp_path / "drivers" / "ftdi_sio"
    drivers.mkdir(parents=True)
    (device / "driver").symlink_to(drivers)
    tty = tmp_path / "class" / "tty" / "ttyUSB0"
    tty.mkdir(parents=True)
    (tty / "device").symlink_to(device)
    facts = port_facts("/dev/ttyUSB0", tmp_path)
    assert (facts.driver, facts.latency_timer_ms, facts.usb_id) == ("ftdi_sio", 16, "0403:6001")
    assert port_facts("tcp://127.0.0.1:502").kind == "tcp"


# --- arguments and words ----------------------------------------------------------------------------

SCAN = ("scan", "--line", "/dev/null")
SET = ("set-address", "--line", "/dev/null", "--model", "eastron_sdm120", "--device-id", "1")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("scan",), "--line"),
        (("scan", "--line", "ttyUSB0"), "whole path"),
        (("scan", "--line", "udp://x:1"), "not known"),
        (("scan", "--line", "/dev/there-is-none"), "no such device"),
        (SCAN, "not a serial device"),
        ((*SCAN, "--baud", "fast"), "300 to 1000000"),
        ((*SCAN, "--baud", "9600,"), "300 to 1000000"),
        ((*SCAN, "--format", "9N1"), "is none of"),
        ((*SCAN, "--ids", "0-5"), "1 to 247"),
        ((*SCAN, "--ids", "5-2"), "ends before it begins"),
        ((*SCAN, "--ids", "1-248"), "1 to 247"),
        ((*SCAN, "--ids", "1-2-3"), "1 to 247"),
        ((*SCAN, "--models", "/dev/null/none"), "a folder with model files"),
        (("scan", "--line", "tcp://127.0.0.1:1", "--baud", "9600"), "set at the server"),
        (("doctor", "--line", "/dev/null", "--ids", "x"), "1 to 247"),
        (SET, "--to"),
        ((*SET, "--to", "248"), "1 to 247"),
        ((*SET, "--to", "0"), "1 to 247"),
        ((*SET, "--to", "1"), "has this setting already"),
        ((*SET, "--to", "2", "--wait-s", "-1"), "0 to 3600"),
        ((*SCAN, "--timeout-ms", "5"), "10 to 10000"),
        ((*SET[:-3], "nobodys_meter", "--device-id", "1", "--to", "2"), "is not known; there are"),
        ((*SET[:-3], "abb_b23", "--device-id", "1", "--to", "2"), "use its keys"),
        ((*SET[:-3], "hiking_dds238_2", "--device-id", "1", "--to", "2"), "only in words"),
        (("set-baud", *SET[1:], "--to", "19200"), "cannot be set to 19200 baud"),
        (("set-baud", "--line", "tcp://127.0.0.1:1", *SET[3:], "--to", "2400", "--baud", "9600"), "set at that server"),
        (("recover",), "--line"),
    ],
)
def test_bad_arguments_are_told_in_a_sentence_with_status_2(arguments: tuple[str, ...], what: str, said: Any) -> None:
    status, text, complaint = said("bus", *arguments)
    assert (status, text) == (2, "")
    assert what in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize("command", ["scan", "doctor", "set-address", "set-baud", "recover"])
def test_every_command_explains_itself_with_an_example(command: str, said: Any) -> None:
    status, text, _ = said("bus", command, "--help")
    assert status == 0
    assert f"wattgate bus {command}" in text.split("example:")[1]


def test_without_a_command_the_help_is_shown_with_status_2(said: Any) -> None:
    status, text, _ = said("bus")
    assert status == 2
    assert "set-baud" in text


def test_both_catalogues_have_the_same_keys_and_fields() -> None:
    def fields(text: str) -> list[str]:
        return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)

    english, chinese = (json.loads((CATALOGUE / f"{name}.json").read_text("utf-8")) for name in LANGUAGES)
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert fields(text) == fields(chinese[key]), key


def test_every_code_that_can_be_told_has_its_words() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "edge" / "bus").glob("scan*.py"))
    sources += "".join(path.read_text("utf-8") for path in (ROOT / "edge" / "bus_tool").glob("*.py"))
    diagnoses = set(re.findall(r'Diagnosis\(\s*"(\w+)"', sources))
    refusals = set(re.findall(r'CannotChange\(\s*"(\w+)"', sources))
    assert len(diagnoses) == 9
    assert len(refusals) >= 12
    for language in LANGUAGES:
        for code in diagnoses:
            assert say(language, f"diagnosis.{code}")
            assert say(language, f"advice.{code}")
        words = json.loads((CATALOGUE / f"{language}.json").read_text("utf-8"))
        assert {f"refused.{code}" for code in refusals} <= set(words)
        assert note_text(language, Note("full", Link(9600, "8N1"), 10, 247, 3))
