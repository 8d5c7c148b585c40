"""What a customer may see with a key of one account: the balance with its as-of time, and receipts. Read-only.

Keys are kept like those of channels: shown once, SHA-256 of 256 random bits. An account has one key; a new one ends
the old. Amounts are decimal strings, times Unix seconds.
"""

import hashlib
import hmac
import secrets
from typing import Final

import msgspec

from cloud_sync.backend.accounts import balance_of, read_body
from cloud_sync.backend.database import Database, transaction
from cloud_sync.payments.types import amount_of
from cloud_sync.wire import is_local_id

RECEIPTS_MAX: Final = 50


class Receipt(msgspec.Struct, frozen=True):
    """A payment on the account's ledger; with epoch and seq a third party can check it (`wattgate proof`)."""

    payment_id: str
    amount: str
    balance: str
    at: int
    epoch: int
    seq: int


class CustomerAccount(msgspec.Struct, frozen=True):
    """The account as the cloud's ledger has it; `as_of` is the gateway's time of the last record, null before one."""

    gateway: str
    account: str
    balance: str | None
    as_of: int | None
    receipts: list[Receipt]


def new_customer_key(database: Database, gateway_id: str, account_id: str, at: int) -> str:
    """The key of an account; an older one of it opens nothing any more. Raises ValueError."""
    if not is_local_id(account_id):
        raise ValueError(f"account {account_id!r}: allowed are 1 to 64 letters, digits and . _ : -")
    name, secret = secrets.token_hex(8), secrets.token_hex(32)
    with transaction(database):
        if database.execute("SELECT 1 FROM gateway WHERE id = ?", (gateway_id,)).fetchone() is None:
            raise ValueError(f"there is no gateway {gateway_id!r}")
        database.execute(
            "INSERT INTO customer_key (gateway, account, name, key_hash, made_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (gateway, account) DO UPDATE SET name = excluded.name, key_hash = excluded.key_hash,"
            " made_at = excluded.made_at",
            (gateway_id, account_id, name, _hash(secret), at),
        )
    return f"{name}.{secret}"


def account_of_key(database: Database, key: str) -> CustomerAccount | None:
    """The account that a key opens; None for a wrong key."""
    name, _, secret = key.partition(".")
    if not name.isascii() or not name.isalnum():
        return None
    row = database.execute("SELECT gateway, account, key_hash FROM customer_key WHERE name = ?", (name,)).fetchone()
    if row is None or not hmac.compare_digest(bytes(row[2]), _hash(secret)):
        return None
    gateway, account = row[0], row[1]
    known = balance_of(database, gateway, account)
    receipts = _receipts(database, gateway, account)
    if known is None:
        return CustomerAccount(gateway, account, None, None, receipts)
    return CustomerAccount(gateway, account, amount_of(known.live_balance_nano), known.at, receipts)


def _receipts(database: Database, gateway_id: str, account_id: str) -> list[Receipt]:
    """The newest payments first."""
    sql = (
        "SELECT epoch, seq, body FROM record WHERE gateway = ? AND stream = 'led'"
        f" AND {database.holding('body')} ORDER BY epoch DESC, seq DESC"
    )
    found: list[Receipt] = []
    for epoch, seq, body in database.execute(sql, (gateway_id, b'"PaymentApplied"')):
        fields = read_body(bytes(body)) or {}
        if fields.get("type") == "PaymentApplied" and fields.get("account") == account_id:
            paid, after, at = fields.get("amount_nano"), fields.get("balance_nano"), fields.get("at")
            if isinstance(paid, int) and isinstance(after, int) and isinstance(at, int):
                payment_id = str(fields.get("payment_id"))
                found.append(Receipt(payment_id, amount_of(paid), amount_of(after), at, epoch, seq))
        if len(found) == RECEIPTS_MAX:
            break
    return found


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
