"""One run, by ratio: the kernel against other ways to price a year of hourly readings.

Run by `python3 build.py bench tariff`. A year of 8,760 hours, three blocks and four periods, blocks
over each month. Times are milliseconds a bill; every candidate's turn comes round after round, so
that a slow moment of the machine falls on all of them. Who is not installed is "not compared".
"""

import argparse
import ctypes
import json
import platform
import random
import statistics
import time
from array import array
from collections.abc import Callable
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

from edge.core.calendar import CompiledCalendar
from edge.core.rating import CompiledTariff, Interval, PeriodPrices, reference_rate
from edge.core.rating_arrays import pack_intervals, pack_tariffs
from native.kernel import TariffKernel

HOURS = 8760
HOUR_S = 3600
PERIOD_BY_HOUR = [0] * 7 + [1] * 3 + [2] * 2 + [1] * 6 + [3] * 3 + [1] * 2 + [0]
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTHS = [month for month, days in enumerate(MONTH_DAYS) for _ in range(days * 24)]
LIMITS_WH = (200_000, 400_000)
PRICES = tuple(tuple(100_000 * (period + 1) + 70_000 * block for block in range(3)) for period in range(4))
ACCOUNTS = 1000
AGREES_WITHIN = 1e-9  # relative, for those that count in floats

Run = Callable[[], Any]


def main() -> int:
    """Measures everything and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True, help="the shared library of plain_loop.c")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    energies = [random.Random(3).randrange(100, 1500) for _ in range(HOURS)]
    tariff = make_tariff()
    bills: dict[str, list[float]] = {}
    runs: dict[str, Run] = {}
    for name, make in candidates(options.loop).items():
        try:
            run, bill = make(tariff, energies)
        except ImportError as missing:
            print(f"{name}: not compared ({missing})")
            continue
        runs[name], bills[name] = run, bill
    wanted = bills["kernel"]
    for name, bill in bills.items():
        if any(abs(a - b) > AGREES_WITHIN * abs(b) for a, b in zip(bill, wanted, strict=True)):
            print(f"{name}: its monthly bills differ from the kernel's: {bill} and {wanted}")
            return 1
    print("ratebook: not compared (no adapter for its tariff documents is written)")
    print(machine())
    show("a year of hours, 1 account", measure(runs, options.rounds), 1)
    show(f"one hour of {ACCOUNTS} accounts, in one call", measure(fleet_runs(tariff), options.rounds), 1)
    year = {"kernel": fleet_year(tariff, energies)}
    show(f"a year of hours, {ACCOUNTS} accounts in one call (ms a bill)", measure(year, 3), ACCOUNTS)
    return 0


def make_tariff() -> CompiledTariff:
    """The tariff of the comparison."""
    starts, periods, cycles = [], [], []
    first_hours = [0, *accumulate(days * 24 for days in MONTH_DAYS)]
    last = None
    for hour, month in enumerate(MONTHS):
        key = (PERIOD_BY_HOUR[hour % 24], month)
        if key != last:
            starts.append(hour * HOUR_S)
            periods.append(key[0])
            cycles.append(first_hours[month] * HOUR_S)
            last = key
    calendar = CompiledCalendar(tuple(starts), tuple(periods), tuple(cycles), HOURS * HOUR_S)
    prices = tuple(PeriodPrices(f"p{n}", 0, LIMITS_WH, row) for n, row in enumerate(PRICES))
    return CompiledTariff("bench", calendar, prices, 1, 10**9)


def by_month(amounts: Any) -> list[float]:
    """Nano of each hour as monthly sums."""
    sums = [0] * 12
    for month, amount in zip(MONTHS, amounts, strict=True):
        sums[month] += int(amount)
    return [float(total) for total in sums]


def hours_of(account: int, energies: list[int]) -> list[Interval]:
    """An account's year."""
    return [Interval(account, n * HOUR_S, (n + 1) * HOUR_S, energy) for n, energy in enumerate(energies)]


def make_kernel(tariff: CompiledTariff, energies: list[int]) -> tuple[Run, list[float]]:
    """Ours."""
    kernel = TariffKernel(pack_tariffs([tariff]))
    packed = pack_intervals([tariff.fresh_position(0)], hours_of(0, energies))
    return lambda: kernel.rate_arrays(packed), by_month(kernel.rate_arrays(packed).amount_nano)


def make_reference(tariff: CompiledTariff, energies: list[int]) -> tuple[Run, list[float]]:
    """Ours, in Python integers."""
    rate = reference_rate([tariff])
    positions, hours = [tariff.fresh_position(0)], hours_of(0, energies)
    return lambda: rate(positions, hours), by_month([rated.amount_nano for rated in rate(positions, hours)])


def make_loop(library: str) -> Callable[[CompiledTariff, list[int]], tuple[Run, list[float]]]:
    """The hand-written loop, called through ctypes."""

    def make(tariff: CompiledTariff, energies: list[int]) -> tuple[Run, list[float]]:
        loop = ctypes.CDLL(library).plain_loop
        columns = [
            [PERIOD_BY_HOUR[n % 24] for n in range(HOURS)],
            energies,
            [*LIMITS_WH, 2**62],
            [price for row in PRICES for price in row],
            MONTHS,
            [0] * HOURS,
        ]
        arrays = [array("q", column) for column in columns]
        pointers = [ctypes.c_void_p(values.buffer_info()[0]) for values in arrays]
        arguments = (ctypes.c_int64(HOURS), ctypes.c_int64(3), *pointers)
        loop.restype = None
        loop(*arguments)
        return lambda: (loop(*arguments), arrays)[0], by_month(arrays[-1])

    return make


