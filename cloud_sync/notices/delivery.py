"""One run: reads the ledgers, sends what is due and may be sent, asks what became of it, tells the gateways.

The clock is an argument. What was claimed and has no answer after `LOST_AFTER_S` is in doubt: its run has ended in
between, and a person decides. Times Unix seconds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud_sync.backend.commands import CommandDesk, OrderNotPossible
from cloud_sync.backend.database import Database, transaction
from cloud_sync.notices import outbox
from cloud_sync.notices.channels import Answer, Channel, Message, Outcome
from cloud_sync.notices.contacts import Contact, contacts_of
from cloud_sync.notices.ledger import read_ledgers, withdraw
from cloud_sync.notices.outbox import NEVER, URGENT, Attempt, Notice
from cloud_sync.notices.quiet import first_allowed
from cloud_sync.notices.settings import Settings
from cloud_sync.notices.states import State, Trigger
from cloud_sync.notices.words import render

LOST_AFTER_S: Final = 3600  # longer than any channel's time-outs together
DAY_S: Final = 86_400
REPORTS_S_MAX: Final = 3 * DAY_S  # providers forget; what is only accepted by then stays so
MINUTE_S: Final = 60

_TRIGGERS: Final = {
    Answer.DELIVERED: Trigger.DELIVER,
    Answer.ACCEPTED: Trigger.ACCEPT,
    Answer.LATER: Trigger.LATER,
    Answer.REFUSED: Trigger.REFUSE,
    Answer.IN_DOUBT: Trigger.LOSE,
}


@dataclass(slots=True)
class Done:
    """What a run did."""

    read: int = 0
    sent: dict[str, int] = field(default_factory=dict)  # attempts by what the channel answered
    asked: int = 0
    receipts: int = 0
    states: dict[str, int] = field(default_factory=dict)  # notices by state, after the run
    no_contact: int = 0
    limited: int = 0
    quiet: int = 0


class Delivery:
    """Sends notices from one database through channels."""

    def __init__(
        self,
        database: Database,
        desk: CommandDesk,
        settings: Settings,
        channels: Mapping[str, Channel],
        now: Callable[[], int],
    ) -> None:
        self._database = database
        self._desk = desk
        self._settings = settings
        self._channels = channels
        self._now = now

    def run_once(self) -> Done:
        """One look at everything. What is not due yet waits for the next."""
        done = Done(read=read_ledgers(self._database, self._now()))
        self._give_up_lost()
        self._ask(done)
        waiting = outbox.in_state(self._database, State.WAITING, self._now())
        for index, notice in enumerate(waiting):
            if len(outbox.sent_since(self._database, self._now() - MINUTE_S)) >= self._settings.per_minute:
                done.limited += len(waiting) - index
                break
            # A channel that refuses hands over to the next one at once.
            while notice.state is State.WAITING and self._send(notice, done):
                again = outbox.notice_of(self._database, notice.key)
                assert again is not None
                notice = again
        with transaction(self._database):
            withdraw(self._database, self._now())
        self._tell_gateways(done)
        rows = self._database.execute("SELECT state, count(*) FROM notice GROUP BY state ORDER BY state").fetchall()
        done.states = dict(rows)
        return done

    # --- sending -------------------------------------------------------------------------------

    def _send(self, notice: Notice, done: Done) -> bool:
        """Whether something was handed to a channel."""
        at = self._now()
        if notice.due_at > at or not self._may_send_now(notice, at, done):
            return False
        claimed = self._claim(notice, at, done)
        if claimed is None:
            return False
        number, message, contact = claimed
        outcome = self._channels[contact.channel].send(message, at)
        trigger, ended_at = _TRIGGERS[outcome.answer], self._now()
        due_at = ended_at
        if trigger is Trigger.LATER:
            due_at += self._pause_s(notice, contact)
        elif trigger is Trigger.ACCEPT:  # without an id there is nothing to ask by
            due_at = ended_at + self._settings.report_pause_s if outcome.reference else NEVER
        said = outcome.proof, outcome.reference
        outbox.finish(self._database, notice, State.SENDING, number, trigger, said, ended_at, due_at)
        done.sent[outcome.answer.value] = done.sent.get(outcome.answer.value, 0) + 1
        return True

    def _may_send_now(self, notice: Notice, at: int, done: Done) -> bool:
        settings, zone = self._settings, self._settings.zone_of(notice.gateway_id)
        allowed_at = first_allowed(at, settings.quiet_from, settings.quiet_until, zone)
        if allowed_at > at:
            outbox.postpone(self._database, notice, at, allowed_at)
            done.quiet += 1
        return allowed_at <= at

    def _claim(self, notice: Notice, at: int, done: Done) -> tuple[int, Message, Contact] | None:
        """The attempt, what is said and to whom, committed before anything leaves."""
        with transaction(self._database):
            if self._is_limited(notice, at):
                done.limited += 1
                return None
            contacts = self._contacts(notice)
            left = [contact for contact in contacts if not self._is_spent(notice, contact)]
            if not left:
                done.no_contact += not contacts
                if contacts and (now := outbox.notice_of(self._database, notice.key)) and now.state is State.WAITING:
                    outbox.exhaust(self._database, now, at)
                return None
            message = self._message(notice, left[0])
            number = outbox.claim(self._database, notice, left[0], message.words.hash, at)
        return None if number is None else (number, message, left[0])

    def _message(self, notice: Notice, contact: Contact) -> Message:
        settings, gateway_id, record = self._settings, notice.gateway_id, notice.record
        currency, name = settings.currency_of(gateway_id), settings.name_of(gateway_id)
        words = render(record, contact.language, settings.zone_of(gateway_id), currency, name)
        return Message(notice.message_id, contact.address, words, {**record, "gateway": gateway_id})

    def _is_limited(self, notice: Notice, at: int) -> bool:
        """Whether enough was sent for the moment. A customer who is about to be cut is told in any case."""
        if len(outbox.sent_since(self._database, at - MINUTE_S)) >= self._settings.per_minute:
            return True
        if notice.number == URGENT:
            return False
        told = outbox.sent_since(self._database, at - DAY_S, notice.gateway_id, notice.account_id)
        return len(told) >= self._settings.per_customer_per_day

    def _contacts(self, notice: Notice) -> list[Contact]:
        contacts = contacts_of(self._database, notice.gateway_id, notice.account_id)
        return [contact for contact in contacts if contact.channel in self._channels]

    def _is_spent(self, notice: Notice, contact: Contact) -> bool:
        """Whether an address has refused, or was tried as often as the pauses allow."""
        outcomes = [attempt.outcome for attempt in self._tried(notice, contact)]
        return "refused" in outcomes or outcomes.count("later") > len(self._settings.retry_pauses_s)

    def _pause_s(self, notice: Notice, contact: Contact) -> int:
        """How long to wait before the same address is tried again; nothing if the next channel has its turn."""
        pauses_s = self._settings.retry_pauses_s
        number = sum(attempt.outcome == "later" for attempt in self._tried(notice, contact))
        if number >= len(pauses_s):
            return 0
        return min(pauses_s[number], self._settings.urgent_pause_s_max) if notice.number == URGENT else pauses_s[number]

    def _tried(self, notice: Notice, contact: Contact) -> list[Attempt]:
        return [
            attempt
            for attempt in outbox.attempts_of(self._database, notice)
            if (attempt.round, attempt.channel, attempt.address) == (notice.round, contact.channel, contact.address)
        ]

    # --- what became of it ---------------------------------------------------------------------

    def _give_up_lost(self) -> None:
        """What another run had claimed and never finished: repeated where that reaches the customer once."""
        at = self._now()
        for notice in outbox.in_state(self._database, State.SENDING):  # no clock moves them
            if notice.changed_at + LOST_AFTER_S > at:
                continue
            attempt = outbox.attempts_of(self._database, notice)[-1]
            channel = self._channels.get(attempt.channel)
            trigger = Trigger.LATER if channel is not None and channel.repeatable else Trigger.LOSE
            said = "the run ended", ""
            outbox.finish(self._database, notice, State.SENDING, attempt.number, trigger, said, at, at)

    def _ask(self, done: Done) -> None:
        """Asks providers about what they accepted."""
        for notice in outbox.in_state(self._database, State.ACCEPTED, self._now()):
            at = self._now()
            attempt = outbox.attempts_of(self._database, notice)[-1]
            channel = self._channels.get(attempt.channel)
            if channel is None or not attempt.reference:
                continue
            outcome = channel.ask(attempt.reference)
            done.asked += 1
            self._keep_report(notice, attempt, outcome, at)

    def _keep_report(self, notice: Notice, attempt: Attempt, outcome: Outcome, at: int) -> None:
        if outcome.answer not in (Answer.DELIVERED, Answer.REFUSED) or _is_about_the_question(outcome):
            ask_at = at + self._settings.report_pause_s
            outbox.postpone(
                self._database, notice, at, ask_at if ask_at < attempt.started_at + REPORTS_S_MAX else NEVER
            )
            return
        said, trigger = (outcome.proof, attempt.reference or ""), _TRIGGERS[outcome.answer]
        outbox.finish(self._database, notice, State.ACCEPTED, attempt.number, trigger, said, at, at)

    def _tell_gateways(self, done: Done) -> None:
        """Orders a receipt for what counts as handed over to a verified address."""
        for notice in outbox.owed_receipts(self._database):
            attempt = outbox.attempts_of(self._database, notice)[-1]
            channel = self._channels.get(attempt.channel)
            if channel is None or not attempt.verified or not _counts(notice.state, channel.receipt):
                continue
            cid, problem = self._order_receipt(notice)
            outbox.keep_receipt(self._database, notice, cid, problem)
            done.receipts += cid is not None

    def _order_receipt(self, notice: Notice) -> tuple[str | None, str | None]:
        """(command id, None), or (None, why not). The same notice makes the same command."""
        gateway_id = notice.gateway_id
        row = self._database.execute("SELECT roster FROM gateway WHERE id = ?", (gateway_id,)).fetchone()
        roster = json.loads(row[0]) if row is not None and row[0] is not None else []
        meter_id = next((entry["meter"] for entry in roster if entry["account"] == notice.account_id), None)
        if meter_id is None:
            return None, f"no meter of {notice.account_id} is in the gateway's roster"
        document_hash = notice.record.get("document_hash", "")
        try:
            placed = self._desk.notice_receipt(
                gateway_id, meter_id, notice.number, self._now(), notice.raised_at, document_hash
            )
        except OrderNotPossible as problem:
            return None, str(problem)
        return placed.cid, None


def _counts(state: State, receipt: str) -> bool:
    """Whether a state of a channel with this rule means that the customer has it."""
    return receipt != "never" and (state is State.DELIVERED or receipt == "accepted")


def _is_about_the_question(outcome: Outcome) -> bool:
    """A refusal without the message's id is the provider's word on the question, not on the message."""
    return outcome.answer is Answer.REFUSED and not outcome.reference
