"""A stopped store or a backup to look at: a private copy, so that looking changes no byte of it.

SQLite cannot read a journal with a log (-wal) beside it without writing, and a reader would lock out
the agent. So both files are copied and the copy is opened. A journal in use is refused: copied while
it is written it may be torn.
"""

import fcntl
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge.store.schema import ANCHOR_FILE, SchemaError, file_of, version_of

_FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, pid
# SQLite's lock bytes begin at 1 GiB, whatever the size of the file.
_PENDING_BYTE, _LOCK_BYTES = 0x40000000, 512


class StoreUnusable(ValueError):
    """There is nothing to look at; the text names the file and says why."""


@contextmanager
def opened_copy(store: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """A connection to a copy of a store's journal, and its schema version. StoreUnusable if that cannot be."""
    path = file_of(store)
    if not path.is_file():
        raise StoreUnusable(f"{path}: there is no journal")
    with tempfile.TemporaryDirectory(prefix="wattgate-") as folder:
        copy = Path(folder) / path.name
        try:
            _refuse_if_locked(path)
            shutil.copyfile(path, copy)
            wal = Path(f"{path}-wal")
            if wal.exists():
                shutil.copyfile(wal, f"{copy}-wal")
        except OSError as error:
            raise StoreUnusable(f"{path}: {error.strerror or error}") from error
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            yield connection, _version(connection, path)


def anchor_file_of(store: Path) -> Path:
    """Where the anchor of a store is, if it is kept in a file."""
    return (store if store.is_dir() else store.parent) / ANCHOR_FILE


def _version(connection: sqlite3.Connection, path: Path) -> int:
    try:
        version = version_of(connection)
    except (SchemaError, sqlite3.Error) as error:
        raise StoreUnusable(f"{path}: {error}") from error
    if version == 0:
        raise StoreUnusable(f"{path}: is empty")
    return version


def _refuse_if_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _PENDING_BYTE, _LOCK_BYTES, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    if answer[0] != fcntl.F_UNLCK:
        raise StoreUnusable(f"{path}: is in use by process {answer[4]}; stop the agent, or look at a backup")
