"""The commissioning record of one meter: what was mounted where, what it read, whether its relay obeys, who says so.

Energy is kWh as exact decimal text, power W as whole numbers, time ISO 8601 with its zone; no floats, so the signed
bytes are the same wherever they are made. Signature: Ed25519 (RFC 8032) over a domain prefix and the record as JSON
with sorted keys and no blanks.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

DOMAIN: Final = b"wattgate/commission/1\0"
FILE_BYTES_MAX: Final = 1_000_000


class RecordError(ValueError):
    """A record or a key that cannot be used, in one sentence."""


class LineFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the meter answers."""

    line_id: str
    address: str
    baud: int | None  # None behind a server
    format: str | None
    device_id: int


class WitnessReading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The register that is charged, and what a person saw on the display."""

    point: str
    unit: str
    register: str
    display: str | None
    agree: bool | None  # None: nobody looked
    voltages: dict[str, str]


class RelayTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Opened and closed once, each time read back. `switches_load` None: no load was there to be switched."""

    relay_id: str
    result: Literal["passed", "failed"]
    steps: list[str]
    power_before_w: int | None
    power_open_w: int | None
    power_after_w: int | None
    switches_load: bool | None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    meter_id: str
    at: str
    wattgate: str
    line: LineFacts
    model: str
    serial: str
    identity: dict[str, str]
    position: str
    ct_ratio: int
    account: str | None
    area: str | None
    area_role: Literal["supply", "customer"] | None
    relay: str | None
    witness: WitnessReading
    relay_test: RelayTest | None
    installer: str


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed, in hexadecimal."""

    public_key: str
    signature: str


class SignedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    v: Literal[1]
    record: Record
    signature: Signature


def signed_bytes(record: Record) -> bytes:
    """What is signed."""
    return DOMAIN + msgspec.json.encode(record, order="sorted")


def sign(record: Record, key: Ed25519PrivateKey) -> SignedRecord:
    """The record with its signature."""
    return SignedRecord(1, record, signature_of(signed_bytes(record), key))


def signature_holds(signed: SignedRecord) -> bool:
    """Whether the key that the record names has signed exactly this record."""
    return signature_fits(signed_bytes(signed.record), signed.signature)


def signature_of(data: bytes, key: Ed25519PrivateKey) -> Signature:
    """Whose key it is, and its signature."""
    return Signature(key.public_key().public_bytes_raw().hex(), key.sign(data).hex())


def signature_fits(data: bytes, signature: Signature) -> bool:
    """Whether the key that is named has signed exactly these bytes."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
        key.verify(bytes.fromhex(signature.signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(public_key: str) -> str:
    """The first half of SHA-256 of a public key, in groups people can compare."""
    digest = hashlib.sha256(public_key.encode()).hexdigest()[:32]
    return " ".join(digest[at : at + 4] for at in range(0, len(digest), 4))


def read_record(path: Path) -> SignedRecord:
    """A record's file. Raises RecordError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise RecordError(f"{path}: is larger than a record can be")
        return msgspec.json.decode(path.read_bytes(), type=SignedRecord)
    except OSError as problem:
        raise RecordError(f"{path}: {problem.strerror}") from problem
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise RecordError(f"{path}: is no commissioning record: {problem}") from problem


def record_json(signed: SignedRecord) -> bytes:
    """The file's bytes, for people with an editor too."""
    return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"


def make_key(path: Path) -> Ed25519PrivateKey:
    """A new key in a new file that only its owner can read. Raises RecordError if there is a file already."""
    key = Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise RecordError(f"{path}: {problem.strerror}") from problem
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """An installer's key: PEM, PKCS 8, Ed25519, without a password. Raises RecordError."""
    key = _loaded(path, lambda data: load_pem_private_key(data, None))
    if not isinstance(key, Ed25519PrivateKey):
        raise RecordError(f"{path}: must be an Ed25519 key")
    return key


def load_public_key(text: str) -> str:
    """A public key as 64 hexadecimal digits, given like that or as a PEM file. Raises RecordError."""
    if len(text) == 64:
        try:
            return bytes.fromhex(text).hex()
        except ValueError:
            pass  # then it is the name of a file
    key = _loaded(Path(text), load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise RecordError(f"{text}: must be an Ed25519 key")
    return key.public_bytes_raw().hex()


def _loaded(path: Path, load: Callable[[bytes], object]) -> object:
    try:
        return load(path.read_bytes())
    except OSError as problem:
        raise RecordError(f"{path}: {problem.strerror}") from problem
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise RecordError(f"{path}: is no key in PEM without a password") from problem
