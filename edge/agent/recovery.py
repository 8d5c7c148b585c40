"""RECOVERY: what the gateway does while its store may not be gone on with (SECURITY R8).

Meters are read and shown, the cloud hears that the gateway is there and with which heads, the reason
is journaled and stands in every snapshot. Nothing is charged, decided or switched, because nothing
that could do it exists yet: the accounting is built only afterwards. Supplies stay as they are.

It ends with the newest store put back and a new start, or with a permit: a signed `resync` order
whose argument `epoch` is above every epoch that the store and the anchor know. Any other order is left
unanswered, so the cloud sends it again later. Money nano-currency, times of the accounting clock.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from cloud_sync.wire import Order
from edge.agent.order_desk import OrderChecks, Refused
from edge.agent.pricing import Pricing
from edge.agent.snapshot import RecoveryView, SnapshotSource
from edge.agent.views import Sources, make_snapshot
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.charge import figures_of
from edge.core.ledger import apply
from edge.core.step import step
from edge.core.units import ClockReading
from edge.ports import Clock, DoorAnswer, Journal, StoredRecord, StreamHead

PERMIT_TYPE = "resync"
EPOCH_LIMIT = 1 << 31


class SilentJournal:
    """The journal as the link to the cloud sees it in RECOVERY: it has heads, and gives nothing to send.

    Records of a store that is not the newest one would be a second history under numbers already used.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def heads(self) -> Mapping[str, StreamHead]:
        """The real ones: the hello tells the cloud what is here."""
        return self._journal.heads()

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        """Nobody writes through the link."""
        raise AssertionError("the link to the cloud writes no records")

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]:
        """Nothing."""
        return []

    def acknowledge(self, stream: str, seq: int) -> None:
        """An acknowledgement is about another history, as far as anybody knows."""


def permit_fault(order: Order, epoch_min: int, state: State) -> str | None:
    """Why an authentic order opens no epoch: not_supported | duplicate | arguments | epoch_used; None if it does."""
    if order.type != PERMIT_TYPE:
        return "not_supported"
    if order.cid in state.applied:
        return "duplicate"
    epoch = order.args.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 < epoch < EPOCH_LIMIT:
        return "arguments"
    return None if epoch >= epoch_min else "epoch_used"


def epoch_events(clock: ClockReading, epoch: int, cid: str | None, story: str) -> list[ev.Event]:
    """The first records of a new epoch: what it follows (CONTRACT.md: the last known head of the old one)."""
    events: list[ev.Event] = [ev.ConditionNoted(clock.at, "epoch_opened", "", f"epoch {epoch}: {story}")]
    if cid is not None:
        events.append(ev.OrderApplied(clock.at, cid, PERMIT_TYPE, ""))
    return events


class StandBy:
    """The gateway in RECOVERY. `run` returns when a permit has opened a new epoch."""

    def __init__(
        self,
        view: RecoveryView,
        state: State,
        clock: Clock,
        pricing: Pricing,
        documents: Mapping[str, str],
        sources: Callable[[], Sources],
        append: Callable[[Sequence[ev.Event]], Awaitable[None]],
        open_epoch: Callable[[int, Sequence[ev.Event]], Awaitable[None]],
        tell: Callable[[Sequence[ev.Event]], None],
        cloud_marks: Callable[[], Mapping[str, int]],
        checks: OrderChecks | None,
        round_interval_s: float,
    ) -> None:
        """`open_epoch(epoch, events)` commits the first records of an epoch; `cloud_marks` is what the cloud says it
        has, by stream; `checks` is None without pinned keys.
        """
        self.state = state
        self.snapshots = SnapshotSource()
        self._view = view
        self._clock = clock
        self._pricing = pricing
        self._documents = documents
        self._sources = sources
        self._append = append
        self._open_epoch = open_epoch
        self._tell = tell
        self._cloud_marks = cloud_marks
        self._checks = checks
        self._round_interval_s = round_interval_s
        self._version = 0
        self._opened = asyncio.Event()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Notes why, then shows the street once a round."""
        clock = self._clock.read()
        note = cmd.NoteCondition(clock, "recovery", "", f"{self._view.reason}: {self._view.detail}")
        events = step(self.state, note, self._pricing.rating(self.state, clock.at, self._documents)).events
        await self._commit(events, self._append(events))
        while not self._opened.is_set():
            self._publish()
            try:
                async with asyncio.timeout(self._round_interval_s):
                    await self._opened.wait()
            except TimeoutError:
                continue

    async def take_order(self, envelope: bytes) -> DoorAnswer:
        """Obeys a permit. Everything else waits, unanswered, until RECOVERY is over."""
        if self._checks is None:
            return DoorAnswer(False, "unknown_key", {})
        async with self._turn:
            if self._opened.is_set():
                return DoorAnswer(False, "recovery", {})
            clock = self._clock.read()
            order = self._checks.order(envelope, clock)
            if isinstance(order, Refused):
                return DoorAnswer(False, order.reason, {})
            fault = permit_fault(order, self._view.epoch_min, self.state)
            if fault is not None:
                return DoorAnswer(False, "recovery" if fault == "not_supported" else fault, {"cid": order.cid})
            epoch = order.args["epoch"]
            events = epoch_events(clock, epoch, order.cid, f"{self._view.reason}: {self._view.detail}")
            await self._commit(events, self._open_epoch(epoch, events))
            self._opened.set()
        return DoorAnswer(True, "applied", {"cid": order.cid, "epoch": epoch})

    async def enter_voucher(self, _text: str, _actor: str) -> DoorAnswer:
        """The CommandDoor: no money is taken on a store that may have forgotten some."""
        return DoorAnswer(False, "recovery", {})

    async def select_emergency_credit(self, _account_id: str, _actor: str) -> DoorAnswer:
        """Nothing is decided on balances that may be old, and nobody is cut meanwhile."""
        return DoorAnswer(False, "recovery", {})

    async def press_key(self, _account_id: str, _actor: str) -> DoorAnswer:
        """No relay is switched here."""
        return DoorAnswer(False, "recovery", {})

    async def confirm_notice(self, _account_id: str, _number: int, _raised_at: int, _actor: str) -> DoorAnswer:
        """No grace begins here."""
        return DoorAnswer(False, "recovery", {})

    async def enter_token(self, _account_id: str, _text: str, _actor: str) -> DoorAnswer:
        """Nor is a token: this store may have forgotten that it was spent."""
        return DoorAnswer(False, "recovery", {})

    async def _commit(self, events: Sequence[ev.Event], work: Awaitable[None]) -> None:
        await work
        for event in events:
            self.state = apply(self.state, event)
        self._tell(events)

    def _publish(self) -> None:
        """Balances as they were recorded: no reading is judged here."""
        clock = self._clock.read()
        self._version += 1
        rating = self._pricing.rating(self.state, clock.at, self._documents)
        figures = figures_of(rating, list(self.state.accounts.values()), {})
        snapshot = make_snapshot(self._version, self.state, figures, rating, clock, self._sources())
        view = replace(self._view, cloud=dict(self._cloud_marks()))
        self.snapshots.publish(replace(snapshot, recovery=view))
