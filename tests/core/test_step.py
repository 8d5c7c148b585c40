"""edge.core.step, ledger, boundary and credit: replay, conservation, freezes, bills, holds, payments, orders."""

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State, changed
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.effects import SetOutputState
from edge.core.ledger import apply
from edge.core.policy import Policy
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
NEVER = replace(Policy(), reserve_days=0, grace_hours=10**6)


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


# --- the balance ------------------------------------------------------------------------------


def test_presettle_basic_live_balance_runs_from_the_issue_reading(site: Any, at: Any) -> None:
    site.open(at("2024-04-01T00:00"), 12_345_670, 100 * NANO, NEVER)
    site.round(at("2024-04-06T00:00"), 12_401_230)
    figures = site.last.figures["A01"]
    assert (figures.estimate_nano, figures.live_nano) == (28_335_600_000, 71_664_400_000)


def test_settle_replaces_estimate_the_balance_is_the_same_before_and_after(site: Any, at: Any) -> None:
    site.open(at("2024-04-01T00:00"), 5_000_000, 200 * NANO, NEVER)
    site.round(at("2024-04-30T23:59:59"), 5_300_000)
    assert site.last.figures["A01"].live_nano == 30_500_000_000
    events = site.round(at("2024-05-01T00:00:30"), 5_300_000)
    (bill,) = of(events, ev.BillIssued)
    account = site.state.accounts["A01"]
    assert (bill.bill_minor, bill.energy_wh, bill.days) == (16_950, 300_000, 30)
    assert (account.money_nano, account.estimate_nano) == (30_500_000_000, 0)
    assert account.issue == Register(at("2024-05-01T00:00"), WattHours(5_300_000))
    assert site.last.figures["A01"].live_nano == 30_500_000_000
    assert of(events, ev.RoundingPosted) == []


def test_hlj_telescoping_the_bill_is_rounded_once_and_rounding_is_its_own_line(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, NEVER)
    for day in range(1, 31):
        site.round(start + day * 86_400, day * 10_007)
    (bill,) = of(site.events, ev.BillIssued)
    (rounding,) = of(site.events, ev.RoundingPosted)
    assert (bill.amount_nano, bill.bill_minor) == (169_670_100_000, 16_967)
    assert bill.posting_nano + rounding.posting_nano == -169_670_000_000
    assert site.state.accounts["A01"].money_nano == -169_670_000_000


@pytest.mark.parametrize(("issue_day", "billed"), [(0, "2024-05-01T00:00"), (15, "2024-04-16T00:00")])
def test_the_bill_is_issued_at_the_end_of_the_policys_day(site: Any, at: Any, issue_day: int, billed: str) -> None:
    start = at("2024-04-10T00:00")
    site.open(start, 0, 0, replace(NEVER, issue_day=issue_day))
    for day in range(1, 30):
        site.round(start + day * 86_400, day * 1000)
    assert [event.at for event in of(site.events, ev.BillIssued)] == [at(billed)]


def test_blocks_run_on_regardless_of_the_issue_and_start_anew_with_the_month(site: Any, at: Any) -> None:
    site.open(at("2024-04-10T00:00"), 0, 0, replace(NEVER, issue_day=15))
    site.round(at("2024-04-15T12:00"), 160_000)
    site.round(at("2024-04-16T00:00"), 160_000)
    site.round(at("2024-04-20T00:00"), 180_000)  # crosses 170 kWh although the bill was issued at 160
    april = site.state.accounts["A01"]
    assert april.estimate_nano == 10_000 * 510_000 + 10_000 * 560_000
    site.round(at("2024-05-01T00:00"), 180_000)
    site.round(at("2024-05-02T00:00"), 181_000)
    assert site.state.accounts["A01"].estimate_nano - april.estimate_nano == 1000 * 510_000


# --- midnight -----------------------------------------------------------------------------------


