"""A life of notices, cuts and restores, move by move, against books of its own.

The books know no core: when notice 2 was handed over and how much time anybody could vouch for
since, who cut and who may undo it, and what the money is. Every move is checked against them.
"""

from collections import Counter
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import State
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.ledger import apply
from edge.core.policy import LoadLimit, NoticeProof, OfflinePolicy, Policy
from edge.core.supply_hold import SupplyHold, SupplyHoldKind
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds

NANO = 1_000_000_000
BOTH = ("ops-1", "ops-2")
GRACE_HOURS = 20
HOUR_S = 3600
POLICIES = (
    Policy(grace_hours=GRACE_HOURS),
    Policy(grace_hours=GRACE_HOURS, evaluate_at="freeze"),
    Policy(grace_hours=GRACE_HOURS, evaluate_at="06:00", load_limit=LoadLimit(3000, 60, 600)),
    Policy(grace_hours=GRACE_HOURS, notice_proof=NoticeProof.DEEMED_AFTER_HOURS, deemed_after_hours=5),
    Policy(grace_hours=GRACE_HOURS, offline=OfflinePolicy.KEEP, control_mode=4),
)


class SupplyMachine(RuleBasedStateMachine):
    """One customer. `new_site` comes from the test, because a machine gets no fixtures."""

    new_site: Any
    start_at: int
    reached: Counter[str]  # of all lives together

    @initialize(policy=st.sampled_from(POLICIES), protected=st.booleans(), in_arrears=st.booleans())
    def begin(self, policy: Policy, protected: bool, in_arrears: bool) -> None:
        self.site: Any = self.new_site()
        self.now, self.register = self.start_at, 1000
        self.orders = self.payments = self.boots = 0
        self.seen = 0  # events checked
        self.vouched_s: int | None = None  # since receipt of notice 2, at most; None: not handed over
        self.wall_step_s = 0  # since the last reading record: a restart cannot tell it from time that passed
        self.remote_cut = self.kept = False
        self.protected = protected
        self.holds: dict[SupplyHoldKind, int | None] = {}
        opening = -NANO if in_arrears else NANO
        self.site.open(self.now, self.register, opening, policy, protected=protected)
        if in_arrears:  # half of the lives begin where it gets serious
            self.days_pass(44, 0, handed_over=True)

    # --- moves ---

    @rule(seconds=st.integers(1, 90_000), energy_wh=st.integers(0, 9_000), record=st.booleans(), over=st.booleans())
    def time_passes(self, seconds: int, energy_wh: int, record: bool, over: bool) -> None:
        self.now += seconds
        self.register += energy_wh
        if self.vouched_s is not None:
            self.vouched_s += seconds
        over_s = 60 if over else 0
        if record:
            self.wall_step_s = 0
        self.site.round(self.now, self.register, record=record, power_w_max=10**9, power_over_s=over_s)

    @rule(
        half_hours=st.sampled_from([1, 4, 20, 44]),
        energy_wh=st.integers(0, 300),
        handed_over=st.sampled_from([True, True, True, False]),
    )
    def days_pass(self, half_hours: int, energy_wh: int, handed_over: bool) -> None:
        """Rounds every half hour, as on site; notices are handed over at once, or by nobody."""
        for _ in range(half_hours):
            self.time_passes(1800, energy_wh, True, False)
            for number in (1, 2, 3) if handed_over else ():
                self.receipt(number)
            self.books_agree()

    @rule()
    def look_again(self) -> None:
        self.site.round(self.now, self.register, record=False, power_w_max=10**9)

    @rule(number=st.integers(1, 3))
    def receipt(self, number: int) -> None:
        self.site.receipt(self.now, number)

    @rule(units=st.integers(-1, 9))
    def pay(self, units: int) -> None:
        self.payments += 1
        self.site.pay(self.now, units * NANO, f"P{self.payments}")

    @precondition(lambda self: self.payments > 0)
    @rule(units=st.integers(1, 9))
    def reverse(self, units: int) -> None:
        self.orders += 1
        payment_id = f"P{self.payments}"
        self.site.do(
            cmd.ReversePayment(self.site.clock(self.now), payment_id, MoneyNano(units * NANO), f"r{self.orders}", BOTH)
        )

    @rule(trigger=st.sampled_from([Trigger.REMOTE_DISCONNECT, Trigger.REMOTE_RECONNECT]))
    def operator(self, trigger: Trigger) -> None:
        self.orders += 1
        order = cmd.SwitchSupply(
            self.site.clock(self.now),
            "A01",
            trigger,
            "operator",
            f"o{self.orders}",
            self.orders,
            UnixSeconds(self.now + 60),
        )
        self.site.do(order)

    @rule(trigger=st.sampled_from([Trigger.MANUAL_RECONNECT, Trigger.MANUAL_DISCONNECT, Trigger.LOCAL_RECONNECT]))
    def hand(self, trigger: Trigger) -> None:
        self.site.do(cmd.SwitchSupply(self.site.clock(self.now), "A01", trigger, "key"))

    @rule(keep=st.booleans())
    def keep_supply(self, keep: bool) -> None:
        self.orders += 1
        self.site.do(cmd.KeepSupply(self.site.clock(self.now), "A01", keep, f"k{self.orders}", self.orders))
        self.kept = keep

    @rule(kind=st.sampled_from(SupplyHoldKind), stands=st.booleans(), hours=st.none() | st.integers(1, 50))
    def hold(self, kind: SupplyHoldKind, stands: bool, hours: int | None) -> None:
        until: Any = None if hours is None else self.now + hours * HOUR_S
        self.site.do(cmd.SetSupplyHold(self.site.clock(self.now), "A01", SupplyHold(kind, "x", until), stands))
        if stands:
            self.holds[kind] = until
        else:
            self.holds.pop(kind, None)

    @rule(seconds=st.integers(-3_000_000, 3_000_000))
    def wall_is_set(self, seconds: int) -> None:
        """The boot goes on: no time passes by it."""
        seconds = max(seconds, self.start_at - 20 * 86_400 - self.now)
        self.now += seconds
        self.wall_step_s += seconds
        self.site.elapsed_offset_s -= seconds

    @rule(quality=st.sampled_from(ClockQuality))
    def quality_changes(self, quality: ClockQuality) -> None:
        self.site.quality = quality

    @rule(seconds=st.integers(0, 9_000))
    def restart(self, seconds: int) -> None:
        """From the journal, with a monotonic clock that begins again."""
        self.boots += 1
        self.now += seconds
        if self.vouched_s is not None:
            self.vouched_s += seconds + max(0, self.wall_step_s)
        self.wall_step_s = 0
        self.site.boot_id = f"boot-{self.boots}"
        self.site.elapsed_offset_s = -(self.now - self.start_at)
        self.site.state = reduce(apply, self.site.events, State())

    # --- what must hold after each ---

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "site"):
            return
        for event in self.site.events[self.seen :]:
            self.check(event)
        self.seen = len(self.site.events)
        account = self.site.state.accounts["A01"]
        assert account.money_nano == sum(getattr(event, "posting_nano", 0) for event in self.site.events)
        assert (account.control_state is ControlState.DISCONNECTED) is self.remote_cut
        assert not (self.protected and account.control_state is not ControlState.CONNECTED)

    def teardown(self) -> None:
        if hasattr(self, "site"):
            assert reduce(apply, self.site.events, State()) == self.site.state

    def check(self, event: ev.Event) -> None:
        match event:
            case ev.NoticeDelivered(number=2):
                self.vouched_s = 0
            case ev.EpisodeClosed():
                self.vouched_s = None
            case ev.DisconnectControlChanged():
                self.switched(event)

    def switched(self, event: ev.DisconnectControlChanged) -> None:
        self.reached[f"{event.trigger} {event.reason}"] += 1
        opens = event.control_state != ControlState.CONNECTED.value
        if event.trigger == Trigger.LOCAL_DISCONNECT.value and event.reason == "no_credit":
            assert event.live_balance_nano is not None
            assert event.live_balance_nano < 0
            assert self.vouched_s is not None
            assert self.vouched_s >= GRACE_HOURS * HOUR_S - 1
            assert self.site.quality.trusted
            assert not [until for until in self.holds.values() if until is None or until > self.now]
        if opens and event.trigger in (Trigger.LOCAL_DISCONNECT.value, Trigger.MANUAL_DISCONNECT.value):
            assert not self.protected
            assert not self.kept
        if event.trigger == Trigger.REMOTE_DISCONNECT.value:
            self.remote_cut = True
        elif self.remote_cut:
            assert event.trigger == Trigger.REMOTE_RECONNECT.value
            self.remote_cut = False
        if event.trigger in (Trigger.LOCAL_RECONNECT.value, Trigger.MANUAL_RECONNECT.value):
            assert event.local_reason is None


