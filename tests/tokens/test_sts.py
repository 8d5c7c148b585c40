"""STS tokens read: the published ones, whatever we issue, and whatever is broken."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.core.token import KeyChange, KeySection, StsMemory, StsToken, TokenKind, Unreadable
from edge.tokens.decoder_key import DecoderFacts, derive_decoder_key
from edge.tokens.sts import (
    AMOUNT_TENTHS_MAX,
    TID_MAX,
    changed_key,
    decode_amount,
    decoder_keys,
    encode_amount,
    read_for_meter,
    read_sts,
    sts_crc,
    tid_from_time,
    time_from_tid,
    token_digits,
    typed_digits,
)
from edge.tokens.sts_issue import NewKey, issue_credit, issue_key_change, issue_management, issue_test

FIRST = "59386323472137426967"
CRC = Unreadable("crc", guess=True)
KEYS = st.integers(0, 2**128 - 1)
TIDS = st.integers(0, TID_MAX)
RANDOMS = st.integers(0, 15)
AMOUNTS = st.integers(0, AMOUNT_TENTHS_MAX)


def key_of(facts: dict[str, Any]) -> int:
    vending_key = bytes.fromhex(facts["vending_key"])
    return derive_decoder_key(
        vending_key,
        DecoderFacts(facts["base"], facts["ti"], facts["sgc"], facts["key_type"], facts["krn"], facts["pan"]),
    )


def test_published_token_says_what_it_should(sts_tokens_vector: dict[str, Any]) -> None:
    vector = sts_tokens_vector
    read = read_sts(vector["token"], (key_of(vector),), vector["base"])
    issued_at = int(datetime.fromisoformat(vector["issued_at"]).timestamp())
    assert read == StsToken(
        token_class=vector["class"],
        subclass=vector["subclass"],
        random=vector["random"],
        tid=tid_from_time(issued_at, vector["base"]),  # type: ignore[arg-type]
        issued_at=issued_at,  # type: ignore[arg-type]
        amount_tenths=vector["amount_tenths"],
        value=vector["value"],
    )


def test_published_token_is_issued_to_the_digit(sts_tokens_vector: dict[str, Any]) -> None:
    vector, key = sts_tokens_vector, key_of(sts_tokens_vector)
    issued_at = int(datetime.fromisoformat(vector["issued_at"]).timestamp())
    tid = tid_from_time(issued_at, vector["base"])  # type: ignore[arg-type]
    if vector["class"] == 0:
        digits = issue_credit(key, tid, vector["amount_tenths"], vector["random"], vector["subclass"])
    else:
        digits = issue_management(key, tid, vector["value"], vector["random"], vector["subclass"])
    assert digits == vector["token"]


def test_published_key_change_gives_the_key_that_the_vending_key_gives(sts_key_changes_vector: dict[str, Any]) -> None:
    vector = sts_key_changes_vector
    old, new = key_of(vector["from"]), key_of(vector["to"])
    other_key = vector["section_order"] == "1342"
    assert changed_key(KeyChange(tuple(vector["tokens"]), other_key), old) == new
    facts = NewKey(
        key=new,
        key_expiry=vector["ken"],
        key_revision=vector["to"]["krn"],
        key_type=vector["to"]["key_type"],
        tariff_index=int(vector["to"]["ti"]),
        supply_group=int(vector["to"]["sgc"]),
        rollover=vector["rollover"],
        other_key=other_key,
    )
    assert issue_key_change(old, facts) == tuple(vector["tokens"])


def test_crc_is_the_one_worked_out_in_the_description() -> None:
    assert sts_crc(0, 0x05C02A552710) == 0x1970


@pytest.mark.parametrize(
    ("tenths", "code"),
    [
        (0, 0),
        (1, 1),
        (16383, 0x3FFF),
        (16384, 0x4000),
        (16385, 0x4001),
        (180214, 0x7FFF),
        (180215, 0x8000),
        (180224, 0x8000),
        (1818624, 0xC000),
        (18201624, 0xFFFF),
    ],
)
def test_amount_is_coded_at_the_edges_of_the_exponents(tenths: int, code: int) -> None:
    assert encode_amount(tenths) == code


def test_codes_stand_for_rising_amounts_and_each_is_its_own() -> None:
    amounts = [decode_amount(code) for code in range(1 << 16)]
    assert all(amount < following for amount, following in pairwise(amounts))
    assert [encode_amount(amount) for amount in amounts] == list(range(1 << 16))


@given(AMOUNTS)
def test_amount_is_rounded_up_and_by_less_than_a_step(tenths: int) -> None:
    code = encode_amount(tenths)
    assert decode_amount(code) >= tenths
    assert code == 0 or decode_amount(code - 1) < tenths


@pytest.mark.parametrize(
    ("base_year", "last"), [(1993, "2024-11-24T20:15"), (2014, "2045-11-24T20:15"), (2035, "2066-11-24T20:15")]
)
def test_base_year_ends_when_its_minutes_do(base_year: int, last: str) -> None:
    at = time_from_tid(TID_MAX, base_year)
    assert datetime.fromtimestamp(at, UTC) == datetime.fromisoformat(last).replace(tzinfo=UTC)
    assert tid_from_time(at, base_year) == TID_MAX
    assert tid_from_time(time_from_tid(0, base_year), base_year) == 0


@given(TIDS, st.sampled_from([1993, 2014, 2035]))
def test_tid_and_time_turn_into_each_other(tid: int, base_year: int) -> None:
    assert tid_from_time(time_from_tid(tid, base_year), base_year) == tid


@given(KEYS, TIDS, AMOUNTS, RANDOMS, st.integers(0, 3))
def test_credit_token_reads_as_it_was_issued(key: int, tid: int, tenths: int, random: int, subclass: int) -> None:
    read = read_sts(issue_credit(key, tid, tenths, random, subclass), (key,), 2014)
    assert isinstance(read, StsToken)
    assert (read.token_class, read.subclass, read.random, read.tid) == (0, subclass, random, tid)
    assert read.amount_tenths == decode_amount(encode_amount(tenths))
    assert read.issued_at == time_from_tid(tid, 2014)
    assert read.kind is TokenKind.CREDIT
    assert read.unit == ("energy", "water", "gas", "time")[subclass]


@given(KEYS, TIDS, RANDOMS, st.sampled_from([0, 1, 2, 5, 6]), st.integers(0, 0xFFFF))
def test_management_token_reads_as_it_was_issued(key: int, tid: int, random: int, subclass: int, value: int) -> None:
    read = read_sts(issue_management(key, tid, value, random, subclass), (key,), 2014)
    assert isinstance(read, StsToken)
    assert (read.token_class, read.subclass, read.random, read.tid) == (2, subclass, random, tid)
    assert read.amount_tenths is None
    assert read.value == (decode_amount(encode_amount(value)) if subclass in (0, 6) else value)
    assert read.kind is TokenKind.MANAGEMENT


@given(KEYS, st.integers(0, 1), st.integers(0, 2**44 - 1))
def test_any_meter_token_needs_no_key(key: int, subclass: int, control: int) -> None:
    read = read_sts(issue_test(subclass, control), (key,), 1993)
    assert read == StsToken(1, subclass, control=control)
    assert read.kind is TokenKind.TEST


# The first is printed in many meters' manuals: everything is shown.
@pytest.mark.parametrize("digits", ["56493153725450313471", "18446744073843772416"])
def test_any_meter_token_in_use_is_read(digits: str) -> None:
    read = read_sts(digits, (0,), 1993)
    assert isinstance(read, StsToken)
    assert (read.token_class, read.subclass, read.tid, read.random) == (1, 0, None, None)
    assert read.control is not None
    assert issue_test(0, read.control) == digits


@given(KEYS, KEYS, st.integers(0, 255), st.integers(1, 9), st.integers(0, 3), st.integers(0, 99),
       st.integers(0, 999_999), st.booleans(), st.booleans())  # fmt: skip
def test_key_change_reads_as_it_was_issued(
    old: int, key: int, expiry: int, revision: int, key_type: int, index: int, group: int, rollover: bool, other: bool
) -> None:
    new = NewKey(key, expiry, revision, key_type, index, group, rollover, other)
    memory = StsMemory(2014)
    for digits in issue_key_change(old, new):
        section = read_sts(digits, decoder_keys(old, memory), 2014)
        assert isinstance(section, KeySection)
        memory = memory.with_section(section)
    assert key in decoder_keys(old, memory)
    assert (decoder_keys(old, memory)[0] == key) == (not other or key >> 64 & 0xFFFFFFFF == key >> 32 & 0xFFFFFFFF)
    assert memory.key_expiry == expiry
    assert (memory.key_revision, memory.key_type) == (revision, key_type)
    assert (memory.tariff_index, memory.supply_group) == (index, group)
    assert memory.base_year == (2035 if rollover else 2014)


def test_one_wrong_digit_fails_the_crc(key: int) -> None:
    others = {
        FIRST[:place] + digit + FIRST[place + 1 :]
        for place in range(20)
        for digit in "0123456789"
        if digit != FIRST[place]
    }
    reads = [read_sts(digits, (key,), 1993) for digits in sorted(others)]
    assert len(reads) == 180
    assert set(reads) <= {CRC, Unreadable("malformed")}
    assert reads.count(Unreadable("malformed")) == 3  # a first digit 7, 8 or 9: 2^66 or more


def test_one_flipped_bit_fails_the_crc(key: int) -> None:
    assert {read_sts(f"{int(FIRST) ^ 1 << bit:020d}", (key,), 1993) for bit in range(66)} == {CRC}


@given(KEYS)
def test_other_key_fails_the_crc(other: int) -> None:
    """But for one key in 65536, which no seed here meets."""
    assert read_sts(FIRST, (other,), 1993) == CRC


@pytest.mark.parametrize(
    "text",
    ["", "5938632347213742696", "593863234721374269670", "5938632347213742696x", "73786976294838206464", "9" * 20,
     "+9386323472137426967", "5938632347213742696.", "٥٩٣٨٦٣٢٣٤٧٢١٣٧٤٢٦٩٦٧"],
)  # fmt: skip
def test_what_is_no_token_is_malformed_and_no_guess(text: str, key: int) -> None:
    assert read_sts(text, (key,), 1993) == Unreadable("malformed")


def test_highest_number_of_66_bits_is_well_formed(key: int) -> None:
    assert read_sts(str(2**66 - 1), (key,), 1993) == CRC


@pytest.mark.parametrize(
    "text",
    ["5938 6323 4721 3742 6967", "5938-6323-4721-3742-6967", " 59386323472137426967\n", "59386323\t472137426967",
     "59386323472137426967", "".join(chr(0xFF10 + int(digit)) for digit in FIRST), "5938 6323\u30004721 37426967"],
)  # fmt: skip
def test_blanks_dashes_and_full_width_digits_are_typing(text: str, key: int) -> None:
    assert typed_digits(text) == FIRST
    assert isinstance(read_sts(text, (key,), 1993), StsToken)


@pytest.mark.parametrize(
    ("token_class", "subclass"),
    [(0, subclass) for subclass in range(4, 16)]
    + [(1, subclass) for subclass in range(2, 16)]
    + [(2, subclass) for subclass in (7, 10, 11, 12, 13, 14, 15)]
    + [(3, subclass) for subclass in range(16)],
)
def test_currency_and_reserved_tokens_are_unknown(token_class: int, subclass: int, key: int) -> None:
    digits = token_digits(token_class, subclass << 44 | 5 << 40 | 1000 << 16 | 1, key)
    assert read_sts(digits, (key,), 1993) == Unreadable("unknown")


def test_reserved_class_is_unknown_when_it_is_not_encrypted_either(key: int) -> None:
    block = 5 << 40
    plain = block << 16 | sts_crc(3, block)
    moved = plain >> 27 & 3
    digits = f"{moved << 64 | plain & ~(3 << 27) | 3 << 27:020d}"
    assert read_sts(digits, (key,), 1993) == Unreadable("unknown")


def test_digits_for_a_meter_of_its_own_are_checked_for_their_form_only() -> None:
    handed_on = read_for_meter("0000 0000 0000 0000 0001")
    assert not isinstance(handed_on, Unreadable)
    assert handed_on.digits == "00000000000000000001"
    assert read_for_meter("1234") == Unreadable("malformed")


def test_key_after_two_changes_is_found_again_from_the_first(key: int) -> None:
    keys = [key, 0x1111_2222_3333_4444_5555_6666_7777_8888, 0x9999_AAAA_BBBB_CCCC_DDDD_EEEE_FFFF_0000]
    memory = StsMemory(1993)
    for old, new in pairwise(keys):
        for digits in issue_key_change(old, NewKey(new, 255, 1, 2, 1, 123457, other_key=True)):
            section = read_sts(digits, decoder_keys(key, memory), 1993)
            assert isinstance(section, KeySection)
            memory = memory.with_section(section)
    token = read_sts(issue_credit(keys[2], 7, 10, 3), decoder_keys(key, memory), 1993)
    assert isinstance(token, StsToken)
    assert decoder_keys(key, memory.with_tid(7, other_key=token.other_key)) == (keys[2],)
