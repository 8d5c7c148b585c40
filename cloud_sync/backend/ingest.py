"""From messages to rows: one transaction for many messages, and acknowledgements only after it.

A message that does not follow the contract, or comes from a gateway nobody enrolled, goes to
quarantine and changes nothing else. Ingest holds the ingest key and no command key.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cloud_sync.acks import sign_ack
from cloud_sync.backend.alarms import quarantine, raise_alarm
from cloud_sync.backend.database import Database, savepoint, transaction
from cloud_sync.backend.intake import Intake, StreamKey
from cloud_sync.backend.streams import QUARANTINED, Verdict, mark_of, take_batch, write_taken
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


_Addressed = tuple[Topic | None, Received]


@dataclass(slots=True)
class _Touched:
    """Which marks one gateway is to be told."""

    marks: dict[str, Mark] = field(default_factory=dict)
    acked_there: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Taken:
    """What is to be said after the commit."""

    acks: list[Publish] = field(default_factory=list)
    hellos: list[str] = field(default_factory=list)  # gateways that said hello: their commands are due
    counters: Counter[str] = field(default_factory=Counter)  # batches by verdict, and messages set aside
    touched: dict[str, _Touched] = field(default_factory=dict)


class Ingest:
    """Takes messages for one database. Not for two threads at once."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self.counters: Counter[str] = Counter()
        self._database = database
        self._signer = signer

    def take(self, messages: Sequence[Received], at: int) -> Taken:
        """Commits what the messages say; what to answer. Raises an error of the database: then nothing was taken."""
        parsed = [(parse_topic(message.topic), message) for message in messages]
        try:
            taken = self._take(parsed, at, self._take_together)
        except Exception as error:
            if self._has_failed(error):
                raise  # the database: nothing of this transaction stands
            taken = self._take(parsed, at, self._take_one_by_one)
        self.counters["messages"] += len(messages)
        self.counters.update(taken.counters)
        return taken

    def _take(self, messages: list[_Addressed], at: int, take_all: "_Taking") -> Taken:
        with transaction(self._database, shared=True):
            taken, intake = take_all(messages, at)
            for gateway_id, touched in taken.touched.items():
                _read_marks(intake, gateway_id, touched)
        told = ((gateway_id, touched.marks) for gateway_id, touched in taken.touched.items())
        taken.acks += [self._ack(gateway_id, marks, at) for gateway_id, marks in told if marks]
        return taken

    def _take_together(self, messages: list[_Addressed], at: int) -> tuple[Taken, Intake]:
        """The usual way: rows are written once for all messages. One that is refused has written nothing."""
        taken, intake = Taken(), self._intake(messages, at)
        intake.read_balances(topic.gateway_id for topic, _ in messages if topic and topic.channel == "up/led")
        for topic, message in messages:
            self._take_one(intake, topic, message, taken)
        write_taken(intake)
        return taken, intake

    def _take_one_by_one(self, messages: list[_Addressed], at: int) -> tuple[Taken, Intake]:
        """A bug met by one message, or rows that contradict it, must not stop the others: what it did is undone."""
        taken, intake = Taken(), self._intake(messages, at)
        for topic, message in messages:
            before = deepcopy(taken)
            try:
                with savepoint(self._database):
                    self._take_one(intake, topic, message, taken)
                    write_taken(intake)
            except Exception as error:
                if self._has_failed(error):
                    raise
                taken, intake = before, self._intake(messages, at)  # they knew of what was undone
                gateway_id = topic.gateway_id if topic else ""
                self._set_aside(gateway_id, message, "internal", at, taken)
                raise_alarm(self._database, gateway_id, "ingest_bug", {"error": repr(error)[:200]}, at)
        return taken, intake

    def _intake(self, messages: list[_Addressed], at: int) -> Intake:
        return Intake(self._database, (topic.gateway_id for topic, _ in messages if topic is not None), at)

    def _has_failed(self, error: Exception) -> bool:
        """Whether it is the database that fails, and not rows that contradict a message, or a bug."""
        return isinstance(error, self._database.Error) and not isinstance(error, self._database.Contradictions)

    def _take_one(self, intake: Intake, topic: Topic | None, message: Received, taken: Taken) -> None:
        gateway_id = topic.gateway_id if topic else ""
        try:
            if topic is None:
                raise WireError("topic")
            if gateway_id not in intake.epochs:
                raise WireError("not_enrolled")
            self._dispatch(intake, topic, message, taken)
        except WireError as error:
            self._set_aside(gateway_id, message, error.reason, intake.at, taken)

    def _dispatch(self, intake: Intake, topic: Topic, message: Received, taken: Taken) -> None:
        """Raises WireError before it changes anything."""
        gateway_id = topic.gateway_id
        if topic.channel == "st":
            status = decode_status(message.payload, gateway_id)
            sql = "UPDATE gateway SET online = ? WHERE id = ?"
            self._database.execute(sql, (int(status.online), gateway_id))
        elif topic.channel == "up/hello":
            hello = decode_hello(message.payload, gateway_id)
            self._take_hello(hello, intake.at)
            epoch_open = intake.epochs[gateway_id]
            there = {name: head.acked for name, head in hello.heads.items() if head.epoch == epoch_open}
            touched = taken.touched.setdefault(gateway_id, _Touched())
            touched.acked_there |= dict.fromkeys(STREAMS, 0) | there
            if gateway_id not in taken.hellos:
                taken.hellos.append(gateway_id)
        elif topic.channel.startswith("up/"):
            _take_records(intake, topic, message, taken)
        else:
            raise WireError("topic", topic.channel)

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

    def _ack(self, gateway_id: str, marks: dict[str, Mark], at: int) -> Publish:
        ack = Ack(v=CONTRACT_VERSION, gw=gateway_id, kid=self._signer.kid, at=at, marks=marks)
        return Publish(topic_of(gateway_id, "dn/ack"), sign_ack(ack, self._signer), qos=1, retain=False)

    def _set_aside(self, gateway_id: str, message: Received, reason: str, at: int, taken: Taken) -> None:
        taken.counters["quarantined"] += 1
        quarantine(self._database, gateway_id, message.topic, message.payload, reason, at)


_Taking = Callable[[list[_Addressed], int], tuple[Taken, Intake]]


def _take_records(intake: Intake, topic: Topic, message: Received, taken: Taken) -> None:
    stream = topic.channel.removeprefix("up/")
    batch = decode_batch(message.payload, topic.gateway_id, stream)
    verdict = take_batch(intake, batch)
    taken.counters[verdict.value] += 1
    if verdict in QUARANTINED:
        quarantine(intake.database, topic.gateway_id, message.topic, message.payload, verdict.value, intake.at)
    if verdict is Verdict.NOT_PERMITTED:
        return
    answer = taken.touched.setdefault(topic.gateway_id, _Touched())
    answer.acked_there.setdefault(stream, 0)
    if verdict is Verdict.FENCED:
        mark = mark_of(intake, StreamKey(topic.gateway_id, stream, intake.epochs[topic.gateway_id]))
        answer.marks[stream] = msgspec.structs.replace(mark, fenced=True)


def _read_marks(intake: Intake, gateway_id: str, touched: _Touched) -> None:
    for stream, acked_there in touched.acked_there.items():
        if stream not in touched.marks:
            key = StreamKey(gateway_id, stream, intake.epochs[gateway_id])
            touched.marks[stream] = mark_of(intake, key, acked_there)
