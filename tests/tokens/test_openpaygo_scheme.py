"""OpenPAYGO: the library's published tokens, and what the library alone would let through."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpaygo import OpenPAYGOTokenDecoder, OpenPAYGOTokenEncoder, TokenType

from edge.core.token import CountMemory, PaygoToken, TokenKind, Unreadable
from edge.tokens.openpaygo_scheme import KINDS, PaygoDevice, issue_paygo, read_paygo

DEVICE = PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 516959010)
UNKNOWN = Unreadable("unknown", guess=True)


def issued(kind: TokenKind, value: int | None, count: int, **form: bool) -> str:
    """A token that has exactly this count."""
    digits, new_count = issue_paygo(kind, value, DEVICE, count - 1 if count % 2 else count - 2, **form)
    assert new_count == count
    return digits


def read(digits: str, memory: CountMemory) -> PaygoToken:
    found = read_paygo(digits, DEVICE, memory)
    assert isinstance(found, PaygoToken), found
    return found


def spent(memory: CountMemory, digits: str) -> CountMemory:
    """The memory after these digits were accepted."""
    token = read(digits, memory)
    return memory.with_count(token.count, token.kind)


def test_published_token_is_read(openpaygo_vector: dict[str, Any]) -> None:
    vector = openpaygo_vector
    device = PaygoDevice(vector["key"], vector["starting_code"])
    memory = CountMemory.seeded(vector["count"])
    found = read_paygo(vector["token"], device, memory)
    assert isinstance(found, PaygoToken)
    assert memory.refusal(found) is None
    assert found.count == vector["new_count"]
    kind, value = KINDS[vector["type"]], vector["value"]
    if vector["extended"] and value is None:  # its value is 998 or 999, which 12 digits may mean as a time
        kind, value = TokenKind.SET_CREDIT, {"DISABLE_PAYG": 998, "COUNTER_SYNC": 999}[vector["type"]]
    assert found.kind is kind
    assert value is None or found.value == value
    assert found.amount_s == (value or 0) * 86_400


def test_published_token_is_issued_to_the_digit(openpaygo_vector: dict[str, Any]) -> None:
    vector = openpaygo_vector
    digits = issue_paygo(
        KINDS[vector["type"]],
        vector["value"],
        PaygoDevice(vector["key"], vector["starting_code"]),
        vector["count"],
        extended=vector["extended"],
        restricted=vector["restricted"],
    )
    assert digits == (vector["token"], vector["new_count"])


@pytest.mark.parametrize("kind", list(KINDS.values()))
def test_token_counts_once(kind: TokenKind) -> None:
    memory = CountMemory.seeded(10)
    value = 5 if kind in (TokenKind.CREDIT, TokenKind.SET_CREDIT) else None
    digits = issued(kind, value, 14 if kind is TokenKind.CREDIT else 13)
    memory = spent(memory, digits)
    again = read_paygo(digits, DEVICE, memory)
    assert again == Unreadable("used") or memory.refusal(again) == "used"  # type: ignore[arg-type]


def test_token_of_the_last_count_is_used() -> None:
    assert read_paygo(issued(TokenKind.CREDIT, 5, 10), DEVICE, CountMemory.seeded(10)) == Unreadable("used")


def test_tokens_that_add_may_come_in_any_order() -> None:
    memory = CountMemory.seeded(10)
    for count in (16, 12, 14):
        token = read(issued(TokenKind.CREDIT, 1, count), memory)
        assert memory.refusal(token) is None
        memory = memory.with_count(token.count, token.kind)
    assert memory.count == 16
    assert read_paygo(issued(TokenKind.CREDIT, 1, 12), DEVICE, memory) == Unreadable("used")


def test_set_time_voids_what_came_before() -> None:
    memory = CountMemory.seeded(10)
    memory = spent(memory, issued(TokenKind.SET_CREDIT, 3, 15))
    assert read_paygo(issued(TokenKind.CREDIT, 1, 12), DEVICE, memory) == Unreadable("used")


def test_counter_sync_does_not_take_the_count_back() -> None:
    """The library accepts a late one again and again, and from there every token since."""
    sync = issued(TokenKind.COUNT_SYNC, None, 11)
    tokens = [issued(TokenKind.CREDIT, 1, count) for count in (12, 14)]
    memory = CountMemory.seeded(10)
    for digits in (sync, *tokens):
        memory = spent(memory, digits)
    assert (
        OpenPAYGOTokenDecoder.decode_token(
            token=sync, secret_key=DEVICE.key_hex, count=14, used_counts=[14], starting_code=DEVICE.starting_code
        )[2]
        == 11
    )
    assert memory.refusal(read(sync, memory)) == "used"
    assert spent(memory, sync).count == 14
    assert [read_paygo(digits, DEVICE, memory) for digits in tokens] == [Unreadable("used")] * 2


def test_long_token_of_value_999_counts_once() -> None:
    memory = CountMemory.seeded(10)
    digits = issued(TokenKind.CREDIT, 999, 12, extended=True)
    memory = spent(memory, digits)
    assert memory.refusal(read(digits, memory)) == "used"


@pytest.mark.parametrize("digits", ["123456789", "123456789012", "111111111111111", "43214321432143214321"])
def test_digits_of_another_device_are_a_wrong_guess(digits: str) -> None:
    assert read_paygo(digits, DEVICE, CountMemory.seeded(1)) == UNKNOWN


@pytest.mark.parametrize(("value", "count"), [(996, 2), (997, 2), (996, 3), (997, 3), (998, 2), (999, 2)])
def test_reserved_values_are_unknown(value: int, count: int) -> None:
    """998 and 999 are commands, and commands have odd counts."""
    new_count, digits = OpenPAYGOTokenEncoder.generate_standard_token(
        starting_code=DEVICE.starting_code,
        key=bytes.fromhex(DEVICE.key_hex),
        value=value,
        count=1,
        mode=TokenType.SET_TIME if count % 2 else TokenType.ADD_TIME,
    )
    assert new_count == count
    assert read_paygo(digits, DEVICE, CountMemory.seeded(1)) == UNKNOWN


@pytest.mark.parametrize(
    "text", ["", "12345678", "1234567890", "12345678a", "123456789012345", "123412341234125", "9" * 21]
)
def test_what_has_no_form_of_a_token_is_malformed(text: str) -> None:
    assert read_paygo(text, DEVICE, CountMemory.seeded(1)) == Unreadable("malformed")


def test_blanks_and_dashes_are_typing() -> None:
    assert read("588 224 011", CountMemory.seeded(1)) == read("588-224-011", CountMemory.seeded(1))


def test_what_the_library_raises_never_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, found in ((TypeError, Unreadable("used")), (UnboundLocalError, UNKNOWN)):

        def fail(*, error: type[Exception] = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(OpenPAYGOTokenDecoder, "decode_token", fail)
        assert read_paygo("588224011", DEVICE, CountMemory.seeded(1)) == found


def test_starting_code_comes_of_the_key_where_none_is_given() -> None:
    device = PaygoDevice(DEVICE.key_hex)
    digits, count = issue_paygo(TokenKind.CREDIT, 7, device, 1)
    assert read_paygo(digits, device, CountMemory.seeded(1)) == PaygoToken(TokenKind.CREDIT, 7, count, 7 * 86_400)
    assert read_paygo(digits, DEVICE, CountMemory.seeded(1)) == UNKNOWN


def test_step_of_a_value_is_the_devices() -> None:
    hours = PaygoDevice(DEVICE.key_hex, DEVICE.starting_code, seconds_per_step=3600)
    found = read_paygo(issued(TokenKind.CREDIT, 5, 2), hours, CountMemory.seeded(1))
    assert isinstance(found, PaygoToken)
    assert found.amount_s == 5 * 3600


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(5, 40), st.integers(0, 995)), min_size=1, max_size=12))
def test_no_count_is_credited_twice_and_the_library_never_accepts_less(entries: list[tuple[int, int]]) -> None:
    memory, credited = CountMemory.seeded(10), [10]
    for count, value in entries:
        kind = TokenKind.SET_CREDIT if count % 2 else TokenKind.CREDIT
        digits = issued(kind, value, count)
        found = read_paygo(digits, DEVICE, memory)
        by_library = OpenPAYGOTokenDecoder.decode_token(
            token=digits,
            secret_key=DEVICE.key_hex,
            count=memory.count,
            used_counts=list(memory.used),
            starting_code=DEVICE.starting_code,
        )
        accepted = isinstance(found, PaygoToken) and memory.refusal(found) is None
        assert accepted == (by_library[2] is not None)
        if accepted:
            assert isinstance(found, PaygoToken)
            assert found.count not in credited
            credited.append(found.count)
            memory = memory.with_count(found.count, found.kind)
            assert list(memory.used) == by_library[3]
