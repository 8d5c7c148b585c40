"""What a tariff asks for besides the price of energy, as plain data; edge/core/tariff_terms.py reads and proves it.

Money is nano-currency, prices are micro-currency per kWh (or per kW or kVA and month), energy is
Wh, power W or VA: W times micro per kW is nano, exactly, as with energy. Percentages are
hundredths of a percent (10 % is 1000), late charges parts per million a day, days local days since
1970-01-01. Every sum is the sum for a whole span; what a part of it costs is the billing's affair.
Source: RULES.md 1, 3 and 10; the power factor is the 1983 notice's; bands by history are Kenya's.
"""

from collections.abc import Sequence
from enum import Enum

from edge.core.lean import dataclass

PERCENT_100 = 10_000  # hundredths of a percent
MONTHS_IN_YEAR = 12


class ChargeSpan(Enum):
    """What a fixed amount is for. A day is a local day, 23 or 25 hours included."""

    DAY = "day"
    MONTH = "month"


class ChargePart(Enum):
    """The parts of a bill that a percentage may be taken of."""

    ENERGY = "energy"
    STANDING = "standing"
    BASIC = "basic"  # all that `Terms.demands` ask for: capacity, contract, measured demand
    POWER_FACTOR = "power_factor"
    SURCHARGES = "surcharges"  # those that stand before this one in the document


@dataclass(frozen=True, slots=True)
class StandingCharge:
    """Due for every local day or month, also without energy. RULES.md 3: caught up exactly once."""

    name: str
    amount_nano: int
    per: ChargeSpan


@dataclass(frozen=True, slots=True)
class MinimumBill:
    """A bill below this is raised to it, by a line of its own."""

    amount_nano: int
    per: ChargeSpan


class DemandKind(Enum):
    """What is billed: the transformers, the contract (with its rule for more), or what was measured."""

    CAPACITY = "capacity"
    CONTRACT = "contract"
    MEASURED = "measured"


class DemandUnit(Enum):
    """Of sizes, limits and prices; in the dataclasses thousandths of it: W and VA."""

    KW = "kW"
    KVA = "kVA"


@dataclass(frozen=True, slots=True)
class OverContract:
    """Up to `threshold` of the contract the contract is billed; above it, what was measured and the excess again.

    560 kW on a contract of 500, threshold 10500, factor 2: 525 + 2 x (560 - 525) = 595 kW.
    """

    threshold_hundredths: int  # of a percent of the contract
    factor: int  # how often the part above the threshold counts


@dataclass(frozen=True, slots=True)
class Ratchet:
    """At least this share of the highest demand of the months before is billed."""

    share_hundredths: int  # of a percent
    months: int  # how many months before this one are looked at
    of_months: tuple[int, ...]  # 1..12, rising: the calendar months whose demand counts for it


@dataclass(frozen=True, slots=True)
class ContractStep:
    """What is contracted or connected, from a local day on; 0 is nothing."""

    first_day: int
    power_w: int  # or VA


@dataclass(frozen=True, slots=True)
class Demand:
    """A charge on power, per kW or kVA and month."""

    name: str
    kind: DemandKind
    unit: DemandUnit
    limits_w: tuple[int, ...]  # one fewer than prices, rising; a limit belongs to the lower block
    prices_micro_per_kw_month: tuple[int, ...]
    months: tuple[int, ...]  # 1..12, rising: the calendar months it is due in
    periods: tuple[str, ...]  # the periods in which it is measured; all of them are named
    window_min: int
    slip_min: int  # divides the window; equal to it: clock blocks
    day_divisor: int  # a part month bills days / divisor, a whole month once
    over_contract: OverContract | None  # with kind CONTRACT only
    ratchet: Ratchet | None  # not with kind CAPACITY
    contract: tuple[ContractStep, ...]  # rising; empty: the customer's contract is given when billing


@dataclass(frozen=True, slots=True)
class PowerFactorAdjustment:
    """The month's mean power factor against a standard, by the table of 1983, on the parts named."""

    standard_x100: int  # 90, 85 or 80
    base: tuple[ChargePart, ...]


@dataclass(frozen=True, slots=True)
class Surcharge:
    """A tax or surcharge: a percentage of parts of the bill, or a price per kWh; one of the two is None.

    In the document's order, so that a tax can be taken of the surcharges before it.
    """

    name: str
    share_hundredths: int | None  # of a percent; below 0 is a rebate
    base: tuple[ChargePart, ...]  # empty with a price per kWh
    price_micro_per_kwh: int | None  # below 0 is a rebate


@dataclass(frozen=True, slots=True)
class LateCharge:
    """Simple, a share of the issued, overdue amount for every day. Never on a prepaid estimate."""

    customer_class: str
    same_year_ppm_per_day: int  # days in the calendar year the debt fell due in
    later_year_ppm_per_day: int  # days in any later year
    minimum_minor: int


class RoundingRule(Enum):
    """How the total of a bill goes to a multiple of the step."""

    HALF_AWAY = "half_away"  # from zero, RULES.md 1
    HALF_EVEN = "half_even"
    DOWN = "down"  # towards minus infinity


@dataclass(frozen=True, slots=True)
class Rounding:
    """A bill is rounded once, on its total; the difference is a line of its own."""

    rule: RoundingRule = RoundingRule.HALF_AWAY
    step_minor: int = 1


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything around the energy of one tariff version."""

    standing_charges: tuple[StandingCharge, ...] = ()
    minimum_bill: MinimumBill | None = None
    demands: tuple[Demand, ...] = ()
    power_factor: PowerFactorAdjustment | None = None
    surcharges: tuple[Surcharge, ...] = ()
    late_charge: LateCharge | None = None
    rounding: Rounding = Rounding()


# --- what moves a customer between prices or limits ------------------------------------------


@dataclass(frozen=True, slots=True)
class HistoryBands:
    """Bands chosen by the mean energy of the last months: the band prices all energy, it is not a block."""

    names: tuple[str, ...]  # from the lowest band to the highest
    limits_wh: tuple[int, ...]  # of the mean, one fewer than names, rising
    months: int  # how many are looked at
    limits_included: tuple[bool, ...]  # for each limit: whether a mean of exactly that is in the lower band
    without_history: int  # index of the band of a customer with no month behind him

    def band_of(self, month_energies_wh: Sequence[int]) -> int:
        """Index of the band after these months, the latest last. Fewer months: the mean of those there are."""
        latest = month_energies_wh[-self.months :]
        if not latest:
            return self.without_history
        total_wh = sum(latest)
        for index, (limit_wh, included) in enumerate(zip(self.limits_wh, self.limits_included, strict=True)):
            limit_total_wh = limit_wh * len(latest)  # compared as sums, so that no mean is rounded
            if total_wh < limit_total_wh or (total_wh == limit_total_wh and included):
                return index
        return len(self.limits_wh)


@dataclass(frozen=True, slots=True)
class LimitRaise:
    """What a named kind of customer has added to the block limits, for a whole cycle."""

    name: str
    added_wh: tuple[int, ...]  # one for each limit


@dataclass(frozen=True, slots=True)
class LimitRules:
    """How block limits follow the customer; `Tariff.for_customer` applies it."""

    by_months_in_service: bool = False  # yearly limits: twelfths, a started month counts whole
    raises: tuple[LimitRaise, ...] = ()
