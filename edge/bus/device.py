"""One device of a line: what is read of it, how well it answers, and a visit to it step by step.

Energy is Wh, times of `clock` are the accounting clock. A visit is a generator: it yields what to
ask, is sent the outcome, and knows neither ports nor timers.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from edge.bus.classes import Deadlines, ReadingClass, Scope, class_of
from edge.bus.command import commanded
from edge.bus.frame import Framing, Request
from edge.bus.plan import EXCEPTIONS_OF_A_HOLE, BlockMap, ReadBlock, ReadCost, ReadItem, ReadLimits, confirming_blocks
from edge.bus.plausibility import RegisterReading, RegisterWatch
from edge.bus.records import ABSENT, DeviceStatus, MeterOnLine, MeterSample, OutputResult, RelayOnLine, RelayState
from edge.bus.transaction import Ask, Outcome
from edge.bus.values import BlockTable, Values, table_of
from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.meters.energy import EnergyReader, energy_reader
from edge.meters.model import MeterModel, RelaySpec
from edge.meters.point import Point, ValueRefused, register_wh, resolution_wh
from edge.meters.records import MODBUS
from edge.ports import Clock, ClockReading

_RELAY_ITEM: Final = "relay "
_EXCEPTION: Final = "exception_"
_NOT_AUTHORISED: Final = "exception_not_authorised"
_NO_FITTING_ANSWER: Final = ("timeout", "wrong_length")
_CONFIRMATION_TRIES: Final = 3
# A meter that is given a wrong password too often lets nobody in for a day, not even with the right one.
_BARRED_MS: Final = 24 * 3_600_000


_sample, _reading, _made_status = quickly(MeterSample), quickly(RegisterReading), quickly(DeviceStatus)
Steps = Generator[Ask, Outcome, None]


@dataclass(frozen=True, slots=True)
class Step:
    """One read of a visit: all that can be known of it before."""

    block: ReadBlock
    ask: Ask
    table: BlockTable
    money: bool  # whether the money register is in it
    energy: EnergyReader | None  # the money register, out of the answer
    relays: tuple[ReadItem, ...]
    reading_class: ReadingClass  # of the most urgent value in it


@dataclass(frozen=True, slots=True)
class _Held:
    """The registers of a block as they were read last."""

    table: BlockTable
    words: Sequence[int]
    elapsed_ms: int  # when that visit began, so that rounds of one pace find it due on time


class Device:
    """A meter, a relay board, or a meter with its own relay."""

    def __init__(
        self,
        device_id: int,
        meter: MeterOnLine | None,
        relays: Sequence[RelayOnLine],
        framing: Framing,
        cost: ReadCost,
        deadlines: Deadlines,
    ) -> None:
        models = [meter.model] if meter else []
        models += [relay.model for relay in relays]
        self.device_id, self.meter, self.relays = device_id, meter, {relay.relay_id: relay for relay in relays}
        self.gap_s = max(model.link.min_gap_ms for model in models) / 1000
        self.watch = RegisterWatch(meter.power_w_max) if meter else None
        self.polls_ok = self.polls_failed = self.readings_rejected = 0
        self.errors: Counter[str] = Counter()
        self.last_ok: ClockReading | None = None
        self.last_error: str | None = None
        self._told: dict[str, bool] = {}  # relay states as they were reported last
        self._framing, self._deadlines = framing, deadlines
        self._held: dict[ReadBlock, _Held] = {}
        self._limits = _strictest(models)
        self._points = _points_read(meter) if meter else {}
        self._money_item = self._find_money_item()
        self._map = BlockMap(self._items(), self._limits, cost.before(self.gap_s))
        self._requests: dict[tuple[int, int, int], Request] = {}
        self.plain_step: Step | None = None  # all there is to a visit, as long as nothing is doubtful
        self._plan()
        self._refused_confirmations: set[tuple[int, int]] = set()
        self._failed_confirmations: Counter[tuple[int, int]] = Counter()  # since the last that did not
        self._barred_at_ms: int | None = None  # when the meter refused our password
        self._status: DeviceStatus | None = None  # as long as nothing is counted

    def status(self, silent: bool) -> DeviceStatus:
        """The counters. The same object until one of them changes: every round asks for all devices."""
        if self._status is None or self._status.silent is not silent:
            self._status = self._counted(silent)
        return self._status

    def _counted(self, silent: bool) -> DeviceStatus:
        return _made_status(
            device_id=self.device_id,
            meter_ids=(self.meter.meter_id,) if self.meter else (),
            relay_ids=tuple(self.relays),
            polls_ok=self.polls_ok,
            polls_failed=self.polls_failed,
            readings_rejected=self.readings_rejected,
            errors=MappingProxyType(dict(self.errors)),
            last_ok=self.last_ok,
            last_error=self.last_error,
            silent=silent,
        )

    def count(self, outcome: Outcome, clock: Clock) -> None:
        """Books how a request ended. Whatever went wrong, the next money register is read twice."""
        self._status = None
        if outcome.reason is None:
            self.polls_ok += 1
            self.last_ok = clock.read()
            return
        self.polls_failed += 1
        self.count_error(outcome.reason)

    def count_error(self, reason: str) -> None:
        self._status = None
        self.errors[reason] += 1
        self.last_error = reason
        self.trouble()

    def trouble(self) -> None:
        self._held.clear()
        if self.watch is not None:
            self.watch.trouble()

    def plain_sample(self, step: Step, outcome: Outcome, asked_ms: int) -> MeterSample | None:
        """What a good answer to `plain_step` says, if it may be believed at once, as nearly every one may.

        None: nothing is booked, and `visit` has to look at it. The same verdict in a third of its time.
        """
        answered, meter, watch = self.last_ok, self.meter, self.watch
        assert answered is not None, "the outcome is counted before"
        assert meter is not None
        assert watch is not None
        assert step.energy is not None
        try:
            register, resolution = step.energy(outcome.words)
        except ValueRefused:
            return None
        verdict = watch.first(_reading(register, resolution, asked_ms, answered.elapsed_ms))
        if verdict is None:
            return None
        values = Values()
        self._take_values(step, outcome, values)
        return _sample(meter.meter_id, answered, register, values, verdict)

    def visit(
        self,
        clock: Clock,
        on_sample: Callable[[MeterSample], None],
        on_relay: Callable[[RelayState], None],
        begun: tuple[Outcome, int] | None = None,
        scope: Scope = Scope.DUE,
    ) -> Steps:
        """Reads what is due once, money first. A fault of the line ends the visit; an exception does not.

        What is not due stands in the sample as it was read last. `begun`: the first step is over, with this outcome,
        and was asked for then."""
        values = Values()
        money: MeterSample | None = None
        seen: set[str] = set()
        asked_ms = clock.read().elapsed_ms if begun is None else begun[1]
        began_ms = asked_ms
        while (step := self._next_step(seen, scope, began_ms)) is not None:
            if begun is None:
                outcome = yield step.ask
            else:
                outcome, begun = begun[0], None
            if outcome.reason in EXCEPTIONS_OF_A_HOLE:
                blocks_before = self._map.blocks
                self._map.refuse(step.block, self._kept())
                self._plan()
                seen |= step.block.names if self._map.blocks == blocks_before else set()
                asked_ms = clock.read().elapsed_ms
            elif outcome.reason is None:
                answered = self.last_ok
                assert answered is not None, "the outcome is counted before it is sent"
                seen |= step.block.names
                self._take_values(step, outcome, values)
                self._hold(step, outcome, began_ms)
                if step.money:
                    money = yield from self._judge_money(step.block, outcome, asked_ms, answered, clock)
                if step.relays:
                    yield from self._take_relays(step, outcome, answered, on_relay)
                asked_ms = answered.elapsed_ms
            elif outcome.reason in ABSENT or not outcome.reason.startswith(_EXCEPTION):
                break
            else:
                seen |= step.block.names
                asked_ms = clock.read().elapsed_ms
        if money is not None:
            self._add_held(values, seen)
            on_sample(_sample(money.meter_id, money.clock, money.register_wh, values, money.verdict))

    def switch(
        self, relay: RelayOnLine, closed: bool, clock: Clock, on_relay: Callable[[RelayState], None]
    ) -> Generator[Ask, Outcome, OutputResult]:
        """Commands a relay and reads it back. The answer to the command alone proves nothing."""
        spec = _relay_spec(relay)
        refusal: str | None = _NOT_AUTHORISED
        if not self._is_barred(clock):
            written = yield from commanded(self._framing, relay, spec, closed, self.gap_s)
            if not written.sent:
                return OutputResult(False, None, written.reason)
            refusal = written.reason
            if refusal == _NOT_AUTHORISED:
                self._barred_at_ms = clock.read().elapsed_ms
        item = self._relay_item(relay)
        request = self._read_request(item.function_code, item.address, item.count)
        read = yield Ask(request, max(self.gap_s, spec.settle_ms / 1000))
        if read.reason is not None:
            return OutputResult(False, None, read.reason)
        state = spec.state(read.words)
        if state is None:
            self.count_error("relay_state_unknown")
            return OutputResult(False, None, "relay_state_unknown")
        self._told[relay.relay_id] = state
        on_relay(RelayState(relay.relay_id, clock.read(), state))
        if state is closed:
            return OutputResult(True, state, None)
        return OutputResult(False, state, refusal or "not_obeyed")

    def _is_barred(self, clock: Clock) -> bool:
        """Whether the meter refused our password lately; it is not tried again at once."""
        return self._barred_at_ms is not None and clock.read().elapsed_ms - self._barred_at_ms < _BARRED_MS

    def _judge_money(
        self, block: ReadBlock, outcome: Outcome, asked_ms: int, answered: ClockReading, clock: Clock
    ) -> Generator[Ask, Outcome, MeterSample | None]:
        """The money register as a sample without values, confirmed by a second read where that is needed."""
        assert self.meter is not None
        assert self.watch is not None
        first = self._register_reading(block, outcome, asked_ms, answered)
        if first is None:
            return None
        verdict = self.watch.first(first)
        reading, stamp = first, answered
        if verdict is None:
            confirmed = yield from self._confirm(block, clock)
            if confirmed is not None:
                reading, stamp = confirmed
                verdict = self.watch.second(first, reading)
        if verdict is None:
            self._status = None
            self.readings_rejected += 1
            self.trouble()
            return None
        return _sample(self.meter.meter_id, stamp, reading.register_wh, {}, verdict)

    def _confirm(
        self, first: ReadBlock, clock: Clock
    ) -> Generator[Ask, Outcome, tuple[RegisterReading, ClockReading] | None]:
        item = self._money_item
        assert item is not None
        for block in confirming_blocks(item, first, self._limits):
            if (block.address, block.count) in self._refused_confirmations and block != first:
                continue
            asked_ms = clock.read().elapsed_ms
            outcome = yield self._ask_block(block)
            if block != first:
                self._note_confirmation(block, outcome)
            if outcome.reason in EXCEPTIONS_OF_A_HOLE:
                continue
            if outcome.reason is not None:
                return None
            answered = clock.read()
            reading = self._register_reading(block, outcome, asked_ms, answered)
            return None if reading is None else (reading, answered)
        return None

    def _register_reading(
        self, block: ReadBlock, outcome: Outcome, asked_ms: int, answered: ClockReading
    ) -> RegisterReading | None:
        assert self._money_item is not None
        item = next(item for item in block.items if item.name == self._money_item.name)
        point, words = self._points[item.name], _words_of(item, block, outcome)
        try:
            return _reading(register_wh(point, words), resolution_wh(point, words), asked_ms, answered.elapsed_ms)
        except ValueRefused as refusal:
            self.readings_rejected += 1
            self.count_error(refusal.reason)
            return None

    def _take_values(self, step: Step, outcome: Outcome, values: Values) -> None:
        for name, reason in values.add(step.table, outcome.words):
            if self._money_item is None or name != self._money_item.name:  # which is booked where it is judged
                self._status = None
                self.errors[reason] += 1

    def _take_relays(
        self, step: Step, outcome: Outcome, answered: ClockReading, on_relay: Callable[[RelayState], None]
    ) -> Generator[Ask, Outcome, None]:
        """Tells the states in an answer. One that is new is asked for again, and if it was another before, once more:
        RTU numbers no request, and an old answer of the same length looks like the new one.
        """
        states = self._relay_states(step.relays, step.block, outcome)
        for _ in range(self._times_to_confirm(states)):
            block, again = yield from self._ask_relays_again(step)
            if again.reason is not None:
                return
            items = step.relays if block is step.block else block.items
            confirmed = self._relay_states(items, block, again)
            for relay_id in [relay_id for relay_id in states if confirmed.get(relay_id) is not states[relay_id]]:
                self.count_error("relay_state_unknown")
                del states[relay_id]
        for relay_id, closed in states.items():
            self._told[relay_id] = closed
            on_relay(RelayState(relay_id, answered, closed))

    def _times_to_confirm(self, states: Mapping[str, bool]) -> int:
        before = [self._told.get(relay_id) for relay_id, closed in states.items() if self._told.get(relay_id) != closed]
        return 0 if not before else 1 if set(before) == {None} else 2

    def _ask_relays_again(self, step: Step) -> Generator[Ask, Outcome, tuple[ReadBlock, Outcome]]:
        """From another place where the device has one, which no old answer fits."""
        item = step.relays[0]
        if item.elsewhere is not None:
            block = confirming_blocks(item, step.block, self._limits)[0]
            if (block.address, block.count) not in self._refused_confirmations:
                outcome = yield self._ask_block(block)
                self._note_confirmation(block, outcome)
                if outcome.reason not in EXCEPTIONS_OF_A_HOLE:
                    return block, outcome
        return step.block, (yield step.ask)

    def _note_confirmation(self, block: ReadBlock, outcome: Outcome) -> None:
        """A read for confirmation that the device refuses is not tried again. Nor is a block of data items that it
        leaves without a fitting answer time after time: some do so instead of refusing what they do not have.
        """
        key = (block.address, block.count)
        if outcome.reason in EXCEPTIONS_OF_A_HOLE:
            self._refused_confirmations.add(key)
        elif outcome.reason is None:
            del self._failed_confirmations[key]
        elif outcome.reason in _NO_FITTING_ANSWER and not self._limits.has_neighbours:
            self._failed_confirmations[key] += 1
            if self._failed_confirmations[key] == _CONFIRMATION_TRIES:
                self._refused_confirmations.add(key)

    def _relay_states(self, items: Sequence[ReadItem], block: ReadBlock, outcome: Outcome) -> dict[str, bool]:
        states: dict[str, bool] = {}
        for item in items:
            relay = self.relays[item.name.removeprefix(_RELAY_ITEM)]
            state = _relay_spec(relay).state(_words_of(item, block, outcome))
            if state is None:
                self.count_error("relay_state_unknown")
            else:
                states[relay.relay_id] = state
        return states

    def _next_step(self, seen: set[str], scope: Scope, began_ms: int) -> Step | None:
        for step in self._steps:
            if not step.block.names <= seen:
                held = self._held.get(step.block)
                age_ms = None if held is None else began_ms - held.elapsed_ms
                if self._deadlines.wants(step.reading_class, scope, age_ms):
                    return step
        return None

    def _hold(self, step: Step, outcome: Outcome, elapsed_ms: int) -> None:
        """Keeps what is not read in every visit for those that leave it out."""
        if step.reading_class > ReadingClass.MONEY:
            self._held[step.block] = _Held(step.table, outcome.words, elapsed_ms)

    def _add_held(self, values: Values, seen: set[str]) -> None:
        for block, held in self._held.items():
            if not block.names <= seen:
                values.add(held.table, held.words)  # what was refused was counted when it came

    def _plan(self) -> None:
        """The money register's block first: its answer proves that the device is there, and stamps the sample."""
        money = "" if self._money_item is None else self._money_item.name
        self._held.clear()
        self._steps = steps = tuple(
            Step(
                block,
                self._ask_block(block),
                table_of(block, tuple(self._points[name] for name in sorted(block.names & self._points.keys()))),
                money in block.names,
                self._energy_reader(block) if money in block.names else None,
                tuple(item for item in block.items if item.name.startswith(_RELAY_ITEM)),
                self._urgency(block),
            )
            for block in sorted(self._map.blocks, key=lambda block: (money not in block.names, self._urgency(block)))
        )
        is_plain = len(steps) == 1 and steps[0].money and not steps[0].relays
        self.plain_step = steps[0] if is_plain else None

    def _energy_reader(self, block: ReadBlock) -> EnergyReader:
        assert self._money_item is not None
        return energy_reader(self._points[self._money_item.name], self._money_item.address - block.address)

    def _urgency(self, block: ReadBlock) -> ReadingClass:
        money = None if self._money_item is None else self._money_item.name
        points = [self._points.get(item.name) for item in block.items]
        return min(ReadingClass.RELAY if point is None else class_of(point, money) for point in points)

    def _items(self) -> list[ReadItem]:
        return [
            *(_point_item(point) for point in self._points.values()),
            *(self._relay_item(relay) for relay in self.relays.values()),
        ]

    def _find_money_item(self) -> ReadItem | None:
        if self.meter is None or self.meter.model.money_point is None:
            return None
        return _point_item(self._points[self.meter.model.money_point])

    def _relay_item(self, relay: RelayOnLine) -> ReadItem:
        spec = _relay_spec(relay)
        address = spec.readback_address + relay.channel
        return ReadItem(
            _RELAY_ITEM + relay.relay_id,
            spec.readback_function_code,
            address,
            spec.readback_count,
            spec.readback_elsewhere,
        )

    def _kept(self) -> frozenset[str]:
        """Items that are asked for again whatever the device says: supply and money are never given up."""
        money = self._money_item
        relays = {_RELAY_ITEM + relay_id for relay_id in self.relays}
        return frozenset(relays | ({money.name} if money else set()))

    def _ask_block(self, block: ReadBlock) -> Ask:
        return Ask(self._read_request(block.function_code, block.address, block.count), self.gap_s)

    def _read_request(self, function_code: int, address: int, count: int) -> Request:
        key = (function_code, address, count)
        if key not in self._requests:
            self._requests[key] = self._framing.read(self.device_id, *key)
        return self._requests[key]