def make_numpy(tariff: CompiledTariff, energies: list[int]) -> tuple[Run, list[float]]:
    """numpy, int64, all hours at once."""
    np = import_module("numpy")

    energy = np.array(energies, dtype=np.int64)
    period = np.array([PERIOD_BY_HOUR[n % 24] for n in range(HOURS)])
    first = np.array([0, *accumulate(days * 24 for days in MONTH_DAYS)])[:12]
    month = np.array(MONTHS)
    prices = np.array(PRICES, dtype=np.int64)[period]
    uppers = np.array([*LIMITS_WH, 2**62], dtype=np.int64)

    def run() -> Any:
        total = np.cumsum(energy)
        after = total - (total[first] - energy[first])[month]
        before = after - energy
        amount = np.zeros(HOURS, dtype=np.int64)
        lower = 0
        for block, upper in enumerate(uppers):
            amount += (np.clip(after, lower, upper) - np.clip(before, lower, upper)) * prices[:, block]
            lower = upper
        return amount

    return run, by_month(run())


def make_pysam(tariff: CompiledTariff, energies: list[int]) -> tuple[Run, list[float]]:
    """PySAM's Utilityrate5, in floats; its bills in dollars become nano."""
    model = import_module("PySAM.Utilityrate5").new()
    rows = [
        [period + 1, block + 1, (*(limit / 1000 for limit in LIMITS_WH), 1e38)[block], 0, price / 1e6, 0]
        for period, row in enumerate(PRICES)
        for block, price in enumerate(row)
    ]
    schedule = [[period + 1 for period in PERIOD_BY_HOUR]] * 12
    zeros = [0.0] * HOURS
    values = {
        "en_electricity_rates": 1, "ur_metering_option": 2, "ur_ec_tou_mat": rows,
        "ur_ec_sched_weekday": schedule, "ur_ec_sched_weekend": schedule, "ur_dc_enable": 0,
        "load": [energy / 1000 for energy in energies], "gen": zeros,
        "analysis_period": 1, "system_use_lifetime_output": 0, "inflation_rate": 0, "rate_escalation": [0],
        "degradation": [0], "load_escalation": [0], "ur_monthly_fixed_charge": 0, "ur_monthly_min_charge": 0,
        "ur_annual_min_charge": 0, "ur_en_ts_sell_rate": 0, "ur_en_ts_buy_rate": 0, "ur_nm_yearend_sell_rate": 0,
        "ur_sell_eq_buy": 0, "ur_nm_credit_month": 0, "ur_nm_credit_rollover": 0, "TOU_demand_single_peak": 0,
    }  # fmt: skip
    for name, value in values.items():
        model.value(name, value)
    model.execute(0)
    bill = [cost * 1e9 for cost in model.Outputs.utility_bill_wo_sys_ym[1]]
    return lambda: model.execute(0), bill


def candidates(library: str) -> dict[str, Callable[[CompiledTariff, list[int]], tuple[Run, list[float]]]]:
    """Who is compared. A pure-Python peer is our reference alone: see README.md."""
    return {
        "kernel": make_kernel,
        "plain C loop": make_loop(library),
        "numpy int64": make_numpy,
        "reference in Python": make_reference,
        "PySAM Utilityrate5": make_pysam,
    }


def fleet_runs(tariff: CompiledTariff) -> dict[str, Run]:
    """One interval each for many accounts."""
    positions = [tariff.fresh_position(0)] * ACCOUNTS
    intervals = [Interval(n, 5000 * HOUR_S, 5001 * HOUR_S, 100 + n) for n in range(ACCOUNTS)]
    kernel, rate = TariffKernel(pack_tariffs([tariff])), reference_rate([tariff])
    packed = pack_intervals(positions, intervals)
    return {"kernel": lambda: kernel.rate_arrays(packed), "reference in Python": lambda: rate(positions, intervals)}


def fleet_year(tariff: CompiledTariff, energies: list[int]) -> Run:
    """A year each for many accounts: 8.76 million intervals."""
    one = pack_intervals([tariff.fresh_position(0)], hours_of(0, energies))
    fleet = type(one)(
        position_stride=1,
        tariff=one.tariff * ACCOUNTS,
        first_interval=array("q", range(0, HOURS * ACCOUNTS + 1, HOURS)),
        energy_wh=one.energy_wh * ACCOUNTS,
        cycle_start_at=one.cycle_start_at * ACCOUNTS,
        interval_start_at=one.interval_start_at * ACCOUNTS,
        interval_end_at=one.interval_end_at * ACCOUNTS,
        interval_energy_wh=one.interval_energy_wh * ACCOUNTS,
    )
    kernel = TariffKernel(pack_tariffs([tariff]))
    return lambda: kernel.rate_arrays(fleet)


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, turn by turn; the quick ones several times a turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            for _ in range(1 if times[name] and min(times[name]) > 1 else 10):
                began = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def show(title: str, times: dict[str, list[float]], bills: int) -> None:
    """A table of minimum, median, and how many times the kernel's median."""
    print(f"\n{title}\n{'':24}{'min ms':>10}{'median ms':>11}{'ratio':>9}")
    base = statistics.median(times["kernel"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:24}{min(values) / bills:10.4f}{median / bills:11.4f}{median / base:9.2f}")


def machine() -> str:
    """What it ran on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.split(":", 1)[1].strip()
    facts = {"python": platform.python_version(), "system": platform.platform(), "processor": model}
    return json.dumps(facts)


if __name__ == "__main__":
    raise SystemExit(main())
