"""The electrical side of a street: loads, contacts, meters and the wires between them, with time given from outside.

No I/O and no clock: `advance(at)` moves everything to an instant (Unix seconds), exactly, however long the step. What
is scheduled takes effect at its own second even when the step goes past it. Energy in Wh, power in W.
"""

import heapq
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from hw.sim.device import Device
from hw.sim.load import Load
from hw.sim.meter import AreaLoad, Meter, MeteredLoad
from hw.sim.models import STREET_MODELS
from hw.sim.relay_board import Relay, RelayBoard
from hw.sim.spec import MeterSpec, StreetSpec, Wire


class PlantError(Exception):
    """A hand asked for something the street does not have; the text says what."""


class Plant:
    """All the equipment of a street, built from its spec."""

    def __init__(self, spec: StreetSpec) -> None:
        self.at = spec.wall_start_at
        self._utc_offset_s = spec.utc_offset_s
        self._devices: dict[str, dict[int, Device]] = {line.id: {} for line in spec.lines}
        self._boards: dict[tuple[str, int], RelayBoard] = {}
        self._meters: dict[str, Meter] = {}
        self._lines: dict[str, str] = {}
        self._relays: dict[str, Relay | None] = {}
        self._loads: dict[str, MeteredLoad] = {}
        self._scheduled: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        for line in spec.lines:
            for board in line.relay_boards:
                self._boards[line.id, board.device_id] = RelayBoard()
                self._devices[line.id][board.device_id] = self._boards[line.id, board.device_id]
        for line in spec.lines:
            for meter in line.devices:
                self._add_customer(line.id, meter)
        self._area_meter_id = self._add_area_meter(spec)

    def _add_customer(self, line_id: str, spec: MeterSpec) -> None:
        own_relay = Relay() if spec.relay == "own" else None
        relay = own_relay
        if isinstance(spec.relay, Wire):
            relay = self._boards[spec.relay.line, spec.relay.device_id].relays[spec.relay.channel]
        load = MeteredLoad(Load(spec.profile, spec.seed, self._utc_offset_s, spec.scale_percent), relay, self.at)
        self._loads[spec.meter_id] = load
        self._relays[spec.meter_id] = relay
        self._add_meter(
            line_id,
            Meter(spec.meter_id, spec.device_id, STREET_MODELS[spec.model], spec.start_wh, load, own_relay, self._now),
        )

    def _add_area_meter(self, spec: StreetSpec) -> str | None:
        area = spec.area_meter
        if area is None:
            return None
        source = AreaLoad(list(self._loads.values()), area.loss_percent)
        self._relays[area.meter_id] = None
        self._add_meter(
            area.line,
            Meter(area.meter_id, area.device_id, STREET_MODELS[area.model], area.start_wh, source, None, self._now),
        )
        return area.meter_id

    def _add_meter(self, line_id: str, meter: Meter) -> None:
        self._meters[meter.meter_id] = meter
        self._lines[meter.meter_id] = line_id
        self._devices[line_id][meter.device_id] = meter

    def _now(self) -> int:
        return self.at

    def devices(self, line_id: str) -> Mapping[int, Device]:
        """What hangs on a line, by device id."""
        return self._devices[line_id]

    def meters(self, line_id: str) -> Mapping[int, Meter]:
        """The meters of a line, by device id."""
        return {meter.device_id: meter for name, meter in self._meters.items() if self._lines[name] == line_id}

    def advance(self, at: int) -> None:
        """Moves the street to `at`, with everything scheduled until then. Never backwards."""
        while self._scheduled and self._scheduled[0][0] <= at:
            due_at, _, action = heapq.heappop(self._scheduled)
            self._move(due_at)
            action()
        self._move(at)

    def _move(self, at: int) -> None:
        if at > self.at:
            for load in self._loads.values():
                load.advance(at)
            self.at = at

    def schedule(self, at: int, action: Callable[[], None]) -> None:
        """Runs `action` at the simulated instant `at`, or now when that is past."""
        heapq.heappush(self._scheduled, (max(at, self.at), next(self._order), action))
        self.advance(self.at)

    def silence(self, meter_id: str, on: bool) -> None:
        """A silent meter answers nothing; it goes on counting."""
        self.meter(meter_id).silent = on

    def scale(self, meter_id: str, percent: int) -> None:
        """Makes a customer draw more or less from now on."""
        self.load(meter_id).load.scale_percent = percent

    def stop_load(self) -> None:
        """Nobody draws anything any more: from now on all registers stand still."""
        for load in self._loads.values():
            load.stopped = True

    def operate_relay(self, meter_id: str, closed: bool) -> None:
        """A hand on the contact: works on a stuck one too."""
        self.relay(meter_id).closed = closed

    def stick_relay(self, meter_id: str, on: bool) -> None:
        """A stuck contact ignores what comes over the bus."""
        self.relay(meter_id).stuck = on

    def registers(self) -> dict[str, Any]:
        """All meters at this instant: what an auditor compares with the ledger."""
        return {
            "at": self.at,
            "meters": {meter_id: self._report(meter) for meter_id, meter in self._meters.items()},
            "area_meter_id": self._area_meter_id,
        }

    def _report(self, meter: Meter) -> dict[str, Any]:
        point, relay = meter.model.energy, self._relays[meter.meter_id]
        return {
            "line": self._lines[meter.meter_id],
            "device_id": meter.device_id,
            "model": meter.model.id,
            "start_wh": meter.start_wh,
            "start_register_wh": meter.start_register_wh,
            "register_wh": meter.register_wh_exact,
            "registers": meter.register_bytes.hex(),
            "function_code": point.function_code,
            "address": point.address,
            "type": point.type,
            "wh_per_unit": point.denominator // point.numerator,
            "relay_closed": None if relay is None else relay.closed,
            "power_w": meter.source.power_w,
            "silent": meter.silent,
        }

    def meter(self, meter_id: str) -> Meter:
        """Raises PlantError, as the two below."""
        if meter_id not in self._meters:
            raise PlantError(f"there is no meter {meter_id!r}; there are {', '.join(self._meters)}")
        return self._meters[meter_id]

    def load(self, meter_id: str) -> MeteredLoad:
        self.meter(meter_id)
        if meter_id not in self._loads:
            raise PlantError(f"{meter_id} is the area meter: its load is the sum of the others")
        return self._loads[meter_id]

    def relay(self, meter_id: str) -> Relay:
        self.meter(meter_id)
        relay = self._relays[meter_id]
        if relay is None:
            raise PlantError(f"no contact carries the load of {meter_id}")
        return relay
