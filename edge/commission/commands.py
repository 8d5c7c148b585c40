"""`wattgate commission`: one meter put into service, with a witness reading, a relay test and a signature.

`exchange` changes a meter of a running site: edge/commission/exchange_commands.py.

Exit status: 0 done, or a record that verifies; 1 the relay test failed, or a signature that does not fit; 2 bad
arguments, a line that cannot be opened or is held by the agent, a meter that is not the one that was meant: nothing
was recorded then.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus.records import LineSettings
from edge.bus.scan_records import Link
from edge.bus_tool.driver import Driver, LineLost
from edge.commission.entries import NewEntries, planned_book, store_book, with_known_serial
from edge.commission.exchange_record import SignedExchange, exchange_holds, read_any
from edge.commission.page import LANGUAGES, record_page, say, steps_text
from edge.commission.record import (
    LineFacts,
    Record,
    RecordError,
    RelayTest,
    SignedRecord,
    WitnessReading,
    fingerprint,
    load_key,
    load_public_key,
    make_key,
    record_json,
    sign,
    signature_holds,
)
from edge.commission.steps import (
    NotCommissioned,
    RelayPlace,
    Seen,
    agrees,
    close_again,
    relay_commands,
    relay_test,
    see_meter,
)
from edge.meter_tool.options import EXIT_BAD_INPUT, FORMATS, CommandError, help_of, known_model, print_line, whole
from edge.meter_tool.show import language_of
from edge.meters.model import MeterModel, ModelError
from edge.ports import PortOpener
from edge.store.site_book import AccountEntry, MeterEntry, RelayEntry, Site, SiteBook, SiteBookError
from hw.socket_port import in_language, opener_for

EXIT_NOT_GOOD = 1

COMMISSION_EXAMPLE = """example:
  wattgate commission key --out installer.pem
  wattgate commission meter --line /dev/ttyUSB0 --line-id line-1 --model eastron_sdm120 --device-id 7 \\
      --meter-id M07 --position "house 7" --account A07 --tariff demo-street@1 --display 1234.5 \\
      --site-book site.json --installer "Li Wei" --key installer.pem --out M07.json --page M07.html
  wattgate commission verify M07.json
"""
METER_EXAMPLE = """example:
  wattgate commission meter --line /dev/ttyUSB0 --line-id line-1 --model eastron_sdm120 --device-id 7 \\
      --meter-id M07 --account A07 --tariff demo-street@1 --relay R07:20:relay_board_8ch:6 --relay-test --yes \\
      --display 1234.5 --site-book site.json --installer "Li Wei" --key installer.pem --out M07.json
  wattgate commission meter ... --meter-id S1 --area AREA1 --supply --ct-ratio 40
"""
EXCHANGE_EXAMPLE = """example:
  wattgate commission exchange A07 --config /etc/wattgate/gateway.toml --meter-id M07B --display 0.0 \\
      --installer "Li Wei" --key installer.pem --out M07B.json --page M07B.html
  wattgate commission exchange A07 ... --last 1236.0 --last-at 2026-03-02T08:00+08:00     the old meter is dead
  wattgate commission exchange A07 ... --last 1300 --estimated --gap 12.5                 and nobody could read it
Stop the agent before (sudo systemctl stop wattgate) and start it again after; supply stays as it is meanwhile.
"""
VERIFY_EXAMPLE = """example:
  wattgate commission verify M07.json
  wattgate commission verify M07.json --public-key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
