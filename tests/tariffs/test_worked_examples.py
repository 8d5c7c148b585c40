"""Every worked example about tariffs, bills, registers and demand, through the engine and the command line.

The examples stand unchanged in tests/vectors/worked_examples.json; here they are only put into the
words of our tariff document, CSV and options. Prices micro per kWh, energy Wh, money nano.
"""

import json
import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge.cli import main
from edge.core import power_factor
from edge.core.calendar import format_date, parse_date
from edge.core.demand import DemandPart, demand_charge, max_demand, over_contract
from edge.core.late_charge import Arrears, late_fee
from edge.core.reading import delta, freeze_register
from edge.core.tariff import load_tariff
from edge.core.terms import LateCharge, OverContract
from edge.core.units import FreezeQuality, round_half_away
from edge.tariffs.urdb import import_urdb

EXAMPLES = json.loads((Path(__file__).parent.parent / "vectors" / "worked_examples.json").read_text("utf-8"))
TARIFFS = EXAMPLES["tariffs"]
MINOR_NANO = 10_000_000
# What other parts of Wattgate answer for, and their tests.
NOT_BILLING = {
    "timeline_703": "notices and cuts",
    "timeline_703_protected": "notices and cuts",
    "timeline_703_clock": "notices and cuts",
    "timeline_703_jump": "notices and cuts",
    "clock_703": "notices and cuts",
    "line_loss": "watching the area",
    "line_loss_generation": "watching the area",
    "emergency_credit": "credits",
    "purchase_orders": "credits",
    "payments": "the ledger",
}

Json = dict[str, Any]
Reading = tuple[str, int]


class Bench:
    """Documents and readings in, the JSON of `wattgate tariff rate` out."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def rate(self, document: Json, readings: Sequence[Any], *options: str, header: str = "at,import_wh") -> Json:
        file, table = self._folder / "tariff.json", self._folder / "readings.csv"
        file.write_text(json.dumps(document), "utf-8")
        table.write_text("\n".join([header, *(",".join(map(str, row)) for row in readings)]) + "\n", "utf-8")
        status = main(["tariff", "rate", str(file), "--readings", str(table), "--json", *options])
        printed = self._capsys.readouterr()
        assert (status, printed.err) == (0, "")
        bill: Json = json.loads(printed.out)
        assert sum(line["amount_nano"] for line in bill["lines"]) == bill["bill_minor"] * MINOR_NANO
        return bill

    def refused(self, document: Json, readings: Sequence[Any], *options: str) -> str:
        file, table = self._folder / "tariff.json", self._folder / "readings.csv"
        file.write_text(json.dumps(document), "utf-8")
        table.write_text("\n".join(["at,import_wh", *(",".join(map(str, row)) for row in readings)]), "utf-8")
        assert main(["tariff", "rate", str(file), "--readings", str(table), *options]) == 2
        return self._capsys.readouterr().err


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


# --- documents in our words ------------------------------------------------------------------


def decimal(micro: int) -> str:
    sign, micro = ("-" if micro < 0 else ""), abs(micro)
    return f"{sign}{micro // 10**6}.{micro % 10**6:06d}"


def thousandths(amount: int) -> str:
    return f"{amount // 1000}.{amount % 1000:03d}"


def document(currency: str = "CNY", **parts: Any) -> Json:
    zone = {"CNY": "Asia/Shanghai", "ZAR": "Africa/Johannesburg", "GBP": "Europe/London", "KES": "Africa/Nairobi"}
    return {
        "format": 1,
        "id": "example",
        "version": 1,
        "currency": currency,
        "minor_digits": 2,
        "time_zone": zone[currency],
        "valid_from": "2019-01-01",
        "cycle": {"length": "month"},
        **parts,
    }


def tiers_document(tiers: Sequence[Json], currency: str = "CNY", **parts: Any) -> Json:
    limits = [thousandths(tier["upto_Wh"]) for tier in tiers[:-1]]
    prices = [decimal(tier["price_micro_per_kWh"]) for tier in tiers]
    return document(currency, blocks={"limits_kwh": limits}, prices={"table": {"all": prices}}, **parts)


def windows(texts: Sequence[str], **where: Any) -> list[Json]:
    return [dict(zip(("from", "to"), text.split("-"), strict=True), **where) for text in texts]


def by_period_document(tiers: Json, plan: Json | None = None) -> Json:
    """A full table; without a plan the periods take turns, for the meter's registers say which is which."""
    names = list(tiers)
    plan = plan or {names[0]: ["00:00-12:00"], names[1]: ["12:00-24:00"]}
    limits = [thousandths(tier["upto_Wh"]) for tier in tiers[names[0]][:-1]]
    table = {name: [decimal(tier["price_micro_per_kWh"]) for tier in rows] for name, rows in tiers.items()}
    periods = [{"name": name, "windows": windows(plan[name])} for name in names]
    return document(periods=periods, blocks={"limits_kwh": limits}, prices={"table": table})


