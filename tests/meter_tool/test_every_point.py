"""Every point of every model through `wattgate meter read` over a pseudo-terminal, against exact frames.

The meter answers the one right request for a point and nothing else. Frames and expected values are made
here from the facts with struct and fractions, not with the product's codec.
"""

import json
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

FACTS = json.loads((Path(__file__).resolve().parent.parent / "vectors" / "meters.json").read_text("utf-8"))["meters"]
BY_ID: dict[str, dict[str, Any]] = {facts["id"]: facts for facts in FACTS if facts["points"]}
FORMS = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f", "u64": ">Q", "s64": ">q", "f64": ">d"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("model_id", sorted(BY_ID))
def test_every_point_of_the_model_is_read_with_its_own_exact_request(
    model_id: str, exact_meter: Any, framed: Callable[[bytes], bytes], said: Any
) -> None:
    link, points = BY_ID[model_id]["link"], BY_ID[model_id]["points"]
    device_id = 17
    raws = {place(row): raw_of(number, row) for number, row in enumerate(points.values(), 1)}
    frames = {
        framed(struct.pack(">BBHH", device_id, *at)): [framed(bytes((device_id, at[0], len(raw))) + raw)]
        for at, raw in raws.items()
    }
    meter = exact_meter(frames)
    status, text, complaint = said(
        *("meter", "read", "--line", meter.path, "--baud", str(link["default_baud"])),
        *("--format", link["default_format"], "--device-id", str(device_id), "--model", model_id, "--json"),
    )
    assert (status, complaint) == (0, "")
    answer = json.loads(text)
    assert (answer["model"], answer["device_id"], answer["failed"]) == (model_id, device_id, {})
    assert (answer["requests"], answer["errors"]) == (len(frames), 0)
    assert set(meter.asked) == set(frames)
    assert list(answer["points"]) == list(points)
    for name, row in points.items():
        raw, found = raws[place(row)], answer["points"][name]
        assert (found["raw"], found["unit"]) == (raw.hex(), row["unit"]), name
        assert Fraction(found["value"]) == number_in(raw, row) * Fraction(str(row["scale"])), name


def place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["fc"], row["addr"], row["count"]


def raw_of(number: int, row: dict[str, Any]) -> bytes:
    """Registers as they stand on the wire: every point its own number, signed ones below 0."""
    value = -number * 7 - 100 if row["type"].startswith("s") else number * 7 + 100
    raw = struct.pack(FORMS[row["type"]], value + 0.2 if row["type"].startswith("f") else value)
    return raw if row["order"] == "msw" else swapped(raw)


def number_in(raw: bytes, row: dict[str, Any]) -> Fraction:
    (number,) = struct.unpack(FORMS[row["type"]], raw if row["order"] == "msw" else swapped(raw))
    return Fraction(number)


def swapped(raw: bytes) -> bytes:
    return b"".join(raw[at : at + 2] for at in range(len(raw) - 2, -1, -2))
