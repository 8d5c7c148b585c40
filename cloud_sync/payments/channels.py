"""Who may bring payments: a key for each channel, its caps, and its end.

A key is shown once; what is kept is the SHA-256 of its secret, which is 256 random bits. Money nano-currency.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.backend.database import Database, transaction
from cloud_sync.payments.types import CHANNEL

CAP_NANO_MAX: Final = 10**18
_COLUMNS: Final = "id, approves, payment_nano_max, day_nano_max, added_at, revoked_at"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel and its caps. One that approves may only be the second key of a reversal."""

    id: str
    approves: bool
    payment_nano_max: int
    day_nano_max: int
    added_at: int
    revoked_at: int | None


def add_channel(
    database: Database, channel_id: str, payment_nano_max: int, day_nano_max: int, at: int, approves: bool = False
) -> str:
    """The key of a new channel, which nobody can ask for again. Raises ValueError."""
    if CHANNEL.fullmatch(channel_id) is None:
        raise ValueError(f"channel {channel_id!r}: allowed are 1 to 23 of a-z, 0-9 and -, not - at first")
    if not 0 < payment_nano_max <= day_nano_max <= CAP_NANO_MAX:
        raise ValueError("caps: allowed is 0 < per payment <= per day <= 1000000000")
    secret = secrets.token_hex(32)
    with transaction(database):
        added = database.execute(
            "INSERT INTO channel (id, key_hash, approves, payment_nano_max, day_nano_max, added_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (channel_id, _hash(secret), int(approves), payment_nano_max, day_nano_max, at),
        )
        if added.rowcount != 1:
            raise ValueError(f"channel {channel_id!r} is there already, or was: a name is given once")
    return f"{channel_id}.{secret}"


def revoke_channel(database: Database, channel_id: str, at: int) -> None:
    """From now on its key opens nothing. Again: no effect. Raises ValueError."""
    with transaction(database):
        sql = "UPDATE channel SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?"
        if database.execute(sql, (at, channel_id)).rowcount != 1:
            raise ValueError(f"there is no channel {channel_id!r}")


def channels(database: Database) -> list[Channel]:
    """All that ever were."""
    return [_channel(row) for row in database.execute(f"SELECT {_COLUMNS} FROM channel ORDER BY id")]


def channel_of_key(database: Database, key: str) -> Channel | None:
    """Whose key this is; None for a wrong or revoked one."""
    channel_id, _, secret = key.partition(".")
    if CHANNEL.fullmatch(channel_id) is None or not secret.isascii():
        return None
    row = database.execute(f"SELECT {_COLUMNS}, key_hash FROM channel WHERE id = ?", (channel_id,)).fetchone()
    if row is None or row[5] is not None or not hmac.compare_digest(bytes(row[6]), _hash(secret)):
        return None
    return _channel(row[:6])


def _channel(row: Any) -> Channel:
    return Channel(row[0], bool(row[1]), *row[2:])


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
