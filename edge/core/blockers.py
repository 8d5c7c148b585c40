"""Why a cut that is due does not happen: every blocker is asked, each answers with its evidence.

All are evaluated on site (RULES.md 6). A blocker never starts or ends anything, it only says
no. The relay driver refuses protected customers once more by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge.core.account import Account
from edge.core.calendar import ZoneOffsets, next_open
from edge.core.policy import LegalProfile, NoticeProof, OfflinePolicy
from edge.core.units import ClockReading, MoneyNano, UnixSeconds

SECONDS_PER_HOUR = 3600
HUNDREDTHS_OF_PERCENT = 10_000

Evidence = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class CutFacts:
    """What a verdict rests on, besides the account."""

    clock: ClockReading
    zone: ZoneOffsets
    live_nano: MoneyNano
    reading_at: UnixSeconds | None  # of the newest good sample
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


def _operator_hold(account: Account, facts: CutFacts) -> Evidence | None:
    return None if account.operator_hold is None else {"reference": account.operator_hold}


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
    if facts.reading_at is None:
        return {"age_s_max": age_s_max}
    age_s = facts.clock.at - facts.reading_at
    return {"age_s": age_s, "age_s_max": age_s_max} if age_s > age_s_max else None


def _clock_not_trusted(account: Account, facts: CutFacts) -> Evidence | None:
    quality = facts.clock.quality
    return None if quality.trusted else {"clock_quality": quality.value}


def _minimum_debt(account: Account, facts: CutFacts) -> Evidence | None:
    debt, least = -facts.live_nano, account.policy.minimum_debt_nano
    return {"debt_nano": debt, "debt_nano_min": least} if debt < least else None


def _notice_not_delivered(account: Account, facts: CutFacts) -> Evidence | None:
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


def _batch_limit(account: Account, facts: CutFacts) -> Evidence | None:
    share = account.policy.cuts_per_hour_hundredths_of_percent
    limit = max(1, facts.accounts_on_site * share // HUNDREDTHS_OF_PERCENT)
    done = facts.cuts_last_hour
    return {"cuts": done, "cuts_max": limit} if done >= limit else None


def _cloud_out_of_reach(account: Account, facts: CutFacts) -> Evidence | None:
    policy, silent_s = account.policy, facts.cloud_silent_s
    if silent_s is None or policy.offline is OfflinePolicy.ENFORCE:
        return None
    limit_s = 0 if policy.offline is OfflinePolicy.KEEP else policy.offline_hours * SECONDS_PER_HOUR
    return {"silent_s": silent_s, "silent_s_max": limit_s} if silent_s > limit_s else None


BLOCKERS: tuple[tuple[str, Callable[[Account, CutFacts], Evidence | None]], ...] = (
    ("protected", _protected),
    ("keep_supply", _keep_supply),
    ("operator_hold", _operator_hold),
    ("register_hold", _register_hold),
    ("stale_reading", _stale_reading),
    ("not_read_again", _not_read_again),
    ("clock_not_trusted", _clock_not_trusted),
    ("minimum_debt", _minimum_debt),
    ("notice_not_delivered", _notice_not_delivered),
    ("window_closed", _window_closed),
    ("batch_limit", _batch_limit),
    ("cloud_out_of_reach", _cloud_out_of_reach),
)
