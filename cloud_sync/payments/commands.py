"""`wattgate payments`: the API for channels, their keys, and their daily files.

Exit status: 0 done, 2 bad arguments or something that cannot be used.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud_sync.backend.commands import CommandDesk
from cloud_sync.backend.database import Database, failures, open_existing
from cloud_sync.backend.order_values import amount_nano
from cloud_sync.backend.service import wall_clock
from cloud_sync.keys import KEYRING_FILE, KeyRing, Role, load_key_ring, load_signer, load_signers
from cloud_sync.order_types import AMOUNT_NANO_MAX
from cloud_sync.payments.channels import add_channel, channels, revoke_channel
from cloud_sync.payments.customers import new_customer_key
from cloud_sync.payments.desk import PaymentDesk
from cloud_sync.payments.reconcile import as_csv, day_number, reconciliation
from cloud_sync.payments.types import amount_of

EXIT_BAD_INPUT: Final = 2
EXAMPLE: Final = """example:
  wattgate payments channel --db cloud.db add bank-1 --payment-max 5000 --day-max 1000000
  wattgate payments channel --db cloud.db add cashier --payment-max 1 --day-max 1 --approves
  wattgate payments channel --db cloud.db list --json
  wattgate payments channel --db cloud.db revoke bank-1
  wattgate payments run --db cloud.db --keys keys --port 8090
  wattgate payments customer-key --db cloud.db gw-1 A01
  wattgate payments reconcile --db cloud.db bank-1 2026-12-01 --out folder
