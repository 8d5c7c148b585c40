"""The commands print what their JSON Schema says, and the schema in the tree is the one of the types."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.cli import main
from edge.store import output

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
SCHEMA = Path(__file__).resolve().parents[2] / "edge" / "store" / output.SCHEMA_FILE


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> bytes:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out.encode()


def test_schema_in_the_tree_is_the_one_of_the_types() -> None:
    assert json.loads(SCHEMA.read_text("utf-8")) == output.json_schema(), (
        "make it anew: python3 -m edge.store.output > edge/store/store.schema.json"
    )


def test_verify_prints_what_its_schema_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for store in (VECTOR, spoilt(tmp_path)):
        found = msgspec.json.decode(printed(capsys, "verify", store, "--json"), type=output.VerifyOutput)
        assert found.records.led == 175
        assert bool(found.problems) is (store is not VECTOR)


def spoilt(folder: Path) -> Path:
    path = folder / "journal.db"
    image = bytearray(VECTOR.read_bytes())
    image[image.index(b'"payment_id":"pay-2"') + 15] ^= 1
    path.write_bytes(image)
    return path


@pytest.mark.parametrize("account", ["A1", "A2", "A3"])
@pytest.mark.parametrize("at", ["2026-03-01T00:00", "2026-03-03T01:00", "2026-03-10T00:00", "2026-04-20T00:00"])
def test_explain_prints_what_its_schema_says(capsys: pytest.CaptureFixture[str], account: str, at: str) -> None:
    text = printed(capsys, "explain", VECTOR, account, "--at", at, "--lang", "zh", "--json")
    found = msgspec.json.decode(text, type=output.ExplainOutput)
    assert found.account == account
    named = {(line.stream, line.seq) for line in found.chain if line.because}
    assert named == {(record.stream, record.seq) for record in found.verdict.because}


def test_schema_refuses_what_is_not_printed() -> None:
    good: dict[str, Any] = {"stream": "led", "seq": 1}
    assert msgspec.convert(good, output.RecordNamed).seq == 1
    for wrong in ({**good, "more": 1}, {**good, "seq": 0}, {**good, "stream": "lee"}, {"stream": "led"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, output.RecordNamed)
