"""The gateways' signed checkpoints: taken from the evt stream, one tree per day, heads and proofs for outsiders.

A checkpoint counts when a pinned device key signed it; the record it came in is kept in any case. One
leaf for each (gateway, epoch, seq): the first one stays, another one for the same place is an alarm.
The day is that of the backend's own clock, so a gateway's clock orders nothing. Money nano-currency.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from cloud_sync.backend.accounts import posting_of
from cloud_sync.backend.alarms import raise_alarm
from cloud_sync.backend.database import Database, transaction
from cloud_sync.ed25519 import Ed25519PublicKey
from cloud_sync.envelope import split
from cloud_sync.keys import Signer
from cloud_sync.proof.checkpoint import Checkpoint, checkpoint_in, device_kid, verify_checkpoint
from cloud_sync.proof.head import DAY_SECONDS, TreeHead, sign_head
from cloud_sync.proof.merkle import consistency_path, inclusion_path, root_of
from cloud_sync.proof.receipt import Proof, Receipt
from cloud_sync.wire import CONTRACT_VERSION, ZERO_HASH, WireError


class NotProvable(Exception):
    """There is no such record, or no checkpoint at or after it yet. The text is a sentence for people."""


def take_checkpoint(database: Database, gateway_id: str, body: bytes, at: int) -> None:
    """Keeps the checkpoint an evt record carries, if it carries one. Inside the caller's transaction."""
    envelope = None
    try:
        envelope = checkpoint_in(body)
        if envelope is None:
            return
        checkpoint = verify_checkpoint(envelope, lambda kid: device_key(database, gateway_id, kid))
        if checkpoint.gw != gateway_id:
            raise WireError("gateway", checkpoint.gw)
    except WireError as error:
        raise_alarm(database, gateway_id, f"checkpoint_{error.reason}", {"detail": str(error)[:200]}, at)
        return
    _keep(database, checkpoint, envelope, at)


def pin_device_key(database: Database, gateway_id: str, public_key: bytes, at: int) -> str:
    """From now on this key signs checkpoints of the gateway; those that came before it are taken now. Its key id.

    Raises ValueError when there is no such gateway or these are not 32 bytes.
    """
    kid = device_kid(Ed25519PublicKey.from_public_bytes(public_key))
    with transaction(database):
        if database.execute("SELECT 1 FROM gateway WHERE id = ?", (gateway_id,)).fetchone() is None:
            raise ValueError(f"gateway {gateway_id!r} is not enrolled")
        sql = "INSERT INTO device_key (gateway, kid, public_key, pinned_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        database.execute(sql, (gateway_id, kid, public_key, at))
        sql = "SELECT body FROM record WHERE gateway = ? AND stream = 'evt' ORDER BY epoch, seq"
        for (body,) in database.execute(sql, (gateway_id,)).fetchall():
            take_checkpoint(database, gateway_id, body, at)
    return kid


def device_key(database: Database, gateway_id: str, kid: str) -> Ed25519PublicKey | None:
    """The pinned key with this id, None when there is none."""
    sql = "SELECT public_key FROM device_key WHERE gateway = ? AND kid = ?"
    row = database.execute(sql, (gateway_id, kid)).fetchone()
    return None if row is None else Ed25519PublicKey.from_public_bytes(row[0])


def signed_head(database: Database, signer: Signer, day: int, at: int) -> bytes:
    """The head of a day's tree as it is now, signed once per size."""
    with transaction(database):
        return _head_of(database, signer, day, _leaves(database, day), at)


@dataclass(frozen=True, slots=True)
class Given:
    """All a third party needs but the keys. `head` is the signed head's envelope."""

    receipt: Receipt
    proof: Proof
    head: bytes


