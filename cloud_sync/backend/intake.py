"""One transaction of ingest: what it has read of its gateways, and the rows it will write together.

Nobody else writes for these gateways until the transaction ends (`Database.open_epochs`), so what was read once
stays true, and a record costs no statement of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cloud_sync.backend.accounts import ACCOUNT, Balance, balances_of
from cloud_sync.backend.database import Database, Kind, Table
from cloud_sync.wire import ZERO_HASH

RECORD: Final = Table(
    "record",
    {
        "gateway": Kind.TEXT,
        "stream": Kind.TEXT,
        "epoch": Kind.INTEGER,
        "seq": Kind.INTEGER,
        "hash": Kind.BYTES,
        "body": Kind.BYTES,
        "received_at": Kind.INTEGER,
    },
)
STREAM: Final = Table(
    "stream",
    {
        "gateway": Kind.TEXT,
        "stream": Kind.TEXT,
        "epoch": Kind.INTEGER,
        "seq": Kind.INTEGER,
        "hash": Kind.BYTES,
    },
    key=("gateway", "stream", "epoch"),
)


@dataclass(frozen=True, slots=True)
class StreamKey:
    """One chain: a gateway's stream in one epoch."""

    gateway_id: str
    stream: str
    epoch: int

    @property
    def columns(self) -> tuple[str, str, int]:
        return self.gateway_id, self.stream, self.epoch


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The newest record taken; seq 0 and 32 zero bytes before the first."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class TakenRecord:
    """One record that follows its chain."""

    key: StreamKey
    seq: int
    hash: bytes
    body: bytes


NO_HEAD: Final = StreamHead(0, ZERO_HASH)


class Intake:
    """What is known of some gateways inside a transaction, and what it adds. `at`: Unix seconds of the receipt."""

    def __init__(self, database: Database, gateway_ids: Iterable[str], at: int) -> None:
        """Reads what there is of the gateways that are enrolled, and keeps others from writing it."""
        self.database = database
        self.at = at
        self.epochs = database.open_epochs(sorted(set(gateway_ids)))
        condition, among = database.among("gateway", list(self.epochs))
        sql = f"SELECT gateway, stream, epoch, seq, hash FROM stream WHERE {condition}"
        self._heads = {StreamKey(*row[:3]): StreamHead(*row[3:]) for row in database.execute(sql, (among,))}
        sql = f"SELECT DISTINCT gateway, stream, epoch FROM aside WHERE {condition}"
        self.aside = {StreamKey(*row) for row in database.execute(sql, (among,))}  # streams with records kept aside
        self._balances: dict[tuple[str, str], Balance] = {}
        self._balances_read: set[str] = set()
        self._records: dict[tuple[StreamKey, int], TakenRecord] = {}
        self._heads_moved: set[StreamKey] = set()
        self._balances_moved: dict[tuple[str, str], Balance] = {}

    def head(self, key: StreamKey) -> StreamHead:
        """How far a stream is taken without a hole."""
        return self._heads.get(key, NO_HEAD)

    def hash_at(self, key: StreamKey, seq: int) -> bytes | None:
        """The hash of a record that was taken, now or before."""
        record = self._records.get((key, seq))
        if record is not None:
            return record.hash
        sql = "SELECT hash FROM record WHERE gateway = ? AND stream = ? AND epoch = ? AND seq = ?"
        row = self.database.execute(sql, (*key.columns, seq)).fetchone()
        return None if row is None else bytes(row[0])

    def append(self, record: TakenRecord) -> None:
        """The record after the head; it is the head now."""
        self._records[record.key, record.seq] = record
        self._heads[record.key] = StreamHead(record.seq, record.hash)
        self._heads_moved.add(record.key)

    def read_balances(self, gateway_ids: Iterable[str]) -> None:
        """Reads the accounts of gateways beforehand: one question for all of them."""
        unread = sorted(set(gateway_ids).intersection(self.epochs) - self._balances_read)
        if unread:
            self._balances_read.update(unread)
            self._balances |= balances_of(self.database, unread)

    def balance(self, gateway_id: str, account_id: str) -> Balance:
        """An account as it is after what was taken; empty before its first record."""
        self.read_balances((gateway_id,))
        found = self._balances.get((gateway_id, account_id))
        return Balance(gateway_id, account_id, 0, None, None, None, 0) if found is None else found

    def set_balance(self, balance: Balance) -> None:
        place = balance.gateway_id, balance.account_id
        self._balances[place] = self._balances_moved[place] = balance

    def write(self) -> list[TakenRecord]:
        """Writes what was added since the last time, each table at once. What was: the new records."""
        records = list(self._records.values())
        if not records:
            return []
        rows = [(*record.key.columns, record.seq, record.hash, record.body, self.at) for record in records]
        self.database.write(RECORD, rows)
        heads = ((key, self._heads[key]) for key in self._heads_moved)
        self.database.write(STREAM, [(*key.columns, head.seq, head.hash) for key, head in heads])
        self.database.write(ACCOUNT, [balance.columns for balance in self._balances_moved.values()])
        self._records.clear()
        self._heads_moved.clear()
        self._balances_moved.clear()
        return records
