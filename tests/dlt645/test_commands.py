"""`wattgate meter read` of DL/T 645 meters on a pseudo-terminal, as somebody calls it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge.cli import main
from hw.sim.dlt645_meter import Dlt645Meter, PseudoTerminal

ADDRESS = "320100000147"
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def meters() -> list[Dlt645Meter]:
    return [Dlt645Meter(ADDRESS), Dlt645Meter("320100000148", energy_hundredths_kwh=777)]


@pytest.fixture
def path(meters: list[Dlt645Meter]) -> Iterator[str]:
    with PseudoTerminal(*meters) as terminal:
        yield terminal.path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = main([*arguments, *(["--lang", "en"] if arguments[0] in ("meter", "bus") else [])])
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *capsys.readouterr())

    return run


def read(said: Said, path: str, *more: str) -> tuple[int, Any]:
    status, text, _ = said("meter", "read", "--line", path, "--protocol", "dlt645", "--timeout-ms", "60",
                           "--baud", "19200", "--json", *more)  # fmt: skip
    return status, json.loads(text)


def test_a_meter_is_read_by_its_twelve_digits(said: Said, path: str) -> None:
    points = "energy_import_total,energy_export_total,voltage_l1,power_total,status_word_3,day_freeze_energy_import"
    status, document = read(said, path, "--address", ADDRESS, "--points", points)
    assert (status, document["model"], document["device_id"], document["failed"]) == (0, "dlt645_2007", ADDRESS, {})
    assert {name: (row["value"], row["unit"], row["raw"]) for name, row in document["points"].items()} == {
        "energy_import_total": ("1234.56", "kWh", "56341200"),
        "energy_export_total": ("0", "kWh", "00000000"),
        "voltage_l1": ("220.3", "V", "0322"),
        "power_total": ("1102.4", "W", "241001"),
        "status_word_3": ("0", "1", "0000"),
        "day_freeze_energy_import": ("1200", "kWh", "00001200"),
    }


def test_an_item_the_meter_does_not_have_has_failed_and_the_others_are_there(said: Said, path: str) -> None:
    status, document = read(said, path, "--address", "320100000148")
    assert status == 1
    assert document["failed"] == {f"energy_import_t{rate}": "exception_no_such_data" for rate in (1, 2, 3, 4)}
    assert document["points"]["energy_import_total"]["value"] == "7.77"
    assert document["errors"] == 4


def test_a_meter_that_is_not_there_is_named(said: Said, path: str) -> None:
    status, document = read(said, path, "--address", "1", "--points", "energy_import_total")
    assert (status, document["device_id"]) == (1, "000000000001")
    assert document["failed"] == {"energy_import_total": "timeout"}


def test_people_get_words_and_the_twelve_digits(said: Said, path: str) -> None:
    line = ("meter", "read", "--line", path, "--model", "dlt645_2007", "--baud", "19200", "--timeout-ms", "60")
    status, text, _ = said(*line, "--address", "320100000148", "--points", "energy_import_total,energy_import_t1")
    assert status == 1
    assert "320100000148" in text
    assert "the meter does not have this data item (exception_no_such_data)" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol", "dlt645"], "--address: is missing"),
        (["--address", ADDRESS], "--model: is missing"),
        (["--protocol", "dlt645", "--address", "12345678901x"], "is not the address of a meter"),
        (["--protocol", "dlt645", "--address", "9" * 12], "is not the address of a meter"),
        (["--protocol", "dlt645", "--address", ADDRESS, "--device-id", "1"], "not allowed with argument"),
        (["--protocol", "dlt645", "--address", ADDRESS, "--model", "eastron_sdm120"], "speaks modbus"),
        (["--address", ADDRESS, "--model", "eastron_sdm120"], "belongs to protocol dlt645"),
        (["--model", "dlt645_2007", "--protocol", "modbus"], "speaks dlt645"),
    ],
)
def test_options_that_do_not_belong_together_are_one_sentence(said: Said, arguments: list[str], sentence: str) -> None:
    status, text, complaint = said("meter", "read", "--line", "/dev/null", *arguments)
    assert (status, text) == (2, "")
    assert sentence in complaint


def test_a_model_of_data_items_is_told_with_its_identifiers(said: Said) -> None:
    status, text, _ = said("meter", "models", "dlt645_2007")
    assert status == 0
    assert "FC17" in text
    assert "0x00010000" in text
    assert json.loads(said("meter", "models", "dlt645_2007", "--json")[1])["relay"] == "usable"


def test_a_model_of_this_protocol_is_not_for_commands_that_write_registers(said: Said) -> None:
    for command in ("set-address", "set-baud"):
        status, _, complaint = said("bus", command, "--line", "/dev/null", "--model", "dlt645_2007",
                                    "--device-id", "1", "--to", "9600" if command == "set-baud" else "2")  # fmt: skip
        assert status == 2
        assert "speaks dlt645" in complaint
