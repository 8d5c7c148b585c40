"""The durable table of notices on their way: claimed before anything leaves, changed only along the table of states.

Every change is one transaction that looks at the state again, so two runs beside each other never send one notice
twice. Times Unix seconds.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.backend.database import Database, transaction
from cloud_sync.notices.contacts import Contact
from cloud_sync.notices.states import NotPossible, State, Trigger, follow

URGENT: Final = 3  # the notice before the cut
NEVER: Final = 2**62
_KEY: Final = "gateway = ? AND account = ? AND number = ? AND raised_at = ?"
_COLUMNS: Final = "gateway, account, number, raised_at, body, state, round, due_at, changed_at, closed_at"


@dataclass(frozen=True, slots=True)
class Notice:
    """A row of the outbox."""

    gateway_id: str
    account_id: str
    number: int
    raised_at: int
    body: bytes
    state: State
    round: int
    due_at: int
    changed_at: int
    closed_at: int | None

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What makes it the one it is."""
        return self.gateway_id, self.account_id, self.number, self.raised_at

    @property
    def message_id(self) -> str:
        """The same for every attempt of a round, so that whoever gets it twice can tell; fit for any header."""
        named = json.dumps([*self.key, self.round])
        return "notice-" + hashlib.sha256(named.encode()).hexdigest()[:32]

    @property
    def record(self) -> dict[str, Any]:
        """The NoticeRaised record."""
        record: dict[str, Any] = json.loads(self.body)
        return record


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a notice was handed to a channel."""

    number: int
    round: int
    channel: str
    address: str
    verified: bool
    started_at: int
    outcome: str | None
    proof: str | None
    reference: str | None


def in_state(database: Database, state: State, due_by: int = NEVER) -> list[Notice]:
    """The notices of a state that are due by then: urgent ones first, then those that are due the longest."""
    order = f"ORDER BY CASE WHEN number = {URGENT} THEN 0 ELSE 1 END, due_at, gateway, account, number, raised_at"
    sql = f"SELECT {_COLUMNS} FROM notice WHERE state = ? AND due_at <= ? {order}"
    return [_notice(row) for row in database.execute(sql, (state.value, due_by)).fetchall()]


def notice_of(database: Database, key: tuple[str, str, int, int]) -> Notice | None:
    """A notice by its key."""
    row = database.execute(f"SELECT {_COLUMNS} FROM notice WHERE {_KEY}", key).fetchone()
    return None if row is None else _notice(row)


def attempts_of(database: Database, notice: Notice) -> list[Attempt]:
    """Everything that was tried, oldest first."""
    sql = (
        "SELECT attempt, round, channel, address, verified, started_at, outcome, proof, reference FROM notice_attempt"
        f" WHERE {_KEY} ORDER BY attempt"
    )
    rows = database.execute(sql, notice.key).fetchall()
    return [Attempt(row[0], row[1], row[2], row[3], bool(row[4]), *row[5:]) for row in rows]


def claim(database: Database, notice: Notice, contact: Contact, text_hash: str, at: int) -> int | None:
    """The number of the attempt that is now under way; None if somebody else was first. In the caller's transaction."""
    now = notice_of(database, notice.key)
    if now is None or now.state is not State.WAITING or now.closed_at is not None or now.due_at > at:
        return None
    number = len(attempts_of(database, notice)) + 1
    to = contact.channel, contact.address, int(contact.verified_at is not None)
    database.execute(
        "INSERT INTO notice_attempt (gateway, account, number, raised_at, attempt, round, channel, address, verified,"
        " text_hash, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*notice.key, number, now.round, *to, text_hash, at),
    )
    _set(database, now, Trigger.CLAIM, at, at)
    return number


def finish(
    database: Database,
    notice: Notice,
    expected: State,
    number: int,
    trigger: Trigger,
    said: tuple[str, str],
    at: int,
    due_at: int,
) -> None:
    """Keeps what a channel answered, or reports of what it had accepted: (proof, reference).

    Nothing, if another run has kept an answer meanwhile.
    """
    outcome = {Trigger.LATER: "later", Trigger.REFUSE: "refused", Trigger.LOSE: "in_doubt"}.get(trigger)
    outcome = outcome or ("delivered" if trigger is Trigger.DELIVER else "accepted")
    with transaction(database):
        now = notice_of(database, notice.key)
        if now is None or now.state is not expected:
            return
        _set(database, now, trigger, at, due_at)
        database.execute(
            "UPDATE notice_attempt SET outcome = ?, proof = ?, reference = ?, ended_at = ?"
            f" WHERE {_KEY} AND attempt = ?",
            (outcome, *said, at, *notice.key, number),
        )


def postpone(database: Database, notice: Notice, at: int, due_at: int) -> None:
    """Moves when it is due, if it is still as it was."""
    with transaction(database):
        database.execute(
            f"UPDATE notice SET due_at = ?, changed_at = ? WHERE {_KEY} AND state = ?",
            (due_at, at, *notice.key, notice.state.value),
        )


def exhaust(database: Database, notice: Notice, at: int) -> None:
    """No channel is left. In the caller's transaction."""
    _set(database, notice, Trigger.EXHAUST, at, at)


def resend(database: Database, key: tuple[str, str, int, int], at: int) -> None:
    """A person wants it sent again, whatever was tried. Raises NotPossible."""
    with transaction(database):
        now = notice_of(database, key)
        if now is None:
            raise NotPossible("there is no such notice")
        _set(database, now, Trigger.RESEND, at, at)
        database.execute(f"UPDATE notice SET round = round + 1 WHERE {_KEY}", key)


def sent_since(database: Database, at: int, gateway_id: str | None = None, account_id: str | None = None) -> list[int]:
    """When each attempt after an instant was started, oldest first; of one account or of all."""
    sql, values = "SELECT started_at FROM notice_attempt WHERE started_at > ?", [at]
    if gateway_id is None:
        rows = database.execute(f"{sql} ORDER BY started_at", values)
    else:
        rows = database.execute(
            f"{sql} AND gateway = ? AND account = ? ORDER BY started_at", (*values, gateway_id, account_id)
        )
    return [row[0] for row in rows.fetchall()]


def owed_receipts(database: Database) -> list[Notice]:
    """Notices that a channel has taken, whose episode stands, and about which the gateway has been told nothing."""
    sql = (
        f"SELECT {_COLUMNS} FROM notice WHERE state IN (?, ?) AND receipt_cid IS NULL AND closed_at IS NULL"
        " ORDER BY changed_at, gateway, account, number"
    )
    rows = database.execute(sql, (State.ACCEPTED.value, State.DELIVERED.value)).fetchall()
    return [_notice(row) for row in rows]


def keep_receipt(database: Database, notice: Notice, cid: str | None, problem: str | None) -> None:
    """The order that tells the gateway, or why there is none yet."""
    with transaction(database):
        sql = f"UPDATE notice SET receipt_cid = ?, receipt_problem = ? WHERE {_KEY}"
        database.execute(sql, (cid, problem, *notice.key))


def _set(database: Database, notice: Notice, trigger: Trigger, at: int, due_at: int) -> None:
    state = follow(notice.state, trigger)
    sql = f"UPDATE notice SET state = ?, changed_at = ?, due_at = ? WHERE {_KEY}"
    database.execute(sql, (state.value, at, due_at, *notice.key))


def _notice(row: Any) -> Notice:
    gateway_id, account_id, number, raised_at, body, state, *rest = row
    return Notice(gateway_id, account_id, number, raised_at, bytes(body), State(state), *rest)
