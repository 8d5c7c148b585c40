"""From a tariff and the readings of one meter to a bill: rated by the kernel where it loads, else by the reference.

Units as in edge.core.bill. A reading within a minute of a change of version stands for the change;
else energy is shared out over it by seconds and the bill is marked estimated (RULES.md 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from edge.core.bill import Bill, Customer, DemandSample, Usage, bill_tables, make_bill, untagged_name
from edge.core.calendar import CompiledCalendar, ZoneOffsets, local_day, midnight_of
from edge.core.demand import minute_powers
from edge.core.period_registers import RegisterTables, register_tables
from edge.core.rating import CompiledTariff, Interval, Position, Rate, RatedInterval, reference_rate
from edge.core.rating_arrays import array_rate, array_rate_accounts, merge_rated
from edge.core.reading import FREEZE_TOLERANCE_S
from edge.core.tariff import BlockScope, Tariff
from edge.core.terms import Demand, DemandKind
from edge.tariffs.readings import Advance, MeterFacts, Reading, advances, period_energies, rate_columns
from edge.zone import zone_offsets

_SECONDS_PER_HOUR = 3600
_SECONDS_PER_MINUTE = 60


class BillingError(Exception):
    """Why these readings cannot be billed by this tariff, in one sentence."""


@dataclass(frozen=True, slots=True)
class Billed:
    """A bill, the tariff version it was issued by, and where the blocks stand after it."""

    bill: Bill
    tariff: Tariff
    start_at: int
    end_at: int
    zone: ZoneOffsets
    cycle_energy_wh: Mapping[str, int] | int  # by period where each period counts for itself


def bill_readings(
    versions: Sequence[Tariff],
    readings: Sequence[Reading],
    source: str,
    facts: MeterFacts | None = None,
    cycle_energy_wh: Mapping[str, int] | int = 0,
    customer: Customer | None = None,
) -> Billed:
    """The bill from the first to the last reading. `cycle_energy_wh` is the block position at the first.

    Raises BillingError, ReadingsError (a fault in the file `source`) or MissingInput.
    """
    first_at, end_at = readings[0].at, readings[-1].at
    if end_at <= first_at:
        raise BillingError(f"{source}: the first and the last reading are of one instant")
    zone = _zone(versions[0], first_at, end_at)
    _check_span(versions, zone, readings[0], source)
    readings = _at_changes(readings, [midnight_of(zone, version.first_day) for version in versions])
    moved = advances(readings, facts or MeterFacts(), source)
    before = _position(versions[0], cycle_energy_wh)
    _check_energy(versions, sum(before), moved, source)
    try:
        tables = bill_tables(versions, zone, first_at, end_at + 1)
        prepared = _prepare(versions, tables, moved, readings, zone, source)
        position = Position(0, before)
        order_unknown = False
        if rate_columns(readings) and any(version.order_matters for version in versions):
            rated = open_rate([prepared.tariff])([position], prepared.intervals)
            order_unknown = _order_unknown(moved, prepared, rated)
        else:
            rated = _rate_as_one(prepared.tariff, position, prepared.intervals)
        samples, means_only = _demand_samples(versions, tables.calendar, tables, zone, moved, readings)
        usage = Usage(
            first_at,
            end_at,
            rated,
            _total([one.reactive_import_varh for one in moved]),
            _total([one.reactive_export_varh for one in moved]),
            samples,
            prepared.estimated or means_only or order_unknown,
        )
        bill = make_bill(versions, zone, usage, customer)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise BillingError(f"{source}: {error}") from error
    after = _position_after(tables, rated, position, end_at)
    issued = _version_on(versions, local_day(zone, end_at - 1))
    return Billed(bill, issued, first_at, end_at, zone, _position_by_name(issued, after))


def open_rate(tables: Sequence[CompiledTariff]) -> Rate:
    """The kernel's Rate, or the reference's where no kernel of these sources is compiled. Both agree to the bit."""
    try:
        from native.kernel import TariffKernel
    except ImportError:
        return reference_rate(tables)
    return array_rate(TariffKernel, tables)


def _rate_as_one(tables: CompiledTariff, position: Position, intervals: Sequence[Interval]) -> Sequence[RatedInterval]:
    """All intervals as one, and none if there are none: no object for each of a year's readings."""
    if not intervals:
        return []
    try:
        from native.kernel import TariffKernel
    except ImportError:
        return [merge_rated(reference_rate([tables])([position], intervals))]
    (rated,) = array_rate_accounts(TariffKernel, [tables])([position], intervals)
    assert rated is not None
    return [rated]


def _zone(tariff: Tariff, first_at: int, end_at: int) -> ZoneOffsets:
    try:
        return zone_offsets(tariff.time_zone, first_at, end_at)
    except (ValueError, LookupError, OSError) as error:  # OSError: the name of a folder of zones
        raise BillingError(f"tariff {tariff.tariff_id}: there is no time zone {tariff.time_zone} here") from error


