"""The command desk: makes signed orders once, keeps them, and says which are still without a result.

A payment id makes one credit, for ever; a repeated request gets the same command back. Money
nano-currency, times Unix seconds.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.backend.database import transaction
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.orders import ORDER_ROLES, OrderRefused, sign_document, sign_order, verify_document, verify_order
from cloud_sync.wire import CONTRACT_VERSION, Document, Order

SUPPLY_ORDER_SECONDS: Final = 24 * 3600  # how long a cut or restore may still be obeyed, by default


class OrderNotPossible(Exception):
    """The request cannot become an order; `reason` is stable for programs.

    Reasons: unknown_gateway, no_key, payment_conflict, document_conflict, malformed, and those of orders.py.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Placed:
    """The command of a request. `new` is False when the request had been made before."""

    cid: str
    new: bool


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command without a result, and the document it needs."""

    cid: str
    gateway_id: str
    envelope: bytes
    document: bytes | None


class CommandDesk:
    """Places orders in the command table. It holds command keys; ingest does not."""

    def __init__(self, database: sqlite3.Connection, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
        self._database = database
        self._ring = ring
        self._signers = signers

    def credit(self, gateway_id: str, meter_id: str, payment_id: str, amount_nano: int, at: int) -> Placed:
        """One credit for one payment id. Raises OrderNotPossible."""
        with transaction(self._database):
            known = self._payment(payment_id)
            if known is not None:
                cid, *booked = known
                if booked != [gateway_id, meter_id, amount_nano]:
                    raise OrderNotPossible("payment_conflict", payment_id)
                return Placed(cid, new=False)
            # Derived from the payment, so that two desks make the same command of it.
            cid = "cr-" + hashlib.sha256(payment_id.encode()).hexdigest()[:32]
            arguments = {"amount_nano": amount_nano, "payment_id": payment_id, "paid_at": at}
            self._place("credit", cid, gateway_id, meter_id, arguments, at)
            self._database.execute(
                "INSERT INTO payment (payment_id, gateway, meter, amount_nano, cid, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (payment_id, gateway_id, meter_id, amount_nano, cid, at),
            )
        return Placed(cid, new=True)

    def cut(self, gateway_id: str, meter_id: str, at: int, valid_seconds: int = SUPPLY_ORDER_SECONDS) -> Placed:
        """An operator's cut, which no top-up undoes. Raises OrderNotPossible."""
        return self._supply("cut", gateway_id, meter_id, at, valid_seconds)

    def restore(self, gateway_id: str, meter_id: str, at: int, valid_seconds: int = SUPPLY_ORDER_SECONDS) -> Placed:
        """Ends an operator's cut. Raises OrderNotPossible."""
        return self._supply("restore", gateway_id, meter_id, at, valid_seconds)

    def set_tariff(self, gateway_id: str, version: int, body: str, effective_at: int, at: int) -> Placed:
        """Sends a tariff document and the order that activates it. Raises OrderNotPossible."""
        signer = self._signer("set_tariff")
        document = Document(
            v=CONTRACT_VERSION, gw=gateway_id, kind="tariff", version=version, body=body, nbf=at, kid=signer.kid
        )
        envelope = sign_document(document, signer)
        checked = verify_document(envelope, self._ring, gateway_id)
        if isinstance(checked, OrderRefused):
            raise OrderNotPossible(checked.reason, checked.detail)
        cid = f"tariff-{gateway_id}-{version}"
        arguments = {"version": version, "hash": document.body_hash, "effective_at": effective_at}
        with transaction(self._database):
            sql = "SELECT hash FROM document WHERE gateway = ? AND kind = 'tariff' AND version = ?"
            row = self._database.execute(sql, (gateway_id, version)).fetchone()
            if row is not None:
                if row[0] != document.body_hash:
                    raise OrderNotPossible("document_conflict", f"tariff {version}")
                return Placed(cid, new=False)
            self._place("set_tariff", cid, gateway_id, "", arguments, at, document=envelope)
            sql = "INSERT INTO document (gateway, kind, version, hash, envelope) VALUES (?, 'tariff', ?, ?, ?)"
            self._database.execute(sql, (gateway_id, version, document.body_hash, envelope))
        return Placed(cid, new=True)

    def envelope(self, cid: str) -> bytes | None:
        """The signed bytes of a command, e.g. to print it as a voucher: same bytes, same command id."""
        row = self._database.execute("SELECT envelope FROM command WHERE cid = ?", (cid,)).fetchone()
        return None if row is None else bytes(row[0])

    def _supply(self, order_type: str, gateway_id: str, meter_id: str, at: int, valid_seconds: int) -> Placed:
        cid = f"{order_type}-{secrets.token_hex(12)}"
        with transaction(self._database):
            sql = "SELECT coalesce(max(supply_version), 0) + 1 FROM command WHERE gateway = ? AND meter = ?"
            version = int(self._database.execute(sql, (gateway_id, meter_id)).fetchone()[0])
            self._place(order_type, cid, gateway_id, meter_id, {}, at, exp=at + valid_seconds, sv=version)
        return Placed(cid, new=True)

    def _place(
        self,
        order_type: str,
        cid: str,
        gateway_id: str,
        meter_id: str,
        arguments: dict[str, Any],
        at: int,
        exp: int | None = None,
        sv: int | None = None,
        document: bytes | None = None,
    ) -> None:
        """Signs, checks as the gateway will, and keeps. Inside the caller's transaction."""
        if self._database.execute("SELECT 1 FROM gateway WHERE id = ?", (gateway_id,)).fetchone() is None:
            raise OrderNotPossible("unknown_gateway", gateway_id)
        signer = self._signer(order_type)
        order = Order(
            v=CONTRACT_VERSION,
            cid=cid,
            gw=gateway_id,
            meter=meter_id,
            type=order_type,
            args=arguments,
            nbf=at,
            exp=exp,
            sv=sv,
            kid=signer.kid,
        )
        envelope = sign_order(order, signer)
        checked = verify_order(envelope, self._ring, gateway_id)
        if isinstance(checked, OrderRefused):
            raise OrderNotPossible(checked.reason, checked.detail)
        self._database.execute(
            "INSERT INTO command (cid, gateway, meter, type, supply_version, envelope, document, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (cid, gateway_id, meter_id, order_type, sv, envelope, document, at),
        )

    def _payment(self, payment_id: str) -> tuple[Any, ...] | None:
        sql = "SELECT cid, gateway, meter, amount_nano FROM payment WHERE payment_id = ?"
        row: tuple[Any, ...] | None = self._database.execute(sql, (payment_id,)).fetchone()
        return row

    def _signer(self, order_type: str) -> Signer:
        signer = self._signers.get(ORDER_ROLES[order_type])
        if signer is None:
            raise OrderNotPossible("no_key", f"this desk cannot sign {order_type}")
        return signer


def pending_commands(database: sqlite3.Connection, gateway_id: str | None = None) -> list[PendingCommand]:
    """Commands without a result, oldest first."""
    sql = "SELECT cid, gateway, envelope, document FROM command WHERE result IS NULL"
    if gateway_id is None:
        rows = database.execute(sql + " ORDER BY created_at, rowid")
    else:
        rows = database.execute(sql + " AND gateway = ? ORDER BY created_at, rowid", (gateway_id,))
    return [PendingCommand(*row) for row in rows]