"""
KEY_EXAMPLE = """example:
  wattgate commission key --out installer.pem
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be commissioned, checked as far as that goes without the line."""

    model: MeterModel
    link: Link
    entries: NewEntries
    relay: RelayPlace | None
    key: Ed25519PrivateKey


def add_commission_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", version: str) -> None:
    """Adds `commission` and what is below it to the commands of `wattgate`, whose version a record names."""
    raw = argparse.RawDescriptionHelpFormatter
    commission = commands.add_parser(
        "commission", help="put a meter into service", epilog=COMMISSION_EXAMPLE, formatter_class=raw
    )
    commission.set_defaults(run=help_of(commission))
    below = commission.add_subparsers(title="commands", metavar="COMMAND")
    meter = below.add_parser("meter", help="record one meter", epilog=METER_EXAMPLE, formatter_class=raw)
    _add_meter_options(meter)
    meter.set_defaults(run=_guarded(_meter), version=version)
    exchange = below.add_parser(
        "exchange", help="change an account's meter for another", epilog=EXCHANGE_EXAMPLE, formatter_class=raw
    )
    _add_exchange_options(exchange)
    exchange.set_defaults(run=_guarded(_exchange), version=version)
    verify = below.add_parser("verify", help="check a record's signature", epilog=VERIFY_EXAMPLE, formatter_class=raw)
    verify.add_argument("file", type=Path, metavar="FILE", help="a commissioning record")
    verify.add_argument("--public-key", metavar="KEY", help="whose it must be: 64 hexadecimal digits, or a PEM file")
    _add_common_options(verify)
    verify.set_defaults(run=_guarded(_verify))
    key = below.add_parser("key", help="make an installer's key", epilog=KEY_EXAMPLE, formatter_class=raw)
    key.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new file for the private key")
    _add_common_options(key)
    key.set_defaults(run=_guarded(_key))


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the words (that of the shell)")


def _add_meter_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--line", required=True, metavar="LINE", help="/dev/ttyUSB0, tcp://host:port or rtu+tcp://host:port")
    add("--line-id", required=True, metavar="ID", help="the line's id in the gateway's configuration")
    add("--baud", type=whole(300, 1_000_000), metavar="B", help="baud rate (the model's from the factory)")
    add("--format", choices=FORMATS, metavar="8N1", help=f"{', '.join(FORMATS)} (the model's)")
    add("--timeout-ms", type=whole(10, 10_000), metavar="N", help="wait for an answer so long (500)")
    add("--model", required=True, metavar="ID", help="see `wattgate meter models`")
    add("--models", type=Path, metavar="DIR", help="a folder with model files of your own")
    add("--device-id", required=True, type=whole(1, 247), metavar="N", help="the meter's address")
    add("--meter-id", required=True, metavar="ID", help="its id in the site book")
    add("--serial", default="", metavar="TEXT", help="serial number on its plate, where it cannot be read")
    add("--position", default="", metavar="TEXT", help="where it hangs")
    add("--power-w-max", type=whole(1, 100_000_000), default=20_000, metavar="W", help="what its breaker lets through")
    add("--display", type=_decimal, metavar="KWH", help="what its display shows, in the unit of its register")
    add("--account", metavar="ID", help="the account it is charged to")
    add("--tariff", metavar="ID@V", help="the account's tariff")
    add("--area", metavar="ID", help="the transformer area it belongs to")
    add("--supply", action="store_true", help="it feeds the area")
    add("--area-meters", type=_names, default=(), metavar="ID,...", help="with --supply: the area's customers (all)")
    add("--ct-ratio", type=whole(1, 10_000), default=1, metavar="N", help="ratio of its current transformers (1)")
    add("--relay", type=_relay, metavar="ID:N:MODEL:C", help="relay id, its address, model and channel")
    add("--relay-test", action="store_true", help="open and close the relay once")
    add("--yes", action="store_true", help="the supply may be cut for the relay test")
    add("--site-book", required=True, type=Path, metavar="FILE", help="site.json of the gateway")
    add("--time-zone", metavar="ZONE", help="for a new site book, such as Asia/Shanghai")
    add("--currency", metavar="CODE", help="for a new site book, such as CNY")
    add("--installer", required=True, metavar="NAME", help="who signs")
    add("--key", required=True, type=Path, metavar="FILE", help="the installer's private key (Ed25519, PEM)")
    add("--out", required=True, type=Path, metavar="FILE", help="the record, a new file")
    add("--page", type=Path, metavar="FILE", help="the same as a page to print, a new file")
    _add_common_options(parser)


def _add_exchange_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("account", metavar="ACCOUNT", help="the account whose meter is changed")
    add("--config", required=True, type=Path, metavar="FILE", help="the gateway's TOML file")
    add("--meter-id", required=True, metavar="ID", help="the new meter's id in the site book")
    add("--model", metavar="ID", help="the new meter's model (that of the old one)")
    add("--device-id", type=whole(1, 247), metavar="N", help="the new meter's address (that of the old one)")
    add("--serial", default="", metavar="TEXT", help="its serial number, where it cannot be read")
    add("--display", type=_decimal, metavar="KWH", help="what its display shows, in the unit of its register")
    add(
        "--ct-ratio", type=whole(1, 10_000), metavar="N", help="ratio of its current transformers (that of the old one)"
    )
    add("--last", type=_decimal, metavar="KWH", help="the old meter's last register, where it cannot be read any more")
    add("--last-at", type=_moment, metavar="TIME", help="when that was, as 2026-03-02T08:00+08:00 (now)")
    add("--estimated", action="store_true", help="--last is an estimate")
    add("--gap", type=_decimal, metavar="KWH", help="an estimate of what was used between the two meters (nothing)")
    add("--timeout-ms", type=whole(10, 10_000), metavar="N", help="wait for an answer so long (500)")
    add("--installer", required=True, type=_name, metavar="NAME", help="who signs")
    add("--key", required=True, type=Path, metavar="FILE", help="the installer's private key (Ed25519, PEM)")
    add("--out", required=True, type=Path, metavar="FILE", help="the record, a new file")
    add("--page", type=Path, metavar="FILE", help="the same as a page to print, a new file")
    _add_common_options(parser)


# --- the commands ----------------------------------------------------------------------------


def _meter(options: argparse.Namespace) -> int:
    job = _job(options)
    planned_book(options.site_book, with_known_serial(options.site_book, job.entries))
    for path in filter(None, (options.out, options.page)):
        if path.exists():
            raise NotCommissioned("file_exists", file=path)
    seen, test = asyncio.run(_on_the_line(options, job))
    record = _record(options, job, seen, test)
    meter = msgspec.structs.replace(job.entries.meter, serial=record.serial)
    book = planned_book(options.site_book, replace(job.entries, meter=meter))
    signed = sign(record, job.key)
    _write_new(options.out, record_json(signed))
    if options.page is not None:
        _write_new(options.page, record_page(signed).encode())
    return _finished(options, signed, book)


def _finished(options: argparse.Namespace, signed: SignedRecord, book: SiteBook) -> int:
    """The book gets its rows last, and not at all after a relay test that failed."""
    test = signed.record.relay_test
    good = test is None or test.result == "passed"
    if good:
        store_book(options.site_book, book)
    if options.json:
        print_line(json.dumps(msgspec.to_builtins(signed), ensure_ascii=False))
    elif good:
        print_line(say(_language(options), "done.passed", meter=options.meter_id, file=options.out))
    else:
        assert test is not None
        steps = steps_text(_language(options), test)
        print_line(say(_language(options), "done.failed", meter=options.meter_id, steps=steps, file=options.out))
    return 0 if good else EXIT_NOT_GOOD


def _exchange(options: argparse.Namespace) -> int:
    # The whole gateway is known there; the other commands need not load it.
    from edge.commission.exchange_commands import Unusable, run_exchange

    try:
        return run_exchange(options, _language(options), options.version)
    except Unusable as error:
        raise CommandError(str(error)) from error


def _verify(options: argparse.Namespace) -> int:
    pinned = None if options.public_key is None else load_public_key(options.public_key)
    signed = read_any(options.file)
    key = signed.signature.public_key
    if isinstance(signed, SignedExchange):
        holds, meter_id = exchange_holds(signed), signed.record.new.meter_id
    else:
        holds, meter_id = signature_holds(signed), signed.record.meter_id
    status = "good" if holds else "bad"
    if status == "good" and pinned is not None and pinned != key:
        status = "other_key"
    if options.json:
        document = {"file": str(options.file), "status": status, "pinned": pinned is not None, "public_key": key,
                    "meter_id": meter_id, "installer": signed.record.installer}  # fmt: skip
        print_line(json.dumps(document, ensure_ascii=False))
    else:
        words = {"file": options.file, "installer": signed.record.installer, "fingerprint": fingerprint(key)}
        print_line(say(_language(options), f"verify.{status}", **words))
        if status == "good" and pinned is None:
            print_line(say(_language(options), "verify.unpinned"))
    return 0 if status == "good" else EXIT_NOT_GOOD


def _key(options: argparse.Namespace) -> int:
    public_key = make_key(options.out).public_key().public_bytes_raw().hex()
    words = {"file": str(options.out), "public_key": public_key, "fingerprint": fingerprint(public_key)}
    print_line(json.dumps(words) if options.json else say(_language(options), "key.made", **words))
    return 0


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command with everything that may be wrong as one sentence, and status 2."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except NotCommissioned as refusal:
            _tell(f"wattgate: {say(_language(options), f'refused.{refusal.code}', **refusal.values)}")
        except LineLost as problem:
            line, reason = getattr(options, "line", "--config"), in_language(str(problem), _language(options))
            _tell(f"wattgate: {say(_language(options), 'lost', line=line, reason=reason)}")
        except OSError as problem:
            _tell(f"wattgate: {in_language(problem.strerror or str(problem), _language(options))}")
        except (CommandError, RecordError, ModelError, SiteBookError) as error:
            _tell(f"wattgate: {error}")
        except KeyboardInterrupt:
            return 130  # as a shell says it of a program that Ctrl-C ended
        return EXIT_BAD_INPUT

    return run


# --- on the line -----------------------------------------------------------------------------


async def _on_the_line(options: argparse.Namespace, job: _Job) -> tuple[Seen, RelayTest | None]:
    """Who is there, whether the display agrees, and then the relay."""
    driver = _driver(options)
    answer_s = None if options.timeout_ms is None else options.timeout_ms / 1000
    try:
        seen = await driver.run(see_meter(driver.framing, job.link, options.device_id, job.model, answer_s))
        _check_seen(options, job, seen)
        test = None
        if options.relay_test and job.relay is not None:
            test = await _tested(options, job, driver, answer_s)
        return seen, test
    finally:
        await driver.close()


async def _tested(options: argparse.Namespace, job: _Job, driver: Driver, answer_s: float | None) -> RelayTest:
    """The relay test. Whatever interrupts it, the contact is told to close once more."""
    relay = job.relay
    assert relay is not None
    driver.permit(relay_commands(driver.framing, relay))
    try:
        return await driver.run(relay_test(driver.framing, job.link, relay, options.device_id, job.model, answer_s))
    except (OSError, asyncio.CancelledError):
        closed = False
        with suppress(OSError):
            closed = await driver.run(close_again(driver.framing, job.link, relay, answer_s))
        if not closed:
            _tell(f"wattgate: {say(_language(options), 'open_left', relay=relay.relay_id)}")
        raise


def _check_seen(options: argparse.Namespace, job: _Job, seen: Seen) -> None:
    read = seen.identity.get("serial")
    if read is not None and options.serial and options.serial != read:
        raise NotCommissioned("serial_differs", read=read, given=options.serial)
    if options.display is not None and not agrees(seen.register, options.display):
        unit = job.model.points[job.model.money_point or ""].unit
        raise NotCommissioned("display_differs", register=f"{seen.register:f}", unit=unit, display=options.display)


def _driver(options: argparse.Namespace) -> Driver:
    def opener(link: Link) -> PortOpener:
        return opener_for(options.line, link.baud, link.format)

    try:
        opener(Link(9600, "8N1"))
    except ValueError as problem:
        raise RecordError(str(problem)) from problem
    return Driver(LineSettings("commission", options.line).framing, opener, lambda note: None)


# --- what is to be recorded ------------------------------------------------------------------


def _job(options: argparse.Namespace) -> _Job:
    for code, wrong in (
        ("account_needs_tariff", options.account and not options.tariff),
        ("supply_needs_area", options.supply and not options.area),
        ("supply_and_account", options.supply and options.account),
        ("test_needs_relay", options.relay_test and not options.relay),
        ("not_confirmed", options.relay_test and not options.yes),
    ):
        if wrong:
            raise NotCommissioned(code)
    model = known_model(options.model, options.models)
    if model.money_point is None:
        raise NotCommissioned("model_unusable", model=model.id)
    relay = None
    if options.relay:
        relay_id, device_id, name, channel = options.relay
        relay = RelayPlace(relay_id, device_id, known_model(name, options.models), channel)
        if options.relay_test:
            _ = relay_commands(_driver(options).framing, relay)  # refused before anything is asked
    link = Link(options.baud or model.link.default_baud, options.format or model.link.default_format)
    return _Job(model, link, _entries(options, model, relay), relay, load_key(options.key))


def _entries(options: argparse.Namespace, model: MeterModel, relay: RelayPlace | None) -> NewEntries:
    meter = MeterEntry(
        options.meter_id, options.line_id, options.device_id, model.id, options.position, options.serial,
        options.power_w_max, None if relay is None else relay.relay_id,
        ct_ratio=1 if options.supply else options.ct_ratio,
    )  # fmt: skip
    return NewEntries(
        meter=meter,
        relay=None if relay is None else RelayEntry(
            relay.relay_id, options.line_id, relay.device_id, relay.model.id, relay.channel
        ),
        account=None if not options.account else AccountEntry(options.account, options.meter_id, options.tariff),
        area_id=options.area,
        feeds_area=options.supply,
        area_meter_ids=options.area_meters,
        ct_ratio=options.ct_ratio,
        site=Site(options.time_zone, options.currency) if options.time_zone and options.currency else None,
    )  # fmt: skip


def _record(options: argparse.Namespace, job: _Job, seen: Seen, test: RelayTest | None) -> Record:
    serial = seen.identity.get("serial", options.serial)
    point = job.model.points[job.model.money_point or ""]
    is_serial = "://" not in options.line
    role: Literal["supply", "customer"] = "supply" if options.supply else "customer"
    return Record(
        meter_id=options.meter_id,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        wattgate=options.version,
        line=LineFacts(options.line_id, options.line, job.link.baud if is_serial else None,
                       job.link.format if is_serial else None, options.device_id),
        model=job.model.id,
        serial=serial,
        identity=dict(seen.identity),
        position=options.position,
        ct_ratio=options.ct_ratio,
        account=options.account,
        area=options.area,
        area_role=None if options.area is None else role,
        relay=None if job.relay is None else job.relay.relay_id,
        witness=WitnessReading(
            point.name, point.unit, f"{seen.register:f}", None if options.display is None else f"{options.display:f}",
            None if options.display is None else True, dict(seen.voltages),
        ),
        relay_test=test,
        installer=options.installer,
    )  # fmt: skip


# --- options and output ----------------------------------------------------------------------


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not ID,ID,...")
    return names


def _relay(text: str) -> tuple[str, int, str, int]:
    parts = text.split(":")
    if len(parts) != 4 or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not ID:ADDRESS:MODEL:CHANNEL")
    return parts[0], whole(1, 247)(parts[1]), parts[2], whole(0, 255)(parts[3])


def _decimal(text: str) -> Decimal:
    if not text.isascii() or not text.replace(".", "", 1).isdigit() or len(text) > 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not a reading such as 1234.5")
    return Decimal(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.year < 2000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time with its zone such as 2026-03-02T08:00+08:00")
    return moment


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is needed")
    return text


def _write_new(path: Path, data: bytes) -> None:
    """A new file that survives a power cut. Raises OSError."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _language(options: argparse.Namespace) -> str:
    return options.lang or language_of(os.environ)


def _tell(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()
