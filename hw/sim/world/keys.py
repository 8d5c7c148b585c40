"""Keys of a world, made from its seed so that every signature is the same in every run.

A world signs and checks some thousand acknowledgements a month. What a key here has signed itself, it knows again
without the arithmetic; every other signature is checked by it: forged, spoiled, or of other words.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import GENERATED_CREDIT_NANO_MAX, KeyEntry, KeyRing, Role, Signer

SIGNED_MAX = 4096


class WorldKey:
    """A private key with its public one: takes the place of both."""

    def __init__(self, seed: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self._public = self._private.public_key()
        self._signed: dict[tuple[bytes, bytes], None] = {}

    def sign(self, data: bytes) -> bytes:
        """A real signature."""
        signature = self._private.sign(data)
        self._signed[signature, data] = None
        if len(self._signed) > SIGNED_MAX:
            del self._signed[next(iter(self._signed))]
        return signature

    def holds(self, signature: bytes, data: bytes) -> bool:
        """As Ed25519PublicKey."""
        return (signature, data) in self._signed or self._public.holds(signature, data)


def seeded_keys(seed: str) -> tuple[KeyRing, Mapping[Role, Signer]]:
    """A key for every role, with the ring that trusts them."""
    keys: dict[Role, Any] = {role: WorldKey(f"{seed} {role.value}") for role in Role}
    signers = {role: Signer(f"{role.value}-1", key) for role, key in keys.items()}
    ring = KeyRing(
        KeyEntry(f"{role.value}-1", role, key, GENERATED_CREDIT_NANO_MAX if role is Role.VEND else None)
        for role, key in keys.items()
    )
    return ring, signers
