"""Reads points of one meter on one line, once or again and again, through the line's own strict transactions.

A request that fails for a reason that may pass is asked once more, after the drain. Values are exact
decimals in the point's unit; times are seconds of the event loop.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from edge.bus.frame import Framing, Request
from edge.bus.plan import EXCEPTIONS_OF_A_HOLE, BlockMap, ReadBlock, ReadCost, ReadItem, ReadLimits
from edge.bus.records import ABSENT
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing
from edge.meters.model import MeterModel, Point, ValueRefused
from edge.meters.records import MODBUS
from edge.ports import PortOpener

_TRIES_MAX = 2
# What a second try cannot change: no such function, address or value.
_FINAL_EXCEPTIONS = ("exception_1", "exception_not_authorised", *EXCEPTIONS_OF_A_HOLE)
# A device that has answered nothing to so many blocks is not asked for the rest: it would cost a second each.
_SILENT_BLOCKS_MAX = 4
PORT_LOST = "port_lost"
NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True)
class PointValue:
    """One value and the registers it came from, in the order of the wire."""

    value: Decimal
    unit: str
    raw: bytes


@dataclass(slots=True)
class MeterReading:
    """What one pass over the points brought. Every point asked for stands in `points` or in `failed`."""

    points: dict[str, PointValue] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # point: reason code
    requests: int = 0  # sent, second tries included
    errors: int = 0  # requests without an answer that may be believed


class MeterReader:
    """One meter on an open line; the source of what its Talker asks. `read()` makes one pass."""

    def __init__(
        self,
        model: MeterModel,
        device_id: int,
        names: Sequence[str],
        framing: Framing,
        timing: Timing,
        *,
        merge: bool = False,
    ) -> None:
        self._model, self._device_id, self._framing, self._timing = model, device_id, framing, timing
        self._names = tuple(dict.fromkeys(names))
        self._maps = _maps([model.points[name] for name in self._names], model, timing, merge=merge)
        self._talker = Talker(framing, timing, self, lambda: None)
        self._waiting: list[tuple[BlockMap, ReadBlock]] = []
        self._tries = 0
        self._silent_blocks = 0
        self._reading = MeterReading()
        self._finished: asyncio.Future[None] | None = None
        self.lost: str | None = None  # why the port is gone

    @property
    def is_open(self) -> bool:
        """Whether there is a port to ask through."""
        return self._talker.is_open

    async def serve(self, opener: PortOpener, opened: asyncio.Event) -> None:
        """One life of the port. Raises OSError if it cannot be opened."""
        try:
            self.lost = await self._talker.serve(opener, opened.set)
        finally:
            self._end()

    async def read(self) -> MeterReading:
        """All points once. What cannot be read because the port is gone has failed with `port_lost`."""
        self._reading = reading = MeterReading()
        self._waiting = [(block_map, block) for block_map in self._maps for block in block_map.blocks]
        self._tries = self._silent_blocks = 0
        for block_map in self._maps:  # found missing in an earlier pass: not asked for again
            reading.failed.update({item.name: EXCEPTIONS_OF_A_HOLE[0] for item in block_map.dropped})
        if self.is_open:
            self._finished = asyncio.get_running_loop().create_future()
            self._talker.talk()
            await self._finished
        left = NOT_ASKED if self.is_open else PORT_LOST
        missing = [name for name in self._names if name not in reading.points and name not in reading.failed]
        reading.failed.update(dict.fromkeys(missing, left))
        reading.points = {name: reading.points[name] for name in self._names if name in reading.points}
        reading.failed = {name: reading.failed[name] for name in self._names if name in reading.failed}
        return reading

    def next_ask(self, now: float) -> Ask | None:
        """The request for the first block that waits."""
        if self._silent_blocks == _SILENT_BLOCKS_MAX and not self._reading.points:
            self._waiting.clear()
        if not self._waiting:
            self._end()
            return None
        return Ask(self._request(self._waiting[0][1]), self._model.link.min_gap_ms / 1000)

    def due_at(self) -> float | None:
        """Nothing comes due by itself."""
        return None

    def wait_s(self, ask: Ask) -> float | None:
        """As long as the line says, which is asked for one model."""
        return None

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        """Books an answer, or tries again, or splits a block that reaches over a hole."""
        block_map, block = self._waiting[0]
        self._reading.requests += outcome.sent
        self._tries += 1
        if outcome.reason is None:
            self._book(block, outcome.words)
        else:
            self._reading.errors += 1
            if outcome.reason not in _FINAL_EXCEPTIONS and self._tries < _TRIES_MAX:
                return
            if outcome.reason in EXCEPTIONS_OF_A_HOLE and len(block.items) > 1:
                self._split(block_map, block, outcome.reason)
                return
            self._reading.failed.update({item.name: outcome.reason for item in block.items})
        self._silent_blocks = self._silent_blocks + 1 if outcome.reason in ABSENT else 0
        self._next()

    def _request(self, block: ReadBlock) -> Request:
        return self._framing.read(self._device_id, block.function_code, block.address, block.count)

    def _book(self, block: ReadBlock, words: Sequence[int]) -> None:
        for item in block.items:
            point = self._model.points[item.name]
            start = item.address - block.address
            own = words[start : start + item.count]
            try:
                value = point.decode(own)
            except ValueRefused as refused:
                self._reading.failed[item.name] = refused.reason
                continue
            self._reading.points[item.name] = PointValue(value, point.unit, point.wire_bytes(own))

    def _split(self, block_map: BlockMap, block: ReadBlock, reason: str) -> None:
        before = set(block_map.blocks)
        dropped = len(block_map.dropped)
        block_map.refuse(block)
        self._reading.failed.update({item.name: reason for item in block_map.dropped[dropped:]})
        parts = [(block_map, part) for part in block_map.blocks if part not in before]
        self._waiting[0:1] = parts
        self._tries = 0

    def _next(self) -> None:
        self._waiting.pop(0)
        self._tries = 0

    def _end(self) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)


def _maps(points: Sequence[Point], model: MeterModel, timing: Timing, *, merge: bool) -> list[BlockMap]:
    """The reads: each place for itself, or merged over holes as the agent does."""
    items = [ReadItem(point.name, point.function_code, point.address, point.count) for point in points]
    link, has_neighbours = model.link, model.protocol == MODBUS
    limits = ReadLimits(link.max_read_registers, link.even_register_reads_only, has_neighbours)
    cost = ReadCost.of_line(timing.byte_s, timing.gap_s)
    if merge:
        return [BlockMap(items, limits, cost)]
    places: dict[tuple[int, int, int], list[ReadItem]] = {}
    for item in items:  # two names for one place are one request
        places.setdefault((item.function_code, item.address, item.count), []).append(item)
    return [BlockMap(group, limits, cost) for group in places.values()]