def _points_read(meter: MeterOnLine) -> dict[str, Point]:
    """The points asked for, the money register always among them."""
    model = meter.model
    wanted = tuple(model.points) if meter.points is None else (*meter.points, model.money_point or "")
    unknown = [name for name in wanted if name not in model.points]
    if unknown:
        known = ", ".join(model.points) or "none"
        raise ValueError(f"meter {meter.meter_id}: model {model.id} has no point {unknown[0]!r}; its points: {known}")
    return {name: model.points[name] for name in wanted}


def _point_item(point: Point) -> ReadItem:
    return ReadItem(point.name, point.function_code, point.address, point.count, point.elsewhere)


def _relay_spec(relay: RelayOnLine) -> RelaySpec:
    spec = relay.model.relay
    if spec is None or not 0 <= relay.channel < spec.channels:
        channels = spec.channels if spec else 0
        raise ValueError(
            f"relay {relay.relay_id}: model {relay.model.id} has {channels} relay channels, "
            f"channel {relay.channel} is not among them"
        )
    return spec


def _strictest(models: Sequence[MeterModel]) -> ReadLimits:
    return ReadLimits(
        max_read_registers=min(model.link.max_read_registers for model in models),
        even_register_reads_only=any(model.link.even_register_reads_only for model in models),
        has_neighbours=all(model.protocol == MODBUS for model in models),
    )


def _words_of(item: ReadItem, block: ReadBlock, outcome: Outcome) -> tuple[int, ...]:
    start = item.address - block.address
    return outcome.words[start : start + item.count]
