"""`wattgate tariff`: check, rate and explain tariff documents, show the presets, import URDB rates.

Exit status: 0 done, 2 a file or an option that cannot be used, said in one sentence on standard
error. FILE is a path, a preset's name only where `presets` asks for one.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from edge.core.bill import Customer, MissingInput
from edge.core.calendar import date_from_day, parse_date
from edge.core.demand import PastDemand
from edge.core.late_charge import Arrears
from edge.core.tariff import Tariff
from edge.core.terms import MONTHS_IN_YEAR
from edge.core.units import NANO_PER_UNIT
from edge.tariffs.billing import Billed, BillingError, bill_readings
from edge.tariffs.explain import PlotUnavailable, bill_json, explain_json, explain_svg, explain_text
from edge.tariffs.files import TariffFileRefused, read_document, read_tariff_file
from edge.tariffs.presets import PresetUnknown, preset_names, preset_text
from edge.tariffs.readings import MeterFacts, ReadingsError, read_readings
from edge.tariffs.urdb import UrdbRefused, import_urdb
from edge.tariffs.words import LANGUAGES, Words
from edge.zone import zone_offsets

EXIT_BAD_INPUT = 2
_HISTORY_MONTHS_MAX = 120
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,11})(?:\.([0-9]{1,9}))?")
_NO_HISTORY = "none"
# What a bill may lack -> where it can be given.
_WHERE = {
    "contract_w": "give --contract-w N, or contract steps in the document",
    "capacity_va": "give --capacity-kva N, or contract steps in the document",
    "max_demand_w": "add a column max_demand_w, or readings at most an hour (or a window) apart",
    "reactive_import_varh": "add a column reactive_import_varh (and reactive_export_varh)",
}

TARIFF_EXAMPLE = """example:
  wattgate tariff presets cn-heilongjiang > household.json
  wattgate tariff check household.json
  wattgate tariff rate household.json --readings april.csv --json
"""
CHECK_EXAMPLE = """example:
  wattgate tariff check household.json     0: a good tariff; 2: the place of the fault, what is there, what may be
"""
RATE_EXAMPLE = """readings, in CSV: ISO times with offset, registers in whole watt-hours
  at,import_wh
  2024-04-01T00:00:00+08:00,1000000
  2024-05-01T00:00:00+08:00,1300000
further columns: reactive_import_varh, reactive_export_varh, max_demand_w, rate_<period>_wh, meter

example:
  wattgate tariff rate household.json --readings april.csv
  wattgate tariff rate household.json --readings april.csv --cycle-energy-wh 160000 --json
  wattgate tariff rate factory.json --readings april.csv --contract-w 500000
"""
EXPLAIN_EXAMPLE = """example:
  wattgate tariff explain household.json --readings april.csv
  wattgate tariff explain household.json --readings april.csv --lang zh --svg april.svg
"""
IMPORT_EXAMPLE = """example:
  wattgate tariff import-urdb rate.json -o tariff.json --time-zone America/New_York
"""
PRESETS_EXAMPLE = """example:
  wattgate tariff presets                     the names
  wattgate tariff presets cn-zhejiang-tou     the document, with the source of its figures
"""


class CommandError(Exception):
    """An option that cannot be used, in one sentence."""


def add_tariff_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `tariff` and what is below it to the commands of `wattgate`."""
    raw = argparse.RawDescriptionHelpFormatter
    tariff = commands.add_parser(
        "tariff", help="check, rate and explain tariffs", epilog=TARIFF_EXAMPLE, formatter_class=raw
    )
    tariff.set_defaults(run=lambda options: _no_command(tariff))
    below = tariff.add_subparsers(title="commands", metavar="COMMAND")

    check = below.add_parser("check", help="prove a tariff document", epilog=CHECK_EXAMPLE, formatter_class=raw)
    check.add_argument("file", type=Path, metavar="FILE", help="a tariff document")
    check.set_defaults(run=_guarded(_check))

    rate = below.add_parser("rate", help="what readings cost", epilog=RATE_EXAMPLE, formatter_class=raw)
    _add_billing_options(rate)
    rate.set_defaults(run=_guarded(_rate))

    explain = below.add_parser("explain", help="why they cost that", epilog=EXPLAIN_EXAMPLE, formatter_class=raw)
    _add_billing_options(explain)
    explain.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the words (en)")
    explain.add_argument("--svg", type=Path, metavar="OUT", help="write a plot of where the money went")
    explain.set_defaults(run=_guarded(_explain))

    urdb = below.add_parser("import-urdb", help="a URDB rate as a tariff", epilog=IMPORT_EXAMPLE, formatter_class=raw)
    urdb.add_argument("file", type=Path, metavar="FILE", help="a rate of the OpenEI Utility Rate Database, JSON")
    urdb.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="the document to write")
    urdb.add_argument("--time-zone", default="UTC", metavar="ZONE", help="where its hours are (UTC)")
    urdb.add_argument("--block-scope", choices=("period", "cycle"), default="period", help="what moves its tiers")
    urdb.set_defaults(run=_guarded(_import_urdb))

    presets = below.add_parser("presets", help="ready tariffs", epilog=PRESETS_EXAMPLE, formatter_class=raw)
    presets.add_argument("name", nargs="?", metavar="NAME", help="print this document (default: list the names)")
    presets.set_defaults(run=_guarded(_presets))


