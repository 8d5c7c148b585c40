"""Wrong tariff files: every one gets a single clear sentence with file, place, fault and what is allowed."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.core.tariff import Tariff
from edge.tariffs.files import FILE_BYTES_MAX, TariffFileRefused, read_tariff_file
from edge.tariffs.presets import preset_names, preset_text

FULL: dict[str, Any] = {
    "format": 1,
    "id": "full",
    "version": 3,
    "title": "Everything at once",
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2024-01-01",
    "valid_to": "2024-12-31",
    "cycle": {"length": "month", "start_day": 15},
    "seasons": [
        {"name": "summer", "dates": [["06-01", "08-31"]]},
        {"name": "rest", "dates": [["09-01", "05-31"]]},
    ],
    "day_types": [
        {"name": "work", "weekdays": ["mon", "tue", "wed", "thu", "fri"]},
        {"name": "free", "weekdays": ["sat", "sun"], "dates": ["2024-10-01"]},
    ],
    "periods": [
        {"name": "peak", "windows": [{"from": "08:00", "to": "22:00", "day_types": ["work"]}]},
        {
            "name": "valley",
            "windows": [
                {"from": "22:00", "to": "08:00", "day_types": ["work"]},
                {"from": "00:00", "to": "24:00", "day_types": ["free"]},
            ],
        },
    ],
    "blocks": {"limits_kwh": ["170", "260"], "raises": [{"name": "family", "added_kwh": ["100", "100"]}]},
    "bands": {"months": 3, "bands": [{"name": "D1", "limit_kwh": "30", "limit_included": False}, {"name": "D2"}]},
    "prices": {
        "by_band": {
            "D1": {"table": {"peak": ["0.5", "0.6", "0.8"], "valley": ["0.3", "0.4", "0.6"]}},
            "D2": {"base_by_period": {"peak": "0.1", "valley": "-0.1"}, "adder_by_block": ["0.5", "0.6", "0.8"]},
        }
    },
    "standing_charges": [{"name": "standing", "amount": "0.601", "per": "day"}],
    "minimum_bill": {"amount": "10", "per": "month"},
    "demand": [
        {
            "name": "contract",
            "kind": "contract",
            "unit": "kW",
            "limits": ["100"],
            "prices": ["38", "40"],
            "months": [6, 7, 8],
            "periods": ["peak"],
            "window_min": 15,
            "slip_min": 1,
            "day_divisor": 30,
            "over_contract": {"threshold_percent": "105", "factor": 2},
            "ratchet": {"percent": "80", "months": 11, "of_months": [6, 7, 8]},
            "contract": [{"valid_from": "2024-01-01", "size": "500"}, {"valid_from": "2024-06-16", "size": "400"}],
        }
    ],
    "power_factor": {"standard": "0.90", "base": ["energy", "basic"]},
    "surcharges": [
        {"name": "fund", "price_per_kwh": "0.019"},
        {"name": "tax", "percent": "13", "base": ["all"]},
    ],
    "late_charge": {"class": "other", "same_year_per_mille": "2", "later_year_per_mille": "3", "minimum": "1.00"},
    "rounding": {"rule": "half_away", "step_minor": 1},
    "provenance": {"/prices": "constructed"},
}

Change = Callable[[dict[str, Any]], None]


def put(*path: str | int, value: Any) -> Change:
    """Sets (or adds) one place of the document."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path: str | int) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


PEAK = ("prices", "by_band", "D1", "table", "peak")
PEAK_AT = "/prices/by_band/D1/table/peak"
WINDOW = ("periods", 0, "windows", 0)
DEMAND = ("demand", 0)

CROWDED = [{"name": f"p{number}", "windows": [{"from": "00:00", "to": "24:00"}] * 512} for number in range(10)]

