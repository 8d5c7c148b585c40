"""One run, by ratio: the kernel against other ways to price a year of hourly readings.

Run by `python3 build.py bench tariff`. A year of 8,760 hours, three blocks and four periods, blocks
over each month. Times are milliseconds of the processor for a bill, of a bill made again and again
by what is ready for it; the candidates' turns come round after round, so that a slow moment of the
machine falls on all of them. First every candidate's monthly bills are compared with the kernel's. Who is not installed
is named. What is measured, and what not, stands in README.md.
"""

import argparse
import ctypes
import json
import os
import platform
import random
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

from edge.core.calendar import CompiledCalendar
from edge.core.rating import CompiledTariff, Interval, PeriodPrices, Position, reference_rate
from edge.core.rating_arrays import PackedIntervals, array_rate, pack_intervals, pack_tariffs
from native.kernel import TariffKernel

HOURS = 8760
HOUR_S = 3600
PERIOD_BY_HOUR = [0] * 7 + [1] * 3 + [2] * 2 + [1] * 6 + [3] * 3 + [1] * 2 + [0]
YEAR = 2018  # of the peers that want one: 365 days; every day has the same periods
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTHS = [month for month, days in enumerate(MONTH_DAYS) for _ in range(days * 24)]
FIRST_HOURS = [0, *accumulate(days * 24 for days in MONTH_DAYS)]
PERIODS = [PERIOD_BY_HOUR[hour % 24] for hour in range(HOURS)]
LIMITS_WH = (200_000, 400_000)
BLOCKS = len(LIMITS_WH) + 1
PRICES = tuple(tuple(100_000 * (period + 1) + 70_000 * block for block in range(BLOCKS)) for period in range(4))
NO_LIMIT_WH = 2**62
ACCOUNTS = 1000
ROUND_HOUR = 5000
AGREES_WITHIN = 1e-9  # relative, for those that count in floats
SAMPLE_MS = 1.0  # who is quicker runs several times in a sample, so that reading the clock costs nothing
TURN_MS = 10.0  # as many samples a turn as fit in, at least one
SAMPLES_MAX = 10

KERNEL, LOOP, REFERENCE = "kernel", "plain C loop", "reference, Python integers"
PYSAM, RATEBOOK, NUMPY = "PySAM Utilityrate5", "ratebook", "numpy int64"

