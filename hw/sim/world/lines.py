"""Meters and relays at byte level over virtual ports: one wake-up for a transaction.

The devices are those of hw.sim (register maps written from the vendors' documents); the bytes of the
wire are made here, with a CRC of its own. Seconds of the loop; energy Wh. What a line does wrong is
a list of faults that change (delay, bytes) parts of an answer. Source: Modbus Application Protocol
V1.1b3, Modbus over Serial Line V1.02.
"""

import asyncio
import math
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from hw.sim.device import Device, ExceptionCode
from hw.sim.load import Load
from hw.sim.meter import Meter, MeteredLoad
from hw.sim.models import FORMATS, MODELS
from hw.sim.relay_board import Relay

BYTE_S = 11 / 9600
TURNAROUND_S = 0.03
READ_BITS, READ_REGISTERS = (1, 2), (3, 4)
WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
COIL_ON = 0xFF00

Parts = list[tuple[float, bytes]]
# Changes what comes back: (line, request, parts) -> parts.
LineFault = Callable[["VirtualLine", bytes, Parts], Parts]


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


@lru_cache(maxsize=4096)  # requests are the same ones again and again
def with_crc(frame: bytes) -> bytes:
    """The frame as it goes on the wire."""
    crc = 0xFFFF
    for byte in frame:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return frame + struct.pack("<H", crc)


class Contact(Relay):
    """A contact that tells who moved it. Energy up to that second is counted before."""

    __slots__ = ("_before", "_moved")

    def __init__(self, before: Callable[[], None], moved: Callable[[bool, str], None]) -> None:
        super().__init__()
        self._before, self._moved = before, moved

    def command(self, closed: bool) -> None:
        """Over the bus. A stuck one takes the command and stays as it is."""
        if not self.stuck:
            self._move(closed, "bus")

    def by_hand(self, closed: bool) -> None:
        """A hand moves a stuck one too."""
        self._move(closed, "hand")

    def _move(self, closed: bool, cause: str) -> None:
        if closed is not self.closed:
            self._before()
            self.closed = closed
            self._moved(closed, cause)


class WorldMeter(Meter):
    """A meter that counts its load up to the second it is asked, and tells what it showed."""

    def __init__(
        self,
        meter_id: str,
        device_id: int,
        model_id: str,
        start_wh: int,
        load: Load,
        now: Callable[[], int],
        on_shown: Callable[[int], None],
        moved: Callable[[bool, str], None],
    ) -> None:
        self.contact = Contact(self.count, moved)
        self.metered = MeteredLoad(load, self.contact, now())
        self._on_shown = on_shown
        self.shift_wh = 0  # what the display is wrong by
        own_relay = self.contact if MODELS[model_id].relay_address is not None else None
        self._energy = MODELS[model_id].energy
        assert self._energy.numerator == 1
        self._shown = (-1, 0)  # an energy, and what the register says of it
        super().__init__(meter_id, device_id, MODELS[model_id], start_wh, self.metered, own_relay, now)

    def count(self) -> None:
        """Energy up to this second."""
        self.metered.advance(self._now())

    def true_wh(self) -> int:
        """What a perfect reader gets from the register at this second."""
        self.count()
        energy_wh = self.energy_wh
        if self._shown[0] != energy_wh:
            self._shown = (energy_wh, self._floor_of(self._energy.encode(energy_wh)))
        return self._shown[1]

    def _floor_of(self, registers: bytes) -> int:
        """As `Point.decode_floor`, without fractions: a float32 times 1000 is exact in a double."""
        value: float = struct.unpack(FORMATS[self._energy.type], registers)[0]
        return math.floor(value * self._energy.denominator)

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        self.count()
        energy = self._energy
        holds = address <= energy.address and energy.address + energy.count <= address + count
        if function_code != energy.function_code or not holds:
            return super().read(function_code, address, count)
        registers = energy.encode(max(0, self.energy_wh + self.shift_wh))
        self._on_shown(self._floor_of(registers))
        if count != energy.count or self.shift_wh:
            shown = super().read(function_code, address, count)
            if isinstance(shown, ExceptionCode):
                return shown
            offset = energy.address - address
            return [*shown[:offset], *struct.unpack(">2H", registers), *shown[offset + 2 :]]
        return struct.unpack(">2H", registers)


