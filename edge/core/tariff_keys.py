"""Every object of a tariff document with its keys: what the loader demands, and what the schema is held to.

A key that does not stand here is refused. edge/tariffs/README.md says what each holds;
edge/tariffs/schema.py gives each its type.
"""

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys of one kind of object: those it must have and those it may have."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


VERSIONS = Keys(("format", "versions"))
DOCUMENT = Keys(
    ("format", "id", "version", "currency", "minor_digits", "time_zone", "valid_from", "cycle", "prices"),
    (
        "title",
        "valid_to",
        "seasons",
        "day_types",
        "periods",
        "blocks",
        "bands",
        "cycle_energy_kwh_max",
        "standing_charges",
        "minimum_bill",
        "demand",
        "power_factor",
        "surcharges",
        "late_charge",
        "rounding",
        "provenance",
    ),
)
CYCLE = Keys(("length",), ("start_day", "start_month"))
SEASON = Keys(("name", "dates"))
DAY_TYPE = Keys(("name",), ("weekdays", "dates"))
PERIOD = Keys(("name",), ("windows",))
WINDOW = Keys(("from", "to"), ("seasons", "day_types"))
BLOCKS = Keys(("limits_kwh",), ("scope", "by_months_in_service", "raises"))
RAISE = Keys(("name", "added_kwh"))
BANDS = Keys(("months", "bands"), ("without_history",))
BAND = Keys(("name",), ("limit_kwh", "limit_included"))
PRICES = Keys((), ("table", "base_by_period", "adder_by_block", "by_band"))
BAND_PRICES = Keys((), ("table", "base_by_period", "adder_by_block"))
STANDING_CHARGE = Keys(("name", "amount", "per"))
MINIMUM_BILL = Keys(("amount", "per"))
DEMAND = Keys(
    ("name", "kind", "prices"),
    (
        "unit",
        "limits",
        "months",
        "periods",
        "window_min",
        "slip_min",
        "day_divisor",
        "over_contract",
        "ratchet",
        "contract",
    ),
)
OVER_CONTRACT = Keys(("threshold_percent", "factor"))
RATCHET = Keys(("percent", "months"), ("of_months",))
CONTRACT_STEP = Keys(("valid_from", "size"))
POWER_FACTOR = Keys(("standard",), ("base",))
SURCHARGE = Keys(("name",), ("percent", "base", "price_per_kwh"))
LATE_CHARGE = Keys(("class", "same_year_per_mille"), ("later_year_per_mille", "minimum"))
ROUNDING = Keys((), ("rule", "step_minor"))
