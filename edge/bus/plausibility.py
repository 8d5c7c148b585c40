"""Whether a money register may be believed, and how strongly.

Energy is Wh, time is the accounting clock in milliseconds, power W. A register is believed as it
comes only if it did not fall and did not rise by more than the breaker lets through in the time;
anything else, and the first reading after any trouble with the device, is read a second time with a
request of another length, which no late or repeated answer to the first can satisfy. Two readings
that agree are passed on with a verdict: what a falling register means is for the accounting core.
Source: RULES.md 4.
"""

from enum import Enum
from typing import Final

from edge.bus.records import Verdict
from edge.core.lean import dataclass
from edge.core.units import WattHours

_MILLISECONDS_PER_HOUR: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """A money register and the time span in which the meter took it."""

    register_wh: WattHours
    step_wh: WattHours  # resolution of the register at this value
    asked_ms: int  # accounting clock when the request was handed to the line
    answered_ms: int  # accounting clock when the answer was complete


class Advance(Enum):
    """How one reading follows another."""

    PLAUSIBLE = "plausible"
    FALLING = "falling"
    JUMP = "jump"


_PLAUSIBLE: Final = Advance.PLAUSIBLE
_CONFIRMED: Final[dict[Advance, Verdict]] = {
    Advance.PLAUSIBLE: "good",
    Advance.FALLING: "confirmed_falling",
    Advance.JUMP: "confirmed_jump",
}


def advance(before: RegisterReading, after: RegisterReading, power_w_max: int) -> Advance:
    """How `after` follows `before`. One register step more than the power allows is rounding."""
    if after.register_wh < before.register_wh:
        return Advance.FALLING
    elapsed_ms = max(0, after.answered_ms - before.asked_ms)
    energy_wh_max = -(-power_w_max * elapsed_ms // _MILLISECONDS_PER_HOUR)
    step_wh = max(before.step_wh, after.step_wh)
    if after.register_wh - before.register_wh > energy_wh_max + step_wh:
        return Advance.JUMP
    return Advance.PLAUSIBLE


class RegisterWatch:
    """Judges one meter's money register, reading by reading."""

    def __init__(self, power_w_max: int) -> None:
        self._power_w_max = power_w_max
        self._believed: RegisterReading | None = None
        self._troubled = True  # nothing is known at the start, so the first reading is confirmed too

    def trouble(self) -> None:
        """A fault of the line or of this device: the next reading needs a second one."""
        self._troubled = True

    def first(self, reading: RegisterReading) -> Verdict | None:
        """`good`, or None: read again with a request of another length and call `second`."""
        before = self._believed
        if self._troubled or before is None:
            return None
        if advance(before, reading, self._power_w_max) is not _PLAUSIBLE:
            return None
        self._believed = reading
        return "good"

    def second(self, first: RegisterReading, second: RegisterReading) -> Verdict | None:
        """The verdict on `second`, or None: the two disagree, neither may be used."""
        if advance(first, second, self._power_w_max) is not Advance.PLAUSIBLE:
            self._troubled = True
            return None
        believed, self._believed, self._troubled = self._believed, second, False
        return "good" if believed is None else _CONFIRMED[advance(believed, second, self._power_w_max)]
