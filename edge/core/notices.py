"""7 + 0 + 3 and the other legal grounds: which notice is due, when the grace ends, what the next step is.

Notice 1 when the balance no longer covers `reserve_days`, notice 2 when it is below zero,
notice 3 before the cut; the cut follows receipt of notice 2 by `grace_hours` (RULES.md 6,
source S0). Grace runs on monotonic time within a boot and on trusted wall time across boots;
time nobody can vouch for counts 0, so it never shortens. Immediate prepayment has no grace and its
notices only inform; a statutory customer is judged by issued bills that are overdue. A trusted wall that a second
witness does not bear out is doubted: it measures nothing across boots until it is vouched for. Times in seconds.
"""

from enum import Enum

from edge.core.account import Account, Episode, Notice
from edge.core.calendar import ZoneOffsets, local_day, minute_of_day, next_open_outside, parse_minute
from edge.core.frozen import quickly
from edge.core.lean import dataclass
from edge.core.policy import LegalProfile, NoticeProof, OfflinePolicy, Policy
from edge.core.units import (
    CLOCK_STEP_S_MAX,
    SECONDS_PER_DAY,
    ClockReading,
    FreezeQuality,
    MoneyNano,
    UnixSeconds,
    believed_seconds,
    least_seconds,
    stepped_seconds,
)

SECONDS_PER_HOUR = 3600
SECONDS_PER_MINUTE = 60
_episode = quickly(Episode)


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


@dataclass(frozen=True, slots=True)
class LegalGround:
    """What a legal profile asks for before a cut (RULES.md 6)."""

    issued_bills_only: bool  # an estimate is no debt
    notices_are_conditions: bool  # a cut waits for their receipts and for the grace


LEGAL_GROUNDS = {
    LegalProfile.PREPAYMENT_IMMEDIATE: LegalGround(issued_bills_only=False, notices_are_conditions=False),
    LegalProfile.PREPAID_BY_AGREEMENT: LegalGround(issued_bills_only=False, notices_are_conditions=True),
    LegalProfile.POSTPAID_STATUTORY: LegalGround(issued_bills_only=True, notices_are_conditions=True),
}


def enforced_nano(account: Account, live_nano: MoneyNano) -> MoneyNano:
    """The balance that cut and restore go by: the live one, or for a statutory customer the issued bills alone."""
    return account.money_nano if LEGAL_GROUNDS[account.policy.legal_profile].issued_bills_only else live_nano


def judged_nano(account: Account, live_nano: MoneyNano) -> MoneyNano:
    """The balance that notices 1 and 2 go by: as in `enforced_nano`, or that of the last freeze or of the last
    evaluation at the policy's hour, with what was paid since.
    """
    statutory = LEGAL_GROUNDS[account.policy.legal_profile].issued_bills_only
    if account.policy.evaluate_at == "live" or statutory or account.judged_estimate_nano is None:
        return enforced_nano(account, live_nano)
    judged = MoneyNano(account.money_nano - account.judged_estimate_nano)
    # An interpolated register never starts the 72 hours alone.
    interpolated = account.judged_quality == FreezeQuality.INTERPOLATED.value
    return max(judged, live_nano) if interpolated else judged


def evaluation_due(account: Account, clock: ClockReading, zone: ZoneOffsets) -> bool:
    """Whether the policy's hour of today has come and the balance was not evaluated since."""
    if ":" not in account.policy.evaluate_at or not clock.quality.trusted:
        return False
    if minute_of_day(zone, clock.at) < parse_minute(account.policy.evaluate_at):
        return False
    return account.judged_at is None or local_day(zone, account.judged_at) < local_day(zone, clock.at)


def waits_for_evaluation(account: Account) -> bool:
    """Whether there has been no freeze or evaluation yet that notices could go by."""
    return account.policy.evaluate_at != "live" and account.judged_estimate_nano is None


def grace_seconds(policy: Policy) -> int:
    """The grace between receipt of notice 2 and the cut."""
    statutory = LEGAL_GROUNDS[policy.legal_profile].issued_bills_only
    return (policy.statutory_notice_hours if statutory else policy.grace_hours) * SECONDS_PER_HOUR


