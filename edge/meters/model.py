"""A meter model: what one kind of device can be asked and told, read from one data file.

Addresses are protocol addresses from 0. `closed` means supply on, `open` means supply cut:
on/off is avoided because vendors use it both ways. Source of each file: its `sources`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from edge.core.units import WattHours
from edge.meters import point as points
from edge.meters.checked_table import CheckedTable, ModelError
from edge.meters.point import REGISTER_TYPES, UNITS, WATT_HOURS_PER_UNIT, WORD_ORDERS, Point, ValueRefused

__all__ = [
    "AllowedWrite",
    "ForbiddenWrite",
    "LinkSpec",
    "MeterModel",
    "ModelError",
    "Point",
    "RelaySpec",
    "ValueRefused",
    "known_models",
    "load_model",
    "register_wh",
]

READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
# Where a model does not say how many registers one read may ask for.
READ_REGISTERS_UNKNOWN: Final = 50
READ_REGISTERS_MAX: Final = 125  # Modbus V1.1b3, 6.3
_ADDRESS_MAX: Final = 0xFFFF
_WORD_MAX: Final = 0xFFFF
_FORMATS: Final = ("8N1", "8N2", "8E1", "8O1")
_CONFIDENCES: Final = ("vendor", "multi", "single", "standard")


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """How the device wants to be talked to."""

    default_device_id: int
    default_baud: int
    default_format: str
    bauds: tuple[int, ...]
    max_read_registers: int  # READ_REGISTERS_UNKNOWN where no source says
    min_gap_ms: int  # silence wanted around each request; 0 where no source says
    max_response_ms: int | None
    even_register_reads_only: bool


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """How supply is switched and how its state is read back. Channel n stands n addresses further."""

    channels: int
    command_function_code: int  # 5, 6 or 16
    command_address: int
    close_words: tuple[int, ...]
    open_words: tuple[int, ...]
    readback_function_code: int  # 1..4
    readback_address: int
    readback_count: int  # coils or registers
    readback_mask: int  # over the read-back taken as one number, most significant word first
    closed_value: int
    open_value: int
    settle_ms: int  # wait between command and read-back

    def command_words(self, closed: bool) -> tuple[int, ...]:
        return self.close_words if closed else self.open_words

    def state(self, words: Sequence[int]) -> bool | None:
        """True closed, False open, None when the read-back says neither."""
        number = 0
        for word in words:
            number = number << (1 if self.readback_function_code <= READ_DISCRETE_INPUTS else 16) | word
        return {self.closed_value: True, self.open_value: False}.get(number & self.readback_mask)


@dataclass(frozen=True, slots=True)
class AllowedWrite:
    """A write the gateway may send to this model; everything else is refused before it is built."""

    function_code: int
    address: int
    count: int
    purpose: str


@dataclass(frozen=True, slots=True)
class ForbiddenWrite:
    """Addresses that must stay out of reach, e.g. an energy reset. The loader holds the allow-list to it."""

    address: int
    count: int
    reason: str


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
    identity: Mapping[str, Point]
    relay: RelaySpec | None
    write_allowed: tuple[AllowedWrite, ...]
    write_forbidden: tuple[ForbiddenWrite, ...]
    hazards: tuple[str, ...]
    sources: tuple[str, ...]

    def allows_write(self, function_code: int, address: int, count: int) -> bool:
        """Whether this exact write is on the model's list."""
        return any(
            (row.function_code, row.address, row.count) == (function_code, address, count) for row in self.write_allowed
        )


def load_model(model_id: str, folder: Path | None = None) -> MeterModel:
    """The model `model_id` of `folder` (default: the models shipped). Raises ModelError."""
    place = folder or _shipped_folder()
    path = place / f"{model_id}.toml"
    if model_id not in known_models(place):
        raise ModelError(path.name, "id", model_id, ", ".join(known_models(place)) or f"no model file in {place}")
    return _model_of_file(path, path.stat().st_mtime_ns)


