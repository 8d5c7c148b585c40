"""An account under commands in any order: after each, money and debts are conserved to the nano.

The books here are kept from the events alone. Everything is replayed at the end of each life.
"""

from collections import Counter
from dataclasses import replace
from functools import reduce
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.calendar import daily_windows, local_day
from edge.core.credit_terms import (
    CreditGrant,
    CreditTerms,
    CreditUnit,
    GrantKind,
    GrantPeriod,
    IssueCycle,
    PaymentMode,
)
from edge.core.debt import DebtKind
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.emergency import emergency_used
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseOrder
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
UNITS = st.integers(-3, 60)
SMALL = st.integers(0, 20 * NANO)

GRANTS = (
    CreditGrant("free", GrantKind.TIME, GrantPeriod.DAY, MoneyNano(NANO), lapses=True),
    CreditGrant("thrift", GrantKind.CONSUMPTION, GrantPeriod.WEEK, MoneyNano(NANO), 2, WattHours(9_000)),
)
CREDIT_TERMS = st.builds(
    CreditTerms,
    grants=st.sampled_from([(), GRANTS[:1], GRANTS]),
    issue_cycle=st.sampled_from(IssueCycle),
    emergency_limit_nano=st.sampled_from([5 * NANO, 5 * NANO, 0]),
    emergency_threshold_nano=st.sampled_from([0, 2 * NANO]),
    emergency_pays_standing=st.booleans(),
    suspend_debt_disabled=st.booleans(),
    suspend_debt_emergency=st.booleans(),
    accumulate_below_threshold=st.sampled_from([True, True, False]),
    old_debt_share=st.sampled_from([0, 2500, 10_000]),
    balance_nano_max=st.sampled_from([200 * NANO, 10**15]),
    meter_day_nano_max=st.sampled_from([80 * NANO, 10**15]),
)
POLICIES = st.builds(
    Policy,
    legal_profile=st.sampled_from([LegalProfile.PREPAYMENT_IMMEDIATE, LegalProfile.PREPAID_BY_AGREEMENT]),
    overdraft_nano=st.sampled_from([0, 10 * NANO]),
    grace_hours=st.sampled_from([1, 72]),
    reserve_days=st.sampled_from([0, 7]),
    issue_day=st.sampled_from([0, 15, 28]),
    friendly_windows=st.sampled_from([None, daily_windows([("20:00", "08:00")])]),
    credit=CREDIT_TERMS,
)


SOMETIMES = {
    "AllocationReversed",
    "BillIssued",
    "DailyChargePosted",
    "DebtSet",
    "DisconnectControlChanged",
    "EmergencyCreditDrawn",
    "EmergencyCreditSelected",
    "InstalmentDue",
    "MinimumBillPosted",
    "PaymentAllocated",
    "PaymentRefused",
    "PaymentReversed",
    "PurchaseOrderApplied",
    "RequestRefused",
    "ReservedCreditMoved",
    "TenantChanged",
}


