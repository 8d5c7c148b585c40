"""Payments of channels, each once: kept first, then its credit ordered, whatever dies in between.

The payment id follows from channel and idempotency key, and the desk makes one credit of one payment id. So a retry
after a kill between the two commits finishes the same payment and cannot make another. Money nano-currency.
"""

import hashlib
from typing import Any, Final

import msgspec

from cloud_sync.backend.accounts import read_body
from cloud_sync.backend.commands import CommandDesk, OrderNotPossible
from cloud_sync.backend.database import Database, transaction
from cloud_sync.keys import Signer
from cloud_sync.order_types import AMOUNT_NANO_MAX
from cloud_sync.payments.channels import Channel
from cloud_sync.payments.types import Accepted, Payment, PaymentRequest, Reversal, Voucher, amount_of, nano_of
from cloud_sync.voucher import voucher_for_qr, voucher_for_typing

DAY_SECONDS: Final = 24 * 3600
_SQL: Final = (
    "SELECT p.payment_id, p.gateway, p.meter, p.amount_nano, p.cid, p.received_at, c.result, c.created_at,"
    " c.result_at, p.reversal_cid, r.result FROM channel_payment p LEFT JOIN command c ON c.cid = p.cid"
    " LEFT JOIN command r ON r.cid = p.reversal_cid WHERE p.channel = ?"
)


class PaymentRefused(Exception):
    """Why not. `error` is stable for programs.

    idempotency_conflict, amount, payment_cap, day_cap, unknown_gateway, not_found, second_key, no_second_key and
    what app.py finds. Of all these nothing was kept; after not_ordered the same request again finishes it.
    """

    def __init__(self, error: str, what: str, where: str, allowed: str) -> None:
        super().__init__(f"{where}: {what}; allowed: {allowed}")
        self.error, self.what, self.where, self.allowed = error, what, where, allowed


