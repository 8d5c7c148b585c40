"""Values of data items, and octets that are none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.dlt645 import is_block, meter_clock
from edge.meters.model import load_model
from edge.meters.point import ValueRefused, register_wh, resolution_wh

MODEL = load_model("dlt645_2007_3p")


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("energy_import_total", "56341200", "1234.56"),
        ("energy_import_total", "99999999", "999999.99"),
        ("energy_export_total", "01000000", "0.01"),
        ("voltage_l1", "0322", "220.3"),
        ("current_l2", "125000", "5.012"),
        ("current_l2", "125080", "-5.012"),
        ("power_total", "241001", "1102.4"),
        ("power_l3", "241081", "-1102.4"),
        ("frequency", "0050", "50.00"),
        ("day_freeze_time", "0000020326", "2603020000"),
        ("day_freeze_energy_import", "00001200", "1200.00"),
        ("status_word_3", "5000", "80"),
        ("meter_date", "01020326", "26030201"),
        ("meter_time", "074011", "114007"),
    ],
)
def test_value_is_exact(name: str, data: str, value: str) -> None:
    assert MODEL.points[name].decode(bytes.fromhex(data)) == Decimal(value)
    assert MODEL.points[name].wire_bytes(tuple(bytes.fromhex(data))).hex() == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("energy_import_total", "5634120a"),
        ("energy_import_total", "ffffffff"),
        ("voltage_l1", "03f0"),
        ("current_l1", "1250ff"),
        ("day_freeze_energy_import", "0000120f"),
    ],
)
def test_octets_that_are_no_digits_are_refused(name: str, data: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        MODEL.points[name].decode(bytes.fromhex(data))
    assert refused.value.reason == "not_a_number"


@given(st.integers(0, 99_999_999))
def test_every_register_of_eight_digits_is_charged_as_it_is_shown(hundredths: int) -> None:
    data = bytes.fromhex(f"{hundredths:08d}")[::-1]
    assert register_wh(MODEL.points["energy_import_total"], data) == 10 * hundredths
    assert resolution_wh(MODEL.points["energy_import_total"], data) == 10


@pytest.mark.parametrize(
    ("word", "closed"), [("0000", True), ("efff", True), ("1000", False), ("5001", False), ("ffff", None)]
)
def test_relay_is_bit_4_of_status_word_3_and_nothing_where_the_word_is_not_there(
    word: str, closed: bool | None
) -> None:
    assert MODEL.relay is not None
    assert MODEL.relay.state(tuple(bytes.fromhex(word))) is closed


def test_no_identifier_stands_twice() -> None:
    for model in (MODEL, load_model("dlt645_2007")):
        assert len({point.address for point in model.points.values()}) == len(model.points)


def test_blocks_and_freezes_are_told_from_single_items() -> None:
    blocks = [name for name, point in MODEL.points.items() if is_block(point.address)]
    assert blocks == ["day_freeze_time", "day_freeze_energy_import"]
    assert all(is_block(identifier) for identifier in (0x0001FF00, 0x040005FF, 0x0000FF01))


@pytest.mark.parametrize(
    ("time", "date", "moment"),
    [("074011", "01020326", "2026-03-02T11:40:07"), ("604011", "01020326", None), ("ffffff", "ffffffff", None)],
)
def test_meter_clock_is_a_moment_or_nothing(time: str, date: str, moment: str | None) -> None:
    found = meter_clock(bytes.fromhex(time), bytes.fromhex(date))
    assert (None if found is None else found.isoformat()) == moment
