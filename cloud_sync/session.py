"""The gateway's side of the sync protocol, without input or output and without a clock.

Things that happened go in, actions come out; `get_timer()` says when `handle_timer(now)` is due.
`now` is monotonic seconds. Delivery is proved by nothing but the backend's signed ack: whatever
is above the acknowledged mark is sent again. Source: the wire contract, Up.

    connected     -> st, hello, then records: led, res, evt, newest rdg, rdg backlog
    Fetch         -> the adapter reads the journal and answers with `records`
    ack           -> mark moves, window opens
    ack above it  -> the journal is asked whether that record is ours, then the same
    no ack        -> after 30 s (with jitter, doubling to 10 min) everything from the mark again
    no ack at all -> after 15 min the connection is left for the next broker
    ack with miss -> the same, without waiting for the full time
    disconnected  -> what was in flight is forgotten and will be fetched again
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from cloud_sync.acks import verify_ack
from cloud_sync.keys import KeyRing
from cloud_sync.orders import DOCUMENT_BYTES_MAX, ORDER_BYTES_MAX
from cloud_sync.wire import (
    CONTRACT_VERSION,
    STREAMS,
    ZERO_HASH,
    Batch,
    Head,
    Hello,
    Mark,
    RosterEntry,
    Status,
    WireError,
    encode_payload,
    parse_topic,
    roster_hash,
    topic_of,
)


class Record(Protocol):
    """One journal record as the session needs it. `hash` is SHA-256 of the record's bytes."""

    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...


class JournalHead(Protocol):
    """Where one stream of the journal stands."""

    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def acked_seq(self) -> int: ...


class SessionSettings(msgspec.Struct, frozen=True):
    """Limits and delays of the protocol. Seconds are monotonic."""

    window_batches: int = 8
    batch_records_max: int = 100
    batch_bytes_max: int = 64 * 1024
    resend_seconds: float = 30.0
    resend_seconds_max: float = 600.0
    resend_jitter: float = 0.5  # a delay is stretched by a random share of up to this
    miss_patience_seconds: float = 5.0  # a record asked for again may still be under way
    deaf_seconds: float = 900.0  # so long without any ack while records are under way: another connection is tried

    def capped(self, seconds_max: float) -> "SessionSettings":
        """The same with no delay above `seconds_max`, for demos and tests."""
        return msgspec.structs.replace(
            self,
            resend_seconds=min(self.resend_seconds, seconds_max),
            resend_seconds_max=min(self.resend_seconds_max, seconds_max),
            miss_patience_seconds=min(self.miss_patience_seconds, seconds_max),
            deaf_seconds=min(self.deaf_seconds, 10 * seconds_max),
        )


class HelloFacts(msgspec.Struct, frozen=True):
    """What the agent knows of itself at the moment it says hello."""

    at: int  # wall time, Unix seconds
    clock_quality: str  # ntp | rtc | floor | unset
    roster: tuple[RosterEntry, ...]


# --- actions ----------------------------------------------------------------------------------


