"""What pages read of the journal: newest first, of the right account, and the same on every page."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edge.core import events as ev
from edge.core.policy import Policy
from edge.core.units import MoneyNano, UnixSeconds, WattHours
from edge.store.event_log import JournalEventLog
from edge.store.reader import JournalReader

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def opened(account: str, at: int, balance: int) -> ev.AccountOpened:
    return ev.AccountOpened(
        at=UnixSeconds(at),
        account=account,
        meter=f"M{account[1:]}",
        policy=Policy(),
        tariff="t@1",
        positions=1,
        register_at=UnixSeconds(at),
        register_wh=WattHours(0),
        protected=False,
        posting_nano=MoneyNano(balance),
        balance_nano=MoneyNano(balance),
    )


def frozen(account: str, at: int, balance: int, live: int) -> ev.RegisterFrozen:
    return ev.RegisterFrozen(
        at=UnixSeconds(at),
        account=account,
        occasion="daily",
        register_wh=WattHours(at),
        quality="gateway_sample",
        energy_wh=WattHours(1),
        day_energy_wh=WattHours(1),
        lines=(),
        estimated=False,
        estimate_nano=MoneyNano(balance - live),
        cycle_energy_wh=(0,),
        cycle_start_at=None,
        balance_nano=MoneyNano(balance),
        live_balance_nano=MoneyNano(live),
    )


def paid(account: str, at: int, amount: int, balance: int) -> ev.PaymentApplied:
    money = MoneyNano(amount)
    return ev.PaymentApplied(
        UnixSeconds(at), account, f"p{at}", money, "cloud", UnixSeconds(at), money, MoneyNano(balance)
    )


def reading(at: int) -> ev.ConditionNoted:
    return ev.ConditionNoted(UnixSeconds(at), "meter_silent", "A1", "timeout")


EVENTS: list[ev.Event] = [
    opened("A1", 100, 50),
    opened("A2", 100, 500),
    reading(150),
    frozen("A1", 200, 50, 20),
    frozen("A2", 200, 500, 470),
    paid("A1", 250, 30, 80),
    ev.PaymentReversed(UnixSeconds(260), "A1", "p250", MoneyNano(-30), MoneyNano(50)),
    ev.OrderApplied(UnixSeconds(270), "cid-1", "credit", "A1"),
    frozen("A1", 300, 50, 5),
]


@pytest.fixture
def ask(store: Any, run_async: Run) -> Callable[[Callable[[JournalReader], Coroutine[Any, Any, Any]]], Any]:
    """Asks a reader over the events above."""

    def ask(question: Callable[[JournalReader], Coroutine[Any, Any, Any]]) -> Any:
        async def scenario() -> Any:
            journal = store.open()
            if journal.heads()["led"].seq == 0:
                await JournalEventLog(journal).append(EVENTS)
            answer = await question(JournalReader(journal))
            await journal.close()
            return answer

        return run_async(scenario())

    return ask


def test_records_of_an_account_come_newest_first_with_their_proof(ask: Any, store: Any) -> None:
    found = ask(lambda reader: reader.account_records("A1", 10))
    assert [record["type"] for record in found] == [
        "RegisterFrozen", "PaymentReversed", "PaymentApplied", "RegisterFrozen", "AccountOpened",
    ]  # fmt: skip
    assert [record["seq"] for record in found] == [7, 6, 5, 3, 1]
    proof = {record.seq: record.hash.hex() for record in store.records() if record.stream == "led"}
    assert all(record["hash"] == proof[record["seq"]] for record in found)
    assert {record["account"] for record in found} == {"A1"}
    assert found[2]["amount_nano"] == 30


def test_records_of_an_account_are_as_many_as_asked_for(ask: Any) -> None:
    assert [record["seq"] for record in ask(lambda reader: reader.account_records("A1", 2))] == [7, 6]
    assert ask(lambda reader: reader.account_records("A9", 10)) == []
    assert ask(lambda reader: reader.account_records("A1' OR 1=1 --", 10)) == []


def test_records_of_an_account_are_found_by_the_index(store: Any, run_async: Run) -> None:
    async def scenario() -> str:
        journal = store.open()
        statements: list[str] = []
        journal._connection.set_trace_callback(statements.append)
        await JournalReader(journal).account_records("A1", 10)
        journal._connection.set_trace_callback(None)
        plan = await journal.query(f"EXPLAIN QUERY PLAN {statements[0]}", ())
        await journal.close()
        return str(plan)

    assert "USING INDEX record_of_account" in run_async(scenario())


def test_event_log_pages_give_every_record_once_newest_first(ask: Any) -> None:
    whole = ask(lambda reader: reader.event_records(100))
    pages: list[Any] = []
    before = None
    while page := ask(lambda reader, before=before: reader.event_records(2, before)):
        assert len(page) <= 2
        pages.extend(page)
        before = page[-1]["order"]
    assert pages == whole
    assert [record["type"] for record in whole] == [type(event).__name__ for event in reversed(EVENTS)]
    assert {record["stream"] for record in whole} == {"led", "evt", "res"}
    assert [record["order"] for record in whole] == sorted((record["order"] for record in whole), reverse=True)


def test_reading_records_are_not_in_the_event_log(store: Any, run_async: Run) -> None:
    async def scenario() -> list[str]:
        journal = store.open()
        await journal.append([("rdg", b'{"type":"ReadingsRecorded"}'), ("evt", b'{"type":"ConditionNoted"}')])
        found = await JournalReader(journal).event_records(10)
        await journal.close()
        return [record["stream"] for record in found]

    assert run_async(scenario()) == ["evt"]


def test_balance_over_time_steps_upright_at_a_payment(ask: Any) -> None:
    points = ask(lambda reader: reader.balance_history("A1", 0))
    assert points == [(100, 50), (200, 20), (250, 20), (250, 50), (260, 50), (260, 20), (300, 5)]


def test_balance_over_time_begins_where_it_is_asked_to(ask: Any) -> None:
    assert ask(lambda reader: reader.balance_history("A1", 255)) == [(260, 50), (260, 20), (300, 5)]
    assert ask(lambda reader: reader.balance_history("A9", 0)) == []
