"""The auditor on records of credits and debts: a true story holds, a story with one figure altered does not."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge.core import commands as cmd
from edge.core.account import Register, State
from edge.core.calendar import fixed_zone
from edge.core.charge import Rating
from edge.core.credit_terms import CreditGrant, CreditTerms, CreditUnit, GrantKind, GrantPeriod, PaymentMode
from edge.core.debt import DebtKind
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.rating import reference_rate
from edge.core.step import step
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.store.codec import encode_event

NANO = 1_000_000_000
DAY_S = 86_400
START_AT = 1_711_900_800  # 2024-04-01 00:00 in Shanghai
DOCUMENT = {
    "format": 1,
    "id": "street",
    "version": 1,
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2020-01-01",
    "cycle": {"length": "month", "start_day": 1},
    "periods": [{"name": "all", "windows": [{"from": "00:00", "to": "24:00"}]}],
    "blocks": {"scope": "cycle", "limits_kwh": ["170"]},
    "prices": {"base_by_period": {"all": "0"}, "adder_by_block": ["0.51", "0.56"]},
}
TERMS = CreditTerms(
    emergency_limit_nano=MoneyNano(5 * NANO),
    emergency_threshold_nano=MoneyNano(2 * NANO),
    accumulate_below_threshold=True,
    old_debt_share=2500,
    grants=(CreditGrant("free", GrantKind.TIME, GrantPeriod.WEEK, MoneyNano(2 * NANO), lapses=True),),
)
POLICY = Policy(legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, credit=TERMS, issue_day=4, reserve_days=0)


def rating() -> Rating:
    zone, tariff = fixed_zone("Asia/Shanghai", 8 * 3600, START_AT + 900 * DAY_S), load_tariff(DOCUMENT)
    compiled = compile_tariff([tariff], zone, START_AT - 40 * DAY_S, START_AT + 500 * DAY_S)
    terms = {"street@1": tariff.terms}
    rate = reference_rate([compiled])
    return Rating(rate, {"street@1": 0}, {"street@1": 1}, {"street@1": 0}, zone, 10_000_000, terms)


class Story:
    """Commands in, journal bodies out."""

    def __init__(self) -> None:
        self.state, self.bodies, self.count = State(), list[tuple[str, bytes]](), 0

    def do(self, make: Any, day: int, *fields: Any, **named: Any) -> None:
        at = UnixSeconds(START_AT + day * DAY_S + 60)
        clock = ClockReading(at, (day * DAY_S + 60) * 1000, "boot", ClockQuality.NTP)
        stepped = step(self.state, make(clock, *fields, **named), rating())
        self.state = stepped.state
        self.bodies.extend(encode_event(event) for event in stepped.events)

    def order(self, make: Any, day: int, *fields: Any, **named: Any) -> None:
        self.count += 1
        self.do(make, day, *fields, cid=f"c-{self.count}", **named)

    def read(self, day: int, register_wh: int) -> None:
        sample = cmd.Sample("A1", UnixSeconds(START_AT + day * DAY_S + 60), WattHours(register_wh))
        self.do(cmd.TakeRound, day, (sample,), record=True)


@pytest.fixture(scope="module")
def bodies() -> list[tuple[str, bytes]]:
    """A tenant with debts, instalments, emergency credit, orders and a correction; then another."""
    story = Story()
    start = UnixSeconds(START_AT)
    story.do(cmd.AcceptTariff, 0, "street@1", json.dumps(DOCUMENT))
    story.do(cmd.OpenAccount, 0, "A1", "M1", POLICY, "street@1", Register(start, WattHours(0)), MoneyNano(NANO))
    for kind in (DebtKind.PAYMENT, DebtKind.TIME_1, DebtKind.OLD):
        terms: Any = {"share": 1000, "daily_nano": MoneyNano(NANO // 11)}
        story.order(cmd.SetDebt, 0, "A1", kind, MoneyNano(9 * NANO), "agreement", **terms)
    story.order(cmd.AgreeInstalments, 0, "A1", "plan", MoneyNano(4 * NANO), ((19_815, 5000), (19_820, 5000)))
    story.do(cmd.SelectEmergencyCredit, 0, "A1")
    story.read(3, 9_001)
    paid = ("cloud", UnixSeconds(START_AT + 3 * DAY_S))
    story.order(cmd.ApplyPayment, 3, "A1", "P1", MoneyNano(30 * NANO), *paid)
    story.order(cmd.MoveReservedCredit, 3, "A1", MoneyNano(NANO // 3))
    story.read(6, 12_003)
    story.order(cmd.ReversePayment, 6, "P1", MoneyNano(30 * NANO), signed_by=("ops-1", "tariff-1"))
    order = PurchaseOrder(1, OrderOperation.REFRESH, CreditUnit.MONEY, MoneyNano(5 * NANO + 1))
    story.order(cmd.TakePurchaseOrder, 6, "A1", order)
    story.order(cmd.PostCorrection, 6, "A1", MoneyNano(-3), "led 9", "misread", ("key-1", "key-2"))
    story.read(15, 14_000)
    story.order(cmd.ChangePaymentMode, 15, "A1", PaymentMode.CREDIT)
    story.order(cmd.ChangeTenant, 16, "A1", "tenant-2", MoneyNano(NANO))
    story.read(18, 15_000)
    return story.bodies


@pytest.fixture
def violations(auditor: Any) -> Callable[[list[tuple[str, bytes]]], list[str]]:
    """What the auditor's books complain of when they read these bodies."""

    def read(bodies: list[tuple[str, bytes]]) -> list[str]:
        row = {
            "account_id": "A1",
            "meter_id": "M1",
            "tariff": "street@1",
            "protected": False,
            "opening_nano": NANO,
            "policy": msgspec.json.decode(msgspec.json.encode(POLICY)),
        }
        folder = auditor.Folder(
            journal=[auditor.Record(n, stream, 1, n, b"", body) for n, (stream, body) in enumerate(bodies, 1)],
            identities=[("G1", 1)],
            marks={},
            cloud={},
            cloud_records=[],
            damage=[],
            registers={"at": START_AT + 30 * DAY_S, "meters": {"M1": {"start_register_wh": 0}}},
            street={"wall_start_at": START_AT},
            site={"site": {"1": {"time_zone": "Asia/Shanghai", "minor_digits": 2}}, "accounts": {"1": row}},
            tariff_text=json.dumps(DOCUMENT),
            keys=[],
            boot_id="boot",
        )
        books = auditor.Books(folder)
        books.read_all()
        return list(books.violations)

    return read


