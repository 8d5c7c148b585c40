"""Signed orders and documents: what the cloud may make a gateway do, and who may say so.

An order travels in an envelope (envelope.py), on `dn/cmd` or as a voucher: same bytes, same
check. Who may order what, and with which arguments, is the table of order_types.py. Amounts are
nano-currency, `nbf` and `exp` Unix seconds. Source: the wire contract, Down: commands and money;
SECURITY R1, R3, R4.

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
    approval       needs two persons, and no second person's key says the same (SECURITY R6)

Nothing here knows the clock or what was applied before: `window_refusal` is asked by whoever
holds the clock, duplicates and supersession are the account's business.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

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
from cloud_sync.order_types import (
    AMOUNT_NANO_MAX,
    APPROVAL,
    ORDER_TYPES,
    ArgumentError,
    Arguments,
    CreditArguments,
    RefundArguments,
    arguments_of,
)
from cloud_sync.wire import CONTRACT_VERSION, Approval, Document, Order, WireError, decode_json

ORDER_BYTES_MAX: Final = 4096
DOCUMENT_BYTES_MAX: Final = 128 * 1024


class OrderRefused(msgspec.Struct, frozen=True):
    """Why an envelope is not obeyed. `reason` is one of the module's list.

    `order` is there when a trusted key signed it for this gateway: then the refusal is an answer
    that whoever sent it must get (a credit never fails silently).
    """

    reason: str
    detail: str = ""
    order: Order | None = None


# Who may give the second signature of what needs two: the key is another one than the order's own.
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
    if refusal is None and ORDER_TYPES[order.type].approved and approved_by(order, ring) is None:
        refusal = OrderRefused("approval", "needs a second person's signature over the same order")
    if refusal is None:
        return order
    return msgspec.structs.replace(refusal, order=order) if order.gw == gateway_id else refusal


def approve_order(order: Order, signer: Signer) -> Order:
    """The same order with a second person's approval in it. It must be signed afterwards, by another key."""
    approval = seal(DOMAIN_APPROVAL, signer.key, msgspec.json.encode(_approval_of(order, signer.kid)))
    return msgspec.structs.replace(order, args={**order.args, APPROVAL: approval.hex()})


def approved_by(order: Order, ring: KeyRing) -> str | None:
    """The key id of the second person who signed the same order, None unless there is one who may."""
    stated = order.args.get(APPROVAL)
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
    args = {name: value for name, value in order.args.items() if name != APPROVAL}
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
    kind = ORDER_TYPES.get(order.type)
    if kind is None:
        return OrderRefused("unknown_type", order.type)
    if key.role is not kind.role:
        return OrderRefused("role", f"{key.role.value} may not {order.type}")
    if order.gw != gateway_id:
        return OrderRefused("wrong_gateway", order.gw)
    try:
        arguments = arguments_of(order)
    except ArgumentError as error:
        return OrderRefused("arguments", str(error))
    return _amount_refusal(arguments, key)


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


def _amount_refusal(arguments: Arguments, key: KeyEntry) -> OrderRefused | None:
    if not isinstance(arguments, CreditArguments | RefundArguments):
        return None  # amounts that may be 0 or negative are judged by the account's own limits
    amount_nano, cap_nano = arguments.amount_nano, key.credit_nano_max
    if isinstance(arguments, CreditArguments) and (cap_nano is None or amount_nano > cap_nano):
        return OrderRefused("cap", str(amount_nano))
    if not 0 < amount_nano <= AMOUNT_NANO_MAX:
        return OrderRefused("amount", str(amount_nano))
    return None
