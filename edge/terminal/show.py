"""The street, an account and the log as lines of text, in the words of the console.

Money nano-currency, energy Wh, times of the accounting clock, shown in the site's zone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import category, east_asian_width

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.console.formats import Formats, unit_of
from edge.console.street import COUNTED, StreetRow, row_of, survey
from edge.console.words import evidence, sentence

LOW_DAYS = 7  # as the console has it


def status_lines(snapshot: StreetSnapshot, formats: Formats) -> list[str]:
    """The gateway in a few lines: what the street page has above and below its rows."""
    language = formats.language
    text, street = language.text, survey(snapshot, formats, LOW_DAYS)
    counts = ", ".join(f"{street.counts[code]} {language.term('count', code)}" for code in COUNTED)
    waiting = sum(snapshot.cloud.backlog.values())
    sent = language.count("{n} record waiting", "{n} records waiting", waiting) if waiting else text("all sent")
    cloud = text("connected") if snapshot.cloud.connected else text("not connected")
    rows = [
        ("Wattgate", f"{snapshot.software_version}, {snapshot.gateway_id}"),
        (text("Time on site"), f"{formats.stamp(snapshot.at)} {snapshot.time_zone}"),
        (text("Clock"), language.term("clock", snapshot.clock_quality)),
        (text("Cloud"), f"{cloud}, {sent}"),
        (text("all meters"), f"{street.total}: {counts}"),
    ]
    for line in snapshot.lines:
        state = text("open") if line.open else language.line_reason(line.last_error or "unknown")
        rows.append((f"{text('Line')} {line.line_id}", f"{state}, {_polls(line.polls_ok, line.polls_failed, formats)}"))
    if snapshot.recovery is not None:
        rows.insert(
            0, ("RECOVERY", f"{language.term('recovery', snapshot.recovery.reason)} {snapshot.recovery.detail}")
        )
    return table(rows)


def account_lines(snapshot: StreetSnapshot, formats: Formats, show: str | None) -> list[str]:
    """All accounts, worst first; one condition if it is named."""
    text = formats.language.text
    head = (text("State"), text("Account"), text("Position"), text("Balance now"), text("Lasts"), "")
    street = survey(snapshot, formats, LOW_DAYS)
    rows = [row for row in street.rows if show is None or show in row.conditions]
    return table([head, *(_account_cells(row, formats) for row in rows)], right=(3, 4))


def one_account_lines(account: AccountView, snapshot: StreetSnapshot, formats: Formats) -> list[str]:
    """One account: its state and why, its money, its relay, its meter, what stands against a cut."""
    own, language = formats.of(account.unit), formats.language
    text, row = language.text, row_of(account, snapshot, formats, LOW_DAYS)
    rows = [
        (text("Account"), f"{account.account_id}, {account.position}"),
        (text("State"), language.term("condition", row.condition)),
        ("", row.reason),
        (text("Balance now"), own.with_unit(account.live_balance_nano)),
        (text("Lasts"), _days(account, formats)),
        (text("Suggested top-up"), own.money_to_pay(account.suggested_top_up_nano)),
        (text("Supply, commanded"), language.term("control", account.control_state)),
        (text("Supply, read back"), _read_back(account, formats)),
        (text("Meter number"), f"{account.meter_id}, {account.model_id}, {account.line_id}"),
        (text("Relay"), language.term("relay_kind", account.relay_kind) if account.relay_kind else ""),
        (text("Register, import"), "" if account.register_wh is None else formats.energy(account.register_wh)),
        (text("Last reading"), "" if account.reading_at is None else formats.stamp(account.reading_at)),
        (text("Answers"), language.term("communication", account.communication.state)),
    ]
    values = account.values.items()
    rows += [(language.term("point", name), f"{formats.quantity(value)} {unit_of(name)}") for name, value in values]
    for blocker in account.blockers:
        why = evidence(blocker.code, blocker.evidence, own)
        rows.append((text("A cut is blocked by"), f"{language.term('blocker', blocker.code)} {why}".rstrip()))
    return table([row for row in rows if row[1]])


def event_lines(records: Iterable[Mapping[str, Any]], snapshot: StreetSnapshot, formats: Formats) -> list[str]:
    """Records of the log, in the order given."""
    units = {view.account_id: view.unit for view in snapshot.accounts}
    rows = []
    for record in records:
        account, at = str(record.get("account") or ""), record.get("at")
        when = formats.stamp(at) if isinstance(at, int) else ""
        rows.append((when, account, sentence(record, formats.of(units.get(account, "money")))))
    return table(rows)


def change_lines(before: StreetSnapshot | None, now: StreetSnapshot, formats: Formats) -> list[str]:
    """A line for each account whose state or reason is another than before; without a before, for all."""
    seen = {} if before is None else {view.account_id: _seen(view, before, formats) for view in before.accounts}
    changed = [view for view in now.accounts if seen.get(view.account_id) != _seen(view, now, formats)]
    clock = formats.clock(now.at)
    rows = [(clock, *_account_cells(row_of(view, now, formats, LOW_DAYS), formats)) for view in changed]
    return table(rows, right=(4, 5))


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart; no control character reaches a terminal."""
    clean = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*clean, strict=True)]
    return ["  ".join(_padded(cell, widths[n], n in right) for n, cell in enumerate(row)).rstrip() for row in clean]


def plain(text: str) -> str:
    """A text without characters that a terminal would obey."""
    return "".join(one if not category(one).startswith("C") else " " for one in text)


def width(text: str) -> int:
    """Columns a text takes: a wide character takes two."""
    return sum(2 if east_asian_width(one) in "WF" else 1 for one in text)


def _padded(text: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(text))
    return space + text if right else text + space


def _account_cells(row: StreetRow, formats: Formats) -> tuple[str, ...]:
    account = row.account
    state = formats.language.term("condition", row.condition)
    balance = formats.of(account.unit).with_unit(account.live_balance_nano)
    return state, account.account_id, account.position, balance, _days(account, formats), row.reason


def _days(account: AccountView, formats: Formats) -> str:
    return "" if account.days_left is None else formats.language.count("{n} day", "{n} days", account.days_left)


def _read_back(account: AccountView, formats: Formats) -> str:
    text = formats.language.text
    if account.output_connected is None:
        return text("not read back")
    if account.relay_kind == "gpio_commanded":
        closed, opened = "told to close, no contact is read back", "told to open, no contact is read back"
        return text(closed) if account.output_connected else text(opened)
    return text("closed, current can flow") if account.output_connected else text("open, no supply")


def _polls(polls_ok: int, polls_failed: int, formats: Formats) -> str:
    return formats.language.text("{ok} ok, {failed} failed").format(ok=f"{polls_ok:,}", failed=f"{polls_failed:,}")


def _seen(view: AccountView, snapshot: StreetSnapshot, formats: Formats) -> tuple[str, str]:
    row = row_of(view, snapshot, formats, LOW_DAYS)
    return row.condition, row.reason
