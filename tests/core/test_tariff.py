"""The tariff document: what is accepted and what it becomes, and every refusal with its place."""

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.calendar import Cycle, CycleLength, parse_date
from edge.core.rating import CompiledTariff
from edge.core.tariff import BlockScope, Tariff, TariffRefused, compile_tariff, load_tariff
from edge.zone import zone_offsets

PRESETS = ("cn-heilongjiang", "demo-street")


def preset(name: str) -> dict[str, Any]:
    document = json.loads((files("edge") / f"tariffs/{name}.json").read_text("utf-8"))
    assert isinstance(document, dict)
    return document


FULL: dict[str, Any] = {
    "format": 1,
    "id": "full",
    "version": 3,
    "title": "Everything at once",
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2024-01-01",
    "cycle": {"length": "year", "start_month": 4, "start_day": 15},
    "seasons": [
        {"name": "summer", "dates": [["06-01", "08-31"]]},
        {"name": "winter", "dates": [["11-15", "03-15"]]},
        {"name": "between", "dates": [["03-16", "05-31"], ["09-01", "11-14"]]},
    ],
    "day_types": [
        {"name": "work", "weekdays": ["mon", "tue", "wed", "thu", "fri"], "dates": ["2024-09-29"]},
        {"name": "rest", "weekdays": ["sat", "sun"], "dates": ["2024-10-01"]},
    ],
    "periods": [
        {"name": "peak", "windows": [{"from": "08:00", "to": "22:00", "day_types": ["work"]}]},
        {
            "name": "valley",
            "windows": [
                {"from": "22:00", "to": "08:00", "day_types": ["work"]},
                {"from": "00:00", "to": "24:00", "day_types": ["rest"], "seasons": ["summer", "winter"]},
                {"from": "12:00", "to": "12:00", "day_types": ["rest"], "seasons": ["between"]},
            ],
        },
    ],
    "blocks": {"scope": "cycle", "limits_kwh": ["170", "260.5"]},
    "cycle_energy_kwh_max": "2000000",
    "prices": {"table": {"peak": ["0.51", "0.56", "0.810001"], "valley": ["0.3", "0.35", "0"]}},
    "provenance": {"/prices/table/peak/0": "made up"},
}
FULL["periods"][1]["windows"][2] = {"from": "00:00", "to": "24:00", "day_types": ["rest"], "seasons": ["between"]}


def compiled(tariff: Tariff, first: str, end: str) -> CompiledTariff:
    first_at, end_at = (int(datetime.fromisoformat(text).timestamp()) for text in (first, end))
    return compile_tariff([tariff], zone_offsets(tariff.time_zone, first_at, end_at), first_at, end_at)


def test_document_is_read_exactly() -> None:
    tariff = load_tariff(FULL)
    assert (tariff.tariff_id, tariff.version, tariff.currency, tariff.minor_digits) == ("full", 3, "CNY", 2)
    assert (tariff.time_zone, tariff.first_day) == ("Asia/Shanghai", parse_date("2024-01-01"))
    assert tariff.cycle == Cycle(CycleLength.YEAR, 15, 4)
    assert tariff.block_scope is BlockScope.CYCLE
    assert tariff.energy_wh_max == 2_000_000_000
    assert [period.name for period in tariff.periods] == ["peak", "valley"]
    assert [period.limits_wh for period in tariff.periods] == [(170_000, 260_500)] * 2
    assert tariff.periods[0].prices_micro_per_kwh == (510_000, 560_000, 810_001)
    assert tariff.periods[1].prices_micro_per_kwh == (300_000, 350_000, 0)


