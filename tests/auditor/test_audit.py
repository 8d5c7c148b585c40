"""The auditor's own arithmetic, against published vectors and figures worked out by hand."""

import ast
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

FILE = Path(__file__).with_name("audit.py")
SHANGHAI = ZoneInfo("Asia/Shanghai")
MIDNIGHT_AT = 1_782_748_800  # 2026-06-30 00:00 in Shanghai
HOUR_S = 3600
DOCUMENT = {
    "format": 1,
    "id": "street",
    "version": 3,
    "cycle": {"length": "month", "start_day": 1},
    "periods": [
        {"name": "peak", "windows": [{"from": "08:00", "to": "22:00"}]},
        {"name": "valley", "windows": [{"from": "22:00", "to": "08:00"}]},
    ],
    "blocks": {"scope": "cycle", "limits_kwh": ["0.1", "0.25"]},
    "prices": {"base_by_period": {"peak": "0.03", "valley": "-0.12"}, "adder_by_block": ["0.51", "0.56", "0.81"]},
}


@pytest.fixture
def tariff(auditor: Any) -> Any:
    """The calendar of three days around the end of June."""
    made = auditor.Tariff(DOCUMENT, SHANGHAI)
    made.lay_out(MIDNIGHT_AT - 24 * HOUR_S, MIDNIGHT_AT + 48 * HOUR_S)
    return made


@pytest.fixture
def position(auditor: Any) -> Callable[..., Any]:
    """Where an account stands in the blocks."""

    def make(used_wh: int = 0, cycle_start_at: int | None = None) -> Any:
        return auditor.Position([used_wh], cycle_start_at)

    return make


def test_auditor_shares_nothing_with_what_it_audits() -> None:
    imported = set()
    for node in ast.walk(ast.parse(FILE.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "exec", "eval", "importlib")
    assert imported - set(sys.stdlib_module_names) == set()


def test_prices_are_base_and_adder_in_whole_micro(auditor: Any) -> None:
    made = auditor.Tariff(DOCUMENT, SHANGHAI)
    assert made.key == "street@3"
    assert made.price_of["peak", 1] == 540_000
    assert made.price_of["valley", 3] == 690_000
    assert made.limits_wh == [100, 250]


def test_period_ends_before_the_next_one_starts(tariff: Any, position: Callable[..., Any]) -> None:
    at = MIDNIGHT_AT + 8 * HOUR_S
    assert tariff.rate(position(), at - HOUR_S, at, 5).lines == {("valley", 1): 5}
    assert tariff.rate(position(), at, at + HOUR_S, 5).lines == {("peak", 1): 5}
    assert tariff.rate(position(), at, at, 5).lines == {("valley", 1): 5}


def test_limit_belongs_to_the_lower_block_and_the_next_watt_hour_does_not(
    tariff: Any, position: Callable[..., Any]
) -> None:
    at, place = MIDNIGHT_AT + 9 * HOUR_S, position(99)
    assert tariff.rate(place, at, at + 60, 1).lines == {("peak", 1): 1}
    assert tariff.rate(place, at + 60, at + 120, 200).lines == {("peak", 2): 150, ("peak", 3): 50}
    assert place.energy_wh == [300]


def test_energy_over_a_boundary_is_shared_by_seconds_and_loses_nothing(
    tariff: Any, position: Callable[..., Any]
) -> None:
    at = MIDNIGHT_AT + 8 * HOUR_S
    rated = tariff.rate(position(), at - 1000, at + 2000, 100)
    assert rated.lines == {("valley", 1): 33, ("peak", 1): 67}
    assert rated.amount_nano == 33 * 390_000 + 67 * 540_000
    assert rated.estimated is True
    halves = tariff.rate(position(), at - 50, at + 50, 3)
    assert halves.lines == {("valley", 1): 2, ("peak", 1): 1}


def test_blocks_start_over_with_the_month(tariff: Any, position: Callable[..., Any]) -> None:
    month_end_at, june_at = MIDNIGHT_AT + 24 * HOUR_S, MIDNIGHT_AT - 29 * 24 * HOUR_S
    place = position(240, june_at)
    assert tariff.rate(place, month_end_at - 60, month_end_at, 10).lines == {("valley", 2): 10}
    assert tariff.rate(place, month_end_at, month_end_at + 60, 100).lines == {("valley", 1): 100}
    assert (place.energy_wh, place.cycle_start_at) == ([100], month_end_at)


def test_midnights_are_those_of_the_place_on_a_day_of_25_hours(auditor: Any) -> None:
    made = auditor.Tariff(DOCUMENT, ZoneInfo("Europe/Berlin"))
    before_at, after_at = 1_792_879_200, 1_792_969_200  # 2026-10-25 and 26, 00:00 in Berlin
    made.lay_out(before_at - HOUR_S, after_at + HOUR_S)
    assert made.next_midnight(before_at - 1) == before_at
    assert made.next_midnight(before_at) == after_at
    assert after_at - before_at == 25 * HOUR_S


def test_tariff_with_more_than_the_auditor_knows_is_not_guessed(auditor: Any) -> None:
    others: list[dict[str, Any]] = [
        {"seasons": []},
        {"cycle": {"length": "year", "start_day": 1}},
        {"blocks": {"scope": "period", "limits_kwh": []}},
    ]
    for more in others:
        with pytest.raises(ValueError, match="auditor"):
            auditor.Tariff({**DOCUMENT, **more}, SHANGHAI)


@pytest.mark.parametrize(
    ("value", "whole"), [("1/2", 1), ("-1/2", -1), ("3/2", 2), ("149/100", 1), ("-149/100", -1), ("0", 0)]
)
def test_bill_is_rounded_half_away_from_zero(auditor: Any, value: str, whole: int) -> None:
    assert auditor.half_away(Fraction(value)) == whole


@pytest.mark.parametrize(
    ("model", "registers", "energy_wh"),
    [
        ("eastron_sdm120", "449a5227", 1_234_567),
        ("eastron_sdm630", "45fb41b0", 8_040_210),  # 8 040.2109375 kWh, cut off to whole watt-hours
        ("chint_dtsu666", "4780520f", 65_700_117),
        ("hiking_dds238_2", "0001d8ca", 1_210_340),
    ],
)
def test_register_is_the_floor_of_its_exact_value(auditor: Any, model: str, registers: str, energy_wh: int) -> None:
    assert auditor.floor(auditor.decoded_wh(model, registers)) == energy_wh


# RFC 8032, 7.1: tests 1 to 3.
ED25519 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        "",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        "72",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        "af82",
    ),
]


@pytest.mark.parametrize(("key", "signature", "message"), ED25519)
def test_signatures_of_the_standard_hold_and_altered_ones_do_not(
    auditor: Any, key: str, signature: str, message: str
) -> None:
    known = bytes.fromhex(key), bytes.fromhex(signature), bytes.fromhex(message)
    assert auditor.signature_holds(*known) is True
    assert auditor.signature_holds(known[0], known[1], known[2] + b"!") is False
    for at in (0, 31, 32, 63):
        bent = bytearray(known[1])
        bent[at] ^= 1
        assert auditor.signature_holds(known[0], bytes(bent), known[2]) is False


def test_folder_without_a_demo_is_unreadable(auditor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert auditor.main([str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert str(tmp_path) in told.err
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "journal.db").write_text(json.dumps({"not": "a database"}))
    assert auditor.main([str(tmp_path)]) == 2
