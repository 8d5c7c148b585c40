"""The part of a tariff document around the energy, read into edge/core/terms.py: charges, demand, taxes, rounding.

Sums have at most six digits after the point and become nano-currency; prices per kWh, or per kW or
kVA and month, stay micro-currency; sizes in kW or kVA become W or VA. Source: RULES.md 1 and 3.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edge.core import tariff_keys as keys_of
from edge.core.calendar import MINUTES_PER_DAY
from edge.core.tariff_values import (
    LIMIT_DIGITS,
    NANO_PER_MICRO,
    PERCENT_DIGITS,
    PRICE_DIGITS,
    read_amount,
    read_choice,
    read_chosen,
    read_date,
    read_decimal,
    read_integer,
    read_list,
    read_name,
    read_object,
    read_within,
    refuse,
    refuse_saying,
)
from edge.core.terms import (
    MONTHS_IN_YEAR,
    ChargePart,
    ChargeSpan,
    ContractStep,
    Demand,
    DemandKind,
    DemandUnit,
    LateCharge,
    MinimumBill,
    OverContract,
    PowerFactorAdjustment,
    Ratchet,
    Rounding,
    RoundingRule,
    StandingCharge,
    Surcharge,
    Terms,
)

CHARGES_MAX = 32
_STEPS_MAX = 1024
_DEMAND_BLOCKS_MAX = 64
_PER_MILLE_DIGITS = 3  # parts per million
_PERCENT_MAX = 1000
_STANDARDS = {"0.90": 90, "0.85": 85, "0.80": 80}
_ALL_PARTS = "all"
_BASIC_AND_ENERGY = (ChargePart.ENERGY, ChargePart.BASIC)
_MONTHS = tuple(range(1, MONTHS_IN_YEAR + 1))


def read_terms(document: Mapping[str, Any], periods: list[str], minor_digits: int) -> Terms:
    """Everything around the energy; a part that the document does not have asks for nothing."""

    def optional(key: str, read: Callable[[Any], Any], absent: Any = None) -> Any:
        return read(document[key]) if key in document else absent

    return Terms(
        standing_charges=optional("standing_charges", _standing_charges, ()),
        minimum_bill=optional("minimum_bill", _minimum_bill),
        demands=optional("demand", lambda value: _demands(value, periods), ()),
        power_factor=optional("power_factor", _power_factor),
        surcharges=optional("surcharges", _surcharges, ()),
        late_charge=optional("late_charge", lambda value: _late_charge(value, minor_digits)),
        rounding=optional("rounding", _rounding, Rounding()),
    )


# --- fixed amounts ---------------------------------------------------------------------------


def _standing_charges(value: Any) -> tuple[StandingCharge, ...]:
    charges: list[StandingCharge] = []
    for index, item in enumerate(read_list(value, "/standing_charges", 0, CHARGES_MAX)):
        pointer = f"/standing_charges/{index}"
        keys = read_object(item, pointer, *keys_of.STANDING_CHARGE)
        name = read_name(keys["name"], f"{pointer}/name", [charge.name for charge in charges])
        charges.append(StandingCharge(name, *_amount_per_span(keys, pointer)))
    return tuple(charges)


def _minimum_bill(value: Any) -> MinimumBill:
    keys = read_object(value, "/minimum_bill", *keys_of.MINIMUM_BILL)
    return MinimumBill(*_amount_per_span(keys, "/minimum_bill"))


def _amount_per_span(keys: Mapping[str, Any], pointer: str) -> tuple[int, ChargeSpan]:
    amount_nano = read_amount(keys["amount"], f"{pointer}/amount") * NANO_PER_MICRO
    return amount_nano, ChargeSpan(read_choice(keys["per"], f"{pointer}/per", [span.value for span in ChargeSpan]))


# --- demand ----------------------------------------------------------------------------------


def _demands(value: Any, periods: list[str]) -> tuple[Demand, ...]:
    demands: list[Demand] = []
    for index, item in enumerate(read_list(value, "/demand", 0, CHARGES_MAX)):
        demands.append(_demand(item, f"/demand/{index}", periods, [demand.name for demand in demands]))
    return tuple(demands)


def _demand(value: Any, pointer: str, periods: list[str], taken: list[str]) -> Demand:
    keys = read_object(value, pointer, *keys_of.DEMAND)
    kind = DemandKind(read_choice(keys["kind"], f"{pointer}/kind", [kind.value for kind in DemandKind]))
    _check_kind(keys, pointer, kind)
    units = [unit.value for unit in DemandUnit]
    limits_w = _demand_limits(keys.get("limits", []), f"{pointer}/limits")
    prices = read_list(keys["prices"], f"{pointer}/prices", len(limits_w) + 1, len(limits_w) + 1)
    window_min = read_integer(keys.get("window_min", 15), f"{pointer}/window_min", 1, MINUTES_PER_DAY)
    return Demand(
        name=read_name(keys["name"], f"{pointer}/name", taken),
        kind=kind,
        unit=DemandUnit(read_choice(keys.get("unit", DemandUnit.KW.value), f"{pointer}/unit", units)),
        limits_w=limits_w,
        prices_micro_per_kw_month=tuple(read_amount(p, f"{pointer}/prices/{n}") for n, p in enumerate(prices)),
        months=_months(keys.get("months"), f"{pointer}/months"),
        periods=tuple(periods[n] for n in read_chosen(keys.get("periods"), f"{pointer}/periods", periods)),
        window_min=window_min,
        slip_min=_slip(keys.get("slip_min", 1), f"{pointer}/slip_min", window_min),
        day_divisor=read_integer(keys.get("day_divisor", 30), f"{pointer}/day_divisor", 28, 31),
        over_contract=_over_contract(keys, pointer),
        ratchet=_ratchet(keys, pointer),
        contract=_contract(keys.get("contract", []), f"{pointer}/contract"),
    )


# What a kind has no use for is refused: it would be a charge that somebody believes in and nobody bills.
_NOT_WITH_KIND = {
    DemandKind.CAPACITY: ("window_min", "slip_min", "over_contract", "ratchet", "periods"),
    DemandKind.CONTRACT: (),
    DemandKind.MEASURED: ("over_contract", "contract"),
}


def _check_kind(keys: Mapping[str, Any], pointer: str, kind: DemandKind) -> None:
    for key in _NOT_WITH_KIND[kind]:
        if key in keys:
            refuse_saying(f"{pointer}/{key}", f"{key} with kind {kind.value}", f"no {key} with kind {kind.value}")


def _demand_limits(value: Any, pointer: str) -> tuple[int, ...]:
    limits: list[int] = []
    for index, text in enumerate(read_list(value, pointer, 0, _DEMAND_BLOCKS_MAX - 1)):
        limit_w = read_decimal(text, f"{pointer}/{index}", LIMIT_DIGITS)
        if limit_w <= (limits[-1] if limits else 0):
            refuse(f"{pointer}/{index}", text, "a limit above 0 and above the one before it")
        limits.append(limit_w)
    return tuple(limits)


def _slip(value: Any, pointer: str, window_min: int) -> int:
    slip_min = read_integer(value, pointer, 1, window_min)
    if window_min % slip_min:
        refuse(pointer, value, f"a divisor of the window of {window_min} minutes")
    return slip_min


def _months(value: Any, pointer: str) -> tuple[int, ...]:
    """Calendar months, all twelve when the key is absent."""
    if value is None:
        return _MONTHS
    months: list[int] = []
    for index, month in enumerate(read_list(value, pointer, 1, MONTHS_IN_YEAR)):
        if read_integer(month, f"{pointer}/{index}", 1, MONTHS_IN_YEAR) <= (months[-1] if months else 0):
            refuse(f"{pointer}/{index}", month, "a month after the one before it")
        months.append(month)
    return tuple(months)


def _over_contract(keys: Mapping[str, Any], pointer: str) -> OverContract | None:
    if "over_contract" not in keys:
        return None
    here = f"{pointer}/over_contract"
    over = read_object(keys["over_contract"], here, *keys_of.OVER_CONTRACT)
    return OverContract(
        read_within(over["threshold_percent"], f"{here}/threshold_percent", PERCENT_DIGITS, 100, _PERCENT_MAX),
        read_integer(over["factor"], f"{here}/factor", 1, 100),
    )


def _ratchet(keys: Mapping[str, Any], pointer: str) -> Ratchet | None:
    if "ratchet" not in keys:
        return None
    here = f"{pointer}/ratchet"
    ratchet = read_object(keys["ratchet"], here, *keys_of.RATCHET)
    return Ratchet(
        read_within(ratchet["percent"], f"{here}/percent", PERCENT_DIGITS, 0, 100),
        read_integer(ratchet["months"], f"{here}/months", 1, 60),
        _months(ratchet.get("of_months"), f"{here}/of_months"),
    )


def _contract(value: Any, pointer: str) -> tuple[ContractStep, ...]:
    steps: list[ContractStep] = []
    for index, item in enumerate(read_list(value, pointer, 0, _STEPS_MAX)):
        here = f"{pointer}/{index}"
        keys = read_object(item, here, *keys_of.CONTRACT_STEP)
        first_day = read_date(keys["valid_from"], f"{here}/valid_from")
        if steps and first_day <= steps[-1].first_day:
            refuse(f"{here}/valid_from", keys["valid_from"], "a date after the one before it")
        power_w = read_decimal(keys["size"], f"{here}/size", LIMIT_DIGITS)
        if power_w < 0:
            refuse(f"{here}/size", keys["size"], "a size of 0 or more")
        steps.append(ContractStep(first_day, power_w))
    return tuple(steps)


# --- percentages -----------------------------------------------------------------------------


def _power_factor(value: Any) -> PowerFactorAdjustment:
    keys = read_object(value, "/power_factor", *keys_of.POWER_FACTOR)
    standard = read_choice(keys["standard"], "/power_factor/standard", list(_STANDARDS))
    base = _base(keys["base"], "/power_factor/base", _BASIC_AND_ENERGY) if "base" in keys else _BASIC_AND_ENERGY
    return PowerFactorAdjustment(_STANDARDS[standard], base)


def _surcharges(value: Any) -> tuple[Surcharge, ...]:
    surcharges: list[Surcharge] = []
    for index, item in enumerate(read_list(value, "/surcharges", 0, CHARGES_MAX)):
        pointer = f"/surcharges/{index}"
        keys = read_object(item, pointer, *keys_of.SURCHARGE)
        name = read_name(keys["name"], f"{pointer}/name", [known.name for known in surcharges])
        if set(keys) == {"name", "percent", "base"}:
            share = read_within(keys["percent"], f"{pointer}/percent", PERCENT_DIGITS, -100, _PERCENT_MAX)
            surcharges.append(Surcharge(name, share, _base(keys["base"], f"{pointer}/base", tuple(ChargePart)), None))
        elif set(keys) == {"name", "price_per_kwh"}:
            price = read_decimal(keys["price_per_kwh"], f"{pointer}/price_per_kwh", PRICE_DIGITS)
            surcharges.append(Surcharge(name, None, (), price))
        else:
            found = ", ".join(sorted(set(keys) - {"name"})) or "a name alone"
            refuse_saying(pointer, found, "either percent with base, or price_per_kwh")
    return tuple(surcharges)


def _base(value: Any, pointer: str, parts: tuple[ChargePart, ...]) -> tuple[ChargePart, ...]:
    """The parts named, each once, in their own order; ["all"] is every part that may be named here."""
    if value == [_ALL_PARTS]:
        return parts
    names = [part.value for part in parts]
    chosen = read_chosen(value if value is not None else 0, pointer, names)
    return tuple(parts[index] for index in sorted(chosen))


def _late_charge(value: Any, minor_digits: int) -> LateCharge:
    keys = read_object(value, "/late_charge", *keys_of.LATE_CHARGE)
    same, later = (
        read_within(keys.get(key, keys["same_year_per_mille"]), f"/late_charge/{key}", _PER_MILLE_DIGITS, 0, 100)
        for key in ("same_year_per_mille", "later_year_per_mille")
    )
    minimum_micro = read_amount(keys.get("minimum", "0"), "/late_charge/minimum")
    minimum_minor, rest = divmod(minimum_micro, 10 ** (PRICE_DIGITS - minor_digits))
    if rest:
        refuse("/late_charge/minimum", keys["minimum"], f"an amount with at most {minor_digits} digits")
    return LateCharge(
        customer_class=read_name(keys["class"], "/late_charge/class", []),
        same_year_ppm_per_day=same,
        later_year_ppm_per_day=later,
        minimum_minor=minimum_minor,
    )


def _rounding(value: Any) -> Rounding:
    keys = read_object(value, "/rounding", *keys_of.ROUNDING)
    rules = [rule.value for rule in RoundingRule]
    rule = read_choice(keys.get("rule", RoundingRule.HALF_AWAY.value), "/rounding/rule", rules)
    step_minor = read_integer(keys.get("step_minor", 1), "/rounding/step_minor", 1, 1000)
    return Rounding(RoundingRule(rule), step_minor)
