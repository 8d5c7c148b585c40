"""Purchase orders: a numbered amount of money or energy that is appended to the balance or replaces it.

The order number makes a repeat harmless; alarm and trip thresholds come with the order and stand
until the next one states others. Source: DL/T 698.45 object 8107, RULES.md 5 and 10 (S2). Amounts
are nano of the account's credit unit: an energy account is priced 1 a kWh, so 1 Wh is 10^6 nano.
"""

from enum import Enum

from edge.core.credit_terms import NANO_PER_WATT_HOUR, CreditUnit
from edge.core.lean import dataclass
from edge.core.units import MoneyNano


class OrderOperation(Enum):
    """What an order does to what is left."""

    APPEND = "append"
    REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class PurchaseOrder:
    """One order. A threshold of None leaves the one before in force."""

    number: int
    operation: OrderOperation
    unit: CreditUnit
    value_nano: MoneyNano
    alarm_nano: MoneyNano | None = None
    trip_nano: MoneyNano | None = None


@dataclass(frozen=True, slots=True)
class PurchaseControl:
    """The thresholds of the last order: below `alarm_nano` the customer is told, below `trip_nano` cut."""

    alarm_nano: MoneyNano | None = None
    trip_nano: MoneyNano | None = None
    last_number: int | None = None

    def after(self, order: PurchaseOrder) -> "PurchaseControl":
        """The thresholds once an order is applied."""
        alarm_nano = self.alarm_nano if order.alarm_nano is None else order.alarm_nano
        trip_nano = self.trip_nano if order.trip_nano is None else order.trip_nano
        return PurchaseControl(alarm_nano, trip_nano, order.number)


def order_fault(order: PurchaseOrder, unit: CreditUnit, control: PurchaseControl) -> str | None:
    """What is wrong with an order by itself, first failing check: wrong_unit, amount, too_small, thresholds."""
    if order.unit is not unit:
        return "wrong_unit"
    if order.value_nano < 0 or (order.value_nano == 0 and order.operation is OrderOperation.APPEND):
        return "amount"
    if unit is CreditUnit.ENERGY and 0 < order.value_nano < NANO_PER_WATT_HOUR:
        return "too_small"
    after = control.after(order)
    crossed = after.alarm_nano is not None and after.trip_nano is not None and after.alarm_nano < after.trip_nano
    return "thresholds" if crossed else None


def balance_after(order: PurchaseOrder, live_nano: int) -> MoneyNano:
    """What is left right after the order."""
    return MoneyNano(order.value_nano + (live_nano if order.operation is OrderOperation.APPEND else 0))


def order_key(account_id: str, number: int) -> str:
    """How an order is remembered, for ever: numbers are the meter's own."""
    return f"{account_id}/{number}"
