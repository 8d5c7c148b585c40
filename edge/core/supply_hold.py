"""Stated reasons against a cut that come from people: a dispute, the weather, an important customer.

They are set and lifted by an order or by a person on site, each with a reference, some with an
end. A hold only says no to a local cut; it never reconnects anybody. Source: RULES.md 6 (cut
blockers), S3 and S4. Times are Unix seconds.
"""

from enum import Enum

from edge.core.lean import dataclass
from edge.core.units import ClockReading, UnixSeconds


class SupplyHoldKind(Enum):
    """Whose reason it is. The value is the code of the blocker."""

    IMPORTANT_CUSTOMER = "important_customer"
    OPERATOR = "operator_hold"
    DISPUTE = "dispute"
    WEATHER = "weather_hold"
    CONTACT_UNVERIFIED = "contact_unverified"


@dataclass(frozen=True, slots=True)
class SupplyHold:
    """One reason against a cut: what it refers to, and when it ends by itself (None: not)."""

    kind: SupplyHoldKind
    reference: str
    until: UnixSeconds | None = None

    def stands(self, clock: ClockReading) -> bool:
        """Whether it still says no. A clock nobody vouches for ends nothing."""
        return self.until is None or not clock.vouched or clock.at < self.until


def standing_hold(holds: tuple[SupplyHold, ...], kind: SupplyHoldKind, clock: ClockReading) -> SupplyHold | None:
    """The hold of that kind that stands at `clock`, or None."""
    return next((hold for hold in holds if hold.kind is kind and hold.stands(clock)), None)


def with_hold(holds: tuple[SupplyHold, ...], changed: SupplyHold, stands: bool) -> tuple[SupplyHold, ...]:
    """The holds after one was set (it replaces one of its kind) or lifted."""
    others = tuple(hold for hold in holds if hold.kind is not changed.kind)
    return (*others, changed) if stands else others
