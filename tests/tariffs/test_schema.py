"""The schema: the same keys and words as the loader, the file as generated, and what it accepts."""

import json
import typing
from enum import Enum
from importlib.resources import files
from typing import Any, Literal

import msgspec
import pytest

from edge.core import tariff_keys
from edge.core.calendar import WEEKDAYS, CycleLength
from edge.core.tariff_calendar import PURCHASES
from edge.core.tariff_keys import Keys
from edge.core.tariff_prices import BlockScope
from edge.core.terms import ChargePart, ChargeSpan, DemandKind, DemandUnit, RoundingRule
from edge.tariffs import schema
from edge.tariffs.presets import preset_names, preset_text

KEYS = {name: value for name, value in vars(tariff_keys).items() if isinstance(value, Keys)}


def test_every_object_of_the_loader_has_a_type() -> None:
    assert set(schema.TYPES) == set(KEYS)


@pytest.mark.parametrize("name", sorted(KEYS))
def test_type_has_the_keys_of_the_loader(name: str) -> None:
    fields = msgspec.structs.fields(schema.TYPES[name])
    assert {field.encode_name for field in fields if field.required} == set(KEYS[name].required)
    assert {field.encode_name for field in fields if not field.required} == set(KEYS[name].optional)


def values(choices: type[Enum], *more: str) -> set[str]:
    return {choice.value for choice in choices} | set(more)


WORDS: list[tuple[type[msgspec.Struct], str, set[str]]] = [
    (schema.Cycle, "length", values(CycleLength, PURCHASES)),
    (schema.Blocks, "scope", values(BlockScope)),
    (schema.DayType, "weekdays", set(WEEKDAYS)),
    (schema.StandingCharge, "per", values(ChargeSpan)),
    (schema.MinimumBill, "per", values(ChargeSpan)),
    (schema.Demand, "kind", values(DemandKind)),
    (schema.Demand, "unit", values(DemandUnit)),
    (schema.PowerFactor, "base", {"energy", "basic", "all"}),
    (schema.Surcharge, "base", values(ChargePart, "all")),
    (schema.Rounding, "rule", values(RoundingRule)),
]


def literals(annotation: Any) -> set[str]:
    if typing.get_origin(annotation) is Literal:
        return set(typing.get_args(annotation))
    return {word for inner in typing.get_args(annotation) for word in literals(inner)}


@pytest.mark.parametrize(("owner", "name", "words"), WORDS)
def test_type_allows_the_words_of_the_loader(owner: type[msgspec.Struct], name: str, words: set[str]) -> None:
    assert literals(typing.get_type_hints(owner)[name]) == words


def test_schema_file_is_the_one_the_types_make() -> None:
    kept = (files("edge.tariffs") / schema.SCHEMA_FILE).read_text("utf-8")
    assert kept == schema.schema_text(), (
        "make it anew: python3 -m edge.tariffs.schema > edge/tariffs/tariff.schema.json"
    )


def test_schema_lets_no_unknown_key_pass() -> None:
    definitions = schema.json_schema()["$defs"].values()
    assert len(definitions) == len(KEYS)
    assert all(definition["additionalProperties"] is False for definition in definitions)


@pytest.mark.parametrize("name", preset_names())
def test_preset_fits_the_types(name: str) -> None:
    document = json.loads(preset_text(name))
    assert msgspec.convert(document, schema.Document).id == name
    assert len(msgspec.convert({"format": 1, "versions": [document]}, schema.Versions).versions) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("colour", "red"), ("version", 0), ("valid_from", "1 May"), ("minor_digits", 2.5), ("prices", {"table": [1]})],
)
def test_what_no_document_may_hold_does_not_fit_the_types(key: str, value: Any) -> None:
    document = json.loads(preset_text("cn-henan"))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document | {key: value}, schema.Document)
