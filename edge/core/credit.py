"""Payments and other money: what is refused, and what is posted to the account.

First failing check wins, in this order: cid already answered (no event at all: the stored
result stands), payment id already applied (`duplicate`), `unknown_account`, `wrong_unit`, `amount`
(0 or negative), `above_limit` (of one payment), `above_maximum_balance`, `above_meter_day_limit`,
`above_gateway_day_limit`. Limits refuse, they never clip (RULES.md 5, SECURITY.md R4). Money in
nano-currency.
"""

from edge.core import events as ev
from edge.core.account import Account, Receipt, State
from edge.core.allocation import Allocation, Standing, allocate
from edge.core.calendar import ZoneOffsets, local_day
from edge.core.commands import ApplyPayment, ReversePayment
from edge.core.credit_terms import CreditUnit
from edge.core.emergency import emergency_used, is_given_back
from edge.core.late_charge import settle
from edge.core.lean import dataclass
from edge.core.purchased import PurchaseBlocks, given_back, lines_kept, purchase
from edge.core.terms import LateCharge
from edge.core.units import ClockReading, MoneyNano, UnixSeconds, WattHours

SIGNATURES_MIN = 2  # of a correction
_MOVES = (ev.PaymentAllocated, ev.EnergyBought)


@dataclass(frozen=True, slots=True)
class Moment:
    """When and on what balance money comes in: the clock, the zone, and the live balance just before.

    `blocks`: those of a tariff that counts what is bought. `late`: what its late charge is, and the nano of a
    minor unit.
    """

    clock: ClockReading
    zone: ZoneOffsets
    live_nano: MoneyNano
    blocks: PurchaseBlocks | None = None
    late: tuple[LateCharge | None, int] = (None, 1)


def payment_refusal(state: State, command: ApplyPayment, zone: ZoneOffsets) -> str | None:
    """Why this payment is not applied, or None."""
    if command.payment_id in state.payments:
        return "duplicate"
    account = state.accounts.get(command.account_id)
    if account is None:
        return "unknown_account"
    if command.unit is not account.policy.credit.unit:
        return "wrong_unit"
    if command.amount_nano <= 0:
        return "amount"
    day = limit_day(state, account, command.received, zone)
    return limit_refusal(state, account, command.amount_nano, account.recorded_live_nano, day)


def limit_refusal(state: State, account: Account, amount_nano: int, live_nano: int, day: int) -> str | None:
    """Which limit an amount of credit would break, or None."""
    terms = account.policy.credit
    if amount_nano > account.policy.payment_nano_max:
        return "above_limit"
    if live_nano + amount_nano > terms.balance_nano_max:
        return "above_maximum_balance"
    if amount_nano + (account.paid_day_nano if account.paid_day == day else 0) > terms.meter_day_nano_max:
        return "above_meter_day_limit"
    if amount_nano + (state.paid_day_nano if state.paid_day == day else 0) > terms.gateway_day_nano_max:
        return "above_gateway_day_limit"
    return None


def limit_day(state: State, account: Account, clock: ClockReading, zone: ZoneOffsets) -> int:
    """The local day an amount counts on. A clock nobody vouches for, or one set back, begins no new day."""
    known_day = max(state.paid_day, account.paid_day)
    return max(known_day, _day_of(zone, clock.at)) if clock.quality.trusted else known_day


def purchase_day(state: State, account: Account, clock: ClockReading, zone: ZoneOffsets) -> int:
    """The local day a purchase counts on in its blocks: as `limit_day`, and not before the newest reading."""
    return max(limit_day(state, account, clock, zone), _day_of(zone, account.recorded.at))


def payment_events(state: State, command: ApplyPayment, moment: Moment) -> list[ev.Event]:
    """The events of a payment: applied or refused, where it went, and the stored result of its order."""
    if command.cid is not None and command.cid in state.applied:
        return []
    at, refusal = command.received.at, payment_refusal(state, command, moment.zone)
    found: list[ev.Event] = []
    if refusal is not None:
        found.append(
            ev.PaymentRefused(at, command.account_id, command.payment_id, command.amount_nano, command.door, refusal)
        )
        if command.cid is not None:
            found.append(ev.OrderRefused(at, command.cid, "credit", command.account_id, refusal))
        return found
    account = state.accounts[command.account_id]
    balance = MoneyNano(account.money_nano + command.amount_nano)
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
            limit_day=limit_day(state, account, command.received, moment.zone),
        )
    )
    # A time of payment in the future is nobody's; a back-dated one moves caps only (RULES.md 10).
    paid_at = min(command.paid_at, command.received.at)
    day = purchase_day(state, account, command.received, moment.zone)
    found.extend(allocation_events(account, command.payment_id, command.amount_nano, (paid_at, day), moment))
    # What raises the money settles bills; what went to debts does not.
    raised_nano = command.amount_nano + sum(event.posting_nano for event in found[1:] if isinstance(event, _MOVES))
    found.extend(_settled(account, command, raised_nano, paid_at, moment))
    if command.cid is not None:
        found.append(ev.OrderApplied(at, command.cid, "credit", command.account_id))
    return found


