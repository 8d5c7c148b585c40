"""A bill: lines of energy as rated, and everything a tariff asks for around them, rounded once.

Energy in Wh, money in nano-currency, exact; only the total is rounded, and the difference is a line
of its own. Days are local days, each once, 23 and 25 hours included. Months run from the bill's
first day to the same day of the next month. Percentages are rounded half away to the nano, which
is the only division here. Source: RULES.md 1, 3 and 10.

Lines stand in the order they are worked out: energy, standing charges, demand, power factor,
surcharges and taxes, minimum bill, late charge, rounding. A line belongs to one version of the
tariff, and a surcharge is taken of the lines of its own version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum

from edge.core.calendar import ZoneOffsets, date_from_day, day_from_date, days_in_month, local_day, midnight_of
from edge.core.demand import (
    DemandPart,
    PastDemand,
    contract_parts,
    demand_charge,
    over_contract,
    ratcheted,
)
from edge.core.late_charge import Arrears, late_fee
from edge.core.lean import dataclass
from edge.core.power_factor import adjustment_ppm, mean_power_factor, reactive_used
from edge.core.rating import CompiledTariff, RatedInterval
from edge.core.tariff import Tariff, compile_tariff
from edge.core.terms import (
    PERCENT_100,
    ChargePart,
    ChargeSpan,
    ContractStep,
    Demand,
    DemandKind,
    Rounding,
    RoundingRule,
    StandingCharge,
    Surcharge,
)
from edge.core.units import NANO_PER_UNIT, round_half_away

PPM = 1_000_000
PPM_PER_HUNDREDTH = PPM // PERCENT_100
_TAG = "@"  # between a period's name and its version; not a letter of a name


class LineKind(Enum):
    """What a line of a bill is for."""

    ENERGY = "energy"
    STANDING = "standing"
    DEMAND = "demand"
    POWER_FACTOR = "power_factor"
    SURCHARGE = "surcharge"
    MINIMUM = "minimum"
    LATE = "late"
    ROUNDING = "rounding"


_PART_OF = {
    LineKind.ENERGY: ChargePart.ENERGY,
    LineKind.STANDING: ChargePart.STANDING,
    LineKind.DEMAND: ChargePart.BASIC,
    LineKind.POWER_FACTOR: ChargePart.POWER_FACTOR,
    LineKind.SURCHARGE: ChargePart.SURCHARGES,
}


@dataclass(frozen=True, slots=True)
class BillLine:
    """One amount and what it was worked out from; what does not apply is None."""

    kind: LineKind
    amount_nano: int
    version: int  # of the tariff
    name: str = ""  # as the document calls it
    period: str | None = None
    block: int | None = None  # from 1
    energy_wh: int | None = None
    price_micro_per_kwh: int | None = None
    days: int | None = None
    day_divisor: int | None = None  # a part month: days / divisor of it
    months: int | None = None
    unit_amount_nano: int | None = None  # of one day or month; of a kW or kVA and month
    power_w: int | None = None  # billed
    measured_w: int | None = None
    power_factor_x100: int | None = None
    share_ppm: int | None = None
    base_nano: int | None = None  # what the share is taken of
    reverses: bool = False  # takes back a line of an earlier bill


@dataclass(frozen=True, slots=True)
class Bill:
    """Lines that add up to the total, to the nano; the total is whole minor units."""

    lines: tuple[BillLine, ...]
    energy_wh: int
    charge_nano: int  # exact, before rounding
    bill_minor: int
    estimated: bool
    standing_to_day: int  # days before this one have had their standing charge
    demands: tuple[PastDemand, ...] = ()  # measured in this bill's months, for the ratchet of later ones


@dataclass(frozen=True, slots=True)
class DemandSample:
    """The highest demand a meter showed for a span; `periods` are those in force in it."""

    start_at: int
    end_at: int
    power_w: int
    periods: frozenset[str]
    demand: str | None = None  # the charge whose window it was worked out with; None: any, the meter's own


@dataclass(frozen=True, slots=True)
class Customer:
    """What a bill needs to know of a customer and no register says. Terms that need one of these ask for it."""

    contract_w: int | None = None
    capacity_va: int | None = None
    days_in_use: int | None = None  # of the capacity or contract, in a part month
    past_demands: tuple[PastDemand, ...] = ()
    standing_from_day: int | None = None  # days caught up; None: from the first day of the bill
    arrears: Arrears | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What the registers said over [start_at, end_at), rated."""

    start_at: int
    end_at: int
    rated: Sequence[RatedInterval]  # by `bill_tables`
    reactive_import_varh: int | None = None
    reactive_export_varh: int | None = None
    demand_samples: Sequence[DemandSample] | None = None
    estimated: bool = False


