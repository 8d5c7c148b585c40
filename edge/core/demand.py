"""Demand: the highest mean power of a month, and what of it or of a contract is billed.

Power in W (or VA), energy in Wh, prices in micro-currency per kW (or kVA) and month: W times
micro per kW is nano, exactly. A part month bills days / divisor, rounded half away to the nano.
Source: RULES.md 3; the 105 % rule and the sliding window (15 min by 1 min) are China's, from
secondary sources; clock blocks (slip equal to the window) under-read what straddles them.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from edge.core.lean import dataclass
from edge.core.terms import PERCENT_100, ContractStep, Demand, OverContract, Ratchet
from edge.core.units import ClockReading, round_half_away

_SECONDS_PER_MINUTE = 60
_MINUTE_W_PER_WH = 60  # one Wh in a minute is 60 W
_MS_PER_HOUR = 3_600_000
_EARLY_S = 60  # a record may come that much early: rounds do not come by the second


@dataclass(frozen=True, slots=True)
class DemandPart:
    """So much power for so many days of a month; `days` is None for the whole month."""

    power_w: int
    days: int | None


@dataclass(frozen=True, slots=True)
class PastDemand:
    """The highest demand of a month before: for the ratchet."""

    month: int  # 1..12
    power_w: int


@dataclass(frozen=True, slots=True)
class Contracted:
    """What is contracted or connected, by the site book; None where it says nothing."""

    contract_w: int | None = None
    capacity_va: int | None = None


@dataclass(frozen=True, slots=True)
class DemandLine:
    """One line of a month's power, with what it was worked out from. `days`: None for the whole month."""

    name: str
    kind: str
    power_w: int  # billed
    basis_w: int  # contracted, connected or measured
    days: int | None
    day_divisor: int | None
    amount_nano: int


@dataclass(frozen=True, slots=True)
class DemandMeter:
    """The highest mean power between two reading records since the month began; None: nothing was measured yet."""

    window_s: int
    power_w_max: int | None = None
    base_wh: int = 0
    base_clock: ClockReading | None = None  # of the record the running window began with


def measured(meter: DemandMeter, register_wh: int, clock: ClockReading) -> DemandMeter:
    """The meter after one more record. Windows are clock blocks: what straddles two of them is read low.

    Time is monotonic, so no clock that is set makes a peak; a gap or a restart measures nothing.
    """
    base = meter.base_clock
    if base is None or base.boot_id != clock.boot_id or register_wh < meter.base_wh:
        return replace(meter, base_wh=register_wh, base_clock=clock)
    elapsed_ms = clock.elapsed_ms - base.elapsed_ms
    if elapsed_ms < (meter.window_s - _EARLY_S) * 1000:
        return meter
    highest_w = meter.power_w_max
    if elapsed_ms <= 2 * meter.window_s * 1000:
        power_w = (register_wh - meter.base_wh) * _MS_PER_HOUR // elapsed_ms
        highest_w = max(power_w, highest_w or 0)
    return replace(meter, power_w_max=highest_w, base_wh=register_wh, base_clock=clock)


def unmeasured(meter: DemandMeter | None) -> DemandMeter | None:
    """The meter where the register went on for another reason than use: the running window is given up."""
    return None if meter is None else replace(meter, base_clock=None)


def max_demand(minute_powers_w: Sequence[int], window_min: int, slip_min: int) -> int | None:
    """The highest mean power over windows that begin every `slip_min` minutes, cut off to whole watts.

    None when the minutes do not fill one window: nothing was measured then.
    """
    assert 0 < slip_min <= window_min
    assert window_min % slip_min == 0
    sums = [0, *accumulate(minute_powers_w)]
    starts = range(0, len(minute_powers_w) - window_min + 1, slip_min)
    return max(((sums[start + window_min] - sums[start]) // window_min for start in starts), default=None)


def minute_powers(start_at: int, intervals: Sequence[tuple[int, int]]) -> list[int] | None:
    """Mean power of each minute from (end, energy in Wh) pairs; None unless all stand on whole minutes.

    Energy is taken as spread evenly over its interval, so a mean of a window may be a little low.
    """
    powers: list[int] = []
    for end_at, energy_wh in intervals:
        minutes, rest = divmod(end_at - start_at, _SECONDS_PER_MINUTE)
        if rest or minutes <= 0:
            return None
        powers.extend([energy_wh * _MINUTE_W_PER_WH // minutes] * minutes)
        start_at = end_at
    return powers


def over_contract(rule: OverContract, contract_w: int, measured_w: int) -> int:
    """What is billed by contract: the contract up to the threshold, above it the measured with the excess again.

    There is a jump at the threshold: of a contract of 500 kW 525 bills 500, and 526 bills 527.
    """
    threshold = contract_w * rule.threshold_hundredths
    if measured_w * PERCENT_100 <= threshold:
        return contract_w
    excess = measured_w * PERCENT_100 - threshold
    return measured_w + round_half_away((rule.factor - 1) * excess, PERCENT_100)


def ratcheted(rule: Ratchet, measured_w: int, past: Sequence[PastDemand]) -> int:
    """The demand, or the share of the highest one of the months before (the latest last) if that is more."""
    counted = [month.power_w for month in past[-rule.months :] if month.month in rule.of_months]
    return max(measured_w, round_half_away(max(counted, default=0) * rule.share_hundredths, PERCENT_100))


def contract_parts(steps: Sequence[ContractStep], first_day: int, end_day: int, whole_month: bool) -> list[DemandPart]:
    """The contract over [first_day, end_day), cut where it changes. Before its first step nothing is contracted."""
    parts: list[DemandPart] = []
    day = first_day
    while day < end_day:
        power_w = max(((s.first_day, s.power_w) for s in steps if s.first_day <= day), default=(0, 0))[1]
        next_day = min((s.first_day for s in steps if s.first_day > day), default=end_day)
        next_day = min(next_day, end_day)
        if parts and parts[-1].power_w == power_w:
            parts[-1] = DemandPart(power_w, (parts[-1].days or 0) + next_day - day)
        else:
            parts.append(DemandPart(power_w, next_day - day))
        day = next_day
    return [DemandPart(parts[0].power_w, None)] if whole_month and len(parts) == 1 else parts


def demand_charge(demand: Demand, part: DemandPart) -> int:
    """What a power costs for its days, in nano: block by block, 1/divisor of the month a day."""
    month_nano, below_w = 0, 0
    for price, limit_w in zip(demand.prices_micro_per_kw_month, (*demand.limits_w, None), strict=True):
        up_to_w = part.power_w if limit_w is None else min(part.power_w, limit_w)
        month_nano += max(0, up_to_w - below_w) * price
        below_w = max(below_w, up_to_w)
    return month_nano if part.days is None else round_half_away(month_nano * part.days, demand.day_divisor)
