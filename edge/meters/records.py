"""What a meter model is made of: plain data, as one file says it.

Addresses are protocol addresses from 0. `closed` means supply on, `open` means supply cut: on/off is
avoided because vendors use it both ways. Times are milliseconds.
"""

import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from edge.core.lean import dataclass
from edge.meters.point import BINARY_TYPES, REGISTER_TYPES, Elsewhere, Point

READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
READ_DATA, CONTROL_SUPPLY = 0x11, 0x1C  # control codes of DL/T 645-2007
MODBUS, DLT645 = "modbus", "dlt645"
PROTOCOLS: Final = (MODBUS, DLT645)
_NOT_THERE: Final = 0xFF  # an octet of a data item that the meter does not fill
# Types of registers that are no number: two characters a register, one in its low byte, and whatever it is.
TEXT, TEXT_LOW_BYTES, RAW = "text", "text_low_bytes", "raw"
UNCOUNTED_TYPES: Final = (TEXT, TEXT_LOW_BYTES, RAW)


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """How the device wants to be talked to."""

    default_device_id: int
    default_baud: int
    default_format: str
    bauds: tuple[int, ...]  # empty where no source says
    max_read_registers: int  # READ_REGISTERS_UNKNOWN where no source says
    min_gap_ms: int  # silence wanted around each request; 0 where no source says
    max_response_ms: int | None
    even_register_reads_only: bool
    typical_response_ms: int | None = None
    write_function_codes: tuple[int, ...] = ()
    broadcast_supported: bool | None = None  # None where no source says
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Register:
    """A register that is no point: identity, a setting, a fault flag, a log. Nobody writes it unasked."""

    name: str
    function_code: int | None  # 3 or 4 reads it; None where it cannot be read
    write_function_code: int | None  # 6 or 16 writes it; None where no source says that it may be
    address: int
    type: str  # a type of a point, or text, text_low_bytes, raw
    count: int
    order: str
    scale: Decimal = Decimal(1)
    unit: str | None = None
    meanings: Mapping[int, int | str] | None = None  # what its numbers mean: a baud rate, a format, a state
    low: int | None = None
    high: int | None = None
    expect: tuple[int | str, ...] = ()  # one of these recognises the model; no other value proves anything
    default: int | None = None
    write_value: int | None = None  # the one value that is written, such as a password
    stride: int | None = None  # a log: registers from one record to the next
    records: int | None = None  # a log: how many records it keeps
    layout: str | None = None
    confidence: str | None = None
    note: str | None = None

    def decode(self, registers: Sequence[int]) -> Decimal | str:
        """A number as it stands times the scale, a text without its padding, or hexadecimal digits."""
        assert len(registers) == self.count, f"{self.name} takes {self.count} registers, got {len(registers)}"
        raw = struct.pack(f">{len(registers)}H", *registers)
        if self.type == RAW:
            return raw.hex()
        if self.type in (TEXT, TEXT_LOW_BYTES):
            characters = raw if self.type == TEXT else raw[1::2]
            return characters.decode("ascii", "replace").strip("\0 ")
        return Point(self.name, 3, self.address, self.type, self.order, "1", self.scale).decode(registers)

    def encode(self, number: int) -> tuple[int, ...]:
        """The words that set it to `number`, the raw one. Raises ValueError if it does not fit."""
        if self.type not in BINARY_TYPES:
            raise ValueError(f"{self.name}: a register of type {self.type} is not written")
        count, form = BINARY_TYPES[self.type]
        try:
            words = struct.unpack(f">{count}H", struct.pack(form, number))
        except struct.error as problem:
            raise ValueError(f"{self.name}: {number} does not fit into {self.type}") from problem
        return words if self.order == "msw" else words[::-1]


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """How supply is switched and how its state is read back. Channel n stands n addresses further."""

    channels: int
    command_function_code: int  # 5, 6 or 16; 1CH of DL/T 645, whose words are the command N1
    command_address: int
    close_words: tuple[int, ...]
    open_words: tuple[int, ...]
    readback_function_code: int  # 1..4; 11H of DL/T 645
    readback_address: int
    readback_count: int  # coils or registers; octets of a data item
    readback_mask: int  # over the read-back taken as one number, most significant word first
    closed_value: int
    open_value: int
    settle_ms: int  # wait between command and read-back
    fault: Register | None = None  # says that the contact is welded or stuck
    event_log: Register | None = None
    confidence: str | None = None
    note: str | None = None
    readback_elsewhere: Elsewhere | None = None

    def command_words(self, closed: bool) -> tuple[int, ...]:
        """What is written to close or to open."""
        return self.close_words if closed else self.open_words

    def state(self, words: Sequence[int]) -> bool | None:
        """True closed, False open, None when the read-back says neither."""
        if self.readback_function_code == READ_DATA:
            if set(words) == {_NOT_THERE}:
                return None
            number = int.from_bytes(bytes(words), "little")
            return {self.closed_value: True, self.open_value: False}.get(number & self.readback_mask)
        number = 0
        for word in words:
            number = number << (1 if self.readback_function_code <= READ_DISCRETE_INPUTS else 16) | word
        return {self.closed_value: True, self.open_value: False}.get(number & self.readback_mask)


