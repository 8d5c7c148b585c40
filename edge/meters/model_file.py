"""Reads one model file, whole, or refuses it with file, key, what was found and what is allowed.

The schema stands here, key by key; a key nobody asks for is refused. Source: Modbus Application
Protocol V1.1b3 for the limits.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Final

from edge.meters.checked_table import CheckedTable
from edge.meters.point import REGISTER_TYPES, UNITS, WATT_HOURS_PER_UNIT, WORD_ORDERS, Point
from edge.meters.records import (
    MODBUS,
    PROTOCOLS,
    READ_COILS,
    READ_DISCRETE_INPUTS,
    READ_HOLDING,
    READ_INPUT,
    UNCOUNTED_TYPES,
    WRITE_COIL,
    WRITE_REGISTER,
    WRITE_REGISTERS,
    AllowedWrite,
    Commissioning,
    ForbiddenWrite,
    LinkSpec,
    MeterModel,
    Register,
    RelaySpec,
    UnusableRelay,
    register_count,
)

# Where a model does not say how many registers one read may ask for.
READ_REGISTERS_UNKNOWN: Final = 50
READ_REGISTERS_MAX: Final = 125  # Modbus V1.1b3, 6.3
WRITE_REGISTERS_MAX: Final = 123  # Modbus V1.1b3, 6.12
_ADDRESS_MAX: Final = 0xFFFF
_WORD_MAX: Final = 0xFFFF
_ID_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_ID_LENGTH_MAX: Final = 48
_FORMATS: Final = ("8N1", "8N2", "8E1", "8O1")
_CONFIDENCES: Final = ("vendor", "multi", "single", "standard", "mixed")
_CONFIDENCES_OF_A_PART: Final = (*_CONFIDENCES, "assumed", "disputed", "extrapolated", "unverified")
_WRITES: Final = (WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS)


def read_model_file(path: Path) -> MeterModel:
    """The model of one file. Raises ModelError."""
    return _read_model(CheckedTable.from_file(path), path.stem)


def _read_model(table: CheckedTable, stem: str) -> MeterModel:
    protocol = table.optional_text("protocol", PROTOCOLS) or MODBUS
    read_link, read_point, read_relay, read_writes = _read_link, _read_point, _read_relay, _read_writes
    if protocol != MODBUS:
        from edge.meters import data_items

        read_link, read_point, read_relay, read_writes = data_items.READERS
    model = MeterModel(
        id=_read_id(table, stem),
        vendor=table.text("vendor"),
        name=table.text("model"),
        phases=table.one_of("phases", (0, 1, 3)),
        confidence=table.text("confidence", _CONFIDENCES),
        link=read_link(table.table("link")),
        points=MappingProxyType({name: read_point(name, row) for name, row in table.named_tables("points")}),
        money_point=table.optional_text("money_point"),
        identity=_read_registers(table, "identity"),
        relay=read_relay(table.table("relay")) if table.has("relay") else None,
        write_allowed=read_writes(table),
        write_forbidden=tuple(map(_read_forbidden, table.listed_tables("write_forbidden"))),
        hazards=table.texts("hazards"),
        sources=table.texts("sources"),
        settings=_read_registers(table, "settings"),
        other_registers=_read_registers(table, "other_registers"),
        prepaid=_read_registers(table, "prepaid"),
        commissioning=_read_commissioning(table),
        unusable_relay=_read_unusable_relay(table.table("unusable_relay")) if table.has("unusable_relay") else None,
        no_relay_reason=table.optional_text("no_relay_reason"),
        incomplete=table.optional_text("incomplete"),
        tariff_note=table.optional_text("tariff_note"),
        confidence_note=table.optional_text("confidence_note"),
        variants=table.optional_texts("variants"),
        notes=table.optional_texts("notes"),
        protocol=protocol,
        round_points=table.optional_texts("round_points"),
    )
    table.done()
    for check in (_check_points, _check_usable, _check_writes, _check_relay_is_allowed):
        check(model, table)
    return model


def _read_id(table: CheckedTable, stem: str) -> str:
    model_id = table.text("id")
    if model_id != stem:
        raise table.refusal("id", model_id, f"the name of the file, {stem}")
    if len(model_id) > _ID_LENGTH_MAX or not _ID_CHARACTERS.issuperset(model_id):
        raise table.refusal("id", model_id, f"a-z, 0-9 and _, at most {_ID_LENGTH_MAX} characters")
    return model_id


# --- what no single key can show: the parts must fit each other --------------------------------


def _check_points(model: MeterModel, table: CheckedTable) -> None:
    money = model.points.get(model.money_point or "")
    if model.points and (money is None or money.unit not in WATT_HOURS_PER_UNIT):
        energies = ", ".join(name for name, row in model.points.items() if row.unit in WATT_HOURS_PER_UNIT)
        raise table.refusal("money_point", model.money_point, energies or "the name of an energy point")
    for name in model.round_points:
        if name not in model.points:
            raise table.refusal("round_points", name, ", ".join(model.points) or "no such key without points")
    if not model.points and model.money_point is not None:
        raise table.refusal("money_point", model.money_point, "no such key in a model without points")
    for name, point in model.points.items():
        if model.protocol == MODBUS and point.count > model.link.max_read_registers:
            allowed = f"at least {point.count}, which point {name} takes"
            raise table.refusal("link.max_read_registers", model.link.max_read_registers, allowed)


def _check_usable(model: MeterModel, table: CheckedTable) -> None:
    if not model.points and model.relay is None and model.incomplete is None:
        raise table.refusal("points", {}, "at least one point with money_point, or a relay, or incomplete = a reason")
    if (model.points or model.relay) and model.incomplete is not None:
        raise table.refusal("incomplete", model.incomplete, "no such key in a model that can be read or switched")
    for key, switch in (("unusable_relay", model.unusable_relay), ("no_relay_reason", model.no_relay_reason)):
        if model.relay is not None and switch is not None:
            raise table.refusal(key, "a reason", "no such key in a model with a relay")


def _check_writes(model: MeterModel, table: CheckedTable) -> None:
    for key, function_code, address, count in _writes(model):
        for row in model.write_forbidden:
            if row.function_code is not None:
                touched = row.function_code == function_code
            else:
                touched = address < row.address + row.count and row.address < address + count
            if touched:
                raise table.refusal(key, hex(address), f"not this address: {row.reason}")
        if model.link.write_function_codes and function_code not in model.link.write_function_codes:
            known = ", ".join(map(str, model.link.write_function_codes))
            raise table.refusal(key, f"function code {function_code}", f"link.write_function_codes: {known}")


def _writes(model: MeterModel) -> Iterator[tuple[str, int, int, int]]:
    """All that is ever written: (key, function code, address, count)."""
    for allowed in model.write_allowed:
        yield "write_allowed", allowed.function_code, allowed.address, allowed.count
    for name, setting in model.settings.items():
        if setting.write_function_code is not None:
            yield f"settings.{name}", setting.write_function_code, setting.address, setting.count


def _check_relay_is_allowed(model: MeterModel, table: CheckedTable) -> None:
    if model.relay is None:
        return
    for channel in range(model.relay.channels):
        address = model.relay.command_address + channel
        if not model.allows_write(model.relay.command_function_code, address, len(model.relay.close_words)):
            raise table.refusal("write_allowed", f"no row for relay channel {channel}", f"a row for {address:#06x}")


# --- the tables ----------------------------------------------------------------------------------


def _read_link(table: CheckedTable) -> LinkSpec:
    read_max = table.optional_integer("max_read_registers", 1, READ_REGISTERS_MAX)
    link = LinkSpec(
        default_device_id=table.integer("default_device_id", 1, 247),
        default_baud=table.integer("default_baud", 300, 1_000_000),
        default_format=table.text("default_format", _FORMATS),
        bauds=table.optional_integers("bauds", 300, 1_000_000),
        max_read_registers=READ_REGISTERS_UNKNOWN if read_max is None else read_max,
        min_gap_ms=table.optional_integer("min_gap_ms", 0, 1_000) or 0,
        max_response_ms=table.optional_integer("max_response_ms", 1, 10_000),
        even_register_reads_only=table.boolean("even_register_reads_only"),
        typical_response_ms=table.optional_integer("typical_response_ms", 1, 10_000),
        write_function_codes=table.optional_integers("write_function_codes", WRITE_COIL, WRITE_REGISTERS),
        broadcast_supported=table.boolean("broadcast_supported") if table.has("broadcast_supported") else None,
        note=table.optional_text("note"),
    )
    table.done()
    if link.bauds and link.default_baud not in link.bauds:
        raise table.refusal("default_baud", link.default_baud, f"one of bauds: {', '.join(map(str, link.bauds))}")
    return link


def _read_point(name: str, table: CheckedTable) -> Point:
    point = Point(
        name=name,
        function_code=table.one_of("function_code", (READ_HOLDING, READ_INPUT)),
        address=table.integer("address", 0, _ADDRESS_MAX),
        type=table.text("type", tuple(REGISTER_TYPES)),
        order=table.text("order", WORD_ORDERS),
        unit=table.text("unit", UNITS),
        scale=table.decimal("scale"),
        invalid=table.optional_integer("invalid", 0, 2**64 - 1),
        confidence=table.optional_text("confidence", _CONFIDENCES_OF_A_PART),
        note=table.optional_text("note"),
    )
    table.done()
    _check_end(table, point.address, point.count, point.type)
    if point.invalid is not None and point.invalid >> (16 * point.count):
        raise table.refusal("invalid", hex(point.invalid), f"a pattern of {point.count} registers ({point.type})")
    return point


def _read_registers(table: CheckedTable, key: str) -> MappingProxyType[str, Register]:
    return MappingProxyType({name: _read_register(name, row) for name, row in table.named_tables(key)})


def _read_register(name: str, table: CheckedTable) -> Register:
    register_type = table.text("type", (*REGISTER_TYPES, *UNCOUNTED_TYPES))
    count = register_count(register_type) or table.integer("count", 1, READ_REGISTERS_MAX)
    limits = table.optional_integers("range", 0, _WORD_MAX)
    register = Register(
        name=name,
        function_code=table.optional_one_of("function_code", (READ_HOLDING, READ_INPUT)),
        write_function_code=table.optional_one_of("write_function_code", (WRITE_REGISTER, WRITE_REGISTERS)),
        address=table.integer("address", 0, _ADDRESS_MAX),
        type=register_type,
        count=count,
        order=table.text("order", WORD_ORDERS),
        scale=table.decimal("scale") if table.has("scale") else Decimal(1),
        unit=table.optional_text("unit"),
        meanings=MappingProxyType(table.meanings("meanings")) if table.has("meanings") else None,
        low=limits[0] if limits else None,
        high=limits[-1] if limits else None,
        expect=table.numbers_or_texts("expect"),
        default=table.optional_integer("default", 0, _WORD_MAX),
        write_value=table.optional_integer("write_value", 0, _WORD_MAX),
        stride=table.optional_integer("stride", 1, _ADDRESS_MAX),
        records=table.optional_integer("records", 1, _ADDRESS_MAX),
        layout=table.optional_text("layout"),
        confidence=table.optional_text("confidence", _CONFIDENCES_OF_A_PART),
        note=table.optional_text("note"),
    )
    table.done()
    if register.function_code is None and register.write_function_code is None:
        raise table.refusal("function_code", "nothing", "3 or 4, or a write_function_code")
    if limits and (len(limits) != 2 or limits[0] > limits[1]):
        raise table.refusal("range", limits, "[lowest, highest]")
    if register.write_function_code == WRITE_REGISTER and register.count != 1:
        raise table.refusal(
            "write_function_code", WRITE_REGISTER, f"16: {register.type} takes {register.count} registers"
        )
    _check_end(table, register.address, register.count, register.type)
    return register


def _check_end(table: CheckedTable, address: int, count: int, register_type: str) -> None:
    if address + count - 1 > _ADDRESS_MAX:
        raise table.refusal("address", address, f"at most {_ADDRESS_MAX + 1 - count} for {register_type}")


def _read_commissioning(table: CheckedTable) -> Commissioning:
    if not table.has("commissioning"):
        return Commissioning()
    part = table.table("commissioning")
    commissioning = Commissioning(
        activation=part.optional_text("activation"),
        general_device_id=part.optional_integer("general_device_id", 1, 255),
        note=part.optional_text("note"),
    )
    part.done()
    return commissioning


def _read_relay(table: CheckedTable) -> RelaySpec:
    command, readback = table.table("command"), table.table("readback")
    function_code = command.one_of("function_code", _WRITES)
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
        fault=_read_register("fault", table.table("fault")) if table.has("fault") else None,
        event_log=_read_register("event_log", table.table("event_log")) if table.has("event_log") else None,
        confidence=table.optional_text("confidence", _CONFIDENCES_OF_A_PART),
        note=table.optional_text("note"),
    )
    for part in (command, readback, table):
        part.done()
    _check_relay(relay, command, readback)
    return relay


def _check_relay(relay: RelaySpec, command: CheckedTable, readback: CheckedTable) -> None:
    if relay.closed_value == relay.open_value:
        raise readback.refusal("open", relay.open_value, "not the value that means closed")
    for key, value in (("closed", relay.closed_value), ("open", relay.open_value)):
        if value & ~relay.readback_mask:
            raise readback.refusal(key, hex(value), f"no bit outside the mask {relay.readback_mask:#x}")
    if len(relay.close_words) != len(relay.open_words) or relay.close_words == relay.open_words:
        raise command.refusal("open", relay.open_words, "as many words as close, and different ones")
    if relay.command_function_code == WRITE_COIL and not {*relay.close_words, *relay.open_words} <= {0xFF00, 0x0000}:
        raise command.refusal("close", relay.close_words, "0xFF00 or 0x0000 for a coil (Modbus V1.1b3, 6.5)")
    if relay.command_function_code != WRITE_REGISTERS and len(relay.close_words) != 1:
        raise command.refusal("close", relay.close_words, "one word for function codes 5 and 6")


def _read_unusable_relay(table: CheckedTable) -> UnusableRelay:
    relay = UnusableRelay(
        reason=table.text("reason"),
        function_code=table.one_of("function_code", _WRITES),
        address=table.integer("address", 0, _ADDRESS_MAX),
        count=table.integer("count", 1, WRITE_REGISTERS_MAX),
        close_words=table.optional_integers("close", 0, _WORD_MAX),
        open_words=table.optional_integers("open", 0, _WORD_MAX),
        layout=table.optional_text("layout"),
        readback=table.optional_text("readback"),
        confidence=table.optional_text("confidence", _CONFIDENCES_OF_A_PART),
    )
    table.done()
    return relay


def _read_writes(table: CheckedTable) -> tuple[AllowedWrite, ...]:
    return tuple(map(_read_allowed, table.listed_tables("write_allowed")))


def _read_allowed(table: CheckedTable) -> AllowedWrite:
    allowed = AllowedWrite(
        function_code=table.one_of("function_code", _WRITES),
        address=table.integer("address", 0, _ADDRESS_MAX),
        count=table.integer("count", 1, WRITE_REGISTERS_MAX),
        purpose=table.text("purpose"),
    )
    table.done()
    return allowed


def _read_forbidden(table: CheckedTable) -> ForbiddenWrite:
    function_code = table.optional_integer("function_code", 1, 0xFF)
    whole = function_code is not None  # a function is forbidden wherever it points
    forbidden = ForbiddenWrite(
        address=0 if whole else table.integer("address", 0, _ADDRESS_MAX),
        count=_ADDRESS_MAX + 1 if whole else table.integer("count", 1, _ADDRESS_MAX + 1),
        reason=table.text("reason"),
        function_code=function_code,
    )
    table.done()
    return forbidden
