"""The command desk: makes signed orders once, keeps them, and says which are still without a result.

A payment id makes one credit, for ever; a repeated request gets the same command back. Money
nano-currency, times Unix seconds.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.backend.database import Database, transaction
from cloud_sync.envelope import OVERHEAD_BYTES
from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.order_types import ORDER_TYPES
from cloud_sync.orders import (
    OrderRefused,
    approve_order,
    sign_document,
    sign_order,
    verify_document,
    verify_order,
)
from cloud_sync.wire import CONTRACT_VERSION, Document, Order

SUPPLY_ORDER_SECONDS: Final = 24 * 3600  # how long a cut or restore may still be obeyed, by default
# These say what shall be from now on: two of them under way could come in the wrong order.
STATES: Final = frozenset(("supply_hold", "set_debt", "payment_mode", "change_tenant"))


class OrderNotPossible(Exception):
    """The request cannot become an order; `reason` is stable for programs.

    Reasons: unknown_gateway, no_key, payment_conflict, document_conflict, pending (an order about the same is not
    answered yet), no_notice, malformed, and those of orders.py.
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
class Risk:
    """A risk level of a policy document and when it ends, Unix seconds."""

    level: str
    until: int


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command without a result, and the document it needs."""

    cid: str
    gateway_id: str
    envelope: bytes
    document: bytes | None


class CommandDesk:
    """Places orders in the command table. It holds command keys; ingest does not."""

    def __init__(self, database: Database, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
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

    def arm(self, gateway_id: str, meter_id: str, at: int, valid_seconds: int = SUPPLY_ORDER_SECONDS) -> Placed:
        """Ends an operator's cut when somebody presses the key on site. Raises OrderNotPossible."""
        return self._supply("arm", gateway_id, meter_id, at, valid_seconds)

    def keep_supply(
        self, gateway_id: str, meter_id: str, keep: bool, at: int, valid_seconds: int = SUPPLY_ORDER_SECONDS
    ) -> Placed:
        """Sets or lifts an order that refuses every cut. Raises OrderNotPossible."""
        return self._supply("keep_supply", gateway_id, meter_id, at, valid_seconds, {"keep": keep})

    def order(
        self,
        order_type: str,
        gateway_id: str,
        meter_id: str,
        arguments: dict[str, Any],
        at: int,
        second: Signer | None = None,
        reference: str = "",
    ) -> Placed:
        """One order of a type without a method of its own; `second` is another person's key where two must sign.

        The same request again is the same command; `reference` tells two equal ones apart. What says how things
        shall be (STATES) may be said again once it is answered, and waits for an answer about the same thing.
        Raises OrderNotPossible.
        """
        asked = json.dumps([gateway_id, meter_id, arguments, reference], sort_keys=True)
        cid = f"{order_type}-" + hashlib.sha256(asked.encode()).hexdigest()[:32]
        with transaction(self._database):
            if order_type in STATES:
                cid = self._next_state(cid, order_type, gateway_id, meter_id, arguments)
            if self.envelope(cid) is not None:
                return Placed(cid, new=False)
            self._place(order_type, cid, gateway_id, meter_id, arguments, at, second=second)
        return Placed(cid, new=True)

    def notice_receipt(
        self,
        gateway_id: str,
        meter_id: str,
        number: int,
        at: int,
        raised_at: int | None = None,
        document_hash: str | None = None,
    ) -> Placed:
        """Says that a notice was handed over; by default the newest of that number that the ledger here has.

        Raises OrderNotPossible.
        """
        raised = self._newest_notice(gateway_id, meter_id, number) or {}
        instant = raised.get("at") if raised_at is None else raised_at
        if instant is None:
            raise OrderNotPossible(
                "no_notice", f"no notice {number} of {meter_id} has come in; state when it was raised"
            )
        arguments = {"number": number, "raised_at": instant}
        known_hash = raised.get("document_hash", "") if raised.get("at") == instant else ""
        digest = known_hash if document_hash is None else document_hash
        return self.order(
            "notice_receipt", gateway_id, meter_id, arguments | ({"document_hash": digest} if digest else {}), at
        )

    def _newest_notice(self, gateway_id: str, meter_id: str, number: int) -> dict[str, Any] | None:
        """The record of the newest notice of a meter's account, from the ledger as it came in."""
        row = self._database.execute("SELECT roster FROM gateway WHERE id = ?", (gateway_id,)).fetchone()
        roster = json.loads(row[0]) if row is not None and row[0] is not None else []
        accounts = [entry["account"] for entry in roster if entry["meter"] == meter_id]
        sql = (
            "SELECT body FROM record WHERE gateway = ? AND stream = 'led'"
            f" AND {self._database.holding('body')} ORDER BY epoch DESC, seq DESC"
        )
        for (body,) in self._database.execute(sql, (gateway_id, b'"NoticeRaised"')):
            event: dict[str, Any] = json.loads(body)
            if event.get("type") == "NoticeRaised" and event["account"] in accounts and event["number"] == number:
                return event
        return None

    def _next_state(
        self, stem: str, order_type: str, gateway_id: str, meter_id: str, arguments: Mapping[str, Any]
    ) -> str:
        """The command id of a state that is asked for again: a new one once the last is answered."""
        sql = "SELECT cid, envelope FROM command WHERE gateway = ? AND meter = ? AND type = ? AND result IS NULL"
        for cid, envelope in self._database.execute(sql, (gateway_id, meter_id, order_type)).fetchall():
            if str(cid).startswith(stem):
                return str(cid)
            under_way = json.loads(envelope[OVERHEAD_BYTES:])["args"]
            if under_way.get("kind") == arguments.get("kind"):
                raise OrderNotPossible("pending", f"{cid} is not answered yet; revoke it, or wait")
        sql = "SELECT count(*) FROM command WHERE cid LIKE ?"
        return f"{stem}-{self._database.execute(sql, (stem + '-%',)).fetchone()[0] + 1}"

    def take_back(
        self,
        gateway_id: str,
        meter_id: str,
        payment_id: str,
        amount_nano: int | None,
        second: Signer,
        at: int,
        reference: str = "",
    ) -> Placed:
        """Takes back a part of a payment, or all that is left of it (None); `second` is another person's key.

        Once for a payment, amount and reference: the same request again is the same command. Raises
        OrderNotPossible.
        """
        order_type = "reverse" if amount_nano is None else "refund"
        arguments: dict[str, Any] = {"payment_id": payment_id}
        if amount_nano is not None:
            arguments["amount_nano"] = amount_nano
        asked = json.dumps([gateway_id, meter_id, payment_id, amount_nano, reference])
        cid = f"{order_type}-" + hashlib.sha256(asked.encode()).hexdigest()[:32]
        with transaction(self._database):
            if self.envelope(cid) is not None:
                return Placed(cid, new=False)
            self._place(order_type, cid, gateway_id, meter_id, arguments, at, second=second)
        return Placed(cid, new=True)

    def revoke(self, gateway_id: str, cid: str, at: int) -> Placed:
        """Takes an order back, if the gateway has not answered it yet; until it is known, the order is not sent.

        Raises OrderNotPossible.
        """
        revoking = _revocation_of(gateway_id, cid)
        with transaction(self._database):
            if self.envelope(revoking) is not None:
                return Placed(revoking, new=False)
            self._place("revoke", revoking, gateway_id, "", {"cid": cid}, at)
        return Placed(revoking, new=True)

    def permit_epoch(self, gateway_id: str, epoch: int, at: int) -> Placed:
        """The signed permit of a new epoch for a gateway in RECOVERY. Raises OrderNotPossible."""
        cid = f"resync-{gateway_id}-{epoch}"
        with transaction(self._database):
            if self.envelope(cid) is not None:
                return Placed(cid, new=False)
            self._place("resync", cid, gateway_id, "", {"epoch": epoch}, at)
        return Placed(cid, new=True)

    def set_tariff(self, gateway_id: str, version: int, body: str, effective_at: int, at: int) -> Placed:
        """Sends a tariff document and the order that activates it. Raises OrderNotPossible."""
        document = self._document("set_tariff", gateway_id, version, body, at)
        cid = f"tariff-{gateway_id}-{version}"
        arguments = {"version": version, "hash": document.body_hash, "effective_at": effective_at}
        with transaction(self._database):
            envelope, new = self._keep_document(document, "tariff")
            if new:
                self._place("set_tariff", cid, gateway_id, "", arguments, at, document=envelope)
        return Placed(cid, new=new)

    def set_policy(
        self, gateway_id: str, version: int, body: str, at: int, meters: Sequence[str] = (), risk: Risk | None = None
    ) -> Placed:
        """Sends a policy document and the order that puts meters (none named: the whole site) under it.

        Each call is an order of its own, since a policy is set again when a risk level comes or goes. Raises
        OrderNotPossible.
        """
        document = self._document("set_policy", gateway_id, version, body, at)
        arguments: dict[str, Any] = {"version": version, "hash": document.body_hash}
        if len(meters) > 1:
            arguments["meters"] = list(meters)
        if risk is not None:
            arguments |= {"risk_level": risk.level, "risk_until": risk.until}
        cid = f"policy-{secrets.token_hex(12)}"
        meter_id = meters[0] if len(meters) == 1 else ""
        with transaction(self._database):
            envelope, _new = self._keep_document(document, _policy_name(body))
            self._place("set_policy", cid, gateway_id, meter_id, arguments, at, document=envelope)
        return Placed(cid, new=True)

    def _document(self, order_type: str, gateway_id: str, version: int, body: str, at: int) -> Document:
        kid = self._signer(order_type).kid
        kind = order_type.removeprefix("set_")
        return Document(v=CONTRACT_VERSION, gw=gateway_id, kind=kind, version=version, body=body, nbf=at, kid=kid)

    def _keep_document(self, document: Document, kind: str) -> tuple[bytes, bool]:
        """The envelope of a document, and whether it is new. One version is never another text."""
        envelope = sign_document(document, self._signer(f"set_{document.kind}"))
        checked = verify_document(envelope, self._ring, document.gw)
        if isinstance(checked, OrderRefused):
            raise OrderNotPossible(checked.reason, checked.detail)
        sql = "SELECT hash, envelope FROM document WHERE gateway = ? AND kind = ? AND version = ?"
        row = self._database.execute(sql, (document.gw, kind, document.version)).fetchone()
        if row is not None:
            if row[0] != document.body_hash:
                raise OrderNotPossible("document_conflict", f"{kind} {document.version}")
            return bytes(row[1]), False
        if self._database.execute("SELECT 1 FROM gateway WHERE id = ?", (document.gw,)).fetchone() is None:
            raise OrderNotPossible("unknown_gateway", document.gw)
        sql = "INSERT INTO document (gateway, kind, version, hash, envelope) VALUES (?, ?, ?, ?, ?)"
        self._database.execute(sql, (document.gw, kind, document.version, document.body_hash, envelope))
        return envelope, True

    def envelope(self, cid: str) -> bytes | None:
        """The signed bytes of a command, e.g. to print it as a voucher: same bytes, same command id."""
        row = self._database.execute("SELECT envelope FROM command WHERE cid = ?", (cid,)).fetchone()
        return None if row is None else bytes(row[0])

    def _supply(
        self,
        order_type: str,
        gateway_id: str,
        meter_id: str,
        at: int,
        valid_seconds: int,
        arguments: dict[str, Any] | None = None,
    ) -> Placed:
        cid = f"{order_type}-{secrets.token_hex(12)}"
        with transaction(self._database):
            sql = "SELECT coalesce(max(supply_version), 0) + 1 FROM command WHERE gateway = ? AND meter = ?"
            version = int(self._database.execute(sql, (gateway_id, meter_id)).fetchone()[0])
            expires_at = at + valid_seconds
            self._place(order_type, cid, gateway_id, meter_id, arguments or {}, at, exp=expires_at, sv=version)
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
        second: Signer | None = None,
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
        if second is not None:
            order = approve_order(order, second)
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
        signer = self._signers.get(ORDER_TYPES[order_type].role)
        if signer is None:
            raise OrderNotPossible("no_key", f"this desk cannot sign {order_type}")
        return signer