class Publish(msgspec.Struct, frozen=True):
    """Hand this to the broker. A loss is noticed by the session, not by the adapter."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Fetch(msgspec.Struct, frozen=True):
    """Read records after `after_seq` and give them to `records` with this question, also when there are none."""

    number: int  # which question this is: an answer to an older one is thrown away
    stream: str
    after_seq: int
    count: int


class Acknowledged(msgspec.Struct, frozen=True):
    """The backend has committed the stream up to here."""

    stream: str
    seq: int


class OrderArrived(msgspec.Struct, frozen=True):
    """Something that may be an order. Its signature has NOT been checked."""

    envelope: bytes


class DocumentArrived(msgspec.Struct, frozen=True):
    """Something that may be a document. Its signature has NOT been checked."""

    envelope: bytes


class ServerTime(msgspec.Struct, frozen=True):
    """Time in a signed ack: a floor for the clock."""

    at: int


class Fenced(msgspec.Struct, frozen=True):
    """The backend has opened a newer epoch: this store is old or a copy. The stream is not sent any more."""

    stream: str


class Leave(msgspec.Struct, frozen=True):
    """Nothing comes through this connection: a broker that has lost our subscriptions, or no cloud behind it."""

    reason: str


Action = Publish | Fetch | Acknowledged | OrderArrived | DocumentArrived | ServerTime | Fenced | Leave


# --- the session ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stream:
    """One stream's outbox. `acked <= cursor <= head`; what is in (acked, cursor] is under way."""

    name: str
    epoch: int
    head: int  # newest the journal can give
    journal_head: int  # newest the journal says it has, with its hash: for the hello
    head_hash: bytes
    acked: int
    cursor: int  # last seq sent in this pass
    cursor_hash: bytes | None  # None: ask the journal for the record at the cursor too
    sent_at: list[tuple[int, float]] = field(default_factory=list)  # (last seq of a batch, when)
    sent_hashes: dict[int, bytes] = field(default_factory=dict)  # above `acked`: known without asking the journal
    claim: "_Claim | None" = None  # the backend has more than we know we sent: the journal is asked
    newest_sent: int = 0  # rdg only: the newest record sent ahead of the backlog
    resend_at: float | None = None
    resend_seconds: float = 0.0
    told: int = 0  # highest mark given to the journal: it only moves forward
    advanced_at: int = 0  # server time of the last ack that moved the mark
    stopped: bool = False  # fenced, or a record nobody would take

    def rewind(self, seq: int) -> None:
        """The next record to send is `seq + 1`; nothing is under way."""
        self.cursor = seq
        self.cursor_hash = ZERO_HASH if seq == 0 else self.sent_hashes.get(seq)
        self.sent_at.clear()
        self.resend_at = None


