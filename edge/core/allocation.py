"""Where a payment goes, in the order of RULES.md 5; the parts add up to the payment to the nano.

1 payment-event debt, 2 accumulated debt, 2b the stated share for old debt, 3 a balance below the
disablement threshold up to it, 4 emergency credit used, 5 the rest to the token credit. Parts 3 to
5 together raise the live balance. Source: SMETS2, COSEM token_gateway. Amounts nano-currency.
"""

from edge.core.credit_terms import HUNDREDTHS_OF_PERCENT
from edge.core.debt import Debts, payment_debt_part
from edge.core.lean import dataclass
from edge.core.units import MoneyNano


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the account stands when the payment comes in."""

    live_nano: int
    threshold_nano: int  # of disablement
    emergency_used_nano: int
    cap_period: int  # of the time of payment


@dataclass(frozen=True, slots=True)
class Allocation:
    """The parts of one payment."""

    payment_debt_nano: MoneyNano
    accumulated_debt_nano: MoneyNano
    old_debt_nano: MoneyNano
    below_threshold_nano: MoneyNano
    emergency_nano: MoneyNano
    token_nano: MoneyNano

    @property
    def debts_nano(self) -> MoneyNano:
        """What pays debts and does not raise the balance."""
        return MoneyNano(self.payment_debt_nano + self.accumulated_debt_nano + self.old_debt_nano)

    @property
    def credit_nano(self) -> MoneyNano:
        """What raises the balance."""
        return MoneyNano(self.below_threshold_nano + self.emergency_nano + self.token_nano)


def allocate(amount_nano: int, debts: Debts, old_debt_share: int, standing: Standing) -> Allocation:
    """The parts of a payment."""
    assert amount_nano > 0
    left = amount_nano
    payment_debt = min(left, payment_debt_part(debts.payment, amount_nano, standing.cap_period))
    left -= payment_debt
    accumulated = min(left, debts.accumulated_nano)
    left -= accumulated
    old_debt = min(left, debts.old_nano, amount_nano * old_debt_share // HUNDREDTHS_OF_PERCENT)
    left -= old_debt
    # The token credit alone: what emergency credit has paid does not lie below the threshold.
    token_nano = standing.live_nano + standing.emergency_used_nano
    below_threshold = min(left, max(0, standing.threshold_nano - token_nano))
    left -= below_threshold
    emergency = min(left, standing.emergency_used_nano)
    return Allocation(
        MoneyNano(payment_debt),
        MoneyNano(accumulated),
        MoneyNano(old_debt),
        MoneyNano(below_threshold),
        MoneyNano(emergency),
        MoneyNano(left - emergency),
    )


def payment_for(target_nano: int, debts: Debts, old_debt_share: int, standing: Standing) -> MoneyNano:
    """The smallest payment that raises the live balance to `target_nano`, what it gives to debts included."""
    need_nano = target_nano - standing.live_nano
    if need_nano <= 0:
        return MoneyNano(0)
    # No payment gives debts more than they are, and a larger one never raises the balance by less.
    enough, short = need_nano + debts.total_nano, need_nano - 1
    while enough - short > 1:
        middle = (enough + short) // 2
        if allocate(middle, debts, old_debt_share, standing).credit_nano >= need_nano:
            enough = middle
        else:
            short = middle
    return MoneyNano(enough)
