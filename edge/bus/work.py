"""Who talks next on a line: switching commands first, then readings asked for, then the rounds.

Times are seconds of the caller's monotonic clock. No I/O: asks go out, outcomes come in. A command
does not wait for the visit that is under way, only for its present request.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from edge.bus.answer_times import AnswerTimes
from edge.bus.classes import FREEZE_INTERVAL_S, Scope
from edge.bus.device import Device, Step, Steps
from edge.bus.plan import Rounds
from edge.bus.records import ABSENT, MeterSample, OutputResult, RelayOnLine, RelayState
from edge.bus.transaction import Ask, Outcome
from edge.bus.wire_use import WireUse
from edge.ports import Clock, ClockReading

# Neither shows that something is there nor that nothing is.
_NOT_SENT = "line_busy"


@dataclass(slots=True)
class Command:
    """A switching command on its way; `done` is told once how it ended."""

    device: Device
    relay: RelayOnLine
    closed: bool
    done: Callable[[OutputResult], None]


class Work:
    """The queue of one line."""

    def __init__(
        self,
        devices: Sequence[Device],
        rounds: Rounds,
        clock: Clock,
        on_sample: Callable[[MeterSample], None],
        on_relay: Callable[[RelayState], None],
        times: Mapping[int, AnswerTimes],
    ) -> None:
        """`times` by device id."""
        self.times, self.use = times, WireUse()
        self._devices = {device.device_id: device for device in devices}
        self._rounds, self._clock = rounds, clock
        self._on_sample, self._on_relay = on_sample, on_relay
        self._commands: deque[Command] = deque()
        self._wanted: deque[Device] = deque()
        self._command: Command | None = None
        self._switching: Generator[Ask, Outcome, OutputResult] | None = None
        self._switch_ask: Ask | None = None
        self._visit: Steps | None = None
        self._visit_ask: Ask | None = None
        self._rests = True
        self._plain: Step | None = None  # the visit is this one read, unless its answer is doubtful
        self._asked_ms = 0
        self._freeze_due_at = 0.0
        self._freeze_instant: int | None = None
        self._looked: tuple[float, ClockReading | None] = (0.0, None)  # at the clock, and when by the loop's time

    def command(self, command: Command) -> None:
        """Queues a command; an older one for the same relay that has not begun is superseded."""
        self.withdraw(command.relay.relay_id)
        self._commands.append(command)

    def withdraw(self, relay_id: str) -> None:
        """A command for this relay that has not begun never does."""
        for waiting in [other for other in self._commands if other.relay.relay_id == relay_id]:
            self._commands.remove(waiting)
            waiting.done(OutputResult(False, None, "superseded"))

    def is_commanded(self, relay_id: str) -> bool:
        """Whether a command for this relay is waiting or under way."""
        begun = [self._command] if self._command else []
        return any(command.relay.relay_id == relay_id for command in [*begun, *self._commands])

    def want_reading(self, device: Device) -> None:
        if device not in self._wanted:
            self._wanted.append(device)

    def next_ask(self, now: float) -> Ask | None:
        """The next request, or None until `due_at()`. It stays the next one until `take` has its outcome."""
        ask = self._next_ask(now)
        if ask is None:
            self.use.rests(now)
            self._rests = True
        elif self._rests:
            self.use.works(now)
            self._rests = False
        return ask

    def _next_ask(self, now: float) -> Ask | None:
        if self._switching is None and self._commands:
            self._begin_command(self._commands.popleft())
        if self._switch_ask is not None:
            return self._switch_ask
        while self._visit_ask is None:
            asked_for = bool(self._wanted)
            device = self._wanted.popleft() if asked_for else self._next_device(now)
            if device is None:
                return None
            self._plain = plain = device.plain_step
            if plain is not None:
                looked_at, stamp = self._looked  # the answer before may have come in this moment
                self._asked_ms = (stamp if stamp and looked_at == now else self._clock.read()).elapsed_ms
                self._visit_ask = plain.ask
            else:
                scope = Scope.DUE if asked_for else self._rounds.scope(device.device_id)
                self._visit = device.visit(self._clock, self._on_sample, self._on_relay, scope=scope)
                self._visit_ask = next(self._visit, None)
        return self._visit_ask

    def due_at(self) -> float:
        """When the next round starts."""
        return min(self._rounds.due_at(), self._freeze_due_at)

    def wait_s(self, ask: Ask) -> float:
        """How long its device is waited for, by what it took before."""
        return self.times[ask.request.device_id].wait_s(ask.request, ask is self._switch_ask)

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        """How `ask` ended."""
        device = self._devices[ask.request.device_id]
        device.count(outcome, self._clock)
        is_absent = outcome.reason in ABSENT
        if outcome.answer_s is not None and not is_absent:
            self.times[device.device_id].answered(outcome.answer_s)
        elif outcome.reason is not None and outcome.sent:
            self.times[device.device_id].failed(outcome.reason)
        if not is_absent and outcome.reason != _NOT_SENT:
            self._rounds.answered(device.device_id)
        if ask is self._switch_ask:
            self._go_on_switching(outcome)
            return
        if is_absent:
            self._rounds.did_not_answer(device.device_id, now)
        self._visit_ask = None
        plain, self._plain = self._plain, None
        if plain is not None:
            self._end_plain(device, plain, outcome, now)
            return
        assert self._visit is not None
        try:
            self._visit_ask = self._visit.send(outcome)
        except StopIteration:
            self._visit = None

    def _end_plain(self, device: Device, plain: Step, outcome: Outcome, now: float) -> None:
        """One read was the whole visit; if there is more to it, the visit begins behind it."""
        if outcome.reason is None:
            self._looked = (now, device.last_ok)
            sample = device.plain_sample(plain, outcome, self._asked_ms)
            if sample is not None:
                self._on_sample(sample)
                return
        self._visit = device.visit(self._clock, self._on_sample, self._on_relay, (outcome, self._asked_ms))
        self._visit_ask = next(self._visit, None)

    def abandon(self, now: float) -> None:
        """The port is gone: whoever waits for a command is told, the visit is forgotten."""
        self.use.rests(now)
        self._rests = True
        for command in [*([self._command] if self._command else []), *self._commands]:
            command.done(OutputResult(False, None, "line_closed"))
        self._commands.clear()
        self._wanted.clear()
        self._command = self._switching = self._switch_ask = self._visit = self._visit_ask = self._plain = None
        for device in self._devices.values():
            device.trouble()

    def _next_device(self, now: float) -> Device | None:
        if now >= self._freeze_due_at:
            self._pass_freeze(now)
        device_id = self._rounds.next_device(now)
        return None if device_id is None else self._devices[device_id]

    def _pass_freeze(self, now: float) -> None:
        """At each instant at which registers are frozen the meters are read together, as fast as the wire allows."""
        reading = self._clock.read()
        instant, passed_s = divmod(reading.at, FREEZE_INTERVAL_S)
        self._freeze_due_at = now + FREEZE_INTERVAL_S - passed_s
        if self._freeze_instant is not None and instant > self._freeze_instant and reading.vouched:
            self._rounds.freeze([key for key, device in self._devices.items() if device.meter is not None], now)
        self._freeze_instant = instant

    def _begin_command(self, command: Command) -> None:
        self._command = command
        self._switching = command.device.switch(command.relay, command.closed, self._clock, self._on_relay)
        self._switch_ask = next(self._switching)

    def _go_on_switching(self, outcome: Outcome) -> None:
        assert self._switching is not None
        assert self._command is not None
        try:
            self._switch_ask = self._switching.send(outcome)
        except StopIteration as end:
            command = self._command
            self._command = self._switching = self._switch_ask = None
            command.done(end.value)