class VirtualLine:
    """One RS-485 line, and the opener of its port. `faults` change what comes back."""

    def __init__(self, devices: Mapping[int, Device], chance: random.Random) -> None:
        self.devices = devices
        self.chance = chance
        self.faults: list[LineFault] = []
        self.last_answer = b""
        self.busy_until = 0.0
        self.open = True
        self.transactions = 0
        self._port: VirtualPort | None = None

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> "VirtualPort":
        """The PortOpener of `edge.ports`."""
        if not self.open:
            raise OSError("the adapter is unplugged")
        self._port = VirtualPort(self, on_bytes, on_lost)
        return self._port

    def unplug(self) -> None:
        """The adapter is gone until `open` is set again."""
        self.open = False
        if self._port is not None:
            self._port.lose("the adapter was unplugged")

    def hang_up(self) -> None:
        """The gateway behind the port has lost its power."""
        if self._port is not None:
            self._port.close()

    def take(self, port: "VirtualPort", request: bytes) -> None:
        """A request was written: the answer comes after the time both take on the wire."""
        self.transactions += 1
        answer = self.answer(request)
        on_wire_s = BYTE_S * (len(request) + len(answer))
        parts: Parts = [(on_wire_s + TURNAROUND_S, answer)] if answer else []
        for fault in self.faults:
            parts = fault(self, request, parts)
        if answer:
            self.last_answer = answer
        loop = asyncio.get_running_loop()
        for delay_s, part in parts:
            self.busy_until = max(self.busy_until, loop.time() + delay_s)
            loop.call_later(delay_s, port.deliver, part)

    def answer(self, request: bytes) -> bytes:
        """What the device asked says; nothing for a broken request or a device that is not there."""
        device = self.devices.get(request[0]) if len(request) >= 8 and with_crc(request[:-2]) == request else None
        if device is None or device.silent:
            return b""
        function_code, address, count = struct.unpack_from(">BHH", request, 1)
        said = _obey(device, function_code, address, count, request)
        if isinstance(said, ExceptionCode):
            return with_crc(bytes((request[0], function_code | 0x80, said)))
        return with_crc(said)


def _obey(device: Device, function_code: int, address: int, count: int, request: bytes) -> bytes | ExceptionCode:
    if function_code in READ_BITS or function_code in READ_REGISTERS:
        values = device.read(function_code, address, count)
        if isinstance(values, ExceptionCode):
            return values
        if function_code in READ_REGISTERS:
            return struct.pack(f">BBB{len(values)}H", request[0], function_code, 2 * len(values), *values)
        bits = sum(bit << index for index, bit in enumerate(values))
        data = bits.to_bytes((len(values) + 7) // 8, "little")
        return bytes((request[0], function_code, len(data))) + data
    if function_code == WRITE_REGISTERS:
        words: Sequence[int] = struct.unpack_from(f">{count}H", request, 7)
    elif function_code == WRITE_COIL:
        words = [int(count == COIL_ON)]
    else:
        words = [count]
    refusal = device.write(function_code, address, words)
    return request[:6] if refusal is None else refusal


class VirtualPort:
    """The gateway's end of a line."""

    def __init__(self, line: VirtualLine, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._line, self._on_bytes, self._on_lost = line, on_bytes, on_lost
        self._closed = False

    def write(self, data: bytes) -> None:
        if not self._closed:
            self._line.take(self, data)

    def close(self) -> None:
        self._closed = True

    def deliver(self, data: bytes) -> None:
        """Bytes have come over the wire."""
        if not self._closed:
            self._on_bytes(data)

    def lose(self, reason: str) -> None:
        """The device behind the port is gone."""
        if not self._closed:
            self._closed = True
            self._on_lost(reason)