def _policy_name(body: str) -> str:
    """Under what a policy's versions are counted: each policy has versions of its own."""
    try:
        name = json.loads(body)["policy_id"]
    except (ValueError, RecursionError, TypeError, KeyError):
        raise OrderNotPossible("malformed", "a policy document is a JSON object with policy_id and version") from None
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise OrderNotPossible("malformed", "policy_id is text of 1 to 64 characters")
    return f"policy {name}"


def pending_commands(database: Database, gateway_ids: Sequence[str] | None = None) -> list[PendingCommand]:
    """Commands without a result, of these gateways or of all, oldest first.

    One that is being revoked waits for what the revocation leads to.
    """
    sql = "SELECT cid, gateway, envelope, document FROM command WHERE result IS NULL"
    parameters: tuple[Any, ...] = ()
    if gateway_ids is not None:
        condition, among = database.among("gateway", gateway_ids)
        sql, parameters = f"{sql} AND {condition}", (among,)
    rows = database.execute(f"{sql} ORDER BY created_at, {database.insertion_order}", parameters)
    pending = [PendingCommand(*row) for row in rows]
    revoking = {command.cid for command in pending}
    return [command for command in pending if _revocation_of(command.gateway_id, command.cid) not in revoking]


def _revocation_of(gateway_id: str, cid: str) -> str:
    """The command id of the revocation of an order: there is one."""
    return "revoke-" + hashlib.sha256(f"{gateway_id} {cid}".encode()).hexdigest()[:32]
