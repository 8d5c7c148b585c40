"""One line of DL/T 645-2007 meters behind a pseudo-terminal, with the meters of a street on it.

    gateway <-> pty <-> this process <-> meters

What hangs on the line is the street's own meter, its load and its contact; the face of a `Dlt645Meter` speaks for it.
Times in seconds; the meters' clock shows the street's wall time.
"""

import asyncio
import os
import tty
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from hw.sim.dlt645_meter import Dlt645Meter, collided
from hw.sim.line import READ_SIZE, SILENCE_S, Fault, put
from hw.sim.meter import RELAY_CLOSED, RELAY_OPEN, WRITE_MULTIPLE_REGISTERS, Meter
from hw.sim.models import DLT645

WH_PER_HUNDREDTH_KWH = 10


class SpeakingMeter:
    """A meter of the street that speaks DL/T 645. `wall` is what its clock shows."""

    def __init__(self, meter: Meter, wall: Callable[[], datetime]) -> None:
        self._meter, self._wall = meter, wall
        self.face = Dlt645Meter(f"{meter.device_id:012d}", clock=wall())
        self._count()
        self.face.frozen_hundredths_kwh = self.face.energy_hundredths_kwh

    def answer(self, heard: bytes) -> bytes | None:
        """What it says to a frame; a command moves the contact that carries the load, unless that is stuck."""
        now, quantities = self._wall(), self._meter.quantities()
        if now.date() != self.face.clock.date():
            self.face.frozen_hundredths_kwh = self.face.energy_hundredths_kwh
        self._count()
        self.face.clock, self.face.silent = now, self._meter.silent
        self.face.voltage_tenths_v = quantities["voltage_l1"] // 100
        self.face.current_ma = quantities["current_l1"]
        self.face.power_tenths_w = 10 * quantities["power_total"]
        self.face.closed = bool(quantities["relay_closed"])
        commands = len(self.face.commands)
        answer = self.face.answer(heard)
        if len(self.face.commands) > commands and DLT645.relay_address is not None:
            state = RELAY_CLOSED if self.face.closed else RELAY_OPEN
            self._meter.write(WRITE_MULTIPLE_REGISTERS, DLT645.relay_address, [state])
        return answer

    def _count(self) -> None:
        self.face.energy_hundredths_kwh = self._meter.energy_wh // WH_PER_HUNDREDTH_KWH


class Dlt645Line:
    """A running line. `before_request` is called ahead of every request, to bring the street up to date."""

    def __init__(
        self,
        meters: Mapping[int, Meter],
        before_request: Callable[[], None],
        wall_at: Callable[[], int],
        utc_offset_s: int,
        silence_s: float = SILENCE_S,
    ) -> None:
        def wall() -> datetime:
            return datetime.fromtimestamp(wall_at() + utc_offset_s, UTC).replace(tzinfo=None)

        self.meters = {device_id: SpeakingMeter(meter, wall) for device_id, meter in meters.items()}
        self.fault_to_gateway: Fault | None = None
        self.gateway_path = ""
        self._before_request, self._silence_s = before_request, silence_s
        self._descriptors: list[int] = []
        self._heard, self._heard_at = b"", 0.0

    async def open(self) -> None:
        """Afterwards `gateway_path` is the device a gateway opens. Its end stays open here too."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._descriptors = [master, slave]
        self.gateway_path = os.ttyname(slave)
        asyncio.get_running_loop().add_reader(master, self._read, master)

    async def close(self) -> None:
        """Lets the terminal go."""
        for descriptor in self._descriptors:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()

    def _read(self, master: int) -> None:
        try:
            data = os.read(master, READ_SIZE)
        except BlockingIOError:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_at > self._silence_s:
            self._heard = b""
        self._heard, self._heard_at = self._heard + data, loop.time()
        self._before_request()
        answer = collided([meter.answer(self._heard) for meter in self.meters.values()])
        if answer is None:
            return
        self._heard = b""
        parts: Sequence[tuple[float, bytes]] = [(0.0, answer)]
        if self.fault_to_gateway is not None:
            parts = self.fault_to_gateway(answer)
        for delay_s, part in parts:
            loop.call_later(delay_s, put, master, part)
