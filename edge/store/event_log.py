"""The journal as a log of events: what the accounting appends and what it starts from."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from edge.core import events as ev
from edge.core.account import State
from edge.core.events import Event
from edge.core.lean import dataclass
from edge.core.ledger import apply
from edge.core.units import UnixSeconds
from edge.ports import StoredRecord
from edge.store.checkpoint import Checkpoint, Position, Sums, decode_state, encode_state, packed, state_shape
from edge.store.codec import decode_event, encode_event
from edge.store.journal import JournalError, SqliteJournal

_LOG = logging.getLogger(__name__)
# A day has fewer (96 slots, bills, payments). Where no day ends, as after a clock that was far ahead, a start must
# not have to replay for longer and longer.
EVENTS_MAX = 400


class JournalEventLog:
    """The EventLog of edge.ports over a journal."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def append(self, events: Sequence[Event]) -> None:
        """Commits all events in one transaction."""
        await self._journal.append([encode_event(event) for event in events])

    async def open_epoch(self, epoch: int, events: Sequence[Event]) -> None:
        """Ends RECOVERY with the first events of a new epoch, in one transaction."""
        await self._journal.open_epoch(epoch, [encode_event(event) for event in events])

    def replay(self) -> Iterator[Event]:
        """All events in the order they were written, chain checked. JournalError at the first fault."""
        return map(_event_of, self._journal.replay())

    def restore(self) -> "Restored":
        """The state the journal gives: from its newest good snapshot on, or from the beginning."""
        for checkpoint in reversed(self._journal.checkpoints()):
            state = self._snapshot_of(checkpoint)
            if state is not None:
                return self._replayed(state, checkpoint.sums, checkpoint.position, checkpoint.at)
        return self._replayed(State(), Sums(), None, None)

    def _snapshot_of(self, checkpoint: Checkpoint) -> State | None:
        if checkpoint.shape != state_shape():
            return None
        content = self._journal.snapshot(checkpoint)
        try:
            return None if content is None else decode_state(content)
        except (ValueError, TypeError):
            return None

    def _replayed(
        self, state: State, sums: Sums, position: Position | None, checkpoint_at: UnixSeconds | None
    ) -> "Restored":
        replayed = 0
        for record in self._journal.replay(position):
            event = _event_of(record)
            state, sums, replayed = apply(state, event), sums.plus(event), replayed + 1
        return Restored(state, sums, replayed, checkpoint_at)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a start begins with. `replayed` events were applied after the snapshot of `checkpoint_at`."""

    state: State
    sums: Sums
    replayed: int
    checkpoint_at: UnixSeconds | None


class DailyCheckpoints:
    """Writes a checkpoint with its snapshot after the first daily freezes of a day, and after `EVENTS_MAX` events."""

    def __init__(
        self,
        journal: SqliteJournal,
        restored: Restored,
        on_written: Callable[[Checkpoint], Awaitable[None]] | None = None,
    ) -> None:
        """`on_written` is told of each checkpoint once it is stored."""
        self._journal = journal
        self._on_written = on_written
        self._sums = restored.sums
        self._last_at = restored.checkpoint_at
        self._events_since = restored.replayed
        self._due: asyncio.Queue[tuple[UnixSeconds, Position, Sums, State]] = asyncio.Queue()

    def committed(self, events: Sequence[Event], state: State) -> None:
        """To be called after each commit, before the next: `state` is the state after these events."""
        self._sums = self._sums.plus(*events)
        self._events_since += len(events)
        frozen = [event.at for event in events if isinstance(event, ev.RegisterFrozen) and event.occasion == "daily"]
        day_over = bool(frozen) and (self._last_at is None or max(frozen) > self._last_at)
        if day_over or self._events_since >= EVENTS_MAX:
            self._last_at = max(frozen) if day_over else self._last_at
            self._events_since = 0
            at = self._last_at if day_over and self._last_at is not None else events[-1].at
            self._due.put_nowait((at, self._journal.position(), self._sums, state))

    async def run(self) -> None:
        """Writes what is due until cancelled."""
        while True:
            await self._write(*await self._due.get())
            self._due.task_done()

    async def written(self) -> None:
        """Returns when all that was due is written. `run` must be running."""
        await self._due.join()

    async def _write(self, at: UnixSeconds, position: Position, sums: Sums, state: State) -> None:
        try:
            content = encode_state(state)
        except TypeError:  # a field of a kind that has no bytes: a fault of ours, and no reason to stop accounting
            _LOG.exception("no checkpoint at place %d", position.place)
            return
        checkpoint = Checkpoint.make(at, position, sums, content)
        await self._journal.add_checkpoint(checkpoint, packed(state, content))
        if self._on_written is not None:
            await self._on_written(checkpoint)


def _event_of(record: StoredRecord) -> Event:
    try:
        return decode_event(record.body)
    except ValueError as error:
        raise JournalError(f"{record.stream} {record.seq}: {error}") from error