@pytest.mark.timeout(200)
def test_no_life_breaks_a_rule_about_supply(make_site: Any, document: Any, at: Any) -> None:
    def new_site(_self: object) -> Any:
        return make_site(document())

    reached: Counter[str] = Counter()
    facts = {"new_site": new_site, "start_at": at("2024-04-02T10:00"), "reached": reached}
    machine = type("Machine", (SupplyMachine,), facts)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=3 * settings().max_examples, stateful_step_count=30, deadline=None, derandomize=True
        ),
    )
    assert reached["local_disconnect no_credit"], "no life got as far as a cut"


def test_a_life_gets_as_far_as_a_restore_under_the_same_rules(make_site: Any, document: Any, at: Any) -> None:
    facts = {"new_site": lambda _self: make_site(document()), "start_at": at("2024-04-02T10:00"), "reached": Counter()}
    life: Any = type("Machine", (SupplyMachine,), facts)()
    life.begin(POLICIES[0], protected=False, in_arrears=True)
    life.days_pass(44, 0, handed_over=True)
    life.pay(9)
    life.look_again()
    life.books_agree()
    assert life.reached["local_disconnect no_credit"] == 1
    assert life.reached["local_reconnect balance_restored"] == 1


def test_the_books_of_this_test_notice_a_cut_without_grace(
    make_site: Any, document: Any, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = type(
        "Machine",
        (SupplyMachine,),
        {"new_site": lambda _self: make_site(document()), "start_at": at("2024-04-02T10:00"), "reached": Counter()},
    )()
    machine.begin(replace(POLICIES[0], grace_hours=0, pre_cut_notice_minutes=0), protected=False, in_arrears=False)
    machine.time_passes(7200, 9_000, True, False)
    machine.books_agree()
    for number in (2, 3):
        machine.receipt(number)
        machine.look_again()
    with pytest.raises(AssertionError):
        machine.books_agree()
