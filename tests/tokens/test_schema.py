"""The schema of what `wattgate token` prints: the file as generated, and every kind of line under its type."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from edge.core.token import CountMemory, StsMemory
from edge.tokens import schema
from edge.tokens.openpaygo_scheme import PaygoDevice
from edge.tokens.records import paygo_records, sts_records
from edge.tokens.sts_issue import NewKey, issue_key_change, issue_management, issue_test


def plain(value: Any) -> Any:
    """The same with every run of blanks as one: Python 3.13 takes the indentation out of docstrings."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def test_file_is_what_the_types_give() -> None:
    text = (files("edge.tokens") / schema.SCHEMA_FILE).read_text("utf-8")
    assert plain(json.loads(text)) == plain(schema.make_schema())


def test_every_kind_of_line_is_of_its_type(key: int, vectors: Callable[[str], list[dict[str, Any]]]) -> None:
    sections = issue_key_change(key, NewKey(7, 255, 9, 3, 99, 999_999))
    texts = ["59386323472137426967", "59386323472137426967", issue_management(key, 9, 5, 1, 0), issue_test(1, 5), "x"]
    lines = list(sts_records([*texts, *sections], key, StsMemory(1993)))
    kinds = [schema.StsRecord, schema.Refused, schema.StsRecord, schema.StsRecord, schema.Refused]
    for line, kind in zip(lines, [*kinds, *[schema.KeySectionRecord] * 4], strict=True):
        msgspec.convert(line, kind, strict=True)
    for vector in vectors("openpaygo"):
        device = PaygoDevice(vector["key"], vector["starting_code"])
        (line,) = paygo_records([vector["token"]], device, CountMemory.seeded(vector["count"]))
        assert msgspec.convert(line, schema.PaygoRecord, strict=True).count == vector["new_count"]


def test_line_with_a_field_more_is_of_no_type(key: int) -> None:
    (line,) = sts_records(["59386323472137426967"], key, StsMemory(1993))
    for kind in schema.TYPES:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**line, "key": "0"}, kind, strict=True)
