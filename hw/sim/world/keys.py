"""Keys of a world, made from its seed so that every signature is the same in every run."""

import hashlib
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud_sync.keys import GENERATED_CREDIT_NANO_MAX, KeyEntry, KeyRing, Role, Signer


def seeded_keys(seed: str) -> tuple[KeyRing, Mapping[Role, Signer]]:
    """A key for every role, with the ring that trusts them."""
    signers = {role: Signer(f"{role.value}-1", _key(f"{seed} {role.value}")) for role in Role}
    ring = KeyRing(
        KeyEntry(
            signer.kid,
            role,
            signer.key.public_key(),
            GENERATED_CREDIT_NANO_MAX if role is Role.VEND else None,
        )
        for role, signer in signers.items()
    )
    return ring, signers


def _key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