def test_a_true_story_of_credits_and_debts_holds(bodies: Any, violations: Any) -> None:
    assert violations(bodies) == []


def test_the_story_has_what_is_to_be_audited(bodies: Any) -> None:
    kinds = {json.loads(body)["type"] for _, body in bodies}
    assert kinds >= set(FIGURES)


# Of each record: the figures that anything depends on.
FIGURES: dict[str, tuple[str, ...]] = {
    "PaymentAllocated": ("amount_nano", "payment_debt_nano", "accumulated_debt_nano", "token_nano", "posting_nano"),
    "AllocationReversed": ("payment_debt_nano", "accumulated_debt_nano", "old_debt_nano", "posting_nano"),
    "DebtSet": ("change_nano", "amount_nano"),
    "InstalmentDue": ("number", "due_day", "change_nano"),
    "DailyChargePosted": ("at", "first_day", "amount_nano", "accumulated_nano", "posting_nano", "balance_nano"),
    "EmergencyCreditSelected": ("limit_nano", "live_balance_nano"),
    "EmergencyCreditDrawn": ("change_nano", "used_nano", "live_balance_nano"),
    "PurchaseOrderApplied": ("value_nano", "posting_nano", "balance_nano", "live_balance_nano"),
    "TenantChanged": ("former_balance_nano", "former_old_debt_nano", "former_reserved_nano", "register_wh"),
    "CorrectionPosted": ("posting_nano", "balance_nano"),
    "ReservedCreditMoved": ("change_nano", "reserved_nano", "posting_nano"),
    "GrantedCreditLapsed": ("posting_nano", "balance_nano"),
    "CreditPeriodBegan": ("posting_nano", "balance_nano"),
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in FIGURES.items() for field in fields])
def test_one_figure_that_is_altered_is_noticed(bodies: Any, violations: Any, kind: str, field: str) -> None:
    altered = []
    for stream, body in bodies:
        event = json.loads(body)
        if event["type"] == kind and field in event:
            event[field] += 1
        altered.append((stream, json.dumps(event).encode()))
    assert [json.loads(body) for _, body in altered] != [json.loads(body) for _, body in bodies]
    assert violations(altered) != []


@pytest.mark.parametrize("kind", ["DailyChargePosted", "PurchaseOrderApplied", "PaymentAllocated", "InstalmentDue"])
def test_a_record_that_comes_twice_is_noticed(bodies: Any, violations: Any, kind: str) -> None:
    twice = [item for item in bodies for _ in range(1 + (json.loads(item[1])["type"] == kind))]
    assert len(twice) > len(bodies)
    assert violations(twice) != []


def test_a_bill_out_of_its_cycle_needs_a_change_of_tenant(bodies: Any, violations: Any) -> None:
    kept = [(stream, body) for stream, body in bodies if json.loads(body)["type"] != "TenantChanged"]
    assert any("out of its cycle" in text for text in violations(kept))
