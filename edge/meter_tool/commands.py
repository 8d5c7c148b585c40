"""`wattgate meter`: read a meter once or again and again, list the models, check a model file.

LINE is a device path, tcp://host:port (Modbus TCP) or rtu+tcp://host:port (RTU through a transparent
server). Exit status: 0 done, 1 a point could not be read, 2 bad arguments, a model file that cannot be
used, or a line that cannot be opened; said in one sentence on standard error.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edge.bus.frame import framing_of
from edge.bus.records import LineSettings
from edge.bus.transaction import Timing
from edge.meter_tool.options import EXIT_BAD_INPUT, CommandError, help_of, known_model, print_line, whole
from edge.meter_tool.reading import MeterReader, MeterReading
from edge.meter_tool.show import (
    LANGUAGES,
    language_of,
    model_json,
    model_text,
    models_text,
    reading_json,
    reading_text,
    say,
)
from edge.meters.model import MeterModel, ModelError, load_model, model_files, read_model_file
from edge.meters.records import DLT645, MODBUS, PROTOCOLS
from edge.ports import PortOpener
from hw.socket_port import Direction, in_language, line_warnings, opener_for

EXIT_POINT_FAILED = 1
_TIMEOUT_MS = 500
_DRAIN_SILENCE_MS = 550
_DLT645_MODEL = "dlt645_2007"
_ADDRESS_DIGITS, _BROADCAST = 12, 999_999_999_999
_FORMATS = ("8N1", "8N2", "8E1", "8E2", "8O1", "8O2")

METER_EXAMPLE = """example:
  wattgate meter models
  wattgate meter read --line /dev/ttyUSB0 --model eastron_sdm120 --device-id 1
"""
READ_EXAMPLE = """example:
  wattgate meter read --line /dev/ttyUSB0 --baud 9600 --format 8N1 --device-id 1 --model eastron_sdm630
  wattgate meter read --line tcp://10.0.0.5:502 --device-id 3 --model abb_b23 --points energy_import_total,frequency
  wattgate meter read --line rtu+tcp://10.0.0.6:4001 --device-id 7 --model chint_dtsu666 --json
  wattgate meter read --line /dev/ttyAMA0 --direction kernel --model eastron_sdm120
  wattgate meter read --line /dev/ttyUSB0 --protocol dlt645 --address 320100000147
"""
WATCH_EXAMPLE = """example:
  wattgate meter watch --line /dev/ttyUSB0 --device-id 1 --model eastron_sdm120 --points power_total --every 2
Ctrl-C ends it.
"""
MODELS_EXAMPLE = """example:
  wattgate meter models                      all of them, a line each
  wattgate meter models eastron_sdm630       its points, its hazards, its sources
  wattgate meter models --json
"""
CHECK_EXAMPLE = """example:
  wattgate meter check my_meter.toml         0: a good file; 2: the key, what is there, what may be
  wattgate meter check my_models/            every file of a folder, as the gateway reads it
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """What to read, and where."""

    model: MeterModel
    device_id: int
    names: tuple[str, ...]
    settings: LineSettings
    timing: Timing
    opener: PortOpener
    merge: bool

    def reader(self) -> MeterReader:
        """A reader that has asked nothing yet."""
        framing = framing_of(self.settings.framing)
        return MeterReader(self.model, self.device_id, self.names, framing, self.timing, merge=self.merge)


