"""`wattgate fleet`: many gateways that speak the contract, against a real broker, backend and database.

Exit status: 0 both sides agree, 1 they do not or something did not come in time, 2 bad arguments or something missing.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.database import failures, open_database, open_existing
from cloud_sync.backend.enrolment import enroll_all
from cloud_sync.keys import KEYRING_FILE, generate_key_directory, load_key_ring
from cloud_sync.session import SyncSession
from cloud_sync.transport import BrokerAddress, TransportSettings
from hw.sim.fleet.fleet import Fleet, Load, gateway_ids
from hw.sim.fleet.gateway import SLOT_SECONDS, Wiring
from hw.sim.fleet.stage import ADDRESS, Stage, StageError

EXIT_FOUND, EXIT_BAD_INPUT = 1, 2
WAITING_SECONDS: Final = 600.0
SHOWN_MAX: Final = 20
EXAMPLE: Final = """example:
  wattgate fleet --gateways 50 --meters 100 --minutes 60       starts a Mosquitto, a backend and an SQLite by itself
  wattgate fleet --gateways 50 --db postgresql://...           the same with this database, which gets the gateways
  wattgate fleet --gateways 500 --broker mq:1883 --keys keys   speaks to a backend that runs and knows fleet-00001 ...
"""


def add_fleet_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `fleet` to the commands of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    text = "Many gateways against a real cloud, and whether both sides agree. / 大量网关对接真实云端, 并核对双方账目。"
    fleet = commands.add_parser("fleet", help="many gateways", description=text, epilog=EXAMPLE, formatter_class=raw)
    add = fleet.add_argument
    add("--gateways", type=_whole(1, 50_000), default=20, metavar="N", help="(20)")
    add("--meters", type=_whole(1, 999), default=100, metavar="M", help="of each gateway (100)")
    add("--minutes", type=_whole(15, 1_000_000), default=60, metavar="T", help="of the fleet's calendar (60)")
    add("--at-once", type=_whole(1, 50_000), metavar="C", help="gateways with a slot under way (all, 200 at most)")
    add("--readings-only", action="store_true", help="no ledger: what a cloud takes of readings alone")
    add("--workers", type=_whole(1, 64), default=1, metavar="N", help="of the backend that is started (1)")
    add("--db", metavar="DB", help="of the backend; without --broker one is started for it")
    add("--broker", type=_address, metavar="HOST:PORT", help="of a backend that runs already; with --keys")
    add("--keys", type=Path, metavar="DIR", help="where that backend's keyring.json is")
    add("--prefix", default="fleet", metavar="NAME", help="of the gateways' ids (fleet)")
    add("--json", action="store_true", help="one object for programs")
    fleet.set_defaults(run=run_fleet)


def run_fleet(options: argparse.Namespace) -> int:
    """Connects a fleet, lets it work, compares both sides, says how it went."""
    if (options.broker is None) != (options.keys is None):
        sys.stderr.write("wattgate fleet: --broker and --keys belong together\n")
        return EXIT_BAD_INPUT
    try:
        with ExitStack() as open_things:
            return _run(options, open_things)
    except failures(OSError, ValueError, StageError) as problem:
        sys.stderr.write(f"wattgate fleet: {problem}\n")
        return EXIT_BAD_INPUT


def _run(options: argparse.Namespace, open_things: ExitStack) -> int:
    slots = -(-options.minutes * 60 // SLOT_SECONDS)
    at_once = options.at_once or min(options.gateways, 200)
    load = Load(options.gateways, options.meters, slots, at_once, not options.readings_only)
    if options.broker is not None:
        address, keys, db = options.broker, options.keys, options.db
        if db is not None:
            with closing(open_existing(db)) as database:
                enroll_all(database, gateway_ids(load.gateways, options.prefix), 0)
    else:
        folder = Path(open_things.enter_context(tempfile.TemporaryDirectory(prefix="wattgate-fleet-")))
        stage = open_things.enter_context(Stage(folder))
        keys, db = folder / "keys", options.db or f"sqlite:///{folder}/cloud.db"
        address = BrokerAddress(ADDRESS, stage_cloud(stage, db, keys, load, options.workers, options.prefix))
    fleet = Fleet(load, wiring_to(address, keys), options.prefix, None if options.json else _show_progress)
    is_late = asyncio.run(work(fleet))
    found = [] if not is_late else ["not everything was acknowledged in time"]
    if db is not None:
        with closing(open_existing(db)) as database:
            found += fleet.disagreements(database)
    _say(options, fleet, found)
    return EXIT_FOUND if found else 0


def stage_cloud(stage: Stage, db: str, keys: Path, load: Load, workers: int, prefix: str = "fleet") -> int:
    """A broker and a backend that knows a load's gateways; the broker's port."""
    generate_key_directory(keys)
    with closing(open_database(db)) as database:
        enroll_all(database, gateway_ids(load.gateways, prefix), 0)
    port = stage.start_mosquitto()
    stage.start_backend(db, port, keys, workers)
    return port


def wiring_to(address: BrokerAddress, keys: Path) -> Wiring:
    """How gateways reach a broker; their chance is their own each time."""
    allow_files()
    return Wiring(load_key_ring(keys / KEYRING_FILE), partial(_settings, address), random.SystemRandom().random)


def _settings(address: BrokerAddress, gateway_id: str, session: SyncSession) -> TransportSettings:
    return TransportSettings(gateway_id, (address,), session.topics(), session.will(), reconnect_seconds_min=0.2)


def allow_files() -> None:
    """Each connection is an open file: as many as this user may have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def work(fleet: Fleet) -> bool:
    """Connects, works, and says whether it took too long."""
    try:
        async with fleet.connected(WAITING_SECONDS):
            await fleet.run_slots(WAITING_SECONDS)
    except TimeoutError:
        return True
    return False


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 50 == 0 or done == total):
        sys.stderr.write(f"\r{done} of {total} slots" + ("\n" if done == total else ""))


def _say(options: argparse.Namespace, fleet: Fleet, found: list[str]) -> None:
    report = fleet.report.as_json()
    if options.json:
        print(json.dumps({**report, "disagreements": found}))
        return
    latency = ", ".join(f"{name} {value} ms" for name, value in report["latency_ms"].items())
    print(f"{report['gateways']} gateways of {report['meters']} meters connected in {report['connect_seconds']} s")
    print(f"{report['ledger_records']} ledger records in {report['seconds']} s: ", end="")
    print(f"{report['ledger_records_per_second']} a second, {report['readings_per_second']} readings a second")
    print(f"from commit to signed acknowledgement: {latency}")
    for sentence in found[:SHOWN_MAX]:
        print(f"DISAGREES  {sentence}")
    print(f"{len(found)} disagreements" if found else "both sides agree")


def _whole(least: int, most: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return parse


def _address(text: str) -> BrokerAddress:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return BrokerAddress(host.strip("[]"), int(port))