def known_models(folder: Path | None = None) -> tuple[str, ...]:
    """Ids of the models that have a file, sorted."""
    return tuple(sorted(path.stem for path in (folder or _shipped_folder()).glob("*.toml")))


def register_wh(point: Point, registers: Sequence[int]) -> WattHours:
    """A cumulative energy register in Wh: the floor of its exact value."""
    return points.register_wh(point, registers)


@lru_cache(maxsize=64)
def _model_of_file(path: Path, changed_ns: int) -> MeterModel:
    """Read once for all meters of a model, and again when the file has changed."""
    return _read_model(CheckedTable.from_file(path), path.stem)


def _shipped_folder() -> Path:
    return Path(__file__).parent


def _read_model(table: CheckedTable, model_id: str) -> MeterModel:
    if table.text("id") != model_id:
        raise table.refusal("id", table.text("id"), f"the name of the file, {model_id}")
    model = MeterModel(
        id=model_id,
        vendor=table.text("vendor"),
        name=table.text("model"),
        phases=table.one_of("phases", (0, 1, 3)),
        confidence=table.text("confidence", _CONFIDENCES),
        link=_read_link(table.table("link")),
        points=MappingProxyType({name: _read_point(name, row) for name, row in table.named_tables("points")}),
        money_point=table.text("money_point") if table.has("money_point") else None,
        identity=MappingProxyType({name: _read_identity(name, row) for name, row in table.named_tables("identity")}),
        relay=_read_relay(table.table("relay")) if table.has("relay") else None,
        write_allowed=tuple(map(_read_allowed, table.listed_tables("write_allowed"))),
        write_forbidden=tuple(map(_read_forbidden, table.listed_tables("write_forbidden"))),
        hazards=table.texts("hazards"),
        sources=table.texts("sources"),
    )
    table.done()
    _check_whole(model, table)
    return model


def _check_whole(model: MeterModel, table: CheckedTable) -> None:
    """What no single key can show: the parts must fit each other."""
    if model.points:
        money = model.points.get(model.money_point or "")
        if money is None or money.unit not in WATT_HOURS_PER_UNIT:
            energies = ", ".join(name for name, row in model.points.items() if row.unit in WATT_HOURS_PER_UNIT)
            raise table.refusal("money_point", model.money_point, energies or "the name of an energy point")
    elif model.relay is None or model.money_point is not None:
        raise table.refusal("points", {}, "at least one point with money_point, or a relay and neither")
    for allowed in model.write_allowed:
        for forbidden in model.write_forbidden:
            if (
                allowed.address < forbidden.address + forbidden.count
                and forbidden.address < allowed.address + allowed.count
            ):
                raise table.refusal("write_allowed", hex(allowed.address), f"not this address: {forbidden.reason}")
    if model.relay is not None:
        for channel in range(model.relay.channels):
            address = model.relay.command_address + channel
            count = len(model.relay.close_words)
            if not model.allows_write(model.relay.command_function_code, address, count):
                raise table.refusal("write_allowed", f"no row for relay channel {channel}", f"a row for {address:#06x}")


def _read_link(table: CheckedTable) -> LinkSpec:
    read_max = table.optional_integer("max_read_registers", 2, READ_REGISTERS_MAX)
    link = LinkSpec(
        default_device_id=table.integer("default_device_id", 1, 247),
        default_baud=table.integer("default_baud", 300, 1_000_000),
        default_format=table.text("default_format", _FORMATS),
        bauds=table.integers("bauds", 300, 1_000_000),
        max_read_registers=READ_REGISTERS_UNKNOWN if read_max is None else read_max,
        min_gap_ms=table.optional_integer("min_gap_ms", 0, 1_000) or 0,
        max_response_ms=table.optional_integer("max_response_ms", 1, 10_000),
        even_register_reads_only=table.boolean("even_register_reads_only"),
    )
    table.done()
    if link.default_baud not in link.bauds:
        raise table.refusal("default_baud", link.default_baud, f"one of bauds: {', '.join(map(str, link.bauds))}")
    return link


