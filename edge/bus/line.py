"""The master of one line: reads its meters and switches its relays until it is cancelled.

Joins the talker on the port with the work to be done. Times are seconds of the loop, so the same
code runs on a virtual one; accounting time comes from `clock`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from edge import ports
from edge.bus.answer_times import AnswerTimes, WaitLimits, answer_view
from edge.bus.classes import Deadlines
from edge.bus.device import Device
from edge.bus.frame import framing_of
from edge.bus.plan import ReadCost, Rounds
from edge.bus.records import (
    DeviceStatus,
    DeviceTimes,
    LinePulse,
    LineSettings,
    LineStatus,
    LineTimes,
    MeterOnLine,
    MeterSample,
    OutputResult,
    RelayOnLine,
    RelayState,
    Verdict,
)
from edge.bus.talker import Talker
from edge.bus.transaction import Timing
from edge.bus.work import Command, Work
from edge.core.lean import dataclass

__all__ = [
    "DeviceStatus",
    "LineMaster",
    "LineSettings",
    "LineStatus",
    "MeterOnLine",
    "MeterSample",
    "OutputResult",
    "RelayOnLine",
    "RelayState",
    "Verdict",
]

# Longer than the slowest answer any model documents (500 ms).
_DRAIN_SILENCE_MS: Final = 550
_REOPEN_FIRST_S: Final = 1.0
_MS: Final = 1_000
# A relay state read back within so many rounds is taken for the present one.
_FRESH_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True)
class _Known:
    """A relay as last read back, and when by the loop's time."""

    closed: bool
    at: float


