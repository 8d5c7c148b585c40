"""Readings of a meter from a CSV file, and the energy between them. Every fault names its line and column.

The header names the columns: `at` (ISO 8601 with offset, whole seconds) and `import_wh` (the
cumulative register in whole Wh), and as wanted `reactive_import_varh`, `reactive_export_varh`
(cumulative as well), `max_demand_w` (the highest demand since the reading before; may be empty),
`rate_<period>_wh` (the meter's own register of a period) and `meter` (any text; where it changes,
the meter was exchanged: last of the old, first of the new). Source: RULES.md 4.
"""

import csv
import io
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from edge.core.period_registers import PeriodEnergies
from edge.core.rating import INTERVAL_S_MAX
from edge.core.reading import DeltaKind, delta, plausible_energy

BYTES_MAX = 50_000_000
_AT, _IMPORT, _DEMAND, _METER = "at", "import_wh", "max_demand_w", "meter"
_REACTIVE = ("reactive_import_varh", "reactive_export_varh")
_RATE = re.compile(r"rate_([a-z0-9][a-z0-9_]{0,31})_wh")
_DIGITS_MAX = 15
_YEARS = (1971, 2200)  # what the zone database can say something about
_KNOWN = f"{_AT}, {_IMPORT}, {', '.join(_REACTIVE)}, {_DEMAND}, {_METER} and rate_<period>_wh"
_UNLIMITED_WH = 10**18


class ReadingsError(Exception):
    """Why a file is not readings: one sentence that names the file, the line and the column."""


# Readings and advances are named tuples: a year of 5-minute readings makes 100,000 of each, in a third of the time.


class Reading(NamedTuple):
    """One line of the file. Registers by column; the demand is None where its cell is empty."""

    line: int
    at: int
    registers: Mapping[str, int]
    max_demand_w: int | None
    meter: str


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """What tells a rollover from a fault. `multiplier` is the ratio of the meter's transformers."""

    modulus_wh: int | None = None
    power_max_w: int | None = None
    multiplier: int = 1


class Advance(NamedTuple):
    """What the registers of one meter moved by between two readings, transformers counted in."""

    line: int  # of the later reading
    start_at: int
    end_at: int
    energy_wh: int
    reactive_import_varh: int | None
    reactive_export_varh: int | None
    max_demand_w: int | None
    by_period_wh: Mapping[str, int]  # empty without period registers


def read_readings(path: Path) -> list[Reading]:
    """The readings of a file, at least two, in rising order. ReadingsError for the first fault."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ReadingsError(f"{path}: is no regular file; allowed is a CSV file")
        if status.st_size > BYTES_MAX:
            raise ReadingsError(f"{path}: has {status.st_size} bytes; allowed is at most {BYTES_MAX}")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadingsError(f"{path}: byte {error.start} is not UTF-8 text") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero character
        raise ReadingsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_readings(text, str(path))


def parse_readings(text: str, source: str) -> list[Reading]:
    """The readings of a text. `source` names it in errors."""
    rows = csv.reader(io.StringIO(text), strict=True)
    readings: list[Reading] = []
    try:
        layout = _layout(_header(next(rows, []), source))
        for row in rows:
            if not row:
                continue
            reading = _reading(layout, row, rows.line_num, source)
            if readings:
                _check_order(readings[-1], reading, source)
            readings.append(reading)
    except csv.Error as error:
        raise ReadingsError(f"{source}: line {rows.line_num}: is not CSV: {error}") from error
    if len(readings) < 2:
        raise ReadingsError(f"{source}: has {len(readings)} readings; energy lies between two, so allowed is 2 or more")
    return readings


def advances(readings: Sequence[Reading], facts: MeterFacts, source: str) -> list[Advance]:
    """What lies between each reading and the next one. A fall that is no rollover, or a jump, is refused."""
    found: list[Advance] = []
    periods = {column: period for period, column in rate_columns(readings).items()}
    nothing: Mapping[str, int] = {}
    multiplier = facts.multiplier
    for before, after in pairwise(readings):
        if before.meter != after.meter:
            continue  # the new meter's first reading: nothing was used on it yet
        moved = {name: _advance(name, before, after, facts, source) * multiplier for name in after.registers}
        energy_wh, by_period = moved[_IMPORT], nothing
        if periods:
            by_period = {period: moved[column] for column, period in periods.items()}
            _check_sum(energy_wh, by_period, facts, after, source)
            energy_wh = sum(by_period.values())
        found.append(
            Advance(
                after.line,
                before.at,
                after.at,
                energy_wh,
                moved.get(_REACTIVE[0]),
                moved.get(_REACTIVE[1]),
                None if after.max_demand_w is None else after.max_demand_w * multiplier,
                by_period,
            )
        )
    return found


def period_energies(moved: Sequence[Advance]) -> list[PeriodEnergies]:
    """The advances of period registers, for the rating."""
    return [PeriodEnergies(one.start_at, one.end_at, one.by_period_wh) for one in moved]


def rate_columns(readings: Sequence[Reading]) -> dict[str, str]:
    """Period to column, for the period registers of the file."""
    return {match[1]: name for name in readings[0].registers if (match := _RATE.fullmatch(name))}


def _header(names: list[str], source: str) -> list[str]:
    names = [name.strip() for name in names]
    for number, name in enumerate(names):
        if name not in (_AT, _IMPORT, _DEMAND, _METER, *_REACTIVE) and not _RATE.fullmatch(name):
            raise ReadingsError(f'{source}: line 1, column {number + 1}: found "{name[:40]}"; allowed are {_KNOWN}')
        if name in names[:number]:
            raise ReadingsError(f'{source}: line 1, column {number + 1}: "{name}" stands there twice')
    for name in (_AT, _IMPORT):
        if name not in names:
            raise ReadingsError(f"{source}: line 1: has no column {name}; the header starts like at,import_wh")
    return names


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns of a file stand; None for one that it has not."""

    width: int
    at: int
    registers: tuple[tuple[str, int], ...]
    demand: int | None
    meter: int | None


