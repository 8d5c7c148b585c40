"""Decoding is exact: what the registers say is what comes out, digit for digit."""

import math
import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.meters.point import BINARY_TYPES, WATT_HOURS_PER_UNIT, Point, ValueRefused, register_wh, resolution_wh

ENERGY_LIMIT_KWH = 2.0**30


def point(
    type: str = "f32", order: str = "msw", unit: str = "kWh", scale: str = "1", invalid: int | None = None
) -> Point:
    return Point("energy_import_total", 4, 72, type, order, unit, Decimal(scale), invalid)


@pytest.mark.parametrize(
    ("type", "order", "scale", "registers", "value"),
    [
        ("u16", "msw", "0.1", [2301], "230.1"),
        ("u16", "msw", "0.001", [0xFFFF], "65.535"),
        ("s16", "msw", "1", [0xFFFE], "-2"),
        ("u32", "msw", "0.01", [0x0001, 0x0000], "655.36"),
        ("u32", "lsw", "0.01", [0x0001, 0x0000], "0.01"),
        ("s32", "msw", "0.1", [0xFFFF, 0xFFFF], "-0.1"),
        ("s32", "lsw", "0.1", [0xFFFF, 0x7FFF], "214748364.7"),
        ("f32", "msw", "1", [0x4366, 0x3333], "230.1999969482421875"),
        ("f32", "lsw", "1", [0x3333, 0x4366], "230.1999969482421875"),
        ("f32", "msw", "0.1", [0x450F, 0x6000], "229.4"),
        ("f32", "msw", "1000", [0x3F80, 0x0000], "1000"),
        ("f32", "msw", "1", [0x0000, 0x0001], str(Decimal(2**-149))),
        ("u64", "msw", "0.01", [0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF], "92233720368547758.07"),
        ("u64", "lsw", "1", [0x0001, 0x0000, 0x0000, 0x8000], "9223372036854775809"),
        ("s64", "msw", "0.01", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF], "-0.01"),
        (
            "f64",
            "msw",
            "1",
            [0x3FB9, 0x9999, 0x9999, 0x999A],
            "0.1000000000000000055511151231257827021181583404541015625",
        ),
    ],
)
def test_registers_decode_to_the_exact_number(
    type: str, order: str, scale: str, registers: list[int], value: str
) -> None:
    assert point(type, order, scale=scale).decode(registers) == Decimal(value)


@given(st.integers(0, 2**64 - 1), st.sampled_from(["u64", "s64", "f64"]), st.sampled_from(["1", "0.001", "1000"]))
def test_every_pattern_decodes_exactly_or_is_refused(bits: int, type: str, scale: str) -> None:
    registers = [bits >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    number = struct.unpack(BINARY_TYPES[type][1], bits.to_bytes(8, "big"))[0]
    if isinstance(number, float) and not math.isfinite(number):
        with pytest.raises(ValueRefused, match="not a finite number"):
            point(type, scale=scale).decode(registers)
    else:
        assert Fraction(point(type, scale=scale).decode(registers)) == Fraction(number) * Fraction(scale)


@pytest.mark.parametrize(
    ("type", "order", "registers", "value"),
    [
        ("bcd16", "msw", [0x9876], "9876"),
        ("bcd32", "msw", [0x0012, 0x3456], "123456"),
        ("bcd32", "lsw", [0x3456, 0x0012], "123456"),
        ("bcd48", "msw", [0x1234, 0x5678, 0x9012], "123456789012"),
        ("bcd64", "msw", [0x9999, 0x9999, 0x9999, 0x9999], "9999999999999999"),
        ("mod10_32", "msw", [12, 3456], "123456"),
        ("mod10_32", "lsw", [7, 1], "10007"),
        ("mod10_48", "msw", [1, 0, 9999], "100009999"),
        ("mod10_64", "msw", [0, 0, 0, 0], "0"),
        ("mod10_64", "msw", [9999, 9999, 9999, 9999], "9999999999999999"),
    ],
)
def test_decimal_digits_decode_four_a_register(type: str, order: str, registers: list[int], value: str) -> None:
    assert point(type, order).decode(registers) == Decimal(value)
    assert point(type, order, scale="0.01").decode(registers) == Decimal(value) / 100


@pytest.mark.parametrize(
    ("type", "registers"),
    [("bcd16", [0x00A0]), ("bcd32", [0x1234, 0xFFFF]), ("mod10_32", [0, 10_000]), ("mod10_48", [1, 0xFFFF, 0])],
)
def test_digits_that_are_none_are_refused(type: str, registers: list[int]) -> None:
    with pytest.raises(ValueRefused) as refusal:
        point(type).decode(registers)
    assert refusal.value.reason == "not_a_number"


@pytest.mark.parametrize("registers", [[0x7F80, 0x0000], [0xFF80, 0x0000], [0x7FC0, 0x0000], [0xFFFF, 0xFFFF]])
def test_infinity_and_not_a_number_are_refused_with_their_reason(registers: list[int]) -> None:
    with pytest.raises(ValueRefused) as refusal:
        point().decode(registers)
    assert refusal.value.reason == "not_a_number"


def test_the_pattern_for_no_value_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueRefused) as refusal:
        point("u16", invalid=0xFFFF).decode([0xFFFF])
    assert refusal.value.reason == "invalid_value"
    assert point("u16", invalid=0xFFFF).decode([0xFFFE]) == 65_534


