"""Taking records: next, duplicate, fork, gap, fence; and nothing acknowledged that is not committed."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.acks import verify_ack
from cloud_sync.backend.alarms import QUARANTINE_ROWS_MAX, quarantine
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import BOOTS_KEPT, Received
from cloud_sync.backend.sqlite import SqliteDatabase
from cloud_sync.backend.streams import ASIDE_RECORDS_MAX
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.wire import (
    ZERO_HASH,
    Ack,
    Batch,
    Head,
    Hello,
    Mark,
    Status,
    encode_payload,
    roster_hash,
    topic_of,
)

GATEWAY = "gw-1"


def message(
    journal: Any, stream: str, first: int, last: int, bodies: Sequence[str] | None = None, prev: str | None = None
) -> Received:
    """A batch of what the journal holds, or with something in it changed."""
    records = journal.records[stream]
    batch = Batch(
        v=1,
        gw=journal.gateway_id,
        stream=stream,
        epoch=journal.epoch,
        first=first,
        prev=prev or (records[first - 2].hash if first > 1 else ZERO_HASH).hex(),
        bodies=tuple(bodies or [record.body.decode() for record in records[first - 1 : last]]),
    )
    return Received(topic_of(journal.gateway_id, f"up/{stream}"), encode_payload(batch))


BREAKING_COMMITS = {
    True: (
        "CREATE TABLE witness (gateway TEXT REFERENCES gateway(id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER break_commit AFTER INSERT ON record BEGIN INSERT INTO witness VALUES ('nobody'); END",
    ),
    False: (
        "CREATE TABLE witness (gateway TEXT REFERENCES gateway(id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE FUNCTION break_commit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO witness VALUES ('nobody'); RETURN NEW; END $$",
        "CREATE TRIGGER break_commit AFTER INSERT ON record FOR EACH ROW EXECUTE FUNCTION break_commit()",
    ),
}


def drop_trigger(backend: Backend, trigger: str, table: str) -> None:
    place = "" if isinstance(backend.database, SqliteDatabase) else f" ON {table}"
    backend.database.execute(f"DROP TRIGGER {trigger}{place}")


def hello(journal: Any, boot: str = "b") -> Received:
    heads = {
        name: Head(head.epoch, head.seq, head.hash.hex(), head.acked_seq) for name, head in journal.heads().items()
    }
    said = Hello(
        v=1, gw=GATEWAY, epoch=1, boot=boot, clock="ntp", at=5, software="1.0", roster=(), roster_hash=roster_hash(()),
        heads=heads,
    )  # fmt: skip
    return Received(topic_of(GATEWAY, "up/hello"), encode_payload(said))


def take(backend: Backend, ring: KeyRing, *messages: Received) -> Mapping[str, Mark]:
    """The marks acknowledged to gw-1; empty when nothing was said."""
    replies = [reply for reply in backend.take(messages, 2000, 0.0) if reply.topic == topic_of(GATEWAY, "dn/ack")]
    assert len(replies) <= 1
    acks: list[Ack] = [verify_ack(reply.payload, ring, GATEWAY) for reply in replies]
    assert all(ack.at == 2000 for ack in acks)
    return acks[0].marks if acks else {}


def write(journal: Any, stream: str, count: int) -> None:
    for number in range(count):
        journal.write(stream, b'{"type":"Event","n":%d}' % number)


def test_next_records_are_taken_and_acknowledged(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 5)
    marks = take(backend, ring, message(journal, "led", 1, 3), message(journal, "led", 4, 5))
    assert marks == {"led": Mark(1, 5, journal.records["led"][4].hash.hex())}
    assert backend.counts() == {"led": 5}
    assert backend.problems() == []


def test_duplicates_change_nothing_and_are_acknowledged_again(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 5)
    first = take(backend, ring, message(journal, "led", 1, 5))
    for again in (message(journal, "led", 1, 5), message(journal, "led", 2, 4)):
        assert take(backend, ring, again) == first
    assert backend.counts() == {"led": 5}
    assert backend.alarms() == []


def test_batch_that_overlaps_gives_its_new_part(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 5)
    take(backend, ring, message(journal, "led", 1, 3))
    assert take(backend, ring, message(journal, "led", 2, 5))["led"].seq == 5
    assert backend.problems() == []


def test_gap_is_kept_aside_and_asked_for(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 6)
    take(backend, ring, message(journal, "led", 1, 1))
    marks = take(backend, ring, message(journal, "led", 4, 6))
    assert marks == {"led": Mark(1, 1, journal.records["led"][0].hash.hex(), miss=(2, 3))}
    assert backend.counts() == {"led": 1}
    assert take(backend, ring, message(journal, "led", 2, 3))["led"] == Mark(1, 6, journal.records["led"][5].hash.hex())
    assert backend.problems() == []
    assert backend.database.execute("SELECT count(*) FROM aside").fetchone() == (0,)


def test_what_was_kept_aside_and_does_not_fit_is_dropped_with_an_alarm(
    backend: Backend, ring: KeyRing, journal: Any
) -> None:
    write(journal, "led", 3)
    take(backend, ring, message(journal, "led", 3, 3, bodies=["forged"], prev="11" * 32))
    marks = take(backend, ring, message(journal, "led", 1, 2))
    assert marks["led"].seq == 2
    assert [alarm["kind"] for alarm in backend.alarms()] == ["fork"]
    assert take(backend, ring, message(journal, "led", 3, 3))["led"].seq == 3
    assert backend.problems() == []


def test_only_so_much_is_kept_aside(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "evt", ASIDE_RECORDS_MAX + 300)
    for first in range(2, ASIDE_RECORDS_MAX + 300, 300):
        take(backend, ring, message(journal, "evt", first, first + 299))
    assert backend.database.execute("SELECT count(*) FROM aside").fetchone() == (ASIDE_RECORDS_MAX,)


@pytest.mark.parametrize(
    ("first", "bodies", "prev"),
    [
        (2, ["other"], None),  # what we have, with another body
        (1, ["other", "x", "y"], None),
        (4, ["next"], "22" * 32),  # the next one, after another predecessor
        (3, ["x", "next"], "22" * 32),
    ],
)
def test_fork_is_quarantined_with_an_alarm_and_moves_nothing(
    backend: Backend, ring: KeyRing, journal: Any, first: int, bodies: list[str], prev: str | None
) -> None:
    write(journal, "led", 3)
    before = take(backend, ring, message(journal, "led", 1, 3))
    forged = message(journal, "led", first, first, bodies=bodies, prev=prev)
    for _ in range(3):
        assert take(backend, ring, forged) == before
    assert [(alarm["kind"], alarm["count"]) for alarm in backend.alarms()] == [("fork", 3)]
    assert [(row["reason"], row["count"]) for row in backend.quarantined()] == [("fork", 3)]
    assert backend.counts() == {"led": 3}


def test_older_epoch_is_fenced_and_a_newer_one_needs_a_permit(
    backend: Backend, ring: KeyRing, journal: Any, new_journal: Any
) -> None:
    write(journal, "led", 2)
    take(backend, ring, message(journal, "led", 1, 1))
    newer = new_journal(epoch=2)
    write(newer, "led", 1)
    assert take(backend, ring, message(newer, "led", 1, 1)) == {}
    assert [row["reason"] for row in backend.quarantined()] == ["epoch_not_permitted"]
    backend.permit_epoch(GATEWAY, 2)
    assert take(backend, ring, message(newer, "led", 1, 1))["led"] == Mark(2, 1, newer.records["led"][0].hash.hex())
    assert take(backend, ring, message(journal, "led", 2, 2))["led"].fenced
    assert backend.counts() == {"led": 2}
    assert backend.problems() == []


def test_gateway_nobody_enrolled_is_quarantined_and_not_answered(
    backend: Backend, ring: KeyRing, new_journal: Any
) -> None:
    stranger = new_journal("gw-2")
    write(stranger, "led", 1)
    assert backend.take([message(stranger, "led", 1, 1)], 2000, 0.0) == []
    assert [(row["gateway"], row["reason"]) for row in backend.quarantined()] == [("gw-2", "not_enrolled")]
    assert backend.counts() == {}


def test_one_bad_message_does_not_stop_its_neighbours(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 2)
    bad = [
        Received(topic_of(GATEWAY, "up/led"), b"\0{"),
        Received("nonsense", b""),
        Received(topic_of(GATEWAY, "dn/cmd"), b"\1"),
        Received(topic_of(GATEWAY, "up/hello"), b"\0{}"),
        Received(topic_of(GATEWAY, "st"), b"\1\1"),
    ]
    marks = take(backend, ring, message(journal, "led", 1, 1), *bad, message(journal, "led", 2, 2))
    assert marks["led"].seq == 2
    assert [row["reason"] for row in backend.quarantined()] == [
        "malformed", "topic", "topic", "malformed", "compression",
    ]  # fmt: skip


def test_bug_met_by_one_message_is_quarantined_and_undone(
    backend: Backend, ring: KeyRing, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(journal, "led", 1)
    write(journal, "evt", 1)

    def broken(*_arguments: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("cloud_sync.backend.streams.post_record", broken)
    marks = take(backend, ring, message(journal, "led", 1, 1), message(journal, "evt", 1, 1))
    assert set(marks) == {"evt"}
    assert backend.counts() == {"evt": 1}
    assert [row["reason"] for row in backend.quarantined()] == ["internal"]
    assert [alarm["kind"] for alarm in backend.alarms()] == ["ingest_bug"]


def test_rows_that_contradict_a_message_do_not_stop_its_neighbours(
    backend: Backend, ring: KeyRing, journal: Any
) -> None:
    """A mark somebody set back by hand: taking the record again would replace it, which a trigger forbids."""
    write(journal, "led", 1)
    write(journal, "evt", 1)
    take(backend, ring, message(journal, "led", 1, 1))
    backend.database.execute("DELETE FROM stream")
    assert set(take(backend, ring, message(journal, "led", 1, 1), message(journal, "evt", 1, 1))) == {"evt"}
    assert [alarm["kind"] for alarm in backend.alarms()] == ["ingest_bug"]


@pytest.mark.parametrize("account", [r"a\u0000b", "a b", "", "a" * 65, 7, ["a"]])
def test_an_account_that_no_id_can_name_is_an_alarm_and_its_record_is_kept(
    account: object, backend: Backend, ring: KeyRing, journal: Any
) -> None:
    """A text with a NUL fits no column of PostgreSQL's: it must not stop the service."""
    said = f'"{account}"' if isinstance(account, str) else json.dumps(account)
    journal.write("led", b'{"account":%s,"posting_nano":5,"balance_nano":5}' % said.encode())
    write(journal, "led", 1)
    assert take(backend, ring, message(journal, "led", 1, 2))["led"].seq == 2
    assert [alarm["kind"] for alarm in backend.alarms()] == ["account_unreadable"]


