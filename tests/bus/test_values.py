"""Values decoded late are the values decoded at once, and the same ones are refused, for every model."""

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.plan import BlockMap, ReadBlock, ReadCost, ReadItem, ReadLimits
from edge.bus.values import BlockTable, Values
from edge.meters.model import MeterModel, known_models, load_model
from edge.meters.point import REGISTER_TYPES, WORD_ORDERS, Point, ValueRefused
from edge.meters.records import MODBUS

# Often enough a register that means "no value", "not a number" or no digits.
SPECIAL = (0x0000, 0x7F80, 0x7FC0, 0xFF80, 0x7FF0, 0x7FFF, 0x8000, 0xFFFF, 0x9999, 0x000A, 10_000)


def blocks_of(model: MeterModel) -> tuple[ReadBlock, ...]:
    items = [ReadItem(point.name, point.function_code, point.address, point.count) for point in model.points.values()]
    link, registers = model.link, model.protocol == MODBUS
    limits = ReadLimits(link.max_read_registers, link.even_register_reads_only, has_neighbours=registers)
    return BlockMap(items, limits, ReadCost.of_line(11 / 9600, 0.004)).blocks


def decoded_at_once(model: MeterModel, block: ReadBlock, registers: list[int]) -> tuple[dict[str, Decimal], set[str]]:
    values, refused = {}, set()
    for item in block.items:
        start = item.address - block.address
        try:
            values[item.name] = model.points[item.name].decode(registers[start : start + item.count])
        except ValueRefused:
            refused.add(item.name)
    return values, refused


@pytest.mark.parametrize("model_id", [name for name in known_models() if load_model(name).points])
def test_every_model_s_values_and_refusals_are_those_of_decoding_at_once(model_id: str) -> None:
    model, dice = load_model(model_id), random.Random(model_id)
    size = 0x1_0000 if model.protocol == MODBUS else 0x100  # of a data item an octet
    for _ in range(200):
        values, expected = Values(), dict[str, Decimal]()
        refused, said = set[str](), set[str]()
        for block in blocks_of(model):
            registers = [
                dice.choice(SPECIAL) % size if dice.random() < 0.2 else dice.randrange(size) for _ in range(block.count)
            ]
            good, bad = decoded_at_once(model, block, registers)
            expected, refused = expected | good, refused | bad
            said |= {name for name, _ in values.add(BlockTable(block, model.points), registers)}
        assert said == refused
        assert dict(values) == expected
        assert len(values) == len(expected)
        assert all(name in values for name in expected)
        assert not any(name in values for name in refused)


@given(
    st.sampled_from(sorted(REGISTER_TYPES)),
    st.sampled_from(WORD_ORDERS),
    st.lists(st.one_of(st.sampled_from(SPECIAL), st.integers(0, 0xFFFF)), min_size=4, max_size=4),
    st.booleans(),
)
def test_a_value_is_refused_by_its_registers_alone(type: str, order: str, words: list[int], is_invalid: bool) -> None:
    count = REGISTER_TYPES[type]
    registers = words[:count]
    ordered = registers if order == "msw" else registers[::-1]
    bits = sum(word << 16 * (count - 1 - place) for place, word in enumerate(ordered))
    point = Point("value", 3, 7, type, order, "V", Decimal("0.1"), bits if is_invalid else None)
    block = ReadBlock(3, 7, count, (ReadItem("value", 3, 7, count),))
    values = Values()
    refused = values.add(BlockTable(block, {"value": point}), registers)
    if refused:
        with pytest.raises(ValueRefused) as refusal:
            point.decode(registers)
        assert refused == [("value", refusal.value.reason)]
        assert "value" not in values
    else:
        assert values == {"value": point.decode(registers)}
    assert not (is_invalid and "value" in values)


def test_what_no_meter_said_is_no_value() -> None:
    with pytest.raises(KeyError):
        Values()["voltage_l1"]
    assert repr(Values()) == "{}"