class MissingInput(ValueError):
    """Terms ask for something that nobody stated; `needed` is the field of Customer or Usage."""

    def __init__(self, needed: str, wanted_by: str) -> None:
        super().__init__(f"{wanted_by} needs {needed}")
        self.needed = needed
        self.wanted_by = wanted_by


def bill_tables(versions: Sequence[Tariff], zone: ZoneOffsets, first_at: int, end_at: int) -> CompiledTariff:
    """Tables as `compile_tariff` makes them, whose periods say which version they are of."""
    compiled = compile_tariff(versions, zone, first_at, end_at)
    names = [tagged_name(period.name, version.version) for version in versions for period in version.periods]
    periods = tuple(replace(period, name=name) for period, name in zip(compiled.periods, names, strict=True))
    return replace(compiled, periods=periods)


def tagged_name(period: str, version: int) -> str:
    """The name of a version's period in `bill_tables`."""
    return f"{period}{_TAG}{version}"


def untagged_name(name: str) -> tuple[str, int]:
    """(period, version): the inverse of `tagged_name`."""
    period, version = name.rsplit(_TAG, 1)
    return period, int(version)


def make_bill(versions: Sequence[Tariff], zone: ZoneOffsets, usage: Usage, customer: Customer | None = None) -> Bill:
    """The bill over a span. MissingInput when the terms ask for what neither usage nor customer states."""
    draft = _Draft(versions, zone, usage, customer or Customer())
    lines = _energy_lines(usage.rated)
    lines += draft.standing_lines()
    demand_lines, demands = draft.demand_lines()
    lines += demand_lines
    lines += draft.power_factor_lines(lines)
    lines += draft.surcharge_lines(lines)
    lines += draft.minimum_lines(lines)
    lines += draft.late_lines()
    charge_nano = sum(line.amount_nano for line in lines)
    issued = draft.issued
    total_nano = round_total(issued.terms.rounding, charge_nano, minor_nano(issued))
    if total_nano != charge_nano:
        lines.append(BillLine(LineKind.ROUNDING, total_nano - charge_nano, issued.version))
    return Bill(
        lines=tuple(lines),
        energy_wh=sum(line.energy_wh or 0 for line in lines if line.kind is LineKind.ENERGY),
        charge_nano=charge_nano,
        bill_minor=total_nano // minor_nano(issued),
        estimated=usage.estimated or any(rated.estimated for rated in usage.rated),
        standing_to_day=draft.end_day,
        demands=tuple(demands),
    )


def rebill(wrong: Bill, right: Bill) -> tuple[BillLine, ...]:
    """The correction of an issued bill: every line of it taken back, then the right ones. Nothing is edited.

    Their sum is what the balance moves by: the difference of the two totals.
    """
    taken_back = (replace(line, amount_nano=-line.amount_nano, reverses=True) for line in wrong.lines)
    return (*taken_back, *right.lines)


def minor_nano(tariff: Tariff) -> int:
    """Nano-currency in one minor unit."""
    minor_units: int = 10**tariff.minor_digits
    return NANO_PER_UNIT // minor_units


