"""The tables of the journal: every schema version this program reads, and the steps between them.

Version 1 had no seals, checkpoints or snapshots, and marks without a hash; in 2 all bodies lay there as
they are, since 3 those of readings are packed (packing.py). A journal is brought to the newest version when
the agent opens it, in one transaction that leaves its records as they are. A version from the future is
refused: what it means nobody here can know.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

from edge.store.chain import SEALED_STREAMS, Sealed, first_seal, mark_hash, next_seal

JOURNAL_FILE = "journal.db"
EXCHANGE_FILE = "exchange.json"  # beside it: a meter exchange under way (edge/commission/exchange_store.py)
ANCHOR_FILE = "anchor.json"  # beside it, where no other place is configured
APPLICATION_ID = 0x57474C31  # "WGL1"
SCHEMA_VERSION = 3
# Of a new file; an older one keeps its own. A commit changes a row in each of five trees, and the log takes a whole
# page of each.
_PAGE_BYTES = 512

_RECORD = (
    """CREATE TABLE record (
    place INTEGER PRIMARY KEY,
    stream TEXT NOT NULL CHECK (stream IN ('led', 'res', 'evt', 'rdg')),
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body BLOB NOT NULL
)""",
    "CREATE UNIQUE INDEX record_of_stream ON record (stream, epoch, seq)",
    """CREATE INDEX record_of_account ON record (json_extract(CAST(body AS TEXT), '$.account'), place)
    WHERE stream = 'led'""",
    "CREATE TABLE identity (gateway_id TEXT NOT NULL, epoch INTEGER NOT NULL)",
    """CREATE TRIGGER record_is_not_updated BEFORE UPDATE ON record
    BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END""",
    """CREATE TRIGGER record_is_not_deleted BEFORE DELETE ON record
    WHEN OLD.stream IN ('led', 'res', 'evt')
    BEGIN SELECT RAISE(ABORT, 'a record is never deleted'); END""",
    """CREATE TRIGGER record_is_not_replaced BEFORE INSERT ON record
    WHEN EXISTS (SELECT 1 FROM record WHERE place = NEW.place
                 OR (stream = NEW.stream AND epoch = NEW.epoch AND seq = NEW.seq))
    BEGIN SELECT RAISE(ABORT, 'a record is never replaced'); END""",
)

_MARK_1 = (
    "CREATE TABLE mark (stream TEXT PRIMARY KEY, epoch INTEGER NOT NULL, acked_seq INTEGER NOT NULL) WITHOUT ROWID",
)

# `seal` has one row for each commit: its last place, and a hash over the order of all records up to there.
# `checkpoint` has one row a day, `snapshot` the state of the newest checkpoints, for a quick start.
_VERSION_2 = (
    """CREATE TABLE mark (
    stream TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    acked_seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) WITHOUT ROWID""",
    "CREATE TABLE seal (place INTEGER PRIMARY KEY, hash BLOB NOT NULL CHECK (length(hash) = 32))",
    """CREATE TABLE checkpoint (
    place INTEGER PRIMARY KEY,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    body BLOB NOT NULL
)""",
    "CREATE TABLE snapshot (place INTEGER PRIMARY KEY, state BLOB NOT NULL)",
    """CREATE TRIGGER seal_is_not_updated BEFORE UPDATE ON seal
    BEGIN SELECT RAISE(ABORT, 'a seal is never changed'); END""",
    """CREATE TRIGGER seal_is_not_deleted BEFORE DELETE ON seal
    BEGIN SELECT RAISE(ABORT, 'a seal is never deleted'); END""",
    """CREATE TRIGGER seal_is_not_replaced BEFORE INSERT ON seal
    WHEN EXISTS (SELECT 1 FROM seal WHERE place >= NEW.place)
    BEGIN SELECT RAISE(ABORT, 'a seal is never replaced'); END""",
    """CREATE TRIGGER checkpoint_is_not_updated BEFORE UPDATE ON checkpoint
    BEGIN SELECT RAISE(ABORT, 'a checkpoint is never changed'); END""",
    """CREATE TRIGGER checkpoint_is_not_deleted BEFORE DELETE ON checkpoint
    BEGIN SELECT RAISE(ABORT, 'a checkpoint is never deleted'); END""",
    """CREATE TRIGGER checkpoint_is_not_replaced BEFORE INSERT ON checkpoint
    WHEN EXISTS (SELECT 1 FROM checkpoint WHERE place >= NEW.place)
    BEGIN SELECT RAISE(ABORT, 'a checkpoint is never replaced'); END""",
)

# Version 3 has the tables of 2.
STATEMENTS = {1: (*_RECORD, *_MARK_1), 2: (*_RECORD, *_VERSION_2), 3: (*_RECORD, *_VERSION_2)}


class SchemaError(ValueError):
    """The file is not a journal this program can use; the text says what it is instead."""


def prepare(connection: sqlite3.Connection, gateway_id: str, before_upgrade: Callable[[], None]) -> int:
    """Makes the tables, or brings those of an older version up to date. Returns the epoch.

    A file of somebody else is left as it is: WAL, which is written into it, is switched on last.
    `before_upgrade` is called before the first change to a journal of version 1, which no anchor can know.
    """
    version = version_of(connection)
    if version == 0:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
    else:
        check_identity(connection, gateway_id)
    connection.execute("PRAGMA journal_mode=WAL")
    if version == 0:
        _create(connection, gateway_id)
    elif version < SCHEMA_VERSION:
        if version == 1:
            before_upgrade()
        _upgrade(connection, gateway_id, version)
    (epoch,) = connection.execute("SELECT epoch FROM identity").fetchone()
    return int(epoch)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of a file, 0 for an empty one. SchemaError for a file of another program or version."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    is_new = tables == 0 and application_id in (0, APPLICATION_ID)
    if not is_new and application_id != APPLICATION_ID:
        raise SchemaError(f"is not a Wattgate journal (application id {application_id:#x})")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if is_new and version == 0:
        return 0
    if version in STATEMENTS and not is_new:
        return int(version)
    known = f"this program reads {min(STATEMENTS)} to {max(STATEMENTS)}"
    later = "; it was written by a newer one" if version > SCHEMA_VERSION else ""
    raise SchemaError(f"schema version {version}, {known}{later}")


def check_identity(connection: sqlite3.Connection, gateway_id: str) -> None:
    """SchemaError unless the journal is this gateway's."""
    owners = [row[0] for row in connection.execute("SELECT gateway_id FROM identity")]
    if owners != [gateway_id]:
        found = " and ".join(repr(owner) for owner in owners) or "nobody"
        raise SchemaError(f"is the journal of gateway {found}, not of {gateway_id!r}")


