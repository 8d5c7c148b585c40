"""The accounting core as one pure function: step(state, command, rating) -> (state, events, effects).

The state after a step is always `reduce(apply, events, state)`. Nothing here reads a clock,
waits, or touches the world. Energy Wh, money nano-currency, time Unix seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, Register, State
from edge.core.blockers import CutFacts, cut_blockers
from edge.core.boundary import cross_boundaries, issue_now
from edge.core.charge import Figures, Rating, figures_of
from edge.core.credit import Moment, payment_events, payment_refusal, reversal_events
from edge.core.credit_terms import NANO_PER_SECOND, NANO_PER_WATT_HOUR, CreditUnit, IssueCycle
from edge.core.disconnect_control import ControlState, Refusal, Trigger, transition
from edge.core.effects import Effect, effects_of
from edge.core.ledger import apply
from edge.core.money import money_events
from edge.core.notice_document import document_hash, notice_document
from edge.core.notices import (
    Balances,
    Step,
    deemed_delivered,
    due_step,
    enforced_nano,
    evaluation_due,
    grace_elapsed,
    waits_for_evaluation,
)
from edge.core.policy import NoticeProof
from edge.core.reading import DeltaKind, RegisterDelta, delta, plausible_energy
from edge.core.supply_hold import with_hold
from edge.core.token import DecoderCommissioned, EnterToken, TokenAccepted, TokenKind, TokenRefused, enter_token
from edge.core.units import SECONDS_PER_DAY, ClockReading, MoneyNano, UnixSeconds, WattHours, believed_seconds

# Where no clock can say how long ago the record was made, physics is asked for a month.
ELAPSED_UNKNOWN_S = 31 * SECONDS_PER_DAY
READ_BACK_S = 60  # between the last of the load and the read-back of an open relay
SITE_BOOK = "site_book"  # Policy.signed_by of what the installer wrote
NO_CREDIT, LOAD_LIMIT = "no_credit", "load_limit"  # why a local disconnect stands
REMOTE = {Trigger.REMOTE_DISCONNECT: "cut", Trigger.REMOTE_RECONNECT: "restore"}


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a command led to. `figures` are the balances it was judged by, for whoever shows them."""

    state: State
    events: tuple[ev.Event, ...]
    effects: tuple[Effect, ...]
    figures: Mapping[str, Figures]


def step(state: State, command: cmd.Command, rating: Rating) -> Stepped:
    """Judges one command. Refusals are events too; a command that was already answered gives none."""
    turn = Turn(state, rating)
    _STEPS[type(command)](turn, command)
    return Stepped(turn.state, tuple(turn.events), effects_of(turn.state), turn.figures)


@dataclass(slots=True)
class Turn:
    """One step under way: events are applied as they are decided, so later ones see earlier ones."""

    state: State
    rating: Rating
    events: list[ev.Event] = field(default_factory=list)
    figures: dict[str, Figures] = field(default_factory=dict)

    def emit(self, event: ev.Event) -> None:
        self.events.append(event)
        self.state = apply(self.state, event)

    def emit_all(self, events: Iterable[ev.Event]) -> None:
        for event in events:
            self.emit(event)


# --- a round ---------------------------------------------------------------------------------


def _take_round(turn: Turn, command: cmd.TakeRound) -> None:
    registers: dict[str, Register] = {}
    for sample in command.samples:
        register = _accept_sample(turn, sample, command.received)
        if register is not None:
            registers[sample.account_id] = register
    accounts = list(turn.state.accounts.values())
    power_over_s = {sample.account_id: sample.power_over_s for sample in command.samples if sample.power_over_s}
    turn.figures = figures_of(turn.rating, accounts, registers)
    if command.record:
        _record_readings(turn, command.received, list(registers))
    for account_id in list(turn.state.accounts):
        fresh = registers.get(account_id)
        over_s = power_over_s.get(account_id, 0)
        occasion = Occasion(command.received, fresh, command.cloud_silent_s, may_cut=True, power_over_s=over_s)
        _decide(turn, account_id, occasion)