class SyncSession:
    """One gateway's conversation with the cloud. See the module's docstring."""

    def __init__(
        self,
        gateway_id: str,
        boot_id: str,
        software: str,
        heads: Mapping[str, JournalHead],
        ring: KeyRing,
        random_share: Callable[[], float],
        settings: SessionSettings = SessionSettings(),
    ) -> None:
        """`random_share` gives numbers in [0, 1): the only source of chance."""
        self.gateway_id = gateway_id
        self.boot_id = boot_id
        self.refusals: Counter[str] = Counter()  # messages not believed, by reason
        self.server_time: int = 0
        self._software = software
        self._ring = ring
        self._random_share = random_share
        self._settings = settings
        self._connected = False
        self._heard_at = 0.0
        self._question: _Question | None = None
        self._questions_asked = 0
        self._streams = {name: _stream_of(name, heads[name], settings) for name in STREAMS}
        self._channels: dict[str, Callable[[bytes, float], list[Action]]] = {
            "dn/ack": self._take_ack,
            "dn/cmd": self._take_order,
            "dn/cfg": self._take_document,
        }

    @property
    def is_connected(self) -> bool:
        return self._connected

    def topics(self) -> tuple[str, ...]:
        """What the transport subscribes to: this gateway's own topics, never a wildcard."""
        return tuple(topic_of(self.gateway_id, channel) for channel in self._channels)

    def backlog(self) -> dict[str, int]:
        """Records still to be acknowledged, per stream."""
        return {name: stream.head - stream.acked for name, stream in self._streams.items()}

    def will(self) -> Publish:
        """The retained last word: also published at an orderly end."""
        return self._status(online=False)

    def connected(self, facts: HelloFacts, now: float) -> list[Action]:
        """The broker accepted us and the subscriptions stand."""
        self.disconnected(now)
        self._connected = True
        self._heard_at = now
        return [self._status(online=True), self._hello(facts), *self._pump()]

    def disconnected(self, _now: float) -> list[Action]:
        """The connection is gone, and with it whatever was under way."""
        self._connected = False
        self._question = None
        for stream in self._streams.values():
            stream.rewind(stream.acked)
            stream.newest_sent = 0
            stream.claim = None
            stream.resend_seconds = self._settings.resend_seconds
        return []

    def appended(self, heads: Mapping[str, JournalHead], _now: float) -> list[Action]:
        """The journal has committed more: its heads now."""
        for name, stream in self._streams.items():
            if name in heads and heads[name].seq > stream.journal_head:
                stream.head = stream.journal_head = heads[name].seq
                stream.head_hash = heads[name].hash
        return self._pump()

    def records(self, fetch: Fetch, records: Sequence[Record], now: float) -> list[Action]:
        """The answer to a Fetch. An answer to an older question is thrown away."""
        question = self._question
        if question is None or question.fetch is not fetch:
            return []
        self._question = None
        stream = self._streams[fetch.stream]
        if question.claim is not None:
            stream.sent_hashes |= {record.seq: record.hash for record in records if record.epoch == stream.epoch}
            return [*self._take_claim(stream, question.claim, now), *self._pump()]
        if question.newest:
            return [*self._send_newest(stream, fetch.after_seq + 2, records), *self._pump()]
        if question.cursor != stream.cursor:  # rewound, or acknowledged, while the journal was read
            return self._pump()
        fresh = _continuing(stream, records)
        if fresh and stream.cursor_hash is not None:
            return [*self._send(stream, fresh, now), *self._pump()]
        stream.head = stream.cursor  # the journal has no more than this; `appended` will say when it has
        return self._pump()

    def message(self, topic: str, payload: bytes, now: float) -> list[Action]:
        """Something arrived. Whatever is not ours or not believed changes nothing and is counted."""
        parsed = parse_topic(topic)
        take = self._channels.get(parsed.channel) if parsed else None
        if parsed is None or take is None or parsed.gateway_id != self.gateway_id:
            self.refusals["topic"] += 1
            return []
        return take(payload, now)

    def get_timer(self) -> float | None:
        """When handle_timer is due, or None."""
        due = [stream.resend_at for stream in self._streams.values() if stream.resend_at is not None]
        return min(due, default=None)

    def handle_timer(self, now: float) -> list[Action]:
        """Time has passed: what was not acknowledged is sent again."""
        is_late = False
        for stream in self._streams.values():
            if stream.resend_at is not None and now >= stream.resend_at:
                is_late = True
                stream.rewind(stream.acked)
                stream.resend_seconds = min(stream.resend_seconds * 2, self._settings.resend_seconds_max)
        if is_late and self._connected and now - self._heard_at >= self._settings.deaf_seconds:
            self._heard_at = now
            return [Leave("the cloud answers nothing here")]
        return self._pump()

    # --- sending ---

    def _pump(self) -> list[Action]:
        """At most one question to the journal at a time, so the send order is the order of asking."""
        if not self._connected or self._question is not None:
            return []
        for stream in self._streams.values():
            question = self._next_question(stream)
            if question is not None:
                self._question = question
                return [question.fetch]
        return []

    def _next_question(self, stream: _Stream) -> "_Question | None":
        if stream.claim is not None:
            claim, stream.claim = stream.claim, None
            return self._ask(stream, claim.seq - 1, 1, claim=claim)
        if stream.stopped or stream.cursor >= stream.head:
            return None
        single = stream.name == "rdg"  # a reading record travels alone
        if single and stream.head > max(stream.cursor + 1, stream.newest_sent):
            # The newest reading goes ahead of the backlog, with the record before it for its hash.
            return self._ask(stream, stream.head - 2, 2, newest=True)
        if len(stream.sent_at) >= self._settings.window_batches:
            return None
        count = 1 if single else self._settings.batch_records_max
        if stream.cursor_hash is None:
            return self._ask(stream, stream.cursor - 1, count + 1)
        return self._ask(stream, stream.cursor, count)

    def _ask(
        self, stream: _Stream, after_seq: int, count: int, newest: bool = False, claim: "_Claim | None" = None
    ) -> "_Question":
        self._questions_asked += 1
        fetch = Fetch(self._questions_asked, stream.name, after_seq, count)
        return _Question(fetch, stream.cursor, newest, claim)

    def _send(self, stream: _Stream, records: Sequence[Record], now: float) -> list[Action]:
        """Publishes the next batch, as much of `records` as fits one."""
        assert stream.cursor_hash is not None
        batch, size = [records[0]], len(records[0].body)
        for record in records[1 : self._settings.batch_records_max]:
            size += len(record.body)
            if size > self._settings.batch_bytes_max or stream.name == "rdg":
                break
            batch.append(record)
        publish = self._batch(stream, batch, stream.cursor_hash)
        if publish is None:
            return []
        stream.cursor, stream.cursor_hash = batch[-1].seq, batch[-1].hash
        stream.sent_at.append((stream.cursor, now))
        if stream.resend_at is None:
            stream.resend_at = self._resend_time(stream, now)
        return [publish]

    def _send_newest(self, stream: _Stream, seq: int, records: Sequence[Record]) -> list[Action]:
        """Publishes the newest reading ahead of its turn. Lost, it goes again with the backlog."""
        stream.newest_sent = seq
        if [record.seq for record in records] != [seq - 1, seq]:
            return []
        publish = self._batch(stream, records[-1:], records[-2].hash)
        return [] if publish is None else [publish]

    def _batch(self, stream: _Stream, records: Sequence[Record], previous_hash: bytes) -> Publish | None:
        bodies = tuple(record.body.decode() for record in records)
        message = Batch(
            v=CONTRACT_VERSION,
            gw=self.gateway_id,
            stream=stream.name,
            epoch=stream.epoch,
            first=records[0].seq,
            prev=previous_hash.hex(),
            bodies=bodies,
        )
        try:
            payload = encode_payload(message)
        except WireError as error:
            # Nobody would take it, and skipping it would break the chain. The backlog shows it.
            self.refusals[f"record_{error.reason}"] += 1
            stream.stopped = True
            return None
        for record in records:
            stream.sent_hashes[record.seq] = record.hash
        return Publish(topic_of(self.gateway_id, f"up/{stream.name}"), payload, qos=1, retain=False)

    def _resend_time(self, stream: _Stream, now: float) -> float:
        return now + stream.resend_seconds * (1.0 + self._settings.resend_jitter * self._random_share())

    def _status(self, online: bool) -> Publish:
        epoch = self._streams[STREAMS[0]].epoch
        status = Status(v=CONTRACT_VERSION, gw=self.gateway_id, online=online, epoch=epoch, boot=self.boot_id)
        return Publish(topic_of(self.gateway_id, "st"), encode_payload(status), qos=1, retain=True)

    def _hello(self, facts: HelloFacts) -> Publish:
        hello = Hello(
            v=CONTRACT_VERSION,
            gw=self.gateway_id,
            epoch=self._streams[STREAMS[0]].epoch,
            boot=self.boot_id,
            clock=facts.clock_quality,
            at=facts.at,
            software=self._software,
            roster=facts.roster,
            roster_hash=roster_hash(facts.roster),
            heads={
                name: Head(stream.epoch, stream.journal_head, stream.head_hash.hex(), stream.acked)
                for name, stream in self._streams.items()
            },
        )
        return Publish(topic_of(self.gateway_id, "up/hello"), encode_payload(hello), qos=1, retain=False)

    # --- receiving ---

    def _take_ack(self, payload: bytes, now: float) -> list[Action]:
        try:
            ack = verify_ack(payload, self._ring, self.gateway_id)
        except WireError as error:
            self.refusals[f"ack_{error.reason}"] += 1
            return []
        self._heard_at = now
        actions: list[Action] = [ServerTime(ack.at)]
        newest = ack.at >= self.server_time
        self.server_time = max(self.server_time, ack.at)
        for name, mark in ack.marks.items():
            actions += self._take_mark(self._streams[name], mark, ack.at, newest, now)
        return [*actions, *self._pump()]

    def _take_mark(self, stream: _Stream, mark: Mark, ack_at: int, newest: bool, now: float) -> list[Action]:
        if mark.fenced and mark.epoch > stream.epoch and not stream.stopped:
            stream.stopped = True
            return [Fenced(stream.name)]
        if mark.epoch != stream.epoch:
            self.refusals["ack_epoch"] += 1
            return []
        actions: list[Action] = []
        if mark.seq > stream.acked:
            claim = _Claim(mark.seq, bytes.fromhex(mark.hash), ack_at)
            if mark.seq not in stream.sent_hashes and mark.seq <= stream.journal_head:
                # Before a restart we sent more than the written mark tells. Sending it all again would not do:
                # the backend's mark can be further on than the window reaches.
                if stream.claim is None or claim.seq > stream.claim.seq:
                    stream.claim = claim
                return []
            actions = self._take_claim(stream, claim, now)
            if claim.seq > stream.acked:
                return []
        if mark.miss is not None:
            self._take_miss(stream, mark.miss[0], newest and ack_at > stream.advanced_at, now)
        return actions

    def _take_claim(self, stream: _Stream, claim: "_Claim", now: float) -> list[Action]:
        """Moves the mark if the record it names is known to be ours."""
        if claim.seq <= stream.acked:
            return []
        if stream.sent_hashes.get(claim.seq) != claim.hash:
            # Above what we have, or of a history that is not ours (a cloned card).
            self.refusals["ack_not_sent"] += 1
            return []
        self._advance(stream, claim.seq, now)
        stream.advanced_at = claim.at
        if claim.seq <= stream.told:
            return []
        stream.told = claim.seq
        return [Acknowledged(stream.name, claim.seq)]

    def _advance(self, stream: _Stream, seq: int, now: float) -> None:
        stream.acked = seq
        if seq > stream.cursor:
            stream.cursor, stream.cursor_hash = seq, stream.sent_hashes[seq]
        stream.sent_hashes = {sent: digest for sent, digest in stream.sent_hashes.items() if sent >= seq}
        stream.sent_at = [(last, at) for last, at in stream.sent_at if last > seq]
        stream.resend_seconds = self._settings.resend_seconds
        stream.resend_at = self._resend_time(stream, now) if stream.sent_at else None

    def _take_miss(self, stream: _Stream, first: int, newest: bool, now: float) -> None:
        """The backend lacks `first`: what was sent long enough ago to have arrived is sent again."""
        if first > stream.cursor or first < 1:
            return  # its turn comes anyway
        if first <= stream.acked:
            # The backend lost what it had acknowledged (restored from a backup). Only an ack made after the
            # one that moved the mark may say so: an earlier one that comes late looks the same.
            if newest:
                stream.acked = first - 1
                stream.rewind(stream.acked)
            return
        sent_at = next(at for last, at in stream.sent_at if last >= first)
        due = max(now, sent_at + self._settings.miss_patience_seconds)
        stream.resend_at = due if stream.resend_at is None else min(stream.resend_at, due)

    def _take_order(self, payload: bytes, _now: float) -> list[Action]:
        return [OrderArrived(payload)] if self._fits(payload, ORDER_BYTES_MAX) else []

    def _take_document(self, payload: bytes, _now: float) -> list[Action]:
        return [DocumentArrived(payload)] if self._fits(payload, DOCUMENT_BYTES_MAX) else []

    def _fits(self, payload: bytes, size_max: int) -> bool:
        if 0 < len(payload) <= size_max:
            return True
        self.refusals["size"] += 1
        return False


