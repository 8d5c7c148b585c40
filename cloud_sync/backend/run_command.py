"""`wattgate backend`: runs the reference backend, enrols gateways, brings tables up to date.

With several workers this process only starts them, and starts one again that has ended. Exit status: 0 after an
orderly end, 1 when it failed later (a lost database), 2 when it cannot start.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import POSTGRESQL_SCHEMES, failures, migrate, of_the_extra, open_existing
from cloud_sync.backend.enrolment import enroll_all
from cloud_sync.backend.log import say
from cloud_sync.backend.relay import RESEND_SECONDS_MAX
from cloud_sync.backend.service import BackendService, ServiceSettings, wall_clock
from cloud_sync.backend.shares import Share, Split, shares_subscriptions, topics_of
from cloud_sync.backend.workers import keep_workers
from cloud_sync.transport import BrokerAddress, TransportSettings, gateway_tls_context

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXAMPLE: Final = """example:
  wattgate backend run --db sqlite:///cloud.db --broker 127.0.0.1:1883 --keys keys --enroll gw-1
  wattgate backend run --db postgresql://wattgate@db/wattgate --broker mq1:8883 --broker mq2:8883 --keys keys \\
      --workers 4 --http 127.0.0.1:9100 --tls-ca ca.pem --tls-certificate 'backend-{worker}.pem' \\
      --tls-key 'backend-{worker}.key'
  wattgate backend enroll --db sqlite:///cloud.db gw-1 gw-2
Worker 1 serves --http, worker 2 the port after it, and so on: /metrics, /healthz, /readyz. The log is JSON, one
object a line, on stderr.
"""


def add_backend_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `backend` and its commands to those of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    backend = commands.add_parser("backend", help="the reference backend", epilog=EXAMPLE, formatter_class=raw)
    kinds = backend.add_subparsers(required=True, metavar="COMMAND")
    run = kinds.add_parser("run", help="serve until told to end", epilog=EXAMPLE, formatter_class=raw)
    add_run_options(run)
    run.set_defaults(run=run_backend)
    enroll = kinds.add_parser("enroll", help="take these gateways' messages", epilog=EXAMPLE, formatter_class=raw)
    _add_database(enroll)
    enroll.add_argument("gateways", nargs="+", metavar="GATEWAY", help="ids; again has no effect")
    enroll.add_argument("--json", action="store_true", help="one object for programs")
    enroll.set_defaults(run=_enroll)
    bring = kinds.add_parser(
        "migrate", help="bring PostgreSQL's tables up to date", epilog=EXAMPLE, formatter_class=raw
    )
    _add_database(bring)
    bring.add_argument("--json", action="store_true", help="one object for programs")
    bring.set_defaults(run=_migrate)


def _add_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", required=True, metavar="DB", help="a file, made if absent, sqlite:///FILE or postgresql://..."
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of `backend run`."""
    _add_database(parser)
    add = parser.add_argument
    brokers = "may be given several times, in order of preference"
    add("--broker", required=True, action="append", type=_address, metavar="HOST:PORT", help=brokers)
    add("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and <kid>.pem files")
    add("--workers", type=_count, default=1, metavar="N", help="processes beside each other; needs PostgreSQL (1)")
    add("--worker", type=_share, metavar="I/N", help="be the I-th of N workers, the others are started elsewhere")
    splits = [split.value for split in Split]
    add("--split", choices=splits, default="auto", help="how workers divide gateways: shared, if a probe proves it")
    add("--http", type=_address, metavar="HOST:PORT", help="serve /metrics, /healthz and /readyz there")
    add("--migrate", action="store_true", help="bring PostgreSQL's tables up to date first")
    tls = parser.add_argument_group("TLS", "all three or none; {worker} in a name is the worker's number, from 1")
    tls.add_argument("--tls-ca", metavar="FILE", help="certificate of the product's CA (PEM)")
    tls.add_argument("--tls-certificate", metavar="FILE", help="ours (PEM); its name is what the broker knows us by")
    tls.add_argument("--tls-key", metavar="FILE", help="our private key (PEM)")
    add("--enroll", action="append", default=[], metavar="GATEWAY", help="take this gateway's messages")
    add("--timer-max", type=float, metavar="SECONDS", help="cap of every pause (demos, tests)")


