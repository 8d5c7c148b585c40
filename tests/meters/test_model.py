"""The shipped models say what their sources say, and a bad file is refused by name, key and allowed values."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from edge.meters.model import ModelError, known_models, load_model, read_model_file

SHIPPED = Path(__file__).resolve().parent.parent.parent / "edge" / "meters"
SDM120, DDS238, BOARD = "eastron_sdm120", "hiking_dds238_2", "relay_board_8ch"
ALLOWED = "address = 0x001A\ncount = 1\npurpose"
EM111, SDM320Y, DDSY1352 = "carlo_gavazzi_em111", "eastron_sdm320y", "acrel_ddsy1352"
IVY, PZEM, ABB = "ivy_em114039", "peacefair_pzem016", "abb_b21"
MODELS = known_models()


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
    path = tmp_path / "my_meter.toml"
    text = (SHIPPED / f"{SDM120}.toml").read_text("utf-8").replace(f'id = "{SDM120}"', 'id = "my_meter"')
    path.write_text(text, "utf-8")
    os.utime(path, ns=(1, 1))
    first = load_model("my_meter", tmp_path)
    assert load_model("my_meter", tmp_path) is first
    path.write_text(text.replace("phases = 1", "phases = 3"), "utf-8")
    os.utime(path, ns=(2, 2))
    assert load_model("my_meter", tmp_path).phases == 3


def test_the_folder_of_the_user_adds_to_what_ships(tmp_path: Path) -> None:
    (tmp_path / "my_meter.toml").write_text("", "utf-8")
    assert known_models(tmp_path) == tuple(sorted([*MODELS, "my_meter"]))
    assert load_model(SDM120, tmp_path) is load_model(SDM120)


def test_a_name_that_exists_twice_is_refused_whatever_model_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / f"{SDM120}.toml").write_text("", "utf-8")
    for ask in (lambda: known_models(tmp_path), lambda: load_model(DDS238, tmp_path)):
        with pytest.raises(ModelError, match=r"eastron_sdm120\.toml: id: found 'eastron_sdm120', .*no other model has"):
            ask()


def test_a_folder_of_the_user_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no_such: the folder: .*allowed: a folder with model files"):
        known_models(tmp_path / "no_such")


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"no_such\.toml: id: found 'no_such', allowed: abb_b21, .*relay_board"):
        load_model("no_such")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.toml: the whole file: .*allowed: a file that can be read"):
        read_model_file(tmp_path / "gone.toml")


def test_settings_become_the_words_that_are_written() -> None:
    baud = load_model(SDM120).settings["baud"]
    assert baud.meanings == {0: 2400, 1: 4800, 2: 9600, 5: 1200}
    assert baud.encode(2) == (0x4000, 0x0000)
    assert load_model(EM111).settings["address"].encode(247) == (247,)
    with pytest.raises(ValueError, match="70000 does not fit into u16"):
        load_model(EM111).settings["address"].encode(70_000)
    with pytest.raises(ValueError, match="type raw is not written"):
        load_model(DDSY1352).settings["address_baud"].encode(1)


def test_identity_registers_are_numbers_texts_or_digits() -> None:
    em111, abb, sdm630 = (load_model(name).identity for name in (EM111, ABB, "eastron_sdm630"))
    assert em111["serial"].decode([0x0041, 0x0042, 0x0031, 0x0032, 0x0033, 0x0020, 0x0000]) == "AB123"
    assert abb["model_ascii"].decode([0x4232, 0x3120]) == "B21"
    assert abb["model_ascii"].expect[0] == "B21"
    assert em111["id_code"].decode([101]) == 101
    assert sdm630["serial_old"].decode([1, 2, 3, 4]) == "0001000200030004"
    assert load_model(DDSY1352).prepaid["account"].decode([0x1234, 0x5678, 0x9012]) == 123_456_789_012


def test_a_vendors_own_function_is_forbidden_on_every_address() -> None:
    (forbidden,) = load_model(PZEM).write_forbidden
    assert (forbidden.function_code, forbidden.address, forbidden.count) == (0x42, 0, 0x10000)


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
        (
            SDM120,
            "[points.voltage_l1]",
            "[points]\nvoltage_l1 = 3\n[x]",
            r"points\.voltage_l1: found 3, allowed: a table",
        ),
        (SDM120, "bauds = [1200", "bauds = [100", r"link\.bauds: found 100, allowed: a whole number 300"),
        (SDM120, "bauds = [1200, 2400, 4800, 9600]", "bauds = 2400", r"link\.bauds: found 2400, allowed: a list"),
        (SDM120, "even_register_reads_only = true", "even_register_reads_only = 1", r"even.*: found 1, allowed: true"),
        (SDM120, "default_device_id = 1", "default_device_id = 248", r"default_device_id: found 248, .*1\.\.247"),
        (SDM120, "default_device_id = 1\n", "", r"default_device_id: found 'nothing', .*the key is required"),
        (SDM120, 'id = "eastron_sdm120"\n', "", r"toml: id: found 'nothing'"),
        (SDM120, 'confidence = "vendor"', 'confidence = "sure"', r"confidence: found 'sure', allowed: vendor, multi"),
        (SDM120, "hazards = [", "hazards = []\nnotes = [", r"hazards: found \[\], allowed: a list of texts, not empty"),
        (SDM120, "sources = [", "sources = [3,", r"sources: found \[3, .*a list of texts"),
        (SDM120, "expect = [32]", "expect = [3.5]", r"identity\.model_code\.expect: .*whole numbers or texts"),
        (SDM120, "meanings = { 0 = 2400", "meanings = { x = 2400", r"settings\.baud\.meanings\.x: found 2400"),
        (SDM120, "meanings = { 0 = 2400", "meanings = { 0 = [1]", r"settings\.baud\.meanings\.0: found \[1\]"),
        (SDM120, "range = [1, 247]", "range = [247, 1]", r"settings\.address\.range: .*\[lowest, highest\]"),
        (
            SDM120,
            "write_function_codes = [16]",
            "write_function_codes = [6]",
            r"settings\..*link\.write_function_codes: 6",
        ),
        (SDM120, "write_function_code = 16", "write_function_code = 6", r"write_function_code: found 6, .*takes 2"),
        (SDM120, "[commissioning]", "[commissioning]\nwhen = 1", r"commissioning\.when: found 1, .*no such key"),
        (SDM120, "[link]", "[link]\nmax_read_registers = 1", r"link\.max_read_registers: found 1, .*at least 2"),
        (ABB, "invalid = 0xFFFF\n", "invalid = 0x1FFFF\n", r"invalid: found '0x1ffff', .*1 registers"),
        (EM111, 'type = "text_low_bytes"\ncount = 7\n', 'type = "text"\n', r"serial\.count: found 'nothing'"),
        (EM111, "address = 0x2001", "address = 0x4001", r"settings\.baud: found '0x4001', .*zeroes total energy"),
        (EM111, "function_code = 3\naddress = 0x1101", "address = 0x1101", r"tariff_enable\.function_code: .*3 or 4"),
        (
            SDM320Y,
            "closed = 0x00FF",
            "mask = 1\nclosed = 0x00FF",
            r"relay\.readback\.closed: .*no bit outside the mask",
        ),
        (
            SDM320Y,
            "function_code = 16\naddress = 0xFD00\ncount",
            "function_code = 6\naddress = 0xFD00\ncount",
            r"write_allow",
        ),
        (
            SDM320Y,
            'type = "u16"\norder = "msw"\nmeanings',
            'type = "u16"\nmeanings',
            r"relay\.fault\.order: .*required",
        ),
        (DDSY1352, "close = [1, 0]", "close = [1, 0x10000]", r"unusable_relay\.close: found 65536"),
        (IVY, "incomplete = ", "tariff_note = ", r"points: .*incomplete = a reason"),
        (IVY, "incomplete = ", 'money_point = "x"\nincomplete = ', r"money_point: found 'x', .*without points"),
        (SDM120, "[link]", 'incomplete = "x"\n[link]', r"incomplete: found 'x', .*can be read or switched"),
        (DDS238, "[link]", 'no_relay_reason = "x"\n[link]', r"no_relay_reason: .*a model with a relay"),
        (PZEM, "function_code = 0x42", "function_code = 0", r"write_forbidden\[0\]\.function_code: found 0"),
        (PZEM, "function_code = 0x42", "function_code = 0x06", r"settings\.address: .*resets energy"),
    ],
)
def test_a_bad_file_is_refused_with_file_key_found_and_allowed(
    tmp_path: Path, base: str, old: str, new: str, message: str
) -> None:
    text = (SHIPPED / f"{base}.toml").read_text("utf-8")
    assert old in text
    path = tmp_path / f"{base}.toml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ModelError, match=message) as refusal:
        read_model_file(path)
    assert str(refusal.value).startswith(f"{base}.toml: ")
