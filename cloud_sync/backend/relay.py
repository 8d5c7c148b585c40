"""Sends commands until their results arrive: at once, with growing pauses, and at every hello.

The table says what is still without a result; when each goes next is kept in memory only, since
after a restart everything pending is due anyway. `now` is monotonic seconds.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cloud_sync.backend.commands import PendingCommand, pending_commands
from cloud_sync.backend.database import Database, transaction
from cloud_sync.session import Publish
from cloud_sync.wire import topic_of

RESEND_SECONDS_FIRST: Final = 5.0
RESEND_SECONDS_MAX: Final = 600.0
PER_GATEWAY_MAX: Final = 32  # sent lately and without a result; a gateway drops what its queue (64) cannot take


@dataclass(frozen=True, slots=True)
class _Schedule:
    due_at: float
    pause_seconds: float

    def is_under_way(self, now: float) -> bool:
        """Whether it was sent so lately that its result may still come."""
        return now < self.due_at - self.pause_seconds + RESEND_SECONDS_FIRST


class CommandRelay:
    """Which commands go out now. It has signed nothing and can sign nothing."""

    def __init__(self, database: Database, resend_seconds_max: float = RESEND_SECONDS_MAX, brokers: str = "") -> None:
        """`brokers`: the name of those that this worker is at. Of the workers with one name one sends."""
        self._database = database
        self._brokers = brokers
        self._resend_seconds_max = resend_seconds_max
        self._schedules: dict[str, _Schedule] = {}

    def due(self, now: float) -> list[Publish]:
        """Messages to send now. Of several workers at the same brokers one sends: the others have none."""
        if not self._database.lead(self._brokers):
            return []
        pending = pending_commands(self._database)
        unanswered = {command.cid for command in pending}
        self._schedules = {cid: schedule for cid, schedule in self._schedules.items() if cid in unanswered}
        return self._send(pending, now, frozenset())

    def greet(self, gateway_ids: Collection[str], now: float) -> list[Publish]:
        """Messages for gateways that have just come back, whoever sends otherwise."""
        back = frozenset(gateway_ids)
        messages = self._send(pending_commands(self._database, sorted(back)), now, back)
        if not self._database.lead(self._brokers):
            self._schedules.clear()  # whoever leads has his own
        return messages

    def _send(self, pending: list[PendingCommand], now: float, back: frozenset[str]) -> list[Publish]:
        chosen: list[PendingCommand] = []
        under_way = self._under_way(pending, now, back)
        for command in pending:
            schedule = self._schedules.get(command.cid)
            is_due = schedule is None or now >= schedule.due_at or command.gateway_id in back
            if is_due and under_way[command.gateway_id] < PER_GATEWAY_MAX:
                under_way[command.gateway_id] += 1
                chosen.append(command)
                self._schedules[command.cid] = self._next(schedule, now, command.gateway_id in back)
        if chosen:
            self._count(chosen)
        return [message for command in chosen for message in _messages(command)]

    def _under_way(self, pending: list[PendingCommand], now: float, back: frozenset[str]) -> Counter[str]:
        """How many commands each gateway may be working on. One that has just come back has lost them all."""
        found: Counter[str] = Counter()
        for command in pending:
            schedule = self._schedules.get(command.cid)
            if schedule is not None and command.gateway_id not in back:
                found[command.gateway_id] += schedule.is_under_way(now)
        return found

    def _next(self, schedule: _Schedule | None, now: float, came_back: bool) -> _Schedule:
        pause = RESEND_SECONDS_FIRST if schedule is None or came_back else schedule.pause_seconds * 2
        pause = min(pause, self._resend_seconds_max)
        return _Schedule(now + pause, pause)

    def _count(self, commands: list[PendingCommand]) -> None:
        with transaction(self._database):
            sql = "UPDATE command SET sent_count = sent_count + 1 WHERE cid = ?"
            self._database.executemany(sql, [(command.cid,) for command in commands])


def _messages(command: PendingCommand) -> list[Publish]:
    order = Publish(topic_of(command.gateway_id, "dn/cmd"), command.envelope, qos=1, retain=False)
    if command.document is None:
        return [order]
    return [Publish(topic_of(command.gateway_id, "dn/cfg"), command.document, qos=1, retain=False), order]
