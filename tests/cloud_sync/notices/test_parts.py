"""States, words, quiet hours, records and settings of notices, each by itself."""

from datetime import UTC, datetime
from pathlib import Path
from string import Formatter
from zoneinfo import ZoneInfo

import pytest

from cloud_sync.notices.contacts import Contact, check_contact
from cloud_sync.notices.ledger import record_of
from cloud_sync.notices.quiet import first_allowed
from cloud_sync.notices.settings import load_settings
from cloud_sync.notices.states import TRANSITIONS, NotPossible, State, Trigger, follow
from cloud_sync.notices.words import catalogue, money, render

RECORD = {
    "account": "A01", "number": 3, "live_balance_nano": -5_000_000_000, "register_at": 1_798_689_600,
    "document_hash": "",
}  # fmt: skip


def test_what_the_table_does_not_name_is_refused() -> None:
    for state in State:
        for trigger in Trigger:
            if trigger in TRANSITIONS[state]:
                assert follow(state, trigger) is TRANSITIONS[state][trigger]
            else:
                with pytest.raises(NotPossible, match=state.value):
                    follow(state, trigger)


def test_nothing_that_left_is_sent_again_but_by_a_person() -> None:
    for state in (State.DELIVERED, State.WITHDRAWN):
        assert TRANSITIONS[state] == {}
    ways = {trigger for trigger, after in TRANSITIONS[State.IN_DOUBT].items() if after is State.WAITING}
    assert ways == {Trigger.RESEND}


def test_both_languages_say_the_same_things() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    for name, text in english.items():
        assert fields_of(text) == fields_of(chinese[name])


def fields_of(text: str) -> set[str | None]:
    return {name for _text, name, _spec, _conversion in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize(
    ("amount_nano", "text"),
    [
        (0, "0.00"),
        (12_340_000_000, "12.34"),
        (-12_300_000_000, "-12.30"),
        (-1, "-0.000000001"),
        (9_007_199_254_740_993_000_000_001, "9007199254740993.000000001"),
    ],
)
def test_amounts_are_exact(amount_nano: int, text: str) -> None:
    assert money(amount_nano) == text


def test_a_notice_says_amount_account_and_local_time_in_both_languages() -> None:
    for language in ("en", "zh"):
        words = render(RECORD, language, ZoneInfo("Asia/Shanghai"), "CNY", "Power Co")
        for said in ("A01", "-5.00 CNY", "5.00 CNY", "2026-12-31 12:00", "Power Co"):
            assert said in words.body


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("asked", "allowed", "zone"),
    [
        ("2026-12-01T12:00:30+08:00", "2026-12-01T12:00:30+08:00", "Asia/Shanghai"),
        ("2026-12-01T20:59:59+08:00", "2026-12-01T20:59:59+08:00", "Asia/Shanghai"),
        ("2026-12-01T21:00:00+08:00", "2026-12-02T08:00:00+08:00", "Asia/Shanghai"),
        ("2026-12-02T07:59:59+08:00", "2026-12-02T08:00:00+08:00", "Asia/Shanghai"),
        # The night in which clocks go forward has ten hours, the one in which they go back twelve.
        ("2026-03-28T21:00:00+00:00", "2026-03-29T07:00:00+00:00", "Europe/London"),
        ("2026-10-24T21:00:00+01:00", "2026-10-25T08:00:00+00:00", "Europe/London"),
    ],
)
def test_quiet_hours_end_at_the_first_allowed_minute(asked: str, allowed: str, zone: str) -> None:
    assert first_allowed(at(asked), "21:00", "08:00", ZoneInfo(zone)) == at(allowed)


def test_quiet_hours_may_lie_within_a_day_or_not_be() -> None:
    noon = int(datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp())
    assert first_allowed(noon, "11:00", "13:00", ZoneInfo("UTC")) == noon + 3600
    assert first_allowed(noon, "12:00", "12:00", ZoneInfo("UTC")) == noon


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"NoticeRaised"',
        b'{"type":"NoticeRaised","at":1,"account":"A","number":9,"live_balance_nano":1,"register_at":1}',
        b'{"type":"NoticeRaised","at":1,"account":"A","number":1,"live_balance_nano":1.5,"register_at":1}',
        b'{"type":"NoticeRaised","at":1,"account":"A","number":1,"live_balance_nano":1,"register_at":99999999999999}',
        b'{"type":"Note","text":"\\"NoticeRaised\\""}',
    ],
)
def test_a_record_that_is_no_notice_is_passed_over(body: bytes) -> None:
    assert record_of(body) is None


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("sms", "13800138000"),
        ("sms", "+86 138"),
        ("email", "nobody"),
        ("email", "a@b.c\r\nBcc: x@y.z"),
        ("webhook", "http://example.org/x"),
        ("webhook", "file:///etc/passwd"),
        ("fax", "+8613800138000"),
    ],
)
def test_an_address_that_no_channel_could_use_is_refused(channel: str, address: str) -> None:
    with pytest.raises(ValueError, match=r"is (no|not) "):
        check_contact(Contact("gw-1", "A01", channel, address, "en", 1, None))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "notices.json"),
        ('{"zone": "Mars/Base"}', "Mars/Base"),
        ('{"zone": "UTC"}', "no channel"),
        ('{"zone": "UTC", "smss": {}}', "smss"),
        ('{"zone": "UTC", "quiet_from": "25:00"}', "quiet_from"),
        ('{"zone": "UTC", "email": {"host": "m.example", "sender": "a@b.c", "starttls": false}}', "starttls"),
        ('{"zone": "UTC", "sms": {"url": "http://sms.example/x"}}', "https"),
    ],
)
def test_settings_say_what_is_wrong_with_them(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "notices.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_settings(tmp_path / "notices.json")
