"""One step under way: events are applied as they are decided, so that later ones see earlier ones."""

import dataclasses
from collections.abc import Iterable
from dataclasses import field

from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.charge import Figures, Rating
from edge.core.lean import dataclass
from edge.core.ledger import apply
from edge.core.units import ClockReading, UnixSeconds


@dataclasses.dataclass(slots=True)
class Turn:
    """One step under way: events are applied as they are decided, so later ones see earlier ones."""

    state: State
    rating: Rating
    events: list[ev.Event] = field(default_factory=list)
    figures: dict[str, Figures] = field(default_factory=dict)

    def emit(self, event: ev.Event) -> None:
        self.events.append(event)
        self.state = apply(self.state, event)

    def emit_all(self, events: Iterable[ev.Event]) -> None:
        for event in events:
            self.emit(event)


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and on what an account is judged. Only a round may cut: a payment never does."""

    clock: ClockReading
    fresh: Register | None  # read for this judgement
    cloud_silent_s: int | None
    may_cut: bool
    power_over_s: int = 0  # seconds above the load limit
    reading_age_s: int | None = None  # of `fresh`, by time somebody can vouch for; None: there is none, or nobody can
    server_at: UnixSeconds | None = None  # the backend's time, where it was heard in this boot
