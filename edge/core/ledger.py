"""What each event does to the state: `apply` never refuses and never rates again.

Replay is `reduce(apply, events, State())` and equals the state the gateway ran with; a fixed
tariff therefore does not rewrite history. Money in nano-currency, energy in Wh.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from edge.core import events as ev
from edge.core.account import (
    CUT_MEMORY_S,
    Account,
    Episode,
    Hold,
    Notice,
    Receipt,
    Register,
    State,
    StoredPolicy,
    changed,
    merge_lines,
)
from edge.core.credit_terms import IssueCycle
from edge.core.demand import DemandMeter, measured, unmeasured
from edge.core.disconnect_control import ControlState
from edge.core.frozen import quickly
from edge.core.late_charge import OpenBill, with_bill
from edge.core.money_ledger import (
    ACCOUNT_CHANGES,
    counted_on,
    receipt_allocated,
    receipt_of_purchase,
    receipt_taken_back,
)
from edge.core.notices import grace_elapsed, grace_recorded
from edge.core.purchase_order import order_key
from edge.core.rating import RatedLine
from edge.core.supply_hold import SupplyHold, SupplyHoldKind, with_hold
from edge.core.token import TokenEvent, apply_token
from edge.core.units import SECONDS_PER_DAY, FreezeQuality, MoneyNano, UnixSeconds, WattHours

_register = quickly(Register)


def apply(state: State, event: ev.Event) -> State:
    """The state after `event`."""
    return _APPLY[type(event)](state, event)


def _with(state: State, account: Account) -> State:
    if account.arrears_since is not None and account.money_nano >= -account.policy.overdraft_nano:
        account = replace(account, arrears_since=None)
    return replace(state, accounts={**state.accounts, account.account_id: account})


def _account_opened(state: State, event: ev.AccountOpened) -> State:
    register = Register(event.register_at, event.register_wh)
    account = Account(
        account_id=event.account,
        meter_id=event.meter,
        policy=event.policy,
        tariff=event.tariff,
        money_nano=event.balance_nano,
        issue=register,
        recorded=register,
        frozen=register,
        cycle_energy_wh=(0,) * event.positions,
        protected=event.protected,
        opened_at=event.register_at,
        contracted=event.contracted,
        meters=event.meters,
        demand=_demand_meter(None, event.demand_window_s),
    )
    return _with(state, account)


def _terms_changed(state: State, event: ev.TermsChanged) -> State:
    account = state.accounts[event.account]
    account = replace(account, policy=event.policy, protected=event.protected)
    return _with(state, replace(account, contracted=event.contracted, meters=event.meters))


def _demand_meter(meter: DemandMeter | None, window_s: int) -> DemandMeter | None:
    """The meter of demand under a tariff with these windows; one that measures by them already goes on."""
    if not window_s:
        return None
    return meter if meter is not None and meter.window_s == window_s else DemandMeter(window_s)


def _payment_applied(state: State, event: ev.PaymentApplied) -> State:
    account = replace(state.accounts[event.account], money_nano=event.balance_nano)
    receipt = Receipt(event.amount_nano, account.tenancy)
    state = _counted(_with(state, account), event.account, event.limit_day, event.amount_nano)
    return replace(
        state,
        payments={**state.payments, event.payment_id: event.account},
        receipts={**state.receipts, event.payment_id: receipt},
    )


def _counted(state: State, account_id: str, limit_day: int, amount_nano: int) -> State:
    """Counts what came in against the limits of a day, of the meter and of the gateway."""
    account = state.accounts[account_id]
    day, day_nano = counted_on(account.paid_day, account.paid_day_nano, limit_day, amount_nano)
    site_day, site_nano = counted_on(state.paid_day, state.paid_day_nano, limit_day, amount_nano)
    account = replace(account, paid_day=day, paid_day_nano=day_nano)
    return replace(_with(state, account), paid_day=site_day, paid_day_nano=site_nano)


def _payment_reversed(state: State, event: ev.PaymentReversed) -> State:
    receipt = state.receipts[event.payment_id]
    receipt = replace(receipt, reversed_nano=MoneyNano(receipt.reversed_nano - event.posting_nano))
    state = replace(state, receipts={**state.receipts, event.payment_id: receipt})
    return _with(state, replace(state.accounts[event.account], money_nano=event.balance_nano))


def _payment_allocated(state: State, event: ev.PaymentAllocated) -> State:
    receipt = receipt_allocated(state.receipts[event.payment_id], event)
    state = replace(state, receipts={**state.receipts, event.payment_id: receipt})
    return _account_changed(state, event)


def _allocation_reversed(state: State, event: ev.AllocationReversed) -> State:
    receipt = receipt_taken_back(state.receipts[event.payment_id], event)
    state = replace(state, receipts={**state.receipts, event.payment_id: receipt})
    return _account_changed(state, event)


def _energy_bought(state: State, event: ev.EnergyBought | ev.BoughtEnergyReturned) -> State:
    if event.payment_id:
        receipt = receipt_of_purchase(state.receipts[event.payment_id], event)
        state = replace(state, receipts={**state.receipts, event.payment_id: receipt})
    return _account_changed(state, event)


def _purchase_order_applied(state: State, event: ev.PurchaseOrderApplied) -> State:
    key = order_key(event.account, event.number)
    state = replace(state, purchase_orders={**state.purchase_orders, key: event.account})
    return _account_changed(_counted(state, event.account, event.limit_day, max(0, event.posting_nano)), event)


def _account_changed(state: State, event: Any) -> State:
    return _with(state, ACCOUNT_CHANGES[type(event)](state.accounts[event.account], event))


def _money_moved(state: State, event: ev.RoundingPosted) -> State:
    return _with(state, replace(state.accounts[event.account], money_nano=event.balance_nano))


def _register_frozen(state: State, event: ev.RegisterFrozen) -> State:
    account = state.accounts[event.account]
    register = Register(event.at, event.register_wh)
    daily, by_freeze = event.occasion == "daily", account.policy.evaluate_at == "freeze"
    account = changed(
        account,
        recorded=register,
        frozen=register if daily else account.frozen,
        **(_judged(event.estimate_nano, event.quality, event.at) if daily and by_freeze else {}),
        estimate_nano=event.estimate_nano,
        charged=merge_lines(account.charged, event.lines),
        cycle_energy_wh=event.cycle_energy_wh,
        cycle_start_at=event.cycle_start_at,
        consumed_nano=MoneyNano(account.consumed_nano + _amount_of(event.lines)),
        consumed_wh=WattHours(account.consumed_wh + _energy_of(event.lines)),
    )
    return _with(state, account)


def _amount_of(lines: tuple[RatedLine, ...]) -> int:
    return sum([line.amount_nano for line in lines])


def _energy_of(lines: tuple[RatedLine, ...]) -> int:
    return sum([line.energy_wh for line in lines])


def _bill_issued(state: State, event: ev.BillIssued) -> State:
    judged_nano = state.accounts[event.account].judged_estimate_nano
    account = replace(
        state.accounts[event.account],
        money_nano=event.balance_nano,
        issue=Register(event.at, event.register_to_wh),
        estimate_nano=event.estimate_nano,
        # The bill lies in the evaluation already, as far as it goes.
        judged_estimate_nano=None if judged_nano is None else MoneyNano(judged_nano - event.amount_nano),
        charged=(),
        arrears_since=state.accounts[event.account].arrears_since or event.at,
        mean_energy_wh=event.energy_wh,
        mean_days=event.days,
        standing_nano=MoneyNano(0),
        month_nano=MoneyNano(0),
        open_bills=_open_bills(state.accounts[event.account], event),
        bought=replace(state.accounts[event.account].bought, posted_nano=MoneyNano(0)),
    )
    before = state.accounts[event.account]
    if account.policy.credit.issue_cycle is IssueCycle.VEND and event.at - event.issued_from < SECONDS_PER_DAY:
        # Two payments in an hour say nothing about a mean day.
        account = replace(account, mean_energy_wh=before.mean_energy_wh, mean_days=before.mean_days)
    return _with(state, account)


def _open_bills(account: Account, event: ev.BillIssued) -> tuple[OpenBill, ...]:
    bill = OpenBill(event.open_nano, event.due_day)
    return with_bill(account.open_bills, bill) if event.open_nano else account.open_bills


def _notice_raised(state: State, event: ev.NoticeRaised) -> State:
    account = state.accounts[event.account]
    episode = account.episode or Episode(money_at_start_nano=event.balance_nano)
    notice = Notice(event.number, event.at, raised_clock=event.clock, document_hash=event.document_hash)
    return _with(state, replace(account, episode=replace(episode, notices=(*episode.notices, notice))))


def _notice_delivered(state: State, event: ev.NoticeDelivered) -> State:
    account = state.accounts[event.account]
    episode = account.episode
    assert episode is not None
    notices = tuple(
        replace(notice, receipt=event.receipt, proof=event.proof, grace_elapsed_s=event.grace_elapsed_s)
        if notice.number == event.number
        else notice
        for notice in episode.notices
    )
    episode = replace(episode, notices=notices)
    if event.number == 2:
        episode = grace_recorded(episode, 0, event.receipt, may_wait=False)
    elif episode.grace_clock is not None:
        episode = grace_recorded(episode, event.grace_elapsed_s, event.receipt, may_wait=False)
    return _with(state, replace(account, episode=episode))


def _episode_closed(state: State, event: ev.EpisodeClosed) -> State:
    return _with(state, replace(state.accounts[event.account], episode=None))


def _cut_deferred(state: State, event: ev.CutDeferred) -> State:
    account = state.accounts[event.account]
    assert account.episode is not None
    deferred = tuple(code for code, _evidence in event.blockers)
    return _with(state, replace(account, episode=replace(account.episode, deferred=deferred)))


def _case_escalated(state: State, event: ev.CaseEscalated) -> State:
    account = state.accounts[event.account]
    assert account.episode is not None
    return _with(state, replace(account, episode=replace(account.episode, escalated=True)))


def _disconnect_control_changed(state: State, event: ev.DisconnectControlChanged) -> State:
    account = replace(
        state.accounts[event.account],
        control_state=ControlState(event.control_state),
        control_reason=event.reason,
        control_clock=event.clock,
        local_reason=event.local_reason,
        supply_version=event.supply_version,
    )
    state = _with(state, account)
    if event.trigger != "local_disconnect":
        return state
    recent = tuple(at for at in state.local_cuts if at > event.at - CUT_MEMORY_S)
    return replace(state, local_cuts=(*recent, event.at))


def _local_reason_cleared(state: State, event: ev.LocalReasonCleared) -> State:
    return _with(state, replace(state.accounts[event.account], local_reason=None))


def _keep_supply_changed(state: State, event: ev.KeepSupplyChanged) -> State:
    account = state.accounts[event.account]
    return _with(state, replace(account, keep_supply=event.keep, supply_version=event.supply_version))


def _hold_raised(state: State, event: ev.HoldRaised) -> State:
    hold = Hold(event.reason, event.at, event.seen_wh)
    return _with(state, replace(state.accounts[event.account], hold=hold))


def _hold_cleared(state: State, event: ev.HoldCleared) -> State:
    account = state.accounts[event.account]
    register = Register(event.register_at, event.register_wh)
    # What is not charged is not this day's energy either.
    frozen = replace(account.frozen, register_wh=WattHours(account.frozen.register_wh + event.uncharged_wh))
    demand = unmeasured(account.demand)
    return _with(state, replace(account, hold=None, recorded=register, frozen=frozen, demand=demand))


def _policy_accepted(state: State, event: ev.PolicyAccepted) -> State:
    stored = StoredPolicy(event.document, event.signed_by)
    return replace(state, policies={**state.policies, event.policy: stored})


def _policy_set(state: State, event: ev.PolicySet) -> State:
    account = replace(
        state.accounts[event.account],
        policy=event.risk_policy or event.policy,
        normal_policy=event.policy if event.risk_policy is not None else None,
        risk_level=event.risk_level,
        risk_until=event.risk_until,
    )
    return _with(state, account)


def _policy_ended(state: State, event: ev.PolicyEnded) -> State:
    account = state.accounts[event.account]
    return _with(state, replace(account, known_at=max(account.known_at, event.known_at)))


def _risk_level_expired(state: State, event: ev.RiskLevelExpired) -> State:
    account = state.accounts[event.account]
    normal = account.normal_policy or account.policy
    return _with(state, replace(account, policy=normal, normal_policy=None, risk_level="", risk_until=None))


def _token(state: State, event: TokenEvent) -> State:
    return replace(state, tokens=apply_token(state.tokens, event))


def _meter_exchanged(state: State, event: ev.MeterExchanged) -> State:
    account = state.accounts[event.account]
    # The day's energy goes on: the freeze is moved to the new meter's register.
    shift_wh = event.first_wh - account.recorded.register_wh
    frozen = replace(account.frozen, register_wh=WattHours(account.frozen.register_wh + shift_wh))
    recorded = Register(event.register_at, event.first_wh)
    demand = unmeasured(account.demand)
    account = replace(account, meter_id=event.meter, recorded=recorded, frozen=frozen, hold=None, demand=demand)
    return _with(state, account)


def _tariff_accepted(state: State, event: ev.TariffAccepted) -> State:
    return replace(state, tariffs={**state.tariffs, event.tariff: event.document})


def _tariff_scheduled(state: State, event: ev.TariffScheduled) -> State:
    pending = sorted({*state.pending_tariffs, (event.effective_at, event.account, event.tariff)})
    return replace(state, pending_tariffs=tuple(pending))


def _tariff_activated(state: State, event: ev.TariffActivated) -> State:
    before = state.accounts[event.account]
    demand = _demand_meter(before.demand, event.demand_window_s)
    account = replace(before, tariff=event.tariff, cycle_energy_wh=event.cycle_energy_wh, demand=demand)
    pending = tuple(
        entry
        for entry in state.pending_tariffs
        if not (entry[1] == event.account and entry[2] == event.tariff and entry[0] <= event.at)
    )
    return replace(_with(state, account), pending_tariffs=pending)


def _readings_recorded(state: State, event: ev.ReadingsRecorded) -> State:
    accounts = dict(state.accounts)
    for index, account_id in enumerate(event.accounts):
        account, lines = accounts[account_id], event.lines[index]
        amount_nano = _amount_of(lines)
        accounts[account_id] = changed(
            account,
            recorded=_register(event.register_at[index], event.register_wh[index]),
            recorded_clock=event.clock,
            estimate_nano=MoneyNano(account.estimate_nano + amount_nano),
            consumed_nano=MoneyNano(account.consumed_nano + amount_nano),
            consumed_wh=WattHours(account.consumed_wh + _energy_of(lines)),
            charged=merge_lines(account.charged, lines),
            cycle_energy_wh=event.cycle_energy_wh[index],
            cycle_start_at=event.cycle_start_at[index],
        )
        if account.demand is not None:
            demand = measured(account.demand, event.register_wh[index], event.clock)
            accounts[account_id] = changed(accounts[account_id], demand=demand)
    for account_id, account in accounts.items():
        episode = account.episode
        if episode is not None and episode.grace_clock is not None:
            elapsed_s = grace_elapsed(episode, event.clock)
            episode = grace_recorded(episode, elapsed_s, event.clock, may_wait=True)
            accounts[account_id] = changed(account, episode=episode)
    return replace(state, accounts=accounts)


def _order_applied(state: State, event: ev.OrderApplied) -> State:
    return replace(state, applied={**state.applied, event.cid: event.result})


def _order_refused(state: State, event: ev.OrderRefused) -> State:
    return replace(state, applied={**state.applied, event.cid: f"{event.result}:{event.reason}"})


def _output_state_observed(state: State, event: ev.OutputStateObserved) -> State:
    account = replace(
        state.accounts[event.account],
        output_connected=event.connected,
        open_register_wh=None if event.connected else event.register_wh,
    )
    return _with(state, account)


def _energy_while_disconnected(state: State, event: ev.EnergyWhileDisconnected) -> State:
    return _with(state, replace(state.accounts[event.account], open_register_wh=event.register_wh))


def _judged(estimate_nano: MoneyNano, quality: str, at: UnixSeconds) -> dict[str, Any]:
    return {"judged_estimate_nano": estimate_nano, "judged_quality": quality, "judged_at": at}


def _balance_evaluated(state: State, event: ev.BalanceEvaluated) -> State:
    judged = _judged(event.estimate_nano, FreezeQuality.GATEWAY_SAMPLE.value, event.at)
    return _with(state, replace(state.accounts[event.account], **judged))


def _supply_hold_changed(state: State, event: ev.SupplyHoldChanged) -> State:
    account = state.accounts[event.account]
    hold = SupplyHold(SupplyHoldKind(event.kind), event.reference, event.until)
    return _with(state, replace(account, supply_holds=with_hold(account.supply_holds, hold, event.stands)))


def _unchanged(state: State, event: ev.PaymentRefused | ev.ConditionNoted | ev.RequestRefused) -> State:
    return state


_APPLY: Mapping[type, Callable[[State, Any], State]] = {
    ev.AccountOpened: _account_opened,
    ev.TermsChanged: _terms_changed,
    ev.PaymentApplied: _payment_applied,
    ev.PaymentReversed: _payment_reversed,
    ev.PaymentRefused: _unchanged,
    ev.RegisterFrozen: _register_frozen,
    ev.BillIssued: _bill_issued,
    ev.RoundingPosted: _money_moved,
    ev.NoticeRaised: _notice_raised,
    ev.NoticeDelivered: _notice_delivered,
    ev.EpisodeClosed: _episode_closed,
    ev.CutDeferred: _cut_deferred,
    ev.CaseEscalated: _case_escalated,
    ev.DisconnectControlChanged: _disconnect_control_changed,
    ev.LocalReasonCleared: _local_reason_cleared,
    ev.KeepSupplyChanged: _keep_supply_changed,
    ev.HoldRaised: _hold_raised,
    ev.HoldCleared: _hold_cleared,
    ev.TariffAccepted: _tariff_accepted,
    ev.TariffScheduled: _tariff_scheduled,
    ev.TariffActivated: _tariff_activated,
    ev.ReadingsRecorded: _readings_recorded,
    ev.OrderApplied: _order_applied,
    ev.OrderRefused: _order_refused,
    ev.OutputStateObserved: _output_state_observed,
    ev.EnergyWhileDisconnected: _energy_while_disconnected,
    ev.SupplyHoldChanged: _supply_hold_changed,
    ev.MeterExchanged: _meter_exchanged,
    **dict.fromkeys(get_args(TokenEvent), _token),
    ev.PolicyAccepted: _policy_accepted,
    ev.PolicySet: _policy_set,
    ev.PolicyEnded: _policy_ended,
    ev.RiskLevelExpired: _risk_level_expired,
    ev.BalanceEvaluated: _balance_evaluated,
    ev.ConditionNoted: _unchanged,
    **dict.fromkeys(ACCOUNT_CHANGES, _account_changed),
    ev.PaymentAllocated: _payment_allocated,
    ev.EnergyBought: _energy_bought,
    ev.BoughtEnergyReturned: _energy_bought,
    ev.AllocationReversed: _allocation_reversed,
    ev.PurchaseOrderApplied: _purchase_order_applied,
    ev.RequestRefused: _unchanged,
}
