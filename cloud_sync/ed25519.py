"""Ed25519 keys and signatures (RFC 8032), by libsodium, and the PEM files of private keys (PKCS 8, RFC 8410).

A public key is 32 bytes, a private key the 32 bytes of its seed, a signature 64. The names are those of the
`cryptography` package. PyNaCl's own classes load 40 modules; its C binding alone is a tenth of that.
"""

import base64
import binascii
import secrets
from typing import Any, Final

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # compiled, so without types

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
# PrivateKeyInfo, version 0, id-Ed25519, no attributes: what openssl and everybody else writes. The seed follows.
_PKCS8: Final = bytes.fromhex("302e020100300506032b657004220420")
_PEM_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----"
_PEM_END: Final = b"-----END PRIVATE KEY-----"

if lib.sodium_init() < 0:
    raise ImportError("libsodium cannot be used: it found no source of random numbers")


class Ed25519PublicKey:
    """Checks signatures."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        """ValueError when these are not 32 bytes."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"an Ed25519 public key has {KEY_BYTES} bytes, these are {len(raw)}")
        self._raw = bytes(raw)

    @classmethod
    def from_public_bytes(cls, raw: bytes) -> "Ed25519PublicKey":
        return cls(raw)

    def public_bytes_raw(self) -> bytes:
        return self._raw

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature of this message."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        signed = signature + message
        opened, length = ffi.new("unsigned char[]", len(signed)), ffi.new("unsigned long long *")
        result: int = lib.crypto_sign_open(opened, length, signed, len(signed), self._raw)
        return result == 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ed25519PublicKey) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"Ed25519PublicKey({self._raw.hex()})"


class Ed25519PrivateKey:
    """Signs. Its text never shows the key."""

    __slots__ = ("_pair", "_public", "_seed")

    def __init__(self, seed: bytes) -> None:
        """ValueError when these are not 32 bytes."""
        if len(seed) != KEY_BYTES:
            raise ValueError(f"an Ed25519 private key has {KEY_BYTES} bytes, these are {len(seed)}")
        public, pair = ffi.new("unsigned char[]", KEY_BYTES), ffi.new("unsigned char[]", 2 * KEY_BYTES)
        result: int = lib.crypto_sign_seed_keypair(public, pair, bytes(seed))
        assert result == 0
        self._seed, self._pair, self._public = bytes(seed), pair, Ed25519PublicKey(_bytes_of(public))

    @classmethod
    def generate(cls) -> "Ed25519PrivateKey":
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_private_bytes(cls, seed: bytes) -> "Ed25519PrivateKey":
        return cls(seed)

    def private_bytes_raw(self) -> bytes:
        return self._seed

    def public_key(self) -> Ed25519PublicKey:
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        signed = ffi.new("unsigned char[]", SIGNATURE_BYTES + len(message))
        result: int = lib.crypto_sign(signed, ffi.new("unsigned long long *"), message, len(message), self._pair)
        assert result == 0
        return _bytes_of(signed)[:SIGNATURE_BYTES]


def private_key_pem(key: Ed25519PrivateKey) -> bytes:
    """A private key as the text of its file."""
    return b"\n".join([_PEM_BEGIN, base64.b64encode(_PKCS8 + key.private_bytes_raw()), _PEM_END, b""])


def read_private_key(pem: bytes) -> Ed25519PrivateKey:
    """The private key in a file's text. ValueError, a sentence for people: there is none, or one of another kind."""
    _before, begin, rest = pem.partition(_PEM_BEGIN)
    text, end, _after = rest.partition(_PEM_END)
    try:
        found = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        found = b""
    if not begin or not end or not found:
        raise ValueError("is no private key in PEM (PKCS 8, without a password)")
    if not found.startswith(_PKCS8) or len(found) != len(_PKCS8) + KEY_BYTES:
        raise ValueError("is not an Ed25519 key")
    return Ed25519PrivateKey(found[len(_PKCS8) :])


def _bytes_of(array: Any) -> bytes:
    return bytes(ffi.buffer(array))
