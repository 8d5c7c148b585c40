"""What a page says about an account: its condition, the reason in one sentence, the counts of the street.

The order in `conditions` is the order of urgency: the first that holds is the account's condition,
and the street is sorted by it, then by balance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.console.formats import Formats

# The conditions counted at the top of the page, in reading order.
COUNTED = ("cut", "below", "silent", "held", "low", "disobeys")
# Blockers that time does not lift: beside them the end of the grace is no news.
STANDING_BLOCKERS = frozenset({"protected", "keep_supply", "operator_hold", "register_hold"})
SILENT_STATES = ("silent", "never")
Predicate = Callable[[AccountView], bool]


def is_cut(account: AccountView) -> bool:
    """Off by command, or found open: either way nobody may count on light there."""
    return account.control_state != "connected" or account.output_connected is False


def disobeys(account: AccountView) -> bool:
    """The relay was read back and is not what was commanded."""
    wanted = account.control_state == "connected"
    known = account.output_connected is not None and not account.switching
    return known and account.output_connected is not wanted


def is_silent(account: AccountView) -> bool:
    """The meter does not answer, or never did."""
    return account.communication.state in SILENT_STATES


@dataclass(frozen=True, slots=True)
class StreetRow:
    """One account on the street page."""

    account: AccountView
    condition: str  # the most urgent
    conditions: frozenset[str]  # all that hold
    reason: str
    reading_age_s: int | None


@dataclass(frozen=True, slots=True)
class Street:
    """The street in the order a technician needs it, and how many there are of each kind."""

    rows: tuple[StreetRow, ...]
    counts: Mapping[str, int]
    total: int


def conditions(low_days: int) -> Mapping[str, Predicate]:
    """Every condition with its test, most urgent first. `good` holds always."""
    return {
        "disobeys": disobeys,
        "cut": is_cut,
        "below": lambda account: account.live_balance_nano < 0,
        "held": lambda account: account.hold is not None,
        "silent": is_silent,
        "low": lambda account: account.days_left is not None and account.days_left < low_days,
        "good": lambda account: True,
    }


def survey(snapshot: StreetSnapshot, formats: Formats, low_days: int) -> Street:
    """The whole street, sorted worst first."""
    tests = conditions(low_days)
    rank = {code: position for position, code in enumerate(tests)}
    rows = [row_of(account, snapshot, formats, low_days) for account in snapshot.accounts]
    rows.sort(key=lambda row: (rank[row.condition], row.account.live_balance_nano, row.account.account_id))
    counts = {code: sum(map(test, snapshot.accounts)) for code, test in tests.items()}
    return Street(tuple(rows), counts, len(rows))


def row_of(account: AccountView, snapshot: StreetSnapshot, formats: Formats, low_days: int) -> StreetRow:
    """One account with its condition and reason."""
    holding = [code for code, test in conditions(low_days).items() if test(account)]
    return StreetRow(
        account=account,
        condition=holding[0],
        conditions=frozenset(holding),
        reason=reason(account, snapshot, formats),
        reading_age_s=None if account.reading_at is None else max(0, snapshot.at - account.reading_at),
    )


def reason(account: AccountView, snapshot: StreetSnapshot, formats: Formats) -> str:
    """Why this account is as it is, in one sentence; empty when there is nothing to say.

    First that applies: relay against command, cut, hold, below zero, silence.
    """
    language, formats = formats.language, formats.of(account.unit)
    if disobeys(account):
        return language.term("disobeys", f"{account.control_state}")
    if is_cut(account):
        return _why_cut(account, formats)
    if account.hold:
        return language.term("hold", account.hold)
    if account.live_balance_nano < 0:
        return _why_not_cut(account, snapshot, formats)
    if is_silent(account):
        return _why_silent(account, formats)
    return ""


def _why_cut(account: AccountView, formats: Formats) -> str:
    language = formats.language
    if account.control_state == "disconnected":
        template = "{reason}. A payment does not restore it."
    elif account.live_balance_nano < 0:
        template = "{reason}. Returns once {amount} is paid."
    else:
        template = "{reason}. The balance is good again; supply is about to return."
    return language.text(template).format(
        reason=language.term("reason", account.control_reason), amount=formats.money_to_pay(-account.live_balance_nano)
    )


def _why_not_cut(account: AccountView, snapshot: StreetSnapshot, formats: Formats) -> str:
    language = formats.language
    if account.protected:
        return language.text("Protected: is never cut.")
    standing = next((blocker for blocker in account.blockers if blocker.code in STANDING_BLOCKERS), None)
    if standing is None and account.grace_ends_at is not None and account.grace_ends_at > snapshot.at:
        return language.text("Cut from {moment} unless paid.").format(moment=formats.moment(account.grace_ends_at))
    if not account.blockers:
        return language.text("Is due to be cut.")
    first = standing or account.blockers[0]
    text = language.text("Not cut: {reason}").format(reason=language.term("blocker", first.code))
    return text + (f" (+{len(account.blockers) - 1})" if len(account.blockers) > 1 else "")


def _why_silent(account: AccountView, formats: Formats) -> str:
    language = formats.language
    error = account.communication.last_error
    if error is None:
        return language.text("The meter does not answer.")
    return language.text("The meter does not answer: {error}").format(error=language.term("error", error))
