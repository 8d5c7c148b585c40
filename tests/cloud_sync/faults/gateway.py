"""A gateway as the wire contract wants it: the product's session and transport, and a small card of its own.

An order is obeyed in one transaction: its command id, the ledger record, the new balance and the stored result; a
repeated one is answered with that result. Money nano-currency. Also a program, so that it can be killed like any
other process: `gateway.py CARD KEYRING GATEWAY HOST:PORT CHARGES`. It imports nothing of the tests.
"""

import asyncio
import random
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud_sync.keys import KeyRing, load_key_ring
from cloud_sync.orders import OrderRefused, verify_order, window_refusal
from cloud_sync.session import HelloFacts, SessionSettings, SyncSession
from cloud_sync.transport import BrokerAddress, MqttTransport, TransportSettings
from cloud_sync.wire import STREAMS, ZERO_HASH, record_hash
from edge.agent.cloud_link import CloudLink
from edge.ports import StoredRecord, StreamHead

PAUSE_SECONDS_MAX: Final = 0.2
ROUND_SECONDS: Final = 0.005
ACCOUNT: Final = "a-1"
SCHEMA: Final = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS record (
    stream TEXT, seq INTEGER, hash BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acked (stream TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS applied (cid TEXT PRIMARY KEY, amount_nano INTEGER NOT NULL, result BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS money (one INTEGER PRIMARY KEY CHECK (one = 1), balance_nano INTEGER NOT NULL);
INSERT INTO money VALUES (1, 0) ON CONFLICT DO NOTHING;
"""


class Card:
    """The journal of one gateway in a file. What is committed outlives a killed process."""

    def __init__(self, path: Path | str, gateway_id: str) -> None:
        self.gateway_id, self.path = gateway_id, Path(path)
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.executescript(SCHEMA)

    def heads(self) -> Mapping[str, StreamHead]:
        return {stream: self._head(stream) for stream in STREAMS}

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        with self.database:
            self.database.execute("BEGIN")
            return [self.write(stream, body) for stream, body in entries]

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        sql = "SELECT seq, hash, body FROM record WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [StoredRecord(stream, 1, *row) for row in self.database.execute(sql, (stream, after_seq, count_max))]

    def acknowledge(self, stream: str, seq: int) -> None:
        sql = "INSERT INTO acked VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET seq = max(seq, excluded.seq)"
        self.database.execute(sql, (stream, seq))

    def write(self, stream: str, body: bytes) -> StoredRecord:
        """The next record, in the transaction under way or one of its own."""
        head = self._head(stream)
        digest = record_hash(self.gateway_id, stream, 1, head.seq + 1, head.hash, body)
        self.database.execute("INSERT INTO record VALUES (?, ?, ?, ?)", (stream, head.seq + 1, digest, body))
        return StoredRecord(stream, 1, head.seq + 1, digest, body)

    @property
    def is_all_acked(self) -> bool:
        return all(head.acked_seq >= head.seq for head in self.heads().values())

    @property
    def balance_nano(self) -> int:
        return int(self.database.execute("SELECT balance_nano FROM money").fetchone()[0])

    def post(self, record_type: str, posting_nano: int, at: int) -> None:
        """A ledger record and the balance it leads to."""
        balance_nano = self.balance_nano + posting_nano
        self.database.execute("UPDATE money SET balance_nano = ?", (balance_nano,))
        body = {"type": record_type, "at": at, "account": ACCOUNT, "posting_nano": posting_nano,
                "balance_nano": balance_nano, "estimate_nano": 7}  # fmt: skip
        self.write("led", msgspec.json.encode(body))

    def records(self) -> dict[str, list[tuple[int, bytes, bytes]]]:
        """Everything this card holds: (seq, hash, body) by stream."""
        found: dict[str, list[tuple[int, bytes, bytes]]] = {}
        for stream, *row in self.database.execute("SELECT stream, seq, hash, body FROM record ORDER BY stream, seq"):
            found.setdefault(stream, []).append((row[0], row[1], row[2]))
        return found

    def applied(self) -> dict[str, int]:
        """Amounts of the payments that were taken, by command id."""
        return dict(self.database.execute("SELECT cid, amount_nano FROM applied WHERE amount_nano > 0"))

    def close(self) -> None:
        self.database.close()

    def _head(self, stream: str) -> StreamHead:
        sql = "SELECT seq, hash FROM record WHERE stream = ? ORDER BY seq DESC LIMIT 1"
        seq, digest = self.database.execute(sql, (stream,)).fetchone() or (0, ZERO_HASH)
        acked = self.database.execute("SELECT seq FROM acked WHERE stream = ?", (stream,)).fetchone()
        return StreamHead(stream, 1, seq, digest, acked[0] if acked else 0)


class Gateway:
    """Charges, obeys orders, and keeps the cloud in step, until cancelled."""

    def __init__(
        self,
        card: Card,
        ring: KeyRing,
        brokers: Sequence[tuple[str, int]],
        boot: str,
        at: int = 5000,
        is_clock_trusted: bool = True,
        subscribe_qos: int = 1,
    ) -> None:
        """`at`: what its clock says, Unix seconds, for as long as it runs."""
        self.card, self._ring, self._at, self._is_clock_trusted = card, ring, at, is_clock_trusted
        self.orders_seen = 0
        self.refused: list[str] = []
        settings = SessionSettings(batch_records_max=20).capped(PAUSE_SECONDS_MAX)
        chance = random.Random(f"{card.gateway_id} {boot}").random
        self.session = SyncSession(card.gateway_id, boot, "1.0", card.heads(), ring, chance, settings)
        addresses = tuple(BrokerAddress(host, port) for host, port in brokers)
        told = TransportSettings(
            card.gateway_id, addresses, self.session.topics(), self.session.will(), subscribe_qos=subscribe_qos
        )
        self.link = CloudLink(
            self.session,
            MqttTransport(told.capped(PAUSE_SECONDS_MAX), chance),
            card,
            lambda: HelloFacts(at=at, clock_quality="ntp" if is_clock_trusted else "unset", roster=()),
            self.take_order,
            self.take_document,
            lambda _at: None,
        )

    async def run(self) -> None:
        await self.link.run()

    def charge(self, amount_nano: int) -> None:
        """Energy was used: a bill, and the readings it rests on."""
        with self.card.database:
            self.card.database.execute("BEGIN")
            self.card.post("BillIssued", -amount_nano, self._at)
            self.card.write("rdg", b'{"registers":[1,2,3]}')
            self.card.write("evt", b'{"type":"RoundEnded"}')
        self.link.notify_appended()

    async def take_order(self, envelope: bytes) -> None:
        self.orders_seen += 1
        order = verify_order(envelope, self._ring, self.card.gateway_id)
        if isinstance(order, OrderRefused):
            self.refused.append(order.reason)
            return
        refusal = window_refusal(order, self._at, self._is_clock_trusted)
        amount_nano = int(order.args["amount_nano"]) if order.type == "credit" else 0
        with self.card.database:
            self.card.database.execute("BEGIN")
            self._obey(order.cid, amount_nano, refusal)
        self.link.notify_appended()

    def _obey(self, cid: str, amount_nano: int, refusal: OrderRefused | None) -> None:
        database = self.card.database
        known = database.execute("SELECT result FROM applied WHERE cid = ?", (cid,)).fetchone()
        if known is not None:
            self._answer_again(known[0])
            return
        said: dict[str, Any] = {"type": "CommandApplied", "cid": cid, "result": "applied"}
        if refusal is not None:
            said = {"type": "CommandRejected", "cid": cid, "result": "rejected", "reason": refusal.reason}
        result = msgspec.json.encode(said)
        database.execute("INSERT INTO applied VALUES (?, ?, ?)", (cid, amount_nano, result))
        if amount_nano:
            self.card.post("PaymentAccepted", amount_nano, self._at)
        self.card.write("res", result)

    def _answer_again(self, result: bytes) -> None:
        """Only when all results have arrived: until then the answer is under way."""
        head = self.card.heads()["res"]
        if head.acked_seq >= head.seq:
            self.card.write("res", result)

    async def take_document(self, envelope: bytes) -> None:
        raise AssertionError(f"nobody sent this: {envelope!r}")


async def _serve(card: str, ring: str, gateway_id: str, broker: str, charges: str) -> None:
    """Charges as often as it is told, counting what is on the card, and then goes on serving."""
    host, _, port = broker.rpartition(":")
    own = Card(card, gateway_id)
    gateway = Gateway(own, load_key_ring(Path(ring)), [(host, int(port))], f"boot-{random.getrandbits(32)}")
    serving = asyncio.create_task(gateway.run())
    while own.heads()["rdg"].seq < int(charges):
        await asyncio.sleep(ROUND_SECONDS)
        gateway.charge(1000)
    await serving


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
