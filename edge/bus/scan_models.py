"""Which model a device is: by its identity registers where a model has them, else by values that can be.

Every place is asked once, whatever number of models wants it. Volts, hertz and kWh as exact decimals. A register that
says what a model file expects recognises the model; another value proves nothing. Where several models fit, they are
all listed: nobody is billed by a guess.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from edge.bus.frame import Framing
from edge.bus.scan_records import Confidence, Recognition, Talk, ask
from edge.meters.model import MeterModel, Point, Register, ValueRefused

_TRIES_MAX: Final = 2
# A function code that was never answered so often is not asked for again: each silence costs a timeout and a drain.
_SILENT_PLACES_MAX: Final = 2
# Nothing believed after so many questions, and nothing will be.
_UNBELIEVED_MAX: Final = 6
# A line that is never silent is not asked on: each question would wait for the longest drain.
_BUSY_MAX: Final = 2
_FINAL: Final = ("exception_1", "exception_2", "exception_3")
PHASE_VOLTAGE: Final = (Decimal(80), Decimal(300))
FREQUENCY: Final = (Decimal(45), Decimal(65))
ENERGY_KWH: Final = (Decimal("0.0001"), Decimal(10_000_000))
_TO_KWH: Final = {"Wh": Decimal("0.001"), "kWh": Decimal(1), "MWh": Decimal(1000)}
EXPECTED, OTHER, PLAUSIBLE, IMPLAUSIBLE, ABSENT = "expected", "other", "plausible", "implausible", "absent"


class DeviceReader:
    """The registers of one device, each place asked for once."""

    def __init__(self, framing: Framing, device_id: int, heard: int | None = None) -> None:
        """`heard`: a function code that the device has answered before."""
        self._framing, self._device_id = framing, device_id
        self._known: dict[tuple[int, int, int], tuple[int, ...] | str] = {}
        self._silent_places: dict[int, int] = {}
        self._heard: set[int] = set() if heard is None else {heard}
        self._busy = self._unbelieved = 0

    def words(self, function_code: int, address: int, count: int, gap_s: float) -> Talk[tuple[int, ...] | str]:
        """The registers, or the reason code why not."""
        place = (function_code, address, count)
        if place not in self._known:
            self._known[place] = yield from self._asked(place, gap_s)
        return self._known[place]

    def _asked(self, place: tuple[int, int, int], gap_s: float) -> Talk[tuple[int, ...] | str]:
        function_code, address, count = place
        if self._silent_places.get(function_code, 0) >= _SILENT_PLACES_MAX and function_code not in self._heard:
            return "timeout"
        if self._busy >= _BUSY_MAX or (self._unbelieved >= _UNBELIEVED_MAX and not self._heard):
            return "line_busy" if self._busy else "timeout"
        request = self._framing.read(self._device_id, function_code, address, count)
        refuses_in_silence = self._silent_places.get(function_code, 0) >= _SILENT_PLACES_MAX
        for _ in range(_TRIES_MAX):
            exchange = yield from ask(request, gap_s)
            if exchange.reason is None:
                self._heard.add(function_code)
                return exchange.words
            if exchange.reason in _FINAL:
                self._heard.add(function_code)
                break
            self._busy += exchange.reason == "line_busy"
            self._unbelieved += 1
            if exchange.reason == "timeout" and refuses_in_silence:
                break  # a device that says nothing where it has nothing
        if exchange.reason == "timeout":
            self._silent_places[function_code] = self._silent_places.get(function_code, 0) + 1
        assert exchange.reason is not None
        return exchange.reason


@dataclass(slots=True)
class _Candidate:
    """A model that nothing speaks against, while it is being looked at."""

    model: MeterModel
    identified: bool = False
    evidence: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    voltages: int = 0  # phases with a plausible voltage
    doubts: int = 0  # key values that cannot be
    absent: int = 0  # points it should have and the device has not


def recognise(
    framing: Framing, device_id: int, models: Sequence[MeterModel], heard: int | None = None
) -> Talk[Recognition]:
    """Which of `models` the device is, and how sure that is."""
    reader = DeviceReader(framing, device_id, heard)
    candidates: list[_Candidate] = []
    for model in models:
        candidate = yield from _examined(reader, model)
        if candidate is not None:
            candidates.append(candidate)
    identified = [candidate for candidate in candidates if candidate.identified]
    left = identified or candidates
    if len(left) > 1:
        for candidate in left:
            yield from _count_absent(reader, candidate)
        left = _best(left)
    if not left:
        return Recognition((), None, {}, {}, {})
    sure = bool(identified) and not left[0].doubts
    single: Confidence = "certain" if sure else "probable"
    identity = yield from _identity(reader, [candidate.model for candidate in left])
    return Recognition(
        tuple(candidate.model.id for candidate in left),
        single if len(left) == 1 else "possible",
        identity,
        left[0].values,
        {candidate.model.id: candidate.evidence for candidate in left},
    )


def key_points(model: MeterModel) -> Iterator[Point]:
    """The values a model is judged by: phase voltages, frequency, the register that is charged."""
    for name in ("voltage_l1", "voltage_l2", "voltage_l3", "frequency", model.money_point or ""):
        if name in model.points:
            yield model.points[name]


def is_plausible(point: Point, value: Decimal) -> bool:
    """Whether a mains meter can show this. A phase without voltage and a new counter show 0."""
    if point.unit == "V":
        return PHASE_VOLTAGE[0] <= value <= PHASE_VOLTAGE[1] or (value == 0 and point.name != "voltage_l1")
    if point.unit == "Hz":
        return FREQUENCY[0] <= value <= FREQUENCY[1]
    energy_kwh = value * _TO_KWH[point.unit]
    return energy_kwh == 0 or ENERGY_KWH[0] <= energy_kwh <= ENERGY_KWH[1]


def _examined(reader: DeviceReader, model: MeterModel) -> Talk[_Candidate | None]:
    """The model as a candidate; None as soon as something speaks against it."""
    if not model.points:
        return None  # a board of coils says nothing that another board would not say too
    candidate = _Candidate(model)
    for register in model.identity.values():
        if register.expect and register.function_code is not None:
            words = yield from _words_of(reader, register, model)
            met = not isinstance(words, str) and register.decode(words) in register.expect
            candidate.identified = candidate.identified or met
            candidate.evidence[register.name] = EXPECTED if met else OTHER
    for point in key_points(model):
        words = yield from _words_of(reader, point, model)
        verdict, value = _judged(point, words)
        candidate.evidence[point.name] = verdict
        if verdict != PLAUSIBLE and not candidate.identified:
            return None
        candidate.doubts += verdict != PLAUSIBLE
        candidate.voltages += point.unit == "V" and verdict == PLAUSIBLE and value != 0
        if value is not None:
            candidate.values[point.name] = f"{value:f} {point.unit}"
    return candidate


def _words_of(reader: DeviceReader, place: Point | Register, model: MeterModel) -> Talk[tuple[int, ...] | str]:
    assert place.function_code is not None
    return (yield from reader.words(place.function_code, place.address, place.count, model.link.min_gap_ms / 1000))


def _judged(point: Point, words: tuple[int, ...] | str) -> tuple[str, Decimal | None]:
    if isinstance(words, str):
        return ABSENT, None
    try:
        value = point.decode(words)
    except ValueRefused:
        return IMPLAUSIBLE, None
    return (PLAUSIBLE if is_plausible(point, value) else IMPLAUSIBLE), value


def _count_absent(reader: DeviceReader, candidate: _Candidate) -> Talk[None]:
    """Reads the rest of its points: a device of this model has them all."""
    for point in candidate.model.points.values():
        words = yield from _words_of(reader, point, candidate.model)
        if isinstance(words, str):
            candidate.absent += 1
            candidate.evidence[point.name] = ABSENT


def _best(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Those that explain most: no doubt, no point that is absent, as many phases with voltage as anybody."""

    def rank(row: _Candidate) -> tuple[int, bool, int]:
        return row.doubts, row.absent > 0, -row.voltages

    best = min(map(rank, candidates))
    return [row for row in candidates if rank(row) == best]


def _identity(reader: DeviceReader, models: Sequence[MeterModel]) -> Talk[Mapping[str, str]]:
    """What the identity registers say; nothing where two of the models would read different things."""
    found: dict[str, set[str]] = {}
    for model in models:
        for name, register in model.identity.items():
            if register.function_code is not None:
                words = yield from _words_of(reader, register, model)
                said = set() if isinstance(words, str) else {f"{register.decode(words)}"}
                found[name] = found.get(name, set()) | said
    return {name: said.pop() for name, said in found.items() if len(said) == 1}
