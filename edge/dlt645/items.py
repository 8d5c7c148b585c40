"""Data items of DL/T 645-2007 as a table, and their values as exact decimals.

Values are packed BCD, low byte first. Units: kWh, V, A, kW, Hz; status words are whole numbers.
Source: DL/T 645-2007 annex A, tables A.1 (energy), A.3 (variables), A.5 (status words), A.6 (freezes).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from edge.dlt645.frame import Answer, Refused

_SIGN: Final = 0x80
_RATES_MAX: Final = 63


@dataclass(frozen=True, slots=True)
class Item:
    """One data item. `rates` allows further values of the same form after the first, one for each rate."""

    name: str
    identifier: int
    length_bytes: int
    decimals: int
    unit: str
    kind: Literal["bcd", "signed", "bits"] = "bcd"
    rates: bool = False


_ITEMS: Final = (
    Item("energy_import_total", 0x00010000, 4, 2, "kWh"),
    Item("energy_import_sharp", 0x00010100, 4, 2, "kWh"),
    Item("energy_import_peak", 0x00010200, 4, 2, "kWh"),
    Item("energy_import_flat", 0x00010300, 4, 2, "kWh"),
    Item("energy_import_valley", 0x00010400, 4, 2, "kWh"),
    Item("energy_export_total", 0x00020000, 4, 2, "kWh"),
    Item("voltage_l1", 0x02010100, 2, 1, "V"),
    Item("voltage_l2", 0x02010200, 2, 1, "V"),
    Item("voltage_l3", 0x02010300, 2, 1, "V"),
    Item("current_l1", 0x02020100, 3, 3, "A", "signed"),
    Item("current_l2", 0x02020200, 3, 3, "A", "signed"),
    Item("current_l3", 0x02020300, 3, 3, "A", "signed"),
    Item("power_total", 0x02030000, 3, 4, "kW", "signed"),
    Item("power_l1", 0x02030100, 3, 4, "kW", "signed"),
    Item("power_l2", 0x02030200, 3, 4, "kW", "signed"),
    Item("power_l3", 0x02030300, 3, 4, "kW", "signed"),
    Item("frequency", 0x02800002, 2, 2, "Hz"),
    Item("status_word_1", 0x04000501, 2, 0, "", "bits"),
    Item("status_word_2", 0x04000502, 2, 0, "", "bits"),
    Item("status_word_3", 0x04000503, 2, 0, "", "bits"),
    Item("status_word_4", 0x04000504, 2, 0, "", "bits"),
    Item("status_word_5", 0x04000505, 2, 0, "", "bits"),
    Item("status_word_6", 0x04000506, 2, 0, "", "bits"),
    Item("status_word_7", 0x04000507, 2, 0, "", "bits"),
    Item("day_freeze_time", 0x05060001, 5, 0, "YYMMDDhhmm"),
    Item("day_freeze_energy_import", 0x05060101, 4, 2, "kWh", rates=True),
)
ITEMS: Final[Mapping[str, Item]] = {item.name: item for item in _ITEMS}

# Bits that other parts ask for, by name: (status word, bit). A set relay bit means open.
STATUS_BITS: Final[Mapping[str, tuple[str, int]]] = {
    "relay_open": ("status_word_3", 4),
    "relay_commanded_open": ("status_word_3", 6),
    "phase_lost_l1": ("status_word_4", 7),
    "phase_lost_l2": ("status_word_5", 7),
    "phase_lost_l3": ("status_word_6", 7),
    "phase_sequence_reversed": ("status_word_7", 0),
}


def value_of(item: Item, answer: Answer) -> Decimal | Refused:
    """The (first) value of an answer to this item, or why it cannot be one."""
    if answer.more and not item.rates:
        return Refused("more_than_asked")
    length, rest = divmod(len(answer.data), item.length_bytes)
    if rest or length < 1 or length > (1 + _RATES_MAX if item.rates else 1):
        return Refused("wrong_length")
    values = [
        _value(item, answer.data[start : start + item.length_bytes])
        for start in range(0, len(answer.data), item.length_bytes)
    ]
    return next((value for value in values if isinstance(value, Refused)), values[0])


def status_bit(name: str, word: Decimal) -> bool:
    """A bit of a status word by the names of `STATUS_BITS`."""
    return bool(int(word) >> STATUS_BITS[name][1] & 1)


def _value(item: Item, data: bytes) -> Decimal | Refused:
    if item.kind == "bits":
        return Decimal(int.from_bytes(data, "little"))
    negative = item.kind == "signed" and bool(data[-1] & _SIGN)
    if negative:
        data = data[:-1] + bytes((data[-1] & ~_SIGN,))
    digits = data[::-1].hex()
    if not digits.isdigit():  # FFH stands for "not there" in many meters
        return Refused("not_decimal", digits.upper())
    value = Decimal(int(digits)).scaleb(-item.decimals)
    return -value if negative else value
