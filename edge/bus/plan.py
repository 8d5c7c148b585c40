"""What to ask a line, and when: reads merged over holes by cost, rounds, and dead devices.

Registers and coils as on the wire, times in seconds of the caller's monotonic clock. No I/O.
A request costs its own bytes, the device's turnaround and the silence around it; a register in a
hole costs two characters. So holes are read across when that is cheaper, and remembered as borders
once a device answers exception 2 or 3 there (05 and 06, busy, are not holes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from typing import Final

from edge.bus.classes import Scope
from edge.core.lean import dataclass
from edge.meters.point import Elsewhere

_COILS_PER_READ_MAX: Final = 2_000  # Modbus V1.1b3, 6.1
_ADDRESSES: Final = 0x1_0000
_OVERHEAD_BYTES: Final = 8 + 5  # request, and what an answer carries besides data
_BACKOFF_FIRST_S: Final = 1.0
# The one answering time a maker calls typical is 40 ms (Carlo Gavazzi EM111); others document 50, or at most 500.
TURNAROUND_S: Final = 0.040
_SILENT_SHARE_MAX: Final = 1 / 12
_SHORT_ROUNDS_FIRST: Final = 12  # as many as it takes to ask every device for everything once
_SHORT_ROUNDS_MAX: Final = 768
_READ_BITS_MAX_FUNCTION: Final = 2
EXCEPTIONS_OF_A_HOLE: Final = ("exception_2", "exception_3", "exception_no_such_data")


@dataclass(frozen=True, slots=True)
class ReadItem:
    """One thing wanted of a device: a point or the state of a relay."""

    name: str
    function_code: int
    address: int
    count: int
    elsewhere: Elsewhere | None = None  # another read that holds it

    @property
    def end(self) -> int:
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """One read request and the items it brings."""

    function_code: int
    address: int
    count: int
    items: tuple[ReadItem, ...]
    names: frozenset[str] = field(init=False, compare=False, repr=False)  # of the items: asked for at every visit

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(item.name for item in self.items))


@dataclass(frozen=True, slots=True)
class ReadCost:
    """What a line and a device charge for reading, in seconds."""

    request_s: float  # a request more, with its answer's overhead, turnaround and silence
    register_s: float  # a register more
    gap_s: float = 0.0  # the silence before the request, which is part of its price

    @classmethod
    def of_line(cls, byte_s: float, gap_s: float, turnaround_s: float = TURNAROUND_S) -> "ReadCost":
        return cls(_OVERHEAD_BYTES * byte_s + turnaround_s + 2 * gap_s, 2 * byte_s, gap_s)

    def before(self, gap_s: float) -> "ReadCost":
        """The same for a device that wants this silence before each request."""
        return replace(self, request_s=self.request_s + max(0.0, gap_s - self.gap_s))


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a device allows in one read."""

    max_read_registers: int
    even_register_reads_only: bool
    has_neighbours: bool = True  # False: addresses are names, and nothing stands between two of them


class BlockMap:
    """The read blocks of one device, which learn where its holes are."""

    def __init__(self, items: Sequence[ReadItem], limits: ReadLimits, cost: ReadCost) -> None:
        self._items = list(items)
        self._limits, self._cost = limits, cost
        self._borders: set[tuple[int, int]] = set()  # no block may reach across this address
        self.dropped: list[ReadItem] = []  # the device has no such address
        self.blocks = self._merged()

    def refuse(self, block: ReadBlock, keep: frozenset[str] = frozenset()) -> None:
        """The device answered exception 2 or 3: split at the widest hole, else in two, else drop the item.

        Items named in `keep` are asked for again whatever the device says (money, relays).
        """
        if block not in self.blocks:
            return
        border = _split_address(block)
        if border is None:  # one item, or several names for one address
            lost = [item for item in block.items if item.name not in keep]
            self._items = [item for item in self._items if item not in lost]
            self.dropped += lost
        else:
            self._borders.add((block.function_code, border))
        self.blocks = self._merged()

    def _merged(self) -> tuple[ReadBlock, ...]:
        blocks: list[ReadBlock] = []
        for function_code in sorted({item.function_code for item in self._items}):
            items = sorted(
                (item for item in self._items if item.function_code == function_code),
                key=lambda item: (item.address, item.count),
            )
            blocks += self._cheapest(function_code, items)
        return tuple(blocks)

    def _cheapest(self, function_code: int, items: list[ReadItem]) -> list[ReadBlock]:
        """The sorted items in the blocks that cost least."""
        registers = tuple((item.address, item.end) for item in items)
        borders = frozenset(at for code, at in self._borders if code == function_code)
        bits = function_code <= _READ_BITS_MAX_FUNCTION
        return [
            ReadBlock(function_code, address, count, tuple(items[start:end]))
            for start, end, address, count in _cut(registers, bits, self._limits, self._cost, borders)
        ]


