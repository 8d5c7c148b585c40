"""`python -m cloud_sync.backend`: runs the reference backend until SIGINT or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import failures, migrate
from cloud_sync.backend.service import BackendService, ServiceSettings, wall_clock
from cloud_sync.transport import BrokerAddress, gateway_tls_context


def main() -> int:
    """The exit status: 0 after an orderly end, 2 when it cannot start."""
    arguments = _parser().parse_args()
    try:
        asyncio.run(_run(arguments))
    except failures(OSError, ValueError) as failure:
        sys.stderr.write(f"backend: {failure}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cloud_sync.backend", description=__doc__)
    parser.add_argument(
        "--db", required=True, metavar="DB", help="a file, made if absent, sqlite:///FILE or postgresql://..."
    )
    parser.add_argument(
        "--broker",
        required=True,
        action="append",
        type=_broker,
        metavar="HOST:PORT",
        help="may be given several times, in order of preference",
    )
    parser.add_argument("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and <kid>.pem files")
    parser.add_argument("--migrate", action="store_true", help="bring PostgreSQL's tables up to date first")
    tls = parser.add_argument_group("TLS", "all three or none; the certificate's name is what the broker knows us by")
    tls.add_argument("--tls-ca", metavar="FILE", help="certificate of the product's CA (PEM)")
    tls.add_argument("--tls-certificate", metavar="FILE", help="ours (PEM)")
    tls.add_argument("--tls-key", metavar="FILE", help="our private key (PEM)")
    parser.add_argument("--enroll", action="append", default=[], metavar="GATEWAY", help="take this gateway's messages")
    parser.add_argument("--timer-max", type=float, metavar="SECONDS", help="cap of every pause (demos, tests)")
    return parser


def _broker(text: str) -> BrokerAddress:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return BrokerAddress(host.strip("[]"), int(port))


async def _run(arguments: argparse.Namespace) -> None:
    if arguments.migrate:
        migrate(arguments.db)

    def open_backend() -> Backend:
        options = {} if arguments.timer_max is None else {"resend_seconds_max": arguments.timer_max}
        backend = Backend.from_directory(arguments.db, arguments.keys, **options)
        for gateway_id in arguments.enroll:
            backend.enroll(gateway_id, wall_clock())
        return backend

    files = (arguments.tls_ca, arguments.tls_certificate, arguments.tls_key)
    if any(files) and not all(files):
        raise ValueError("--tls-ca, --tls-certificate and --tls-key belong together")
    tls = gateway_tls_context(*files) if all(files) else None
    settings = ServiceSettings(tuple(arguments.broker), timer_seconds_max=arguments.timer_max, tls=tls)
    service = asyncio.ensure_future(BackendService(open_backend, settings).run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, service.cancel)
    try:
        await service
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    sys.exit(main())
