"""The tariff kernel from Python: whole arrays in, whole arrays out, one call for all accounts.

Units, meaning and bounds of every array stand in include/kernel.h. Arrays are buffers of signed
64-bit integers (array("q") and the like). The interpreter's lock is released while C runs.
A build that does not belong to the sources beside it refuses to load (StaleKernel).
"""

from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from native.source_hash import source_hash


class StaleKernel(ImportError):
    """The compiled kernel and the C sources beside it differ, or there is no compiled kernel."""


def check_build(built_hash: str, sources_hash: str | None) -> None:
    """Refuses a build of other sources than those given; without sources there is nothing to compare."""
    if sources_hash is not None and built_hash != sources_hash:
        raise StaleKernel("the compiled tariff kernel is older than its sources: run `python3 build.py native`")


try:
    from native._kernel import ffi, lib
except ImportError as problem:
    raise StaleKernel("the tariff kernel is not compiled: run `python3 build.py native`") from problem
check_build(ffi.string(lib.tariff_source_hash).decode("ascii"), source_hash())

SOURCE_HASH: str = ffi.string(lib.tariff_source_hash).decode("ascii")
Int64s = array  # of type code "q"
Buffer = Any  # whatever has 64-bit integers behind the buffer protocol

_REASONS = {
    lib.TARIFF_BAD_TABLES: "the tariff tables are not well formed or leave the kernel's bounds",
    lib.TARIFF_BAD_ACCOUNT: "an account has an unknown tariff, or a position out of bounds",
    lib.TARIFF_BAD_INTERVAL: "an interval has its ends out of order, is too long, or starts before the last one ends",
    lib.TARIFF_OUTSIDE_SPAN: "an interval is not within the compiled calendar of its tariff",
    lib.TARIFF_BAD_ENERGY: "an energy is below 0, or too much for its tariff",
}


class KernelRefused(ValueError):
    """The kernel refused a call and wrote nothing."""


class Tables(Protocol):
    """`struct tariff_tables`, but for the counts."""

    @property
    def tariff_first_segment(self) -> Buffer: ...
    @property
    def tariff_first_period(self) -> Buffer: ...
    @property
    def tariff_position_count(self) -> Buffer: ...
    @property
    def tariff_energy_wh_max(self) -> Buffer: ...
    @property
    def segment_start_at(self) -> Buffer: ...
    @property
    def segment_period(self) -> Buffer: ...
    @property
    def segment_cycle_start_at(self) -> Buffer: ...
    @property
    def period_first_cell(self) -> Buffer: ...
    @property
    def period_position(self) -> Buffer: ...
    @property
    def cell_limit_wh(self) -> Buffer: ...
    @property
    def cell_price_micro_per_kwh(self) -> Buffer: ...


class Intervals(Protocol):
    """`struct tariff_accounts`, but for the counts."""

    @property
    def position_stride(self) -> int: ...
    @property
    def tariff(self) -> Buffer: ...
    @property
    def first_interval(self) -> Buffer: ...
    @property
    def energy_wh(self) -> Buffer: ...
    @property
    def cycle_start_at(self) -> Buffer: ...
    @property
    def interval_start_at(self) -> Buffer: ...
    @property
    def interval_end_at(self) -> Buffer: ...
    @property
    def interval_energy_wh(self) -> Buffer: ...


@dataclass(frozen=True, slots=True)
class Details:
    """`struct tariff_details`."""

    cell_stride: int
    energy_wh: "Int64s[int]"
    cycle_start_at: "Int64s[int]"
    estimated: "Int64s[int]"
    cell_energy_wh: "Int64s[int]"


@dataclass(frozen=True, slots=True)
class Bills:
    """`struct tariff_bills`, with the details if they were asked for."""

    amount_nano: "Int64s[int]"
    account_amount_nano: "Int64s[int]"
    account_energy_wh: "Int64s[int]"
    account_cycle_start_at: "Int64s[int]"
    details: Details | None


