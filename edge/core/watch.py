"""What is worth a technician's look at a meter, an area or a line: conditions that begin and end, as a table.

Voltages in mV, currents in mA, power in W, energy in Wh, shares in hundredths of a percent, `now_s` in
monotonic seconds. A condition begins and ends at different values (hysteresis), only after its value has
stood for the hold time, and does not begin again before the repeat time is over (rate limit). What is not
known (None) changes nothing. Every threshold is configuration. Source: RULES.md 9.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace

from edge.core.area import WHOLE_HUNDREDTHS, LineLoss
from edge.core.lean import dataclass

_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a condition begins (`_max`, `_min`) and how far back it must come to end (`_return_`)."""

    voltage_mv_min: int = 198_000  # 220 V - 10 %
    voltage_mv_max: int = 235_400  # 220 V + 7 %
    voltage_return_mv: int = 1_000
    voltage_qualified_hundredths_min: int = 9_800
    rated_w: int | None = None  # of the transformer or the connection; None: overload is not watched
    overload_hundredths: int = 10_000
    overload_return_hundredths: int = 9_500
    contract_w: int | None = None
    contract_return_hundredths: int = 9_500
    demand_window_s: int = 900
    imbalance_hundredths_max: int = 3_000
    imbalance_return_hundredths: int = 2_500
    imbalance_current_ma_min: int = 5_000  # below this a difference says nothing
    phase_loss_mv_max: int = 132_000  # 60 %
    phase_return_mv_min: int = 176_000  # 80 %
    reversed_w_min: int = 50
    clock_error_s_max: int = 300
    clock_error_return_s: int = 60
    silent_s_max: int = 600
    usage_drop_hundredths: int = 3_000  # of a mean day
    usage_return_hundredths: int = 6_000
    usage_day_wh_min: int = 1_000  # a mean day below this says nothing
    tier_used_hundredths: int = 8_000
    loss_hundredths_max: int = 700
    loss_return_hundredths: int = 500
    hold_s: int = 60
    repeat_s: int = 900


# Which of two thresholds may not be above the other, and the largest value of anything.
_ORDERED = (
    ("voltage_mv_min", "voltage_mv_max"),
    ("overload_return_hundredths", "overload_hundredths"),
    ("imbalance_return_hundredths", "imbalance_hundredths_max"),
    ("phase_loss_mv_max", "phase_return_mv_min"),
    ("clock_error_return_s", "clock_error_s_max"),
    ("usage_drop_hundredths", "usage_return_hundredths"),
    ("loss_return_hundredths", "loss_hundredths_max"),
)
_VALUE_MAX = 1_000_000_000
CYCLE_RETURN_HUNDREDTHS = 9_500
_POSITIVE = ("rated_w", "contract_w", "demand_window_s")


def check_thresholds(thresholds: Thresholds) -> None:
    """ValueError, naming the field, for what no site can mean."""
    for entry in fields(thresholds):
        value = getattr(thresholds, entry.name)
        least = 1 if entry.name in _POSITIVE else 0
        if value is not None and not least <= value <= _VALUE_MAX:
            raise ValueError(f"thresholds.{entry.name}: is {value}, allowed is {least} to {_VALUE_MAX}")
    for below, above in _ORDERED:
        if getattr(thresholds, below) > getattr(thresholds, above):
            raise ValueError(f"thresholds.{below}: must not be above {above}")
    if 2 * thresholds.voltage_return_mv >= thresholds.voltage_mv_max - thresholds.voltage_mv_min:
        raise ValueError("thresholds.voltage_return_mv: leaves no voltage at which the condition ends")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one meter or area now. None, or an empty tuple, is not known."""

    now_s: int
    voltages_mv: tuple[int, ...] = ()
    currents_ma: tuple[int, ...] = ()
    powers_w: tuple[int, ...] = ()  # by phase
    power_w: int | None = None
    demand_w: int | None = None  # mean of the demand window
    phase_sequence_reversed: bool | None = None
    cover_open: bool | None = None
    clock_trusted: bool | None = None
    clock_offset_s: int | None = None
    silent_s: int | None = None
    day_energy_wh: int | None = None  # of a whole day that has ended
    mean_day_wh: int | None = None
    day: int | None = None  # the local day, for a forecast
    tier_used_wh: int | None = None
    tier_limit_wh: int | None = None
    voltage_qualified_hundredths: int | None = None  # of a whole day
    loss: LineLoss | None = None  # of a whole day
    cycle_ms: int | None = None  # a line's last round
    poll_interval_ms: int | None = None  # and the time it should take at most


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that began or ended."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """Of one rule: whether its condition stands, since when its value says otherwise, when it last began."""

    stands: bool = False
    otherwise_since_s: int | None = None
    began_s: int | None = None


@dataclass(frozen=True, slots=True)
class WatchState:
    """What is remembered between two looks. A restart forgets it: a condition that still stands is told again."""

    rules: Mapping[str, _Standing] = field(default_factory=dict)

    @property
    def standing(self) -> frozenset[str]:
        """Names of the conditions that stand."""
        return frozenset(name for name, rule in self.rules.items() if rule.stands)


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition. `holds(facts, thresholds, stands)` knows by `stands` which of its two values to apply."""

    begins: str
    ends: str
    holds: Callable[[Facts, Thresholds, bool], bool | None]
    says: Callable[[Facts, Thresholds], str]
    at_once: bool = False  # a fact of a whole day, or one that was counted over a time of its own


