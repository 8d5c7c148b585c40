"""Taking records: every stream of a gateway is one hash chain without a hole.

For each (gateway, stream, epoch): the next sequence is taken; a lower one with the same hash is a
duplicate, with another hash a fork; a higher one is kept aside and its predecessor asked for
(`miss`); an older epoch is fenced, a newer one needs the operator's permit.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Final

from cloud_sync.backend.accounts import post_record, read_body
from cloud_sync.backend.alarms import raise_alarm
from cloud_sync.backend.checkpoints import take_checkpoint
from cloud_sync.backend.database import Database
from cloud_sync.wire import ZERO_HASH, Batch, Mark, batch_bodies, record_hash

ASIDE_RECORDS_MAX: Final = 1000  # per stream; what comes further ahead is dropped and asked for later


class Verdict(Enum):
    """What became of a batch."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"
    FORK = "fork"
    GAP = "gap"
    FENCED = "fenced"
    NOT_PERMITTED = "epoch_not_permitted"


# Verdicts whose message is kept for a person to look at.
QUARANTINED: Final = frozenset((Verdict.FORK, Verdict.FENCED, Verdict.NOT_PERMITTED))


@dataclass(frozen=True, slots=True)
class StreamKey:
    """One chain: a gateway's stream in one epoch."""

    gateway_id: str
    stream: str
    epoch: int

    @property
    def columns(self) -> tuple[str, str, int]:
        return self.gateway_id, self.stream, self.epoch


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The newest record taken; seq 0 and 32 zero bytes before the first."""

    seq: int
    hash: bytes


def take_batch(database: Database, batch: Batch, epoch_open: int, at: int) -> Verdict:
    """Takes what follows without a hole, inside the caller's transaction."""
    if batch.epoch < epoch_open:
        return Verdict.FENCED
    if batch.epoch > epoch_open:
        return _alarmed(database, batch, Verdict.NOT_PERMITTED, at)
    key = StreamKey(batch.gw, batch.stream, batch.epoch)
    head = stream_head(database, key)
    bodies = batch_bodies(batch)
    if batch.first > head.seq + 1:
        _put_aside(database, key, batch, bodies)
        return Verdict.GAP
    hashes = _chain(key, batch, bodies)
    known = head.seq - batch.first + 1  # how many of them we have
    if known == 0:
        agrees = bytes.fromhex(batch.prev) == head.hash
    else:
        compared = min(known, len(hashes))
        agrees = hashes[compared - 1] == _hash_at(database, key, batch.first + compared - 1)
    if not agrees:
        return _alarmed(database, batch, Verdict.FORK, at)
    if known >= len(hashes):
        return Verdict.DUPLICATE
    for offset in range(known, len(hashes)):
        _append(database, key, batch.first + offset, hashes[offset], bodies[offset], at)
    _take_aside(database, key, at)
    return Verdict.TAKEN


def stream_head(database: Database, key: StreamKey) -> StreamHead:
    """How far a stream is taken without a hole."""
    sql = "SELECT seq, hash FROM stream WHERE gateway = ? AND stream = ? AND epoch = ?"
    row = database.execute(sql, key.columns).fetchone()
    return StreamHead(0, ZERO_HASH) if row is None else StreamHead(*row)


def mark_of(database: Database, key: StreamKey, gateway_acked: int = 0) -> Mark:
    """What an ack says of a stream. `gateway_acked`: what the gateway believes we have."""
    head = stream_head(database, key)
    sql = "SELECT min(seq) FROM aside WHERE gateway = ? AND stream = ? AND epoch = ? AND seq > ?"
    kept_aside = database.execute(sql, (*key.columns, head.seq)).fetchone()[0]
    miss = None
    if kept_aside is not None:
        miss = (head.seq + 1, kept_aside - 1)
    elif gateway_acked > head.seq:
        miss = (head.seq + 1, gateway_acked)  # we lost what we had acknowledged: restored from a backup
    return Mark(epoch=key.epoch, seq=head.seq, hash=head.hash.hex(), miss=miss)


