"""Taxes and surcharges on energy, standing charges and power as part of their prices, where that is exact.

The estimate of a live account includes them (RULES.md 10). A price per kWh adds to every price of
energy; a percentage multiplies what it is taken of. As long as every price stays a whole number of
micro-currency (and a standing charge of nano-currency), charging by the raised prices is what the
bill's own lines add up to, to the nano. A tariff for which it does not stay whole is not charged on
site. Prices micro-currency per kWh, shares hundredths of a percent. Source: RULES.md 3 and 10.
"""

from collections.abc import Sequence
from dataclasses import replace

from edge.core.rating import AMOUNT_NANO_MAX, PeriodPrices
from edge.core.tariff import Tariff
from edge.core.terms import PERCENT_100, ChargePart, Demand, Surcharge


def with_surcharges(tariff: Tariff) -> Tariff | None:
    """The tariff with its surcharges in its prices, or None where that is not exact or leaves the kernel's bounds."""
    surcharges = tariff.terms.surcharges
    if not surcharges:
        return tariff
    bands = [_raised_periods(periods, surcharges) for periods in tariff.prices_by_band]
    periods = _raised_periods(tariff.periods, surcharges)
    standing = []
    for charge in tariff.terms.standing_charges:
        amount_nano = _raised(charge.amount_nano, surcharges, ChargePart.STANDING)
        standing.append(None if amount_nano is None else replace(charge, amount_nano=amount_nano))
    demands = [_raised_demand(demand, surcharges) for demand in tariff.terms.demands]
    if None in demands:
        return None
    by_band = [band for band in bands if band is not None]
    charges = [charge for charge in standing if charge is not None]
    if periods is None or len(by_band) < len(bands) or len(charges) < len(standing):
        return None
    highest = AMOUNT_NANO_MAX // tariff.energy_wh_max
    prices = [price for row in (periods, *by_band) for period in row for price in period.prices_micro_per_kwh]
    if not all(0 <= price <= highest for price in prices):
        return None
    terms = replace(tariff.terms, standing_charges=tuple(charges), demands=tuple(filter(None, demands)), surcharges=())
    return replace(tariff, periods=periods, prices_by_band=tuple(by_band), terms=terms)


def _raised_periods(
    periods: Sequence[PeriodPrices], surcharges: Sequence[Surcharge]
) -> tuple[PeriodPrices, ...] | None:
    found = []
    for period in periods:
        prices = [_raised(price, surcharges, ChargePart.ENERGY) for price in period.prices_micro_per_kwh]
        whole = tuple(price for price in prices if price is not None)
        if len(whole) < len(prices):
            return None
        found.append(replace(period, prices_micro_per_kwh=whole))
    return tuple(found)


def _raised_demand(demand: Demand, surcharges: Sequence[Surcharge]) -> Demand | None:
    prices = [_raised(price, surcharges, ChargePart.BASIC) for price in demand.prices_micro_per_kw_month]
    if None in prices:
        return None
    return replace(demand, prices_micro_per_kw_month=tuple(price for price in prices if price is not None))


def _raised(price: int, surcharges: Sequence[Surcharge], part: ChargePart) -> int | None:
    """A price with all surcharges on its part, in the document's order; None when one is not whole."""
    added = 0
    for surcharge in surcharges:
        if surcharge.share_hundredths is None:
            added += (surcharge.price_micro_per_kwh or 0) if part is ChargePart.ENERGY else 0
            continue
        base = (price if part in surcharge.base else 0) + (added if ChargePart.SURCHARGES in surcharge.base else 0)
        amount, rest = divmod(base * surcharge.share_hundredths, PERCENT_100)
        if rest:
            return None
        added += amount
    return price + added
