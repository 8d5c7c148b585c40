"""What the cloud knows of every account: a projection of the ledger stream.

Money on account is the sum of `posting_nano` and must equal the `balance_nano` the gateway
states; the estimate is the last one recorded. Bodies are open: unknown types and fields are kept
in the record and ignored here. Money nano-currency, energy Wh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cloud_sync.backend.database import Database, Kind, Table

ACCOUNT: Final = Table(
    "account",
    {
        "gateway": Kind.TEXT,
        "account": Kind.TEXT,
        "money_nano": Kind.INTEGER,
        "estimate_nano": Kind.INTEGER,
        "register_wh": Kind.INTEGER,
        "at": Kind.INTEGER,
        "seq": Kind.INTEGER,
    },
    key=("gateway", "account"),
)
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Balance:
    """One account as the cloud's ledger has it."""

    gateway_id: str
    account_id: str
    money_nano: int
    estimate_nano: int | None
    register_wh: int | None
    at: int | None
    seq: int

    @property
    def columns(self) -> tuple[Any, ...]:
        """In the order of the table."""
        return (
            self.gateway_id,
            self.account_id,
            self.money_nano,
            self.estimate_nano,
            self.register_wh,
            self.at,
            self.seq,
        )

    @property
    def live_balance_nano(self) -> int:
        return self.money_nano - (self.estimate_nano or 0)


def posted(before: Balance, fields: dict[str, Any], seq: int) -> tuple[Balance, str | None]:
    """The balance after a record, and the kind of alarm when the record contradicts it."""
    posting_nano = _integer(fields, "posting_nano")
    money_nano = before.money_nano + (posting_nano or 0)
    fault = None
    if posting_nano is None and "posting_nano" in fields:
        fault = "posting_unreadable"
    elif abs(money_nano) > _INT64_MAX:
        money_nano, fault = before.money_nano, "balance_overflow"
    elif "balance_nano" in fields and _integer(fields, "balance_nano") != money_nano:
        fault = "balance_differs"
    after = Balance(
        before.gateway_id,
        before.account_id,
        money_nano,
        _or_before(_integer(fields, "estimate_nano"), before.estimate_nano),
        _or_before(_integer(fields, "register_wh"), before.register_wh),
        _or_before(_integer(fields, "at"), before.at),
        seq,
    )
    return after, fault


def read_body(body: bytes) -> dict[str, Any] | None:
    """The fields of a record's body, or None when it is not a JSON object."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def posting_of(body: bytes) -> int:
    """What a ledger record posts, 0 when it posts nothing."""
    return _integer(read_body(body) or {}, "posting_nano") or 0


_BALANCE_SQL: Final = f"SELECT {', '.join(ACCOUNT.columns)} FROM account"


def balance_of(database: Database, gateway_id: str, account_id: str) -> Balance | None:
    """One account; None before its first record."""
    sql = _BALANCE_SQL + " WHERE gateway = ? AND account = ?"
    row = database.execute(sql, (gateway_id, account_id)).fetchone()
    return None if row is None else Balance(*row)


def balances_of(database: Database, gateway_ids: Sequence[str]) -> dict[tuple[str, str], Balance]:
    """Every account of these gateways, by gateway and account."""
    condition, among = database.among("gateway", gateway_ids)
    rows = database.execute(f"{_BALANCE_SQL} WHERE {condition}", (among,))
    return {(row[0], row[1]): Balance(*row) for row in rows}


def balances(database: Database) -> list[Balance]:
    """Every account of every gateway."""
    return [Balance(*row) for row in database.execute(_BALANCE_SQL + " ORDER BY gateway, account")]


def _integer(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _INT64_MAX:
        return None
    return value


def _or_before(value: int | None, before: int | None) -> int | None:
    return before if value is None else value
