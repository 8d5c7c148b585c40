"""What a policy may say, wherever it comes from: the installer's site book or a signed document."""

from edge.core.calendar import DailyWindows, parse_minute
from edge.core.credit_terms import check_credit_terms
from edge.core.disconnect_control import MODES
from edge.core.policy import Policy

MONEY_NANO_MAX = 10**17  # a hundred million; beyond it somebody mistook the unit

# What a policy may say; durations are bounded so that no calculation leaves the tariff's tables.
POLICY_RANGES = {
    "version": (1, 2**31 - 1),
    "reserve_days": (0, 90),
    "daily_energy_default_wh": (0, 1_000_000),
    "grace_hours": (0, 8_760),
    "pre_cut_notice_minutes": (0, 1_440),
    "deemed_after_hours": (0, 8_760),
    "minimum_debt_nano": (0, MONEY_NANO_MAX),
    "stale_reading_hours": (1, 720),
    "cut_reading_age_s_max": (1, 86_400),
    "cuts_per_hour_hundredths_of_percent": (0, 10_000),
    "overdraft_nano": (0, MONEY_NANO_MAX),
    "payment_nano_max": (1, MONEY_NANO_MAX),
    "issue_day": (0, 28),
    "offline_hours": (0, 8_760),
    "control_mode": (min(MODES), max(MODES)),
    "payment_due_days": (0, 366),
    "overdue_days": (0, 3_660),
    "statutory_notice_hours": (72, 168),  # RULES.md 6: 3 to 7 days
    "bypass_energy_wh": (1, 1_000_000),
}


def check_policy(policy: Policy) -> None:
    """ValueError, naming the field, for what no site can mean."""
    for name, (least, most) in POLICY_RANGES.items():
        value = getattr(policy, name)
        if not least <= value <= most:
            raise ValueError(f"policy.{name}: is {value}, allowed is {least} to {most}")
    if policy.evaluate_at not in ("live", "freeze"):
        try:
            parse_minute(policy.evaluate_at)
        except ValueError as error:
            raise ValueError(f"policy.evaluate_at: allowed is live, freeze or a time: {error}") from error
    check_credit_terms(policy.credit)
    if policy.load_limit is not None:
        for name, value in (("power_w", policy.load_limit.power_w), ("period_s", policy.load_limit.period_s)):
            if value < 1:
                raise ValueError(f"policy.load_limit.{name}: is {value}, allowed is 1 or more")
        if not 0 <= policy.load_limit.restoration_s <= 86_400:
            raise ValueError("policy.load_limit.restoration_s: allowed is 0 to 86400")
    for name in ("notice_windows", "cut_windows", "friendly_windows"):
        windows: DailyWindows | None = getattr(policy, name)
        if windows is None:
            continue
        if not all(0 <= minute <= 1_440 for window in windows.windows for minute in window):
            raise ValueError(f"policy.{name}.windows: minutes of the day are 0 to 1440")
        if not windows.weekdays <= set(range(7)):
            raise ValueError(f"policy.{name}.weekdays: are 0 (Monday) to 6")