class _Question(msgspec.Struct, frozen=True):
    """A Fetch under way, and where its stream stood when it was asked."""

    fetch: Fetch
    cursor: int
    newest: bool
    claim: "_Claim | None"  # asked only to compare its hash


class _Claim(msgspec.Struct, frozen=True):
    """What an ack says the backend has: everything up to a record, and when it said so (server time)."""

    seq: int
    hash: bytes
    at: int


def _stream_of(name: str, head: JournalHead, settings: SessionSettings) -> _Stream:
    stream = _Stream(
        name=name,
        epoch=head.epoch,
        head=head.seq,
        journal_head=head.seq,
        head_hash=head.hash,
        acked=head.acked_seq,
        cursor=head.acked_seq,
        cursor_hash=None,
        resend_seconds=settings.resend_seconds,
        told=head.acked_seq,
    )
    stream.rewind(head.acked_seq)
    return stream


def _continuing(stream: _Stream, records: Iterable[Record]) -> list[Record]:
    """The records that follow the cursor without a hole. The one at the cursor gives its hash."""
    fresh: list[Record] = []
    for record in records:
        if record.seq == stream.cursor and not fresh:
            stream.cursor_hash = record.hash
        elif record.seq == stream.cursor + 1 + len(fresh) and record.epoch == stream.epoch:
            fresh.append(record)
        else:
            break
    return fresh
