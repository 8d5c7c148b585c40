"""Signed orders and documents: what the cloud may make a gateway do, and who may say so.

An order travels in an envelope (envelope.py), on `dn/cmd` or as a voucher: same bytes, same
check. Amounts are nano-currency, `nbf` and `exp` Unix seconds. Source: the wire contract,
Down: commands and money; SECURITY R1, R3, R4.

`verify_order` refuses with the first reason that applies, in this order:

    size           longer than ORDER_BYTES_MAX
    version        not an envelope of this version, or an order of another contract version
    malformed      not an order: JSON, unknown or missing field, wrong type
    unknown_key    `kid` is not in the key ring
    signature      the key did not sign these bytes as an order
    unknown_type   a type this version does not know
    role           this key's role may not order this type
    wrong_gateway  made for another gateway
    arguments      arguments do not fit the type (a credit with `exp`, a cut without `sv` ...)
    cap            a credit above what this key may credit
    amount         0, negative, or not an integer
    approval       takes money back, and no second person's key says the same (SECURITY R6)

Nothing here knows the clock or what was applied before: `window_refusal` is asked by whoever
holds the clock, duplicates and supersession are the account's business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import msgspec

from cloud_sync.envelope import (
    DOMAIN_APPROVAL,
    DOMAIN_DOCUMENT,
    DOMAIN_ORDER,
    OVERHEAD_BYTES,
    seal,
    signature_holds,
    split,
)
from cloud_sync.keys import KeyEntry, KeyRing, Role, Signer
from cloud_sync.wire import CONTRACT_VERSION, Approval, Document, Order, WireError, decode_json

ORDER_BYTES_MAX: Final = 4096
DOCUMENT_BYTES_MAX: Final = 128 * 1024
AMOUNT_NANO_MAX: Final = 9 * 10**18  # fits a signed 64-bit integer with room for the sum's check


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """Why an envelope is not obeyed. `reason` is one of the module's list.

    `order` is there when a trusted key signed it for this gateway: then the refusal is an answer
    that whoever sent it must get (a credit never fails silently).
    """

    reason: str
    detail: str = ""
    order: Order | None = None


# Which role may order what. A missing row is a refusal.
ORDER_ROLES: Final[Mapping[str, Role]] = {
    "credit": Role.VEND,
    "refund": Role.OPS,
    "reverse": Role.OPS,
    "cut": Role.OPS,
    "restore": Role.OPS,
    "arm": Role.OPS,
    "keep_supply": Role.OPS,
    "set_policy": Role.OPS,
    "set_roster": Role.OPS,
    "set_config": Role.OPS,
    "revoke": Role.OPS,
    "resync": Role.OPS,
    "set_tariff": Role.TARIFF,
}

# Corrections need two signatures: the order's own, and one of another key with one of these roles.
APPROVED_TYPES: Final = frozenset(("refund", "reverse"))
APPROVAL_ROLES: Final = frozenset((Role.OPS, Role.TARIFF))

DOCUMENT_ROLES: Final[Mapping[str, Role]] = {
    "tariff": Role.TARIFF,
    "policy": Role.OPS,
    "roster": Role.OPS,
    "config": Role.OPS,
    "keys": Role.ROOT,
}


def sign_order(order: Order, signer: Signer) -> bytes:
    """The envelope of an order. The order must name the signer's key."""
    assert order.kid == signer.kid
    return seal(DOMAIN_ORDER, signer.key, msgspec.json.encode(order))


def verify_order(envelope: bytes, ring: KeyRing, gateway_id: str) -> Order | OrderRefused:
    """The order in an envelope, or the first reason not to obey it."""
    opened = _open_order(envelope, ring)
    if isinstance(opened, OrderRefused):
        return opened
    order, key = opened
    refusal = _content_refusal(order, key, gateway_id)
    if refusal is None and order.type in APPROVED_TYPES and approved_by(order, ring) is None:
        refusal = OrderRefused("approval", "needs a second person's signature over the same order")
    if refusal is None:
        return order
    return replace(refusal, order=order) if order.gw == gateway_id else refusal