@lru_cache(maxsize=64)
def _cut(
    registers: tuple[tuple[int, int], ...], bits: bool, limits: ReadLimits, cost: ReadCost, borders: frozenset[int]
) -> tuple[tuple[int, int, int, int], ...]:
    """Cheapest cut of (address, end) in order: first item, behind the last one, address and count of each request.

    best[n] pays for the first n items. Remembered, because a line has many meters of one model.
    """
    best: list[tuple[float, tuple[tuple[int, int, int, int], ...]]] = [(0.0, ())]
    for end in range(1, len(registers) + 1):
        choices = []
        for start in range(end):
            span = _span(registers[start:end], bits, limits, borders)
            if span is not None:
                price, cut = best[start]
                choices.append((price + (cost.request_s + cost.register_s * span[1]), (*cut, (start, end, *span))))
        best.append(min(choices, key=lambda choice: choice[0]))
    return best[-1][1]


def _span(
    registers: tuple[tuple[int, int], ...], bits: bool, limits: ReadLimits, borders: frozenset[int]
) -> tuple[int, int] | None:
    """Address and count of one request over all these, or None where limits or borders forbid it.

    One item alone always goes.
    """
    address, end = registers[0][0], max(end for _, end in registers)
    if limits.even_register_reads_only and not bits:
        address, end = address - address % 2, end + end % 2
    count_max = _COILS_PER_READ_MAX if bits else limits.max_read_registers
    crossed = any(address < border < end for border in borders)
    apart = not limits.has_neighbours and len(set(registers)) > 1
    if len(registers) > 1 and (crossed or apart or end - address > count_max):
        return None
    return address, end - address