def test_freeze_interpolated_between_the_samples_around_midnight(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T12:00"), 1_070_000, 0, NEVER)
    site.round(at("2024-04-08T23:50"), 1_079_800)
    events = site.round(at("2024-04-09T00:10"), 1_080_200)
    (frozen,) = of(events, ev.RegisterFrozen)
    assert (frozen.at, frozen.register_wh, frozen.quality) == (at("2024-04-09T00:00"), 1_080_000, "interpolated")


def test_the_sample_before_midnight_is_used_although_it_was_never_recorded(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T23:30"), 1000, 0, NEVER)
    before = Register(UnixSeconds(at("2024-04-08T23:59:30")), WattHours(1500))
    (frozen,) = of(site.round(at("2024-04-09T00:14"), 1600, before=before), ev.RegisterFrozen)
    assert (frozen.register_wh, frozen.quality) == (1500, "gateway_sample")


def test_an_outage_of_days_freezes_every_midnight_of_it(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    events = site.round(at("2024-04-11T00:00"), 3000)
    frozen = of(events, ev.RegisterFrozen)
    assert [event.at for event in frozen] == [at(f"2024-04-{day:02}T00:00") for day in (9, 10, 11)]
    assert [event.register_wh for event in frozen] == [1000, 2000, 3000]


def test_energy_is_never_lost_at_a_freeze_wherever_the_samples_fall(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    register = 0
    for step in range(1, 200):
        register += step * 7 % 301
        site.round(at("2024-04-08T00:00") + step * 5077, register, record=step % 3 == 0)
    account = site.state.accounts["A01"]
    billed = sum(sum(line.energy_wh for line in event.lines) for event in of(site.events, ev.BillIssued))
    assert billed + account.energy_since_issue_wh == account.recorded.register_wh


# --- what the register may do ----------------------------------------------------------------------


def test_a_falling_register_charges_and_refunds_nothing_and_is_held(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 12_345_670, 5 * NANO, NEVER)
    site.round(at("2024-04-08T01:00"), 12_345_670)
    events = site.round(at("2024-04-08T02:00"), 12_340_000, confirmed=True)
    (held,) = of(events, ev.HoldRaised)
    assert (held.reason, held.recorded_wh, held.seen_wh) == ("register_regression", 12_345_670, 12_340_000)
    assert site.last.figures["A01"].live_nano == 5 * NANO
    recovered = site.round(at("2024-04-08T03:00"), 12_345_680)
    assert of(recovered, ev.HoldCleared)[0].reason == "register_recovered"
    assert site.state.accounts["A01"].estimate_nano == 10 * 510_000


def test_an_unconfirmed_fall_is_only_not_believed(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 1000, 0, NEVER)
    assert of(site.round(at("2024-04-08T01:00"), 900), ev.HoldRaised) == []
    assert site.state.accounts["A01"].recorded.register_wh == 1000


def test_more_than_physics_allows_is_held_and_not_charged(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    events = site.round(at("2024-04-08T01:00"), 25_000, confirmed=True, power_w_max=20_000)
    assert of(events, ev.HoldRaised)[0].reason == "register_jump"
    assert site.state.accounts["A01"].estimate_nano == 0


def test_a_person_accepts_a_held_register_and_the_gap_is_not_charged(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 5000, 0, NEVER)
    site.round(at("2024-04-08T01:00"), 100, confirmed=True)
    clock = site.clock(at("2024-04-08T02:00"))
    (cleared,) = site.do(cmd.ClearHold(clock, "A01", Register(clock.at, WattHours(100)), "technician-7"))
    assert cleared.uncharged_wh == -4900
    site.round(at("2024-04-08T03:00"), 150)
    assert site.state.accounts["A01"].estimate_nano == 50 * 510_000


def test_reg_rollover_goes_on_where_the_meter_starts_over(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 999_995_100, 0, NEVER)
    site.round(at("2024-04-09T00:00"), 3_250, power_w_max=400_000 // 24, modulus_wh=1_000_000_000)
    account = site.state.accounts["A01"]
    assert account.recorded.register_wh == 1_000_003_250
    assert account.estimate_nano == 8_150 * 510_000
    site.round(at("2024-04-10T00:00"), 3_350, modulus_wh=1_000_000_000)
    assert site.state.accounts["A01"].energy_since_issue_wh == 8_250


# --- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [ClockQuality.UNSET, ClockQuality.FLOOR])
@pytest.mark.parametrize("wall", ["1970-01-01T08:00", "2106-02-07T00:00"])
def test_an_untrusted_clock_charges_the_energy_and_passes_no_midnight(
    site: Any, at: Any, quality: Any, wall: Any
) -> None:
    site.open(at("2024-04-08T12:00"), 0, 0, NEVER)
    site.quality = quality
    events = site.round(at(wall), 700)
    assert of(events, ev.RegisterFrozen) == []
    assert site.state.accounts["A01"].recorded == Register(at("2024-04-08T12:00"), WattHours(700))
    assert site.state.accounts["A01"].estimate_nano == 700 * 510_000


def test_a_clock_set_back_forty_days_charges_every_watt_hour_once(site: Any, at: Any) -> None:
    site.open(at("2024-05-08T12:00"), 0, 0, NEVER)
    site.round(at("2024-05-20T12:00"), 10_000)
    site.round(at("2024-04-10T12:00"), 11_000)
    site.round(at("2024-05-20T13:00"), 12_000)
    account = site.state.accounts["A01"]
    assert account.energy_since_issue_wh == account.recorded.register_wh == 12_000


# --- money -------------------------------------------------------------------------------------------


def test_pay_duplicate_the_payment_id_is_the_key(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, -3 * NANO, NEVER)
    now = at("2024-04-08T01:00")
    results = [site.pay(now, 20 * NANO, name) for name in ("tx-77", "tx-77", "tx-78")]
    assert [bool(of(events, ev.PaymentApplied)) for events in results] == [True, False, True]
    assert of(results[1], ev.PaymentRefused)[0].reason == "duplicate"
    assert site.state.accounts["A01"].money_nano == 37 * NANO


def test_a_cid_that_was_answered_leads_to_nothing_more(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    now = at("2024-04-08T01:00")
    assert site.pay(now, NANO, "tx-1", cid="c-1")
    assert site.pay(now, NANO, "tx-2", cid="c-1") == []
    assert site.state.applied == {"c-1": "applied"}


def test_one_payment_id_under_two_cids_is_refused_with_a_stored_result(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    now = at("2024-04-08T01:00")
    site.pay(now, NANO, "tx-1", cid="c-1")
    site.pay(now, NANO, "tx-1", cid="c-2", door="voucher")
    assert site.state.applied == {"c-1": "applied", "c-2": "rejected:duplicate"}
    assert site.state.accounts["A01"].money_nano == NANO


@pytest.mark.parametrize(
    ("account_id", "amount_nano", "reason"),
    [
        ("A99", NANO, "unknown_account"),
        ("A01", 0, "amount"),
        ("A01", -NANO, "amount"),
        ("A01", Policy().payment_nano_max + 1, "above_limit"),
    ],
)
def test_limits_refuse_and_never_clip(site: Any, at: Any, account_id: Any, amount_nano: Any, reason: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    events = site.pay(at("2024-04-08T01:00"), amount_nano, account_id=account_id)
    assert [event.reason for event in of(events, ev.PaymentRefused)] == [reason]
    assert site.state.accounts["A01"].money_nano == 0


def test_the_limit_itself_is_allowed(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    assert of(site.pay(at("2024-04-08T01:00"), Policy().payment_nano_max), ev.PaymentApplied)


def test_a_reversal_takes_the_money_back_and_cuts_nothing(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, Policy())
    now = at("2024-04-08T01:00")
    site.pay(now, 10 * NANO, "tx-1")
    site.do(cmd.ReversePayment(site.clock(now), "tx-1", MoneyNano(10 * NANO), "c-9", ("ops-1", "ops-2")))
    site.round(now + 60, 0)
    account = site.state.accounts["A01"]
    assert (account.money_nano, account.control_state) == (0, ControlState.CONNECTED)
    unknown = site.do(cmd.ReversePayment(site.clock(now), "tx-2", MoneyNano(NANO), "c-10", ("ops-1", "ops-2")))
    assert of(unknown, ev.OrderRefused)[0].reason == "unknown_payment"


# --- cut and restore ----------------------------------------------------------------------------------


@pytest.fixture
def cut(site: Any, at: Any) -> Any:
    """Cut at 08:00 on 16 April with 10.00 owed."""
    site.open(at("2024-04-13T00:00"), 0, -10 * NANO, Policy())
    for moment, number in (("2024-04-13T07:00", 2), ("2024-04-16T07:00", 3)):
        site.round(at(moment), 0)
        site.receipt(at(moment), number)
    site.round(at("2024-04-16T08:00"), 0)
    assert site.state.accounts["A01"].control_state is ControlState.READY_FOR_RECONNECTION
    return site


def wanted(site: Any) -> bool:
    (effect,) = [effect for effect in site.last.effects if isinstance(effect, SetOutputState)]
    return effect.connected


def test_the_wish_is_repeated_every_round_and_follows_the_control_state(cut: Any, at: Any) -> None:
    assert wanted(cut) is False
    cut.round(at("2024-04-16T09:00"), 0)
    assert wanted(cut) is False
    cut.pay(at("2024-04-16T09:30"), 10 * NANO)
    assert wanted(cut) is True


@pytest.mark.parametrize(("amount", "restored"), [(10 * NANO - 1, False), (10 * NANO, True)])
def test_zero_is_enough_and_a_nano_less_is_not(cut: Any, at: Any, amount: int, restored: bool) -> None:
    cut.pay(at("2024-04-16T09:00"), amount)
    assert wanted(cut) is restored


def test_energy_since_the_freeze_counts_before_a_restore(cut: Any, at: Any) -> None:
    now = at("2024-04-16T09:00")
    cut.pay(now, 10 * NANO, sample=cut.sample(now, 10))
    assert wanted(cut) is False
    cut.pay(now, 10 * 510_000, "P2", sample=cut.sample(now, 10))
    assert wanted(cut) is True


def test_a_top_up_does_not_undo_an_operators_cut(cut: Any, at: Any) -> None:
    now = at("2024-04-16T09:00")
    cut.do(cmd.SwitchSupply(cut.clock(now), "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1))
    cut.pay(now + 60, 500 * NANO)
    cut.round(now + 120, 0)
    assert cut.state.accounts["A01"].control_state is ControlState.DISCONNECTED
    assert wanted(cut) is False
    cut.do(cmd.SwitchSupply(cut.clock(now + 180), "A01", Trigger.REMOTE_RECONNECT, "operator", "c-2", 2))
    assert wanted(cut) is True


def test_an_operators_restore_leaves_an_unpaid_cut_in_force(cut: Any, at: Any) -> None:
    now = at("2024-04-16T09:00")
    cut.do(cmd.SwitchSupply(cut.clock(now), "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1))
    cut.do(cmd.SwitchSupply(cut.clock(now), "A01", Trigger.REMOTE_RECONNECT, "operator", "c-2", 2))
    cut.round(now + 60, 0)
    assert cut.state.accounts["A01"].control_state is ControlState.READY_FOR_RECONNECTION
    assert wanted(cut) is False


def test_a_key_press_never_reconnects_an_unpaid_customer(cut: Any, at: Any) -> None:
    cut.do(cmd.SwitchSupply(cut.clock(at("2024-04-16T09:00")), "A01", Trigger.MANUAL_RECONNECT, "key"))
    assert wanted(cut) is False


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"account_id": "A99"}, "unknown_account"),
        ({"expires_at": 1}, "expired"),
        ({"supply_version": 0}, "superseded"),
        ({"trigger": Trigger.REMOTE_RECONNECT}, "no_transition"),
    ],
)
def test_remote_orders_are_refused_with_their_reason_as_stored_result(
    site: Any, at: Any, change: Any, reason: Any
) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-08T01:00"))
    order = cmd.SwitchSupply(clock, "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1)
    events = site.do(replace(order, **change))
    assert of(events, ev.OrderRefused)[0].reason == reason
    assert site.state.applied["c-1"] == f"rejected:{reason}"
    assert site.state.accounts["A01"].control_state is ControlState.CONNECTED


def test_an_expirable_order_is_refused_while_the_clock_is_not_trusted(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    site.quality = ClockQuality.UNSET
    clock = site.clock(at("2024-04-08T01:00"))
    order = cmd.SwitchSupply(clock, "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1, UnixSeconds(clock.at + 60))
    assert of(site.do(order), ev.OrderRefused)[0].reason == "clock"


@pytest.mark.parametrize("protects", ["protected", "keep_supply"])
def test_protected_and_kept_supply_refuse_an_operators_cut(site: Any, at: Any, protects: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER, protected=protects == "protected")
    clock = site.clock(at("2024-04-08T01:00"))
    if protects == "keep_supply":
        site.do(cmd.KeepSupply(clock, "A01", True, "c-0", 1))
    site.do(cmd.SwitchSupply(clock, "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 2))
    assert site.state.applied["c-1"] == f"rejected:{protects}"
    assert wanted(site) is True


def test_a_payment_never_cuts_even_when_the_cut_is_due(site: Any, at: Any) -> None:
    site.open(at("2024-04-13T00:00"), 0, -10 * NANO, Policy())
    for moment, number in (("2024-04-13T07:00", 2), ("2024-04-16T07:00", 3)):
        site.round(at(moment), 0)
        site.receipt(at(moment), number)
    now = at("2024-04-16T08:00")
    events = site.pay(now, NANO, sample=site.sample(now, 0))
    assert of(events, ev.DisconnectControlChanged) == []


def test_a_relay_read_back_is_an_event_only_when_it_changes(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-08T01:00"))
    seen = [site.do(cmd.ObserveOutputState(clock, "A01", closed)) for closed in (True, True, False)]
    assert [len(events) for events in seen] == [1, 0, 1]
    assert (seen[2][0].connected, seen[2][0].wanted) == (False, True)


def test_the_site_books_terms_take_over_and_a_customer_protected_late_is_not_cut(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-08T01:00"))
    assert site.do(cmd.ChangeTerms(clock, "A01", NEVER, False)) == []
    assert len(site.do(cmd.ChangeTerms(clock, "A01", Policy(), True))) == 1
    site.do(cmd.SwitchSupply(clock, "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1))
    assert site.state.applied["c-1"] == "rejected:protected"
    assert site.state.accounts["A01"].policy == Policy()


def test_a_round_in_which_nothing_is_decided_writes_nothing_while_a_customer_is_cut(cut: Any, at: Any) -> None:
    for minute in range(1, 60):
        assert cut.round(at("2024-04-16T08:00") + minute * 60, 0, record=False) == []


# --- tariffs -------------------------------------------------------------------------------------------


def test_tariff_change_mid_month_keeps_the_block_position(make_site: Any, document: Any, at: Any) -> None:
    dearer = {"base_by_period": {"all": "0.02"}, "adder_by_block": ["0.51", "0.56", "0.81"]}
    site = make_site(document(), document(version=2, prices=dearer))
    site.open(at("2024-04-01T00:00"), 1_000_000, 0, NEVER)
    clock = site.clock(at("2024-04-02T00:00"))
    site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))
    effective_at = UnixSeconds(at("2024-04-16T00:00"))
    site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", effective_at, cid="c-1"))
    site.round(at("2024-04-16T00:00"), 1_100_000)
    assert site.state.accounts["A01"].estimate_nano == 51_000_000_000
    assert site.state.accounts["A01"].tariff == "cn-hlj@2"
    assert site.state.pending_tariffs == ()
    events = site.round(at("2024-05-01T00:00"), 1_180_000)
    (bill,) = of(events, ev.BillIssued)
    assert bill.amount_nano == 93_900_000_000


def test_a_change_between_two_readings_splits_the_energy_by_seconds(make_site: Any, document: Any, at: Any) -> None:
    dearer = {"base_by_period": {"all": "0.02"}, "adder_by_block": ["0.51", "0.56", "0.81"]}
    site = make_site(document(), document(version=2, prices=dearer))
    site.open(at("2024-04-15T06:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-15T06:00"))
    site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))
    site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", UnixSeconds(at("2024-04-15T14:00")), cid="c-1"))
    events = site.round(at("2024-04-15T18:00"), 6_000)
    (frozen,) = of(events, ev.RegisterFrozen)
    assert (frozen.occasion, frozen.register_wh, frozen.quality) == ("tariff_change", 4_000, "interpolated")
    assert site.state.accounts["A01"].estimate_nano == 4_000 * 510_000 + 2_000 * 530_000


def test_a_stored_version_of_a_tariff_is_never_another_document(site: Any, at: Any) -> None:
    clock = site.clock(at("2024-04-08T00:00"))
    assert len(site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))) == 1
    assert site.do(cmd.AcceptTariff(clock, "cn-hlj@2", '{"other": 1}')) == []
    assert site.state.tariffs["cn-hlj@2"] == "{}"


def test_an_unknown_tariff_is_not_scheduled(site: Any, at: Any) -> None:
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-08T01:00"))
    events = site.do(cmd.ScheduleTariff(clock, "cn-hlj@9", clock.at, cid="c-1"))
    assert of(events, ev.OrderRefused)[0].reason == "unknown_tariff"


def test_a_tariff_does_not_take_effect_before_it_is_valid(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(), document(version=2, valid_from="2024-07-01"))
    site.open(at("2024-04-08T00:00"), 0, 0, NEVER)
    clock = site.clock(at("2024-04-08T01:00"))
    site.do(cmd.AcceptTariff(clock, "cn-hlj@2", "{}"))
    events = site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", UnixSeconds(at("2024-06-30T23:59")), cid="c-1"))
    assert of(events, ev.OrderRefused)[0].reason == "before_valid_from"
    assert of(site.do(cmd.ScheduleTariff(clock, "cn-hlj@2", UnixSeconds(at("2024-07-01")), cid="c-2")), ev.OrderApplied)


def test_no_account_is_opened_before_its_tariff_is_valid(make_site: Any, document: Any, at: Any) -> None:
    site = make_site(document(valid_from="2024-04-09"))
    assert site.open(at("2024-04-08T23:59")) == []
    assert site.open(at("2024-04-09T00:00"))


def test_a_leap_is_held_although_the_wall_was_set_back_over_the_record(site: Any, at: Any) -> None:
    """By the wall no time has passed since the record, by the boot an hour: 20 kW allow 20 kWh and no more."""
    start = at("2024-04-10T12:00")
    site.open(start, 1000, 100 * NANO)
    site.round(start + 900, 1500, clock=site.clock(start + 900))
    site.elapsed_offset_s = 40 * 86_400 + 3600
    now = start + 900 - 40 * 86_400
    site.round(now, 3_001_500, clock=site.clock(now), confirmed=True)
    account = site.state.accounts["A01"]
    assert (account.recorded.register_wh, account.hold.reason) == (1500, "register_jump")
    site.round(now + 60, 20_500, clock=site.clock(now + 60))
    assert site.state.accounts["A01"].recorded.register_wh == 20_500


def test_where_nobody_knows_how_long_a_leap_the_line_confirms_is_held(site: Any, at: Any) -> None:
    start = at("2024-04-10T12:00")
    site.open(start, 1000, 100 * NANO)
    site.boot_id, site.quality = "boot-2", ClockQuality.FLOOR
    site.round(start - 86_400, 500_000, confirmed=True)
    assert site.state.accounts["A01"].hold is not None
    site.round(start - 86_400 + 60, 400_000)  # the line has seen nothing odd: a day of it is possible
    assert site.state.accounts["A01"].recorded.register_wh == 400_000


def test_more_than_a_day_can_hold_waits_until_time_is_known_and_is_then_charged_whole(site: Any, at: Any) -> None:
    start = at("2024-04-10T12:00")
    site.open(start, 1000, 10_000 * NANO)
    site.boot_id, site.quality = "boot-2", ClockQuality.UNSET
    site.round(at("1970-01-02T00:00"), 2_000_000)
    account = site.state.accounts["A01"]
    assert (account.recorded.register_wh, account.hold) == (1000, None)
    site.quality = ClockQuality.NTP
    site.round(at("2024-04-20T12:00"), 2_000_000)
    assert site.state.accounts["A01"].recorded.register_wh == 2_000_000


def test_a_wall_weeks_ahead_after_a_power_cut_makes_no_leap_possible(site: Any, at: Any) -> None:
    """Forty days of 20 kW would explain it, if there had been forty days."""
    start = at("2024-04-10T12:00")
    site.open(start, 1000, 100 * NANO)
    site.round(start + 900, 1500, clock=site.clock(start + 900))
    site.boot_id, site.doubted, now = "boot-2", True, start + 40 * 86_400
    site.round(now, 3_001_500, clock=site.clock(now))
    assert site.state.accounts["A01"].recorded.register_wh == 1500
    site.round(now + 60, 1600, clock=site.clock(now + 60))
    account = site.state.accounts["A01"]
    assert (account.recorded.register_wh, account.hold) == (1600, None)


def test_a_leap_found_at_a_start_that_stays_is_held_and_told(site: Any, at: Any) -> None:
    """The line has nothing to compare its first reading with: two in a row that physics refuses are enough."""
    start = at("2024-04-10T12:00")
    site.open(start, 1000, 100 * NANO)
    site.boot_id = "boot-2"
    leap = Register(UnixSeconds(start + 3600), WattHours(3_000_000))
    assert not of(site.round(start + 3600, 3_000_000), ev.HoldRaised)
    (held,) = of(site.round(start + 3700, 3_000_010, before=leap), ev.HoldRaised)
    assert held.reason == "register_jump"
    site.round(start + 3800, 1500)
    account = site.state.accounts["A01"]
    assert (account.hold, account.recorded.register_wh) == (None, 1500)


def test_a_changed_account_is_what_replace_makes(site: Any, at: Any) -> None:
    site.open(at("2024-04-10T12:00"), 1000, 5)
    account = site.state.accounts["A01"]
    values = {"money_nano": 7, "hold": None, "episode": account.episode, "tariff": "t@2"}
    assert changed(account, **values) == replace(account, **values)
    assert changed(account) == account
    with pytest.raises(KeyError):
        changed(account, monny_nano=1)


# --- laws ------------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 200_000), st.integers(0, 4_000)),
        st.tuples(st.just("fall"), st.integers(1, 20_000), st.integers(1, 900)),
        st.tuples(st.just("pay"), st.integers(0, 3), st.integers(-5, 90)),
        st.tuples(st.just("receipt"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("operator"), st.booleans(), st.integers(1, 9)),
        st.tuples(st.just("step"), st.integers(-50 * 86_400, 50 * 86_400), st.sampled_from(ClockQuality)),
        st.tuples(st.just("boot"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


def play(site: Any, at: Any, moves: Any) -> None:
    now, register = at("2024-03-28T10:00"), 1000
    site.open(now, register, 20 * NANO, replace(Policy(), grace_hours=20))
    for index, (kind, first, second) in enumerate(moves):
        if kind == "read":
            now += first
            register += second
            site.round(now, register, record=index % 2 == 0, power_w_max=10**9)
        elif kind == "fall":
            now += first
            site.round(now, max(0, register - second), confirmed=True)
        elif kind == "pay":
            site.pay(now, second * NANO, f"P{first}-{second}", cid=f"c-{first}-{second}")
        elif kind == "receipt":
            site.receipt(now, first)
        elif kind == "operator":
            trigger = Trigger.REMOTE_DISCONNECT if first else Trigger.REMOTE_RECONNECT
            site.do(cmd.SwitchSupply(site.clock(now), "A01", trigger, "operator", f"s-{index}", second))
        elif kind == "step":
            now, site.quality = max(at("2024-01-02T00:00"), now + first), second
            site.elapsed_offset_s -= first
        else:
            site.boot_id, site.elapsed_offset_s = f"boot-{index}", at("2024-01-01T00:00") - now
    site.quality = ClockQuality.NTP
    site.round(now + 3600, register, power_w_max=10**9)


@settings(deadline=None)
@given(moves=MOVES)
def test_replay_gives_the_same_state_to_the_bit(make_site: Any, document: Any, at: Any, moves: Any) -> None:
    site = make_site(document())
    play(site, at, moves)
    assert reduce(apply, site.events, State()) == site.state


@settings(deadline=None)
@given(moves=MOVES)
def test_money_is_conserved_and_every_watt_hour_is_charged_once(
    make_site: Any, document: Any, at: Any, moves: Any
) -> None:
    site = make_site(document())
    play(site, at, moves)
    account = site.state.accounts["A01"]
    assert account.money_nano == sum(getattr(event, "posting_nano", 0) for event in site.events)
    balance = 0
    for event in site.events:
        if hasattr(event, "posting_nano"):
            balance += event.posting_nano
            assert event.balance_nano == balance
    billed = [line for event in of(site.events, ev.BillIssued) for line in event.lines]
    lines = [*billed, *account.charged]
    assert all(line.amount_nano == line.energy_wh * line.price_micro_per_kwh for line in lines)
    assert sum(line.energy_wh for line in lines) == account.recorded.register_wh - 1000
    assert sum(line.amount_nano for line in account.charged) == account.estimate_nano


@settings(deadline=None)
@given(moves=MOVES)
def test_nobody_is_cut_locally_with_credit_and_no_cut_comes_before_its_grace(
    make_site: Any, document: Any, at: Any, moves: Any
) -> None:
    site = make_site(document())
    play(site, at, moves)
    for event in of(site.events, ev.DisconnectControlChanged):
        if event.trigger == "local_disconnect":
            assert event.live_balance_nano < 0
        if event.trigger == "local_reconnect":
            assert event.local_reason is None