def _read_point(name: str, table: CheckedTable) -> Point:
    return _read_place(name, table, table.text("unit", UNITS), table.decimal("scale"))


def _read_identity(name: str, table: CheckedTable) -> Point:
    """A number that tells what the device is, such as its serial: no unit, no scale."""
    return _read_place(name, table, "1", Decimal(1))


def _read_place(name: str, table: CheckedTable, unit: str, scale: Decimal) -> Point:
    point = Point(
        name=name,
        function_code=table.one_of("function_code", (READ_HOLDING, READ_INPUT)),
        address=table.integer("address", 0, _ADDRESS_MAX),
        type=table.text("type", tuple(REGISTER_TYPES)),
        order=table.text("order", WORD_ORDERS),
        unit=unit,
        scale=scale,
        invalid=table.optional_integer("invalid", 0, 2**64 - 1),
    )
    table.done()
    if point.address + point.count - 1 > _ADDRESS_MAX:
        raise table.refusal("address", point.address, f"at most {_ADDRESS_MAX + 1 - point.count} for {point.type}")
    return point


def _read_relay(table: CheckedTable) -> RelaySpec:
    command, readback = table.table("command"), table.table("readback")
    function_code = command.one_of("function_code", (WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS))
    readback_function_code = readback.one_of(
        "function_code", (READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT)
    )
    count = readback.integer("count", 1, 4)
    value_max = (1 << (count if readback_function_code <= READ_DISCRETE_INPUTS else 16 * count)) - 1
    mask = readback.optional_integer("mask", 1, value_max)
    relay = RelaySpec(
        channels=table.integer("channels", 1, 64),
        command_function_code=function_code,
        command_address=command.integer("address", 0, _ADDRESS_MAX),
        close_words=command.integers("close", 0, _WORD_MAX),
        open_words=command.integers("open", 0, _WORD_MAX),
        readback_function_code=readback_function_code,
        readback_address=readback.integer("address", 0, _ADDRESS_MAX),
        readback_count=count,
        readback_mask=value_max if mask is None else mask,
        closed_value=readback.integer("closed", 0, value_max),
        open_value=readback.integer("open", 0, value_max),
        settle_ms=table.optional_integer("settle_ms", 0, 10_000) or 0,
    )
    for part in (command, readback, table):
        part.done()
    _check_relay(relay, command, readback)
    return relay


def _check_relay(relay: RelaySpec, command: CheckedTable, readback: CheckedTable) -> None:
    if relay.closed_value == relay.open_value:
        raise readback.refusal("open", relay.open_value, "not the value that means closed")
    if len(relay.close_words) != len(relay.open_words) or relay.close_words == relay.open_words:
        raise command.refusal("open", relay.open_words, "as many words as close, and different ones")
    if relay.command_function_code == WRITE_COIL and not {*relay.close_words, *relay.open_words} <= {0xFF00, 0x0000}:
        raise command.refusal("close", relay.close_words, "0xFF00 or 0x0000 for a coil (Modbus V1.1b3, 6.5)")
    if relay.command_function_code != WRITE_REGISTERS and len(relay.close_words) != 1:
        raise command.refusal("close", relay.close_words, "one word for function codes 5 and 6")


def _read_allowed(table: CheckedTable) -> AllowedWrite:
    allowed = AllowedWrite(
        function_code=table.one_of("function_code", (WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS)),
        address=table.integer("address", 0, _ADDRESS_MAX),
        count=table.integer("count", 1, 123),
        purpose=table.text("purpose"),
    )
    table.done()
    return allowed


def _read_forbidden(table: CheckedTable) -> ForbiddenWrite:
    forbidden = ForbiddenWrite(
        address=table.integer("address", 0, _ADDRESS_MAX),
        count=table.integer("count", 1, 0x10000),
        reason=table.text("reason"),
    )
    table.done()
    return forbidden
