"""Which gateways are ours: of no other one is a message taken."""

from collections.abc import Sequence

from cloud_sync.backend.database import Database, transaction
from cloud_sync.wire import is_gateway_id


def enroll_all(database: Database, gateway_ids: Sequence[str], at: int) -> None:
    """From now on these gateways' messages are taken; again has no effect. ValueError: one of them is no id."""
    for gateway_id in gateway_ids:
        if not is_gateway_id(gateway_id):
            raise ValueError(f"{gateway_id!r} is not a gateway id: 1 to 23 letters, digits, underscores and dashes")
    with transaction(database):
        sql = "INSERT INTO gateway (id, epoch, enrolled_at) VALUES (?, 1, ?) ON CONFLICT DO NOTHING"
        database.executemany(sql, [(gateway_id, at) for gateway_id in gateway_ids])
