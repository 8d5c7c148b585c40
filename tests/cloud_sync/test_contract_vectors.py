"""The exported vectors say what the code does: each is taken by the code, and played against the backend."""

import contextlib
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync.acks import verify_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.contract.sample import RING, SIGNERS
from cloud_sync.contract.vectors import vector_document
from cloud_sync.ed25519 import Ed25519PublicKey
from cloud_sync.keys import KEYRING_FILE, Role, load_key_ring
from cloud_sync.orders import OrderRefused, verify_document, verify_order
from cloud_sync.proof.checkpoint import device_kid, verify_checkpoint
from cloud_sync.proof.head import verify_head
from cloud_sync.proof.merkle import grew, includes, root_of
from cloud_sync.voucher import VoucherRefused, read_voucher
from cloud_sync.wire import (
    WireError,
    decode_batch,
    decode_hello,
    decode_status,
    parse_topic,
    record_bytes,
    record_hash,
    topic_of,
)

DOCUMENT = vector_document()
VECTORS = DOCUMENT["vectors"]


def of_kind(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", [v for v in VECTORS if v["kind"] == kind], ids=lambda vector: vector["id"])


def plain(message: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))


def refusal(call: Any, *arguments: Any) -> Any:
    """What the call gives, as plain data, or the reason it refuses with."""
    try:
        found = call(*arguments)
    except WireError as error:
        return {"refused": error.reason}
    return {"refused": found.reason} if isinstance(found, (OrderRefused, VoucherRefused)) else plain(found)


def test_every_vector_has_an_id_of_its_own_and_a_reason_to_exist() -> None:
    counted = Counter(vector["id"] for vector in VECTORS)
    assert counted.most_common(1)[0][1] == 1
    assert all(len(vector["why"]) > 10 for vector in VECTORS)
    kinds = Counter(vector["kind"] for vector in VECTORS)
    assert set(kinds) == {
        "topic", "record", "payload", "ack", "order", "document", "voucher", "checkpoint", "head", "exchange",
    }  # fmt: skip


def test_key_ring_of_the_vectors_is_one_that_can_be_pinned(tmp_path: Path) -> None:
    (tmp_path / KEYRING_FILE).write_text(json.dumps(DOCUMENT["keyring"]))
    ring = load_key_ring(tmp_path / KEYRING_FILE)
    assert {(e.kid, e.role, e.credit_nano_max) for e in ring} == {(e.kid, e.role, e.credit_nano_max) for e in RING}
    assert {entry.role for entry in ring} == set(Role)


@of_kind("topic")
def test_topic_vector_is_the_topic(vector: Any) -> None:
    assert topic_of(vector["input"]["gateway"], vector["input"]["channel"]) == vector["expected"]
    assert bytes.fromhex(vector["bytes"]).decode() == vector["expected"]


@of_kind("record")
def test_record_vector_is_hashed_as_the_code_does(vector: Any) -> None:
    said = vector["input"]
    place = said["gateway"], said["stream"], said["epoch"], said["seq"], bytes.fromhex(said["previous"])
    assert record_bytes(*place, said["body"].encode()).hex() == vector["bytes"]
    assert record_hash(*place, said["body"].encode()).hex() == vector["expected"]["hash"]
    assert hashlib.sha256(bytes.fromhex(vector["bytes"])).hexdigest() == vector["expected"]["hash"]


@of_kind("payload")
def test_payload_vector_is_read_as_it_says(vector: Any) -> None:
    topic = parse_topic(vector["input"]["topic"])
    assert topic is not None
    payload, gateway = bytes.fromhex(vector["bytes"]), topic.gateway_id
    if topic.channel == "up/hello":
        assert refusal(decode_hello, payload, gateway) == vector["expected"]
    elif topic.channel == "st":
        assert refusal(decode_status, payload, gateway) == vector["expected"]
    else:
        stream = topic.channel.removeprefix("up/")
        assert refusal(decode_batch, payload, gateway, stream) == vector["expected"]


