"""Orders and terms: supply, keep supply, holds, policies and tariffs, each with its refusals in order.

An order that came with a cid gets a stored result, and is answered once. Source: RULES.md 6, 7 and 10.
"""

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Account
from edge.core.disconnect_control import Trigger
from edge.core.supply_hold import with_hold
from edge.core.switching import reconnect_if_clear, switch
from edge.core.turn import Turn

SITE_BOOK = "site_book"  # Policy.signed_by of what the installer wrote
REMOTE = {Trigger.REMOTE_DISCONNECT: "cut", Trigger.REMOTE_RECONNECT: "restore"}


def change_terms(turn: Turn, command: cmd.ChangeTerms) -> None:
    """The site book's policy and protection, where they differ and nobody signed another policy."""
    account = turn.state.accounts.get(command.account_id)
    if account is None:
        return
    # A signed policy is changed by a signed one only, not by the book of the next start.
    policy = command.policy if account.policy.signed_by in ("", SITE_BOOK) else account.policy
    if (account.policy, account.protected) != (policy, command.protected):
        turn.emit(ev.TermsChanged(command.received.at, command.account_id, policy, command.protected))


def set_policy(turn: Turn, command: cmd.SetPolicy) -> None:
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


def switch_supply(turn: Turn, command: cmd.SwitchSupply) -> None:
    """A remote order or a key press: one trigger of the disconnect control, answered if it has a cid."""
    order_type = REMOTE.get(command.trigger, command.trigger.value)
    if command.cid is not None and command.cid in turn.state.applied:
        return
    account = turn.state.accounts.get(command.account_id)
    refusal = _order_refusal(account, command)
    if account is not None and refusal is None:
        refused = switch(turn, account, command.trigger, command.reason, command.received, command.supply_version)
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


def accept_tariff(turn: Turn, command: cmd.AcceptTariff) -> None:
    """Stores a tariff document, once for each version."""
    if command.tariff not in turn.state.tariffs:  # a version, once stored, is never another document
        turn.emit(ev.TariffAccepted(command.received.at, command.tariff, command.document))


def schedule_tariff(turn: Turn, command: cmd.ScheduleTariff) -> None:
    """Puts a stored tariff in force from an instant. Refused: unknown_tariff, before_valid_from."""
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


def refuse_order(turn: Turn, command: cmd.RefuseOrder) -> None:
    """Stores the refusal of an order that never reached an account."""
    if command.cid not in turn.state.applied:
        turn.emit(ev.OrderRefused(command.received.at, command.cid, command.order_type, "", command.reason))