def _accept_sample(turn: Turn, sample: cmd.Sample, clock: ClockReading) -> Register | None:
    """The register to charge by, or None if it cannot be believed. Crosses midnights on the way.

    The register is the account's own: it goes on rising where the meter's starts over.
    """
    account = turn.state.accounts[sample.account_id]
    recorded = account.recorded
    # An untrusted clock passes no midnight, and a clock set back waits: energy is charged where time stands.
    at = max(recorded.at, sample.at) if clock.quality.trusted else recorded.at
    found = _delta(recorded, sample, at)
    if found.energy_wh is None:
        if account.hold is None and sample.confirmed:
            reason = f"register_{found.kind.value}"
            turn.emit(ev.HoldRaised(clock.at, account.account_id, reason, recorded.register_wh, sample.register_wh))
        return None
    if account.hold is not None:
        recovered = ("register_recovered", recorded.at, recorded.register_wh, 0)
        turn.emit(ev.HoldCleared(clock.at, account.account_id, *recovered))
    register = Register(UnixSeconds(at), WattHours(recorded.register_wh + found.energy_wh))
    before = None if found.kind is DeltaKind.ROLLOVER else sample.before
    turn.emit_all(cross_boundaries(turn.state, sample.account_id, before, register, turn.rating))
    return register


def _delta(recorded: Register, sample: cmd.Sample, at: int) -> RegisterDelta:
    """What lies between the recorded register and a sample, by physics and the meter's modulus."""
    elapsed_s = at - recorded.at or ELAPSED_UNKNOWN_S
    before_wh = recorded.register_wh % sample.modulus_wh if sample.modulus_wh else recorded.register_wh
    plausible_wh = plausible_energy(sample.power_w_max, elapsed_s, sample.step_wh)
    return delta(before_wh, sample.register_wh, plausible_wh, sample.modulus_wh)


def _record_readings(turn: Turn, clock: ClockReading, account_ids: Sequence[str]) -> None:
    """A reading record of these accounts at the registers they were judged by: one event for all."""
    figures = [turn.figures[account_id] for account_id in account_ids]
    turn.emit(
        ev.ReadingsRecorded(
            at=clock.at,
            clock=clock,
            accounts=tuple(account_ids),
            register_at=tuple(entry.register.at for entry in figures),
            register_wh=tuple(entry.register.register_wh for entry in figures),
            lines=tuple(entry.fresh.lines for entry in figures),
            cycle_energy_wh=tuple(entry.fresh.cycle_energy_wh for entry in figures),
            cycle_start_at=tuple(UnixSeconds(entry.fresh.cycle_start_at) for entry in figures),
            estimated=tuple(entry.fresh.estimated for entry in figures),
        )
    )


# --- decisions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Occasion:
    """When and on what an account is judged. Only a round may cut: a payment never does."""

    clock: ClockReading
    fresh: Register | None  # read for this judgement
    cloud_silent_s: int | None
    may_cut: bool
    power_over_s: int = 0  # seconds above the load limit


def _decide(turn: Turn, account_id: str, occasion: Occasion) -> None:
    """Notices, cut and restore of one account by the figures of this turn. At most one step of 7+0+3."""
    account = turn.state.accounts[account_id]
    _expire_risk_level(turn, account, occasion.clock)
    account = turn.state.accounts[account_id]
    _watch_open_supply(turn, account, occasion)
    if account.hold is None:
        account = _deem_notices(turn, account, occasion)
        _follow_notices(turn, account, occasion)
    _follow_load_limit(turn, account_id, occasion)
    _reconnect_if_clear(turn, account_id, occasion.clock)


def _watch_open_supply(turn: Turn, account: Account, occasion: Occasion) -> None:
    """Energy through a relay that was read back open is a bypass (SECURITY.md R18). Said once per such an amount."""
    if account.open_register_wh is None or occasion.fresh is None:
        return
    energy_wh = WattHours(occasion.fresh.register_wh - account.open_register_wh)
    if energy_wh >= account.policy.bypass_energy_wh:
        register_wh = occasion.fresh.register_wh
        turn.emit(ev.EnergyWhileDisconnected(occasion.clock.at, account.account_id, energy_wh, register_wh))


