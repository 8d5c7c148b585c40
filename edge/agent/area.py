"""Watches the transformer areas and the meters in them, round by round, and once a day their loss.

Every round the newest samples become facts for `edge.core.watch`; at each local midnight the registers of
all meters of an area are frozen at the same instant, and two freezes in a row give the loss of the day.
What begins or ends becomes a record; nothing here moves money or a contactor. Registers in Wh, values of
samples in the units of their models (V, A, W, kWh).
"""

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from decimal import Decimal

from edge.agent.metering import POWER_POINT, Metering
from edge.bus.classes import EXPORT_POINT
from edge.bus.records import MeterSample
from edge.core.account import State
from edge.core.area import Area, FrozenRegister, LineLoss, area_loss
from edge.core.calendar import ZoneOffsets, local_day, midnight_of, next_local_midnight
from edge.core.commands import NoteCondition
from edge.core.lean import dataclass
from edge.core.reading import freeze_register
from edge.core.units import ClockReading, UnixSeconds, WattHours
from edge.core.watch import Condition, Facts, Thresholds, VoltageQuality, WatchState, loss_words, mean_power, observe

HISTORY_DAYS = 31
MEAN_DAYS = 7
FREEZE_GAP_S_MAX = 3600  # between the samples around midnight: across more the meter counts as not read
FREEZE_WAIT_S = 900  # after midnight: a meter that has not answered by then is missing from the day
_SAMPLE_GAP_S_MAX = 300  # a voltage counts for its time until the next sample, but never for longer
_PHASES = ("l1", "l2", "l3")
# DL/T 645-2007, annex A: status word 7 of table A.5; date YYMMDDWW and time hhmmss of table A.4.
_STATUS_BITS = {"phase_sequence_reversed": ("status_word_7", 0)}
_CLOCK_POINTS = ("meter_date", "meter_time")


@dataclass(frozen=True, slots=True)
class AreaFacts:
    """An area as commissioned."""

    area: Area
    thresholds: Thresholds = field(default_factory=Thresholds)
    meter_thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True, slots=True)
class DayLoss:
    """The loss of a local day that has ended, and how far apart in time its last freeze was sampled."""

    day: int
    loss: LineLoss
    spread_ms: int | None = None  # first to last of the samples next to it; None: fewer than two meters were read


@dataclass(frozen=True, slots=True)
class _Freeze:
    """A register at an instant, and when the sample next to it was taken, since boot."""

    register: FrozenRegister
    sampled_ms: int


@dataclasses.dataclass(slots=True)
class _MeterWatch:
    """What is remembered of one meter. `subject` is who a record is about, `account_id` empty for none."""

    meter_id: str
    subject: str
    account_id: str
    thresholds: Thresholds
    ratio: int = 1
    last: MeterSample | None = None
    freezes: dict[UnixSeconds, _Freeze] = field(default_factory=dict)
    window: deque[tuple[int, int]] = field(default_factory=deque)  # second since boot, register
    quality: VoltageQuality = field(default_factory=VoltageQuality)
    days_wh: deque[int] = field(default_factory=lambda: deque(maxlen=MEAN_DAYS))
    began_s: int | None = None
    state: WatchState = field(default_factory=WatchState)


@dataclasses.dataclass(slots=True)
class _AreaWatch:
    facts: AreaFacts
    history: deque[DayLoss] = field(default_factory=lambda: deque(maxlen=HISTORY_DAYS))
    state: WatchState = field(default_factory=WatchState)


