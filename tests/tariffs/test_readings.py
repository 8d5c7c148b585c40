"""Readings from CSV: what is taken, and for every fault one sentence with its line and column."""

from pathlib import Path

import pytest

from edge.tariffs.readings import BYTES_MAX, MeterFacts, ReadingsError, advances, parse_readings, read_readings

HEAD = "at,import_wh"
ONE = "2024-04-01T00:00:00+08:00,1000"
TWO = "2024-04-02T00:00:00+08:00,2000"


def energies(text: str, facts: MeterFacts | None = None) -> list[int]:
    return [one.energy_wh for one in advances(parse_readings(text, "r.csv"), facts or MeterFacts(), "r.csv")]


FAULTS = {
    "empty file": ("", "line 1: has no column at"),
    "no register": ("at\n2024-04-01T00:00:00+08:00", "line 1: has no column import_wh"),
    "unknown column": (f"{HEAD},export_wh\n", 'line 1, column 3: found "export_wh"; allowed are at, import_wh'),
    "column twice": (f"{HEAD},at\n", 'line 1, column 3: "at" stands there twice'),
    "period of capitals": (f"{HEAD},rate_Peak_wh\n", 'line 1, column 3: found "rate_Peak_wh"'),
    "one reading": (f"{HEAD}\n{ONE}\n", "has 1 readings"),
    "too few cells": (f"{HEAD}\n{ONE}\n2024-04-02T00:00:00+08:00\n", "line 3: has 1 columns; the header has 2"),
    "too many cells": (f"{HEAD}\n{ONE},7\n{TWO}", "line 2: has 3 columns; the header has 2"),
    "no offset": (f"{HEAD}\n2024-04-01T00:00:00,1\n", 'line 2, column at: found "2024-04-01T00:00:00"'),
    "no such day": (f"{HEAD}\n2024-02-30T00:00:00+08:00,1\n", "line 2, column at: found"),
    "half a second": (f"{HEAD}\n2024-04-01T00:00:00.5+08:00,1\n", "line 2, column at: found"),
    "year 1": (f"{HEAD}\n0001-01-01T00:00:00+08:00,1\n", "of the years 1971 to 2200"),
    "year 9999": (f"{HEAD}\n9999-12-31T23:59:59-08:00,1\n", "of the years 1971 to 2200"),
    "words for a time": (f"{HEAD}\nyesterday,1\n", 'line 2, column at: found "yesterday"'),
    "fraction": (f"{HEAD}\n{ONE}\n2024-04-02T00:00:00+08:00,1.5\n", 'line 3, column import_wh: found "1.5"'),
    "exponent": (f"{HEAD}\n2024-04-01T00:00:00+08:00,1e3\n", 'line 2, column import_wh: found "1e3"'),
    "negative": (f"{HEAD}\n2024-04-01T00:00:00+08:00,-5\n", 'line 2, column import_wh: found "-5"'),
    "nothing": (f"{HEAD}\n2024-04-01T00:00:00+08:00,\n", "line 2, column import_wh: found nothing"),
    "NaN": (f"{HEAD}\n2024-04-01T00:00:00+08:00,NaN\n", 'line 2, column import_wh: found "NaN"'),
    "other digits": (f"{HEAD}\n2024-04-01T00:00:00+08:00,١٢\n", "line 2, column import_wh: found"),
    "endless digits": (f"{HEAD}\n2024-04-01T00:00:00+08:00,{'9' * 5000}\n", "line 2, column import_wh: found"),
    "zero character": (f"{HEAD}\n2024-04-01T00:00:00+08:00,1\0\n", "line 2"),
    "open quote": (f'{HEAD}\n"2024-04-01T00:00:00+08:00,1\n', "is not CSV"),
    "time twice": (f"{HEAD}\n{ONE}\n{ONE}\n", "line 3, column at: is not after line 2"),
    "time goes back": (f"{HEAD}\n{TWO}\n{ONE}\n", "line 3, column at: is not after line 2"),
    "three years apart": (f"{HEAD}\n{ONE}\n2027-04-01T00:00:00+08:00,5000\n", "line 3, column at: is 94608000 s after"),
    "register falls": (
        f"{HEAD}\n{ONE}\n2024-04-02T00:00:00+08:00,999\n",
        "line 3, column import_wh: 999 is below 1000",
    ),
    "reactive falls": (
        "at,import_wh,reactive_import_varh\n2024-04-01T00:00:00+08:00,1,9\n2024-04-02T00:00:00+08:00,2,8\n",
        "line 3, column reactive_import_varh: 8 is below 9",
    ),
    "periods and total differ": (
        "at,import_wh,rate_a_wh,rate_b_wh\n2024-04-01T00:00:00+08:00,0,0,0\n2024-04-02T00:00:00+08:00,104,60,40\n",
        "line 3, column import_wh: rose by 104 Wh, but the columns rate_<period>_wh by 100 Wh together",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), FAULTS.values(), ids=FAULTS.keys())
