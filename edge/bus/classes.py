"""How soon a value is wanted: money and relays in every round, the rest when its time has come.

A request has the class of the most urgent value in it; what its block holds besides comes for nothing. Milliseconds.
"""

from enum import IntEnum
from typing import Final

from edge.core.lean import dataclass
from edge.meters.point import Point

EXPORT_POINT: Final = "energy_export_total"  # an area's loss is made of both directions at one instant
FREEZE_INTERVAL_S: Final = 900  # every quarter of an hour of the wall clock; local midnights are among them
_POWER_QUALITY_UNITS: Final = frozenset({"V", "A", "W", "Hz"})
_POWER_QUALITY_NAME: Final = "power_factor"


class ReadingClass(IntEnum):
    """The most urgent first."""

    MONEY = 0  # registers that are charged or frozen
    RELAY = 1
    POWER_QUALITY = 2
    OTHER = 3


class Scope(IntEnum):
    """How much of a device one visit asks for."""

    MONEY = 0  # at the instant of a freeze
    URGENT = 1  # money and relays
    DUE = 3  # all whose time has come


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How old values of a class may become before they are asked for again; 0: asked for in every round."""

    power_quality_ms: int = 0
    other_ms: int = 0

    def wants(self, reading_class: ReadingClass, scope: Scope, age_ms: int | None) -> bool:
        """Whether a visit of this scope asks for a class whose values are of this age.

        None: there are none, because nobody asked yet or something went wrong since. They are asked for in any scope:
        a current that is not known would let a relay open above what it can break.
        """
        if age_ms is None:
            return True
        if reading_class > scope:
            return False
        if reading_class <= ReadingClass.RELAY:
            return True
        return age_ms >= (self.other_ms if reading_class is ReadingClass.OTHER else self.power_quality_ms)


def class_of(point: Point, money_point: str | None) -> ReadingClass:
    """By the point's name and unit, which every model states."""
    if point.name in (money_point, EXPORT_POINT):
        return ReadingClass.MONEY
    if point.unit in _POWER_QUALITY_UNITS or point.name.startswith(_POWER_QUALITY_NAME):
        return ReadingClass.POWER_QUALITY
    return ReadingClass.OTHER
