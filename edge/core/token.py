"""The door for typed tokens: what decoded digits mean for an account, and what is remembered of them.

Nothing here knows a key: edge.tokens turns digits into `StsToken`, `KeySection`, `PaygoToken` or
`Unreadable`, this module decides. `enter_token` gives one event, `apply_token` the state after it;
replaying the events gives the state again. TIDs are minutes since the base year, energy is Wh,
time seconds. Source: RULES.md 8, STS.md (IEC 62055-41), OpenPAYGO Token.

Reasons of a refusal, first that applies: locked (too soon after a wrong entry), malformed (no
token's digits), crc (another key, or a wrong digit), unknown (nothing this decoder gives out, or
nothing this account obeys), unit (of another credit unit: never converted), amount (nothing to
credit), expired_key, used, old. Only crc and OpenPAYGO's unknown are guesses and lock the door.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import Enum
from typing import ClassVar, Final, assert_never

from edge.core.lean import dataclass
from edge.core.units import ClockReading, UnixSeconds, least_seconds

BASE_YEARS: Final = (1993, 2014, 2035)
KEY_EXPIRY_MAX: Final = 255
TIDS_KEPT: Final = 50
SECTIONS: Final = (1, 2, 3, 4)
COUNT_WINDOW: Final = 16  # how far below the highest count an unused token may still come
WAIT_S_MIN: Final = 60
WAIT_DOUBLINGS_MAX: Final = 9  # 512 minutes
WH_PER_TENTH_KWH: Final = 100


class TokenKind(Enum):
    """What a token asks for."""

    CREDIT = "credit"
    SET_CREDIT = "set_credit"  # OpenPAYGO set time: the credit becomes this
    RELEASE = "release"  # OpenPAYGO disable PAYG
    COUNT_SYNC = "count_sync"  # OpenPAYGO: older counts are void
    MANAGEMENT = "management"  # STS class 2 but for the key change
    TEST = "test"  # STS class 1: any meter's


# --- what a decoder makes of digits --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Digits that are no token for this decoder. A `guess` counts against the door."""

    reason: str  # malformed | crc | unknown | used (a spent one of which no more is known)
    guess: bool = False


@dataclass(frozen=True, slots=True)
class StsToken:
    """A token that passed the CRC. Class 1 has `control` (44 bits) and nothing else, class 2 `value` for an amount.

    `other_key`: it was read with the second of the two keys that a key change may have brought.
    """

    token_class: int
    subclass: int
    random: int | None = None
    tid: int | None = None
    issued_at: UnixSeconds | None = None
    amount_tenths: int | None = None
    value: int | None = None
    control: int | None = None
    other_key: bool = False

    @property
    def kind(self) -> TokenKind:
        """What it asks for."""
        return (TokenKind.CREDIT, TokenKind.TEST, TokenKind.MANAGEMENT)[self.token_class]

    @property
    def unit(self) -> str:
        """The credit unit of a credit token; water and gas are none of ours."""
        return _STS_UNITS[self.subclass]


_STS_UNITS: Final = {0: "energy", 1: "water", 2: "gas", 3: "time"}


@dataclass(frozen=True, slots=True)
class KeySection:
    """One of the four tokens of a key change. Of the key only its digits are kept: ciphertext under the old key."""

    number: int
    digits: str
    key_expiry_part: int | None = None  # high four bits in section 1, low four in 2
    key_revision: int | None = None  # 1
    key_type: int | None = None  # 1
    rollover: bool = False  # 1
    tariff_index: int | None = None  # 2
    supply_group_part: int | None = None  # low twelve bits in 3, high twelve in 4
    other_key: bool = False  # as with StsToken


@dataclass(frozen=True, slots=True)
class PaygoToken:
    """An OpenPAYGO token that belongs to this device. `amount_s` is its value as time."""

    kind: TokenKind
    value: int
    count: int
    amount_s: int = 0


@dataclass(frozen=True, slots=True)
class ForMeter:
    """Digits for a meter that has its own decoder: handed on, not decoded."""

    digits: str


