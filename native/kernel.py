"""The tariff kernel from Python: whole arrays in, whole arrays out, one call for all accounts.

Units, meaning and bounds of every array stand in include/kernel.h. Arrays are buffers of signed
64-bit integers (array("q") and the like). The interpreter's lock is released while C runs.
A build that does not belong to the sources beside it refuses to load (StaleKernel).
"""

from array import array
from bisect import bisect_right
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


@dataclass(frozen=True, slots=True)
class Totals:
    """What the accounts owe, and where they stand after it: `struct tariff_bills` without the intervals."""

    account_amount_nano: "Int64s[int]"
    account_energy_wh: "Int64s[int]"
    account_cycle_start_at: "Int64s[int]"


class TariffKernel:
    """The kernel with the tables of some tariffs, checked once. Threads may share it."""

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
        return self.prepare(intervals, details).rate()

    def prepare(self, intervals: Intervals, details: bool = False) -> "PreparedCall":
        """Checks the lengths and makes room for the bills once, for intervals that are rated again and again."""
        accounts = _Accounts(intervals)
        count, stride = accounts.interval_count, intervals.position_stride
        explained = None
        if details:
            cells = _zeros(count * self._cell_stride)
            explained = Details(self._cell_stride, _zeros(count * stride), _zeros(count), _zeros(count), cells)
        return PreparedCall(
            (self._tables, self._alive), accounts, Bills(_zeros(count), *_account_results(accounts), explained)
        )

    def rate_totals(self, intervals: Intervals) -> Totals:
        """Rates all intervals as rate_arrays() does, and answers only what the accounts owe.

        A fleet is rated in groups of accounts that share one scratch array for their amounts.
        Raises KernelRefused, with nothing answered, when an interval cannot be rated.
        """
        accounts = _Accounts(intervals)
        totals = Totals(*_account_results(accounts))
        groups = list(pairwise(accounts.groups()))
        amount_nano = ffi.new(_INT64S, max(accounts.interval_count_of(*group) for group in groups))
        of_accounts = [_pointer(getattr(totals, name)) for name in _TOTAL_ARRAYS]
        steps = (1, accounts.stride, 1)
        for start, end in groups:
            struct, _alive = accounts.group(start, end)
            places = [pointer + start * step for pointer, step in zip(of_accounts, steps, strict=True)]
            bills = ffi.new(_BILLS, [amount_nano, *places])
            _raise_unless_ok(lib.tariff_rate(self._tables, struct, bills, ffi.NULL))
        return totals


class PreparedCall:
    """Intervals in the caller's arrays, and room for what they cost.

    The caller may change the numbers in the arrays (the buffer protocol keeps their lengths) and
    rate again: nothing is allocated then. One thread at a time.
    """

    def __init__(self, tables: tuple[Any, list[Any]], accounts: "_Accounts", bills: Bills) -> None:
        self._tables, self._tables_alive = tables
        self._accounts = accounts
        self._bills = bills
        self._alive = [_pointer(getattr(bills, name)) for name in _BILL_ARRAYS]
        self._written = ffi.new(_BILLS, self._alive)
        self._explained = ffi.NULL
        details = bills.details
        if details is not None:
            explained = [_pointer(getattr(details, name)) for name in _DETAIL_ARRAYS]
            self._alive += explained
            self._explained = ffi.new(_DETAILS, [details.cell_stride, *explained])

    def rate(self) -> Bills:
        """Rates what now stands in the arrays. The answer is the same object every time, with new numbers.

        Raises KernelRefused, and leaves the numbers of the call before, when an interval cannot be rated.
        """
        accounts = self._accounts
        accounts.check_end()
        _raise_unless_ok(lib.tariff_rate(self._tables, accounts.struct, self._written, self._explained))
        return self._bills


_INT64S = ffi.typeof("int64_t[]")  # looking a type up by its name takes longer than what it is for
_ACCOUNTS = ffi.typeof("struct tariff_accounts *")
_BILLS = ffi.typeof("struct tariff_bills *")
_DETAILS = ffi.typeof("struct tariff_details *")
_FORMATS = ("q", "l")  # numpy says "l" for int64 where a C long has 64 bits
_INT64_BYTES = 8
_ZERO = array("q", (0,))
# Intervals of a group of accounts: a MiB of amounts instead of one for the whole fleet. Smaller groups are slower.
_GROUP_INTERVALS = 131_072
_WORTH_INTERVALS = 64  # of each account on average: below, making groups costs more than it saves
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
# in the order of the structs
_ACCOUNT_ARRAYS = (
    "tariff",
    "first_interval",
    "energy_wh",
    "cycle_start_at",
    "interval_start_at",
    "interval_end_at",
    "interval_energy_wh",
)
_TOTAL_ARRAYS = ("account_amount_nano", "account_energy_wh", "account_cycle_start_at")
_BILL_ARRAYS = ("amount_nano", *_TOTAL_ARRAYS)
_DETAIL_ARRAYS = ("energy_wh", "cycle_start_at", "estimated", "cell_energy_wh")


