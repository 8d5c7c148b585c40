"""`wattgate meter`: what it reads, what it says when it cannot, and what it refuses before anything is sent."""

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.meters.model import load_model

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "edge" / "meters"
Framed = Callable[[bytes], bytes]

# Two decimal kinds and a low-word-first float, as a customer's own file may have them.
ODD_MODEL = """
id = "odd_meter"
vendor = "Nobody"
model = "Odd"
phases = 1
confidence = "single"
money_point = "energy_import_total"
hazards = ["none known"]
sources = ["made for a test"]
[link]
default_device_id = 3
default_baud = 9600
default_format = "8N1"
even_register_reads_only = true
[points.energy_import_total]
function_code = 3
address = 0x0001
type = "bcd48"
order = "msw"
unit = "kWh"
scale = 0.01
[points.energy_export_total]
function_code = 3
address = 0x0004
type = "mod10_32"
order = "lsw"
unit = "Wh"
scale = 1
[points.power_total]
function_code = 3
address = 0x0006
type = "f32"
order = "lsw"
unit = "W"
scale = 1
"""


def words(form: str, *values: float, swap: bool = False) -> list[int]:
    """Values as registers, most significant word first or last."""
    found: list[int] = []
    for value in values:
        raw = struct.pack(f">{form}", value)
        own = list(struct.unpack(f">{len(raw) // 2}H", raw))
        found += own[::-1] if swap else own
    return found


# Model, first address, registers from there on, what must come out. The rest of the device is zeros.
REAL_SERVER = {
    "eastron_sdm120": ({0x48: words("f", 1234.5)}, {"energy_import_total": "1234.5", "voltage_l1": "0"}),
    "abb_b23": (
        {0x5000: words("Q", 123_456), 0x5B14: words("i", -12_345), 0x5004: [0xFFFF] * 4},
        {"energy_import_total": "1234.56", "power_total": "-123.45"},
    ),
    "carlo_gavazzi_em340": ({0x34: words("i", 23_456, swap=True)}, {"energy_import_total": "2345.6"}),
    "peacefair_pzem016": (
        {0: [2_305], 1: words("I", 70_000, swap=True), 5: words("I", 1_234, swap=True)},
        {"voltage_l1": "230.5", "current_l1": "70", "energy_import_total": "1.234"},
    ),
    "schneider_iem3155": ({0x0C83: words("q", 9_007_199_254_740_993)}, {"energy_import_total": "9007199254740.993"}),
    "siemens_pac2200": ({0x0321: words("d", 1_234_567.125)}, {"energy_import_total": "1234.567125"}),
    "chint_dtsu666": ({0x2006: words("f", 2_315.0)}, {"voltage_l1": "231.5"}),
    "hiking_dds238_2": ({0x000E: words("h", -1_200)}, {"power_total": "-1200"}),
    "odd_meter": (
        {1: [0x1234, 0x5678, 0x9012], 4: [3456, 12], 6: words("f", -0.75, swap=True)},
        {"energy_import_total": "1234567890.12", "energy_export_total": "123456", "power_total": "-0.75"},
    ),
}


def sim_device(device_id: int, registers: dict[int, list[int]]) -> SimDevice:
    image = [0] * (max((address + len(values) for address, values in registers.items()), default=0) + 80)
    for address, values in registers.items():
        image[address : address + len(values)] = values
    return SimDevice(device_id, simdata=[SimData(0, values=image, datatype=DataType.REGISTERS)])


def devices() -> list[SimDevice]:
    return [sim_device(number, registers) for number, (registers, _) in enumerate(REAL_SERVER.values(), 1)]