def approve_order(order: Order, signer: Signer) -> Order:
    """The same order with a second person's approval in it. It must be signed afterwards, by another key."""
    approval = seal(DOMAIN_APPROVAL, signer.key, msgspec.json.encode(_approval_of(order, signer.kid)))
    return msgspec.structs.replace(order, args={**order.args, "approval": approval.hex()})


def approved_by(order: Order, ring: KeyRing) -> str | None:
    """The key id of the second person who signed the same order, None unless there is one who may."""
    stated = order.args.get("approval")
    try:
        parts = split(bytes.fromhex(stated)) if isinstance(stated, str) else None
        approval = None if parts is None else decode_json(_APPROVAL, parts.content)
    except (ValueError, WireError):
        return None
    if parts is None or approval is None:
        return None
    first, second = ring.get(order.kid), ring.get(approval.kid)
    if first is None or second is None or second.role not in APPROVAL_ROLES or first.public_key == second.public_key:
        return None
    says_the_same = approval == _approval_of(order, approval.kid)
    is_signed = signature_holds(DOMAIN_APPROVAL, second.public_key, parts)
    return second.kid if says_the_same and is_signed else None


def _approval_of(order: Order, kid: str) -> Approval:
    args = {name: value for name, value in order.args.items() if name != "approval"}
    return Approval(v=order.v, cid=order.cid, gw=order.gw, meter=order.meter, type=order.type, args=args, kid=kid)


def window_refusal(order: Order, at: int, clock_trusted: bool) -> OrderRefused | None:
    """Whether the order's window forbids it now: `clock`, `not_yet`, `expired`, or None.

    A credit is accepted on any clock and never expires; only a revoke ends it.
    """
    if order.type == "credit":
        return None
    if order.exp is not None and not clock_trusted:
        return OrderRefused("clock")
    if clock_trusted and at < order.nbf:
        return OrderRefused("not_yet")
    if order.exp is not None and at >= order.exp:
        return OrderRefused("expired")
    return None


def sign_document(document: Document, signer: Signer) -> bytes:
    """The envelope of a document. The document must name the signer's key."""
    assert document.kid == signer.kid
    return seal(DOMAIN_DOCUMENT, signer.key, msgspec.json.encode(document))


def verify_document(envelope: bytes, ring: KeyRing, gateway_id: str) -> Document | OrderRefused:
    """The document in an envelope, or why it is refused; same reasons and order as for orders."""
    if len(envelope) > DOCUMENT_BYTES_MAX:
        return OrderRefused("size", f"{len(envelope)} bytes")
    opened = _open(envelope, ring, DOMAIN_DOCUMENT, _DOCUMENT)
    if isinstance(opened, OrderRefused):
        return opened
    document, key = opened
    role = DOCUMENT_ROLES.get(document.kind)
    if role is None:
        return OrderRefused("unknown_type", document.kind)
    if key.role is not role:
        return OrderRefused("role", f"{key.role.value} may not sign a {document.kind}")
    if document.gw != gateway_id:
        return OrderRefused("wrong_gateway", document.gw)
    try:
        document.body.encode()
    except UnicodeEncodeError:
        return OrderRefused("arguments", "body is not UTF-8")
    return document


# --- checks -----------------------------------------------------------------------------------

_ORDER: Final = msgspec.json.Decoder(Order)
_DOCUMENT: Final = msgspec.json.Decoder(Document)
_APPROVAL: Final = msgspec.json.Decoder(Approval)
_Content = TypeVar("_Content", Order, Document)


