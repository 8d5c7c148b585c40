"""Notices, cut and restore of one account by the figures of this step: at most one step of 7+0+3.

Only a round cuts. What is decided rests on what is recorded. Source: RULES.md 6 and 7, SMETS2 load
limiting, SECURITY.md R18. Energy Wh, money nano-currency.
"""

from edge.core import events as ev
from edge.core.account import Account, Register
from edge.core.blockers import CutFacts, cut_blockers
from edge.core.charge import Figures, figures_of
from edge.core.disconnect_control import ControlState, Trigger
from edge.core.frozen import quickly
from edge.core.intake import record_basis
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
from edge.core.switching import LOAD_LIMIT, NO_CREDIT, reconnect_if_clear, switch
from edge.core.turn import Occasion, Turn
from edge.core.units import ClockReading, WattHours, least_seconds

_balances = quickly(Balances)


def decide(turn: Turn, account_id: str, occasion: Occasion) -> None:
    """Notices, cut and restore of one account by the figures of this turn. At most one step of 7+0+3."""
    account = turn.state.accounts[account_id]
    _end_policy(turn, account, occasion)
    account = turn.state.accounts[account_id]
    _watch_open_supply(turn, account, occasion)
    if account.hold is None:
        account = _deem_notices(turn, account, occasion)
        _follow_notices(turn, account, occasion)
    _follow_load_limit(turn, account_id, occasion)
    reconnect_if_clear(turn, account_id, occasion.clock)


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
            deliver(turn, account.account_id, notice.number, proof, notice.document_hash, clock)
    return turn.state.accounts[account.account_id]


def _follow_load_limit(turn: Turn, account_id: str, occasion: Occasion) -> None:
    """Opens a supply that took more than its limit for too long, and lets it close again (SMETS2, load limiting)."""
    account, clock = turn.state.accounts[account_id], occasion.clock
    limit, figures = account.policy.load_limit, turn.figures[account_id]
    if account.local_reason == LOAD_LIMIT:
        opened = account.control_clock
        if limit is None or opened is None or least_seconds(opened, clock) >= limit.restoration_s:
            turn.emit(ev.LocalReasonCleared(clock.at, account_id, figures.live_nano))
    elif limit is not None and occasion.power_over_s >= limit.period_s and _read_just_now(account, occasion):
        switch(turn, account, Trigger.LOCAL_DISCONNECT, LOAD_LIMIT, clock)


def _read_just_now(account: Account, occasion: Occasion) -> bool:
    """Whether a round may open a supply on what was read: a meter that fell silent over its limit shows no load."""
    age_s = occasion.reading_age_s
    return occasion.may_cut and age_s is not None and age_s <= account.policy.cut_reading_age_s_max


def _follow_notices(turn: Turn, account: Account, occasion: Occasion) -> None:
    figures, at = turn.figures[account.account_id], occasion.clock.at
    threshold = account.threshold_nano
    if account.local_reason == NO_CREDIT and enforced_nano(account, figures.live_nano) >= threshold:
        turn.emit(ev.LocalReasonCleared(at, account.account_id, figures.live_nano))
    _evaluate(turn, account, occasion)
    account = turn.state.accounts[account.account_id]
    if waits_for_evaluation(account):
        return
    balances = _balances(figures.live_nano, figures.reserve_nano, threshold)
    due = due_step(account, balances, occasion.clock, turn.rating.zone)
    if due in _NOTICE_NUMBERS:
        record_basis(turn, account, occasion.clock)
        turn.emit(_notice(account, _NOTICE_NUMBERS[due], figures, occasion.clock))
    elif due is Step.CLOSE:
        restored = account.episode is not None and account.episode.notice(2) is not None
        reason = "balance_restored" if restored else "reserve_restored"
        turn.emit(ev.EpisodeClosed(at, account.account_id, reason, figures.live_nano))
    elif due is Step.ESCALATE:
        record_basis(turn, account, occasion.clock)
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
        reading_age_s=occasion.reading_age_s,
        cloud_silent_s=occasion.cloud_silent_s,
        cuts_last_hour=turn.state.cuts_since(clock.at),
        accounts_on_site=len(turn.state.accounts),
    )
    blockers = cut_blockers(account, facts)
    if not blockers:
        record_basis(turn, account, clock)
        switch(turn, account, Trigger.LOCAL_DISCONNECT, NO_CREDIT, clock)
        return
    assert account.episode is not None
    if account.episode.deferred != tuple(blocker.code for blocker in blockers):
        evidence = tuple((blocker.code, blocker.evidence) for blocker in blockers)
        turn.emit(ev.CutDeferred(clock.at, account.account_id, evidence))


def judge_again(turn: Turn, account_id: str, register: Register | None, clock: ClockReading) -> None:
    """Notices and restore after money moved. It never cuts."""
    registers = {} if register is None else {account_id: register}
    turn.figures = figures_of(turn.rating, [turn.state.accounts[account_id]], registers)
    decide(turn, account_id, Occasion(clock, register, None, may_cut=False))


def _end_policy(turn: Turn, account: Account, occasion: Occasion) -> None:
    """What is over is over for good, by the wall or by the backend's time, whichever is later.

    A risk level falls back to the normal policy, never to a harsher one. Under a policy that is over nobody is cut.
    """
    until, level_until = account.policy.valid_until, account.risk_until
    if until is None and level_until is None:
        return
    clock, passed_at = occasion.clock, account.passed_at
    known_at = max(clock.at if clock.quality.trusted else passed_at, occasion.server_at or passed_at, passed_at)
    if account.risk_level and level_until is not None and known_at >= level_until:
        turn.emit(ev.RiskLevelExpired(clock.at, account.account_id, account.risk_level))
    if until is not None and passed_at < until <= known_at:
        policy = f"{account.policy.policy_id}@{account.policy.version}"
        turn.emit(ev.PolicyEnded(clock.at, account.account_id, policy, until, known_at))


def deliver(
    turn: Turn, account_id: str, number: int, proof: str, document: str, clock: ClockReading, actor: str = ""
) -> None:
    """Emits the receipt of a notice; that of notice 2 starts the grace."""
    episode = turn.state.accounts[account_id].episode
    assert episode is not None
    elapsed_s = 0 if number == 2 else grace_elapsed(episode, clock)
    turn.emit(ev.NoticeDelivered(clock.at, account_id, number, proof, clock, elapsed_s, document, actor))


_NOTICE_NUMBERS = {Step.NOTICE_1: 1, Step.NOTICE_2: 2, Step.NOTICE_3: 3}
