"""The journal as a log of events: what the accounting appends and what it starts from."""

from collections.abc import Iterator, Sequence

from edge.core.events import Event
from edge.store.codec import decode_event, encode_event
from edge.store.journal import JournalError, SqliteJournal


class JournalEventLog:
    """The EventLog of edge.ports over a journal."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal

    async def append(self, events: Sequence[Event]) -> None:
        """Commits all events in one transaction."""
        await self._journal.append([encode_event(event) for event in events])

    def replay(self) -> Iterator[Event]:
        """All events in the order they were written, chain checked. JournalError at the first fault."""
        for record in self._journal.replay():
            try:
                event = decode_event(record.body)
            except ValueError as error:
                raise JournalError(f"{record.stream} {record.seq}: {error}") from error
            yield event