def _settled(
    account: Account, command: ApplyPayment, raised_nano: int, paid_at: int, moment: Moment
) -> list[ev.BillsSettled]:
    """Which open bills a payment settles, on its day; no later one than a clock can vouch for."""
    if not account.open_bills:
        return []
    known_at = moment.clock.at if moment.clock.quality.trusted and not moment.clock.doubted else account.recorded.at
    paid_day = _day_of(moment.zone, min(paid_at, known_at))
    below_nano = -account.policy.overdraft_nano - account.money_nano
    parts = settle(account.open_bills, raised_nano, max(0, below_nano), paid_day, moment.late)
    return [ev.BillsSettled(moment.clock.at, account.account_id, command.payment_id, paid_day, parts)] if parts else []


def allocation_events(
    account: Account, payment_id: str, amount_nano: int, paid: tuple[int, int], moment: Moment
) -> list[ev.Event]:
    """Where a payment just applied goes, if anything but the token credit; what it buys where blocks count
    purchases; and emergency credit given back. `paid`: the instant, and the local day its purchase counts on.
    """
    paid_at, day = paid
    terms, threshold_nano, debts = account.policy.credit, account.threshold_nano, account.debts
    at, invoked = moment.clock.at, account.emergency.invoked
    used_nano = emergency_used(terms, invoked, moment.live_nano, threshold_nano)
    period = debts.payment.cap_period(_day_of(moment.zone, paid_at)) if debts.payment.amount_nano else 0
    parts = allocate(
        amount_nano, debts, terms.old_debt_share, Standing(moment.live_nano, threshold_nano, used_nano, period)
    )
    bought = purchase_events(account, payment_id, parts.credit_nano, day, moment)
    live_after = MoneyNano(moment.live_nano + parts.credit_nano + sum(event.posting_nano for event in bought))
    found: list[ev.Event] = []
    if parts.token_nano != amount_nano:
        used_after = emergency_used(terms, invoked, live_after, threshold_nano)
        found.append(_allocated(account, payment_id, amount_nano, parts, (at, period, used_after)))
    found.extend(bought)
    if live_after >= threshold_nano and is_given_back(terms, invoked, live_after):
        found.append(ev.EmergencyCreditGivenBack(at, account.account_id, live_after))
    return found


def purchase_events(
    account: Account, payment_id: str, credit_nano: int, day: int, moment: Moment
) -> list[ev.EnergyBought]:
    """What credit just posted buys under a tariff whose blocks count purchases; nothing under another."""
    blocks = moment.blocks
    if blocks is None or account.policy.credit.unit is not CreditUnit.MONEY or credit_nano <= 0:
        return []
    bought = purchase(blocks, account.bought, credit_nano, day)
    return [
        ev.EnergyBought(
            at=moment.clock.at,
            account=account.account_id,
            payment_id=payment_id,
            first_day=bought.first_day,
            before_wh=bought.before_wh,
            energy_wh=WattHours(bought.energy_wh),
            lines=bought.lines,
            basis_micro_per_kwh=blocks.basis_micro_per_kwh,
            rest_nano=bought.rest_nano,
            posting_nano=MoneyNano(-bought.block_nano),
            balance_nano=MoneyNano(account.money_nano + credit_nano - bought.block_nano),
        )
    ]


def _allocated(
    account: Account, payment_id: str, amount_nano: int, parts: Allocation, after: tuple[int, int, MoneyNano]
) -> ev.PaymentAllocated:
    at, cap_period, used_after = after
    return ev.PaymentAllocated(
        at=UnixSeconds(at),
        account=account.account_id,
        payment_id=payment_id,
        amount_nano=MoneyNano(amount_nano),
        payment_debt_nano=parts.payment_debt_nano,
        accumulated_debt_nano=parts.accumulated_debt_nano,
        old_debt_nano=parts.old_debt_nano,
        below_threshold_nano=parts.below_threshold_nano,
        emergency_nano=parts.emergency_nano,
        token_nano=parts.token_nano,
        cap_period=cap_period,
        emergency_used_nano=used_after,
        posting_nano=MoneyNano(-parts.debts_nano),
        balance_nano=MoneyNano(account.money_nano + parts.credit_nano),
    )


