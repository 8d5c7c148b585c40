"""The messages: what goes in comes out, and nothing that comes in can do more than be refused."""

import contextlib
import hashlib
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync import wire
from cloud_sync.wire import Batch, Head, Hello, RosterEntry, Status, WireError

GATEWAY = "gw-1"
ZEROS = "0" * 64


def batch_of(*bodies: str, stream: str = "led", first: int = 1) -> Batch:
    return Batch(v=1, gw=GATEWAY, stream=stream, epoch=1, first=first, prev=ZEROS, bodies=bodies)


def test_record_bytes_are_the_contracts() -> None:
    body = b'{"type":"PaymentAccepted"}'
    expected = b'["gw-1","led",1,2,"' + b"ab" * 32 + b'"]\n{"type":"PaymentAccepted"}'
    assert wire.record_bytes("gw-1", "led", 1, 2, bytes.fromhex("ab" * 32), body) == expected
    assert wire.record_hash("gw-1", "led", 1, 2, bytes.fromhex("ab" * 32), body) == hashlib.sha256(expected).digest()


def test_shard_is_the_first_byte_of_the_hash() -> None:
    assert wire.topic_of("gw-1", "up/led") == f"mg/1/{hashlib.sha256(b'gw-1').hexdigest()[:2]}/gw-1/up/led"


@pytest.mark.parametrize("channel", sorted(wire.CHANNELS))
def test_topic_taken_apart_is_what_it_was_made_of(channel: str) -> None:
    assert wire.parse_topic(wire.topic_of("A_b-9", channel)) == wire.Topic("A_b-9", channel)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "mg/1",
        "mg/2/" + wire.shard_of("gw-1") + "/gw-1/st",
        "mg/1/zz/gw-1/st",
        "mg/1/" + wire.shard_of("gw-1") + "/gw-1/up/other",
        "mg/1/" + wire.shard_of("gw-1\n") + "/gw-1\n/st",
        "mg/1/" + wire.shard_of("x" * 24) + "/" + "x" * 24 + "/st",
        "mg/1/" + wire.shard_of("") + "//st",
    ],
)
def test_topic_that_is_not_ours_is_none(topic: str) -> None:
    assert wire.parse_topic(topic) is None


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=300), min_size=1, max_size=20),
    st.integers(1, 2**62),
)
def test_batch_comes_out_byte_for_byte(bodies: list[str], first: int) -> None:
    batch = batch_of(*bodies, first=first)
    decoded = wire.decode_batch(wire.encode_payload(batch), GATEWAY, "led")
    assert decoded == batch
    assert wire.batch_bodies(decoded) == tuple(body.encode() for body in bodies)


def test_long_text_is_compressed_and_short_text_is_not() -> None:
    assert wire.encode_payload(batch_of("x" * 5000))[0] == 1
    assert wire.encode_payload(batch_of("x"))[0] == 0


def test_hello_and_status_come_out_as_they_went_in() -> None:
    roster = (RosterEntry("meter-1", "account-1"),)
    hello = Hello(
        v=1,
        gw=GATEWAY,
        epoch=1,
        boot="b",
        clock="ntp",
        at=5,
        software="1",
        roster=roster,
        roster_hash=wire.roster_hash(roster),
        heads={"led": Head(1, 3, ZEROS, 2)},
    )
    status = Status(v=1, gw=GATEWAY, online=True, epoch=1, boot="b")
    assert wire.decode_hello(wire.encode_payload(hello), GATEWAY) == hello
    assert wire.decode_status(wire.encode_payload(status), GATEWAY) == status


def raw(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "v": 1, "gw": GATEWAY, "stream": "led", "epoch": 1, "first": 1, "prev": ZEROS, "bodies": ["x"],
    }  # fmt: skip
    return b"\0" + msgspec.json.encode({**fields, **changes})


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"\2{}", "flag"),
        (b"\1not zlib", "compression"),
        (b"\1" + zlib.compress(b"{}")[:-1], "compression"),
        (b"\1" + zlib.compress(b"{}") + b"x", "compression"),
        (b"\0" + b"x" * wire.PAYLOAD_BYTES_MAX, "size"),
        (b"\1" + zlib.compress(b" " * (wire.TEXT_BYTES_MAX + 1)), "size"),
        (b"\0{", "malformed"),
        (b"\0[]", "malformed"),
        (b"\0\xff", "malformed"),
        (b"\0" + b"[" * 100_000, "malformed"),
        (raw(v=2), "version"),
        (raw(v=2, first="another shape"), "version"),
        (raw(gw="gw-2"), "gateway"),
        (raw(stream="evt"), "stream"),
        (raw(first=0), "malformed"),
        (raw(first=2**63), "malformed"),
        (raw(first=2**63 - 1, bodies=["x", "y"]), "malformed"),
        (raw(first=True), "malformed"),
        (raw(first=1.5), "malformed"),
        (raw(bodies=[]), "malformed"),
        (raw(bodies=["x"] * (wire.BATCH_RECORDS_MAX + 1)), "malformed"),
        (raw(prev="0" * 63), "malformed"),
        (raw(prev=ZEROS + "\n"), "malformed"),
        (raw(prev="A" * 64), "malformed"),
        (raw(more=1), "malformed"),
        (raw().replace(b'"x"', b'"\\ud800"'), "malformed"),
    ],
)
def test_message_against_the_contract_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(WireError) as refused:
        wire.decode_batch(payload, GATEWAY, "led")
    assert refused.value.reason == reason


def test_bomb_is_refused_without_being_unpacked() -> None:
    bomb = b"\1" + zlib.compress(bytes(64 * wire.TEXT_BYTES_MAX))
    assert len(bomb) < wire.PAYLOAD_BYTES_MAX
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="size"):
            wire.unpack_text(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * wire.TEXT_BYTES_MAX


def test_reading_record_travels_alone() -> None:
    payload = wire.encode_payload(batch_of("a", "b", stream="rdg"))
    with pytest.raises(WireError, match="alone"):
        wire.decode_batch(payload, GATEWAY, "rdg")


def test_batch_the_receiver_would_refuse_is_not_sent() -> None:
    with pytest.raises(WireError, match="size"):
        wire.encode_payload(batch_of("x" * (wire.TEXT_BYTES_MAX + 1)))


@given(st.binary(max_size=200), st.sampled_from([b"\0", b"\1", b"\1x\x9c", b'\0{"v":1,', b""]))
def test_decoder_refuses_noise_with_a_reason_and_nothing_else(noise: bytes, start: bytes) -> None:
    for decode in (wire.decode_hello, wire.decode_status):
        with pytest.raises(WireError):
            decode(start + noise, GATEWAY)
    with pytest.raises(WireError):
        wire.decode_batch(start + noise, GATEWAY, "led")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["v", "gw", "stream", "epoch", "first", "prev", "bodies"]


@given(st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=3))
def test_well_formed_batch_with_foreign_values_is_taken_whole_or_refused(changes: dict[str, object]) -> None:
    with contextlib.suppress(WireError):
        batch = wire.decode_batch(raw(**changes), GATEWAY, "led")
        for name, value in changes.items():
            assert msgspec.json.decode(msgspec.json.encode(batch))[name] == value
