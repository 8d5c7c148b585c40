"""Tokens entered one after the other: replays, key changes and rollovers within one list."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.core.token import CountMemory, StsMemory, TidMemory
from edge.tokens.openpaygo_scheme import PaygoDevice
from edge.tokens.records import paygo_records, sts_records
from edge.tokens.sts import tid_from_time, token_digits
from edge.tokens.sts_issue import NewKey, issue_credit, issue_key_change, issue_management

NEW = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
NEXT = 0x1111_1111_2222_2222_3333_3333_4444_4444


def reasons(texts: list[str], key: int, memory: StsMemory) -> list[Any]:
    return [record.get("reason", True) for record in sts_records(texts, key, memory)]


def test_credit_token_of_the_description_is_shown_whole(key: int) -> None:
    (record,) = sts_records(["5938 6323 4721 3742 6967"], key, StsMemory(1993))
    assert record == {
        "token": "59386323472137426967",
        "ok": True,
        "class": 0,
        "subclass": 0,
        "random": 5,
        "tid": 0x59982C,
        "issued_at": "2004-03-01T13:00:00Z",
        "amount_tenths": 1,
    }


def test_refused_token_has_nothing_but_its_reason(key: int) -> None:
    assert list(sts_records(["1 2"], key, StsMemory(1993))) == [{"token": "1 2", "ok": False, "reason": "malformed"}]


def test_replay_is_used_and_so_is_another_token_of_the_minute(key: int) -> None:
    texts = [issue_credit(key, 9, 1, 0), issue_credit(key, 9, 1, 0), issue_management(key, 9, 1, 3, 1)]
    assert reasons(texts, key, StsMemory(1993)) == [True, "used", "used"]


def test_refused_token_does_not_spend_its_minute(key: int) -> None:
    currency = token_digits(0, 4 << 44 | 9 << 16 | 1, key)
    assert reasons([currency, issue_credit(key, 9, 1, 0)], key, StsMemory(1993)) == ["unknown", True]
    assert reasons([issue_credit(key, 9 << 16, 1, 0)], key, StsMemory(1993, key_expiry=8)) == ["expired_key"]


def test_token_before_commissioning_is_old(key: int) -> None:
    tid = tid_from_time(1_078_146_000, 1993)  # type: ignore[arg-type]
    assert reasons(["59386323472137426967"], key, StsMemory(1993, tids=TidMemory.seeded(tid + 1))) == ["old"]
    assert reasons(["59386323472137426967"], key, StsMemory(1993, tids=TidMemory.seeded(tid - 1))) == [True]


def test_key_change_in_the_list_switches_key_and_expiry_for_what_follows(key: int) -> None:
    sections = issue_key_change(key, NewKey(NEW, 0x0F, 4, 2, 7, 123457))
    texts = [
        issue_credit(key, 5, 1, 0),
        *(sections[index] for index in (2, 0, 3)),
        issue_credit(key, 6, 1, 0),  # the old key holds until all four are there
        sections[1],
        issue_credit(key, 7, 1, 0),
        issue_credit(NEW, 5, 1, 0),  # spent before, and the memory is kept
        issue_credit(NEW, 0x0F_FFFF, 1, 0),
        issue_credit(NEW, 0x10_0000, 1, 0),
        sections[0],
    ]
    assert reasons(texts, key, StsMemory(1993)) == [
        True, True, True, True, True, True, "crc", "used", True, "expired_key", "crc",
    ]  # fmt: skip
    fields = list(sts_records(texts, key, StsMemory(1993)))
    assert fields[1] == {
        "token": sections[2], "ok": True, "class": 2, "subclass": 8, "section": 3, "sgc_low": 0x241,
        "key_bits": "fedcba98",
    }  # fmt: skip
    assert fields[2] == {
        "token": sections[0], "ok": True, "class": 2, "subclass": 3, "section": 1, "ken_high": 0, "krn": 4,
        "rollover": False, "key_type": 2, "key_bits": "01234567",
    }  # fmt: skip
    assert fields[5] == {
        "token": sections[1], "ok": True, "class": 2, "subclass": 4, "section": 2, "ken_low": 15, "ti": 7,
        "key_bits": "76543210", "key_changed": True, "decoder_key": f"{NEW:032x}", "base": 1993, "ken": 15,
        "sgc": 123457,
    }  # fmt: skip


def test_rollover_begins_anew_in_the_next_base_year_until_none_is_left(key: int) -> None:
    first = issue_key_change(key, NewKey(NEW, 255, 1, 2, 1, 123457, rollover=True))
    second = issue_key_change(NEW, NewKey(NEXT, 255, 1, 2, 1, 123457, rollover=True))
    third = issue_key_change(NEXT, NewKey(key, 255, 1, 2, 1, 123457, rollover=True))
    texts = [issue_credit(key, 5, 1, 0), *first, issue_credit(NEW, 5, 1, 0), *second, issue_credit(NEXT, 5, 1, 0)]
    records = list(sts_records([*texts, third[0], *third[1:]], key, StsMemory(1993)))
    assert [record["issued_at"] for record in records if "issued_at" in record] == [
        "1993-01-01T00:05:00Z",
        "2014-01-01T00:05:00Z",
        "2035-01-01T00:05:00Z",
    ]
    assert [record.get("reason", True) for record in records[-4:]] == ["unknown", True, True, True]


def test_published_key_change_is_followed_though_its_sections_are_in_the_other_order(key: int) -> None:
    texts = [
        "34812744915211133004", "46903925208523674737", "71464563847088610152", "67904239402617643990",
        "52522044994700766563", "52522044994700766563",
    ]  # fmt: skip
    assert reasons(texts, key, StsMemory(1993)) == [True] * 5 + ["used"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 70), st.booleans()), max_size=120), st.booleans())
def test_every_minute_is_credited_once_whatever_the_order(entries: list[tuple[int, bool]], other_key: bool) -> None:
    """And a key change in the middle does not make a spent one good."""
    change = issue_key_change(NEXT, NewKey(NEW, 255, 1, 2, 1, 123457, other_key=other_key))
    middle = len(entries) // 2
    texts = [issue_credit(NEXT, tid, 10, 1) for tid, _ in entries[:middle]]
    texts += [*change, *(issue_credit(NEW, tid, 10, 1) for tid, _ in entries[middle:])]
    records = list(sts_records(texts, NEXT, StsMemory(1993)))
    credited = [record["tid"] for record in records if record["ok"] and record["class"] == 0]
    assert len(set(credited)) == len(credited)
    assert {record.get("reason") for record in records} <= {None, "used", "old"}
    if len({tid for tid, _ in entries}) <= 50:
        assert set(credited) == {tid for tid, _ in entries}


def test_paygo_tokens_are_shown_and_share_a_memory() -> None:
    device = PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 516959010)
    texts = ["588 224 011", "588224011", "380589011", "123456789", "1"]
    assert list(paygo_records(texts, device, CountMemory.seeded(1))) == [
        {"token": "588224011", "ok": True, "value": 1, "type": "ADD_TIME", "count": 2},
        {"token": "588224011", "ok": False, "reason": "used"},
        {"token": "380589011", "ok": True, "value": 1, "type": "SET_TIME", "count": 3},
        {"token": "123456789", "ok": False, "reason": "unknown"},
        {"token": "1", "ok": False, "reason": "malformed"},
    ]


def test_paygo_token_without_a_value_has_none() -> None:
    device = PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 516959010)
    (record,) = paygo_records(["190942008"], device, CountMemory.seeded(1))
    assert (record["type"], record["value"]) == ("DISABLE_PAYG", None)