class PaymentDesk:
    """For one thread at a time, at one database. `second` is another person's signing key, for reversals."""

    def __init__(
        self,
        database: Database,
        desk: CommandDesk,
        second: Signer | None = None,
        credit_nano_max: int = AMOUNT_NANO_MAX,
    ) -> None:
        """`credit_nano_max` is what the vend key may credit at most: a payment above it could never be ordered."""
        self.database = database
        self._credit_nano_max = credit_nano_max
        self._desk = desk
        self._second = second

    def pay(self, channel: Channel, key: str, request: PaymentRequest, at: int) -> Accepted:
        """The payment of this key, placed now or before. Raises PaymentRefused."""
        payment_id = f"{channel.id}-" + hashlib.sha256(f"{channel.id} {key}".encode()).hexdigest()[:32]
        with transaction(self.database):
            self._receive(channel, key, payment_id, request, at)
        return self._order(payment_id)

    def finish(self) -> int:
        """Orders what was received and not ordered, as after a kill; how many there were."""
        sql = "SELECT payment_id FROM channel_payment WHERE cid IS NULL"
        open_ids = [row[0] for row in self.database.execute(sql).fetchall()]
        for payment_id in open_ids:
            try:
                self._order(payment_id)
            except PaymentRefused:
                continue  # it stays open
        return len(open_ids)

    def payment(self, channel: Channel, payment_id: str) -> Payment | None:
        """A payment of this channel, as far as the cloud knows."""
        row = self.database.execute(f"{_SQL} AND p.payment_id = ?", (channel.id, payment_id)).fetchone()
        if row is None:
            return None
        return self._with_balance(row)

    def payments_of_day(self, channel_id: str, day: int) -> list[Payment]:
        """What a channel brought on a UTC day (days since 1970), in order of receipt."""
        sql = f"{_SQL} AND p.received_at >= ? AND p.received_at < ? ORDER BY p.received_at, p.payment_id"
        start = day * DAY_SECONDS
        rows = self.database.execute(sql, (channel_id, start, start + DAY_SECONDS)).fetchall()
        return [_payment(row, None, None) for row in rows]

    def take_back(self, channel: Channel, approver: Channel, payment_id: str, at: int) -> Reversal:
        """Takes back what is left of a payment; once, however often it is asked. Raises PaymentRefused."""
        if not approver.approves or approver.id == channel.id:
            raise PaymentRefused("second_key", "it does not approve", "header Second-Key", "an approver's key")
        found = self.payment(channel, payment_id)
        if found is None or found.cid is None:
            raise PaymentRefused("not_found", "no such ordered payment", "path payment_id", "a payment of this channel")
        if self._second is None:
            raise PaymentRefused("no_second_key", "it has no second signing key", "server", "run with --second-keys")
        try:
            placed = self._desk.take_back(found.gateway, found.meter, payment_id, None, self._second, at)
        except OrderNotPossible as error:
            raise PaymentRefused(error.reason, str(error), "server", "two keys that may take back") from error
        with transaction(self.database):
            sql = "UPDATE channel_payment SET reversal_cid = ? WHERE channel = ? AND payment_id = ?"
            self.database.execute(sql, (placed.cid, channel.id, payment_id))
        return Reversal(payment_id, placed.cid)

    def voucher(self, channel: Channel, payment_id: str) -> Voucher | None:
        """The signed credit of an ordered payment as text."""
        found = self.payment(channel, payment_id)
        envelope = None if found is None or found.cid is None else self._desk.envelope(found.cid)
        if envelope is None:
            return None
        return Voucher(payment_id, voucher_for_qr(envelope), voucher_for_typing(envelope))

    def _receive(self, channel: Channel, key: str, payment_id: str, request: PaymentRequest, at: int) -> None:
        """Keeps a payment that is new and within the caps. Inside the caller's transaction, which is alone."""
        digest = hashlib.sha256(msgspec.json.encode([request.gateway, request.meter, nano_of(request.amount)])).digest()
        sql = "SELECT request_hash FROM channel_payment WHERE channel = ? AND idempotency_key = ?"
        known = self.database.execute(sql, (channel.id, key)).fetchone()
        if known is not None:
            if bytes(known[0]) != digest:
                what = "this key came with another payment before"
                raise PaymentRefused("idempotency_conflict", what, "header Idempotency-Key", "the same body")
            return
        amount_nano = nano_of(request.amount)
        if self.database.execute("SELECT 1 FROM gateway WHERE id = ?", (request.gateway,)).fetchone() is None:
            raise PaymentRefused("unknown_gateway", "it is not enrolled", "body $.gateway", "an enrolled gateway")
        self._check_caps(channel, amount_nano, at)
        self.database.execute(
            "INSERT INTO channel_payment (channel, idempotency_key, request_hash, payment_id, gateway, meter,"
            " amount_nano, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (channel.id, key, digest, payment_id, request.gateway, request.meter, amount_nano, at),
        )

    def _check_caps(self, channel: Channel, amount_nano: int, at: int) -> None:
        if amount_nano <= 0:
            raise PaymentRefused("amount", "it is 0", "body $.amount", "an amount above 0")
        cap_nano = min(channel.payment_nano_max, self._credit_nano_max)
        if amount_nano > cap_nano:
            allowed = f"up to {amount_of(cap_nano)} a payment"
            raise PaymentRefused("payment_cap", "above this channel's cap", "body $.amount", allowed)
        start = at - at % DAY_SECONDS
        sql = (
            "SELECT coalesce(sum(amount_nano), 0) FROM channel_payment"
            " WHERE channel = ? AND received_at >= ? AND received_at < ?"
        )
        today = int(self.database.execute(sql, (channel.id, start, start + DAY_SECONDS)).fetchone()[0])
        if today + amount_nano > channel.day_nano_max:
            allowed = f"{amount_of(max(0, channel.day_nano_max - today))} more until 00:00 UTC"
            raise PaymentRefused("day_cap", "above this channel's cap of a day", "body $.amount", allowed)

    def _order(self, payment_id: str) -> Accepted:
        sql = "SELECT gateway, meter, amount_nano, received_at, cid FROM channel_payment WHERE payment_id = ?"
        gateway, meter, amount_nano, at, cid = self.database.execute(sql, (payment_id,)).fetchone()
        if cid is None:
            try:
                cid = self._desk.credit(gateway, meter, payment_id, amount_nano, at).cid
            except OrderNotPossible as error:
                raise PaymentRefused("not_ordered", str(error), "server", "the same request again, later") from error
            with transaction(self.database):
                sql = "UPDATE channel_payment SET cid = ? WHERE payment_id = ?"
                self.database.execute(sql, (cid, payment_id))
        return Accepted(payment_id, cid, amount_of(amount_nano), at)

    def _with_balance(self, row: Any) -> Payment:
        """With the ledger's record that posted it; reads the gateway's records that name the payment."""
        sql = (
            "SELECT body, received_at FROM record WHERE gateway = ? AND stream = 'led' AND"
            f" {self.database.holding('body')} ORDER BY epoch, seq"
        )
        for body, at in self.database.execute(sql, (row[1], row[0].encode())):
            fields = read_body(bytes(body)) or {}
            if fields.get("type") == "PaymentApplied" and fields.get("payment_id") == row[0]:
                balance = fields.get("balance_nano")
                return _payment(row, amount_of(balance) if isinstance(balance, int) else None, at)
        return _payment(row, None, None)


def _payment(row: Any, balance: str | None, balance_at: int | None) -> Payment:
    payment_id, gateway, meter, nano, cid, received, result, ordered, answered, reversal, reversed_as = row
    return Payment(
        payment_id, gateway, meter, amount_of(nano), cid, received, result, ordered, answered, balance,
        balance_at, reversal, reversed_as,
    )  # fmt: skip
