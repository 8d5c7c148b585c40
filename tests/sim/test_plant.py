"""A whole street on driven time: exact energy, wires, schedule, area meter."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.sim.load import quarters
from hw.sim.plant import Plant, PlantError
from hw.sim.spec import default_street, parse_spec

START_AT = 1_782_662_400
DAY_S = 86_400
TICK_S = 432  # a tick of 50 ms at speed 8640


def build(spec: dict[str, Any] | None = None) -> Plant:
    return Plant(parse_spec(json.dumps(spec or default_street()).encode()))


def run(plant: Plant, until_at: int, step_s: int = TICK_S) -> None:
    while plant.at < until_at:
        plant.advance(min(plant.at + step_s, until_at))


def meters(plant: Plant) -> dict[str, dict[str, Any]]:
    registers: dict[str, dict[str, Any]] = plant.registers()["meters"]
    return registers


def test_twelve_meters_count_exactly_what_their_profiles_draw() -> None:
    plant = build()
    run(plant, START_AT + 3 * DAY_S)
    first_day = (START_AT + 28_800) // DAY_S
    for line in default_street()["lines"]:
        for spec in line["devices"]:
            drawn_ws = sum(
                watts * 900 for day in range(3) for watts in quarters(spec["profile"], spec["seed"], first_day + day)
            )
            assert plant.load(spec["meter_id"]).energy_ws == drawn_ws
            assert plant.meter(spec["meter_id"]).energy_wh == spec["start_wh"] + drawn_ws // 3600


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20_000))
def test_the_length_of_a_step_changes_nothing(step_s: int) -> None:
    plant, other = build(), build()
    for each in (plant, other):
        each.schedule(START_AT + 1234, partial(each.operate_relay, "M01", False))
        each.schedule(START_AT + 30_001, partial(each.operate_relay, "M01", True))
        each.schedule(START_AT + 40_000, partial(each.scale, "M02", 333))
    run(plant, START_AT + 50_000, step_s)
    other.advance(START_AT + 50_000)
    assert plant.registers() == other.registers()


def test_what_is_scheduled_takes_effect_in_its_own_second() -> None:
    plant = build()
    plant.schedule(START_AT + 1000, lambda: plant.operate_relay("M01", False))
    plant.advance(START_AT + DAY_S)
    assert plant.load("M01").energy_ws == plant.load("M01").load.energy_ws(START_AT, START_AT + 1000)


def test_what_is_scheduled_for_the_past_happens_now() -> None:
    plant = build()
    plant.advance(START_AT + 500)
    plant.schedule(START_AT + 100, lambda: plant.operate_relay("M01", False))
    assert not meters(plant)["M01"]["relay_closed"]
    plant.advance(START_AT + DAY_S)
    assert plant.load("M01").energy_ws == plant.load("M01").load.energy_ws(START_AT, START_AT + 500)


def test_the_area_meter_is_the_sum_of_all_and_three_percent() -> None:
    plant = build()
    plant.operate_relay("M04", False)
    run(plant, START_AT + 2 * DAY_S)
    customers = [f"M{number:02}" for number in range(1, 13)]
    sum_ws = sum(plant.load(meter_id).energy_ws for meter_id in customers)
    assert plant.meter("AREA").source.energy_ws == sum_ws * 103 // 100
    assert plant.meter("AREA").energy_wh == 1_000_000 + sum_ws * 103 // 100 // 3600
    power_w = sum(meters(plant)[meter_id]["power_w"] for meter_id in customers)
    assert meters(plant)["AREA"]["power_w"] == power_w * 103 // 100


def test_every_contact_stops_its_own_customer_and_nobody_else() -> None:
    plant = build()
    plant.advance(START_AT + 12 * 3600)
    for line_id in ("line-1", "line-2"):
        board = plant.devices(line_id)[100]
        for spec in next(line for line in default_street()["lines"] if line["id"] == line_id)["devices"]:
            if spec["relay"] == "own":
                device, write = plant.devices(line_id)[spec["device_id"]], (16, 26)
            else:
                device, write = board, (5, spec["relay"]["channel"])
            assert device.write(*write, [0]) is None
            assert [name for name, meter in meters(plant).items() if meter["relay_closed"] is False] == [
                spec["meter_id"]
            ]
            assert [name for name, meter in meters(plant).items() if meter["power_w"] == 0] == [spec["meter_id"]]
            assert device.write(*write, [1]) is None


def test_a_stopped_street_stands_still() -> None:
    plant = build()
    plant.advance(START_AT + 7000)
    plant.stop_load()
    stopped = meters(plant)
    run(plant, START_AT + DAY_S)
    for name, meter in meters(plant).items():
        assert (meter["register_wh"], meter["registers"], meter["power_w"]) == (
            stopped[name]["register_wh"], stopped[name]["registers"], 0,
        )  # fmt: skip


def test_a_silent_meter_goes_on_counting() -> None:
    plant = build()
    plant.silence("M01", True)
    plant.advance(START_AT + DAY_S)
    assert meters(plant)["M01"]["silent"]
    assert meters(plant)["M01"]["register_wh"] > 1_234_567 + 5000


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    plant = build()
    with pytest.raises(PlantError, match="there is no meter 'M99'; there are M01, M02"):
        plant.silence("M99", True)
    with pytest.raises(PlantError, match="AREA is the area meter"):
        plant.scale("AREA", 50)
    with pytest.raises(PlantError, match="no contact carries the load of AREA"):
        plant.operate_relay("AREA", False)


def test_the_spec_may_leave_out_area_meter_boards_and_relays() -> None:
    spec = default_street()
    del spec["area_meter"]
    for line in spec["lines"]:
        line["relay_boards"] = []
        for meter in line["devices"]:
            meter["relay"] = None
    plant = build(spec)
    plant.advance(START_AT + 3600)
    assert plant.registers()["area_meter_id"] is None
    assert all(meter["relay_closed"] is None and meter["power_w"] > 0 for meter in meters(plant).values())


def test_the_report_lets_a_stranger_decode_the_register() -> None:
    plant = build()
    plant.advance(START_AT + DAY_S)
    for meter in meters(plant).values():
        assert len(bytes.fromhex(meter["registers"])) == 4
        if meter["type"] == "u32":
            assert int(meter["registers"], 16) * meter["wh_per_unit"] == meter["register_wh"]
        assert meter["register_wh"] > meter["start_register_wh"]
        assert abs(meter["start_register_wh"] - meter["start_wh"]) < 10