class _Accounts:
    """`struct tariff_accounts` over the caller's arrays, with all their lengths checked."""

    def __init__(self, intervals: Intervals) -> None:
        pointers = [_pointer(getattr(intervals, name)) for name in _ACCOUNT_ARRAYS]
        lengths = [len(pointer) for pointer in pointers]
        count, interval_count, stride = lengths[0], lengths[4], intervals.position_stride
        wanted = [count, count + 1, count * stride, count, interval_count, interval_count, interval_count]
        if stride < 1 or lengths != wanted:
            raise KernelRefused(f"the arrays do not fit together: {lengths} entries, position stride {stride}")
        self.account_count, self.interval_count, self.stride = count, interval_count, stride
        self._pointers = pointers  # keep the buffers alive
        self._first_interval = pointers[1]
        self.check_end()
        self.struct = ffi.new(_ACCOUNTS, [count, stride, *pointers])

    def check_end(self) -> None:
        """The kernel believes the end of the last run, so it must be the arrays' end."""
        end = self._first_interval[self.account_count]
        if end != self.interval_count:
            raise KernelRefused(f"first_interval ends with {end} of {self.interval_count}")

    def groups(self) -> list[int]:
        """Numbers of accounts between which they are rated together: 0, ..., account_count.

        All in one where they have too few intervals to be worth it, and where their runs do not
        follow each other, which the kernel refuses.
        """
        whole = [0, self.account_count]
        if self.interval_count <= max(_GROUP_INTERVALS, self.account_count * _WORTH_INTERVALS):
            return whole
        first = list(self._first_interval)
        if first[0] != 0 or any(after < before for before, after in pairwise(first)):
            return whole
        bounds = [0]
        while bounds[-1] < self.account_count:
            fitting = bisect_right(first, first[bounds[-1]] + _GROUP_INTERVALS) - 1
            bounds.append(max(bounds[-1] + 1, fitting))
        return bounds

    def interval_count_of(self, start: int, end: int) -> int:
        """How many intervals the accounts from `start` up to, not with, `end` have."""
        if (start, end) == (0, self.account_count):
            return self.interval_count
        count: int = self._first_interval[end] - self._first_interval[start]
        return count

    def group(self, start: int, end: int) -> tuple[Any, Any]:
        """(struct of the accounts from `start` up to, not with, `end`, what it needs alive)."""
        if (start, end) == (0, self.account_count):
            return self.struct, None
        tariff, _, energy_wh, cycle_start_at, *of_intervals = self._pointers
        first = self._first_interval[start]
        runs = ffi.new(_INT64S, [self._first_interval[account] - first for account in range(start, end + 1)])
        accounts = [tariff + start, runs, energy_wh + start * self.stride, cycle_start_at + start]
        struct = ffi.new(_ACCOUNTS, [end - start, self.stride, *accounts, *(values + first for values in of_intervals)])
        return struct, runs


def _account_results(accounts: _Accounts) -> "tuple[Int64s[int], Int64s[int], Int64s[int]]":
    """Room for what an account owes, its block positions, and the cycle they belong to."""
    count = accounts.account_count
    return _zeros(count), _zeros(count * accounts.stride), _zeros(count)


def _pointer(buffer: Buffer) -> Any:
    if type(buffer) is array and buffer.typecode == "q":  # the usual case, in a third of the time
        return ffi.from_buffer(_INT64S, buffer)
    view = memoryview(buffer)
    if view.format not in _FORMATS or view.itemsize != _INT64_BYTES:
        raise KernelRefused(f"the kernel takes arrays of signed 64-bit integers, not of format {view.format}")
    return ffi.from_buffer(_INT64S, view)


def _zeros(count: int) -> "Int64s[int]":
    return _ZERO * count


def _raise_unless_ok(result: int) -> None:
    if result != lib.TARIFF_OK:
        raise KernelRefused(_REASONS[result])
