"""`wattgate contract export`: the same bytes each time, and documents that others' tools accept."""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from cloud_sync.contract.commands import SUMS_FILE, contract_files
from cloud_sync.contract.schemas import TYPES
from cloud_sync.contract.vectors import vector_document
from cloud_sync.wire import CHANNELS, parse_topic, topic_of

HASH_LIST = Path(__file__).resolve().parent.parent / "vectors" / "contract_1.sha256"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return contract_files()


@pytest.fixture(scope="module")
def asyncapi(files: dict[str, bytes]) -> Any:
    return json.loads(files["asyncapi.json"])


def wattgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_two_exports_are_the_same_bytes(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name in ("one", "two"):
        ended = wattgate("contract", "export", str(tmp_path / name), "--json")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["files"] == list(files)
        written = {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.*")}
        assert written | {SUMS_FILE} == set(files)
        assert all((tmp_path / name / path).read_bytes() == content for path, content in files.items())


def test_contract_changes_only_on_purpose(files: dict[str, bytes]) -> None:
    """Whoever means to change contract 1 exports it and puts the new SHA256SUMS in the place of this list."""
    assert files[SUMS_FILE].decode() == HASH_LIST.read_text("utf-8")


def test_folder_that_cannot_be_written_is_told_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = wattgate("contract", "export", str(tmp_path / "file"))
    assert ended.returncode == 2
    assert str(tmp_path / "file") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_asyncapi_document_is_one_for_a_validator_of_another_house(asyncapi: Any) -> None:
    """asyncapi3 (PyPI, Apache-2.0) models AsyncAPI 3.0 and refuses fields it does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, about names in that package
        from asyncapi3 import AsyncAPI3
    assert AsyncAPI3.model_validate(asyncapi).asyncapi == "3.0.0"
    for broken in (
        {**asyncapi, "channel": {}},
        {**asyncapi, "info": {"title": "no version"}},
        {**asyncapi, "operations": {"x": {"action": "publish", "channel": {"$ref": "#/channels/hello"}}}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            AsyncAPI3.model_validate(broken)


def test_every_reference_in_the_asyncapi_document_leads_somewhere(asyncapi: Any) -> None:
    references = list(references_in(asyncapi))
    assert len(references) > 40
    for reference in references:
        found = asyncapi
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def references_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def test_asyncapi_document_has_every_topic_of_the_code(asyncapi: Any) -> None:
    addresses = {channel["address"] for channel in asyncapi["channels"].values()}
    shard = topic_of("gw-1", "st").split("/")[2]
    assert addresses == {topic_of("gw-1", c).replace("gw-1", "{gateway}").replace(shard, "{shard}") for c in CHANNELS}


def test_schemas_are_schemas_and_each_message_of_the_code_has_one(files: dict[str, bytes], asyncapi: Any) -> None:
    for kind in TYPES:
        schema = json.loads(files[f"schemas/{kind.__name__}.json"])
        Draft202012Validator.check_schema(schema)
        assert schema["$defs"][kind.__name__].get("description")
        assert msgspec.json.schema(kind)["$ref"] == schema["$ref"]
    for schema in asyncapi["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_every_good_message_of_the_vectors_fits_its_schema_and_a_broken_one_does_not(files: dict[str, bytes]) -> None:
    schema_of = {"ack": "Ack", "order": "Order", "document": "Document", "checkpoint": "Checkpoint", "head": "TreeHead"}
    added = {"body_sha256", "inclusion", "consistency"}
    seen = set()
    for vector in vector_document()["vectors"]:
        if vector["kind"] not in {*schema_of, "payload"} or "refused" in vector["expected"]:
            continue
        name = schema_of.get(vector["kind"]) or schema_by_topic(vector["input"]["topic"])
        validator = Draft202012Validator(json.loads(files[f"schemas/{name}.json"]))
        message = {key: value for key, value in vector["expected"].items() if key not in added}
        validator.validate(message)
        assert not validator.is_valid({**message, "v": "1"})
        assert not validator.is_valid({key: value for key, value in message.items() if key != "v"})
        seen.add(name)
    assert seen == {"Hello", "Status", "Batch", *schema_of.values()}


def schema_by_topic(topic: str) -> str:
    parsed = parse_topic(topic)
    assert parsed is not None
    return {"up/hello": "Hello", "st": "Status"}.get(parsed.channel, "Batch")


def test_asyncapi_components_read_a_tuple_as_the_newer_schema_does(files: dict[str, bytes], asyncapi: Any) -> None:
    components = {"components": asyncapi["components"], "$ref": "#/components/schemas/Ack"}
    older, newer = Draft7Validator(components), Draft202012Validator(json.loads(files["schemas/Ack.json"]))
    good = next(vector for vector in vector_document()["vectors"] if vector["id"] == "ack-miss")["expected"]
    assert good["marks"]["led"]["miss"] == [1, 2]
    for miss, fits in (([1, 2], True), ([1], False), ([1, 2, 3], False), (["1", 2], False), ([-1, 2], False)):
        ack = {**good, "marks": {"led": {**good["marks"]["led"], "miss": miss}}}
        assert older.is_valid(ack) is newer.is_valid(ack) is fits


def test_prose_names_every_kind_of_vector_and_every_file(files: dict[str, bytes]) -> None:
    prose = files["README.md"].decode()
    assert {vector["kind"] for vector in vector_document()["vectors"]} <= set(prose.replace(",", " ").split())
    assert all(name in prose for name in ("asyncapi.json", "vectors.json", "schemas/", SUMS_FILE))


@pytest.mark.parametrize("arguments", [("contract",), ("contract", "export"), ("contract", "print")])
def test_bad_arguments_are_status_2(arguments: tuple[str, ...]) -> None:
    assert wattgate(*arguments).returncode == 2
