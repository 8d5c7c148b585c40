"""Every point of every model decodes a whole RTU request and answer, both made by pymodbus's codec.

What must come out is worked out here from the facts with struct and fractions, not with the product's codec.
"""

import json
import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from edge.bus.frame import RTU
from edge.meters.model import ValueRefused, load_model

FACTS = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "meters.json").read_text("utf-8"))["meters"]
for row in next(facts["points"] for facts in FACTS if facts["id"] == "carlo_gavazzi_em24").values():
    if row["type"] == "s32":
        row["invalid"] = "0x7FFFFFFF"  # a hazard of the facts: EEE on the display
BY_ID: dict[str, dict[str, Any]] = {facts["id"]: facts for facts in FACTS if facts["points"]}
FORMS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f", "u64": ">Q", "s64": ">q", "f64": ">d"}
FLOATS = (0.0, -0.0, 1.0, 230.2, -1234.5625, 131_072.015625, 1e-45, 3.4028234663852886e38)
CODEC = FramerRTU(DecodePDU(is_server=True))
REQUESTS = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
ANSWERS = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}


@pytest.mark.parametrize("model_id", sorted(BY_ID))
def test_every_point_decodes_a_request_and_answer_of_pymodbus(model_id: str) -> None:
    model, device_id = load_model(model_id), BY_ID[model_id]["link"]["default_address"]
    for name, facts in BY_ID[model_id]["points"].items():
        point = model.points[name]
        ask = RTU.read(device_id, point.function_code, point.address, point.count)
        request = REQUESTS[facts["fc"]](address=facts["addr"], count=facts["count"], dev_id=device_id)
        assert ask.frame == CODEC.buildFrame(request), name
        for number in samples(facts):
            words = words_of(number, facts)
            answer = CODEC.buildFrame(ANSWERS[facts["fc"]](registers=words, dev_id=device_id))
            assert RTU.first_failure(ask, ask.frame, answer) is None, name
            value = point.decode(RTU.words(ask, answer))
            assert Fraction(value) == Fraction(number) * Fraction(str(facts["scale"])), (name, number)


@pytest.mark.parametrize("model_id", sorted(BY_ID))
def test_no_point_makes_a_value_of_a_pattern_that_says_no_value(model_id: str) -> None:
    for name, facts in BY_ID[model_id]["points"].items():
        point = load_model(model_id).points[name]
        for words, reason in patterns_without_value(facts):
            with pytest.raises(ValueRefused) as refused:
                point.decode(words)
            assert refused.value.reason == reason, name


def samples(facts: dict[str, Any]) -> list[float]:
    """Numbers a register may hold, its limits among them."""
    if facts["type"] in ("f32", "f64"):
        return [float32(number) if facts["type"] == "f32" else number for number in FLOATS]
    bits = 16 * facts["count"]
    numbers = [0, 1, 2_302, 32_767]
    if facts["type"].startswith("s"):
        numbers += [-1, -1_200, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
    else:
        numbers += [2**bits - 1, 2 ** (bits - 1)]
    return [number for number in numbers if number % 2**bits != invalid(facts)]


def patterns_without_value(facts: dict[str, Any]) -> Iterator[tuple[list[int], str]]:
    if (pattern := invalid(facts)) is not None:
        raw = pattern.to_bytes(2 * facts["count"], "big")
        yield in_order(struct.unpack(f">{facts['count']}H", raw), facts), "invalid_value"
    if facts["type"] in ("f32", "f64"):
        for number in (math.nan, math.inf, -math.inf):
            yield words_of(number, facts), "not_a_number"


def invalid(facts: dict[str, Any]) -> int | None:
    return int(facts["invalid"], 16) if "invalid" in facts else None


def words_of(number: float, facts: dict[str, Any]) -> list[int]:
    return in_order(struct.unpack(f">{facts['count']}H", struct.pack(FORMS[facts["type"]], number)), facts)


def in_order(words: tuple[int, ...], facts: dict[str, Any]) -> list[int]:
    return list(words if facts["order"] == "msw" else reversed(words))


def float32(number: float) -> float:
    (nearest,) = struct.unpack(">f", struct.pack(">f", number))
    assert isinstance(nearest, float)
    return nearest


def test_a_float_above_131072_kwh_reads_as_the_worked_example_says() -> None:
    examples = json.loads(
        (Path(__file__).resolve().parent.parent / "vectors" / "worked_examples.json").read_text("utf-8")
    )
    example = next(row for row in examples["cases"] if row["id"] == "reg-float32")
    point = load_model("eastron_sdm120").points["energy_import_total"]
    for true, read in zip(example["input"]["true_kWh"], example["expect"]["as_float32_kWh"], strict=True):
        words = struct.unpack(">2H", struct.pack(">f", float(true)))
        assert point.decode(words) == Decimal(read)