class LineMaster:
    """The only one who talks on this line. `run()` polls; commands go between two reads."""

    def __init__(
        self,
        settings: LineSettings,
        meters: Sequence[MeterOnLine],
        relays: Sequence[RelayOnLine],
        opener: ports.PortOpener,
        clock: ports.Clock,
        on_sample: Callable[[MeterSample], None],
        on_relay: Callable[[RelayState], None],
        protected_relays: frozenset[str] = frozenset(),
    ) -> None:
        self._settings, self._opener, self._on_relay_read = settings, opener, on_relay
        self._protected = protected_relays
        models = [*(meter.model for meter in meters), *(relay.model for relay in relays)]
        self._timing = _timing(settings, [model.link.max_response_ms or 0 for model in models])
        self._devices = _devices(settings, meters, relays, self._timing)
        self._device_of_meter = {device.meter.meter_id: device for device in self._devices if device.meter}
        self._device_of_relay = {relay_id: device for device in self._devices for relay_id in device.relays}
        self._rounds = Rounds(
            [device.device_id for device in self._devices],
            settings.poll_interval_ms / _MS,
            settings.dead_backoff_s_max,
        )
        times = _answer_times(settings, self._devices, meters, relays, self._timing)
        self._work = Work(self._devices, self._rounds, clock, on_sample, self._take_relay, times)
        self._known: dict[str, _Known] = {}
        self._errors: Counter[str] = Counter()
        self._port_error: str | None = None
        self._talker = Talker(framing_of(settings.framing), self._timing, self._work, self._note_unasked)

    async def run(self) -> None:
        """Polls until cancelled. A port that is lost or cannot be opened is tried again with back-off."""
        self._loop = asyncio.get_running_loop()
        wait_s = _REOPEN_FIRST_S
        while True:
            answers = self._answers()
            await self._serve_port()
            if self._answers() != answers:  # a server that takes connections and answers nothing is left alone too
                wait_s = _REOPEN_FIRST_S
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self._settings.reopen_backoff_s_max)

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        """Switches a relay before the next read and reads it back.

        No traffic if the relay was read back in the wanted state within the last two rounds: callers
        say every round what must be true, and only here the edge is found. Reasons besides the
        line's own: protected, line_closed, superseded, relay_state_unknown, not_obeyed.
        """
        device = self._device_of_relay[relay_id]
        if not closed and relay_id in self._protected:
            return OutputResult(False, self._fresh_state(relay_id), "protected")
        if not self._talker.is_open:
            return OutputResult(False, None, "line_closed")
        if not self._work.is_commanded(relay_id) and self._fresh_state(relay_id) is closed:
            return OutputResult(True, closed, None)
        result: asyncio.Future[OutputResult] = self._loop.create_future()
        self._work.command(Command(device, device.relays[relay_id], closed, partial(_settle, result)))
        self._talker.talk_first()
        return await result

    def withdraw_output(self, relay_id: str) -> None:
        """Takes back a command that still waits in the queue; its caller is told `superseded`."""
        self._work.withdraw(relay_id)

    def request_reading(self, meter_id: str) -> None:
        """Reads this meter next, whatever its turn."""
        self._work.want_reading(self._device_of_meter[meter_id])
        self._talker.talk()

    def view(self) -> LineStatus:
        """Counters of the line and of each device."""
        cycle_s = self._rounds.cycle_s
        statuses = {
            device.device_id: device.status(self._rounds.is_silent(device.device_id)) for device in self._devices
        }
        errors = Counter(self._errors)
        for status in statuses.values():
            if status.errors:
                errors.update(status.errors)
        return LineStatus(
            line_id=self._settings.line_id,
            address=self._settings.address,
            open=self._talker.is_open,
            last_error=self._port_error,
            polls_ok=sum([device.polls_ok for device in self._devices]),
            polls_failed=sum([device.polls_failed for device in self._devices]),
            readings_rejected=sum([device.readings_rejected for device in self._devices]),
            errors=MappingProxyType(dict(errors)),
            cycle_ms=None if cycle_s is None else round(cycle_s * _MS),
            devices=MappingProxyType(statuses),
            poll_interval_ms=round(self._settings.poll_interval_ms),
        )

    def pulse(self) -> LinePulse:
        """What a round must know of the line: a fraction of `view`."""
        cycle_s, is_silent = self._rounds.cycle_s, self._rounds.is_silent
        silent = [device for device in self._devices if is_silent(device.device_id)]
        return LinePulse(
            open=self._talker.is_open,
            cycle_ms=None if cycle_s is None else round(cycle_s * _MS),
            poll_interval_ms=round(self._settings.poll_interval_ms),
            silent={device.device_id: device.last_error or "" for device in silent},
        )

    def times(self) -> LineTimes:
        """How fast its devices answer and how much of its time the wire is in use; worked out when somebody asks."""
        times = self._work.times
        devices = {key: DeviceTimes(answer_view([one]), round(one.read_wait_s * _MS)) for key, one in times.items()}
        used_percent = self._work.use.percent(asyncio.get_running_loop().time())
        return LineTimes(answer_view([*times.values()]), used_percent, MappingProxyType(devices))

    def _answers(self) -> int:
        return sum(device.polls_ok for device in self._devices)

    async def _serve_port(self) -> None:
        """One life of the port."""
        try:
            self._port_error = await self._talker.serve(self._opener, self._note_open)
        except OSError as problem:
            self._port_error = problem.strerror or str(problem)
        finally:
            self._work.abandon(self._loop.time())

    def _note_open(self) -> None:
        self._port_error = None

    def _note_unasked(self) -> None:
        self._errors["unasked_bytes"] += 1

    def _take_relay(self, state: RelayState) -> None:
        self._known[state.relay_id] = _Known(state.closed, self._loop.time())
        self._on_relay_read(state)

    def _fresh_state(self, relay_id: str) -> bool | None:
        """The relay as read back lately; None if that is too long ago."""
        known = self._known.get(relay_id)
        round_s = max(self._settings.poll_interval_ms / _MS, self._rounds.cycle_s or 0.0)
        if known is None or self._loop.time() - known.at > _FRESH_ROUNDS * round_s:
            return None
        return known.closed


