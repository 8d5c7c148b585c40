"""The cloud's accounts follow every line that moves money, of every kind there is, to the nano."""

from typing import Any, get_args

from cloud_sync.backend.accounts import balance_of
from cloud_sync.backend.backend import Backend
from cloud_sync.backend.ingest import Received
from cloud_sync.wire import ZERO_HASH, Batch, encode_payload, topic_of
from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.calendar import Cycle, CycleLength, fixed_zone
from edge.core.charge import Rating
from edge.core.credit_terms import CreditGrant, CreditTerms, CreditUnit, GrantKind, GrantPeriod
from edge.core.debt import DebtKind
from edge.core.demand import Contracted
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.purchased import PurchaseBlocks
from edge.core.rating import PeriodPrices, reference_rate
from edge.core.step import step
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.codec import encode_event

GATEWAY = "gw-1"
NANO = 1_000_000_000
DAY_S = 86_400
START_AT = 1_711_900_800  # 2024-04-01 00:00 in Shanghai
DOCUMENT = {
    "format": 1,
    "id": "t",
    "version": 1,
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2020-01-01",
    "cycle": {"length": "month"},
    "prices": {"table": {"all": ["0.5103"]}},
    "standing_charges": [{"name": "daily", "amount": "0.31", "per": "day"}],
    "minimum_bill": {"amount": "40", "per": "month"},
    "demand": [{"name": "capacity", "kind": "capacity", "unit": "kVA", "prices": ["9"], "day_divisor": 30}],
    "late_charge": {"class": "residential", "same_year_per_mille": "1", "minimum": "1.00"},
}
# Blocks of what is bought: here only to post their lines beside all others.
BOUGHT = PurchaseBlocks(Cycle(CycleLength.MONTH), PeriodPrices("all", 0, (WattHours(9_000),), (510_300, 600_000)))
LATER = PurchaseBlocks(Cycle(CycleLength.MONTH), PeriodPrices("all", 0, (WattHours(9_000),), (520_300, 600_000)))
TERMS = CreditTerms(
    emergency_limit_nano=MoneyNano(NANO),
    emergency_threshold_nano=MoneyNano(900 * NANO),
    accumulate_below_threshold=True,
    old_debt_share=2500,
    grants=(CreditGrant("free", GrantKind.TIME, GrantPeriod.DAY, MoneyNano(3 * NANO), lapses=True),),
)
POLICY = Policy(legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, credit=TERMS, issue_day=4)


def rating() -> Rating:
    zone, tariff = fixed_zone("Asia/Shanghai", 8 * 3600, START_AT + 900 * DAY_S), load_tariff(DOCUMENT)
    compiled = compile_tariff([tariff], zone, START_AT - DAY_S, START_AT + 500 * DAY_S)
    purchases = {"t@1": BOUGHT, "t@2": LATER}
    zeros, ones = dict.fromkeys(purchases, 0), dict.fromkeys(purchases, 1)
    terms = dict.fromkeys(purchases, tariff.terms)
    rate = reference_rate([compiled])
    return Rating(rate, zeros, ones, zeros, zone, 10_000_000, terms, purchases=purchases)


def story() -> list[ev.Event]:
    """A life in which every event that moves money happens."""
    state, events = State(), list[ev.Event]()

    def do(make: Any, day: int, *fields: Any, **named: Any) -> None:
        nonlocal state
        at = UnixSeconds(START_AT + day * DAY_S + 60)
        clock = ClockReading(at, day * DAY_S * 1000, "boot", ClockQuality.NTP)
        stepped = step(state, make(clock, *fields, **named), rating())
        state = stepped.state
        events.extend(stepped.events)

    def read(day: int, register_wh: int) -> None:
        sample = cmd.Sample("A1", UnixSeconds(START_AT + day * DAY_S + 60), WattHours(register_wh))
        do(cmd.TakeRound, day, (sample,), record=True)

    def pay(day: int, name: str, nano: int) -> None:
        do(cmd.ApplyPayment, day, "A1", name, MoneyNano(nano), "cloud", UnixSeconds(START_AT + day * DAY_S))

    opened, contracted = Register(UnixSeconds(START_AT), WattHours(0)), Contracted(capacity_va=1_000)
    do(cmd.OpenAccount, 0, "A1", "M1", POLICY, "t@1", opened, MoneyNano(7), contracted=contracted)
    for kind in DebtKind:
        daily = MoneyNano(NANO // 11)
        do(cmd.SetDebt, 0, "A1", kind, MoneyNano(9 * NANO), "r", share=1000, daily_nano=daily)
    pay(0, "P1", 30 * NANO)
    do(cmd.MoveReservedCredit, 0, "A1", MoneyNano(NANO // 3))
    do(cmd.SelectEmergencyCredit, 0, "A1")
    read(3, 9_001)
    read(9, 29_003)
    do(cmd.ReversePayment, 9, "P1", MoneyNano(30 * NANO), "c-1", ("ops-1", "tariff-1"))
    order = PurchaseOrder(1, OrderOperation.REFRESH, CreditUnit.MONEY, MoneyNano(5 * NANO + 1))
    do(cmd.TakePurchaseOrder, 9, "A1", order)
    do(cmd.PostCorrection, 9, "A1", MoneyNano(-3), "led 9", "misread", ("key-1", "key-2"))
    do(cmd.ChangeTenant, 9, "A1", "tenant-2", MoneyNano(NANO))
    do(cmd.AcceptTariff, 9, "t@2", "{}")
    do(cmd.ScheduleTariff, 9, "t@2", UnixSeconds(START_AT + 11 * DAY_S))
    pay(10, "P2", 30 * NANO)
    read(12, 30_000)
    read(35, 250_000)
    pay(60, "P3", 5 * NANO)  # after the due date of the bill of day 34
    read(66, 251_000)
    return events


def as_message(record: Any, previous_hash: bytes) -> Received:
    said = Batch(1, GATEWAY, "led", 1, record.seq, previous_hash.hex(), (record.body.decode(),))
    return Received(topic_of(GATEWAY, "up/led"), encode_payload(said))


def test_the_cloud_follows_every_line_that_moves_money(backend: Backend, journal: Any) -> None:
    moved, money, previous_hash = set(), 0, ZERO_HASH
    for event in story():
        stream, body = encode_event(event)
        if stream != "led":
            continue
        record = journal.write("led", body)
        backend.take([as_message(record, previous_hash)], START_AT, 0.0)
        previous_hash = record.hash
        money += getattr(event, "posting_nano", 0)
        if hasattr(event, "posting_nano"):
            moved.add(type(event))
            balance = balance_of(backend.database, GATEWAY, "A1")
            assert balance is not None
            assert balance.money_nano == money == getattr(event, "balance_nano", None)
    assert backend.alarms() == []
    posting = {kind for kind in get_args(ev.Event) if "posting_nano" in kind.__annotations__}
    assert moved == posting
