"""The journal's head outside the card: what is written there when, and what a start concludes from it.

Written at the start, after each commit that holds led, res or rdg records (money, decisions, results,
readings; never before it), and at an orderly end. Read at the start: a store that is older than the anchor, or
of another history, is RECOVERY (SECURITY R8). Then nothing is charged, decided or switched, and the
anchor stays as it is, until the newest store is back or an operator's permit opens a new epoch.
"""

from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import replace

from edge.core.lean import dataclass
from edge.ports import Anchor, AnchorError, AnchorState
from edge.store.chain import first_seal

# Money, decisions, results, and the reading record of a slot: what a restart resumes from. A reading record
# comes once a slot and not once a round, so it costs no write per round. Observations alone are not worth one.
ANCHORED_STREAMS = frozenset(("led", "res", "rdg"))


@dataclass(frozen=True, slots=True)
class Recovery:
    """Why this store may not be gone on with.

    `reason`: journal_missing (there is an anchor and an empty store) | journal_behind (records
    are missing) | other_history (the records are not those that were anchored) | other_gateway |
    anchor_missing (a store with records that no anchor knows) | anchor_unreadable.
    """

    reason: str
    detail: str
    epoch_min: int  # the lowest epoch a permit may open


class AnchorKeeper:
    """Keeps an anchor in step with a journal. Without an anchor it does nothing."""

    def __init__(self, anchor: Anchor | None, gateway_id: str) -> None:
        self._anchor = anchor
        self._gateway_id = gateway_id
        self._state: AnchorState | None = None
        self._active = False
        self.fault: str | None = None

    def before_upgrade(self) -> None:
        """A journal from before there were anchors gets its first one, so that the next start misses none."""
        if self._anchor is None:
            return
        with suppress(AnchorError):  # `start` meets it again, and tells
            if self._anchor.read() is None:
                self._anchor.write(AnchorState(self._gateway_id, 0, 1, 0, first_seal(self._gateway_id)))

    def start(self, epoch: int, place: int, seal: bytes, seal_at: Callable[[int], bytes | None]) -> Recovery | None:
        """Judges a journal that was opened. If it is the newest one, the anchor counts the start and follows it."""
        if self._anchor is None:
            return None
        try:
            self._state = self._anchor.read()
        except AnchorError as error:
            return Recovery("anchor_unreadable", str(error), epoch + 1)
        recovery = judge(self._state, self._gateway_id, epoch, place, seal_at)
        if recovery is None:
            self.begin_anew(epoch, place, seal)
        return recovery

    def begin_anew(self, epoch: int, place: int, seal: bytes) -> None:
        """From here on the anchor follows this journal: a good start, or a permitted epoch."""
        boots = self._state.boots if self._state is not None else 0
        self._state = AnchorState(self._gateway_id, boots + 1, epoch, place, seal)
        self._active = self._anchor is not None
        self._write()

    def committed(self, streams: Set[str], epoch: int, place: int, seal: bytes) -> None:
        """A commit is on the disk. Only what money or an order's result depends on, or a restart resumes from."""
        if self._active and (streams & ANCHORED_STREAMS or (self.fault and streams)):
            self._follow(epoch, place, seal)

    def end(self, epoch: int, place: int, seal: bytes) -> None:
        """An orderly end: the last records of any stream too."""
        if self._active and self._state is not None and self._state.place != place:
            self._follow(epoch, place, seal)

    def _follow(self, epoch: int, place: int, seal: bytes) -> None:
        assert self._state is not None
        self._state = replace(self._state, epoch=epoch, place=place, seal=seal)
        self._write()

    def _write(self) -> None:
        """An anchor that fails stops no payment: it lags behind, which is said, and the next commit tries again."""
        if self._anchor is None or self._state is None:
            return
        try:
            self._anchor.write(self._state)
        except AnchorError as error:
            self.fault = str(error)
        else:
            self.fault = None


def judge(
    state: AnchorState | None, gateway_id: str, epoch: int, place: int, seal_at: Callable[[int], bytes | None]
) -> Recovery | None:
    """What is wrong with a journal by its anchor. A journal further on is good: the anchor comes after the commit."""
    if state is None:
        if place == 0:
            return None
        return Recovery("anchor_missing", f"the journal ends at place {place}, no anchor knows it", epoch + 1)
    lowest = max(epoch, state.epoch) + 1
    ends = f"the journal ends at place {place} of epoch {epoch}"
    anchored = f"the anchor is at place {state.place} of epoch {state.epoch}"
    if state.gateway_id != gateway_id:
        return Recovery("other_gateway", f"the anchor is of gateway {state.gateway_id!r}", lowest)
    if epoch > state.epoch:
        return None  # a permit opened it, and the power went before the anchor heard of it
    if place < state.place or epoch < state.epoch:
        return Recovery("journal_missing" if place == 0 else "journal_behind", f"{ends}, {anchored}", lowest)
    if state.place > 0 and seal_at(state.place) != state.seal:
        return Recovery("other_history", f"{anchored}, the journal has other records up to there", lowest)
    return None