@pytest.mark.parametrize("text", [r"a\u0000b", r"a\ud800"])
def test_a_result_that_no_command_can_have_changes_nothing(
    text: str, backend: Backend, ring: KeyRing, journal: Any
) -> None:
    cid = backend.credit(GATEWAY, "m1", "p1", 5, 1000).cid
    journal.write("res", b'{"cid":"%s","result":"%s"}' % (cid.encode(), text.encode()))
    journal.write("res", b'{"cid":"%s","result":"APPLIED"}' % text.encode())
    assert take(backend, ring, message(journal, "res", 1, 2))["res"].seq == 2
    assert backend.result_of(cid) is None


def test_values_that_no_row_can_hold_do_not_stop_their_neighbours(
    backend: Backend, ring: KeyRing, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(journal, "led", 1)
    write(journal, "evt", 1)

    def contradicting(*_arguments: object) -> None:
        raise backend.database.Contradictions[1]("text cannot hold NUL")

    monkeypatch.setattr("cloud_sync.backend.streams.post_record", contradicting)
    assert set(take(backend, ring, message(journal, "led", 1, 1), message(journal, "evt", 1, 1))) == {"evt"}


def test_a_topic_with_a_nul_is_kept_aside_readably(backend: Backend) -> None:
    assert backend.take([Received("mg/1/\0", b"x")], 2000, 0.0) == []
    assert [row["topic"] for row in backend.quarantined()] == ["mg/1/\ufffd"]


def test_messages_of_one_transaction_follow_each_other(backend: Backend, ring: KeyRing, journal: Any) -> None:
    """What is taken, compared and answered is what stands after the messages before it, written or not."""
    write(journal, "led", 9)
    twice = [message(journal, "led", 1, 3), message(journal, "led", 2, 5), message(journal, "led", 4, 5)]
    late = [message(journal, "led", 8, 9), message(journal, "led", 6, 7)]
    assert take(backend, ring, *twice, *late)["led"].seq == 9
    metrics = backend.metrics()
    assert (metrics["taken"], metrics["duplicate"], metrics["gap"], metrics["messages"]) == (3, 1, 1, 5)
    assert backend.problems() == []


def test_a_fork_within_one_transaction_is_seen(backend: Backend, ring: KeyRing, new_journal: Any) -> None:
    journal, other = new_journal(), new_journal()
    write(journal, "led", 3)
    other.write("led", b'{"another":1}')
    assert take(backend, ring, message(journal, "led", 1, 3), message(other, "led", 1, 1))["led"].seq == 3
    assert [alarm["kind"] for alarm in backend.alarms()] == ["fork"]


def test_database_that_fails_in_the_middle_takes_nothing(
    backend: Backend, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(journal, "led", 1)
    write(journal, "res", 1)

    def failing(*_arguments: object) -> None:
        raise backend.database.Error("disk I/O error")

    monkeypatch.setattr("cloud_sync.backend.streams.settle_result", failing)
    with pytest.raises(backend.database.Error, match="disk"):
        backend.take([message(journal, "led", 1, 1), message(journal, "res", 1, 1)], 2000, 0.0)
    assert backend.counts() == {}
    assert backend.quarantined() == []


@given(st.lists(st.tuples(st.sampled_from(["up/led", "up/hello", "st", "dn/ack", "x"]), st.binary(max_size=80))))
def test_noise_is_quarantined_and_never_a_crash(keys: Any, noise: list[tuple[str, bytes]]) -> None:
    backend = Backend(":memory:", *keys)
    backend.enroll(GATEWAY, 1)
    prefix = topic_of(GATEWAY, "st").removesuffix("st")
    messages = [Received(prefix + channel, payload) for channel, payload in noise]
    assert backend.take(messages, 2000, 0.0) == []
    assert sum(row["count"] for row in backend.quarantined()) == len(messages)
    backend.close()


def test_quarantine_counts_repeats_and_does_not_grow_without_end(backend: Backend) -> None:
    database = backend.database
    for _ in range(3):
        quarantine(database, GATEWAY, "t", b"same", "malformed", 1)
    assert [row["count"] for row in backend.quarantined()] == [3]
    database.execute("DELETE FROM quarantine")
    override = "" if isinstance(database, SqliteDatabase) else " OVERRIDING SYSTEM VALUE"
    columns = f"(id, gateway, topic, reason, payload_hash, payload, first_at, last_at){override}"
    row = (QUARANTINE_ROWS_MAX, "", "", "", b"", b"", 1, 1)
    database.execute(f"INSERT INTO quarantine {columns} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    quarantine(database, GATEWAY, "t", b"one more", "malformed", 1)
    assert len(backend.quarantined()) == 1


def test_nothing_is_acknowledged_when_the_commit_fails(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 2)
    take(backend, ring, message(journal, "led", 1, 1))
    # A deferred constraint is what is checked at COMMIT and no sooner.
    on_sqlite = isinstance(backend.database, SqliteDatabase)
    for statement in BREAKING_COMMITS[on_sqlite]:
        backend.database.execute(statement)
    with pytest.raises(backend.database.Contradictions):
        backend.take([message(journal, "led", 2, 2)], 2000, 0.0)
    assert backend.counts() == {"led": 1}
    drop_trigger(backend, "break_commit", "record")
    assert take(backend, ring, message(journal, "led", 2, 2))["led"].seq == 2


def test_hello_is_answered_with_every_mark(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 3)
    take(backend, ring, message(journal, "led", 1, 2))
    marks = take(backend, ring, hello(journal))
    assert {name: mark.seq for name, mark in marks.items()} == {"led": 2, "res": 0, "evt": 0, "rdg": 0}
    row = backend.database.execute("SELECT online, software, clock FROM gateway").fetchone()
    assert row == (1, "1.0", "ntp")


def test_backend_that_has_less_than_it_acknowledged_asks_for_it(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 5)
    take(backend, ring, message(journal, "led", 1, 2))
    journal.acked["led"] = 4
    assert take(backend, ring, hello(journal))["led"].miss == (3, 4)


def test_status_says_who_is_online(backend: Backend) -> None:
    for online in (True, False, False):
        status = Status(v=1, gw=GATEWAY, online=online, epoch=1, boot="b")
        assert backend.take([Received(topic_of(GATEWAY, "st"), encode_payload(status))], 2000, 0.0) == []
        assert backend.database.execute("SELECT online FROM gateway").fetchone() == (int(online),)


def test_replaying_all_messages_three_times_gives_the_same_balances(
    backend: Backend, ring: KeyRing, journal: Any
) -> None:
    for number in range(1, 11):
        post(journal, "a-1", 100, 100 * number)
    messages = [message(journal, "led", first, first + 1) for first in range(1, 10, 2)]
    take(backend, ring, *messages)
    before = backend.balances()
    for _ in range(3):
        take(backend, ring, *reversed(messages))
    assert backend.balances() == before
    assert before[0].money_nano == 1000


def post(journal: Any, account: str, posting_nano: Any, balance_nano: Any, **fields: Any) -> None:
    body = {"type": "PaymentAccepted", "at": 10, "account": account, "posting_nano": posting_nano,
            "balance_nano": balance_nano, **fields}  # fmt: skip
    journal.write("led", msgspec.json.encode(body))


def test_balance_is_the_sum_of_postings_with_the_last_estimate(backend: Backend, ring: KeyRing, journal: Any) -> None:
    post(journal, "a-1", 500, 500)
    post(journal, "a-2", 70, 70, register_wh=9)
    post(journal, "a-1", -200, 300, estimate_nano=120, register_wh=1234)
    journal.write("led", b'{"type":"DayFrozen","at":20,"account":"a-1","estimate_nano":130,"unknown":[1]}')
    journal.write("led", b'{"type":"NoAccount"}')
    take(backend, ring, message(journal, "led", 1, 5))
    first, second = backend.balances()
    assert (first.money_nano, first.estimate_nano, first.live_balance_nano) == (300, 130, 170)
    assert (first.register_wh, first.at, first.seq) == (1234, 20, 4)
    assert (second.money_nano, second.live_balance_nano, second.register_wh) == (70, 70, 9)
    assert backend.alarms() == []
    assert backend.problems() == []


@pytest.mark.parametrize(
    ("posting_nano", "balance_nano", "kind"),
    [
        (10, 11, "balance_differs"),
        (10, "10", "balance_differs"),
        (10, None, "balance_differs"),
        ("10", 0, "posting_unreadable"),
        (1.5, 0, "posting_unreadable"),
        (True, 0, "posting_unreadable"),
        (2**63, 0, "posting_unreadable"),
        (2**63 - 1, 2**63 - 1, "balance_overflow"),
    ],
)
def test_record_that_contradicts_its_account_is_kept_with_an_alarm(
    backend: Backend, ring: KeyRing, journal: Any, posting_nano: Any, balance_nano: Any, kind: str
) -> None:
    post(journal, "a-1", 5, 5)
    post(journal, "a-1", posting_nano, balance_nano)
    assert take(backend, ring, message(journal, "led", 1, 2))["led"].seq == 2
    assert [alarm["kind"] for alarm in backend.alarms()] == [kind]
    assert len(backend.problems()) == 1


@pytest.mark.parametrize("body", [b"not JSON", b"[1]", b"{", b"\x00"])
def test_ledger_body_nobody_can_read_is_kept_with_an_alarm(
    backend: Backend, ring: KeyRing, journal: Any, body: bytes
) -> None:
    journal.write("led", body)
    assert take(backend, ring, message(journal, "led", 1, 1))["led"].seq == 1
    assert [alarm["kind"] for alarm in backend.alarms()] == ["ledger_unreadable"]
    assert backend.database.execute("SELECT body FROM record").fetchone() == (body,)


def test_records_cannot_be_changed_or_replaced(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "led", 1)
    take(backend, ring, message(journal, "led", 1, 1))
    for sql in (
        "UPDATE record SET body = ?",
        "INSERT INTO record SELECT gateway, stream, epoch, seq, hash, ?, 1 FROM record",
    ):
        with pytest.raises(backend.database.Contradictions, match=r"never|duplicate key"):
            backend.database.execute(sql, (b"\0",))


@pytest.mark.parametrize("stream", ["led", "res", "evt"])
def test_records_of_money_results_and_events_cannot_be_deleted(
    backend: Backend, ring: KeyRing, journal: Any, stream: str
) -> None:
    write(journal, stream, 1)
    take(backend, ring, message(journal, stream, 1, 1))
    with pytest.raises(backend.database.Contradictions, match="never deleted"):
        backend.database.execute("DELETE FROM record")
    assert backend.counts() == {stream: 1}


def test_records_of_readings_may_go_when_they_are_old(backend: Backend, ring: KeyRing, journal: Any) -> None:
    write(journal, "rdg", 1)
    take(backend, ring, message(journal, "rdg", 1, 1))
    backend.database.execute("DELETE FROM record")
    assert backend.counts() == {}


def test_records_cannot_be_replaced_on_sqlite(tmp_path: Path, keys: Any, ring: KeyRing, journal: Any) -> None:
    backend = Backend(tmp_path / "cloud.db", *keys)
    backend.enroll(GATEWAY, 1)
    write(journal, "led", 1)
    take(backend, ring, message(journal, "led", 1, 1))
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        backend.database.execute("INSERT OR REPLACE INTO record SELECT * FROM record")
    backend.close()


ALTERATIONS = [
    "UPDATE record SET body = ? WHERE seq = 2",
    "UPDATE record SET hash = ? WHERE seq = 2",
    "DELETE FROM record WHERE seq = 2",
    "DELETE FROM record WHERE seq = 3",
    "UPDATE stream SET seq = 2",
    "UPDATE stream SET hash = ?",
    "DELETE FROM stream",
    "UPDATE account SET money_nano = money_nano + 1",
    "UPDATE account SET estimate_nano = 1",
    "DELETE FROM account",
    "UPDATE payment SET amount_nano = amount_nano + 1",
    "UPDATE payment SET meter = 'm-2'",
    "UPDATE command SET envelope = ?",
]


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_audit_notices_one_altered_row(backend: Backend, ring: KeyRing, journal: Any, alteration: str) -> None:
    for number in range(1, 4):
        post(journal, "a-1", 5, 5 * number)
    take(backend, ring, message(journal, "led", 1, 3))
    backend.credit(GATEWAY, "m-1", "p-1", 5, at=2000)
    assert backend.chain_ok()
    for guard in ("changed", "deleted"):
        drop_trigger(backend, f"record_is_never_{guard}", "record")
    backend.database.execute(alteration, (b"{}",) if "?" in alteration else ())
    assert not backend.chain_ok()


def test_file_of_something_else_is_refused(tmp_path: Path, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(ValueError, match=r"other\.db"):
        Backend(tmp_path / "other.db", ring, signers)


def test_database_is_durable_and_is_opened_again(tmp_path: Path, ring: KeyRing, keys: Any, journal: Any) -> None:
    write(journal, "led", 2)
    backend = Backend(tmp_path / "cloud.db", *keys)
    assert backend.database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert backend.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    backend.enroll(GATEWAY, 1)
    take(backend, ring, message(journal, "led", 1, 2))
    backend.close()
    again = Backend(tmp_path / "cloud.db", *keys)
    assert again.counts() == {"led": 2}
    again.close()


def test_two_devices_with_one_identity_are_told_and_restarts_and_old_messages_are_not(
    backend: Backend, ring: KeyRing, journal: Any
) -> None:
    def alarms_after(*boots: str) -> list[str]:
        for boot in boots:
            take(backend, ring, hello(journal, boot))
        return [alarm["kind"] for alarm in backend.alarms()]

    assert alarms_after("a", "a", "b", "c") == [], "a gateway that is started again"
    assert alarms_after("b", "c") == [], "an old hello that the broker repeats"
    assert alarms_after("d", "e", "d", "e") == []
    assert alarms_after("d") == ["two_devices"]
    assert json.loads(backend.alarms()[0]["detail"]) == {"boots": ["d", "e"]}


def test_only_the_newest_boots_of_a_gateway_are_kept(backend: Backend, ring: KeyRing, journal: Any) -> None:
    for number in range(BOOTS_KEPT + 5):
        take(backend, ring, hello(journal, f"boot-{number}"))
    assert backend.database.execute("SELECT count(*) FROM boot").fetchone() == (BOOTS_KEPT,)
