"""Daily checkpoints and snapshots: the state of the accounts at a place of the journal, with its hash.

A checkpoint names the place, the seal and the heads there, the sums of money, and the SHA-256 of the
state; replay up to that place must give the same (SECURITY R7: it notices what no chain covers). A
snapshot is that state itself, so that a start need not replay everything; a damaged or foreign one
costs only time. States of another software version have another shape and are not read.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from edge.core.account import State
from edge.core.events import Event
from edge.core.lean import dataclass
from edge.core.units import UnixSeconds

_ENCODER = msgspec.json.Encoder(order="deterministic")
_STATE_BYTES_MAX = 256 * 1024 * 1024
_COMPRESSION = 1  # ids compress three to one at any level; this one costs the least


@dataclass(frozen=True, slots=True)
class Position:
    """A place of the journal, the seal there, and the head of each stream: epoch, seq, hash in hex."""

    place: int
    seal: str
    heads: Mapping[str, tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class Sums:
    """All postings so far, nano-currency: in favour of customers, against them, and what is on the accounts."""

    credits_nano: int = 0
    charges_nano: int = 0
    balances_nano: int = 0

    def plus(self, *events: Event) -> "Sums":
        """The sums after these events."""
        credits_nano, charges_nano = self.credits_nano, self.charges_nano
        for event in events:
            posting_nano = getattr(event, "posting_nano", 0)
            credits_nano += max(0, posting_nano)
            charges_nano += min(0, posting_nano)
        if (credits_nano, charges_nano) == (self.credits_nano, self.charges_nano):
            return self
        return Sums(credits_nano, charges_nano, credits_nano + charges_nano)


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at: int
    place: int
    seal: str
    heads: dict[str, tuple[int, int, str]]
    sums: Sums
    shape: str
    state: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as stored: `hash` is SHA-256 of `body`."""

    at: UnixSeconds
    position: Position
    sums: Sums
    shape: str
    state: str  # SHA-256 of the state's bytes, hex
    body: bytes
    hash: bytes

    @classmethod
    def make(cls, at: UnixSeconds, position: Position, sums: Sums, state: bytes) -> "Checkpoint":
        """The checkpoint of a state (as bytes) at a position."""
        digest = hashlib.sha256(state).hexdigest()
        heads = dict(position.heads)
        body = _ENCODER.encode(_Body(at, position.place, position.seal, heads, sums, state_shape(), digest))
        return cls(at, position, sums, state_shape(), digest, body, hashlib.sha256(body).digest())

    @classmethod
    def read(cls, place: object, digest: object, body: object) -> "Checkpoint | None":
        """The checkpoint of a row, None if it is damaged."""
        if not isinstance(body, bytes) or digest != hashlib.sha256(body).digest():
            return None
        try:
            found = msgspec.json.decode(body, type=_Body)
        except ValueError:
            return None
        position = Position(found.place, found.seal, found.heads)
        if found.place != place:
            return None
        at = UnixSeconds(found.at)
        return cls(at, position, found.sums, found.shape, found.state, body, hashlib.sha256(body).digest())

    def state_of(self, stored: object) -> bytes | None:
        """The state's bytes of a stored snapshot, None unless they are the ones this checkpoint was made of."""
        if not isinstance(stored, bytes):
            return None
        try:
            state = zlib.decompressobj().decompress(stored, _STATE_BYTES_MAX)
        except zlib.error:
            return None
        return state if hashlib.sha256(state).hexdigest() == self.state else None


def encode_state(state: State) -> bytes:
    """A state as bytes: equal states are equal bytes."""
    return _ENCODER.encode(state)


def decode_state(content: bytes) -> State:
    """The state of bytes. ValueError when it is none of this version."""
    state: State = msgspec.json.decode(content, type=State)
    return state


def packed(state: State, content: bytes) -> bytes | None:
    """A snapshot to store, or None for a state that would not come back the same."""
    try:
        same = decode_state(content) == state
    except (ValueError, TypeError):  # TypeError: a field of a kind that cannot be read back
        same = False
    return zlib.compress(content, _COMPRESSION) if same else None


@cache
def state_shape() -> str:
    """A fingerprint of the fields a state is made of: another version of the software has another one."""
    seen: dict[str, str] = {}
    _describe(State, seen)
    text = "\n".join(f"{name}: {seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _describe(kind: Any, seen: dict[str, str]) -> None:
    if is_dataclass(kind) and isinstance(kind, type) and kind.__qualname__ not in seen:
        hints = get_type_hints(kind)
        seen[kind.__qualname__] = ", ".join(f"{entry.name} {hints[entry.name]}" for entry in fields(kind))
        for hint in hints.values():
            _describe(hint, seen)
    for argument in get_args(kind):
        _describe(argument, seen)
