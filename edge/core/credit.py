"""Payments and other money: what is refused, and what is posted to the account.

First failing check wins, in this order: cid already answered (no event at all: the stored
result stands), payment id already applied (`duplicate`), `unknown_account`, `amount` (0 or
negative), `above_limit`. Limits refuse, they never clip (RULES.md 5). Money in nano-currency.
"""

from edge.core import events as ev
from edge.core.account import State
from edge.core.commands import ApplyPayment, ReversePayment
from edge.core.units import MoneyNano


def payment_refusal(state: State, command: ApplyPayment) -> str | None:
    """Why this payment is not applied, or None."""
    if command.payment_id in state.payments:
        return "duplicate"
    account = state.accounts.get(command.account_id)
    if account is None:
        return "unknown_account"
    if command.amount_nano <= 0:
        return "amount"
    return "above_limit" if command.amount_nano > account.policy.payment_nano_max else None


def payment_events(state: State, command: ApplyPayment) -> list[ev.Event]:
    """The events of a payment: applied or refused, and the stored result of the order that carried it."""
    if command.cid is not None and command.cid in state.applied:
        return []
    at, refusal = command.received.at, payment_refusal(state, command)
    found: list[ev.Event] = []
    if refusal is not None:
        found.append(
            ev.PaymentRefused(at, command.account_id, command.payment_id, command.amount_nano, command.door, refusal)
        )
        if command.cid is not None:
            found.append(ev.OrderRefused(at, command.cid, "credit", command.account_id, refusal))
        return found
    balance = MoneyNano(state.accounts[command.account_id].money_nano + command.amount_nano)
    found.append(
        ev.PaymentApplied(
            at=at,
            account=command.account_id,
            payment_id=command.payment_id,
            amount_nano=command.amount_nano,
            door=command.door,
            paid_at=command.paid_at,
            posting_nano=command.amount_nano,
            balance_nano=balance,
        )
    )
    if command.cid is not None:
        found.append(ev.OrderApplied(at, command.cid, "credit", command.account_id))
    return found


def reversal_events(state: State, command: ReversePayment) -> list[ev.Event]:
    """The events of a reversal. It opens an episode through the balance, it cuts nothing by itself."""
    if command.cid in state.applied:
        return []
    at = command.received.at
    account_id = state.payments.get(command.payment_id)
    if account_id is None or command.amount_nano <= 0:
        reason = "unknown_payment" if account_id is None else "amount"
        return [ev.OrderRefused(at, command.cid, "reverse", account_id or "", reason)]
    balance = MoneyNano(state.accounts[account_id].money_nano - command.amount_nano)
    posting = MoneyNano(-command.amount_nano)
    return [
        ev.PaymentReversed(at, account_id, command.payment_id, posting, balance),
        ev.OrderApplied(at, command.cid, "reverse", account_id),
    ]
