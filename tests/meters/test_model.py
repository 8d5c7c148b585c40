"""The shipped models say what their sources say, and a bad file is refused by name, key and allowed values."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from edge.meters.model import ModelError, known_models, load_model

SHIPPED = Path(__file__).resolve().parent.parent.parent / "edge" / "meters"
SDM120, DDS238, BOARD = "eastron_sdm120", "hiking_dds238_2", "relay_board_8ch"
ALLOWED = "address = 0x001A\ncount = 1\npurpose"
MODELS = ("chint_ddsu666", "chint_dtsu666", "eastron_sdm120", "eastron_sdm630", "hiking_dds238_2", "relay_board_8ch")


def test_the_shipped_models_are_these() -> None:
    assert known_models() == MODELS


@pytest.mark.parametrize(
    ("model_id", "function_code", "address", "type", "scale"),
    [
        ("eastron_sdm120", 4, 0x0048, "f32", "1"),
        ("eastron_sdm630", 4, 0x0048, "f32", "1"),
        ("chint_ddsu666", 3, 0x4000, "f32", "1"),
        ("chint_dtsu666", 3, 0x101E, "f32", "1"),
        ("hiking_dds238_2", 3, 0x000A, "u32", "0.01"),
    ],
)
def test_money_is_read_from_the_import_register(
    model_id: str, function_code: int, address: int, type: str, scale: str
) -> None:
    model = load_model(model_id)
    assert model.money_point == "energy_import_total"
    money = model.points[model.money_point]
    assert (money.function_code, money.address, money.type, money.order) == (function_code, address, type, "msw")
    assert (money.unit, money.scale) == ("kWh", Decimal(scale))


@pytest.mark.parametrize(
    ("model_id", "name", "registers", "value"),
    [
        ("eastron_sdm120", "voltage_l1", [0x4366, 0x0000], "230"),
        ("chint_ddsu666", "power_total", [0x3FC0, 0x0000], "1500"),  # sent in kW
        ("chint_dtsu666", "voltage_l1", [0x450F, 0xC000], "230"),  # a float, and tenfold
        ("chint_dtsu666", "current_l2", [0x459C, 0x4000], "5"),
        ("hiking_dds238_2", "power_total", [0xFFFF], "-1"),
        ("hiking_dds238_2", "energy_import_total", [0x0000, 0x3039], "123.45"),
    ],
)
def test_points_decode_to_their_unit(model_id: str, name: str, registers: list[int], value: str) -> None:
    assert load_model(model_id).points[name].decode(registers) == Decimal(value)


@pytest.mark.parametrize("model_id", MODELS)
def test_every_model_names_sources_and_hazards(model_id: str) -> None:
    model = load_model(model_id)
    assert model.sources
    assert model.hazards


@pytest.mark.parametrize("model_id", ["eastron_sdm630", "hiking_dds238_2"])
def test_an_energy_reset_is_out_of_reach(model_id: str) -> None:
    model = load_model(model_id)
    assert model.write_forbidden
    for forbidden in model.write_forbidden:
        assert not any(
            model.allows_write(function_code, forbidden.address, count)
            for function_code in (5, 6, 15, 16)
            for count in (1, 2)
        )


def test_the_limits_of_the_sdm630_are_the_vendors() -> None:
    link = load_model("eastron_sdm630").link
    assert (link.max_read_registers, link.min_gap_ms, link.even_register_reads_only) == (60, 60, True)


def test_the_dds238_relay_is_one_register_written_by_function_16_only() -> None:
    model = load_model("hiking_dds238_2")
    assert model.relay is not None
    assert (model.relay.command_function_code, model.relay.command_address) == (16, 0x1A)
    assert (model.relay.command_words(True), model.relay.command_words(False)) == ((1,), (0,))
    assert [model.relay.state([word]) for word in (1, 0, 7)] == [True, False, None]
    assert model.allows_write(16, 0x1A, 1)
    assert not model.allows_write(6, 0x1A, 1)


def test_the_relay_board_has_eight_coils_and_a_closed_coil_is_supply_on() -> None:
    relay = load_model("relay_board_8ch").relay
    assert relay is not None
    assert relay.channels == 8
    assert (relay.command_words(True), relay.command_words(False)) == ((0xFF00,), (0x0000,))
    assert (relay.state([1]), relay.state([0])) == (True, False)


def test_a_model_of_the_users_own_folder_is_read(tmp_path: Path) -> None:
    text = (SHIPPED / "eastron_sdm120.toml").read_text("utf-8")
    (tmp_path / "my_meter.toml").write_text(text.replace('id = "eastron_sdm120"', 'id = "my_meter"'), "utf-8")
    assert load_model("my_meter", tmp_path).points == load_model("eastron_sdm120").points


def test_a_model_is_read_once_and_again_when_its_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / f"{SDM120}.toml"
    text = (SHIPPED / f"{SDM120}.toml").read_text("utf-8")
    path.write_text(text, "utf-8")
    os.utime(path, ns=(1, 1))
    first = load_model(SDM120, tmp_path)
    assert load_model(SDM120, tmp_path) is first
    path.write_text(text.replace("phases = 1", "phases = 3"), "utf-8")
    os.utime(path, ns=(2, 2))
    assert load_model(SDM120, tmp_path).phases == 3


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no_such\.toml: id: found 'no_such', allowed: chint_ddsu666, .*relay_board"):
        load_model("no_such")


@pytest.mark.parametrize(
    ("base", "old", "new", "message"),
    [
        (SDM120, 'type = "f32"', 'type = "f16"', r"points\.voltage_l1\.type: found 'f16', .*u16, s16"),
        (SDM120, 'order = "msw"', 'order = "abcd"', r"points\.voltage_l1\.order: .*msw, lsw"),
        (SDM120, "function_code = 4", "function_code = 1", r"function_code: found 1, allowed: 3, 4"),
        (SDM120, "address = 0x0000", "address = 70000", r"address: found 70000, .*0\.\.65535"),
        (SDM120, "address = 0x0000", "address = 0xFFFF", r"address: found 65535, allowed: at most 65534"),
        (SDM120, "scale = 1", "scale = 0", r"scale: found 0, allowed: a number above 0"),
        (SDM120, "scale = 1", "scale = nan", r"scale: .*allowed: a number above 0"),
        (SDM120, "scale = 1", "skale = 1", r"scale: found 'nothing'.*required"),
        (SDM120, "scale = 1", "scale = 1\nsign = 1", r"voltage_l1\.sign: .*known keys: address"),
        (SDM120, 'unit = "V"', 'unit = "mV"', r"unit: found 'mV', allowed: V, A, W"),
        (SDM120, '"energy_import_total"', '"voltage_l1"', r"money_point: .*allowed: .*energy_total"),
        (SDM120, "default_baud = 2400", "default_baud = 19200", r"link\.default_baud: found 19200"),
        (SDM120, '"8N1"', '"9N1"', r"link\.default_format: found '9N1', allowed: 8N1"),
        (SDM120, "[link]", "max = 3\n[link]", r"toml: max: found 3, allowed: no such key here"),
        (SDM120, "phases = 1", "phases = true", r"phases: found True, allowed: 0, 1, 3"),
        (DDS238, "close = [1]", "close = [1, 2]", r"relay\.command\.open: .*as many words as close"),
        (DDS238, "closed = 1", "closed = 0", r"relay\.readback\.open: .*not the value that means closed"),
        (DDS238, ALLOWED, ALLOWED.replace("1A", "01"), r"write_allowed: found '0x1', .*erases"),
        (DDS238, ALLOWED, ALLOWED.replace("1A", "1B"), r"write_allowed: .*channel 0"),
        (BOARD, "close = [0xFF00]", "close = [1]", r"relay\.command\.close: .*0xFF00 or 0x0000"),
        (BOARD, "channels = 8", "channels = 9", r"write_allowed: .*channel 8.*0x0008"),
        (BOARD, 'id = "relay', 'id = "other', r"id: found 'other_board_8ch'"),
        (BOARD, "[relay]", "[[relay]", "the whole file: .*TOML in UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_file_key_found_and_allowed(
    tmp_path: Path, base: str, old: str, new: str, message: str
) -> None:
    text = (SHIPPED / f"{base}.toml").read_text("utf-8")
    assert old in text
    (tmp_path / f"{base}.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ModelError, match=message) as refusal:
        load_model(base, tmp_path)
    assert str(refusal.value).startswith(f"{base}.toml: ")
