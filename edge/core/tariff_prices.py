"""Blocks, bands and prices of a tariff document, proven to stay within the bounds of the rating.

Limits in Wh, prices in micro-currency per kWh. The highest energy of a cycle times the highest
price of any block and band must fit in an amount (rating.AMOUNT_NANO_MAX). Source: RULES.md 3 and 10.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from edge.core import tariff_keys as keys_of
from edge.core.lean import dataclass
from edge.core.rating import AMOUNT_NANO_MAX, ENERGY_WH_MAX, PeriodPrices
from edge.core.tariff_values import (
    LIMIT_DIGITS,
    PRICE_DIGITS,
    format_micro,
    read_choice,
    read_decimal,
    read_flag,
    read_integer,
    read_list,
    read_name,
    read_object,
    read_text,
    refuse,
    refuse_saying,
)
from edge.core.terms import HistoryBands, LimitRaise, LimitRules

BLOCKS_MAX = 64
BANDS_MAX = 16
RAISES_MAX = 16
HISTORY_MONTHS_MAX = 24
_ENERGY_KWH_MAX_DEFAULT = "1000000"  # 10^9 Wh in a cycle leaves room for prices up to 9,000 per kWh

BAND_NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_]{0,31}"
_BAND_NAME = re.compile(BAND_NAME_PATTERN)

_Row = tuple[int, ...]


class BlockScope(Enum):
    """What moves the block position: all periods together (China), or each its own (URDB, GB)."""

    CYCLE = "cycle"
    PERIOD = "period"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a document says about blocks and prices. `by_band` has one entry where there are no bands."""

    scope: BlockScope
    limit_rules: LimitRules
    bands: HistoryBands | None
    by_band: tuple[tuple[PeriodPrices, ...], ...]
    energy_wh_max: int


def read_prices(document: Mapping[str, Any], names: list[str]) -> Prices:
    """Blocks, bands and prices for the periods of these names."""
    scope, limits = _blocks(document.get("blocks"), names)
    limit_rules = _limit_rules(document.get("blocks"), limits)
    energy_wh_max = _energy_max(document.get("cycle_energy_kwh_max", _ENERGY_KWH_MAX_DEFAULT), limits, limit_rules)
    bands = _bands(document["bands"]) if "bands" in document else None
    tables = _tables(document["prices"], bands, names, limits)
    for pointer, table in tables:
        _check_prices(table, energy_wh_max, names, pointer)
    positions = [index if scope is BlockScope.PERIOD else 0 for index in range(len(names))]
    by_band = tuple(
        tuple(PeriodPrices(*period) for period in zip(names, positions, limits, table, strict=True))
        for _, table in tables
    )
    return Prices(scope, limit_rules, bands, by_band, energy_wh_max)


# --- blocks ----------------------------------------------------------------------------------


def _blocks(value: Any, names: list[str]) -> tuple[BlockScope, list[_Row]]:
    """Scope, and the limits of each period in Wh."""
    if value is None:
        return BlockScope.CYCLE, [()] * len(names)
    keys = read_object(value, "/blocks", *keys_of.BLOCKS)
    scopes = [choice.value for choice in BlockScope]
    scope = BlockScope(read_choice(keys.get("scope", BlockScope.CYCLE.value), "/blocks/scope", scopes))
    limits, pointer = keys["limits_kwh"], "/blocks/limits_kwh"
    if isinstance(limits, dict) and scope is BlockScope.PERIOD:
        by_period = read_object(limits, pointer, tuple(names))
        return scope, [_limits(by_period[name], f"{pointer}/{name}") for name in names]
    return scope, [_limits(limits, pointer)] * len(names)


def _limits(value: Any, pointer: str) -> _Row:
    limits: list[int] = []
    for index, text in enumerate(read_list(value, pointer, 0, BLOCKS_MAX - 1)):
        limit_wh = read_decimal(text, f"{pointer}/{index}", LIMIT_DIGITS)
        if limit_wh <= (limits[-1] if limits else 0):
            refuse(f"{pointer}/{index}", text, "a limit above 0 and above the one before it")
        limits.append(limit_wh)
    return tuple(limits)


def _limit_rules(value: Any, limits: list[_Row]) -> LimitRules:
    """How limits follow the customer. Raises never fall from limit to limit, so raised limits rise as well."""
    if value is None:
        return LimitRules()
    raises: list[LimitRaise] = []
    for index, item in enumerate(read_list(value.get("raises", []), "/blocks/raises", 0, RAISES_MAX)):
        pointer = f"/blocks/raises/{index}"
        keys = read_object(item, pointer, *keys_of.RAISE)
        name = read_name(keys["name"], f"{pointer}/name", [known.name for known in raises])
        if len(set(limits)) > 1:
            refuse_saying(pointer, "limits that differ by period", "a raise where all periods have the same limits")
        here, count = f"{pointer}/added_kwh", len(limits[0])
        added: list[int] = []
        for number, text in enumerate(read_list(keys["added_kwh"], here, count, count)):
            added_wh = read_decimal(text, f"{here}/{number}", LIMIT_DIGITS)
            if added_wh < (added[-1] if added else 0):
                refuse(f"{here}/{number}", text, "not below 0 and not below the one before it")
            added.append(added_wh)
        raises.append(LimitRaise(name, tuple(added)))
    return LimitRules(
        read_flag(value.get("by_months_in_service", False), "/blocks/by_months_in_service"), tuple(raises)
    )


