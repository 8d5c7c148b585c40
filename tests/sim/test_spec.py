"""A wrong spec is refused with the place and what is allowed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hw.sim.models import MODELS
from hw.sim.spec import SpecError, default_street, load_spec, parse_spec


def set_in(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change: the last of `path` becomes the value at the place the others lead to."""
    *places, last, value = path

    def change(spec: dict[str, Any]) -> None:
        target: Any = spec
        for place in places:
            target = target[place]
        target[last] = value

    return change


DEVICE = ("lines", 0, "devices", 1)
FAULTS = [
    (set_in("speed", 0), "$.speed"),
    (set_in("speed", "fast"), "$.speed"),
    (set_in("wall_start_at", 1.5), "$.wall_start_at"),
    (set_in("utc_offset_s", 3601), "$.utc_offset_s"),
    (set_in("quality", "gps"), "ntp, rtc, floor, unset"),
    (set_in("colour", 1), "colour"),
    (set_in("lines", []), "$.lines"),
    (set_in("lines", 1, "id", "line-1"), "line-1 is used twice"),
    (set_in("lines", 0, "id", "../line"), "$.lines[0].id"),
    (set_in("lines", 0, "id", "clock.json"), "$.lines[0].id"),
    (set_in(*DEVICE, "device_id", 248), "$.lines[0].devices[1].device_id"),
    (set_in(*DEVICE, "device_id", 11), "$.lines[0]: device_id 11 is used twice"),
    (set_in(*DEVICE, "device_id", 50), "$.lines[0]: device_id 50 is used twice"),
    (set_in(*DEVICE, "device_id", 100), "$.lines[0]: device_id 100 is used twice"),
    (set_in(*DEVICE, "meter_id", "M12"), "meter_id M12 is used twice"),
    (set_in(*DEVICE, "model", "sdm999"), "$.lines[0].devices[1].model: 'sdm999' is not one of eastron_sdm120"),
    (set_in(*DEVICE, "profile", "palace"), "$.lines[0].devices[1].profile: 'palace' is not one of household"),
    (set_in(*DEVICE, "start_wh", -1), "$.lines[0].devices[1].start_wh"),
    (set_in(*DEVICE, "scale_percent", -1), "$.lines[0].devices[1].scale_percent"),
    (set_in(*DEVICE, "relay", "own"), "$.lines[0].devices[1].relay: eastron_sdm630 has no load switch of its own"),
    (set_in(*DEVICE, "relay", "mine"), "$.lines[0].devices[1].relay: 'mine' is not allowed"),
    (set_in(*DEVICE, "relay", "channel", 8), "$.lines[0].devices[1].relay.channel"),
    (set_in(*DEVICE, "relay", "channel", 0), "relay contact"),
    (set_in(*DEVICE, "relay", "device_id", 99), "$.lines[0].devices[1].relay: there is no relay board 99"),
    (set_in("area_meter", "line", "line-9"), "$.area_meter.line: there is no line 'line-9'"),
    (set_in("area_meter", "model", "clock"), "$.area_meter.model: 'clock'"),
    (set_in("area_meter", "meter_id", "M01"), "meter_id M01 is used twice"),
]


@pytest.mark.parametrize(("change", "expected"), FAULTS, ids=[expected for _, expected in FAULTS])
def test_a_fault_is_named_with_its_place(change: Callable[[dict[str, Any]], None], expected: str) -> None:
    spec = default_street()
    change(spec)
    with pytest.raises(SpecError) as caught:
        parse_spec(json.dumps(spec).encode())
    assert expected in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "street.json"
    with pytest.raises(SpecError, match=r"street\.json: No such file"):
        load_spec(path)
    path.write_text("{")
    with pytest.raises(SpecError, match=r"street\.json: .*truncated"):
        load_spec(path)


def test_the_default_street_has_twelve_customers_on_two_lines_and_every_model() -> None:
    spec = parse_spec(json.dumps(default_street()).encode())
    meters = [meter for line in spec.lines for meter in line.devices]
    assert [len(line.devices) for line in spec.lines] == [6, 6]
    assert {meter.model for meter in meters} == set(MODELS)
    assert all(meter.relay is not None for meter in meters)
    assert spec.area_meter is not None
    assert spec.wall_start_at == 1_782_662_400  # Monday 2026-06-29 00:00 +08:00


def test_the_default_street_is_a_new_one_each_time() -> None:
    default_street()["lines"][0]["devices"].clear()
    assert len(default_street(5, 2)["lines"][0]["devices"]) == 6
    assert (default_street(5, 2)["wall_start_at"], default_street(5, 2)["speed"]) == (5, 2)
