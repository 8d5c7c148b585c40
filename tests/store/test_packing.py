"""Bodies in the file: what is read is what was given, whatever it is, and damage of any bit is noticed."""

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.store import packing
from edge.store.packing import body_of, stored_body

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
STREAMS = ("led", "res", "evt", "rdg")


def recorded_readings() -> list[bytes]:
    """Bodies of readings as they were sent."""
    with closing(sqlite3.connect(f"{VECTOR.as_uri()}?mode=ro&immutable=1", uri=True)) as vector:
        return [row[0] for row in vector.execute("SELECT body FROM record WHERE stream = 'rdg' ORDER BY place")]


@given(stream=st.sampled_from(STREAMS), body=st.binary(max_size=300))
@example(stream="rdg", body=b"")
@example(stream="rdg", body=b"\x01")
@example(stream="rdg", body=b"\x01" + bytes(4))
@example(stream="rdg", body=stored_body("rdg", b'{"type":"ReadingsRecorded"}' * 9))
def test_body_comes_back_as_it_was(stream: str, body: bytes) -> None:
    assert body_of(stream, stored_body(stream, body)) == body


@given(stream=st.sampled_from(("led", "res", "evt")), body=st.binary(max_size=300))
def test_money_decisions_and_observations_lie_in_the_file_as_they_are(stream: str, body: bytes) -> None:
    assert stored_body(stream, body) == body


def test_readings_take_less_room_and_are_never_longer_than_they_were() -> None:
    bodies = recorded_readings()
    assert sum(len(stored_body("rdg", body)) for body in bodies) < 0.6 * sum(map(len, bodies))
    assert stored_body("rdg", b"{}") == b"{}"


def test_readings_of_older_versions_are_read_as_they_are() -> None:
    for body in recorded_readings():
        assert body_of("rdg", body) == body


def test_any_bit_that_flips_in_a_packed_body_is_noticed() -> None:
    """Those too that mean nothing to deflate: the padding after its last code."""
    body = recorded_readings()[0]
    stored = stored_body("rdg", body)
    for bit in range(8, 8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="the packed body is damaged"):
            body_of("rdg", bytes(damaged))
    for bit in range(8):  # of the first byte: it is another body, and does not have its hash
        assert body_of("rdg", bytes((stored[0] ^ 1 << bit,)) + stored[1:]) != body


def forged(content: bytes) -> bytes:
    """A packed body whose CRC is right."""
    return b"\x01" + zlib.crc32(content).to_bytes(4, "big") + content


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    "stored",
    [
        b"\x01",
        b"\x01\0\0\0",
        forged(b""),
        forged(deflated(b"{}" * 50)[:-1]),
        forged(deflated(b"{}" * 50) + b"more"),
        forged(b"\xff" * 20),
    ],
)
def test_packed_body_that_is_none_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="the packed body is damaged"):
        body_of("rdg", stored)


def test_packed_body_of_no_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    at_most, longer = b"7" * 1000, b"7" * 1001
    monkeypatch.setattr(packing, "_BODY_BYTES_MAX", 1000)
    assert body_of("rdg", forged(deflated(at_most))) == at_most
    assert stored_body("rdg", longer) == longer
    with pytest.raises(ValueError, match="does not end where it should"):
        body_of("rdg", forged(deflated(longer)))
