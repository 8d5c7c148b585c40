"""Why a customer is cut, or is not, at an instant: the records that led to it, each with stream and seq.

Pure: records in, a verdict and a chain of lines out; words are put to them in explain_words.py. The
chain begins with what the balance was made of (account, last bill, freeze and payment before the
matter began) and then tells everything since the first notice, or since the last cut or restore. Money nano-currency.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from edge.core import events as ev
from edge.core.account import Account, State
from edge.core.disconnect_control import ControlState
from edge.core.ledger import apply
from edge.core.notices import SECONDS_PER_HOUR
from edge.core.units import UnixSeconds

# Told once, as the newest before the matter began.
GROUNDS = ("AccountOpened", "TermsChanged", "BillIssued", "RegisterFrozen", "PaymentApplied")
# Kept beside the story: told only where they stand right before something else.
DAILY = ("RegisterFrozen", "BalanceEvaluated")
# Dated by the boundary they are about, and written later, with the reading that passed it.
BOUNDARY = frozenset(
    (
        "RegisterFrozen",
        "BillIssued",
        "RoundingPosted",
        "MinimumBillPosted",
        "DemandChargePosted",
        "LateChargePosted",
        "BoughtEnergyRepriced",
        "DailyChargePosted",
        "InstalmentDue",
        "EmergencyCreditDrawn",
        "GrantedCreditSpent",
        "GrantedCreditLapsed",
        "CreditPeriodBegan",
        "MonthCounted",
        "TariffActivated",
        "BalanceEvaluated",
    )
)


@dataclass(frozen=True, slots=True)
class Kept:
    """An event with the record it stands in."""

    stream: str
    seq: int
    event: ev.Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """`supply` is the control state, or unknown. `code` says why, see `_why_on` and `_why_off`.

    `because` are the records it rests on. `output_connected` is the last read-back of the relay.
    """

    supply: str
    code: str
    reason: str
    because: tuple[Kept, ...]
    output_connected: bool | None
    money_nano: int
    live_balance_nano: int
    blockers: tuple[str, ...] = ()
    grace_left_s: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for one account."""

    account: str
    at: UnixSeconds
    verdict: Verdict
    chain: tuple[Kept, ...]
    state: State  # as the gateway knew it then


def explain(records: Iterable[Kept], account_id: str, at: UnixSeconds | None) -> Explanation:
    """Why the account's supply was as it was at `at` (None: at the end of the journal)."""
    known = _known_by(list(records), at)
    state = reduce(apply, (kept.event for kept in known), State())
    instant = at if at is not None else max((kept.event.at for kept in known), default=UnixSeconds(0))
    story = [kept for kept in known if _is_about(kept.event, account_id)]
    account = state.accounts.get(account_id)
    if account is None:
        return Explanation(account_id, instant, _nothing_known(), tuple(story), state)
    on = account.control_state is ControlState.CONNECTED
    verdict = _why_on(account, story, instant) if on else _why_off(account, story)
    return Explanation(account_id, instant, verdict, tuple(_chain(account, story, verdict.because)), state)


def _known_by(records: Sequence[Kept], at: UnixSeconds | None) -> list[Kept]:
    """What was written by then: up to the last record of its own moment that is not later.

    Places decide and not times, because a clock may have been set back.
    """
    if at is None:
        return list(records)
    own = (number for number, kept in enumerate(records) if type(kept.event).__name__ not in BOUNDARY)
    last = max((number for number in own if records[number].event.at <= at), default=-1)
    return list(records[: last + 1])


def _is_about(event: ev.Event, account_id: str) -> bool:
    return getattr(event, "account", None) == account_id


def _nothing_known() -> Verdict:
    return Verdict("unknown", "not_opened", "", (), None, 0, 0)


def _why_off(account: Account, story: Sequence[Kept]) -> Verdict:
    """cut: it stands. ready: nothing local stands against it any more, the customer may switch on."""
    moved = [kept for kept in story if isinstance(kept.event, ev.DisconnectControlChanged)]
    ready = account.control_state is ControlState.READY_FOR_RECONNECTION and account.local_reason is None
    because = moved[-1:]
    if account.local_reason is not None:
        because = [*_last_notice(story, ev.NoticeDelivered, 2), *_last_notice(story, ev.NoticeRaised, 3), *because]
    elif ready:
        because = [*because, *_last(story, ev.LocalReasonCleared)]
    return _verdict(account, "ready" if ready else "cut", account.control_reason, because)


