"""What a person must see: alarms, and messages kept aside because they were not believed.

The same alarm or message again only counts up, so a flood cannot fill the disk.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cloud_sync.backend.database import Database

QUARANTINE_ROWS_MAX: Final = 10_000
ALARM_ROWS_MAX: Final = 10_000
QUARANTINED_BYTES_MAX: Final = 16 * 1024


def raise_alarm(database: Database, gateway_id: str, kind: str, detail: Mapping[str, Any], at: int) -> None:
    """Records an alarm, or counts it up when it stands already."""
    database.queue()
    text = msgspec.json.encode(detail, order="sorted").decode()
    key = (gateway_id, kind, text)
    sql = "UPDATE alarm SET count = count + 1, last_at = ? WHERE gateway = ? AND kind = ? AND detail = ?"
    if database.execute(sql, (at, *key)).rowcount == 0 and _has_room(database, "alarm", ALARM_ROWS_MAX):
        sql = "INSERT INTO alarm (gateway, kind, detail, first_at, last_at) VALUES (?, ?, ?, ?, ?)"
        database.execute(sql, (*key, at, at))


def quarantine(database: Database, gateway_id: str, topic: str, payload: bytes, reason: str, at: int) -> None:
    """Keeps a message that was not believed (its beginning), or counts it up."""
    database.queue()
    key = (topic[:256].replace("\0", "\ufffd"), reason, hashlib.sha256(payload).digest())
    sql = "UPDATE quarantine SET count = count + 1, last_at = ? WHERE topic = ? AND reason = ? AND payload_hash = ?"
    if database.execute(sql, (at, *key)).rowcount == 0 and _has_room(database, "quarantine", QUARANTINE_ROWS_MAX):
        sql = (
            "INSERT INTO quarantine (gateway, topic, reason, payload_hash, payload, first_at, last_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
        )
        database.execute(sql, (gateway_id, *key, payload[:QUARANTINED_BYTES_MAX], at, at))


def _has_room(database: Database, table: str, rows_max: int) -> bool:
    assert table in ("alarm", "quarantine")
    row = database.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    return bool(row[0] < rows_max)
