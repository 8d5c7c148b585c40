"""edge.core.money and tenancy: change of tenant, modes that never cut, corrections, reserved credit, one payer."""

from dataclasses import replace
from functools import reduce
from typing import Any, get_args

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.credit_terms import CreditTerms, CreditUnit, PaymentMode
from edge.core.debt import DebtKind, Debts
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.emergency import EmergencyCredit
from edge.core.landlord import SPREAD_S_MAX, pooled_sample
from edge.core.ledger import apply
from edge.core.policy import LegalProfile, Policy
from edge.core.purchase_order import OrderOperation, PurchaseControl, PurchaseOrder
from edge.core.units import ClockQuality, MoneyNano, UnixSeconds, WattHours

NANO = 1_000_000_000
QUIET = replace(Policy(), reserve_days=0, grace_hours=10**6)
IMMEDIATE = replace(Policy(), legal_profile=LegalProfile.PREPAYMENT_IMMEDIATE, reserve_days=0)


def of(events: Any, kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def account(site: Any) -> Any:
    assert reduce(apply, site.events, State()) == site.state
    return site.state.accounts["A01"]


# --- every command -------------------------------------------------------------------------------


def every_command(clock: Any) -> list[Any]:
    order = PurchaseOrder(1, OrderOperation.APPEND, CreditUnit.MONEY, MoneyNano(NANO))
    return [
        cmd.SelectEmergencyCredit(clock, "A01"),
        cmd.SetDebt(clock, "A01", DebtKind.OLD, MoneyNano(NANO), "r"),
        cmd.AgreeInstalments(clock, "A01", "P", MoneyNano(NANO), ((20_000, 10_000),)),
        cmd.TakePurchaseOrder(clock, "A01", order),
        cmd.ChangeTenant(clock, "A01", "tenant-2"),
        cmd.ChangePaymentMode(clock, "A01", PaymentMode.CREDIT),
        cmd.PostCorrection(clock, "A01", MoneyNano(NANO), "led 17", "misread", ("key-1", "key-2")),
        cmd.MoveReservedCredit(clock, "A01", MoneyNano(NANO)),
    ]


def test_every_command_about_money_is_tried_here(site: Any, at: Any) -> None:
    tried = {type(command) for command in every_command(site.clock(at("2024-04-01T00:00")))}
    assert tried == set(get_args(cmd.MoneyCommand))


@pytest.mark.parametrize("index", range(8))
def test_each_is_answered_once_and_refused_for_an_account_nobody_has(site: Any, at: Any, index: int) -> None:
    now = at("2024-04-01T10:00")
    credit = CreditTerms(emergency_limit_nano=MoneyNano(NANO), emergency_threshold_nano=MoneyNano(9 * NANO))
    site.open(now, 0, 5 * NANO, replace(QUIET, credit=credit))
    site.do(cmd.SetDebt(site.clock(now), "A01", DebtKind.OLD, MoneyNano(2 * NANO), "r"))
    command = replace(every_command(site.clock(now + 60))[index], cid="c-1")
    (refused,) = site.do(replace(command, account_id="A99", cid="c-0"))
    assert refused.reason == "unknown_account"
    assert [event.result for event in of(site.do(command), ev.OrderApplied)] == ["applied"]
    before = site.state
    assert site.do(command) == []
    assert site.state == before
    account(site)


@pytest.mark.parametrize("index", range(8))
def test_none_of_them_ever_cuts(site: Any, at: Any, index: int) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, -NANO, IMMEDIATE)
    site.round(now, 0)
    command = replace(every_command(site.clock(now + 60))[index], sample=site.sample(now + 60, 5000))
    events = site.do(command)
    assert [event for event in of(events, ev.DisconnectControlChanged) if event.trigger == "local_disconnect"] == []
    assert account(site).control_state is ControlState.CONNECTED


# --- change of tenant ------------------------------------------------------------------------------


@pytest.fixture
def let(site: Any, at: Any) -> Any:
    """A tenant since 1 April with every kind of debt, a reserve, an order's thresholds and notices."""
    start = at("2024-04-01T00:00")
    credit = CreditTerms(emergency_limit_nano=MoneyNano(NANO), emergency_threshold_nano=MoneyNano(99 * NANO))
    site.open(start, 1000, 20 * NANO, replace(Policy(), credit=credit))
    for kind in DebtKind:
        site.do(cmd.SetDebt(site.clock(start), "A01", kind, MoneyNano(3 * NANO), "r"))
    site.do(cmd.MoveReservedCredit(site.clock(start), "A01", MoneyNano(2 * NANO)))
    order = PurchaseOrder(5, OrderOperation.APPEND, CreditUnit.MONEY, MoneyNano(NANO), MoneyNano(50 * NANO))
    site.do(cmd.TakePurchaseOrder(site.clock(start), "A01", order))
    site.do(cmd.SelectEmergencyCredit(site.clock(start), "A01"))
    site.pay(start + 60, NANO, "P1")
    site.round(at("2024-04-10T12:00"), 181_000)
    assert site.state.accounts["A01"].episode is not None
    return site


