"""One rate of the Utility Rate Database: its fields, what each kind of field is worth, and how one is refused.

Numbers are dollars, kWh and kW as JSON has them; they are taken in the digits they were written
with, and rounded half to even where our document has fewer. A field is billed by, kept, passed
over or refused: each list says which. Source: the field list of the API, version 8
(openei.org/services/doc/rest/util_rates); fields of versions 3 to 7 too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NoReturn

from edge.core.rating import AMOUNT_NANO_MAX
from edge.core.tariff import BLOCKS_MAX
from edge.core.tariff_values import describe, escaped

MONTHS = 12
HOURS = 24
STEP_MICRO = Decimal("0.000001")
LIMIT_MAX = Decimal(1_000_000)  # kWh or kW: what a document allows a cycle where it does not say itself
_STEP_MILLI = Decimal("0.001")
_PRICE_MAX = Decimal(AMOUNT_NANO_MAX // 10**9) * STEP_MICRO  # with that cycle, 10^9 Wh
_WIDE = Context(prec=120)  # room for every number that `read_number` lets through

# What the importer bills by.
_BILLED = frozenset(
    {
        "energyratestructure",
        "energyweekdayschedule",
        "energyweekendschedule",
        "flatdemandunit",
        "flatdemandstructure",
        "flatdemandmonths",
        "demandrateunit",
        "demandratestructure",
        "demandweekdayschedule",
        "demandweekendschedule",
        "demandratchetpercentage",
        "demandwindow",
        "lookbackpercent",
        "lookbackmonths",
        "lookbackrange",
        "fixedchargefirstmeter",
        "fixedmonthlycharge",
        "fixedchargeunits",
        "mincharge",
        "minchargeunits",
        "minmonthlycharge",
        "annualmincharge",
    }
)
# What says who it is, since when, and in which money.
_IDENTITY = frozenset({"label", "name", "utility", "startdate", "enddate", "country", "uri"})
# What is for people to read, or says whom the rate is for: nothing on a bill follows from it.
_INFORMATIONAL = frozenset(
    {
        "approved",
        "basicinformationcomments",
        "demandcomments",
        "demandlabels",
        "demandtoulabels",
        "demandunits",
        "description",
        "eiaid",
        "energycomments",
        "energylabels",
        "energytoulabels",
        "is_default",
        "latest_update",
        "peakkwcapacityhistory",
        "peakkwcapacitymax",
        "peakkwcapacitymin",
        "peakkwhusagehistory",
        "peakkwhusagemax",
        "peakkwhusagemin",
        "phasewiring",
        "rate",
        "revisions",
        "sector",
        "servicetype",
        "source",
        "sourceparent",
        "supercedes",
        "supersedes",
        "version",
        "voltagecategory",
        "voltagemaximum",
        "voltageminimum",
    }
)
# What may matter to somebody, but not to one meter that only takes: left out, and said so.
_LEFT_OUT = {
    "demandattrs": "attributes of the demand charge",
    "dgrules": "rules for those who generate",
    "energyattrs": "attributes of the energy charge",
    "fixedattrs": "attributes of the fixed charge",
    "fixedchargeeaaddl": "the fixed charge of additional meters",
    "usenetmetering": "net metering",
}
# What would change the bill and has no counterpart here: refused unless empty or zero.
_NOT_BILLED = {
    "coincidentratestructure": "no charge on demand that coincides with the system's peak",
    "coincidentrateschedule": "no charge on demand that coincides with the system's peak",
    "coincidentrateunit": "no charge on demand that coincides with the system's peak",
    "demandreactivepowercharge": "no charge per kVAR",
    "fueladjustmentsmonthly": "no adjustment by month, but adj in each tier of energyratestructure",
}


class UrdbRefused(Exception):
    """Why a rate cannot be imported: the JSON pointer of the fault, what is there, what may be there."""

    def __init__(self, pointer: str, found: str, allowed: str) -> None:
        super().__init__(f"URDB rate refused at {pointer or '/'}: found {found}; allowed is {allowed}")
        self.pointer = pointer
        self.found = found
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Rate:
    """The keys of a rate in lower case (the API has changed their case over its versions)."""

    root: str
    keys: dict[str, str]
    values: Mapping[str, Any]
    changes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, document: Any) -> "Rate":
        """The rate itself, or the one in the API's answer."""
        root = ""
        if isinstance(document, dict) and "items" in document:
            items = document["items"]
            if not isinstance(items, list) or len(items) != 1:
                refuse("/items", items, "a list of one rate")
            document, root = items[0], "/items/0"
        if not isinstance(document, dict):
            refuse(root, document, "an object")
        keys: dict[str, str] = {}
        for key in document:
            if key.lower() in keys:
                refuse_saying(f"{root}/{escaped(key)}", "a key given twice", "each key once, in whichever case")
            keys[key.lower()] = key
        return cls(root, keys, document)

    def get(self, key: str) -> Any:
        """What stands there; None if nothing does."""
        return self.values[self.keys[key]] if key in self.keys else None

    def at(self, key: str) -> str:
        """The JSON pointer of a key, in the case it has there."""
        return f"{self.root}/{escaped(self.keys.get(key, key))}"


def check_keys(rate: Rate) -> None:
    """Every key is billed by, kept or passed over; lists what is left out, refuses the rest."""
    for key in rate.keys:
        value = rate.get(key)
        if key in _NOT_BILLED and not is_nothing(value):
            refuse(rate.at(key), value, _NOT_BILLED[key])
        if key in _LEFT_OUT and not is_nothing(value):
            rate.changes.append(f"{rate.at(key)}: {_LEFT_OUT[key]}: left out")
        if key not in _BILLED | _IDENTITY | _INFORMATIONAL | _LEFT_OUT.keys() | _NOT_BILLED.keys():
            refuse_saying(rate.at(key)[:100], "an unknown key", "a field of the Utility Rate Database, version 8")