def test_fault_is_one_sentence_with_line_and_column(text: str, sentence: str) -> None:
    with pytest.raises(ReadingsError) as error:
        energies(text)
    assert sentence in str(error.value)
    assert str(error.value).startswith("r.csv: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_offsets_spaces_empty_lines_and_any_line_end_are_taken() -> None:
    text = "at , import_wh\r\n2024-04-01T00:00:00+08:00, 1000\r\n\r\n2024-03-31T18:00:00Z,1500\r\n"
    readings = parse_readings(text, "r.csv")
    assert readings[1].at - readings[0].at == 2 * 3600
    assert energies(text) == [500]


def test_a_file_from_a_spreadsheet_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"{HEAD}\n{ONE}\n{TWO}\n", "utf-8-sig")
    assert len(read_readings(path)) == 2


def test_file_that_is_none_too_large_or_no_text_is_refused_by_name(tmp_path: Path) -> None:
    large, other = tmp_path / "large.csv", tmp_path / "other.csv"
    with large.open("wb") as file:
        file.truncate(BYTES_MAX + 1)
    other.write_bytes(b"at,import_wh\n\xff\xfe")
    for path, sentence in (
        (tmp_path / "none.csv", "cannot be read: No such file"),
        (tmp_path, "is no regular file"),
        (large, f"allowed is at most {BYTES_MAX}"),
        (other, "byte 13 is not UTF-8"),
    ):
        with pytest.raises(ReadingsError) as error:
            read_readings(path)
        assert str(error.value).startswith(f"{path}: ")
        assert sentence in str(error.value)


OVER = f"{HEAD}\n2024-04-01T00:00:00+08:00,999999990\n2024-04-01T01:00:00+08:00,10\n"


def test_a_register_that_starts_over_goes_on_where_its_modulus_says() -> None:
    assert energies(OVER, MeterFacts(modulus_wh=10**9)) == [20]
    assert energies(OVER, MeterFacts(modulus_wh=10**9, power_max_w=20)) == [20]
    with pytest.raises(ReadingsError, match="does not go back"):
        energies(OVER, MeterFacts(modulus_wh=10**9, power_max_w=10))


def test_a_jump_that_physics_does_not_allow_is_refused() -> None:
    text = f"{HEAD}\n{ONE}\n2024-04-01T01:00:00+08:00,11002\n"
    assert energies(text, MeterFacts(power_max_w=10_001)) == [10_002]
    with pytest.raises(ReadingsError, match="line 3, column import_wh: 11002 is 10002 above line 2; with 10000 W"):
        energies(text, MeterFacts(power_max_w=10_000))


def test_transformers_multiply_the_difference() -> None:
    text = "at,import_wh,max_demand_w\n2024-04-01T00:00:00+08:00,5,\n2024-04-02T00:00:00+08:00,7,3\n"
    (moved,) = advances(parse_readings(text, "r.csv"), MeterFacts(multiplier=60), "r.csv")
    assert (moved.energy_wh, moved.max_demand_w) == (120, 180)


def test_between_the_last_of_the_old_and_the_first_of_the_new_meter_lies_no_energy() -> None:
    rows = ["2024-04-01T00:00:00+08:00,900,a", "2024-04-02T00:00:00+08:00,950,a", "2024-04-02T00:00:00+08:00,3,b"]
    assert energies("\n".join([f"{HEAD},meter", *rows, "2024-04-03T00:00:00+08:00,10,b"])) == [50, 7]


def test_period_registers_are_billed_and_may_differ_from_the_total_by_what_was_cut_off() -> None:
    head, start = "at,import_wh,rate_a_wh,rate_b_wh", "2024-04-01T00:00:00+08:00,0,0,0"
    text = f"{head}\n{start}\n2024-04-02T00:00:00+08:00,101,60,40\n"
    (moved,) = advances(parse_readings(text, "r.csv"), MeterFacts(), "r.csv")
    assert (moved.energy_wh, dict(moved.by_period_wh)) == (100, {"a": 60, "b": 40})
