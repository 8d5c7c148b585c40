"""Which notices are due to be told, read from the ledgers as they came in.

Each ledger is read in order; what was read and what it means are committed together, and reading a record twice
changes nothing. A notice whose episode is over, or whose tenant has changed, is not told any more.
"""

from typing import Annotated, Final, Literal

import msgspec

from cloud_sync.backend.database import Database, transaction
from cloud_sync.notices.states import TRANSITIONS, State, Trigger, follow

RECORDS_MAX: Final = 1000  # of one ledger in one transaction
# What ends an episode, by edge.core's ledger. The last one ends what is known of the tenant too.
_ENDS: Final = ("EpisodeClosed", "PaymentModeChanged", "TenantChanged")
_NAMES: Final = tuple(f'"{name}"'.encode() for name in ("NoticeRaised", *_ENDS))
_Instant = Annotated[int, msgspec.Meta(ge=0, le=2**35)]
_Nano = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class NoticeRaised(msgspec.Struct, frozen=True, tag=True):
    """What of the record a message states."""

    at: _Instant
    account: str
    number: Literal[1, 2, 3]
    live_balance_nano: _Nano
    register_at: _Instant
    document_hash: str = ""


class EpisodeClosed(msgspec.Struct, frozen=True, tag=True):
    """The balance is good again."""

    at: _Instant
    account: str


class PaymentModeChanged(msgspec.Struct, frozen=True, tag=True):
    """Another way of paying: what was said before does not hold any more."""

    at: _Instant
    account: str


class TenantChanged(msgspec.Struct, frozen=True, tag=True):
    """Another customer."""

    at: _Instant
    account: str


_Event = NoticeRaised | EpisodeClosed | PaymentModeChanged | TenantChanged
_DECODER: Final = msgspec.json.Decoder(_Event)


def read_ledgers(database: Database, at: int) -> int:
    """How many notices came in. Reads every ledger to its end."""
    sql = (
        "SELECT s.gateway, s.epoch, coalesce(m.seq, 0), s.seq FROM stream s LEFT JOIN notice_mark m"
        " ON m.gateway = s.gateway AND m.epoch = s.epoch WHERE s.stream = 'led' AND s.seq > coalesce(m.seq, 0)"
        " ORDER BY s.gateway, s.epoch"
    )
    count = 0
    for gateway_id, epoch, read_seq, seq in database.execute(sql).fetchall():
        for after in range(read_seq, seq, RECORDS_MAX):
            count += _read_part(database, gateway_id, epoch, after, min(after + RECORDS_MAX, seq), at)
    return count


def record_of(body: bytes) -> _Event | None:
    """What a ledger record says that concerns notices; None if nothing, or nothing that can be read."""
    if not any(name in body for name in _NAMES):
        return None
    try:
        event: _Event = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # of another type that only mentions the name, or none of ours: its chain is checked elsewhere
    return event


def _read_part(database: Database, gateway_id: str, epoch: int, after: int, last: int, at: int) -> int:
    """Records never change, so they are read before the transaction, which keeps everybody else waiting."""
    sql = (
        "SELECT seq, body FROM record WHERE gateway = ? AND stream = 'led' AND epoch = ? AND seq > ? AND seq <= ?"
        " ORDER BY seq"
    )
    rows = database.execute(sql, (gateway_id, epoch, after, last)).fetchall()
    found = [(seq, bytes(body), event) for seq, body in rows if (event := record_of(bytes(body))) is not None]
    with transaction(database):
        count = 0
        for seq, body, event in found:
            if isinstance(event, NoticeRaised):
                count += _keep(database, gateway_id, epoch, seq, body, event, at)
            else:
                _close(database, gateway_id, epoch, seq, event, at)
        database.execute(
            "INSERT INTO notice_mark (gateway, epoch, seq) VALUES (?, ?, ?)"
            " ON CONFLICT (gateway, epoch) DO UPDATE SET seq = excluded.seq",
            (gateway_id, epoch, last),
        )
    return count


def _keep(database: Database, gateway_id: str, epoch: int, seq: int, body: bytes, event: NoticeRaised, at: int) -> int:
    """1 if it is new."""
    return database.execute(
        "INSERT INTO notice (gateway, account, number, raised_at, epoch, seq, body, state, due_at, changed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, account, number, raised_at) DO NOTHING",
        (gateway_id, event.account, event.number, event.at, epoch, seq, body, State.WAITING.value, at, at),
    ).rowcount


def _close(
    database: Database,
    gateway_id: str,
    epoch: int,
    seq: int,
    event: EpisodeClosed | PaymentModeChanged | TenantChanged,
    at: int,
) -> None:
    """Ends what was raised before; a notice that is being sent ends when its answer is there."""
    database.execute(
        "UPDATE notice SET closed_at = ? WHERE gateway = ? AND account = ? AND closed_at IS NULL"
        " AND (epoch < ? OR (epoch = ? AND seq < ?))",
        (at, gateway_id, event.account, epoch, epoch, seq),
    )
    withdraw(database, at)
    if isinstance(event, TenantChanged):
        # These addresses are those of whoever has left. What was added since is not.
        sql = "DELETE FROM notice_contact WHERE gateway = ? AND account = ? AND added_at < ?"
        database.execute(sql, (gateway_id, event.account, event.at))


def withdraw(database: Database, at: int) -> None:
    """Takes back whatever is closed and may be taken back."""
    for state in (state for state, row in TRANSITIONS.items() if Trigger.CLOSE in row):
        database.execute(
            "UPDATE notice SET state = ?, changed_at = ? WHERE state = ? AND closed_at IS NOT NULL",
            (follow(state, Trigger.CLOSE).value, at, state.value),
        )