@of_kind("ack")
def test_ack_vector_is_believed_or_refused_as_it_says(vector: Any) -> None:
    assert refusal(verify_ack, bytes.fromhex(vector["bytes"]), RING, "gw-1") == vector["expected"]


@of_kind("order")
def test_order_vector_is_obeyed_or_refused_as_it_says(vector: Any) -> None:
    assert refusal(verify_order, bytes.fromhex(vector["bytes"]), RING, "gw-1") == vector["expected"]


@of_kind("document")
def test_document_vector_is_taken_or_refused_as_it_says(vector: Any) -> None:
    expected = dict(vector["expected"])
    digest = expected.pop("body_sha256", None)
    assert refusal(verify_document, bytes.fromhex(vector["bytes"]), RING, "gw-1") == expected
    assert digest in (None, hashlib.sha256(expected.get("body", "").encode()).hexdigest())


@of_kind("voucher")
def test_voucher_vector_is_read_as_it_says(vector: Any) -> None:
    found = read_voucher(vector["input"]["text"])
    said = {"refused": found.reason} if isinstance(found, VoucherRefused) else {"envelope": found.hex()}
    assert said == vector["expected"]


def test_voucher_vectors_of_both_forms_are_the_credit_of_the_order_vectors() -> None:
    by_id = {vector["id"]: vector for vector in VECTORS}
    for name in ("voucher-qr", "voucher-typed", "voucher-as-people-type"):
        assert by_id[name]["expected"]["envelope"] == by_id["order-credit"]["bytes"]


@of_kind("checkpoint")
def test_checkpoint_vector_is_believed_or_refused_as_it_says(vector: Any) -> None:
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["input"]["public_key"]))
    found = refusal(verify_checkpoint, bytes.fromhex(vector["bytes"]), {device_kid(key): key}.get)
    assert found == vector["expected"]


@of_kind("head")
def test_head_vector_is_the_root_of_its_leaves_with_paths_that_hold(vector: Any) -> None:
    leaves = [bytes.fromhex(leaf) for leaf in vector["input"]["leaves"]]
    expected = dict(vector["expected"])
    inclusion, consistency = expected.pop("inclusion"), expected.pop("consistency")
    assert refusal(verify_head, bytes.fromhex(vector["bytes"]), RING) == expected
    root = bytes.fromhex(expected["root"])
    for index, path in inclusion.items():
        assert includes(root, len(leaves), int(index), leaves[int(index)], [bytes.fromhex(h) for h in path])
    for size, path in consistency.items():
        before = root_of(leaves[: int(size)])
        assert grew(int(size), before, len(leaves), root, [bytes.fromhex(h) for h in path])


@of_kind("exchange")
def test_backend_answers_an_exchange_vector_step_by_step(vector: Any) -> None:
    setup = vector["setup"]
    signers = {Role(kid.removesuffix("-1")): signer for kid, signer in SIGNERS.items()}
    with contextlib.closing(Backend(":memory:", RING, signers)) as backend:
        backend.enroll(setup["gateway"], at=1)
        backend.permit_epoch(setup["gateway"], setup["epoch"])
        for step in vector["steps"]:
            before = dict(backend.metrics())
            message = Received(step["topic"], bytes.fromhex(step["bytes"]))
            answers = backend.take([message], at=1_790_000_500, now=0.0)
            marks = [verify_ack(answer.payload, RING, setup["gateway"]).marks for answer in answers]
            expected = step["expected"]
            assert [plain(mark["led"]) for mark in marks] == ([] if expected["mark"] is None else [expected["mark"]])
            if expected["verdict"] != "hello":
                assert backend.metrics()[expected["verdict"]] == before.get(expected["verdict"], 0) + 1
        assert backend.problems() == []


def test_every_refusal_of_a_genuine_order_has_a_vector() -> None:
    shown = {vector["expected"].get("refused") for vector in VECTORS if vector["kind"] == "order"}
    assert shown >= {
        "malformed", "unknown_key", "signature", "unknown_type", "role", "wrong_gateway", "arguments", "cap", "amount",
        "approval",
    }  # fmt: skip
