"""What a transformer area loses: supply less sales, between the same two frozen instants.

Energy in Wh, shares in hundredths of a percent. Supply is (forward - reverse) x CT ratio of the supply
meters, and what is generated inside the area. Without all meters there is a coverage and no rate that
may be believed: it is marked incomplete. Source: RULES.md 9 (S3).
"""

from collections.abc import Mapping

from edge.core.lean import dataclass
from edge.core.units import WattHours, round_half_away

WHOLE_HUNDREDTHS = 10_000


@dataclass(frozen=True, slots=True)
class Area:
    """Which meters stand around an area, which generate in it and which sell."""

    area_id: str
    supply_meters: tuple[str, ...]
    sale_meters: tuple[str, ...]
    generation_meters: tuple[str, ...] = ()
    ct_ratio: int = 1  # of the supply meters; the registers of the others are in Wh as they are

    @property
    def meters(self) -> tuple[str, ...]:
        return (*self.supply_meters, *self.generation_meters, *self.sale_meters)


@dataclass(frozen=True, slots=True)
class FrozenRegister:
    """A meter's registers at the frozen instant. `reverse_wh` is None where the meter has no such register."""

    forward_wh: WattHours
    reverse_wh: WattHours | None = None


@dataclass(frozen=True, slots=True)
class LineLoss:
    """What is known of an area's loss. `rate_hundredths` is None where there is no supply to compare with."""

    supply_wh: int
    sold_wh: int
    loss_wh: int
    rate_hundredths: int | None
    coverage_hundredths: int
    missing: tuple[str, ...]  # the meters without two readings to be believed

    @property
    def incomplete(self) -> bool:
        """Whether a meter is missing: then neither loss nor rate says anything about the line."""
        return bool(self.missing)

    @property
    def negative(self) -> bool:
        """More sold than supplied: a meter of another area, a wrong clock or a wrong ratio."""
        return not self.incomplete and self.loss_wh < 0


def supplied(forward_wh: int, reverse_wh: int, ct_ratio: int, generation_wh: int) -> int:
    """What came into an area, in Wh."""
    assert ct_ratio >= 1
    return (forward_wh - reverse_wh) * ct_ratio + generation_wh


def line_loss(supply_wh: int, sold_wh: int, meters: int, missing: tuple[str, ...] = ()) -> LineLoss:
    """The loss of an area of so many meters, of which some are missing."""
    assert 0 <= len(missing) <= meters
    loss_wh = supply_wh - sold_wh
    rate = round_half_away(loss_wh * WHOLE_HUNDREDTHS, supply_wh) if supply_wh > 0 else None
    # Coverage is cut off, not rounded: 100.00 % is said only when every meter was read.
    coverage = (meters - len(missing)) * WHOLE_HUNDREDTHS // meters if meters else 0
    return LineLoss(supply_wh, sold_wh, loss_wh, rate, coverage, missing)


def area_loss(area: Area, before: Mapping[str, FrozenRegister], after: Mapping[str, FrozenRegister]) -> LineLoss:
    """The loss between two frozen instants, by meter id. A register that fell counts as not read."""
    energies = {meter: _energies(before.get(meter), after.get(meter)) for meter in area.meters}
    missing = tuple(meter for meter, energy in energies.items() if energy is None)
    read = {meter: energy for meter, energy in energies.items() if energy is not None}
    forward_wh = sum(read[meter][0] for meter in area.supply_meters if meter in read)
    reverse_wh = sum(read[meter][1] for meter in area.supply_meters if meter in read)
    generation_wh = sum(read[meter][0] for meter in area.generation_meters if meter in read)
    sold_wh = sum(read[meter][0] for meter in area.sale_meters if meter in read)
    return line_loss(supplied(forward_wh, reverse_wh, area.ct_ratio, generation_wh), sold_wh, len(energies), missing)


def _energies(before: FrozenRegister | None, after: FrozenRegister | None) -> tuple[int, int] | None:
    """(forward, reverse) energy between two freezes of a meter, None if it cannot be told."""
    if before is None or after is None or (before.reverse_wh is None) is not (after.reverse_wh is None):
        return None
    forward_wh = after.forward_wh - before.forward_wh
    reverse_wh = (after.reverse_wh or 0) - (before.reverse_wh or 0)
    return None if forward_wh < 0 or reverse_wh < 0 else (forward_wh, reverse_wh)
