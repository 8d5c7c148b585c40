"""The messages between a gateway and its cloud: topics, schema, bytes, and the record hash.

What goes up (`up/*`, `st`) is a flag byte (0 raw, 1 zlib) and JSON; what comes down (`dn/*`) is a
signed envelope (envelope.py). The msgspec structs here are the schema. Money is nano-currency,
energy Wh, `at` Unix seconds, hashes lower-case hex. Source: the wire contract, version 1.
"""

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeGuard, TypeVar

import msgspec

CONTRACT_VERSION: Final = 1

# Send order. The money comes first, so a backlog of readings never delays it.
STREAMS: Final = ("led", "res", "evt", "rdg")

PAYLOAD_BYTES_MAX: Final = 256 * 1024  # on the wire
TEXT_BYTES_MAX: Final = 1024 * 1024  # after decompression: a bomb is refused at this size
BATCH_RECORDS_MAX: Final = 500
ROSTER_ENTRIES_MAX: Final = 4096

ZERO_HASH: Final = bytes(32)

# The look-ahead keeps Python's `$` from accepting a final line feed; ECMA 262 reads it alike.
_GATEWAY_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,23}(?!\n)$"
_LOCAL_ID_PATTERN: Final = r"^[A-Za-z0-9_.:-]{1,64}(?!\n)$"
_HASH_PATTERN: Final = r"^[0-9a-f]{64}(?!\n)$"
_SEQ_MAX: Final = 2**63 - 1

GatewayId = Annotated[str, msgspec.Meta(pattern=_GATEWAY_ID_PATTERN)]
LocalId = Annotated[str, msgspec.Meta(pattern=_LOCAL_ID_PATTERN)]
HashHex = Annotated[str, msgspec.Meta(pattern=_HASH_PATTERN)]
StreamName = Annotated[str, msgspec.Meta(pattern=r"^(led|res|evt|rdg)(?!\n)$")]
Epoch = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Sequence64 = Annotated[int, msgspec.Meta(ge=0, le=_SEQ_MAX)]
UnixTime = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
ShortText = Annotated[str, msgspec.Meta(max_length=128)]


class WireError(Exception):
    """A message that does not follow the contract. `reason` is stable for programs.

    Reasons: empty, size, flag, compression, malformed, version, stream, gateway.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one stream is known. In an ack `hash` names the record acknowledged."""

    epoch: Epoch
    seq: Sequence64
    hash: HashHex
    miss: tuple[Sequence64, Sequence64] | None = None  # first and last seq asked for again
    fenced: bool = False  # a newer epoch has been opened: stop sending this one


class RosterEntry(msgspec.Struct, frozen=True):
    """Which account hangs on which meter."""

    meter: LocalId
    account: LocalId


class Head(msgspec.Struct, frozen=True):
    """The newest record of a stream as the gateway has it, and how far it was acknowledged."""

    epoch: Epoch
    seq: Sequence64
    hash: HashHex
    acked: Sequence64


class Hello(msgspec.Struct, frozen=True):
    """Birth message, sent at every connect. Unknown fields are ignored."""

    v: int
    gw: GatewayId
    epoch: Epoch
    boot: ShortText
    clock: Annotated[str, msgspec.Meta(pattern=r"^(ntp|rtc|floor|unset)(?!\n)$")]
    at: UnixTime
    software: ShortText
    roster: Annotated[tuple[RosterEntry, ...], msgspec.Meta(max_length=ROSTER_ENTRIES_MAX)]
    roster_hash: HashHex
    heads: dict[StreamName, Head]


