"""From messages to rows: one transaction for many messages, and acknowledgements only after it.

A message that does not follow the contract, or comes from a gateway nobody enrolled, goes to
quarantine and changes nothing else. Ingest holds the ingest key and no command key.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cloud_sync.acks import sign_ack
from cloud_sync.backend.alarms import quarantine, raise_alarm
from cloud_sync.backend.database import Database, savepoint, transaction
from cloud_sync.backend.streams import QUARANTINED, StreamKey, Verdict, mark_of, take_batch
from cloud_sync.keys import Signer
from cloud_sync.session import Publish
from cloud_sync.wire import (
    CONTRACT_VERSION,
    STREAMS,
    Ack,
    Hello,
    Mark,
    Topic,
    WireError,
    decode_batch,
    decode_hello,
    decode_status,
    parse_topic,
    topic_of,
)

BOOTS_KEPT: Final = 16  # of each gateway
RETURNS_OF_A_TWIN: Final = 2


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the broker gave it."""

    topic: str
    payload: bytes


@dataclass(slots=True)
class Taken:
    """What is to be said after the commit."""

    acks: list[Publish] = field(default_factory=list)
    hellos: list[str] = field(default_factory=list)  # gateways that said hello: their commands are due


@dataclass(slots=True)
class _Touched:
    """Which marks one gateway is to be told."""

    marks: dict[str, Mark] = field(default_factory=dict)
    acked_there: dict[str, int] = field(default_factory=dict)