def _check_span(versions: Sequence[Tariff], zone: ZoneOffsets, first: Reading, source: str) -> None:
    if local_day(zone, first.at) < versions[0].first_day:
        raise BillingError(
            f"{source}: line {first.line}, column at: lies before the tariff {versions[0].tariff_id} is valid"
        )


def _check_energy(versions: Sequence[Tariff], energy_wh: int, moved: Sequence[Advance], source: str) -> None:
    """The bound of the rating, said by line."""
    highest = min(version.energy_wh_max for version in versions)
    if energy_wh > highest:
        raise BillingError(f"the block position of {energy_wh} Wh is above the tariff's cycle_energy_kwh_max")
    for one in moved:
        energy_wh += one.energy_wh
        if energy_wh > highest:
            raise BillingError(
                f"{source}: line {one.line}, column import_wh: {energy_wh} Wh are used up to here; the tariff's "
                f"cycle_energy_kwh_max allows {highest} Wh in one bill"
            )


def _at_changes(readings: Sequence[Reading], changes: Sequence[int]) -> list[Reading]:
    """The reading nearest to a change of version is taken as of the change, if it is near enough."""
    moved = list(readings)
    for change in changes:
        inner = range(1, len(moved) - 1)
        index = min(inner, key=lambda place: abs(moved[place].at - change), default=None)
        if index is not None and abs(moved[index].at - change) <= FREEZE_TOLERANCE_S:
            before, after = moved[index - 1].at, moved[index + 1].at
            if before < change < after:
                moved[index] = moved[index]._replace(at=change)
    return moved


def _prepare(
    versions: Sequence[Tariff],
    tables: CompiledTariff,
    moved: Sequence[Advance],
    readings: Sequence[Reading],
    zone: ZoneOffsets,
    source: str,
) -> RegisterTables:
    """Tables and intervals: by calendar, by period registers, or by the instant of a purchase."""
    columns = rate_columns(readings)
    if columns and moved:
        for version in versions:
            known = [period.name for period in version.periods]
            for period, column in columns.items():
                if period not in known:
                    allowed = ", ".join(f"rate_{name}_wh" for name in known)
                    raise BillingError(f"{source}: line 1, column {column}: allowed are {allowed}")
        _check_periods_come(versions, zone, moved, source)
        return register_tables(tables, period_energies(moved))
    if versions[0].counts_purchases:
        intervals = [Interval(0, one.end_at, one.end_at + 1, one.energy_wh) for one in moved]
    else:
        intervals = [Interval(0, one.start_at, one.end_at, one.energy_wh) for one in moved]
    return RegisterTables(tables, tuple(intervals), estimated=False)


def _check_periods_come(versions: Sequence[Tariff], zone: ZoneOffsets, moved: Sequence[Advance], source: str) -> None:
    """Refuses energy of a period that comes on none of its days: a meter that names its registers otherwise.

    A meter's valley register counts the valley of every season, where a tariff may have two. A day
    before and after is allowed for a meter's clock.
    """
    of_day: dict[int, frozenset[str]] = {}
    for one in moved:
        days = range(local_day(zone, one.start_at) - 1, local_day(zone, one.end_at - 1) + 2)
        for day in days:
            if day not in of_day:
                version = _version_on(versions, max(day, versions[0].first_day))
                plan = version.schedule.plan_of(day)
                of_day[day] = frozenset(version.periods[period].name for _, period in plan)
        coming = frozenset[str]().union(*(of_day[day] for day in days))
        strange = sorted(name for name, wh in one.by_period_wh.items() if wh and name not in coming)
        if strange:
            raise BillingError(
                f"{source}: line {one.line}, column rate_{strange[0]}_wh: {one.by_period_wh[strange[0]]} Wh of a "
                f"period that does not come in these days; those that do are {', '.join(sorted(coming))}"
            )


def _version_on(versions: Sequence[Tariff], day: int) -> Tariff:
    return max((version for version in versions if version.first_day <= day), key=lambda version: version.first_day)


def _order_unknown(moved: Sequence[Advance], prepared: RegisterTables, rated: Sequence[RatedInterval]) -> bool:
    """Whether period registers left open which period reached a block limit first."""
    places = iter(zip(prepared.intervals, rated, strict=True))
    entry = next(places, None)
    for one in moved:
        used = set()
        while entry is not None and entry[0].start_at < one.end_at:
            used |= {(line.period, line.block) for line in entry[1].lines}
            entry = next(places, None)
        if one.by_period_wh and len({p for p, _ in used}) > 1 and len({block for _, block in used}) > 1:
            return True
    return False


def _position(tariff: Tariff, energy_wh: Mapping[str, int] | int) -> tuple[int, ...]:
    names = [period.name for period in tariff.periods]
    if tariff.block_scope is BlockScope.CYCLE:
        if not isinstance(energy_wh, int):
            raise BillingError(
                f"tariff {tariff.tariff_id} counts all periods together: its block position is one number"
            )
        return (energy_wh,)
    if isinstance(energy_wh, int):
        if energy_wh and len(names) > 1:
            example = ",".join(f"{name}=N" for name in names)
            raise BillingError(
                f"tariff {tariff.tariff_id} counts each period by itself: give its position as {example}"
            )
        return (energy_wh,) * len(names)
    unknown = [name for name in energy_wh if name not in names]
    if unknown:
        raise BillingError(f"tariff {tariff.tariff_id} has no period {unknown[0]}; allowed are {', '.join(names)}")
    return tuple(energy_wh.get(name, 0) for name in names)