class Life(RuleBasedStateMachine):
    """One account on a site with standing charges and a minimum bill."""

    make: Any = None  # set by the test: makes a site
    happened: ClassVar[Counter[str]] = Counter()  # in all lives

    def __init__(self) -> None:
        super().__init__()
        self.site, self.now, self.register = self.make()
        self.seen, self.money, self.count = 0, 0, 0
        self.debts: dict[str, int] = {}
        self.reserved = 0
        self.paid: dict[str, int] = {}  # what is left of a payment
        self.given: dict[str, int] = {}
        self.orders: dict[int, int] = {}

    @initialize(policy=POLICIES, opening=UNITS)
    def opened(self, policy: Policy, opening: int) -> None:
        self.site.open(self.now, self.register, opening * NANO, policy)

    def do(self, command: Any) -> None:
        self.site.do(command)

    @property
    def clock(self) -> Any:
        return self.site.clock(self.now)

    def sampled(self, energy_wh: int) -> Any:
        self.register += energy_wh
        return self.site.sample(self.now, self.register, power_w_max=10**9)

    # --- what may happen ---

    @rule(days=st.integers(1, 4), energy_wh=st.integers(0, 9_000))
    def nights(self, days: int, energy_wh: int) -> None:
        self.site.quality = ClockQuality.NTP
        self.reading(days * 86_400, energy_wh, True)

    @rule(units=st.integers(1, 60), energy_wh=st.integers(0, 900))
    def top_up(self, units: int, energy_wh: int) -> None:
        self.count += 1
        sample = self.sampled(energy_wh)
        self.site.pay(self.now, units * NANO // 7, f"T{self.count}", sample=sample)

    @rule(kind=st.sampled_from([DebtKind.PAYMENT, DebtKind.ACCUMULATED, DebtKind.OLD]), amount=SMALL, units=UNITS)
    def owes_and_pays(self, kind: DebtKind, amount: int, units: int) -> None:
        self.debt(kind, amount, 2500, None, 0)
        self.top_up(max(1, units), 0)

    @rule(energy_wh=st.integers(1, 9_000))
    def lives_on_emergency_credit(self, energy_wh: int) -> None:
        self.empties()
        self.emergency()
        self.nights(1, energy_wh)

    @rule(newest=st.integers(0, 3), percent=st.integers(0, 120))
    def takes_back(self, newest: int, percent: int) -> None:
        if self.paid:
            payment_id = list(self.paid)[-1 - newest % len(self.paid)]
            self.count += 1
            amount = MoneyNano(self.given[payment_id] * percent // 100)
            self.do(cmd.ReversePayment(self.clock, payment_id, amount, f"r-{self.count}", ("ops-1", "ops-2")))

    @rule()
    def empties(self) -> None:
        """The next charge finds nothing above the threshold."""
        account = self.site.state.accounts["A01"]
        left = account.recorded_live_nano - account.threshold_nano
        self.do(cmd.PostCorrection(self.clock, "A01", MoneyNano(-left), "led 1", "x", ("a", "b")))

    @rule(passed=st.integers(1, 400_000), energy_wh=st.integers(0, 9_000), record=st.booleans())
    def reading(self, passed: int, energy_wh: int, record: bool) -> None:
        self.now += passed
        self.site.round(self.now, self.sampled(energy_wh).register_wh, record=record, power_w_max=10**9)

    @rule(
        units=UNITS,
        number=st.integers(0, 5),
        late_s=st.integers(-(10**6), 10**6),
        energy_wh=st.integers(0, 900),
        with_sample=st.booleans(),
    )
    def payment(self, units: int, number: int, late_s: int, energy_wh: int, with_sample: bool) -> None:
        sample = self.sampled(energy_wh) if with_sample else None
        paid_at = UnixSeconds(max(0, self.now - late_s))
        self.site.pay(self.now, units * NANO // 3, f"P{number}", paid_at=paid_at, sample=sample)

    @rule(
        kind=st.sampled_from(DebtKind),
        amount=SMALL,
        share=st.sampled_from([0, 1000, 10_000]),
        cap=st.sampled_from([None, 0, NANO]),
        daily=st.sampled_from([0, NANO // 3]),
    )
    def debt(self, kind: DebtKind, amount: int, share: int, cap: int | None, daily: int) -> None:
        limit = None if cap is None else MoneyNano(cap)
        terms: Any = {"share": share, "cap_nano": limit, "daily_nano": MoneyNano(daily)}
        self.do(cmd.SetDebt(self.clock, "A01", kind, MoneyNano(amount), "r", **terms))

    @rule(percent=st.integers(0, 101), days=st.lists(st.integers(0, 40), min_size=1, max_size=4, unique=True))
    def instalments(self, percent: int, days: list[int]) -> None:
        if not self.debts.get("old"):
            self.debt(DebtKind.OLD, 9 * NANO, 0, None, 0)
        today, share = local_day(self.site.rating.zone, self.now), 10_000 // len(days)
        shares = [(today + day, share) for day in sorted(days)]
        shares[-1] = (shares[-1][0], 10_000 - share * (len(days) - 1))
        total = MoneyNano(self.site.state.accounts["A01"].debts.old_nano * percent // 100)
        self.do(cmd.AgreeInstalments(self.clock, "A01", "plan", total, tuple(shares)))

    @rule(
        number=st.integers(0, 5),
        operation=st.sampled_from(OrderOperation),
        unit=st.sampled_from([CreditUnit.MONEY, CreditUnit.ENERGY]),
        value=st.integers(-1, 20 * NANO),
        trip=st.sampled_from([None, 0, NANO]),
        energy_wh=st.integers(0, 900),
    )
    def order(
        self, number: int, operation: OrderOperation, unit: CreditUnit, value: int, trip: int | None, energy_wh: int
    ) -> None:
        trip_nano = None if trip is None else MoneyNano(trip)
        purchase = PurchaseOrder(number, operation, unit, MoneyNano(value), trip_nano=trip_nano)
        self.do(cmd.TakePurchaseOrder(self.clock, "A01", purchase, sample=self.sampled(energy_wh)))

    @rule()
    def emergency(self) -> None:
        self.do(cmd.SelectEmergencyCredit(self.clock, "A01"))

    @rule(tenant=st.integers(0, 3), opening=UNITS, energy_wh=st.integers(0, 900))
    def tenant(self, tenant: int, opening: int, energy_wh: int) -> None:
        sample = self.sampled(energy_wh)
        self.do(cmd.ChangeTenant(self.clock, "A01", f"tenant-{tenant}", MoneyNano(opening * NANO), sample=sample))

    @rule(mode=st.sampled_from(PaymentMode))
    def mode(self, mode: PaymentMode) -> None:
        self.do(cmd.ChangePaymentMode(self.clock, "A01", mode))

    @rule(amount=st.integers(-5 * NANO, 5 * NANO), signers=st.sampled_from([("a", "b"), ("a", "a"), ("a",)]))
    def correction(self, amount: int, signers: tuple[str, ...]) -> None:
        self.do(cmd.PostCorrection(self.clock, "A01", MoneyNano(amount), "led 1", "x", signers))

    @rule(amount=st.integers(-9 * NANO, 9 * NANO))
    def reserve(self, amount: int) -> None:
        self.do(cmd.MoveReservedCredit(self.clock, "A01", MoneyNano(amount)))

    @rule(policy=POLICIES)
    def terms(self, policy: Policy) -> None:
        self.do(cmd.ChangeTerms(self.clock, "A01", policy, protected=False))

    @rule(number=st.integers(1, 3))
    def receipt(self, number: int) -> None:
        self.site.receipt(self.now, number)

    @rule(cut=st.booleans())
    def operator(self, cut: bool) -> None:
        trigger = Trigger.REMOTE_DISCONNECT if cut else Trigger.REMOTE_RECONNECT
        self.do(cmd.SwitchSupply(self.clock, "A01", trigger, "operator"))

    @rule(back_s=st.integers(-(10**5), 2 * 10**5), quality=st.sampled_from(ClockQuality))
    def clock_step(self, back_s: int, quality: ClockQuality) -> None:
        before, self.now = self.now, max(1_704_100_000, self.now - back_s)
        self.site.elapsed_offset_s += before - self.now
        self.site.quality = quality

    # --- what must hold ---

    @invariant()
    def every_nano_is_where_the_events_say(self) -> None:
        for event in self.site.events[self.seen :]:
            self.follow(event)
        self.seen = len(self.site.events)
        account = self.site.state.accounts.get("A01")
        if account is None:
            return
        assert account.money_nano == self.money
        assert {kind.value: account.debts.amount_nano(kind) for kind in DebtKind} == {
            kind.value: self.debts.get(kind.value, 0) for kind in DebtKind
        }
        assert min(self.debts.values(), default=0) >= 0
        assert account.reserved_nano == self.reserved >= 0
        assert all(state.left_nano >= 0 for state in account.grants.values())
        assert sum(line.amount_nano for line in account.charged) == account.estimate_nano
        terms, used = account.policy.credit, account.emergency.used_nano
        assert used >= 0
        assert used == 0 or account.emergency.invoked
        live = account.recorded_live_nano
        assert emergency_used(terms, account.emergency.invoked, live, account.threshold_nano) >= 0

    def follow(self, event: Any) -> None:
        """The books of this test: one line for each kind of event that moves anything."""
        if hasattr(event, "posting_nano"):
            self.money += event.posting_nano
            assert event.balance_nano == self.money
        match event:
            case ev.PaymentApplied():
                assert event.payment_id not in self.paid
                assert event.posting_nano == event.amount_nano > 0
                self.paid[event.payment_id] = self.given[event.payment_id] = event.amount_nano
            case ev.PaymentAllocated():
                self.allocated(event, -1)
                credit = event.below_threshold_nano + event.emergency_nano + event.token_nano
                assert credit - event.posting_nano == event.amount_nano == self.paid[event.payment_id]
            case ev.PaymentReversed():
                self.paid[event.payment_id] += event.posting_nano
                assert self.paid[event.payment_id] >= 0
            case ev.AllocationReversed():
                self.allocated(event, 1)
            case ev.DebtSet():
                self.owe(event.debt, event.change_nano)
            case ev.InstalmentDue():
                self.owe("old", -event.change_nano)
                self.owe("accumulated", event.change_nano)
            case ev.DailyChargePosted():
                self.owe("accumulated", event.accumulated_nano)
                if event.charge != "standing":
                    self.owe(event.charge, -event.amount_nano)
                assert event.accumulated_nano - event.posting_nano == event.amount_nano > 0
            case ev.ReservedCreditMoved():
                self.reserved += event.change_nano
                assert event.change_nano == -event.posting_nano
            case ev.PurchaseOrderApplied():
                assert event.number not in self.orders
                self.orders[event.number] = event.value_nano
            case ev.TenantChanged():
                self.debts, self.reserved = {}, 0
            case ev.DisconnectControlChanged() if event.trigger == "local_disconnect":
                self.cut(event)
            case _:
                pass

    def owe(self, debt: str, change_nano: int) -> None:
        self.debts[debt] = self.debts.get(debt, 0) + change_nano

    def allocated(self, event: Any, sign: int) -> None:
        parts = (event.payment_debt_nano, event.accumulated_debt_nano, event.old_debt_nano)
        assert min(parts) >= 0
        assert sum(parts) * sign == event.posting_nano
        for debt, part in zip(("payment", "accumulated", "old"), parts, strict=True):
            self.owe(debt, sign * part)

    def cut(self, event: Any) -> None:
        account = self.site.state.accounts["A01"]
        limit = account.policy.credit.emergency_limit_nano if account.emergency.invoked else 0
        assert event.live_balance_nano < account.threshold_nano - limit
        assert account.mode is PaymentMode.PREPAYMENT

    def teardown(self) -> None:
        self.happened.update(type(event).__name__ for event in self.site.events)
        replayed = reduce(apply, self.site.events, State())
        assert replayed == self.site.state
        charges = [event for event in self.site.events if isinstance(event, ev.DailyChargePosted)]
        spans = [(event.name, event.first_day, event.count) for event in charges if event.name != "line"]
        days = [(name, day) for name, first, count in spans for day in range(first, first + count)]
        assert len(days) == len(set(days))  # each day is charged once
        payments = [event.payment_id for event in self.site.events if isinstance(event, ev.PaymentApplied)]
        assert len(payments) == len(set(payments))
        for event in self.site.events:
            if isinstance(event, ev.DisconnectControlChanged) and event.control_state == "connected":
                assert event.trigger != "local_disconnect"
        assert all(isinstance(account.control_state, ControlState) for account in replayed.accounts.values())


def test_money_and_debts_are_conserved_in_every_life_of_an_account(make_site: Any, document: Any, at: Any) -> None:
    made = document(
        standing_charges=[
            {"name": "daily", "amount": "0.31", "per": "day"},
            {"name": "line", "amount": "1.5", "per": "month"},
        ],
        minimum_bill={"amount": "0.9", "per": "day"},
    )

    class Here(Life):
        make = staticmethod(lambda: (make_site(made), at("2024-04-01T10:00"), 1000))

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=settings().max_examples + 20,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=checks,
        ),
    )
    assert Life.happened["PaymentApplied"] > Life.happened["AccountOpened"] > 0
    assert Life.happened["DailyChargePosted"] > 0


def test_a_life_with_everything_in_it_is_conserved_too(make_site: Any, document: Any, at: Any) -> None:
    standing = [{"name": "daily", "amount": "0.31", "per": "day"}]
    made = document(standing_charges=standing, minimum_bill={"amount": "0.9", "per": "day"})

    class Here(Life):
        make = staticmethod(lambda: (make_site(made), at("2024-04-01T10:00"), 1000))

    life = Here()
    terms = CreditTerms(
        emergency_limit_nano=MoneyNano(NANO),
        emergency_threshold_nano=MoneyNano(2 * NANO),
        accumulate_below_threshold=True,
        old_debt_share=2500,
    )
    policy = replace(Policy(), legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, credit=terms, issue_day=15)
    story: list[tuple[Any, ...]] = [
        (life.opened, policy, 5),
        (life.debt, DebtKind.TIME_1, 9 * NANO, 0, None, NANO // 3),
        (life.owes_and_pays, DebtKind.PAYMENT, 5 * NANO, 10),
        (life.owes_and_pays, DebtKind.OLD, 5 * NANO, 10),
        (life.instalments, 100, [1, 2]),
        (life.nights, 4, 5000),
        (life.owes_and_pays, DebtKind.ACCUMULATED, 5 * NANO, 10),
        (life.takes_back, 0, 100),
        (life.takes_back, 0, 1),
        (life.payment, 0, 1, 0, 0, False),
        (life.reserve, NANO // 9),
        (life.lives_on_emergency_credit, 100),
        (life.nights, 1, 9000),
        (life.nights, 1, 9000),
        (life.order, 1, OrderOperation.REFRESH, CreditUnit.MONEY, 3 * NANO, None, 10),
        (life.order, 1, OrderOperation.REFRESH, CreditUnit.MONEY, 3 * NANO, None, 10),
        (life.nights, 4, 10),
        (life.nights, 4, 10),
        (life.tenant, 1, 5, 10),
    ]
    for act, *arguments in story:
        act(*arguments)
        life.every_nano_is_where_the_events_say()
    life.teardown()
    assert {type(event).__name__ for event in life.site.events} >= SOMETIMES


@pytest.mark.parametrize("kind", list(DebtKind))
def test_the_books_of_this_test_notice_a_nano_that_is_lost(make_site: Any, document: Any, at: Any, kind: Any) -> None:
    class Here(Life):
        make = staticmethod(lambda: (make_site(document()), at("2024-04-01T10:00"), 1000))

    life = Here()
    life.opened(Policy(), 5)
    life.debt(kind, NANO, 0, None, 0)
    life.every_nano_is_where_the_events_say()
    life.owe(kind.value, 1)
    with pytest.raises(AssertionError):
        life.every_nano_is_where_the_events_say()
