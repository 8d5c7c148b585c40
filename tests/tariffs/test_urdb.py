"""A URDB rate becomes the document it means, says what it changed, and refuses what would be billed wrongly."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.tariff import load_tariff
from edge.core.terms import ChargeSpan, Demand, Terms
from edge.tariffs.urdb import UrdbImport, UrdbRefused, import_urdb

ALL_DAY = [[0] * 24 for _ in range(12)]
AFTERNOONS = [[0] * 12 + [1] * 6 + [0] * 6 for _ in range(12)]
SUMMER = [[1 if month in (5, 6, 7, 8) else 0] * 24 for month in range(12)]
NAN, INFINITY = float("nan"), float("inf")


def rate(**changes: Any) -> dict[str, Any]:
    """One price, always; a change to None takes a key away."""
    plain: dict[str, Any] = {
        "label": "539f6b25ec4f024411ec98c9",
        "utility": "Example Light & Power",
        "name": "Residential",
        "startdate": 1388534400,
        "energyratestructure": [[{"rate": 0.1, "unit": "kWh"}]],
        "energyweekdayschedule": ALL_DAY,
        "energyweekendschedule": ALL_DAY,
        **changes,
    }
    return {key: value for key, value in plain.items() if value is not None}


# The worked example `urdb-shape`, its schedules written out.
SHAPE = {
    "energyratestructure": [
        [{"max": 300, "unit": "kWh", "rate": 0.1, "adj": 0.01}, {"rate": 0.15, "adj": 0.01}],
        [{"max": 300, "unit": "kWh", "rate": 0.2, "adj": 0.01}, {"rate": 0.25, "adj": 0.01}],
    ],
    "energyweekdayschedule": AFTERNOONS,
    "energyweekendschedule": ALL_DAY,
    "flatdemandstructure": [[{"rate": 8.0}]],
    "flatdemandmonths": [0] * 12,
    "fixedchargefirstmeter": 12.0,
    "fixedchargeunits": "$/month",
}


def terms_of(**changes: Any) -> Terms:
    return load_tariff(import_urdb(rate(**changes)).document).terms


def demand_of(**changes: Any) -> Demand:
    (demand,) = terms_of(**changes).demands
    return demand


def refusal(document: Any, **options: Any) -> UrdbRefused:
    with pytest.raises(UrdbRefused) as refused:
        import_urdb(document, **options)
    assert refused.value.pointer in str(refused.value)
    return refused.value


# --- what a rate becomes ---------------------------------------------------------------------


def test_worked_example_has_its_tiers_in_each_period_and_costs_what_it_says() -> None:
    document = import_urdb(SHAPE, "America/New_York").document
    tariff = load_tariff(document)
    assert document["time_zone"] == "America/New_York"
    assert document["blocks"] == {"scope": "period", "limits_kwh": {"energy_0": ["300"], "energy_1": ["300"]}}
    assert document["prices"] == {"table": {"energy_0": ["0.11", "0.16"], "energy_1": ["0.21", "0.26"]}}
    energy = 300 * Decimal("0.11") + 100 * Decimal("0.16") + 100 * Decimal("0.21")
    (demand,), (standing,) = tariff.terms.demands, tariff.terms.standing_charges
    power_nano = 5000 * demand.prices_micro_per_kw_month[0]
    assert energy * 10**9 + power_nano + standing.amount_nano == 122 * 10**9


def test_identity_and_source_of_the_rate_are_kept() -> None:
    document = import_urdb(rate(uri="https://apps.openei.org/USURDB/rate/view/1", enddate=1420070399)).document
    assert document["id"] == "urdb-539f6b25ec4f024411ec98c9"
    assert document["title"] == "Example Light & Power: Residential"
    assert (document["valid_from"], document["valid_to"]) == ("2014-01-01", "2014-12-31")
    assert "539f6b25ec4f024411ec98c9" in document["provenance"]["/prices"]


def test_one_rate_in_the_answer_of_the_api_is_the_rate() -> None:
    assert import_urdb({"items": [rate()]}) == import_urdb(rate())


def test_case_of_keys_does_not_matter() -> None:
    lower = import_urdb(rate(**demand_charge(), lookbackpercent=0.5, lookbackrange=3))
    camel = import_urdb(rate(**demand_charge(), lookbackPercent=0.5, lookbackRange=3))
    assert lower.document == camel.document


def test_months_with_the_same_days_are_one_season() -> None:
    two = [[{"rate": 0.1}], [{"rate": 0.2}]]
    document = import_urdb(
        rate(energyratestructure=two, energyweekdayschedule=SUMMER, energyweekendschedule=SUMMER)
    ).document
    assert document["seasons"] == [
        {"name": "season_0", "dates": [["01-01", "05-31"], ["10-01", "12-31"]]},
        {"name": "season_1", "dates": [["06-01", "09-30"]]},
    ]
    assert "day_types" not in document
    assert document["periods"][1]["windows"] == [{"from": "00:00", "to": "24:00", "seasons": ["season_1"]}]


def test_weekend_is_saturday_and_sunday() -> None:
    two = [[{"rate": 0.1}], [{"rate": 0.2}]]
    document = import_urdb(rate(energyratestructure=two, energyweekdayschedule=AFTERNOONS)).document
    assert [(kind["name"], kind["weekdays"]) for kind in document["day_types"]] == [
        ("weekday", ["mon", "tue", "wed", "thu", "fri"]),
        ("weekend", ["sat", "sun"]),
    ]
    assert document["periods"][1]["windows"] == [{"from": "12:00", "to": "18:00", "day_types": ["weekday"]}]


schedules = st.lists(st.lists(st.integers(0, 3), min_size=24, max_size=24), min_size=12, max_size=12)


@given(weekday=schedules, weekend=schedules, demand=schedules)
def test_every_hour_has_the_period_that_the_schedules_say(
    weekday: list[list[int]], weekend: list[list[int]], demand: list[list[int]]
) -> None:
    document = import_urdb(
        rate(
            energyratestructure=[[{"rate": index + 1}] for index in range(4)],
            energyweekdayschedule=weekday,
            energyweekendschedule=weekend,
            demandratestructure=[[{"rate": index + 1}] for index in range(4)],
            demandweekdayschedule=demand,
            demandweekendschedule=demand,
        )
    ).document
    tariff = load_tariff(document)
    names = [period.name for period in tariff.periods]
    day_types = [kind["name"] for kind in document.get("day_types", [{"name": "weekday"}])]
    for month in range(12):
        season = tariff.schedule.season_of_date[month * 30 + 10]  # the 10th to the 15th, in a leap year
        for day_type, energy in (("weekday", weekday), ("weekend", weekend)):
            plan = tariff.schedule.plans[season][day_types.index(day_type) if len(day_types) > 1 else 0]
            for hour in range(24):
                period = max(pair for pair in plan if pair[0] <= hour * 60)[1]
                assert names[period] == f"energy_{energy[month][hour]}_demand_{demand[month][hour]}"


# --- charges around the energy ---------------------------------------------------------------


def demand_charge(**changes: Any) -> dict[str, Any]:
    return {"flatdemandstructure": [[{"rate": 8, "adj": 0.5}]], "flatdemandmonths": [0] * 12, **changes}


@pytest.mark.parametrize(
    ("fields", "amount_nano", "span"),
    [
        ({"fixedchargefirstmeter": 12.35, "fixedchargeunits": "$/month"}, 12_350_000_000, ChargeSpan.MONTH),
        ({"fixedchargefirstmeter": 0.4, "fixedchargeunits": "$/day"}, 400_000_000, ChargeSpan.DAY),
        ({"fixedchargefirstmeter": 100, "fixedchargeunits": "$/year"}, 8_333_333_000, ChargeSpan.MONTH),
        ({"fixedmonthlycharge": 7}, 7_000_000_000, ChargeSpan.MONTH),
        ({"fixedchargefirstmeter": 7}, 7_000_000_000, ChargeSpan.MONTH),
    ],
)
def test_fixed_charge_becomes_a_standing_charge(fields: dict[str, Any], amount_nano: int, span: ChargeSpan) -> None:
    (charge,) = terms_of(**fields).standing_charges
    assert (charge.amount_nano, charge.per) == (amount_nano, span)


@pytest.mark.parametrize(
    ("fields", "amount_nano", "span"),
    [
        ({"mincharge": 25, "minchargeunits": "$/month"}, 25_000_000_000, ChargeSpan.MONTH),
        ({"mincharge": 0.75, "minchargeunits": "$/day", "annualmincharge": 0}, 750_000_000, ChargeSpan.DAY),
        ({"minmonthlycharge": 10.5, "mincharge": 0}, 10_500_000_000, ChargeSpan.MONTH),
    ],
)
def test_minimum_charge_becomes_a_minimum_bill(fields: dict[str, Any], amount_nano: int, span: ChargeSpan) -> None:
    minimum = terms_of(**fields).minimum_bill
    assert minimum is not None
    assert (minimum.amount_nano, minimum.per) == (amount_nano, span)


def test_charges_of_zero_are_no_charges() -> None:
    terms = terms_of(
        fixedchargefirstmeter=0,
        fixedchargeunits="$/month",
        mincharge=0,
        annualmincharge=0,
        flatdemandstructure=[[{"rate": 0}]],
        flatdemandmonths=[0] * 12,
        demandratestructure=[[{"rate": 0}]],
        demandratchetpercentage=[0] * 12,
        lookbackRange=0,
    )
    assert terms == Terms()


def test_flat_demand_is_due_in_its_months_and_by_tier() -> None:
    tiers = [[{"max": 20, "rate": 5}, {"rate": 7.25}], [{"rate": 9}]]
    months = [1 if month in (5, 6, 7, 8) else 0 for month in range(12)]
    winter, summer = terms_of(flatdemandstructure=tiers, flatdemandmonths=months, demandwindow=30).demands
    assert (winter.limits_w, winter.prices_micro_per_kw_month) == ((20_000,), (5_000_000, 7_250_000))
    assert winter.months == (1, 2, 3, 4, 5, 10, 11, 12)
    assert (summer.months, summer.window_min, summer.slip_min) == ((6, 7, 8, 9), 30, 30)


def test_time_of_use_demand_is_measured_in_its_own_periods() -> None:
    fields = {
        "energyratestructure": [[{"rate": 0.1}], [{"rate": 0.2}]],
        "energyweekdayschedule": SUMMER,
        "energyweekendschedule": SUMMER,
        "demandratestructure": [[{"rate": 0}], [{"rate": 6}]],
        "demandweekdayschedule": AFTERNOONS,
        "demandweekendschedule": ALL_DAY,
    }
    demand = demand_of(**fields)
    assert demand.name == "time_of_use_demand_1"
    assert demand.periods == ("energy_0_demand_1", "energy_1_demand_1")


def test_tiers_of_an_energy_period_that_demand_cuts_are_refused_unless_all_periods_share_them() -> None:
    fields = {
        "energyratestructure": [[{"max": 300, "rate": 0.1}, {"rate": 0.2}]],
        "demandratestructure": [[{"rate": 0}], [{"rate": 6}]],
        "demandweekdayschedule": AFTERNOONS,
        "demandweekendschedule": ALL_DAY,
    }
    assert refusal(rate(**fields)).pointer == "/demandweekdayschedule"
    document = import_urdb(rate(**fields), block_scope="cycle").document
    assert document["blocks"] == {"scope": "cycle", "limits_kwh": ["300"]}


@pytest.mark.parametrize(
    ("fields", "share", "months", "of_months"),
    [
        ({"demandratchetpercentage": [0.8] * 12}, 8000, 11, tuple(range(1, 13))),
        ({"demandratchetpercentage": [0] * 5 + [75.5] * 4 + [0] * 3}, 7550, 11, (6, 7, 8, 9)),
        ({"lookbackPercent": 0.5, "lookbackRange": 3}, 5000, 3, tuple(range(1, 13))),
        ({"lookbackPercent": 1, "lookbackMonths": [0] * 6 + [1, 1] + [0] * 4, "lookbackRange": 0}, 10000, 11, (7, 8)),
    ],
)
def test_ratchet_holds_a_share_of_the_demand_before(
    fields: dict[str, Any], share: int, months: int, of_months: tuple[int, ...]
) -> None:
    ratchet = demand_of(**demand_charge(**fields)).ratchet
    assert ratchet is not None
    assert (ratchet.share_hundredths, ratchet.months, ratchet.of_months) == (share, months, of_months)


# --- what is changed is said -----------------------------------------------------------------


def changed(**changes: Any) -> UrdbImport:
    return import_urdb(rate(**changes))


def test_rate_that_is_taken_over_whole_has_no_changes() -> None:
    assert (
        changed(energyratestructure=[[{"max": 300.5, "rate": 0.123456, "adj": -0.000001}, {"rate": 0.2}]]).changes == []
    )


@pytest.mark.parametrize(
    ("tier", "price"),
    [
        ({"rate": 0.1234565}, "0.123456"),
        ({"rate": 0.1234575}, "0.123458"),
        ({"rate": 0.12345650001}, "0.123457"),
        ({"rate": 0.10000049, "adj": 0.00000002}, "0.100001"),
        ({"rate": 1e-7}, "0"),
        ({"rate": Decimal("0.30000000000000000004")}, "0.3"),
    ],
)
def test_price_finer_than_micro_is_rounded_half_to_even_and_listed(tier: dict[str, Any], price: str) -> None:
    result = changed(energyratestructure=[[tier]])
    assert result.document["prices"]["table"]["energy_0"] == [price]
    (change,) = result.changes
    assert change.startswith("/energyratestructure/0/0: ")
    assert f"rounded to {price} " in change


def test_sum_of_rate_and_adjustment_is_exact_where_floats_are_not() -> None:
    result = changed(energyratestructure=[[{"rate": 0.1, "adj": 0.2}]])
    assert (result.document["prices"]["table"]["energy_0"], result.changes) == (["0.3"], [])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"energyratestructure": [[{"max": 100.00049, "rate": 1}, {"rate": 2}]]}, "/energyratestructure/0/0/max"),
        ({"energyratestructure": [[{"max": 500, "rate": 1}]]}, "/energyratestructure/0/0/max"),
        ({"energyratestructure": [[{"rate": 1}], [{"rate": 2}]]}, "/energyratestructure/1"),
        ({"startdate": None}, "/startdate"),
        ({"fixedchargefirstmeter": 100, "fixedchargeunits": "$/year"}, "/fixedchargefirstmeter"),
        ({"fixedchargefirstmeter": 100}, "/fixedchargeunits"),
        ({"flatdemandstructure": [[{"rate": 8}]]}, "/demandwindow"),
        (
            {"flatdemandstructure": [[{"rate": 8}], [{"rate": 1}]], "flatdemandmonths": [0] * 12},
            "/flatdemandstructure/1",
        ),
        ({"dgrules": "Net Metering"}, "/dgrules"),
        ({"usenetmetering": True}, "/usenetmetering"),
        ({"fixedchargeeaaddl": 3}, "/fixedchargeeaaddl"),
        ({"energyattrs": [{"Cost": "$0.01/kWh"}]}, "/energyattrs"),
    ],
)
def test_what_the_document_says_otherwise_is_listed_with_its_pointer(fields: dict[str, Any], pointer: str) -> None:
    assert [change for change in changed(**fields).changes if change.startswith(f"{pointer}: ")]


def test_information_for_people_changes_nothing() -> None:
    information = {"description": "x", "sector": "Residential", "approved": True, "voltagecategory": "Secondary"}
    assert changed(**information) == changed()


# --- what is refused -------------------------------------------------------------------------

TIER = "/energyratestructure/0/0"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"energyratestructure": None}, "/energyratestructure"),
    ({"energyratestructure": []}, "/energyratestructure"),
    ({"energyratestructure": {}}, "/energyratestructure"),
    ({"energyratestructure": [[]]}, "/energyratestructure/0"),
    ({"energyratestructure": [[{"rate": 0.1}]] * 65}, "/energyratestructure"),
    ({"energyratestructure": [[{"rate": 0.1}] * 65]}, "/energyratestructure/0"),
    ({"energyratestructure": [["0.1"]]}, TIER),
    ({"energyratestructure": [[{"unit": "kWh"}]]}, TIER),
    ({"energyratestructure": [[{"rate": 0.1, "sell": 0.05}]]}, f"{TIER}/sell"),
    ({"energyratestructure": [[{"rate": 0.1, "unit": "kWh/kW"}]]}, f"{TIER}/unit"),
    ({"energyratestructure": [[{"rate": 0.1, "unit": "kWh daily"}]]}, f"{TIER}/unit"),
    ({"energyratestructure": [[{"rate": 0.1, "unit": "kWh/kW daily"}]]}, f"{TIER}/unit"),
    ({"energyratestructure": [[{"rate": 0.1, "unit": 3}]]}, f"{TIER}/unit"),
    ({"energyratestructure": [[{"rate": 0.1, "cost/x": 3}]]}, f"{TIER}/cost~1x"),
    ({"energyratestructure": [[{"rate": -0.1}]]}, TIER),
    ({"energyratestructure": [[{"rate": 0.1, "adj": -0.2}]]}, TIER),
    ({"energyratestructure": [[{"rate": 9001}]]}, TIER),
    ({"energyratestructure": [[{"rate": "0.1"}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": True}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": False}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": 0.1, "adj": ""}]]}, f"{TIER}/adj"),
    ({"energyratestructure": [[{"rate": NAN}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": INFINITY}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": 1e300}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": 1e-300}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": 10**5000}]]}, f"{TIER}/rate"),
    ({"energyratestructure": [[{"rate": 0.1}, {"rate": 0.2}]]}, TIER),
    ({"energyratestructure": [[{"rate": 0.1, "max": 0}, {"rate": 0.2}]]}, f"{TIER}/max"),
    ({"energyratestructure": [[{"rate": 0.1, "max": 1e6}, {"rate": 0.2}]]}, f"{TIER}/max"),
    (
        {"energyratestructure": [[{"rate": 1, "max": 9}, {"rate": 1, "max": 9}, {"rate": 2}]]},
        "/energyratestructure/0/1/max",
    ),
    ({"energyweekdayschedule": None}, "/energyweekdayschedule"),
    ({"energyweekdayschedule": ALL_DAY[:11]}, "/energyweekdayschedule"),
    ({"energyweekendschedule": [*ALL_DAY[:11], [0] * 23]}, "/energyweekendschedule/11"),
    ({"energyweekendschedule": [*ALL_DAY[:11], [*[0] * 23, 1]]}, "/energyweekendschedule/11/23"),
    ({"energyweekendschedule": [*ALL_DAY[:11], [*[0] * 23, -1]]}, "/energyweekendschedule/11/23"),
    ({"energyweekendschedule": [*ALL_DAY[:11], [*[0] * 23, False]]}, "/energyweekendschedule/11/23"),
    ({"flatdemandstructure": [[{"rate": 8}]], "flatdemandmonths": [0] * 11}, "/flatdemandmonths"),
    ({"flatdemandstructure": [[{"rate": 8}]], "flatdemandmonths": [1] * 12}, "/flatdemandmonths/0"),
    ({"flatdemandmonths": [1] * 12}, "/flatdemandmonths"),
    ({"flatdemandstructure": [[{"rate": 8}]], "flatdemandunit": "hp"}, "/flatdemandunit"),
    ({"flatdemandstructure": [[{"rate": 8}]], "flatdemandunit": "kVA"}, "/flatdemandunit"),
    ({"flatdemandstructure": [[{"rate": 8}]], "demandwindow": 7}, "/demandwindow"),
    ({"flatdemandstructure": [[{"rate": 8, "sell": 1}]]}, "/flatdemandstructure/0/0/sell"),
    ({"demandratestructure": [[{"rate": 8}]], "demandrateunit": "kW daily"}, "/demandrateunit"),
    ({"demandratestructure": [[{"rate": 8}], [{"rate": 9}]]}, "/demandweekdayschedule"),
    ({"demandweekdayschedule": AFTERNOONS}, "/demandweekdayschedule"),
    (demand_charge(demandratchetpercentage=[0.5, 0.6] * 6), "/demandratchetpercentage"),
    (demand_charge(demandratchetpercentage=[0.5] * 12, lookbackPercent=0.5), "/demandratchetpercentage"),
    (demand_charge(demandratchetpercentage=[0.5]), "/demandratchetpercentage"),
    (demand_charge(lookbackPercent=101), "/lookbackPercent"),
    (demand_charge(lookbackPercent=0.5, lookbackRange=13), "/lookbackRange"),
    (demand_charge(lookbackPercent=0.5, lookbackMonths=[2] * 12), "/lookbackMonths/0"),
    (demand_charge(lookbackRange=3), "/lookbackRange"),
    (
        demand_charge(demandratestructure=[[{"rate": 8}]], demandratchetpercentage=[0.5] * 12),
        "/demandratchetpercentage",
    ),
    ({"fixedchargefirstmeter": 3, "fixedchargeunits": "$/kWh"}, "/fixedchargeunits"),
    ({"fixedchargefirstmeter": -3}, "/fixedchargefirstmeter"),
    ({"fixedchargefirstmeter": 3, "fixedmonthlycharge": 3}, "/fixedmonthlycharge"),
    ({"annualmincharge": 100}, "/annualmincharge"),
    ({"mincharge": 100, "minchargeunits": "$/year"}, "/mincharge"),
    ({"mincharge": 10, "minmonthlycharge": 10}, "/minmonthlycharge"),
    ({"fueladjustmentsmonthly": [0.01] * 12}, "/fueladjustmentsmonthly"),
    ({"coincidentratestructure": [[{"rate": 2}]]}, "/coincidentratestructure"),
    ({"demandreactivepowercharge": 0.3}, "/demandreactivepowercharge"),
    ({"startdate": "2014"}, "/startdate"),
    ({"startdate": -1}, "/startdate"),
    ({"enddate": 1}, "/enddate"),
    ({"country": "DEU"}, "/country"),
    ({"name": 3}, "/name"),
    ({"Name": "again"}, "/Name"),
    ({"surprise": 1}, "/surprise"),
]


@pytest.mark.parametrize(
    ("fields", "pointer"), REFUSED, ids=[f"{n}{pointer}" for n, (_, pointer) in enumerate(REFUSED)]
)
def test_rate_that_would_be_billed_wrongly_is_refused_with_its_pointer(fields: dict[str, Any], pointer: str) -> None:
    refused = refusal(rate(**fields))
    assert refused.pointer == pointer
    assert len(str(refused)) < 400


@pytest.mark.parametrize("document", [[], None, 3, "rate", {"items": []}, {"items": [1, 2]}, {"items": [7]}])
def test_document_that_is_no_rate_is_refused(document: Any) -> None:
    assert refusal(document).allowed in ("an object", "a list of one rate")


def test_pointer_of_a_rate_in_an_answer_begins_there() -> None:
    assert refusal({"items": [rate(surprise=1)]}).pointer == "/items/0/surprise"


def test_different_limits_cannot_share_one_count() -> None:
    tiers = [[{"max": 300, "rate": 1}, {"rate": 2}], [{"max": 200, "rate": 1}, {"rate": 2}]]
    fields = {"energyratestructure": tiers, "energyweekdayschedule": AFTERNOONS}
    assert refusal(rate(**fields), block_scope="cycle").pointer == "/energyratestructure"


@pytest.mark.parametrize("zone", ["five hours west", "Mars/Olympus", "../UTC", ""])
def test_time_zone_that_is_none_is_refused(zone: str) -> None:
    assert f'the time zone "{zone}"' in refusal(rate(), time_zone=zone).found


def test_deeply_nested_list_is_refused_without_a_traceback() -> None:
    nested: list[Any] = []
    for _ in range(900):
        nested = [nested]
    assert refusal(rate(demandreactivepowercharge=nested)).pointer == "/demandreactivepowercharge"


def test_imported_document_is_json(tmp_path: Path) -> None:
    document = import_urdb(SHAPE).document
    path = tmp_path / "tariff.json"
    path.write_text(json.dumps(document), "utf-8")
    assert load_tariff(json.loads(path.read_text("utf-8"))) == load_tariff(document)