class TariffKernel:
    """The kernel with the tables of some tariffs, checked once."""

    def __init__(self, tables: Tables) -> None:
        self._tables = ffi.new("struct tariff_tables *")
        self._alive: list[Any] = []  # cffi pointers into the caller's buffers
        lengths = {}
        for name in _TABLE_ARRAYS:
            pointer = _pointer(getattr(tables, name))
            lengths[name] = len(pointer)
            setattr(self._tables, name, pointer)
            self._alive.append(pointer)
        counts = {count: lengths[name] for name, (count, extra) in _TABLE_ARRAYS.items() if not extra}
        if any(lengths[name] != counts[count] + extra for name, (count, extra) in _TABLE_ARRAYS.items()):
            raise KernelRefused(f"the tariff tables do not fit together: {lengths}")
        for count, length in counts.items():
            setattr(self._tables, count, length)
        _raise_unless_ok(lib.tariff_check_tables(self._tables))
        first_cell, first_period = tables.period_first_cell, tables.tariff_first_period
        bounds = [first_cell[period] for period in first_period]
        self._cell_stride = max(after - before for before, after in pairwise(bounds))

    def rate_arrays(self, intervals: Intervals, details: bool = False) -> Bills:
        """Rates all intervals. Raises KernelRefused, and has rated nothing, when one cannot be."""
        accounts, account_count, interval_count = _accounts(intervals)
        bills = Bills(
            amount_nano=_zeros(interval_count),
            account_amount_nano=_zeros(account_count),
            account_energy_wh=_zeros(account_count * intervals.position_stride),
            account_cycle_start_at=_zeros(account_count),
            details=self._details(interval_count, intervals.position_stride) if details else None,
        )
        written = _filled("struct tariff_bills *", bills, _BILL_ARRAYS)
        if bills.details is None:
            _raise_unless_ok(lib.tariff_rate(self._tables, accounts[0], written[0], ffi.NULL))
        else:
            explained = _filled("struct tariff_details *", bills.details, _DETAIL_ARRAYS)
            explained[0].cell_stride = bills.details.cell_stride
            _raise_unless_ok(lib.tariff_rate(self._tables, accounts[0], written[0], explained[0]))
        return bills

    def _details(self, interval_count: int, position_stride: int) -> Details:
        return Details(
            cell_stride=self._cell_stride,
            energy_wh=_zeros(interval_count * position_stride),
            cycle_start_at=_zeros(interval_count),
            estimated=_zeros(interval_count),
            cell_energy_wh=_zeros(interval_count * self._cell_stride),
        )


_FORMATS = ("q", "l")  # numpy says "l" for int64 where a C long has 64 bits
_INT64_BYTES = 8
# array -> (which count it has, how many entries more)
_TABLE_ARRAYS = {
    "tariff_first_segment": ("tariff_count", 1),
    "tariff_first_period": ("tariff_count", 1),
    "tariff_position_count": ("tariff_count", 0),
    "tariff_energy_wh_max": ("tariff_count", 0),
    "segment_start_at": ("segment_count", 0),
    "segment_period": ("segment_count", 0),
    "segment_cycle_start_at": ("segment_count", 0),
    "period_first_cell": ("period_count", 1),
    "period_position": ("period_count", 0),
    "cell_limit_wh": ("cell_count", 0),
    "cell_price_micro_per_kwh": ("cell_count", 0),
}
_ACCOUNT_ARRAYS = ("tariff", "first_interval", "energy_wh", "cycle_start_at")
_INTERVAL_ARRAYS = ("interval_start_at", "interval_end_at", "interval_energy_wh")
_BILL_ARRAYS = ("amount_nano", "account_amount_nano", "account_energy_wh", "account_cycle_start_at")
_DETAIL_ARRAYS = ("energy_wh", "cycle_start_at", "estimated", "cell_energy_wh")


def _accounts(intervals: Intervals) -> tuple[tuple[Any, list[Any]], int, int]:
    """((struct, what keeps it alive), accounts, intervals), with all array lengths checked."""
    filled = _filled("struct tariff_accounts *", intervals, (*_ACCOUNT_ARRAYS, *_INTERVAL_ARRAYS))
    lengths = [len(pointer) for pointer in filled[1]]
    account_count, interval_count, stride = lengths[0], lengths[4], intervals.position_stride
    if stride < 1 or lengths != [
        account_count,
        account_count + 1,
        account_count * stride,
        account_count,
        interval_count,
        interval_count,
        interval_count,
    ]:
        raise KernelRefused(f"the arrays do not fit together: {lengths} entries, position stride {stride}")
    if intervals.first_interval[account_count] != interval_count:
        raise KernelRefused(f"first_interval ends with {intervals.first_interval[account_count]} of {interval_count}")
    filled[0].account_count, filled[0].position_stride = account_count, stride
    return filled, account_count, interval_count


def _filled(struct: str, source: Any, names: tuple[str, ...]) -> tuple[Any, list[Any]]:
    """(the struct with pointers to the buffers of those names, the pointers, which must stay alive)."""
    pointers = [_pointer(getattr(source, name)) for name in names]
    filled = ffi.new(struct, dict(zip(names, pointers, strict=True)))
    return filled, pointers


def _pointer(buffer: Buffer) -> Any:
    view = memoryview(buffer)
    if view.format not in _FORMATS or view.itemsize != _INT64_BYTES:
        raise KernelRefused(f"the kernel takes arrays of signed 64-bit integers, not of format {view.format}")
    return ffi.from_buffer("int64_t[]", view)


def _zeros(count: int) -> "Int64s[int]":
    return array("q", (0,)) * count


def _raise_unless_ok(result: int) -> None:
    if result != lib.TARIFF_OK:
        raise KernelRefused(_REASONS[result])