def _position_after(
    tables: CompiledTariff, rated: Sequence[RatedInterval], before: Position, end_at: int
) -> tuple[int, ...]:
    """The position at the last reading, as the next bill takes it: zero where that reading begins a cycle."""
    if not rated:
        return before.cycle_energy_wh
    cycle_start_at = tables.calendar.cycle_starts[tables.calendar.index_at(end_at)]
    if cycle_start_at > rated[-1].cycle_start_at:
        return (0,) * tables.position_count
    return rated[-1].cycle_energy_wh


def _position_by_name(tariff: Tariff, energy_wh: tuple[int, ...]) -> Mapping[str, int] | int:
    if tariff.block_scope is BlockScope.CYCLE:
        return energy_wh[0]
    return {period.name: wh for period, wh in zip(tariff.periods, energy_wh, strict=True)}


def _total(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# --- demand ----------------------------------------------------------------------------------


def _demand_samples(
    versions: Sequence[Tariff],
    calendar: CompiledCalendar,
    tables: CompiledTariff,
    zone: ZoneOffsets,
    moved: Sequence[Advance],
    readings: Sequence[Reading],
) -> tuple[list[DemandSample], bool]:
    """Samples for each demand charge that is measured, and whether they are only means of longer intervals."""
    demands = {d.name: d for v in versions for d in v.terms.demands if d.kind is not DemandKind.CAPACITY}
    if not demands or not moved:
        return [], False
    periods = _PeriodsIn(calendar, tables)
    if any(reading.max_demand_w is not None for reading in readings):
        read = [
            DemandSample(one.start_at, one.end_at, one.max_demand_w, periods.over(one.start_at, one.end_at))
            for one in moved
            if one.max_demand_w is not None
        ]
        return read, False
    longest_s = max((one.end_at - one.start_at for one in moved), default=0)
    samples: list[DemandSample] = []
    means_only = False
    for name, demand in demands.items():
        window_s = demand.window_min * _SECONDS_PER_MINUTE
        if longest_s > max(window_s, _SECONDS_PER_HOUR):
            continue  # means over hours say nothing about a demand: make_bill asks for the column
        if longest_s >= window_s:
            samples += _interval_means(name, moved, periods)
            means_only = means_only or longest_s > window_s
        else:
            samples += _window_means(demand, moved, periods, zone)
    return samples, means_only


def _interval_means(name: str, moved: Sequence[Advance], periods: "_PeriodsIn") -> list[DemandSample]:
    """Where readings are as far apart as the window, or further: the mean power between two."""
    samples = []
    for one in moved:
        duration_s = one.end_at - one.start_at
        if duration_s >= _SECONDS_PER_MINUTE:
            power_w = one.energy_wh * _SECONDS_PER_HOUR // duration_s
            inside = periods.over(one.start_at, one.end_at)
            samples.append(DemandSample(one.start_at, one.end_at, power_w, inside, name))
    return samples


def _window_means(
    demand: Demand, moved: Sequence[Advance], periods: "_PeriodsIn", zone: ZoneOffsets
) -> list[DemandSample]:
    """The highest window of every day, of windows that lie wholly in the periods that count."""
    start_at = moved[0].start_at
    powers = minute_powers(start_at, [(one.end_at, one.energy_wh) for one in moved])
    if powers is None or start_at % _SECONDS_PER_MINUTE:
        return []
    sums = [0, *accumulate(powers)]
    window, counting = demand.window_min, frozenset(demand.periods)
    highest: dict[int, DemandSample] = {}
    for first in range(len(powers) - window + 1):
        at = start_at + first * _SECONDS_PER_MINUTE
        if (at + zone.offset_at(at)) // _SECONDS_PER_MINUTE % demand.slip_min:
            continue
        end_at = at + window * _SECONDS_PER_MINUTE
        power_w = (sums[first + window] - sums[first]) // window
        day = local_day(zone, end_at - 1)
        if day in highest and highest[day].power_w >= power_w:
            continue
        inside = periods.over(at, end_at)
        if inside <= counting:
            highest[day] = DemandSample(at, end_at, power_w, inside, demand.name)
    return list(highest.values())


class _PeriodsIn:
    """Which periods are in force over a span."""

    def __init__(self, calendar: CompiledCalendar, tables: CompiledTariff) -> None:
        self._calendar = calendar
        self._names = [untagged_name(tables.periods[period].name)[0] for period in calendar.periods]

    def over(self, start_at: int, end_at: int) -> frozenset[str]:
        first, last = self._calendar.index_at(start_at), self._calendar.index_at(end_at - 1)
        return frozenset(self._names[first : last + 1])