def _add_billing_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a tariff document, with one version or several")
    add("--readings", required=True, type=Path, metavar="CSV", help="readings of the meter, see below")
    add("--json", action="store_true", help="print one JSON object")
    add("--cycle-energy-wh", type=_energies, default=0, metavar="N",
        help="block position at the first reading (0); peak=N,valley=M where periods count by themselves")  # fmt: skip
    add("--history-kwh", type=_history, metavar="KWH,...",
        help="energy of the months before, the latest last, for bands by history; none: a new customer")  # fmt: skip
    add("--months-in-service", type=_whole(1, MONTHS_IN_YEAR), default=MONTHS_IN_YEAR, metavar="N",
        help="months of the year that yearly limits are scaled to (12)")  # fmt: skip
    add(
        "--raise", dest="raises", action="append", default=[], metavar="NAME", help="a raise of the limits that applies"
    )
    add("--contract-w", type=_whole(0, 10**12), metavar="N", help="contracted demand")
    add("--capacity-kva", type=_thousandths, metavar="N", help="capacity of the transformers")
    add("--days-in-use", type=_whole(0, 31), metavar="N", help="days that capacity or contract were in use")
    add("--past-demand-w", type=_past_demands, default=(), metavar="YYYY-MM=N,...",
        help="highest demands of months before, for a ratchet, the latest last")  # fmt: skip
    add("--standing-from", type=_day, metavar="DATE", help="first day whose standing charge is still due")
    add("--arrears", type=_amount, metavar="AMOUNT", help="an issued bill that was paid late")
    add("--overdue-from", type=_day, metavar="DATE", help="the day after its due date")
    add("--paid-on", type=_day, metavar="DATE", help="when it was paid")
    add("--register-modulus-wh", type=_whole(1, 10**15), metavar="N", help="where the registers start over")
    add("--power-max-w", type=_whole(1, 10**12), metavar="N", help="the most the supply can draw; more is a fault")
    add("--multiplier", type=_whole(1, 10**6), default=1, metavar="N", help="ratio of the meter's transformers (1)")


# --- the commands ----------------------------------------------------------------------------


def _no_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return EXIT_BAD_INPUT


def _guarded(command: Callable[[argparse.Namespace], str]) -> Callable[[argparse.Namespace], int]:
    """A command with its answer printed, and everything that may be wrong as one sentence and status 2."""

    def run(options: argparse.Namespace) -> int:
        try:
            answer = command(options)
        except MissingInput as missing:
            return _refused(f"{options.file}: {missing}: {_WHERE[missing.needed]}")
        except (TariffFileRefused, ReadingsError, BillingError, CommandError, PlotUnavailable, PresetUnknown) as error:
            return _refused(str(error))
        except UrdbRefused as error:
            return _refused(f"{options.file}: {error}")
        with suppress(BrokenPipeError):  # somebody looked at the first lines only
            _write(sys.stdout, answer)
        return 0

    return run


def _refused(sentence: str) -> int:
    _write(sys.stderr, f"wattgate: {' '.join(sentence.split())}")
    return EXIT_BAD_INPUT