def test_seasons_day_types_and_dates_choose_the_period() -> None:
    tariff = compiled(load_tariff(FULL), "2024-01-01T00:00+08:00", "2025-01-01T00:00+08:00")
    calendar = tariff.calendar
    expected = {
        "2024-07-01T12:00+08:00": "peak",
        "2024-07-01T23:00+08:00": "valley",
        "2024-07-06T12:00+08:00": "valley",  # a Saturday
        "2024-09-29T12:00+08:00": "peak",  # a Sunday that is worked
        "2024-10-01T12:00+08:00": "valley",  # a Tuesday that is a holiday
    }
    for text, name in expected.items():
        index = calendar.index_at(int(datetime.fromisoformat(text).timestamp()))
        assert tariff.periods[calendar.periods[index]].name == name
    april = int(datetime.fromisoformat("2024-04-15T00:00+08:00").timestamp())
    assert calendar.cycle_starts[calendar.index_at(april)] == april
    assert datetime.fromtimestamp(calendar.cycle_starts[0], UTC).isoformat() == "2023-04-14T16:00:00+00:00"


def test_base_and_adder_make_the_same_prices_as_a_table() -> None:
    document = FULL | {
        "prices": {"base_by_period": {"peak": "0.03", "valley": "-0.12"}, "adder_by_block": ["0.51", "0.56", "0.81"]},
        "provenance": {},
    }
    periods = load_tariff(document).periods
    assert periods[0].prices_micro_per_kwh == (540_000, 590_000, 840_000)
    assert periods[1].prices_micro_per_kwh == (390_000, 440_000, 690_000)


def test_scope_period_gives_each_period_its_limits() -> None:
    document = FULL | {
        "blocks": {"scope": "period", "limits_kwh": {"peak": ["1"], "valley": ["2", "3"]}},
        "prices": {"table": {"peak": ["0.1", "0.2"], "valley": ["0.1", "0.2", "0.3"]}},
        "provenance": {},
    }
    tariff = load_tariff(document)
    assert [(p.position, p.limits_wh) for p in tariff.periods] == [(0, (1000,)), (1, (2000, 3000))]
    assert compiled(tariff, "2024-01-01T00:00+08:00", "2024-02-01T00:00+08:00").position_count == 2


def test_whether_order_matters_is_told() -> None:
    assert load_tariff(FULL).order_matters
    assert not load_tariff(preset("demo-street")).order_matters
    assert not load_tariff(preset("cn-heilongjiang")).order_matters


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_accepted_and_says_where_its_figures_come_from(name: str) -> None:
    document = preset(name)
    tariff = load_tariff(document)
    assert tariff.tariff_id == name
    assert any(pointer.startswith("/prices") for pointer in document["provenance"])
    assert "/blocks" in document["provenance"]


def test_demo_street_has_the_prices_of_its_adders() -> None:
    tariff = load_tariff(preset("demo-street"))
    assert {p.name: p.prices_micro_per_kwh for p in tariff.periods} == {
        "peak": (540_000, 590_000, 840_000),
        "valley": (390_000, 440_000, 690_000),
    }
    assert {p.limits_wh for p in tariff.periods} == {(170_000, 260_000)}


def test_loading_changes_nothing_in_the_document() -> None:
    document = copy.deepcopy(FULL)
    load_tariff(document)
    assert document == FULL


# --- refusals --------------------------------------------------------------------------------


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets (or adds) one place of the document."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