class Ingest:
    """Takes messages for one database. Not for two threads at once."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self.counters: Counter[str] = Counter()
        self._database = database
        self._signer = signer

    def take(self, messages: Sequence[Received], at: int) -> Taken:
        """Commits what the messages say; what to answer. Raises an error of the database: then nothing was taken."""
        taken, touched = Taken(), dict[str, _Touched]()
        topics = [parse_topic(message.topic) for message in messages]
        with transaction(self._database, shared=True):
            epochs = self._database.open_epochs(sorted({topic.gateway_id for topic in topics if topic is not None}))
            for topic, message in zip(topics, messages, strict=True):
                self._take_one(topic, message, epochs, at, touched, taken)
            for gateway_id, gateway_touched in touched.items():
                self._read_marks(gateway_id, epochs[gateway_id], gateway_touched)
        self.counters["messages"] += len(messages)
        taken.acks += [self._ack(gateway_id, marks.marks, at) for gateway_id, marks in touched.items() if marks.marks]
        return taken

    def _take_one(
        self,
        topic: Topic | None,
        message: Received,
        epochs: Mapping[str, int],
        at: int,
        touched: dict[str, _Touched],
        taken: Taken,
    ) -> None:
        gateway_id = topic.gateway_id if topic else ""
        try:
            with savepoint(self._database):
                if topic is None:
                    raise WireError("topic")
                if gateway_id not in epochs:
                    raise WireError("not_enrolled")
                self._dispatch(topic, epochs[gateway_id], message, at, touched, taken)
        except WireError as error:
            self._set_aside(gateway_id, message, error.reason, at)
        except Exception as error:
            if isinstance(error, self._database.Error) and not isinstance(error, self._database.IntegrityError):
                raise  # the database failed: nothing of this transaction may stand
            # A bug met by one message, or rows that contradict it, must not stop the others.
            self._set_aside(gateway_id, message, "internal", at)
            raise_alarm(self._database, gateway_id, "ingest_bug", {"error": repr(error)[:200]}, at)

    def _dispatch(
        self, topic: Topic, epoch_open: int, message: Received, at: int, touched: dict[str, _Touched], taken: Taken
    ) -> None:
        gateway_id = topic.gateway_id
        if topic.channel == "st":
            status = decode_status(message.payload, gateway_id)
            sql = "UPDATE gateway SET online = ? WHERE id = ?"
            self._database.execute(sql, (int(status.online), gateway_id))
        elif topic.channel == "up/hello":
            hello = decode_hello(message.payload, gateway_id)
            self._take_hello(hello, at)
            there = {name: head.acked for name, head in hello.heads.items() if head.epoch == epoch_open}
            touched.setdefault(gateway_id, _Touched()).acked_there |= dict.fromkeys(STREAMS, 0) | there
            if gateway_id not in taken.hellos:
                taken.hellos.append(gateway_id)
        elif topic.channel.startswith("up/"):
            self._take_records(topic, message, epoch_open, at, touched)
        else:
            raise WireError("topic", topic.channel)

    def _take_records(
        self, topic: Topic, message: Received, epoch_open: int, at: int, touched: dict[str, _Touched]
    ) -> None:
        stream = topic.channel.removeprefix("up/")
        batch = decode_batch(message.payload, topic.gateway_id, stream)
        verdict = take_batch(self._database, batch, epoch_open, at)
        self.counters[verdict.value] += 1
        if verdict in QUARANTINED:
            quarantine(self._database, topic.gateway_id, message.topic, message.payload, verdict.value, at)
        if verdict is Verdict.NOT_PERMITTED:
            return
        answer = touched.setdefault(topic.gateway_id, _Touched())
        answer.acked_there.setdefault(stream, 0)
        if verdict is Verdict.FENCED:
            mark = mark_of(self._database, StreamKey(topic.gateway_id, stream, epoch_open))
            answer.marks[stream] = msgspec.structs.replace(mark, fenced=True)

    def _take_hello(self, hello: Hello, at: int) -> None:
        self._look_for_a_twin(hello, at)
        self._database.execute(
            "UPDATE gateway SET online = 1, boot = ?, software = ?, clock = ?, roster = ?, hello_at = ? WHERE id = ?",
            (hello.boot, hello.software, hello.clock, msgspec.json.encode(hello.roster).decode(), at, hello.gw),
        )

    def _look_for_a_twin(self, hello: Hello, at: int) -> None:
        """A boot ends when the next one begins. When it says hello again and again, two devices have one identity (R9).

        Once is no proof: a broker may repeat an old message.
        """
        database = self._database
        boot = database.execute("SELECT boot FROM gateway WHERE id = ?", (hello.gw,)).fetchone()[0]
        if boot is None or boot == hello.boot:
            return
        sql = "UPDATE boot SET returns = returns + 1 WHERE gateway = ? AND boot = ? RETURNING returns"
        returned = database.execute(sql, (hello.gw, hello.boot)).fetchone()
        if returned is not None and returned[0] >= RETURNS_OF_A_TWIN:
            raise_alarm(database, hello.gw, "two_devices", {"boots": sorted([boot, hello.boot])}, at)
        sql = "INSERT INTO boot (gateway, boot, followed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        database.execute(sql, (hello.gw, boot, at))
        kept = "SELECT boot FROM boot WHERE gateway = ? ORDER BY followed_at DESC LIMIT ?"
        database.execute(
            f"DELETE FROM boot WHERE gateway = ? AND boot NOT IN ({kept})", (hello.gw, hello.gw, BOOTS_KEPT)
        )

    def _read_marks(self, gateway_id: str, epoch_open: int, touched: _Touched) -> None:
        for stream, acked_there in touched.acked_there.items():
            if stream not in touched.marks:
                key = StreamKey(gateway_id, stream, epoch_open)
                touched.marks[stream] = mark_of(self._database, key, acked_there)

    def _ack(self, gateway_id: str, marks: dict[str, Mark], at: int) -> Publish:
        ack = Ack(v=CONTRACT_VERSION, gw=gateway_id, kid=self._signer.kid, at=at, marks=marks)
        return Publish(topic_of(gateway_id, "dn/ack"), sign_ack(ack, self._signer), qos=1, retain=False)

    def _set_aside(self, gateway_id: str, message: Received, reason: str, at: int) -> None:
        self.counters["quarantined"] += 1
        quarantine(self._database, gateway_id, message.topic, message.payload, reason, at)