def _energy_max(value: Any, limits: list[_Row], rules: LimitRules) -> int:
    pointer = "/cycle_energy_kwh_max"
    energy_wh_max = read_decimal(value, pointer, LIMIT_DIGITS)
    highest_wh = max((row[-1] for row in limits if row), default=1)
    highest_wh += sum(raised.added_wh[-1] for raised in rules.raises if raised.added_wh)
    if not highest_wh <= energy_wh_max <= ENERGY_WH_MAX:
        refuse(pointer, value, f"the highest block limit, all raises included, up to {ENERGY_WH_MAX // 1000} kWh")
    return energy_wh_max


# --- bands -----------------------------------------------------------------------------------


def _bands(value: Any) -> HistoryBands:
    """Bands by history: each but the last has a limit of the mean, and says whether that mean is still in it."""
    keys = read_object(value, "/bands", *keys_of.BANDS)
    names: list[str] = []
    limits: list[int] = []
    included: list[bool] = []
    items = read_list(keys["bands"], "/bands/bands", 1, BANDS_MAX)
    for index, item in enumerate(items):
        pointer = f"/bands/bands/{index}"
        is_last = index + 1 == len(items)
        band = read_object(item, pointer, ("name",) if is_last else keys_of.BAND.required + keys_of.BAND.optional)
        names.append(_band_name(band["name"], f"{pointer}/name", names))
        if not is_last:
            limit_wh = read_decimal(band["limit_kwh"], f"{pointer}/limit_kwh", LIMIT_DIGITS)
            if limit_wh <= (limits[-1] if limits else 0):
                refuse(f"{pointer}/limit_kwh", band["limit_kwh"], "a limit above 0 and above the one before it")
            limits.append(limit_wh)
            included.append(read_flag(band["limit_included"], f"{pointer}/limit_included"))
    first = read_choice(keys.get("without_history", names[0]), "/bands/without_history", names)
    months = read_integer(keys["months"], "/bands/months", 1, HISTORY_MONTHS_MAX)
    return HistoryBands(tuple(names), tuple(limits), months, tuple(included), names.index(first))


def _band_name(value: Any, pointer: str, taken: list[str]) -> str:
    name = read_text(value, pointer, _BAND_NAME, "a name of letters, digits and '_', at most 32 characters")
    if name in taken:
        refuse(pointer, value, "a name that is not taken yet")
    return name


# --- prices ----------------------------------------------------------------------------------


def _tables(
    value: Any, bands: HistoryBands | None, names: list[str], limits: list[_Row]
) -> list[tuple[str, list[_Row]]]:
    """(pointer, prices by period and block) for each band; one where there are none."""
    if bands is None:
        return [("/prices", _table(read_object(value, "/prices", *keys_of.BAND_PRICES), "/prices", names, limits))]
    by_band = read_object(value, "/prices", ("by_band",))["by_band"]
    tables = read_object(by_band, "/prices/by_band", bands.names)
    found = []
    for band in bands.names:
        pointer = f"/prices/by_band/{band}"
        found.append(
            (pointer, _table(read_object(tables[band], pointer, *keys_of.BAND_PRICES), pointer, names, limits))
        )
    return found


def _table(keys: Mapping[str, Any], pointer: str, names: list[str], limits: list[_Row]) -> list[_Row]:
    """Prices by period and block, in micro per kWh, from either shape."""
    if set(keys) == {"table"}:
        here = f"{pointer}/table"
        table = read_object(keys["table"], here, tuple(names))
        return [_price_row(table[name], f"{here}/{name}", row) for name, row in zip(names, limits, strict=True)]
    if set(keys) != {"base_by_period", "adder_by_block"}:
        found = ", ".join(sorted(keys)) or "no key"
        refuse_saying(pointer, found, "either table, or base_by_period with adder_by_block")
    here = f"{pointer}/base_by_period"
    base = read_object(keys["base_by_period"], here, tuple(names))
    adders = _price_row(keys["adder_by_block"], f"{pointer}/adder_by_block", max(limits, key=len))
    bases = [read_decimal(base[name], f"{here}/{name}", PRICE_DIGITS) for name in names]
    counts = [len(row) + 1 for row in limits]
    return [tuple(low + adder for adder in adders[:n]) for low, n in zip(bases, counts, strict=True)]


def _price_row(value: Any, pointer: str, limits: _Row) -> _Row:
    items = read_list(value, pointer, len(limits) + 1, len(limits) + 1)
    return tuple(read_decimal(text, f"{pointer}/{index}", PRICE_DIGITS) for index, text in enumerate(items))


def _check_prices(table: list[_Row], energy_wh_max: int, names: list[str], pointer: str) -> None:
    """The kernel's bound: no amount of a cycle may leave 64 bits (RULES.md 10)."""
    highest = AMOUNT_NANO_MAX // energy_wh_max
    for name, row in zip(names, table, strict=True):
        for block, price in enumerate(row):
            if not 0 <= price <= highest:
                found = f"a price of {format_micro(price)} in period {name}, block {block + 1}"
                allowed = f"0 to {format_micro(highest)} per kWh with this cycle_energy_kwh_max"
                refuse_saying(pointer, found, allowed)