"""
_Asked = argparse.Namespace


def add_payments_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `payments` and its commands to those of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    payments = commands.add_parser(
        "payments", help="take payments from channels over HTTP", epilog=EXAMPLE, formatter_class=raw
    )
    kinds = payments.add_subparsers(required=True, metavar="COMMAND")
    run = _command(kinds, "run", "serve the API until it is told to end", _run)
    run.add_argument("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and <kid>.pem files")
    run.add_argument("--second-keys", type=Path, metavar="DIR", help="the second signing key, for reversals")
    run.add_argument("--second-kid", default="tariff-1", metavar="KID", help="(tariff-1)")
    run.add_argument("--host", default="127.0.0.1", help="(127.0.0.1; TLS is a proxy's business)")
    run.add_argument("--port", type=int, default=8090, help="(8090)")
    channel = kinds.add_parser("channel", help="who may bring payments", epilog=EXAMPLE, formatter_class=raw)
    _database_option(channel)
    what = channel.add_subparsers(required=True, metavar="ACTION")
    add = _action(what, "add", "a new channel; its key is shown once", _add)
    add.add_argument("channel", metavar="CHANNEL")
    add.add_argument("--payment-max", required=True, type=amount_nano, metavar="AMOUNT", help="cap of a payment")
    add.add_argument("--day-max", required=True, type=amount_nano, metavar="AMOUNT", help="cap of a UTC day")
    add.add_argument("--approves", action="store_true", help="only the second key of reversals")
    _action(what, "list", "all channels", _list)
    revoke = _action(what, "revoke", "its key opens nothing any more", _revoke)
    revoke.add_argument("channel", metavar="CHANNEL")
    customer = _command(kinds, "customer-key", "a key to look at an account; ends an older one", _customer_key)
    customer.add_argument("gateway", metavar="GATEWAY")
    customer.add_argument("account", metavar="ACCOUNT")
    reconcile = _command(kinds, "reconcile", "write a channel's day as CSV and JSON", _reconcile)
    reconcile.add_argument("channel", metavar="CHANNEL")
    reconcile.add_argument("day", metavar="DAY", help="UTC, as 2026-12-31")
    reconcile.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="(here)")


def _command(kinds: Any, name: str, what: str, work: Callable[[Database, _Asked], Any]) -> argparse.ArgumentParser:
    parser = _action(kinds, name, what, work)
    _database_option(parser)
    return parser


def _action(kinds: Any, name: str, what: str, work: Callable[[Database, _Asked], Any]) -> argparse.ArgumentParser:
    raw: Any = argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=what, epilog=EXAMPLE, formatter_class=raw)
    parser.add_argument("--json", action="store_true", help="one object for programs")
    parser.set_defaults(run=_done, work=work)
    return parser


def _database_option(parser: argparse.ArgumentParser) -> None:
    where = "the backend's database: a file, sqlite:///FILE or postgresql://..."
    parser.add_argument("--db", required=True, metavar="DB", help=where)


def _done(asked: _Asked) -> int:
    try:
        with closing(open_existing(asked.db)) as database:
            facts = asked.work(database, asked)
    except failures(OSError, ValueError) as error:
        sys.stderr.write(f"wattgate payments: {error}\n")
        return EXIT_BAD_INPUT
    lines = json.dumps(facts) if asked.json else "\n".join(f"{name}: {value}" for name, value in facts.items())
    sys.stdout.write(lines + "\n")
    return 0


def _add(database: Database, asked: _Asked) -> dict[str, Any]:
    key = add_channel(database, asked.channel, asked.payment_max, asked.day_max, wall_clock(), asked.approves)
    return {"channel": asked.channel, "key": key}


def _list(database: Database, _asked: _Asked) -> dict[str, Any]:
    return {found.id: _facts(asdict(found)) for found in channels(database)}


def _facts(channel: dict[str, Any]) -> dict[str, Any]:
    """Amounts as decimals."""
    caps = ("payment_nano_max", "day_nano_max")
    return {name.replace("_nano", ""): amount_of(v) if name in caps else v for name, v in channel.items()}


def _revoke(database: Database, asked: _Asked) -> dict[str, Any]:
    revoke_channel(database, asked.channel, wall_clock())
    return {"revoked": asked.channel}


def _customer_key(database: Database, asked: _Asked) -> dict[str, Any]:
    key = new_customer_key(database, asked.gateway, asked.account, wall_clock())
    return {"account": asked.account, "key": key}


def _reconcile(database: Database, asked: _Asked) -> dict[str, Any]:
    if asked.channel not in {found.id for found in channels(database)}:
        raise ValueError(f"there is no channel {asked.channel!r}")
    day = day_number(asked.day)
    found = _books(database).payments_of_day(asked.channel, day)
    book = reconciliation(asked.channel, day, found)
    stem = asked.out / f"{asked.channel}-{book.day}"
    asked.out.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".csv").write_text(as_csv(book), encoding="utf-8")
    stem.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(book), indent=2) + b"\n")
    return {"count": book.count, "total": book.total, "totals": book.totals, "files": f"{stem}.csv, {stem}.json"}


def _books(database: Database) -> PaymentDesk:
    """A desk that reads: it has no keys."""
    return PaymentDesk(database, CommandDesk(database, KeyRing(()), {}))


def _run(_database: Database, asked: _Asked) -> dict[str, Any]:
    import uvicorn

    from cloud_sync.payments.app import PaymentsApi

    ring, signers = load_key_ring(asked.keys / KEYRING_FILE), load_signers(asked.keys)
    if Role.VEND not in signers:
        raise ValueError(f"{asked.keys}: no private vend key, which signs credits")
    vend = ring.get(signers[Role.VEND].kid)
    cap_nano = AMOUNT_NANO_MAX if vend is None or vend.credit_nano_max is None else vend.credit_nano_max
    second = None if asked.second_keys is None else load_signer(asked.second_keys, asked.second_kid)

    def open_desk() -> PaymentDesk:
        database = open_existing(asked.db)
        return PaymentDesk(database, CommandDesk(database, ring, signers), second, cap_nano)

    api = PaymentsApi(open_desk, wall_clock)
    listener = _listener(asked.host, asked.port)
    config = uvicorn.Config(api.application(), access_log=False, log_level="warning")
    try:
        asyncio.run(_serve(api, uvicorn.Server(config), listener))
    finally:
        listener.close()
        api.close()
    return {"ended": True}


def _listener(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as problem:
        raise ValueError(f"cannot listen on {host} port {port}: {problem}; give a free port") from problem


async def _serve(api: Any, server: Any, listener: socket.socket) -> None:
    await api.open()
    ended = asyncio.ensure_future(server._serve([listener]))  # serve() would raise the signal again at its end
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
    await ended