def _deem_notices(turn: Turn, account: Account, occasion: Occasion) -> Account:
    """Notices that count as handed over although nobody said so."""
    clock, proof = occasion.clock, NoticeProof.DEEMED_AFTER_HOURS.value
    for notice in account.episode.notices if account.episode is not None else ():
        if deemed_delivered(account, notice, clock, occasion.cloud_silent_s):
            _deliver(turn, account.account_id, notice.number, proof, notice.document_hash, clock)
    return turn.state.accounts[account.account_id]


def _follow_load_limit(turn: Turn, account_id: str, occasion: Occasion) -> None:
    """Opens a supply that took more than its limit for too long, and lets it close again (SMETS2, load limiting)."""
    account, clock = turn.state.accounts[account_id], occasion.clock
    limit, figures = account.policy.load_limit, turn.figures[account_id]
    if account.local_reason == LOAD_LIMIT:
        opened = account.control_clock
        if limit is None or opened is None or believed_seconds(opened, clock) >= limit.restoration_s:
            turn.emit(ev.LocalReasonCleared(clock.at, account_id, figures.live_nano))
    elif limit is not None and occasion.power_over_s >= limit.period_s and occasion.may_cut:
        _switch(turn, account, Trigger.LOCAL_DISCONNECT, LOAD_LIMIT, clock)


def _follow_notices(turn: Turn, account: Account, occasion: Occasion) -> None:
    figures, at = turn.figures[account.account_id], occasion.clock.at
    threshold = account.threshold_nano
    if account.local_reason == NO_CREDIT and enforced_nano(account, figures.live_nano) >= threshold:
        turn.emit(ev.LocalReasonCleared(at, account.account_id, figures.live_nano))
    _evaluate(turn, account, occasion)
    account = turn.state.accounts[account.account_id]
    if waits_for_evaluation(account):
        return
    balances = Balances(figures.live_nano, figures.reserve_nano, threshold)
    due = due_step(account, balances, occasion.clock, turn.rating.zone)
    if due in _NOTICE_NUMBERS:
        _record_basis(turn, account, occasion.clock)
        turn.emit(_notice(account, _NOTICE_NUMBERS[due], figures, occasion.clock))
    elif due is Step.CLOSE:
        restored = account.episode is not None and account.episode.notice(2) is not None
        reason = "balance_restored" if restored else "reserve_restored"
        turn.emit(ev.EpisodeClosed(at, account.account_id, reason, figures.live_nano))
    elif due is Step.ESCALATE:
        _record_basis(turn, account, occasion.clock)
        turn.emit(ev.CaseEscalated(at, account.account_id, figures.live_nano))
    elif due is Step.CUT and occasion.may_cut and account.control_state is ControlState.CONNECTED:
        _cut_unless_blocked(turn, account, occasion)


def _evaluate(turn: Turn, account: Account, occasion: Occasion) -> None:
    """At the policy's hour, by a reading of this round: the balance that notices go by until tomorrow."""
    if occasion.fresh is None or not evaluation_due(account, occasion.clock, turn.rating.zone):
        return
    figures = turn.figures[account.account_id]
    at = occasion.clock.at
    turn.emit(ev.BalanceEvaluated(at, account.account_id, figures.estimate_nano, figures.live_nano))


_NOTICE_NUMBERS = {Step.NOTICE_1: 1, Step.NOTICE_2: 2, Step.NOTICE_3: 3}


def _record_basis(turn: Turn, account: Account, clock: ClockReading) -> None:
    """What is decided rests on what is recorded: a restart must not find the balance better than it was."""
    if account.recorded != turn.figures[account.account_id].register:
        _record_readings(turn, clock, [account.account_id])


def _notice(account: Account, number: int, figures: Figures, clock: ClockReading) -> ev.NoticeRaised:
    return ev.NoticeRaised(
        at=clock.at,
        account=account.account_id,
        number=number,
        balance_nano=account.money_nano,
        live_balance_nano=figures.live_nano,
        reserve_nano=figures.reserve_nano,
        register_at=figures.register.at,
        register_wh=figures.register.register_wh,
        clock=clock,
        document_hash=_hash_of_notice(account, number, figures, clock) if account.policy.formal_notices else "",
    )


