"""Emergency credit: offered, selected, in use, exhausted. All but the selection follows from the live balance.

The customer selects it when it is offered; it is in use once the balance is at the disablement
threshold, and what is used is how far the balance lies below that. Source: COSEM credit_status
(class_id 112), SMETS2; RULES.md 5 and 10 (one balance). Amounts nano-currency.
"""

from enum import Enum

from edge.core.credit_terms import CreditTerms
from edge.core.lean import dataclass
from edge.core.units import MoneyNano


class CreditStatus(Enum):
    """COSEM credit_status of the emergency credit."""

    ENABLED = "enabled"  # there is one, it is not offered
    SELECTABLE = "selectable"
    INVOKED = "invoked"  # selected, the balance is above the disablement threshold
    IN_USE = "in_use"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class EmergencyCredit:
    """Whether it was selected, and how much of it was used when that was last recorded."""

    invoked: bool = False
    used_nano: MoneyNano = MoneyNano(0)


def emergency_used(terms: CreditTerms, invoked: bool, live_nano: int, threshold_nano: int) -> MoneyNano:
    """How much is drawn at a live balance."""
    if not invoked:
        return MoneyNano(0)
    return MoneyNano(min(terms.emergency_limit_nano, max(0, threshold_nano - live_nano)))


def emergency_status(terms: CreditTerms, invoked: bool, live_nano: int, threshold_nano: int) -> CreditStatus | None:
    """The status at a live balance, None where no emergency credit is granted."""
    if terms.emergency_limit_nano == 0:
        return None
    if not invoked:
        return CreditStatus.SELECTABLE if is_offered(terms, False, live_nano) else CreditStatus.ENABLED
    if live_nano > threshold_nano:
        return CreditStatus.INVOKED
    used = emergency_used(terms, invoked, live_nano, threshold_nano)
    return CreditStatus.EXHAUSTED if used == terms.emergency_limit_nano else CreditStatus.IN_USE


def is_offered(terms: CreditTerms, invoked: bool, live_nano: int) -> bool:
    """Whether the customer may select it: a limit, a balance below its threshold, not selected yet."""
    return terms.emergency_limit_nano > 0 and not invoked and live_nano < terms.emergency_threshold_nano


def is_given_back(terms: CreditTerms, invoked: bool, live_nano: int) -> bool:
    """Whether a payment brought the balance to the emergency threshold, so that all of it may be selected again."""
    return invoked and live_nano >= terms.emergency_threshold_nano