def adders_document(tariff: Json) -> Json:
    """Tier price first, then an adder by period; with a heating season its periods have names of their own."""
    adders, plan, seasons = tariff["tou_add_micro_per_kWh"], tariff["windows"], None
    base = {name: decimal(adders[name]) for name in plan}
    heating = tariff.get("heating_season")
    if heating is None:
        periods = [{"name": name, "windows": windows(plan[name])} for name in plan]
    else:
        seasons = [{"name": "rest", "dates": [["04-01", "10-31"]]}, {"name": "heat", "dates": [["11-01", "03-31"]]}]
        periods = [{"name": name, "windows": windows(plan[name], seasons=["rest"])} for name in plan]
        for name, texts in heating["windows"].items():
            periods.append({"name": f"{name}_heat", "windows": windows(texts, seasons=["heat"])})
            base[f"{name}_heat"] = decimal(heating["tou_add_micro_per_kWh"][name])
    tiers = tariff["tiers"]
    parts: Json = {"seasons": seasons} if seasons else {}
    return document(
        periods=periods,
        blocks={"limits_kwh": [thousandths(tier["upto_Wh"]) for tier in tiers[:-1]]},
        prices={"base_by_period": base, "adder_by_block": [decimal(tier["price_micro_per_kWh"]) for tier in tiers]},
        **parts,
    )


def industry_document(tariff: Json, plan: Json) -> Json:
    prices = tariff["prices_micro_per_kWh"]
    periods = [{"name": name, "windows": windows(texts)} for name, texts in plan.items()]
    return document(periods=periods, prices={"table": {name: [decimal(prices[name])] for name in plan}})


def month(energy_wh: int, start_wh: int = 0) -> list[Reading]:
    return [("2024-04-01T00:00:00+08:00", start_wh), ("2024-04-30T00:00:00+08:00", start_wh + energy_wh)]