def observe(
    state: WatchState, facts: Facts, thresholds: Thresholds = Thresholds(), table: Sequence[Rule] | None = None
) -> tuple[WatchState, tuple[Condition, ...]]:
    """The conditions that began or ended with these facts, in the order of the table: RULES, or another one."""
    rules, conditions = dict(state.rules), []
    for rule in RULES if table is None else table:
        before = rules.get(rule.begins, _Standing())
        after = _look(rule, before, facts, thresholds)
        rules[rule.begins] = after
        if after.stands is not before.stands:
            conditions.append(Condition(rule.begins if after.stands else rule.ends, rule.says(facts, thresholds)))
    return WatchState(rules), tuple(conditions)


def _look(rule: Rule, before: _Standing, facts: Facts, thresholds: Thresholds) -> _Standing:
    holds = rule.holds(facts, thresholds, before.stands)
    if holds is None:
        return before
    if holds is before.stands:
        return replace(before, otherwise_since_s=None)
    since_s = facts.now_s if before.otherwise_since_s is None else before.otherwise_since_s
    waits = not rule.at_once and facts.now_s - since_s < thresholds.hold_s
    early = holds and before.began_s is not None and facts.now_s - before.began_s < thresholds.repeat_s
    if waits or early:
        return replace(before, otherwise_since_s=since_s)
    return _Standing(holds, None, facts.now_s if holds else before.began_s)


def mean_power(before: tuple[int, int], after: tuple[int, int]) -> int:
    """Mean power in W between two (second, register in Wh) pairs, cut off to whole watts."""
    assert after[0] > before[0]
    return (after[1] - before[1]) * _SECONDS_PER_HOUR // (after[0] - before[0])


def day_crossed(used_wh: int, limit_wh: int, mean_day_wh: int, day: int) -> int | None:
    """The local day on which a tier is used up if every day takes a mean day; None if it never is."""
    if used_wh >= limit_wh:
        return day
    return None if mean_day_wh <= 0 else day + (limit_wh - used_wh) // mean_day_wh


@dataclass(frozen=True, slots=True)
class VoltageQuality:
    """How long a voltage was measured, and how long of that it lay in its band."""

    in_band_s: int = 0
    measured_s: int = 0

    def after(self, voltages_mv: tuple[int, ...], seconds: int, thresholds: Thresholds) -> "VoltageQuality":
        """With some more seconds at these voltages; all phases must lie in the band."""
        if not voltages_mv or seconds <= 0:
            return self
        good = all(thresholds.voltage_mv_min <= voltage <= thresholds.voltage_mv_max for voltage in voltages_mv)
        return VoltageQuality(self.in_band_s + seconds * good, self.measured_s + seconds)

    @property
    def qualified_hundredths(self) -> int | None:
        """The qualified rate, cut off: 100.00 % is said only of a voltage that never left its band."""
        return self.in_band_s * WHOLE_HUNDREDTHS // self.measured_s if self.measured_s else None


# --- the table ---


