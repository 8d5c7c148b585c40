"""The journal: what is acknowledged stays, what is written is not changed, and what is wrong is said."""

import asyncio
import os
import resource
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.wire import record_hash
from edge.ports import StoredRecord
from edge.store.journal import NO_HASH, SCHEMA_VERSION, JournalError, SqliteJournal

Run = Callable[[Coroutine[Any, Any, Any]], Any]

GATEWAY = "gw-1"


def led(number: int, size: int = 0) -> tuple[str, bytes]:
    return "led", b'{"type":"Line","account":"A%d","number":%d%s}' % (number % 3, number, b" " * size)


def foreign(path: Path) -> "closing[sqlite3.Connection]":
    """A connection of somebody else: without our settings, but with all our triggers."""
    return closing(sqlite3.connect(path, isolation_level=None))


# --- settings and chain ----------------------------------------------------------------------


def test_settings_are_really_in_force(store: Any, run_async: Run) -> None:
    async def scenario() -> dict[str, Any]:
        journal = store.open()
        await journal.append([led(1)])
        modes = ("synchronous", "journal_mode", "locking_mode", "recursive_triggers", "page_size", "wal_autocheckpoint")
        names = (*modes, "application_id", "user_version")
        found = {name: (await journal.query(f"PRAGMA {name}", ()))[0][0] for name in names}
        found["files"] = sorted(os.listdir(store.path.parent))
        await journal.close()
        return found

    assert run_async(scenario()) == {
        "synchronous": 3,
        "journal_mode": "wal",
        "locking_mode": "exclusive",
        "recursive_triggers": 1,
        "application_id": 0x57474C31,
        "user_version": SCHEMA_VERSION,
        "page_size": 512,
        "wal_autocheckpoint": 2000,
        "files": ["journal.db", "journal.db-wal"],  # no -shm: nobody shares it
    }


def test_settings_are_in_force_when_it_is_opened_again(store: Any, run_async: Run) -> None:
    store.write([led(1)])

    async def scenario() -> list[int]:
        journal = store.open()
        synchronous = (await journal.query("PRAGMA synchronous", ()))[0][0]
        triggers = (await journal.query("PRAGMA recursive_triggers", ()))[0][0]
        await journal.close()
        return [synchronous, triggers]

    assert run_async(scenario()) == [3, 1]


def test_each_stream_is_a_chain_of_its_own(store: Any) -> None:
    records = store.write([("led", b"1"), ("rdg", b"2"), ("led", b"3"), ("evt", b"4")])
    assert [(record.stream, record.seq) for record in records] == [("led", 1), ("rdg", 1), ("led", 2), ("evt", 1)]
    first = record_hash(GATEWAY, "led", 1, 1, NO_HASH, b"1")
    assert [record.hash for record in records if record.stream == "led"] == [
        first,
        record_hash(GATEWAY, "led", 1, 2, first, b"3"),
    ]
    assert store.records() == records


def test_replay_gives_what_was_appended_in_the_order_it_was(store: Any) -> None:
    written = [*store.write([led(1), ("evt", b"x")]), *store.write([("rdg", b"y"), led(2)])]
    assert store.records() == written


