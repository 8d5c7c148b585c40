"""The daily checkpoint: what a gateway's ledger is at one record, signed by the device's own key.

It travels up as a record of the evt stream, so it is acknowledged, repeated and kept like any other:
an object with `condition` "checkpoint_signed" and the envelope (envelope.py) in hex as `detail`. The
sums are nano-currency over all postings of the journal; charges count negative, so balances are
credits plus charges. `at` is the gateway's wall time and orders nothing. Source: the wire contract, Proof.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cloud_sync.envelope import seal, signature_holds, split
from cloud_sync.wire import CONTRACT_VERSION, Epoch, GatewayId, HashHex, UnixTime, WireError, decode_json

DOMAIN_CHECKPOINT: Final = b"mg/1/chk\0"
CHECKPOINT_BYTES_MAX: Final = 1024
CONDITION: Final = "checkpoint_signed"

_INT64_MAX: Final = 2**63 - 1
SumNano = Annotated[int, msgspec.Meta(ge=-_INT64_MAX, le=_INT64_MAX)]
KeyId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ledger at one record. `head` is that record's hash, `kid` names the device key."""

    v: int
    gw: GatewayId
    kid: KeyId
    at: UnixTime
    epoch: Epoch
    seq: Annotated[int, msgspec.Meta(ge=1, le=_INT64_MAX)]
    head: HashHex
    credits_nano: Annotated[int, msgspec.Meta(ge=0, le=_INT64_MAX)]
    charges_nano: Annotated[int, msgspec.Meta(ge=-_INT64_MAX, le=0)]
    balances_nano: SumNano


def device_kid(key: Ed25519PublicKey) -> str:
    """The id of a device key: the first 16 hex digits of SHA-256 over its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The envelope of a checkpoint. It must name the key that signs it."""
    assert checkpoint.kid == device_kid(key.public_key())
    return seal(DOMAIN_CHECKPOINT, key, msgspec.json.encode(checkpoint))


def verify_checkpoint(envelope: bytes, key_of: Callable[[str], Ed25519PublicKey | None]) -> Checkpoint:
    """The checkpoint in an envelope; `key_of` knows the trusted device keys by id.

    Raises WireError: size, version, malformed, unknown_key, signature, sums.
    """
    if len(envelope) > CHECKPOINT_BYTES_MAX:
        raise WireError("size", f"{len(envelope)} bytes")
    parts = split(envelope)
    if parts is None:
        raise WireError("version")
    checkpoint = decode_json(_CHECKPOINT, parts.content)
    if checkpoint.v != CONTRACT_VERSION:
        raise WireError("version", str(checkpoint.v))
    key = key_of(checkpoint.kid)
    if key is None:
        raise WireError("unknown_key", checkpoint.kid)
    if not signature_holds(DOMAIN_CHECKPOINT, key, parts):
        raise WireError("signature")
    if checkpoint.credits_nano + checkpoint.charges_nano != checkpoint.balances_nano:
        raise WireError("sums", "credits and charges do not make the balances")
    return checkpoint


def checkpoint_in(body: bytes) -> bytes | None:
    """The envelope in the body of an evt record, None when the record is of something else.

    Raises WireError (malformed) for one that says it is a checkpoint and is none.
    """
    if CONDITION.encode() not in body:
        return None
    try:
        said = _NOTED.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if said.condition != CONDITION:
        return None
    try:
        return bytes.fromhex(said.detail)
    except ValueError as error:
        raise WireError("malformed", "detail is not hex") from error


class _Noted(msgspec.Struct):
    condition: str
    detail: str = ""


_CHECKPOINT: Final = msgspec.json.Decoder(Checkpoint)
_NOTED: Final = msgspec.json.Decoder(_Noted)
