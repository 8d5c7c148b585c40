"""What two readings of a register mean, and what it showed at an instant between them.

Registers in Wh (the floor of the meter's exact decimal), power in W, `at` in Unix seconds.
A register that falls charges nothing and refunds nothing. Source: RULES.md 2 and 4.
"""

from enum import Enum

from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.core.units import FreezeQuality

FREEZE_TOLERANCE_S = 60
_SECONDS_PER_HOUR = 3600


class DeltaKind(Enum):
    """What happened between two readings. The last two carry no energy: hold, and never cut on them."""

    NORMAL = "normal"
    SAME = "same"
    ROLLOVER = "rollover"
    REGRESSION = "regression"
    JUMP = "jump"


@dataclass(frozen=True, slots=True)
class RegisterDelta:
    """Energy between two readings; None when it cannot be told."""

    kind: DeltaKind
    energy_wh: int | None


_delta = quickly(RegisterDelta)
_SAME = RegisterDelta(DeltaKind.SAME, 0)


def delta(before_wh: int, after_wh: int, plausible_wh_max: int, modulus_wh: int | None = None) -> RegisterDelta:
    """What lies between two readings of one register.

    `plausible_wh_max` is what physics allows since the first reading (`plausible_energy`). With
    `modulus_wh`, where the register starts over, a fall is a rollover if that way forward is
    plausible; without it, or a longer way, a fall is a regression.
    """
    assert before_wh >= 0
    assert after_wh >= 0
    if after_wh == before_wh:
        return _SAME
    if after_wh > before_wh:
        energy_wh = after_wh - before_wh
        kind = DeltaKind.NORMAL if energy_wh <= plausible_wh_max else DeltaKind.JUMP
    else:
        energy_wh = after_wh - before_wh + (modulus_wh or 0)
        kind = DeltaKind.ROLLOVER if 0 < energy_wh <= plausible_wh_max else DeltaKind.REGRESSION
    return _delta(kind, None if kind in (DeltaKind.JUMP, DeltaKind.REGRESSION) else energy_wh)


def plausible_energy(power_w_max: int, elapsed_s: int, step_wh: int = 0) -> int:
    """The most a register can rise by in a time, in Wh: highest power, and one step of the register.

    `step_wh` is the register's resolution there (8 Wh for a float32 above 65 536 kWh); it is at
    least 1, because both readings were cut off to whole watt-hours. Time that runs back counts 0.
    """
    energy_wh = -(-power_w_max * max(0, elapsed_s) // _SECONDS_PER_HOUR)
    return energy_wh + max(1, step_wh)


def freeze_register(
    before: tuple[int, int] | None, after: tuple[int, int], instant: int, tolerance_s: int = FREEZE_TOLERANCE_S
) -> tuple[int, FreezeQuality] | None:
    """(register in Wh, where it came from) at an instant, from the (at, Wh) samples around it.

    The nearer sample if it lies within the tolerance (the one before, of equals), else a line
    between the two by seconds, cut off to whole watt-hours. None when it cannot be told: no
    sample before, or the register fell between the two.
    """
    after_at, after_wh = after
    assert instant <= after_at
    if before is None:
        return (after_wh, FreezeQuality.GATEWAY_SAMPLE) if after_at - instant <= tolerance_s else None
    before_at, before_wh = before
    assert before_at <= instant
    nearest_at, nearest_wh = before if instant - before_at <= after_at - instant else after
    if abs(nearest_at - instant) <= tolerance_s:
        return nearest_wh, FreezeQuality.GATEWAY_SAMPLE
    if after_wh < before_wh:
        return None
    advance_wh = (after_wh - before_wh) * (instant - before_at) // (after_at - before_at)
    return before_wh + advance_wh, FreezeQuality.INTERPOLATED