def _hash_of_notice(account: Account, number: int, figures: Figures, clock: ClockReading) -> str:
    policy, register = f"{account.policy.policy_id}@{account.policy.version}", figures.register
    live_nano = figures.live_nano
    return document_hash(
        notice_document(account.account_id, number, clock.at, live_nano, register.at, register.register_wh, policy)
    )


def _cut_unless_blocked(turn: Turn, account: Account, occasion: Occasion) -> None:
    clock = occasion.clock
    facts = CutFacts(
        clock=clock,
        zone=turn.rating.zone,
        live_nano=enforced_nano(account, turn.figures[account.account_id].live_nano),
        reading_at=occasion.fresh.at if occasion.fresh is not None else None,
        cloud_silent_s=occasion.cloud_silent_s,
        cuts_last_hour=turn.state.cuts_since(clock.at),
        accounts_on_site=len(turn.state.accounts),
    )
    blockers = cut_blockers(account, facts)
    if not blockers:
        _record_basis(turn, account, clock)
        _switch(turn, account, Trigger.LOCAL_DISCONNECT, NO_CREDIT, clock)
        return
    assert account.episode is not None
    if account.episode.deferred != tuple(blocker.code for blocker in blockers):
        evidence = tuple((blocker.code, blocker.evidence) for blocker in blockers)
        turn.emit(ev.CutDeferred(clock.at, account.account_id, evidence))


def _reconnect_if_clear(turn: Turn, account_id: str, clock: ClockReading) -> None:
    account = turn.state.accounts[account_id]
    limit = account.policy.load_limit
    if account.control_reason == LOAD_LIMIT and limit is not None and limit.armed:
        return  # the customer presses the key
    if account.control_state is ControlState.READY_FOR_RECONNECTION and account.local_reason is None:
        _switch(turn, account, Trigger.LOCAL_RECONNECT, "balance_restored", clock)


def _switch(
    turn: Turn, account: Account, trigger: Trigger, reason: str, clock: ClockReading, supply_version: int | None = None
) -> Refusal | None:
    """Moves the control state, or says why not."""
    target = transition(
        account.control_state,
        trigger,
        control_mode=account.policy.control_mode,
        local_reason_stands=account.local_reason is not None,
        keep_supply=account.keep_supply,
        protected=account.protected,
    )
    if isinstance(target, Refusal):
        return target
    figures = turn.figures.get(account.account_id)
    turn.emit(
        ev.DisconnectControlChanged(
            at=clock.at,
            account=account.account_id,
            control_state=target.value,
            trigger=trigger.value,
            reason=reason,
            local_reason=reason if trigger is Trigger.LOCAL_DISCONNECT else account.local_reason,
            supply_version=account.supply_version if supply_version is None else supply_version,
            balance_nano=account.money_nano,
            live_balance_nano=figures.live_nano if figures else None,
            register_wh=figures.register.register_wh if figures else None,
            clock=clock,
        )
    )
    return None


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
        )
    )


def _change_terms(turn: Turn, command: cmd.ChangeTerms) -> None:
    account = turn.state.accounts.get(command.account_id)
    if account is None:
        return
    # A signed policy is changed by a signed one only, not by the book of the next start.
    policy = command.policy if account.policy.signed_by in ("", SITE_BOOK) else account.policy
    if (account.policy, account.protected) != (policy, command.protected):
        turn.emit(ev.TermsChanged(command.received.at, command.account_id, policy, command.protected))


def _set_policy(turn: Turn, command: cmd.SetPolicy) -> None:
    """Puts a policy in force."""
    if command.cid is not None and command.cid in turn.state.applied:
        return
    refusal = _policy_refusal(turn.state.accounts.get(command.account_id), command)
    if refusal is None:
        risk = (command.risk_level, command.risk_policy, command.risk_until)
        turn.emit(ev.PolicySet(command.received.at, command.account_id, command.policy, *risk))
    _answer(turn, command, "set_policy", refusal)


