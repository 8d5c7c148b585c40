"""What the backend needs of its database, on both engines: workers beside each other, lost connections, URLs."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend import database as port
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.wire import ZERO_HASH, Batch, encode_payload, topic_of

GATEWAYS, RECORDS, WORKERS = 6, 40, 3


def batch(journal: Any, first: int, last: int) -> Received:
    """Ledger records of a journal as a message."""
    records = journal.records["led"]
    previous_hash = records[first - 2].hash if first > 1 else ZERO_HASH
    bodies = tuple(record.body.decode() for record in records[first - 1 : last])
    said = Batch(
        v=1, gw=journal.gateway_id, stream="led", epoch=1, first=first, prev=previous_hash.hex(), bodies=bodies
    )
    return Received(topic_of(journal.gateway_id, "up/led"), encode_payload(said))


def filled(new_journal: Any, number: int) -> Any:
    journal = new_journal(f"gw-{number}")
    for seq in range(1, RECORDS + 1):
        body = b'{"type":"x","account":"a","posting_nano":5,"balance_nano":%d}' % (5 * seq)
        journal.write("led", body)
    return journal


def test_workers_beside_each_other_lose_and_double_nothing(
    keys: Any, new_place: Callable[[], str], new_journal: Any
) -> None:
    place, journals = new_place(), [filled(new_journal, number) for number in range(GATEWAYS)]
    first = Backend(place, *keys)
    for journal in journals:
        first.enroll(journal.gateway_id, 1)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        # Each worker is given everything, in another order of the gateways.
        backend = Backend(place, *keys)
        turned = journals[number:] + journals[:number]
        try:
            for start in range(1, RECORDS + 1, 8):
                backend.take([batch(journal, start, start + 7) for journal in turned], 2000, 0.0)
                backend.credit("gw-0", "m", f"payment-{start}", 5, 2000)
        except BaseException as problem:
            failed.append(problem)
        finally:
            backend.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(first.database.execute("SELECT payment_id FROM payment").fetchall()) == RECORDS // 8
    assert first.counts() == {"led": GATEWAYS * RECORDS}
    assert first.problems() == []
    assert {balance.money_nano for balance in first.balances()} == {5 * RECORDS}
    first.close()


@pytest.mark.needs_program("psql")
def test_a_lost_connection_acknowledges_nothing_and_a_new_one_goes_on(
    keys: Any, postgresql: Any, new_journal: Any
) -> None:
    place, journal = postgresql.new(), filled(new_journal, 1)
    backend, other = Backend(place, *keys), Backend(place, *keys)
    backend.enroll("gw-1", 1)
    backend.take([batch(journal, 1, 8)], 2000, 0.0)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    other.database.execute(others + " AND pid <> pg_backend_pid()")
    with pytest.raises(port.failures()):
        backend.take([batch(journal, 9, 16)], 2000, 0.0)
    assert other.counts() == {"led": 8}
    assert other.take([batch(journal, 9, 16)], 2000, 0.0), "acknowledged"
    assert other.counts() == {"led": 16}
    backend.close()
    other.close()


@pytest.mark.needs_program("psql")
def test_a_database_of_somebody_else_or_of_another_revision_is_refused(keys: Any, postgresql: Any) -> None:
    place = postgresql.new()
    database = port.open_database(place)
    database.execute("UPDATE alembic_version SET version_num = ?", ("0000",))
    database.close()
    with pytest.raises(ValueError, match="--migrate"):
        port.open_database(place)
    database = port.open_database(postgresql.new())
    database.execute("DROP TABLE alembic_version")
    name = database.execute("SELECT current_database()").fetchone()[0]
    database.close()
    with pytest.raises(ValueError, match="not ours"):
        port.open_database(f"postgresql://wattgate@/{name}?host={postgresql.folder}")


def test_a_server_that_is_away_fails_as_a_database_also_where_tables_are_looked_at(tmp_path: Path) -> None:
    import psycopg

    nowhere = f"postgresql://wattgate@/wattgate?host={tmp_path}"
    with pytest.raises(psycopg.Error, match="connection"):
        port.open_database(nowhere)
    from cloud_sync.backend.migrate import revision_of

    for look in (port.migrate, revision_of):
        with pytest.raises(psycopg.Error, match="connection"):
            look(nowhere)


def test_other_urls_are_refused_with_what_is_allowed(tmp_path: Path, keys: tuple[Any, Mapping[Any, Any]]) -> None:
    with pytest.raises(ValueError, match=r"mysql://x: no such database; allowed are a file, sqlite:///FILE and post"):
        port.open_database("mysql://x")
    with pytest.raises(ValueError, match="there is no such database"):
        port.open_existing(f"sqlite:///{tmp_path}/none.db")
    Backend(f"sqlite:///{tmp_path}/cloud.db", *keys).close()
    port.open_existing(tmp_path / "cloud.db").close()