def _settle(result: asyncio.Future[OutputResult], value: OutputResult) -> None:
    if not result.done():  # the caller may have given up
        result.set_result(value)


def _timing(settings: LineSettings, slowest_ms: Sequence[int]) -> Timing:
    silence_ms = settings.drain_silence_ms
    if silence_ms is None:
        silence_ms = max([_DRAIN_SILENCE_MS, *(1.1 * ms for ms in slowest_ms)])
    drain_s_max = max(settings.drain_ms_max, 2 * silence_ms) / _MS
    serial = Timing.of_serial(settings.baud, settings.response_timeout_ms / _MS, silence_ms / _MS, drain_s_max)
    if settings.framing == "mbap":
        return replace(serial, gap_s=0.0, byte_s=0.0)
    return serial if settings.gap_ms is None else replace(serial, gap_s=settings.gap_ms / _MS)


def _devices(
    settings: LineSettings, meters: Sequence[MeterOnLine], relays: Sequence[RelayOnLine], timing: Timing
) -> list[Device]:
    """Relay boards stand first in every round, then the meters in the order given."""
    _check_places(settings, meters, relays)
    meter_at = {meter.device_id: meter for meter in meters}
    boards = dict.fromkeys(relay.device_id for relay in relays if relay.device_id not in meter_at)
    cost = ReadCost.of_line(timing.byte_s, timing.gap_s)
    deadlines = Deadlines(round(settings.power_quality_interval_ms), round(settings.other_interval_ms))
    return [
        Device(
            device_id,
            meter_at.get(device_id),
            [relay for relay in relays if relay.device_id == device_id],
            framing_of(settings.framing),
            cost,
            deadlines,
        )
        for device_id in (*boards, *meter_at)
    ]


def _answer_times(
    settings: LineSettings,
    devices: Sequence[Device],
    meters: Sequence[MeterOnLine],
    relays: Sequence[RelayOnLine],
    timing: Timing,
) -> dict[int, AnswerTimes]:
    """Of each device, with the slowest answer that its model documents."""
    over_network = "://" in settings.address
    links = [(meter.device_id, meter.model.link) for meter in meters]
    links += [(relay.device_id, relay.model.link) for relay in relays]
    documented_ms = dict.fromkeys((device_id for device_id, _ in links), 0)
    for device_id, link in links:
        documented_ms[device_id] = max(documented_ms[device_id], link.max_response_ms or 0)
    return {
        device.device_id: AnswerTimes(WaitLimits.of_device(timing, documented_ms[device.device_id], over_network))
        for device in devices
    }


def _check_places(settings: LineSettings, meters: Sequence[MeterOnLine], relays: Sequence[RelayOnLine]) -> None:
    """One meter per device id, one owner per relay, ids that exist."""
    meter_at: dict[int, str] = {}
    relay_at: dict[tuple[int, int], str] = {}
    for device_id in (*(meter.device_id for meter in meters), *(relay.device_id for relay in relays)):
        if not 1 <= device_id <= settings.device_id_max:
            raise ValueError(f"line {settings.line_id}: device id {device_id}, allowed: 1..{settings.device_id_max}")
    for model in (*(meter.model for meter in meters), *(relay.model for relay in relays)):
        if model.protocol != settings.protocol:
            raise ValueError(f"line {settings.line_id}: speaks {settings.protocol}, model {model.id} {model.protocol}")
    for meter in meters:
        other = meter_at.setdefault(meter.device_id, meter.meter_id)
        if other != meter.meter_id:
            raise ValueError(
                f"line {settings.line_id}: meters {other} and {meter.meter_id} both have device id {meter.device_id}"
            )
    for relay in relays:
        other = relay_at.setdefault((relay.device_id, relay.channel), relay.relay_id)
        if other != relay.relay_id:
            raise ValueError(
                f"line {settings.line_id}: relays {other} and {relay.relay_id} are both channel {relay.channel} "
                f"of device id {relay.device_id}"
            )