@pytest.fixture
def own_models(tmp_path: Path) -> str:
    """A folder with a model of the user's own."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "odd_meter.toml").write_text(ODD_MODEL, "utf-8")
    return str(folder)


@pytest.mark.parametrize("kind", ["serial", "tcp", "rtu+tcp"])
def test_meters_of_a_real_server_are_read_to_the_digit(
    kind: str, pymodbus_server: Any, own_models: str, said: Any
) -> None:
    line = pymodbus_server(kind, devices())
    for device_id, (model_id, (_, expected)) in enumerate(REAL_SERVER.items(), 1):
        status, text, complaint = said(
            *("meter", "read", "--line", line, "--device-id", str(device_id), "--baud", "9600", "--format", "8N1"),
            *("--model", model_id, "--models", own_models, "--points", ",".join(expected), "--json"),
        )
        answer = json.loads(text)
        assert (status, complaint, answer["failed"]) == (0, "", {})
        assert {name: row["value"] for name, row in answer["points"].items()} == expected, model_id


def test_merged_reads_bring_the_same_values_with_fewer_requests(pymodbus_server: Any, said: Any) -> None:
    registers = {address: words("f", address + 0.5) for address in range(0, 400, 2)}
    line = pymodbus_server("tcp", [sim_device(1, registers)])
    common = ("meter", "read", "--line", line, "--model", "eastron_sdm630", "--json")
    single, merged = (json.loads(said(*common, *more)[1]) for more in ((), ("--merge",)))
    assert single["points"] == merged["points"]
    assert len(single["points"]) == 24
    assert merged["requests"] <= 4 < 24 == single["requests"]


def test_a_merged_read_that_meets_a_hole_is_split_and_loses_nothing(pymodbus_server: Any, said: Any) -> None:
    registers = [
        SimData(address, values=words("f", address + 0.5), datatype=DataType.REGISTERS)
        for address in (0, 6, 12, 30, 70)
    ]
    line = pymodbus_server("tcp", [SimDevice(1, simdata=registers)])
    command = ("meter", "read", "--line", line, "--model", "eastron_sdm120", "--merge", "--json")
    status, text, _ = said(*command)
    answer = json.loads(text)
    assert status == 1
    assert {name: row["value"] for name, row in answer["points"].items()} == {
        "voltage_l1": "0.5",
        "current_l1": "6.5",
        "power_l1": "12.5",
        "power_total": "12.5",
        "power_factor_total": "30.5",
        "frequency": "70.5",
    }
    missing = ("energy_import_total", "energy_export_total", "energy_total")
    assert answer["failed"] == dict.fromkeys(missing, "exception_2")


SDM120_VOLTAGE = ("--model", "eastron_sdm120", "--points", "voltage_l1", "--device-id", "5")
ASK_VOLTAGE = struct.pack(">BBHH", 5, 4, 0, 2)
ANSWER_VOLTAGE = bytes((5, 4, 4)) + struct.pack(">f", 230.5)


@pytest.mark.parametrize(
    ("spoil", "requests"),
    [
        (lambda good: b"", 2),  # no answer
        (lambda good: good[:-1] + bytes((good[-1] ^ 1,)), 2),  # damaged
        (lambda good: bytes((6,)) + good[1:], 2),  # of another device
        (lambda good: good[:5], 2),  # broken off
        (lambda good: good, 1),
    ],
)
def test_a_spoiled_answer_is_asked_for_once_more_and_never_believed(
    spoil: Callable[[bytes], bytes], requests: int, exact_meter: Any, framed: Framed, said: Any
) -> None:
    good = framed(ANSWER_VOLTAGE)
    meter = exact_meter({framed(ASK_VOLTAGE): [spoil(good), good]})
    status, text, _ = said("meter", "read", "--line", meter.path, *SDM120_VOLTAGE, "--timeout-ms", "150", "--json")
    answer = json.loads(text)
    assert status == 0
    assert answer["points"] == {"voltage_l1": {"value": "230.5", "unit": "V", "raw": "43668000"}}
    assert (answer["requests"], answer["errors"]) == (requests, requests - 1)


@pytest.mark.parametrize(
    ("reply", "reason", "requests"),
    [
        (bytes((5, 0x84, 2)), "exception_2", 1),  # asking again does not make the register
        (bytes((5, 0x84, 6)), "exception_6", 2),
        (bytes((5, 4, 4, 0x7F, 0xC0, 0, 0)), "not_a_number", 1),
        (bytes((5, 4, 2, 0x43, 0x66)), "wrong_count", 2),
        (b"", "timeout", 2),
    ],
)
def test_what_cannot_be_read_has_failed_with_its_reason_and_status_1(
    reply: bytes, reason: str, requests: int, exact_meter: Any, framed: Framed, said: Any
) -> None:
    meter = exact_meter({framed(ASK_VOLTAGE): [framed(reply) if reply else b""]})
    command = ("meter", "read", "--line", meter.path, *SDM120_VOLTAGE, "--timeout-ms", "150")
    status, text, complaint = said(*command, "--json")
    answer = json.loads(text)
    assert (status, complaint, answer["points"], answer["failed"]) == (1, "", {}, {"voltage_l1": reason})
    assert answer["requests"] == requests == len(meter.asked)
    assert answer["errors"] == (0 if reason == "not_a_number" else requests)


def test_a_value_the_meter_says_it_has_not_fails_and_the_others_are_read(pymodbus_server: Any, said: Any) -> None:
    line = pymodbus_server("tcp", [sim_device(1, REAL_SERVER["abb_b23"][0])])
    names = "energy_import_total,energy_export_total"
    status, text, _ = said("meter", "read", "--line", line, "--model", "abb_b23", "--points", names, "--json")
    answer = json.loads(text)
    assert (status, answer["failed"]) == (1, {"energy_export_total": "invalid_value"})
    assert answer["points"]["energy_import_total"]["value"] == "1234.56"


def test_a_silent_meter_is_not_asked_for_all_it_has(exact_meter: Any, said: Any) -> None:
    meter = exact_meter({})
    command = ("meter", "read", "--line", meter.path, "--model", "inepro_pro380", "--timeout-ms", "20")
    status, text, _ = said(*command, "--json")
    answer = json.loads(text)
    assert (status, answer["points"], len(answer["failed"])) == (1, {}, 30)
    assert sorted(set(answer["failed"].values())) == ["not_asked", "timeout"]
    assert len(meter.asked) == answer["requests"] == 8


@pytest.mark.parametrize(("language", "words"), [("en", "no answer; device id"), ("zh", "请先检查设备地址、波特率")])
def test_people_read_values_and_reasons_in_their_language(
    language: str, words: str, exact_meter: Any, framed: Framed, said: Any
) -> None:
    meter = exact_meter({framed(ASK_VOLTAGE): [framed(ANSWER_VOLTAGE)]})
    points = ("--points", "voltage_l1,frequency", "--timeout-ms", "30", "--lang", language)
    status, text, _ = said("meter", "read", "--line", meter.path, *SDM120_VOLTAGE, *points)
    assert status == 1
    assert "voltage_l1  230.5  V  43668000" in text
    assert words in text
    assert "(timeout)" in text


def test_both_catalogues_have_the_same_keys_and_fields() -> None:
    catalogues = [
        json.loads((ROOT / "edge" / "meter_tool" / "catalogue" / f"{name}.json").read_text("utf-8"))
        for name in ("en", "zh")
    ]
    assert list(catalogues[0]) == list(catalogues[1])
    for key, text in catalogues[0].items():
        assert sorted(fields(text)) == sorted(fields(catalogues[1][key])), key


def fields(text: str) -> list[str]:
    return [part.split("}")[0] for part in text.split("{")[1:]]


def test_a_line_that_another_program_holds_is_left_to_it(exact_meter: Any, said: Any, until: Any) -> None:
    meter = exact_meter({})
    watching = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "meter", "watch", "--line", meter.path, *SDM120_VOLTAGE, "--every", "60"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: meter.asked, within_s=20, what="the first request")
        status, text, complaint = said("meter", "read", "--line", meter.path, *SDM120_VOLTAGE)
        assert (status, text) == (2, "")
        assert complaint == f"wattgate: {meter.path} is used by another program: a line can have only one master\n"
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


def test_watch_reads_again_and_again_and_ends_with_its_count(exact_meter: Any, framed: Framed, said: Any) -> None:
    answers = [framed(bytes((5, 4, 4)) + struct.pack(">f", value)) for value in (230.5, 231.0, 229.25)]
    meter = exact_meter({framed(ASK_VOLTAGE): answers})
    command = ("meter", "watch", "--line", meter.path, *SDM120_VOLTAGE, "--every", "0.1", "--count", "3", "--json")
    status, text, _ = said(*command)
    assert status == 0
    assert [json.loads(line)["points"]["voltage_l1"]["value"] for line in text.splitlines()] == [
        "230.5",
        "231",
        "229.25",
    ]


def test_watch_says_that_the_line_is_gone_and_ends(pymodbus_server: Any, said: Any, tmp_path: Path) -> None:
    line = pymodbus_server("tcp", [sim_device(1, {})])
    watching = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "meter", "watch", "--line", line, "--model", "orno_we504", "--every", "0.2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert "OR-WE-504" in watching.stdout.readline()
    pymodbus_server.stop_all()
    _, complaint = watching.communicate(timeout=60)
    assert watching.returncode == 1
    assert "127.0.0.1" in complaint
    assert "Traceback" not in complaint


def test_a_server_that_hangs_up_after_its_answer_has_answered(said: Any) -> None:
    """And one that hangs up before it has not."""
    for answer, status, failed in ((True, 0, {}), (False, 1, {"voltage_l1": "port_lost"})):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=answer_once, args=(server, answer))
            thread.start()
            line = f"tcp://127.0.0.1:{server.getsockname()[1]}"
            found, text, complaint = said("meter", "read", "--line", line, *SDM120_VOLTAGE, "--json")
            thread.join()
        assert (found, json.loads(text)["failed"]) == (status, failed)
        assert ("the line is gone" in complaint) is not answer


def answer_once(server: socket.socket, answer: bool) -> None:
    connection, _ = server.accept()
    with connection:
        head = connection.recv(512)[:4]
        if answer:
            connection.sendall(head + struct.pack(">H", len(ANSWER_VOLTAGE)) + ANSWER_VOLTAGE)


BAD_ARGUMENTS: Sequence[tuple[tuple[str, ...], str]] = [
    (("--line", "/dev/no-such", "--model", "abb_b21"), "/dev/no-such: there is no such device"),
    (("--line", "ttyUSB0", "--model", "abb_b21"), "a device is given with its whole path"),
    (("--line", "udp://1.2.3.4:5", "--model", "abb_b21"), "udp:// is not known; allowed: /dev/ttyUSB0"),
    (("--line", "tcp://1.2.3.4", "--model", "abb_b21"), "host and port are needed"),
    (("--line", "tcp://127.0.0.1:1", "--model", "abb_b21"), "127.0.0.1:1: Connection refused"),
    (("--line", "/dev/null", "--model", "abb_b21"), "/dev/null: this is not a serial device"),
    (("--line", "/dev/x", "--model", "abb_b22"), "model 'abb_b22' is not known; there are abb_b21, abb_b23, "),
    (("--line", "/dev/x", "--model", "abb_b21", "--points", "volts"), "point 'volts': model abb_b21 has energy_import"),
    (("--line", "/dev/x", "--model", "abb_b21", "--points", "a,,b"), "'a,,b' is not NAME,NAME"),
    (("--line", "/dev/x", "--model", "ivy_em114039"), "model ivy_em114039 has no points: no register of a measured"),
    (("--line", "/dev/x", "--model", "relay_board_8ch"), "model relay_board_8ch has no points: it measures nothing"),
    (("--line", "/dev/x", "--model", "abb_b21", "--device-id", "0"), "'0' is not a whole number, 1 to 247"),
    (("--line", "/dev/x", "--model", "abb_b21", "--device-id", "248"), "'248' is not a whole number, 1 to 247"),
    (("--line", "/dev/x", "--model", "abb_b21", "--baud", "fast"), "'fast' is not a whole number, 300 to 1000000"),
    (("--line", "/dev/x", "--model", "abb_b21", "--format", "7E1"), "invalid choice: '7E1'"),
    (("--line", "/dev/x", "--model", "abb_b21", "--timeout-ms", "0"), "'0' is not a whole number, 10 to 10000"),
    (("--line", "/dev/x", "--model", "abb_b21", "--models", "/no/such"), "/no/such: the folder: found 'no folder'"),
    (("--model", "abb_b21"), "the following arguments are required: --line"),
    (("--line", "/dev/x"), "--model: is missing"),
]


@pytest.mark.parametrize(("arguments", "complaint"), BAD_ARGUMENTS)
def test_bad_arguments_are_told_in_a_sentence_with_status_2(
    arguments: tuple[str, ...], complaint: str, said: Any
) -> None:
    status, text, told = said("meter", "read", *arguments)
    assert (status, text) == (2, "")
    assert complaint in told
    assert "Traceback" not in told


@pytest.mark.parametrize("every", ["0", "nan", "soon", "1e9"])
def test_watch_refuses_a_pace_that_is_none(every: str, said: Any) -> None:
    status, _, told = said("meter", "watch", "--line", "/dev/x", "--model", "abb_b21", "--every", every)
    assert status == 2
    assert "is not 0.1 to 86400 seconds" in told


def test_models_lists_every_model_and_one_of_the_users_own(own_models: str, said: Any) -> None:
    status, text, _ = said("meter", "models", "--models", own_models)
    assert status == 0
    assert len(text.splitlines()) == 1 + 34 + 3 + 1  # the head, the facts, those of no maker, the user's own
    assert "odd_meter" in text
    listed = json.loads(said("meter", "models", "--models", own_models, "--json")[1])
    assert len(listed) == 38
    assert sum(len(model["points"]) for model in listed) == 520 + 21 + 28 + 3  # and the two of DL/T 645


def test_one_model_is_shown_with_points_hazards_and_sources(said: Any) -> None:
    model = load_model("eastron_sdm630")
    status, text, _ = said("meter", "models", "eastron_sdm630")
    assert status == 0
    for part in (*model.points, *model.hazards, *model.sources, "0x0048"):
        assert part in text
    shown = json.loads(said("meter", "models", "eastron_sdm630", "--json")[1])
    assert shown["points"]["energy_import_total"]["address"] == 0x48
    assert (shown["relay"], shown["baud"], shown["format"]) == ("none", 9600, "8N1")
    assert said("meter", "models", "no_such")[0] == 2


def test_check_is_content_with_every_shipped_file(said: Any) -> None:
    for path in sorted(SHIPPED.glob("*.toml")):
        status, text, complaint = said("meter", "check", str(path))
        assert (status, complaint) == (0, "")
        assert text.startswith(f"{path}: good: {path.stem}, ")


def test_check_names_file_key_found_and_allowed(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "odd_meter.toml"
    path.write_text(ODD_MODEL.replace('unit = "W"', 'unit = "kW"'), "utf-8")
    status, text, complaint = said("meter", "check", str(path))
    assert (status, text) == (2, "")
    assert complaint.startswith("wattgate: odd_meter.toml: points.power_total.unit: found 'kW', allowed: V, A, W, ")
    status, text, complaint = said("meter", "check", str(path), "--json")
    assert (status, complaint) == (2, "")
    fault = json.loads(text)
    assert (fault["ok"], fault["key"], fault["found"]) == (False, "points.power_total.unit", "kW")


def test_check_of_a_folder_looks_at_all_of_it(own_models: str, tmp_path: Path, said: Any) -> None:
    assert said("meter", "check", own_models)[0] == 0
    (Path(own_models) / "other.toml").write_text(ODD_MODEL, "utf-8")
    status, text, complaint = said("meter", "check", own_models)
    assert status == 2
    assert "odd_meter.toml: good" in text
    assert "other.toml: id: found 'odd_meter', allowed: the name of the file, other" in complaint
    (tmp_path / "empty").mkdir()
    assert said("meter", "check", str(tmp_path / "empty"))[0] == 2


def test_a_name_that_ships_is_told_by_check_and_refused_in_a_folder(tmp_path: Path, said: Any) -> None:
    path = tmp_path / "abb_b21.toml"
    path.write_text((SHIPPED / "abb_b21.toml").read_text("utf-8"), "utf-8")
    status, text, _ = said("meter", "check", str(path))
    assert status == 0
    assert "needs another id" in text
    for command in (("check", str(tmp_path)), ("models", "--models", str(tmp_path))):
        status, _, complaint = said("meter", *command)
        assert status == 2
        assert "abb_b21.toml: id: found 'abb_b21', allowed: a name that no other model has" in complaint


@pytest.mark.parametrize("command", [(), ("read",), ("watch",), ("models",), ("check",)])
def test_every_command_explains_itself_with_an_example(command: tuple[str, ...], said: Any) -> None:
    status, text, _ = said("meter", *command, "--help")
    assert status == 0
    assert "example:\n  wattgate meter" in text


def test_without_a_command_the_help_is_shown_with_status_2(said: Any) -> None:
    status, text, _ = said("meter")
    assert status == 2
    assert "COMMAND" in text
