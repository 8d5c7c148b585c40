"""One value of a meter: where its registers stand and what they mean, exactly.

Values are exact decimals in the point's unit. A float register is taken as the very number its
bits say (every binary float is a finite decimal), so nothing drifts. Energy for accounting is
the floor of the exact value in Wh. Source: RULES.md 10 (precision), facts of the meter models.
"""

import struct
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Final

from edge.core.lean import dataclass
from edge.core.units import WattHours

# Binary types: registers each takes, and how struct reads it once the most significant word is first.
BINARY_TYPES: Final[dict[str, tuple[int, str]]] = {
    "u16": (1, ">H"),
    "s16": (1, ">h"),
    "u32": (2, ">I"),
    "s32": (2, ">i"),
    "f32": (2, ">f"),
    "u64": (4, ">Q"),
    "s64": (4, ">q"),
    "f64": (4, ">d"),
}
# Decimal types: four digits a register, each digit in four bits.
BCD_TYPES: Final[dict[str, int]] = {"bcd16": 1, "bcd32": 2, "bcd48": 3, "bcd64": 4}
# Decimal types: four digits a register, the register a number 0 to 9999.
MOD10_TYPES: Final[dict[str, int]] = {"mod10_32": 2, "mod10_48": 3, "mod10_64": 4}
# Types of data items in octets, least significant first: decimal digits, the same with a sign in the top bit, bits.
OCTET_TYPES: Final[dict[str, int]] = {
    "octet_bcd16": 2,
    "octet_bcd24": 3,
    "octet_bcd32": 4,
    "octet_bcd40": 5,
    "octet_bcd48": 6,
    "octet_signed24": 3,
    "octet_bits16": 2,
}
REGISTER_TYPES: Final[dict[str, int]] = {
    **{name: count for name, (count, _) in BINARY_TYPES.items()},
    **BCD_TYPES,
    **MOD10_TYPES,
}
WORD_ORDERS: Final = ("msw", "lsw")
WATT_HOURS_PER_UNIT: Final[dict[str, int]] = {"Wh": 1, "kWh": 1_000, "MWh": 1_000_000}
UNITS: Final = ("V", "A", "W", "var", "VA", "Hz", "1", "kvarh", *WATT_HOURS_PER_UNIT)

_SIGN: Final = 0x80
_WORDS: Final = {count: f">{count}H" for count in range(1, 5)}
_EXPONENT_BITS: Final[dict[str, tuple[int, int]]] = {"f32": (23, 0xFF), "f64": (52, 0x7FF)}
# The longest exact binary64 has 767 digits; a product that would be rounded is a bug, hence the trap.
_EXACT: Final = Context(prec=1200, traps=[Inexact, InvalidOperation])


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another read that holds the same value: a block around it."""

    address: int
    count: int
    offset: int  # of the value in the block


class ValueRefused(ValueError):
    """The registers hold no usable number; `reason` is counted like a fault of the line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a meter. The value in `unit` is the raw number times `scale`."""

    name: str
    function_code: int  # 3 holding registers, 4 input registers; 11H of DL/T 645: a data item
    address: int  # as on the wire, from 0; of a data item its identifier
    type: str
    order: str  # msw: most significant word first; lsw: least significant word first
    unit: str
    scale: Decimal
    invalid: int | None = None  # raw pattern by which the meter says "no value"
    confidence: str | None = None  # where it differs from the model's
    note: str | None = None
    elsewhere: Elsewhere | None = None

    @property
    def count(self) -> int:
        """How many registers the point takes; of a data item how many octets."""
        return REGISTER_TYPES.get(self.type) or OCTET_TYPES[self.type]

    def decode(self, registers: Sequence[int]) -> Decimal:
        """The exact value. Raises ValueRefused for not-a-number, infinity and the invalid pattern."""
        raw = self.raw_bytes(registers)
        value = Decimal(number_of(self.type, raw, self.name))
        return value if self.scale == 1 else _EXACT.multiply(value, self.scale)

    def raw_bytes(self, registers: Sequence[int]) -> bytes:
        """The registers' bytes, most significant word first. Raises ValueRefused as `decode` does, but for digits."""
        assert len(registers) == self.count, f"{self.name} takes {self.count} registers, got {len(registers)}"
        if self.type in OCTET_TYPES:
            raw = bytes(reversed(registers))
        else:
            raw = struct.pack(_WORDS[self.count], *(registers if self.order == "msw" else reversed(registers)))
        bits = int.from_bytes(raw, "big")
        if bits == self.invalid:
            raise ValueRefused("invalid_value", f"{self.name}: the meter says it has no value (0x{raw.hex()})")
        if self.type in _EXPONENT_BITS and _exponent(bits, self.type) == _EXPONENT_BITS[self.type][1]:
            raise ValueRefused("not_a_number", f"{self.name}: 0x{raw.hex()} is not a finite number")
        return raw

    def wire_bytes(self, registers: Sequence[int]) -> bytes:
        """The bytes as they came."""
        return bytes(registers) if self.type in OCTET_TYPES else struct.pack(_WORDS[self.count], *registers)

    def resolution(self, registers: Sequence[int]) -> Fraction:
        """One step of the register at this reading, in `unit`: grows with the value for floats."""
        return _step(self.type, self.exponent(registers), self.scale)

    def exponent(self, registers: Sequence[int]) -> int:
        """The binary exponent of a float register as it stands in its bits, at least 1; 0 for all else."""
        if self.type not in _EXPONENT_BITS:
            return 0
        return max(_exponent(int.from_bytes(self.raw_bytes(registers), "big"), self.type), 1)