def give_proof(
    database: Database, signer: Signer, record: tuple[str, int, int], at: int, size_before: int = 0
) -> Given:
    """Receipt, proof and head for a ledger record (gateway, epoch, seq). Raises NotProvable.

    `size_before`: also shows that the day's tree grew from the one of that size.
    """
    gateway_id, epoch, seq = record
    with transaction(database):
        day, leaf, envelope = _covering(database, *record)
        checkpoint = _content(envelope)
        previous = ZERO_HASH if seq == 1 else _hash_at(database, gateway_id, epoch, seq - 1)
        digest = _hash_at(database, *record)
        bodies = _bodies(database, gateway_id, epoch, seq - 1, checkpoint.seq)
        key = device_key(database, gateway_id, checkpoint.kid)
        assert key is not None
        if previous is None or digest is None or len(bodies) != checkpoint.seq - seq + 1:
            raise NotProvable(f"{gateway_id}, epoch {epoch}: the records {seq} to {checkpoint.seq} are not all here")
        leaves = _leaves(database, day)
        proof = Proof(
            previous=previous.hex(),
            records=tuple(body.decode() for body in bodies),
            checkpoint=envelope.hex(),
            device_key=key.public_bytes_raw().hex(),
            leaf=leaf,
            path=tuple(sibling.hex() for sibling in inclusion_path(leaves, leaf)),
            consistency=_consistency(leaves, size_before),
        )
        receipt = Receipt(gw=gateway_id, epoch=epoch, seq=seq, hash=digest.hex())
        return Given(receipt, proof, _head_of(database, signer, day, leaves, at))


def checkpoint_problems(database: Database) -> Iterator[str]:
    """Checkpoints that say something else than the records, and heads that say something else than the trees."""
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    sql = "SELECT gateway, epoch, seq, envelope FROM checkpoint ORDER BY gateway, epoch, seq"
    for gateway, epoch, seq, envelope in database.execute(sql).fetchall():
        where = f"{gateway} {epoch}: the checkpoint at record {seq}"
        try:
            checkpoint = verify_checkpoint(bytes(envelope), partial(device_key, database, gateway))
        except WireError as error:
            yield f"{where} cannot be believed: {error.reason}"
            continue
        if (checkpoint.gw, checkpoint.epoch, checkpoint.seq) != (gateway, epoch, seq):
            yield f"{where} is of another place"
            continue
        before = sums.get((gateway, epoch), (0, 0) if epoch == 1 else None)
        yield from (f"{where} {fault}" for fault in _record_faults(database, checkpoint, before))
        sums[gateway, epoch] = checkpoint.credits_nano, checkpoint.charges_nano
    yield from _tree_problems(database)


def _record_faults(database: Database, checkpoint: Checkpoint, before: tuple[int, int] | None) -> Iterator[str]:
    """`before`: the sums at the checkpoint before this one; None where an epoch begins with sums nobody here knows."""
    place = checkpoint.gw, checkpoint.epoch, checkpoint.seq
    digest = _hash_at(database, *place)
    if digest is None:
        return  # not taken yet
    if digest.hex() != checkpoint.head:
        yield "names another hash than the record has"
    if before is not None:
        credits_nano, charges_nano = _postings(database, *place)
        if (checkpoint.credits_nano, checkpoint.charges_nano) != (before[0] + credits_nano, before[1] + charges_nano):
            yield "states other sums than the records give"


def _tree_problems(database: Database) -> Iterator[str]:
    sql = "SELECT day FROM checkpoint GROUP BY day HAVING max(leaf) != count(*) - 1 OR min(leaf) != 0"
    for (day,) in database.execute(sql).fetchall():
        yield f"day {day}: a leaf is missing"
    for day, size, envelope in database.execute("SELECT day, size, envelope FROM tree_head").fetchall():
        head = _head_content(envelope)
        if (head.day, head.size) != (day, size) or head.root != root_of(_leaves(database, day)[:size]).hex():
            yield f"day {day}: the head of size {size} is not the root of its checkpoints"
        if head.previous != _previous_root(database, day).hex():
            yield f"day {day}: the head of size {size} names another day before it than there is"


def _head_of(database: Database, signer: Signer, day: int, leaves: list[bytes], at: int) -> bytes:
    sql = "SELECT envelope FROM tree_head WHERE day = ? AND size = ?"
    given = database.execute(sql, (day, len(leaves))).fetchone()
    if given is not None:
        return bytes(given[0])
    head = TreeHead(
        v=CONTRACT_VERSION,
        kid=signer.kid,
        at=at,
        day=day,
        size=len(leaves),
        root=root_of(leaves).hex(),
        previous=_previous_root(database, day).hex(),
    )
    envelope = sign_head(head, signer)
    if leaves:
        sql = "INSERT INTO tree_head (day, size, envelope) VALUES (?, ?, ?)"
        database.execute(sql, (day, len(leaves), envelope))
    return envelope


