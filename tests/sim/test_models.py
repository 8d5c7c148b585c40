"""The twin's register maps against figures copied by hand from the vendors' tables."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.sim.models import ENERGY, MODELS, Model, Point

WATT_HOURS = st.integers(0, 999_999_990)

# model, quantity, its value in our unit, function, address, the registers. kWh, V, A, W or kW as the document says.
FIGURES = [
    ("eastron_sdm120", ENERGY, 1_234_500, 4, 0x0048, struct.pack(">f", 1234.5)),
    ("eastron_sdm120", "voltage_l1", 230_200, 4, 0x0000, bytes.fromhex("43663333")),  # the manual's example: 230.2 V
    ("eastron_sdm120", "frequency", 50_000, 4, 0x0046, bytes.fromhex("42480000")),
    ("eastron_sdm630", "power_total", 1500, 4, 0x0034, bytes.fromhex("44bb8000")),
    ("eastron_sdm630", ENERGY, 250, 4, 0x0048, bytes.fromhex("3e800000")),
    ("chint_ddsu666", "power_total", 1500, 3, 0x2004, bytes.fromhex("3fc00000")),  # 1.5 kW
    ("chint_ddsu666", ENERGY, 8000, 3, 0x4000, bytes.fromhex("41000000")),
    ("chint_dtsu666", "voltage_l1", 220_000, 3, 0x2006, struct.pack(">f", 2200.0)),
    ("chint_dtsu666", "current_l1", 5_000, 3, 0x200C, struct.pack(">f", 5000.0)),
    ("chint_dtsu666", "power_total", 1500, 3, 0x2012, struct.pack(">f", 15000.0)),
    ("chint_dtsu666", "frequency", 49_980, 3, 0x2044, struct.pack(">f", 4998.0)),
    ("chint_dtsu666", ENERGY, 8000, 3, 0x101E, bytes.fromhex("41000000")),
    ("hiking_dds238_2", ENERGY, 1_234_560, 3, 10, bytes.fromhex("0001e240")),
    ("hiking_dds238_2", "voltage_l1", 220_190, 3, 12, bytes.fromhex("0899")),  # 220.1 V
    ("hiking_dds238_2", "current_l1", 4_567, 3, 13, bytes.fromhex("01c8")),  # 4.56 A
    ("hiking_dds238_2", "power_total", 40_000, 3, 14, bytes.fromhex("7fff")),  # the end of a signed register
]


@pytest.mark.parametrize(("model_id", "quantity", "value", "function_code", "address", "registers"), FIGURES)
def test_a_quantity_is_where_and_as_the_document_says(
    model_id: str, quantity: str, value: int, function_code: int, address: int, registers: bytes
) -> None:
    points = [p for p in MODELS[model_id].points if (p.function_code, p.address) == (function_code, address)]
    assert [point.quantity for point in points] == [quantity]
    assert points[0].encode(value) == registers


def test_the_five_models_of_the_street_are_there() -> None:
    assert set(MODELS) == {figures[0] for figures in FIGURES}


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.id)
def test_every_point_lies_in_a_block_that_can_be_read(model: Model) -> None:
    for point in model.places:
        assert any(block.holds(point.function_code, point.address, point.count) for block in model.blocks), point
        assert point.function_code in model.functions


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.id)
def test_no_two_points_share_a_register(model: Model) -> None:
    words = [(point.function_code, point.address + offset) for point in model.places for offset in range(point.count)]
    assert len(words) == len(set(words))


@given(st.sampled_from(sorted(MODELS)), WATT_HOURS, st.integers(0, 100_000))
def test_a_register_never_falls_while_the_energy_grows(model_id: str, energy_wh: int, more_wh: int) -> None:
    point = MODELS[model_id].energy
    assert point.decode_floor(point.encode(energy_wh)) <= point.decode_floor(point.encode(energy_wh + more_wh))


@given(st.sampled_from(sorted(MODELS)), WATT_HOURS)
def test_a_register_is_off_by_less_than_one_of_its_steps(model_id: str, energy_wh: int) -> None:
    point = MODELS[model_id].energy
    step_wh = 10 if point.type == "u32" else max(2, energy_wh // 2**23 + 2)
    assert abs(point.decode_floor(point.encode(energy_wh)) - energy_wh) < step_wh


def test_the_exact_value_of_a_float_register_is_floored_and_not_rounded() -> None:
    energy = MODELS["eastron_sdm120"].energy
    registers = struct.pack(">f", 0.3)  # exactly 0.300000011920928955078125 kWh
    assert energy.decode_floor(registers) == 300
    assert energy.decode_floor(struct.pack(">f", 0.9)) == 899  # exactly 0.89999997615814208984375 kWh


def test_an_integer_register_counts_its_own_units() -> None:
    point = Point(ENERGY, 3, 10, "u32", 1, 10)
    assert point.decode_floor(point.encode(12_349)) == 12_340
