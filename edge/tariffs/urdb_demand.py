"""The demand charges of a rate: flat by month, by time of use, with a ratchet.

Power in kW, prices in dollars per kW and month. URDB gives the length of a demand window, not how
it slips: clock blocks are taken, slip equal to the window. A ratchet's percentage belongs to the
month that is looked back at, as PySAM and REopt have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from edge.core.tariff import PERIODS_MAX
from edge.tariffs.urdb_calendar import Calendar, Schedule, read_schedule
from edge.tariffs.urdb_fields import (
    MONTHS,
    Rate,
    Tiers,
    is_nothing,
    read_index,
    read_list,
    read_number,
    read_tiers,
    refuse,
    refuse_saying,
    round_half_even,
    text_of,
)

_RATCHET_MONTHS = 11  # where the source does not say how far back: with this month, a year
_WINDOW_MIN = 15  # where the source does not say: what most meters for demand do


@dataclass(frozen=True, slots=True)
class FlatDemand:
    """A charge on the highest demand of a month, and in which months (1 to 12) it is this one."""

    number: int
    tiers: Tiers
    months: list[int]


@dataclass(frozen=True, slots=True)
class TimeOfUseDemand:
    """Charges on the highest demand in the hours of each period."""

    periods: list[Tiers]
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class _RatchetRule:
    """At least this share of the highest demand of the months before."""

    pointer: str
    percent: str
    months: int
    of_months: list[int]  # 1 to 12


def read_flat_demand(rate: Rate) -> list[FlatDemand]:
    """The charges on the highest demand of a month; none where there is no structure."""
    structure, pointer = rate.get("flatdemandstructure"), rate.at("flatdemandstructure")
    if not structure:
        if not is_nothing(rate.get("flatdemandmonths")):
            refuse_saying(rate.at("flatdemandmonths"), "months without flatdemandstructure", "both or neither")
        return []
    periods = _demand_periods(rate, "flatdemandstructure")
    months_pointer = rate.at("flatdemandmonths")
    value = rate.get("flatdemandmonths")
    if value is None and len(periods) == 1:
        value = [0] * MONTHS  # one charge needs no months
    months = [
        read_index(item, f"{months_pointer}/{month}", len(periods))
        for month, item in enumerate(read_list(value, months_pointer, MONTHS, MONTHS))
    ]
    for index in sorted(set(range(len(periods))) - set(months)):
        rate.changes.append(f"{pointer}/{index}: stands in no month, left out")
    return [
        FlatDemand(index, tiers, [month + 1 for month in range(MONTHS) if months[month] == index])
        for index, tiers in enumerate(periods)
        if index in months
    ]


def read_time_of_use_demand(rate: Rate) -> TimeOfUseDemand | None:
    """The charges by time of use; None where none of them costs anything."""
    if not rate.get("demandratestructure"):
        for key in ("demandweekdayschedule", "demandweekendschedule"):
            if not is_nothing(rate.get(key)):
                refuse_saying(rate.at(key), "a schedule without demandratestructure", "both or neither")
        return None
    periods = _demand_periods(rate, "demandratestructure")
    schedule = read_schedule(rate, "demand", len(periods))
    for index in sorted(set(range(len(periods))) - schedule.used()):
        rate.changes.append(f"{periods[index].pointer}: stands in no schedule, left out")
    if all(not any(periods[index].prices) for index in schedule.used()):
        return None  # nothing is charged, so it need not cut the energy's periods
    return TimeOfUseDemand(periods, schedule)


def _demand_periods(rate: Rate, key: str) -> list[Tiers]:
    """Limits in kW, prices per kW and month. Apparent power is not measured, and daily peaks are not billed."""
    unit_key = f"{key.removesuffix('structure')}unit"
    unit = rate.get(unit_key) or "kW"
    if not isinstance(unit, str) or unit.lower() != "kw":
        refuse(rate.at(unit_key), unit, "kW, per month")
    return [
        read_tiers(rate, tiers, f"{rate.at(key)}/{index}", "kW")
        for index, tiers in enumerate(read_list(rate.get(key), rate.at(key), 1, PERIODS_MAX))
    ]


def demand_charges(
    rate: Rate, flat: Sequence[FlatDemand], time_of_use: TimeOfUseDemand | None, calendar: Calendar
) -> list[dict[str, Any]]:
    """The charges on demand, those that are zero left away."""
    ratchet = _ratchet(rate)
    demands = []
    for charge in flat:
        if any(charge.tiers.prices):
            demand = {"name": f"flat_demand_{charge.number}", **_demand_tiers(charge.tiers)}
            demands.append(demand | ({"months": charge.months} if len(charge.months) < MONTHS else {}))
    if time_of_use is not None:
        for index in sorted(time_of_use.schedule.used()):
            tiers = time_of_use.periods[index]
            if any(tiers.prices):
                demand = {"name": f"time_of_use_demand_{index}", **_demand_tiers(tiers)}
                names = [name for cell, name in calendar.names.items() if cell[1] == index]
                demands.append(demand | ({"periods": names} if len(names) < len(calendar.names) else {}))
    if not demands:
        return []
    if ratchet is not None and time_of_use is not None:
        allowed = "flat demand only: URDB does not say whose past demand a period looks back at"
        refuse_saying(ratchet.pointer, "a ratchet with time-of-use demand", allowed)
    window_min = _window_min(rate)
    rest: dict[str, Any] = {"window_min": window_min, "slip_min": window_min}
    if ratchet is not None:
        rest["ratchet"] = {"percent": ratchet.percent, "months": ratchet.months, "of_months": ratchet.of_months}
    return [demand | rest for demand in demands]


def _demand_tiers(tiers: Tiers) -> dict[str, Any]:
    parts: dict[str, Any] = {"kind": "measured", "unit": "kW"}
    if tiers.limits:
        parts["limits"] = [text_of(limit) for limit in tiers.limits]
    return {**parts, "prices": [text_of(price) for price in tiers.prices]}


def _window_min(rate: Rate) -> int:
    value, pointer = rate.get("demandwindow"), rate.at("demandwindow")
    if is_nothing(value):
        rate.changes.append(f"{pointer}: not given, {_WINDOW_MIN} minutes taken")
        return _WINDOW_MIN
    window = read_number(value, pointer)
    if window not in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60):
        refuse(pointer, value, "minutes that divide an hour")
    return int(window)


def _ratchet(rate: Rate) -> _RatchetRule | None:
    """The ratchet of version 3 (a percentage for each month) or of version 8 (a share and which months count).

    As in PySAM and REopt a percentage belongs to the month whose demand is looked back at.
    """
    shares, pointer = rate.get("demandratchetpercentage"), rate.at("demandratchetpercentage")
    percent, percent_pointer = rate.get("lookbackpercent"), rate.at("lookbackpercent")
    flags, reach = rate.get("lookbackmonths"), rate.get("lookbackrange")
    if not is_nothing(shares):
        if not is_nothing(percent):
            refuse_saying(pointer, "a second ratchet beside lookbackPercent", "one of the two")
        numbers = [
            read_number(item, f"{pointer}/{n}") for n, item in enumerate(read_list(shares, pointer, MONTHS, MONTHS))
        ]
        percents = {number for number in numbers if number}
        if len(percents) > 1:
            refuse_saying(pointer, "different percentages", "one percentage, or 0 in months that do not count")
        share, percent_pointer = percents.pop(), pointer
        of_months = [month + 1 for month in range(MONTHS) if numbers[month]]
    elif not is_nothing(percent):
        share = read_number(percent, percent_pointer)
        of_months = _flagged_months(flags, rate.at("lookbackmonths"))
    elif not is_nothing(reach) or not is_nothing(flags):
        refuse_saying(rate.at("lookbackrange"), "a look back without lookbackPercent", "both or neither")
    else:
        return None
    return _RatchetRule(percent_pointer, _percent(rate, share, percent_pointer), _reach(rate, reach), of_months)


def _flagged_months(value: Any, pointer: str) -> list[int]:
    """Months whose demand counts: all where none is flagged (then lookbackRange says how far back)."""
    if is_nothing(value):
        return list(range(1, MONTHS + 1))
    flags = read_list(value, pointer, MONTHS, MONTHS)
    for month, flag in enumerate(flags):
        if flag not in (0, 1):
            refuse(f"{pointer}/{month}", flag, "0 or 1")
    return [month + 1 for month in range(MONTHS) if flags[month]]


def _reach(rate: Rate, value: Any) -> int:
    """How many months back."""
    pointer = rate.at("lookbackrange")
    if is_nothing(value):
        rate.changes.append(f"{pointer}: not given, the {_RATCHET_MONTHS} months before taken")
        return _RATCHET_MONTHS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MONTHS:
        refuse(pointer, value, f"a whole number of months, 1 to {MONTHS}")
    return int(value)


def _percent(rate: Rate, share: Decimal, pointer: str) -> str:
    """A share as URDB has it: 0.8 and 80 are both in use for 80 %."""
    percent = share * 100 if share <= 1 else share
    if not 0 < percent <= 100:
        refuse_saying(pointer, f"{share:f}", "0 to 1, or 1 to 100 percent")
    rate.changes.append(f"{pointer}: {share:f} read as {percent.normalize():f} %")
    return text_of(round_half_even(rate, percent, Decimal("0.01"), pointer))
