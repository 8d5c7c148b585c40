"""Acknowledgements: what the backend has committed, signed by its ingest key.

An ack means "stop sending", and proves receipt after the commit; a broker's PUBACK proves
nothing. Only a signed one moves a gateway's mark. Source: the wire contract, Up.
"""

from typing import Final

import msgspec

from cloud_sync.envelope import DOMAIN_ACK, seal, signature_holds, split
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.wire import CONTRACT_VERSION, Ack, WireError, decode_json

ACK_BYTES_MAX: Final = 4096


def sign_ack(ack: Ack, signer: Signer) -> bytes:
    """The envelope of an acknowledgement. It must name the signer's key."""
    assert ack.kid == signer.kid
    return seal(DOMAIN_ACK, signer.key, msgspec.json.encode(ack))


def verify_ack(envelope: bytes, ring: KeyRing, gateway_id: str) -> Ack:
    """The ack in an envelope. Raises WireError: size, version, malformed, unknown_key, signature, role, gateway."""
    if len(envelope) > ACK_BYTES_MAX:
        raise WireError("size", f"{len(envelope)} bytes")
    parts = split(envelope)
    if parts is None:
        raise WireError("version")
    ack = decode_json(_ACK, parts.content)
    if ack.v != CONTRACT_VERSION:
        raise WireError("version", str(ack.v))
    key = ring.get(ack.kid)
    if key is None:
        raise WireError("unknown_key", ack.kid)
    if not signature_holds(DOMAIN_ACK, key.public_key, parts):
        raise WireError("signature")
    if key.role is not Role.INGEST:
        raise WireError("role", key.role.value)
    if ack.gw != gateway_id:
        raise WireError("gateway", ack.gw)
    return ack


_ACK: Final = msgspec.json.Decoder(Ack)