WINDOWS = ("periods", 0, "windows")
PEAK = ("prices", "table", "peak")
REFUSALS: list[tuple[str, Callable[[dict[str, Any]], None], str, str]] = [
    ("no format", drop("format"), "", "no key format"),
    ("later format", put("format", value=2), "/format", "2"),
    ("format true", put("format", value=True), "/format", "true"),
    ("unknown key", put("colour", value="red"), "/colour", "an unknown key"),
    ("unknown key with a slash", put("a/b~c", value="red"), "/a~1b~0c", "an unknown key"),
    ("id with a slash", put("id", value="a/b"), "/id", '"a/b"'),
    ("id too long", put("id", value="a" * 70), "/id", '"' + "a" * 60 + '..." (70 characters)'),
    ("version 0", put("version", value=0), "/version", "0"),
    ("version text", put("version", value="1"), "/version", '"1"'),
    ("version huge", put("version", value=10**4000), "/version", "an integer of 13288 bits"),
    ("title not text", put("title", value=[1]), "/title", "a list of 1 entries"),
    ("currency in words", put("currency", value="yuan"), "/currency", '"yuan"'),
    ("minor digits float", put("minor_digits", value=2.0), "/minor_digits", "2.0"),
    ("zone that is a path", put("time_zone", value="../etc"), "/time_zone", '"../etc"'),
    ("zone with a newline", put("time_zone", value="Asia/Shanghai\n"), "/time_zone", '"Asia/Shanghai\n"'),
    ("30 February", put("valid_from", value="2024-02-30"), "/valid_from", '"2024-02-30"'),
    ("29 February of no leap year", put("valid_from", value="2023-02-29"), "/valid_from", '"2023-02-29"'),
    ("date as a number", put("valid_from", value=20240101), "/valid_from", "20240101"),
    ("cycle as text", put("cycle", value="month"), "/cycle", '"month"'),
    ("cycle week", put("cycle", "length", value="week"), "/cycle/length", '"week"'),
    ("cycle list", put("cycle", "length", value=["year"]), "/cycle/length", "a list of 1 entries"),
    ("cycle day 29", put("cycle", "start_day", value=29), "/cycle/start_day", "29"),
    ("start month of a month", put("cycle", "length", value="month"), "/cycle/start_month", "an unknown key"),
    (
        "season hole",
        put("seasons", 0, "dates", value=[["06-02", "08-31"]]),
        "/seasons",
        "nothing from 06-01 to 06-02 in the year",
    ),
    (
        "season hole on 29 February",
        put("seasons", 1, "dates", value=[["11-15", "02-28"], ["03-01", "03-15"]]),
        "/seasons",
        "nothing from 02-29 to 03-01 in the year",
    ),
    (
        "season twice",
        put("seasons", 0, "dates", value=[["05-31", "08-31"]]),
        "/seasons/0/dates/0",
        "05-31 covered twice in the year",
    ),
    ("season 31 June", put("seasons", 0, "dates", value=[["06-31", "08-31"]]), "/seasons/0/dates/0/0", '"06-31"'),
    ("season month 13", put("seasons", 0, "dates", value=[["06-01", "13-01"]]), "/seasons/0/dates/0/1", '"13-01"'),
    (
        "season of three ends",
        put("seasons", 0, "dates", value=[["06-01", "07-01", "08-31"]]),
        "/seasons/0/dates/0",
        "a list of 3 entries",
    ),
    ("season name taken", put("seasons", 1, "name", value="summer"), "/seasons/1/name", '"summer"'),
    ("no seasons", put("seasons", value=[]), "/seasons", "a list of 0 entries"),
    ("weekday missing", put("day_types", 1, "weekdays", value=["sat"]), "/day_types", "no day type for sun"),
    ("weekday twice", put("day_types", 1, "weekdays", value=["sat", "fri"]), "/day_types/1/weekdays/1", '"fri"'),
    ("weekday unknown", put("day_types", 1, "weekdays", value=["sat", "day"]), "/day_types/1/weekdays/1", '"day"'),
    (
        "weekday object",
        put("day_types", 1, "weekdays", value=[{}, "day"]),
        "/day_types/1/weekdays/0",
        "an object of 0 keys",
    ),
    ("date in two types", put("day_types", 1, "dates", value=["2024-09-29"]), "/day_types/1/dates/0", '"2024-09-29"'),
    ("no periods", put("periods", value=[]), "/periods", "a list of 0 entries"),
    ("10^6 periods", put("periods", value=[{}] * 10**6), "/periods", "a list of 1000000 entries"),
    ("period name taken", put("periods", 1, "name", value="peak"), "/periods/1/name", '"peak"'),
    ("period name with a space", put("periods", 0, "name", value="p k"), "/periods/0/name", '"p k"'),
    (
        "hole of a minute",
        put(*WINDOWS, 0, "from", value="08:01"),
        "/periods",
        "nothing from 08:00 to 08:01 in season summer on day type work",
    ),
    (
        "hole to the end of the day",
        drop("periods", 1, "windows", 1),
        "/periods",
        "nothing from 00:00 to 24:00 in season summer on day type rest",
    ),
    (
        "overlap",
        put(*WINDOWS, 0, "to", value="22:01"),
        "/periods/1/windows/0",
        "22:00 covered twice in season summer on day type work",
    ),
    ("window 25:00", put(*WINDOWS, 0, "to", value="25:00"), "/periods/0/windows/0/to", '"25:00"'),
    ("window without minutes", put(*WINDOWS, 0, "to", value="08:00"), "/periods/0/windows/0", "08:00 to 08:00"),
    ("window from 24:00", put(*WINDOWS, 0, "from", value="24:00"), "/periods/0/windows/0", "24:00 to 22:00"),
    (
        "window of no season",
        put(*WINDOWS, 0, "seasons", value=["spring"]),
        "/periods/0/windows/0/seasons/0",
        '"spring"',
    ),
    (
        "window of a season twice",
        put(*WINDOWS, 0, "seasons", value=["summer", "summer"]),
        "/periods/0/windows/0/seasons/1",
        '"summer"',
    ),
    (
        "window of no day type",
        put(*WINDOWS, 0, "day_types", value=[]),
        "/periods/0/windows/0/day_types",
        "a list of 0 entries",
    ),
    ("limits fall", put("blocks", "limits_kwh", value=["260", "170"]), "/blocks/limits_kwh/1", '"170"'),
    ("limits equal", put("blocks", "limits_kwh", value=["170", "170.000"]), "/blocks/limits_kwh/1", '"170.000"'),
    ("limit 0", put("blocks", "limits_kwh", value=["0", "170"]), "/blocks/limits_kwh/0", '"0"'),
    ("limit finer than Wh", put("blocks", "limits_kwh", value=["170.0001"]), "/blocks/limits_kwh/0", '"170.0001"'),
    ("limit as a number", put("blocks", "limits_kwh", value=[170]), "/blocks/limits_kwh/0", "170"),
    (
        "10^6 blocks",
        put("blocks", "limits_kwh", value=["1"] * 10**6),
        "/blocks/limits_kwh",
        "a list of 1000000 entries",
    ),
    (
        "limits by period in scope cycle",
        put("blocks", "limits_kwh", value={"peak": [], "valley": []}),
        "/blocks/limits_kwh",
        "an object of 2 keys",
    ),
    ("scope unknown", put("blocks", "scope", value="house"), "/blocks/scope", '"house"'),
    ("limit above the energy", put("cycle_energy_kwh_max", value="260"), "/cycle_energy_kwh_max", '"260"'),
    (
        "energy above the kernel's",
        put("cycle_energy_kwh_max", value="100000001"),
        "/cycle_energy_kwh_max",
        '"100000001"',
    ),
    ("no prices", put("prices", value={}), "/prices", "no key"),
    ("both shapes", put("prices", "base_by_period", value={}), "/prices", "base_by_period, table"),
    ("prices of a period missing", drop(*PEAK), "/prices/table", "no key peak"),
    ("prices of an unknown period", put("prices", "table", "noon", value=[]), "/prices/table/noon", "an unknown key"),
    ("one price too few", put(*PEAK, value=["0.5", "0.6"]), "/prices/table/peak", "a list of 2 entries"),
    ("price finer than micro", put(*PEAK, 0, value="0.5000001"), "/prices/table/peak/0", '"0.5000001"'),
    ("price with a seventh zero", put(*PEAK, 0, value="0.5000000"), "/prices/table/peak/0", '"0.5000000"'),
    ("price as a float", put(*PEAK, 0, value=0.51), "/prices/table/peak/0", "0.51"),
    ("price NaN", put(*PEAK, 0, value="NaN"), "/prices/table/peak/0", '"NaN"'),
    ("price nan float", put(*PEAK, 0, value=float("nan")), "/prices/table/peak/0", "nan"),
    ("price with exponent", put(*PEAK, 0, value="5e-1"), "/prices/table/peak/0", '"5e-1"'),
    ("price with a plus", put(*PEAK, 0, value="+0.5"), "/prices/table/peak/0", '"+0.5"'),
    ("price with a comma", put(*PEAK, 0, value="0,51"), "/prices/table/peak/0", '"0,51"'),
    ("price with a space", put(*PEAK, 0, value=" 0.51"), "/prices/table/peak/0", '" 0.51"'),
    ("price in Arabic digits", put(*PEAK, 0, value="\u0660.\u0665"), "/prices/table/peak/0", '"\u0660.\u0665"'),
    ("price below 0", put(*PEAK, 0, value="-0.01"), "/prices", "a price of -0.010000 in period peak, block 1"),
    (
        "price above the kernel's",
        put(*PEAK, 2, value="4500.000001"),
        "/prices",
        "a price of 4500.000001 in period peak, block 3",
    ),
    (
        "provenance of nothing",
        put("provenance", value={"/prices/noon": "x"}),
        "/provenance/~1prices~1noon",
        "no such place in this document",
    ),
    ("provenance without words", put("provenance", value={"/id": ""}), "/provenance/~1id", '""'),
]


