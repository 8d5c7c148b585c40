"""The two chains of a journal: each stream's own, and the seals over the order of all of them.

A record names the SHA-256 of the record before it in its stream and epoch; that hash travels. A
seal is one per commit and stays here: SHA-256 over the seal before, the commit's last place, and
place, stream, epoch, seq and hash of each of its records. Readings may be thinned, so a seal leaves
them out; where they stand shows in the state of the daily checkpoint.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from edge.ports import StoredRecord
from edge.store.packing import body_of

STREAMS = ("led", "res", "evt", "rdg")
SEALED_STREAMS = ("led", "res", "evt")
NO_HASH = bytes(32)

# (gateway id, stream, epoch, seq, hash of the record before, body) -> SHA-256 of the record
RecordHash = Callable[[str, str, int, int, bytes, bytes], bytes]
# (place, stream, epoch, seq, hash of the record)
Sealed = tuple[int, str, int, int, bytes]

_SEAL_DOMAIN = b"wattgate/seal/1\0"
_MARK_DOMAIN = b"wattgate/mark/1\0"


class ChainBroken(ValueError):
    """A record does not follow the one before it; the text names stream and seq."""

    def __init__(self, stream: object, seq: object, sentence: str) -> None:
        super().__init__(sentence)
        self.stream, self.seq = stream, seq


def first_seal(gateway_id: str) -> bytes:
    """What the first seal of a gateway's journal follows."""
    return hashlib.sha256(_SEAL_DOMAIN + gateway_id.encode()).digest()


def next_seal(previous: bytes, place: int, records: Iterable[Sealed]) -> bytes:
    """The seal of a commit that ends at `place`. Records of streams that are not sealed are passed over."""
    digest = hashlib.sha256(_SEAL_DOMAIN + previous + place.to_bytes(8, "big"))
    for at, stream, epoch, seq, record_hash in records:
        if stream in SEALED_STREAMS:
            digest.update(b"%d %s %d %d " % (at, stream.encode(), epoch, seq))
            digest.update(record_hash)
    return digest.digest()


def mark_hash(gateway_id: str, stream: str, epoch: int, acked_seq: int) -> bytes:
    """What proves that a mark is as it was written."""
    return hashlib.sha256(_MARK_DOMAIN + f"{gateway_id} {stream} {epoch} {acked_seq}".encode()).digest()


@dataclass(slots=True)
class ChainCheck:
    """Follows the records of a journal in their order and says where one does not follow."""

    gateway_id: str
    record_hash: RecordHash
    heads: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)  # stream -> (epoch, seq, hash)

    def take(self, row: tuple[Any, ...]) -> StoredRecord:
        """The record of a row (stream, epoch, seq, hash, stored body). ChainBroken if it is none or does not follow."""
        stream, epoch, seq, found, stored = row
        if stream not in STREAMS or not isinstance(epoch, int) or not isinstance(stored, bytes):
            raise ChainBroken(stream, seq, f"stream {stream!r}, seq {seq!r}: is not a record")
        try:
            body = body_of(stream, stored)
        except ValueError as error:
            raise ChainBroken(stream, seq, f"{stream} {seq}: {error}: the chain is broken") from error
        last_epoch, last_seq, last_hash = self.heads.get(stream, (epoch, 0, NO_HASH))
        if epoch > last_epoch:  # a new epoch begins its chains anew
            last_seq, last_hash = 0, NO_HASH
        if epoch < last_epoch or seq != last_seq + 1:
            raise ChainBroken(stream, seq, f"{stream} {seq} does not follow {last_seq}: the chain is broken")
        expected = self.record_hash(self.gateway_id, stream, epoch, seq, last_hash, body)
        if found != expected:
            raise ChainBroken(stream, seq, f"{stream} {seq} does not follow {last_seq}: the chain is broken")
        self.heads[stream] = (epoch, seq, expected)
        return StoredRecord(stream, epoch, seq, expected, body)


@dataclass(slots=True)
class SealCheck:
    """Follows the seals beside the records."""

    place: int
    hash: bytes
    _open: list[Sealed] = field(default_factory=list)

    def record(self, place: int, record: StoredRecord) -> None:
        """A record since the last seal."""
        self._open.append((place, record.stream, record.epoch, record.seq, record.hash))

    def seal(self, place: int, found: object) -> None:
        """The seal of what came since the last one. ChainBroken if it is another."""
        expected = next_seal(self.hash, place, self._open)
        if found != expected:
            raise ChainBroken("seal", place, f"the seal at place {place} does not fit the records before it")
        self.place, self.hash = place, expected
        self._open.clear()

    def end(self) -> None:
        """Nothing more comes. ChainBroken if records stand behind the last seal."""
        if self._open:
            _place, stream, _epoch, seq, _hash = self._open[0]
            raise ChainBroken(stream, seq, f"{stream} {seq} stands behind the last seal: half a commit")