TokenRead = StsToken | KeySection | PaygoToken | ForMeter | Unreadable


# --- what a decoder remembers --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TidMemory:
    """The newest TIDs accepted, in order. Full from commissioning on: seeded with that instant."""

    kept: tuple[int, ...] = ()

    @classmethod
    def seeded(cls, tid: int) -> "TidMemory":
        """Knows that everything before an instant is spent."""
        return cls((tid,) * TIDS_KEPT)

    def refusal(self, tid: int) -> str | None:
        """used, old, or None for a TID that may be credited."""
        if tid in self.kept:
            return "used"
        if len(self.kept) >= TIDS_KEPT and tid < self.kept[0]:
            return "old"
        return None

    def with_tid(self, tid: int) -> "TidMemory":
        """The memory with a TID more; the oldest goes when there are too many."""
        return TidMemory(tuple(sorted((*self.kept, tid)))[-TIDS_KEPT:])


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key change made: the digits of sections 1 to 4. `other_key` says which of the two keys they may mean it was.

    The standard contradicts itself on which of sections 3 and 4 holds the higher bits, and vendors
    differ. So both keys stay good until the first token under the new key shows which it is.
    """

    digits: tuple[str, ...]
    other_key: bool = False


@dataclass(frozen=True, slots=True)
class StsMemory:
    """What an STS decoder remembers. With the key of commissioning the key changes give the current key again:
    no key ever enters the journal.
    """

    base_year: int
    key_expiry: int = KEY_EXPIRY_MAX
    tids: TidMemory = TidMemory()
    sections: tuple[KeySection, ...] = ()  # of the change under way
    key_changes: tuple[KeyChange, ...] = ()
    key_shown: bool = True  # False from a key change until a token came under the new key
    key_revision: int | None = None  # these four as of the last key change, None before
    key_type: int | None = None
    tariff_index: int | None = None
    supply_group: int | None = None

    def refusal(self, token: StsToken) -> str | None:
        """expired_key, used, old, or None. Tokens without a TID may come as often as they like."""
        if token.tid is None:
            return None
        if token.tid >> 16 > self.key_expiry:
            return "expired_key"
        return self.tids.refusal(token.tid)

    def section_refusal(self, section: KeySection) -> str | None:
        """unknown for a rollover where no base year follows."""
        return "unknown" if section.rollover and self.base_year == BASE_YEARS[-1] else None

    def completed_by(self, section: KeySection) -> bool:
        """Whether the key changes once this section is there."""
        return {section.number, *(kept.number for kept in self.sections)} == set(SECTIONS)

    def with_tid(self, tid: int, *, other_key: bool = False) -> "StsMemory":
        """After a token was accepted that was read with the one key or the other."""
        return replace(self._with_key_shown(other_key), tids=self.tids.with_tid(tid))

    def with_section(self, section: KeySection) -> "StsMemory":
        """After a section, in any order; the newest of its number counts. The fourth changes the key."""
        others = [kept for kept in self.sections if kept.number != section.number]
        sections = tuple(sorted((*others, section), key=lambda kept: kept.number))
        shown = self._with_key_shown(section.other_key)
        if len(sections) < len(SECTIONS):
            return replace(shown, sections=sections)
        first, second, third, fourth = sections
        return replace(
            shown,
            base_year=BASE_YEARS[BASE_YEARS.index(self.base_year) + 1] if first.rollover else self.base_year,
            key_expiry=(first.key_expiry_part or 0) << 4 | (second.key_expiry_part or 0),
            tids=TidMemory() if first.rollover else self.tids,
            sections=(),
            key_changes=(*shown.key_changes, KeyChange(tuple(kept.digits for kept in sections))),
            key_shown=False,
            key_revision=first.key_revision,
            key_type=first.key_type,
            tariff_index=second.tariff_index,
            supply_group=(fourth.supply_group_part or 0) << 12 | (third.supply_group_part or 0),
        )

    def _with_key_shown(self, other_key: bool) -> "StsMemory":
        if self.key_shown:
            return self
        *before, last = self.key_changes
        return replace(self, key_changes=(*before, replace(last, other_key=other_key)), key_shown=True)


@dataclass(frozen=True, slots=True)
class CountMemory:
    """What an OpenPAYGO device remembers: the highest count, and which counts near it are spent."""

    count: int
    used: tuple[int, ...]

    @classmethod
    def seeded(cls, count: int) -> "CountMemory":
        """Knows the last count only (RULES.md 8): unused tokens just below it may still come."""
        return cls(count, (count,))

    @classmethod
    def commissioned(cls, count: int) -> "CountMemory":
        """Takes over at a count: whatever was issued before is spent, it may have been entered elsewhere."""
        return cls(count, tuple(range(count - COUNT_WINDOW, count + 1)))

    def refusal(self, token: PaygoToken) -> str | None:
        """used, or None. Only tokens that add credit may come late, and the count never falls."""
        if token.count > self.count:
            return None
        late = token.kind is TokenKind.CREDIT and token.count > self.count - COUNT_WINDOW
        return None if late and token.count not in self.used else "used"

    def with_count(self, count: int, kind: TokenKind) -> "CountMemory":
        """After a token: whatever does not add credit voids all older ones."""
        highest = max(self.count, count)
        window = range(highest - COUNT_WINDOW, highest + 1)
        if kind is not TokenKind.CREDIT:
            return CountMemory(highest, tuple(window))
        spent = {*self.used, count}
        return CountMemory(highest, tuple(near for near in window if near in spent))


Memory = StsMemory | CountMemory


# --- the lock ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LockOut:
    """Wrong entries in a row at one door, and the clock of the last. Anything accepted ends it."""

    wrong_entries: int = 0
    since: ClockReading | None = None

    @property
    def wait_s(self) -> int:
        """How long the door stays shut after the last wrong entry: 1 minute, doubling, 512 at most."""
        return WAIT_S_MIN << min(self.wrong_entries - 1, WAIT_DOUBLINGS_MAX) if self.wrong_entries else 0

    def remaining_s(self, now: ClockReading) -> int:
        """Seconds until the door opens. After a restart trusted clocks count, else only the time since the start."""
        if self.since is None:
            return 0
        return max(0, self.wait_s - least_seconds(self.since, now))


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DecoderCommissioned:
    """A decoder began, or began anew: `tid` or `count` says what is spent already. Its key is not here."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    decoder: str
    base_year: int | None = None  # STS
    key_expiry: int = KEY_EXPIRY_MAX
    tid: int | None = None  # None: nothing is spent
    count: int | None = None  # OpenPAYGO


