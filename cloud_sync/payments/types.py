"""What goes over the wire between a channel and the payments API. The OpenAPI document is made from these types.

Amounts are decimal strings of the currency with at most nine places, never floats; times Unix seconds.
"""

import re
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from cloud_sync.wire import LocalId

NANO: Final = 10**9
_AMOUNT: Final = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?(?!\n)$"
KEY_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"
CHANNEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,22}")
IDEMPOTENCY_KEY: Final = re.compile(KEY_PATTERN.removeprefix("^").removesuffix("$"))

Amount = Annotated[
    str, msgspec.Meta(pattern=_AMOUNT, description="a decimal of the currency, as 12.34", examples=["50.00"])
]


class PaymentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment that a channel has taken for a meter. The amount is above 0."""

    gateway: LocalId
    meter: LocalId
    amount: Amount


class Payment(msgspec.Struct, frozen=True):
    """A payment and its timeline; what has not happened yet, or is not known yet, is null."""

    payment_id: str
    gateway: str
    meter: str
    amount: str
    cid: str | None
    received_at: int
    result: str | None
    ordered_at: int | None
    answered_at: int | None
    balance: str | None
    balance_at: int | None
    reversal_cid: str | None
    reversal_result: str | None


class Accepted(msgspec.Struct, frozen=True):
    """The payment is kept and its credit ordered. The same for every retry with the same key and body."""

    payment_id: str
    cid: str
    amount: str
    received_at: int


class Reversal(msgspec.Struct, frozen=True):
    """The order that takes back what is left of a payment. The gateway decides."""

    payment_id: str
    reversal_cid: str


class Voucher(msgspec.Struct, frozen=True):
    """The signed credit as text: the same bytes and command id, so it counts once whichever way it comes."""

    payment_id: str
    qr: str
    typed: str


class Statistics(msgspec.Struct, frozen=True):
    """A channel's UTC day: how many came, what became of them, and how long the gateway's answer took, seconds."""

    day: str
    payments: int
    applied: int
    rejected: int
    waiting: int
    answer_seconds_p50: int | None
    answer_seconds_p90: int | None
    answer_seconds_p99: int | None


class Problem(msgspec.Struct, frozen=True):
    """Why a request was not obeyed: a code for programs, what is wrong, where, and what is allowed."""

    error: str
    what: str
    where: str
    allowed: str


def nano_of(amount: str) -> int:
    """Nano-currency of an amount that has the pattern."""
    return int(Decimal(amount) * NANO)


def amount_of(nano: int) -> str:
    """The decimal of nano-currency, with two to nine places."""
    whole, rest = divmod(abs(nano), NANO)
    places = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{places}"
