"""The journal as a log of events: in one transaction, back in the same order, whole or not at all."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from edge.core import events as ev
from edge.core.units import MoneyNano, UnixSeconds
from edge.store.event_log import JournalEventLog
from edge.store.journal import JournalError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def noted(number: int) -> ev.ConditionNoted:
    return ev.ConditionNoted(UnixSeconds(number), "gateway_started", "", f"{number}")


def rounding(number: int) -> ev.RoundingPosted:
    return ev.RoundingPosted(UnixSeconds(number), "A1", MoneyNano(number), MoneyNano(number))


def test_events_come_back_in_the_order_they_were_appended(store: Any, run_async: Run) -> None:
    events: list[ev.Event] = [noted(1), rounding(2), noted(3), rounding(4)]

    async def scenario() -> list[ev.Event]:
        journal = store.open()
        log = JournalEventLog(journal)
        await log.append(events[:3])
        await log.append(events[3:])
        found = list(log.replay())
        await journal.close()
        return found

    assert run_async(scenario()) == events
    assert [(record.stream, record.seq) for record in store.records()] == [
        ("evt", 1), ("led", 1), ("evt", 2), ("led", 2),
    ]  # fmt: skip


def test_events_of_one_append_are_one_transaction(store: Any, run_async: Run) -> None:
    async def scenario() -> list[str]:
        journal = store.open()
        statements: list[str] = []
        journal._connection.set_trace_callback(statements.append)
        await JournalEventLog(journal).append([noted(1), rounding(2), noted(3)])
        await journal.close()
        return statements

    statements = run_async(scenario())
    assert [line for line in statements if line in ("BEGIN IMMEDIATE", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]


def test_replay_names_the_record_it_does_not_understand(store: Any, run_async: Run) -> None:
    store.write([("led", msgspec.json.encode({"type": "RoundingPosted", "at": 1})), ("evt", b'{"type":"Unheard"}')])

    async def scenario() -> None:
        journal = store.open()
        with pytest.raises(JournalError, match=r"led 1: .*`account`"):
            list(JournalEventLog(journal).replay())
        await journal.close()

    run_async(scenario())