def _voltage_out(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if not facts.voltages_mv:
        return None
    inside = limits.voltage_return_mv if stands else 0
    low, high = limits.voltage_mv_min + inside, limits.voltage_mv_max - inside
    return any(not low <= voltage <= high for voltage in facts.voltages_mv)


def _voltage_unqualified(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    rate = facts.voltage_qualified_hundredths
    return None if rate is None else rate < limits.voltage_qualified_hundredths_min


def _overloaded(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.power_w is None or limits.rated_w is None:
        return None
    share = limits.overload_return_hundredths if stands else limits.overload_hundredths
    return facts.power_w * WHOLE_HUNDREDTHS > limits.rated_w * share


def _over_contract(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.demand_w is None or limits.contract_w is None:
        return None
    share = limits.contract_return_hundredths if stands else WHOLE_HUNDREDTHS
    return facts.demand_w * WHOLE_HUNDREDTHS > limits.contract_w * share


def _imbalanced(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if len(facts.currents_ma) < 3:
        return None
    most, least = max(facts.currents_ma), min(facts.currents_ma)
    if most < limits.imbalance_current_ma_min or most == 0:
        return False
    share = limits.imbalance_return_hundredths if stands else limits.imbalance_hundredths_max
    return (most - least) * WHOLE_HUNDREDTHS > most * share


def _phase_lost(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    """One phase without voltage while another has it: with all gone the supply is off, which is no fault here."""
    if len(facts.voltages_mv) < 3:
        return None
    limit = limits.phase_return_mv_min if stands else limits.phase_loss_mv_max
    return min(facts.voltages_mv) < limit and max(facts.voltages_mv) >= limits.phase_return_mv_min


def _power_reversed(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    """Some phases deliver while others take: a current transformer the wrong way round."""
    if len(facts.powers_w) < 3:
        return None
    least = 0 if stands else -limits.reversed_w_min
    return min(facts.powers_w) < least and max(facts.powers_w) > limits.reversed_w_min


def _clock_wrong(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.clock_trusted is None and facts.clock_offset_s is None:
        return None
    limit = limits.clock_error_return_s if stands else limits.clock_error_s_max
    return facts.clock_trusted is False or abs(facts.clock_offset_s or 0) > limit


def _silent(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    return None if facts.silent_s is None else facts.silent_s > limits.silent_s_max


def _usage_stopped(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.day_energy_wh is None or facts.mean_day_wh is None:
        return None
    return facts.day_energy_wh == 0 and (stands or facts.mean_day_wh >= limits.usage_day_wh_min)


def _usage_dropped(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    """Much less than on a mean day, but something: nothing at all has a condition of its own."""
    if facts.day_energy_wh is None or facts.mean_day_wh is None:
        return None
    if facts.day_energy_wh == 0 or facts.mean_day_wh < limits.usage_day_wh_min:
        return False
    share = limits.usage_return_hundredths if stands else limits.usage_drop_hundredths
    return facts.day_energy_wh * WHOLE_HUNDREDTHS < facts.mean_day_wh * share


def _tier_nearly_used(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.tier_used_wh is None or facts.tier_limit_wh is None:
        return None
    return facts.tier_used_wh * WHOLE_HUNDREDTHS >= facts.tier_limit_wh * limits.tier_used_hundredths


def _loss_high(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    if facts.loss is None or facts.loss.incomplete or facts.loss.rate_hundredths is None:
        return None
    return facts.loss.rate_hundredths > (limits.loss_return_hundredths if stands else limits.loss_hundredths_max)


def _loss_negative(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    return None if facts.loss is None or facts.loss.incomplete else facts.loss.negative


def _loss_incomplete(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    return None if facts.loss is None else facts.loss.incomplete


def _cycle_too_short(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
    """A round takes longer than the poll interval; it ends when a round leaves the wire a twentieth of it."""
    if facts.cycle_ms is None or facts.poll_interval_ms is None:
        return None
    share = CYCLE_RETURN_HUNDREDTHS if stands else WHOLE_HUNDREDTHS
    return facts.cycle_ms * WHOLE_HUNDREDTHS > facts.poll_interval_ms * share


def _fact(name: str) -> Callable[[Facts, Thresholds, bool], bool | None]:
    def holds(facts: Facts, limits: Thresholds, stands: bool) -> bool | None:
        value: bool | None = getattr(facts, name)
        return value

    return holds


def fixed_point(value: int, digits: int) -> str:
    """An integer of the smallest unit as a decimal: 19800 with 2 digits is 198.00."""
    sign, value = ("-" if value < 0 else ""), abs(value)
    whole, rest = divmod(value, 10**digits)
    return f"{sign}{whole}.{rest:0{digits}}"


def loss_words(loss: LineLoss) -> str:
    """A loss in numbers that need no language."""
    rate = "-" if loss.rate_hundredths is None else f"{fixed_point(loss.rate_hundredths, 2)} %"
    supply, sold = fixed_point(loss.supply_wh, 3), fixed_point(loss.sold_wh, 3)
    coverage = fixed_point(loss.coverage_hundredths, 2)
    missing = f" ({', '.join(loss.missing)})" if loss.missing else ""
    return f"{rate}: {supply} - {sold} kWh, {coverage} %{missing}"


def _list(values: tuple[int, ...], unit: str, digits: int) -> str:
    return " / ".join(fixed_point(value, digits) if digits else str(value) for value in values) + f" {unit}"


def _voltages(facts: Facts, limits: Thresholds) -> str:
    return _list(tuple(voltage // 100 for voltage in facts.voltages_mv), "V", 1)


def _currents(facts: Facts, limits: Thresholds) -> str:
    return _list(facts.currents_ma, "A", 3)


def _tier(facts: Facts, limits: Thresholds) -> str:
    used, limit = facts.tier_used_wh or 0, facts.tier_limit_wh or 0
    said = f"{fixed_point(used, 3)} / {fixed_point(limit, 3)} kWh"
    if facts.day is None or facts.mean_day_wh is None:
        return said
    crossed = day_crossed(used, limit, facts.mean_day_wh, facts.day)
    return said if crossed is None else f"{said}, +{crossed - facts.day} d"


def _clock(facts: Facts, limits: Thresholds) -> str:
    return "" if facts.clock_offset_s is None else f"{facts.clock_offset_s} s"


def _qualified(facts: Facts, limits: Thresholds) -> str:
    return f"{fixed_point(facts.voltage_qualified_hundredths or 0, 2)} %"


def _usage(facts: Facts, limits: Thresholds) -> str:
    return f"{fixed_point(facts.day_energy_wh or 0, 3)} / {fixed_point(facts.mean_day_wh or 0, 3)} kWh"


def _loss(facts: Facts, limits: Thresholds) -> str:
    return "" if facts.loss is None else loss_words(facts.loss)


def _cycle(facts: Facts, limits: Thresholds) -> str:
    cycle, interval = (fixed_point(one or 0, 3) for one in (facts.cycle_ms, facts.poll_interval_ms))
    return f"{cycle} / {interval} s"


def _nothing(facts: Facts, limits: Thresholds) -> str:
    return ""


RULES: tuple[Rule, ...] = (
    Rule("voltage_out_of_band", "voltage_in_band", _voltage_out, _voltages),
    Rule("voltage_unqualified", "voltage_qualified", _voltage_unqualified, _qualified, at_once=True),
    Rule("overloaded", "overload_ended", _overloaded, lambda facts, limits: f"{facts.power_w} / {limits.rated_w} W"),
    Rule(
        "demand_over_contract",
        "demand_within_contract",
        _over_contract,
        lambda facts, limits: f"{facts.demand_w} / {limits.contract_w} W",
        at_once=True,
    ),
    Rule("currents_imbalanced", "currents_balanced", _imbalanced, _currents),
    Rule("phase_lost", "phase_returned", _phase_lost, _voltages),
    Rule("power_reversed", "power_forward", _power_reversed, lambda facts, limits: _list(facts.powers_w, "W", 0)),
    Rule("phase_sequence_reversed", "phase_sequence_right", _fact("phase_sequence_reversed"), _nothing),
    Rule("cover_opened", "cover_closed", _fact("cover_open"), _nothing, at_once=True),
    Rule("clock_wrong", "clock_right", _clock_wrong, _clock),
    Rule("meter_silent", "meter_answers", _silent, lambda facts, limits: f"{facts.silent_s} s", at_once=True),
    Rule("usage_stopped", "usage_resumed", _usage_stopped, _usage, at_once=True),
    Rule("usage_dropped", "usage_normal", _usage_dropped, _usage, at_once=True),
    Rule("tier_nearly_used", "tier_began", _tier_nearly_used, _tier, at_once=True),
    Rule("line_loss_high", "line_loss_normal", _loss_high, _loss, at_once=True),
    Rule("line_loss_negative", "line_loss_positive", _loss_negative, _loss, at_once=True),
    Rule("line_loss_incomplete", "line_loss_complete", _loss_incomplete, _loss, at_once=True),
)

# Of a line.
LINE_RULES: tuple[Rule, ...] = (Rule("cycle_too_short", "cycle_long_enough", _cycle_too_short, _cycle),)