# name, change, pointer, what is found there (the beginning of it)
CHANGES: list[tuple[str, Change, str, str]] = [
    ("no key", drop("prices"), "", "no key prices"),
    ("unknown key", put("colour", value="red"), "/colour", "an unknown key"),
    ("unknown key deep inside", put(*WINDOW, "until", value="9"), "/periods/0/windows/0/until", "an unknown key"),
    ("unknown key with a line break", put("a\nb", value=1), "/a\nb", "an unknown key"),
    ("later format", put("format", value=2), "/format", "2"),
    ("version true", put("version", value=True), "/version", "true"),
    ("version 1.0", put("version", value=1.0), "/version", "1.0"),
    ("minor digits 5", put("minor_digits", value=5), "/minor_digits", "5"),
    ("30 February", put("valid_from", value="2024-02-30"), "/valid_from", '"2024-02-30"'),
    ("29 February of no leap year", put("valid_to", value="2025-02-29"), "/valid_to", '"2025-02-29"'),
    ("validity that ends before it begins", put("valid_to", value="2023-12-31"), "/valid_to", '"2023-12-31"'),
    ("zone that is not there", put("time_zone", value="Mars/Olympus"), "/time_zone", '"Mars/Olympus"'),
    ("zone that is a folder", put("time_zone", value="Asia"), "/time_zone", '"Asia"'),
    ("zone that is a path", put("time_zone", value="../../etc/passwd"), "/time_zone", '"../../etc/passwd"'),
    ("zone that is no zone file", put("time_zone", value="leapseconds"), "/time_zone", '"leapseconds"'),
    ("week", put("cycle", "length", value="week"), "/cycle/length", '"week"'),
    ("vend in a start month", put("cycle", value={"length": "vend", "start_month": 2}), "/cycle/start_month", "an unk"),
    ("season hole", put("seasons", 0, "dates", 0, 0, value="06-02"), "/seasons", "nothing from 06-01 to 06-02"),
    ("season overlap", put("seasons", 0, "dates", 0, 1, value="09-01"), "/seasons/1/dates/0", "09-01 covered twice"),
    ("season 30 February", put("seasons", 0, "dates", 0, 0, value="02-30"), "/seasons/0/dates/0/0", '"02-30"'),
    ("weekday missing", put("day_types", 1, "weekdays", value=["sat"]), "/day_types", "no day type for sun"),
    ("minute hole", put(*WINDOW, "from", value="08:01"), "/periods", "nothing from 08:00 to 08:01"),
    ("minute overlap", put(*WINDOW, "from", value="07:59"), "/periods/0/windows/0", "07:59 covered twice"),
    (
        "hole in one season",
        put(*WINDOW, "seasons", value=["summer"]),
        "/periods",
        "nothing from 08:00 to 22:00 in season",
    ),
    ("5 120 windows", put("periods", value=CROWDED), "/periods/8/windows", "too many windows in all"),
    ("window 24:01", put(*WINDOW, "to", value="24:01"), "/periods/0/windows/0/to", '"24:01"'),
    (
        "window of a day type unknown",
        put(*WINDOW, "day_types", 0, value="x"),
        "/periods/0/windows/0/day_types/0",
        '"x"',
    ),
    ("limits fall", put("blocks", "limits_kwh", value=["260", "170"]), "/blocks/limits_kwh/1", '"170"'),
    ("limits stand", put("blocks", "limits_kwh", value=["170", "170"]), "/blocks/limits_kwh/1", '"170"'),
    (
        "10^6 blocks",
        put("blocks", "limits_kwh", value=["1"] * 10**6),
        "/blocks/limits_kwh",
        "a list of 1000000 entries",
    ),
    ("65 limits", put("blocks", "limits_kwh", value=["1"] * 65), "/blocks/limits_kwh", "a list of 65 entries"),
    ("limit finer than Wh", put("blocks", "limits_kwh", 0, value="0.0001"), "/blocks/limits_kwh/0", '"0.0001"'),
    ("raise falls", put("blocks", "raises", 0, "added_kwh", 1, value="99"), "/blocks/raises/0/added_kwh/1", '"99"'),
    ("raise below 0", put("blocks", "raises", 0, "added_kwh", 0, value="-1"), "/blocks/raises/0/added_kwh/0", '"-1"'),
    ("service as a word", put("blocks", "by_months_in_service", value="yes"), "/blocks/by_months_in_service", '"yes"'),
    ("band limit missing", drop("bands", "bands", 0, "limit_kwh"), "/bands/bands/0", "no key limit_kwh"),
    (
        "last band with a limit",
        put("bands", "bands", 1, "limit_kwh", value="9"),
        "/bands/bands/1/limit_kwh",
        "an unkno",
    ),
    ("band name taken", put("bands", "bands", 1, "name", value="D1"), "/bands/bands/1/name", '"D1"'),
    ("band without prices", drop("prices", "by_band", "D2"), "/prices/by_band", "no key D2"),
    ("history of no band", put("bands", "without_history", value="D9"), "/bands/without_history", '"D9"'),
    ("mean of no months", put("bands", "months", value=0), "/bands/months", "0"),
    (
        "prices of both shapes",
        put("prices", "by_band", "D2", "table", value={}),
        "/prices/by_band/D2",
        "adder_by_block, b",
    ),
    ("price NaN", put(*PEAK, 0, value=float("nan")), f"{PEAK_AT}/0", "nan"),
    ("price infinite", put(*PEAK, 0, value=float("inf")), f"{PEAK_AT}/0", "inf"),
    ("price NaN in quotes", put(*PEAK, 0, value="NaN"), f"{PEAK_AT}/0", '"NaN"'),
    ("price with an exponent", put(*PEAK, 0, value="5e-1"), f"{PEAK_AT}/0", '"5e-1"'),
    ("price as a number", put(*PEAK, 0, value=0.5), f"{PEAK_AT}/0", "0.5"),
    ("price finer than micro", put(*PEAK, 0, value="0.5000001"), f"{PEAK_AT}/0", '"0.5000001"'),
    ("price below 0", put(*PEAK, 0, value="-0.1"), "/prices/by_band/D1", "a price of -0.100000 in period peak"),
    ("price beyond 64 bits", put(*PEAK, 0, value="9000.000001"), "/prices/by_band/D1", "a price of 9000.000001"),
    ("price with a comma", put(*PEAK, 0, value="0,5"), f"{PEAK_AT}/0", '"0,5"'),
    ("price empty", put(*PEAK, 0, value=""), f"{PEAK_AT}/0", '""'),
    ("price null", put(*PEAK, 0, value=None), f"{PEAK_AT}/0", "null"),
    ("price too many", put(*PEAK, value=["1"] * 4), PEAK_AT, "a list of 4 entries"),
    (
        "sum of base and adder below 0",
        put("prices", "by_band", "D2", "base_by_period", "peak", value="-1"),
        "/prices/by_band/D2",
        "a price of -0.500000",
    ),
    ("standing charge below 0", put("standing_charges", 0, "amount", value="-1"), "/standing_charges/0/amount", '"-1"'),
    ("standing charge per week", put("standing_charges", 0, "per", value="week"), "/standing_charges/0/per", '"week"'),
    ("standing charges not a list", put("standing_charges", value={}), "/standing_charges", "an object of 0 keys"),
    ("minimum below 0", put("minimum_bill", "amount", value="-10"), "/minimum_bill/amount", '"-10"'),
    ("demand price below 0", put(*DEMAND, "prices", 0, value="-38"), "/demand/0/prices/0", '"-38"'),
    ("demand of no kind", put(*DEMAND, "kind", value="peak"), "/demand/0/kind", '"peak"'),
    (
        "capacity with a ratchet",
        put(*DEMAND, "kind", value="capacity"),
        "/demand/0/window_min",
        "window_min with kind cap",
    ),
    (
        "measured with a contract",
        put(*DEMAND, "kind", value="measured"),
        "/demand/0/over_contract",
        "over_contract with",
    ),
    ("demand in horsepower", put(*DEMAND, "unit", value="hp"), "/demand/0/unit", '"hp"'),
    ("demand price missing", put(*DEMAND, "prices", value=["38"]), "/demand/0/prices", "a list of 1 entries"),
    ("demand limit 0", put(*DEMAND, "limits", 0, value="0"), "/demand/0/limits/0", '"0"'),
    ("demand of a period unknown", put(*DEMAND, "periods", 0, value="noon"), "/demand/0/periods/0", '"noon"'),
    ("month 13", put(*DEMAND, "months", 2, value=13), "/demand/0/months/2", "13"),
    ("months fall", put(*DEMAND, "months", 2, value=6), "/demand/0/months/2", "6"),
    ("window of 0 minutes", put(*DEMAND, "window_min", value=0), "/demand/0/window_min", "0"),
    ("slip that does not divide", put(*DEMAND, "slip_min", value=4), "/demand/0/slip_min", "4"),
    ("slip over the window", put(*DEMAND, "slip_min", value=30), "/demand/0/slip_min", "30"),
    ("divisor of 365", put(*DEMAND, "day_divisor", value=365), "/demand/0/day_divisor", "365"),
    (
        "threshold below the contract",
        put(*DEMAND, "over_contract", "threshold_percent", value="99"),
        "/demand/0/over_contract/threshold_percent",
        '"99"',
    ),
    (
        "ratchet above 100 %",
        put(*DEMAND, "ratchet", "percent", value="100.01"),
        "/demand/0/ratchet/percent",
        '"100.01"',
    ),
    (
        "contract dates fall",
        put(*DEMAND, "contract", 1, "valid_from", value="2023-01-01"),
        "/demand/0/contract/1/valid_from",
        '"2023-01-01"',
    ),
    ("contract below 0", put(*DEMAND, "contract", 0, "size", value="-1"), "/demand/0/contract/0/size", '"-1"'),
    ("power factor standard 0.95", put("power_factor", "standard", value="0.95"), "/power_factor/standard", '"0.95"'),
    ("power factor as a number", put("power_factor", "standard", value=0.9), "/power_factor/standard", "0.9"),
    (
        "power factor on a tax",
        put("power_factor", "base", value=["surcharges"]),
        "/power_factor/base/0",
        '"surcharges"',
    ),
    ("surcharge of both kinds", put("surcharges", 0, "percent", value="1"), "/surcharges/0", "percent, price_per_kwh"),
    ("surcharge of no kind", drop("surcharges", 0, "price_per_kwh"), "/surcharges/0", "a name alone"),
    ("surcharge without a base", put("surcharges", 1, "base", value=[]), "/surcharges/1/base", "a list of 0 entries"),
    ("surcharge of an unknown base", put("surcharges", 1, "base", value=["water"]), "/surcharges/1/base/0", '"water"'),
    ("base null", put("surcharges", 1, "base", value=None), "/surcharges/1/base", ""),
    ("percentage too fine", put("surcharges", 1, "percent", value="13.001"), "/surcharges/1/percent", '"13.001"'),
    ("rebate of more than all", put("surcharges", 1, "percent", value="-100.01"), "/surcharges/1/percent", '"-100.01"'),
    (
        "late charge below 0",
        put("late_charge", "same_year_per_mille", value="-1"),
        "/late_charge/same_year_per_mille",
        '"-1"',
    ),
    ("late minimum finer than a cent", put("late_charge", "minimum", value="1.001"), "/late_charge/minimum", '"1.001"'),
    ("rounding up to the customer", put("rounding", "rule", value="up"), "/rounding/rule", '"up"'),
    ("rounding to nothing", put("rounding", "step_minor", value=0), "/rounding/step_minor", "0"),
    ("source of nothing", put("provenance", value={"/noon": "x"}), "/provenance/~1noon", "no such place"),
]