def _write(stream: TextIO, text: str) -> None:
    """A text and a line's end; what the terminal cannot show is spelled out."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _check(options: argparse.Namespace) -> str:
    versions = read_tariff_file(options.file)
    numbers = ", ".join(str(version.version) for version in versions)
    word = "version" if len(versions) == 1 else "versions"
    return f"{options.file}: good, tariff {versions[0].tariff_id}, {word} {numbers}"


def _rate(options: argparse.Namespace) -> str:
    billed = _bill(options)
    if options.json:
        return json.dumps(bill_json(billed), ensure_ascii=False)
    return explain_text(billed, Words("en"))


def _explain(options: argparse.Namespace) -> str:
    billed, words = _bill(options), Words(options.lang)
    if options.svg is not None:
        _save(options.svg, explain_svg(billed, words))
    if options.json:
        return json.dumps(explain_json(billed, words), ensure_ascii=False)
    return explain_text(billed, words)


def _import_urdb(options: argparse.Namespace) -> str:
    try:
        zone_offsets(options.time_zone, 0, 1)
    except (ValueError, LookupError, OSError) as error:
        raise CommandError(f"--time-zone: found {options.time_zone[:40]!r}; allowed is a zone like UTC") from error
    imported = import_urdb(read_document(options.file), options.time_zone, options.block_scope)
    _save(options.output, json.dumps(imported.document, ensure_ascii=False, indent=2) + "\n")
    return "\n".join([f"{options.output}: written, {len(imported.changes)} changes", *imported.changes])


def _presets(options: argparse.Namespace) -> str:
    return "\n".join(preset_names()) if options.name is None else preset_text(options.name).rstrip("\n")


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


# --- from options to a bill ------------------------------------------------------------------


def _bill(options: argparse.Namespace) -> Billed:
    versions = tuple(_of_customer(version, options) for version in read_tariff_file(options.file))
    customer = Customer(
        contract_w=options.contract_w,
        capacity_va=options.capacity_kva,
        days_in_use=options.days_in_use,
        past_demands=options.past_demand_w,
        standing_from_day=options.standing_from,
        arrears=_arrears(options, versions[-1]),
    )
    facts = MeterFacts(options.register_modulus_wh, options.power_max_w, options.multiplier)
    readings = read_readings(options.readings)
    return bill_readings(versions, readings, str(options.readings), facts, options.cycle_energy_wh, customer)


def _of_customer(version: Tariff, options: argparse.Namespace) -> Tariff:
    """A version with the limits and the band of this customer."""
    try:
        version = version.for_customer(options.months_in_service, options.raises)
    except ValueError as error:
        raise CommandError(f"{options.file}: {error}") from error
    if version.bands is None:
        return version
    if options.history_kwh is None:
        raise CommandError(
            f"{options.file}: the tariff has bands by history: give --history-kwh with the energy of the last "
            f"{version.bands.months} months, or --history-kwh {_NO_HISTORY} for a new customer"
        )
    return version.in_band(version.bands.band_of(options.history_kwh))


def _arrears(options: argparse.Namespace, tariff: Tariff) -> Arrears | None:
    given = (options.arrears, options.overdue_from, options.paid_on)
    if all(value is None for value in given):
        return None
    if any(value is None for value in given):
        raise CommandError("--arrears, --overdue-from and --paid-on belong together: give all three")
    if tariff.terms.late_charge is None:
        raise CommandError(f"{options.file}: tariff {tariff.tariff_id} has no late charge for --arrears")
    return Arrears(*given)


# --- the values of options -------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed is a whole number of {low} to {high}")
        return int(text)

    return number


def _decimal(text: str, digits: int) -> int:
    """A decimal as an integer of 10^-digits."""
    match = _DECIMAL.fullmatch(text)
    if match is None or len(match[2] or "") > digits:
        raise argparse.ArgumentTypeError(
            f"found {text[:40]!r}; allowed is a number of 0 or more with at most {digits} digits after the point"
        )
    return int(match[1] + (match[2] or "").ljust(digits, "0"))


def _thousandths(text: str) -> int:
    return _decimal(text, 3)


def _amount(text: str) -> int:
    return _decimal(text, len(str(NANO_PER_UNIT)) - 1)


def _day(text: str) -> int:
    try:
        return parse_date(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed is a date like 2024-04-01") from None


def _energies(text: str) -> Mapping[str, int] | int:
    whole = _whole(0, 10**11)
    if "=" not in text:
        return whole(text)
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        found[name.strip()] = whole(number.strip())
    return found


def _history(text: str) -> tuple[int, ...]:
    if text == _NO_HISTORY:
        return ()
    months = tuple(_thousandths(part.strip()) for part in text.split(","))
    if len(months) > _HISTORY_MONTHS_MAX:
        raise argparse.ArgumentTypeError(f"found {len(months)} months; allowed are {_HISTORY_MONTHS_MAX}")
    return months


def _past_demands(text: str) -> tuple[PastDemand, ...]:
    found = []
    for part in text.split(","):
        month, _, power = part.partition("=")
        day = _day(f"{month.strip()}-01")
        found.append(PastDemand(date_from_day(day)[1], _whole(0, 10**12)(power.strip())))
    return tuple(found)