def settle_result(database: Database, gateway_id: str, body: bytes, at: int) -> None:
    """A command's result has arrived: it is sent no more. The first result stands."""
    fields = read_body(body)
    if fields is None:
        raise_alarm(database, gateway_id, "result_unreadable", {"body": repr(body[:64])}, at)
        return
    cid, result = fields.get("cid"), fields.get("result")
    if not isinstance(cid, str) or not isinstance(result, str):
        return
    sql = "SELECT result FROM command WHERE cid = ? AND gateway = ?"
    row = database.execute(sql, (cid, gateway_id)).fetchone()
    if row is None:
        return  # a voucher of another desk, or a refusal of something never sent: the record tells
    if row[0] is None:
        sql = "UPDATE command SET result = ?, result_body = ?, result_at = ? WHERE cid = ?"
        database.execute(sql, (result, body, at, cid))


def _chain(key: StreamKey, batch: Batch, bodies: tuple[bytes, ...]) -> list[bytes]:
    numbered = enumerate(bodies, start=batch.first)
    hashes = accumulate(
        numbered,
        lambda previous, item: record_hash(*key.columns, item[0], previous, item[1]),
        initial=bytes.fromhex(batch.prev),
    )
    return list(hashes)[1:]


def _append(database: Database, key: StreamKey, seq: int, digest: bytes, body: bytes, at: int) -> None:
    database.execute(
        "INSERT INTO record (gateway, stream, epoch, seq, hash, body, received_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*key.columns, seq, digest, body, at),
    )
    database.execute(
        "INSERT INTO stream (gateway, stream, epoch, seq, hash) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (gateway, stream, epoch) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        (*key.columns, seq, digest),
    )
    if key.stream == "led":
        post_record(database, key.gateway_id, key.epoch, seq, body, at)
    elif key.stream == "res":
        settle_result(database, key.gateway_id, body, at)
    elif key.stream == "evt":
        take_checkpoint(database, key.gateway_id, body, at)


def _put_aside(database: Database, key: StreamKey, batch: Batch, bodies: tuple[bytes, ...]) -> None:
    sql = "SELECT count(*) FROM aside WHERE gateway = ? AND stream = ? AND epoch = ?"
    room = ASIDE_RECORDS_MAX - int(database.execute(sql, key.columns).fetchone()[0])
    previous_hash = bytes.fromhex(batch.prev)
    for seq, body in enumerate(bodies[: max(room, 0)], start=batch.first):
        sql = (
            "INSERT INTO aside (gateway, stream, epoch, seq, previous_hash, body) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        database.execute(sql, (*key.columns, seq, previous_hash, body))
        previous_hash = record_hash(*key.columns, seq, previous_hash, body)


def _take_aside(database: Database, key: StreamKey, at: int) -> None:
    """Takes what was kept aside and now has its predecessor. What does not fit was never believed: it goes."""
    where = " FROM aside WHERE gateway = ? AND stream = ? AND epoch = ? AND seq "
    while True:
        head = stream_head(database, key)
        database.execute("DELETE" + where + "<= ?", (*key.columns, head.seq))
        row = database.execute("SELECT previous_hash, body" + where + "= ?", (*key.columns, head.seq + 1)).fetchone()
        if row is None:
            return
        previous_hash, body = row
        if previous_hash != head.hash:
            raise_alarm(database, key.gateway_id, "fork", {"stream": key.stream, "seq": head.seq + 1}, at)
            database.execute("DELETE" + where + "= ?", (*key.columns, head.seq + 1))
            return
        digest = record_hash(*key.columns, head.seq + 1, previous_hash, body)
        _append(database, key, head.seq + 1, digest, body, at)


def _hash_at(database: Database, key: StreamKey, seq: int) -> bytes | None:
    sql = "SELECT hash FROM record WHERE gateway = ? AND stream = ? AND epoch = ? AND seq = ?"
    row = database.execute(sql, (*key.columns, seq)).fetchone()
    return None if row is None else bytes(row[0])


def _alarmed(database: Database, batch: Batch, verdict: Verdict, at: int) -> Verdict:
    detail = {"stream": batch.stream, "epoch": batch.epoch, "first": batch.first}
    raise_alarm(database, batch.gw, verdict.value, detail, at)
    return verdict
