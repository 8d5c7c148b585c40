"""Orders and terms: supply, keep supply, holds, policies and tariffs, each with its refusals in order.

An order that came with a cid gets a stored result, and is answered once. Source: RULES.md 6, 7 and 10.
"""

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account, Notice
from edge.core.decision import deliver
from edge.core.disconnect_control import Trigger
from edge.core.month_lines import not_contracted
from edge.core.policy import NoticeProof
from edge.core.supply_hold import with_hold
from edge.core.switching import ARMED, reconnect_if_clear, switch
from edge.core.turn import Turn
from edge.core.units import ClockReading, UnixSeconds

SITE_BOOK = "site_book"  # Policy.signed_by of what the installer wrote
REMOTE = {Trigger.REMOTE_DISCONNECT: "cut", Trigger.REMOTE_RECONNECT: "restore"}


def change_terms(turn: Turn, command: cmd.ChangeTerms) -> None:
    """The site book's policy and protection, where they differ and nobody signed another policy."""
    account = turn.state.accounts.get(command.account_id)
    if account is None:
        return
    # A signed policy is changed by a signed one only, not by the book of the next start.
    policy = command.policy if account.policy.signed_by in ("", SITE_BOOK) else account.policy
    terms = (policy, command.protected, command.contracted, command.meters)
    if (account.policy, account.protected, account.contracted, account.meters) != terms:
        turn.emit(ev.TermsChanged(command.received.at, command.account_id, *terms))


def accept_policy(turn: Turn, command: cmd.AcceptPolicy) -> None:
    """Stores a policy document, once for each version."""
    if command.policy not in turn.state.policies:  # a version, once stored, is never another document
        at = command.received.at
        turn.emit(ev.PolicyAccepted(at, command.policy, command.document, command.signed_by))


def set_policy(turn: Turn, command: cmd.SetPolicy) -> None:
    """Puts a policy in force for all accounts it names, or for none of them."""
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account_ids = command.account_ids or tuple(turn.state.accounts)
    refusals = ((name, _policy_refusal(turn.state.accounts.get(name), command)) for name in account_ids)
    name, refusal = next(((name, refusal) for name, refusal in refusals if refusal is not None), ("", None))
    if not account_ids:
        refusal = "unknown_account"
    at = command.received.at
    if refusal is None:
        risk = (command.risk_level, command.risk_policy, command.risk_until)
        if _is_over(command.risk_until, command.received):
            risk = ("", None, None)  # a level that is over is the normal policy, never a harsher one
        for account_id in account_ids:
            turn.emit(ev.PolicySet(at, account_id, command.policy, *risk))
        name = account_ids[0] if len(account_ids) == 1 else ""
    if command.cid is not None:
        turn.emit(_result(command.received.at, command.cid, "set_policy", name, refusal))


def _is_over(end_at: int | None, clock: ClockReading) -> bool:
    """Whether an end has passed by a clock that somebody vouches for: any other clock ends nothing."""
    return end_at is not None and clock.quality.trusted and clock.at >= end_at


def _policy_refusal(account: Account | None, command: cmd.SetPolicy) -> str | None:
    """In this order: unknown_account, unsigned, risk_level (half stated), wrong_unit, older_version, expired."""
    if account is None:
        return "unknown_account"
    policy, present = command.policy, account.normal_policy or account.policy
    if policy.signed_by in ("", SITE_BOOK):
        return "unsigned"
    stated = (bool(command.risk_level), command.risk_policy is not None, command.risk_until is not None)
    if len(set(stated)) != 1:
        return "risk_level"  # a level without an end would never fall back
    units = {terms.credit.unit for terms in (policy, command.risk_policy or policy)}
    if units != {present.credit.unit}:
        return "wrong_unit"  # a balance is never converted
    if policy.policy_id == present.policy_id and policy.version < present.version and present.signed_by != SITE_BOOK:
        return "older_version"
    return "expired" if _is_over(policy.valid_until, command.received) else None


def switch_supply(turn: Turn, command: cmd.SwitchSupply) -> None:
    """A remote order or a key press: one trigger of the disconnect control, answered by result or by refusal."""
    order_type = "arm" if command.arm else REMOTE.get(command.trigger, command.trigger.value)
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account = turn.state.accounts.get(command.account_id)
    refusal = _order_refusal(account, command)
    if account is not None and refusal is None:
        reason = ARMED if command.arm else command.reason
        version, actor = command.supply_version, command.actor
        refused = switch(
            turn, account, command.trigger, reason, command.received, version, arm=command.arm, actor=actor
        )
        refusal = refused.reason if refused is not None else None
        reconnect_if_clear(turn, command.account_id, command.received)
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


def keep_supply(turn: Turn, command: cmd.KeepSupply) -> None:
    """Sets or lifts a keep-supply order. Refused: unknown_account, superseded."""
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


def set_supply_hold(turn: Turn, command: cmd.SetSupplyHold) -> None:
    """Sets or lifts a stated reason against cuts, for one account or for all. Refused: unknown_account."""
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