@pytest.mark.parametrize(("change", "pointer", "found"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_wrong_document_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], None], pointer: str, found: str
) -> None:
    document = copy.deepcopy(FULL)
    change(document)
    with pytest.raises(TariffRefused) as refusal:
        load_tariff(document)
    assert (refusal.value.pointer, refusal.value.found) == (pointer, found)
    assert refusal.value.allowed
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("document", [None, [], "tariff", 5, {}, {1: 2}, float("inf")])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(TariffRefused):
        load_tariff(document)


def test_deep_nesting_is_refused_without_descending() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TariffRefused, match="found a list of 1 entries"):
        load_tariff(FULL | {"id": deep})
    while deep:  # taken apart by hand: the interpreter's own way down is recursive
        deep = deep[0]


def test_price_just_within_the_bound_is_accepted() -> None:
    document = copy.deepcopy(FULL)
    document["prices"]["table"]["peak"][2] = "4500"
    assert load_tariff(document).periods[0].prices_micro_per_kwh[2] == 4_500_000_000


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
    key=st.sampled_from(sorted(FULL)),
)
def test_no_value_of_a_key_raises_anything_but_a_refusal(value: Any, key: str) -> None:
    refusal = None
    try:
        load_tariff(FULL | {key: value})
    except TariffRefused as problem:
        refusal = problem
    # a season or period that is gone shows where it was named
    elsewhere = key in ("seasons", "day_types", "periods", "blocks", "provenance")
    assert refusal is None or elsewhere or refusal.pointer.startswith(f"/{key}")


# --- versions --------------------------------------------------------------------------------


def version(number: int, valid_from: str, **changes: Any) -> Tariff:
    return load_tariff(preset("cn-heilongjiang") | {"version": number, "valid_from": valid_from} | changes)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (version(1, "2024-02-01"), "are not in order"),
        (version(2, "2012-07-01"), "are not in order"),
        (version(2, "2024-02-01", time_zone="Europe/London"), "is for zone Europe/London"),
        (version(2, "2024-02-01", currency="USD"), "differ in id, currency"),
        (version(2, "2024-02-01", id="other"), "differ in id, currency"),
        (version(2, "2024-02-01", cycle={"length": "year"}), "differ in id, currency"),
        (version(2, "2024-02-01", blocks={"scope": "period", "limits_kwh": ["170", "260"]}), "differ in id, currency"),
    ],
)
def test_versions_that_do_not_follow_each_other_are_refused(second: Tariff, sentence: str) -> None:
    first_at = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
    zone = zone_offsets("Asia/Shanghai", first_at, first_at + 86_400)
    with pytest.raises(ValueError, match=sentence):
        compile_tariff([version(1, "2012-07-01"), second], zone, first_at, first_at + 86_400)
