"""Faults planted into the product, one at a time, to see that the auditor catches each.

The list is SECURITY.md's. A mutant changes objects and tables while a world is built and runs, and
takes everything back afterwards; the product has no switch for any of it. Each names the worlds that
must give it away: seed, days, meters, faults.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from edge.agent import gateway as gateway_module
from edge.bus import device as device_module
from edge.bus import line as line_module
from edge.bus.frame import FRAMINGS, RTU
from edge.bus.plausibility import RegisterReading, RegisterWatch
from edge.bus.records import LineSettings, OutputResult, RelayState
from edge.bus.transaction import Ask, Outcome, Timing
from edge.core import blockers as blockers_module
from edge.core import decision, ledger, notices
from edge.core import events as ev
from edge.core.disconnect_control import TRANSITIONS, ControlState, Trigger
from edge.core.units import ClockReading
from edge.store import event_log as event_log_module
from edge.store import journal as journal_module
from edge.store.codec import encode_event
from hw.sim.world.machine import swapped

World = tuple[int, int, int, tuple[str, ...]]
BEFORE_COMMIT_S = 0.05
RESTART_MS = 3_600_000
SEEDS = 4


@dataclass(frozen=True, slots=True)
class Mutant:
    """`plant` puts it in and takes it out again; one of `worlds` must give it away."""

    plant: Callable[[], AbstractContextManager[None]]
    worlds: tuple[World, ...]
    what: str


def catch(name: str) -> str | None:
    """The rule by which the first violation gives a mutant away, or None."""
    from hw.sim.world.world import Setting, run_world

    for seed, days, meters, faults in MUTANTS[name].worlds:
        report = run_world(Setting(seed, days, meters, faults, mutant=name, until_found=True))
        if report.violations:
            return report.violations[0].rule
    return None


def worlds(days: int, meters: int, *faults: str, first: int = 1) -> tuple[World, ...]:
    """A few seeds of one kind of world, beginning with one that is known to give the mutant away."""
    return tuple((seed, days, meters, faults) for seed in range(first, first + SEEDS))


# --- the mutants -----------------------------------------------------------------------------


def _ack_before_commit() -> AbstractContextManager[None]:
    """Whoever asked gets his answer while the disk is still busy."""
    pending: list[asyncio.Future[None]] = []

    async def commit(self: Any, stepped: Any) -> None:
        if not stepped.events:
            return
        pending.append(asyncio.ensure_future(self._event_log.append(stepped.events)))
        self.state = stepped.state
        self._tell(stepped.events)

    return swapped(gateway_module.Gateway, "_commit", commit)


def _no_dedupe() -> AbstractContextManager[None]:
    """Payment ids and command ids are not remembered."""
    applied = ledger._APPLY[ev.PaymentApplied]

    def forget(state: Any, event: Any) -> Any:
        return replace(applied(state, event), payments=state.payments)

    rows = {ev.PaymentApplied: forget, ev.OrderApplied: lambda state, _event: state}
    return swapped(ledger, "_APPLY", {**ledger._APPLY, **rows})


def _register_outside_transaction() -> AbstractContextManager[None]:
    """Registers are written after the money that rests on them, in a transaction of their own."""

    async def append(self: Any, events: Sequence[Any]) -> None:
        registers = [event for event in events if isinstance(event, (ev.RegisterFrozen, ev.ReadingsRecorded))]
        others = [event for event in events if event not in registers]
        for part in (others, registers):
            if part:
                await self._journal.append([encode_event(event) for event in part])

    return swapped(event_log_module.JournalEventLog, "append", append)


@contextmanager
def _stale_reply_accepted() -> Iterator[None]:
    """As a plain client does: no drain after a fault, no look at who answered, no second read."""
    timing = line_module._timing

    def without_drain(settings: LineSettings, slowest_ms: Sequence[int]) -> Timing:
        return replace(timing(settings, slowest_ms), drain_silence_s=0.0)

    def believe(_self: RegisterWatch, _reading: RegisterReading) -> str:
        return "good"

    lax = replace(RTU, checks=tuple(check for check in RTU.checks if check.reason not in ("wrong_unit",)))
    with (
        swapped(line_module, "_timing", without_drain),
        swapped(line_module, "framing_of", {**FRAMINGS, "rtu": lax}.__getitem__),
        swapped(RegisterWatch, "first", believe),
    ):
        yield


@contextmanager
def _publish_before_commit() -> Iterator[None]:
    """Records go to the cloud while they are on their way to the disk."""
    commit, heads, read = gateway_module.Gateway._commit, journal_module.SqliteJournal.heads, None
    read = journal_module.SqliteJournal.read
    early: list[tuple[Sequence[Any], Mapping[str, Any]]] = []

    async def tell_first(self: Any, stepped: Any) -> None:
        if stepped.events and self._cloud is not None:
            journal = self._event_log._journal
            entries = [encode_event(event) for event in stepped.events]
            early.append(journal._next_records(entries, journal._heads))
            self._cloud.notify_appended()
            await asyncio.sleep(BEFORE_COMMIT_S)
            early.clear()
        await commit(self, stepped)

    def heads_early(self: Any) -> Mapping[str, Any]:
        return early[0][1] if early else heads(self)

    async def read_early(self: Any, stream: str, after_seq: int, count_max: int) -> Sequence[Any]:
        more = [record for record in (early[0][0] if early else ()) if record.stream == stream]
        return [*await read(self, stream, after_seq, count_max), *more][:count_max]

    with (
        swapped(gateway_module.Gateway, "_commit", tell_first),
        swapped(journal_module.SqliteJournal, "heads", heads_early),
        swapped(journal_module.SqliteJournal, "read", read_early),
    ):
        yield


class _LaxConnection(sqlite3.Connection):
    """Asks SQLite not to wait for the disk."""

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(statement.replace("synchronous=EXTRA", "synchronous=OFF"), *parameters)


class _LaxSqlite:
    """What the journal takes for the module `sqlite3`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(*arguments, factory=_LaxConnection, **options)