def doubts_of(point: Point) -> tuple[tuple[int, int, int], ...] | None:
    """How to see without decoding that `decode` will not refuse: rows of (register, mask, pattern).

    If no row's register shows its pattern under its mask, there is a value. A row that does decides nothing:
    only `decode` knows. None: `decode` every time (digits).
    """
    if point.type not in BINARY_TYPES:
        return None
    top = 0 if point.order == "msw" else point.count - 1
    rows = []
    if point.invalid is not None:
        rows.append((top, 0xFFFF, point.invalid >> 16 * (point.count - 1)))
    if point.type in _EXPONENT_BITS:
        mantissa_bits, exponent_mask = _EXPONENT_BITS[point.type]
        mask = exponent_mask << mantissa_bits >> 16 * (point.count - 1)
        rows.append((top, mask, mask))
    return tuple(rows)


def number_of(register_type: str, raw: bytes, name: str) -> int | float:
    """The number in `raw`, most significant word first. Raises ValueRefused for digits that are none."""
    if register_type in BINARY_TYPES:
        number: int | float = struct.unpack(BINARY_TYPES[register_type][1], raw)[0]
        return number
    if register_type == "octet_bits16":
        return int.from_bytes(raw, "big")
    negative = register_type == "octet_signed24" and raw[0] >= _SIGN
    if negative:
        raw = bytes((raw[0] - _SIGN, *raw[1:]))
    text = raw.hex()
    if register_type in MOD10_TYPES:
        text = "".join(f"{word:04d}" for word in struct.unpack(f">{len(raw) // 2}H", raw))
    if len(text) != 2 * len(raw) or not text.isdecimal():
        raise ValueRefused("not_a_number", f"{name}: 0x{raw.hex()} is not {register_type}")
    return -int(text) if negative else int(text)


def register_wh(point: Point, registers: Sequence[int]) -> WattHours:
    """A cumulative energy register in Wh: the floor of its exact value. Refuses a negative one."""
    number = number_of(point.type, point.raw_bytes(registers), point.name)
    wh_per_step = _wh_per_step(point.scale, point.unit)
    numerator, denominator = number.as_integer_ratio()
    numerator *= wh_per_step.numerator
    if numerator < 0:
        raise ValueRefused("negative_register", f"{point.name}: a cumulative register cannot be negative")
    return WattHours(numerator // (denominator * wh_per_step.denominator))


def resolution_wh(point: Point, registers: Sequence[int]) -> WattHours:
    """One step of an energy register in Wh, rounded up, at least 1."""
    return _step_wh(point.type, point.exponent(registers), point.scale, point.unit)


@lru_cache(maxsize=256)
def _wh_per_step(scale: Decimal, unit: str) -> Fraction:
    return Fraction(scale) * WATT_HOURS_PER_UNIT[unit]


@lru_cache(maxsize=256)
def _step_wh(register_type: str, exponent: int, scale: Decimal, unit: str) -> WattHours:
    step, wh_per_unit = _step(register_type, exponent, scale), WATT_HOURS_PER_UNIT[unit]
    return WattHours(max(1, -(-step.numerator * wh_per_unit // step.denominator)))


@lru_cache(maxsize=256)  # a register seldom passes a power of two
def _step(register_type: str, exponent: int, scale: Decimal) -> Fraction:
    """One step of a register with this binary exponent (no exponent: an integer's)."""
    if register_type not in _EXPONENT_BITS:
        return Fraction(scale)
    mantissa_bits, exponent_mask = _EXPONENT_BITS[register_type]
    return Fraction(2) ** (exponent - (exponent_mask >> 1) - mantissa_bits) * Fraction(scale)


def _exponent(bits: int, register_type: str) -> int:
    mantissa_bits, exponent_mask = _EXPONENT_BITS[register_type]
    return (bits >> mantissa_bits) & exponent_mask
