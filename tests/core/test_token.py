"""The door for typed tokens: each counts once, wrong entries lock their door, and replay gives it all again."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.core.token import (
    TIDS_KEPT,
    CountMemory,
    DecoderCommissioned,
    EnterToken,
    ForMeter,
    KeyChange,
    KeySection,
    KeySectionAccepted,
    LockOut,
    PaygoToken,
    StsMemory,
    StsToken,
    TokenAccepted,
    TokenEvent,
    TokenKind,
    TokenRead,
    TokenRefused,
    TokenRelayed,
    TokenState,
    Unreadable,
    apply_token,
    enter_token,
)
from edge.core.units import ClockQuality, ClockReading, UnixSeconds

START_AT = 1_800_000_000
CRC = Unreadable("crc", guess=True)
STS, PAYGO = "M1", "M2"
STARTED = TokenState(sts={STS: StsMemory(2014)}, paygo={PAYGO: CountMemory.commissioned(10)})


def clock(at_s: int = 0, boot: str = "boot-1", elapsed_s: int | None = None, quality: str = "ntp") -> ClockReading:
    """The clock so many seconds after the start."""
    elapsed_ms = (at_s if elapsed_s is None else elapsed_s) * 1000
    return ClockReading(UnixSeconds(START_AT + at_s), elapsed_ms, boot, ClockQuality(quality))


def credit(tid: int, tenths: int = 10, subclass: int = 0) -> StsToken:
    return StsToken(0, subclass, 5, tid, UnixSeconds(tid * 60), tenths)


def days(count: int, value: int = 5, kind: TokenKind = TokenKind.CREDIT) -> PaygoToken:
    return PaygoToken(kind, value, count, value * 86_400)


def entry(read: TokenRead, now: ClockReading | None = None, unit: str = "energy", decoder: str = STS,
          door: str = "kiosk") -> EnterToken:  # fmt: skip
    return EnterToken(now or clock(), "A1", decoder, door, read, unit)


def section(number: int, rollover: bool = False, digits: str = "") -> KeySection:
    parts: Mapping[int, KeySection] = {
        1: KeySection(1, digits, key_expiry_part=0xA, key_revision=3, key_type=2, rollover=rollover),
        2: KeySection(2, digits, key_expiry_part=0x5, tariff_index=7),
        3: KeySection(3, digits, supply_group_part=0x241),
        4: KeySection(4, digits, supply_group_part=0x01E),
    }
    return replace(parts[number], digits=digits or f"{number:020d}")


def reason_of(event: TokenEvent) -> str:
    assert isinstance(event, TokenRefused), event
    return event.reason


def entered(state: TokenState, *reads: TokenRead) -> tuple[TokenState, list[TokenEvent]]:
    events = []
    for read in reads:
        event = enter_token(state, entry(read))
        events.append(event)
        state = apply_token(state, event)
    return state, events


# --- what counts ----------------------------------------------------------------------------------


def test_token_is_accepted_once_with_its_energy() -> None:
    state, (first, second) = entered(STARTED, credit(100, tenths=25), credit(100, tenths=25))
    assert isinstance(first, TokenAccepted)
    assert (first.unit, first.amount, first.kind, first.token_id) == ("energy", 2500, "credit", "sts:M1:2014:100")
    assert reason_of(second) == "used"
    memory = state.sts[STS]
    assert memory.tids.kept == (100,)


def test_recent_tokens_may_come_out_of_order() -> None:
    _, events = entered(STARTED, credit(300), credit(100), credit(200), credit(200))
    assert [isinstance(event, TokenAccepted) for event in events] == [True, True, True, False]


def test_token_older_than_all_that_are_kept_is_old_and_the_dropped_one_too() -> None:
    state, events = entered(STARTED, *(credit(tid) for tid in range(100, 100 + TIDS_KEPT + 1)))
    assert all(isinstance(event, TokenAccepted) for event in events)
    assert [reason_of(enter_token(state, entry(credit(tid)))) for tid in (99, 100, 101)] == ["old", "old", "used"]


def test_memory_seeded_at_commissioning_takes_only_what_is_newer() -> None:
    state = apply_token(TokenState(), DecoderCommissioned(UnixSeconds(0), STS, base_year=2014, tid=1000))
    assert reason_of(enter_token(state, entry(credit(999)))) == "old"
    assert reason_of(enter_token(state, entry(credit(1000)))) == "used"
    state, events = entered(state, credit(2000), credit(1001))
    assert all(isinstance(event, TokenAccepted) for event in events)
    memory = state.sts[STS]
    assert len(memory.tids.kept) == TIDS_KEPT


@pytest.mark.parametrize(("top", "reason"), [(4, None), (5, "expired_key")])
def test_key_expiry_refuses_what_is_beyond_it(top: int, reason: str | None) -> None:
    state = TokenState(sts={STS: StsMemory(2014, key_expiry=4)})
    event = enter_token(state, entry(credit(top << 16 | 0xFFFF)))
    assert reason is None if isinstance(event, TokenAccepted) else reason_of(event) == reason


@pytest.mark.parametrize(
    ("read", "unit", "decoder", "reason"),
    [
        (Unreadable("malformed"), "energy", STS, "malformed"),
        (CRC, "energy", STS, "crc"),
        (Unreadable("unknown"), "energy", STS, "unknown"),
        (Unreadable("used"), "time", PAYGO, "used"),
        (credit(1, subclass=1), "energy", STS, "unit"),  # water
        (credit(1, subclass=3), "energy", STS, "unit"),
        (credit(1), "money", STS, "unit"),
        (credit(1), "energy", "M9", "unknown"),  # no such decoder
        (credit(1), "energy", PAYGO, "unknown"),
        (days(12), "time", STS, "unknown"),
        (section(1), "time", PAYGO, "unknown"),
        (credit(1, tenths=0), "energy", STS, "amount"),
        (days(12, value=0), "time", PAYGO, "amount"),
        (days(12), "energy", PAYGO, "unit"),
        (days(10), "time", PAYGO, "used"),
        (days(13, kind=TokenKind.SET_CREDIT), "time", PAYGO, "unknown"),  # not among the kinds it obeys
        (StsToken(2, 1, 5, 100, UnixSeconds(0), value=0xFFFF), "energy", STS, "unknown"),
        (StsToken(1, 0, control=0), "energy", STS, "unknown"),
    ],
)
def test_first_reason_that_applies_is_given_and_nothing_is_remembered(
    read: TokenRead, unit: str, decoder: str, reason: str
) -> None:
    event = enter_token(STARTED, entry(read, unit=unit, decoder=decoder))
    assert reason_of(event) == reason
    assert replace(apply_token(STARTED, event), locks={}) == STARTED


def test_paygo_token_counts_once_under_its_count() -> None:
    event = enter_token(STARTED, entry(days(12), unit="time", decoder=PAYGO))
    assert isinstance(event, TokenAccepted)
    assert (event.unit, event.amount, event.token_id) == ("time", 5 * 86_400, "openpaygo:M2:12")
    state = apply_token(STARTED, event)
    assert reason_of(enter_token(state, entry(days(12), unit="time", decoder=PAYGO))) == "used"


def test_device_taken_over_at_a_count_gives_nothing_for_what_was_before() -> None:
    assert [CountMemory.commissioned(10).refusal(days(count)) for count in (2, 8, 10, 12)] == [
        "used",
        "used",
        "used",
        None,
    ]
    assert CountMemory.seeded(10).refusal(days(8)) is None


def test_counter_never_falls() -> None:
    memory = CountMemory.seeded(20).with_count(5, TokenKind.COUNT_SYNC)
    assert memory.count == 20
    assert memory.refusal(days(18)) == "used"


def test_digits_for_a_meter_of_its_own_go_on_and_change_nothing() -> None:
    event = enter_token(STARTED, entry(ForMeter("59386323472137426967")))
    assert isinstance(event, TokenRelayed)
    assert event.digits == "59386323472137426967"
    assert apply_token(STARTED, event) == STARTED


def test_decoder_commissioned_anew_has_one_scheme_and_forgets_the_other() -> None:
    state = apply_token(STARTED, DecoderCommissioned(UnixSeconds(0), STS, count=7))
    assert state.memory(STS) == CountMemory.commissioned(7)
    state = apply_token(state, DecoderCommissioned(UnixSeconds(0), STS, base_year=2035, key_expiry=9))
    assert state.memory(STS) == StsMemory(2035, 9)
    assert state.paygo == STARTED.paygo


def test_any_meters_token_may_come_as_often_as_one_likes() -> None:
    test = replace(entry(StsToken(1, 0, control=7)), kinds=frozenset({TokenKind.TEST}))
    for _ in range(2):
        assert isinstance(enter_token(apply_token(STARTED, enter_token(STARTED, test)), test), TokenAccepted)


# --- key changes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3), (1, 1, 3, 2, 3, 4)])
def test_key_change_is_complete_with_all_four_in_any_order(order: tuple[int, ...]) -> None:
    state, events = entered(STARTED, credit(100), *(section(number) for number in order))
    sections = [event for event in events if isinstance(event, KeySectionAccepted)]
    assert [event.completes for event in sections] == [False] * (len(order) - 1) + [True]
    memory = state.sts[STS]
    assert memory.sections == ()
    assert memory.key_changes == (KeyChange(tuple(f"{number:020d}" for number in (1, 2, 3, 4))),)
    assert (memory.key_expiry, memory.key_revision, memory.key_type) == (0xA5, 3, 2)
    assert (memory.tariff_index, memory.supply_group) == (7, 123457)
    assert (memory.base_year, memory.tids.kept) == (2014, (100,))


def test_newest_section_of_a_number_counts() -> None:
    state, _ = entered(STARTED, section(1, digits="9" * 20), section(2), section(3), section(1), section(4))
    memory = state.sts[STS]
    assert memory.key_changes[0].digits[0] == f"{1:020d}"


def test_rollover_begins_the_next_base_year_with_an_empty_memory() -> None:
    state, _ = entered(STARTED, credit(100), section(1, rollover=True), section(2), section(3), section(4))
    memory = state.sts[STS]
    assert (memory.base_year, memory.tids.kept) == (2035, ())
    again = enter_token(state, entry(credit(100)))
    assert isinstance(again, TokenAccepted)
    assert again.token_id == "sts:M1:2035:100"


def test_rollover_with_no_base_year_left_is_refused() -> None:
    state = TokenState(sts={STS: StsMemory(2035)})
    assert reason_of(enter_token(state, entry(section(1, rollover=True)))) == "unknown"
    assert isinstance(enter_token(state, entry(section(1))), KeySectionAccepted)


def test_first_token_under_a_new_key_shows_which_key_it_is() -> None:
    state, _ = entered(STARTED, *(section(number) for number in (1, 2, 3, 4)))
    for other_key in (False, True):
        token = replace(credit(100), other_key=other_key)
        memory = apply_token(state, enter_token(state, entry(token))).sts[STS]
        assert memory.key_shown
        assert memory.key_changes[0].other_key is other_key
        later = memory.with_tid(101, other_key=not other_key)
        assert later.key_changes == memory.key_changes


def test_events_and_state_are_the_same_after_a_journal_and_a_checkpoint() -> None:
    events = [
        DecoderCommissioned(UnixSeconds(1), STS, base_year=2014, tid=0),
        DecoderCommissioned(UnixSeconds(1), PAYGO, count=10),
        *(enter_token(STARTED, entry(read)) for read in (credit(100), section(1), CRC, ForMeter("1" * 20))),
        enter_token(STARTED, entry(days(12), unit="time", decoder=PAYGO)),
    ]
    stored = [msgspec.convert(msgspec.json.decode(msgspec.json.encode(event)), type(event)) for event in events]
    assert stored == events
    state = reduce(apply_token, stored, TokenState())
    assert state.memory(STS) != STARTED.memory(STS)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(state)), TokenState) == state


# --- the lock -------------------------------------------------------------------------------------


def test_waits_double_from_one_minute_to_512() -> None:
    waits = [LockOut(wrong).wait_s // 60 for wrong in range(14)]
    assert waits == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512, 512]


def test_wrong_entry_locks_its_door_and_no_other_until_the_wait_is_over() -> None:
    event = enter_token(STARTED, entry(CRC))
    assert isinstance(event, TokenRefused)
    assert (event.wrong_entries, event.wait_s) == (1, 60)
    state = apply_token(STARTED, event)
    locked = enter_token(state, entry(credit(100), clock(59)))
    assert isinstance(locked, TokenRefused)
    assert (locked.reason, locked.wait_s, locked.clock) == ("locked", 1, None)
    assert apply_token(state, locked) == state
    assert isinstance(enter_token(state, entry(credit(100), clock(59), door="console")), TokenAccepted)
    assert isinstance(enter_token(state, entry(credit(100), clock(60))), TokenAccepted)


def test_anything_accepted_opens_the_door_and_ends_the_count() -> None:
    state = replace(STARTED, locks={"kiosk": LockOut(9, clock())})
    late = clock(10 * 86_400)
    for read in (credit(100), section(1)):
        event = enter_token(state, entry(read, late))
        assert apply_token(state, event).locks == {}
    refused = enter_token(state, entry(CRC, late))
    assert isinstance(refused, TokenRefused)
    assert refused.wait_s == 512 * 60


@pytest.mark.parametrize("read", [Unreadable("malformed"), Unreadable("unknown"), Unreadable("used"), credit(1, 0)])
def test_what_is_no_guess_locks_nothing(read: TokenRead) -> None:
    event = enter_token(STARTED, entry(read))
    assert apply_token(STARTED, event).locks == {}


@pytest.mark.parametrize(
    ("now", "remaining_s"),
    [
        (clock(60), 60),  # the same boot: monotonic time
        (clock(0, elapsed_s=60), 60),
        (clock(40 * 86_400, elapsed_s=60), 60),  # the wall clock was set
        (clock(60, boot="boot-2", elapsed_s=5), 60),  # a restart, both clocks good
        (clock(60, boot="boot-2", elapsed_s=5, quality="unset"), 115),  # only the time since the start is sure
        (clock(-86_400, boot="boot-2", elapsed_s=5), 115),  # the clock fell behind
        (clock(60, boot="boot-2", elapsed_s=200, quality="unset"), 0),
    ],
)
def test_lock_outlasts_restarts_and_clock_steps(now: ClockReading, remaining_s: int) -> None:
    assert LockOut(2, clock()).remaining_s(now) == remaining_s


# --- everything at once ---------------------------------------------------------------------------


class TokenDoor(RuleBasedStateMachine):
    """Customers, guessers, power cuts and replays at two doors of one meter; the books are kept apart."""

    def __init__(self) -> None:
        super().__init__()
        self.state = TokenState()
        self.journal: list[TokenEvent] = []
        self.issued: dict[int, int] = {}
        self.credited: dict[int, int] = {}
        self.boot, self.now_s, self.boot_s = 1, 0, 0
        self.wrong = {"kiosk": 0, "console": 0}
        self.locked_until_s = {"kiosk": 0, "console": 0}

    def clock(self) -> ClockReading:
        return clock(self.now_s, f"boot-{self.boot}", self.now_s - self.boot_s)

    def keep(self, event: TokenEvent) -> None:
        self.journal.append(event)
        self.state = apply_token(self.state, event)

    @initialize()
    def commission(self) -> None:
        self.keep(DecoderCommissioned(self.clock().at, STS, base_year=2014, tid=500))

    @rule(tid=st.integers(400, 700), tenths=st.integers(1, 500))
    def vendor_issues_a_token(self, tid: int, tenths: int) -> None:
        self.issued.setdefault(tid, tenths)

    @rule(pick=st.randoms(use_true_random=False), door=st.sampled_from(["kiosk", "console"]), cut=st.booleans())
    def customer_types_a_token(self, pick: object, door: str, cut: bool) -> None:
        """`cut`: the power fails before the commit, and what is not committed never was."""
        if not self.issued:
            return
        tid = pick.choice(sorted(self.issued))  # type: ignore[attr-defined]
        event = enter_token(self.state, entry(credit(tid, self.issued[tid]), self.clock(), door=door))
        spent = tid in self.credited or tid <= 500
        kept = sorted([500] * TIDS_KEPT + list(self.credited))[-TIDS_KEPT:]
        if self.now_s < self.locked_until_s[door]:
            assert reason_of(event) == "locked"
        elif spent or tid < kept[0]:
            assert reason_of(event) in ("used", "old")
        else:
            assert isinstance(event, TokenAccepted), event
            assert event.amount == self.issued[tid] * 100
        if cut:
            self.restart()
            return
        self.keep(event)
        if isinstance(event, TokenAccepted):
            self.credited[tid] = event.amount
            self.wrong[door] = self.locked_until_s[door] = 0

    @rule(door=st.sampled_from(["kiosk", "console"]))
    def somebody_guesses(self, door: str) -> None:
        event = enter_token(self.state, entry(CRC, self.clock(), door=door))
        self.keep(event)
        if self.now_s < self.locked_until_s[door]:
            assert reason_of(event) == "locked"
            return
        assert reason_of(event) == "crc"
        self.wrong[door] += 1
        self.locked_until_s[door] = self.now_s + 60 * min(512, 2 ** (self.wrong[door] - 1))

    @rule(seconds=st.integers(1, 40_000))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    @rule()
    def restart(self) -> None:
        self.boot += 1
        self.boot_s = self.now_s
        self.state = reduce(apply_token, self.journal, TokenState())

    @invariant()
    def every_door_is_locked_for_as_long_as_the_books_say(self) -> None:
        for door, until_s in self.locked_until_s.items():
            assert self.state.wait_s(door, self.clock()) == max(0, until_s - self.now_s)

    @invariant()
    def credit_is_the_tokens_of_the_books_once_each(self) -> None:
        accepted = [event for event in self.journal if isinstance(event, TokenAccepted)]
        assert len({event.token_id for event in accepted}) == len(accepted)
        assert sum(event.amount for event in accepted) == sum(self.credited.values())

    @invariant()
    def replay_gives_the_same_state(self) -> None:
        assert reduce(apply_token, self.journal, TokenState()) == self.state


TestTokenDoor = TokenDoor.TestCase


class PaygoDoor(RuleBasedStateMachine):
    """Tokens of all kinds and counts in any order: no count is credited twice, no late one after a reset."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = CountMemory.commissioned(10)
        self.spent: set[int] = set()
        self.void_to = 10

    @rule(count=st.integers(1, 60), kind=st.sampled_from(TokenKind))
    def somebody_types(self, count: int, kind: TokenKind) -> None:
        token = PaygoToken(kind, 1, count, 86_400)
        if self.memory.refusal(token) is not None:
            late = count <= self.void_to or count in self.spent or kind is not TokenKind.CREDIT
            assert late or count <= max(self.spent, default=10) - 16
            return
        assert count not in self.spent
        assert count > self.void_to
        self.spent.add(count)
        self.memory = self.memory.with_count(count, kind)
        if kind is not TokenKind.CREDIT:
            self.void_to = max(self.void_to, count)

    @invariant()
    def highest_count_is_the_devices(self) -> None:
        assert self.memory.count == max(self.spent | {10})


TestPaygoDoor = PaygoDoor.TestCase
