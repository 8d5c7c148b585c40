"""Why a cut that is due does not happen: every blocker is asked, each answers with its evidence.

All are evaluated on site (RULES.md 6). A blocker never starts or ends anything, it only says
no. The relay driver refuses protected customers once more by itself.
"""

from collections.abc import Callable, Mapping

from edge.core.account import Account
from edge.core.calendar import ZoneOffsets, next_closed, next_open
from edge.core.credit_terms import PaymentMode
from edge.core.lean import dataclass
from edge.core.policy import LegalProfile, NoticeProof, OfflinePolicy
from edge.core.supply_hold import SupplyHoldKind, standing_hold
from edge.core.units import ClockReading, MoneyNano, least_seconds

SECONDS_PER_HOUR = 3600
HUNDREDTHS_OF_PERCENT = 10_000
# In reach is a cloud that answered since the last round, which may be so long ago. The record of the deferral itself
# asks it: one that is there answers, and the next round cuts.
KEEP_SILENT_S_MAX = 60

Evidence = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class CutFacts:
    """What a verdict rests on, besides the account."""

    clock: ClockReading
    zone: ZoneOffsets
    live_nano: MoneyNano
    reading_age_s: int | None  # of the newest good sample, by time somebody can vouch for
    cloud_silent_s: int | None
    cuts_last_hour: int
    accounts_on_site: int


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason against a cut, and the figures that show it, by name with its unit."""

    code: str
    evidence: Evidence


def cut_blockers(account: Account, facts: CutFacts) -> tuple[Blocker, ...]:
    """Every blocker that stands, in the order of the table. Empty means the cut may go ahead."""
    found = []
    for code, ask in BLOCKERS:
        evidence = ask(account, facts)
        if evidence is not None:
            found.append(Blocker(code, evidence))
    return tuple(found)


def _protected(account: Account, facts: CutFacts) -> Evidence | None:
    return {} if account.protected else None


def _keep_supply(account: Account, facts: CutFacts) -> Evidence | None:
    return {} if account.keep_supply else None


def _held(kind: SupplyHoldKind) -> Callable[[Account, CutFacts], Evidence | None]:
    def ask(account: Account, facts: CutFacts) -> Evidence | None:
        hold = standing_hold(account.supply_holds, kind, facts.clock)
        if hold is None:
            return None
        return {"reference": hold.reference} | ({} if hold.until is None else {"until": hold.until})

    return ask


def _policy_not_valid(account: Account, facts: CutFacts) -> Evidence | None:
    policy = account.policy
    named: Evidence = {"policy": f"{policy.policy_id}@{policy.version}"}
    if not policy.signed_by:
        return named
    passed_at = max(facts.clock.at, account.passed_at)  # a clock set back revives no policy
    if policy.valid_until is not None and passed_at >= policy.valid_until:
        return {**named, "valid_until": policy.valid_until}
    return None


def _register_hold(account: Account, facts: CutFacts) -> Evidence | None:
    hold = account.hold
    if hold is None:
        return None
    return {"reason": hold.reason, "recorded_wh": account.recorded.register_wh, "seen_wh": hold.seen_wh}


def _stale_reading(account: Account, facts: CutFacts) -> Evidence | None:
    return _too_old(facts, account.policy.stale_reading_hours * SECONDS_PER_HOUR)


def _not_read_again(account: Account, facts: CutFacts) -> Evidence | None:
    return _too_old(facts, account.policy.cut_reading_age_s_max)


def _too_old(facts: CutFacts, age_s_max: int) -> Evidence | None:
    """The newest reading's age where it is above the limit, or that there is no reading."""
    age_s = facts.reading_age_s
    if age_s is None:
        return {"age_s_max": age_s_max}
    return {"age_s": age_s, "age_s_max": age_s_max} if age_s > age_s_max else None


def _clock_not_trusted(account: Account, facts: CutFacts) -> Evidence | None:
    quality = facts.clock.quality
    return None if quality.trusted else {"clock_quality": quality.value}


def _minimum_debt(account: Account, facts: CutFacts) -> Evidence | None:
    # What is missing to the trip threshold of the last purchase order, 0 without one.
    debt, least = (account.purchase.trip_nano or 0) - facts.live_nano, account.policy.minimum_debt_nano
    return {"debt_nano": debt, "debt_nano_min": least} if debt < least else None


