"""Taking records: every stream of a gateway is one hash chain without a hole.

For each (gateway, stream, epoch): the next sequence is taken; a lower one with the same hash is a
duplicate, with another hash a fork; a higher one is kept aside and its predecessor asked for
(`miss`); an older epoch is fenced, a newer one needs the operator's permit.
"""

from enum import Enum
from itertools import accumulate
from typing import Final

from cloud_sync.backend.accounts import posted, read_body
from cloud_sync.backend.alarms import raise_alarm
from cloud_sync.backend.checkpoints import take_checkpoint
from cloud_sync.backend.database import Database
from cloud_sync.backend.intake import Intake, StreamKey, TakenRecord
from cloud_sync.wire import Batch, Mark, batch_bodies, is_local_id, record_hash

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


def take_batch(intake: Intake, batch: Batch) -> Verdict:
    """Takes what follows without a hole, inside the caller's transaction."""
    epoch_open = intake.epochs[batch.gw]
    if batch.epoch < epoch_open:
        return Verdict.FENCED
    if batch.epoch > epoch_open:
        return _alarmed(intake, batch, Verdict.NOT_PERMITTED)
    key = StreamKey(batch.gw, batch.stream, batch.epoch)
    head = intake.head(key)
    bodies = batch_bodies(batch)
    if batch.first > head.seq + 1:
        _put_aside(intake, key, batch, bodies)
        return Verdict.GAP
    hashes = _chain(key, batch, bodies)
    known = head.seq - batch.first + 1  # how many of them we have
    if known == 0:
        agrees = bytes.fromhex(batch.prev) == head.hash
    else:
        compared = min(known, len(hashes))
        agrees = hashes[compared - 1] == intake.hash_at(key, batch.first + compared - 1)
    if not agrees:
        return _alarmed(intake, batch, Verdict.FORK)
    if known >= len(hashes):
        return Verdict.DUPLICATE
    for offset in range(known, len(hashes)):
        _append(intake, TakenRecord(key, batch.first + offset, hashes[offset], bodies[offset]))
    if key in intake.aside:
        _take_aside(intake, key)
    return Verdict.TAKEN


def write_taken(intake: Intake) -> None:
    """Writes what was taken, and then what follows from it for commands and checkpoints."""
    for record in intake.write():
        if record.key.stream == "res":
            settle_result(intake.database, record.key.gateway_id, record.body, intake.at)
        elif record.key.stream == "evt":
            take_checkpoint(intake.database, record.key.gateway_id, record.body, intake.at)


def mark_of(intake: Intake, key: StreamKey, gateway_acked: int = 0) -> Mark:
    """What an ack says of a stream. `gateway_acked`: what the gateway believes we have."""
    head = intake.head(key)
    kept_aside = _first_aside(intake, key, head.seq) if key in intake.aside else None
    miss = None
    if kept_aside is not None:
        miss = (head.seq + 1, kept_aside - 1)
    elif gateway_acked > head.seq:
        miss = (head.seq + 1, gateway_acked)  # we lost what we had acknowledged: restored from a backup
    return Mark(epoch=key.epoch, seq=head.seq, hash=head.hash.hex(), miss=miss)


def post_record(intake: Intake, record: TakenRecord) -> None:
    """Applies one ledger record to its account. The record is kept whatever it says; what cannot be is an alarm."""
    gateway_id = record.key.gateway_id
    fields = read_body(record.body)
    where = {"epoch": record.key.epoch, "seq": record.seq}
    if fields is None:
        raise_alarm(intake.database, gateway_id, "ledger_unreadable", where, intake.at)
        return
    account_id = fields.get("account")
    if account_id is None:
        return
    if not is_local_id(account_id):
        raise_alarm(intake.database, gateway_id, "account_unreadable", where, intake.at)
        return
    after, fault = posted(intake.balance(gateway_id, account_id), fields, record.seq)
    if fault is not None:
        raise_alarm(intake.database, gateway_id, fault, {**where, "account": account_id}, intake.at)
    intake.set_balance(after)


def settle_result(database: Database, gateway_id: str, body: bytes, at: int) -> None:
    """A command's result has arrived: it is sent no more. The first result stands.

    One of no command of ours is a voucher of another desk, or a refusal of something never sent: the record tells.
    """
    fields = read_body(body)
    if fields is None:
        raise_alarm(database, gateway_id, "result_unreadable", {"body": repr(body[:64])}, at)
        return
    cid, result = fields.get("cid"), fields.get("result")
    if is_local_id(cid) and isinstance(result, str) and result.isprintable():
        sql = (
            "UPDATE command SET result = ?, result_body = ?, result_at = ?"
            " WHERE cid = ? AND gateway = ? AND result IS NULL"
        )
        database.execute(sql, (result, body, at, cid, gateway_id))


def _chain(key: StreamKey, batch: Batch, bodies: tuple[bytes, ...]) -> list[bytes]:
    numbered = enumerate(bodies, start=batch.first)
    hashes = accumulate(
        numbered,
        lambda previous, item: record_hash(*key.columns, item[0], previous, item[1]),
        initial=bytes.fromhex(batch.prev),
    )
    return list(hashes)[1:]


def _append(intake: Intake, record: TakenRecord) -> None:
    intake.append(record)
    if record.key.stream == "led":
        post_record(intake, record)


_OF_STREAM: Final = " FROM aside WHERE gateway = ? AND stream = ? AND epoch = ?"


def _put_aside(intake: Intake, key: StreamKey, batch: Batch, bodies: tuple[bytes, ...]) -> None:
    kept = intake.database.execute("SELECT count(*)" + _OF_STREAM, key.columns).fetchone()[0]
    previous_hash = bytes.fromhex(batch.prev)
    for seq, body in enumerate(bodies[: max(ASIDE_RECORDS_MAX - int(kept), 0)], start=batch.first):
        sql = (
            "INSERT INTO aside (gateway, stream, epoch, seq, previous_hash, body) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        intake.database.execute(sql, (*key.columns, seq, previous_hash, body))
        previous_hash = record_hash(*key.columns, seq, previous_hash, body)
    intake.aside.add(key)


def _first_aside(intake: Intake, key: StreamKey, after_seq: int) -> int | None:
    sql = "SELECT min(seq)" + _OF_STREAM + " AND seq > ?"
    first: int | None = intake.database.execute(sql, (*key.columns, after_seq)).fetchone()[0]
    return first


def _take_aside(intake: Intake, key: StreamKey) -> None:
    """Takes what was kept aside and now has its predecessor. What does not fit was never believed: it goes."""
    database = intake.database
    while True:
        head = intake.head(key)
        database.execute("DELETE" + _OF_STREAM + " AND seq <= ?", (*key.columns, head.seq))
        following = (*key.columns, head.seq + 1)
        row = database.execute("SELECT previous_hash, body" + _OF_STREAM + " AND seq = ?", following).fetchone()
        if row is None:
            return
        previous_hash, body = bytes(row[0]), bytes(row[1])
        if previous_hash != head.hash:
            raise_alarm(database, key.gateway_id, "fork", {"stream": key.stream, "seq": head.seq + 1}, intake.at)
            database.execute("DELETE" + _OF_STREAM + " AND seq = ?", following)
            return
        digest = record_hash(*key.columns, head.seq + 1, previous_hash, body)
        _append(intake, TakenRecord(key, head.seq + 1, digest, body))


def _alarmed(intake: Intake, batch: Batch, verdict: Verdict) -> Verdict:
    detail = {"stream": batch.stream, "epoch": batch.epoch, "first": batch.first}
    raise_alarm(intake.database, batch.gw, verdict.value, detail, intake.at)
    return verdict
