"""Orders: only the right key, for this gateway, within its cap, and not one bit different."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.envelope import DOMAIN_ACK, DOMAIN_DOCUMENT, DOMAIN_ORDER, seal
from cloud_sync.keys import KeyEntry, KeyRing, Role, Signer, generate_keys
from cloud_sync.order_types import ORDER_TYPES
from cloud_sync.orders import (
    DOCUMENT_BYTES_MAX,
    DOCUMENT_ROLES,
    ORDER_BYTES_MAX,
    OrderRefused,
    approve_order,
    approved_by,
    sign_document,
    sign_order,
    verify_document,
    verify_order,
    window_refusal,
)
from cloud_sync.wire import Document, Order

GATEWAY = "gw-1"
CAP_NANO = 1_000_000_000_000

ARGUMENTS: dict[str, dict[str, Any]] = {
    "credit": {"payment_id": "p-1", "amount_nano": 5_000_000_000},
    "refund": {"payment_id": "p-1", "amount_nano": 5_000_000_000},
    "reverse": {"payment_id": "p-1"},
    "revoke": {"cid": "c-0"},
    "supply_hold": {"kind": "dispute", "reference": "case 7"},
    "notice_receipt": {"number": 2, "raised_at": 1000},
    "set_debt": {"kind": "old", "amount_nano": 5_000_000_000, "reference": "bill 3"},
    "instalments": {"plan_id": "plan-1", "total_nano": 5_000_000_000, "parts": [[20_000, 4_000], [20_030, 6_000]]},
    "purchase_order": {"number": 7, "operation": "append", "unit": "money", "value_nano": 5_000_000_000},
    "change_tenant": {"tenant": "T-2"},
    "payment_mode": {"mode": "credit"},
    "correction": {"amount_nano": -5_000_000_000, "reference": "led 12", "reason": "wrong meter"},
    "reserved_credit": {"amount_nano": 5_000_000_000},
    **{f"set_{kind}": {"version": 1, "hash": "0" * 64} for kind in ("tariff", "policy", "roster", "config")},
}
SUPPLY = ("cut", "restore", "arm", "keep_supply")


def order_of(order_type: str, kid: str, **changes: Any) -> Order:
    window: dict[str, Any] = {"exp": 2000, "sv": 1} if order_type in SUPPLY else {}
    fields: dict[str, Any] = {
        "v": 1, "cid": "c-1", "gw": GATEWAY, "meter": "m-1", "type": order_type,
        "args": ARGUMENTS.get(order_type, {}), "nbf": 1000, "kid": kid, **window,
    }  # fmt: skip
    return Order(**{**fields, **changes})


def reason_of(envelope: bytes, ring: KeyRing) -> str:
    answer = verify_order(envelope, ring, GATEWAY)
    assert isinstance(answer, OrderRefused), answer
    return answer.reason


def credit(signers: Mapping[Role, Signer], **changes: Any) -> bytes:
    return sign_order(order_of("credit", "vend-1", **changes), signers[Role.VEND])


@pytest.mark.parametrize("order_type", sorted(ORDER_TYPES))
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_order_its_types_and_no_others(
    order_type: str, role: Role, ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    order = order_of(order_type, signers[role].kid)
    if ORDER_TYPES[order_type].approved:
        order = approve_order(order, signers[Role.TARIFF])
    answer = verify_order(sign_order(order, signers[role]), ring, GATEWAY)
    if ORDER_TYPES[order_type].role is role:
        assert answer == order
    else:
        assert isinstance(answer, OrderRefused)
        assert answer.reason == "role"


def test_only_a_vend_key_credits_and_it_cannot_cut() -> None:
    assert [order_type for order_type, kind in ORDER_TYPES.items() if kind.role is Role.VEND] == ["credit"]


def test_every_flipped_bit_is_refused(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    envelope = credit(signers)
    for bit in range(len(envelope) * 8):
        flipped = bytearray(envelope)
        flipped[bit // 8] ^= 1 << bit % 8
        reason = reason_of(bytes(flipped), ring)
        # "size" and what comes after the signature would mean that a changed order was believed.
        assert reason in {"version", "malformed", "unknown_key", "signature"}, bit


@pytest.mark.parametrize("field", ["gw", "meter", "cid", "args", "nbf"])
def test_signature_does_not_carry_over_to_another_field_value(
    field: str, ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    envelope = credit(signers)
    others = {"gw": "gw-2", "meter": "m-2", "cid": "c-2", "nbf": 1001,
              "args": {"payment_id": "p-1", "amount_nano": 6_000_000_000}}  # fmt: skip
    forged = envelope[:65] + msgspec.json.encode(order_of("credit", "vend-1", **{field: others[field]}))
    assert reason_of(forged, ring) == "signature"


@pytest.mark.parametrize("domain", [DOMAIN_ACK, DOMAIN_DOCUMENT, b""])
def test_signature_for_another_purpose_is_worth_nothing(
    domain: bytes, ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    content = msgspec.json.encode(order_of("credit", "vend-1"))
    assert reason_of(seal(domain, signers[Role.VEND].key, content), ring) == "signature"
    assert isinstance(verify_order(seal(DOMAIN_ORDER, signers[Role.VEND].key, content), ring, GATEWAY), Order)


def test_order_for_another_gateway_is_refused(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    assert reason_of(credit(signers, gw="gw-2"), ring) == "wrong_gateway"


@pytest.mark.parametrize(
    ("amount_nano", "reason"),
    [(CAP_NANO + 1, "cap"), (0, "amount"), (-1, "amount"), (True, "arguments"), ("5", "arguments"), (5.0, "arguments")],
)
def test_credit_of_a_wrong_amount_is_refused(
    amount_nano: Any, reason: str, ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    envelope = credit(signers, args={"payment_id": "p-1", "amount_nano": amount_nano})
    assert reason_of(envelope, ring) == reason


@pytest.mark.parametrize("amount_nano", [1, CAP_NANO])
def test_credit_at_its_limits_is_accepted(amount_nano: int, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    envelope = credit(signers, args={"payment_id": "p-1", "amount_nano": amount_nano})
    assert isinstance(verify_order(envelope, ring, GATEWAY), Order)


def test_key_without_a_cap_credits_nothing(signers: Mapping[Role, Signer]) -> None:
    vend = signers[Role.VEND]
    ring = KeyRing([KeyEntry(vend.kid, Role.VEND, vend.key.public_key(), None)])
    assert reason_of(credit(signers), ring) == "cap"


@pytest.mark.parametrize(
    ("order_type", "changes"),
    [
        ("credit", {"exp": 2000}),
        ("credit", {"meter": ""}),
        ("credit", {"args": {"amount_nano": 5}}),
        ("credit", {"args": {"amount_nano": 5, "payment_id": ""}}),
        ("credit", {"args": {"amount_nano": 5, "payment_id": "x" * 65}}),
        ("cut", {"exp": None}),
        ("cut", {"sv": None}),
        ("restore", {"meter": ""}),
        ("reverse", {"args": {}}),
        ("set_tariff", {"args": {"version": 1}}),
        ("set_tariff", {"args": {"version": "1", "hash": "0" * 64}}),
        ("revoke", {"args": {}}),
        ("reverse", {"args": {"payment_id": "p-1", "amount_nano": 5}}),
        ("arm", {"sv": None}),
        ("arm", {"args": {"reason": ""}}),
        ("keep_supply", {"args": {"keep": 1}}),
        ("supply_hold", {"args": {"kind": "mood", "reference": "case 7"}}),
        ("supply_hold", {"args": {"kind": "dispute"}}),
        ("supply_hold", {"args": {"kind": "weather_hold", "reference": "storm"}}),  # the weather has an end
        ("supply_hold", {"args": {"kind": "dispute", "reference": "case 7", "only_if": 1}}),
        ("notice_receipt", {"meter": ""}),
        ("notice_receipt", {"args": {"number": 2}}),
        ("notice_receipt", {"args": {"number": 4, "raised_at": 1000}}),
        ("set_debt", {"args": {"kind": "new", "amount_nano": 1, "reference": "x"}}),
        ("set_debt", {"args": {"kind": "old", "amount_nano": 10**19, "reference": "x"}}),
        ("set_debt", {"args": {"kind": "payment", "amount_nano": 1, "reference": "x", "share": 10_001}}),
        ("instalments", {"args": {"plan_id": "p", "total_nano": 1, "parts": []}}),
        ("instalments", {"args": {"plan_id": "p", "total_nano": 1, "parts": [[1]]}}),
        ("purchase_order", {"args": {**ARGUMENTS["purchase_order"], "unit": "water"}}),
        ("purchase_order", {"args": {**ARGUMENTS["purchase_order"], "number": -1}}),
        ("change_tenant", {"args": {"tenant": "a name with blanks"}}),
        ("payment_mode", {"args": {"mode": "barter"}}),
        ("correction", {"args": {"amount_nano": 1, "reference": "", "reason": "x"}}),
        ("correction", {"args": {"amount_nano": 1.0, "reference": "x", "reason": "x"}}),
        ("reserved_credit", {"args": {"amount_nano": True}}),
        ("reserved_credit", {"args": {"amount_nano": 1, "only_if": "paid"}}),
    ],
)
def test_order_whose_arguments_do_not_fit_is_refused(
    order_type: str, changes: dict[str, Any], ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    signer = signers[ORDER_TYPES[order_type].role]
    assert reason_of(sign_order(order_of(order_type, signer.kid, **changes), signer), ring) == "arguments"


def test_what_favours_a_customer_without_a_payment_needs_two_persons(
    ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    two = {"refund", "reverse", "set_debt", "purchase_order", "change_tenant", "correction"}
    assert {name for name, kind in ORDER_TYPES.items() if kind.approved} == two
    for name in two:
        assert reason_of(sign_order(order_of(name, "ops-1"), signers[Role.OPS]), ring) == "approval"


def approved(signers: Mapping[Role, Signer], by: Role = Role.TARIFF, **changes: Any) -> Order:
    return approve_order(order_of("refund", "ops-1", **changes), signers[by])


def test_money_goes_back_with_the_signatures_of_two_persons(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    order = approved(signers)
    assert verify_order(sign_order(order, signers[Role.OPS]), ring, GATEWAY) == order
    assert approved_by(order, ring) == "tariff-1"


def test_money_does_not_go_back_by_one_person(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    alone = order_of("refund", "ops-1")
    twice = KeyRing([*ring, KeyEntry("ops-2", Role.OPS, signers[Role.OPS].key.public_key())])
    same_key = approve_order(alone, Signer("ops-2", signers[Role.OPS].key))
    for order in (alone, approved(signers, Role.OPS), approved(signers, Role.VEND), approved(signers, Role.INGEST)):
        assert reason_of(sign_order(order, signers[Role.OPS]), ring) == "approval"
    assert reason_of(sign_order(same_key, signers[Role.OPS]), twice) == "approval"


@pytest.mark.parametrize(
    "changes",
    [
        {"cid": "c-2"},
        {"meter": "m-2"},
        {"args": {"payment_id": "p-2", "amount_nano": 5_000_000_000}},
        {"args": {"payment_id": "p-1", "amount_nano": 5_000_000_001}},
    ],
)
def test_an_approval_is_for_one_order_only(
    changes: dict[str, Any], ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    approval = approved(signers).args["approval"]
    other = order_of("refund", "ops-1", **changes)
    other = msgspec.structs.replace(other, args={**other.args, "approval": approval})
    assert reason_of(sign_order(other, signers[Role.OPS]), ring) == "approval"


@pytest.mark.parametrize("approval", ["", "zz", "01", "00" * 90, 7, None, [], "01" * 70])
def test_an_approval_that_is_none_is_refused(approval: Any, ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    order = order_of("reverse", "ops-1", args={"payment_id": "p-1", "approval": approval})
    assert reason_of(sign_order(order, signers[Role.OPS]), ring) == "approval"


def test_first_reason_that_applies_is_given(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    vend = signers[Role.VEND]
    worst = credit(signers, gw="gw-2", exp=1, args={"payment_id": "p", "amount_nano": CAP_NANO + 1})
    assert reason_of(worst + b" " * ORDER_BYTES_MAX, ring) == "size"
    assert reason_of(b"\2" + worst[1:], ring) == "version"
    assert reason_of(worst[:65], ring) == "version"
    assert reason_of(worst[:-1], ring) == "malformed"
    assert reason_of(seal(DOMAIN_ORDER, vend.key, msgspec.json.encode(order_of("credit", "vend-1", v=2))), ring) == (
        "version"
    )
    assert reason_of(worst, KeyRing([])) == "unknown_key"
    assert reason_of(worst[:64] + bytes((worst[64] ^ 1,)) + worst[65:], ring) == "signature"
    assert reason_of(sign_order(order_of("mint", vend.kid, gw="gw-2"), vend), ring) == "unknown_type"
    assert reason_of(sign_order(order_of("cut", vend.kid, gw="gw-2"), vend), ring) == "role"
    assert reason_of(worst, ring) == "wrong_gateway"


def test_unknown_field_is_refused_since_it_may_be_a_condition(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    fields = msgspec.to_builtins(order_of("credit", "vend-1")) | {"only_if": "paid"}
    envelope = seal(DOMAIN_ORDER, signers[Role.VEND].key, msgspec.json.encode(fields))
    assert reason_of(envelope, ring) == "malformed"


@given(st.binary(max_size=300))
def test_noise_is_never_an_order(noise: bytes) -> None:
    ring, _ = generate_keys()
    assert isinstance(verify_order(noise, ring, GATEWAY), OrderRefused)
    assert isinstance(verify_order(b"\1" + noise, ring, GATEWAY), OrderRefused)
    assert isinstance(verify_document(b"\1" + noise, ring, GATEWAY), OrderRefused)


@pytest.mark.parametrize(
    ("at", "trusted", "reason"),
    [(1999, True, None), (2000, True, "expired"), (999, True, "not_yet"), (1500, False, "clock")],
)
def test_window_of_a_cut_is_held_to_a_trusted_clock(at: int, trusted: bool, reason: str | None) -> None:
    refused = window_refusal(order_of("cut", "ops-1"), at, trusted)
    assert (refused.reason if refused else None) == reason


@pytest.mark.parametrize("at", [0, 999, 2**40])
@pytest.mark.parametrize("trusted", [True, False])
def test_credit_is_accepted_on_any_clock_at_any_time(at: int, trusted: bool) -> None:
    assert window_refusal(order_of("credit", "vend-1"), at, trusted) is None


def document_of(kind: str, kid: str, **changes: Any) -> Document:
    fields: dict[str, Any] = {"v": 1, "gw": GATEWAY, "kind": kind, "version": 1, "body": "{}", "nbf": 1, "kid": kid}
    return Document(**{**fields, **changes})


@pytest.mark.parametrize("kind", sorted(DOCUMENT_ROLES))
@pytest.mark.parametrize("role", list(Role))
def test_each_document_needs_the_key_of_its_role(
    kind: str, role: Role, ring: KeyRing, signers: Mapping[Role, Signer]
) -> None:
    document = document_of(kind, signers[role].kid)
    answer = verify_document(sign_document(document, signers[role]), ring, GATEWAY)
    if DOCUMENT_ROLES[kind] is role:
        assert answer == document
    else:
        assert isinstance(answer, OrderRefused)
        assert answer.reason == "role"


def test_document_is_refused_like_an_order(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    tariff = signers[Role.TARIFF]

    def reason(envelope: bytes) -> str:
        answer = verify_document(envelope, ring, GATEWAY)
        assert isinstance(answer, OrderRefused)
        return answer.reason

    good = sign_document(document_of("tariff", tariff.kid), tariff)
    assert reason(good + b" ") == "signature"
    assert reason(good + b" " * DOCUMENT_BYTES_MAX) == "size"
    assert reason(sign_document(document_of("tariff", tariff.kid, gw="gw-2"), tariff)) == "wrong_gateway"
    assert reason(sign_document(document_of("poem", tariff.kid), tariff)) == "unknown_type"


def test_hash_of_a_document_is_that_of_its_body() -> None:
    assert document_of("tariff", "k", body="abc").body_hash == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
