"""What goes in and out of one line: settings, devices, samples, results and counters.

Energy is Wh, times are milliseconds (`_ms`) or seconds (`_s`) of the event loop; a
`ClockReading` is the accounting clock. Reason codes are listed in `edge/bus/README.md`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from edge.core.lean import dataclass
from edge.core.units import WattHours
from edge.meters.model import MeterModel
from edge.meters.records import DLT645, MODBUS
from edge.ports import ClockReading, OutputResult, RelayState

__all__ = [
    "ABSENT",
    "MBAP_SCHEME",
    "RTU_OVER_TCP_SCHEME",
    "DeviceStatus",
    "LineSettings",
    "LineStatus",
    "MeterOnLine",
    "MeterSample",
    "OutputResult",
    "RelayOnLine",
    "RelayState",
    "Verdict",
]

if TYPE_CHECKING:
    from edge.dlt645.authority import Authority  # only a line that speaks it loads it

Verdict = Literal["good", "confirmed_falling", "confirmed_jump"]

MBAP_SCHEME: Final = "tcp://"
RTU_OVER_TCP_SCHEME: Final = "rtu+tcp://"

_DEVICE_ID_MAX: Final = {MODBUS: 247, DLT645: 999_999_999_998}

# Reasons that say nobody was there; 10 and 11 are how a gateway says it of a device behind it.
ABSENT: Final = frozenset({"timeout", "exception_10", "exception_11"})


@dataclass(frozen=True, slots=True)
class LineSettings:
    """One line. `address` is a device path, tcp://host:port or rtu+tcp://host:port.

    `local_echo`: the adapter hears itself, so each answer stands behind the request.
    """

    line_id: str
    address: str
    baud: int = 9600
    format: str = "8N1"
    response_timeout_ms: float = 300
    drain_silence_ms: float | None = None  # None: longer than the slowest model on the line answers
    drain_ms_max: float = 5_000  # a line not silent for so long is given up; at least twice the drain silence
    gap_ms: float | None = None  # None: the 3.5 characters of the baud rate
    poll_interval_ms: float = 10_000  # money registers and relays; at most so old is what is not read with them:
    power_quality_interval_ms: float = 0  # voltage, current, power, frequency; 0: in every round
    other_interval_ms: float = 60_000
    dead_backoff_s_max: float = 60
    reopen_backoff_s_max: float = 30
    local_echo: bool = False
    protocol: str = MODBUS

    @property
    def framing(self) -> Literal["rtu", "rtu_echoed", "mbap", "dlt645", "dlt645_echoed"]:
        """RTU on serial devices and rtu+tcp://, MBAP (Modbus TCP) on tcp://; DL/T 645 where the line speaks it."""
        if self.protocol == DLT645:
            return "dlt645_echoed" if self.local_echo else "dlt645"
        if self.address.startswith(MBAP_SCHEME):
            return "mbap"
        return "rtu_echoed" if self.local_echo else "rtu"

    @property
    def device_id_max(self) -> int:
        """Device ids begin with 1; of DL/T 645 they are the number of an address of twelve digits."""
        return _DEVICE_ID_MAX[self.protocol]


@dataclass(frozen=True, slots=True)
class MeterOnLine:
    """A meter and where it answers. What it shows is reported; transformers before it are the accounting's."""

    meter_id: str
    device_id: int
    model: MeterModel
    power_w_max: int  # what the breaker lets through, on the meter's side of its current transformers
    points: tuple[str, ...] | None = None  # values to read besides the money register; None: all of the model


@dataclass(frozen=True, slots=True)
class RelayOnLine:
    """A supply relay: a coil of a board, or the meter's own (same device id as the meter)."""

    relay_id: str
    device_id: int
    model: MeterModel
    channel: int = 0
    authority: "Authority | None" = None  # for a meter of DL/T 645, which takes commands with a password only


@dataclass(frozen=True, slots=True)
class MeterSample:
    """One reading. `clock` was read when the money register's answer was complete."""

    meter_id: str
    clock: ClockReading
    register_wh: WattHours
    values: Mapping[str, Decimal]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """How well one device answers. A poll is one request."""

    device_id: int
    meter_ids: tuple[str, ...]
    relay_ids: tuple[str, ...]
    polls_ok: int
    polls_failed: int
    readings_rejected: int
    errors: Mapping[str, int]  # by reason code
    last_ok: ClockReading | None
    last_error: str | None
    silent: bool  # the last visits were not answered at all


@dataclass(frozen=True, slots=True)
class AnswerView:
    """Answering times since the start: so many percent of the answers came within so many milliseconds."""

    answers: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None
    slowest_ms: int | None


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """How fast a device answers, and how long it is waited for at present."""

    answers: AnswerView
    wait_ms: int


@dataclass(frozen=True, slots=True)
class LineTimes:
    """How fast the devices of a line answer, and how much of its time the wire is in use."""

    answers: AnswerView
    used_percent: int | None  # of the last minute; None before the first request
    devices: Mapping[int, DeviceTimes]


@dataclass(frozen=True, slots=True)
class LinePulse:
    """What every round asks of a line."""

    open: bool
    cycle_ms: int | None  # last time around the line
    poll_interval_ms: int | None
    silent: Mapping[int, str]  # the devices that have stopped answering, and the last error of each


@dataclass(frozen=True, slots=True)
class LineStatus:
    """How well the line works."""

    line_id: str
    address: str
    open: bool
    last_error: str | None
    polls_ok: int
    polls_failed: int
    readings_rejected: int
    errors: Mapping[str, int]
    cycle_ms: int | None  # last time around the line
    devices: Mapping[int, DeviceStatus]
    poll_interval_ms: int | None = None

    def of_meter(self, meter_id: str) -> DeviceStatus:
        return next(device for device in self.devices.values() if meter_id in device.meter_ids)