class AreaWatch:
    """All areas of a site. `look` is called once a round and gives the records to submit."""

    def __init__(self, areas: Sequence[AreaFacts], accounts: Mapping[str, str]) -> None:
        """`accounts` are the account ids by meter id."""
        self._areas = {entry.area.area_id: _AreaWatch(entry) for entry in areas}
        self._meters: dict[str, _MeterWatch] = {}
        for entry in areas:
            area = entry.area
            for meter_id in area.meters:
                supply = meter_id in area.supply_meters
                limits = entry.thresholds if supply and len(area.supply_meters) == 1 else entry.meter_thresholds
                account_id, ratio = accounts.get(meter_id, ""), area.ct_ratio if supply else 1
                self._meters[meter_id] = _MeterWatch(meter_id, account_id or meter_id, account_id, limits, ratio)
        self._midnight_at: UnixSeconds | None = None
        self._loss_due_at: UnixSeconds | None = None

    def history(self, area_id: str) -> tuple[DayLoss, ...]:
        """The losses of the days since the start, the latest last; at most 31."""
        return tuple(self._areas[area_id].history)

    @property
    def area_ids(self) -> tuple[str, ...]:
        """The areas, in the order of the site book."""
        return tuple(self._areas)

    def standing(self, area_id: str) -> frozenset[str]:
        """Names of the conditions that stand, of the area itself and of its supply meters."""
        entry = self._areas[area_id]
        supply = (self._meters[meter_id].state.standing for meter_id in entry.facts.area.supply_meters)
        return entry.state.standing.union(*supply)

    def look(
        self, clock: ClockReading, zone: Callable[[], ZoneOffsets], metering: Metering, state: State
    ) -> list[NoteCondition]:
        """What began or ended since the last look. `zone` is asked only where there is an area."""
        return list(self._records(clock, zone(), metering, state)) if self._areas else []

    def _records(
        self, clock: ClockReading, zone: ZoneOffsets, metering: Metering, state: State
    ) -> Iterator[NoteCondition]:
        for meter in self._meters.values():
            sample = metering.newest(meter.meter_id)
            facts = self._facts_now(meter, sample, clock, state, zone)
            yield from _notes(clock, meter, facts)
        for entry in self._areas.values():
            facts = Facts(clock.elapsed_ms // 1000, clock_trusted=clock.quality.trusted)
            yield from _area_notes(clock, entry, facts)
        if clock.quality.trusted:  # an untrusted clock passes no midnight
            yield from self._midnight(clock, zone, state)

    def _facts_now(
        self,
        meter: _MeterWatch,
        sample: MeterSample | None,
        clock: ClockReading,
        state: State,
        zone: ZoneOffsets,
    ) -> Facts:
        now_s = clock.elapsed_ms // 1000
        if meter.began_s is None:
            meter.began_s = now_s
        heard_s = meter.began_s if sample is None else sample.clock.elapsed_ms // 1000
        # The silence of an account's meter is told by the gateway, from the line itself.
        facts = Facts(now_s, silent_s=None if meter.account_id else max(0, now_s - heard_s))
        if sample is None or sample is meter.last:
            return facts
        voltages = _by_phase(sample, "voltage", 1000)
        if meter.last is not None:
            self._freeze(meter, meter.last, sample, zone)
            seconds = (sample.clock.elapsed_ms - meter.last.clock.elapsed_ms) // 1000
            meter.quality = meter.quality.after(voltages, min(seconds, _SAMPLE_GAP_S_MAX), meter.thresholds)
        meter.last = sample
        power_w = sample.values.get(POWER_POINT)
        clock_trusted, clock_offset_s = _meter_clock(sample, zone)
        return replace(
            facts,
            phase_sequence_reversed=_flag(sample, "phase_sequence_reversed"),
            cover_open=_flag(sample, "cover_open"),
            clock_trusted=clock_trusted,
            clock_offset_s=clock_offset_s,
            voltages_mv=voltages,
            currents_ma=_by_phase(sample, "current", 1000 * meter.ratio),
            powers_w=_by_phase(sample, "power", meter.ratio),
            power_w=None if power_w is None else _floor(power_w, meter.ratio),
            demand_w=_demand(meter, sample),
        )

    def _freeze(self, meter: _MeterWatch, before: MeterSample, after: MeterSample, zone: ZoneOffsets) -> None:
        """The register at the midnight between two samples, if there is one. A long gap is not guessed over."""
        if not (before.clock.quality.trusted and after.clock.quality.trusted):
            return
        midnight_at = UnixSeconds(next_local_midnight(zone, before.clock.at))
        gap_s = after.clock.at - before.clock.at
        if not before.clock.at < midnight_at <= after.clock.at or gap_s > FREEZE_GAP_S_MAX:
            return
        forward_wh = _at_instant(before, after, midnight_at, before.register_wh, after.register_wh)
        if forward_wh is None:
            return
        exports = [_export_wh(sample) for sample in (before, after)]
        reverse_wh = None
        if exports[0] is not None and exports[1] is not None:
            reverse_wh = _at_instant(before, after, midnight_at, exports[0], exports[1])
        nearest = min(after, before, key=lambda sample: abs(sample.clock.at - midnight_at))
        meter.freezes[midnight_at] = _Freeze(FrozenRegister(forward_wh, reverse_wh), nearest.clock.elapsed_ms)
        for old_at in sorted(meter.freezes)[:-2]:
            del meter.freezes[old_at]

    def _midnight(self, clock: ClockReading, zone: ZoneOffsets, state: State) -> Iterator[NoteCondition]:
        """The day that ended, once: when every meter has its freeze, or after the wait without the rest."""
        midnight_at = UnixSeconds(next_local_midnight(zone, clock.at))
        if self._midnight_at is not None and midnight_at > self._midnight_at:
            self._loss_due_at = self._midnight_at
        self._midnight_at = max(midnight_at, self._midnight_at or midnight_at)
        due_at = self._loss_due_at
        if due_at is None:
            return
        if all(due_at in meter.freezes for meter in self._meters.values()) or clock.at - due_at >= FREEZE_WAIT_S:
            self._loss_due_at = None
            yield from self._end_day(clock, due_at, zone, state)

    def _end_day(
        self, clock: ClockReading, end_at: UnixSeconds, zone: ZoneOffsets, state: State
    ) -> Iterator[NoteCondition]:
        day, now_s = local_day(zone, end_at - 1), clock.elapsed_ms // 1000
        start_at = UnixSeconds(midnight_of(zone, day))
        for meter in self._meters.values():
            yield from _notes(clock, meter, _day_facts(meter, start_at, end_at, now_s, day, state))
        for entry in self._areas.values():
            before, after = (self._frozen(entry, at) for at in (start_at, end_at))
            loss = area_loss(entry.facts.area, before, after)
            entry.history.append(DayLoss(day, loss, self._spread_ms(entry, end_at)))
            yield _note(clock, "line_loss", entry.facts.area.area_id, "", loss_words(loss))
            yield from _area_notes(clock, entry, Facts(now_s, loss=loss))

    def _frozen(self, entry: _AreaWatch, at: UnixSeconds) -> dict[str, FrozenRegister]:
        meters = (self._meters[meter_id] for meter_id in entry.facts.area.meters)
        return {meter.meter_id: meter.freezes[at].register for meter in meters if at in meter.freezes}

    def _spread_ms(self, entry: _AreaWatch, at: UnixSeconds) -> int | None:
        meters = (self._meters[meter_id] for meter_id in entry.facts.area.meters)
        sampled_ms = [meter.freezes[at].sampled_ms for meter in meters if at in meter.freezes]
        return max(sampled_ms) - min(sampled_ms) if len(sampled_ms) > 1 else None


def _day_facts(
    meter: _MeterWatch, start_at: UnixSeconds, end_at: UnixSeconds, now_s: int, day: int, state: State
) -> Facts:
    """What a whole day says of a meter; its mean day is that of the days before."""
    before, after = meter.freezes.get(start_at), meter.freezes.get(end_at)
    mean_wh = sum(meter.days_wh) // len(meter.days_wh) if meter.days_wh else None
    day_wh = None if before is None or after is None else after.register.forward_wh - before.register.forward_wh
    if day_wh is not None and day_wh >= 0:
        meter.days_wh.append(day_wh)
    quality, meter.quality = meter.quality, VoltageQuality()
    used_wh, limit_wh = _tier(meter.account_id, state)
    return Facts(
        now_s,
        day_energy_wh=day_wh if day_wh is not None and day_wh >= 0 else None,
        mean_day_wh=mean_wh if mean_wh is not None else day_wh,
        day=day + 1,
        voltage_qualified_hundredths=quality.qualified_hundredths,
        tier_used_wh=used_wh,
        tier_limit_wh=limit_wh,
    )


def _tier(account_id: str, state: State) -> tuple[int | None, int | None]:
    """(energy of the cycle, end of the tier it lies in); nothing in the last tier, or where tiers go by period."""
    account = state.accounts.get(account_id)
    if account is None or len(account.cycle_energy_wh) != 1 or account.tariff not in state.tariffs:
        return None, None
    limits = (json.loads(state.tariffs[account.tariff]).get("blocks") or {}).get("limits_kwh") or []
    used_wh = account.cycle_energy_wh[0]
    ends_wh = [int(Decimal(str(limit)) * 1000) for limit in limits]
    return used_wh, min((end for end in ends_wh if end >= used_wh), default=None)


def _demand(meter: _MeterWatch, sample: MeterSample) -> int | None:
    """Mean power over the demand window that ends with this sample; None until it is filled."""
    now_s, length_s = sample.clock.elapsed_ms // 1000, meter.thresholds.demand_window_s
    if meter.window and (sample.register_wh < meter.window[-1][1] or now_s <= meter.window[-1][0]):
        meter.window.clear()
    meter.window.append((now_s, sample.register_wh))
    while len(meter.window) > 2 and now_s - meter.window[1][0] >= length_s:
        meter.window.popleft()
    first = meter.window[0]
    if not length_s <= now_s - first[0] <= 2 * length_s:
        return None
    return mean_power(first, meter.window[-1]) * meter.ratio


def _flag(sample: MeterSample, name: str) -> bool | None:
    """What a meter says of itself: a point of that name, or its bit of a status word. None: it does not say."""
    value = sample.values.get(name)
    if value is not None:
        return value != 0
    word_name, bit = _STATUS_BITS.get(name, ("", 0))
    word = sample.values.get(word_name)
    return None if word is None else bool(int(word) >> bit & 1)


def _meter_clock(sample: MeterSample, zone: ZoneOffsets) -> tuple[bool | None, int | None]:
    """(False where a meter's own clock shows no date at all, how far it is ahead of the gateway's); both show local
    time. None: one of them says nothing."""
    date_digits, time_digits = (sample.values.get(name) for name in _CLOCK_POINTS)
    if date_digits is None or time_digits is None or not sample.clock.quality.trusted:
        return None, None
    (year, month, day, _), (hour, minute, second) = _pairs(date_digits, 4), _pairs(time_digits, 3)
    try:
        shown = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False, None
    at = sample.clock.at
    return None, int(shown.timestamp()) - (at + zone.offset_at(at))


def _pairs(digits: Decimal, count: int) -> tuple[int, ...]:
    """A number of two-digit fields, the first one first."""
    number = int(digits)
    return tuple(number // 100**place % 100 for place in reversed(range(count)))


def _by_phase(sample: MeterSample, quantity: str, factor: int) -> tuple[int, ...]:
    values = (sample.values.get(f"{quantity}_{phase}") for phase in _PHASES)
    return tuple(_floor(value, factor) for value in values if value is not None)


def _floor(value: Decimal, factor: int) -> int:
    return int((value * factor).to_integral_value(rounding="ROUND_FLOOR"))


def _export_wh(sample: MeterSample) -> int | None:
    value = sample.values.get(EXPORT_POINT)
    return None if value is None else _floor(value, 1000)


def _at_instant(before: MeterSample, after: MeterSample, at: int, before_wh: int, after_wh: int) -> WattHours | None:
    frozen = freeze_register((before.clock.at, before_wh), (after.clock.at, after_wh), at)
    return None if frozen is None else WattHours(frozen[0])


def _notes(clock: ClockReading, meter: _MeterWatch, facts: Facts) -> list[NoteCondition]:
    meter.state, conditions = observe(meter.state, facts, meter.thresholds)
    return [_said(clock, condition, meter.subject, meter.account_id) for condition in conditions]


def _area_notes(clock: ClockReading, entry: _AreaWatch, facts: Facts) -> list[NoteCondition]:
    entry.state, conditions = observe(entry.state, facts, entry.facts.thresholds)
    return [_said(clock, condition, entry.facts.area.area_id, "") for condition in conditions]


def _said(clock: ClockReading, condition: Condition, subject: str, account_id: str) -> NoteCondition:
    return _note(clock, condition.name, subject, account_id, condition.detail)


def _note(clock: ClockReading, name: str, subject: str, account_id: str, detail: str) -> NoteCondition:
    """A record about an account names it; one about a meter or an area says it first in its detail."""
    said = detail if account_id else ": ".join(filter(None, (subject, detail)))
    return NoteCondition(clock, name, account_id, said)
