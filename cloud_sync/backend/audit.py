"""Does the database still say what arrived: chains, marks, balances and payments, from the bytes up."""

from collections.abc import Iterator

import msgspec

from cloud_sync.backend.accounts import Balance, balances, posted, read_body
from cloud_sync.backend.checkpoints import checkpoint_problems
from cloud_sync.backend.database import Database
from cloud_sync.envelope import split
from cloud_sync.wire import ZERO_HASH, Order, is_local_id, record_hash


def problems(database: Database) -> list[str]:
    """Every contradiction found, one sentence each; empty when all is well."""
    return [
        *_chain_problems(database),
        *_balance_problems(database),
        *_payment_problems(database),
        *checkpoint_problems(database),
    ]


def counts(database: Database, gateway_id: str | None = None) -> dict[str, int]:
    """Records taken, per stream."""
    where, parameters = ("", ()) if gateway_id is None else (" WHERE gateway = ?", (gateway_id,))
    return dict(database.execute(f"SELECT stream, count(*) FROM record{where} GROUP BY stream", parameters))


def _chain_problems(database: Database) -> Iterator[str]:
    heads = {
        (gateway, stream, epoch): (seq, digest)
        for gateway, stream, epoch, seq, digest in database.execute(
            "SELECT gateway, stream, epoch, seq, hash FROM stream"
        )
    }
    ends: dict[tuple[str, str, int], tuple[int, bytes]] = {}
    sql = "SELECT gateway, stream, epoch, seq, hash, body FROM record ORDER BY gateway, stream, epoch, seq"
    for gateway, stream, epoch, seq, digest, body in database.execute(sql):
        key = (gateway, stream, epoch)
        last, previous_hash = ends.get(key, (0, ZERO_HASH))
        if seq != last + 1:
            yield f"{gateway} {stream} {epoch}: record {last + 1} is missing"
        elif digest != record_hash(gateway, stream, epoch, seq, previous_hash, body):
            yield f"{gateway} {stream} {epoch}: record {seq} does not hash to what is stored"
        ends[key] = (seq, digest)
    for key in heads.keys() | ends.keys():
        if heads.get(key) != ends.get(key):
            yield f"{' '.join(map(str, key))}: the mark is not the last record"


def _balance_problems(database: Database) -> Iterator[str]:
    rebuilt: dict[tuple[str, str], Balance] = {}
    sql = "SELECT gateway, seq, body FROM record WHERE stream = 'led' ORDER BY gateway, epoch, seq"
    for gateway, seq, body in database.execute(sql):
        fields = read_body(body)
        account = fields.get("account") if fields else None
        if fields is None or not is_local_id(account):
            continue
        before = rebuilt.get((gateway, account)) or Balance(gateway, account, 0, None, None, None, 0)
        rebuilt[gateway, account], fault = posted(before, fields, seq)
        if fault is not None:
            yield f"{gateway} {account}: {fault} at record {seq}"
    stored = {(balance.gateway_id, balance.account_id): balance for balance in balances(database)}
    for key in rebuilt.keys() | stored.keys():
        if rebuilt.get(key) != stored.get(key):
            yield f"{' '.join(key)}: the account is not what its records say"


def _payment_problems(database: Database) -> Iterator[str]:
    sql = (
        "SELECT payment_id, payment.gateway, payment.meter, amount_nano, envelope"
        " FROM payment LEFT JOIN command USING (cid)"
    )
    for payment_id, gateway, meter, amount_nano, envelope in database.execute(sql):
        parts = split(envelope or b"")
        order = _order(parts.content) if parts else None
        if order is None or (order.gw, order.meter) != (gateway, meter) or order.args.get("payment_id") != payment_id:
            yield f"payment {payment_id}: no such order"
        elif order.args.get("amount_nano") != amount_nano:
            yield f"payment {payment_id}: the order is over another amount"


def _order(content: bytes) -> Order | None:
    try:
        return msgspec.json.decode(content, type=Order)
    except msgspec.MsgspecError:
        return None