def overdue_seconds(account: Account, clock: ClockReading) -> int:
    """How long the oldest uncovered bill is past its due date; 0 while none is."""
    if account.arrears_since is None:
        return 0
    return max(0, clock.at - account.arrears_since - account.policy.payment_due_days * SECONDS_PER_DAY)


def deemed_delivered(account: Account, notice: Notice, clock: ClockReading, cloud_silent_s: int | None) -> bool:
    """Whether a notice without a receipt counts as handed over: by policy, or as the cloud that would
    tell is out of reach under `enforce`. Never for a statutory customer (RULES.md 6).
    """
    policy = account.policy
    if notice.receipt is not None or notice.raised_clock is None or policy.formal_notices:
        return False
    if policy.legal_profile is LegalProfile.POSTPAID_STATUTORY:
        return False
    limit_s = policy.deemed_after_hours * SECONDS_PER_HOUR
    silent = cloud_silent_s is not None and cloud_silent_s >= limit_s
    offline = policy.notice_proof is NoticeProof.CLOUD_RECEIPT and policy.offline is OfflinePolicy.ENFORCE and silent
    if policy.notice_proof is not NoticeProof.DEEMED_AFTER_HOURS and not offline:
        return False
    return least_seconds(notice.raised_clock, clock) >= limit_s


def grace_elapsed(episode: Episode, clock: ClockReading) -> int:
    """Seconds of grace by `clock`: what was recorded and what may be believed to have passed since."""
    if episode.grace_clock is None:
        return 0
    elapsed_s = episode.grace_elapsed_s + believed_seconds(episode.grace_clock, clock)
    if episode.vouched_clock is None:
        return elapsed_s
    return max(elapsed_s, episode.vouched_elapsed_s + believed_seconds(episode.vouched_clock, clock))


def grace_recorded(episode: Episode, elapsed_s: int, clock: ClockReading, *, may_wait: bool) -> Episode:
    """The episode with its grace measured from `clock` on.

    While the clock is only doubted (`may_wait`) the newest one that was not is kept as well. One of no trusted
    quality ends that; a step since, as the one before it may be the wrong one; and a receipt: what is given back
    later would count as time since it.
    """
    if clock.vouched:
        return _measured(episode, elapsed_s, clock, elapsed_s, clock)
    vouched = episode.vouched_clock
    stepped = vouched is not None and abs(stepped_seconds(vouched, clock)) > CLOCK_STEP_S_MAX
    if may_wait and clock.quality.trusted and not stepped:
        return _measured(episode, elapsed_s, clock, episode.vouched_elapsed_s, vouched)
    return _measured(episode, elapsed_s, clock, 0, None)


def _measured(
    episode: Episode, elapsed_s: int, clock: ClockReading, vouched_s: int, vouched: ClockReading | None
) -> Episode:
    return _episode(
        money_at_start_nano=episode.money_at_start_nano,
        notices=episode.notices,
        grace_elapsed_s=elapsed_s,
        grace_clock=clock,
        vouched_elapsed_s=vouched_s,
        vouched_clock=vouched,
        deferred=episode.deferred,
        escalated=episode.escalated,
    )