@dataclass(frozen=True, slots=True)
class UnusableRelay:
    """A load switch that is known and not switched: what is known, and why that is not enough."""

    reason: str
    function_code: int
    address: int
    count: int
    close_words: tuple[int, ...]  # empty where they are not known or not constant
    open_words: tuple[int, ...]
    layout: str | None
    readback: str | None
    confidence: str | None


@dataclass(frozen=True, slots=True)
class AllowedWrite:
    """A write the gateway may send to this model; everything else is refused before it is built."""

    function_code: int
    address: int
    count: int
    purpose: str


@dataclass(frozen=True, slots=True)
class ForbiddenWrite:
    """What must stay out of reach, e.g. an energy reset. The loader holds everything that is written to it."""

    address: int
    count: int
    reason: str
    function_code: int | None = None  # a function forbidden on all addresses, such as a vendor's own reset


@dataclass(frozen=True, slots=True)
class Commissioning:
    """How a change of address, baud rate or parity is brought about, besides writing it."""

    activation: str | None = None
    general_device_id: int | None = None  # answers whatever its address is, when it is alone on the line
    note: str | None = None


@dataclass(frozen=True, slots=True)
class MeterModel:
    """One kind of device. A relay board has no points and no money register."""

    id: str
    vendor: str
    name: str
    phases: int  # 0 for a device that measures nothing
    confidence: str
    link: LinkSpec
    points: Mapping[str, Point]
    money_point: str | None  # the register that is charged: import, never a configurable total
    identity: Mapping[str, Register]
    relay: RelaySpec | None
    write_allowed: tuple[AllowedWrite, ...]
    write_forbidden: tuple[ForbiddenWrite, ...]
    hazards: tuple[str, ...]
    sources: tuple[str, ...]
    settings: Mapping[str, Register]  # address, baud, parity_stop ...: written at commissioning and never else
    other_registers: Mapping[str, Register]
    prepaid: Mapping[str, Register]  # the meter's own prepaid engine, which a gateway must not fight
    commissioning: Commissioning
    unusable_relay: UnusableRelay | None = None
    no_relay_reason: str | None = None
    incomplete: str | None = None  # why nothing can be read or switched; None for a model that is of use
    tariff_note: str | None = None
    confidence_note: str | None = None
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    protocol: str = MODBUS
    round_points: tuple[str, ...] = ()  # all that the gateway reads every round, where all would be slow; empty: all

    def allows_write(self, function_code: int, address: int, count: int) -> bool:
        """Whether this exact write is on the model's list."""
        return any(
            (row.function_code, row.address, row.count) == (function_code, address, count) for row in self.write_allowed
        )


def register_count(register_type: str) -> int | None:
    """How many registers a type takes; None for texts and raw, whose file says it."""
    return REGISTER_TYPES.get(register_type)
