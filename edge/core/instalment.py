"""An agreement to pay old debt in parts: shares of a total, each with the local day it falls due.

On its day a part moves from the old-debt ledger to the accumulated debt, which payments clear
first; a part not paid stays there and is seen. Source: RULES.md 5 (S1, S2). Amounts nano-currency,
shares hundredths of a percent, days local days since 1970-01-01.
"""

from collections.abc import Sequence

from edge.core.credit_terms import HUNDREDTHS_OF_PERCENT
from edge.core.lean import dataclass
from edge.core.units import MoneyNano


@dataclass(frozen=True, slots=True)
class Instalment:
    """One part of a plan."""

    due_day: int
    amount_nano: MoneyNano


@dataclass(frozen=True, slots=True)
class InstalmentPlan:
    """What was agreed. `next_number` counts the parts that have fallen due."""

    plan_id: str
    parts: tuple[Instalment, ...]
    next_number: int = 0

    def due_on(self, day: int) -> tuple[Instalment, ...]:
        """The parts not yet moved that are due on or before a day."""
        return tuple(part for part in self.parts[self.next_number :] if part.due_day <= day)


def instalment_plan(plan_id: str, total_nano: int, shares: Sequence[tuple[int, int]]) -> InstalmentPlan:
    """A plan from (due day, share) pairs. The parts add up to the total to the nano.

    ValueError for a total that is not above 0, no or too many parts, days that do not rise, or
    shares that are not above 0 and 100 % together.
    """
    days = [day for day, _ in shares]
    if total_nano <= 0:
        raise ValueError(f"total: is {total_nano}, allowed is more than 0")
    if not 1 <= len(shares) <= 120 or days != sorted(set(days)):
        raise ValueError("parts: 1 to 120 with rising due days are allowed")
    if any(share <= 0 for _, share in shares) or sum(share for _, share in shares) != HUNDREDTHS_OF_PERCENT:
        raise ValueError("shares: are to be above 0 and 100 % together")
    parts, given, share_given = [], 0, 0
    for day, share in shares:
        share_given += share
        upto_nano = total_nano * share_given // HUNDREDTHS_OF_PERCENT
        parts.append(Instalment(day, MoneyNano(upto_nano - given)))
        given = upto_nano
    return InstalmentPlan(plan_id, tuple(parts))