def change(site: Any, at: int, register_wh: int, tenant: str = "tenant-2", **changes: Any) -> list[Any]:
    command = cmd.ChangeTenant(site.clock(at), "A01", tenant, sample=site.sample(at, register_wh))
    return list(site.do(replace(command, **changes)))


def test_a_change_of_tenant_bills_up_to_the_reading_and_takes_a_snapshot(let: Any, at: Any) -> None:
    now = at("2024-04-10T15:00")
    debts, events = account(let).debts, change(let, now, 182_000, opening_nano=MoneyNano(7 * NANO))
    (bill,) = of(events, ev.BillIssued)
    (changed,) = of(events, ev.TenantChanged)
    assert (bill.at, bill.register_to_wh, bill.energy_wh) == (now, 182_000, 181_000)
    assert (changed.register_at, changed.register_wh, changed.former_tenant) == (now, 182_000, "")
    former = [getattr(changed, f"former_{name}_nano") for name in ("payment_debt", "time_1", "time_2", "accumulated")]
    assert former == [debts.payment.amount_nano, 3 * NANO, 3 * NANO, debts.accumulated_nano]
    assert (changed.former_old_debt_nano, changed.former_reserved_nano) == (3 * NANO, 2 * NANO)
    assert changed.former_balance_nano + changed.posting_nano == changed.balance_nano == 7 * NANO


def test_the_new_tenant_starts_with_nothing_of_the_former_one(let: Any, at: Any) -> None:
    change(let, at("2024-04-10T15:00"), 182_000)
    found = account(let)
    assert (found.tenant, found.tenancy, found.money_nano, found.estimate_nano) == ("tenant-2", 1, 0, 0)
    assert (found.debts, found.emergency, found.purchase) == (Debts(), EmergencyCredit(), PurchaseControl())
    assert (found.reserved_nano, found.mean_energy_wh, found.cycle_energy_wh) == (0, None, (0,))
    let.round(at("2024-04-11T00:00"), 183_000)
    assert account(let).estimate_nano == 1000 * 510_000  # in the first block again


def test_payment_ids_and_order_numbers_count_over_tenants(let: Any, at: Any) -> None:
    now = at("2024-04-10T15:00")
    change(let, now, 182_000)
    assert of(let.pay(now + 60, NANO, "P1"), ev.PaymentRefused)[0].reason == "duplicate"
    order = PurchaseOrder(5, OrderOperation.APPEND, CreditUnit.MONEY, MoneyNano(NANO))
    assert of(let.do(cmd.TakePurchaseOrder(let.clock(now), "A01", order)), ev.RequestRefused)[0].reason == "duplicate"


def test_a_payment_of_the_former_tenant_is_not_taken_from_the_new_one(let: Any, at: Any) -> None:
    now = at("2024-04-10T15:00")
    change(let, now, 182_000)
    let.do(cmd.ReversePayment(let.clock(now + 60), "P1", MoneyNano(NANO), "c-9", ("ops-1", "ops-2")))
    assert let.state.applied["c-9"] == "rejected:former_tenant"
    assert account(let).money_nano == 0


@pytest.mark.parametrize(("tenant", "reason"), [("", "tenant"), ("tenant-2", "tenant")])
def test_a_change_to_nobody_or_to_the_same_tenant_is_refused(let: Any, at: Any, tenant: str, reason: str) -> None:
    now = at("2024-04-10T15:00")
    change(let, now, 182_000)
    assert of(change(let, now + 60, 182_000, tenant), ev.RequestRefused)[0].reason == reason


def test_energy_charged_while_time_stood_still_is_the_former_tenants(site: Any, at: Any) -> None:
    start = at("2024-04-01T00:00")
    site.open(start, 0, 0, QUIET)
    site.quality = ClockQuality.UNSET
    events = change(site, start + 3600, 1000)
    assert of(events, ev.BillIssued)[0].energy_wh == 1000
    assert (account(site).money_nano, account(site).estimate_nano, account(site).charged) == (0, 0, ())