def due_step(account: Account, balances: Balances, clock: ClockReading, zone: ZoneOffsets) -> Step:
    """The step this account is due for at `clock`, blockers not yet asked."""
    policy, episode = account.policy, account.episode
    ground = LEGAL_GROUNDS[policy.legal_profile]
    if enforced_nano(account, balances.live_nano) >= balances.threshold_nano:
        return _above_threshold(account, balances, clock, zone)
    notice_2 = episode.notice(2) if episode else None
    if notice_2 is None and judged_nano(account, balances.live_nano) >= balances.threshold_nano:
        return _above_threshold(account, balances, clock, zone)
    if notice_2 is None:
        return Step.NOTICE_2 if _may_notify(policy, clock.at, zone) and _overdue(account, clock) else Step.NOTHING
    assert episode is not None
    if not ground.notices_are_conditions:
        return Step.CUT if _may_cut_within(0, account, clock, zone) else Step.NOTHING
    if notice_2.receipt is None:
        return Step.NOTHING
    if account.protected:
        over = grace_remaining(account, clock) == 0 and not episode.escalated
        return Step.ESCALATE if over else Step.NOTHING
    notice_3 = episode.notice(3)
    if notice_3 is None:
        lead_s = policy.pre_cut_notice_minutes * SECONDS_PER_MINUTE
        soon = _may_cut_within(lead_s, account, clock, zone)
        return Step.NOTICE_3 if soon and _may_notify(policy, clock.at, zone) else Step.NOTHING
    return Step.CUT if _may_cut_within(0, account, clock, zone) else Step.NOTHING


def grace_remaining(account: Account, clock: ClockReading) -> int:
    """Seconds until the 72 hours are over by every measure that may be believed; 0 when they are."""
    episode, grace_s = account.episode, grace_seconds(account.policy)
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
    policy = account.policy
    free_at = clock.at + _wait_s(account, clock)
    opens = next_open_outside(policy.cut_windows, policy.friendly_windows, zone, free_at)
    return None if opens is None else UnixSeconds(opens)


def _may_cut_within(seconds: int, account: Account, clock: ClockReading, zone: ZoneOffsets) -> bool:
    """Whether `cut_instant` lies no further ahead, without looking for it any further."""
    policy = account.policy
    left_s = seconds - _wait_s(account, clock)
    if left_s < 0:
        return False
    free_at = clock.at + seconds - left_s
    opens = next_open_outside(policy.cut_windows, policy.friendly_windows, zone, free_at, left_s + 1)
    return opens is not None and opens <= free_at + left_s


def _wait_s(account: Account, clock: ClockReading) -> int:
    """Seconds until the grace is over and notice 3 was handed over long enough ago."""
    policy, episode = account.policy, account.episode
    conditions = LEGAL_GROUNDS[policy.legal_profile].notices_are_conditions
    wait_s = grace_remaining(account, clock) if conditions else 0
    notice_3 = episode.notice(3) if episode else None
    if episode is not None and notice_3 is not None:
        lead_s = policy.pre_cut_notice_minutes * SECONDS_PER_MINUTE
        received = notice_3.receipt is not None
        since_s = grace_elapsed(episode, clock) - notice_3.grace_elapsed_s if received else 0
        wait_s = max(wait_s, lead_s - since_s)
    return wait_s


def _overdue(account: Account, clock: ClockReading) -> bool:
    """Whether a statutory customer's bill is overdue for so long that notice and delay end after the legal term."""
    policy = account.policy
    if not LEGAL_GROUNDS[policy.legal_profile].issued_bills_only:
        return True
    notice_s = policy.overdue_days * SECONDS_PER_DAY - policy.statutory_notice_hours * SECONDS_PER_HOUR
    return account.arrears_since is not None and overdue_seconds(account, clock) >= max(1, notice_s)


def _above_threshold(account: Account, balances: Balances, clock: ClockReading, zone: ZoneOffsets) -> Step:
    episode = account.episode
    if episode is None:
        prepaid = not LEGAL_GROUNDS[account.policy.legal_profile].issued_bills_only
        below = prepaid and judged_nano(account, balances.live_nano) < balances.reserve_nano
        return Step.NOTICE_1 if below and _may_notify(account.policy, clock.at, zone) else Step.NOTHING
    if episode.notice(2) is not None:
        return Step.CLOSE
    # Notice 1 goes out once: the episode ends when money came in and covers the reserve again.
    paid = account.money_nano > episode.money_at_start_nano
    return Step.CLOSE if paid and balances.live_nano >= balances.reserve_nano else Step.NOTHING


def _may_notify(policy: Policy, at: UnixSeconds, zone: ZoneOffsets) -> bool:
    return policy.notice_windows is None or policy.notice_windows.is_open(zone, at)
