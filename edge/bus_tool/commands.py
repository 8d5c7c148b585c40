"""`wattgate bus`: who is on a line and what is wrong with it, and a meter's address or speed changed with a witness.

LINE is a device path, tcp://host:port (Modbus TCP) or rtu+tcp://host:port (RTU through a transparent server). Exit
status: 0 done and all well; 1 nobody found, a fault diagnosed, a change that was not made; 2 bad arguments, a line that
cannot be opened or is held by the agent, a change that is refused before anything is written.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edge.bus.dlt645 import Dlt645Framing
from edge.bus.frame import FRAMINGS, framing_of
from edge.bus.records import LineSettings
from edge.bus.scan import ScanOrder, all_bauds, factory_links, scan
from edge.bus.scan_dlt645 import ANSWER_S, BAUDS, FORMAT, USUAL_BAUDS, AddressOrder, search
from edge.bus.scan_records import Link, Note, ScanReport, Talk
from edge.bus_tool.change import (
    CannotChange,
    ChangePlan,
    ChangeReport,
    Place,
    Witness,
    all_writes,
    carry_out,
    look,
    plan_address,
    plan_baud,
    stored_number,
    take_witness,
)
from edge.bus_tool.change_file import (
    DEFAULT_FILE,
    ChangeFileError,
    OpenChange,
    open_change,
    read_change,
    remove_change,
    write_change,
)
from edge.bus_tool.doctor import REPEATS, doctor_json, doctor_text
from edge.bus_tool.driver import Driver, LineLost
from edge.bus_tool.show import LANGUAGES, change_json, note_text, place_json, place_text, say, scan_json, scan_text
from edge.meter_tool.options import EXIT_BAD_INPUT, FORMATS, CommandError, help_of, known_model, print_line, whole
from edge.meter_tool.show import language_of
from edge.meters.model import MeterModel, ModelError, load_model, model_files
from edge.meters.records import DLT645, MODBUS, PROTOCOLS
from edge.ports import PortOpener
from hw.port_facts import port_facts
from hw.serial_facts import serial_facts
from hw.socket_port import Direction, in_language, line_warnings, opener_for

EXIT_NOT_WELL = 1
_WAIT_S = 120
_IDS_MAX = 247
_DLT645_MODELS = ("dlt645_2007", "dlt645_2007_3p")

BUS_EXAMPLE = """example:
  wattgate bus scan --line /dev/ttyUSB0
  wattgate bus set-address --line /dev/ttyUSB0 --model eastron_sdm630 --device-id 1 --to 7
  wattgate bus doctor --line /dev/ttyUSB0
"""
SCAN_EXAMPLE = """example:
  wattgate bus scan --line /dev/ttyUSB0                       settings from the factory, all addresses
  wattgate bus scan --line /dev/ttyUSB0 --quick               only addresses that installers give first
  wattgate bus scan --line /dev/ttyUSB0 --baud all --ids 1-50,100 --json
  wattgate bus scan --line tcp://10.0.0.5:502
  wattgate bus scan --line /dev/ttyUSB0 --protocol dlt645     meters of DL/T 645, by their twelve digits
"""
ADDRESS_EXAMPLE = """example:
  wattgate bus set-address --line /dev/ttyUSB0 --model eastron_sdm630 --device-id 1 --to 7
  wattgate bus set-address --line /dev/ttyUSB0 --baud 9600 --model eastron_sdm120 --device-id 1 --to 7 --yes --json
"""
BAUD_EXAMPLE = """example:
  wattgate bus set-baud --line /dev/ttyUSB0 --baud 2400 --model eastron_sdm120 --device-id 1 --to 9600
"""
RECOVER_EXAMPLE = """example:
  wattgate bus recover --line /dev/ttyUSB0       after a power cut in the middle of a change: where is the meter?
"""
DOCTOR_EXAMPLE = """example:
  wattgate bus doctor --line /dev/ttyUSB0 --baud 9600 --ids 1-12
  wattgate bus doctor --line /dev/ttyUSB0 --json > report.json
