"""The gateway's session against a real backend over a pipe that loses, doubles and reorders.

All on virtual time: a heap of what is going to happen, seconds that pass for nothing.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.acks import sign_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.keys import KeyRing, Role, Signer, generate_keys
from cloud_sync.orders import DOCUMENT_BYTES_MAX, ORDER_BYTES_MAX
from cloud_sync.session import (
    Acknowledged,
    Action,
    DocumentArrived,
    Fenced,
    Fetch,
    HelloFacts,
    Leave,
    OrderArrived,
    Publish,
    ServerTime,
    SessionSettings,
    SyncSession,
)
from cloud_sync.wire import Ack, Batch, Mark, RosterEntry, decode_batch, decode_hello, decode_status, topic_of

GATEWAY = "gw-1"
FACTS = HelloFacts(at=5000, clock_quality="ntp", roster=(RosterEntry("m-1", "a-1"),))
RING, SIGNERS = generate_keys()


def new_session(journal: Any, ring: KeyRing = RING, **options: Any) -> SyncSession:
    return SyncSession(GATEWAY, "boot-1", "1.0", journal.heads(), ring, lambda: 0.0, SessionSettings(**options))


def answer(session: SyncSession, journal: Any, actions: list[Action], now: float) -> list[Action]:
    """Answers every Fetch from the journal until none is left; the other actions in their order."""
    done: list[Action] = []
    waiting = list(actions)
    while waiting:
        action = waiting.pop(0)
        if isinstance(action, Fetch):
            records = journal.after(action.stream, action.after_seq, action.count)
            waiting = session.records(action, records, now) + waiting
        else:
            done.append(action)
    return done


def batches(actions: list[Action]) -> list[Batch]:
    found = []
    for action in actions:
        if isinstance(action, Publish) and "/up/" in action.topic and not action.topic.endswith("hello"):
            found.append(decode_batch(action.payload, GATEWAY, action.topic.rpartition("/")[2]))
    return found


def spans(actions: list[Action]) -> list[tuple[str, int, int]]:
    return [(batch.stream, batch.first, batch.first + len(batch.bodies) - 1) for batch in batches(actions)]


def ack_of(
    signers: Mapping[Role, Signer] = SIGNERS, role: Role = Role.INGEST, at: int = 9000, gw: str = GATEWAY, **marks: Mark
) -> bytes:
    return sign_ack(Ack(v=1, gw=gw, kid=signers[role].kid, at=at, marks=marks), signers[role])


def mark_at(journal: Any, stream: str, seq: int, **changes: Any) -> Mark:
    digest = journal.records[stream][seq - 1].hash if seq else bytes(32)
    return Mark(**{"epoch": 1, "seq": seq, "hash": digest.hex(), **changes})


def fill(journal: Any, **counts: int) -> None:
    for stream, count in counts.items():
        for _ in range(count):
            journal.write(stream, b'{"n":%d}' % len(journal.records[stream]))


def test_status_and_hello_come_before_everything(journal: Any) -> None:
    fill(journal, led=2)
    session = new_session(journal)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    status, hello = actions[:2]
    assert isinstance(status, Publish)
    assert isinstance(hello, Publish)
    assert status.retain
    assert decode_status(status.payload, GATEWAY).online
    said = decode_hello(hello.payload, GATEWAY)
    assert said.heads["led"].seq == 2
    assert said.heads["led"].hash == journal.records["led"][1].hash.hex()
    assert said.roster == FACTS.roster
    assert not decode_status(session.will().payload, GATEWAY).online
    assert session.will().topic == status.topic


def test_streams_go_in_the_order_of_their_worth(journal: Any) -> None:
    fill(journal, rdg=4, evt=1, res=1, led=1)
    session = new_session(journal)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert spans(actions) == [
        ("led", 1, 1), ("res", 1, 1), ("evt", 1, 1), ("rdg", 4, 4), ("rdg", 1, 1), ("rdg", 2, 2), ("rdg", 3, 3),
        ("rdg", 4, 4),
    ]  # fmt: skip


def test_new_money_overtakes_a_backlog_of_readings(journal: Any) -> None:
    fill(journal, rdg=100)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    fill(journal, led=1, rdg=1)
    actions = answer(session, journal, session.appended(journal.heads(), 1.0), 1.0)
    assert spans(actions) == [("led", 1, 1), ("rdg", 101, 101)]


def test_window_holds_eight_batches_and_opens_with_acks(journal: Any) -> None:
    fill(journal, led=1000)
    session = new_session(journal, batch_records_max=10)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert spans(actions) == [("led", 1 + 10 * n, 10 + 10 * n) for n in range(8)]
    actions = session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 25)), 1.0)
    actions = answer(session, journal, actions, 1.0)
    assert Acknowledged("led", 25) in actions
    assert spans(actions) == [("led", 81, 90), ("led", 91, 100)]


def test_batch_ends_before_its_bytes_grow_too_many(journal: Any) -> None:
    for _ in range(5):
        journal.write("led", b"x" * 400)
    session = new_session(journal, batch_bytes_max=1000)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert spans(actions) == [("led", 1, 2), ("led", 3, 4), ("led", 5, 5)]


def test_record_nobody_would_take_stops_its_stream_and_no_other(journal: Any) -> None:
    journal.write("led", b"x" * 2_000_000)
    journal.write("evt", b"{}")
    session = new_session(journal)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert spans(actions) == [("evt", 1, 1)]
    assert session.refusals["record_size"] == 1
    assert session.backlog()["led"] == 1


def test_unacknowledged_is_sent_again_with_growing_pauses(journal: Any) -> None:
    fill(journal, led=3)
    session = new_session(journal, deaf_seconds=1e9)
    answer(session, journal, session.connected(FACTS, 100.0), 100.0)
    due, pauses, now = session.get_timer(), [], 100.0
    for _ in range(7):
        assert due is not None
        assert spans(answer(session, journal, session.handle_timer(due - 0.001), due - 0.001)) == []
        assert spans(answer(session, journal, session.handle_timer(due), due)) == [("led", 1, 3)]
        pauses.append(due - now)
        now, due = due, session.get_timer()
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def left_at(journal: Any, session: SyncSession, ack_at: float | None = None) -> float:
    """When a session gives its connection up that was made at 100 s."""
    answer(session, journal, session.connected(FACTS, 100.0), 100.0)
    for _ in range(20):
        now = session.get_timer()
        assert now is not None
        if ack_at is not None and now >= ack_at:
            answer(session, journal, session.message(topic_of(GATEWAY, "dn/ack"), ack_of(), ack_at), ack_at)
            ack_at = None
        said = answer(session, journal, session.handle_timer(now), now)
        if said and isinstance(said[0], Leave):
            assert len(said) == 1
            return now
    raise AssertionError("it stayed")


def test_a_connection_through_which_no_ack_comes_is_left(journal: Any) -> None:
    """A broker that has lost our subscriptions confirms all that is published, and nothing ever comes down."""
    fill(journal, led=3)
    assert left_at(journal, new_session(journal)) == 100 + 30 + 60 + 120 + 240 + 480


def test_any_ack_keeps_a_connection(journal: Any) -> None:
    fill(journal, led=3)
    assert left_at(journal, new_session(journal), ack_at=600.0) == 100 + 30 + 60 + 120 + 240 + 480 + 600


def test_a_connection_with_nothing_to_send_is_kept(journal: Any) -> None:
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 100.0), 100.0)
    assert session.get_timer() is None
    assert session.handle_timer(100_000.0) == []


def test_pause_is_stretched_by_chance(journal: Any) -> None:
    fill(journal, led=1)
    session = SyncSession(GATEWAY, "b", "1", journal.heads(), RING, lambda: 0.5)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert session.get_timer() == 30 * 1.25


def test_ack_makes_the_pause_short_again(journal: Any) -> None:
    fill(journal, led=3)
    session = new_session(journal, batch_records_max=1)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    answer(session, journal, session.handle_timer(30.0), 30.0)
    assert session.get_timer() == 90.0
    session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 1)), 40.0)
    assert session.get_timer() == 70.0
    session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 3)), 41.0)
    assert session.get_timer() is None


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda journal: ack_of(led=mark_at(journal, "led", 3))[:-2] + b" }", "ack_malformed"),
        (lambda journal: ack_of(led=mark_at(journal, "led", 3)) + b" ", "ack_signature"),
        (lambda journal: ack_of(generate_keys()[1], led=mark_at(journal, "led", 3)), "ack_signature"),
        (lambda journal: ack_of(role=Role.OPS, led=mark_at(journal, "led", 3)), "ack_role"),
        (lambda journal: ack_of(gw="gw-2", led=mark_at(journal, "led", 3)), "ack_gateway"),
        (lambda journal: ack_of(evt=mark_at(journal, "led", 3)), "ack_not_sent"),
        (lambda journal: ack_of(led=mark_at(journal, "led", 3, epoch=2)), "ack_epoch"),
        (lambda journal: ack_of(led=Mark(1, 4, journal.records["led"][2].hash.hex())), "ack_not_sent"),
        (lambda journal: ack_of(led=mark_at(journal, "led", 3, hash="0" * 64)), "ack_not_sent"),
        (lambda journal: b"", "ack_version"),
        (lambda journal: b"\1" * 5000, "ack_size"),
    ],
)
def test_ack_that_is_not_believed_moves_nothing(journal: Any, forge: Callable[[Any], bytes], reason: str) -> None:
    fill(journal, led=3)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    actions = session.message(topic_of(GATEWAY, "dn/ack"), forge(journal), 1.0)
    assert not [action for action in actions if isinstance(action, Acknowledged)]
    assert session.backlog()["led"] == 3
    assert session.refusals == Counter({reason: 1})


def test_every_flipped_bit_of_an_ack_is_noticed(journal: Any) -> None:
    fill(journal, led=3)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    good = ack_of(led=mark_at(journal, "led", 3))
    for bit in range(len(good) * 8):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        assert session.message(topic_of(GATEWAY, "dn/ack"), bytes(flipped), 1.0) == []
    assert session.backlog()["led"] == 3
    assert Acknowledged("led", 3) in session.message(topic_of(GATEWAY, "dn/ack"), good, 1.0)


def test_ack_above_what_was_sent_is_believed_if_the_journal_has_that_record(journal: Any) -> None:
    fill(journal, led=100)
    session = new_session(journal, batch_records_max=1, window_batches=2)
    topic = topic_of(GATEWAY, "dn/ack")
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    for foreign in (mark_at(journal, "led", 3, hash="0" * 64), Mark(1, 101, "0" * 64)):
        answer(session, journal, session.message(topic, ack_of(led=foreign), 1.0), 1.0)
        assert session.backlog()["led"] == 100
    assert session.refusals == Counter(ack_not_sent=2)
    actions = answer(session, journal, session.message(topic, ack_of(led=mark_at(journal, "led", 5)), 1.0), 1.0)
    assert Acknowledged("led", 5) in actions
    assert spans(actions) == [("led", 6, 6), ("led", 7, 7)]


@pytest.mark.parametrize("stream", ["led", "rdg"])
def test_backend_further_on_than_the_window_reaches_does_not_stop_the_stream(journal: Any, stream: str) -> None:
    """A power cut may lose as many marks as were acknowledged since the last commit."""
    fill(journal, **{stream: 30})
    journal.acked[stream] = 3
    session = new_session(journal, batch_records_max=1)

    def told(seq: int, now: float) -> list[Action]:
        marks: Any = {stream: mark_at(journal, stream, seq)}
        return answer(session, journal, session.message(topic_of(GATEWAY, "dn/ack"), ack_of(**marks), now), now)

    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    actions = told(28, 1.0)
    assert Acknowledged(stream, 28) in actions
    assert (stream, 29, 29) in spans(actions)
    told(30, 2.0)
    assert session.backlog()[stream] == 0


def test_old_ack_has_no_effect(journal: Any) -> None:
    fill(journal, led=3)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 3)), 1.0)
    actions = session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 1), at=8000), 1.0)
    assert actions == [ServerTime(8000)]
    assert session.backlog()["led"] == 0


def test_record_asked_for_again_is_sent_once_it_cannot_be_under_way(journal: Any) -> None:
    fill(journal, led=4)
    session = new_session(journal, batch_records_max=1)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    miss = ack_of(led=mark_at(journal, "led", 1, miss=(2, 2)))
    answer(session, journal, session.message(topic_of(GATEWAY, "dn/ack"), miss, 1.0), 1.0)
    assert session.get_timer() == 5.0
    assert spans(answer(session, journal, session.handle_timer(5.0), 5.0)) == [
        ("led", 2, 2), ("led", 3, 3), ("led", 4, 4),
    ]  # fmt: skip


def test_backend_that_lost_what_it_had_acknowledged_gets_it_again(journal: Any) -> None:
    fill(journal, led=6)
    journal.acked["led"] = 5
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    miss = ack_of(led=mark_at(journal, "led", 2, miss=(3, 5)))
    actions = answer(session, journal, session.message(topic_of(GATEWAY, "dn/ack"), miss, 1.0), 1.0)
    assert spans(actions) == [("led", 3, 6)]
    assert batches(actions)[0].prev == journal.records["led"][1].hash.hex()


def test_journal_is_not_told_again_what_it_knows(journal: Any) -> None:
    fill(journal, led=6)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    topic = topic_of(GATEWAY, "dn/ack")
    assert Acknowledged("led", 5) in session.message(topic, ack_of(led=mark_at(journal, "led", 5)), 1.0)
    lost = ack_of(at=9001, led=mark_at(journal, "led", 2, miss=(3, 5)))
    answer(session, journal, session.message(topic, lost, 2.0), 2.0)
    assert session.backlog()["led"] == 4
    again = session.message(topic, ack_of(at=9002, led=mark_at(journal, "led", 4)), 3.0)
    assert not [action for action in again if isinstance(action, Acknowledged)]
    assert Acknowledged("led", 6) in session.message(topic, ack_of(at=9002, led=mark_at(journal, "led", 6)), 3.0)


def test_answer_that_comes_after_a_rewind_does_not_stop_the_stream(journal: Any) -> None:
    fill(journal, led=2)
    session = new_session(journal, batch_records_max=1)
    first = next(action for action in session.connected(FACTS, 0.0) if isinstance(action, Fetch))
    actions = session.records(first, journal.after("led", 0, 1), 0.0)
    second = next(action for action in actions if isinstance(action, Fetch))
    assert session.handle_timer(30.0) == []  # rewound to the mark while the second answer is awaited
    late = session.records(second, journal.after("led", second.after_seq, 1), 31.0)
    assert spans(answer(session, journal, late, 31.0)) == [("led", 1, 1), ("led", 2, 2)]


def test_ack_that_comes_after_a_rewind_is_not_answered_with_what_it_names(journal: Any) -> None:
    fill(journal, led=4)
    session = new_session(journal, batch_records_max=2)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    fetch = session.handle_timer(30.0)
    session.message(topic_of(GATEWAY, "dn/ack"), ack_of(led=mark_at(journal, "led", 2)), 31.0)
    assert spans(answer(session, journal, fetch, 31.0)) == [("led", 3, 4)]


def test_old_ack_cannot_make_the_gateway_send_everything_again(journal: Any) -> None:
    fill(journal, led=6)
    journal.acked["led"] = 6
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    session.message(topic_of(GATEWAY, "dn/ack"), ack_of(at=9000), 1.0)
    old = ack_of(at=8999, led=mark_at(journal, "led", 2, miss=(3, 5)))
    assert spans(answer(session, journal, session.message(topic_of(GATEWAY, "dn/ack"), old, 1.0), 1.0)) == []


def test_sending_goes_on_after_a_restart_from_the_mark(journal: Any) -> None:
    fill(journal, led=5)
    journal.acked["led"] = 3
    session = new_session(journal)
    actions = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    assert spans(actions) == [("led", 4, 5)]
    assert batches(actions)[0].prev == journal.records["led"][2].hash.hex()


def test_reconnect_forgets_what_was_under_way_and_says_hello_again(journal: Any) -> None:
    fill(journal, led=2)
    session = new_session(journal)
    first = answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    session.disconnected(1.0)
    assert session.get_timer() is None
    fill(journal, led=1)
    assert session.appended(journal.heads(), 2.0) == []
    second = answer(session, journal, session.connected(FACTS, 3.0), 3.0)
    assert spans(first) == [("led", 1, 2)]
    assert spans(second) == [("led", 1, 3)]
    assert sum(isinstance(action, Publish) and action.topic.endswith("hello") for action in second) == 1


def test_answer_to_a_question_of_an_earlier_connection_is_thrown_away(journal: Any) -> None:
    fill(journal, led=2)
    session = new_session(journal)
    old = next(action for action in session.connected(FACTS, 0.0) if isinstance(action, Fetch))
    new = next(action for action in session.connected(FACTS, 1.0) if isinstance(action, Fetch))
    assert session.records(old, [], 2.0) == []
    assert spans(answer(session, journal, [new], 2.0)) == [("led", 1, 2)]


def test_journal_that_has_less_than_it_said_is_asked_again_when_it_grows(journal: Any) -> None:
    fill(journal, led=1)
    session = new_session(journal)
    fetch = next(action for action in session.connected(FACTS, 0.0) if isinstance(action, Fetch))
    assert session.records(fetch, [], 0.0) == []
    fill(journal, led=1)
    assert spans(answer(session, journal, session.appended(journal.heads(), 1.0), 1.0)) == [("led", 1, 2)]


def test_orders_and_documents_are_handed_on_within_their_sizes(journal: Any) -> None:
    session = new_session(journal)
    assert session.message(topic_of(GATEWAY, "dn/cmd"), b"order", 0.0) == [OrderArrived(b"order")]
    assert session.message(topic_of(GATEWAY, "dn/cfg"), b"document", 0.0) == [DocumentArrived(b"document")]
    assert session.message(topic_of(GATEWAY, "dn/cmd"), b"x" * (ORDER_BYTES_MAX + 1), 0.0) == []
    assert session.message(topic_of(GATEWAY, "dn/cfg"), b"x" * (DOCUMENT_BYTES_MAX + 1), 0.0) == []
    assert session.message(topic_of(GATEWAY, "dn/cmd"), b"", 0.0) == []
    assert session.refusals == Counter({"size": 3})


@pytest.mark.parametrize(
    "topic", [topic_of("gw-2", "dn/cmd"), topic_of(GATEWAY, "st"), topic_of(GATEWAY, "up/led"), "x"]
)
def test_message_on_a_foreign_topic_is_ignored(journal: Any, topic: str) -> None:
    session = new_session(journal)
    assert session.message(topic, b"order", 0.0) == []
    assert session.refusals == Counter({"topic": 1})


def test_gateway_listens_to_its_own_topics_only(journal: Any) -> None:
    assert set(new_session(journal).topics()) == {topic_of(GATEWAY, f"dn/{name}") for name in ("ack", "cmd", "cfg")}


def test_fenced_stream_is_not_sent_any_more(journal: Any) -> None:
    fill(journal, led=1, evt=1)
    session = new_session(journal)
    answer(session, journal, session.connected(FACTS, 0.0), 0.0)
    fence = ack_of(led=Mark(epoch=2, seq=0, hash="0" * 64, fenced=True))
    actions = session.message(topic_of(GATEWAY, "dn/ack"), fence, 1.0)
    assert Fenced("led") in actions
    fill(journal, led=1, evt=1)
    assert spans(answer(session, journal, session.appended(journal.heads(), 2.0), 2.0)) == [("evt", 2, 2)]


@given(st.binary(max_size=200), st.sampled_from(["dn/ack", "dn/cmd", "dn/cfg"]))
def test_noise_from_the_broker_moves_no_mark(noise: bytes, channel: str) -> None:
    class Empty:
        epoch, seq, hash, acked_seq = 1, 5, bytes(32), 0

    session = SyncSession(
        GATEWAY, "b", "1", {name: Empty() for name in ("led", "res", "evt", "rdg")}, RING, lambda: 0.0
    )
    actions = session.message(topic_of(GATEWAY, channel), noise, 0.0)
    assert all(isinstance(action, OrderArrived | DocumentArrived) for action in actions)
    assert set(session.backlog().values()) == {5}


def test_delays_are_capped_for_demos() -> None:
    capped = SessionSettings().capped(1.0)
    assert (capped.resend_seconds, capped.resend_seconds_max, capped.miss_patience_seconds) == (1.0, 1.0, 1.0)
    assert capped.window_batches == SessionSettings().window_batches


# --- the pipe ---------------------------------------------------------------------------------


class World:
    """A gateway and a backend joined by a pipe with a seed."""

    def __init__(self, seed: int, journal: Any, backend: Backend, ring: KeyRing, loss: float, doubling: float) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.journal = journal
        self.backend = backend
        self.loss = loss
        self.doubling = doubling
        self.is_up = False
        self.orders: list[bytes] = []
        self.server_times: list[int] = []
        self.ring = ring
        self.start()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, delay: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), happen))

    def run(self, until: Callable[[], bool], limit: float) -> None:
        """Lets time pass until something is true; fails when it does not become true within `limit` seconds."""
        while not until():
            due = self.session.get_timer()
            if self._heap and (due is None or self._heap[0][0] <= due):
                self.now, _, happen = heapq.heappop(self._heap)
                happen()
            else:
                assert due is not None, f"at {self.now}: nothing is going to happen"
                self.now = max(self.now, due)
                self.perform(self.session.handle_timer(self.now))
            assert self.now < limit, f"not done after {limit} s"

    def start(self) -> None:
        self.session = SyncSession(
            GATEWAY, "boot", "1", self.journal.heads(), self.ring, self.random.random,
            SessionSettings(batch_records_max=3, batch_bytes_max=500, window_batches=2),
        )  # fmt: skip

    def power_cut(self) -> None:
        """The gateway starts again, with any older mark: marks are written with the commit after them."""
        self.is_up = False
        for stream, seq in self.journal.acked.items():
            self.journal.acked[stream] = self.random.randint(0, seq)
        self.start()

    def connect(self) -> None:
        self.is_up = True
        self.perform(self.session.connected(FACTS, self.now))

    def drop(self) -> None:
        self.is_up = False
        self.perform(self.session.disconnected(self.now))

    def append(self, stream: str) -> None:
        self.journal.write(stream, b'{"type":"x","n":%d}' % self.random.randrange(10**9))
        self.perform(self.session.appended(self.journal.heads(), self.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Leave):
                self.drop()
                self.at(1.0, self.connect)
            if isinstance(action, Publish):
                self.pipe(partial(self._to_backend, action))
            elif isinstance(action, Fetch):
                records = self.journal.after(action.stream, action.after_seq, action.count)
                self.at(0.01, partial(self._answer, action, records))
            elif isinstance(action, Acknowledged):
                self.journal.acknowledge(action.stream, action.seq)
            elif isinstance(action, OrderArrived):
                self.orders.append(action.envelope)
            elif isinstance(action, ServerTime):
                self.server_times.append(action.at)

    def _answer(self, fetch: Fetch, records: Any) -> None:
        self.perform(self.session.records(fetch, records, self.now))

    def pipe(self, deliver: Callable[[], None]) -> None:
        copies = 0 if self.random.random() < self.loss else 2 if self.random.random() < self.doubling else 1
        for _ in range(copies):
            self.at(self.random.uniform(0.01, 3.0), deliver)

    def _to_backend(self, message: Publish) -> None:
        for reply in self.backend.take([Received(message.topic, message.payload)], int(self.now) + 1000, self.now):
            self.pipe(partial(self.to_gateway, reply))

    def to_gateway(self, message: Publish) -> None:
        if self.is_up:
            self.perform(self.session.message(message.topic, message.payload, self.now))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([0.0, 0.5]))
def test_everything_arrives_exactly_once_over_a_pipe_that_loses(
    new_journal: Any, keys: Any, seed: int, loss: float, doubling: float
) -> None:
    journal, backend = new_journal(), Backend(":memory:", *keys)
    backend.enroll(GATEWAY, 1000)
    world = World(seed, journal, backend, keys[0], loss, doubling)
    for _ in range(60):
        stream = world.random.choice(("led", "led", "res", "evt", "rdg", "rdg"))
        world.at(world.random.uniform(0, 100), partial(world.append, stream))
    for when in (0.0, 40.0, 80.0):
        world.at(when, world.connect)
    world.at(30.0, world.drop)
    world.at(79.0, world.power_cut)
    finished: list[bool] = []
    world.at(101.0, lambda: finished.append(True))
    world.run(lambda: bool(finished) and journal.all_acked, limit=40_000.0)
    assert backend.counts() == {stream: len(records) for stream, records in journal.records.items() if records}
    rows = backend.database.execute("SELECT stream, seq, hash FROM record").fetchall()
    there = {(row[0], row[1]): row[2] for row in rows}
    assert there == {(name, r.seq): r.hash for name, records in journal.records.items() for r in records}
    assert backend.problems() == []
    assert backend.alarms() == []
    assert world.server_times
    backend.close()


def test_orders_arrive_over_a_pipe_that_loses(journal: Any, backend: Backend, ring: KeyRing) -> None:
    world = World(7, journal, backend, ring, 0.5, 0.2)
    placed = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)

    def send_due() -> None:
        for message in backend.commands_due(world.now):
            world.pipe(partial(world.to_gateway, message))
        world.at(1.0, send_due)

    world.at(0.0, world.connect)
    world.at(0.5, send_due)
    world.run(lambda: bool(world.orders), limit=2000.0)
    assert world.orders[0] == backend.desk.envelope(placed.cid)
    journal.write("res", b'{"type":"CommandApplied","cid":"%s","result":"applied"}' % placed.cid.encode())
    world.perform(world.session.appended(journal.heads(), world.now))
    world.run(lambda: backend.result_of(placed.cid) == "applied", limit=4000.0)
    assert backend.commands_due(world.now + 10_000) == []