def two_vouch(signed_by: tuple[str, ...]) -> bool:
    """Whether two different keys stand behind a correction (SECURITY.md R6)."""
    return len(set(signed_by)) >= SIGNATURES_MIN and "" not in signed_by


def reversal_refusal(state: State, command: ReversePayment) -> str | None:
    """Why a payment is not taken back, first failing check.

    two_signatures, unknown_payment, amount, above_payment, former_tenant.
    """
    if not two_vouch(command.signed_by):
        return "two_signatures"
    account_id = state.payments.get(command.payment_id)
    if account_id is None:
        return "unknown_payment"
    receipt = state.receipts[command.payment_id]
    if command.amount_nano <= 0:
        return "amount"
    if command.amount_nano > receipt.amount_nano - receipt.reversed_nano:
        return "above_payment"
    return None if receipt.tenancy == state.accounts[account_id].tenancy else "former_tenant"


def reversal_events(state: State, command: ReversePayment) -> list[ev.Event]:
    """The events of a reversal. It opens an episode through the balance, it cuts nothing by itself.

    It takes back what raised the balance first, then what paid debts: those are owed again.
    """
    if command.cid in state.applied:
        return []
    at, refusal = command.received.at, reversal_refusal(state, command)
    account_id = state.payments.get(command.payment_id, "")
    if refusal is not None:
        return [ev.OrderRefused(at, command.cid, "reverse", account_id, refusal)]
    balance = MoneyNano(state.accounts[account_id].money_nano - command.amount_nano)
    posting = MoneyNano(-command.amount_nano)
    found: list[ev.Event] = [
        ev.PaymentReversed(at, account_id, command.payment_id, posting, balance, command.signed_by)
    ]
    receipt = state.receipts[command.payment_id]
    to_debts = command.amount_nano - (receipt.amount_nano - receipt.reversed_nano - receipt.debts_nano)
    if to_debts > 0:
        parts = _owed_again(receipt, to_debts)
        after = MoneyNano(balance + to_debts)
        found.append(
            ev.AllocationReversed(
                at, account_id, command.payment_id, *parts, receipt.cap_period, MoneyNano(to_debts), after
            )
        )
    if receipt.bought:
        from_credit_nano = command.amount_nano - max(0, to_debts)
        found.append(_energy_returned(state.accounts[account_id], command, receipt, from_credit_nano))
    found.append(ev.OrderApplied(at, command.cid, "reverse", account_id))
    return found


def _energy_returned(
    account: Account, command: ReversePayment, receipt: Receipt, taken_nano: int
) -> ev.BoughtEnergyReturned:
    """What the blocks of energy no longer bought had cost. `taken_nano` came from what the payment had bought by."""
    kept = lines_kept(receipt.bought, taken_nano)
    returned_wh = sum(line.energy_wh for line in receipt.bought) - sum(line.energy_wh for line in kept)
    basis = account.bought.basis_micro_per_kwh or receipt.bought_basis_micro_per_kwh
    posting_nano = given_back(receipt.bought, kept, basis)
    return ev.BoughtEnergyReturned(
        at=command.received.at,
        account=account.account_id,
        payment_id=command.payment_id,
        first_day=receipt.bought_first_day,
        energy_wh=WattHours(returned_wh),
        lines=kept,
        basis_micro_per_kwh=basis,
        posting_nano=posting_nano,
        balance_nano=MoneyNano(account.money_nano - taken_nano + posting_nano),
    )


def _owed_again(receipt: Receipt, amount_nano: int) -> tuple[MoneyNano, MoneyNano, MoneyNano]:
    """(payment debt, accumulated debt, old debt): the last to be paid is the first to be owed again."""
    old_debt = min(amount_nano, receipt.old_debt_nano)
    accumulated = min(amount_nano - old_debt, receipt.accumulated_debt_nano)
    payment_debt = amount_nano - old_debt - accumulated
    return MoneyNano(payment_debt), MoneyNano(accumulated), MoneyNano(old_debt)


def _day_of(zone: ZoneOffsets, at: int) -> int:
    """The local day; beyond the zone's data its last day."""
    return local_day(zone, max(0, min(at, zone.end_at - 1)))