def _policy_refusal(account: Account | None, command: cmd.SetPolicy) -> str | None:
    """Refusals in this order: unknown_account, unsigned, risk_level (half stated), older_version, expired."""
    if account is None:
        return "unknown_account"
    policy, present = command.policy, account.normal_policy or account.policy
    if policy.signed_by in ("", SITE_BOOK):
        return "unsigned"
    stated = (bool(command.risk_level), command.risk_policy is not None, command.risk_until is not None)
    if len(set(stated)) != 1:
        return "risk_level"  # a level without an end would never fall back
    if policy.policy_id == present.policy_id and policy.version < present.version and present.signed_by != SITE_BOOK:
        return "older_version"
    if policy.valid_until is not None and command.received.at >= policy.valid_until:
        return "expired"
    return None


def _expire_risk_level(turn: Turn, account: Account, clock: ClockReading) -> None:
    """A risk level that is over falls back to the normal policy, never to a harsher one."""
    ended = account.risk_until is not None and clock.quality.trusted and clock.at >= account.risk_until
    if ended and account.risk_level:
        turn.emit(ev.RiskLevelExpired(clock.at, account.account_id, account.risk_level))


def _apply_payment(turn: Turn, command: cmd.ApplyPayment) -> None:
    account_id, clock, zone = command.account_id, command.received, turn.rating.zone
    answered = command.cid is not None and command.cid in turn.state.applied
    if answered or payment_refusal(turn.state, command, zone) is not None:
        turn.emit_all(payment_events(turn.state, command, Moment(clock, zone, MoneyNano(0))))
        return
    # The days before it are charged first, so that it pays what is owed by then.
    register = _bring_up_to(turn, account_id, command.sample, clock)
    if turn.state.accounts[account_id].policy.credit.issue_cycle is IssueCycle.VEND:
        _record_basis(turn, turn.state.accounts[account_id], clock)
        turn.emit_all(issue_now(turn.state, account_id, turn.rating))
    moment = Moment(clock, zone, turn.figures[account_id].live_nano)
    turn.emit_all(payment_events(turn.state, command, moment))
    _judge_again(turn, account_id, register, clock)


def _money_command(turn: Turn, command: cmd.MoneyCommand) -> None:
    """Credits and debts: edge.core.money decides on what is recorded."""
    account_id, clock = command.account_id, command.received
    if command.cid is not None and command.cid in turn.state.applied:
        return
    if account_id not in turn.state.accounts:
        turn.emit_all(money_events(turn.state, command, turn.rating))
        return
    register = _bring_up_to(turn, account_id, command.sample, clock)
    _record_basis(turn, turn.state.accounts[account_id], clock)
    turn.emit_all(money_events(turn.state, command, turn.rating))
    _judge_again(turn, account_id, register, clock)


def _bring_up_to(turn: Turn, account_id: str, sample: cmd.Sample | None, clock: ClockReading) -> Register | None:
    """Takes in a sample that came with a command; the figures are the account's at it."""
    register = _accept_sample(turn, sample, clock) if sample is not None else None
    registers = {} if register is None else {account_id: register}
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account_id]], registers)
    return register


def _judge_again(turn: Turn, account_id: str, register: Register | None, clock: ClockReading) -> None:
    """Notices and restore after money moved. It never cuts."""
    registers = {} if register is None else {account_id: register}
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account_id]], registers)
    _decide(turn, account_id, Occasion(clock, register, None, may_cut=False))


def _reverse_payment(turn: Turn, command: cmd.ReversePayment) -> None:
    turn.emit_all(reversal_events(turn.state, command))


def _confirm_notice(turn: Turn, command: cmd.ConfirmNotice) -> None:
    account = turn.state.accounts.get(command.account_id)
    episode = account.episode if account is not None else None
    notice = episode.notice(command.number) if episode is not None else None
    if notice is None or notice.receipt is not None:
        return  # receipts come late and twice: the first one stands
    if notice.document_hash and command.document_hash != notice.document_hash:
        return  # a formal notice is proved by its own document and by nothing else
    _deliver(turn, command.account_id, command.number, command.proof, notice.document_hash, command.received)