def test_heads_and_reading_tell_what_was_committed(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        heads = {stream: (head.seq, head.hash) for stream, head in journal.heads().items()}
        assert heads == dict.fromkeys(("led", "res", "evt", "rdg"), (0, NO_HASH))
        records = await journal.append([led(number) for number in range(1, 6)])
        assert journal.heads()["led"].seq == 5
        assert journal.heads()["led"].hash == records[-1].hash
        assert await journal.read("led", 1, 2) == records[1:3]
        assert await journal.read("led", 5, 10) == []
        assert await journal.read("res", 0, 10) == []
        await journal.close()

    run_async(scenario())


def test_unknown_stream_is_refused_and_nothing_of_the_batch_stays(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        with pytest.raises(KeyError):
            await journal.append([led(1), ("money", b"{}")])
        assert journal.heads()["led"].seq == 0
        await journal.append([led(2)])  # nothing reached the connection, so it is still good
        await journal.close()

    run_async(scenario())
    assert [record.body for record in store.records()] == [led(2)[1]]


# --- nothing in the middle -------------------------------------------------------------------


def test_error_in_the_middle_of_a_commit_leaves_nothing(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        await journal.append([led(1)])
        with pytest.raises(JournalError):
            await journal.append([led(2), ("led", b"not JSON, which the index of accounts refuses"), led(3)])
        assert journal.heads()["led"].seq == 1
        await journal.close()

    run_async(scenario())
    assert [record.body for record in store.records()] == [led(1)[1]]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full: files of this process cannot grow beyond `size`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_an_error_and_the_connection_is_not_used_again(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        await journal.append([led(1)])
        wal = Path(f"{store.path}-wal").stat().st_size
        with files_of_at_most(wal + 1000), pytest.raises(JournalError, match=r"journal\.db"):
            await journal.append([led(2, size=100_000)])
        assert journal.heads()["led"].seq == 1
        # There is room again, and still nothing is tried: what reached the disk is not known here.
        with pytest.raises(JournalError, match="not used any more"):
            await journal.append([led(3)])
        with pytest.raises(JournalError, match="not used any more"):
            await journal.read("led", 0, 10)
        await journal.close()

    run_async(scenario())
    assert [record.body for record in store.records()] == [led(1)[1]]
    store.write([led(4)])
    assert [record.body for record in store.records()] == [led(1)[1], led(4)[1]]


def test_error_while_reading_ends_the_use_of_the_connection(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        with pytest.raises(JournalError, match="no such table"):
            await journal.query("SELECT * FROM nowhere", ())
        with pytest.raises(JournalError, match="not used any more"):
            await journal.append([led(1)])
        await journal.close()

    run_async(scenario())
    assert store.records() == []


def test_question_with_an_impossible_parameter_does_no_harm(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        with pytest.raises(OverflowError):
            await journal.query("SELECT ?", (10**30,))
        with pytest.raises(UnicodeEncodeError):
            await journal.query("SELECT ?", ("\ud800",))
        await journal.append([led(1)])
        await journal.close()

    run_async(scenario())
    assert len(store.records()) == 1


def test_reader_waits_for_the_commit_and_never_sees_half_of_it(store: Any, run_async: Run) -> None:
    async def scenario() -> tuple[bool, int]:
        journal = store.open()
        reached, release = threading.Event(), threading.Event()

        def hold(statement: str) -> None:
            if statement == "COMMIT":
                reached.set()
                release.wait(10)

        journal._connection.set_trace_callback(hold)
        append = asyncio.ensure_future(journal.append([led(number) for number in range(5)]))
        await asyncio.get_running_loop().run_in_executor(None, reached.wait, 10)
        count = asyncio.ensure_future(journal.query("SELECT count(*) FROM record", ()))
        for _ in range(5):
            await asyncio.sleep(0)
        answered_early, head = count.done(), journal.heads()["led"].seq
        assert head == 0
        release.set()
        await append
        found = (await count)[0][0]
        await journal.close()
        return answered_early, found

    assert run_async(scenario()) == (False, 5)


# --- marks -----------------------------------------------------------------------------------


def test_mark_never_passes_the_head_and_never_goes_back(store: Any, run_async: Run) -> None:
    async def scenario() -> list[int]:
        journal = store.open()
        await journal.append([led(1), led(2), led(3)])
        marks = []
        for seq in (4, 2, 1, 0, 99, 3, 2):
            journal.acknowledge("led", seq)
            marks.append(journal.heads()["led"].acked_seq)
        await journal.close()
        return marks

    assert run_async(scenario()) == [0, 2, 2, 2, 2, 3, 3]
    assert store.open().heads()["led"].acked_seq == 3  # written at the close


def test_mark_is_written_with_the_next_commit(store: Any, run_async: Run) -> None:
    async def scenario() -> list[Any]:
        journal = store.open()
        await journal.append([led(1), led(2)])
        journal.acknowledge("led", 1)
        before = await journal.query("SELECT count(*) FROM mark", ())
        await journal.append([("evt", b"{}")])
        after = await journal.query("SELECT stream, acked_seq FROM mark WHERE acked_seq > 0", ())
        await journal.close()
        return [before, after]

    assert run_async(scenario()) == [[(0,)], [("led", 1)]]


def test_commit_without_anything_new_writes_nothing(store: Any, run_async: Run) -> None:
    async def scenario() -> list[str]:
        journal = store.open()
        await journal.append([led(1)])
        journal.acknowledge("led", 1)
        await journal.append([led(2)])
        statements: list[str] = []
        journal._connection.set_trace_callback(statements.append)
        assert await journal.append([]) == []
        journal.acknowledge("led", 1)  # where it already stands
        await journal.append([])
        await journal.close()
        return statements

    assert run_async(scenario()) == []


def test_acknowledgement_during_a_commit_is_not_lost(store: Any, run_async: Run) -> None:
    async def scenario() -> Any:
        journal = store.open()
        await journal.append([led(1), led(2)])
        reached, release = threading.Event(), threading.Event()

        def hold(statement: str) -> None:
            if statement == "COMMIT":
                reached.set()
                release.wait(10)

        journal._connection.set_trace_callback(hold)
        append = asyncio.ensure_future(journal.append([led(3)]))
        await asyncio.get_running_loop().run_in_executor(None, reached.wait, 10)
        journal.acknowledge("led", 2)
        release.set()
        await append
        mark = journal.heads()["led"].acked_seq
        await journal.close()
        return mark

    assert run_async(scenario()) == 2
    assert store.open().heads()["led"].acked_seq == 2


def test_lost_marks_only_mean_that_records_are_sent_again(store: Any, run_async: Run) -> None:
    async def crash() -> None:
        journal = store.open()
        await journal.append([led(1), led(2)])
        journal.acknowledge("led", 2)
        journal._connection.close()  # the power is gone before the next commit

    run_async(crash())

    async def restart() -> tuple[int, int, int]:
        journal = store.open()
        head = journal.heads()["led"]
        again = await journal.read("led", head.acked_seq, 10)
        await journal.close()
        return head.seq, head.acked_seq, len(again)

    assert run_async(restart()) == (2, 0, 2)


# --- guards ----------------------------------------------------------------------------------

FORBIDDEN = {
    "update": "UPDATE record SET body = 'x' WHERE place = 1",
    "update of nothing but the hash": "UPDATE record SET hash = zeroblob(32) WHERE place = 1",
    "delete": "DELETE FROM record WHERE place = 1",
    "delete of all": "DELETE FROM record",
    "insert over a sequence number": "INSERT INTO record VALUES (99, 'led', 1, 1, zeroblob(32), 'x')",
    "insert over a place": "INSERT INTO record VALUES (1, 'led', 1, 99, zeroblob(32), 'x')",
    "replace of a sequence number": "INSERT OR REPLACE INTO record VALUES (99, 'led', 1, 1, zeroblob(32), 'x')",
    "replace of a place": "REPLACE INTO record VALUES (1, 'led', 1, 99, zeroblob(32), 'x')",
    "upsert": "INSERT INTO record VALUES (99, 'led', 1, 1, zeroblob(32), 'x')"
    " ON CONFLICT (stream, epoch, seq) DO UPDATE SET body = 'x'",
    "unknown stream": "INSERT INTO record VALUES (99, 'xyz', 1, 1, zeroblob(32), 'x')",
}


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN)
def test_record_is_never_changed_by_any_connection(store: Any, run_async: Run, statement: str) -> None:
    before = store.write([led(1), ("rdg", b"{}"), led(2)])
    with foreign(store.path) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    assert store.records() == before

    async def on_our_own() -> None:
        journal = store.open()
        with pytest.raises(JournalError):
            await journal.query(statement, ())
        await journal.close()

    run_async(on_our_own())
    assert store.records() == before


def test_reading_records_alone_may_be_thinned(store: Any) -> None:
    store.write([led(1), ("rdg", b"{}")])
    with foreign(store.path) as connection:
        connection.execute("DELETE FROM record WHERE stream = 'rdg'")
    assert [record.stream for record in store.records()] == ["led"]


# --- files that are not ours -----------------------------------------------------------------


def test_second_opener_is_refused_at_once(store: Any, run_async: Run) -> None:
    async def scenario() -> None:
        journal = store.open()
        with pytest.raises(JournalError, match=r"journal\.db: is in use by another program"):
            store.open()
        await journal.append([led(1)])  # and the first one does not notice
        await journal.close()

    run_async(scenario())
    assert len(store.records()) == 1


def test_journal_of_another_gateway_is_refused(store: Any) -> None:
    store.write([led(1)])
    with pytest.raises(JournalError, match=r"journal\.db: is the journal of gateway 'gw-1', not of 'gw-2'"):
        store.open("gw-2")
    assert len(store.records()) == 1  # the refused one let go of the file


def test_file_of_another_program_is_refused_and_left_as_it_is(store: Any) -> None:
    with foreign(store.path) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    before = store.path.read_bytes()
    with pytest.raises(JournalError, match="is not a Wattgate journal"):
        store.open()
    assert store.path.read_bytes() == before
    assert os.listdir(store.path.parent) == ["journal.db"]


def test_file_that_is_no_database_is_refused_and_left_as_it_is(store: Any) -> None:
    store.path.write_text("a shopping list, long enough to be more than a header of SQLite" * 20, "utf-8")
    before = store.path.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.db: file is not a database"):
        store.open()
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_other_schema_version_is_refused(store: Any, version: int) -> None:
    store.write([led(1)])
    store.tamper(f"PRAGMA user_version={version}")
    with pytest.raises(JournalError, match=f"schema version {version}, this program reads 1 to {SCHEMA_VERSION}"):
        store.open()


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM identity", "is the journal of gateway nobody"),
        ("INSERT INTO identity VALUES ('gw-2', 1)", "is the journal of gateway 'gw-1' and 'gw-2'"),
        ("DROP TABLE record", "no such table"),
        ("DELETE FROM record WHERE stream = 'led'", "led ends at 0, but 1 was acknowledged"),
        ("INSERT INTO record SELECT 9, 'led', 1, 2, hash, body FROM record", "at place 9, the last seal at 1"),
    ],
)
def test_damaged_journal_is_refused_with_a_sentence(store: Any, statement: str, sentence: str) -> None:
    store.write([led(1)])
    with opened(store) as journal:
        journal.acknowledge("led", 1)
        asyncio.run(journal.close())
    store.tamper(statement)
    with pytest.raises(JournalError, match=sentence):
        store.open()


def test_damaged_mark_only_means_that_records_are_sent_again(store: Any) -> None:
    store.write([led(1), led(2)])
    with opened(store) as journal:
        journal.acknowledge("led", 1)
        asyncio.run(journal.close())
    store.tamper("UPDATE mark SET acked_seq = 2")
    with opened(store) as journal:
        assert journal.heads()["led"].acked_seq == 0


def test_folder_that_is_not_there_is_named(make_store: Any, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"nowhere/journal\.db"):
        make_store(tmp_path / "nowhere" / "journal.db").open()


# --- bits that flipped -----------------------------------------------------------------------

BODIES = [(stream, b'{"type":"T","account":"A%d","at":%d}' % (n, n)) for n in range(8) for stream in ("led", "evt")]


class Written:
    """A closed journal whose guards are gone, its records, and the bytes of its file."""

    def __init__(self, store: Any, records: list[StoredRecord], image: bytes) -> None:
        self.store, self.records, self.image = store, records, image

    def __repr__(self) -> str:
        return "Written(...)"

    def restore(self, image: bytes) -> None:
        self.store.path.write_bytes(image)
        for leftover in ("-wal", "-shm", "-journal"):
            Path(f"{self.store.path}{leftover}").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def written(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    store = make_store(tmp_path_factory.mktemp("flip") / "journal.db")
    records = store.write(BODIES)
    store.tamper("DROP INDEX record_of_account")  # it would refuse a body that is no JSON any more
    yield Written(store, records, store.path.read_bytes())
    store.end()


@given(column=st.sampled_from(["hash", "body"]), row=st.integers(0, len(BODIES) - 1), bit=st.integers(0, 10_000))
def test_bit_that_flipped_in_a_record_is_noticed(written: Written, column: str, row: int, bit: int) -> None:
    written.restore(written.image)
    value = bytearray(getattr(written.records[row], column))
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    with foreign(written.store.path) as connection:
        connection.execute(f"UPDATE record SET {column} = ? WHERE place = ?", (bytes(value), row + 1))
    with opened(written.store) as journal, pytest.raises(JournalError):
        list(journal.replay())


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=2 * settings().max_examples)
def test_bit_that_flipped_anywhere_in_the_file_gives_the_same_records_or_an_error(
    written: Written, place: float, bit: int
) -> None:
    damaged = bytearray(written.image)
    damaged[int(place * len(damaged))] ^= 1 << bit
    written.restore(bytes(damaged))
    with suppress(JournalError), opened(written.store) as journal:
        assert list(journal.replay()) == written.records
        assert [head.seq for head in journal.heads().values()] == [8, 0, 8, 0]


@contextmanager
def opened(store: Any) -> Iterator[SqliteJournal]:
    """A journal that is closed whatever happens."""
    journal = store.open()
    try:
        yield journal
    finally:
        journal._connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM record WHERE place = 3",
        "DELETE FROM record WHERE place = 1",
        "UPDATE record SET seq = 99 WHERE place = 3",
        "UPDATE record SET seq = -7 WHERE place = 3",
        "UPDATE record SET epoch = 2 WHERE place = 3",
        "UPDATE record SET body = CAST(body AS TEXT) WHERE place = 3",
        "UPDATE record SET epoch = 'one' WHERE place = 3",
        "PRAGMA ignore_check_constraints=ON; UPDATE record SET stream = 'lee' WHERE place = 3",
        "UPDATE seal SET hash = zeroblob(32)",
        # Each stream keeps its own order, and yet they stand otherwise among each other.
        "UPDATE record SET place = -place; UPDATE record SET place = iif(place % 2 = 0, -place - 1, 1 - place)",
    ],
)
def test_replay_stops_where_the_chain_breaks(store: Any, statement: str) -> None:
    store.write(BODIES)
    store.tamper(*statement.split("; "))
    journal = store.open()
    with pytest.raises(JournalError):
        list(journal.replay())


def test_index_that_is_damaged_by_itself_is_noticed(store: Any) -> None:
    """The heads come from the index: a wrong one would give a used sequence number to another record."""
    store.write(BODIES)
    store.tamper(
        "DROP INDEX record_of_stream",
        "CREATE UNIQUE INDEX record_of_stream ON record (stream, epoch, seq) WHERE seq < 7",
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_master SET sql = replace(sql, ' WHERE seq < 7', '') WHERE name = 'record_of_stream'",
    )
    journal = store.open()
    assert journal.heads()["led"].seq == 6
    with pytest.raises(JournalError, match="led ends at 8, its index says 6"):
        list(journal.replay())
