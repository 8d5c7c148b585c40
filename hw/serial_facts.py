"""What the kernel says about a serial device before it is opened: its driver, and an adapter's latency timer.

Times are milliseconds. Source: Documentation/ABI of the kernel (/sys/class/tty, /sys/bus/usb-serial),
BCM2835 ARM Peripherals 2.2 (the mini-UART has no parity and one stop bit).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hw.line_words import filled
from hw.rs485 import Direction

SYSFS: Final = Path("/sys")
# The Pi's second UART. Its driver's name, and what the device tree calls it.
_MINI_UART: Final = "bcm2835-aux-uart"
# Since 6.5 the kernel puts two devices of its own between a tty and the hardware's driver.
_SERIAL_BASE: Final = ("port", "ctrl")
_PARENTS_MAX: Final = 4
_LATENCY_MS_MAX: Final = 1

NO_PARITY: Final = (
    "this is the Raspberry Pi's mini-UART, which has no parity, so the meters would take no request; set format 8N1 "
    "here and in the meters, or free the better UART with dtoverlay=disable-bt in config.txt and use /dev/ttyAMA0"
)
LATENCY: Final = (
    "{path}: the adapter keeps what it has received for up to {latency_ms} ms, at every request; "
    "until it is unplugged: echo 1 | sudo tee {sysfs_file} ; for good, a udev rule: "
    'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{{latency_timer}}="1"'
)
ONE_STOP_BIT: Final = (
    "{path}: the Raspberry Pi's mini-UART sends one stop bit whatever is set; "
    "most meters take it, the standard wants two"
)
RTS_BY_PROGRAM: Final = (
    "{path}: RTS is switched by this program, a few milliseconds late when the machine is busy, and a meter that "
    "answers at once loses its first bytes; an adapter that turns the line around by itself, or "
    'direction = "kernel", is better'
)


@dataclass(frozen=True, slots=True)
class SerialFacts:
    """A tty as sysfs shows it; None where it does not say."""

    driver: str | None
    latency_timer_ms: int | None
    latency_timer_file: str

    @property
    def is_mini_uart(self) -> bool:
        """Whether this is the Pi's UART without parity."""
        return self.driver == _MINI_UART


@dataclass(frozen=True, slots=True)
class LineWarning:
    """Something that works, and would work better."""

    sentence: str
    values: dict[str, object]

    def text(self, language: str = "en") -> str:
        """The sentence with its values."""
        return filled(self.sentence, language, **self.values)


def serial_facts(path: str, sysfs: Path = SYSFS) -> SerialFacts:
    """What there is to know of a device; /dev/serial0 and /dev/serial/by-id/... are followed."""
    name = Path(os.path.realpath(path)).name
    device = sysfs / "class" / "tty" / name / "device"
    latency = device / "latency_timer"
    try:
        latency_ms = int(latency.read_text("ascii"))
    except (OSError, ValueError):
        latency_ms = None
    return SerialFacts(_driver(device), latency_ms, f"/sys/bus/usb-serial/devices/{name}/latency_timer")


def serial_warnings(path: str, format: str, direction: Direction, sysfs: Path = SYSFS) -> tuple[LineWarning, ...]:
    """What a technician should know about a device that can be used."""
    facts = serial_facts(path, sysfs)
    return tuple(_warnings(path, format, direction, facts))


def _warnings(path: str, format: str, direction: Direction, facts: SerialFacts) -> Iterator[LineWarning]:
    if facts.latency_timer_ms is not None and facts.latency_timer_ms > _LATENCY_MS_MAX:
        values = {"path": path, "latency_ms": facts.latency_timer_ms, "sysfs_file": facts.latency_timer_file}
        yield LineWarning(LATENCY, values)
    if facts.is_mini_uart and format.endswith("2"):
        yield LineWarning(ONE_STOP_BIT, {"path": path})
    if direction.kind == "rts":
        yield LineWarning(RTS_BY_PROGRAM, {"path": path})


def _driver(device: Path) -> str | None:
    """The driver of the hardware behind a tty."""
    place = Path(os.path.realpath(device))
    for folder in (place, *place.parents)[:_PARENTS_MAX]:
        link = folder / "driver"
        if link.is_symlink() and (name := Path(os.readlink(link)).name) not in _SERIAL_BASE:
            return name
    return None
