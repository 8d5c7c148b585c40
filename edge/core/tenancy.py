"""A change of tenant: the last bill and a snapshot of the former one, then a new start on the same meter.

Balance and debts leave with the former tenant (the cloud settles them); block position, mean day,
emergency credit and notices begin anew; payment ids and order numbers count for ever. Who holds the
account is a reference the cloud can erase, never a name (RULES.md 5 and 10, SMETS2 change of tenancy).
"""

from functools import reduce

from edge.core import events as ev
from edge.core.account import State
from edge.core.boundary import issue_now
from edge.core.charge import Rating
from edge.core.commands import ChangeTenant
from edge.core.ledger import apply
from edge.core.units import MoneyNano


def tenancy_refusal(state: State, command: ChangeTenant) -> str | None:
    """Why the tenant does not change, first failing check: tenant (none named, or the present one), register_hold."""
    account = state.accounts[command.account_id]
    if not command.tenant or command.tenant == account.tenant:
        return "tenant"
    return "register_hold" if account.hold is not None else None


def tenancy_events(state: State, command: ChangeTenant, rating: Rating) -> list[ev.Event]:
    """The last bill up to the recorded register, and the change."""
    found = issue_now(state, command.account_id, rating, last=True)
    account = reduce(apply, found, state).accounts[command.account_id]
    debts = account.debts
    found.append(
        ev.TenantChanged(
            at=command.received.at,
            account=command.account_id,
            tenant=command.tenant,
            former_tenant=account.tenant,
            register_at=account.recorded.at,
            register_wh=account.recorded.register_wh,
            former_balance_nano=account.money_nano,
            former_payment_debt_nano=debts.payment.amount_nano,
            former_time_1_nano=debts.time_1.amount_nano,
            former_time_2_nano=debts.time_2.amount_nano,
            former_accumulated_nano=debts.accumulated_nano,
            former_old_debt_nano=debts.old_nano,
            former_reserved_nano=account.reserved_nano,
            posting_nano=MoneyNano(command.opening_nano - account.money_nano),
            balance_nano=command.opening_nano,
        )
    )
    return found
