"""Virtual electricity meters: a load behind a contact, an energy counter, and real registers.

Energy is counted in watt-seconds (1 Wh = 3600 Ws), exact integers. Registers show it as the model does, with the
steps of a float32 or of 0.01 kWh. A register never falls. Time (`at`, Unix seconds) comes from outside. Voltage stays
when the contact is open, because it sits behind the meter; current and power are 0. Supply: 220 V, 50 Hz.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from hw.sim.device import ExceptionCode
from hw.sim.load import QUARTER_S, Load, mix
from hw.sim.models import Constant, Model, Point
from hw.sim.relay_board import Relay

WATT_SECONDS_PER_WH = 3600
VOLTAGE_MV = 220_000
VOLTAGE_SWING_MV = 3_000
FREQUENCY_MHZ = 50_000
FREQUENCY_SWING_MHZ = 20
BAUD_9600_OF_DDS238 = 1
WRITE_MULTIPLE_REGISTERS = 16
RELAY_OPEN, RELAY_CLOSED = 0, 1


class EnergySource(Protocol):
    """What a meter measures: the energy that passed so far, and the power at this moment."""

    @property
    def energy_ws(self) -> int: ...

    @property
    def power_w(self) -> int: ...


class MeteredLoad:
    """A customer's load behind his contact, advanced from one instant to the next."""

    def __init__(self, load: Load, relay: Relay | None, start_at: int) -> None:
        self.load = load
        self.relay = relay
        self.stopped = False
        self.energy_ws = 0
        self._at = start_at

    @property
    def power_w(self) -> int:
        return self.load.watts(self._at) if self._draws else 0

    def advance(self, at: int) -> None:
        """Counts the energy up to `at`. Must come before any change of contact, scale or stop at that instant."""
        if at > self._at:
            if self._draws:
                self.energy_ws += self.load.energy_ws(self._at, at)
            self._at = at

    @property
    def _draws(self) -> bool:
        return not self.stopped and (self.relay is None or self.relay.closed)


class AreaLoad:
    """What the whole area takes: all customers, and what the cables keep."""

    def __init__(self, loads: Sequence[MeteredLoad], loss_percent: int) -> None:
        self._loads, self._percent = loads, 100 + loss_percent

    @property
    def energy_ws(self) -> int:
        return sum(load.energy_ws for load in self._loads) * self._percent // 100

    @property
    def power_w(self) -> int:
        return sum(load.power_w for load in self._loads) * self._percent // 100


class Meter:
    """One meter on a line. `own_relay` is the switch inside it, where the model has one and it is fitted."""

    def __init__(
        self,
        meter_id: str,
        device_id: int,
        model: Model,
        start_wh: int,
        source: EnergySource,
        own_relay: Relay | None,
        now: Callable[[], int],
    ) -> None:
        assert own_relay is None or model.relay_address is not None
        self.meter_id, self.device_id, self.model, self.start_wh = meter_id, device_id, model, start_wh
        self.silent = False
        self.source = source
        self.start_register_wh = self.register_wh_exact
        self._own_relay = own_relay
        self._serial = zlib.crc32(meter_id.encode())
        self._now = now

    @property
    def energy_wh(self) -> int:
        """The counter behind the registers, floored to whole Wh."""
        return (self.start_wh * WATT_SECONDS_PER_WH + self.source.energy_ws) // WATT_SECONDS_PER_WH

    @property
    def register_bytes(self) -> bytes:
        """The billed register as it is on the wire at this moment."""
        return self.model.energy.encode(self.energy_wh)

    @property
    def register_wh_exact(self) -> int:
        """What a perfect reader gets from the billed register: the floor of its exact value, in Wh."""
        return self.model.energy.decode_floor(self.register_bytes)

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        """Registers, or the refusal a real meter gives: function, then quantity, then address."""
        model = self.model
        if function_code not in model.functions:
            return ExceptionCode.ILLEGAL_FUNCTION
        if count > model.registers_per_read_max:
            return ExceptionCode.ILLEGAL_DATA_VALUE
        if not self._may_read(function_code, address, count):
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        quantities = self.quantities()
        registers = bytearray(2 * count)
        for point in model.points:
            if point.function_code == function_code and address - point.count < point.address < address + count:
                place(registers, address, point, point.encode(quantities[point.quantity]))
        for constant in model.constants:
            if constant.function_code == function_code:
                place(registers, address, constant, constant.encode())
        return [high << 8 | low for high, low in zip(registers[::2], registers[1::2], strict=True)]

    def write(self, function_code: int, address: int, values: Sequence[int]) -> ExceptionCode | None:
        """The load switch, by function 16 only (the DDS238 does not understand 6). Everything else is refused.

        The real meters take settings, and the DDS238 erases its counters on a 0 to register 0: not imitated.
        """
        if function_code != WRITE_MULTIPLE_REGISTERS:
            return ExceptionCode.ILLEGAL_FUNCTION
        if self._own_relay is None or address != self.model.relay_address or len(values) != 1:
            return ExceptionCode.ILLEGAL_DATA_ADDRESS
        if values[0] not in (RELAY_OPEN, RELAY_CLOSED):
            return ExceptionCode.ILLEGAL_DATA_VALUE
        self._own_relay.command(values[0] == RELAY_CLOSED)
        return None

    def _may_read(self, function_code: int, address: int, count: int) -> bool:
        if address <= (self.model.relay_address or -1) < address + count and self._own_relay is None:
            return False
        for block in self.model.blocks:
            if block.holds(function_code, address, count):
                return not (block.even and (address % 2 or count % 2))
        return False

    def quantities(self) -> dict[str, int]:
        """Everything the points may show, in the units of `hw.sim.models`."""
        quarter, energy_wh, power_w = self._now() // QUARTER_S, self.energy_wh, self.source.power_w
        phases = self.model.phases
        power_factor = 900 + mix(self._serial) % 100 if power_w else 1000
        quantities = {
            "device_id": self.device_id,
            "device_id_and_baud": self.device_id << 8 | BAUD_9600_OF_DDS238,
            "serial": self._serial,
            "energy_import_total": energy_wh,
            "energy_export_total": 0,
            "power_total": power_w,
            "power_factor_total": power_factor,
            "frequency": FREQUENCY_MHZ + swing(FREQUENCY_SWING_MHZ, quarter),
            "relay_closed": int(self._own_relay is not None and self._own_relay.closed),
        }
        for phase in range(1, phases + 1):
            voltage_mv = VOLTAGE_MV + swing(VOLTAGE_SWING_MV, self._serial, quarter, phase)
            phase_w = (power_w + phases - phase) // phases  # the parts add up to the whole
            quantities[f"voltage_l{phase}"] = voltage_mv
            quantities[f"power_l{phase}"] = phase_w
            quantities[f"current_l{phase}"] = phase_w * 1_000_000_000 // (voltage_mv * power_factor)
            quantities[f"energy_import_l{phase}"] = (energy_wh + phases - phase) // phases
        return quantities


def place(registers: bytearray, first_address: int, point: Point | Constant, encoded: bytes) -> None:
    """Copies a point's bytes to where they belong; what lies outside the request is left out."""
    offset = 2 * (point.address - first_address)
    for index, byte in enumerate(encoded, start=offset):
        if 0 <= index < len(registers):
            registers[index] = byte


def swing(limit: int, *parts: int) -> int:
    """A steady value between -limit and +limit."""
    return mix(*parts) % (2 * limit + 1) - limit
