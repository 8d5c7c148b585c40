"""What a site decides about notices, cuts and restores: one signed document per account.

Every default of RULES.md 5-7 is a field here, never a constant elsewhere. Windows are local
time, debts nano-currency, shares hundredths of a percent.
"""

from dataclasses import field
from enum import Enum

from edge.core.calendar import DailyWindows
from edge.core.credit_terms import CreditTerms
from edge.core.lean import dataclass
from edge.core.units import MoneyNano, UnixSeconds, WattHours


class NoticeProof(Enum):
    """What counts as receipt of a notice (RULES.md 6)."""

    CLOUD_RECEIPT = "cloud_receipt"
    LOCAL_DISPLAY = "local_display"
    DEEMED_AFTER_HOURS = "deemed_after_hours"


class OfflinePolicy(Enum):
    """Whether supply is enforced while the cloud is out of reach (RULES.md 6)."""

    ENFORCE = "enforce"
    ENFORCE_FOR_HOURS = "enforce_for_hours"
    KEEP = "keep"


class LegalProfile(Enum):
    """On what ground an account may be cut (RULES.md 6)."""

    PREPAYMENT_IMMEDIATE = "prepayment_immediate"
    PREPAID_BY_AGREEMENT = "prepaid_by_agreement"
    POSTPAID_STATUTORY = "postpaid_statutory"

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at every look into a table


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """Power above which a supply is opened for a while (SMETS2, load limiting). Watts and seconds."""

    power_w: int
    period_s: int  # how long above it
    restoration_s: int  # how long the supply stays open
    armed: bool = False  # afterwards the customer presses a key; otherwise it closes by itself


@dataclass(frozen=True, slots=True)
class Policy:
    """One customer, one policy. `overdraft_nano` shifts all thresholds below zero."""

    policy_id: str = "normal"
    version: int = 1
    legal_profile: LegalProfile = LegalProfile.PREPAID_BY_AGREEMENT
    reserve_days: int = 7
    daily_energy_default_wh: WattHours = WattHours(5000)
    grace_hours: int = 72
    pre_cut_notice_minutes: int = 30
    evaluate_at: str = "live"  # live | freeze | HH:MM
    notice_windows: DailyWindows | None = None  # None: at any time
    cut_windows: DailyWindows | None = None
    notice_proof: NoticeProof = NoticeProof.LOCAL_DISPLAY
    deemed_after_hours: int = 24
    minimum_debt_nano: MoneyNano = MoneyNano(0)
    stale_reading_hours: int = 24
    cut_reading_age_s_max: int = 900
    cuts_per_hour_hundredths_of_percent: int = 1000
    overdraft_nano: MoneyNano = MoneyNano(0)
    payment_nano_max: MoneyNano = MoneyNano(100_000_000_000_000)
    issue_day: int = 0  # the bill is issued at local 24:00 of this day, 1-28; 0 is the month's last day
    offline: OfflinePolicy = OfflinePolicy.ENFORCE
    offline_hours: int = 720
    control_mode: int = 6  # of class 70; 4 closes directly on a remote reconnect
    signed_by: str = "site_book"  # who vouches for it: the installer's book, or a key id; empty: nobody
    valid_until: UnixSeconds | None = None
    friendly_windows: DailyWindows | None = None  # non-disablement: nobody is cut while they are open
    formal_notices: bool = False  # receipts count only with the hash of the notice's document
    payment_due_days: int = 15  # after the bill is issued (statutory profile)
    overdue_days: int = 30  # after the due date, before a statutory cut
    statutory_notice_hours: int = 168  # between receipt of notice 2 and a statutory cut: 3 to 7 days
    bypass_energy_wh: WattHours = WattHours(500)  # that much through an open relay is a bypass
    load_limit: LoadLimit | None = None
    credit: CreditTerms = field(default_factory=CreditTerms)
