"""The values of one visit to a meter, decoded when somebody asks for them.

Most rounds nobody looks at a voltage. What came over the line is kept as registers beside a table made once
for each block; only what a meter may refuse to say (not a number, "no value", digits that are none) is looked
at when it comes, because refusals are counted. Exact decimals in the points' units.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Final

from edge.bus.plan import ReadBlock
from edge.meters.point import Point, ValueRefused, doubts_of

_NOTHING: Final = ()


class BlockTable:
    """Where in a block's registers its points stand."""

    __slots__ = ("doubtless", "doubts", "names", "undecided")

    def __init__(self, block: ReadBlock, points: Mapping[str, Point]) -> None:
        self.names: dict[str, tuple[Point, int, int]] = {}
        self.doubts: list[tuple[int, int, int, str]] = []  # register, mask, pattern: if it shows, decode `name`
        self.undecided: list[str] = []  # decode every time
        for item in block.items:
            point = points.get(item.name)
            if point is not None:
                start = item.address - block.address
                self.names[item.name] = (point, start, start + item.count)
                rows = doubts_of(point)
                if rows is None:
                    self.undecided.append(item.name)
                self.doubts += [(start + register, mask, pattern, item.name) for register, mask, pattern in rows or ()]
        self.doubtless = not self.doubts and not self.undecided  # nothing here can be refused

    def decode(self, name: str, registers: Sequence[int]) -> Decimal:
        """One value. Raises ValueRefused."""
        point, start, end = self.names[name]
        return point.decode(registers[start:end])

    def refused(self, registers: Sequence[int]) -> list[tuple[str, str]]:
        """Names of the points that hold no usable number, and why."""
        suspects = [name for at, mask, pattern, name in self.doubts if registers[at] & mask == pattern]
        found = []
        for name in dict.fromkeys((*suspects, *self.undecided)) if suspects or self.undecided else ():
            try:
                self.decode(name, registers)
            except ValueRefused as refusal:
                found.append((name, refusal.reason))
        return found


@lru_cache(maxsize=64)
def table_of(block: ReadBlock, points: tuple[Point, ...]) -> BlockTable:
    """The table of a block; meters of one model share it."""
    return BlockTable(block, {point.name: point for point in points})


class Values(Mapping[str, Decimal]):
    """Values by the name of their point; those that were refused are not among them."""

    __slots__ = ("_blocks", "_refused")

    def __init__(self) -> None:
        self._blocks: list[tuple[BlockTable, Sequence[int]]] = []
        self._refused: tuple[str, ...] = ()

    def add(self, table: BlockTable, registers: Sequence[int]) -> Sequence[tuple[str, str]]:
        """Takes the answer to a block. Returns the names it refuses and why. Before the values are passed on."""
        self._blocks.append((table, registers))
        if table.doubtless:
            return _NOTHING
        refused = table.refused(registers)
        if refused:
            self._refused += tuple(name for name, _ in refused)
        return refused

    def __getitem__(self, name: str) -> Decimal:
        if name not in self._refused:
            for table, registers in self._blocks:
                if name in table.names:
                    return table.decode(name, registers)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for table, _ in self._blocks for name in table.names if name not in self._refused)

    def __len__(self) -> int:
        return sum(len(table.names) for table, _ in self._blocks) - len(self._refused)

    def __contains__(self, name: object) -> bool:
        return name not in self._refused and any(name in table.names for table, _ in self._blocks)

    def __repr__(self) -> str:
        return repr(dict(self))