def test_no_tenant_leaves_on_a_register_nobody_believes(let: Any, at: Any) -> None:
    let.round(at("2024-04-10T14:00"), 5, confirmed=True)
    assert of(change(let, at("2024-04-10T15:00"), 5), ev.RequestRefused)[0].reason == "register_hold"


def test_a_supply_cut_for_the_former_tenants_debt_comes_back(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, -NANO, IMMEDIATE)
    for second in (0, 1):
        site.round(now + second, 0)
    assert account(site).control_state is ControlState.READY_FOR_RECONNECTION
    change(site, now + 60, 0)
    assert account(site).control_state is ControlState.CONNECTED


# --- modes --------------------------------------------------------------------------------------------


def set_mode(site: Any, at: int, mode: PaymentMode) -> list[Any]:
    return list(site.do(cmd.ChangePaymentMode(site.clock(at), "A01", mode)))


def test_in_credit_mode_nobody_is_cut_for_want_of_credit(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 0, IMMEDIATE)
    set_mode(site, now, PaymentMode.CREDIT)
    for hour in range(200):
        site.round(now + hour * 3600, hour * 100)
    assert account(site).control_state is ControlState.CONNECTED
    assert account(site).money_nano - account(site).estimate_nano < 0


def test_a_change_to_credit_mode_brings_back_a_supply_without_credit(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, -NANO, IMMEDIATE)
    for second in (0, 1):
        site.round(now + second, 0)
    assert account(site).control_state is ControlState.READY_FOR_RECONNECTION
    set_mode(site, now + 60, PaymentMode.CREDIT)
    assert account(site).control_state is ControlState.CONNECTED


def test_a_change_to_prepayment_below_zero_gives_the_grace_hours_before_any_cut(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, -NANO, IMMEDIATE)
    set_mode(site, now, PaymentMode.CREDIT)
    changed_at = now + 86_400
    set_mode(site, changed_at, PaymentMode.PREPAYMENT)
    for hour in range(72):
        site.round(changed_at + hour * 3600, 0)
        assert account(site).control_state is ControlState.CONNECTED
    site.round(changed_at + 72 * 3600, 0)
    assert account(site).control_state is ControlState.READY_FOR_RECONNECTION


def test_the_same_mode_again_changes_nothing(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 0, QUIET)
    assert of(set_mode(site, now, PaymentMode.PREPAYMENT), ev.PaymentModeChanged) == []
    assert account(site).mode_clock is None


def test_a_change_of_mode_does_not_undo_an_operators_cut(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 0, QUIET)
    site.do(cmd.SwitchSupply(site.clock(now), "A01", Trigger.REMOTE_DISCONNECT, "operator", "c-1", 1))
    set_mode(site, now + 60, PaymentMode.CREDIT)
    assert account(site).control_state is ControlState.DISCONNECTED


# --- corrections and reserved credit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount_nano": MoneyNano(0)}, "amount"),
        ({"reference": ""}, "reference"),
        ({"signed_by": ()}, "two_signatures"),
        ({"signed_by": ("key-1",)}, "two_signatures"),
        ({"signed_by": ("key-1", "key-1")}, "two_signatures"),
        ({"signed_by": ("key-1", "")}, "two_signatures"),
        ({"amount_nano": MoneyNano(QUIET.payment_nano_max + 1)}, "above_limit"),
        ({"amount_nano": MoneyNano(-QUIET.payment_nano_max - 1)}, "above_limit"),
    ],
)
def test_a_correction_needs_an_amount_a_record_and_two_signatures(site: Any, at: Any, change: Any, reason: str) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 0, QUIET)
    command = cmd.PostCorrection(site.clock(now), "A01", MoneyNano(-NANO), "led 17", "misread", ("key-1", "key-2"))
    assert of(site.do(replace(command, **change)), ev.RequestRefused)[0].reason == reason
    site.do(command)
    assert account(site).money_nano == -NANO


def test_a_correction_may_not_lift_the_balance_over_its_maximum(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 5 * NANO, replace(QUIET, credit=CreditTerms(balance_nano_max=MoneyNano(6 * NANO))))
    for extra, reason in ((1, ["above_maximum_balance"]), (0, [])):
        command = cmd.PostCorrection(site.clock(now), "A01", MoneyNano(NANO + extra), "led 17", "x", ("k1", "k2"))
        assert [event.reason for event in of(site.do(command), ev.RequestRefused)] == reason


