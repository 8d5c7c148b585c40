"""Whether a customer's receipt is in the history that a signed head stands for.

A receipt quotes a ledger record: gateway, epoch, seq, and its hash (all of it, or the first digits
as the console shows them). The proof shows the records from there to the next checkpoint, the
checkpoint as the device signed it, and its path in the tree. Files are JSON; hashes and envelopes hex.

`verify_receipt` refuses with the first reason that applies, in this order:

    head_...         the head: size, version, malformed, unknown_key, signature, role (head.py)
    device_key       the proof's device key is not the one the verifier trusts
    checkpoint_...   the checkpoint: size, version, malformed, unknown_key, signature, sums (checkpoint.py)
    other_ledger     the checkpoint is of another gateway or epoch
    not_reached      the records shown do not begin at the receipt and end at the checkpoint
    receipt_hash     the record shown does not have the receipt's hash
    chain            the records shown do not lead to the checkpoint's head
    not_in_tree      the checkpoint is not in the tree of this head
    earlier_head     the tree of this head is no continuation of the earlier head's
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, Final

import msgspec

from cloud_sync.ed25519 import Ed25519PublicKey
from cloud_sync.keys import KeyRing
from cloud_sync.proof.checkpoint import Checkpoint, device_kid, verify_checkpoint
from cloud_sync.proof.head import TreeHead, verify_head
from cloud_sync.proof.merkle import grew, includes
from cloud_sync.wire import Epoch, GatewayId, HashHex, WireError, record_hash

HASH_DIGITS_MIN: Final = 8  # what the console prints; 64 is all of it
RECORDS_MAX: Final = 100_000

Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*(?!\n)$")]
Sequence1 = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
PATH_HASHES_MAX: Final = 64


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator gives out: ledger records from the receipt's to the checkpoint's, and the checkpoint's path."""

    previous: HashHex  # hash of the record before the first one shown
    records: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=RECORDS_MAX)]
    checkpoint: Hex
    device_key: HashHex  # 32 bytes, hex
    leaf: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    path: Annotated[tuple[HashHex, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)]
    consistency: Annotated[tuple[HashHex, ...], msgspec.Meta(max_length=PATH_HASHES_MAX)] = ()


class Receipt(msgspec.Struct, frozen=True):
    """What a customer holds. Unknown fields are for people and are not looked at."""

    gw: GatewayId
    epoch: Epoch
    seq: Sequence1
    hash: Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{HASH_DIGITS_MIN},64}}(?!\n)$")]
    proof: Proof | None = None


class HeadFile(msgspec.Struct, frozen=True):
    """A signed head as a file. Unknown fields are for people and are not looked at."""

    envelope: Hex


@dataclass(frozen=True, slots=True)
class Verified:
    """The receipt is true. `record` is the ledger record it quotes, as the device hashed it."""

    record: str
    checkpoint: Checkpoint
    head: TreeHead


@dataclass(frozen=True, slots=True)
class ProofRefused:
    """Why a receipt is not shown to be true. `reason` is one of the module's list."""

    reason: str
    detail: str = ""


def verify_receipt(
    receipt: Receipt,
    proof: Proof,
    head: HeadFile,
    ring: KeyRing,
    device_key: bytes | None = None,
    earlier_head: HeadFile | None = None,
) -> Verified | ProofRefused:
    """Whether the record a receipt quotes is in the tree. `device_key`: the one the verifier trusts, if any."""
    try:
        tree = verify_head(bytes.fromhex(head.envelope), ring)
        before = None if earlier_head is None else verify_head(bytes.fromhex(earlier_head.envelope), ring)
    except WireError as error:
        return ProofRefused(f"head_{error.reason}", str(error))
    if device_key is not None and device_key.hex() != proof.device_key:
        return ProofRefused("device_key", proof.device_key)
    envelope = bytes.fromhex(proof.checkpoint)
    try:
        checkpoint = _checkpoint_of(envelope, bytes.fromhex(proof.device_key))
    except WireError as error:
        return ProofRefused(f"checkpoint_{error.reason}", str(error))
    refusal = _chain_refusal(receipt, proof, checkpoint) or _tree_refusal(proof, envelope, tree, before)
    return refusal or Verified(proof.records[0], checkpoint, tree)


def _checkpoint_of(envelope: bytes, device_key: bytes) -> Checkpoint:
    key = Ed25519PublicKey.from_public_bytes(device_key)
    return verify_checkpoint(envelope, {device_kid(key): key}.get)


def _chain_refusal(receipt: Receipt, proof: Proof, checkpoint: Checkpoint) -> ProofRefused | None:
    if (checkpoint.gw, checkpoint.epoch) != (receipt.gw, receipt.epoch):
        return ProofRefused("other_ledger", f"{checkpoint.gw} {checkpoint.epoch}")
    if receipt.seq + len(proof.records) - 1 != checkpoint.seq:
        return ProofRefused("not_reached", f"{len(proof.records)} records from {receipt.seq} to {checkpoint.seq}")
    try:
        bodies = [record.encode() for record in proof.records]
    except UnicodeEncodeError:  # a lone surrogate
        return ProofRefused("chain", "a record is not UTF-8")
    hashes = accumulate(
        enumerate(bodies, receipt.seq),
        lambda before, item: record_hash(receipt.gw, "led", receipt.epoch, item[0], before, item[1]),
        initial=bytes.fromhex(proof.previous),
    )
    chain = [digest.hex() for digest in hashes][1:]
    if not chain[0].startswith(receipt.hash):
        return ProofRefused("receipt_hash", chain[0])
    return None if chain[-1] == checkpoint.head else ProofRefused("chain", chain[-1])


def _tree_refusal(proof: Proof, envelope: bytes, tree: TreeHead, before: TreeHead | None) -> ProofRefused | None:
    root, path = bytes.fromhex(tree.root), [bytes.fromhex(digest) for digest in proof.path]
    if not includes(root, tree.size, proof.leaf, envelope, path):
        return ProofRefused("not_in_tree", f"leaf {proof.leaf} of {tree.size}")
    if before is None:
        return None
    grown = [bytes.fromhex(digest) for digest in proof.consistency]
    if before.day != tree.day or not grew(before.size, bytes.fromhex(before.root), tree.size, root, grown):
        return ProofRefused("earlier_head", f"day {before.day}, {before.size} leaves")
    return None


def read_document(content: bytes, kind: Any, name: str) -> Any:
    """A receipt, head or proof from its JSON. ValueError says which file, where, and what is allowed."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {error}") from error
