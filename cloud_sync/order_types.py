"""Every order type in one table: whose key may sign it, what must come with it, and the shape of its arguments.

The structs are the schema of `args`. Amounts are nano of the account's credit unit, shares hundredths of a
percent, days local days since 1970-01-01, times Unix seconds. Within version 1 the table only grows: a gateway
that does not know a type refuses it with a stored result. Source: the wire contract, Down; SECURITY R3, R4, R6.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from cloud_sync.keys import Role
from cloud_sync.wire import LocalId, Order, UnixTime

AMOUNT_NANO_MAX: Final = 9 * 10**18  # fits a signed 64-bit integer with room for the sum's check
INSTALMENTS_MAX: Final = 120
APPROVAL: Final = "approval"  # the argument that carries the second person's envelope

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Nano = Annotated[int, msgspec.Meta(ge=-AMOUNT_NANO_MAX, le=AMOUNT_NANO_MAX)]
Share = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Day = Annotated[int, msgspec.Meta(ge=0, le=2**24)]


class CreditArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """A payment. Its amount is judged by the key's cap, and its time moves late charges only."""

    payment_id: Name
    amount_nano: int
    paid_at: UnixTime | msgspec.UnsetType = msgspec.UNSET


class RefundArguments(msgspec.Struct, frozen=True):
    """A part of a payment that is taken back."""

    payment_id: Name
    amount_nano: int


class ReverseArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is left of a payment is taken back; a part is a refund."""

    payment_id: Name


class SwitchArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a supply is cut, restored or armed."""

    reason: Name = "operator"


class KeepSupplyArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether every cut is refused from here on."""

    keep: bool = True


class SupplyHoldArguments(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A stated reason against cuts, set or lifted. Without a meter it is for the whole site. The weather has an end."""

    kind: Literal["important_customer", "operator_hold", "dispute", "weather_hold", "contact_unverified"]
    reference: Name
    until: UnixTime | None = None
    stands: bool = True

    def __post_init__(self) -> None:
        if self.kind == "weather_hold" and self.stands and self.until is None:
            raise ValueError("a weather hold has an end: `until`")


