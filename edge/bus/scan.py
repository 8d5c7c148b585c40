"""Who is on a line, at which settings, which model, and what is wrong with the wires. No I/O and no clock.

First the addresses and settings that meters have from the factory, then all of them. Whoever answers is then asked
with the line's usual long times: who it is, and the same question again and again, which shows two devices on one
address and a line that spoils what is long. Only reads are ever built here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from edge.bus.frame import FRAMINGS, MBAP, Framing, Request
from edge.bus.scan_models import key_points, recognise
from edge.bus.scan_records import (
    Diagnosis,
    Exchange,
    Found,
    Health,
    Link,
    LinkUnusable,
    Listen,
    Note,
    Open,
    Question,
    Recognition,
    ScanReport,
    Talk,
    ask,
)
from edge.bus.scan_wiring import LineEvidence, missing_termination, shared_address
from edge.meters.model import MeterModel

# Ids that installers give first; to them come the factory ids of the known models.
FIRST_IDS: Final = range(1, 11)
REPEATS: Final = 8
_LISTEN_S: Final = 0.3
_QUICK_TIMEOUT_S: Final = 0.3
_FULL_TIMEOUT_S: Final = 0.2
_TCP_TIMEOUT_S: Final = 0.5  # a gateway has a line of its own behind it
_MEASURED_TIMEOUT_S: Final = (0.06, 0.5)
_MARGIN_S: Final = 0.02  # a USB adapter hands bytes over up to 16 ms late
_CAREFUL_TIMEOUT_S: Final = 0.5
_SILENCE_FACTOR: Final = 1.1
_SHORT_SILENCE_S: Final = 0.02
_TAIL_GAP_S: Final = 0.03
_NOTE_EVERY: Final = 10
_AGAIN_MAX: Final = 4
_BUSY_MAX: Final = 2
_LONG_REGISTERS: Final = (40, 20, 10, 4)
_SAME_ANSWER_MANY: Final = 20
# Two registers, holding or input: every device that speaks Modbus answers at least that it refuses. The second kind is
# asked of factory addresses and of doubtful ones only, since silence is what costs the time.
_PLACES: Final = ((3, 0, 2), (4, 0, 2))
# What some servers answer for an id that is not there; on a wire of our own it is a device that says so.
_FAILURE: Final = "exception_4"
_NOBODY: Final = Recognition((), None, {}, {}, {})


@dataclass(frozen=True, slots=True)
class ScanOrder:
    """What to look for, and where."""

    framing: Framing
    links: tuple[Link, ...]
    ids: tuple[int, ...]
    models: tuple[MeterModel, ...]
    quick_only: bool = False
    first_ids: tuple[int, ...] | None = None  # asked in the quick pass; None: those that installers give first
    repeats: int = REPEATS
    answer_s: float | None = None  # wait so long at most; None: half a second, or what the models document


@dataclass(slots=True)
class _Work:
    """What is known so far."""

    order: ScanOrder
    evidence: LineEvidence
    asked: set[tuple[Link, int]] = field(default_factory=set)
    there: dict[tuple[Link, int], Request] = field(default_factory=dict)  # who answers, and to what
    answered: set[tuple[Link, int]] = field(default_factory=set)  # of these: who was understood
    doubtful: dict[tuple[Link, int], None] = field(default_factory=dict)  # something came that cannot be believed
    latencies_ms: dict[Link, list[float]] = field(default_factory=dict)
    unusable: dict[Link, LinkUnusable] = field(default_factory=dict)
    questions: int = 0


def factory_links(models: Sequence[MeterModel]) -> tuple[Link, ...]:
    """Settings that meters leave the factory with, the most frequent first."""
    counts: dict[Link, int] = {}
    for model in models:
        link = Link(model.link.default_baud, model.link.default_format)
        counts[link] = counts.get(link, 0) + 1
    return tuple(sorted(counts, key=lambda link: (-counts[link], link.baud, link.format)))


def all_bauds(models: Sequence[MeterModel]) -> tuple[int, ...]:
    """Every baud rate a known model can be set to, 9600 first."""
    found = {baud for model in models for baud in (*model.link.bauds, model.link.default_baud)}
    return tuple(sorted(found, key=lambda baud: (baud != 9600, baud)))


def scan(order: ScanOrder) -> Talk[ScanReport]:
    """The whole scan: quick, full, again for the doubtful ones, then who they are and how well they answer.

    Raises LinkUnusable if the port can be set to no link of the order.
    """
    work = _Work(order, LineEvidence(order.framing))
    first = _first_ids(order)
    for link in order.links:
        yield from _survey(work, link, first, "quick")
    if len(work.unusable) == len(order.links):
        raise work.unusable[order.links[0]]
    complete = order.quick_only or not (work.evidence.spoiled or work.evidence.total("echoed"))
    if complete and not order.quick_only:
        for link in sorted(order.links, key=lambda link: not any(place[0] == link for place in work.there)):
            yield from _survey(work, link, order.ids, "full")
    if not work.evidence.spoiled:
        yield from _ask_again(work)
    answered: list[Found] = []
    for link in order.links:
        answered += yield from _look_closely(work, link, len(answered))
    found = _merged(answered)
    healths = [row.health for row in found]
    plain = FRAMINGS[order.framing.name]  # what was received stands here without its echo
    shared = [_shared(work, row, healths) for row in healths]
    alone = [row for row, diagnosis in zip(healths, shared, strict=True) if diagnosis is None]
    wiring = [missing_termination(alone, plain) if plain is not MBAP else None, *shared]
    diagnoses = (*work.evidence.diagnoses(), *(row for row in (*wiring, _everywhere(work)) if row is not None))
    return ScanReport(tuple(found), diagnoses, order.links, tuple(work.unusable), work.questions, complete)


def measured_timeout_s(latencies_ms: Sequence[float], default_s: float) -> float:
    """How long to wait for an answer: two and a half times the slowest one measured, or the default."""
    if not latencies_ms:
        return default_s
    low, high = _MEASURED_TIMEOUT_S
    return min(high, max(low, 2.5 * max(latencies_ms) / 1000 + _MARGIN_S))


def careful(link: Link, answer_s: float) -> Open:
    """A line with the times of ordinary operation: nothing late is taken for the next answer."""
    return Open(link, answer_s, _SILENCE_FACTOR * answer_s)


def answer_s_of(models: Sequence[MeterModel]) -> float:
    """How long the slowest of these models may take."""
    documented_ms = max((model.link.max_response_ms or 0 for model in models), default=0)
    return max(_CAREFUL_TIMEOUT_S, 1.1 * documented_ms / 1000)


def examine(framing: Framing, link: Link, device_id: int, request: Request, models: Sequence[MeterModel],
            repeats: int = REPEATS, *, answered: bool = False) -> Talk[tuple[Recognition, Health]]:  # fmt: skip
    """Who a device is, and how well it answers. The line is open with careful times. `answered`: `request` was."""
    heard = request.function_code if answered else None
    recognition = yield from recognise(framing, device_id, models, heard)
    by_id = {model.id: model for model in models}
    fitting = [by_id[model_id] for model_id in recognition.models]
    gap_s = max([_TAIL_GAP_S, *(model.link.min_gap_ms / 1000 for model in fitting)])
    serials = [row for model in fitting if (row := model.identity.get("serial")) and row.function_code is not None]
    serial = serials[0] if serials and "serial" in recognition.identity else None
    if serial is not None and serial.function_code is not None:
        request = framing.read(device_id, serial.function_code, serial.address, serial.count)
    short = yield from _repeat(request, repeats, gap_s)
    long: tuple[Exchange, ...] = ()
    if fitting and framing is not MBAP:
        long = yield from _long(framing, device_id, fitting[0], repeats, gap_s)
    return recognition, Health(device_id, link, short, long, constant=serial is not None)


def _first_ids(order: ScanOrder) -> tuple[int, ...]:
    if order.first_ids is not None:
        return order.first_ids
    wanted = {*FIRST_IDS, *(model.link.default_device_id for model in order.models)}
    return tuple(device_id for device_id in order.ids if device_id in wanted)


def _survey(work: _Work, link: Link, ids: Sequence[int], phase: str) -> Talk[None]:
    """Asks each id that was not asked yet at this link."""
    left = [device_id for device_id in ids if (link, device_id) not in work.asked]
    if not left or link in work.unusable:
        return
    assert phase in ("quick", "full")
    quick = phase == "quick"
    is_tcp = work.order.framing is MBAP
    timeout_s = _QUICK_TIMEOUT_S if quick else measured_timeout_s(work.latencies_ms.get(link, []), _FULL_TIMEOUT_S)
    timeout_s = min(_TCP_TIMEOUT_S if is_tcp else timeout_s, _answer_s(work.order))
    try:
        yield Open(link, timeout_s, _SHORT_SILENCE_S)
    except LinkUnusable as problem:
        work.unusable[link] = problem
        return
    if quick and not is_tcp:
        heard = yield Listen(_LISTEN_S)
        assert isinstance(heard, bytes)
        work.evidence.heard(link, heard)
    factory_ids = {model.link.default_device_id for model in work.order.models}
    for done, device_id in enumerate(left):
        if done % _NOTE_EVERY == 0:
            yield Note("quick" if quick else "full", link, done, len(left), len(work.there))
        new = quick and device_id in factory_ids
        yield from _knock(work, link, device_id, _PLACES if new else _PLACES[:1])


def _answer_s(order: ScanOrder) -> float:
    return answer_s_of(order.models) if order.answer_s is None else order.answer_s


def _knock(work: _Work, link: Link, device_id: int, places: Sequence[tuple[int, int, int]]) -> Talk[None]:
    """Whether anybody is there. A late answer is a reason to ask its sender again, and whom it disturbed."""
    work.asked.add((link, device_id))
    for place in places:
        request = work.order.framing.read(device_id, *place)
        exchange = yield from ask(request)
        _book(work, link, exchange)
        if exchange.answered and not (exchange.reason == _FAILURE and not link.is_ours):
            work.there[link, device_id] = request
            return
        if exchange.garbled:
            work.doubtful[link, device_id] = None
            sender = exchange.received[work.order.framing.head_bytes - 1 :][:1]
            if exchange.reason == "wrong_unit" and sender and sender[0] in work.order.ids:
                work.doubtful[link, sender[0]] = None
            return


def _book(work: _Work, link: Link, exchange: Exchange) -> None:
    work.questions += 1
    work.evidence.book(link, exchange)
    if exchange.answered:
        work.answered.add((link, exchange.request.device_id))
    if exchange.answered and exchange.latency_ms is not None:
        work.latencies_ms.setdefault(link, []).append(exchange.latency_ms)


def _ask_again(work: _Work) -> Talk[None]:
    """Those who sent what cannot be believed, with long times. Whoever goes on sending it is there all the same."""
    waiting = [place for place in work.doubtful if place not in work.there]
    for link in dict.fromkeys(link for link, _ in waiting):
        yield careful(link, _answer_s(work.order))
        here = [device_id for at, device_id in waiting if at == link]
        for done, device_id in enumerate(here):
            yield Note("again", link, done, len(here), len(work.there))
            spoiled = 0
            for request in _again_requests(work.order.framing, device_id):
                exchange = yield from ask(request)
                _book(work, link, exchange)
                spoiled += exchange.garbled and exchange.reason not in ("wrong_unit", "echo_of_request")
                if exchange.answered or spoiled > 1:
                    work.there[link, device_id] = request
                    break


def _again_requests(framing: Framing, device_id: int) -> Iterator[Request]:
    for number in range(_AGAIN_MAX):
        yield framing.read(device_id, *_PLACES[number % len(_PLACES)])


def _look_closely(work: _Work, link: Link, known: int) -> Talk[list[Found]]:
    """Who answers at this link, and how well."""
    here = [(device_id, request) for (at, device_id), request in work.there.items() if at == link]
    if not here:
        return []
    yield careful(link, _answer_s(work.order))
    many = work.order.framing is MBAP and len(here) >= _SAME_ANSWER_MANY
    found: list[Found] = []
    for done, (device_id, request) in enumerate(sorted(here, key=lambda row: row[0])):
        yield Note("recognise", link, done, len(here), len(found) + known)
        if many and done:  # a server that answers for every id; the first one says who it is
            recognition, health = _NOBODY, Health(device_id, link, (), (), constant=False)
        else:
            recognition, health = yield from _examined(work, link, device_id, request)
        found.append(Found(device_id, link, recognition, health))
    return found


def _merged(answered: Sequence[Found]) -> list[Found]:
    """One row a device: 8N1 and 8N2 understand each other, so the same meter may answer at both."""
    rows: dict[tuple[object, ...], Found] = {}
    for found in answered:
        who = found.recognition
        key = (found.device_id, found.link.baud, who.models, tuple(who.identity.items()))
        first = rows.get(key)
        rows[key] = found if first is None else replace(first, also_at=(*first.also_at, found.link))
    return list(rows.values())


def _examined(work: _Work, link: Link, device_id: int, request: Request) -> Talk[tuple[Recognition, Health]]:
    """`examine`, with every exchange counted."""
    order = work.order
    answered = (link, device_id) in work.answered
    talk = examine(order.framing, link, device_id, request, order.models, order.repeats, answered=answered)
    came: Exchange | bytes | None = None
    while True:
        try:
            step = talk.send(came)
        except StopIteration as end:
            result: tuple[Recognition, Health] = end.value
            return result
        came = yield step
        if isinstance(step, Question) and isinstance(came, Exchange):
            _book(work, link, came)


def _repeat(request: Request, repeats: int, gap_s: float) -> Talk[tuple[Exchange, ...]]:
    """The same question again and again; fewer times on a line that is never silent."""
    rows: list[Exchange] = []
    for _ in range(repeats):
        rows.append((yield from ask(request, gap_s)))
        if [row.reason for row in rows[-_BUSY_MAX:]] == ["line_busy"] * _BUSY_MAX:
            break
    return tuple(rows)


def _long(
    framing: Framing, device_id: int, model: MeterModel, repeats: int, gap_s: float
) -> Talk[tuple[Exchange, ...]]:
    """The longest answer that the device gives from the start of its key values, again and again."""
    start = min(key_points(model), key=lambda point: (point.function_code, point.address))
    for count in _LONG_REGISTERS:
        if count > model.link.max_read_registers:
            continue
        request = framing.read(device_id, start.function_code, start.address, count)
        first = yield from ask(request, gap_s)
        if first.reason is not None and first.reason.startswith("exception_"):
            continue
        return (first, *(yield from _repeat(request, repeats - 1, gap_s)))
    return ()


def _shared(work: _Work, health: Health, all_of_them: Sequence[Health]) -> Diagnosis | None:
    counts = work.evidence.by_link.get(health.link)
    quiet = counts is not None and not counts.unasked_bytes
    others = [row for row in all_of_them if row is not health]
    return shared_address(health, others, FRAMINGS[work.order.framing.name], quiet=quiet)


def _everywhere(work: _Work) -> Diagnosis | None:
    """A Modbus TCP server that does not look at the id."""
    if work.order.framing is not MBAP or len(work.there) < _SAME_ANSWER_MANY:
        return None
    asked, there = len(work.asked), len(work.there)
    return (
        Diagnosis("answers_every_address", "probable", {"asked": asked, "answered": there}) if there == asked else None
    )
