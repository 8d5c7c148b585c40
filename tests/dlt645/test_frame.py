"""Frames by hand, and answers of which a single bit is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dlt645.frame import (
    CHECKS,
    Answer,
    Refused,
    Request,
    address_request,
    control_request,
    encode_frame,
    is_address,
    judge,
    read_request,
    whole_bytes,
)

ADDRESS = "000000000001"
ENERGY = 0x00010000
REQUEST = read_request(ADDRESS, ENERGY)
# 1234.56 kWh is 00 12 34 56, sent low byte first after the identifier: 56 34 12 00. With 33H on each: 89 67 45 33.
# Sum: 68 + 01 + 68 = D1, + 91 + 08 = 16A, + 33 + 33 + 34 + 33 = 237, + 89 + 67 + 45 + 33 = 39F: checksum 9F.
ANSWER = bytes.fromhex("FE FE FE FE 68 01 00 00 00 00 00 68 91 08 33 33 34 33 89 67 45 33 9F 16")
VALUE = Answer(ADDRESS, bytes.fromhex("56341200"))


def judged(received: bytes, request: Request = REQUEST) -> Answer | Refused:
    return judge(request, request.frame, received)


def test_request_for_the_energy_is_as_worked_out_by_hand() -> None:
    # Identifier 00 01 00 00, low byte first 00 00 01 00, with 33H: 33 33 34 33.
    # Sum: D1 + 11 + 04 = E6, + CD = 1B3: checksum B3.
    assert REQUEST.frame == bytes.fromhex("FE FE FE FE 68 01 00 00 00 00 00 68 11 04 33 33 34 33 B3 16")


def test_request_for_the_address_is_as_worked_out_by_hand() -> None:
    # Sum: 2 * 68 + 6 * AA + 13 = D0 + 3FC + 13 = 4DF: checksum DF.
    assert address_request().frame == bytes.fromhex("FE FE FE FE 68 AA AA AA AA AA AA 68 13 00 DF 16")


def test_address_stands_low_byte_first() -> None:
    assert read_request("123456789012", ENERGY).frame[5:11] == bytes.fromhex("12 90 78 56 34 12")


@pytest.mark.parametrize("lead", [0, 1, 4])
def test_answer_worked_out_by_hand_is_believed_with_any_lead(lead: int) -> None:
    assert judged(b"\xfe" * lead + ANSWER[4:]) == VALUE


def test_first_part_of_an_answer_says_that_more_follows() -> None:
    assert judged(encode_frame(ADDRESS, 0xB1, bytes.fromhex("0000010056341200"))) == Answer(ADDRESS, VALUE.data, True)


@pytest.mark.parametrize(("error", "detail"), [(2, "no_such_data"), (6, "not_authorised"), (0, "other_error")])
def test_meter_that_refuses_says_why(error: int, detail: str) -> None:
    assert judged(encode_frame(ADDRESS, 0xD1, bytes((error,)))) == Refused("meter_refused", detail)


def test_answer_to_the_question_for_the_address_holds_it_twice() -> None:
    own = bytes.fromhex("010000000000")
    assert judged(encode_frame(ADDRESS, 0x93, own), address_request()) == Answer(ADDRESS, own)
    other = encode_frame("000000000002", 0x93, own)
    assert judged(other, address_request()) == Refused("wrong_address")


DATA = bytes.fromhex("0000010056341200")
WRONG = {
    "timeout": [b"", b"\xfe\xfe"],
    "echo_of_request": [REQUEST.frame, REQUEST.frame[4:] + ANSWER],
    "not_a_frame": [b"\x00" + ANSWER, ANSWER[5:], b"\x68" * 3 + b"\x00" * 20],
    "truncated": [ANSWER[:-1], ANSWER[:12], ANSWER[:5]],
    "trailing_bytes": [ANSWER + b"\x00", ANSWER + ANSWER],
    "no_end": [ANSWER[:-1] + b"\x17"],
    "checksum": [ANSWER[:-2] + b"\xa0\x16"],
    "wrong_address": [encode_frame("000000000002", 0x91, DATA), encode_frame("AAAAAAAAAAAA", 0x91, DATA)],
    "wrong_control": [encode_frame(ADDRESS, control, DATA) for control in (0x11, 0x92, 0x9C, 0xF1)],
    "wrong_length": [encode_frame(ADDRESS, 0x91, DATA[:4]), encode_frame(ADDRESS, 0xD1, DATA)],
    "wrong_identifier": [encode_frame(ADDRESS, 0x91, b"\x00\x00\x02\x00" + DATA[4:])],
}


def test_every_check_has_its_wrong_answers_here() -> None:
    assert set(WRONG) == {reason for reason, _ in CHECKS}


@pytest.mark.parametrize(("reason", "received"), [(reason, wrong) for reason in WRONG for wrong in WRONG[reason]])
def test_wrong_answer_is_refused_with_its_reason(reason: str, received: bytes) -> None:
    assert judged(received) == Refused(reason)


def test_supply_command_is_answered_without_data() -> None:
    request = control_request(ADDRESS, bytes(16))
    assert judged(encode_frame(ADDRESS, 0x9C, b""), request) == Answer(ADDRESS, b"")
    assert judged(encode_frame(ADDRESS, 0x9C, b"\x01"), request) == Refused("wrong_length")
    assert judged(encode_frame(ADDRESS, 0xDC, b"\x04"), request) == Refused("meter_refused", "not_authorised")


@pytest.mark.parametrize("bit", range(8 * len(ANSWER)))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    flipped = bytearray(ANSWER)
    flipped[bit // 8] ^= 1 << bit % 8
    assert isinstance(judged(bytes(flipped)), Refused)


@given(st.integers(0, 0xFFFFFFFF), st.binary(min_size=1, max_size=60), st.data())
def test_any_flipped_bit_of_any_answer_is_refused(identifier: int, value: bytes, draw: st.DataObject) -> None:
    request = read_request(ADDRESS, identifier)
    whole = encode_frame(ADDRESS, 0x91, identifier.to_bytes(4, "little") + value)
    assert judged(whole, request) == Answer(ADDRESS, value)
    bit = draw.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    assert isinstance(judged(bytes(flipped), request), Refused)


@given(st.binary(max_size=60))
def test_noise_is_refused_and_never_a_crash(noise: bytes) -> None:
    assert isinstance(judged(noise), Refused)


@given(st.integers(0, len(ANSWER)))
def test_length_is_known_as_soon_as_it_came(count: int) -> None:
    assert whole_bytes(ANSWER[:count]) == (len(ANSWER) if count >= 14 else None)


@pytest.mark.parametrize("text", ["", "00000000001", "9" * 12, "00000000000A", "\u0660" * 12])
def test_what_is_no_address_of_one_meter(text: str) -> None:
    assert not is_address(text)