def run_backend(options: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM."""
    try:
        _check(options)
        if options.migrate:
            migrate(options.db)
        if options.worker is None and options.workers > 1:
            Backend.from_directory(options.db, options.keys).close()  # what no worker could do is said once
            return asyncio.run(keep_workers(partial(_worker_arguments, options), options.workers))
        asyncio.run(_serve(options, options.worker or Share(0, 1)))
    except _Failed as failed:
        sys.stderr.write(f"wattgate backend: it had to stop: {failed}\n")
        return EXIT_FAILED
    except failures(OSError, ValueError) as failure:
        sys.stderr.write(f"wattgate backend: {failure}\n")
        return EXIT_BAD_INPUT
    return 0


class _Failed(Exception):
    """It served, and then could not go on. What was not acknowledged will be sent again."""


def _check(options: argparse.Namespace) -> None:
    count = options.workers if options.worker is None else options.worker.count
    if count > 1 and not options.db.startswith(POSTGRESQL_SCHEMES):
        raise ValueError(f"{count} workers need PostgreSQL: {options.db} has one writer")
    files = (options.tls_ca, options.tls_certificate, options.tls_key)
    if any(files) and not all(files):
        raise ValueError("--tls-ca, --tls-certificate and --tls-key belong together")
    if count > 1 and any(files) and "{worker}" not in options.tls_certificate:
        raise ValueError(
            "workers that show one certificate throw each other off the broker: write {worker} into --tls-certificate"
        )


def _worker_arguments(options: argparse.Namespace, number: int) -> list[str]:
    """What a worker is started with: the same options, and which one it is."""
    arguments = ["--db", options.db, "--keys", str(options.keys), "--split", options.split]
    arguments += ["--worker", f"{number}/{options.workers}"]
    for broker in options.broker:
        arguments += ["--broker", f"{broker.host}:{broker.port}"]
    if options.http is not None:
        arguments += ["--http", f"{options.http.host}:{options.http.port + number - 1 if options.http.port else 0}"]
    if options.tls_ca:
        arguments += ["--tls-ca", options.tls_ca, "--tls-certificate", options.tls_certificate]
        arguments += ["--tls-key", options.tls_key]
    if options.timer_max is not None:
        arguments += ["--timer-max", str(options.timer_max)]
    for gateway_id in options.enroll if number == 1 else ():
        arguments += ["--enroll", gateway_id]
    return arguments


@dataclass(frozen=True, slots=True)
class _Opening:
    """How a worker opens its database, on the thread that uses it."""

    options: argparse.Namespace

    def __call__(self) -> Backend:
        given = self.options
        pause = RESEND_SECONDS_MAX if given.timer_max is None else given.timer_max
        brokers = " ".join(f"{broker.host}:{broker.port}" for broker in given.broker)
        backend = Backend.from_directory(given.db, given.keys, pause, brokers)
        if given.enroll:
            backend.enroll_all(given.enroll, wall_clock())
        return backend


async def _serve(options: argparse.Namespace, share: Share) -> None:
    tls = None
    if options.tls_ca:
        named = (text.replace("{worker}", str(share.index + 1)) for text in (options.tls_certificate, options.tls_key))
        tls = gateway_tls_context(options.tls_ca, *named)
    ending = asyncio.ensure_future(_serve_share(options, share, ServiceSettings(tuple(options.broker), tls=tls)))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await ending


async def _serve_share(options: argparse.Namespace, share: Share, common: ServiceSettings) -> None:
    tell = partial(say, worker=share.index + 1)
    is_shared = options.split == Split.SHARED.value
    if share.count > 1 and options.split == Split.AUTO.value:
        probed = TransportSettings("", common.brokers, (), tls=common.tls)
        is_shared = await shares_subscriptions(probed)
        tell("probed", shared_subscriptions=is_shared)
    settings = replace(common, timer_seconds_max=options.timer_max, topics=topics_of(share, is_shared))
    if not is_shared:
        settings = replace(settings, takes=share.takes)
    service = BackendService(_Opening(options), settings, say=tell)
    with contextlib.ExitStack() as open_things:
        if options.http is not None:
            with of_the_extra("--http"):
                from cloud_sync.backend.watch import Watch
            watch = Watch(service, options.http.host, options.http.port)
            open_things.callback(watch.close)
            tell("watched", port=watch.port)
        try:
            await service.run()
        except Exception as problem:
            if service.has_started:
                raise _Failed(_first(problem)) from problem
            raise


def _first(problem: BaseException) -> str:
    """What a group of failures began with, in one line."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def _enroll(options: argparse.Namespace) -> int:
    try:
        database = open_existing(options.db)
        try:
            enroll_all(database, options.gateways, wall_clock())
        finally:
            database.close()
    except failures(OSError, ValueError) as failure:
        sys.stderr.write(f"wattgate backend: {failure}\n")
        return EXIT_BAD_INPUT
    text = f"enrolled: {', '.join(options.gateways)}"
    sys.stdout.write((json.dumps({"enrolled": options.gateways}) if options.json else text) + "\n")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    try:
        migrate(options.db)
        open_existing(options.db).close()
    except failures(OSError, ValueError) as failure:
        sys.stderr.write(f"wattgate backend: {failure}\n")
        return EXIT_BAD_INPUT
    sys.stdout.write((json.dumps({"migrated": options.db}) if options.json else "the tables are up to date") + "\n")
    return 0


def _address(text: str) -> BrokerAddress:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return BrokerAddress(host.strip("[]"), int(port))


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def _share(text: str) -> Share:
    index, _, count = text.partition("/")
    try:
        return Share(int(index) - 1, int(count))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, as 1/4: {problem}") from None