def _notice_not_delivered(account: Account, facts: CutFacts) -> Evidence | None:
    if account.policy.legal_profile is LegalProfile.PREPAYMENT_IMMEDIATE:
        return None  # its notices inform, they are no condition
    for number in (2, 3):
        notice = account.episode.notice(number) if account.episode else None
        if notice is None or notice.receipt is None:
            return {"number": number}
        if (
            notice.proof == NoticeProof.DEEMED_AFTER_HOURS.value
            and account.policy.legal_profile is LegalProfile.POSTPAID_STATUTORY
        ):
            return {"number": number, "proof": notice.proof}
    return None


def _window_closed(account: Account, facts: CutFacts) -> Evidence | None:
    windows = account.policy.cut_windows
    if windows is None or windows.is_open(facts.zone, facts.clock.at):
        return None
    opens_at = next_open(windows, facts.zone, facts.clock.at)
    return {} if opens_at is None else {"opens_at": opens_at}


def _friendly_period(account: Account, facts: CutFacts) -> Evidence | None:
    windows = account.policy.friendly_windows
    if windows is None or not windows.is_open(facts.zone, facts.clock.at):
        return None
    ends_at = next_closed(windows, facts.zone, facts.clock.at)
    return {} if ends_at is None else {"ends_at": ends_at}


def _credit_mode(account: Account, facts: CutFacts) -> Evidence | None:
    """Nobody in credit mode is cut for want of prepaid credit; an overdue bill is the statutory profile's affair."""
    prepaid = account.mode is PaymentMode.PREPAYMENT
    return None if prepaid or account.policy.legal_profile is LegalProfile.POSTPAID_STATUTORY else {}


def _mode_changed(account: Account, facts: CutFacts) -> Evidence | None:
    """A change of mode never cuts: the grace hours run from it, whatever the profile."""
    if account.mode_clock is None:
        return None
    passed_s, grace_s = least_seconds(account.mode_clock, facts.clock), account.policy.grace_hours * SECONDS_PER_HOUR
    return {"passed_s": passed_s, "grace_s": grace_s} if passed_s < grace_s else None


def _emergency_credit(account: Account, facts: CutFacts) -> Evidence | None:
    """Emergency credit that was selected and is not used up keeps the supply on."""
    if not account.emergency.invoked:
        return None
    left_nano = facts.live_nano - account.threshold_nano + account.policy.credit.emergency_limit_nano
    return {"left_nano": left_nano} if left_nano >= 0 else None


def _batch_limit(account: Account, facts: CutFacts) -> Evidence | None:
    share = account.policy.cuts_per_hour_hundredths_of_percent
    limit = max(1, facts.accounts_on_site * share // HUNDREDTHS_OF_PERCENT)
    done = facts.cuts_last_hour
    return {"cuts": done, "cuts_max": limit} if done >= limit else None


def _cloud_out_of_reach(account: Account, facts: CutFacts) -> Evidence | None:
    policy, silent_s = account.policy, facts.cloud_silent_s
    if silent_s is None or policy.offline is OfflinePolicy.ENFORCE:
        return None
    limit_s = KEEP_SILENT_S_MAX if policy.offline is OfflinePolicy.KEEP else policy.offline_hours * SECONDS_PER_HOUR
    return {"silent_s": silent_s, "silent_s_max": limit_s} if silent_s > limit_s else None


BLOCKERS: tuple[tuple[str, Callable[[Account, CutFacts], Evidence | None]], ...] = (
    ("protected", _protected),
    ("keep_supply", _keep_supply),
    *((kind.value, _held(kind)) for kind in SupplyHoldKind),
    ("policy_not_valid", _policy_not_valid),
    ("register_hold", _register_hold),
    ("stale_reading", _stale_reading),
    ("not_read_again", _not_read_again),
    ("clock_not_trusted", _clock_not_trusted),
    ("credit_mode", _credit_mode),
    ("mode_changed", _mode_changed),
    ("emergency_credit", _emergency_credit),
    ("minimum_debt", _minimum_debt),
    ("notice_not_delivered", _notice_not_delivered),
    ("window_closed", _window_closed),
    ("friendly_period", _friendly_period),
    ("batch_limit", _batch_limit),
    ("cloud_out_of_reach", _cloud_out_of_reach),
)
