"""Readers and the door together: from what is typed to what is credited, over restarts and a key change."""

from functools import reduce

import pytest

from edge.core.token import (
    CountMemory,
    DecoderCommissioned,
    EnterToken,
    KeySectionAccepted,
    StsMemory,
    TokenAccepted,
    TokenEvent,
    TokenRefused,
    TokenRelayed,
    TokenState,
    Unreadable,
    apply_token,
    enter_token,
)
from edge.core.units import ClockQuality, ClockReading, UnixSeconds
from edge.tokens.openpaygo_scheme import PaygoDevice
from edge.tokens.reader import PaygoReader, RelayReader, StsReader
from edge.tokens.sts_issue import NewKey, issue_credit, issue_key_change

NEW = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
Reader = StsReader | PaygoReader | RelayReader


class Door:
    """A gateway cut down to its token door: a journal, and the state that is its replay."""

    def __init__(self, *events: TokenEvent) -> None:
        self.journal = list(events)
        self.now_s = 0

    @property
    def state(self) -> TokenState:
        return reduce(apply_token, self.journal, TokenState())

    def type(self, reader: Reader, text: str, unit: str = "energy") -> TokenEvent:
        clock = ClockReading(UnixSeconds(self.now_s), self.now_s * 1000, "boot", ClockQuality.NTP)
        read = reader.read(text, self.state.memory("M1"))
        event = enter_token(self.state, EnterToken(clock, "A1", "M1", "kiosk", read, unit))
        self.journal.append(event)
        return event


def commissioned(**facts: int) -> DecoderCommissioned:
    return DecoderCommissioned(UnixSeconds(0), "M1", **facts)


@pytest.mark.parametrize("other_key", [False, True])
def test_key_change_holds_over_a_restart_with_the_first_key_alone(key: int, other_key: bool) -> None:
    door, reader = Door(commissioned(base_year=2014)), StsReader(key)
    assert isinstance(door.type(reader, issue_credit(key, 100, 10, 1)), TokenAccepted)
    for digits in issue_key_change(key, NewKey(NEW, 255, 2, 2, 1, 123457, other_key=other_key)):
        assert isinstance(door.type(reader, digits), KeySectionAccepted)
    restarted = StsReader(key)
    accepted = door.type(restarted, issue_credit(NEW, 101, 25, 1))
    assert isinstance(accepted, TokenAccepted)
    assert (accepted.amount, accepted.token_id) == (2500, "sts:M1:2014:101")
    replay = door.type(restarted, issue_credit(NEW, 100, 10, 1))
    assert isinstance(replay, TokenRefused)
    assert replay.reason == "used"
    old_key = door.type(restarted, issue_credit(key, 102, 10, 1))
    assert isinstance(old_key, TokenRefused)
    assert (old_key.reason, old_key.wait_s) == ("crc", 60)


def test_no_key_is_in_the_journal_or_in_a_repr(key: int) -> None:
    door, reader = Door(commissioned(base_year=2014)), StsReader(key)
    new = NewKey(NEW, 255, 2, 2, 1, 123457)
    for digits in issue_key_change(key, new):
        door.type(reader, digits)
    shown = f"{door.journal} {door.state} {reader} {new} {PaygoReader(PaygoDevice('ab' * 16))}".lower()
    for secret in (key, NEW):
        assert str(secret) not in shown
        assert f"{secret:032x}" not in shown
        assert not [word for shift in (0, 32, 64, 96) if (word := str(secret >> shift & 0xFFFFFFFF)) in shown]
    assert "abab" not in shown


def test_paygo_token_counts_once_at_the_door() -> None:
    door = Door(commissioned(count=1))
    reader = PaygoReader(PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 516959010))
    first, second = (door.type(reader, "588 224 011", unit="time") for _ in range(2))
    assert isinstance(first, TokenAccepted)
    assert (first.amount, first.unit, first.count) == (86_400, "time", 2)
    assert isinstance(second, TokenRefused)
    assert (second.reason, second.clock) == ("used", None)


def test_digits_for_a_meter_are_passed_on_without_a_decoder() -> None:
    door = Door()
    event = door.type(RelayReader(), "5938-6323-4721-3742-6967")
    assert isinstance(event, TokenRelayed)
    assert event.digits == "59386323472137426967"


def test_reader_without_its_decoder_knows_nothing_and_locks_nothing(key: int) -> None:
    paygo = PaygoReader(PaygoDevice("bc41ec9530f6dac86b1a29ab82edc5fb", 516959010))
    assert StsReader(key).read("59386323472137426967", None) == Unreadable("unknown")
    assert StsReader(key).read("59386323472137426967", CountMemory.seeded(1)) == Unreadable("unknown")
    assert paygo.read("588224011", StsMemory(2014)) == Unreadable("unknown")