def _why_on(account: Account, story: Sequence[Kept], at: UnixSeconds) -> Verdict:
    """The first of these that holds: in_credit, protected, keep_supply, register_hold, supply_hold, reserve_low,
    notice_not_delivered, blocked, grace_runs, due."""
    episode = account.episode
    if episode is None:
        restored = [*_last(story, ev.EpisodeClosed), *_last(story, ev.PaymentApplied)] or story[:1]
        return _verdict(account, "in_credit", "", restored)
    if account.protected:
        return _verdict(account, "protected", "", _last(story, ev.CaseEscalated) or _last(story, ev.AccountOpened))
    if account.keep_supply:
        return _verdict(account, "keep_supply", "", _last(story, ev.KeepSupplyChanged))
    if account.hold is not None:
        return _verdict(account, "register_hold", account.hold.reason, _last(story, ev.HoldRaised))
    for hold in account.supply_holds:
        if hold.until is None or at < hold.until:
            return _verdict(account, "supply_hold", hold.kind.value, _last(story, ev.SupplyHoldChanged))
    second = episode.notice(2)
    if second is None:
        return _verdict(account, "reserve_low", "", _last(story, ev.NoticeRaised))
    if second.receipt is None:
        return _verdict(account, "notice_not_delivered", "2", _last(story, ev.NoticeRaised))
    if episode.deferred:
        return _verdict(account, "blocked", "", _last(story, ev.CutDeferred), blockers=episode.deferred)
    left_s = max(0, account.policy.grace_hours * SECONDS_PER_HOUR - episode.grace_elapsed_s)
    code = "grace_runs" if left_s else "due"
    return _verdict(account, code, "", _last_notice(story, ev.NoticeDelivered, 2), grace_left_s=left_s)


def _verdict(
    account: Account,
    code: str,
    reason: str,
    because: Sequence[Kept],
    *,
    blockers: tuple[str, ...] = (),
    grace_left_s: int | None = None,
) -> Verdict:
    return Verdict(
        supply=account.control_state.value,
        code=code,
        reason=reason,
        because=tuple(because),
        output_connected=account.output_connected,
        money_nano=account.money_nano,
        live_balance_nano=account.money_nano - account.estimate_nano,
        blockers=blockers,
        grace_left_s=grace_left_s,
    )


def _last(story: Sequence[Kept], kind: type) -> list[Kept]:
    return [kept for kept in story if isinstance(kept.event, kind)][-1:]


def _last_notice(story: Sequence[Kept], kind: type, number: int) -> list[Kept]:
    of_number = [kept for kept in story if isinstance(kept.event, kind) and getattr(kept.event, "number", 0) == number]
    return of_number[-1:]


def _chain(account: Account, story: Sequence[Kept], because: Sequence[Kept]) -> list[Kept]:
    """What the matter rests on, and the matter itself."""
    start = _start(account, story)
    grounds = {type(kept.event).__name__: kept for kept in story[:start]}
    wanted = [*(grounds[name] for name in GROUNDS if name in grounds), *because]
    return [kept for kept in story[:start] if kept in wanted] + _without_daily(story[start:], because)


def _start(account: Account, story: Sequence[Kept]) -> int:
    """Where the matter began: the first notice of the episode, else the last cut or restore, else the account."""
    if account.episode is not None and account.episode.notices:
        first = account.episode.notices[0]
        for number in range(len(story) - 1, -1, -1):
            event = story[number].event
            if isinstance(event, ev.NoticeRaised) and (event.number, event.at) == (first.number, first.raised_at):
                return number
    turns = (ev.DisconnectControlChanged, ev.NoticeRaised, ev.AccountOpened)
    for number in range(len(story) - 1, -1, -1):
        event = story[number].event
        if isinstance(event, turns) and not (isinstance(event, ev.NoticeRaised) and event.number > 1):
            return number
    return 0


def _without_daily(story: Sequence[Kept], because: Sequence[Kept]) -> list[Kept]:
    """The story with each run of daily records cut down to its last, which has the figures of what follows."""
    return [
        kept
        for kept, following in zip(story, [*story[1:], None], strict=True)
        if type(kept.event).__name__ not in DAILY or following is None or type(following.event).__name__ not in DAILY
    ]