class NoticeReceiptArguments(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A notice was handed over: the one of that number raised at that instant, a formal one by its document."""

    number: Annotated[int, msgspec.Meta(ge=1, le=3)]
    raised_at: UnixTime
    document_hash: Annotated[str, msgspec.Meta(max_length=64)] = ""


class SetDebtArguments(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A debt is this much from here on. `share` and the cap are for payment debt, `daily_nano` for time debts."""

    kind: Literal["payment", "time_1", "time_2", "accumulated", "old"]
    amount_nano: Nano
    reference: Name
    share: Share = 0
    cap_nano: Nano | None = None
    cap_days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 7
    daily_nano: Nano = 0


class InstalmentsArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Old debt in parts: (day due, share), days rising, 100 % together."""

    plan_id: Name
    total_nano: Nano
    parts: Annotated[tuple[tuple[Day, Share], ...], msgspec.Meta(min_length=1, max_length=INSTALMENTS_MAX)]


class PurchaseOrderArguments(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A numbered amount that is appended to what is left, or replaces it. Each number counts once for ever."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    operation: Literal["append", "refresh"]
    unit: Literal["money", "energy", "time"]
    value_nano: Nano
    alarm_nano: Nano | None = None
    trip_nano: Nano | None = None


class ChangeTenantArguments(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Another customer takes over. `tenant` is a reference the cloud can erase, never a name."""

    tenant: LocalId
    opening_nano: Nano = 0


class PaymentModeArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prepayment, or billed afterwards."""

    mode: Literal["prepayment", "credit"]


class CorrectionArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money put right by a new entry; below 0 to the customer's debit. `reference` names the record."""

    amount_nano: Nano
    reference: Name
    reason: Name


class ReservedCreditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money of the balance set aside (above 0) or given back (below 0)."""

    amount_nano: Nano


class TariffArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tariff document that takes effect, by version and SHA-256 of its body."""

    version: int
    hash: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    effective_at: UnixTime | msgspec.UnsetType = msgspec.UNSET


class PolicyArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy document that takes effect for the order's meter, for `meters`, or for the whole site."""

    version: int
    hash: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
    meters: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    risk_level: str = ""
    risk_until: UnixTime | None = None


class DocumentArguments(msgspec.Struct, frozen=True):
    """A document by version and SHA-256 of its body."""

    version: int
    hash: Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class RevokeArguments(msgspec.Struct, frozen=True):
    """The order that is never to be obeyed."""

    cid: Name


class ResyncArguments(msgspec.Struct, frozen=True, omit_defaults=True):
    """The epoch that is permitted."""

    epoch: int | None = None


Arguments = (
    CreditArguments
    | RefundArguments
    | ReverseArguments
    | SwitchArguments
    | KeepSupplyArguments
    | SupplyHoldArguments
    | NoticeReceiptArguments
    | SetDebtArguments
    | InstalmentsArguments
    | PurchaseOrderArguments
    | ChangeTenantArguments
    | PaymentModeArguments
    | CorrectionArguments
    | ReservedCreditArguments
    | TariffArguments
    | PolicyArguments
    | DocumentArguments
    | RevokeArguments
    | ResyncArguments
)


class OrderType(msgspec.Struct, frozen=True):
    """One type. `approved`: a second person's signature over the same order stands in `args.approval`."""

    role: Role
    arguments: type[Arguments]
    meter: bool = True  # must name one; else it may
    supply: bool = False  # carries `exp` and the meter's supply version `sv`
    expires: bool = True  # may carry `exp`
    approved: bool = False


# A missing row is a refusal. What moves money or debt in the customer's favour without a payment, or takes it
# back, needs two persons (SECURITY R6); a vend key may only credit (R3).
ORDER_TYPES: Final[Mapping[str, OrderType]] = {
    "credit": OrderType(Role.VEND, CreditArguments, expires=False),
    "refund": OrderType(Role.OPS, RefundArguments, approved=True),
    "reverse": OrderType(Role.OPS, ReverseArguments, approved=True),
    "cut": OrderType(Role.OPS, SwitchArguments, supply=True),
    "restore": OrderType(Role.OPS, SwitchArguments, supply=True),
    "arm": OrderType(Role.OPS, SwitchArguments, supply=True),
    "keep_supply": OrderType(Role.OPS, KeepSupplyArguments, supply=True),
    "supply_hold": OrderType(Role.OPS, SupplyHoldArguments, meter=False),
    "notice_receipt": OrderType(Role.OPS, NoticeReceiptArguments),
    "set_debt": OrderType(Role.OPS, SetDebtArguments, approved=True),
    "instalments": OrderType(Role.OPS, InstalmentsArguments),
    "purchase_order": OrderType(Role.OPS, PurchaseOrderArguments, approved=True),
    "change_tenant": OrderType(Role.OPS, ChangeTenantArguments, approved=True),
    "payment_mode": OrderType(Role.OPS, PaymentModeArguments),
    "correction": OrderType(Role.OPS, CorrectionArguments, approved=True),
    "reserved_credit": OrderType(Role.OPS, ReservedCreditArguments),
    "set_policy": OrderType(Role.OPS, PolicyArguments, meter=False),
    "set_roster": OrderType(Role.OPS, DocumentArguments, meter=False),
    "set_config": OrderType(Role.OPS, DocumentArguments, meter=False),
    "set_tariff": OrderType(Role.TARIFF, TariffArguments, meter=False),
    "revoke": OrderType(Role.OPS, RevokeArguments, meter=False),
    "resync": OrderType(Role.OPS, ResyncArguments, meter=False),
}


class ArgumentError(ValueError):
    """What does not fit the order's type: which field, what it is, what is allowed."""


def arguments_of(order: Order) -> Arguments:
    """The typed arguments of an order whose type is known. Raises ArgumentError."""
    kind = ORDER_TYPES[order.type]
    if kind.meter and not order.meter:
        raise ArgumentError("names no meter")
    if kind.supply and (order.exp is None or order.sv is None):
        raise ArgumentError("needs exp and sv")
    if not kind.expires and order.exp is not None:
        raise ArgumentError(f"a {order.type} has no exp: only a revoke ends it")
    try:
        return typed_arguments(order.type, order.args)
    except msgspec.ValidationError as error:
        raise ArgumentError(str(error)) from None


def typed_arguments(order_type: str, args: Mapping[str, Any]) -> Arguments:
    """The arguments alone, without an approval. Raises msgspec.ValidationError."""
    kind = ORDER_TYPES[order_type]
    stated = {name: value for name, value in args.items() if not (kind.approved and name == APPROVAL)}
    arguments: Arguments = msgspec.convert(stated, kind.arguments)
    return arguments
