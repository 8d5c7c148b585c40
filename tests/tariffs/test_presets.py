"""The presets: each is accepted, each figure has a source, and the worked examples come out to the nano."""

import json
from datetime import datetime
from typing import Any

import pytest

from edge.core.calendar import MINUTES_PER_DAY, CompiledCalendar, parse_date
from edge.core.rating import CompiledTariff, Interval, Position, reference_rate
from edge.core.tariff import Tariff, compile_tariff
from edge.core.terms import (
    ChargePart,
    ChargeSpan,
    ContractStep,
    DemandKind,
    LateCharge,
    OverContract,
    StandingCharge,
)
from edge.tariffs.presets import PresetUnknown, load_preset, preset_names, preset_text
from edge.zone import zone_offsets

NAMES = [
    "cn-heilongjiang",
    "cn-henan",
    "cn-henan-tou",
    "cn-shandong",
    "cn-shandong-tou",
    "cn-tianjin",
    "cn-two-part",
    "cn-zhejiang",
    "cn-zhejiang-ci",
    "cn-zhejiang-tou",
    "demo-street",
    "gb-cap-2024q2",
    "gb-cap-2024q3",
    "ke-domestic-2025",
    "za-homelight-20a-2021",
    "za-homelight-20a-2425",
]
SOURCES = ("official: ", "secondary: ", "recalled: ", "constructed: ", "recalled", "constructed")
# Parts of a document that hold no figure of a utility.
WITHOUT_SOURCE = ("/format", "/id", "/version", "/title", "/currency", "/minor_digits", "/time_zone", "/provenance")
NEVER_QUESTIONED = ("/cycle/length", "/cycle/start_day", "/cycle/start_month", "/blocks/scope")


def preset(name: str) -> Tariff:
    (tariff,) = load_preset(name)
    return tariff


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def compiled(tariff: Tariff, first: str, end: str) -> CompiledTariff:
    zone = zone_offsets(tariff.time_zone, seconds(first), seconds(end))
    return compile_tariff([tariff], zone, seconds(first), seconds(end))


def charge(tariff: Tariff, before_wh: int, energy_wh: int, at: str = "2024-04-01T00:00+08:00") -> int:
    """What energy costs in the hour before noon of a day, from a block position on."""
    table = compiled(tariff, at, at.replace("T00:00", "T23:00"))
    noon = seconds(at.replace("T00:00", "T12:00"))
    rate = reference_rate([table])
    (rated,) = rate([Position(0, (before_wh,), None)], [Interval(0, noon - 3600, noon, energy_wh)])
    return rated.amount_nano


def test_the_presets_are_those_of_the_list() -> None:
    assert preset_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_preset_is_accepted_under_its_name_and_rates_past_and_present_years(name: str) -> None:
    tariff = preset(name)
    assert tariff.tariff_id == name
    assert tariff.first_day <= parse_date("2020-01-01")
    assert tariff.last_day is None
    assert compiled(tariff, "2020-09-01T00:00+08:00", "2020-09-03T00:00+08:00").periods == tariff.periods


