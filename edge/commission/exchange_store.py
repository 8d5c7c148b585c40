"""An exchange of a meter becomes true in one moment: that of its record in the journal. Everything else follows it.

Site book, signed record and page are other files than the journal, so what they shall become is noted first, in a file
beside the journal; then the journal commits; then they are written and the note goes. A note that is found at a start
says what is missing: with the journal's record the rest is written again, without it nothing ever happened.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edge.commission.exchange import exchanged_book
from edge.commission.exchange_record import SignedExchange, exchange_json, exchange_page
from edge.commission.record import FILE_BYTES_MAX, RecordError
from edge.core.account import State
from edge.core.events import Event
from edge.ports import EventLog
from edge.store.schema import EXCHANGE_FILE
from edge.store.site_book import MeterEntry, RelayEntry, read_site_book, write_site_book

# `unrecorded`: all but the record and its page, whose folder cannot be written; the note stays, and has them.
Outcome = Literal["nothing", "undone", "finished", "unrecorded"]


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the files shall become. Paths are absolute."""

    v: Literal[1]
    meter: MeterEntry
    relay: RelayEntry | None
    signed: SignedExchange
    site_book: str
    out: str
    page: str | None


def note_path(data_dir: Path) -> Path:
    """Where the note of an exchange under way lies."""
    return data_dir / EXCHANGE_FILE


async def exchange(data_dir: Path, note: Note, event_log: EventLog, events: Sequence[Event]) -> Outcome:
    """Makes an exchange true: whatever interrupts it, `finish` brings it to one of its two ends."""
    write_file(note_path(data_dir), msgspec.json.encode(note))
    await event_log.append(events)
    return _write_the_rest(data_dir, note)


def finish(data_dir: Path, state: State) -> Outcome:
    """What an interrupted exchange needs, by what the journal says. Raises RecordError, SiteBookError, OSError."""
    path = note_path(data_dir)
    if not path.exists():
        return "nothing"
    note = read_note(path)
    record = note.signed.record
    account = state.accounts.get(record.account)
    if account is None or account.meter_id != record.new.meter_id:
        _forget(path)
        return "undone"
    return _write_the_rest(data_dir, note)


def read_note(path: Path) -> Note:
    """Raises RecordError: it is written whole or not at all, so one that cannot be read was touched by somebody."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise RecordError(f"{path}: is larger than the note of an exchange can be")
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise RecordError(f"{path}: is no note of an exchange: {problem}") from problem


def write_file(path: Path, data: bytes) -> None:
    """The whole file or the one before it, whatever happens."""
    new = path.with_name(path.name + ".new")
    with open(new, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    _sync(path.parent)


def _write_the_rest(data_dir: Path, note: Note) -> Outcome:
    """Each step may have been taken before. A supply does not wait for a record that has no place."""
    book_path = Path(note.site_book)
    book = read_site_book(book_path, None)
    changed = exchanged_book(book, note.signed.record.account, note.meter, note.relay)
    if changed is not book:
        write_site_book(book_path, changed)
    try:
        write_file(Path(note.out), exchange_json(note.signed))
        if note.page is not None:
            write_file(Path(note.page), exchange_page(note.signed).encode())
    except OSError:
        return "unrecorded"
    _forget(note_path(data_dir))
    return "finished"


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
