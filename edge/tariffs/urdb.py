"""From a rate of the OpenEI Utility Rate Database (URDB) to our tariff document.

In: one rate as its JSON says it (dollars, kWh, kW, months and hours of local time), or the API's
answer with exactly one. Out: a document that `edge.core.tariff.load_tariff` accepts, and every
place where it says less, or says it with fewer digits, than the source did. Nothing is guessed
silently: a field that we cannot bill by is refused with its JSON pointer. Source: the field list
of the URDB API, version 8 (openei.org/services/doc/rest/util_rates), NREL's reading of it in
PySAM's UtilityRateTools and REopt; tiers run per period, RULES.md 3.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from edge.core.tariff import FORMAT, PERIODS_MAX, load_tariff
from edge.core.tariff_values import TariffRefused, describe
from edge.tariffs.urdb_calendar import Calendar, combine
from edge.tariffs.urdb_demand import demand_charges, read_flat_demand, read_time_of_use_demand
from edge.tariffs.urdb_fields import (
    MONTHS,
    STEP_MICRO,
    Rate,
    Tiers,
    UrdbRefused,
    check_keys,
    is_nothing,
    read_list,
    read_number,
    read_tiers,
    refuse,
    refuse_saying,
    round_half_even,
    text_of,
)
from edge.zone import zone_offsets

__all__ = ["UrdbImport", "UrdbRefused", "import_urdb"]

_AMOUNT_MAX = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class UrdbImport:
    """A tariff document, and a sentence for each thing in which it differs from its source."""

    document: dict[str, Any]
    changes: list[str]


def import_urdb(document: Any, time_zone: str = "UTC", block_scope: str = "period") -> UrdbImport:
    """The tariff document of a URDB rate. Raises UrdbRefused for the first thing that cannot be billed.

    URDB names no time zone: its hours are taken as those of `time_zone`. It does not say either
    whether the tiers of two periods share one count; `block_scope` "period" counts each by itself,
    "cycle" all together, as PySAM does (then every period must have the same limits).
    """
    assert block_scope in ("period", "cycle")
    rate = Rate.of(document)
    check_keys(rate)
    _check_zone(rate, time_zone)
    energy = _energy(rate)
    flat = read_flat_demand(rate)
    time_of_use = read_time_of_use_demand(rate)
    calendar = combine(rate, energy, time_of_use.schedule if time_of_use else None, block_scope == "period")
    result: dict[str, Any] = {
        "format": FORMAT,
        **_identity(rate),
        "currency": "USD",
        "minor_digits": 2,
        "time_zone": time_zone,
        **_validity(rate),
        "cycle": {"length": "month", "start_day": 1},
        **calendar.parts(),
        **_blocks_and_prices(rate, energy, calendar, block_scope),
        **_charges(rate),
    }
    demands = demand_charges(rate, flat, time_of_use, calendar)
    if demands:
        result["demand"] = demands
    result["provenance"] = _provenance(rate)
    try:
        load_tariff(result)
    except TariffRefused as refused:
        raise UrdbRefused(rate.root, f"a rate whose document is none ({refused})", "a rate within our bounds") from None
    return UrdbImport(result, rate.changes)


# --- who and when -----------------------------------------------------------------------------


def _identity(rate: Rate) -> dict[str, Any]:
    words = {key: rate.get(key) for key in ("label", "utility", "name")}
    for key, value in words.items():
        if value is not None and not isinstance(value, str):
            refuse(rate.at(key), value, "text")
    if rate.get("country") not in (None, "", "USA"):
        refuse(rate.at("country"), rate.get("country"), "USA: the rates of other countries do not say their currency")
    slug = re.sub(r"[^a-z0-9]+", "-", (words["label"] or words["name"] or "rate").lower()).strip("-")[:50].strip("-")
    title = ": ".join(word.strip() for word in (words["utility"], words["name"]) if word)
    if len(title) > 200:
        rate.changes.append(f"{rate.at('name')}: shortened to 200 characters with the utility's")
    return {"id": f"urdb-{slug or 'rate'}", "version": 1, "title": title[:200]}


def _check_zone(rate: Rate, time_zone: str) -> None:
    """A zone that nobody knows would only be noticed when the first reading is rated."""
    try:
        zone_offsets(time_zone, 0, 1)
    except (ValueError, ZoneInfoNotFoundError):
        refuse_saying(rate.root, f"the time zone {describe(time_zone)} for it", "an IANA zone like America/New_York")


def _validity(rate: Rate) -> dict[str, str]:
    """First and last day: the dates in UTC of what are midnights there or somewhere in America."""
    if rate.get("startdate") is None:
        rate.changes.append(f"{rate.at('startdate')}: not given, valid from 1970-01-01")
    validity = {"valid_from": _date(rate, "startdate") if rate.get("startdate") is not None else "1970-01-01"}
    if rate.get("enddate"):
        validity["valid_to"] = _date(rate, "enddate")
        if validity["valid_to"] < validity["valid_from"]:
            refuse_saying(rate.at("enddate"), validity["valid_to"], f"{validity['valid_from']} or later")
    return validity


def _date(rate: Rate, key: str) -> str:
    value, pointer = rate.get(key), rate.at(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        refuse(pointer, value, "whole seconds since 1970-01-01, below 2^32")
    return datetime.fromtimestamp(value, UTC).date().isoformat()


def _provenance(rate: Rate) -> dict[str, str]:
    words = [str(rate.get(key)) for key in ("label", "uri") if rate.get(key)]
    return {"/prices": ", ".join(["OpenEI Utility Rate Database", *words])[:500]}


# --- energy -----------------------------------------------------------------------------------


def _energy(rate: Rate) -> list[Tiers]:
    structure, pointer = rate.get("energyratestructure"), rate.at("energyratestructure")
    return [
        read_tiers(rate, tiers, f"{pointer}/{index}", "kWh")
        for index, tiers in enumerate(read_list(structure, pointer, 1, PERIODS_MAX))
    ]


def _blocks_and_prices(rate: Rate, energy: Sequence[Tiers], calendar: Calendar, scope: str) -> dict[str, Any]:
    rows = {name: energy[cell[0]] for cell, name in calendar.names.items()}
    limits = {name: [text_of(limit) for limit in row.limits] for name, row in rows.items()}
    parts: dict[str, Any] = {}
    if scope == "cycle" and len({row.limits for row in rows.values()}) > 1:
        allowed = "the same limits in every period, where the tiers are counted for all periods together"
        refuse_saying(rate.at("energyratestructure"), "periods with different limits", allowed)
    if any(limits.values()):
        shared = next(iter(limits.values()))
        parts["blocks"] = {"scope": scope, "limits_kwh": shared if scope == "cycle" else limits}
    parts["prices"] = {"table": {name: [text_of(price) for price in row.prices] for name, row in rows.items()}}
    return parts


# --- fixed and minimum charges ----------------------------------------------------------------


_SPANS = {"$/month": "month", "$/day": "day"}


def _charges(rate: Rate) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    fixed = _dollars(rate, "fixed charge", {"fixedchargefirstmeter": "fixedchargeunits", "fixedmonthlycharge": None})
    if fixed is not None:
        amount, unit, pointer = fixed
        if unit == "$/year":
            amount, unit = amount / MONTHS, "$/month"
            rate.changes.append(f"{pointer}: a year's amount, a twelfth is charged each month")
        amount = round_half_even(rate, amount, STEP_MICRO, pointer)
        parts["standing_charges"] = [{"name": "fixed_charge", "amount": text_of(amount), "per": _SPANS[unit]}]
    minimum = _dollars(
        rate, "minimum charge", {"mincharge": "minchargeunits", "minmonthlycharge": None, "annualmincharge": "$/year"}
    )
    if minimum is not None:
        amount, unit, pointer = minimum
        if unit == "$/year":
            refuse_saying(pointer, "a minimum for a year", "a minimum for a month or a day")
        amount = round_half_even(rate, amount, STEP_MICRO, pointer)
        parts["minimum_bill"] = {"amount": text_of(amount), "per": _SPANS[unit]}
    return parts


def _dollars(rate: Rate, what: str, units_of: Mapping[str, str | None]) -> tuple[Decimal, str, str] | None:
    """(amount, unit, pointer) of the one field that is not zero; the field of its unit, the unit, or None: a month."""
    found: list[tuple[Decimal, str, str]] = []
    for key, unit_key in units_of.items():
        value, pointer = rate.get(key), rate.at(key)
        if is_nothing(value):
            continue
        amount = read_number(value, pointer)
        if not 0 <= amount <= _AMOUNT_MAX:
            refuse(pointer, value, f"0 to {_AMOUNT_MAX:f}")
        found.append((amount, _dollar_unit(rate, key, unit_key), pointer))
    if len(found) > 1:
        refuse_saying(found[1][2], f"a second {what} beside {found[0][2]}", "one of the two")
    return found[0] if found else None


def _dollar_unit(rate: Rate, key: str, unit_key: str | None) -> str:
    if unit_key is None or unit_key == "$/year":
        return unit_key or "$/month"
    if is_nothing(rate.get(unit_key)):
        rate.changes.append(f"{rate.at(unit_key)}: not given, {rate.at(key)} taken as $/month")
        return "$/month"
    if rate.get(unit_key) not in (*_SPANS, "$/year"):
        refuse(rate.at(unit_key), rate.get(unit_key), "$/month, $/day or $/year")
    return str(rate.get(unit_key))