def leaves(value: Any, pointer: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{pointer}/{key}")]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, f"{pointer}/{index}")]
    return [pointer]


def sources(document: dict[str, Any], pointer: str) -> list[str]:
    """The sentences on a place and on those above it."""
    steps = pointer.split("/")
    above = ["/".join(steps[:count]) for count in range(2, len(steps) + 1)]
    return [document["provenance"][place] for place in above if place in document["provenance"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_a_preset_has_a_source(name: str) -> None:
    document = json.loads(preset_text(name))
    figures = [leaf for leaf in leaves(document) if not leaf.startswith(WITHOUT_SOURCE)]
    assert [leaf for leaf in figures if not sources(document, leaf) and leaf not in NEVER_QUESTIONED] == []
    assert [text for text in document["provenance"].values() if not text.startswith(SOURCES)] == []


def test_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(PresetUnknown, match="there are cn-heilongjiang, cn-henan"):
        preset_text("../presets")


# --- worked examples -------------------------------------------------------------------------

CHARGES = [
    ("cn-heilongjiang", 0, 300_000, 169_500_000_000),
    ("cn-heilongjiang", 0, 170_000, 86_700_000_000),
    ("cn-heilongjiang", 160_000, 120_000, 71_700_000_000),
    ("cn-henan", 0, 250_000, 143_500_000_000),
    ("cn-shandong", 2_500_000, 100_000, 58_690_000_000),
    ("cn-zhejiang", 2_700_000, 2_200_000, 1_315_600_000_000),
    ("cn-tianjin", 0, 500_000, 220 * 490_000_000 + 180 * 540_000_000 + 100 * 790_000_000),
    ("gb-cap-2024q3", 0, 240_000, 53_664_000_000),
    ("gb-cap-2024q2", 0, 1_000, 245_000_000),
    ("za-homelight-20a-2425", 0, 351_000, 350 * 1_902_800_000 + 2_156_200_000),
]


@pytest.mark.parametrize(("name", "before_wh", "energy_wh", "charge_nano"), CHARGES)
def test_energy_costs_what_the_worked_example_says(name: str, before_wh: int, energy_wh: int, charge_nano: int) -> None:
    assert charge(preset(name), before_wh, energy_wh) == charge_nano


def test_zhejiang_crosses_a_yearly_limit_in_the_middle_of_a_day() -> None:
    table = compiled(preset("cn-zhejiang-tou"), "2024-05-10T00:00+08:00", "2024-05-11T00:00+08:00")
    times = ["2024-05-10T00:00+08:00", "2024-05-10T08:00+08:00", "2024-05-10T22:00+08:00", "2024-05-11T00:00+08:00"]
    energies = [3_000, 6_000, 1_000]
    intervals = [
        Interval(0, seconds(first), seconds(end), wh)
        for first, end, wh in zip(times, times[1:], energies, strict=False)
    ]
    rated = reference_rate([table])([Position(0, (2_755_000,), None)], intervals)
    assert sum(interval.amount_nano for interval in rated) == 4_810_000_000
    assert rated[-1].cycle_energy_wh == (2_765_000,)


def test_shandong_changes_its_windows_and_valley_price_on_1_november() -> None:
    table = compiled(preset("cn-shandong-tou"), "2024-10-31T00:00+08:00", "2024-11-02T00:00+08:00")
    hours = ["2024-10-31T21:00+08:00", "2024-11-01T12:00+08:00", "2024-11-01T21:00+08:00"]
    intervals = [Interval(0, seconds(hour), seconds(hour) + 3600, 1_000) for hour in hours]
    rated = reference_rate([table])([table.fresh_position(0)], intervals)
    assert [interval.amount_nano for interval in rated] == [576_900_000, 576_900_000, 346_900_000]


def period_at(table: CompiledTariff, text: str) -> str:
    calendar: CompiledCalendar = table.calendar
    return table.periods[calendar.periods[calendar.index_at(seconds(text))]].name


def test_zhejiang_industry_has_half_open_periods_by_season() -> None:
    table = compiled(preset("cn-zhejiang-ci"), "2024-07-01T00:00+08:00", "2024-09-02T00:00+08:00")
    clock = ["06:59:59", "07:00:00", "07:59:59", "08:00:00", "08:59:59", "09:00:00"]
    clock += ["10:59:59", "11:00:00", "22:59:59", "23:00:00", "00:00:00"]
    names = ["valley", "flat", "flat", "peak", "peak", "sharp", "sharp", "flat", "flat", "valley", "valley"]
    assert [period_at(table, f"2024-07-15T{time}+08:00") for time in clock] == names
    assert period_at(table, "2024-09-01T09:00:00+08:00") == "peak"


def test_zhejiang_industry_pays_for_a_constant_load_on_a_summer_day() -> None:
    table = compiled(preset("cn-zhejiang-ci"), "2024-07-15T00:00+08:00", "2024-07-16T00:00+08:00")
    day = seconds("2024-07-15T00:00+08:00")
    intervals = [Interval(0, day + 3600 * hour, day + 3600 * hour + 3600, 100_000) for hour in range(24)]
    rated = reference_rate([table])([table.fresh_position(0)], intervals)
    assert sum(interval.amount_nano for interval in rated) == 1_934_000_000_000


def test_henan_pays_adders_on_top_of_blocks() -> None:
    table = compiled(preset("cn-henan-tou"), "2024-04-01T00:00+08:00", "2024-04-02T00:00+08:00")
    noon = seconds("2024-04-01T12:00+08:00")
    intervals = [Interval(0, noon, noon + 60, 120_000), Interval(0, noon + 11 * 3600, noon + 11 * 3600 + 60, 80_000)]
    rated = reference_rate([table])([table.fresh_position(0)], intervals)
    assert sum(interval.amount_nano for interval in rated) == 107_000_000_000


def test_south_africa_counts_purchases_in_the_calendar_month() -> None:
    tariff = preset("za-homelight-20a-2021")
    assert tariff.counts_purchases
    table = compiled(tariff, "2020-09-01T00:00+02:00", "2020-11-01T00:00+02:00")
    purchases = [("2020-09-03", 300_000), ("2020-09-25", 100_000), ("2020-10-01", 100_000)]
    moments = [(seconds(f"{day}T12:00+02:00"), wh) for day, wh in purchases]
    rated = reference_rate([table])([table.fresh_position(0)], [Interval(0, at, at, wh) for at, wh in moments])
    assert [interval.amount_nano for interval in rated] == [419_760_000_000, 149_230_000_000, 139_920_000_000]


def test_account_opened_in_may_has_eight_months_of_limits() -> None:
    tariff = preset("cn-zhejiang").for_customer(months_in_service=8)
    assert charge(tariff, 0, 3_300_000) == 1_873_400_000_000


def test_large_family_has_higher_limits_for_the_months_it_is_there() -> None:
    whole = preset("cn-zhejiang-tou").for_customer(raises=["large_family"])
    half = preset("cn-zhejiang-tou").for_customer(6, ["large_family"])
    assert {period.limits_wh for period in whole.periods} == {(3_960_000, 6_000_000)}
    assert {period.limits_wh for period in half.periods} == {(1_980_000, 3_000_000)}


@pytest.mark.parametrize(
    ("months_kwh", "band", "price_micro"),
    [
        ([25, 35, 40], "D2", 16_450_000),
        ([29, 30, 30], "D1", 12_230_000),
        ([30, 30, 30], "D2", 16_450_000),
        ([100, 100, 100], "D2", 16_450_000),
        ([100, 100, 101], "D3", 19_020_000),
        ([900, 10, 10, 10], "D1", 12_230_000),
        ([500], "D3", 19_020_000),
        ([], "D2", 16_450_000),
    ],
)
def test_kenya_chooses_the_band_by_the_mean_of_three_months(months_kwh: list[int], band: str, price_micro: int) -> None:
    tariff = preset("ke-domestic-2025")
    assert tariff.bands is not None
    index = tariff.bands.band_of([kwh * 1000 for kwh in months_kwh])
    assert tariff.bands.names[index] == band
    assert charge(tariff.in_band(index), 0, 40_000) == 40_000 * price_micro


def test_great_britain_has_a_daily_standing_charge() -> None:
    amounts = {name: preset(name).terms.standing_charges for name in ("gb-cap-2024q2", "gb-cap-2024q3")}
    assert amounts == {
        "gb-cap-2024q2": (StandingCharge("standing", 601_000_000, ChargeSpan.DAY),),
        "gb-cap-2024q3": (StandingCharge("standing", 601_200_000, ChargeSpan.DAY),),
    }


def test_two_part_price_has_contract_demand_and_power_factor() -> None:
    terms = preset("cn-two-part").terms
    (demand,) = terms.demands
    assert (demand.kind, demand.prices_micro_per_kw_month) == (DemandKind.CONTRACT, (38_000_000,))
    assert demand.over_contract == OverContract(10_500, 2)
    assert (demand.window_min, demand.slip_min, demand.day_divisor) == (15, 1, 30)
    assert demand.contract == (ContractStep(parse_date("2020-01-01"), 500_000),)
    assert terms.power_factor is not None
    assert (terms.power_factor.standard_x100, terms.power_factor.base) == (90, (ChargePart.ENERGY, ChargePart.BASIC))


def test_late_charges_are_one_per_mille_for_households_and_two_then_three_for_others() -> None:
    assert preset("cn-henan").terms.late_charge == LateCharge("residential", 1000, 1000, 100)
    assert preset("cn-zhejiang-ci").terms.late_charge == LateCharge("other", 2000, 3000, 100)


@pytest.mark.parametrize("name", NAMES)
def test_every_minute_of_a_leap_and_a_normal_year_has_one_period(name: str) -> None:
    schedule, periods = preset(name).schedule, range(len(preset(name).periods))
    for day in range(parse_date("2024-01-01"), parse_date("2026-01-01")):
        plan = schedule.plan_of(day)
        minutes = [minute for minute, _ in plan]
        assert minutes[0] == 0
        assert minutes == sorted(set(minutes))
        assert minutes[-1] < MINUTES_PER_DAY
        assert all(period in periods for _, period in plan)
