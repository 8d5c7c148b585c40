"""Vouchers: every way a person may type one is read, and every slip is noticed."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.keys import KeyRing, Role, Signer
from cloud_sync.orders import ORDER_BYTES_MAX, sign_order, verify_order
from cloud_sync.voucher import VoucherRefused, read_voucher, voucher_for_qr, voucher_for_typing
from cloud_sync.wire import Order

ENVELOPE = bytes(range(1, 120))


@given(st.binary(min_size=1, max_size=400))
def test_both_forms_give_back_the_same_bytes(envelope: bytes) -> None:
    assert read_voucher(voucher_for_qr(envelope)) == envelope
    assert read_voucher(voucher_for_typing(envelope)) == envelope


def test_known_vouchers_stay_readable() -> None:
    assert voucher_for_typing(b"\x01hello") == "0400C-0B8CN-P6RVR-H"
    assert voucher_for_qr(b"\x01hello") == "MG1:V507Y0+8D VDL2H"


def test_signed_credit_survives_as_text(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    order = Order(
        v=1, cid="c", gw="gw-1", meter="m", type="credit", args={"payment_id": "p", "amount_nano": 1}, nbf=0,
        kid="vend-1",
    )  # fmt: skip
    envelope = sign_order(order, signers[Role.VEND])
    for text in (voucher_for_qr(envelope), voucher_for_typing(envelope)):
        read = read_voucher(text)
        assert isinstance(read, bytes)
        assert verify_order(read, ring, "gw-1") == order


@given(st.randoms(use_true_random=False))
def test_typed_form_is_read_as_meant(random: object) -> None:
    text = voucher_for_typing(ENVELOPE)
    meant = {"0": "0oO", "1": "1iIlL"}
    changed = "".join(
        random.choice(meant.get(character, character + character.lower()))  # type: ignore[attr-defined]
        + random.choice(["", "", " ", "-"])  # type: ignore[attr-defined]
        for character in text.replace("-", "")
    )
    assert read_voucher("  " + changed + "\n") == ENVELOPE


def test_every_single_wrong_character_of_the_typed_form_is_noticed() -> None:
    text = voucher_for_typing(ENVELOPE).replace("-", "")
    for position in range(len(text)):
        for character in "0123456789ABCDEFGHJKMNPQRSTVWXYZ":
            if character != text[position]:
                changed = text[:position] + character + text[position + 1 :]
                assert isinstance(read_voucher(changed), VoucherRefused), (position, character)


def test_every_swapped_pair_of_the_typed_form_is_noticed() -> None:
    text = voucher_for_typing(ENVELOPE).replace("-", "")
    for position in range(len(text) - 1):
        first, second = text[position], text[position + 1]
        if first != second:
            changed = text[:position] + second + first + text[position + 2 :]
            assert isinstance(read_voucher(changed), VoucherRefused), position


def test_scanned_form_is_read_in_lower_case_and_with_a_line_end() -> None:
    assert read_voucher(voucher_for_qr(ENVELOPE).lower() + "\r\n") == ENVELOPE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("-", "empty"),
        ("- -", "empty"),
        ("x" * 100_000, "too_long"),
        ("MG1:", "length"),
        ("MG1:A", "length"),
        ("MG1:::::::", "check"),
        ("MG1:ab\u00e4cd", "characters"),
        ("hello world!", "characters"),
        ("ABU-AA", "characters"),
        ("\u0130\u0131", "characters"),
    ],
)
def test_text_that_is_no_voucher_is_refused_with_its_reason(text: str, reason: str) -> None:
    answer = read_voucher(text)
    assert isinstance(answer, VoucherRefused)
    assert answer.reason == reason


def test_wrong_character_is_named_by_its_position() -> None:
    assert read_voucher("0123-4567!-9") == VoucherRefused("characters", 9)


def test_voucher_cut_short_or_doubled_is_refused() -> None:
    text = voucher_for_typing(ENVELOPE)
    for changed in (text[:-1], text[: len(text) // 2], text + text, text[2:]):
        assert isinstance(read_voucher(changed), VoucherRefused)


@given(st.text(max_size=60) | st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U", max_size=60))
def test_any_text_is_a_voucher_or_refused(text: str) -> None:
    for start in ("", "MG1:"):
        answer = read_voucher(start + text)
        assert isinstance(answer, bytes | VoucherRefused)


def test_longest_order_fits_both_forms() -> None:
    envelope = b"\xff" * ORDER_BYTES_MAX
    assert read_voucher(voucher_for_qr(envelope)) == envelope
    assert read_voucher(voucher_for_typing(envelope)) == envelope
