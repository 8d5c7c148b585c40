"""What the agent needs of the world: the ports, with no word of how they are done.

Adapters live in hw/ (real hardware), hw/sim (its twin), edge/store (journal) and edge/agent
(snapshot, command door). Money is nano-currency, energy Wh, wall time Unix seconds,
monotonic time milliseconds since boot.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from edge.core.events import Event
from edge.core.lean import dataclass
from edge.core.token import Memory, TokenRead
from edge.core.units import ClockQuality, ClockReading, UnixSeconds

__all__ = [
    "Anchor",
    "AnchorError",
    "AnchorState",
    "BytePort",
    "Clock",
    "ClockQuality",
    "ClockReading",
    "CommandDoor",
    "DoorAnswer",
    "EventLog",
    "Journal",
    "LedgerReader",
    "OutputResult",
    "PortOpener",
    "RelayPort",
    "RelayState",
    "RelayStatus",
    "StoredRecord",
    "StreamHead",
    "TokenReader",
    "UnixSeconds",
    "Wire",
]


class Clock(Protocol):
    """The accounting clock. Bus and MQTT timers use the event loop's own time instead."""

    def read(self) -> ClockReading: ...


class BytePort(Protocol):
    """One open line: what is written goes on the wire, what comes goes to `on_bytes`."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Wire(Protocol):
    """What a serial port has as its `wire` on a loop made for lines: it sends a request when its gap is over and takes
    the good answer, without waking anybody before it is whole. Times are seconds of the loop."""

    def listen(
        self, answered: Callable[[Any, float, float], None], ended: Callable[[float | None, bytes, float], None]
    ) -> None:
        """`answered(received, sent_at, at)`: the good answer, to be read before anything else is done.
        `ended(sent_at, received, at)`: no good answer; whoever asked goes on with what came. `sent_at` None: the
        request was not sent."""
        ...

    def arm(self, request: bytes, at: float, answer_bytes: int, byte_s: float, first_s: float, part_s: float) -> None:
        """Sends at this time. `answer_bytes` 0: whatever comes ends the exchange. `byte_s` is a character on the wire,
        `first_s` how long to wait for the answer to begin, `part_s` between two parts beyond what their bytes take."""
        ...

    def disarm(self) -> bool:
        """Takes back a request that still waits for its time. False: it is sent."""
        ...


class PortOpener(Protocol):
    """Opens a line. `on_bytes` and `on_lost(reason)` are called on the event loop's thread.

    Raises OSError with a sentence for people when the device cannot be opened.
    """

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort: ...


@dataclass(frozen=True, slots=True)
class RelayState:
    """A relay as it was read back."""

    relay_id: str
    clock: ClockReading
    closed: bool


@dataclass(frozen=True, slots=True)
class OutputResult:
    """What became of a switching command: `confirmed` only if the read-back shows the wanted state."""

    confirmed: bool
    closed: bool | None  # as read back; None when it could not be read
    reason: str | None  # why it is not confirmed


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """A relay that hangs on no line, for people: where it is, how it was last read back, why it cannot be used."""

    relay_id: str
    place: str  # /dev/gpiochip0 line 17
    by_contact: bool  # False: nothing but the command is known, whatever is read
    closed: bool | None
    fault: str | None


class RelayPort(Protocol):
    """Where relays are switched: a line with meters and relay boards, GPIO lines, a companion MCU.

    Each relay has one port and each port one owner. A port reads its relays while it runs, tells what it read, and
    never switches by itself: a relay is as it was found until somebody decides.
    """

    async def run(self) -> None:
        """Serves until cancelled. What can be lost (a device, a chip) is opened again by itself."""
        ...

    async def set_output(self, relay_id: str, closed: bool) -> OutputResult:
        """Switches and reads back. The driver itself opens no relay of a protected customer."""
        ...

    def withdraw_output(self, relay_id: str) -> None:
        """A command for this relay that has not begun is taken back; `set_output` returns `superseded`."""
        ...


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record of the journal. `body` is the bytes that were hashed and that travel."""

    stream: str  # led | res | evt | rdg
    epoch: int
    seq: int
    hash: bytes  # SHA-256 of this record's bytes
    body: bytes  # one JSON object, UTF-8


