"""Values of data items, and those that are none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dlt645.frame import Answer, Refused
from edge.dlt645.items import ITEMS, STATUS_BITS, status_bit, value_of


def read(name: str, data: str, more: bool = False) -> Decimal | Refused:
    return value_of(ITEMS[name], Answer("000000000001", bytes.fromhex(data), more))


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("energy_import_total", "56341200", "1234.56"),
        ("energy_import_total", "99999999", "999999.99"),
        ("voltage_l1", "0322", "220.3"),
        ("current_l2", "125000", "5.012"),
        ("current_l2", "125080", "-5.012"),
        ("power_total", "241001", "1.1024"),
        ("power_l3", "241081", "-1.1024"),
        ("frequency", "0050", "50.00"),
        ("day_freeze_time", "0000020326", "2603020000"),
        ("day_freeze_energy_import", "00001200" + "00000000" * 4, "1200.00"),
        ("status_word_3", "5000", "80"),
    ],
)
def test_value_is_exact(name: str, data: str, value: str) -> None:
    assert read(name, data) == Decimal(value)
    assert str(read(name, data)) == value


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("energy_import_total", "5634120A", "not_decimal"),
        ("energy_import_total", "FFFFFFFF", "not_decimal"),
        ("energy_import_total", "563412", "wrong_length"),
        ("energy_import_total", "5634120000000000", "wrong_length"),
        ("voltage_l1", "0380", None),
        ("voltage_l1", "03F0", "not_decimal"),
        ("current_l1", "1250FF", "not_decimal"),
        ("day_freeze_energy_import", "0000120000FF0000", "not_decimal"),
        ("day_freeze_energy_import", "00" * 4 * 65, "wrong_length"),
    ],
)
def test_what_is_no_value_is_refused(name: str, data: str, reason: str | None) -> None:
    found = read(name, data)
    assert (found.reason if isinstance(found, Refused) else None) == reason


def test_a_part_of_an_item_is_no_value() -> None:
    assert read("energy_import_total", "56341200", more=True) == Refused("more_than_asked")


@given(st.integers(0, 99_999_999))
def test_every_register_of_eight_digits_reads_as_it_is_shown(hundredths: int) -> None:
    data = bytes.fromhex(f"{hundredths:08d}")[::-1].hex()
    assert read("energy_import_total", data) == Decimal(hundredths) / 100


def test_relay_bits_are_those_of_status_word_3() -> None:
    assert status_bit("relay_open", Decimal(0x10))
    assert not status_bit("relay_open", Decimal(0xEF))
    assert status_bit("relay_commanded_open", Decimal(0x40))
    assert all(word in ITEMS for word, _ in STATUS_BITS.values())


def test_no_identifier_stands_twice() -> None:
    assert len({item.identifier for item in ITEMS.values()}) == len(ITEMS)
