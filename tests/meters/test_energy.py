"""The short way to a money register says what the long way says, for every model and every register."""

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from edge.meters.energy import energy_reader
from edge.meters.model import known_models, load_model
from edge.meters.point import OCTET_TYPES, REGISTER_TYPES, WORD_ORDERS, Point, ValueRefused, register_wh, resolution_wh

SEED, READS = 20_261_201, 200
POINT = Point("energy", 3, 0x10, "u32", "msw", "kWh", Decimal("0.01"))
CORNERS = (0, 1, 0x7F80, 0x7FFF, 0x8000, 0xFFFF)


def check_same(point: Point, registers: tuple[int, ...], start: int) -> None:
    words = registers[start : start + point.count]

    def long_way(_: tuple[int, ...]) -> tuple[int, int]:
        return register_wh(point, words), resolution_wh(point, words)

    assert said(energy_reader(point, start), registers) == said(long_way, registers)


def said(read: Callable[[tuple[int, ...]], tuple[int, int]], registers: tuple[int, ...]) -> tuple[int, int] | str:
    try:
        return read(registers)
    except ValueRefused as refusal:
        return refusal.reason


@pytest.mark.parametrize("model_id", known_models())
def test_every_model_s_money_register_is_read_as_the_long_way_reads_it(model_id: str) -> None:
    model, chance = load_model(model_id), random.Random(SEED)
    if model.money_point is None:
        return
    point = model.points[model.money_point]
    for _ in range(READS):
        start = chance.randrange(4)
        registers = tuple(chance.choice((*CORNERS, chance.randrange(0x10000))) for _ in range(start + point.count + 2))
        if point.type in OCTET_TYPES:
            registers = tuple(register & 0xFF for register in registers)
        check_same(point, registers, start)


@pytest.mark.parametrize("order", WORD_ORDERS)
@pytest.mark.parametrize("register_type", REGISTER_TYPES)
@pytest.mark.parametrize("invalid", [None, 0, 0xFFFF, 0xFFFFFFFF])
def test_every_type_and_word_order_is_read_as_the_long_way_reads_it(
    register_type: str, order: str, invalid: int | None
) -> None:
    chance = random.Random(SEED)
    point = replace(POINT, type=register_type, order=order, invalid=invalid)
    for scale in ("1", "0.01", "0.0001", "1000"):
        for _ in range(READS // 10):
            registers = tuple(chance.choice((*CORNERS, chance.randrange(0x10000))) for _ in range(point.count + 3))
            check_same(replace(point, scale=Decimal(scale)), registers, chance.randrange(3))