def _deliver(turn: Turn, account_id: str, number: int, proof: str, document: str, clock: ClockReading) -> None:
    episode = turn.state.accounts[account_id].episode
    assert episode is not None
    elapsed_s = 0 if number == 2 else grace_elapsed(episode, clock)
    turn.emit(ev.NoticeDelivered(clock.at, account_id, number, proof, clock, elapsed_s, document))


def _switch_supply(turn: Turn, command: cmd.SwitchSupply) -> None:
    order_type = REMOTE.get(command.trigger, command.trigger.value)
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account = turn.state.accounts.get(command.account_id)
    refusal = _order_refusal(account, command)
    if account is not None and refusal is None:
        refused = _switch(turn, account, command.trigger, command.reason, command.received, command.supply_version)
        refusal = refused.reason if refused is not None else None
        _reconnect_if_clear(turn, command.account_id, command.received)
    _answer(turn, command, order_type, refusal)


def _order_refusal(account: Account | None, command: cmd.SwitchSupply) -> str | None:
    """Refusals of a remote supply order, in this order: unknown_account, clock, expired, superseded."""
    if account is None:
        return "unknown_account"
    if command.expires_at is not None:
        if not command.received.quality.trusted:
            return "clock"
        if command.received.at > command.expires_at:
            return "expired"
    if command.supply_version is not None and command.supply_version <= account.supply_version:
        return "superseded"
    return None


def _keep_supply(turn: Turn, command: cmd.KeepSupply) -> None:
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account = turn.state.accounts.get(command.account_id)
    if account is None:
        _answer(turn, command, "keep_supply", "unknown_account")
    elif command.supply_version is not None and command.supply_version <= account.supply_version:
        _answer(turn, command, "keep_supply", "superseded")
    else:
        version = account.supply_version if command.supply_version is None else command.supply_version
        turn.emit(ev.KeepSupplyChanged(command.received.at, command.account_id, command.keep, version))
        _answer(turn, command, "keep_supply", None)


def _set_supply_hold(turn: Turn, command: cmd.SetSupplyHold) -> None:
    if command.cid is not None and command.cid in turn.state.applied:
        return
    at, hold = command.received.at, command.hold
    if command.account_id and command.account_id not in turn.state.accounts:
        _answer(turn, command, "supply_hold", "unknown_account")
        return
    for account_id in (command.account_id,) if command.account_id else tuple(turn.state.accounts):
        held = turn.state.accounts[account_id].supply_holds
        if with_hold(held, hold, command.stands) != held:
            kind = hold.kind.value
            turn.emit(ev.SupplyHoldChanged(at, account_id, kind, hold.reference, hold.until, command.stands))
    _answer(turn, command, "supply_hold", None)


def _answer(
    turn: Turn,
    command: cmd.SwitchSupply | cmd.KeepSupply | cmd.SetSupplyHold | cmd.SetPolicy,
    order_type: str,
    refusal: str | None,
) -> None:
    """The stored result of an order that came with a cid."""
    if command.cid is None:
        return
    at, account_id = command.received.at, command.account_id
    if refusal is None:
        turn.emit(ev.OrderApplied(at, command.cid, order_type, account_id))
    else:
        turn.emit(ev.OrderRefused(at, command.cid, order_type, account_id, refusal))


def _observe_output_state(turn: Turn, command: cmd.ObserveOutputState) -> None:
    account = turn.state.accounts.get(command.account_id)
    if account is None or account.output_connected is command.connected:
        return
    wanted = account.control_state is ControlState.CONNECTED
    register_wh = _register_at_most(account, command.sample, command.received) if command.sample is not None else None
    at = command.received.at
    turn.emit(ev.OutputStateObserved(at, command.account_id, command.connected, wanted, register_wh))