def schema_differences(connection: sqlite3.Connection, version: int) -> list[str]:
    """Tables, indexes and triggers that are not as this version has them: by word, by name, by what they belong to."""
    everything = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    with closing(sqlite3.connect(":memory:")) as model:
        for statement in STATEMENTS[version]:
            model.execute(statement)
        wanted = model.execute(everything).fetchall()
    found = connection.execute(everything).fetchall()
    missing = [str(row[3]).split("(")[0].split(" ON ")[0] for row in wanted if row not in found]
    return [*missing, *(str(row[1]) for row in found if row not in wanted)]


def _create(connection: sqlite3.Connection, gateway_id: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS[SCHEMA_VERSION]:
        connection.execute(statement)
    connection.execute("INSERT INTO identity VALUES (?, 1)", (gateway_id,))
    _set_version(connection)
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection, gateway_id: str, version: int) -> None:
    """To the newest version. From 2 to 3 nothing changes but the number: what is packed comes after it."""
    connection.execute("BEGIN IMMEDIATE")
    if version == 1:
        _seal_version_1(connection, gateway_id)
    _set_version(connection)
    connection.execute("COMMIT")


def _seal_version_1(connection: sqlite3.Connection, gateway_id: str) -> None:
    """Version 1 to 2: marks get their hash, and what is there is sealed as one commit."""
    marks = connection.execute("SELECT stream, epoch, acked_seq FROM mark").fetchall()
    connection.execute("DROP TABLE mark")
    for statement in _VERSION_2:
        connection.execute(statement)
    rows = [(*mark, mark_hash(gateway_id, *mark)) for mark in marks]
    connection.executemany("INSERT INTO mark VALUES (?, ?, ?, ?)", rows)
    (place,) = connection.execute("SELECT max(place) FROM record").fetchone()
    if place is not None:
        digest = next_seal(first_seal(gateway_id), place, sealed_records(connection, 0, place))
        connection.execute("INSERT INTO seal VALUES (?, ?)", (place, digest))


def sealed_records(connection: sqlite3.Connection, after_place: int, place: int) -> Iterable[Sealed]:
    """What a seal at `place` covers, in order."""
    streams = ", ".join(f"'{stream}'" for stream in SEALED_STREAMS)
    return connection.execute(
        f"SELECT place, stream, epoch, seq, hash FROM record WHERE stream IN ({streams})"
        " AND place > ? AND place <= ? ORDER BY place",
        (after_place, place),
    )


def _set_version(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def file_of(store: Path) -> Path:
    """The journal of a STORE: the file itself, or the one in an agent's data folder."""
    return store / JOURNAL_FILE if store.is_dir() else store
