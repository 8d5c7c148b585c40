"""What a gateway does to its card, to be written down by trace_writes.c and cut at every write.

    power_cut_workload.py FOLDER PATH [off]

PATH names what is done; `off` takes the syncs away. Commits are recorded events of the vector, in the
groups the agent commits them in. After each commit that returned, its number goes into FOLDER/told:
whoever reads that has been told, so the commit may never be missing again.
"""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cloud_sync.wire import record_hash
from edge.core.account import State
from edge.core.ledger import apply
from edge.core.units import UnixSeconds
from edge.ports import AnchorState
from edge.store.chain import first_seal
from edge.store.checkpoint import Checkpoint, encode_state, packed
from edge.store.codec import decode_event
from edge.store.event_log import JournalEventLog
from edge.store.journal import SqliteJournal
from hw.file_anchor import FileAnchor

VECTOR = Path(__file__).resolve().parent.parent / "vectors" / "journal_schema_1.db"
GATEWAY = "gw-vector"
ACCOUNT = "A2"
FREEZES = 3
READINGS = 6

Entries = list[tuple[str, bytes]]


def transactions() -> list[Entries]:
    """The life of one account: opened, billed, told, cut, paid, restored; one commit for each moment."""
    with closing(sqlite3.connect(f"{VECTOR.as_uri()}?mode=ro&immutable=1", uri=True)) as vector:
        rows = vector.execute("SELECT stream, body FROM record ORDER BY place").fetchall()
    found: list[Entries] = []
    last_at, freezes, readings = None, 0, 0
    for stream, body in rows:
        event = json.loads(body)
        if event["type"] == "ReadingsRecorded":
            readings += 1
            if ACCOUNT not in event["accounts"] or readings > READINGS:
                continue
            body = readings_of_account(event)
        if event.get("account") not in (ACCOUNT, None):
            continue
        if event["type"] == "TariffAccepted":
            continue  # long, and nothing here rates
        if event["type"] == "RegisterFrozen":
            freezes += 1
            if freezes > FREEZES:
                continue
        if event["at"] != last_at:
            found.append([])
        last_at = event["at"]
        found[-1].append((stream, body))
    return found


def readings_of_account(event: dict[str, Any]) -> bytes:
    """A record of readings with nobody's but the account's, packed in the file."""
    at = event["accounts"].index(ACCOUNT)
    columns = {name: [column[at]] for name, column in event.items() if isinstance(column, list)}
    return json.dumps({**event, **columns}, separators=(",", ":")).encode()


class Life:
    """One life of the store, from opening to power-off."""

    def __init__(self, folder: Path, synced: bool) -> None:
        anchor = FileAnchor(folder / "anchor.json")
        self.journal = SqliteJournal.open(folder / "journal.db", GATEWAY, record_hash, None, anchor)
        if not synced:
            self.journal._connection.execute("PRAGMA synchronous=OFF")
        self.log = JournalEventLog(self.journal)
        self.state = State()
        self.done = 0
        for record in self.journal.replay():
            self.state = apply(self.state, decode_event(record.body))
            self.done += 1
        self.told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def commit(self, entries: Entries) -> None:
        """One commit, and somebody is told of it."""
        await self.journal.append(entries)
        for _, body in entries:
            self.state = apply(self.state, decode_event(body))
        self.done += len(entries)
        os.write(self.told, b"%d\n" % self.done)

    async def checkpoint(self) -> None:
        """What is written once a day."""
        content = encode_state(self.state)
        position, sums = self.journal.position(), self.log.restore().sums
        checkpoint = Checkpoint.make(UnixSeconds(1), position, sums, content)
        await self.journal.add_checkpoint(checkpoint, packed(self.state, content))

    async def go_on(self, commits: list[Entries], count: int) -> None:
        """The commits that are not there yet, at most `count` of them."""
        place = 0
        for entries in commits:
            if place >= self.done and count > 0:
                await self.commit(entries)
                count -= 1
            place += len(entries)


async def whole_life(life: Life) -> None:
    """From an empty card to a close in order, with checkpoints."""
    for number, entries in enumerate(transactions()):
        await life.commit(entries)
        if number % 8 == 5:
            await life.checkpoint()
            life.journal.acknowledge("led", life.journal.heads()["led"].seq)
    await life.journal.close()


async def two_more(life: Life) -> None:
    """A start in whatever was left, two commits, and the end."""
    await life.go_on(transactions(), 2)
    await life.journal.close()


async def new_epoch(life: Life) -> None:
    """The end of RECOVERY: the permit's records, then work goes on."""
    await life.journal.open_epoch(2, note("epoch_opened"))
    life.done += 1
    os.write(life.told, b"%d\n" % life.done)
    await life.commit(note("after"))


async def upgraded(life: Life) -> None:
    """A journal of an older schema version is brought up to date, and work goes on."""
    await life.commit([*note("one"), *note("two")])
    await life.commit(note("three"))


def note(condition: str) -> Entries:
    """A commit of one record that changes no account."""
    body = {"type": "ConditionNoted", "at": 1, "condition": condition, "account": "", "detail": ""}
    return [("evt", json.dumps(body).encode())]


async def start_only(life: Life) -> None:
    """Nothing but the start and the end."""
    await life.journal.close()


PATHS: dict[str, Callable[[Life], Awaitable[None]]] = {
    "life": whole_life,
    "start": start_only,
    "recovery": two_more,
    "upgrade": upgraded,
    "epoch": new_epoch,
}


def main() -> None:
    """Runs one path in a folder."""
    folder, path = Path(sys.argv[1]), sys.argv[2]
    if path == "epoch":
        ahead = AnchorState(GATEWAY, 3, 1, 10_000, first_seal(GATEWAY))
        FileAnchor(folder / "anchor.json").write(ahead)
    life = Life(folder, synced=sys.argv[3:] != ["off"])
    asyncio.run(_run(PATHS[path], life))
    os._exit(0)  # the power goes, whatever is still open


async def _run(path: Callable[[Life], Awaitable[None]], life: Life) -> None:
    await path(life)


if __name__ == "__main__":
    main()
