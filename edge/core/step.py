"""The accounting core as one pure function: step(state, command, rating) -> (state, events, effects).

The state after a step is always `reduce(apply, events, state)`. Nothing here reads a clock,
waits, or touches the world. Energy Wh, money nano-currency, time Unix seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, Register, State
from edge.core.boundary import issue_now
from edge.core.charge import Figures, Rating, figures_of
from edge.core.credit import Moment, payment_events, payment_refusal, reversal_events
from edge.core.credit_terms import NANO_PER_SECOND, NANO_PER_WATT_HOUR, CreditUnit, IssueCycle
from edge.core.decision import decide, judge_again
from edge.core.disconnect_control import ControlState
from edge.core.effects import Effect, effects_of
from edge.core.frozen import quickly
from edge.core.intake import accept_sample, bring_up_to, record_basis, record_readings, register_at_most, sample_age
from edge.core.lean import dataclass
from edge.core.money import money_events
from edge.core.month_lines import demand_window_s
from edge.core.orders import (
    accept_policy,
    accept_tariff,
    change_terms,
    confirm_notice,
    keep_supply,
    refuse_order,
    revoke_order,
    schedule_tariff,
    set_policy,
    set_supply_hold,
    switch_supply,
)
from edge.core.reading import plausible_energy
from edge.core.token import DecoderCommissioned, EnterToken, TokenAccepted, TokenKind, TokenRefused, enter_token
from edge.core.turn import Occasion, Turn
from edge.core.units import MoneyNano, UnixSeconds, WattHours


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a command led to. `figures` are the balances it was judged by, for whoever shows them."""

    state: State
    events: tuple[ev.Event, ...]
    figures: Mapping[str, Figures]

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What must be true now. Read-backs and receipts do not ask."""
        return effects_of(self.state)


_made_occasion = quickly(Occasion)


def step(state: State, command: cmd.Command, rating: Rating) -> Stepped:
    """Judges one command. Refusals are events too; a command that was already answered gives none."""
    turn = Turn(state, rating)
    _STEPS[type(command)](turn, command)
    return Stepped(turn.state, tuple(turn.events), turn.figures)


# --- a round ---------------------------------------------------------------------------------


def _take_round(turn: Turn, command: cmd.TakeRound) -> None:
    registers: dict[str, Register] = {}
    for sample in command.samples:
        register = accept_sample(turn, sample, command.received)
        if register is not None:
            registers[sample.account_id] = register
    accounts = list(turn.state.accounts.values())
    samples = {sample.account_id: sample for sample in command.samples}
    turn.figures = figures_of(turn.rating, accounts, registers)
    if command.record:
        record_readings(turn, command.received, list(registers))
    for account_id in list(turn.state.accounts):
        decide(turn, account_id, _occasion(command, samples.get(account_id), registers.get(account_id)))


def _occasion(command: cmd.TakeRound, sample: cmd.Sample | None, fresh: Register | None) -> Occasion:
    """What one account is judged by in a round."""
    clock = command.received
    age_s = None if sample is None or fresh is None else sample_age(sample, clock)
    over_s = 0 if sample is None else sample.power_over_s
    return _made_occasion(
        clock,
        fresh,
        command.cloud_silent_s,
        may_cut=True,
        power_over_s=over_s,
        reading_age_s=age_s,
        server_at=command.server_at,
    )


# --- money, orders, receipts -----------------------------------------------------------------


def _open_account(turn: Turn, command: cmd.OpenAccount) -> None:
    # No price is guessed: before the tariff is valid (or the clock is set) the account waits.
    valid_from = turn.rating.valid_from[command.tariff]
    if command.account_id in turn.state.accounts or command.register.at < valid_from:
        return
    turn.emit(
        ev.AccountOpened(
            at=command.received.at,
            account=command.account_id,
            meter=command.meter_id,
            policy=command.policy,
            tariff=command.tariff,
            positions=turn.rating.positions[command.tariff],
            register_at=command.register.at,
            register_wh=command.register.register_wh,
            protected=command.protected,
            posting_nano=command.opening_nano,
            balance_nano=command.opening_nano,
            contracted=command.contracted,
            meters=command.meters,
            demand_window_s=demand_window_s(turn.rating.terms.get(command.tariff)),
        )
    )


def _apply_payment(turn: Turn, command: cmd.ApplyPayment) -> None:
    account_id, clock, zone = command.account_id, command.received, turn.rating.zone
    answered = command.cid is not None and command.cid in turn.state.applied
    if answered or payment_refusal(turn.state, command, zone) is not None:
        turn.emit_all(payment_events(turn.state, command, Moment(clock, zone, MoneyNano(0))))
        return
    # The days before it are charged first, so that it pays what is owed by then.
    register = bring_up_to(turn, account_id, command.sample, clock)
    if turn.state.accounts[account_id].policy.credit.issue_cycle is IssueCycle.VEND:
        record_basis(turn, turn.state.accounts[account_id], clock)
        turn.emit_all(issue_now(turn.state, account_id, turn.rating))
    blocks = turn.rating.purchases.get(turn.state.accounts[account_id].tariff)
    terms = turn.rating.terms.get(turn.state.accounts[account_id].tariff)
    late = (None if terms is None else terms.late_charge, turn.rating.minor_nano)
    moment = Moment(clock, zone, turn.figures[account_id].live_nano, blocks, late)
    turn.emit_all(payment_events(turn.state, command, moment))
    judge_again(turn, account_id, register, clock)


def _money_command(turn: Turn, command: cmd.MoneyCommand) -> None:
    """Credits and debts: edge.core.money decides on what is recorded."""
    account_id, clock = command.account_id, command.received
    if command.cid is not None and command.cid in turn.state.applied:
        return
    if account_id not in turn.state.accounts:
        turn.emit_all(money_events(turn.state, command, turn.rating))
        return
    register = bring_up_to(turn, account_id, command.sample, clock)
    record_basis(turn, turn.state.accounts[account_id], clock)
    turn.emit_all(money_events(turn.state, command, turn.rating))
    judge_again(turn, account_id, register, clock)


def _reverse_payment(turn: Turn, command: cmd.ReversePayment) -> None:
    turn.emit_all(reversal_events(turn.state, command))


def _observe_output_state(turn: Turn, command: cmd.ObserveOutputState) -> None:
    account = turn.state.accounts.get(command.account_id)
    if account is None or account.output_connected is command.connected:
        return
    wanted = account.control_state is ControlState.CONNECTED
    register_wh = register_at_most(account, command.sample, command.received) if command.sample is not None else None
    at, told = command.received.at, ("closed" if command.connected else "open") if command.commanded else ""
    turn.emit(ev.OutputStateObserved(at, command.account_id, command.connected, wanted, register_wh, told))


def _clear_hold(turn: Turn, command: cmd.ClearHold) -> None:
    account = turn.state.accounts.get(command.account_id)
    if account is None or account.hold is None:
        return
    uncharged_wh = command.register.register_wh - account.recorded.register_wh
    turn.emit(
        ev.HoldCleared(
            command.received.at,
            command.account_id,
            f"accepted by {command.actor}",
            UnixSeconds(max(account.recorded.at, command.register.at)),
            command.register.register_wh,
            uncharged_wh,
        )
    )


def _commission_decoder(turn: Turn, command: cmd.CommissionDecoder) -> None:
    """Once: a decoder that is known keeps what it remembers."""
    if turn.state.tokens.memory(command.decoder) is None:
        spent = (command.base_year, command.key_expiry, command.tid, command.count)
        turn.emit(DecoderCommissioned(command.received.at, command.decoder, *spent))


def _enter_token(turn: Turn, entry: EnterToken) -> None:
    """Digits typed on site. A credit token and its money are one transaction; a limit leaves the token unspent."""
    account = turn.state.accounts.get(entry.account_id)
    if account is None:
        return
    unit = account.policy.credit.unit
    event = enter_token(turn.state.tokens, replace(entry, unit=unit.value))
    if not isinstance(event, TokenAccepted) or event.kind != TokenKind.CREDIT.value:
        turn.emit(event)
        return
    factor = {CreditUnit.ENERGY: NANO_PER_WATT_HOUR, CreditUnit.TIME: NANO_PER_SECOND}[unit]
    at, amount = entry.received.at, MoneyNano(event.amount * factor)
    payment = cmd.ApplyPayment(entry.received, account.account_id, event.token_id, amount, "token", at, unit=unit)
    refusal = payment_refusal(turn.state, payment, turn.rating.zone)
    if refusal is not None:
        reason = "used" if refusal == "duplicate" else refusal
        lock = turn.state.tokens.wait_s(entry.door, entry.received)
        turn.emit(TokenRefused(at, account.account_id, entry.decoder, entry.door, reason, 0, lock))
        return
    turn.emit(event)
    _apply_payment(turn, payment)


def _exchange_meter(turn: Turn, command: cmd.ExchangeMeter) -> None:
    """Charges up to the last register of the old meter and goes on at the first of the new one."""
    account = turn.state.accounts.get(command.account_id)
    if account is None or account.meter_id == command.meter_id:
        return
    clock, last = command.received, command.last
    fault = _exchange_fault(account, command)
    if fault is None and not _charge_to(turn, command, last):
        fault = f"last register {last.register_wh} Wh of {account.meter_id} cannot be believed"
    between = Register(command.first.at, WattHours(last.register_wh + command.estimated_wh))
    if fault is None and command.estimated_wh and not _charge_to(turn, command, between):
        fault = f"estimated {command.estimated_wh} Wh between the meters cannot be believed"
    if fault is not None:
        turn.emit(ev.ConditionNoted(clock.at, "meter_exchange_refused", account.account_id, fault))
        return
    turn.emit(
        ev.MeterExchanged(
            at=clock.at,
            account=account.account_id,
            meter_before=account.meter_id,
            meter=command.meter_id,
            last_wh=last.register_wh,
            register_at=UnixSeconds(max(turn.state.accounts[account.account_id].recorded.at, command.first.at)),
            first_wh=command.first.register_wh,
            actor=command.actor,
            last_source=command.last_source,
            estimated_wh=command.estimated_wh,
            record=command.record,
        )
    )


def _exchange_fault(account: Account, command: cmd.ExchangeMeter) -> str | None:
    """Why a meter cannot be exchanged before anything is charged."""
    if account.meters > 1:
        return f"the account runs on the sum of {account.meters} meters, of which one register says nothing"
    between_s = command.first.at - max(command.last.at, account.recorded.at)
    most_wh = plausible_energy(command.power_w_max, between_s) if between_s > 0 else 0
    if not 0 <= command.estimated_wh <= most_wh:
        return f"estimated {command.estimated_wh} Wh between the meters: the breaker lets through {most_wh} Wh"
    return None


def _charge_to(turn: Turn, command: cmd.ExchangeMeter, register: Register) -> bool:
    """Charges an account up to a register of its old meter; False if that cannot be believed."""
    account_id, clock = command.account_id, command.received
    sample = cmd.Sample(account_id, register.at, register.register_wh, power_w_max=command.power_w_max)
    reached = accept_sample(turn, sample, clock)
    if reached is None:
        return False
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account_id]], {account_id: reached})
    record_readings(turn, clock, [account_id])
    return True


def _note_condition(turn: Turn, command: cmd.NoteCondition) -> None:
    turn.emit(ev.ConditionNoted(command.received.at, command.condition, command.account_id, command.detail))


_STEPS: dict[type, Callable[[Turn, Any], None]] = {
    cmd.TakeRound: _take_round,
    cmd.OpenAccount: _open_account,
    cmd.ChangeTerms: change_terms,
    cmd.AcceptPolicy: accept_policy,
    cmd.SetPolicy: set_policy,
    cmd.ApplyPayment: _apply_payment,
    cmd.ReversePayment: _reverse_payment,
    **dict.fromkeys(get_args(cmd.MoneyCommand), _money_command),
    cmd.ConfirmNotice: confirm_notice,
    cmd.SwitchSupply: switch_supply,
    cmd.KeepSupply: keep_supply,
    cmd.SetSupplyHold: set_supply_hold,
    cmd.ObserveOutputState: _observe_output_state,
    cmd.AcceptTariff: accept_tariff,
    cmd.ScheduleTariff: schedule_tariff,
    cmd.ClearHold: _clear_hold,
    cmd.ExchangeMeter: _exchange_meter,
    cmd.CommissionDecoder: _commission_decoder,
    EnterToken: _enter_token,
    cmd.RefuseOrder: refuse_order,
    cmd.RevokeOrder: revoke_order,
    cmd.NoteCondition: _note_condition,
}
