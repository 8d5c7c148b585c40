"""The tariff document as types, and its JSON Schema made from them: `python3 -m edge.tariffs.schema` prints it.

The loader (edge/core) decides what is accepted and may use no library, so it does not use these;
a test holds their keys equal to edge/core/tariff_keys.py, and the schema file equal to them. A
schema cannot say that every minute is covered or that limits rise: what it accepts may still be refused.
"""

import json
import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from edge.core.tariff import CURRENCY_PATTERN, FORMAT, ID_PATTERN, VERSIONS_MAX, ZONE_PATTERN
from edge.core.tariff_prices import BAND_NAME_PATTERN
from edge.core.tariff_values import NAME_PATTERN

SCHEMA_FILE = "tariff.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _decimal(digits: int, signed: bool = False) -> Any:
    pattern = rf"^{'-?' if signed else ''}(0|[1-9][0-9]{{0,9}})(\.[0-9]{{1,{digits}}})?$"
    return Meta(pattern=pattern, description=f"a decimal string, at most {digits} digits after the point")


Price = Annotated[str, _decimal(6)]
SignedPrice = Annotated[str, _decimal(6, signed=True)]
Energy = Annotated[str, _decimal(3)]
Power = Annotated[str, _decimal(3)]
Percent = Annotated[str, _decimal(2)]
SignedPercent = Annotated[str, _decimal(2, signed=True)]
PerMille = Annotated[str, _decimal(3)]
Name = Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")]
BandName = Annotated[str, Meta(pattern=f"^{BAND_NAME_PATTERN}$")]
Date = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="a local date")]
MonthDay = Annotated[str, Meta(pattern=r"^[0-9]{2}-[0-9]{2}$", description="month and day")]
Time = Annotated[str, Meta(pattern=r"^[0-9]{2}:[0-9]{2}$", description="00:00 to 24:00 by the wall clock")]
Month = Annotated[int, Meta(ge=1, le=12)]
Months = Annotated[list[Month], Meta(min_length=1, max_length=12)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Part = Literal["energy", "standing", "basic", "power_factor", "surcharges", "all"]


class Cycle(Struct, forbid_unknown_fields=True):
    """When the blocks start over; `vend` counts what is bought in a month."""

    length: Literal["day", "month", "year", "vend"]
    start_day: Annotated[int, Meta(ge=1, le=28)] | UnsetType = UNSET
    start_month: Month | UnsetType = UNSET


class Season(Struct, forbid_unknown_fields=True):
    """First and last dates, both in."""

    name: Name
    dates: list[tuple[MonthDay, MonthDay]]


class DayType(Struct, forbid_unknown_fields=True):
    """Weekdays, and dates that go before their weekday."""

    name: Name
    weekdays: list[Weekday] | UnsetType = UNSET
    dates: list[Date] | UnsetType = UNSET


class Window(Struct, forbid_unknown_fields=True):
    """Half-open; may run over midnight."""

    from_: Time = field(name="from")
    to: Time
    seasons: list[Name] | UnsetType = UNSET
    day_types: list[Name] | UnsetType = UNSET


class Period(Struct, forbid_unknown_fields=True):
    """A part of the day with its own prices; without windows all day."""

    name: Name
    windows: list[Window] | UnsetType = UNSET


class Raise(Struct, forbid_unknown_fields=True):
    """What a kind of customer has added to each limit of a cycle."""

    name: Name
    added_kwh: list[Energy]


class Blocks(Struct, forbid_unknown_fields=True):
    """Limits between the blocks; a limit belongs to the lower one."""

    limits_kwh: list[Energy] | dict[str, list[Energy]]
    scope: Literal["cycle", "period"] | UnsetType = UNSET
    by_months_in_service: bool | UnsetType = UNSET
    raises: list[Raise] | UnsetType = UNSET


class Band(Struct, forbid_unknown_fields=True):
    """A band by history; the last has no limit."""

    name: BandName
    limit_kwh: Energy | UnsetType = UNSET
    limit_included: bool | UnsetType = UNSET


class Bands(Struct, forbid_unknown_fields=True):
    """Bands by the mean of the last months."""

    months: Annotated[int, Meta(ge=1, le=24)]
    bands: list[Band]
    without_history: BandName | UnsetType = UNSET


class BandPrices(Struct, forbid_unknown_fields=True):
    """A table by period and block, or bases by period with adders by block."""

    table: dict[str, list[Price]] | UnsetType = UNSET
    base_by_period: dict[str, SignedPrice] | UnsetType = UNSET
    adder_by_block: list[SignedPrice] | UnsetType = UNSET


class Prices(Struct, forbid_unknown_fields=True):
    """One of the shapes of BandPrices, or one for each band."""

    table: dict[str, list[Price]] | UnsetType = UNSET
    base_by_period: dict[str, SignedPrice] | UnsetType = UNSET
    adder_by_block: list[SignedPrice] | UnsetType = UNSET
    by_band: dict[str, BandPrices] | UnsetType = UNSET


class StandingCharge(Struct, forbid_unknown_fields=True):
    """Due for every local day or month."""

    name: Name
    amount: Price
    per: Literal["day", "month"]


class MinimumBill(Struct, forbid_unknown_fields=True):
    """What a bill is raised to."""

    amount: Price
    per: Literal["day", "month"]


class OverContract(Struct, forbid_unknown_fields=True):
    """From which share of the contract the excess counts how often."""

    threshold_percent: Percent
    factor: Annotated[int, Meta(ge=1, le=100)]


class Ratchet(Struct, forbid_unknown_fields=True):
    """At least this share of the highest demand of the months before."""

    percent: Percent
    months: Annotated[int, Meta(ge=1, le=60)]
    of_months: Months | UnsetType = UNSET


class ContractStep(Struct, forbid_unknown_fields=True):
    """What is contracted or connected from a date on."""

    valid_from: Date
    size: Power


class Demand(Struct, forbid_unknown_fields=True):
    """A charge on power, per kW or kVA and month."""

    name: Name
    kind: Literal["capacity", "contract", "measured"]
    prices: list[Price]
    unit: Literal["kW", "kVA"] | UnsetType = UNSET
    limits: list[Power] | UnsetType = UNSET
    months: Months | UnsetType = UNSET
    periods: list[Name] | UnsetType = UNSET
    window_min: Annotated[int, Meta(ge=1, le=1440)] | UnsetType = UNSET
    slip_min: Annotated[int, Meta(ge=1, le=1440)] | UnsetType = UNSET
    day_divisor: Annotated[int, Meta(ge=28, le=31)] | UnsetType = UNSET
    over_contract: OverContract | UnsetType = UNSET
    ratchet: Ratchet | UnsetType = UNSET
    contract: list[ContractStep] | UnsetType = UNSET


class PowerFactor(Struct, forbid_unknown_fields=True):
    """The adjustment by the table of 1983."""

    standard: Literal["0.90", "0.85", "0.80"]
    base: list[Literal["energy", "basic", "all"]] | UnsetType = UNSET


class Surcharge(Struct, forbid_unknown_fields=True):
    """A percentage of a base, or a price per kWh."""

    name: Name
    percent: SignedPercent | UnsetType = UNSET
    base: list[Part] | UnsetType = UNSET
    price_per_kwh: SignedPrice | UnsetType = UNSET


class LateCharge(Struct, forbid_unknown_fields=True):
    """Per mille a day of an issued, overdue bill."""

    class_: Name = field(name="class")
    same_year_per_mille: PerMille
    later_year_per_mille: PerMille | UnsetType = UNSET
    minimum: Price | UnsetType = UNSET


class Rounding(Struct, forbid_unknown_fields=True):
    """How the total becomes a multiple of the step."""

    rule: Literal["half_away", "half_even", "down"] | UnsetType = UNSET
    step_minor: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET


class Document(Struct, forbid_unknown_fields=True):
    """One version of a tariff."""

    format: Literal[1]
    id: Annotated[str, Meta(pattern=f"^{ID_PATTERN}$")]
    version: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    currency: Annotated[str, Meta(pattern=f"^{CURRENCY_PATTERN}$")]
    minor_digits: Annotated[int, Meta(ge=0, le=4)]
    time_zone: Annotated[str, Meta(pattern=f"^{ZONE_PATTERN}$")]
    valid_from: Date
    cycle: Cycle
    prices: Prices
    title: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    valid_to: Date | UnsetType = UNSET
    seasons: list[Season] | UnsetType = UNSET
    day_types: list[DayType] | UnsetType = UNSET
    periods: list[Period] | UnsetType = UNSET
    blocks: Blocks | UnsetType = UNSET
    bands: Bands | UnsetType = UNSET
    cycle_energy_kwh_max: Energy | UnsetType = UNSET
    standing_charges: list[StandingCharge] | UnsetType = UNSET
    minimum_bill: MinimumBill | UnsetType = UNSET
    demand: list[Demand] | UnsetType = UNSET
    power_factor: PowerFactor | UnsetType = UNSET
    surcharges: list[Surcharge] | UnsetType = UNSET
    late_charge: LateCharge | UnsetType = UNSET
    rounding: Rounding | UnsetType = UNSET
    provenance: dict[str, Annotated[str, Meta(min_length=1, max_length=500)]] | UnsetType = UNSET


class Versions(Struct, forbid_unknown_fields=True):
    """Several dated versions of one tariff, in order, neither overlapping nor with a day between."""

    format: Literal[1]
    versions: Annotated[list[Document], Meta(min_length=1, max_length=VERSIONS_MAX)]


# Which type holds the keys of which row of edge/core/tariff_keys.py; a test compares every one of them.
TYPES: dict[str, type[Struct]] = {
    "VERSIONS": Versions,
    "DOCUMENT": Document,
    "CYCLE": Cycle,
    "SEASON": Season,
    "DAY_TYPE": DayType,
    "PERIOD": Period,
    "WINDOW": Window,
    "BLOCKS": Blocks,
    "RAISE": Raise,
    "BANDS": Bands,
    "BAND": Band,
    "PRICES": Prices,
    "BAND_PRICES": BandPrices,
    "STANDING_CHARGE": StandingCharge,
    "MINIMUM_BILL": MinimumBill,
    "DEMAND": Demand,
    "OVER_CONTRACT": OverContract,
    "RATCHET": Ratchet,
    "CONTRACT_STEP": ContractStep,
    "POWER_FACTOR": PowerFactor,
    "SURCHARGE": Surcharge,
    "LATE_CHARGE": LateCharge,
    "ROUNDING": Rounding,
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a tariff document or of its versions, draft 2020-12."""
    roots, components = msgspec.json.schema_components([Document, Versions], ref_template="#/$defs/{name}")
    return {
        "$schema": _DIALECT,
        "title": f"Tariff document, format {FORMAT}",
        "anyOf": list(roots),
        "$defs": components,
    }


def schema_text() -> str:
    """The schema as it is kept beside the presets."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
