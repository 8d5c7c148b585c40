"""The signed envelope everything coming down travels in.

Version byte 0x01, 64 bytes Ed25519 signature (RFC 8032), then the signed bytes. The signature
covers a domain prefix and those bytes as transmitted, so nothing is ever re-serialised to be
checked, and a signature for one purpose is worth nothing for another.
"""

from typing import Final

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ENVELOPE_VERSION: Final = 0x01
SIGNATURE_BYTES: Final = 64
OVERHEAD_BYTES: Final = 1 + SIGNATURE_BYTES

DOMAIN_ORDER: Final = b"mg/1/cmd\0"
DOMAIN_DOCUMENT: Final = b"mg/1/cfg\0"
DOMAIN_APPROVAL: Final = b"mg/1/approve\0"
DOMAIN_ACK: Final = b"mg/1/ack\0"


class Envelope(msgspec.Struct, frozen=True):
    """An envelope taken apart, its signature not yet checked."""

    signature: bytes
    content: bytes


def seal(domain: bytes, key: Ed25519PrivateKey, content: bytes) -> bytes:
    """The envelope around `content`, signed for `domain`."""
    return bytes((ENVELOPE_VERSION,)) + key.sign(domain + content) + content


def split(envelope: bytes) -> Envelope | None:
    """Takes an envelope apart; None when it is too short or of another version."""
    if len(envelope) <= OVERHEAD_BYTES or envelope[0] != ENVELOPE_VERSION:
        return None
    return Envelope(envelope[1:OVERHEAD_BYTES], envelope[OVERHEAD_BYTES:])


def signature_holds(domain: bytes, key: Ed25519PublicKey, envelope: Envelope) -> bool:
    """Whether `key` signed this content for this domain."""
    return key.holds(envelope.signature, domain + envelope.content)
