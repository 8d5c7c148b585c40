"""A virtual DL/T 645-2007 meter: data items, status words, relay and clock, and a pseudo-terminal for some of them.

Energy in hundredths of a kWh, voltage in tenths of a volt, current in mA, power in tenths of a watt, as the
registers show them. Written on its own, not from the codec of the agent, so that a mistake in one of the two
shows. Source: DL/T 645-2007 clause 5 and annex A.
"""

import os
import select
import threading
import tty
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from types import TracebackType

ERROR_NO_DATA, ERROR_PASSWORD, ERROR_OTHER = 2, 4, 1
TRIP, CLOSE_ALLOWED, DIRECT_CLOSE = 0x1A, 0x1B, 0x1C
RELAY_OPEN_BIT = 1 << 4
WILDCARD = 0xAA
_LOOK_S = 0.05
_STATUS_WORDS = range(1, 8)


@dataclass(slots=True)
class Dlt645Meter:
    """One meter. `address` as printed on it; `password` with its level, as a meter keeps it: 02 and six digits."""

    address: str = "000000000001"
    password: str = "02123456"
    energy_hundredths_kwh: int = 123_456
    frozen_hundredths_kwh: int = 120_000
    voltage_tenths_v: int = 2_203
    current_ma: int = 5_012
    power_tenths_w: int = 11_024
    closed: bool = True
    obeys: bool = True  # False: a stuck relay, which takes the command and stays
    silent: bool = False
    has_blocks: bool = True
    ignored: frozenset[str] = frozenset()  # identifiers that it does not answer at all, though it should refuse
    clock: datetime = datetime(2026, 3, 2, 11, 40, 7)
    commands: list[int] = field(default_factory=list)

    def answer(self, heard: bytes) -> bytes | None:
        """What the meter says to a frame; nothing to noise or to another meter's address."""
        frame = heard.lstrip(b"\xfe")
        if len(frame) < 12 or frame[0] != 0x68 or frame[7] != 0x68 or len(frame) != frame[9] + 12 or frame[-1] != 0x16:
            return None
        if self.silent or sum(frame[:-2]) % 256 != frame[-2]:
            return None
        own = self.own_bytes
        control, data = frame[8], bytes((byte - 0x33) % 256 for byte in frame[10:-2])
        if not all(asked in (digit, WILDCARD) for asked, digit in zip(frame[1:7], own, strict=True)):
            return None
        if control == 0x13 and not data:
            return frame_of(own, 0x93, own)
        if control == 0x11 and len(data) == 4:
            if data[::-1].hex() in self.ignored:
                return None
            found = self.item(data[::-1].hex())
            if found is None:
                return frame_of(own, 0xD1, bytes((ERROR_NO_DATA,)))
            return frame_of(own, 0x91, data + found)
        if control == 0x1C and len(data) == 16 and frame[1:7] == own:
            error = self._command(data)
            return frame_of(own, 0x9C, b"") if error is None else frame_of(own, 0xDC, bytes((error,)))
        return None

    @property
    def own_bytes(self) -> bytes:
        """The address as it is on the wire."""
        return bytes(int(self.address[i : i + 2], 16) for i in range(10, -1, -2))

    def item(self, identifier: str) -> bytes | None:
        """The data of an item, without offset; None if the meter does not have it."""
        status = [0 if self.closed or word != 3 else RELAY_OPEN_BIT for word in _STATUS_WORDS]
        words = {f"0400050{number}": word.to_bytes(2, "little") for number, word in enumerate(status, 1)}
        energy, frozen = bcd(self.energy_hundredths_kwh, 4), bcd(self.frozen_hundredths_kwh, 4)
        blocks = {
            "0001ff00": energy + energy + bcd(0, 4) * 3,
            "0002ff00": bcd(0, 4) * 5,
            "040005ff": b"".join(words.values()),
        }
        now = self.clock
        return {
            "00010000": energy,
            "00020000": bcd(0, 4),
            "02010100": bcd(self.voltage_tenths_v, 2),
            "02020100": bcd(self.current_ma if self.closed else 0, 3),
            "02030000": bcd(self.power_tenths_w if self.closed else 0, 3),
            "02800002": bcd(5000, 2),
            "04000101": bcd(int(f"{now:%y%m%d}0{now.isoweekday() % 7}"), 4),
            "04000102": bcd(int(f"{now:%H%M%S}"), 3),
            "04000401": self.own_bytes,
            "05060001": bcd(int(f"{now:%y%m%d}0000"), 5),
            "05060101": frozen + bcd(0, 4) * 4,
            **words,
            **(blocks if self.has_blocks else {}),
        }.get(identifier)

    def _command(self, data: bytes) -> int | None:
        if bytes((data[0], *data[3:0:-1])).hex() != self.password:
            return ERROR_PASSWORD
        command, until = data[8], data[10:].hex()
        if command not in (TRIP, CLOSE_ALLOWED, DIRECT_CLOSE):
            return ERROR_OTHER
        if datetime.strptime(until, "%S%M%H%d%m%y") < self.clock:
            return ERROR_OTHER
        self.commands.append(command)
        if command != CLOSE_ALLOWED and self.obeys:  # allowed only: the customer has not pressed the key
            self.closed = command == DIRECT_CLOSE
        return None


class PseudoTerminal:
    """Meters on a pseudo-terminal, in a thread of its own. Its `path` is opened like a serial line."""

    def __init__(self, *meters: Dlt645Meter) -> None:
        self._meters = meters
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "PseudoTerminal":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        heard = b""
        while not self._over.is_set():
            if not select.select([self._master], [], [], _LOOK_S)[0]:
                heard = b""  # silence ends a frame
                continue
            heard += os.read(self._master, 256)
            answer = collided([meter.answer(heard) for meter in self._meters])
            if answer is not None:
                heard = b""
                os.write(self._master, answer)


def collided(answers: Sequence[bytes | None]) -> bytes | None:
    """What is heard when these speak at once: a wire is low as soon as one of them pulls it there."""
    said = [answer for answer in answers if answer is not None]
    if not said:
        return None
    heard = said[0]
    for other in said[1:]:
        heard = bytes(one & two for one, two in zip_longest(heard, other, fillvalue=0xFF))
    return heard


def frame_of(address: bytes, control: int, data: bytes) -> bytes:
    """A frame with its offset and sum, four bytes FEH before it."""
    body = b"\x68" + address + b"\x68" + bytes((control, len(data))) + bytes((byte + 0x33) % 256 for byte in data)
    return b"\xfe\xfe\xfe\xfe" + body + bytes((sum(body) % 256, 0x16))


def bcd(value: int, length: int) -> bytes:
    """A number as packed BCD, low byte first."""
    digits = f"{value:0{2 * length}d}"
    return bytes(int(digits[i : i + 2], 16) for i in range(2 * length - 2, -1, -2))
