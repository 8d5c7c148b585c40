"""What an installer's report says of a port: driver, adapter, latency timer, and whether it keeps a parity.

For reports only; nothing of the agent reads this. Milliseconds. Source: the kernel's sysfs, termios(3).
"""

import termios
from dataclasses import dataclass
from pathlib import Path

import serial  # type: ignore[import-untyped, unused-ignore]

from hw.serial_facts import SYSFS, serial_facts

_PARENTS_MAX = 4


@dataclass(frozen=True, slots=True)
class PortFacts:
    """What can be said of a port. None where the system does not say."""

    kind: str  # serial or tcp
    driver: str | None
    latency_timer_ms: int | None
    parity_kept: bool | None
    usb_id: str | None


def port_facts(address: str, sysfs: Path = SYSFS) -> PortFacts:
    """Facts of a line's address; a TCP address has none. Opens the device for a moment to try a parity."""
    if "://" in address:
        return PortFacts("tcp", None, None, None, None)
    facts = serial_facts(address, sysfs)
    parity_kept = False if facts.is_mini_uart else _keeps_parity(address)
    return PortFacts("serial", facts.driver, facts.latency_timer_ms, parity_kept, _usb_id(address, sysfs))


def _keeps_parity(path: str) -> bool | None:
    """Whether the driver takes 8E1: some take it silently and go on without."""
    try:
        device = serial.Serial(path, 9600, parity=serial.PARITY_EVEN, timeout=0, exclusive=True)
    except termios.error:
        return False
    except (ValueError, OSError):
        return None
    try:
        return bool(termios.tcgetattr(device.fileno())[2] & termios.PARENB)
    except termios.error:
        return None
    finally:
        device.close()


def _usb_id(address: str, sysfs: Path) -> str | None:
    """Vendor and product of the USB adapter, a few folders above its port."""
    place = (sysfs / "class" / "tty" / Path(address).resolve().name / "device").resolve()
    for folder in (place, *place.parents)[:_PARENTS_MAX]:
        vendor, product = folder / "idVendor", folder / "idProduct"
        if vendor.is_file() and product.is_file():
            return f"{vendor.read_text('ascii').strip()}:{product.read_text('ascii').strip()}"
    return None
