"""The signed head of a day's tree: size and root over all checkpoints taken that day.

One tree per day (of the backend's clock, UTC, days since 1970); its leaves are the checkpoints'
envelopes in the order of their taking. A head names the root of the newest earlier day too, so the
days hang together. Signed by the ingest key. Source: the wire contract, Proof; RFC 6962.
"""

from typing import Annotated, Final

import msgspec

from cloud_sync.envelope import seal, signature_holds, split
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.wire import CONTRACT_VERSION, HashHex, ShortText, UnixTime, WireError, decode_json

DOMAIN_HEAD: Final = b"mg/1/sth\0"
HEAD_BYTES_MAX: Final = 1024
DAY_SECONDS: Final = 86_400

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class TreeHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the backend has in its tree of one day. `previous` is 64 zeros before the first day."""

    v: int
    kid: ShortText
    at: UnixTime
    day: Count
    size: Count
    root: HashHex
    previous: HashHex


def sign_head(head: TreeHead, signer: Signer) -> bytes:
    """The envelope of a head. It must name the signer's key."""
    assert head.kid == signer.kid
    return seal(DOMAIN_HEAD, signer.key, msgspec.json.encode(head))


def verify_head(envelope: bytes, ring: KeyRing) -> TreeHead:
    """The head in an envelope. Raises WireError: size, version, malformed, unknown_key, signature, role."""
    if len(envelope) > HEAD_BYTES_MAX:
        raise WireError("size", f"{len(envelope)} bytes")
    parts = split(envelope)
    if parts is None:
        raise WireError("version")
    head = decode_json(_HEAD, parts.content)
    if head.v != CONTRACT_VERSION:
        raise WireError("version", str(head.v))
    key = ring.get(head.kid)
    if key is None:
        raise WireError("unknown_key", head.kid)
    if not signature_holds(DOMAIN_HEAD, key.public_key, parts):
        raise WireError("signature")
    if key.role is not Role.INGEST:
        raise WireError("role", key.role.value)
    return head


_HEAD: Final = msgspec.json.Decoder(TreeHead)
