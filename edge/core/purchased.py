"""Blocks that count what is bought in a month instead of what is used (cycle `vend`), on a live account.

Each watt-hour used is charged at the first block's price, so estimate, reserve and kernel need no second
case. What is bought in another block costs more (or less) than that; the difference is a ledger line of
its own, right after the payment. A payment of M therefore leaves energy x first price and what was too
little for one more watt-hour: that rest stays credit and is counted with the next purchase. Whoever owes
energy buys it when he pays. No division of money. Energy Wh, money nano-currency, prices micro-currency
per kWh, days local days since 1970-01-01. Source: RULES.md 3 (month of purchase) and 10.
"""

from collections.abc import Sequence
from dataclasses import replace

from edge.core.calendar import Cycle
from edge.core.lean import dataclass
from edge.core.rating import PeriodPrices, RatedLine
from edge.core.tariff import Tariff
from edge.core.units import MoneyNano, WattHours


@dataclass(frozen=True, slots=True)
class PurchaseBlocks:
    """The blocks of a vend tariff: prices from the first block on, limits of what is bought in a cycle."""

    cycle: Cycle
    period: PeriodPrices

    @property
    def basis_micro_per_kwh(self) -> int:
        """What every watt-hour used is charged at."""
        return self.period.prices_micro_per_kwh[0]


@dataclass(frozen=True, slots=True)
class Bought:
    """What an account has bought."""

    energy_wh: WattHours = WattHours(0)  # in the cycle that began on `first_day`
    first_day: int = 0
    rest_nano: MoneyNano = MoneyNano(0)  # credit that was too little for one more watt-hour
    basis_micro_per_kwh: int = 0  # what the energy in the balance is charged at when it is used
    posted_nano: MoneyNano = MoneyNano(0)  # charged for blocks since the issue, by lines of their own


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase, worked out."""

    first_day: int  # of its cycle
    before_wh: WattHours  # bought in that cycle before it
    lines: tuple[RatedLine, ...]
    rest_nano: MoneyNano
    block_nano: MoneyNano  # beyond the first block's price

    @property
    def energy_wh(self) -> int:
        """What it bought."""
        return sum(line.energy_wh for line in self.lines)


def purchase_blocks(tariff: Tariff) -> PurchaseBlocks | None:
    """The blocks purchases are counted in; None for a tariff that counts what is used."""
    return PurchaseBlocks(tariff.cycle, tariff.periods[0]) if tariff.counts_purchases else None


def not_sold_here(tariff: Tariff) -> list[str]:
    """What a vend tariff may not have beside its blocks: there a payment buys energy of one price list only."""
    if not tariff.counts_purchases:
        return []
    terms = tariff.terms
    found = {
        "periods": len(tariff.periods) > 1,
        "bands": tariff.bands is not None,
        "standing charges": bool(terms.standing_charges),
        "a minimum bill": terms.minimum_bill is not None,
        "demand charges": bool(terms.demands),
        "a price of 0": any(0 in period.prices_micro_per_kwh for period in tariff.periods),
    }
    return [f"{name} beside a vend cycle" for name, has in found.items() if has]


def as_used(tariff: Tariff) -> Tariff:
    """The tariff that use is charged by: of a vend tariff the first block's price alone."""
    if not tariff.counts_purchases:
        return tariff
    periods = tuple(_first_block(period) for period in tariff.periods)
    return replace(tariff, periods=periods, prices_by_band=(periods,))


def _first_block(period: PeriodPrices) -> PeriodPrices:
    return replace(period, limits_wh=(), prices_micro_per_kwh=period.prices_micro_per_kwh[:1])


def purchase(blocks: PurchaseBlocks, bought: Bought, credit_nano: int, day: int) -> Purchase:
    """What credit buys on a local day. A day before the cycle that is being counted begins no new one."""
    first_day = max(bought.first_day, blocks.cycle.first_day(day))
    before_wh = bought.energy_wh if first_day == bought.first_day else 0
    left_nano, position_wh, lines = credit_nano + bought.rest_nano, before_wh, list[RatedLine]()
    for block, price in enumerate(blocks.period.prices_micro_per_kwh):
        energy_wh = left_nano // price
        if block < len(blocks.period.limits_wh):
            energy_wh = min(energy_wh, max(0, blocks.period.limits_wh[block] - position_wh))
        if energy_wh > 0:
            lines.append(RatedLine(blocks.period.name, block + 1, energy_wh, price, energy_wh * price))
            left_nano -= energy_wh * price
            position_wh += energy_wh
        if block < len(blocks.period.limits_wh) and position_wh < blocks.period.limits_wh[block]:
            break  # the credit ends within this block
    block_nano = _beyond(lines, blocks.basis_micro_per_kwh)
    return Purchase(first_day, WattHours(before_wh), tuple(lines), MoneyNano(left_nano), block_nano)


def credit_for(blocks: PurchaseBlocks, bought: Bought, need_nano: int, day: int) -> MoneyNano:
    """The credit that must be bought for so much balance to be there after its blocks are charged."""
    assert need_nano > 0
    # The rest is in the balance already: what it buys with the credit must make up for it too.
    energy_wh = -(-(need_nano + bought.rest_nano) // blocks.basis_micro_per_kwh)
    first_day = max(bought.first_day, blocks.cycle.first_day(day))
    position_wh = bought.energy_wh if first_day == bought.first_day else 0
    cost_nano = 0
    for price, limit_wh in zip(blocks.period.prices_micro_per_kwh, (*blocks.period.limits_wh, None), strict=True):
        part_wh = energy_wh if limit_wh is None else min(energy_wh, max(0, limit_wh - position_wh))
        cost_nano += part_wh * price
        energy_wh, position_wh = energy_wh - part_wh, position_wh + part_wh
    return MoneyNano(max(1, cost_nano - bought.rest_nano))


def lines_kept(lines: Sequence[RatedLine], taken_nano: int) -> tuple[RatedLine, ...]:
    """What stays bought when so much money is taken back: the last to be bought goes first, whole watt-hours."""
    kept: list[RatedLine] = []
    left_nano = max(0, sum(line.amount_nano for line in lines) - taken_nano)
    for line in lines:
        energy_wh = min(line.energy_wh, left_nano // line.price_micro_per_kwh)
        left_nano -= energy_wh * line.price_micro_per_kwh
        if energy_wh:
            kept.append(replace(line, energy_wh=energy_wh, amount_nano=energy_wh * line.price_micro_per_kwh))
        if energy_wh < line.energy_wh:
            break
    return tuple(kept)


def given_back(lines: Sequence[RatedLine], kept: Sequence[RatedLine], basis_micro_per_kwh: int) -> MoneyNano:
    """What had been charged for the blocks of the energy that is no longer bought."""
    return MoneyNano(_beyond(lines, basis_micro_per_kwh) - _beyond(kept, basis_micro_per_kwh))


def repriced(live_nano: int, before_micro: int, after_micro: int) -> MoneyNano:
    """What a change of the first price moves the balance by: the watt-hours that were bought stay as many."""
    return MoneyNano(max(0, live_nano) // before_micro * (after_micro - before_micro)) if before_micro else MoneyNano(0)


def _beyond(lines: Sequence[RatedLine], basis_micro_per_kwh: int) -> MoneyNano:
    return MoneyNano(sum(line.energy_wh * (line.price_micro_per_kwh - basis_micro_per_kwh) for line in lines))
