"""Who is on a line of DL/T 645 meters: their addresses of twelve digits, found with wildcards. No I/O and no clock.

First everybody is asked at once. One answer is one meter; several at once are garbled, and then those are asked whose
address ends in 00, 01 ... 99, and where that is garbled too, the two digits before them, until one meter answers alone.
Silence at the first two questions means that nobody is there. On a line where noise looks like collisions the search
ends when there are more of them than the meters found can make. Only reads are ever built here. Times are seconds.
Source: DL/T 645-2007, 5.2.2 (shortened addresses: AAH in the leading octets).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.bus.dlt645 import Dlt645Framing, address_text
from edge.bus.frame import Request
from edge.bus.scan_records import (
    Diagnosis,
    Exchange,
    Found,
    Health,
    Link,
    LinkUnusable,
    Note,
    Open,
    Recognition,
    ScanReport,
    Talk,
    ask,
)
from edge.meters.model import MeterModel
from edge.meters.point import ValueRefused
from edge.meters.records import READ_DATA

ANSWER_S: Final = 0.6  # 500 ms are allowed, and an adapter may hand an answer over late
BAUDS: Final = (2400, 9600, 4800, 1200, 19_200, 600)
USUAL_BAUDS: Final = BAUDS[:2]
FORMAT: Final = "8E1"
_SILENCE_S: Final = 0.05
_ANY: Final = "A" * 12
_PAIRS: Final = tuple(f"{number:02d}" for number in range(100))
_NOTE_EVERY: Final = 10
_REPEATS: Final = 4
_GAP_S: Final = 0.03
# Two meters collide at most once for each pair of digits that they have in common, and a few more are a matter of luck.
_COLLISIONS_FREE: Final = 30
_COLLISIONS_PER_METER: Final = 6


@dataclass(frozen=True, slots=True)
class AddressOrder:
    """Where to look. `models`: single-phase and three-phase, by which the meters found are read."""

    framing: Dlt645Framing
    links: tuple[Link, ...]
    models: tuple[MeterModel, ...]
    quick_only: bool = False  # nobody is looked for beside one that answers alone
    answer_s: float = ANSWER_S


@dataclass(slots=True)
class _Work:
    """What is known so far."""

    order: AddressOrder
    found: dict[tuple[Link, int], None] = field(default_factory=dict)
    twins: list[Diagnosis] = field(default_factory=list)
    unusable: dict[Link, LinkUnusable] = field(default_factory=dict)
    asked: int = 0
    garbled: int = 0
    collisions: int = 0

    @property
    def is_noise(self) -> bool:
        """Whether there are more collisions than the meters found can make."""
        return self.collisions > _COLLISIONS_FREE + _COLLISIONS_PER_METER * len(self.found)


def search(order: AddressOrder) -> Talk[ScanReport]:
    """The whole search, and a look at everybody found. Raises LinkUnusable if the port can be set to no link."""
    work = _Work(order)
    rows: list[Found] = []
    for link in order.links:
        try:
            yield Open(link, order.answer_s, _SILENCE_S)
        except LinkUnusable as problem:
            work.unusable[link] = problem
            continue
        yield from _search_link(work, link)
        here = [device_id for at, device_id in work.found if at == link]
        for done, device_id in enumerate(here):
            yield Note("recognise", link, done, len(here), len(work.found))
            rows.append((yield from _looked_at(work, link, device_id)))
    if len(work.unusable) == len(order.links):
        raise work.unusable[order.links[0]]
    diagnoses = (*work.twins, *_of_the_line(work))
    return ScanReport(tuple(rows), diagnoses, order.links, tuple(work.unusable), work.asked, complete=not work.is_noise)


def _search_link(work: _Work, link: Link) -> Talk[None]:
    everybody = yield from _knock(work, link, _ANY)
    if everybody.reason == "timeout":  # a meter may know shortened reads and not the question for its address
        everybody = yield from _asked(work, work.order.framing.read_address(_ANY))
        _book(work, link, everybody)
    if everybody.reason == "timeout":
        return
    if not (work.order.quick_only and everybody.answered):
        yield from _descend(work, link, "")


def _descend(work: _Work, link: Link, known: str) -> Talk[None]:
    """Asks those whose address ends in `known`, by the two digits before it."""
    for done, pair in enumerate(_PAIRS):
        if not known and done % _NOTE_EVERY == 0:
            yield Note("full", link, done, len(_PAIRS), len(work.found))
        digits = pair + known
        if digits == "9" * 12 or work.is_noise:
            continue
        exchange = yield from _knock(work, link, digits.rjust(12, "A"))
        if exchange.garbled:  # once may be noise
            exchange = yield from _knock(work, link, digits.rjust(12, "A"))
        if not exchange.garbled:
            continue
        work.collisions += 1
        if len(digits) < len(_ANY):
            yield from _descend(work, link, digits)


def _knock(work: _Work, link: Link, pattern: str) -> Talk[Exchange]:
    exchange = yield from _asked(work, work.order.framing.search(pattern))
    _book(work, link, exchange)
    return exchange


def _book(work: _Work, link: Link, exchange: Exchange) -> None:
    work.garbled += exchange.garbled
    if exchange.reason is None:
        work.found[link, int(bytes(exchange.words)[::-1].hex())] = None


def _asked(work: _Work, request: Request) -> Talk[Exchange]:
    work.asked += 1
    return (yield from ask(request, _GAP_S))


def _looked_at(work: _Work, link: Link, device_id: int) -> Talk[Found]:
    """Which of the models it is, what its register shows, and how well it answers."""
    framing, models = work.order.framing, sorted(work.order.models, key=lambda model: model.phases)
    money = models[0].points[models[0].money_point or ""]
    exchanges = []
    for _ in range(_REPEATS):
        exchanges.append((yield from _asked(work, framing.read(device_id, READ_DATA, money.address, money.count))))
    garbled = sum(exchange.garbled for exchange in exchanges)
    if 2 * garbled > _REPEATS:  # asked for their address two of one address say the same, and not for their register
        evidence = {"asked": _REPEATS, "garbled": garbled}
        work.twins.append(Diagnosis("two_on_one_address", "probable", evidence, device_id, link))
    fitting = models[0]
    for name, point in models[-1].points.items():
        if name == "voltage_l3":
            third = yield from _asked(work, framing.read(device_id, READ_DATA, point.address, point.count))
            fitting = models[-1] if third.reason is None else fitting
    values = {}
    for exchange in exchanges:
        if exchange.reason is None:
            try:
                values[money.name] = f"{money.decode(exchange.words):f}"
            except ValueRefused:
                continue
    recognition = Recognition((fitting.id,), "probable", {"address": address_text(device_id)}, values, {})
    return Found(device_id, link, recognition, Health(device_id, link, tuple(exchanges), (), constant=False))


def _of_the_line(work: _Work) -> Sequence[Diagnosis]:
    """What can be said of a line on which nobody was understood."""
    if work.found or not work.asked:
        return ()
    if work.garbled:
        return (Diagnosis("garbled_answers", "probable", {"asked": work.asked, "garbled": work.garbled}),)
    return (Diagnosis("silent_line", "probable", {"asked": work.asked}),)
