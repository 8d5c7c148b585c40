"""After a start every gateway is told what the backend has of it, so that what a restored backup lost comes again."""

from collections.abc import Callable
from typing import Any

from cloud_sync.acks import verify_ack
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.backend.survey import GATEWAYS_PER_TURN, PAUSE_GROWTH, PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX
from cloud_sync.session import HelloFacts, Publish, SyncSession
from cloud_sync.wire import STREAMS, topic_of

AT = 1_000_000


def told(messages: list[Publish]) -> list[str]:
    return [message.topic.split("/")[3] for message in messages]


def test_each_gateway_is_told_its_marks_and_asked_for_what_follows(
    keys: Any, backend: Backend, journal: Any, as_hello: Callable[[Any], Received]
) -> None:
    backend.take([as_hello(journal)], AT, 0.0)
    backend.enroll("gw-2", 1)  # of whom no hello came
    message, other = backend.marks_due(AT + 1, 1.0)
    assert other.topic == topic_of("gw-2", "dn/ack")
    assert message.topic == topic_of("gw-1", "dn/ack")
    ack = verify_ack(message.payload, keys[0], "gw-1")
    assert ack.at == AT + 1
    asked = {name: (mark.epoch, mark.seq, mark.miss) for name, mark in ack.marks.items()}
    assert asked == dict.fromkeys(STREAMS, (1, 0, (1, 1)))


def test_a_fleet_is_told_turn_by_turn_and_again_more_and_more_seldom(
    backend: Backend,
) -> None:
    names = [f"gw-{number:04d}" for number in range(2 * GATEWAYS_PER_TURN + 4)]
    backend.enroll_all(names, 1)
    names.append("gw-1")
    turns = [told(backend.marks_due(AT, 0.0)) for _ in range(4)]
    assert [name for turn in turns for name in turn] == names
    assert [len(turn) for turn in turns] == [GATEWAYS_PER_TURN, GATEWAYS_PER_TURN, 5, 0]
    now, pause = 0.0, PAUSE_SECONDS_FIRST
    for _ in range(5):
        assert backend.marks_due(AT, now + pause - 0.5) == []
        now += pause
        assert sum(len(backend.marks_due(AT, now)) for _ in range(3)) == len(names)
        pause = min(pause * PAUSE_GROWTH, PAUSE_SECONDS_MAX)
    assert pause == PAUSE_SECONDS_MAX


def test_a_gateway_that_is_idle_sends_again_what_a_restored_backup_lost(
    keys: Any, new_place: Callable[[], str], journal: Any
) -> None:
    """It sends only above what was acknowledged, and would else wait for its next hello."""
    for number in range(1, 9):
        body = b'{"account":"a","posting_nano":5,"balance_nano":%d}' % (5 * number)
        journal.write("led", body)
        journal.acked["led"] = number
    restored = Backend(new_place(), *keys)
    restored.enroll("gw-1", 1)
    session = SyncSession("gw-1", "boot", "1", journal.heads(), keys[0], lambda: 0.0)
    session.connected(HelloFacts(AT, "ntp", ()), 0.0)
    assert session.backlog()["led"] == 0
    (message,) = restored.marks_due(AT, 1.0)
    session.message(message.topic, message.payload, 1.0)
    assert session.backlog() == {"led": 8, "res": 0, "evt": 0, "rdg": 0}
    restored.close()


def test_a_gateway_that_has_nothing_more_does_nothing(
    keys: Any, backend: Backend, journal: Any, as_hello: Callable[[Any], Received]
) -> None:
    session = SyncSession("gw-1", "boot", "1", journal.heads(), keys[0], lambda: 0.0)
    session.connected(HelloFacts(AT, "ntp", ()), 0.0)
    backend.take([as_hello(journal)], AT, 0.0)
    (message,) = backend.marks_due(AT + 5, 1.0)
    said = session.message(message.topic, message.payload, 1.0)
    assert not [action for action in said if isinstance(action, Publish)]
    assert session.refusals.total() == 0