TEXT = json.dumps(FULL)
NEXT: dict[str, Any] = FULL | {"version": 4, "valid_from": "2025-01-01", "valid_to": "2025-12-31"}


def versions(*documents: dict[str, Any]) -> bytes:
    return json.dumps({"format": 1, "versions": documents}).encode()


# name, content of the file, pointer, the beginning of what is found
FILES: list[tuple[str, bytes, str, str]] = [
    ("empty", b"", "", "no JSON: Expecting value in line 1, column 1"),
    ("not JSON", b"tariff: cn-henan\n", "", "no JSON: Expecting value"),
    ("cut off", TEXT[:500].encode(), "", "no JSON: "),
    ("two documents", (TEXT + TEXT).encode(), "", "no JSON: Extra data"),
    ("a comma too many", b'{"format": 1,}', "", "no JSON: "),
    ("a list", b"[]", "", "a list of 0 entries"),
    ("a number", b"5", "", "5"),
    ("NaN alone", b"NaN", "", "nan"),
    ("UTF-16", TEXT.encode("utf-16"), "", "byte 0 is not UTF-8"),
    ("Latin-1", '{"title": "Tarif été"}'.encode("latin-1"), "", "byte 17 is not UTF-8"),
    ("GBK", '{"title": "电价"}'.encode("gbk"), "", "byte 11 is not UTF-8"),
    ("byte order mark", b"\xef\xbb\xbf" + TEXT.encode(), "", "a byte order mark"),
    ("zero bytes", b"\x00" * 1000, "", "no JSON: "),
    (
        "duplicate key",
        TEXT.replace('"version": 3', '"version": 3, "version": 4').encode(),
        "/version",
        "a key that stan",
    ),
    (
        "duplicate key inside",
        TEXT.replace('"peak": ["0.5"', '"peak": [], "peak": ["0.5"').encode(),
        PEAK_AT,
        "a key that",
    ),
    ("17 levels", b"[" * 17 + b"]" * 17, "/0" * 16, "objects or lists nested too deeply"),
    ("10^5 levels", b"[" * 10**5 + b"]" * 10**5, "", "objects or lists nested too deeply"),
    ("10^5 levels in a key", b'{"id": ' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}", "", "objects or lists nested"),
    ("integer of 5000 digits", b'{"format": 1' + b"0" * 5000 + b"}", "", "a number that cannot be read"),
    ("exponent of a number", TEXT.replace('"version": 3', '"version": 1e400').encode(), "/version", "inf"),
    ("surrogate in a name", TEXT.replace('"full"', '"\\ud800"').encode(), "/id", '"\ud800"'),
    ("no version", b'{"format": 1, "versions": []}', "/versions", "a list of 0 entries"),
    (
        "versions that overlap",
        versions(FULL, NEXT | {"valid_from": "2024-12-31"}),
        "/versions/1/valid_from",
        '"2024-12-31"',
    ),
    (
        "versions with a day between",
        versions(FULL, NEXT | {"valid_from": "2025-01-02"}),
        "/versions/1/valid_from",
        '"2025-01-02"',
    ),
    (
        "versions that begin together",
        versions(FULL, NEXT | {"valid_from": "2024-01-01"}),
        "/versions/1/valid_from",
        '"2024-01-01"',
    ),
    ("versions in no order", versions(FULL, NEXT | {"version": 2}), "/versions/1/version", "2"),
    ("versions of two tariffs", versions(FULL, NEXT | {"id": "other"}), "/versions/1", "another id, currency"),
    (
        "versions of two zones",
        versions(FULL, NEXT | {"time_zone": "Asia/Urumqi"}),
        "/versions/1/time_zone",
        '"Asia/Urum',
    ),
    ("fault in the second version", versions(FULL, NEXT | {"format": 2}), "/versions/1/format", "2"),
    ("versions within versions", versions({"format": 1, "versions": []}), "/versions/0/versions", "an unknown key"),
]


