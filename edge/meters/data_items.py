"""The tables of a model file whose device speaks DL/T 645-2007: data items by identifier instead of registers.

Lengths are octets of data without the identifier, times milliseconds. A meter of this protocol is told to switch
its relay and can be told nothing else. Source: DL/T 645-2007 annex A; its fee-control supplement for the relay.
"""

from typing import Final

from edge.meters.checked_table import CheckedTable
from edge.meters.point import OCTET_TYPES, UNITS, Elsewhere, Point
from edge.meters.records import CONTROL_SUPPLY, READ_DATA, AllowedWrite, LinkSpec, RelaySpec

_IDENTIFIER_MAX: Final = 0xFFFF_FFFF
_FORMATS: Final = ("8E1", "8N1")
_DATA_OCTETS_MAX: Final = 196  # 200 of a frame less the identifier
# N1 of the supply command: trip; close allowed (the customer presses the key), direct close.
_OPEN: Final = (0x1A,)
_CLOSE: Final = (0x1B, 0x1C)


def _read_link(table: CheckedTable) -> LinkSpec:
    link = LinkSpec(
        default_device_id=1,
        default_baud=table.integer("default_baud", 300, 1_000_000),
        default_format=table.text("default_format", _FORMATS),
        bauds=table.optional_integers("bauds", 300, 1_000_000),
        max_read_registers=_DATA_OCTETS_MAX,
        min_gap_ms=table.optional_integer("min_gap_ms", 0, 1_000) or 0,
        max_response_ms=table.optional_integer("max_response_ms", 1, 10_000),
        even_register_reads_only=False,
        note=table.optional_text("note"),
    )
    table.done()
    return link


def _read_point(name: str, table: CheckedTable) -> Point:
    type_ = table.text("type", tuple(OCTET_TYPES))
    point = Point(
        name=name,
        function_code=READ_DATA,
        address=table.integer("identifier", 0, _IDENTIFIER_MAX),
        type=type_,
        order="lsw",
        unit=table.text("unit", UNITS),
        scale=table.decimal("scale"),
        note=table.optional_text("note"),
        elsewhere=_read_elsewhere(table, OCTET_TYPES[type_]),
    )
    table.done()
    return point


def _read_relay(table: CheckedTable) -> RelaySpec:
    readback = table.table("readback")
    octets = readback.integer("octets", 1, 4)
    value_max = (1 << 8 * octets) - 1
    relay = RelaySpec(
        channels=1,
        command_function_code=CONTROL_SUPPLY,
        command_address=0,
        close_words=(table.one_of("close", _CLOSE),),
        open_words=(table.one_of("open", _OPEN),),
        readback_function_code=READ_DATA,
        readback_address=readback.integer("identifier", 0, _IDENTIFIER_MAX),
        readback_count=octets,
        readback_mask=readback.integer("mask", 1, value_max),
        closed_value=readback.integer("closed", 0, value_max),
        open_value=readback.integer("open", 0, value_max),
        settle_ms=table.optional_integer("settle_ms", 0, 10_000) or 0,
        note=table.optional_text("note"),
        readback_elsewhere=_read_elsewhere(readback, octets),
    )
    for part in (readback, table):
        part.done()
    if relay.closed_value == relay.open_value:
        raise readback.refusal("open", relay.open_value, "not the value that means closed")
    for key, value in (("closed", relay.closed_value), ("open", relay.open_value)):
        if value & ~relay.readback_mask:
            raise readback.refusal(key, hex(value), f"no bit outside the mask {relay.readback_mask:#x}")
    return relay


def _read_writes(table: CheckedTable) -> tuple[AllowedWrite, ...]:
    """The supply command of a model with a relay; a list in the file is refused as a key nobody knows."""
    return (AllowedWrite(CONTROL_SUPPLY, 0, 1, "supply command"),) if table.has("relay") else ()


def _read_elsewhere(table: CheckedTable, octets: int) -> Elsewhere | None:
    """The block that holds the same value, where there is one."""
    if not table.has("block"):
        return None
    offset = table.optional_integer("block_offset", 0, _DATA_OCTETS_MAX) or 0
    count = table.integer("block_octets", 1, _DATA_OCTETS_MAX)
    if offset + octets > count:
        raise table.refusal("block_octets", count, f"at least {offset + octets}")
    return Elsewhere(table.integer("block", 0, _IDENTIFIER_MAX), count, offset)


READERS: Final = (_read_link, _read_point, _read_relay, _read_writes)