@dataclass(frozen=True, slots=True)
class StreamHead:
    """Newest record of a stream: seq 0 and 32 zero bytes when it is empty."""

    stream: str
    epoch: int
    seq: int
    hash: bytes
    acked_seq: int


class Journal(Protocol):
    """The append-only, hash-chained log, which is also the outbox."""

    def heads(self) -> Mapping[str, StreamHead]: ...

    async def append(self, entries: Sequence[tuple[str, bytes]]) -> Sequence[StoredRecord]:
        """Commits (stream, body) pairs in one transaction; returns after the sync, or raises."""
        ...

    async def read(self, stream: str, after_seq: int, count_max: int) -> Sequence[StoredRecord]: ...

    def acknowledge(self, stream: str, seq: int) -> None:
        """Moves the outbox mark forward. Written with the next commit: losing it only resends."""
        ...


@dataclass(frozen=True, slots=True)
class AnchorState:
    """Where the journal stood when the anchor last heard of it: enough to know it again."""

    gateway_id: str
    boots: int  # starts of this gateway
    epoch: int
    place: int  # of the newest record, over all streams; 0 when there was none
    seal: bytes  # 32 bytes: the journal's hash over the order of all records up to there


class AnchorError(OSError):
    """The anchor cannot be read or written: a sentence for people."""


class Anchor(Protocol):
    """The journal's head outside the card it is on (companion MCU; a file in the simulator).

    Called on the journal's thread, after a commit and never before it, and at the start.
    """

    def read(self) -> AnchorState | None:
        """What was written last, or None when nothing ever was. Raises AnchorError."""
        ...

    def write(self, state: AnchorState) -> None:
        """Returns when it would survive a power cut: then it is this state, before that the old one."""
        ...


class EventLog(Protocol):
    """The journal as the accounting sees it: events in, in one transaction."""

    async def append(self, events: Sequence[Event]) -> None:
        """Returns when the disk has all of them, or raises: then nothing may be acted on."""
        ...


class LedgerReader(Protocol):
    """What pages may read of the journal."""

    async def account_records(self, account_id: str, count_max: int) -> Sequence[Mapping[str, Any]]:
        """Ledger records of one account, newest first: body fields plus `seq` and `hash` (hex)."""
        ...

    async def event_records(self, count_max: int, before_order: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Records of led, res and evt together, newest first: body fields plus `stream`, `seq`, `order`."""
        ...

    async def balance_history(self, account_id: str, since: UnixSeconds) -> Sequence[tuple[UnixSeconds, int]]:
        """(at, live balance in nano) at each recorded point since, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """What became of a command. `code` is stable for programs, `params` fill the sentence for people."""

    accepted: bool
    code: str  # e.g. applied, duplicate, signature, wrong_gateway, expired, malformed
    params: Mapping[str, Any]


class CommandDoor(Protocol):
    """The one way in for people and the cloud: nothing else changes an account."""

    async def enter_voucher(self, text: str, actor: str) -> DoorAnswer:
        """A signed voucher as text (CONTRACT.md, Base45 or groups of Crockford Base32)."""
        ...

    async def select_emergency_credit(self, account_id: str, actor: str) -> DoorAnswer:
        """The customer's own wish to draw on the emergency credit that is offered."""
        ...

    async def press_key(self, account_id: str, actor: str) -> DoorAnswer:
        """Somebody on site switches on a supply that is ready for reconnection."""
        ...

    async def confirm_notice(self, account_id: str, number: int, raised_at: int, actor: str) -> DoorAnswer:
        """Somebody on site has shown a notice, the one of that number raised at that instant, to the customer."""
        ...

    async def enter_token(self, account_id: str, text: str, actor: str) -> DoorAnswer:
        """A token's digits as typed, for an account whose meter has a decoder. Each actor has a lock of his own."""
        ...


class TokenReader(Protocol):
    """A meter's decoder: it has the key, and remembers nothing itself."""

    def read(self, text: str, memory: Memory | None) -> TokenRead:
        """What typed text says to a decoder that remembers this. It never raises."""
        ...
