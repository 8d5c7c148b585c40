"""`wattgate run` with a configuration that cannot be used: one line that names file, key and what is allowed.

Nothing is started then, and nothing is written. Each case alters one thing in a gateway that is good.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.core.units import ClockQuality
from hw.sim.clock import start_clock
from hw.sim.demo_site import write_demo

pytestmark = pytest.mark.timeout(60)

STOP_S_MAX = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gateway's folder as the demo writes it, with its clock."""
    made = tmp_path / "gateway"
    write_demo(made, 8640, 18_080, 18_883)
    start_clock(made / "clock.json", 1_782_662_400, 8640, ClockQuality.NTP)
    return made


@pytest.fixture
def refusal(start: Callable[..., Any], folder: Path) -> Callable[..., str]:
    """Runs the gateway; the one line it refuses with."""

    def run(config: str = "gateway.toml") -> str:
        before = content(folder)
        program = start("run", "--config", str(folder / config))
        assert program.end(STOP_S_MAX) == 2, program.lines
        assert len(program.lines) == 1, program.lines
        assert program.lines[0].startswith("wattgate: ")
        assert content(folder) == before
        return str(program.lines[0])

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_good_configuration_is_checked_without_starting_anything(start: Callable[..., Any], folder: Path) -> None:
    before = content(folder)
    program = start("run", "--config", str(folder / "gateway.toml"), "--check")
    assert program.end(STOP_S_MAX) == 0
    assert program.lines == [f"{folder / 'gateway.toml'}: good"]
    assert content(folder) == before


# What is replaced in gateway.toml, by what, and what the line must name besides the file.
TOML_CASES = {
    "unknown key": ('[gateway]\n', '[gateway]\ncolour = "green"\n', ("gateway", "colour")),
    "unknown section": ("[gateway]\n", "[garden]\n\n[gateway]\n", ("garden",)),
    "missing key": ('data_dir = "agent"\n', "", ("gateway", "data_dir")),
    "wrong type": ("baud = 115200", 'baud = "fast"', ("lines", "baud", "int")),
    "out of range": ("poll_interval_ms = 200", "poll_interval_ms = 1", ("lines", "poll_interval_ms", ">= 10")),
    "not TOML": ("[gateway]", "[gateway", ("TOML", "line 1")),
    "line twice": ('id = "line-2"', 'id = "line-1"', ("lines[1].id", "line-1")),
    "bad broker": ("mqtt://127.0.0.1:18883", "http://127.0.0.1", ("cloud.brokers[0]", "mqtt://host:port")),
    "bad clock": ('source = "scaled"', 'source = "sundial"', ("clock.source", "sundial", "system", "scaled")),
    "bad name": ('id = "demo-street"', 'id = "demo street"', ("gateway", "id")),
}  # fmt: skip


@pytest.mark.parametrize("case", TOML_CASES)
def test_configuration_is_refused_with_its_file_key_and_what_is_allowed(
    refusal: Callable[..., str], folder: Path, case: str
) -> None:
    old, new, named = TOML_CASES[case]
    config = folder / "gateway.toml"
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new, 1), "utf-8")
    line = refusal()
    for word in (str(config), *named):
        assert word in line


def test_configuration_that_is_not_there_is_refused(refusal: Callable[..., str], folder: Path) -> None:
    assert str(folder / "other.toml") in refusal("other.toml")


@pytest.mark.parametrize("address", ["udp://127.0.0.1:502", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", ""])
def test_line_address_of_no_known_kind_is_refused(refusal: Callable[..., str], folder: Path, address: str) -> None:
    config = folder / "gateway.toml"
    text = config.read_text("utf-8")
    known = tomllib.loads(text)["lines"][0]["address"]
    config.write_text(text.replace(f'"{known}"', f'"{address}"', 1), "utf-8")
    line = refusal()
    assert "address" in line
    assert "line-1" in line or "lines[0]" in line
    assert str(config) in line


def test_site_book_that_is_not_there_is_refused(refusal: Callable[..., str], folder: Path) -> None:
    (folder / "site.json").unlink()
    line = refusal()
    assert str(folder / "site.json") in line
    assert "site book" in line


def test_tariff_document_that_is_not_there_is_refused(refusal: Callable[..., str], folder: Path) -> None:
    (folder / "demo-street.json").unlink()
    assert str(folder / "demo-street.json") in refusal()


def test_tariff_document_with_a_fault_is_refused_with_its_pointer(refusal: Callable[..., str], folder: Path) -> None:
    document = json.loads((folder / "demo-street.json").read_text("utf-8"))
    document["blocks"]["limits_kwh"] = ["260", "170"]
    (folder / "demo-street.json").write_text(json.dumps(document), "utf-8")
    line = refusal()
    assert str(folder / "demo-street.json") in line
    assert "/blocks/limits_kwh/1" in line


def test_key_ring_that_is_not_there_is_refused(refusal: Callable[..., str], folder: Path) -> None:
    (folder / "keys" / "keyring.json").unlink()
    assert str(folder / "keys" / "keyring.json") in refusal()


def test_clock_file_that_is_not_there_is_refused(refusal: Callable[..., str], folder: Path) -> None:
    (folder / "clock.json").unlink()
    assert str(folder / "clock.json") in refusal()


# Table, row, column and the wrong value in the site book, and what the line must name.
SITE_CASES = {
    "unknown model": ("meters", "1", "model", "abacus", ("abacus",)),
    "unknown tariff": ("accounts", "1", "tariff", "demo-street@9", ("A01", "demo-street@9", "demo-street@1")),
    "unknown line": ("meters", "1", "line_id", "line-7", ("M01", "line-7", "line-1")),
    "unknown relay": ("meters", "1", "relay_id", "R99", ("M01", "R99", "relays")),
    "unknown meter": ("accounts", "1", "meter_id", "M99", ("A01", "M99", "meters")),
    "wrong type": ("accounts", "1", "opening_nano", "much", ("accounts", "row 1", "opening_nano", "int")),
    "unknown column": ("accounts", "1", "colour", "green", ("accounts", "row 1", "colour")),
    "meter without import register": ("meters", "1", "model", "relay_board_8ch", ("M01", "import register")),
    "relay without relay": ("relays", "1", "model", "eastron_sdm120", ("relay R0", "eastron_sdm120")),
    "unknown zone": ("site", "1", "time_zone", "Asia/Atlantis", ("Asia/Atlantis",)),
}


@pytest.mark.parametrize("case", SITE_CASES)
def test_site_book_is_refused_with_its_table_and_what_is_wrong(
    refusal: Callable[..., str], folder: Path, case: str
) -> None:
    table, row, column, value, named = SITE_CASES[case]
    path = folder / "site.json"
    book = json.loads(path.read_text("utf-8"))
    book[table][row][column] = value
    path.write_text(json.dumps(book), "utf-8")
    line = refusal()
    for word in (str(path), *named):
        assert word in line