def is_nothing(value: Any, depth: int = 3) -> bool:
    """Empty or zero, down to the numbers of a table: so files write fields they do not use."""
    if isinstance(value, list):
        return not value or (depth > 0 and all(is_nothing(item, depth - 1) for item in value))
    return value is None or value in (0, "", {})


# --- rates by period and tier ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tiers:
    """The rates of one period; the limits in kWh or kW, one fewer than the prices."""

    pointer: str
    limits: tuple[Decimal, ...]
    prices: tuple[Decimal, ...]


def read_tiers(rate: Rate, value: Any, pointer: str, unit: str) -> Tiers:
    """One period of a structure, whose limits are in `unit`."""
    limits: list[Decimal] = []
    prices: list[Decimal] = []
    tiers = read_list(value, pointer, 1, BLOCKS_MAX)
    for index, tier in enumerate(tiers):
        here = f"{pointer}/{index}"
        _check_tier(tier, here, unit)
        prices.append(_price(rate, tier, here))
        limit = read_number(tier["max"], f"{here}/max") if tier.get("max") is not None else None
        if index == len(tiers) - 1:
            if limit is not None and limit < LIMIT_MAX:
                rate.changes.append(f"{here}/max: the last tier ends at {limit:f}; what is above costs the same")
        elif limit is None:
            refuse_saying(here, "no max", "a max in every tier but the last")
        else:
            limits.append(_limit(rate, limit, f"{here}/max", limits[-1] if limits else Decimal(0)))
    return Tiers(pointer, tuple(limits), tuple(prices))


def _check_tier(tier: Any, pointer: str, unit: str) -> None:
    if not isinstance(tier, dict):
        refuse(pointer, tier, "an object")
    for key in tier:
        if key not in ("rate", "adj", "max", "unit", "sell"):
            refuse_saying(f"{pointer}/{escaped(str(key))}", "an unknown key", "rate, adj, max, unit")
    if tier.get("rate") is None and tier.get("adj") is None:
        refuse_saying(pointer, "neither rate nor adj", "a tier with a price")
    if tier.get("sell") is not None and read_number(tier["sell"], f"{pointer}/sell") != 0:
        refuse(f"{pointer}/sell", tier["sell"], "0 or no sell: a meter that also gives is not billed here")
    found = tier.get("unit", unit)
    if not isinstance(found, str) or found.lower() != unit.lower():
        refuse(f"{pointer}/unit", found, f"{unit}: limits that move with demand or with days are not billed here")


def _price(rate: Rate, tier: Mapping[str, Any], pointer: str) -> Decimal:
    """Rate and adjustment in one, since one price is billed; rounded once, on the sum."""
    base, adjustment = (
        Decimal(0) if tier.get(key) is None else read_number(tier[key], f"{pointer}/{key}") for key in ("rate", "adj")
    )
    price = round_half_even(rate, _WIDE.add(base, adjustment), STEP_MICRO, pointer)
    if not 0 <= price <= _PRICE_MAX:
        refuse_saying(pointer, f"a price of {price:f}", f"0 to {_PRICE_MAX.normalize():f}, rate and adj together")
    return price


def _limit(rate: Rate, limit: Decimal, pointer: str, before: Decimal) -> Decimal:
    rounded = round_half_even(rate, limit, _STEP_MILLI, pointer)
    if not before < rounded < LIMIT_MAX:
        refuse_saying(pointer, f"{rounded:f}", f"more than {before:f} (the tier before) and less than {LIMIT_MAX:f}")
    return rounded


# --- plain values -----------------------------------------------------------------------------


def read_list(value: Any, pointer: str, count_min: int, count_max: int) -> list[Any]:
    """The list, after proof of its length."""
    if not isinstance(value, list) or not count_min <= len(value) <= count_max:
        count = f"{count_min}" if count_min == count_max else f"{count_min} to {count_max}"
        refuse(pointer, value, f"a list of {count} entries")
    return value


def read_number(value: Any, pointer: str) -> Decimal:
    """A JSON number in the digits it was written with: the shortest that mean this float."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        refuse(pointer, value, "a number")
    if isinstance(value, int) and value.bit_length() > 128:
        refuse(pointer, value, "a number below 2^128")
    number = Decimal(str(value))
    if not number.is_finite() or (number and not -30 <= number.adjusted() <= 40):
        refuse(pointer, value, "a finite number of a size that can be written out")
    return number


def round_half_even(rate: Rate, value: Decimal, step: Decimal, pointer: str) -> Decimal:
    """The value in whole steps, half to even; a difference is listed."""
    rounded = value.quantize(step, ROUND_HALF_EVEN, _WIDE)
    if rounded != value:
        digits = -int(step.as_tuple().exponent)
        rate.changes.append(f"{pointer}: {value:f} rounded to {text_of(rounded)} ({digits} digits after the point)")
    return rounded


def text_of(value: Decimal) -> str:
    """Without zeros at the end: 0.11, 12, 300."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_index(value: Any, pointer: str, periods: int) -> int:
    """The number of one of so many periods."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < periods:
        refuse(pointer, value, f"the number of a period, 0 to {periods - 1}")
    return value


# --- saying what is wrong ---------------------------------------------------------------------


def refuse(pointer: str, value: Any, allowed: str) -> NoReturn:
    """Raises UrdbRefused for a value that cannot be billed by."""
    raise UrdbRefused(pointer, "nothing" if value is None else describe(value), allowed)


def refuse_saying(pointer: str, found: str, allowed: str) -> NoReturn:
    """Raises UrdbRefused with what was found in words of our own."""
    raise UrdbRefused(pointer, found, allowed)