def _synchronous_off() -> AbstractContextManager[None]:
    return swapped(journal_module, "sqlite3", _LaxSqlite())


def _interval_from_wall_clock() -> AbstractContextManager[None]:
    def by_wall(since: ClockReading, now: ClockReading) -> int:
        return max(0, now.at - since.at)

    return swapped(notices, "believed_seconds", by_wall)


def _without_blockers(*codes: str) -> Callable[[], AbstractContextManager[None]]:
    def plant() -> AbstractContextManager[None]:
        rows = tuple(row for row in blockers_module.BLOCKERS if row[0] not in codes)
        assert len(rows) == len(blockers_module.BLOCKERS) - len(codes)
        return swapped(blockers_module, "BLOCKERS", rows)

    return plant


def _relay_fire_and_forget() -> AbstractContextManager[None]:
    """A command is taken for its result."""

    def switch(
        self: Any, relay: Any, closed: bool, clock: Any, on_relay: Callable[[RelayState], None]
    ) -> Generator[Ask, Outcome, OutputResult]:
        yield Ask(self._write_request(relay, device_module._relay_spec(relay), closed), self.gap_s)
        on_relay(RelayState(relay.relay_id, clock.read(), closed))
        return OutputResult(True, closed, None)

    return swapped(device_module.Device, "switch", switch)


@contextmanager
def _top_up_undoes_operator_cut() -> Iterator[None]:
    """An operator's cut leads where a payment leads out of."""
    key = (ControlState.CONNECTED, Trigger.REMOTE_DISCONNECT)
    before = TRANSITIONS[key]
    TRANSITIONS[key] = (("b", ControlState.READY_FOR_RECONNECTION),)
    try:
        yield
    finally:
        TRANSITIONS[key] = before


def _blockers_skipped_at_restart() -> AbstractContextManager[None]:
    """For an hour after a start nothing stands against a cut."""
    ask = blockers_module.cut_blockers

    def skip(account: Any, facts: Any) -> Any:
        return () if facts.clock.elapsed_ms < RESTART_MS else ask(account, facts)

    return swapped(decision, "cut_blockers", skip)


MUTANTS: dict[str, Mutant] = {
    "ack_before_commit": Mutant(_ack_before_commit, worlds(3, 6), "an answer before the commit"),
    "no_dedupe": Mutant(_no_dedupe, worlds(3, 6, "network"), "payment ids are forgotten"),
    "register_outside_transaction": Mutant(
        _register_outside_transaction, worlds(4, 6, "power_cut"), "registers in a transaction of their own"
    ),
    "stale_reply_accepted": Mutant(
        _stale_reply_accepted,
        worlds(4, 8, "late", "stale", "technicians", first=3),
        "late and foreign answers are believed",
    ),
    "publish_before_commit": Mutant(_publish_before_commit, worlds(2, 4), "sent before it is on the disk"),
    "synchronous_off": Mutant(_synchronous_off, worlds(3, 4, "power_cut"), "the journal does not sync"),
    "interval_from_wall_clock": Mutant(
        _interval_from_wall_clock, worlds(6, 10, "clock_step"), "grace by the wall clock"
    ),
    "cut_on_read_error": Mutant(
        _without_blockers("stale_reading", "not_read_again"),
        worlds(6, 12, "dead_meter", first=2),
        "silent meters are cut",
    ),
    "relay_fire_and_forget": Mutant(
        _relay_fire_and_forget, worlds(5, 8, "stuck_relay", "noise", "technicians"), "no read-back"
    ),
    "top_up_undoes_operator_cut": Mutant(
        _top_up_undoes_operator_cut, worlds(4, 6, "technicians"), "a payment undoes an operator's cut"
    ),
    "expired_policy_harsher": Mutant(
        _without_blockers("policy_not_valid"), worlds(8, 8), "an expired policy goes on being enforced"
    ),
    "blockers_skipped_at_restart": Mutant(
        _blockers_skipped_at_restart,
        worlds(5, 10, "power_cut", first=3),
        "the list of blockers is skipped after a start",
    ),
}
