"""The reference backend without a network: messages in, answers out, orders placed.

One object owns one connection and is for one thread at a time. Several processes may open the
same file: the running service sends what another process has placed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud_sync.backend import audit
from cloud_sync.backend.accounts import Balance, balances
from cloud_sync.backend.checkpoints import Given, give_proof, pin_device_key, signed_head
from cloud_sync.backend.commands import CommandDesk, Placed
from cloud_sync.backend.database import open_database, transaction
from cloud_sync.backend.enrolment import enroll_all
from cloud_sync.backend.ingest import Ingest, Received
from cloud_sync.backend.relay import RESEND_SECONDS_MAX, CommandRelay
from cloud_sync.backend.survey import PAUSE_SECONDS_MAX, Survey
from cloud_sync.keys import KEYRING_FILE, KeyRing, Role, Signer, load_key_ring, load_signers
from cloud_sync.session import Publish


class Backend:
    """Ingest, desk and relay over one database. `at` is Unix seconds, `now` monotonic seconds."""

    def __init__(
        self,
        db_path: Path | str,
        ring: KeyRing,
        signers: Mapping[Role, Signer],
        resend_seconds_max: float = RESEND_SECONDS_MAX,
        brokers: str = "",
    ) -> None:
        """Needs the ingest key; without another key the orders of its role cannot be placed.

        `brokers`: a name for those it is at. Of all backends with one name one sends commands of its own accord.
        """
        self.database = open_database(db_path)
        self.desk = CommandDesk(self.database, ring, signers)
        self._ingest = Ingest(self.database, signers[Role.INGEST])
        self._ingest_signer = signers[Role.INGEST]
        self._relay = CommandRelay(self.database, resend_seconds_max, brokers)
        pause_seconds_max = PAUSE_SECONDS_MAX if resend_seconds_max == RESEND_SECONDS_MAX else resend_seconds_max
        self._survey = Survey(self.database, self._ingest_signer, pause_seconds_max, brokers)

    @classmethod
    def from_directory(
        cls, db_path: Path | str, keys: Path, resend_seconds_max: float = RESEND_SECONDS_MAX, brokers: str = ""
    ) -> "Backend":
        """With the keys of a key directory (cloud_sync.keys). Raises ValueError or OSError."""
        signers = load_signers(keys)
        if Role.INGEST not in signers:
            raise ValueError(f"{keys}: no private ingest key")
        return cls(db_path, load_key_ring(keys / KEYRING_FILE), signers, resend_seconds_max, brokers)

    def close(self) -> None:
        self.database.close()

    def enroll(self, gateway_id: str, at: int) -> None:
        """From now on this gateway's messages are taken. Again: no effect."""
        self.enroll_all([gateway_id], at)

    def enroll_all(self, gateway_ids: Sequence[str], at: int) -> None:
        """All of these or, when one of them is no gateway's id (ValueError), none."""
        enroll_all(self.database, gateway_ids, at)

    def permit_epoch(self, gateway_id: str, epoch: int) -> None:
        """The operator lets a re-created or restored store in; every older epoch is fenced from now on."""
        with transaction(self.database):
            sql = "UPDATE gateway SET epoch = ? WHERE id = ? AND epoch < ?"
            self.database.execute(sql, (epoch, gateway_id, epoch))

    def pin_device_key(self, gateway_id: str, public_key: bytes, at: int) -> str:
        """From now on this key (32 bytes) signs checkpoints of the gateway. Its key id; ValueError says why not."""
        return pin_device_key(self.database, gateway_id, public_key, at)

    def head(self, day: int, at: int) -> bytes:
        """The signed head of a day's tree of checkpoints (cloud_sync.proof.head)."""
        return signed_head(self.database, self._ingest_signer, day, at)

    def give_proof(self, gateway_id: str, epoch: int, seq: int, at: int, size_before: int = 0) -> Given:
        """Receipt, proof and head for a ledger record. Raises NotProvable."""
        return give_proof(self.database, self._ingest_signer, (gateway_id, epoch, seq), at, size_before)

    def take(self, messages: Sequence[Received], at: int, now: float) -> list[Publish]:
        """Commits the messages, then says what to answer. Raises an error of the database: then nothing was taken."""
        taken = self._ingest.take(messages, at)
        commands = self._relay.greet(taken.hellos, now) if taken.hellos else []
        return [*taken.acks, *commands]

    def commands_due(self, now: float) -> list[Publish]:
        """Commands whose turn it is to be sent (again); of several workers at one database one is told them."""
        return self._relay.due(now)

    def marks_due(self, at: int, now: float) -> list[Publish]:
        """After a start and now and then, some gateways at a time: what is known of them, as acks (survey.py)."""
        return self._survey.next_turn(at, now)

    def credit(self, gateway_id: str, meter_id: str, payment_id: str, amount_nano: int, at: int) -> Placed:
        return self.desk.credit(gateway_id, meter_id, payment_id, amount_nano, at)

    def cut(self, gateway_id: str, meter_id: str, at: int) -> Placed:
        return self.desk.cut(gateway_id, meter_id, at)

    def restore(self, gateway_id: str, meter_id: str, at: int) -> Placed:
        return self.desk.restore(gateway_id, meter_id, at)

    def set_tariff(self, gateway_id: str, version: int, body: str, effective_at: int, at: int) -> Placed:
        return self.desk.set_tariff(gateway_id, version, body, effective_at, at)

    def result_of(self, cid: str) -> str | None:
        """What became of a command; None while nobody knows."""
        row = self.database.execute("SELECT result FROM command WHERE cid = ?", (cid,)).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def balances(self) -> list[Balance]:
        return balances(self.database)

    def counts(self, gateway_id: str | None = None) -> dict[str, int]:
        """Records taken without a hole, per stream."""
        return audit.counts(self.database, gateway_id)

    def problems(self) -> list[str]:
        """Every contradiction in the database, one sentence each."""
        return audit.problems(self.database)

    def chain_ok(self) -> bool:
        return not self.problems()

    def alarms(self) -> list[dict[str, Any]]:
        return self._rows("SELECT gateway, kind, detail, count, last_at FROM alarm ORDER BY id")

    def quarantined(self) -> list[dict[str, Any]]:
        return self._rows("SELECT gateway, topic, reason, count, last_at FROM quarantine ORDER BY id")

    def metrics(self) -> dict[str, int]:
        """Counters since the start, and what is pending now."""
        pending = self.database.execute("SELECT count(*) FROM command WHERE result IS NULL").fetchone()[0]
        return {**self._ingest.counters, "commands_pending": int(pending)}

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        cursor = self.database.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]