def _register_at_most(account: Account, sample: cmd.Sample, clock: ClockReading) -> WattHours | None:
    """The most the account's register can show at `clock` after a sample; None where the sample is not believed.

    The sample is from before the relay moved: what physics allows since then went through a closed one.
    """
    found = _delta(account.recorded, sample, max(account.recorded.at, sample.at))
    if found.energy_wh is None:
        return None
    since_s = max(0, clock.at - sample.at) + READ_BACK_S
    possible_wh = plausible_energy(sample.power_w_max, since_s, sample.step_wh)
    return WattHours(account.recorded.register_wh + found.energy_wh + possible_wh)


def _accept_tariff(turn: Turn, command: cmd.AcceptTariff) -> None:
    if command.tariff not in turn.state.tariffs:  # a version, once stored, is never another document
        turn.emit(ev.TariffAccepted(command.received.at, command.tariff, command.document))


def _schedule_tariff(turn: Turn, command: cmd.ScheduleTariff) -> None:
    at = command.received.at
    if command.cid is not None and command.cid in turn.state.applied:
        return
    refusal = None if command.tariff in turn.state.tariffs else "unknown_tariff"
    if refusal is None and command.effective_at < turn.rating.valid_from[command.tariff]:
        refusal = "before_valid_from"
    if refusal is not None:
        if command.cid is not None:
            turn.emit(ev.OrderRefused(at, command.cid, "set_tariff", "", refusal))
        return
    for account_id in command.account_ids or tuple(turn.state.accounts):
        if account_id in turn.state.accounts:
            turn.emit(ev.TariffScheduled(at, account_id, command.tariff, command.effective_at))
    if command.cid is not None:
        turn.emit(ev.OrderApplied(at, command.cid, "set_tariff", ""))


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
    clock = command.received
    sample = cmd.Sample(account.account_id, command.last.at, command.last.register_wh)
    register = _accept_sample(turn, sample, clock)
    if register is None:
        detail = f"last register {command.last.register_wh} Wh of {account.meter_id} cannot be believed"
        turn.emit(ev.ConditionNoted(clock.at, "meter_exchange_refused", account.account_id, detail))
        return
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account.account_id]], {account.account_id: register})
    _record_readings(turn, clock, [account.account_id])
    turn.emit(
        ev.MeterExchanged(
            at=clock.at,
            account=account.account_id,
            meter_before=account.meter_id,
            meter=command.meter_id,
            last_wh=command.last.register_wh,
            register_at=UnixSeconds(max(register.at, command.first.at)),
            first_wh=command.first.register_wh,
            actor=command.actor,
        )
    )


def _refuse_order(turn: Turn, command: cmd.RefuseOrder) -> None:
    if command.cid not in turn.state.applied:
        turn.emit(ev.OrderRefused(command.received.at, command.cid, command.order_type, "", command.reason))


def _note_condition(turn: Turn, command: cmd.NoteCondition) -> None:
    turn.emit(ev.ConditionNoted(command.received.at, command.condition, command.account_id, command.detail))


_STEPS: dict[type, Callable[[Turn, Any], None]] = {
    cmd.TakeRound: _take_round,
    cmd.OpenAccount: _open_account,
    cmd.ChangeTerms: _change_terms,
    cmd.SetPolicy: _set_policy,
    cmd.ApplyPayment: _apply_payment,
    cmd.ReversePayment: _reverse_payment,
    **dict.fromkeys(get_args(cmd.MoneyCommand), _money_command),
    cmd.ConfirmNotice: _confirm_notice,
    cmd.SwitchSupply: _switch_supply,
    cmd.KeepSupply: _keep_supply,
    cmd.SetSupplyHold: _set_supply_hold,
    cmd.ObserveOutputState: _observe_output_state,
    cmd.AcceptTariff: _accept_tariff,
    cmd.ScheduleTariff: _schedule_tariff,
    cmd.ClearHold: _clear_hold,
    cmd.ExchangeMeter: _exchange_meter,
    cmd.CommissionDecoder: _commission_decoder,
    EnterToken: _enter_token,
    cmd.RefuseOrder: _refuse_order,
    cmd.NoteCondition: _note_condition,
}