def round_total(rounding: Rounding, amount_nano: int, minor_unit_nano: int) -> int:
    """A total as a whole number of steps of the minor unit."""
    step = rounding.step_minor * minor_unit_nano
    if rounding.rule is RoundingRule.DOWN:
        return amount_nano // step * step
    whole, rest = divmod(amount_nano, step)
    if rounding.rule is RoundingRule.HALF_EVEN:
        return (whole + (2 * rest > step or (2 * rest == step and whole % 2 == 1))) * step
    return round_half_away(amount_nano, step) * step


@dataclass(frozen=True, slots=True)
class BillingMonth:
    """A month of a bill, from its first day to the same day of the next month, or to the bill's end."""

    first_day: int
    end_day: int
    whole: bool

    @property
    def month(self) -> int:
        """1..12, of its first day."""
        return date_from_day(self.first_day)[1]


def billing_months(first_day: int, end_day: int) -> list[BillingMonth]:
    """The months of [first_day, end_day); the last one may be a part."""
    year, month, day = date_from_day(first_day)
    months: list[BillingMonth] = []
    start = first_day
    while start < end_day:
        year, month = year + month // 12, month % 12 + 1
        next_start = day_from_date(year, month, min(day, days_in_month(year, month)))
        months.append(BillingMonth(start, min(next_start, end_day), next_start <= end_day))
        start = next_start
    return months


def _energy_lines(rated: Sequence[RatedInterval]) -> list[BillLine]:
    """One line for each version, period, block and price, in the order in which they first had energy by name."""
    used_wh: dict[tuple[int, str, int, int], int] = {}
    for interval in rated:
        for line in interval.lines:
            period, version = untagged_name(line.period)
            key = (version, period, line.block, line.price_micro_per_kwh)
            used_wh[key] = used_wh.get(key, 0) + line.energy_wh
    order = {key: place for place, key in enumerate(dict.fromkeys((key[0], key[1]) for key in used_wh))}
    return [
        BillLine(
            LineKind.ENERGY,
            energy_wh * price,
            version,
            period=period,
            block=block,
            energy_wh=energy_wh,
            price_micro_per_kwh=price,
        )
        for (version, period, block, price), energy_wh in sorted(
            used_wh.items(), key=lambda item: (item[0][0], order[item[0][0], item[0][1]], item[0][2])
        )
    ]