@dataclass(frozen=True, slots=True)
class TokenAccepted:
    """A token counts, once for ever under `token_id`. Money follows as a payment under that id."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    decoder: str
    door: str
    token_id: str
    kind: str
    unit: str  # energy: Wh, time: s; empty where nothing is credited
    amount: int
    subclass: int | None = None  # STS, of management and test tokens the more of what they ask for
    value: int | None = None
    tid: int | None = None  # STS
    other_key: bool = False
    count: int | None = None  # OpenPAYGO


@dataclass(frozen=True, slots=True)
class KeySectionAccepted:
    """A part of a key change is there; with the fourth the key is another."""

    stream: ClassVar[str] = "led"
    at: UnixSeconds
    account: str
    decoder: str
    door: str
    section: KeySection
    completes: bool


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """Digits that changed nothing but, after a wrong entry, the lock of their door.

    With `clock` it was a wrong entry and must be kept; without, keeping it is up to the log.
    """

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    decoder: str
    door: str
    reason: str
    wrong_entries: int
    wait_s: int
    clock: ClockReading | None = None


@dataclass(frozen=True, slots=True)
class TokenRelayed:
    """Digits go to the meter, which decides; no money is ours to count."""

    stream: ClassVar[str] = "evt"
    at: UnixSeconds
    account: str
    decoder: str
    door: str
    digits: str


TokenEvent = DecoderCommissioned | TokenAccepted | KeySectionAccepted | TokenRefused | TokenRelayed


# --- the door ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenState:
    """All the door decides from: locks by door, memories by decoder (one per meter)."""

    locks: Mapping[str, LockOut] = field(default_factory=dict)
    sts: Mapping[str, StsMemory] = field(default_factory=dict)
    paygo: Mapping[str, CountMemory] = field(default_factory=dict)

    def memory(self, decoder: str) -> Memory | None:
        """What a decoder remembers, None where none was commissioned."""
        return self.sts.get(decoder) or self.paygo.get(decoder)

    def wait_s(self, door: str, now: ClockReading) -> int:
        """Seconds until a door takes digits again; asked before they are decoded."""
        return self.locks.get(door, LockOut()).remaining_s(now)


@dataclass(frozen=True, slots=True)
class EnterToken:
    """Decoded digits, typed at a door for an account. `kinds` are what the account can obey."""

    received: ClockReading
    account_id: str
    decoder: str
    door: str
    read: TokenRead
    unit: str  # the account's credit unit: money | energy | time
    kinds: frozenset[TokenKind] = frozenset({TokenKind.CREDIT, TokenKind.COUNT_SYNC})


def enter_token(state: TokenState, entry: EnterToken) -> TokenEvent:
    """What becomes of an entry: exactly one event, and nothing has changed until it is applied."""
    wait_s = state.wait_s(entry.door, entry.received)
    if wait_s:
        return _refused(state, entry, "locked", wait_s=wait_s)
    read, memory = entry.read, state.memory(entry.decoder)
    if isinstance(read, Unreadable):
        return _wrong_entry(state, entry, read.reason) if read.guess else _refused(state, entry, read.reason)
    if isinstance(read, ForMeter):
        return TokenRelayed(entry.received.at, entry.account_id, entry.decoder, entry.door, read.digits)
    if isinstance(read, KeySection):
        return _enter_section(state, entry, read, memory)
    reason = _obeyed(entry, read) or _remembered(memory, read)
    if reason is not None:
        return _refused(state, entry, reason)
    assert memory is not None
    unit, amount = _credit(read)
    accepted = TokenAccepted(
        at=entry.received.at,
        account=entry.account_id,
        decoder=entry.decoder,
        door=entry.door,
        token_id=_token_id(entry.decoder, memory, read),
        kind=read.kind.value,
        unit=unit,
        amount=amount,
    )
    if isinstance(read, PaygoToken):
        return replace(accepted, value=read.value, count=read.count)
    return replace(accepted, subclass=read.subclass, value=read.value, tid=read.tid, other_key=read.other_key)


def apply_token(state: TokenState, event: TokenEvent) -> TokenState:
    """The state after an event. It never refuses: replay gives what was."""
    match event:
        case DecoderCommissioned():
            return _commissioned(state, event)
        case TokenAccepted():
            return _opened(_with_token(state, event), event.door)
        case KeySectionAccepted():
            memory = state.sts[event.decoder].with_section(event.section)
            return _opened(replace(state, sts={**state.sts, event.decoder: memory}), event.door)
        case TokenRefused():
            if event.clock is None:
                return state
            return replace(state, locks={**state.locks, event.door: LockOut(event.wrong_entries, event.clock)})
        case TokenRelayed():
            return state
        case _:
            assert_never(event)


def _enter_section(state: TokenState, entry: EnterToken, section: KeySection, memory: Memory | None) -> TokenEvent:
    reason = memory.section_refusal(section) if isinstance(memory, StsMemory) else "unknown"
    if reason is not None:
        return _refused(state, entry, reason)
    assert isinstance(memory, StsMemory)
    return KeySectionAccepted(
        at=entry.received.at,
        account=entry.account_id,
        decoder=entry.decoder,
        door=entry.door,
        section=section,
        completes=memory.completed_by(section),
    )


def _obeyed(entry: EnterToken, token: StsToken | PaygoToken) -> str | None:
    """unknown, unit or amount where the account cannot do what the token asks."""
    if token.kind not in entry.kinds:
        return "unknown"
    unit, amount = _credit(token)
    if unit and unit != entry.unit:
        return "unit"
    return "amount" if token.kind is TokenKind.CREDIT and amount <= 0 else None


def _remembered(memory: Memory | None, token: StsToken | PaygoToken) -> str | None:
    """expired_key, used or old; unknown where the decoder is of the other scheme, or was never commissioned."""
    if isinstance(memory, StsMemory) and isinstance(token, StsToken):
        return memory.refusal(token)
    if isinstance(memory, CountMemory) and isinstance(token, PaygoToken):
        return memory.refusal(token)
    return "unknown"


def _credit(token: StsToken | PaygoToken) -> tuple[str, int]:
    """The credit unit of a token and its amount in it; water and gas have no amount here."""
    if isinstance(token, PaygoToken):
        credits = token.kind in (TokenKind.CREDIT, TokenKind.SET_CREDIT)
        return ("time", token.amount_s) if credits else ("", 0)
    if token.kind is not TokenKind.CREDIT:
        return "", 0
    return token.unit, (token.amount_tenths or 0) * WH_PER_TENTH_KWH if token.unit == "energy" else 0


def _token_id(decoder: str, memory: Memory, token: StsToken | PaygoToken) -> str:
    """The payment id of a token: no two tokens of a decoder have the same one, whatever key they were made with."""
    if isinstance(token, PaygoToken):
        return f"openpaygo:{decoder}:{token.count}"
    assert isinstance(memory, StsMemory)
    if token.tid is None:
        return f"sts:{decoder}:any"
    return f"sts:{decoder}:{memory.base_year}:{token.tid}"


def _refused(state: TokenState, entry: EnterToken, reason: str, wait_s: int = 0) -> TokenRefused:
    return TokenRefused(
        at=entry.received.at,
        account=entry.account_id,
        decoder=entry.decoder,
        door=entry.door,
        reason=reason,
        wrong_entries=state.locks.get(entry.door, LockOut()).wrong_entries,
        wait_s=wait_s,
    )


def _wrong_entry(state: TokenState, entry: EnterToken, reason: str) -> TokenRefused:
    lock = LockOut(state.locks.get(entry.door, LockOut()).wrong_entries + 1, entry.received)
    refused = _refused(state, entry, reason, wait_s=lock.wait_s)
    return replace(refused, wrong_entries=lock.wrong_entries, clock=entry.received)


def _commissioned(state: TokenState, event: DecoderCommissioned) -> TokenState:
    """A decoder has one scheme: what it was under the other is gone."""
    sts = {name: memory for name, memory in state.sts.items() if name != event.decoder}
    paygo = {name: memory for name, memory in state.paygo.items() if name != event.decoder}
    if event.base_year is None:
        paygo[event.decoder] = CountMemory.commissioned(event.count or 0)
    else:
        tids = TidMemory() if event.tid is None else TidMemory.seeded(event.tid)
        sts[event.decoder] = StsMemory(event.base_year, event.key_expiry, tids)
    return replace(state, sts=sts, paygo=paygo)


def _with_token(state: TokenState, event: TokenAccepted) -> TokenState:
    if event.tid is not None:
        memory = state.sts[event.decoder].with_tid(event.tid, other_key=event.other_key)
        return replace(state, sts={**state.sts, event.decoder: memory})
    if event.count is not None:
        counts = state.paygo[event.decoder].with_count(event.count, TokenKind(event.kind))
        return replace(state, paygo={**state.paygo, event.decoder: counts})
    return state  # any meter's token: nothing to remember


def _opened(state: TokenState, door: str) -> TokenState:
    return replace(state, locks={name: lock for name, lock in state.locks.items() if name != door})
