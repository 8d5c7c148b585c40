"""The tariff document: read strictly, proven before it is accepted, compiled for the rating.

A document is a plain JSON object (edge/tariffs/README.md describes it key by key) or several
dated versions of one. Prices and limits are decimal strings, read exactly: prices to
micro-currency per kWh, limits in kWh to Wh. Days are local days since 1970-01-01.
Source: RULES.md 3 and 10.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from edge.core import tariff_keys as keys_of
from edge.core.calendar import CalendarVersion, Cycle, Schedule, ZoneOffsets, compile_calendar, format_date
from edge.core.lean import dataclass
from edge.core.rating import CompiledTariff, PeriodPrices
from edge.core.tariff_calendar import PERIODS_MAX, read_cycle, read_schedule
from edge.core.tariff_prices import BLOCKS_MAX, BlockScope, read_prices
from edge.core.tariff_terms import read_terms
from edge.core.tariff_values import (
    TariffRefused,
    escaped,
    read_date,
    read_integer,
    read_list,
    read_object,
    read_text,
    refuse,
    refuse_saying,
)
from edge.core.terms import MONTHS_IN_YEAR, HistoryBands, LimitRules, Terms

__all__ = [
    "BLOCKS_MAX",
    "PERIODS_MAX",
    "BlockScope",
    "Tariff",
    "TariffRefused",
    "compile_tariff",
    "load_tariff",
    "load_versions",
]

FORMAT = 1
VERSIONS_MAX = 256
ID_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
CURRENCY_PATTERN = r"[A-Z]{3}"
ZONE_PATTERN = r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}"
_ID = re.compile(ID_PATTERN)
_CURRENCY = re.compile(CURRENCY_PATTERN)
_ZONE = re.compile(ZONE_PATTERN)


@dataclass(frozen=True, slots=True)
class Tariff:
    """One accepted version of a tariff."""

    tariff_id: str
    version: int
    title: str
    currency: str
    minor_digits: int
    time_zone: str
    first_day: int  # valid from local midnight of this day
    last_day: int | None  # and to the end of this one; it prices on until another version does
    cycle: Cycle
    counts_purchases: bool  # whether the blocks count what is bought in the cycle (cycle `vend`), not what is used
    schedule: Schedule
    block_scope: BlockScope
    limit_rules: LimitRules
    bands: HistoryBands | None
    prices_by_band: tuple[tuple[PeriodPrices, ...], ...]  # one entry without bands
    periods: tuple[PeriodPrices, ...]  # of one band: that without history, until `in_band` takes another
    energy_wh_max: int
    terms: Terms

    @property
    def order_matters(self) -> bool:
        """Whether the order of intervals within a cycle changes the cost (RULES.md 3).

        It does not when every period has the same steps from block to block, or its own blocks.
        """
        if self.block_scope is BlockScope.PERIOD:
            return False
        rows = [period.prices_micro_per_kwh for period in self.periods]
        return len({tuple(price - row[0] for price in row) for row in rows}) > 1

    def in_band(self, band: int) -> "Tariff":
        """The tariff of a customer in this band: `tariff.in_band(tariff.bands.band_of(energies))`."""
        return replace(self, periods=self.prices_by_band[band])

    def for_customer(self, months_in_service: int = MONTHS_IN_YEAR, raises: Sequence[str] = ()) -> "Tariff":
        """The tariff with the limits of one customer.

        `months_in_service`: of the cycle's year, a started one counts whole; without effect where
        the tariff does not scale by them. `raises`: names of the raises that apply. A limit is cut
        off to whole Wh. ValueError for what the tariff does not know.
        """
        known = {rule.name: rule for rule in self.limit_rules.raises}
        unknown = [name for name in raises if name not in known]
        if unknown or len(set(raises)) < len(raises):
            raise ValueError(f"tariff {self.tariff_id}: raises {', '.join(raises)}; known are {', '.join(known)}")
        if not 1 <= months_in_service <= MONTHS_IN_YEAR:
            raise ValueError(f"tariff {self.tariff_id}: {months_in_service} months in service; allowed is 1 to 12")
        added = [known[name].added_wh for name in raises]
        months = months_in_service if self.limit_rules.by_months_in_service else MONTHS_IN_YEAR

        def limited(period: PeriodPrices) -> PeriodPrices:
            sums = [limit + sum(row[n] for row in added) for n, limit in enumerate(period.limits_wh)]
            limits = tuple(limit * months // MONTHS_IN_YEAR for limit in sums)
            if any(after <= before for before, after in pairwise((0, *limits))):
                raise ValueError(f"tariff {self.tariff_id}: the limits of {months} months are no longer apart")
            return replace(period, limits_wh=limits)

        return replace(
            self,
            periods=tuple(limited(period) for period in self.periods),
            prices_by_band=tuple(tuple(limited(period) for period in row) for row in self.prices_by_band),
        )


def load_tariff(document: Any) -> Tariff:
    """The tariff that a document states. Raises TariffRefused for the first fault found."""
    keys = read_object(document, "", *keys_of.DOCUMENT)
    read_integer(keys["format"], "/format", FORMAT, FORMAT)
    names, schedule = read_schedule(keys)
    prices = read_prices(keys, names)
    minor_digits = read_integer(keys["minor_digits"], "/minor_digits", 0, 4)
    terms = read_terms(keys, names, minor_digits)
    _provenance(keys.get("provenance", {}), document)
    cycle, counts_purchases = read_cycle(keys["cycle"])
    first_day, last_day = _validity(keys)
    return Tariff(
        tariff_id=read_text(keys["id"], "/id", _ID, "a name of a-z, 0-9, '.', '_' and '-', at most 64 characters"),
        version=read_integer(keys["version"], "/version", 1, 1_000_000_000),
        title=_title(keys.get("title", "")),
        currency=read_text(keys["currency"], "/currency", _CURRENCY, "an ISO 4217 code like CNY"),
        minor_digits=minor_digits,
        time_zone=read_text(keys["time_zone"], "/time_zone", _ZONE, "an IANA zone like Asia/Shanghai"),
        first_day=first_day,
        last_day=last_day,
        cycle=cycle,
        counts_purchases=counts_purchases,
        schedule=schedule,
        block_scope=prices.scope,
        limit_rules=prices.limit_rules,
        bands=prices.bands,
        prices_by_band=prices.by_band,
        periods=prices.by_band[prices.bands.without_history if prices.bands else 0],
        energy_wh_max=prices.energy_wh_max,
        terms=terms,
    )


def load_versions(document: Any) -> tuple[Tariff, ...]:
    """The dated versions of a document: the one it is, or those under `versions`, which follow each other.

    Raises TariffRefused. Versions neither overlap nor leave a day between them, and agree in
    whatever a block position runs on with.
    """
    if not (isinstance(document, dict) and "versions" in document):
        return (load_tariff(document),)
    keys = read_object(document, "", *keys_of.VERSIONS)
    read_integer(keys["format"], "/format", FORMAT, FORMAT)
    versions: list[Tariff] = []
    for index, item in enumerate(read_list(keys["versions"], "/versions", 1, VERSIONS_MAX)):
        pointer = f"/versions/{index}"
        try:
            version = load_tariff(item)
        except TariffRefused as refusal:
            raise TariffRefused(pointer + refusal.pointer, refusal.found, refusal.allowed) from None
        if versions:
            _check_successor(versions[-1], version, pointer)
        versions.append(version)
    return tuple(versions)


def compile_tariff(versions: Sequence[Tariff], zone: ZoneOffsets, first_at: int, end_at: int) -> CompiledTariff:
    """Tables for the rating over [first_at, end_at), from the dated versions of one tariff, in order.

    A version that is not yet valid waits: its periods begin at its first local midnight, and the
    block position runs on. Raises ValueError when the versions do not belong together or the
    span is not covered by them and the zone.
    """
    _check_versions(versions, zone)
    calendars: list[CalendarVersion] = []
    periods: list[PeriodPrices] = []
    for version in versions:
        calendars.append(CalendarVersion(version.first_day, version.schedule, version.cycle, len(periods)))
        periods.extend(version.periods)
    first = versions[0]
    return CompiledTariff(
        tariff_id=first.tariff_id,
        calendar=compile_calendar(calendars, zone, first_at, end_at),
        periods=tuple(periods),
        position_count=len(first.periods) if first.block_scope is BlockScope.PERIOD else 1,
        energy_wh_max=min(version.energy_wh_max for version in versions),
    )


def _check_versions(versions: Sequence[Tariff], zone: ZoneOffsets) -> None:
    first = versions[0]
    for before, after in pairwise(versions):
        if not (before.version < after.version and before.first_day < after.first_day):
            raise ValueError(f"versions {before.version} and {after.version} of {first.tariff_id} are not in order")
    for version in versions:
        if version.time_zone != zone.name:
            raise ValueError(f"tariff {version.tariff_id} is for zone {version.time_zone}, not {zone.name}")
        if _shape(version) != _shape(first):
            raise ValueError(
                f"versions {first.version} and {version.version} of {first.tariff_id} differ in id, currency, "
                "cycle or block scope (or in periods that count for themselves): close the cycle and begin anew"
            )


def _shape(version: Tariff) -> tuple[object, ...]:
    """What must not change while a block position runs on."""
    names = [period.name for period in version.periods] if version.block_scope is BlockScope.PERIOD else []
    return (
        version.tariff_id,
        version.currency,
        version.minor_digits,
        version.cycle,
        version.counts_purchases,
        version.block_scope,
        names,
    )


# --- the parts of a document -----------------------------------------------------------------


def _check_successor(before: Tariff, after: Tariff, pointer: str) -> None:
    """A version begins on the day after the last of the one before, or ends one that has no last day."""
    if after.version <= before.version:
        refuse(f"{pointer}/version", after.version, f"a number above {before.version}, the version before it")
    if after.time_zone != before.time_zone:
        refuse(f"{pointer}/time_zone", after.time_zone, f"{before.time_zone}, as in the version before it")
    if _shape(after) != _shape(before):
        found = "another id, currency, cycle or block scope (or other periods that count for themselves)"
        refuse_saying(pointer, found, "what a block position can run on with: the same as in the version before it")
    found = format_date(after.first_day)
    if after.first_day <= before.first_day:
        refuse(f"{pointer}/valid_from", found, f"a date after {format_date(before.first_day)}: versions overlap")
    if before.last_day is not None and after.first_day != before.last_day + 1:
        fault = "versions overlap" if after.first_day <= before.last_day else "no version prices the days between"
        refuse(f"{pointer}/valid_from", found, f"{format_date(before.last_day + 1)}: {fault}")


def _validity(keys: dict[str, Any]) -> tuple[int, int | None]:
    """First and last day, both in."""
    first_day = read_date(keys["valid_from"], "/valid_from")
    if "valid_to" not in keys:
        return first_day, None
    last_day = read_date(keys["valid_to"], "/valid_to")
    if last_day < first_day:
        refuse("/valid_to", keys["valid_to"], f"a date not before {format_date(first_day)}")
    return first_day, last_day


def _title(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200:
        refuse("/title", value, "text of at most 200 characters")
    return value


def _provenance(value: Any, document: Any) -> None:
    """Where figures come from: JSON pointer of a part of the document, and a sentence."""
    if not isinstance(value, dict):
        refuse("/provenance", value, "an object")
    for pointer, text in value.items():
        here = f"/provenance/{escaped(str(pointer)[:64])}"
        if not isinstance(text, str) or not 1 <= len(text) <= 500:
            refuse(here, text, "text of 1 to 500 characters")
        if not (isinstance(pointer, str) and _resolves(document, pointer)):
            refuse_saying(here, "no such place in this document", "the JSON pointer of a part of the document")


def _resolves(value: Any, pointer: str) -> bool:
    if not pointer.startswith("/"):
        return False
    for token in pointer[1:].split("/"):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isascii() and token.isdigit() and int(token) < len(value):
            value = value[int(token)]
        else:
            return False
    return True