def _covering(database: Database, gateway_id: str, epoch: int, seq: int) -> tuple[int, int, bytes]:
    """Day, leaf and envelope of the first checkpoint at or after a record that says what the records say."""
    sql = "SELECT day, leaf, seq, envelope FROM checkpoint WHERE gateway = ? AND epoch = ? AND seq >= ? ORDER BY seq"
    for day, leaf, checkpoint_seq, envelope in database.execute(sql, (gateway_id, epoch, seq)):
        digest = _hash_at(database, gateway_id, epoch, checkpoint_seq)
        if digest is not None and digest.hex() == _content(envelope).head:
            return day, leaf, bytes(envelope)
    raise NotProvable(f"{gateway_id}, epoch {epoch}: no checkpoint at record {seq} or after it yet")


def _bodies(database: Database, gateway_id: str, epoch: int, after_seq: int, seq: int) -> list[bytes]:
    sql = (
        "SELECT body FROM record WHERE gateway = ? AND stream = 'led' AND epoch = ? AND seq > ? AND seq <= ?"
        " ORDER BY seq"
    )
    return [bytes(body) for (body,) in database.execute(sql, (gateway_id, epoch, after_seq, seq))]


def _keep(database: Database, checkpoint: Checkpoint, envelope: bytes, at: int) -> None:
    place = checkpoint.gw, checkpoint.epoch, checkpoint.seq
    detail = {"epoch": checkpoint.epoch, "seq": checkpoint.seq}
    database.queue()  # leaves are numbered without a hole
    sql = "SELECT envelope FROM checkpoint WHERE gateway = ? AND epoch = ? AND seq = ?"
    known = database.execute(sql, place).fetchone()
    if known is not None:
        if _content(known[0]).head != checkpoint.head:
            raise_alarm(database, checkpoint.gw, "checkpoint_fork", detail, at)
        return
    digest = _hash_at(database, *place)
    if digest is not None and digest.hex() != checkpoint.head:
        raise_alarm(database, checkpoint.gw, "checkpoint_differs", detail, at)  # and it is kept: somebody signed it
    newest_day = database.execute("SELECT coalesce(max(day), 0) FROM checkpoint").fetchone()[0]
    day = max(at // DAY_SECONDS, newest_day)  # a day that is over stays as it is, also for a clock that went back
    database.execute(
        "INSERT INTO checkpoint (day, leaf, gateway, epoch, seq, envelope, received_at)"
        " VALUES (?, (SELECT count(*) FROM checkpoint WHERE day = ?), ?, ?, ?, ?, ?)",
        (day, day, *place, envelope, at),
    )


def _leaves(database: Database, day: int) -> list[bytes]:
    rows = database.execute("SELECT envelope FROM checkpoint WHERE day = ? ORDER BY leaf", (day,))
    return [bytes(envelope) for (envelope,) in rows]


def _previous_root(database: Database, day: int) -> bytes:
    before = database.execute("SELECT max(day) FROM checkpoint WHERE day < ?", (day,)).fetchone()[0]
    return ZERO_HASH if before is None else root_of(_leaves(database, before))


def _consistency(leaves: list[bytes], size_before: int) -> tuple[str, ...]:
    if not 0 <= size_before <= len(leaves):
        raise NotProvable(f"the tree has {len(leaves)} leaves, not {size_before} or more")
    path = consistency_path(leaves, size_before) if size_before else []
    return tuple(digest.hex() for digest in path)


def _hash_at(database: Database, gateway_id: str, epoch: int, seq: int) -> bytes | None:
    sql = "SELECT hash FROM record WHERE gateway = ? AND stream = 'led' AND epoch = ? AND seq = ?"
    row = database.execute(sql, (gateway_id, epoch, seq)).fetchone()
    return None if row is None else bytes(row[0])


def _postings(database: Database, gateway_id: str, epoch: int, seq: int) -> tuple[int, int]:
    """What was posted in favour of customers and against them since the checkpoint before this one."""
    sql = "SELECT coalesce(max(seq), 0) FROM checkpoint WHERE gateway = ? AND epoch = ? AND seq < ?"
    (after_seq,) = database.execute(sql, (gateway_id, epoch, seq)).fetchone()
    postings = [posting_of(body) for body in _bodies(database, gateway_id, epoch, after_seq, seq)]
    return sum(nano for nano in postings if nano > 0), sum(nano for nano in postings if nano < 0)


def _content(envelope: bytes) -> Checkpoint:
    content: Checkpoint = _decoded(envelope, Checkpoint)
    return content


def _head_content(envelope: bytes) -> TreeHead:
    content: TreeHead = _decoded(envelope, TreeHead)
    return content


def _decoded(envelope: bytes, kind: Any) -> Any:
    parts = split(envelope)
    assert parts is not None
    return msgspec.json.decode(parts.content, type=kind)
