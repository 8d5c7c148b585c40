"""The explained bill: its lines add up to the total in both languages, in text, JSON and plot."""

import json
import re
import xml.etree.ElementTree as ET
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.bill import Customer
from edge.core.tariff import load_tariff
from edge.tariffs.billing import Billed, bill_readings
from edge.tariffs.explain import (
    bill_json,
    explain_json,
    explain_svg,
    explain_text,
    explained_lines,
    format_nano,
    format_thousandths,
)
from edge.tariffs.presets import load_preset
from edge.tariffs.readings import parse_readings
from edge.tariffs.words import LANGUAGES, Words, load_words

FACTORY = """at,import_wh,reactive_import_varh,max_demand_w
2024-04-01T00:00:00+08:00,1000000,0,
2024-04-11T08:00:00+08:00,11000000,3000000,420000
2024-05-01T00:00:00+08:00,101000000,61974000,560000
"""
SVG = "{http://www.w3.org/2000/svg}"


def factory(**customer: Any) -> Billed:
    return bill_readings(
        load_preset("cn-two-part"), parse_readings(FACTORY, "r.csv"), "r.csv", None, 0, Customer(**customer)
    )


def amounts_in(text: str) -> list[Decimal]:
    """The last number of every line between the two rules, and the total below them."""
    body = re.split(r"\n-+\n", text)
    return [
        Decimal(line.split()[-1]) for part in body[1:] for line in part.splitlines()[: 1 if part is body[2] else None]
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_printed_lines_add_up_to_the_printed_total(language: str) -> None:
    *lines, total = amounts_in(explain_text(factory(), Words(language)))
    assert sum(lines) == total == Decimal("92023.89")


def test_the_chinese_bill_is_in_chinese_and_says_that_it_is_estimated() -> None:
    text = explain_text(factory(), Words("zh"))
    assert "电费账单" in text
    assert "功率因数 0.85 调整" in text
    assert "实测 560 kW" in text
    assert load_words("zh")["estimated"] in text
    assert not re.search(r"\b(Peak|Valley|To pay|Rounding)\b", text)


def test_both_catalogues_have_the_same_keys_and_take_the_same_values() -> None:
    english, chinese = load_words("en"), load_words("zh")
    assert english.keys() == chinese.keys()
    for key, sentence in english.items():
        assert set(re.findall(r"{\w+}", sentence)) == set(re.findall(r"{\w+}", chinese[key])), key


def test_json_has_the_keys_of_the_command_and_lines_that_add_up() -> None:
    billed = factory()
    found = bill_json(billed)
    assert {"energy_wh", "charge_nano", "bill_minor", "lines", "cycle_energy_wh", "estimated"} <= found.keys()
    energy_keys = {"kind", "period", "block", "energy_wh", "price_micro_per_kwh", "amount_nano"}
    assert all(energy_keys <= line.keys() for line in found["lines"])
    amounts = {line["kind"]: 0 for line in found["lines"]}
    for line in found["lines"]:
        amounts[line["kind"]] += line["amount_nano"]
    assert sum(amounts.values()) == found["bill_minor"] * 10_000_000
    assert sum(amounts.values()) - amounts["rounding"] == found["charge_nano"]
    assert list(amounts) == ["energy", "demand", "power_factor", "surcharge", "rounding"]
    assert json.loads(json.dumps(found)) == found


def test_explained_json_has_the_words_beside_the_figures() -> None:
    line = explain_json(factory(), Words("en"))["lines"][3]
    assert line["text"] == "Demand: contract demand (measured 560 kW)"
    assert (line["power_w"], line["measured_w"], line["amount"]) == (595_000, 560_000, "22610.00")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_plot_is_an_image_with_a_bar_and_the_words_of_every_line_that_is_money(language: str) -> None:
    svg = ET.fromstring(explain_svg(factory(), Words(language)))
    assert svg.tag == f"{SVG}svg"
    assert "92023.89 CNY" in svg.attrib["aria-label"]
    words = [text.text or "" for text in svg.iter(f"{SVG}text")]
    lines = [line for line in explained_lines(factory(), Words(language)) if abs(line.amount_nano) > 10_000_000]
    assert len(lines) == 6
    for line in lines:
        assert any(line.what in word and line.amount in word for word in words), line.what
    bars = [rect for rect in svg.iter(f"{SVG}rect") if rect.get("fill") == "#0b4f8a"]
    assert len(bars) == len(lines)


def test_two_lines_of_the_same_words_have_two_bars_and_a_rebate_another_colour() -> None:
    tariff = load_tariff(
        {
            "format": 1,
            "id": "test",
            "version": 1,
            "currency": "CNY",
            "minor_digits": 2,
            "time_zone": "Asia/Shanghai",
            "valid_from": "2020-01-01",
            "cycle": {"length": "month"},
            "prices": {"table": {"all": ["1"]}},
            "standing_charges": [
                {"name": "a_b", "amount": "1", "per": "day"},
                {"name": "a-b".replace("-", "__"), "amount": "1", "per": "day"},
            ],
            "surcharges": [{"name": "rebate", "percent": "-10", "base": ["energy"]}],
        }
    )
    rows = "at,import_wh\n2024-04-01T00:00:00+08:00,0\n2024-04-03T00:00:00+08:00,10000\n"
    svg = ET.fromstring(explain_svg(bill_readings([tariff], parse_readings(rows, "r"), "r"), Words("en")))
    fills = [rect.get("fill") for rect in svg.iter(f"{SVG}rect")]
    assert (fills.count("#0b4f8a"), fills.count("#2b7a4b")) == (3, 1)


def test_a_bill_of_nothing_can_be_explained_and_drawn() -> None:
    rows = "at,import_wh\n2024-04-01T00:00:00+08:00,0\n2024-04-03T00:00:00+08:00,0\n"
    billed = bill_readings(load_preset("cn-heilongjiang"), parse_readings(rows, "r"), "r")
    assert explain_text(billed, Words("en")).endswith("0.00")
    assert "0.00 CNY" in explain_svg(billed, Words("en"))


@given(st.integers(-(10**18), 10**18), st.integers(0, 4))
def test_an_amount_is_printed_exactly_with_at_least_the_digits_of_its_currency(nano: int, digits: int) -> None:
    text = format_nano(nano, digits)
    assert Decimal(text) * 10**9 == nano
    assert len(text.partition(".")[2]) >= digits
    assert len(text.partition(".")[2]) == digits or not text.endswith("0")


def test_thousandths_are_printed_without_superfluous_digits() -> None:
    assert [format_thousandths(n) for n in (0, 5, 1500, 300_000)] == ["0", "0.005", "1.5", "300"]
