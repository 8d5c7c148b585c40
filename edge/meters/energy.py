"""A cumulative energy register and its resolution, read in one step: what every visit to a meter does.

Wh, as `register_wh` and `resolution_wh` of edge/meters/point.py say; they are the authority, and read whatever has no
short way here.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

from edge.core.units import WattHours
from edge.meters.point import BINARY_TYPES, WATT_HOURS_PER_UNIT, Point, register_wh, resolution_wh

EnergyReader = Callable[[Sequence[int]], tuple[WattHours, WattHours]]

_UNSIGNED = ("u16", "u32")


def energy_reader(point: Point, start: int) -> EnergyReader:
    """(register, resolution) of the point that begins at this register of what is read. Raises ValueRefused."""
    end = start + point.count

    def read(registers: Sequence[int]) -> tuple[WattHours, WattHours]:
        words = registers[start:end]
        return register_wh(point, words), resolution_wh(point, words)

    if point.type not in _UNSIGNED or point.invalid is not None:
        return read
    resolution = resolution_wh(point, (0,) * point.count)
    first, last = (start, end - 1) if point.order == "msw" else (end - 1, start)
    high = 0 if BINARY_TYPES[point.type][0] == 1 else 1 << 16
    return _unsigned_reader(first, last, high, _wh_per_step(point.scale, point.unit), resolution)


def _unsigned_reader(first: int, last: int, high: int, wh_per_step: Fraction, resolution: WattHours) -> EnergyReader:
    """Of one or two registers without a pattern that means no value. `high` is what the first counts besides."""
    numerator, denominator = wh_per_step.numerator, wh_per_step.denominator

    def read(registers: Sequence[int]) -> tuple[WattHours, WattHours]:
        number = registers[first] * high + registers[last]
        return WattHours(number * numerator // denominator), resolution

    return read


def _wh_per_step(scale: Decimal, unit: str) -> Fraction:
    return Fraction(scale) * WATT_HOURS_PER_UNIT[unit]