@pytest.mark.parametrize(
    ("moves", "reserved", "money", "last"),
    [
        ((4,), 4, 6, None),
        ((10,), 10, 0, None),
        ((11,), 0, 10, "not_available"),
        ((4, -4), 0, 10, None),
        ((4, -5), 4, 6, "not_reserved"),
        ((0,), 0, 10, "amount"),
    ],
)
def test_reserved_credit_is_set_aside_and_given_back(
    site: Any, at: Any, moves: Any, reserved: int, money: int, last: str | None
) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 0, 10 * NANO, QUIET)
    reasons: list[str | None] = []
    for units in moves:
        events = site.do(cmd.MoveReservedCredit(site.clock(now), "A01", MoneyNano(units * NANO)))
        reasons.append(next((event.reason for event in of(events, ev.RequestRefused)), None))
    assert reasons[-1] == last
    assert (account(site).reserved_nano, account(site).money_nano) == (reserved * NANO, money * NANO)


# --- one payer, several meters ---------------------------------------------------------------------------


def sample_of(at: int, register_wh: int, **changes: Any) -> cmd.Sample:
    return replace(cmd.Sample("A01", UnixSeconds(at), WattHours(register_wh), power_w_max=10_000), **changes)


def test_the_pooled_register_rises_by_what_all_meters_count(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    first = pooled_sample("A01", [sample_of(now, 700), sample_of(now + 5, 50), sample_of(now + 9, 9_000)])
    assert first is not None
    assert (first.at, first.register_wh, first.power_w_max, first.step_wh) == (now + 9, 9_750, 30_000, 3)
    site.open(now + 9, 9_750, 0, QUIET)
    second: Any = pooled_sample(
        "A01", [sample_of(now + 900, 800), sample_of(now + 905, 50), sample_of(now + 909, 9_001)]
    )
    site.do(cmd.TakeRound(site.clock(now + 910), (second,), record=True))
    assert account(site).energy_since_issue_wh == 101


@pytest.mark.parametrize(("spread", "known"), [(SPREAD_S_MAX, True), (SPREAD_S_MAX + 1, False)])
def test_a_silent_meter_leaves_the_landlord_unread(at: Any, spread: int, known: bool) -> None:
    now = at("2024-04-01T10:00")
    pooled = pooled_sample("A01", [sample_of(now, 700), sample_of(now + spread, 50)])
    assert (pooled is not None) is known


def test_a_meter_that_goes_back_holds_the_landlords_account(site: Any, at: Any) -> None:
    now = at("2024-04-01T10:00")
    site.open(now, 1_500, 0, QUIET)
    pooled: Any = pooled_sample("A01", [sample_of(now + 900, 1_010), sample_of(now + 900, 0, confirmed=True)])
    events = site.do(cmd.TakeRound(site.clock(now + 900), (pooled,), record=True))
    assert of(events, ev.HoldRaised)[0].reason == "register_regression"


def test_a_meter_that_starts_over_is_followed_in_the_sum(site: Any, at: Any) -> None:
    now, modulus = at("2024-04-01T10:00"), WattHours(10**6)
    site.open(now, 999_990 + 500_000, 0, QUIET)
    used_wh = 0
    for quarter, registers in enumerate(((999_995, 500_005), (20, 500_010), (30, 500_040)), 1):
        moment = now + quarter * 900
        pooled = pooled_sample("A01", [sample_of(moment, wh, modulus_wh=modulus) for wh in registers])
        assert pooled is not None
        assert pooled.before is None
        site.do(cmd.TakeRound(site.clock(moment), (pooled,), record=True))
        used_wh = (registers[0] - 999_990) % 10**6 + registers[1] - 500_000
        assert account(site).energy_since_issue_wh == used_wh
    assert used_wh == 80


def test_meters_that_start_over_differently_have_no_common_modulus(at: Any) -> None:
    now = at("2024-04-01T10:00")
    before = Register(UnixSeconds(now), WattHours(5))
    samples = [sample_of(now + 900, 20, modulus_wh=WattHours(10**6)), sample_of(now + 900, 400)]
    pooled = pooled_sample("A01", [replace(sample, before=before) for sample in samples])
    assert pooled is not None
    assert (pooled.modulus_wh, pooled.before) == (None, Register(UnixSeconds(now), WattHours(10)))
    alone = pooled_sample("A01", [replace(samples[0], before=before, modulus_wh=None), samples[1]])
    assert alone is not None
    assert alone.before is None
