"""What a site decides about credit and charges: the money part of an account's policy.

Source: COSEM Credit and Charge (class_id 112, 113), SMETS2 prepayment; RULES.md 2, 5 and 10. Amounts
are nano-currency (of the account's credit unit), shares hundredths of a percent.
"""

from enum import Enum

from edge.core.lean import dataclass
from edge.core.units import MoneyNano, WattHours

HUNDREDTHS_OF_PERCENT = 10_000
NANO_PER_WATT_HOUR = 1_000_000  # an energy account is priced 1 a kWh, so 1 Wh of credit is this much
NANO_PER_SECOND = 1_000_000  # of an account credited in time


class CreditUnit(Enum):
    """What an account is credited in. Another unit is refused, never converted (RULES.md 10)."""

    MONEY = "money"
    ENERGY = "energy"
    TIME = "time"


class PaymentMode(Enum):
    """COSEM Account.account_mode."""

    PREPAYMENT = "prepayment"
    CREDIT = "credit"


class IssueCycle(Enum):
    """When the estimate becomes a bill (RULES.md 2). Blocks and periods run on regardless."""

    MONTH = "month"  # at 24:00 of `Policy.issue_day`
    HALF_MONTH = "half_month"  # at 24:00 of the 15th and of the month's last day
    TEN_DAYS = "ten_days"  # at 24:00 of the 10th, the 20th and the month's last day
    WEEK = "week"  # at 24:00 of Sunday
    VEND = "vend"  # at each payment


class GrantKind(Enum):
    """COSEM credit_type 3 and 4."""

    TIME = "time_based"
    CONSUMPTION = "consumption_based"


class GrantPeriod(Enum):
    """How long a grant's period is; months are billing months."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """Credit that comes with time, or with little use (edge.core.credit_grant)."""

    name: str
    kind: GrantKind
    period: GrantPeriod
    amount_nano: MoneyNano
    priority: int = 1  # the lowest number is spent first, all before the token credit
    energy_wh_max: WattHours = WattHours(0)  # consumption-based: granted for at most this much in the period
    lapses: bool = False  # what is not spent in the period is taken back at its end


@dataclass(frozen=True, slots=True)
class CreditTerms:
    """Emergency credit, what is suspended when, limits that refuse, the share for old debt, unit and cycle."""

    unit: CreditUnit = CreditUnit.MONEY
    issue_cycle: IssueCycle = IssueCycle.MONTH
    emergency_limit_nano: MoneyNano = MoneyNano(0)  # 0: none is offered
    emergency_threshold_nano: MoneyNano = MoneyNano(0)  # offered below it, given back at or above it
    emergency_pays_standing: bool = False  # whether standing charge and time debts may be drawn from it
    suspend_debt_disabled: bool = False  # no time debts while the supply is off; the standing charge goes on
    suspend_debt_emergency: bool = False  # standing charge and time debts become accumulated debt while it is in use
    accumulate_below_threshold: bool = False  # so too whenever the credit is used up, outside friendly hours
    old_debt_share: int = 0  # of each payment, for the old-debt ledger
    balance_nano_max: MoneyNano = MoneyNano(10**15)  # live balance after a payment
    meter_day_nano_max: MoneyNano = MoneyNano(10**15)  # payments of one meter in a day
    gateway_day_nano_max: MoneyNano = MoneyNano(10**16)  # payments of all meters here in a day
    grants: tuple[CreditGrant, ...] = ()


def check_credit_terms(terms: CreditTerms) -> None:
    """ValueError, naming the field, for what no site can mean."""
    if not 0 <= terms.old_debt_share <= HUNDREDTHS_OF_PERCENT:
        raise ValueError(f"old_debt_share: is {terms.old_debt_share}, allowed is 0 to {HUNDREDTHS_OF_PERCENT}")
    for name in (
        "emergency_limit_nano",
        "balance_nano_max",
        "meter_day_nano_max",
        "gateway_day_nano_max",
    ):
        if getattr(terms, name) < 0:
            raise ValueError(f"{name}: is {getattr(terms, name)}, allowed is 0 or more")
    names = [grant.name for grant in terms.grants]
    if len(set(names)) < len(names) or any(not grant.name or grant.amount_nano < 0 for grant in terms.grants):
        raise ValueError("grants: names of their own and amounts of 0 or more are allowed")