def add_meter_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `meter` and what is below it to the commands of `wattgate`."""
    raw = argparse.RawDescriptionHelpFormatter
    meter = commands.add_parser(
        "meter", help="read a meter, list and check meter models", epilog=METER_EXAMPLE, formatter_class=raw
    )
    meter.set_defaults(run=help_of(meter))
    below = meter.add_subparsers(title="commands", metavar="COMMAND")

    read = below.add_parser("read", help="read a meter once", epilog=READ_EXAMPLE, formatter_class=raw)
    _add_line_options(read)
    read.set_defaults(run=_guarded(_read))

    watch = below.add_parser("watch", help="read it again and again", epilog=WATCH_EXAMPLE, formatter_class=raw)
    _add_line_options(watch)
    watch.add_argument(
        "--every", type=_seconds, default=5.0, metavar="S", help="seconds from one start to the next (5)"
    )
    watch.add_argument("--count", type=whole(1, 10**9), metavar="N", help="end after N readings")
    watch.set_defaults(run=_guarded(_watch))

    models = below.add_parser("models", help="the meter models", epilog=MODELS_EXAMPLE, formatter_class=raw)
    models.add_argument("model", nargs="?", metavar="ID", help="only this one, with all its points")
    _add_common_options(models)
    models.set_defaults(run=_guarded(_models))

    check = below.add_parser("check", help="check a model file", epilog=CHECK_EXAMPLE, formatter_class=raw)
    check.add_argument("file", type=Path, metavar="FILE", help="a model file, or a folder of them")
    check.add_argument("--json", action="store_true", help="print one JSON object a file")
    check.add_argument("--lang", choices=LANGUAGES, help="language of the words (that of the shell)")
    check.set_defaults(run=_guarded(_check))


def _add_line_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--line", required=True, metavar="LINE", help="/dev/ttyUSB0, tcp://host:port or rtu+tcp://host:port")
    add("--baud", type=whole(300, 1_000_000), metavar="B", help="baud rate (the model's from the factory)")
    add("--format", choices=_FORMATS, metavar="8N1", help=f"{', '.join(_FORMATS)} (the model's)")
    add("--local-echo", action="store_true", help="the adapter hears itself: each answer stands behind the request")
    add("--direction", choices=("adapter", "kernel", "rts"), default="adapter",
        help="who turns an RS-485 line around (adapter)")  # fmt: skip
    add("--rts-when-sending", choices=("high", "low"), default="high", help="for --direction kernel and rts (high)")
    add("--protocol", choices=PROTOCOLS, help="what the meter speaks (as its model; without a model modbus)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device-id", type=whole(1, 247), metavar="N", help="device id, 1 to 247 (the model's)")
    where.add_argument("--address", type=_address, metavar="DIGITS", help="the 12 digits of a dlt645 meter")
    add("--model", metavar="ID", help=f"see `wattgate meter models` (of protocol dlt645: {_DLT645_MODEL})")
    add("--points", type=_names, metavar="NAME,...", help="what to read (all points of the model)")
    add("--merge", action="store_true", help="read neighbours with one request, as the gateway does")
    add("--timeout-ms", type=whole(10, 10_000), metavar="N",
        help=f"wait for an answer so long ({_TIMEOUT_MS}, or what the model needs)")  # fmt: skip
    _add_common_options(parser)


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, metavar="DIR", help="a folder with model files of your own")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a reading")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the words (that of the shell)")


# --- the commands ----------------------------------------------------------------------------


def _read(options: argparse.Namespace) -> int:
    return asyncio.run(_read_again_and_again(_job(options), options, every_s=0.0, count=1))


def _watch(options: argparse.Namespace) -> int:
    with suppress(KeyboardInterrupt):
        return asyncio.run(_read_again_and_again(_job(options), options, every_s=options.every, count=options.count))
    return 0


def _models(options: argparse.Namespace) -> int:
    language = _language(options)
    if options.model is not None:
        model = known_model(options.model, options.models, PROTOCOLS)
        print_line(json.dumps(model_json(model), ensure_ascii=False) if options.json else model_text(language, model))
        return 0
    models = [load_model(name, options.models) for name in model_files(options.models)]
    if options.json:
        print_line(json.dumps([model_json(model) for model in models], ensure_ascii=False))
    else:
        print_line(models_text(language, models))
    return 0


def _check(options: argparse.Namespace) -> int:
    files: Sequence[Path] = [options.file]
    built_in = model_files()
    if options.file.is_dir():
        files = sorted(options.file.glob("*.toml"))
        if not files:
            raise CommandError(f"{options.file}: no model file in it; a model file is called NAME.toml")
        model_files(options.file)  # refuses an id that exists twice
    problems = 0
    for path in files:
        try:
            model = read_model_file(path)
        except ModelError as problem:
            problems += 1
            fault = {"file": str(path), "ok": False, "key": problem.key, "found": str(problem.found)}
            if options.json:
                print_line(json.dumps({**fault, "allowed": problem.allowed}, ensure_ascii=False))
            else:
                sys.stderr.write(f"wattgate: {problem}\n")
            continue
        own = model.id in built_in and not path.samefile(built_in[model.id])
        if options.json:
            good = {"file": str(path), "ok": True, "id": model.id, "points": len(model.points), "id_is_built_in": own}
            print_line(json.dumps(good, ensure_ascii=False))
        else:
            key = "good_built_in" if own else "good"
            print_line(say(_language(options), key, file=path, id=model.id, points=len(model.points)))
    return EXIT_BAD_INPUT if problems else 0


def _guarded(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command with everything that may be wrong as one sentence and status 2."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except (CommandError, ModelError) as error:
            sys.stderr.write(f"wattgate: {error}\n")
            return EXIT_BAD_INPUT
        except KeyboardInterrupt:
            return 130  # as a shell says it of a program that Ctrl-C ended

    return run


# --- reading ---------------------------------------------------------------------------------


async def _read_again_and_again(job: _Job, options: argparse.Namespace, every_s: float, count: int | None) -> int:
    loop = asyncio.get_running_loop()
    reader, opened = job.reader(), asyncio.Event()
    serving = loop.create_task(reader.serve(job.opener, opened))
    serving.add_done_callback(lambda task: opened.set())
    status, done, due = 0, 0, loop.time()
    try:
        await opened.wait()
        if serving.done() and (problem := serving.exception()) is not None:
            raise _cannot_open(problem, _language(options))
        while True:
            reading = await reader.read()
            if not reader.is_open:
                await serving  # a bug keeps its trace
            _say_reading(job, options, reading)
            status = EXIT_POINT_FAILED if reading.failed else status
            done += 1
            if reader.lost is not None and (reading.failed or done != count):
                address = job.settings.address
                reason = in_language(reader.lost, _language(options))
                sys.stderr.write(f"wattgate: {say(_language(options), 'lost', line=address, reason=reason)}\n")
                return EXIT_POINT_FAILED
            if done == count:
                return status
            due = max(due + every_s, loop.time())
            await asyncio.sleep(due - loop.time())
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _cannot_open(problem: BaseException, language: str) -> BaseException:
    """A line that cannot be opened is bad input; anything else is a bug and keeps its trace."""
    if not isinstance(problem, OSError):
        return problem
    return CommandError(in_language(problem.strerror or str(problem), language))


def _say_reading(job: _Job, options: argparse.Namespace, reading: MeterReading) -> None:
    if options.json:
        print_line(json.dumps(reading_json(job.model, job.device_id, reading), ensure_ascii=False))
    else:
        print_line(reading_text(_language(options), job.model, job.device_id, reading))


def _job(options: argparse.Namespace) -> _Job:
    model = _model(options)
    link = model.link
    baud, format = options.baud or link.default_baud, options.format or link.default_format
    timeout_ms = options.timeout_ms or max(_TIMEOUT_MS, 1.1 * (link.max_response_ms or 0))
    settings = LineSettings("meter", options.line, baud, format, timeout_ms, local_echo=options.local_echo,
                            protocol=model.protocol)  # fmt: skip
    direction = Direction(options.direction, options.rts_when_sending)
    try:
        opener = opener_for(options.line, baud, format, direction)
    except ValueError as problem:
        raise CommandError(str(problem)) from problem
    for warning in line_warnings(options.line, format, direction):
        sys.stderr.write(f"wattgate: {warning.text(_language(options))}\n")
    return _Job(
        model=model,
        device_id=options.address or options.device_id or link.default_device_id,
        names=_chosen(model, options.points),
        settings=settings,
        timing=_timing(settings, link.max_response_ms or 0),
        opener=opener,
        merge=options.merge,
    )


def _model(options: argparse.Namespace) -> MeterModel:
    """The model that is named, or the general one of a protocol; place and line must be those of its protocol."""
    name = options.model or (_DLT645_MODEL if options.protocol == DLT645 else None)
    if name is None:
        raise CommandError("--model: is missing; only with --protocol dlt645 it is not needed")
    model = known_model(name, options.models, PROTOCOLS if options.protocol is None else (options.protocol,))
    if model.protocol == MODBUS and options.address is not None:
        raise CommandError(f"--address: belongs to protocol dlt645; model {model.id} has --device-id")
    if model.protocol == DLT645:
        if options.address is None:
            raise CommandError(f"--address: is missing; model {model.id} is asked by the 12 digits on the meter")
        if options.line.startswith("tcp://"):
            raise CommandError(f"--line: {options.line} is Modbus TCP; a transparent server is rtu+tcp://host:port")
    return model


def _chosen(model: MeterModel, names: tuple[str, ...] | None) -> tuple[str, ...]:
    if not model.points:
        raise CommandError(f"model {model.id} has no points: {model.incomplete or 'it measures nothing'}")
    unknown = [name for name in names or () if name not in model.points]
    if unknown:
        raise CommandError(f"point {unknown[0]!r}: model {model.id} has {', '.join(model.points)}")
    return names or tuple(model.points)


def _timing(settings: LineSettings, slowest_ms: float) -> Timing:
    """After a fault the line must be silent for longer than the slowest answer takes."""
    silence_s = max(_DRAIN_SILENCE_MS, 1.1 * slowest_ms) / 1000
    timing = Timing.of_serial(settings.baud, settings.response_timeout_ms / 1000, silence_s, 4 * silence_s)
    return replace(timing, gap_s=0.0, byte_s=0.0) if settings.framing == "mbap" else timing


# --- options and output ----------------------------------------------------------------------


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME,NAME,...")
    return names


def _address(text: str) -> int:
    if len(text) > _ADDRESS_DIGITS or not (text.isascii() and text.isdigit()) or int(text) in (0, _BROADCAST):
        raise argparse.ArgumentTypeError(f"{text!r} is not the address of a meter, at most 12 decimal digits")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0.1 to 86400 seconds")
    return value


def _language(options: argparse.Namespace) -> str:
    return options.lang or language_of(os.environ)
