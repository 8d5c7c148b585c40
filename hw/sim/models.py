"""The register maps of the five meter models, as the twin keeps them: data, and how a value becomes registers.

Written from the vendors' documents on its own, not from the agent's model files, so that a mistake in one of them
shows. Quantities are integers: mV, mA, W, mHz, power factor in thousandths, energy in Wh. A point's register is
quantity * numerator / denominator, as float32 or floored to an integer, high word first in all five. Sources: Eastron
SDM120M RTU Protocol V2.5 and SDM630 Modbus Protocol V2.0; CHINT DTSU666-CT User Manual p13; mbmd's dtsu666.go;
fawno/Modbus "DDS238-2 ZN-S Modbus"; DDSU666 by two independent presets. Addresses of the wire, 0-based.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

HOLDING, INPUT = 3, 4
REGISTERS_PER_READ_MAX = 125  # MODBUS Application Protocol V1.1b3, 6.3
FORMATS = {"f32": ">f", "u32": ">I", "u16": ">H", "s16": ">h"}
S16_MAX = 0x7FFF
ENERGY = "energy_import_total"


@dataclass(frozen=True, slots=True)
class Point:
    """One value in the register map."""

    quantity: str
    function_code: int
    address: int
    type: str
    numerator: int = 1
    denominator: int = 1

    @property
    def count(self) -> int:
        return 2 if self.type in ("f32", "u32") else 1

    def encode(self, quantity: int) -> bytes:
        """The register bytes, big-endian. A float is the nearest one, so a growing quantity never falls."""
        if self.type == "f32":
            return struct.pack(">f", quantity * self.numerator / self.denominator)
        value = quantity * self.numerator // self.denominator
        return struct.pack(FORMATS[self.type], min(value, S16_MAX) if self.type == "s16" else value)

    def decode_floor(self, registers: bytes) -> int:
        """The quantity a perfect reader finds in the registers, floored to a whole unit (RULES.md 10)."""
        (value,) = struct.unpack(FORMATS[self.type], registers)
        exact = Fraction(value) * self.denominator / self.numerator
        return exact.numerator // exact.denominator


@dataclass(frozen=True, slots=True)
class Constant:
    """A register that never changes, such as a setting."""

    function_code: int
    address: int
    type: str
    value: int

    @property
    def count(self) -> int:
        return 2 if self.type in ("f32", "u32") else 1

    def encode(self) -> bytes:
        return struct.pack(FORMATS[self.type], self.value)


@dataclass(frozen=True, slots=True)
class Block:
    """Registers that may be read together; holes inside read 0. `even` asks for whole floats from even addresses."""

    function_code: int
    address: int
    count: int
    even: bool = False

    def holds(self, function_code: int, address: int, count: int) -> bool:
        return (
            function_code == self.function_code
            and self.address <= address
            and address + count <= self.address + self.count
        )


@dataclass(frozen=True, slots=True)
class Model:
    """A meter model. `relay_address` is the holding register of its own load switch: 1 closed, 0 open, function 16."""

    id: str
    phases: int
    points: tuple[Point, ...]
    blocks: tuple[Block, ...]
    constants: tuple[Constant, ...] = ()
    registers_per_read_max: int = REGISTERS_PER_READ_MAX
    relay_address: int | None = None
    functions: frozenset[int] = field(default=frozenset({HOLDING}))

    @property
    def places(self) -> tuple["Point | Constant", ...]:
        """Everything with an address."""
        return (*self.points, *self.constants)

    @property
    def energy(self) -> Point:
        """The register that is billed."""
        return next(point for point in self.points if point.quantity == ENERGY)


def floats(function_code: int, rows: Iterable[tuple[str, int, int, int]]) -> tuple[Point, ...]:
    """float32 points from (quantity, address, numerator, denominator)."""
    return tuple(Point(name, function_code, address, "f32", up, down) for name, address, up, down in rows)


SDM120 = Model(
    id="eastron_sdm120",
    phases=1,
    functions=frozenset({HOLDING, INPUT}),
    points=(
        *floats(
            INPUT,
            (
                ("voltage_l1", 0, 1, 1000),
                ("current_l1", 6, 1, 1000),
                ("power_total", 12, 1, 1),
                ("power_factor_total", 30, 1, 1000),
                ("frequency", 70, 1, 1000),
                (ENERGY, 72, 1, 1000),
                ("energy_export_total", 74, 1, 1000),
                ("energy_import_total", 342, 1, 1000),  # "total", with the default mode import + export
            ),
        ),
        Point("device_id", HOLDING, 20, "f32"),
        Point("serial", HOLDING, 64512, "u32"),
    ),
    constants=(
        Constant(HOLDING, 18, "f32", 0),  # parity: 8N1
        Constant(HOLDING, 28, "f32", 2),  # baud: 9600
        Constant(HOLDING, 63776, "u16", 2),  # measurement mode: total = import + export
        Constant(HOLDING, 64514, "u16", 0x0020),  # model code
        Constant(HOLDING, 64515, "u16", 0x0205),  # software version
    ),
    blocks=(
        Block(INPUT, 0, 76, even=True),
        Block(INPUT, 342, 2, even=True),
        Block(HOLDING, 18, 12, even=True),
        Block(HOLDING, 63776, 1),
        Block(HOLDING, 64512, 4),
    ),
)

SDM630 = Model(
    id="eastron_sdm630",
    phases=3,
    functions=frozenset({HOLDING, INPUT}),
    registers_per_read_max=60,
    points=(
        *floats(
            INPUT,
            (
                ("voltage_l1", 0, 1, 1000),
                ("voltage_l2", 2, 1, 1000),
                ("voltage_l3", 4, 1, 1000),
                ("current_l1", 6, 1, 1000),
                ("current_l2", 8, 1, 1000),
                ("current_l3", 10, 1, 1000),
                ("power_l1", 12, 1, 1),
                ("power_l2", 14, 1, 1),
                ("power_l3", 16, 1, 1),
                ("power_factor_total", 30, 1, 1000),
                ("power_factor_total", 32, 1, 1000),
                ("power_factor_total", 34, 1, 1000),
                ("power_total", 52, 1, 1),
                ("power_factor_total", 62, 1, 1000),
                ("frequency", 70, 1, 1000),
                (ENERGY, 72, 1, 1000),
                ("energy_export_total", 74, 1, 1000),
                ("energy_import_total", 342, 1, 1000),
                ("energy_import_l1", 346, 1, 1000),
                ("energy_import_l2", 348, 1, 1000),
                ("energy_import_l3", 350, 1, 1000),
            ),
        ),
        Point("device_id", HOLDING, 20, "f32"),
        Point("serial", HOLDING, 64512, "u32"),
    ),
    constants=(
        Constant(HOLDING, 18, "f32", 0),  # parity: 8N1
        Constant(HOLDING, 28, "f32", 2),  # baud: 9600
        Constant(HOLDING, 30, "f32", 0),  # energy prefix: k, so kWh
        Constant(HOLDING, 40, "f32", 2141),  # register order as documented
    ),
    blocks=(
        Block(INPUT, 0, 76, even=True),
        Block(INPUT, 342, 16, even=True),
        Block(HOLDING, 18, 24, even=True),
        Block(HOLDING, 64512, 2, even=True),
    ),
)

DDSU666 = Model(
    id="chint_ddsu666",
    phases=1,
    points=(
        *floats(
            HOLDING,
            (
                ("voltage_l1", 0x2000, 1, 1000),
                ("current_l1", 0x2002, 1, 1000),
                ("power_total", 0x2004, 1, 1000),  # kW
                ("power_factor_total", 0x200A, 1, 1000),
                ("frequency", 0x200E, 1, 1000),
                (ENERGY, 0x4000, 1, 1000),
                ("energy_export_total", 0x400A, 1, 1000),
            ),
        ),
        Point("device_id", HOLDING, 6, "u16"),
    ),
    constants=(Constant(HOLDING, 12, "u16", 3),),  # baud: 9600
    blocks=(
        Block(HOLDING, 0x2000, 16, even=True),
        Block(HOLDING, 0x4000, 12, even=True),
        Block(HOLDING, 6, 1),
        Block(HOLDING, 12, 1),
    ),
)

DTSU666 = Model(
    id="chint_dtsu666",
    phases=3,
    points=(
        *floats(
            HOLDING,
            (
                (ENERGY, 0x101E, 1, 1000),
                ("energy_import_l1", 0x1020, 1, 1000),
                ("energy_import_l2", 0x1022, 1, 1000),
                ("energy_import_l3", 0x1024, 1, 1000),
                ("energy_export_total", 0x1028, 1, 1000),
                # floats that are scaled besides: V * 10, A * 1000, W * 10, power factor * 1000, Hz * 100
                ("voltage_l1", 0x2006, 1, 100),
                ("voltage_l2", 0x2008, 1, 100),
                ("voltage_l3", 0x200A, 1, 100),
                ("current_l1", 0x200C, 1, 1),
                ("current_l2", 0x200E, 1, 1),
                ("current_l3", 0x2010, 1, 1),
                ("power_total", 0x2012, 10, 1),
                ("power_l1", 0x2014, 10, 1),
                ("power_l2", 0x2016, 10, 1),
                ("power_l3", 0x2018, 10, 1),
                ("power_factor_total", 0x202A, 1, 1),
                ("power_factor_total", 0x202C, 1, 1),
                ("power_factor_total", 0x202E, 1, 1),
                ("power_factor_total", 0x2030, 1, 1),
                ("frequency", 0x2044, 1, 10),
                ("energy_import_total", 0x401E, 1, 1000),
                ("energy_export_total", 0x4028, 1, 1000),
            ),
        ),
        Point("device_id", HOLDING, 46, "u16"),
    ),
    constants=(
        Constant(HOLDING, 0, "u16", 104),  # software version
        Constant(HOLDING, 3, "u16", 0),  # network: 3P4W
        Constant(HOLDING, 6, "u16", 1),  # current transformer ratio
        Constant(HOLDING, 7, "u16", 10),  # voltage transformer ratio, tenths
        Constant(HOLDING, 44, "u16", 3),  # protocol: Modbus 8N1
        Constant(HOLDING, 45, "u16", 3),  # baud: 9600
    ),
    blocks=(
        Block(HOLDING, 0x101E, 18, even=True),
        Block(HOLDING, 0x2006, 64, even=True),
        Block(HOLDING, 0x401E, 12, even=True),
        Block(HOLDING, 0, 8),
        Block(HOLDING, 44, 3),
    ),
)

DDS238 = Model(
    id="hiking_dds238_2",
    phases=1,
    relay_address=26,
    points=(
        Point(ENERGY, HOLDING, 10, "u32", 1, 10),
        Point("energy_import_total", HOLDING, 0, "u32", 1, 10),  # "total"
        Point("energy_export_total", HOLDING, 8, "u32", 1, 10),
        Point("voltage_l1", HOLDING, 12, "u16", 1, 100),
        Point("current_l1", HOLDING, 13, "u16", 1, 10),
        Point("power_total", HOLDING, 14, "s16"),
        Point("power_factor_total", HOLDING, 16, "u16"),
        Point("frequency", HOLDING, 17, "u16", 1, 10),
        Point("device_id_and_baud", HOLDING, 21, "u16"),
        Point("relay_closed", HOLDING, 26, "u16"),
    ),
    blocks=(Block(HOLDING, 0, 18), Block(HOLDING, 21, 1), Block(HOLDING, 26, 1)),
)

MODELS: Mapping[str, Model] = {model.id: model for model in (SDM120, SDM630, DDSU666, DTSU666, DDS238)}

# Has no registers: hw.sim.dlt645_line speaks for it. Its billed item shows hundredths of a kWh.
DLT645 = Model(
    id="dlt645_2007",
    phases=1,
    relay_address=0,
    points=(Point(ENERGY, 0x11, 0x0001_0000, "u32", 1, 10),),
    blocks=(),
)
STREET_MODELS: Mapping[str, Model] = {**MODELS, DLT645.id: DLT645}