"""


def add_bus_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", version: str) -> None:
    """Adds `bus` and what is below it to the commands of `wattgate`, whose version a report names."""
    raw = argparse.RawDescriptionHelpFormatter
    bus = commands.add_parser(
        "bus", help="scan a line, set a meter's address or speed", epilog=BUS_EXAMPLE, formatter_class=raw
    )
    bus.set_defaults(run=help_of(bus))
    below = bus.add_subparsers(title="commands", metavar="COMMAND")

    find = below.add_parser("scan", help="who is on the line", epilog=SCAN_EXAMPLE, formatter_class=raw)
    _add_search_options(find)
    find.add_argument("--quick", action="store_true", help="only the addresses that installers give first")
    find.add_argument("--protocol", choices=PROTOCOLS, default=MODBUS, help="what the meters speak (modbus)")
    find.set_defaults(run=_guarded(_scan))

    doctor = below.add_parser("doctor", help="a report to send", epilog=DOCTOR_EXAMPLE, formatter_class=raw)
    _add_search_options(doctor)
    doctor.set_defaults(run=_guarded(_doctor), version=version)

    for name, what, number, example in (
        ("set-address", "give a meter another address", whole(1, _IDS_MAX), ADDRESS_EXAMPLE),
        ("set-baud", "give a meter another baud rate", whole(300, 1_000_000), BAUD_EXAMPLE),
    ):
        change = below.add_parser(name, help=what, epilog=example, formatter_class=raw)
        _add_change_options(change, number)
        change.set_defaults(run=_guarded(partial(_change, name)))

    recover = below.add_parser("recover", help="find a meter again", epilog=RECOVER_EXAMPLE, formatter_class=raw)
    _add_line(recover)
    _add_file(recover)
    _add_common_options(recover)
    recover.set_defaults(run=_guarded(_recover))


def _add_line(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--line", required=True, metavar="LINE", help="/dev/ttyUSB0, tcp://host:port or rtu+tcp://host:port")
    add("--timeout-ms", type=whole(10, 10_000), metavar="N",
        help="wait for an answer so long (500, or what the models need)")  # fmt: skip
    add("--local-echo", action="store_true", help="the adapter hears itself: each answer stands behind the request")
    add("--direction", choices=("adapter", "kernel", "rts"), default="adapter",
        help="who turns an RS-485 line around (adapter)")  # fmt: skip
    add("--rts-when-sending", choices=("high", "low"), default="high", help="for --direction kernel and rts (high)")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--journal", type=Path, default=DEFAULT_FILE, metavar="FILE",
                        help=f"where a change under way is kept ({DEFAULT_FILE})")  # fmt: skip


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, metavar="DIR", help="a folder with model files of your own")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the words (that of the shell)")


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    _add_line(parser)
    add = parser.add_argument
    add("--baud", type=_bauds, metavar="B,...|all", help="baud rates (those that meters have from the factory)")
    add("--format", type=_formats, metavar="8N1,...", help="8N1, 8E1 and so on (those from the factory)")
    add("--ids", type=_ids, metavar="1-247", help="addresses, such as 1-20,100 (1-247)")
    _add_common_options(parser)


def _add_change_options(parser: argparse.ArgumentParser, number: Callable[[str], int]) -> None:
    _add_line(parser)
    add = parser.add_argument
    add("--model", required=True, metavar="ID", help="see `wattgate meter models`")
    add("--device-id", required=True, type=whole(1, _IDS_MAX), metavar="N", help="where the meter answers")
    add("--to", required=True, type=number, metavar="N", help="the new address or baud rate")
    add("--baud", type=whole(300, 1_000_000), metavar="B", help="baud rate (the model's from the factory)")
    add("--format", choices=FORMATS, metavar="8N1", help=f"{', '.join(FORMATS)} (the model's)")
    add("--yes", action="store_true", help="write without asking")
    add("--wait-s", type=whole(0, 3600), metavar="S",
        help=f"look for the meter so long ({_WAIT_S} where its model wants a power cycle, else 0)")  # fmt: skip
    _add_file(parser)
    _add_common_options(parser)


# --- scan and doctor -------------------------------------------------------------------------


def _scan(options: argparse.Namespace) -> int:
    if options.protocol == DLT645:
        talk = search(_address_order(options))
    else:
        talk = scan(_order(options, quick_only=options.quick))
    report, seconds, _ = asyncio.run(_searched(options, talk))
    if options.json:
        print_line(json.dumps(scan_json(options.line, report, seconds), ensure_ascii=False))
    else:
        print_line(scan_text(_language(options), report, seconds, quick_only=options.quick))
    return 0 if report.found and not report.diagnoses else EXIT_NOT_WELL


def _doctor(options: argparse.Namespace) -> int:
    order = _order(options, quick_only=True, repeats=REPEATS, first_ids=options.ids)
    report, seconds, opened = asyncio.run(_searched(options, scan(order)))
    facts = port_facts(options.line)
    system = {"wattgate": options.version, "system": f"{platform.system()} {platform.release()} {platform.machine()}",
              "python": platform.python_version()}  # fmt: skip
    if options.json:
        document = doctor_json(options.line, report, facts, system, opened, seconds)
        print_line(json.dumps(document, ensure_ascii=False))
    else:
        print_line(doctor_text(_language(options), options.line, report, facts, system, opened, seconds))
    return 0 if report.found and not report.diagnoses else EXIT_NOT_WELL


async def _searched(options: argparse.Namespace, talk: Talk[ScanReport]) -> tuple[ScanReport, float, int]:
    """The report, how long it took, and how often the line was opened."""
    started = time.monotonic()
    driver = _driver(options, _progress(options))
    try:
        report = await driver.run(talk)
    finally:
        await driver.close()
    return report, time.monotonic() - started, driver.opened


def _order(options: argparse.Namespace, **more: Any) -> ScanOrder:
    models = _all_models(options)
    framing = FRAMINGS[_settings(options).framing]
    return ScanOrder(framing, _links(options, models), options.ids or tuple(range(1, _IDS_MAX + 1)), models,
                     answer_s=_answer_s(options), **more)  # fmt: skip


def _address_order(options: argparse.Namespace) -> AddressOrder:
    """Where meters of DL/T 645 are looked for."""
    if options.ids:
        raise CommandError("--ids: belongs to protocol modbus; meters of dlt645 are found by wildcards")
    if options.line.startswith("tcp://"):
        raise CommandError(f"--line: {options.line} is Modbus TCP; a transparent server is rtu+tcp://host:port")
    links: tuple[Link, ...] = (Link(USUAL_BAUDS[0], ""),)
    if _is_serial(options):
        bauds = {None: USUAL_BAUDS, "all": BAUDS}.get(options.baud) or options.baud
        links = tuple(Link(baud, format) for format in options.format or (FORMAT,) for baud in bauds)
    elif options.baud or options.format:
        raise CommandError(f"{options.line}: speed and format are set at the server")
    framing = framing_of(_settings(options).framing)
    assert isinstance(framing, Dlt645Framing)
    models = tuple(known_model(name, options.models, (DLT645,)) for name in _DLT645_MODELS)
    return AddressOrder(framing, links, models, options.quick, _answer_s(options) or ANSWER_S)


def _answer_s(options: argparse.Namespace) -> float | None:
    return None if options.timeout_ms is None else options.timeout_ms / 1000


def _with_time(options: argparse.Namespace, plan: ChangePlan) -> ChangePlan:
    answer_s = _answer_s(options)
    return plan if answer_s is None else replace(plan, answer_s=answer_s)


def _links(options: argparse.Namespace, models: Sequence[MeterModel]) -> tuple[Link, ...]:
    """Where to look: what was asked for, else what meters have from the factory."""
    if not _is_serial(options):
        if options.baud or options.format:
            raise CommandError(f"{options.line}: speed and format are set at the server; --baud and --format are not "
                               "used with a TCP line")  # fmt: skip
        return (Link(9600, ""),)
    factory = factory_links(models)
    if serial_facts(options.line).is_mini_uart:  # it has no parity: such links cannot be opened at all
        factory = tuple(link for link in factory if "N" in link.format)
    if options.baud is None:
        chosen = [link for link in factory if options.format is None or link.format in options.format]
        return tuple(chosen) or tuple(Link(9600, format) for format in options.format)
    bauds = all_bauds(models) if options.baud == "all" else options.baud
    formats = options.format or dict.fromkeys(link.format for link in factory if link.format != "8N2")
    return tuple(Link(baud, format) for format in formats for baud in bauds)


def _all_models(options: argparse.Namespace) -> tuple[MeterModel, ...]:
    models = (load_model(name, options.models) for name in model_files(options.models))
    return tuple(model for model in models if model.protocol == MODBUS)


# --- changes ---------------------------------------------------------------------------------


def _change(command: str, options: argparse.Namespace) -> int:
    model = known_model(options.model, options.models)
    link = Link(options.baud or model.link.default_baud, options.format or model.link.default_format)
    if not _is_serial(options):
        link = Link(link.baud, "")
    before = Place(options.device_id, link)
    if command == "set-address":
        plan = plan_address(model, before, options.to)
    else:
        plan = plan_baud(model, before, options.to)
        if not _is_serial(options):
            raise CannotChange("baud_on_tcp")
    plan = _with_time(options, plan)
    known = read_change(options.journal)
    if known is not None:
        raise CannotChange("change_open", file=options.journal, line=known.line, before=place_text(known.before),
                           after=place_text(known.after))  # fmt: skip
    witness, report = asyncio.run(_changed(options, plan))
    language = _language(options)
    if options.json:
        print_line(json.dumps(change_json(options.line, plan, witness, report), ensure_ascii=False))
    else:
        place = "" if report.seen_at is None else place_text(report.seen_at)
        print_line(say(language, f"change.{report.status}", place=place, reason=report.reason, file=options.journal))
    return 0 if report.status == "confirmed" else EXIT_NOT_WELL


async def _changed(options: argparse.Namespace, plan: ChangePlan) -> tuple[Witness, ChangeReport]:
    driver = _driver(options, lambda note: None)
    try:
        witness = await driver.run(take_witness(driver.framing, plan))
        await driver.close()  # nobody holds the line while a person thinks
        _confirm(options, plan, witness)
        write_change(options.journal, open_change(options.line, plan, witness))
        wait_s = options.wait_s if options.wait_s is not None else _WAIT_S if plan.activation else 0
        if wait_s:
            _tell(say(_language(options), "wait", seconds=wait_s))
        driver.permit(all_writes(plan, driver.framing))
        report = await driver.run(carry_out(driver.framing, plan, witness, float(wait_s)))
    finally:
        await driver.close()
    if report.status in ("confirmed", "rolled_back", "refused"):
        remove_change(options.journal)
    else:
        write_change(options.journal, open_change(options.line, plan, witness, report.status))
    return witness, report


def _confirm(options: argparse.Namespace, plan: ChangePlan, witness: Witness) -> None:
    """Shows the meter and what is to be written. Raises CannotChange unless somebody says yes."""
    language = _language(options)
    unit = plan.model.points[plan.model.money_point or ""].unit
    serial = witness.serial or say(language, "no_serial")
    energy = say(language, "no_serial") if witness.energy is None else f"{witness.energy.normalize():f} {unit}"
    name = f"{plan.model.vendor} {plan.model.name}"
    _tell(say(language, "witness", model=name, serial=serial, energy=energy))
    before, after = (
        (place.device_id if plan.setting == "address" else place.link.baud) for place in (plan.before, plan.after)
    )
    _tell(say(language, f"plan.{plan.setting}", before=before, after=after))
    if plan.activation:
        _tell(say(language, "plan.activation", activation=plan.activation))
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise CannotChange("not_confirmed")
    sys.stderr.write(say(language, "plan.ask"))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("yes", "y", "是"):
        raise CannotChange("not_confirmed")


def _recover(options: argparse.Namespace) -> int:
    change = read_change(options.journal)
    if change is None:
        raise CannotChange("no_change_open", file=options.journal)
    if change.line != options.line:
        raise CannotChange("other_line", file=options.journal, line=change.line)
    options.model = change.model
    where, place = asyncio.run(_found_again(options, change, known_model(options.model, options.models)))
    if where in ("after", "before"):
        remove_change(options.journal)
    if options.json:
        answers_at = None if place is None else place_json(place)
        document = {"line": change.line, "model": change.model, "setting": change.setting, "status": where,
                    "answers_at": answers_at}  # fmt: skip
        print_line(json.dumps(document, ensure_ascii=False))
    else:
        print_line(say(_language(options), f"recover.{where}", place="" if place is None else place_text(place),
                 before=place_text(change.before), after=place_text(change.after), file=options.journal))  # fmt: skip
    return 0 if where in ("after", "before") else EXIT_NOT_WELL


async def _found_again(options: argparse.Namespace, change: OpenChange, model: MeterModel) -> tuple[str, Place | None]:
    """after, before, pending or lost, and where the meter answers. Only reads."""
    new = change.after.device_id if change.setting == "address" else change.after.link.baud
    plan = _with_time(options, (plan_address if change.setting == "address" else plan_baud)(model, change.before, new))
    driver = _driver(options, lambda note: None)
    try:
        if await driver.run(look(driver.framing, plan, change.after, change.witness)) == "same":
            return "after", change.after
        if await driver.run(look(driver.framing, plan, change.before, change.witness)) != "same":
            return "lost", None
        pending = await driver.run(stored_number(driver.framing, plan)) == plan.number
        return ("pending" if pending else "before"), change.before
    finally:
        await driver.close()


# --- what all of them need -------------------------------------------------------------------


def _driver(options: argparse.Namespace, on_note: Callable[[Note], None]) -> Driver:
    try:
        direction = Direction(options.direction, options.rts_when_sending)
        opener_for(options.line, 9600, "8N1", direction)
    except ValueError as problem:
        raise CommandError(str(problem)) from problem
    for warning in line_warnings(options.line, "8N1", direction):
        _tell(f"wattgate: {warning.text(_language(options))}")

    def opener(link: Link) -> PortOpener:
        return opener_for(options.line, link.baud, link.format, direction)

    return Driver(_settings(options).framing, opener, on_note)


def _settings(options: argparse.Namespace) -> LineSettings:
    protocol = getattr(options, "protocol", MODBUS)
    return LineSettings("bus", options.line, local_echo=options.local_echo, protocol=protocol)


def _progress(options: argparse.Namespace) -> Callable[[Note], None]:
    return lambda note: _tell(note_text(_language(options), note))


def _is_serial(options: argparse.Namespace) -> bool:
    return "://" not in options.line


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command with everything that may be wrong as one sentence, and status 2."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except CannotChange as refusal:
            _tell(f"wattgate: {say(_language(options), f'refused.{refusal.code}', **refusal.values)}")
        except LineLost as problem:
            reason = in_language(str(problem), _language(options))
            _tell(f"wattgate: {say(_language(options), 'lost', line=options.line, reason=reason)}")
            _tell_open_change(options)
            return EXIT_NOT_WELL
        except OSError as problem:
            _tell(f"wattgate: {in_language(problem.strerror or str(problem), _language(options))}")
        except (CommandError, ModelError, ChangeFileError) as error:
            _tell(f"wattgate: {error}")
        except KeyboardInterrupt:
            _tell_open_change(options)
            return 130  # as a shell says it of a program that Ctrl-C ended
        return EXIT_BAD_INPUT

    return run


def _tell_open_change(options: argparse.Namespace) -> None:
    """A change that was cut short: where to go on from."""
    journal: Path | None = getattr(options, "journal", None)
    if journal is not None and journal.exists():
        _tell(f"wattgate: {say(_language(options), 'change.cut_short', file=journal)}")


# --- options and output ----------------------------------------------------------------------


def _bauds(text: str) -> tuple[int, ...] | str:
    if text == "all":
        return text
    number = whole(300, 1_000_000)
    return tuple(dict.fromkeys(number(part) for part in text.split(",")))


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(text.split(",")))
    for format in formats:
        if format not in FORMATS:
            raise argparse.ArgumentTypeError(f"{format!r} is none of {', '.join(FORMATS)}")
    return formats


def _ids(text: str) -> tuple[int, ...]:
    """1-20,100 as numbers, each once, in order."""
    number = whole(1, _IDS_MAX)
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low = number(first)
        high = number(last) if dash else low
        if high < low:
            raise argparse.ArgumentTypeError(f"{part!r} ends before it begins")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _language(options: argparse.Namespace) -> str:
    return options.lang or language_of(os.environ)


def _tell(text: str) -> None:
    """To standard error: progress, questions and complaints are no result."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()
