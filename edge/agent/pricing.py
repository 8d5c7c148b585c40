"""Which tariff documents are in force here, compiled for the rating over the years around now.

The compiled tables span some time back (the oldest reading still to be charged) and more than
a year ahead (the reserve); they are made anew when a tariff is accepted or the end draws near.
The rate itself (C kernel or reference) and the zone data are given in.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edge.core.account import State
from edge.core.calendar import ZoneOffsets, midnight_of
from edge.core.charge import BandRates, Rating
from edge.core.month_lines import not_measured_here
from edge.core.purchased import as_used, not_sold_here, purchase_blocks
from edge.core.rating import CompiledTariff, Rate, reference_rate
from edge.core.surcharge import with_surcharges
from edge.core.tariff import Tariff, compile_tariff, load_tariff
from edge.core.units import SECONDS_PER_DAY, UnixSeconds

SPAN_AHEAD_S = 400 * SECONDS_PER_DAY
RENEW_BEFORE_END_S = 200 * SECONDS_PER_DAY
SPAN_BACK_S = 40 * SECONDS_PER_DAY
# What a meter would have to count, each a register of its own, for a month's mean power factor.
REACTIVE_POINTS = ("reactive_import_total", "reactive_export_total")

RateMaker = Callable[[Sequence[CompiledTariff]], Rate]
ZoneReader = Callable[[str, int, int], ZoneOffsets]


def tariff_key(tariff: Tariff) -> str:
    """How accounts and events name one version of a tariff: id@version."""
    return f"{tariff.tariff_id}@{tariff.version}"


def read_tariff(document: str) -> Tariff:
    """The tariff of a document's JSON text. TariffRefused or ValueError says what is wrong with it."""
    try:
        content: Any = json.loads(document)
    except RecursionError as error:
        raise ValueError("the document is nested too deeply") from error
    return load_tariff(content)


def not_charged_on_site(tariff: Tariff) -> str | None:
    """What this tariff has that a live account here does not charge, or None: a price is never half kept.

    Standing charges post daily, a minimum bill and what bills paid late cost with the issue, surcharges are
    part of the prices.
    """
    terms = tariff.terms
    parts = {
        f"a power-factor adjustment (no meter model here has {' and '.join(REACTIVE_POINTS)})": terms.power_factor
        is not None,
        "surcharges that do not come out whole": with_surcharges(tariff) is None,
    }
    periods = [period.name for period in tariff.periods]
    found = [*not_sold_here(tariff), *not_measured_here(terms, periods), *(name for name, has in parts.items() if has)]
    return f"has {', '.join(found)}, which accounts on site do not charge" if found else None


class Pricing:
    """Holds the tariffs of a site and compiles them on demand."""

    def __init__(self, time_zone: str, minor_digits: int, make_rate: RateMaker, read_zone: ZoneReader) -> None:
        self._time_zone = time_zone
        self._minor_nano = 10 ** (9 - minor_digits)
        self._make_rate = make_rate
        self._read_zone = read_zone
        self._documents: dict[str, str] = {}
        self._tariffs: dict[str, Tariff] = {}
        self._rating: Rating | None = None
        self._first_at = 0
        self._end_at = 0

    def rating(self, state: State, now: UnixSeconds, unstored: Mapping[str, str] | None = None) -> Rating:
        """The rating for this state: its stored tariffs and `unstored` ones that are being commissioned."""
        documents = {**(unstored or {}), **state.tariffs}
        # What is rated runs from what is recorded, wherever a clock that was not set yet puts `now`.
        recorded_at = [account.recorded.at for account in state.accounts.values()] or [now]
        oldest_at, newest_at = min(recorded_at), max(now, *recorded_at)
        covered = self._first_at <= oldest_at and newest_at <= self._end_at - RENEW_BEFORE_END_S
        if self._rating is None or documents != self._documents or not covered:
            self._compile(documents, oldest_at - SPAN_BACK_S, newest_at + SPAN_AHEAD_S)
        assert self._rating is not None
        return self._rating

    def _compile(self, documents: dict[str, str], first_at: int, end_at: int) -> None:
        new = {key: text for key, text in documents.items() if self._documents.get(key) != text}
        self._tariffs.update({key: _charged(read_tariff(text)) for key, text in new.items()})
        zone = self._read_zone(self._time_zone, first_at, end_at)
        valid_from = {key: _valid_from(self._tariffs[key], zone, end_at) for key in sorted(documents)}
        # One that is valid after the span waits for a later one: it prices nothing yet.
        compiled = {
            key: compile_tariff([as_used(self._tariffs[key])], zone, max(first_at, valid_at), end_at)
            for key, valid_at in valid_from.items()
            if valid_at < end_at
        }
        tables, bands = list(compiled.values()), dict[str, BandRates]()
        purchases = {key: purchase_blocks(self._tariffs[key]) for key in compiled}
        for key in compiled:
            tariff = self._tariffs[key]
            if tariff.bands is not None:
                by_band = [tariff.in_band(band) for band in range(len(tariff.bands.names))]
                start_at = max(first_at, valid_from[key])
                bands[key] = BandRates(tariff.bands, tuple(range(len(tables), len(tables) + len(by_band))))
                tables.extend(compile_tariff([banded], zone, start_at, end_at) for banded in by_band)
        self._documents = documents
        self._first_at, self._end_at = first_at, end_at
        self._rating = Rating(
            rate=self._make_rate(tuple(tables)) if tables else reference_rate(()),
            indexes={key: index for index, key in enumerate(compiled)},
            positions={key: tariff.position_count for key, tariff in compiled.items()},
            valid_from=valid_from,
            zone=zone,
            minor_nano=self._minor_nano,
            terms={key: self._tariffs[key].terms for key in compiled},
            bands=bands,
            purchases={key: blocks for key, blocks in purchases.items() if blocks is not None},
        )


def _charged(tariff: Tariff) -> Tariff:
    """As accounts on site are charged by it. One stored before that could be told is charged by its bare prices."""
    return with_surcharges(tariff) or tariff


def _valid_from(tariff: Tariff, zone: ZoneOffsets, end_at: int) -> int:
    """Local midnight of a tariff's first day. Beyond the zone's data the last offset known stands."""
    near_at = tariff.first_day * SECONDS_PER_DAY
    return midnight_of(zone, tariff.first_day) if near_at < end_at else near_at - zone.offset_at(end_at)


def load_documents(texts: Iterable[str]) -> dict[str, str]:
    """Documents by id@version. Raises what `read_tariff` raises."""
    return {tariff_key(read_tariff(text)): text for text in texts}