class Status(msgspec.Struct, frozen=True):
    """The retained `st` message, also the Will. Unknown fields are ignored."""

    v: int
    gw: GatewayId
    online: bool
    epoch: Epoch
    boot: ShortText


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Consecutive records of one stream. Bodies are the hashed bytes, as UTF-8 text.

    The receiver rebuilds every record's hash from `prev` on, so no hash travels but the first.
    A reading record travels alone.
    """

    v: int
    gw: GatewayId
    stream: StreamName
    epoch: Epoch
    first: Annotated[int, msgspec.Meta(ge=1, le=_SEQ_MAX)]
    prev: HashHex
    bodies: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the backend has committed, per stream and cumulative, with its time. Always signed.

    Unknown fields are ignored, so a newer backend may add hints.
    """

    v: int
    gw: GatewayId
    kid: ShortText
    at: UnixTime
    marks: dict[StreamName, Mark]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command to a gateway. A field nobody knows may be a condition, so it is refused.

    `credit` has no `exp`; `cut` and `restore` carry `exp` and the meter's supply version `sv`.
    """

    v: int
    cid: LocalId
    gw: GatewayId
    meter: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{0,64}(?!\n)$")]  # empty: the whole gateway
    type: ShortText
    args: dict[str, Any]
    nbf: UnixTime
    kid: ShortText
    exp: UnixTime | None = None
    sv: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a second person signs before an order that takes money back: the order's own content, without its times.

    Its envelope travels in the order's `args` as `approval`, hexadecimal.
    """

    v: int
    cid: LocalId
    gw: GatewayId
    meter: str
    type: ShortText
    args: dict[str, Any]  # all but `approval`
    kid: ShortText


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Versioned desired state. A `set_*` order activates it by version and SHA-256 of `body`."""

    v: int
    gw: GatewayId
    kind: ShortText  # tariff | policy | roster | config | keys
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    body: str
    nbf: UnixTime
    kid: ShortText

    @property
    def body_hash(self) -> str:
        return hashlib.sha256(self.body.encode()).hexdigest()


# --- topics -----------------------------------------------------------------------------------


class Topic(msgspec.Struct, frozen=True):
    """A topic taken apart. `channel`: up/hello, up/led ..., st, dn/ack, dn/cmd, dn/cfg."""

    gateway_id: str
    channel: str


CHANNELS: Final = frozenset(("up/hello", "up/led", "up/res", "up/evt", "up/rdg", "st", "dn/ack", "dn/cmd", "dn/cfg"))

# What a backend subscribes to.
UP_TOPICS: Final = ("mg/1/+/+/up/+", "mg/1/+/+/st")


def topic_of(gateway_id: str, channel: str) -> str:
    """The topic of one channel of one gateway."""
    assert channel in CHANNELS
    return f"mg/1/{shard_of(gateway_id)}/{gateway_id}/{channel}"


def parse_topic(topic: str) -> Topic | None:
    """Takes a topic apart; None when it is not one of ours or its shard is not the gateway's."""
    parts = topic.split("/", 4)
    if len(parts) != 5 or parts[0] != "mg" or parts[1] != "1":
        return None
    shard, gateway_id, channel = parts[2:]
    if channel not in CHANNELS or not is_gateway_id(gateway_id) or shard != shard_of(gateway_id):
        return None
    return Topic(gateway_id, channel)


def shard_of(gateway_id: str) -> str:
    """First byte of SHA-256 of the gateway id, two hex digits."""
    return hashlib.sha256(gateway_id.encode()).hexdigest()[:2]


def is_gateway_id(text: str) -> bool:
    """Whether this may be a gateway's id: 1 to 23 letters, digits, underscores and dashes."""
    return re.search(_GATEWAY_ID_PATTERN, text) is not None


def is_local_id(value: object) -> TypeGuard[str]:
    """Whether this may be the id of a meter, an account or a command: 1 to 64 of the same, dots and colons."""
    return isinstance(value, str) and re.search(_LOCAL_ID_PATTERN, value) is not None


# --- records ----------------------------------------------------------------------------------


def record_bytes(gateway_id: str, stream: str, epoch: int, seq: int, previous_hash: bytes, body: bytes) -> bytes:
    """The bytes of a record that are hashed. The first record of a stream and epoch has ZERO_HASH before it."""
    return f'["{gateway_id}","{stream}",{epoch},{seq},"{previous_hash.hex()}"]\n'.encode() + body


def record_hash(gateway_id: str, stream: str, epoch: int, seq: int, previous_hash: bytes, body: bytes) -> bytes:
    """SHA-256 of the record's bytes: what the next record names as its predecessor."""
    return hashlib.sha256(record_bytes(gateway_id, stream, epoch, seq, previous_hash, body)).digest()


def roster_hash(roster: Sequence[RosterEntry]) -> str:
    """Hex SHA-256 over the roster's JSON in the order given."""
    return hashlib.sha256(msgspec.json.encode(list(roster))).hexdigest()


# --- payloads ---------------------------------------------------------------------------------

_FLAG_RAW: Final = 0
_FLAG_ZLIB: Final = 1
_COMPRESS_FROM_BYTES: Final = 256  # below this zlib saves nothing worth its CPU

