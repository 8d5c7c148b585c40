"""What an account owes besides its balance: the five debts of a prepayment account.

Payment-event debt (a share of each payment, capped in a period), two time-based debts (so much a
day), accumulated debt (charges no credit could pay), and old debt (what was owed before, a ledger
of its own). None of them is part of the live balance. Source: SMETS2 prepayment, COSEM Charge
(class_id 113), RULES.md 2 and 5. Amounts nano-currency, shares hundredths of a percent.
"""

from dataclasses import replace
from enum import Enum

from edge.core.credit_terms import HUNDREDTHS_OF_PERCENT
from edge.core.instalment import InstalmentPlan
from edge.core.lean import dataclass
from edge.core.units import MoneyNano

_MONDAY = 4  # 1970-01-05: periods of seven days are weeks from Monday
CAP_PERIODS_KEPT = 52


class DebtKind(Enum):
    """The debts of an account."""

    PAYMENT = "payment"
    TIME_1 = "time_1"
    TIME_2 = "time_2"
    ACCUMULATED = "accumulated"
    OLD = "old"


@dataclass(frozen=True, slots=True)
class PaymentDebt:
    """Debt collected from payments. `taken` is what each recent cap period has given, (period, nano) rising."""

    amount_nano: MoneyNano = MoneyNano(0)
    share: int = 0  # of each payment
    cap_nano: MoneyNano | None = None  # at most this much in a period; None: no cap
    cap_days: int = 7
    taken: tuple[tuple[int, MoneyNano], ...] = ()

    def cap_period(self, day: int) -> int:
        """The cap period that holds a local day (days since 1970-01-01)."""
        return (day - _MONDAY) // self.cap_days

    def cap_left_nano(self, period: int) -> int | None:
        """What may still be taken in a period, None without a cap. A period too long ago to know gives nothing."""
        if self.cap_nano is None:
            return None
        newest = self.taken[-1][0] if self.taken else period
        if period <= newest - CAP_PERIODS_KEPT:
            return 0
        return max(0, self.cap_nano - dict(self.taken).get(period, 0))


@dataclass(frozen=True, slots=True)
class TimeDebt:
    """Debt collected by the day."""

    amount_nano: MoneyNano = MoneyNano(0)
    daily_nano: MoneyNano = MoneyNano(0)


@dataclass(frozen=True, slots=True)
class Debts:
    """All debts of one account."""

    payment: PaymentDebt = PaymentDebt()
    time_1: TimeDebt = TimeDebt()
    time_2: TimeDebt = TimeDebt()
    accumulated_nano: MoneyNano = MoneyNano(0)
    old_nano: MoneyNano = MoneyNano(0)
    plan: InstalmentPlan | None = None

    def amount_nano(self, kind: DebtKind) -> MoneyNano:
        """What is owed of one kind."""
        match kind:
            case DebtKind.PAYMENT:
                return self.payment.amount_nano
            case DebtKind.TIME_1:
                return self.time_1.amount_nano
            case DebtKind.TIME_2:
                return self.time_2.amount_nano
            case DebtKind.ACCUMULATED:
                return self.accumulated_nano
            case DebtKind.OLD:
                return self.old_nano

    @property
    def total_nano(self) -> MoneyNano:
        """Everything owed besides the balance."""
        return MoneyNano(sum(self.amount_nano(kind) for kind in DebtKind))


def payment_debt_part(debt: PaymentDebt, payment_nano: int, period: int) -> MoneyNano:
    """What a payment gives: its share, at most the debt, at most what is left of the cap (RULES.md 5)."""
    part = min(payment_nano * debt.share // HUNDREDTHS_OF_PERCENT, debt.amount_nano)
    left = debt.cap_left_nano(period)
    return MoneyNano(part if left is None else min(part, left))


def with_payment_taken(debt: PaymentDebt, amount_nano: int, period: int) -> PaymentDebt:
    """The debt after a payment gave to it, or (below 0) after that payment was taken back."""
    taken = dict(debt.taken)
    taken[period] = MoneyNano(max(0, taken.get(period, 0) + amount_nano))
    newest = max(taken)
    kept = tuple(entry for entry in sorted(taken.items()) if entry[0] > newest - CAP_PERIODS_KEPT and entry[1])
    return replace(debt, amount_nano=MoneyNano(debt.amount_nano - amount_nano), taken=kept)


def moved(debts: Debts, kind: DebtKind, change_nano: int) -> Debts:
    """The debts after one of them rose or fell."""
    after = MoneyNano(debts.amount_nano(kind) + change_nano)
    match kind:
        case DebtKind.PAYMENT:
            return replace(debts, payment=replace(debts.payment, amount_nano=after))
        case DebtKind.TIME_1:
            return replace(debts, time_1=replace(debts.time_1, amount_nano=after))
        case DebtKind.TIME_2:
            return replace(debts, time_2=replace(debts.time_2, amount_nano=after))
        case DebtKind.ACCUMULATED:
            return replace(debts, accumulated_nano=after)
        case DebtKind.OLD:
            return replace(debts, old_nano=after)
