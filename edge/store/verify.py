"""Whether a store is what was written: chains, seals, replay, sums, marks, checkpoints and anchor.

Reads a copy and finds every fault it can, not only the first: after a break it goes on from what is
there. Each problem names the stream and the sequence number it shows at. Money nano-currency.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.ports import Anchor, AnchorError
from edge.store.anchoring import judge
from edge.store.chain import (
    NO_HASH,
    STREAMS,
    ChainBroken,
    ChainCheck,
    RecordHash,
    SealCheck,
    first_seal,
    mark_hash,
)
from edge.store.checkpoint import Checkpoint, Position, Sums, encode_state, state_shape
from edge.store.codec import decode_event
from edge.store.packing import body_of
from edge.store.schema import schema_differences
from edge.store.store_copy import opened_copy

PROBLEMS_MAX = 200
# What replaying a damaged record can make Python say.
_BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, AssertionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `seq` is the record it shows at, or None; `stream` may be another part's name."""

    stream: str
    seq: int | None
    problem: str


@dataclass(slots=True)
class Report:
    """What a store holds, and everything that is wrong with it."""

    store: str
    schema: int
    gateway: str = ""
    epoch: int = 0
    records: dict[str, int] = field(default_factory=dict)
    place: int = 0
    seal: str = ""
    checkpoints: int = 0
    anchor: str = "none"  # none | agrees | the reason for RECOVERY
    problems: list[Problem] = field(default_factory=list)

    def add(self, stream: object, seq: object, problem: str) -> None:
        """Notes a problem; beyond a limit they are no longer news."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(str(stream), seq if isinstance(seq, int) else None, problem))


def verify_store(store: Path, record_hash: RecordHash, anchor: Anchor | None) -> Report:
    """Checks a store that nobody uses. StoreUnusable if there is none, or of a version from the future."""
    with opened_copy(store) as (connection, version):
        report = Report(str(store), version)
        for check in (_check_file, _check_identity):
            _guarded(report, check, connection, report)
        walk = _Walk(connection, report, ChainCheck(report.gateway, record_hash))
        for part in (walk.records, walk.marks, walk.snapshots):
            _guarded(report, part)
        _guarded(report, _check_anchor, report, anchor, walk)
    return report


def _guarded(report: Report, check: Any, *arguments: object) -> None:
    """A part of a damaged file that cannot be read is a problem, and the other parts are looked at all the same."""
    try:
        check(*arguments)
    except (sqlite3.Error, *_BROKEN) as error:
        report.add("journal", None, f"cannot be read: {error}")


def _check_file(connection: sqlite3.Connection, report: Report) -> None:
    for (sentence,) in connection.execute("PRAGMA integrity_check(20)"):
        if sentence != "ok":
            report.add("journal", None, f"damaged: {sentence}")
    for name in schema_differences(connection, report.schema):
        report.add("journal", None, f"the definition of {name} is not the one of schema version {report.schema}")


def _check_identity(connection: sqlite3.Connection, report: Report) -> None:
    rows = connection.execute("SELECT gateway_id, epoch FROM identity").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], str) or not isinstance(rows[0][1], int):
        report.add("journal", None, f"says {len(rows)} times whose it is")
        return
    report.gateway, report.epoch = rows[0]
    (newest,) = connection.execute("SELECT max(epoch) FROM record").fetchone()
    if newest != report.epoch and (newest is not None or report.epoch != 1):
        report.add("journal", None, f"is in epoch {report.epoch}, its records end in {newest}")


@dataclass(slots=True)
class _Books:
    """The sums that must hold from record to record."""

    balances: dict[str, int] = field(default_factory=dict)
    payments: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)

    def faults(self, event: ev.Event) -> Iterator[str]:
        posting = getattr(event, "posting_nano", None)
        balance = getattr(event, "balance_nano", None)
        if isinstance(posting, int) and isinstance(balance, int):
            account = getattr(event, "account", "")
            expected = self.balances.get(account, 0) + posting
            if balance != expected:
                yield f"account {account}: {balance} after a posting of {posting}, the records before give {expected}"
            self.balances[account] = balance
        if isinstance(event, ev.PaymentApplied):
            if event.payment_id in self.payments:
                yield f"payment {event.payment_id} counts a second time"
            self.payments.add(event.payment_id)
        if isinstance(event, ev.OrderApplied | ev.OrderRefused):
            if event.cid in self.answered:
                yield f"order {event.cid} is answered a second time"
            self.answered.add(event.cid)


class _Walk:
    """One pass over the records with their seals and checkpoints, all that can be known on the way."""

    def __init__(self, connection: sqlite3.Connection, report: Report, chain: ChainCheck) -> None:
        self._connection = connection
        self._report = report
        self._chain = chain
        self._seals = SealCheck(0, first_seal(report.gateway))
        self._books = _Books()
        self._sums = Sums()
        self._state: State | None = State()
        self.seal_hashes: dict[int, bytes] = {0: first_seal(report.gateway)}

    def records(self) -> None:
        """Every record, seal and checkpoint in the order of their places."""
        counts: Counter[str] = Counter()
        parts = ["SELECT place, 0, stream, epoch, seq, hash, body FROM record"]
        if self._report.schema >= 2:
            parts.append("SELECT place, 1, NULL, NULL, NULL, hash, NULL FROM seal")
            parts.append("SELECT place, 2, NULL, NULL, NULL, hash, body FROM checkpoint")
        for place, kind, *row in self._connection.execute(f"{' UNION ALL '.join(parts)} ORDER BY 1, 2"):
            if kind == 0:
                self._record(place, tuple(row))
                counts[str(row[0])] += 1
                self._report.place = place
            elif kind == 1:
                self._seal(place, row[3])
            else:
                self._checkpoint(place, row[3], row[4])
        if self._report.schema >= 2:
            self._told(self._seals.end)
        self._report.records = {stream: counts[stream] for stream in STREAMS}
        self._report.seal = self._seals.hash.hex()
        if self._seals.place > self._report.place:  # the newest readings may have been thinned away
            self._report.place = self._seals.place

    def marks(self) -> None:
        """How far each stream was acknowledged."""
        hashed = self._report.schema >= 2
        columns = "stream, epoch, acked_seq" + (", hash" if hashed else "")
        for stream, epoch, acked_seq, *digest in self._connection.execute(f"SELECT {columns} FROM mark"):
            if hashed and digest != [mark_hash(self._report.gateway, stream, epoch, acked_seq)]:
                self._report.add(stream, acked_seq, "the mark of what was acknowledged is not as it was written")
            last_epoch, last_seq, _hash = self._chain.heads.get(stream, (epoch, 0, NO_HASH))
            if epoch == last_epoch and acked_seq > last_seq:
                self._report.add(stream, last_seq, f"ends here, but {acked_seq} was acknowledged: records are missing")

    def snapshots(self) -> None:
        """Every stored state must be the one its checkpoint names."""
        if self._report.schema < 2:
            return
        rows = self._connection.execute(
            "SELECT snapshot.place, checkpoint.hash, body, state FROM snapshot LEFT JOIN checkpoint USING (place)"
        )
        for place, digest, body, state in rows.fetchall():
            checkpoint = Checkpoint.read(place, digest, body)
            if checkpoint is None or checkpoint.state_of(state) is None:
                self._report.add("snapshot", place, "is not the state of its checkpoint")

    def _record(self, place: int, row: tuple[Any, ...]) -> None:
        stream, epoch, seq, digest, stored = row
        try:
            record = self._chain.take(row)
        except ChainBroken as broken:
            self._report.add(stream, seq, str(broken))
            if stream in STREAMS and isinstance(digest, bytes) and isinstance(epoch, int) and isinstance(seq, int):
                self._chain.heads[stream] = (epoch, seq, digest)
        else:
            self._seals.record(place, record)
        try:
            event = decode_event(body_of(stream, stored))
        except _BROKEN as error:
            self._report.add(stream, seq, str(error))
            return
        for fault in self._books.faults(event):
            self._report.add(stream, seq, fault)
        self._sums = self._sums.plus(event)
        self._replay(stream, seq, event)

    def _replay(self, stream: str, seq: int, event: ev.Event) -> None:
        if self._state is None:
            return
        try:
            self._state = apply(self._state, event)
        except _BROKEN as error:
            self._state = None
            self._report.add(stream, seq, f"does not fit the state before it: {type(error).__name__} {error}")

    def _seal(self, place: int, digest: object) -> None:
        if not self._told(lambda: self._seals.seal(place, digest)) and isinstance(digest, bytes):
            self._seals = SealCheck(place, digest)
        self.seal_hashes[place] = self._seals.hash

    def _told(self, check: Any) -> bool:
        try:
            check()
        except ChainBroken as broken:
            self._report.add(broken.stream, broken.seq, str(broken))
            return False
        return True

    def _checkpoint(self, place: int, digest: object, body: object) -> None:
        self._report.checkpoints += 1
        found = Checkpoint.read(place, digest, body)
        if found is None:
            self._report.add("checkpoint", place, "is damaged")
            return
        newest = max((epoch for epoch, _seq, _head in self._chain.heads.values()), default=1)
        of_epoch = ((stream, head) for stream, head in self._chain.heads.items() if head[0] == newest)
        heads = {stream: (epoch, seq, head.hex()) for stream, (epoch, seq, head) in of_epoch}
        stated = {stream: tuple(head) for stream, head in found.position.heads.items() if head[1] > 0}
        if found.position != Position(place, self._seals.hash.hex(), found.position.heads) or stated != heads:
            self._report.add("checkpoint", place, "names other heads than the records before it have")
        if found.sums != self._sums:
            self._report.add("checkpoint", place, f"has the sums {found.sums}, the records before it {self._sums}")
        if found.shape == state_shape() and self._state is not None:
            again = Checkpoint.make(found.at, found.position, found.sums, encode_state(self._state))
            if again.state != found.state:
                self._report.add("checkpoint", place, "replay gives another state than the one it was made of")


def _check_anchor(report: Report, anchor: Anchor | None, walk: _Walk) -> None:
    if anchor is None:
        return
    try:
        state = anchor.read()
    except AnchorError as error:
        report.anchor = "anchor_unreadable"
        report.add("anchor", None, str(error))
        return
    if state is None:
        return
    found = judge(state, report.gateway, report.epoch, report.place, walk.seal_hashes.get)
    report.anchor = "agrees" if found is None else found.reason
    if found is not None:
        report.add("anchor", None, f"{found.reason}: {found.detail}")