def _layout(columns: Sequence[str]) -> _Layout:
    place = {name: number for number, name in enumerate(columns)}
    registers = tuple((name, number) for name, number in place.items() if name not in (_AT, _METER, _DEMAND))
    return _Layout(len(columns), place[_AT], registers, place.get(_DEMAND), place.get(_METER))


def _reading(layout: _Layout, row: Sequence[str], line: int, source: str) -> Reading:
    if len(row) != layout.width:
        raise ReadingsError(f"{source}: line {line}: has {len(row)} columns; the header has {layout.width}")
    registers = {name: _whole(row[place].strip(), name, line, source) for name, place in layout.registers}
    at = _instant(row[layout.at].strip(), line, source)
    demand = "" if layout.demand is None else row[layout.demand].strip()
    meter = "" if layout.meter is None else row[layout.meter].strip()
    return Reading(line, at, registers, _whole(demand, _DEMAND, line, source) if demand else None, meter)


def _whole(text: str, column: str, line: int, source: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        found = f'"{text[:40]}"' if text else "nothing"
        raise ReadingsError(
            f"{source}: line {line}, column {column}: found {found}; allowed is a whole number of 0 or more"
        )
    return int(text)


def _instant(text: str, line: int, source: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _no_instant(text, line, source) from None
    offset = moment.utcoffset()
    if offset is None or moment.microsecond or offset.microseconds or not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise _no_instant(text, line, source)
    return int(moment.timestamp())


def _no_instant(text: str, line: int, source: str) -> ReadingsError:
    return ReadingsError(
        f'{source}: line {line}, column at: found "{text[:40]}"; allowed is a time with offset in whole seconds, '
        f"like 2024-04-01T00:00:00+08:00, of the years {_YEARS[0]} to {_YEARS[1]}"
    )


def _check_order(before: Reading, after: Reading, source: str) -> None:
    exchanged = before.meter != after.meter
    if after.at < before.at or (after.at == before.at and not exchanged):
        raise ReadingsError(
            f"{source}: line {after.line}, column at: is not after line {before.line}; readings stand in rising order"
        )
    if after.at - before.at > INTERVAL_S_MAX:
        raise ReadingsError(
            f"{source}: line {after.line}, column at: is {after.at - before.at} s after line {before.line}; "
            f"allowed is at most {INTERVAL_S_MAX} s"
        )


def _advance(name: str, before: Reading, after: Reading, facts: MeterFacts, source: str) -> int:
    """The difference of one register by RULES.md 4."""
    old, new = before.registers[name], after.registers[name]
    if facts.power_max_w is None and new >= old:
        return new - old  # any way forward is plausible: nothing to ask
    elapsed_s = after.at - before.at
    plausible = _UNLIMITED_WH if facts.power_max_w is None else plausible_energy(facts.power_max_w, elapsed_s)
    # Without a highest power every way forward would be plausible: half a register is taken then.
    if facts.power_max_w is None and facts.modulus_wh is not None and new < old:
        plausible = facts.modulus_wh // 2
    moved = delta(old, new, plausible, facts.modulus_wh)
    if moved.kind is DeltaKind.REGRESSION:
        raise ReadingsError(
            f"{source}: line {after.line}, column {name}: {new} is below {old} on line {before.line}; a register "
            "does not go back (give --register-modulus-wh for one that starts over, or a column meter for an exchange)"
        )
    if moved.kind is DeltaKind.JUMP:
        raise ReadingsError(
            f"{source}: line {after.line}, column {name}: {new} is {new - old} above line {before.line}; "
            f"with {facts.power_max_w} W it can rise by at most {plausible} in {elapsed_s} s"
        )
    assert moved.energy_wh is not None
    return moved.energy_wh


def _check_sum(import_wh: int, by_period: Mapping[str, int], facts: MeterFacts, after: Reading, source: str) -> None:
    """Period registers and the total are each cut off to whole Wh: they agree to one for each register."""
    total_wh = sum(by_period.values())
    if abs(total_wh - import_wh) > (len(by_period) + 1) * facts.multiplier:
        raise ReadingsError(
            f"{source}: line {after.line}, column import_wh: rose by {import_wh} Wh, but the columns "
            f"rate_<period>_wh by {total_wh} Wh together"
        )