def _content_refusal(order: Order, key: KeyEntry, gateway_id: str) -> OrderRefused | None:
    role = ORDER_ROLES.get(order.type)
    if role is None:
        return OrderRefused("unknown_type", order.type)
    if key.role is not role:
        return OrderRefused("role", f"{key.role.value} may not {order.type}")
    if order.gw != gateway_id:
        return OrderRefused("wrong_gateway", order.gw)
    fault = _ARGUMENT_CHECKS[order.type](order)
    if fault is not None:
        return OrderRefused("arguments", fault)
    return _amount_refusal(order, key)


def _open_order(envelope: bytes, ring: KeyRing) -> tuple[Order, KeyEntry] | OrderRefused:
    if len(envelope) > ORDER_BYTES_MAX:
        return OrderRefused("size", f"{len(envelope)} bytes")
    return _open(envelope, ring, DOMAIN_ORDER, _ORDER)


def _open(
    envelope: bytes, ring: KeyRing, domain: bytes, decoder: "msgspec.json.Decoder[_Content]"
) -> tuple[_Content, KeyEntry] | OrderRefused:
    parts = split(envelope)
    if parts is None:
        return OrderRefused("version", f"needs version 1 and more than {OVERHEAD_BYTES} bytes")
    try:
        content = decode_json(decoder, parts.content)
    except WireError as error:
        return OrderRefused(error.reason, str(error))
    if content.v != CONTRACT_VERSION:
        return OrderRefused("version", str(content.v))
    key = ring.get(content.kid)
    if key is None:
        return OrderRefused("unknown_key", content.kid)
    if not signature_holds(domain, key.public_key, parts):
        return OrderRefused("signature")
    return content, key


def _amount_refusal(order: Order, key: KeyEntry) -> OrderRefused | None:
    amount_nano = order.args.get("amount_nano")
    if order.type not in _MONEY_TYPES:
        return None
    assert isinstance(amount_nano, int)
    if order.type == "credit" and (key.credit_nano_max is None or amount_nano > key.credit_nano_max):
        return OrderRefused("cap", str(amount_nano))
    if not 0 < amount_nano <= AMOUNT_NANO_MAX:
        return OrderRefused("amount", str(amount_nano))
    return None


_MONEY_TYPES: Final = frozenset(("credit", "refund"))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64


def _credit_fault(order: Order) -> str | None:
    if order.exp is not None:
        return "a credit has no exp: only a revoke ends it"
    return _money_fault(order)


def _money_fault(order: Order) -> str | None:
    if not order.meter:
        return "names no meter"
    if not _is_text(order.args.get("payment_id")):
        return "payment_id must be text of 1 to 64 characters"
    if not _is_integer(order.args.get("amount_nano")):
        return "amount_nano must be an integer"
    return None


def _reverse_fault(order: Order) -> str | None:
    if "amount_nano" in order.args:
        return "a reversal takes back all that is left; a part is a refund"
    return None if order.meter and _is_text(order.args.get("payment_id")) else "needs a meter and a payment_id"


def _supply_fault(order: Order) -> str | None:
    if not order.meter:
        return "names no meter"
    return None if order.exp is not None and order.sv is not None else "needs exp and sv"


def _document_fault(order: Order) -> str | None:
    version, digest = order.args.get("version"), order.args.get("hash")
    if not _is_integer(version) or not isinstance(digest, str) or len(digest) != 64:
        return "needs version and hash of the document"
    return None


def _revoke_fault(order: Order) -> str | None:
    return None if _is_text(order.args.get("cid")) else "needs the cid to revoke"


def _no_fault(_order: Order) -> str | None:
    return None


_ARGUMENT_CHECKS: Final[Mapping[str, Callable[[Order], str | None]]] = {
    "credit": _credit_fault,
    "refund": _money_fault,
    "reverse": _reverse_fault,
    "cut": _supply_fault,
    "restore": _supply_fault,
    "arm": _supply_fault,
    "keep_supply": _supply_fault,
    "set_policy": _document_fault,
    "set_roster": _document_fault,
    "set_config": _document_fault,
    "set_tariff": _document_fault,
    "revoke": _revoke_fault,
    "resync": _no_fault,
}