Run = Callable[[], Any]
Bills = list[list[float]]  # nano by month, of every account
Monthly = list[float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can price the case: what to time, how many bills that makes, and the first account's months."""

    run: Run
    bills: int
    months: Monthly
    wanted: str = KERNEL  # whose months they must be


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. Ratios are to the kernel's: above 1 is slower than the kernel."""

    name: str
    bills: int  # in each run: the slow ones get fewer accounts
    min_ms: float
    median_ms: float
    ratio_of_min: float
    ratio_of_median: float
    samples: int


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that was aimed at."""

    what: str
    wanted: str
    found: float | None  # None: who it is about was not there
    met: bool


def main() -> int:
    """Measures everything and prints the tables."""
    parser = argparse.ArgumentParser(prog="build.py bench tariff")
    parser.add_argument("--loop", required=True, help="the shared library of plain_loop.c")
    parser.add_argument("--quick", action="store_true", help="few rounds, 100 accounts for 1,000 in the fleet's year")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rounds, fleet = (5, ACCOUNTS // 10) if options.quick else (40, ACCOUNTS)
    absent: dict[str, str] = {}
    tables: dict[str, list[Row]] = {}
    for title, makers, turns in (
        ("a year of hours, 1 account: ms a bill", year_makers(options.loop, 1), rounds),
        (f"a year of hours, {fleet} accounts: ms a bill", year_makers(options.loop, fleet), max(3, rounds // 8)),
        (f"one hour of {ACCOUNTS} accounts: ms a round", round_makers(options.loop), rounds),
    ):
        candidates = make_all(makers, absent)
        if differing := differ(candidates):
            print("\n".join(differing), file=sys.stderr)
            return 1
        tables[title] = measure(candidates, turns)
    report = {
        "machine": machine(),
        "not_compared": absent,
        "bills_agree_within": AGREES_WITHIN,
        "tables": {title: [asdict(row) for row in rows] for title, rows in tables.items()},
        "goals": [asdict(goal) for goal in goals(*tables.values())],
    }
    print(json.dumps(report, indent=1) if options.json else as_text(report))
    return 0


# --- the case --------------------------------------------------------------------------------


def make_tariff(own_ladders: bool = False) -> CompiledTariff:
    """The tariff of the comparison; with a block position for each period, it is ratebook's."""
    starts, periods, cycles = [], [], []
    last = None
    for hour, month in enumerate(MONTHS):
        key = (PERIODS[hour], month)
        if key != last:
            starts.append(hour * HOUR_S)
            periods.append(key[0])
            cycles.append(FIRST_HOURS[month] * HOUR_S)
            last = key
    calendar = CompiledCalendar(tuple(starts), tuple(periods), tuple(cycles), HOURS * HOUR_S)
    prices = tuple(PeriodPrices(f"p{n}", n if own_ladders else 0, LIMITS_WH, row) for n, row in enumerate(PRICES))
    return CompiledTariff("bench", calendar, prices, len(PRICES) if own_ladders else 1, 10**9)


def make_energies(accounts: int) -> list[int]:
    """Watt-hours of every hour, account after account."""
    numbers = random.Random(3)
    return [numbers.randrange(100, 1500) for _ in range(HOURS * min(accounts, 10))] * max(1, accounts // 10)


def hours_of(energies: Sequence[int]) -> list[Interval]:
    """An account's year."""
    return [Interval(0, n * HOUR_S, (n + 1) * HOUR_S, energy) for n, energy in enumerate(energies)]


def pack_years(tariff: CompiledTariff, energies: Sequence[int]) -> PackedIntervals:
    """The year of as many accounts as there are energies for."""
    accounts = len(energies) // HOURS
    one = pack_intervals([tariff.fresh_position(0)], hours_of(energies[:HOURS]))
    return replace(
        one,
        tariff=one.tariff * accounts,
        first_interval=array("q", range(0, HOURS * accounts + 1, HOURS)),
        energy_wh=one.energy_wh * accounts,
        cycle_start_at=one.cycle_start_at * accounts,
        interval_start_at=one.interval_start_at * accounts,
        interval_end_at=one.interval_end_at * accounts,
        interval_energy_wh=array("q", energies),
    )


def by_month(amounts: Sequence[Any]) -> Monthly:
    """Nano of each hour of the first account as monthly sums."""
    sums = [0] * len(MONTH_DAYS)
    for month, amount in zip(MONTHS, amounts, strict=False):
        sums[month] += int(amount)
    return [float(total) for total in sums]


# --- who prices a year -----------------------------------------------------------------------

Maker = Callable[[], Candidate]


def year_makers(library: str, accounts: int) -> dict[str, Maker]:
    """Who is compared, by name. Those that take an account at a time get fewer accounts if they are slow."""
    energies = make_energies(accounts)
    some, few = energies[: 100 * HOURS], energies[: 3 * HOURS]
    packed = pack_years(make_tariff(), energies)
    makers: dict[str, Maker] = {
        KERNEL: lambda: kernel_year(packed, "prepared"),
        "kernel, arrays anew": lambda: kernel_year(packed, "anew"),
        "kernel, only totals": lambda: kernel_year(packed, "totals"),
        LOOP: lambda: loop_year(library, energies),
        NUMPY: lambda: numpy_year(energies),
        PYSAM: lambda: pysam_year(some),
        RATEBOOK: lambda: ratebook_year(few),
        REFERENCE: lambda: reference_year(few),
        "plain loop, Python integers": lambda: python_year(few, exact=False),
        "plain loop, Python Decimal": lambda: python_year(few, exact=True),
    }
    if accounts == 1:  # explained, a fleet would need a gigabyte
        makers["kernel, explained"] = lambda: kernel_year(packed, "explained")
        makers["plain C loop with calendar"] = lambda: calendar_year(library, energies)
    return makers


def kernel_year(packed: PackedIntervals, how: str) -> Candidate:
    """Ours. `prepared`: room for the answer is made once, as the plain loop's is."""
    kernel = TariffKernel(pack_tariffs([make_tariff()]))
    runs: dict[str, Run] = {
        "prepared": kernel.prepare(packed).rate,
        "anew": lambda: kernel.rate_arrays(packed),
        "totals": lambda: kernel.rate_totals(packed),
        "explained": lambda: kernel.rate_arrays(packed, details=True),
    }
    months = by_month(kernel.rate_arrays(packed).amount_nano)
    if how == "totals" and kernel.rate_totals(packed).account_amount_nano[0] != sum(months):
        raise AssertionError("the totals are not the sums of the intervals")
    return Candidate(runs[how], len(packed.tariff), months)


def reference_year(energies: Sequence[int]) -> Candidate:
    """Ours, in Python integers: the authority, which checks and explains every interval."""
    tariff = make_tariff()
    rate, positions = reference_rate([tariff]), [tariff.fresh_position(0)]
    years = [hours_of(energies[first : first + HOURS]) for first in range(0, len(energies), HOURS)]

    def run() -> list[Any]:
        return [rate(positions, year) for year in years]

    return Candidate(run, len(years), by_month([rated.amount_nano for rated in run()[0]]))


def loop_year(library: str, energies: Sequence[int]) -> Candidate:
    """The hand-written loop, called through ctypes (2 microseconds a call)."""
    fleet = ctypes.CDLL(library).plain_fleet
    fleet.restype = None
    accounts = len(energies) // HOURS
    amounts = array("q", [0]) * len(energies)
    arrays = [array("q", PERIODS), array("q", energies), *loop_prices(), array("q", MONTHS), amounts]
    numbers = [ctypes.c_int64(number) for number in (accounts, HOURS, BLOCKS)]
    pointers = [ctypes.c_void_p(values.buffer_info()[0]) for values in arrays]

    def run() -> object:
        fleet(*numbers, *pointers)
        return arrays  # alive as long as this

    run()
    return Candidate(run, accounts, by_month(amounts))


def calendar_year(library: str, energies: Sequence[int]) -> Candidate:
    """The hand-written loop that looks instants up in the calendar; one account, called for each."""
    loop = ctypes.CDLL(library).plain_calendar
    loop.restype = None
    calendar, amounts = make_tariff().calendar, array("q", [0]) * HOURS
    starts = array("q", range(0, HOURS * HOUR_S, HOUR_S))
    segments = [array("q", [*calendar.starts, calendar.end_at]), array("q", calendar.periods)]
    arrays = [starts, array("q", energies[:HOURS]), *segments, array("q", calendar.cycle_starts)]
    arrays += [*loop_prices(), amounts]
    numbers = [ctypes.c_int64(number) for number in (HOURS, BLOCKS)]
    pointers = [ctypes.c_void_p(values.buffer_info()[0]) for values in arrays]

    def run() -> object:
        loop(*numbers, *pointers)
        return arrays

    run()
    return Candidate(run, 1, by_month(amounts))


def loop_prices() -> "list[array[int]]":
    """Limits and prices as the loop takes them."""
    return [array("q", [*LIMITS_WH, NO_LIMIT_WH]), array("q", [price for row in PRICES for price in row])]


def numpy_year(energies: Sequence[int]) -> Candidate:
    """numpy, int64, all hours of ten accounts at once: more do not fit in the caches."""
    np = import_module("numpy")
    accounts = len(energies) // HOURS
    years = np.array(energies, dtype=np.int64).reshape(accounts, HOURS)
    first, month = np.array(FIRST_HOURS[:12]), np.array(MONTHS)
    prices = np.array(PRICES, dtype=np.int64)[np.array(PERIODS)]

    def rate(energy: Any) -> Any:
        total = np.cumsum(energy, axis=1)
        after = total - (total[:, first] - energy[:, first])[:, month]
        before = after - energy
        amount = np.zeros_like(energy)
        lower = 0
        for block, upper in enumerate((*LIMITS_WH, NO_LIMIT_WH)):
            amount += (np.clip(after, lower, upper) - np.clip(before, lower, upper)) * prices[:, block]
            lower = upper
        return amount

    def run() -> list[Any]:
        return [rate(years[start : start + 10]) for start in range(0, accounts, 10)]

    return Candidate(run, accounts, by_month(run()[0][0]))


def python_year(energies: Sequence[int], exact: bool) -> Candidate:
    """What a tool in plain Python does: an hour at a time, in kWh and Decimal (`exact`) or in integers."""
    number: Callable[[int, int], Any] = (lambda n, scale: Decimal(n) / scale) if exact else (lambda n, _: n)
    used = [number(wh, 1000) for wh in energies]
    limits = [number(wh, 1000) for wh in (*LIMITS_WH, NO_LIMIT_WH)]
    prices = [[number(price, 10**6) for price in row] for row in PRICES]
    zero = number(0, 1)

    def rate(first: int) -> list[Any]:
        position, sums = zero, []
        for month, start in enumerate(FIRST_HOURS[:12]):
            position, amount = zero, zero
            for hour in range(start, FIRST_HOURS[month + 1]):
                left, row, block = used[first + hour], prices[PERIODS[hour]], 0
                while position + left > limits[block]:
                    if position < limits[block]:
                        taken = limits[block] - position
                        amount += taken * row[block]
                        position += taken
                        left -= taken
                    block += 1
                amount += left * row[block]
                position += left
            sums.append(amount)
        return sums

    starts = range(0, len(energies), HOURS)
    months = [float(total * 10**9 if exact else total) for total in rate(0)]
    return Candidate(lambda: [rate(first) for first in starts], len(starts), months)


def pysam_year(energies: Sequence[int]) -> Candidate:
    """PySAM's Utilityrate5, in floats, with ur_metering_option 2; its bills in dollars become nano."""
    module = import_module("PySAM.Utilityrate5")
    models = [pysam_model(module, energies[n : n + HOURS]) for n in range(0, len(energies), HOURS)]

    def run() -> None:
        for model in models:
            model.execute(0)

    run()
    months = [cost * 1e9 for cost in models[0].Outputs.utility_bill_wo_sys_ym[1]]
    return Candidate(run, len(models), months)


def pysam_model(module: Any, energies: Sequence[int]) -> Any:
    """The case as PySAM takes it."""
    model = module.new()
    rows = [
        [period + 1, block + 1, (*(limit / 1000 for limit in LIMITS_WH), 1e38)[block], 0, price / 1e6, 0]
        for period, row in enumerate(PRICES)
        for block, price in enumerate(row)
    ]
    schedule = [[period + 1 for period in PERIOD_BY_HOUR]] * 12
    values = {
        "en_electricity_rates": 1, "ur_metering_option": 2, "ur_ec_tou_mat": rows,
        "ur_ec_sched_weekday": schedule, "ur_ec_sched_weekend": schedule, "ur_dc_enable": 0,
        "load": [energy / 1000 for energy in energies], "gen": [0.0] * HOURS,
        "analysis_period": 1, "system_use_lifetime_output": 0, "inflation_rate": 0, "rate_escalation": [0],
        "degradation": [0], "load_escalation": [0], "ur_monthly_fixed_charge": 0, "ur_monthly_min_charge": 0,
        "ur_annual_min_charge": 0, "ur_en_ts_sell_rate": 0, "ur_en_ts_buy_rate": 0, "ur_nm_yearend_sell_rate": 0,
        "ur_sell_eq_buy": 0, "ur_nm_credit_month": 0, "ur_nm_credit_rollover": 0, "TOU_demand_single_peak": 0,
    }  # fmt: skip
    for name, value in values.items():
        model.value(name, value)
    return model


def ratebook_year(energies: Sequence[int]) -> Candidate:
    """ratebook, in Decimal. It knows no blocks over all periods together: each period has its own."""
    book = import_module("ratebook")
    limits = [Decimal(limit) / 1000 for limit in LIMITS_WH] + [None]
    periods = tuple(
        book.EnergyPeriod(
            tuple(book.EnergyTier(rate=Decimal(row[n]) / 10**6, max=limit) for n, limit in enumerate(limits))
        )
        for row in PRICES
    )
    days = (tuple(PERIOD_BY_HOUR),) * 12
    tariff = book.Tariff(book.EnergyRateStructure(periods), book.Schedule(weekday=days, weekend=days))
    loads = [[Decimal(wh) / 1000 for wh in energies[n : n + HOURS]] for n in range(0, len(energies), HOURS)]
    assert date(YEAR, 12, 31).timetuple().tm_yday * 24 == HOURS

    def run() -> list[Any]:
        return [book.estimate_annual(tariff, load, YEAR) for load in loads]

    months = [float(window.energy_charge * 10**9) for window in run()[0].windows]
    return Candidate(run, len(loads), months, wanted=RATEBOOK)


def ratebook_months(energies: Sequence[int]) -> Monthly:
    """What ratebook must say: the kernel's bills with blocks of each period by itself."""
    tariff = make_tariff(own_ladders=True)
    packed = pack_intervals([tariff.fresh_position(0)], hours_of(energies))
    return by_month(TariffKernel(pack_tariffs([tariff])).rate_arrays(packed).amount_nano)


# --- who prices a round ----------------------------------------------------------------------


def round_makers(library: str) -> dict[str, Maker]:
    """One hour of many accounts, in one call where that can be done."""
    tariff = make_tariff()
    positions = [tariff.fresh_position(0)] * ACCOUNTS
    energies = [100 + account for account in range(ACCOUNTS)]
    hour = (ROUND_HOUR * HOUR_S, (ROUND_HOUR + 1) * HOUR_S)
    intervals = [Interval(account, *hour, energy) for account, energy in enumerate(energies)]
    packed = pack_intervals(positions, intervals)
    kernel = TariffKernel(pack_tariffs([tariff]))

    def from_objects(rate: Callable[[list[Position], list[Interval]], Sequence[Any]]) -> Candidate:
        amounts = [float(rated.amount_nano) for rated in rate(positions, intervals)]
        return Candidate(lambda: rate(positions, intervals), 1, amounts)

    def from_arrays(run: Run, amounts: Sequence[int]) -> Candidate:
        return Candidate(run, 1, [float(amount) for amount in amounts])

    prepared, amounts = kernel.prepare(packed), kernel.rate_arrays(packed).amount_nano
    return {
        KERNEL: lambda: from_arrays(prepared.rate, amounts),
        "kernel, arrays anew": lambda: from_arrays(lambda: kernel.rate_arrays(packed), amounts),
        "kernel, objects in and out": lambda: from_objects(array_rate(TariffKernel, [tariff])),
        LOOP: lambda: loop_round(library, energies),
        REFERENCE: lambda: from_objects(reference_rate([tariff])),
    }


def loop_round(library: str, energies: Sequence[int]) -> Candidate:
    """The hand-written loop over accounts."""
    loop = ctypes.CDLL(library).plain_round
    loop.restype = None
    amounts = array("q", [0]) * len(energies)
    arrays = [array("q", energies), *loop_prices(), amounts]
    numbers = [ctypes.c_int64(number) for number in (len(energies), BLOCKS, PERIODS[ROUND_HOUR])]
    pointers = [ctypes.c_void_p(values.buffer_info()[0]) for values in arrays]

    def run() -> object:
        loop(*numbers, *pointers)
        return arrays

    run()
    return Candidate(run, 1, [float(amount) for amount in amounts])


# --- measuring -------------------------------------------------------------------------------


def make_all(makers: Mapping[str, Maker], absent: dict[str, str]) -> dict[str, Candidate]:
    """The candidates that are installed; the others are noted in `absent`."""
    candidates = {}
    for name, make in makers.items():
        try:
            candidates[name] = make()
        except ImportError as missing:
            absent[name] = str(missing)
    return candidates


def differ(candidates: Mapping[str, Candidate]) -> list[str]:
    """A sentence for each whose bills are not the kernel's."""
    wanted = {KERNEL: candidates[KERNEL].months}
    if RATEBOOK in candidates:
        wanted[RATEBOOK] = ratebook_months(make_energies(1))
    return [
        f"{name}: its bills differ from the kernel's: {candidate.months} and {wanted[candidate.wanted]}"
        for name, candidate in candidates.items()
        if len(candidate.months) != len(wanted[candidate.wanted])
        or any(
            abs(a - b) > AGREES_WITHIN * abs(b) for a, b in zip(candidate.months, wanted[candidate.wanted], strict=True)
        )
    ]


def measure(candidates: Mapping[str, Candidate], turns: int) -> list[Row]:
    """Times of each, turn by turn, after two runs that warm up; who is quick gets several samples a turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    runs, samples = {}, {}
    for name, candidate in candidates.items():
        took_ms = min(timed(candidate.run, 1), timed(candidate.run, 1))
        runs[name] = max(1, round(SAMPLE_MS / took_ms))
        samples[name] = max(1, min(SAMPLES_MAX, int(TURN_MS / (took_ms * runs[name]))))
    for _ in range(turns):
        for name, candidate in candidates.items():
            for _ in range(samples[name]):
                times[name].append(timed(candidate.run, runs[name]) / candidate.bills)
    least, middle = min(times[KERNEL]), statistics.median(times[KERNEL])
    rows = []
    for name, mine in times.items():
        median, bills = statistics.median(mine), candidates[name].bills
        rows.append(Row(name, bills, min(mine), median, min(mine) / least, median / middle, len(mine)))
    return rows


def timed(run: Run, times: int) -> float:
    """Milliseconds of the processor's time for one run, of so many. What others do on the machine counts less so."""
    began = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - began) * 1000 / times


def goals(year: list[Row], fleet: list[Row], one_round: list[Row]) -> list[Goal]:
    """What was aimed at. Times are the shortest; of the two ratios it is the one that flatters the kernel less."""
    of_year, of_fleet, of_round = ({row.name: row for row in rows} for rows in (year, fleet, one_round))

    def times_as_fast(name: str, wanted: int) -> Goal:
        row = of_year.get(name)
        found = None if row is None else min(row.ratio_of_min, row.ratio_of_median)
        return Goal(f"times as fast as {name}", f"at least {wanted}", found, found is not None and found >= wanted)

    bill, fleet_bill, round_ms = of_year[KERNEL].min_ms, of_fleet[KERNEL].min_ms, of_round[KERNEL].min_ms
    loop = 1 / min(of_year[LOOP].ratio_of_min, of_year[LOOP].ratio_of_median)
    return [
        Goal("ms a bill", "at most 0.05", bill, bill <= 0.05),
        Goal("ms a bill in a fleet", "at most 1.25 x one account", fleet_bill, fleet_bill <= 1.25 * bill),
        times_as_fast(PYSAM, 25),
        times_as_fast(RATEBOOK, 80),
        Goal("times as long as the C loop", "at most 1.3", loop, loop <= 1.3),
        Goal(f"ms a round of {ACCOUNTS}", "under 0.5", round_ms, round_ms < 0.5),
    ]


def as_text(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [", ".join(f"{what} {fact}" for what, fact in report["machine"].items())]
    for title, rows in report["tables"].items():
        lines += ["", title, f"{'':28}{'min':>10}{'median':>10}{'by min':>9}{'by median':>11}{'bills x samples':>17}"]
        for row in rows:
            times = f"{row['min_ms']:10.4f}{row['median_ms']:10.4f}"
            ratios = f"{row['ratio_of_min']:9.2f}{row['ratio_of_median']:11.2f}"
            lines.append(f"{row['name']:28}{times}{ratios}{row['bills']:8} x {row['samples']:<6}")
    lines += ["", "goals, by the shortest times and the less flattering ratios"]
    for goal in report["goals"]:
        found = "not compared" if goal["found"] is None else f"{goal['found']:.4g}"
        lines.append(f"{goal['what']:36}{goal['wanted']:>28}{found:>14}  {'met' if goal['met'] else 'NOT MET'}")
    lines += ["", f"monthly bills agree within {report['bills_agree_within']}; ratebook's with own blocks by period"]
    lines += [f"not compared: {name}: {why}" for name, why in report["not_compared"].items()]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.split(":", 1)[1].strip()
    return {
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processor": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    raise SystemExit(main())