def refusal_of(path: Path) -> TariffFileRefused:
    with pytest.raises(TariffFileRefused) as caught:
        read_tariff_file(path)
    return caught.value


def assert_clear(refusal: TariffFileRefused, path: Path, pointer: str, found: str) -> None:
    """One line that names the file, the place, the fault and what is allowed, and that any terminal takes."""
    assert (refusal.path, refusal.pointer) == (path, pointer)
    assert refusal.found.startswith(found)
    assert refusal.found
    assert refusal.allowed
    sentence = str(refusal)
    assert sentence.startswith(f"{path}: tariff refused at /")
    assert "; allowed is " in sentence
    assert sentence.isprintable()
    assert sentence.encode("utf-8")
    assert len(sentence) <= 1200


def test_the_document_that_the_table_changes_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "tariff.json"
    path.write_text(TEXT)
    (tariff,) = read_tariff_file(path)
    assert isinstance(tariff, Tariff)
    path.write_bytes(versions(FULL, NEXT))
    assert [version.version for version in read_tariff_file(path)] == [3, 4]


def test_the_table_has_more_than_sixty_wrong_documents() -> None:
    names = [row[0] for row in (*CHANGES, *FILES)]
    assert len(set(names)) == len(names) > 60


@pytest.mark.parametrize(("change", "pointer", "found"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_wrong_document_is_refused_in_one_sentence(tmp_path: Path, change: Change, pointer: str, found: str) -> None:
    document = copy.deepcopy(FULL)
    change(document)
    path = tmp_path / "tariff.json"
    path.write_text(json.dumps(document))
    assert_clear(refusal_of(path), path, pointer, found)


@pytest.mark.parametrize(("content", "pointer", "found"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_wrong_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, pointer: str, found: str) -> None:
    path = tmp_path / "tariff.json"
    path.write_bytes(content)
    assert_clear(refusal_of(path), path, pointer, found)


def test_file_of_100_mb_is_refused_by_its_size_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    path.chmod(0o000)  # for whoever is not root it could not even be opened
    assert_clear(refusal_of(path), path, "", "100000000 bytes")
    assert FILE_BYTES_MAX < 100_000_000


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_clear(refusal_of(tmp_path), tmp_path, "", "no regular file")
    assert_clear(refusal_of(tmp_path / "pipe"), tmp_path / "pipe", "", "no regular file")
    assert_clear(refusal_of(tmp_path / "none"), tmp_path / "none", "", "no readable file (No such file or directory)")
    assert "no readable file" in str(refusal_of(Path("a\0b")))
    assert "no readable file" in str(refusal_of(tmp_path / ("a" * 5000)))


@settings(
    max_examples=3 * settings().max_examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_change_of_bytes_makes_anything_but_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    names = ["", *preset_names()]
    name = data.draw(st.sampled_from(names))
    content = bytearray((preset_text(name) if name else TEXT).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "tariff.json"
    path.write_bytes(bytes(content))
    try:
        outcome = repr(read_tariff_file(path)[0].tariff_id)
    except TariffFileRefused as refusal:
        outcome = str(refusal)
    assert outcome.isprintable()
