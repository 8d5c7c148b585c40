"""What a street consists of: the spec file, checked once, and the street of the demo.

JSON. Energy in Wh, `wall_start_at` in Unix seconds, `speed` simulated seconds per real second. Wiring is data: each
meter says which contact carries its load. A wrong spec is one sentence with the key and what is allowed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hw.sim.load import PROFILES, QUARTER_S
from hw.sim.models import DLT645, MODELS, STREET_MODELS
from hw.sim.relay_board import CHANNELS

MONDAY_AT = 1_782_662_400  # 2026-06-29 00:00 in Asia/Shanghai
SHANGHAI_OFFSET_S = 8 * 3600

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
LineName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]  # a file beside clock.json
DEVICE_ID_MAX = 247
DeviceId = Annotated[int, msgspec.Meta(ge=1, le=DEVICE_ID_MAX)]
StartWh = Annotated[int, msgspec.Meta(ge=0, le=999_999_990)]  # what seven digits of kWh can show
Percent = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contact of a relay board that carries a load."""

    line: LineName
    device_id: DeviceId
    channel: Annotated[int, msgspec.Meta(ge=0, le=CHANNELS - 1)]


class MeterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer's meter. `relay`: a contact on a board, "own" for the meter's switch, null for none."""

    meter_id: Name
    device_id: Annotated[int, msgspec.Meta(ge=1, le=999_999_999_998)]  # of DL/T 645 the number of twelve digits
    model: str
    start_wh: StartWh
    profile: str
    seed: int
    scale_percent: Percent = 100
    relay: Wire | str | None = None


class BoardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A relay board of eight contacts."""

    relay_board_id: Name
    device_id: DeviceId


class LineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An RS-485 line. Its `id` is also the name of the link to its pseudo-terminal."""

    id: LineName
    devices: list[MeterSpec]
    relay_boards: list[BoardSpec] = []
    protocol: Literal["modbus", "dlt645"] = "modbus"


class AreaMeterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The meter above all: sum of the customers plus what the cables keep."""

    meter_id: Name
    line: LineName
    device_id: DeviceId
    start_wh: StartWh
    model: str = "eastron_sdm630"
    loss_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3


class StreetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole street. `quality` is what the clock claims to be: ntp, rtc, floor or unset."""

    speed: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
    wall_start_at: Annotated[int, msgspec.Meta(ge=0)]
    lines: Annotated[list[LineSpec], msgspec.Meta(min_length=1)]
    area_meter: AreaMeterSpec | None = None
    utc_offset_s: Annotated[int, msgspec.Meta(ge=-64_800, le=64_800, multiple_of=QUARTER_S)] = SHANGHAI_OFFSET_S
    quality: str = "ntp"


class SpecError(Exception):
    """The spec cannot be built. The text says where and what is allowed; nothing was started."""


def load_spec(path: Path) -> StreetSpec:
    """Reads and checks a spec file. Raises SpecError."""
    try:
        return parse_spec(path.read_bytes())
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from error
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def parse_spec(text: bytes) -> StreetSpec:
    """Checks a spec. Raises SpecError with the path of the first fault."""
    try:
        spec = msgspec.json.decode(text, type=StreetSpec)
    except msgspec.DecodeError as error:
        raise SpecError(str(error)) from error
    for fault in faults(spec):
        raise SpecError(fault)
    return spec


def faults(spec: StreetSpec) -> Iterator[str]:
    """Everything a schema cannot say: names used twice, wires to nowhere, models and profiles nobody knows."""
    if spec.quality not in ("ntp", "rtc", "floor", "unset"):
        yield f"$.quality: {spec.quality!r} is not one of ntp, rtc, floor, unset"
    yield from repeated("$.lines: line id", [line.id for line in spec.lines])
    meter_ids = [meter.meter_id for line in spec.lines for meter in line.devices]
    if spec.area_meter is not None:
        meter_ids.append(spec.area_meter.meter_id)
        yield from area_faults(spec, spec.area_meter)
    yield from repeated("$.lines: meter_id", meter_ids)
    wires = [meter.relay for line in spec.lines for meter in line.devices if isinstance(meter.relay, Wire)]
    yield from repeated("$.lines: relay contact", wires)
    boards = {(line.id, board.device_id) for line in spec.lines for board in line.relay_boards}
    for index, line in enumerate(spec.lines):
        yield from line_faults(f"$.lines[{index}]", line, spec, boards)


def area_faults(spec: StreetSpec, area_meter: AreaMeterSpec) -> Iterator[str]:
    """What is wrong with the area meter."""
    if area_meter.model not in MODELS:
        yield f"$.area_meter.model: {area_meter.model!r} is not one of {', '.join(MODELS)}"
    if area_meter.line in [line.id for line in spec.lines if line.protocol == "dlt645"]:
        yield f"$.area_meter.line: {area_meter.line!r} speaks dlt645, which an area meter does not"
    elif area_meter.line not in [line.id for line in spec.lines]:
        yield f"$.area_meter.line: there is no line {area_meter.line!r}"


def line_faults(where: str, line: LineSpec, spec: StreetSpec, boards: set[tuple[str, int]]) -> Iterator[str]:
    """What is wrong on one line. `boards` are the (line, device id) of all relay boards."""
    device_ids = [meter.device_id for meter in line.devices] + [board.device_id for board in line.relay_boards]
    if spec.area_meter is not None and spec.area_meter.line == line.id:
        device_ids.append(spec.area_meter.device_id)
    yield from repeated(f"{where}: device_id", device_ids)
    if line.protocol == "dlt645" and line.relay_boards:
        yield f"{where}.relay_boards: a relay board speaks Modbus, this line dlt645"
    for index, meter in enumerate(line.devices):
        yield from meter_faults(f"{where}.devices[{index}]", meter, boards)
        if (line.protocol == "dlt645") != (meter.model == DLT645.id):
            yield f"{where}.devices[{index}].model: {meter.model} does not speak {line.protocol}"
        elif line.protocol == "modbus" and meter.device_id > DEVICE_ID_MAX:
            yield f"{where}.devices[{index}].device_id: {meter.device_id} is more than {DEVICE_ID_MAX}"


def meter_faults(where: str, meter: MeterSpec, boards: set[tuple[str, int]]) -> Iterator[str]:
    """What is wrong with one meter."""
    if meter.model not in STREET_MODELS:
        yield f"{where}.model: {meter.model!r} is not one of {', '.join(STREET_MODELS)}"
    elif meter.relay == "own" and STREET_MODELS[meter.model].relay_address is None:
        yield f"{where}.relay: {meter.model} has no load switch of its own; name a contact of a relay board"
    if meter.profile not in PROFILES:
        yield f"{where}.profile: {meter.profile!r} is not one of {', '.join(PROFILES)}"
    if isinstance(meter.relay, str) and meter.relay != "own":
        yield f'{where}.relay: {meter.relay!r} is not allowed; a contact (line, device_id, channel), "own" or null'
    if isinstance(meter.relay, Wire) and (meter.relay.line, meter.relay.device_id) not in boards:
        yield f"{where}.relay: there is no relay board {meter.relay.device_id} on line {meter.relay.line!r}"


def repeated(what: str, values: list[Any]) -> Iterator[str]:
    """A sentence for every value that stands there a second time."""
    for index, value in enumerate(values):
        if value in values[:index]:
            yield f"{what} {value} is used twice"


BOARD_DEVICE_ID = 100
AREA_DEVICE_ID = 50

# meter, device id, model, start in Wh, profile. M10 is old: its float32 register moves in steps of 7.8 Wh.
DEFAULT_STREET: Mapping[str, tuple[tuple[str, int, str, int, str], ...]] = {
    "line-1": (
        ("M01", 11, "eastron_sdm120", 1_234_567, "household"),
        ("M02", 12, "eastron_sdm630", 8_040_211, "shop"),
        ("M03", 13, "chint_ddsu666", 402_905, "household"),
        ("M04", 14, "chint_dtsu666", 15_902_330, "night_storage"),
        ("M05", 15, "hiking_dds238_2", 731_250, "household"),
        ("M06", 16, "eastron_sdm120", 94_418, "household"),
    ),
    "line-2": (
        ("M07", 21, "chint_ddsu666", 3_310_077, "household"),
        ("M08", 22, "hiking_dds238_2", 2_049_980, "household"),
        ("M09", 23, "eastron_sdm120", 5_000, "household"),
        ("M10", 24, "chint_dtsu666", 65_700_120, "shop"),
        ("M11", 25, "eastron_sdm630", 22_118_754, "school"),
        ("M12", 26, "hiking_dds238_2", 610, "household"),
    ),
}


def default_street(wall_start_at: int = MONDAY_AT, speed: float = 8640) -> dict[str, Any]:
    """The street of the demo as a spec, to be changed and written as JSON: twelve customers, two lines."""
    lines = []
    for number, (line_id, meters) in enumerate(DEFAULT_STREET.items(), start=1):
        devices = [default_meter(line_id, channel, *row) for channel, row in enumerate(meters)]
        boards = [{"relay_board_id": f"B{number}", "device_id": BOARD_DEVICE_ID}]
        lines.append({"id": line_id, "devices": devices, "relay_boards": boards})
    area_meter = {
        "meter_id": "AREA",
        "line": "line-1",
        "device_id": AREA_DEVICE_ID,
        "model": "eastron_sdm630",
        "start_wh": 1_000_000,
        "loss_percent": 3,
    }
    return {
        "speed": speed,
        "wall_start_at": wall_start_at,
        "utc_offset_s": SHANGHAI_OFFSET_S,
        "quality": "ntp",
        "lines": lines,
        "area_meter": area_meter,
    }


def default_meter(
    line_id: str, channel: int, meter_id: str, device_id: int, model: str, start_wh: int, profile: str
) -> dict[str, Any]:
    """One row of the default street. The channel of a board is the meter's place on the line."""
    contact = {"line": line_id, "device_id": BOARD_DEVICE_ID, "channel": channel}
    return {
        "meter_id": meter_id,
        "device_id": device_id,
        "model": model,
        "start_wh": start_wh,
        "profile": profile,
        "seed": device_id,
        "scale_percent": 100,
        "relay": "own" if MODELS[model].relay_address is not None else contact,
    }
