"""The journal of a gateway of a fleet: hash-chained records in memory. Appending is committing.

What is acknowledged may be forgotten, so that a hundred thousand records pass through a few megabytes; a backend that
lost what it had acknowledged then cannot be helped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloud_sync.wire import STREAMS, ZERO_HASH, record_hash
from edge.ports import StoredRecord, StreamHead


@dataclass(slots=True)
class _Chain:
    """One stream: `records[0]` has the sequence `dropped` + 1."""

    records: list[StoredRecord] = field(default_factory=list)
    dropped: int = 0
    head_seq: int = 0
    head_hash: bytes = ZERO_HASH
    acked: int = 0


class FleetJournal:
    """The part of `edge.ports.Journal` that a link to the cloud needs."""

    def __init__(self, gateway_id: str, epoch: int = 1, keeps_acknowledged: bool = False) -> None:
        self.gateway_id = gateway_id
        self.epoch = epoch
        self.on_acknowledged: Callable[[str], None] = lambda _stream: None
        self._keeps_acknowledged = keeps_acknowledged
        self._chains = {stream: _Chain() for stream in STREAMS}

    def write(self, stream: str, body: bytes) -> int:
        """Adds a record; its sequence."""
        chain = self._chains[stream]
        seq = chain.head_seq + 1
        digest = record_hash(self.gateway_id, stream, self.epoch, seq, chain.head_hash, body)
        chain.records.append(StoredRecord(stream, self.epoch, seq, digest, body))
        chain.head_seq, chain.head_hash = seq, digest
        return seq

    def heads(self) -> Mapping[str, StreamHead]:
        return {
            stream: StreamHead(stream, self.epoch, chain.head_seq, chain.head_hash, chain.acked)
            for stream, chain in self._chains.items()
        }

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        for stream, body in entries:
            self.write(stream, body)
        return [self._chains[stream].records[-1] for stream, _ in entries]

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        chain = self._chains[stream]
        start = max(after_seq - chain.dropped, 0)
        return chain.records[start : start + count_max]

    def acknowledge(self, stream: str, seq: int) -> None:
        """Moves the mark forward. The newest acknowledged record stays: the next batch names its hash."""
        chain = self._chains[stream]
        chain.acked = seq
        if not self._keeps_acknowledged and seq - 1 > chain.dropped:
            del chain.records[: seq - 1 - chain.dropped]
            chain.dropped = seq - 1
        self.on_acknowledged(stream)

    def copy(self) -> "FleetJournal":
        """Another journal with the same records, as on a copied card."""
        twin = FleetJournal(self.gateway_id, self.epoch, self._keeps_acknowledged)
        twin._chains = {stream: replace(chain, records=list(chain.records)) for stream, chain in self._chains.items()}
        return twin

    def is_acknowledged(self, *streams: str) -> bool:
        """Whether the cloud has everything of these streams."""
        return all(self._chains[stream].acked == self._chains[stream].head_seq for stream in streams or STREAMS)
