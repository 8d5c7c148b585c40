"""What accounts owe now: estimate, reserve and live balance of a whole round in one rating call.

Energy in Wh, money in nano-currency. The estimate runs from the last recorded register to the
newest one and is added to what the record already holds; both are exact, so the sum equals one
calculation from the issue (RULES.md 2). Source: COSEM Charge (class_id 113).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field

from edge.core.account import Account, Register
from edge.core.allocation import Standing, payment_for
from edge.core.calendar import ZoneOffsets, local_day
from edge.core.credit_terms import CreditUnit
from edge.core.emergency import emergency_used
from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.core.purchased import PurchaseBlocks, credit_for
from edge.core.rating import Interval, Position, Rate, RatedInterval
from edge.core.terms import HistoryBands, Terms
from edge.core.units import SECONDS_PER_DAY, MoneyNano


@dataclass(frozen=True, slots=True)
class BandRates:
    """A tariff whose prices go by the energy of the last months: one tariff of the rate for each band."""

    history: HistoryBands
    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rating:
    """How energy is priced on this site: the rate, which tariff is which, the zone, the minor unit."""

    rate: Rate
    indexes: Mapping[str, int]  # id@version -> index of the tariff given to `rate`
    positions: Mapping[str, int]  # id@version -> how many block positions it counts
    valid_from: Mapping[str, int]  # id@version -> first instant it can price
    zone: ZoneOffsets
    minor_nano: int  # nano-currency in one minor unit
    terms: Mapping[str, Terms] = field(default_factory=dict)  # id@version -> what is charged besides energy
    bands: Mapping[str, BandRates] = field(default_factory=dict)  # id@version -> its bands, where it has any
    purchases: Mapping[str, PurchaseBlocks] = field(default_factory=dict)  # id@version -> blocks of what is bought

    def position(self, account: Account) -> Position:
        """Where the account stands in its tariff's blocks."""
        bands = self.bands.get(account.tariff)
        index = self.indexes[account.tariff]
        if bands is not None:
            index = bands.indexes[bands.history.band_of(account.month_energies_wh)]
        return _made_position(index, account.cycle_energy_wh, account.cycle_start_at)


@dataclass(frozen=True, slots=True)
class Figures:
    """One account at its newest register."""

    register: Register
    fresh: RatedInterval  # from the recorded register to this one
    estimate_nano: MoneyNano
    live_nano: MoneyNano
    reserve_nano: MoneyNano


_made_interval, _made_position, _made_figures = quickly(Interval), quickly(Position), quickly(Figures)


def rate_to(rating: Rating, account: Account, register: Register) -> RatedInterval:
    """The cost from the recorded register to `register`."""
    return rating.rate([rating.position(account)], [_interval(0, account, register)])[0]


def figures_of(rating: Rating, accounts: Sequence[Account], registers: Mapping[str, Register]) -> dict[str, Figures]:
    """Figures of all accounts, those without a newer register at their recorded one. One call of the rate."""
    intervals: list[Interval] = []
    for index, account in enumerate(accounts):
        register = registers.get(account.account_id, account.recorded)
        energy_wh = reserve_energy_wh(account, register)
        reserve_end_at = register.at + account.policy.reserve_days * SECONDS_PER_DAY
        intervals.append(_interval(index, account, register))
        intervals.append(_made_interval(index, register.at, reserve_end_at, energy_wh, explained=False))
    rated = rating.rate([rating.position(account) for account in accounts], intervals)
    figures = {}
    for index, account in enumerate(accounts):
        fresh, reserve = rated[2 * index], rated[2 * index + 1]
        estimate = MoneyNano(account.estimate_nano + fresh.amount_nano)
        figures[account.account_id] = _made_figures(
            register=registers.get(account.account_id, account.recorded),
            fresh=fresh,
            estimate_nano=estimate,
            live_nano=MoneyNano(account.money_nano - estimate),
            reserve_nano=_reserve_nano(account, reserve.amount_nano),
        )
    return figures


def _reserve_nano(account: Account, priced_nano: int) -> MoneyNano:
    """Below this the customer is told: the price of the reserve's days, or the last order's alarm threshold."""
    alarm_nano = account.purchase.alarm_nano
    return MoneyNano(priced_nano if alarm_nano is None else alarm_nano - account.policy.overdraft_nano)


def reserve_energy_wh(account: Account, register: Register) -> int:
    """Energy of `reserve_days` mean days: of the last issued bill, else of the days so far, else the default."""
    days = account.policy.reserve_days
    if account.mean_energy_wh is not None:
        return account.mean_energy_wh * days // max(1, account.mean_days)
    passed_s = register.at - account.issue.at
    if passed_s < SECONDS_PER_DAY:
        return account.policy.daily_energy_default_wh * days
    energy_wh = account.energy_since_issue_wh + register.register_wh - account.recorded.register_wh
    return energy_wh * days * SECONDS_PER_DAY // passed_s


def suggested_top_up_nano(figures: Figures, minor_nano: int) -> MoneyNano:
    """What brings the balance up to the reserve, rounded up to the minor unit; never negative (RULES.md 6)."""
    missing = max(0, figures.reserve_nano - figures.live_nano)
    return MoneyNano(-(-missing // minor_nano) * minor_nano)


def top_up_nano(account: Account, figures: Figures, rating: Rating, at: int) -> MoneyNano:
    """As `suggested_top_up_nano`, with what the payment gives to debts on its way (RULES.md 5)."""
    terms, debts = account.policy.credit, account.debts
    used_nano = emergency_used(terms, account.emergency.invoked, figures.live_nano, account.threshold_nano)
    day = local_day(rating.zone, max(0, min(at, rating.zone.end_at - 1)))
    standing = Standing(figures.live_nano, account.threshold_nano, used_nano, debts.payment.cap_period(day))
    target_nano, blocks = figures.reserve_nano, rating.purchases.get(account.tariff)
    if blocks is not None and target_nano > figures.live_nano and terms.unit is CreditUnit.MONEY:
        credit_nano = credit_for(blocks, account.bought, target_nano - figures.live_nano, day)
        target_nano = MoneyNano(figures.live_nano + credit_nano)
    needed = payment_for(target_nano, debts, terms.old_debt_share, standing)
    return MoneyNano(-(-needed // rating.minor_nano) * rating.minor_nano)


def _interval(index: int, account: Account, register: Register) -> Interval:
    energy_wh = register.register_wh - account.recorded.register_wh
    return _made_interval(index, account.recorded.at, register.at, energy_wh)