def confirm_notice(turn: Turn, command: cmd.ConfirmNotice) -> None:
    """The receipt of a notice that stands; the grace of notice 2 runs from its coming in, never from before."""
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account = turn.state.accounts.get(command.account_id)
    episode = account.episode if account is not None else None
    notice = episode.notice(command.number) if episode is not None else None
    refusal = "unknown_account" if account is None else _receipt_refusal(account, notice, command)
    if refusal is None:
        assert notice is not None
        document = notice.document_hash
        deliver(turn, command.account_id, command.number, command.proof, document, command.received, command.actor)
    _answer(turn, command, "notice_receipt", refusal)


def _receipt_refusal(account: Account, notice: Notice | None, command: cmd.ConfirmNotice) -> str | None:
    """In this order: no_notice, other_notice (of an episode that is over), other_proof, already_delivered, document."""
    if notice is None:
        return "no_notice"
    if command.raised_at is not None and command.raised_at != notice.raised_at:
        return "other_notice"
    if command.actor and account.policy.notice_proof is NoticeProof.CLOUD_RECEIPT:
        return "other_proof"  # nobody's word on site replaces the receipt that this policy asks for
    if notice.receipt is not None:
        return "already_delivered"  # receipts come late and twice: the first one stands
    # A formal notice is proved by its own document and by nothing else.
    return "document" if notice.document_hash and command.document_hash != notice.document_hash else None


def _answer(
    turn: Turn,
    command: cmd.SwitchSupply | cmd.KeepSupply | cmd.SetSupplyHold | cmd.ConfirmNotice,
    order_type: str,
    refusal: str | None,
) -> None:
    """The stored result of an order that came with a cid; a person on site is told why not."""
    at, account_id = command.received.at, command.account_id
    if command.cid is not None:
        turn.emit(_result(at, command.cid, order_type, account_id, refusal))
    elif refusal is not None and isinstance(command, cmd.SwitchSupply | cmd.ConfirmNotice) and command.actor:
        turn.emit(ev.RequestRefused(at, account_id, order_type, refusal))


def _result(
    at: UnixSeconds, cid: str, order_type: str, account_id: str, refusal: str | None
) -> ev.OrderApplied | ev.OrderRefused:
    if refusal is None:
        return ev.OrderApplied(at, cid, order_type, account_id)
    return ev.OrderRefused(at, cid, order_type, account_id, refusal)


def accept_tariff(turn: Turn, command: cmd.AcceptTariff) -> None:
    """Stores a tariff document, once for each version."""
    if command.tariff not in turn.state.tariffs:  # a version, once stored, is never another document
        turn.emit(ev.TariffAccepted(command.received.at, command.tariff, command.document))


def schedule_tariff(turn: Turn, command: cmd.ScheduleTariff) -> None:
    """Puts a stored tariff in force from an instant.

    Refused: unknown_tariff, before_valid_from, unknown_contract (of an account, where its demand goes by it).
    """
    at = command.received.at
    if command.cid is not None and command.cid in turn.state.applied:
        return
    refusal = None if command.tariff in turn.state.tariffs else "unknown_tariff"
    if refusal is None and command.effective_at < turn.rating.valid_from[command.tariff]:
        refusal = "before_valid_from"
    if refusal is None and _lacks_contract(turn, command):
        refusal = "unknown_contract"
    if refusal is not None:
        if command.cid is not None:
            turn.emit(ev.OrderRefused(at, command.cid, "set_tariff", "", refusal))
        return
    for account_id in command.account_ids or tuple(turn.state.accounts):
        if account_id in turn.state.accounts:
            turn.emit(ev.TariffScheduled(at, account_id, command.tariff, command.effective_at))
    if command.cid is not None:
        turn.emit(ev.OrderApplied(at, command.cid, "set_tariff", ""))


def _lacks_contract(turn: Turn, command: cmd.ScheduleTariff) -> bool:
    """Whether the tariff goes by a contract or capacity that an account it is for does not have."""
    terms, accounts = turn.rating.terms.get(command.tariff), turn.state.accounts
    named = [accounts[name] for name in command.account_ids or tuple(accounts) if name in accounts]
    return terms is not None and any(not_contracted(terms, account.contracted) for account in named)


def refuse_order(turn: Turn, command: cmd.RefuseOrder) -> None:
    """Stores the refusal of an order that never reached an account."""
    if command.cid not in turn.state.applied:
        turn.emit(ev.OrderRefused(command.received.at, command.cid, command.order_type, "", command.reason))


def revoke_order(turn: Turn, command: cmd.RevokeOrder) -> None:
    """An order without a result gets one: `revoked`, so it is never obeyed. Refused: arguments, too_late."""
    if command.cid in turn.state.applied:
        return
    at, revoked = command.received.at, command.revoked_cid
    if revoked == command.cid:
        turn.emit(ev.OrderRefused(at, command.cid, "revoke", "", "arguments"))
    elif revoked in turn.state.applied:
        turn.emit(ev.OrderRefused(at, command.cid, "revoke", "", "too_late"))
    else:
        turn.emit(ev.OrderRefused(at, revoked, "revoked", "", "revoked"))  # what it was, nobody here knows
        turn.emit(ev.OrderApplied(at, command.cid, "revoke", "", "revoked"))
