"""The gateway, keys, records and messages that the vectors are made of. Nothing here is secret or random."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import KeyEntry, KeyRing, Role, Signer
from cloud_sync.proof.checkpoint import Checkpoint, device_kid
from cloud_sync.wire import (
    CONTRACT_VERSION,
    ZERO_HASH,
    Ack,
    Batch,
    Head,
    Hello,
    Mark,
    Order,
    RosterEntry,
    Status,
    record_hash,
    roster_hash,
)

GATEWAY: Final = "gw-1"
METER: Final = "M01"
AT: Final = 1_790_000_000  # 2026-09-21T14:13:20Z
CREDIT_NANO_MAX: Final = 500_000_000_000  # 500 currency units

# Bodies of the first ledger records. The third is not ASCII: the hash is over UTF-8 bytes.
BODIES: Final = (
    '{"type":"AccountOpened","at":1790000000,"account":"A01","posting_nano":0,"balance_nano":0}',
    '{"type":"PaymentApplied","at":1790000100,"account":"A01","posting_nano":50000000000,"balance_nano":50000000000}',
    '{"type":"Note","at":1790000200,"account":"A01","text":"用户已缴费"}',
    '{"type":"BillIssued","at":1790000300,"account":"A01","posting_nano":-1250000000,"balance_nano":48750000000}',
)


def seed_of(name: str) -> bytes:
    """The private seed of a test key."""
    return hashlib.sha256(f"wattgate contract 1 test key {name}".encode()).digest()


def _signer(kid: str) -> Signer:
    return Signer(kid, Ed25519PrivateKey.from_private_bytes(seed_of(kid)))


SIGNERS: Final[Mapping[str, Signer]] = {f"{role.value}-1": _signer(f"{role.value}-1") for role in Role}
STRANGER: Final = _signer("stranger-1")  # in nobody's ring
DEVICE_KEY: Final = Ed25519PrivateKey.from_private_bytes(seed_of("device"))
RING: Final = KeyRing(
    KeyEntry(kid, Role(kid.removesuffix("-1")), signer.key.public_key(), CREDIT_NANO_MAX if kid == "vend-1" else None)
    for kid, signer in SIGNERS.items()
)


def encoded(message: Any) -> bytes:
    """A message as its JSON."""
    return msgspec.json.encode(message)


def raw(message: Any) -> bytes:
    """A message as it goes up without compression."""
    return b"\0" + encoded(message)


def chain_of(bodies: Sequence[str], stream: str = "led", epoch: int = 1, first: int = 1) -> list[bytes]:
    """The hashes of records from `first` on, which follow ZERO_HASH."""
    chain = [ZERO_HASH]
    for seq, body in enumerate(bodies, first):
        chain.append(record_hash(GATEWAY, stream, epoch, seq, chain[-1], body.encode()))
    return chain[1:]


def batch_of(bodies: Sequence[str], first: int = 1, previous: bytes = ZERO_HASH, epoch: int = 1) -> Batch:
    """Ledger records as one message."""
    return Batch(
        v=CONTRACT_VERSION,
        gw=GATEWAY,
        stream="led",
        epoch=epoch,
        first=first,
        prev=previous.hex(),
        bodies=tuple(bodies),
    )


def hello_of(seq: int = 0, digest: bytes = ZERO_HASH, acked: int = 0, epoch: int = 1) -> Hello:
    """A hello of a gateway whose ledger stands at `seq`."""
    roster = (RosterEntry(meter=METER, account="A01"),)
    none = Head(epoch=epoch, seq=0, hash=ZERO_HASH.hex(), acked=0)
    return Hello(
        v=CONTRACT_VERSION,
        gw=GATEWAY,
        epoch=epoch,
        boot="boot-1",
        clock="ntp",
        at=AT,
        software="stranger 1.0",
        roster=roster,
        roster_hash=roster_hash(roster),
        heads={
            "led": Head(epoch=epoch, seq=seq, hash=digest.hex(), acked=acked),
            **dict.fromkeys(("res", "evt", "rdg"), none),
        },
    )


def status_of(online: bool) -> Status:
    """The retained status."""
    return Status(v=CONTRACT_VERSION, gw=GATEWAY, online=online, epoch=1, boot="boot-1")


def ack_of(marks: dict[str, Mark], kid: str = "ingest-1", gateway: str = GATEWAY) -> Ack:
    """An ack of the sample's time."""
    return Ack(v=CONTRACT_VERSION, gw=gateway, kid=kid, at=AT, marks=marks)


def order_of(order_type: str, kid: str, **fields: Any) -> Order:
    """An order to the sample's meter."""
    named = {"cid": f"{order_type}-1", "gw": GATEWAY, "meter": METER, "args": {}, "nbf": AT, **fields}
    return Order(v=CONTRACT_VERSION, type=order_type, kid=kid, **named)


def credit_of(**fields: Any) -> Order:
    """A credit of 50 currency units."""
    args = {"amount_nano": 50_000_000_000, "payment_id": "P-77", "paid_at": AT}
    return order_of("credit", **{"kid": "vend-1", "args": args, **fields})


def checkpoint_of() -> Checkpoint:
    """The checkpoint after the sample's ledger."""
    return Checkpoint(
        v=CONTRACT_VERSION,
        gw=GATEWAY,
        kid=device_kid(DEVICE_KEY.public_key()),
        at=AT + 400,
        epoch=1,
        seq=len(BODIES),
        head=chain_of(BODIES)[-1].hex(),
        credits_nano=50_000_000_000,
        charges_nano=-1_250_000_000,
        balances_nano=48_750_000_000,
    )