@pytest.mark.parametrize(
    ("type", "unit", "scale", "registers", "wh"),
    [
        ("u32", "kWh", "0.01", [0, 12_345], 123_450),
        ("f32", "kWh", "1", [0x3F80, 0x0001], 1_000),  # 1.00000011920928955078125 kWh
        ("f32", "kWh", "1", [0x3F7F, 0xFFFF], 999),  # the float just below 1 kWh
        ("f32", "kWh", "1", [0x4780, 0x0001], 65_536_007),  # 65536.0078125 kWh
        ("u32", "Wh", "1", [1, 0], 65_536),
        ("u16", "MWh", "0.001", [5], 5_000),
        ("u16", "Wh", "0.1", [9], 0),
    ],
)
def test_a_register_in_watt_hours_is_the_floor_of_its_exact_value(
    type: str, unit: str, scale: str, registers: list[int], wh: int
) -> None:
    assert register_wh(point(type, unit=unit, scale=scale), registers) == wh


@given(st.floats(0, ENERGY_LIMIT_KWH, width=32), st.floats(0, ENERGY_LIMIT_KWH, width=32))
def test_a_register_that_does_not_fall_does_not_fall_in_watt_hours(one: float, other: float) -> None:
    low, high = (register_wh(point(), struct.unpack(">HH", struct.pack(">f", value))) for value in sorted((one, other)))
    assert low <= high


def test_a_negative_energy_register_is_refused() -> None:
    with pytest.raises(ValueRefused) as refusal:
        register_wh(point("s32", scale="0.1"), [0xFFFF, 0xFFFF])
    assert refusal.value.reason == "negative_register"


@pytest.mark.parametrize(
    ("type", "unit", "scale", "value", "step_wh"),
    [
        ("f32", "kWh", "1", 1.0, 1),
        ("f32", "kWh", "1", 16_384.0, 2),  # 1.95 Wh
        ("f32", "kWh", "1", 65_536.0, 8),  # 7.8125 Wh
        ("f32", "kWh", "1", 524_288.0, 63),  # 62.5 Wh
        ("f32", "kWh", "1", 0.0, 1),
    ],
)
def test_one_step_of_a_float_register_grows_with_it(
    type: str, unit: str, scale: str, value: float, step_wh: int
) -> None:
    registers = struct.unpack(">HH", struct.pack(">f", value))
    assert resolution_wh(point(type, unit=unit, scale=scale), registers) == step_wh


def test_one_step_of_an_integer_register_is_its_scale() -> None:
    assert resolution_wh(point("u32", scale="0.01"), [0, 1]) == 10
    assert resolution_wh(point("u32", unit="Wh"), [0, 1]) == 1


@given(st.integers(1, 0x7F7FFFFE))
def test_the_resolution_of_a_float_is_the_distance_to_the_next_one(bits: int) -> None:
    words = [(number >> 16, number & 0xFFFF) for number in (bits, bits + 1)]
    here, above = (Fraction(point().decode(pair)) for pair in words)
    assert point().resolution(words[0]) == above - here


@given(
    st.sampled_from(sorted(BINARY_TYPES)),
    st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4),
    st.sampled_from(["1", "0.1", "0.01", "0.001", "10", "1000", "0.25"]),
    st.sampled_from(["Wh", "kWh", "MWh"]),
)
def test_a_register_in_wh_is_the_floor_of_the_exact_value_and_its_step_is_rounded_up(
    type: str, words: list[int], scale: str, unit: str
) -> None:
    energy = point(type, unit=unit, scale=scale)
    registers = words[: energy.count]
    try:
        exact_wh = Fraction(energy.decode(registers)) * WATT_HOURS_PER_UNIT[unit]
    except ValueRefused:
        with pytest.raises(ValueRefused, match="not a finite number"):
            register_wh(energy, registers)
        return
    if exact_wh < 0:
        with pytest.raises(ValueRefused, match="negative"):
            register_wh(energy, registers)
        return
    assert register_wh(energy, registers) == math.floor(exact_wh)
    step_wh = energy.resolution(registers) * WATT_HOURS_PER_UNIT[unit]
    assert resolution_wh(energy, registers) == max(1, math.ceil(step_wh))
