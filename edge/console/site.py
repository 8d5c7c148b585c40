"""The pages about the place itself: its lines, its transformer areas, the gateway with its store and its prices.

They read what is made on demand (`SnapshotSource.details`), so nobody pays for them while nobody looks.
"""

from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response

from edge.agent.snapshot import PeriodView, PolicyView, SiteDetails, StoreView, TariffView
from edge.console.console import console_of
from edge.console.formats import MINUS, Formats, formats_for
from edge.console.lines import lines_in_words, seconds
from edge.console.pages import starting
from edge.console.plot import loss_plots
from edge.core.calendar import MINUTES_PER_DAY, format_date

_DISK_FREE_PERCENT_MIN = 10
_KIB = 1024


async def lines(request: Request) -> Response:
    """Every line: whether it has time left, what goes wrong on it, and how each of its devices answers."""
    console = console_of(request)
    snapshot, details = console.source.current, _details_of(request)
    if snapshot is None or details is None:
        return starting(request)
    formats = formats_for(snapshot, console.language_of(request))
    found = lines_in_words(details, snapshot, formats)
    relays = details.gpio_relays
    return console.page(request, "lines.html", lines=found, seconds=lambda ms: seconds(ms, formats), gpio_relays=relays)


async def areas(request: Request) -> Response:
    """Every transformer area: what stands there, and what it lost day by day."""
    console = console_of(request)
    snapshot, details = console.source.current, _details_of(request)
    if snapshot is None or details is None:
        return starting(request)
    formats = formats_for(snapshot, console.language_of(request))
    shown = [(area, loss_plots(area.history, formats)) for area in details.areas]
    return console.page(
        request, "areas.html", areas=shown, percent=percent, day=format_date, seconds=lambda ms: seconds(ms, formats)
    )


async def system(request: Request) -> Response:
    """The gateway: version, clock, link to the cloud, store, and the prices and terms in force."""
    console = console_of(request)
    snapshot, details = console.source.current, _details_of(request)
    if snapshot is None or details is None:
        return starting(request)
    formats = formats_for(snapshot, console.language_of(request))
    return console.page(
        request,
        "system.html",
        details=details,
        store=details.store,
        store_warnings=store_warnings(details.store, formats),
        size=size,
        tariffs=[(tariff, price_rows(tariff, formats)) for tariff in details.tariffs],
        policies=[(policy, policy_sentences(policy, formats)) for policy in details.policies],
    )


def store_warnings(store: StoreView, formats: Formats) -> list[str]:
    """What somebody must do about the store, in sentences; none when it is well."""
    text, found = formats.language.text, []
    if store.disk_free_bytes * 100 < store.disk_bytes * _DISK_FREE_PERCENT_MIN:
        template = "The disk is nearly full. A full disk stops the gateway: nothing is charged or switched then."
        found.append(text(template))
    if store.anchor_fault is not None:
        found.append(text("The anchor cannot be written: {fault}").format(fault=store.anchor_fault))
    if store.anchor_on_same_disk:
        found.append(text("The anchor lies on the same disk as the journal: an older copy of the disk is not noticed."))
    return found


def price_rows(tariff: TariffView, formats: Formats) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of each period its name, and each price with the energy it holds for, in words."""
    return [(period.name, _prices(period, formats)) for period in tariff.periods]


def _prices(period: PeriodView, formats: Formats) -> list[tuple[str, str]]:
    text, limits = formats.language.text, period.limits_wh
    rows = []
    for place, micro in enumerate(period.prices_micro_per_kwh):
        if not limits:
            block = text("any energy")
        elif place < len(limits):
            block = text("up to {energy}").format(energy=formats.energy(limits[place]))
        else:
            block = text("above {energy}").format(energy=formats.energy(limits[-1]))
        rows.append((block, f"{price(micro)} {formats.currency}/kWh"))
    return rows


def price(micro_per_kwh: int) -> str:
    """A price per kWh, exact, with two decimals at least: 0.51, 0.5135."""
    whole, rest = divmod(abs(micro_per_kwh), 1_000_000)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{MINUS if micro_per_kwh < 0 else ''}{whole:,}.{digits}"


def policy_sentences(policy: PolicyView, formats: Formats) -> list[str]:
    """When a supply may be cut under this policy, a sentence for each condition."""
    language = formats.language
    found = [language.term("legal_profile", policy.legal_profile)]
    if policy.notices_needed:
        found += _notice_sentences(policy, formats)
    found.append(language.term("offline_policy", policy.offline).format(hours=policy.offline_hours))
    found += _window_sentences(policy, formats)
    if not policy.signed_by:
        found.append(language.text("Nobody has signed it: nobody is cut under it."))
    if policy.valid_until is not None:
        found.append(language.text("Valid until {moment}.").format(moment=formats.stamp(policy.valid_until)))
    return found


def _notice_sentences(policy: PolicyView, formats: Formats) -> list[str]:
    language = formats.language
    text, minutes = language.text, policy.pre_cut_notice_minutes
    proof = language.term("notice_proof", policy.notice_proof).format(hours=policy.deemed_after_hours)
    return [
        text("A cut comes {hours} h after receipt of notice 2 at the earliest.").format(hours=policy.grace_hours),
        text("Notice 3 comes at least {minutes} min before a cut.").format(minutes=minutes),
        proof,
    ]


def _window_sentences(policy: PolicyView, formats: Formats) -> list[str]:
    language, text = formats.language, formats.language.text
    found = []
    if policy.cut_windows is not None:
        windows = ", ".join(f"{_minute(first)}\N{EN DASH}{_minute(end)}" for first, end in policy.cut_windows)
        days = ", ".join(language.term("weekday", str(day + 1)) for day in policy.cut_weekdays)
        found.append(text("Cuts only within {windows} ({days}).").format(windows=windows, days=days))
    if policy.cut_holidays:
        found.append(text("No cuts on holidays."))
    if policy.friendly_windows:
        found.append(text("There are times in which nobody is cut, whatever is owed."))
    return found


def size(number: int) -> str:
    """Bytes as people read them: 512 B, 1.5 MiB. Cut off, so that room on a disk is never promised."""
    for unit, length in (("GiB", _KIB**3), ("MiB", _KIB**2), ("KiB", _KIB)):
        if number >= length:
            tenths = number * 10 // length
            return f"{tenths // 10:,}.{tenths % 10} {unit}"
    return f"{number} B"


def percent(hundredths: int) -> str:
    """A share in hundredths of a percent: 642 is 6.42 %."""
    return f"{Decimal(hundredths) / 100:,.2f} %".replace("-", MINUS)


def _minute(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}" if minute < MINUTES_PER_DAY else "24:00"


def _details_of(request: Request) -> SiteDetails | None:
    make = console_of(request).source.details
    return None if make is None else make()