def check_charge(bill: Json, expect: Json) -> None:
    assert bill["charge_nano"] == expect["charge_nano"]
    assert round_half_away(bill["charge_nano"], 1000) == expect.get("charge_micro", bill["charge_nano"] // 1000)
    assert bill["bill_minor"] == expect.get("charge_minor", bill["bill_minor"])


# --- one check for each kind -----------------------------------------------------------------


def tier_charge(given: Json, expect: Json, bench: Bench) -> None:
    tiers = given.get("tiers") or TARIFFS[given["tariff"]]["tiers"]
    position = given["cycle_energy_before_Wh"]
    bill = bench.rate(tiers_document(tiers), month(given["energy_Wh"]), "--cycle-energy-wh", str(position))
    check_charge(bill, expect)
    by_block = {line["block"]: line["energy_wh"] for line in bill["lines"]}
    assert [by_block.get(n + 1, 0) for n in range(len(tiers))] == expect["energy_by_tier_Wh"]
    assert bill["cycle_energy_wh"] == position + given["energy_Wh"]


def tier_charge_inline(given: Json, expect: Json, bench: Bench) -> None:
    tier_charge(given, expect, bench)
    yearly = TARIFFS["cn_zj"]["tiers"]
    scaled = tiers_document(yearly, cycle={"length": "year"})
    scaled["blocks"]["by_months_in_service"] = True
    months = str(given["months_counted"])
    check_charge(bench.rate(scaled, month(given["energy_Wh"]), "--months-in-service", months), expect)


def daily_series(given: Json, expect: Json, bench: Bench) -> None:
    rows, register = [("2024-04-01T00:00:00+08:00", 0)], 0
    for day, energy_wh in enumerate(given["daily_energy_Wh"], 1):
        register += energy_wh
        at = datetime.fromisoformat("2024-04-01T00:00:00+08:00") + timedelta(days=day)
        rows.append((at.isoformat(), register))
    tariff = tiers_document(TARIFFS[given["tariff"]]["tiers"])
    bill = bench.rate(tariff, rows)
    check_charge(bill, expect)
    assert bill["energy_wh"] == expect["month_energy_Wh"]
    minors, position = [], 0
    for before, after in pairwise(rows):
        day_bill = bench.rate(tariff, [before, after], "--cycle-energy-wh", str(position))
        minors.append(day_bill["bill_minor"])
        position += day_bill["energy_wh"]
    assert sum(minors) == expect["sum_of_daily_rounded_to_minor"]


def tou_tier_day(given: Json, expect: Json, bench: Bench) -> None:
    tariff = TARIFFS[given["tariff"]]
    register, rows = 0, [("2024-04-03T00:00:00+08:00", 0)]
    for interval in given["intervals"]:
        register += interval["energy_Wh"]
        end = interval["to"]
        at = "2024-04-04T00:00:00+08:00" if end == "24:00" else f"2024-04-03T{end}:00+08:00"
        rows.append((at, register))
    bill = bench.rate(
        by_period_document(tariff["tiers_by_period"], tariff["windows"]),
        rows,
        "--cycle-energy-wh",
        str(given["cycle_energy_before_Wh"]),
    )
    check_charge(bill, expect)
    assert bill["cycle_energy_wh"] == expect["cycle_energy_after_Wh"]
    assert bill["estimated"] is False


def tou_tier_order(given: Json, expect: Json, bench: Bench) -> None:
    tariff, position = by_period_document(given["tiers_by_period"]), str(given["cycle_energy_before_Wh"])
    header = "at,import_wh,rate_peak_wh,rate_valley_wh"
    start = ("2024-04-03T00:00:00+08:00", 0, 0, 0)
    for order in ("a", "b"):
        used, rows = {"peak": 0, "valley": 0}, [start]
        for hour, interval in enumerate(given[f"order_{order}"], 1):
            used[interval["period"]] += interval["energy_Wh"]
            rows.append((f"2024-04-03T0{hour}:00:00+08:00", sum(used.values()), used["peak"], used["valley"]))
        bill = bench.rate(tariff, rows, "--cycle-energy-wh", position, header=header)
        assert (bill["charge_nano"], bill["estimated"]) == (expect[f"charge_{order}_nano"], False)
    # A total of the day by period leaves the order open, and says so.
    assert bench.rate(tariff, [start, rows[-1]], "--cycle-energy-wh", position, header=header)["estimated"] is True


def tou_add_month(given: Json, expect: Json, bench: Bench) -> None:
    used = given["energy_by_period_Wh"]
    rows = [
        ("2024-04-01T00:00:00+08:00", 0, 0, 0),
        ("2024-04-30T00:00:00+08:00", sum(used.values()), used["peak"], used["valley"]),
    ]
    bill = bench.rate(
        adders_document(TARIFFS[given["tariff"]]), rows, header="at,import_wh,rate_peak_wh,rate_valley_wh"
    )
    check_charge(bill, expect)
    assert bill["estimated"] is False


def tou_calendar(given: Json, expect: Json, bench: Bench) -> None:
    tariff = adders_document(TARIFFS[given["tariff"]])
    charges = []
    for hour in given["hours"]:
        charges.append(bench.rate(tariff, [(hour["from"], 0), (hour["to"], hour["energy_Wh"])])["charge_nano"])
    assert charges == expect["hour_charge_nano"]


def tou_day_constant_load(given: Json, expect: Json, bench: Bench) -> None:
    tariff = TARIFFS[given["tariff"]]
    rows = [("2024-07-03T00:00:00+08:00", 0), ("2024-07-04T00:00:00+08:00", 24 * given["constant_power_W"])]
    bill = bench.rate(industry_document(tariff, tariff[given["windows"]]), rows)
    check_charge(bill, expect)
    assert {line["period"]: line["energy_wh"] for line in bill["lines"]} == expect["energy_by_period_Wh"]


def tou_lookup(given: Json, expect: Json, bench: Bench) -> None:
    tariff = TARIFFS[given["tariff"]]
    made = industry_document(tariff, tariff[given["windows"]])
    found = []
    for text in given["instants"]:
        at = datetime.fromisoformat(f"2024-07-03T{text}+08:00")
        bill = bench.rate(made, [(at.isoformat(), 0), ((at + timedelta(seconds=1)).isoformat(), 1)])
        found.append(bill["lines"][0]["period"])
    assert found == expect["period"]


def demand_document(**demand: Any) -> Json:
    return document(demand=[{"name": "basic", **demand}], prices={"table": {"all": ["0"]}})


def capacity_charge(given: Json, expect: Json, bench: Bench) -> None:
    price, divisor = decimal(given["price_micro_per_kVA_month"]), given["day_divisor"]
    tariff = demand_document(kind="capacity", unit="kVA", prices=[price], day_divisor=divisor)
    demand = load_tariff(tariff).terms.demands[0]
    part = DemandPart(given["capacity_kVA"] * 1000, given["days_in_use"])
    assert demand_charge(demand, part) == expect["charge_nano"]
    size, days = str(given["capacity_kVA"]), str(given["days_in_use"])
    march = [("2024-03-01T00:00:00+08:00", 0), ("2024-04-01T00:00:00+08:00", 0)]
    check_charge(bench.rate(tariff, march, "--capacity-kva", size, "--days-in-use", days), expect)
    check_charge(bench.rate(tariff, [("2024-03-21T00:00:00+08:00", 0), march[1]], "--capacity-kva", size), expect)
    tariff["demand"][0]["contract"] = [{"valid_from": "2024-03-21", "size": size}]
    check_charge(bench.rate(tariff, march), expect)


def demand_charge_over_contract(given: Json, expect: Json, bench: Bench) -> None:
    rule = OverContract(10_500, 2)
    assert over_contract(rule, given["contract_W"], given["measured_max_demand_W"]) == expect["billed_W"]
    assert over_contract(rule, 500_000, 525_000) == 500_000
    assert over_contract(rule, 500_000, 526_000) == 527_000
    tariff = demand_document(
        kind="contract",
        prices=[decimal(given["price_micro_per_kW_month"])],
        over_contract={"threshold_percent": "105", "factor": 2},
    )
    rows = [("2024-04-01T00:00:00+08:00", 0, ""), ("2024-05-01T00:00:00+08:00", 0, given["measured_max_demand_W"])]
    options = ("--contract-w", str(given["contract_W"]))
    bill = bench.rate(tariff, rows, *options, header="at,import_wh,max_demand_w")
    check_charge(bill, expect)
    assert bill["lines"][0]["power_w"] == expect["billed_W"]


def max_demand_of_minutes(given: Json, expect: Json, bench: Bench) -> None:
    powers = [power * 1000 for power in given["minute_mean_power_kW"]]
    window = given["window_min"]
    assert max_demand(powers, window, given["slip_min"]) == expect["sliding_max_kW"] * 1000
    assert max_demand(powers, window, window) == expect["block_max_kW"] * 1000
    register, rows = 0, [("2024-04-03T00:00:00+08:00", 0)]
    for minute, power_w in enumerate(powers, 1):
        register += power_w // 60
        rows.append((f"2024-04-03T00:{minute:02d}:00+08:00", register))
    for slip, name in ((given["slip_min"], "sliding_max_kW"), (window, "block_max_kW")):
        tariff = demand_document(kind="measured", prices=["1"], window_min=window, slip_min=slip)
        assert bench.rate(tariff, rows)["lines"][-1]["power_w"] == expect[name] * 1000


def pf_table(given: Json, expect: Json, bench: Bench) -> None:
    for row in expect["rows"]:
        assert power_factor.adjustment_ppm(row["standard"], row["power_factor_x100"]) == row["adjust_ppm"], row


def pf_charge(given: Json, expect: Json, bench: Bench) -> None:
    factor = power_factor.mean_power_factor(given["active_Wh"], given["reactive_varh"])
    assert factor == expect["power_factor_x100"]
    # The base as the price of the energy: base = active energy x price.
    price = given["base_charge_nano"] // given["active_Wh"]
    rest = given["base_charge_nano"] - price * given["active_Wh"]
    tariff = document(
        prices={"table": {"all": [decimal(price)]}},
        power_factor={"standard": f"0.{given['standard_x100']}", "base": ["energy", "basic"]},
        demand=[{"name": "rest", "kind": "capacity", "unit": "kVA", "prices": [decimal(rest // 1000)]}],
    )
    rows = [
        ("2024-04-01T00:00:00+08:00", 0, 0),
        ("2024-05-01T00:00:00+08:00", given["active_Wh"], given["reactive_varh"]),
    ]
    bill = bench.rate(tariff, rows, "--capacity-kva", "1", header="at,import_wh,reactive_import_varh")
    line = next(line for line in bill["lines"] if line["kind"] == "power_factor")
    assert line["base_nano"] == given["base_charge_nano"]
    assert (line["share_ppm"], line["amount_nano"]) == (expect["adjust_ppm"], expect["adjust_nano"])
    assert round_half_away(line["amount_nano"], MINOR_NANO) == expect["adjust_minor"]


def pf_sum_abs(given: Json, expect: Json, bench: Bench) -> None:
    tariff = document(
        prices={"table": {"all": ["1"]}}, power_factor={"standard": f"0.{given['standard_x100']}", "base": ["energy"]}
    )
    imported, exported = given["reactive_import_varh"], given["reactive_export_varh"]
    assert power_factor.reactive_used(imported, -exported) == expect["reactive_used_varh"]
    rows = [
        ("2024-04-01T00:00:00+08:00", 0, 0, 0),
        ("2024-05-01T00:00:00+08:00", given["active_Wh"], imported, exported),
    ]
    bill = bench.rate(tariff, rows, header="at,import_wh,reactive_import_varh,reactive_export_varh")
    line = next(line for line in bill["lines"] if line["kind"] == "power_factor")
    assert (line["power_factor_x100"], line["share_ppm"]) == (expect["power_factor_x100"], expect["adjust_ppm"])


def presettle(given: Json, expect: Json, bench: Bench) -> None:
    rows = [
        ("2024-04-01T00:00:00+08:00", given["reading_at_last_issue_Wh"]),
        ("2024-04-09T00:00:00+08:00", given["frozen_reading_Wh"]),
    ]
    bill = bench.rate(tiers_document(TARIFFS[given["tariff"]]["tiers"]), rows)
    live_nano = given["money_balance_micro"] * 1000 - bill["charge_nano"]
    assert (bill["energy_wh"], bill["charge_nano"]) == (expect["energy_Wh"], expect["estimate_nano"])
    assert live_nano == expect["live_balance_nano"]
    assert live_nano // MINOR_NANO == expect["live_balance_minor_display"]


def settlement(given: Json, expect: Json, bench: Bench) -> None:
    rows = [
        ("2024-04-01T00:00:00+08:00", given["reading_at_last_issue_Wh"]),
        ("2024-05-01T00:00:00+08:00", given["reading_at_issue_Wh"]),
    ]
    bill = bench.rate(tiers_document(TARIFFS[given["tariff"]]["tiers"]), rows)
    assert bill["charge_nano"] == given["estimate_before_issue_nano"]
    assert bill["bill_minor"] == expect["issued_bill_minor"]
    after_micro = given["money_balance_micro"] - bill["bill_minor"] * MINOR_NANO // 1000
    assert after_micro == expect["money_balance_after_micro"]
    assert bill["cycle_energy_wh"] == expect["cycle_energy_before_next_Wh"]  # the last reading begins a month


def versions_document(first: Json, second: Json, effective: str) -> Json:
    later = {**second, "version": 2, "valid_from": effective[:10]}
    return {"format": 1, "versions": [first, later]}


def tariff_change(given: Json, expect: Json, bench: Bench) -> None:
    old = tiers_document(TARIFFS[given["old_tariff"]]["tiers"])
    both = versions_document(old, tiers_document(given["new_tiers"]), given["effective"])
    rows = [(reading["at"], reading["Wh"]) for reading in given["readings"]]
    bill = bench.rate(both, rows)
    check_charge(bill, expect)
    by_version = dict.fromkeys((1, 2), 0)
    for line in bill["lines"]:
        by_version[line["version"]] += line["amount_nano"]
    assert by_version == {1: expect["before_nano"], 2: expect["after_nano"]}
    assert bill["estimated"] is False


def tariff_change_interpolated(given: Json, expect: Json, bench: Bench) -> None:
    old, new = (
        document(prices={"table": {"all": [decimal(given[key])]}})
        for key in ("old_price_micro_per_kWh", "new_price_micro_per_kWh")
    )
    rows = [(reading["at"], reading["Wh"]) for reading in given["readings"]]
    bill = bench.rate(versions_document(old, new, given["effective"]), rows)
    energies = [line["energy_wh"] for line in bill["lines"]]
    assert energies == [expect["energy_before_Wh"], expect["energy_after_Wh"]]
    assert bill["charge_nano"] == expect["charge_nano"]
    assert bill["estimated"] is (expect["quality"] == "estimated")


def register_delta(given: Json, expect: Json, bench: Bench) -> None:
    before, after, modulus = given["previous_Wh"], given["current_Wh"], given["modulus_Wh"]
    moved = delta(before, after, given["max_plausible_step_Wh"], modulus)
    assert (moved.energy_wh, moved.kind.value) == (expect["delta_Wh"], expect["class"])
    tariff = document(prices={"table": {"all": ["1"]}})
    rows = [("2024-04-03T00:00:00+08:00", before), ("2024-04-03T10:00:00+08:00", after)]
    power_w = given["max_plausible_step_Wh"] // 10
    options = ("--register-modulus-wh", str(modulus), "--power-max-w", str(power_w))
    if expect["delta_Wh"] is None:
        assert "line 3, column import_wh" in bench.refused(tariff, rows, *options)
    else:
        assert bench.rate(tariff, rows, *options)["energy_wh"] == expect["delta_Wh"]


def register_float(given: Json, expect: Json, bench: Bench) -> None:
    as_floats = [struct.unpack(">f", struct.pack(">f", float(text)))[0] for text in given["true_kWh"]]
    assert as_floats == [float(text) for text in expect["as_float32_kWh"]]
    registers_wh = [int(value * 1000) for value in as_floats]
    steps = [delta(a, b, 16).energy_wh for a, b in pairwise(registers_wh)]
    assert steps == [0, 16]  # the differences are the register's steps, and charged from the base they add up
    assert sum(step or 0 for step in steps) == registers_wh[-1] - registers_wh[0]


def meter_exchange(given: Json, expect: Json, bench: Bench) -> None:
    old, new = given["old"], given["new"]
    rows = [
        ("2024-04-01T00:00:00+08:00", old["from_Wh"], "old"),
        ("2024-04-15T10:00:00+08:00", old["to_Wh"], "old"),
        ("2024-04-15T10:00:00+08:00", new["from_Wh"], "new"),
        ("2024-04-30T00:00:00+08:00", new["to_Wh"], "new"),
    ]
    bill = bench.rate(tiers_document(TARIFFS[given["tariff"]]["tiers"]), rows, header="at,import_wh,meter")
    check_charge(bill, expect)
    assert bill["energy_wh"] == expect["energy_Wh"]


LATE = {
    "residential": LateCharge("residential", 1000, 1000, 100),
    "other": LateCharge("other", 2000, 3000, 100),
}


def late_charge(given: Json, expect: Json, bench: Bench) -> None:
    if "days" in given:
        first = parse_date("2024-04-01")
        arrears = Arrears(given["arrears_nano"], first, first + given["days"] - 1)
    else:
        arrears = Arrears(given["arrears_nano"], parse_date(given["overdue_from"]), parse_date(given["paid_on"]))
    fee = late_fee(LATE[given["class"]], arrears, MINOR_NANO)
    assert fee.amount_nano == expect["fee_nano"]
    assert round_half_away(fee.amount_nano, MINOR_NANO) == expect["fee_minor"]
    per_mille = {"residential": ("1", "1"), "other": ("2", "3")}[given["class"]]
    made = document(
        prices={"table": {"all": ["1"]}},
        late_charge={
            "class": given["class"],
            "same_year_per_mille": per_mille[0],
            "later_year_per_mille": per_mille[1],
            "minimum": "1.00",
        },
    )
    paid = (arrears.overdue_from_day, arrears.paid_on_day)
    options = [f"--{name}={format_date(day)}" for name, day in zip(("overdue-from", "paid-on"), paid, strict=True)]
    bill = bench.rate(
        made, month(0), f"--arrears={arrears.amount_nano // 10**9}.{arrears.amount_nano % 10**9:09d}", *options
    )
    assert (bill["charge_nano"], bill["bill_minor"]) == (expect["fee_nano"], expect["fee_minor"])
    if "days_same_year" in expect:
        assert (fee.days_same_year, fee.days_later_years) == (expect["days_same_year"], expect["days_later_year"])


def unit_plus_daily(given: Json, expect: Json, bench: Bench) -> None:
    (segment,) = given["segments"]
    tariff = TARIFFS[segment["tariff"]]
    made = document(
        "GBP",
        prices={"table": {"all": [decimal(tariff["unit_micro_per_kWh"])]}},
        standing_charges=[{"name": "daily", "amount": decimal(tariff["daily_micro"]), "per": "day"}],
    )
    first = datetime.fromisoformat("2024-07-01T00:00:00+01:00")
    rows = [(first.isoformat(), 0), ((first + timedelta(days=segment["days"])).isoformat(), segment["energy_Wh"])]
    check_charge(bench.rate(made, rows), expect)


def band_by_history(given: Json, expect: Json, bench: Bench) -> None:
    bands = [
        {"name": "d1", "limit_kwh": "30", "limit_included": False},
        {"name": "d2", "limit_kwh": "100", "limit_included": True},
        {"name": "d3"},
    ]
    price = {"d1": "12.23", "d2": decimal(expect["price_micro_per_kWh"]), "d3": "19.02"}
    made = document(
        given["currency"],
        bands={"months": 3, "bands": bands},
        prices={"by_band": {name: {"table": {"all": [text]}} for name, text in price.items()}},
    )
    history = ",".join(str(kwh) for kwh in given["last_three_months_kWh"])
    bill = bench.rate(made, month(given["energy_Wh"]), "--history-kwh", history)
    check_charge(bill, expect)
    assert expect["band"].lower() == "d2"
    assert "--history-kwh" in bench.refused(made, month(given["energy_Wh"]))


def vend_units(given: Json, expect: Json, bench: Bench) -> None:
    tariff = TARIFFS[given["tariff"]]
    made = tiers_document(tariff["tiers"], tariff["currency"], cycle={"length": "vend"})
    position, register, charges, minors, last = 0, 0, [], [], ""
    for purchase in given["purchases"]:
        bought = f"{purchase['on']}T10:00:00+02:00"
        position = position if purchase["on"][:7] == last else 0
        rows = [(f"{purchase['on']}T09:00:00+02:00", register), (bought, register + purchase["energy_Wh"])]
        bill = bench.rate(made, rows, "--cycle-energy-wh", str(position))
        position, register, last = bill["cycle_energy_wh"], register + purchase["energy_Wh"], purchase["on"][:7]
        charges.append(bill["charge_nano"])
        minors.append(bill["bill_minor"])
    assert (charges, minors) == (expect["charge_nano"], expect["charge_minor"])
    register, rows = 0, [("2020-09-01T00:00:00+02:00", 0)]
    for purchase in given["purchases"]:
        register += purchase["energy_Wh"]
        rows.append((f"{purchase['on']}T00:00:00+02:00", register))
    assert bench.rate(made, rows)["charge_nano"] == sum(expect["charge_nano"])


def urdb(given: Json, expect: Json, bench: Bench) -> None:
    weekday = [[1 if 12 <= hour < 18 else 0 for hour in range(24)]] * 12
    rate = {
        **given["urdb"],
        "label": "example",
        "name": "example",
        "energyweekdayschedule": weekday,
        "energyweekendschedule": [[0] * 24] * 12,
    }
    made = import_urdb(rate).document
    made["valid_from"] = "2019-01-01"
    off, on = given["energy_by_period_Wh"]
    rows = [
        ("2024-01-01T00:00:00+00:00", 0, ""),
        ("2024-01-02T12:00:00+00:00", off, ""),
        ("2024-01-02T18:00:00+00:00", off + on, given["max_demand_W"]),
        ("2024-02-01T00:00:00+00:00", off + on, ""),
    ]
    # The month's first noon is of the other period too; the schedule of the first day is passed over at no energy.
    rows[1:1] = [("2024-01-01T12:00:00+00:00", off, ""), ("2024-01-01T18:00:00+00:00", off, "")]
    check_charge(bench.rate(made, rows, header="at,import_wh,max_demand_w"), expect)


def freeze(given: Json, expect: Json, bench: Bench) -> None:
    before, after = ((int(datetime.fromisoformat(s["at"]).timestamp()), s["Wh"]) for s in given["samples"])
    midnight = int(datetime.fromisoformat("2024-04-09T00:00:00+08:00").timestamp())
    frozen = freeze_register(before, after, midnight)
    assert frozen == (expect["frozen_Wh"], FreezeQuality(expect["quality"]))


def account_split(given: Json, expect: Json, bench: Bench) -> None:
    tiers = tiers_document(TARIFFS[given["tariff"]]["tiers"])
    bill = bench.rate(tiers, month(sum(given["rooms_Wh"])))
    check_charge(bill, expect)
    assert bill["energy_wh"] == expect["energy_Wh"]


CHECKS: dict[str, Callable[[Json, Json, Bench], None]] = {
    "tier_charge": tier_charge,
    "tier_charge_inline": tier_charge_inline,
    "daily_series": daily_series,
    "tou_tier_day": tou_tier_day,
    "tou_tier_order": tou_tier_order,
    "tou_add_month": tou_add_month,
    "tou_calendar": tou_calendar,
    "tou_day_constant_load": tou_day_constant_load,
    "tou_lookup": tou_lookup,
    "capacity_charge": capacity_charge,
    "demand_charge": demand_charge_over_contract,
    "max_demand": max_demand_of_minutes,
    "pf_table": pf_table,
    "pf_charge": pf_charge,
    "pf_sum_abs": pf_sum_abs,
    "presettle": presettle,
    "settlement": settlement,
    "tariff_change": tariff_change,
    "tariff_change_interpolated": tariff_change_interpolated,
    "register_delta": register_delta,
    "register_float": register_float,
    "meter_exchange": meter_exchange,
    "late_fee": late_charge,
    "late_fee_years": late_charge,
    "unit_plus_daily": unit_plus_daily,
    "band_by_history": band_by_history,
    "vend_units": vend_units,
    "urdb": urdb,
    "freeze": freeze,
    "account_split": account_split,
}
OURS = [case for case in EXAMPLES["cases"] if case["kind"] not in NOT_BILLING]


@pytest.mark.parametrize("case", OURS, ids=lambda case: case["id"])
def test_worked_example_holds(case: Json, bench: Bench) -> None:
    check_example = CHECKS[case["kind"]]
    check_example(case["input"], case["expect"], bench)


def test_every_example_is_checked_here_or_named_as_of_another_part() -> None:
    kinds = {case["kind"] for case in EXAMPLES["cases"]}
    assert kinds == set(CHECKS) | set(NOT_BILLING)
    assert not set(CHECKS) & set(NOT_BILLING)
