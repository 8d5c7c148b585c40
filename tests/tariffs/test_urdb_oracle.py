"""Bills of imported URDB rates against NREL's PySAM: a year of hours, month by month, within 1e-9 of each other.

PySAM reads the same rate by its own tools; only the prices are put in as we rounded them. It bills
in floats, counts tiers for all periods together (then the import does so too) and knows no tiers
that each period counts for itself: for those it runs once for each period, with the other hours'
load taken away. Its years have 365 days, begin on a Monday and know no summer time: 2018 in UTC.
"""

import importlib
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest

from edge.core.bill import Bill, Customer, DemandSample, Usage, bill_tables, make_bill, untagged_name
from edge.core.rating import Interval, RatedInterval, reference_rate
from edge.core.tariff import load_tariff
from edge.core.units import NANO_PER_UNIT
from edge.tariffs.urdb import import_urdb
from edge.zone import zone_offsets

ORACLE = "PySAM"  # imported by this name, since it is there only with the extra `oracle`
pytestmark = [pytest.mark.needs_package(ORACLE), pytest.mark.timeout(120)]

RELATIVE = 1e-9
HOURS = [datetime(2018, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(8760)]
WATT = 1000  # in a kW
ROUNDED = Decimal("0.000001")


def household(seed: int, scale_wh: int) -> list[int]:
    """Whole watt-hours for each hour of the year, more in the evening and in summer."""
    chance = random.Random(seed)
    return [
        1 + chance.randrange(scale_wh) * (2 if 16 <= at.hour < 21 else 1) * (3 if 6 <= at.month <= 9 else 2) // 2
        for at in HOURS
    ]


def day(*spans: tuple[int, int]) -> list[int]:
    """24 periods from (hours, period)."""
    return [period for hours, period in spans for _ in range(hours)]


SUMMER = range(5, 9)


def months(winter: list[int], summer: list[int]) -> list[list[int]]:
    return [list(summer if month in SUMMER else winter) for month in range(12)]


ALL_DAY = [[0] * 24 for _ in range(12)]
TIERS: list[dict[str, Any]] = [
    {"max": 310.5, "unit": "kWh", "rate": 0.1, "adj": 0.01},
    {"max": 620, "unit": "kWh", "rate": 0.15},
    {"rate": 0.21},
]
PEAK_TIERS = [{"max": 310.5, "rate": 0.2, "adj": 0.013}, {"max": 620, "rate": 0.3}, {"rate": 0.42, "adj": -0.02}]
OTHER_TIERS = [{"max": 95, "rate": 0.2}, {"rate": 0.31}]
TIME_OF_USE = {
    "energyweekdayschedule": months(day((24, 0)), day((12, 0), (6, 1), (6, 0))),
    "energyweekendschedule": months(day((24, 0)), day((10, 0), (4, 2), (10, 0))),
}
FLAT_RATE = {
    "energyratestructure": [[{"rate": 0.123456}]],
    "energyweekdayschedule": ALL_DAY,
    "energyweekendschedule": ALL_DAY,
}
FLAT_DEMAND = {
    "flatdemandstructure": [[{"max": 4, "rate": 8.0}, {"rate": 11.25, "adj": 0.5}], [{"rate": 15.5}]],
    "flatdemandmonths": [1 if month in SUMMER else 0 for month in range(12)],
    "demandwindow": 60,
}
TIME_OF_USE_DEMAND = {
    "demandratestructure": [  # PySAM wants the same limits in all periods
        [{"max": 3, "rate": 0}, {"rate": 0}],
        [{"max": 3, "rate": 6.1}, {"rate": 6.1}],
        [{"max": 3, "rate": 2}, {"rate": 4.75, "adj": 0.125}],
    ],
    "demandweekdayschedule": months(day((8, 0), (12, 2), (4, 0)), day((12, 0), (6, 1), (2, 2), (4, 0))),
    "demandweekendschedule": ALL_DAY,
    "demandwindow": 60,
}

RATES: dict[str, dict[str, Any]] = {
    "one price": FLAT_RATE,
    "tiers": {**FLAT_RATE, "energyratestructure": [TIERS]},
    "tiers and time of use": {**TIME_OF_USE, "energyratestructure": [TIERS, PEAK_TIERS, TIERS]},
    "prices finer than micro": {
        **TIME_OF_USE,
        "energyratestructure": [
            [{"max": 200, "rate": 0.10000049, "adj": 0.00000002}, {"rate": 0.1234565}],
            [{"max": 200, "rate": 0.1234575}, {"rate": 0.39999999999}],
            [{"max": 200, "rate": 1e-7}, {"rate": 0.1, "adj": 0.0000005}],
        ],
    },
    "fixed": {**FLAT_RATE, "fixedchargefirstmeter": 12.35, "fixedchargeunits": "$/month"},
    "fixed for a year": {**FLAT_RATE, "fixedchargefirstmeter": 151.2, "fixedchargeunits": "$/year"},
    "minimum": {
        **FLAT_RATE,
        "energyratestructure": [TIERS],
        "fixedmonthlycharge": 7,
        "minmonthlycharge": 90.5,
    },
    "flat demand": {**FLAT_RATE, **FLAT_DEMAND},
    "time-of-use demand": {**FLAT_RATE, **TIME_OF_USE_DEMAND},
    "everything": {
        **TIME_OF_USE,
        **FLAT_DEMAND,
        **TIME_OF_USE_DEMAND,
        "energyratestructure": [TIERS, PEAK_TIERS, TIERS],
        "fixedchargefirstmeter": 12.35,
        "fixedchargeunits": "$/month",
        "mincharge": 250,
        "minchargeunits": "$/month",
    },
    "ratchet": {**FLAT_RATE, **FLAT_DEMAND, "lookbackPercent": 0.85, "lookbackRange": 3},
    "ratchet of summer": {
        **FLAT_RATE,
        **FLAT_DEMAND,
        "lookbackPercent": 0.9,
        "lookbackMonths": [1 if month in SUMMER else 0 for month in range(12)],
    },
}


@pytest.mark.parametrize("name", RATES)
def test_monthly_bills_are_those_of_pysam(name: str) -> None:
    rate, load_wh = RATES[name], household(seed=2018, scale_wh=1700)
    if "lookbackPercent" in rate:  # our ratchet bills whole watts: its shares of these peaks are whole
        load_wh = [wh - wh % 20 + 20 for wh in load_wh]
    scope = "cycle" if len(rate["energyratestructure"]) > 1 else "period"
    check_months(our_bills(rate, load_wh, scope), pysam_bills(rate, load_wh))


def test_tiers_that_each_period_counts_for_itself_are_pysams_of_each_period_alone() -> None:
    rate: dict[str, Any] = {**TIME_OF_USE, "energyratestructure": [TIERS, OTHER_TIERS, PEAK_TIERS]}
    load_wh = household(seed=7, scale_wh=2500)
    runs = [
        pysam_bills({**FLAT_RATE, "energyratestructure": [tiers]}, load_in_period(rate, number, load_wh))
        for number, tiers in enumerate(rate["energyratestructure"])
    ]
    check_months(our_bills(rate, load_wh, "period"), [sum(parts) for parts in zip(*runs, strict=True)])


def test_fixed_charge_by_the_day_counts_the_days_where_pysam_spreads_the_year() -> None:
    rate = {**FLAT_RATE, "fixedchargefirstmeter": 0.4, "fixedchargeunits": "$/day"}
    load_wh = household(seed=3, scale_wh=900)
    bills = our_bills(rate, load_wh, "period")
    theirs = pysam_bills(rate, load_wh)
    assert math.isclose(sum(bill.charge_nano for bill in bills) / NANO_PER_UNIT, sum(theirs), rel_tol=RELATIVE)
    spread = 0.4 * 365 / 12
    days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    check_months(bills, [month - spread + 0.4 * count for month, count in zip(theirs, days, strict=True)])


def test_oracle_notices_a_price_that_is_off_by_one_micro() -> None:
    load_wh = household(seed=5, scale_wh=900)
    ours = our_bills(FLAT_RATE, load_wh, "period")[0].charge_nano / NANO_PER_UNIT
    theirs = pysam_bills({**FLAT_RATE, "energyratestructure": [[{"rate": 0.123457}]]}, load_wh)[0]
    assert not math.isclose(ours, theirs, rel_tol=RELATIVE)


def load_in_period(rate: dict[str, Any], period: int, load_wh: Sequence[int]) -> list[int]:
    return [wh if period_at(rate, at) == period else 0 for at, wh in zip(HOURS, load_wh, strict=True)]


def check_months(bills: Sequence[Bill], theirs: Sequence[float]) -> None:
    """Before rounding to cents, which PySAM does not do."""
    ours = [bill.charge_nano / NANO_PER_UNIT for bill in bills]
    assert len(ours) == len(theirs) == 12
    differing = [
        (month, our, their)
        for month, (our, their) in enumerate(zip(ours, theirs, strict=True), 1)
        if not math.isclose(our, their, rel_tol=RELATIVE)
    ]
    assert differing == []


# --- ours --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hour:
    """An hour as rated, with the month it is of."""

    month: int
    at: int
    energy_wh: int
    rated: RatedInterval


def our_bills(rate: dict[str, Any], load_wh: Sequence[int], scope: str) -> list[Bill]:
    """Twelve bills of the imported document, made by what makes every other bill."""
    tariff = load_tariff(import_urdb(rate, block_scope=scope).document)
    start_at, end_at = int(HOURS[0].timestamp()), int(HOURS[-1].timestamp()) + 3600
    zone = zone_offsets("UTC", start_at, end_at)
    tables = bill_tables([tariff], zone, start_at, end_at)
    intervals = [
        Interval(0, int(at.timestamp()), int(at.timestamp()) + 3600, wh) for at, wh in zip(HOURS, load_wh, strict=True)
    ]
    rated = reference_rate([tables])([tables.fresh_position(0)], intervals)
    hours = [
        Hour(at.month, interval.start_at, interval.energy_wh, result)
        for at, interval, result in zip(HOURS, intervals, rated, strict=True)
    ]
    bills: list[Bill] = []
    for month in range(1, 13):
        customer = Customer(past_demands=tuple(demand for bill in bills for demand in bill.demands))
        bills.append(make_bill([tariff], zone, usage_of([hour for hour in hours if hour.month == month]), customer))
    return bills


def usage_of(hours: Sequence[Hour]) -> Usage:
    """Every hour is a demand window of its own, as it is for PySAM."""
    return Usage(
        start_at=hours[0].at,
        end_at=hours[-1].at + 3600,
        rated=[hour.rated for hour in hours],
        demand_samples=[
            DemandSample(
                start_at=hour.at,
                end_at=hour.at + 3600,
                power_w=hour.energy_wh,
                periods=frozenset(untagged_name(line.period)[0] for line in hour.rated.lines),
            )
            for hour in hours
        ],
    )


# --- theirs ------------------------------------------------------------------------------------


def pysam_bills(rate: dict[str, Any], load_wh: Sequence[int]) -> list[float]:
    """Twelve bills in dollars."""
    model = importlib.import_module(f"{ORACLE}.Utilityrate5").new()
    tools = importlib.import_module(f"{ORACLE}.UtilityRateTools")
    plain = json.loads(json.dumps({key.lower(): value for key, value in rate.items()}))  # it writes into what it gets
    if "fixedmonthlycharge" in plain:  # fields of an earlier version that its tools pass over
        plain |= {"fixedchargefirstmeter": plain["fixedmonthlycharge"], "fixedchargeunits": "$/month"}
    if "minmonthlycharge" in plain:
        plain |= {"mincharge": plain["minmonthlycharge"], "minchargeunits": "$/month"}
    rates = tools.URDBv8_to_ElectricityRates(plain)
    rates["ur_ec_tou_mat"] = [(*row[:4], rounded(row[4]), row[5]) for row in rates["ur_ec_tou_mat"]]
    if "lookbackpercent" in plain:  # its tools would bill the share alone, without the month's own demand
        flags = plain.get("lookbackmonths", [1] * 12)
        rates["ur_billing_demand_lookback_percentages"] = [[100 * plain["lookbackpercent"] * flag, 1] for flag in flags]
        rates["ur_billing_demand_lookback_period"] = plain.get("lookbackrange", 11)
        rates["ur_yearzero_usage_peaks"] = [0] * 12
    defaults = {"ur_monthly_fixed_charge": 0, "ur_monthly_min_charge": 0, "ur_annual_min_charge": 0}
    for name, value in {**defaults, **rates, "ur_metering_option": 2, "ur_nm_yearend_sell_rate": 0}.items():
        setattr(model.ElectricityRates, name, value)
    model.ElectricityRates.rate_escalation = [0]
    model.Lifetime.analysis_period = 1
    model.Lifetime.inflation_rate = 0
    model.Lifetime.system_use_lifetime_output = 0
    model.SystemOutput.degradation = [0]
    model.SystemOutput.gen = [0] * len(load_wh)
    model.Load.load = [wh / WATT for wh in load_wh]
    model.execute(0)
    return list(model.Outputs.utility_bill_wo_sys_ym[1])


def rounded(price: float) -> float:
    """To micro, half to even; the sum of a rate and its adjustment is taken back to the digits it was written with."""
    return float(Decimal(f"{price:.12f}").quantize(ROUNDED, ROUND_HALF_EVEN))


def period_at(rate: dict[str, Any], at: datetime) -> int:
    """Straight from the schedules."""
    schedule = rate["energyweekdayschedule" if at.weekday() < 5 else "energyweekendschedule"]
    return int(schedule[at.month - 1][at.hour])