class _Draft:
    """A bill being worked out."""

    def __init__(self, versions: Sequence[Tariff], zone: ZoneOffsets, usage: Usage, customer: Customer) -> None:
        self._versions = versions
        self._zone = zone
        self._usage = usage
        self._customer = customer
        self._first_day = local_day(zone, usage.start_at)
        self.end_day = local_day(zone, usage.end_at - 1) + 1
        self.issued = self._version_on(self.end_day - 1)  # its terms hold for what is due once a bill
        self._months = billing_months(self._first_day, self.end_day)

    def standing_lines(self) -> list[BillLine]:
        """Every local day once, at the price of its version; every month begun once, at that of its first day."""
        first = self._first_day if self._customer.standing_from_day is None else self._customer.standing_from_day
        lines = list(self._standing(ChargeSpan.DAY, range(first, self.end_day)))
        return lines + list(self._standing(ChargeSpan.MONTH, [month.first_day for month in self._months]))

    def _standing(self, span: ChargeSpan, days: Sequence[int]) -> Iterator[BillLine]:
        counts: dict[tuple[int, StandingCharge], int] = {}
        for day in days:
            version = self._version_on(day)
            for charge in version.terms.standing_charges:
                if charge.per is span:
                    counts[version.version, charge] = counts.get((version.version, charge), 0) + 1
        for (number, charge), count in counts.items():
            yield BillLine(
                LineKind.STANDING,
                charge.amount_nano * count,
                number,
                name=charge.name,
                days=count if span is ChargeSpan.DAY else None,
                months=count if span is ChargeSpan.MONTH else None,
                unit_amount_nano=charge.amount_nano,
            )

    def demand_lines(self) -> tuple[list[BillLine], list[PastDemand]]:
        """What each month's power costs, and the highest measured one of each month."""
        lines: list[BillLine] = []
        past = list(self._customer.past_demands)
        for month in self._months:
            version = self._version_on(month.first_day)
            for demand in version.terms.demands:
                if month.month in demand.months:
                    lines.extend(self._demand(demand, month, version.version, past))
            measured = [self._measured(demand, month) for demand in version.terms.demands]
            if any(power_w is not None for power_w in measured):
                past.append(PastDemand(month.month, max(power_w or 0 for power_w in measured)))
        return lines, past[len(self._customer.past_demands) :]

    def _demand(
        self, demand: Demand, month: BillingMonth, version: int, past: Sequence[PastDemand]
    ) -> Iterator[BillLine]:
        measured = None
        if demand.kind is DemandKind.MEASURED or demand.over_contract is not None or demand.ratchet is not None:
            measured = self._measured(demand, month)
            if measured is None:
                raise MissingInput("max_demand_w", f"the demand charge {demand.name}")
            if demand.ratchet is not None:
                measured = ratcheted(demand.ratchet, measured, past)
        if demand.kind is DemandKind.MEASURED:
            assert measured is not None
            parts = [DemandPart(measured, None)]  # a peak is a peak, however short the month
        else:
            parts = self._contracted(demand, month)
        for part in parts:
            if demand.kind is DemandKind.CONTRACT and demand.over_contract is not None and measured is not None:
                part = DemandPart(over_contract(demand.over_contract, part.power_w, measured), part.days)
            yield BillLine(
                LineKind.DEMAND,
                demand_charge(demand, part),
                version,
                name=demand.name,
                days=part.days,
                day_divisor=None if part.days is None else demand.day_divisor,
                unit_amount_nano=demand.prices_micro_per_kw_month[0] * 1000
                if len(demand.prices_micro_per_kw_month) == 1
                else None,
                power_w=part.power_w,
                measured_w=measured,
            )

    def _contracted(self, demand: Demand, month: BillingMonth) -> list[DemandPart]:
        """The contract or capacity of a month, cut where it changes; the customer's own goes before the document's."""
        field = "capacity_va" if demand.kind is DemandKind.CAPACITY else "contract_w"
        power_w = self._customer.capacity_va if field == "capacity_va" else self._customer.contract_w
        stated = demand.contract if power_w is None else (ContractStep(month.first_day, power_w),)
        if not stated:
            raise MissingInput(field, f"the demand charge {demand.name}")
        days = self._customer.days_in_use
        if days is None or (month.whole and days >= month.end_day - month.first_day):
            return [p for p in contract_parts(stated, month.first_day, month.end_day, month.whole) if p.power_w]
        return [p for p in contract_parts(stated, month.end_day - days, month.end_day, False) if p.power_w]

    def _measured(self, demand: Demand, month: BillingMonth) -> int | None:
        """The highest demand of a month, in the periods that count. None when nothing was measured."""
        first_at, end_at = midnight_of(self._zone, month.first_day), midnight_of(self._zone, month.end_day)
        samples = [s for s in self._usage.demand_samples or () if s.demand in (None, demand.name)]
        powers = []
        for sample in samples:
            if not first_at < sample.end_at <= end_at:
                continue
            counted = sample.periods.intersection(demand.periods)
            if counted and counted != sample.periods:
                raise ValueError(
                    f"the demand charge {demand.name} counts in some periods only, and one highest demand was read "
                    f"over {', '.join(sorted(sample.periods))}: read it where periods change"
                )
            if counted:
                powers.append(sample.power_w)
        return max(powers, default=0) if samples else None  # 0: none of its periods came in this month

    def power_factor_lines(self, lines: Sequence[BillLine]) -> list[BillLine]:
        """The adjustment of the month's mean power factor on its base."""
        adjustment = self.issued.terms.power_factor
        if adjustment is None:
            return []
        imported, exported = self._usage.reactive_import_varh, self._usage.reactive_export_varh
        if imported is None and exported is None:
            raise MissingInput("reactive_import_varh", "the power-factor adjustment")
        active_wh = sum(line.energy_wh or 0 for line in lines if line.kind is LineKind.ENERGY)
        factor = mean_power_factor(active_wh, reactive_used(imported or 0, exported or 0))
        if factor is None:
            return []
        share_ppm = adjustment_ppm(adjustment.standard_x100, factor)
        base_nano = _sum_of(lines, adjustment.base)
        return [
            BillLine(
                LineKind.POWER_FACTOR,
                round_half_away(base_nano * share_ppm, PPM),
                self.issued.version,
                power_factor_x100=factor,
                share_ppm=share_ppm,
                base_nano=base_nano,
            )
        ]

    def surcharge_lines(self, lines: Sequence[BillLine]) -> list[BillLine]:
        """Surcharges and taxes in the document's order, each version's on its own lines."""
        added: list[BillLine] = []
        for version in self._versions:
            ours = [line for line in lines if line.version == version.version]
            if ours or version is self.issued:
                for surcharge in version.terms.surcharges:
                    line = _surcharge_line(surcharge, version.version, ours)
                    ours.append(line)
                    added.append(line)
        return added

    def minimum_lines(self, lines: Sequence[BillLine]) -> list[BillLine]:
        """What is missing to the minimum bill."""
        minimum = self.issued.terms.minimum_bill
        if minimum is None:
            return []
        days = self.end_day - self._first_day
        count = days if minimum.per is ChargeSpan.DAY else len(self._months)
        missing_nano = minimum.amount_nano * count - sum(line.amount_nano for line in lines)
        if missing_nano <= 0:
            return []
        by_day = minimum.per is ChargeSpan.DAY
        return [
            BillLine(
                LineKind.MINIMUM,
                missing_nano,
                self.issued.version,
                days=count if by_day else None,
                months=None if by_day else count,
                unit_amount_nano=minimum.amount_nano,
            )
        ]

    def late_lines(self) -> list[BillLine]:
        """The late charge on an earlier issued bill."""
        arrears, terms = self._customer.arrears, self.issued.terms.late_charge
        if arrears is None or terms is None:
            return []
        fee = late_fee(terms, arrears, minor_nano(self.issued))
        days = fee.days_same_year + fee.days_later_years
        if not days:
            return []
        line = BillLine(LineKind.LATE, fee.amount_nano, self.issued.version, days=days, base_nano=arrears.amount_nano)
        return [line]

    def _version_on(self, day: int) -> Tariff:
        """The version in force on a local day."""
        return max((v for v in self._versions if v.first_day <= day), key=lambda v: v.first_day)


def _surcharge_line(surcharge: Surcharge, version: int, lines: Sequence[BillLine]) -> BillLine:
    """Of lines of one version: a share of the parts named, or a price for each kWh."""
    if surcharge.share_hundredths is None:
        energy_wh = sum(line.energy_wh or 0 for line in lines if line.kind is LineKind.ENERGY)
        price = surcharge.price_micro_per_kwh or 0
        return BillLine(
            LineKind.SURCHARGE,
            energy_wh * price,
            version,
            name=surcharge.name,
            energy_wh=energy_wh,
            price_micro_per_kwh=price,
        )
    base_nano = _sum_of(lines, surcharge.base)
    return BillLine(
        LineKind.SURCHARGE,
        round_half_away(base_nano * surcharge.share_hundredths, PERCENT_100),
        version,
        name=surcharge.name,
        share_ppm=surcharge.share_hundredths * PPM_PER_HUNDREDTH,
        base_nano=base_nano,
    )


def _sum_of(lines: Sequence[BillLine], parts: Sequence[ChargePart]) -> int:
    return sum(line.amount_nano for line in lines if _PART_OF.get(line.kind) in parts)
