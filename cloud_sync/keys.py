"""Who may sign what: the key ring a gateway pins, and the key files of the cloud side.

A key directory holds `keyring.json` (public, goes to the gateways) and one `<kid>.pem` (PKCS 8)
for each private key this host may use. Caps are nano-currency per order. Ed25519, RFC 8032.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey, Ed25519PublicKey, private_key_pem, read_private_key

KEYRING_FILE: Final = "keyring.json"


class Role(Enum):
    """What a key is for. A key has one role, so a stolen one opens one door."""

    ROOT = "root"  # rotates keys
    OPS = "ops"  # cuts, restores, configures
    VEND = "vend"  # credits, capped
    TARIFF = "tariff"  # signs tariffs: a second person
    INGEST = "ingest"  # signs acknowledgements


class KeyEntry(msgspec.Struct, frozen=True):
    """One trusted public key. `credit_nano_max` caps a single credit; None: it may not credit."""

    kid: str
    role: Role
    public_key: Ed25519PublicKey
    credit_nano_max: int | None = None


class KeyRing:
    """The keys a gateway trusts, by key id."""

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self._by_kid: dict[str, KeyEntry] = {}
        for entry in entries:
            if entry.kid in self._by_kid:
                raise ValueError(f"key id {entry.kid!r} appears twice")
            self._by_kid[entry.kid] = entry

    def get(self, kid: str) -> KeyEntry | None:
        return self._by_kid.get(kid)

    def __iter__(self) -> Iterator[KeyEntry]:
        return iter(self._by_kid.values())


class Signer(msgspec.Struct, frozen=True):
    """A private key with the id its signatures name."""

    kid: str
    key: Ed25519PrivateKey


# --- files ------------------------------------------------------------------------------------


class _EntryFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    kid: str
    role: Role
    public_key: str  # 32 bytes, hex
    credit_nano_max: int | None = None


def load_key_ring(path: Path) -> KeyRing:
    """The key ring in a JSON file. Raises ValueError with a sentence for people, or OSError."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_EntryFile])
        return KeyRing(_entry_of(entry) for entry in entries)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def save_key_ring(path: Path, ring: KeyRing) -> None:
    """Writes the public ring as JSON."""
    entries = [
        _EntryFile(entry.kid, entry.role, entry.public_key.public_bytes_raw().hex(), entry.credit_nano_max)
        for entry in ring
    ]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")


def load_signer(directory: Path, kid: str) -> Signer:
    """The private key `<kid>.pem` of a key directory. Raises ValueError or OSError."""
    return Signer(kid, load_private_key(directory / f"{kid}.pem"))


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file (PKCS 8, PEM). Raises ValueError with a sentence for people, or OSError."""
    try:
        return read_private_key(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_signers(directory: Path) -> dict[Role, Signer]:
    """One signer per role for which this directory holds the private key (first in the ring wins)."""
    signers: dict[Role, Signer] = {}
    for entry in load_key_ring(directory / KEYRING_FILE):
        if entry.role in signers or not (directory / f"{entry.kid}.pem").exists():
            continue
        signer = load_signer(directory, entry.kid)
        if signer.key.public_key() != entry.public_key:
            raise ValueError(f"{entry.kid}.pem does not belong to the public key in {KEYRING_FILE}")
        signers[entry.role] = signer
    return signers


def save_signer(directory: Path, signer: Signer) -> None:
    """Writes a private key readable by its owner only."""
    handle = os.open(directory / f"{signer.kid}.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(private_key_pem(signer.key))


# 10,000 currency units: the cap of a generated vend key.
GENERATED_CREDIT_NANO_MAX: Final = 10_000 * 1_000_000_000


def generate_keys(credit_nano_max: int = GENERATED_CREDIT_NANO_MAX) -> tuple[KeyRing, Mapping[Role, Signer]]:
    """A fresh key for every role, for demos and tests, with the ring that trusts them."""
    signers = {role: Signer(f"{role.value}-1", Ed25519PrivateKey.generate()) for role in Role}
    ring = KeyRing(
        KeyEntry(signer.kid, role, signer.key.public_key(), credit_nano_max if role is Role.VEND else None)
        for role, signer in signers.items()
    )
    return ring, signers


def generate_key_directory(directory: Path, credit_nano_max: int = GENERATED_CREDIT_NANO_MAX) -> KeyRing:
    """Writes a fresh ring and all its private keys into `directory`, which is made if absent."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ring, signers = generate_keys(credit_nano_max)
    save_key_ring(directory / KEYRING_FILE, ring)
    for signer in signers.values():
        save_signer(directory, signer)
    return ring


def _entry_of(entry: _EntryFile) -> KeyEntry:
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(entry.public_key))
    return KeyEntry(entry.kid, entry.role, public_key, entry.credit_nano_max)