def _split_address(block: ReadBlock) -> int | None:
    """Where to split: the start of the item behind the widest hole, without holes the middle one; None: nowhere."""
    starts = sorted({item.address for item in block.items if item.address > block.items[0].address})
    if not starts:
        return None
    widest, border = 0, starts[len(starts) // 2]
    for start in starts:
        hole = start - max(item.end for item in block.items if item.address < start)
        if hole > widest:
            widest, border = hole, start
    return border


def confirming_blocks(item: ReadItem, first: ReadBlock, limits: ReadLimits) -> tuple[ReadBlock, ...]:
    """Reads of `item` by which a first read is confirmed, best first: their length differs from `first`.

    The last one has the same length after all, for a device that answers no other.
    """
    if not limits.has_neighbours:
        return (first,) if item.elsewhere is None else (_block_elsewhere(item, item.elsewhere), first)
    step = 2 if limits.even_register_reads_only else 1
    start, end = item.address - item.address % step, item.end + item.end % step
    spans = [(start, end), (start, end + step), (start - step, end), (start - step, end + step)]
    blocks = [
        ReadBlock(item.function_code, start, end - start, (item,))
        for start, end in spans
        if start >= 0 and end <= _ADDRESSES and end - start <= limits.max_read_registers
    ]
    return (*(block for block in blocks if block.count != first.count), first)


def _block_elsewhere(item: ReadItem, place: Elsewhere) -> ReadBlock:
    """The other read that holds an item, which stands there at its offset."""
    moved = replace(item, address=place.address + place.offset)
    return ReadBlock(item.function_code, place.address, place.count, (moved,))


class Turn:
    """When one device is next due, and how long it is left alone while it does not answer."""

    def __init__(self) -> None:
        self.due_at = 0.0
        self.silent_visits = 0
        self.tried_at = 0.0
        self.has_answered = False

    @property
    def silent(self) -> bool:
        return self.silent_visits > 0


class Rounds:
    """Who is next on the line. A round takes every due device once, in the order given.

    On a line that is never idle the silent ones together get a twelfth of the time, so that the others do not wait for
    them: what their visits took is a debt that time pays back, and while it stands none of them is tried. Two get their
    turn all the same: one that has answered before and missed once, and one left alone for `dead_backoff_s_max`.

    A whole round that took longer than the poll interval is followed by short ones, in which one device in twelve, in
    turn, is asked for everything and the others for what is urgent; twice as many after each that was too long again.
    """

    def __init__(self, device_ids: Sequence[int], poll_interval_s: float, dead_backoff_s_max: float) -> None:
        self._poll_interval_s = poll_interval_s
        self._backoff_s_max = max(dead_backoff_s_max, poll_interval_s)
        self._turns = {device_id: Turn() for device_id in device_ids}
        self._waiting: list[int] = []
        self._started_at: float | None = None
        self._next_round_at = 0.0
        self._debt_s, self._paid_until = 0.0, 0.0
        self.cycle_s: float | None = None  # of the last whole round
        self.freezing = False
        self._short_rounds, self._short_left = 0, 0
        self._whole: frozenset[int] = frozenset(device_ids)  # those asked for everything in this round
        self._whole_from = 0

    def scope(self, device_id: int) -> Scope:
        """How much the visit that begins now is to ask for."""
        if self.freezing:
            return Scope.MONEY
        return Scope.DUE if device_id in self._whole else Scope.URGENT

    def freeze(self, device_ids: Sequence[int], now: float) -> None:
        """These, as far as they answer, are next, for their money registers alone; a round for the others follows."""
        living = [device_id for device_id in device_ids if not self._turns[device_id].silent]
        if living:
            self._waiting = living
            self.freezing, self._started_at, self._next_round_at = True, None, now

    def next_device(self, now: float) -> int | None:
        """The device to visit now; None until `due_at()`."""
        if not self._waiting:
            self._end_round(now)
            if now < self._next_round_at:
                return None
            self._start_round(now)
            if not self._waiting:
                return None
        device_id = self._waiting.pop(0)
        self._turns[device_id].tried_at = now
        return device_id

    def due_at(self) -> float:
        """When `next_device` will have something, at the latest known."""
        return self._next_round_at

    def answered(self, device_id: int) -> None:
        """The device is alive: it keeps its place in every round from now on."""
        turn = self._turns[device_id]
        turn.silent_visits, turn.due_at, turn.has_answered = 0, 0.0, True

    def did_not_answer(self, device_id: int, now: float) -> None:
        """One try was lost: first miss, next round; then twice as long each time, up to the limit."""
        turn = self._turns[device_id]
        turn.silent_visits += 1
        self._pay(now)
        self._debt_s += now - turn.tried_at
        doublings = min(turn.silent_visits - 1, 32)
        wait_s = min(max(self._poll_interval_s, _BACKOFF_FIRST_S) * 2.0**doublings, self._backoff_s_max)
        turn.due_at = 0.0 if turn.silent_visits == 1 else now + wait_s

    def is_silent(self, device_id: int) -> bool:
        return self._turns[device_id].silent

    def _start_round(self, now: float) -> None:
        self._started_at = now
        grid_at = self._next_round_at + self._poll_interval_s
        is_late = grid_at <= now
        self._next_round_at = now + self._poll_interval_s if is_late else grid_at
        due = {device_id: turn for device_id, turn in self._turns.items() if turn.due_at <= now}
        if is_late and len({turn.silent for turn in due.values()}) == 2:  # some would wait for others
            self._pay(now)
            due = self._affordable(due, now)
        self._waiting = list(due)
        self._whole = frozenset(self._turns) if not self._short_left else self._next_whole()

    def _next_whole(self) -> frozenset[int]:
        every = list(self._turns)
        count = -(-len(every) // _SHORT_ROUNDS_FIRST)
        first, self._whole_from = self._whole_from, (self._whole_from + count) % len(every)
        return frozenset((every[first:] + every[:first])[:count])

    def _affordable(self, due: Mapping[int, Turn], now: float) -> dict[int, Turn]:
        """The living, those whose turn cannot wait, and the silent one that waited longest if no debt stands."""

        def must(turn: Turn) -> bool:
            missed_once = turn.has_answered and turn.silent_visits == 1
            return not turn.silent or missed_once or now - turn.tried_at >= self._backoff_s_max

        silent = [device_id for device_id, turn in due.items() if not must(turn)]
        chosen = min(silent, key=lambda device_id: due[device_id].tried_at) if silent and self._debt_s == 0 else None
        return {device_id: turn for device_id, turn in due.items() if must(turn) or device_id == chosen}

    def _pay(self, now: float) -> None:
        self._debt_s = max(0.0, self._debt_s - _SILENT_SHARE_MAX * (now - self._paid_until))
        self._paid_until = now

    def _end_round(self, now: float) -> None:
        self.freezing = False
        if self._started_at is None:
            return
        took_s, self._started_at = now - self._started_at, None
        if self._short_left:
            self._short_left -= 1
            return
        self.cycle_s = took_s
        is_long = took_s > self._poll_interval_s
        self._short_rounds = min(max(_SHORT_ROUNDS_FIRST, 2 * self._short_rounds), _SHORT_ROUNDS_MAX) if is_long else 0
        self._short_left = self._short_rounds