Upward = Hello | Status | Batch
_Upward = TypeVar("_Upward", Hello, Status, Batch)

_HELLO: Final = msgspec.json.Decoder(Hello)
_STATUS: Final = msgspec.json.Decoder(Status)
_BATCH: Final = msgspec.json.Decoder(Batch)


def encode_payload(message: Upward) -> bytes:
    """A message as it goes up: flag byte and JSON, compressed when that pays.

    Raises WireError (size) when the receiver would refuse it.
    """
    text = msgspec.json.encode(message)
    if len(text) > TEXT_BYTES_MAX:
        raise WireError("size", f"{len(text)} bytes of text")
    payload = bytes((_FLAG_RAW,)) + text
    if len(text) >= _COMPRESS_FROM_BYTES:
        packed = zlib.compress(text, 6)
        if len(packed) < len(text):
            payload = bytes((_FLAG_ZLIB,)) + packed
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise WireError("size", f"{len(payload)} bytes of payload")
    return payload


def decode_hello(payload: bytes, gateway_id: str) -> Hello:
    """The hello in a payload that came on `gateway_id`'s topic. Raises WireError, nothing else."""
    return _of_gateway(_decode(_HELLO, payload), gateway_id)


def decode_status(payload: bytes, gateway_id: str) -> Status:
    """The status in a payload that came on `gateway_id`'s topic. Raises WireError, nothing else."""
    return _of_gateway(_decode(_STATUS, payload), gateway_id)


def decode_batch(payload: bytes, gateway_id: str, stream: str) -> Batch:
    """The batch in a payload that came on this topic. Raises WireError, nothing else."""
    batch = _of_gateway(_decode(_BATCH, payload), gateway_id)
    if batch.stream != stream:
        raise WireError("stream", batch.stream)
    if stream == "rdg" and len(batch.bodies) != 1:
        raise WireError("malformed", "a reading record travels alone")
    if batch.first + len(batch.bodies) - 1 > _SEQ_MAX:
        raise WireError("malformed", "sequence above 2^63 - 1")
    try:
        batch_bodies(batch)
    except UnicodeEncodeError as error:  # a lone surrogate, escaped, is no UTF-8
        raise WireError("malformed", "a body is not UTF-8") from error
    return batch


def batch_bodies(batch: Batch) -> tuple[bytes, ...]:
    """The bodies as the bytes that were hashed."""
    return tuple(body.encode() for body in batch.bodies)


def unpack_text(payload: bytes) -> bytes:
    """The JSON text behind the flag byte, never more than TEXT_BYTES_MAX. Raises WireError."""
    if not payload:
        raise WireError("empty")
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise WireError("size", f"{len(payload)} bytes of payload")
    if payload[0] == _FLAG_RAW:
        return payload[1:]
    if payload[0] != _FLAG_ZLIB:
        raise WireError("flag", str(payload[0]))
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(payload[1:], TEXT_BYTES_MAX + 1)
    except zlib.error as error:
        raise WireError("compression", str(error)) from error
    if len(text) > TEXT_BYTES_MAX:
        raise WireError("size", "more text than allowed")
    if not inflater.eof or inflater.unused_data:
        raise WireError("compression", "cut short or bytes after its end")
    return text


def _decode(decoder: "msgspec.json.Decoder[_Upward]", payload: bytes) -> _Upward:
    text = unpack_text(payload)
    message = decode_json(decoder, text)
    if message.v != CONTRACT_VERSION:
        raise WireError("version", str(message.v))
    return message


class _Versioned(msgspec.Struct):
    v: int


_VERSIONED: Final = msgspec.json.Decoder(_Versioned)
_Any = TypeVar("_Any")


def decode_json(decoder: "msgspec.json.Decoder[_Any]", text: bytes) -> _Any:
    """Typed decoding whose every failure is a WireError: `version` for another contract, else `malformed`."""
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = "version" if _is_other_version(text) else "malformed"
        raise WireError(reason, str(error)[:200]) from error


def _is_other_version(text: bytes) -> bool:
    try:
        return _VERSIONED.decode(text).v != CONTRACT_VERSION
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _of_gateway(message: _Upward, gateway_id: str) -> _Upward:
    if message.gw != gateway_id:
        raise WireError("gateway", message.gw)
    return message
