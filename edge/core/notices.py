"""7 + 0 + 3: which notice is due, when the grace ends, and what the next due step is.

Notice 1 when the balance no longer covers `reserve_days`, notice 2 when it is below zero,
notice 3 before the cut; the cut follows receipt of notice 2 by `grace_hours` (RULES.md 6,
source S0). Grace runs on monotonic time within a boot and on trusted wall time across boots;
time nobody can vouch for counts 0, so it never shortens. Times in seconds.
"""

from dataclasses import dataclass
from enum import Enum

from edge.core.account import Account, Episode
from edge.core.calendar import ZoneOffsets, minute_of_day, next_open, parse_minute
from edge.core.policy import Policy
from edge.core.units import ClockReading, MoneyNano, UnixSeconds

SECONDS_PER_HOUR = 3600
SECONDS_PER_MINUTE = 60


class Step(Enum):
    """What an account in arrears, or close to it, is due for next."""

    NOTHING = "nothing"
    NOTICE_1 = "notice_1"
    NOTICE_2 = "notice_2"
    NOTICE_3 = "notice_3"
    CUT = "cut"
    ESCALATE = "escalate"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Balances:
    """What the steps are judged by: live balance, the reserve, and the threshold of disablement."""

    live_nano: MoneyNano
    reserve_nano: MoneyNano
    threshold_nano: MoneyNano  # minus the overdraft


def grace_elapsed(episode: Episode, clock: ClockReading) -> int:
    """Seconds of grace by `clock`: what was recorded and what may be believed to have passed since."""
    since = episode.grace_clock
    if since is None:
        return 0
    return episode.grace_elapsed_s + believed_seconds(since, clock)


def believed_seconds(since: ClockReading, now: ClockReading) -> int:
    """Seconds from `since` to `now`: monotonic within a boot, else wall time if both ends are trusted, else 0."""
    if since.boot_id == now.boot_id:
        return max(0, now.elapsed_ms - since.elapsed_ms) // 1000
    if since.quality.trusted and now.quality.trusted:
        return max(0, now.at - since.at)
    return 0


def due_step(account: Account, balances: Balances, clock: ClockReading, zone: ZoneOffsets) -> Step:
    """The step this account is due for at `clock`, blockers not yet asked."""
    policy, episode = account.policy, account.episode
    if balances.live_nano >= balances.threshold_nano:
        return _above_threshold(account, balances, clock, zone)
    notice_2 = episode.notice(2) if episode else None
    if notice_2 is None:
        return Step.NOTICE_2 if _may_notify(policy, clock.at, zone) else Step.NOTHING
    assert episode is not None
    if notice_2.receipt is None:
        return Step.NOTHING
    if account.protected:
        over = grace_remaining(account, clock) == 0 and not episode.escalated
        return Step.ESCALATE if over else Step.NOTHING
    notice_3 = episode.notice(3)
    if notice_3 is None:
        lead_s = policy.pre_cut_notice_minutes * SECONDS_PER_MINUTE
        cut_at = cut_instant(account, clock, zone)
        soon = cut_at is not None and cut_at - lead_s <= clock.at
        return Step.NOTICE_3 if soon and _may_notify(policy, clock.at, zone) else Step.NOTHING
    return Step.CUT if cut_instant(account, clock, zone) == clock.at else Step.NOTHING


def grace_remaining(account: Account, clock: ClockReading) -> int:
    """Seconds until the 72 hours are over by every measure that may be believed; 0 when they are."""
    episode, grace_s = account.episode, account.policy.grace_hours * SECONDS_PER_HOUR
    notice_2 = episode.notice(2) if episode else None
    if episode is None or notice_2 is None or notice_2.receipt is None:
        return grace_s
    remaining = grace_s - grace_elapsed(episode, clock)
    if notice_2.receipt.quality.trusted:
        # A clock set forward must not shorten the grace, one set back must not be taken for a whole day passed.
        remaining = max(remaining, grace_s - (clock.at - notice_2.receipt.at))
    return max(0, remaining)


def cut_instant(account: Account, clock: ClockReading, zone: ZoneOffsets) -> UnixSeconds | None:
    """The first instant at which the account could be cut, by the present clock: the grace over,
    notice 3 long enough ago, and the cut window open. None if that window never opens. Before
    notice 3 is handed over it is the instant that notice has to precede.
    """
    policy, episode = account.policy, account.episode
    wait_s = grace_remaining(account, clock)
    notice_3 = episode.notice(3) if episode else None
    if episode is not None and notice_3 is not None:
        lead_s = policy.pre_cut_notice_minutes * SECONDS_PER_MINUTE
        received = notice_3.receipt is not None
        since_s = grace_elapsed(episode, clock) - notice_3.grace_elapsed_s if received else 0
        wait_s = max(wait_s, lead_s - since_s)
    opens = next_open(policy.cut_windows, zone, clock.at + wait_s)
    return None if opens is None else UnixSeconds(opens)


def _above_threshold(account: Account, balances: Balances, clock: ClockReading, zone: ZoneOffsets) -> Step:
    episode = account.episode
    if episode is None:
        below = balances.live_nano < balances.reserve_nano
        return Step.NOTICE_1 if below and _may_notify(account.policy, clock.at, zone) else Step.NOTHING
    if episode.notice(2) is not None:
        return Step.CLOSE
    # Notice 1 goes out once: the episode ends when money came in and covers the reserve again.
    paid = account.money_nano > episode.money_at_start_nano
    return Step.CLOSE if paid and balances.live_nano >= balances.reserve_nano else Step.NOTHING


def _may_notify(policy: Policy, at: UnixSeconds, zone: ZoneOffsets) -> bool:
    if policy.notice_windows is not None and not policy.notice_windows.is_open(zone, at):
        return False
    return ":" not in policy.evaluate_at or minute_of_day(zone, at) >= parse_minute(policy.evaluate_at)
