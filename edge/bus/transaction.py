"""One request at a time on one line, as a table of states. No I/O and no clock of its own.

Bytes and times go in, outcomes come out; `get_timer()` says when `handle_timer(now)` is due.
Times are seconds of the caller's monotonic clock. After any error nothing is sent until the line
has been silent for longer than the slowest device answers, so a late answer can never stand where
the next one is expected. Source: Modbus over Serial Line V1.02, 2.5.1.1 (t3.5).
"""

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import Final

from edge.bus.frame import Framing, Request
from edge.core.frozen import quickly
from edge.core.lean import dataclass

# A character on the wire: start, 8 data, parity or second stop, stop.
_BITS_PER_BYTE: Final = 11
_TRANSACTION_IDS: Final = 0xFFFF
# What is kept of a line that babbles: enough to name the fault.
_KEPT_BYTES_MAX: Final = 512


class State(Enum):
    """Where the conversation stands."""

    IDLE = "idle"
    GAP = "gap"  # a request waits for the silence before it
    WAITING = "waiting"  # sent, nothing came yet
    RECEIVING = "receiving"  # a part came
    DRAINING = "draining"  # something went wrong: listen until the line is silent

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at every look into the table


class Trigger(Enum):
    """What can happen to it."""

    SUBMITTED = "submitted"
    SUBMITTED_TO_NOISE = "submitted_to_noise"  # the last drain ended without silence
    GAP_OVER = "gap_over"
    EXCHANGED = "exchanged"  # the port has sent the request by itself and believes its answer
    UNASKED_BYTES = "unasked_bytes"
    PART_ARRIVED = "part_arrived"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    MORE_NOISE = "more_noise"
    SILENT = "silent"
    SILENT_UNSENT = "silent_unsent"  # silent, and a request that was never sent is waiting
    NEVER_SILENT = "never_silent"

    __hash__ = object.__hash__


_EXCHANGED: Final = Trigger.EXCHANGED  # looked up once: an enum's members take their time
_SUBMITTED: Final = Trigger.SUBMITTED
# A missing row cannot happen; a test walks every pair.
Transitions = Mapping[State, Mapping[Trigger, State]]
TRANSITIONS: Final[Transitions] = MappingProxyType(
    {
        State.IDLE: {
            Trigger.SUBMITTED: State.GAP,
            Trigger.SUBMITTED_TO_NOISE: State.DRAINING,
            Trigger.UNASKED_BYTES: State.DRAINING,
        },
        State.GAP: {
            Trigger.GAP_OVER: State.WAITING,
            Trigger.EXCHANGED: State.IDLE,
            Trigger.UNASKED_BYTES: State.DRAINING,
        },
        State.WAITING: {
            Trigger.PART_ARRIVED: State.RECEIVING,
            Trigger.ACCEPTED: State.IDLE,
            Trigger.REFUSED: State.DRAINING,
            Trigger.TIMED_OUT: State.DRAINING,
        },
        State.RECEIVING: {
            Trigger.PART_ARRIVED: State.RECEIVING,
            Trigger.ACCEPTED: State.IDLE,
            Trigger.REFUSED: State.DRAINING,
        },
        State.DRAINING: {
            Trigger.MORE_NOISE: State.DRAINING,
            Trigger.SILENT: State.IDLE,
            Trigger.SILENT_UNSENT: State.GAP,
            Trigger.NEVER_SILENT: State.IDLE,
        },
    }
)


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a line in seconds."""

    gap_s: float  # silence between frames, 3.5 characters on a serial line
    byte_s: float  # one character on the wire; 0 on TCP
    response_timeout_s: float  # between two parts; and from the end of the request to the first, if not said otherwise
    drain_silence_s: float  # longer than the slowest device answers
    drain_s_max: float

    @classmethod
    def of_serial(cls, baud: int, response_timeout_s: float, drain_silence_s: float, drain_s_max: float) -> "Timing":
        """RTU: 3.5 characters up to 19200 baud, 1.75 ms above."""
        byte_s = _BITS_PER_BYTE / baud
        gap_s = 3.5 * byte_s if baud <= 19_200 else 0.00175
        return cls(gap_s, byte_s, response_timeout_s, drain_silence_s, drain_s_max)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the silence its device wants before it."""

    request: Request
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. `reason` None: `words` may be believed. `exception_2` and so on: the device said no."""

    request: Request
    reason: str | None
    words: tuple[int, ...]
    sent: bool  # False: the line was never silent enough to send
    answer_s: float | None = field(default=None, compare=False)  # edge/bus/answer_times.py; None: not answered


_made_outcome = quickly(Outcome)


class Transaction:
    """The line's one conversation."""

    def __init__(
        self,
        framing: Framing,
        timing: Timing,
        opened_at: float = float("-inf"),
        transitions: Transitions = TRANSITIONS,
        before: "Transaction | None" = None,
    ) -> None:
        """`before`: the conversation on the port that was lost. Its transaction ids go on, and what it left
        unanswered is listened for before anything is said: a server on the way may still deliver it."""
        self._framing, self._timing, self._transitions = framing, timing, transitions
        self._echoed = framing.hears_itself
        self.state = State.IDLE
        self.sent_by_port = False  # the port sends at `get_timer` by itself and says so: `sent`, `answered`
        self.unasked_bytes = 0
        self._request: Request | None = None
        self._sent = b""
        self._outgoing = b""
        self._received = b""
        self._transaction_id: int = 0 if before is None else before._transaction_id
        self._refusal: str | None = None
        self._gap_s, self._wait_s = timing.gap_s, timing.response_timeout_s
        self._asked_until = 0.0
        self._quiet_since = opened_at
        self._noisy: bool = before is not None and (before._noisy or not before.idle)
        self._deadline: float | None = None
        self._drain_deadline = 0.0

    @property
    def idle(self) -> bool:
        """Whether a request may be submitted."""
        return self.state is State.IDLE

    def submit(self, request: Request, now: float, gap_s: float = 0.0, wait_s: float | None = None) -> None:
        """Takes the next request; it is sent when the line has been silent for its gap (at least `gap_s`).

        `wait_s`: for the first byte of the answer, where the line's own time is not meant.
        """
        assert self.idle
        self._request, self._sent, self._received, self._refusal = request, b"", b"", None
        self._gap_s = max(gap_s, self._timing.gap_s)
        self._wait_s = self._timing.response_timeout_s if wait_s is None else wait_s
        if self._noisy:
            self._drain(Trigger.SUBMITTED_TO_NOISE, now)
        else:
            self._move(_SUBMITTED)
            self._wait_for_gap(now)

    def exchange(self, request: Request, now: float, gap_s: float = 0.0, wait_s: float | None = None) -> None:
        """Takes another request in place of the one that still waits for its gap."""
        assert self.state is State.GAP
        self._request, self._gap_s = request, max(gap_s, self._timing.gap_s)
        self._wait_s = self._timing.response_timeout_s if wait_s is None else wait_s
        self._wait_for_gap(now)

    def sent(self, now: float) -> None:
        """The port has sent the waiting request by itself."""
        self._send(now)
        self._outgoing = b""

    def answered(self, registers: tuple[int, ...], sent_at: float, now: float) -> Outcome:
        """The port has sent the waiting request by itself, and its good answer came, every check passed."""
        self.state = self._transitions[self.state][_EXCHANGED]  # RTU alone: there is no transaction id to go on
        request, self._request, self._deadline, self._quiet_since = self._request, None, None, now
        assert request is not None
        wire_bytes = len(request.frame) + request.rtu_answer_bytes
        return _made_outcome(request, None, registers, True, max(0.0, now - sent_at - wire_bytes * self._timing.byte_s))

    @property
    def wait_s(self) -> float:
        """How long the answer to the present request may take to begin."""
        return self._wait_s

    def outgoing(self) -> bytes:
        """What must be written to the port now; empty most of the time."""
        data, self._outgoing = self._outgoing, b""
        return data

    def get_timer(self) -> float | None:
        """When `handle_timer` is due."""
        return self._deadline

    def receive(self, data: bytes, now: float) -> Outcome | None:
        """Bytes from the line. Returns the outcome when they complete an answer that may be believed."""
        self._quiet_since = now
        match self.state:
            case State.WAITING | State.RECEIVING:
                self._received = received = self._received + data
                assert self._request is not None
                registers = self._framing.good_registers(self._request, self._sent, received)
                if registers is not None:
                    self._move(Trigger.ACCEPTED)
                    return self._finish(None, registers, now)
                return self._look_at_answer(now)
            case State.IDLE | State.GAP:
                self.unasked_bytes += len(data)
                self._drain(Trigger.UNASKED_BYTES, now)
            case State.DRAINING:
                self._received = (self._received + data)[:_KEPT_BYTES_MAX]
                self._move(Trigger.MORE_NOISE)
                self._deadline = min(now + self._timing.drain_silence_s, self._drain_deadline)
        return None

    def handle_timer(self, now: float) -> Outcome | None:
        """The deadline has passed. Returns the outcome of a request that failed, once the line is silent."""
        if self._deadline is None or now < self._deadline:
            return None
        match self.state:
            case State.GAP:
                self._send(now)
            case State.WAITING:
                self._drain(Trigger.TIMED_OUT, now)
            case State.RECEIVING:
                return self._judge(now)
            case State.DRAINING:
                return self._end_drain(now)
            case State.IDLE:
                raise AssertionError("an idle line has no deadline")
        return None

    def _wait_for_gap(self, now: float) -> None:
        self._deadline = self._quiet_since + self._gap_s
        if now >= self._deadline and not self.sent_by_port:
            self._send(now)

    def _send(self, now: float) -> None:
        assert self._request is not None
        self._move(Trigger.GAP_OVER)
        self._transaction_id = following_transaction_id(self._transaction_id)
        self._sent = self._outgoing = self._framing.stamped(self._request, self._transaction_id)
        self._asked_until = self._quiet_since = now + len(self._sent) * self._timing.byte_s
        self._deadline = self._quiet_since + self._wait_s

    def _look_at_answer(self, now: float) -> Outcome | None:
        assert self._request is not None
        missing = self._framing.whole_bytes(self._request, self._received) - len(self._received)
        if missing <= 0:
            return self._judge(now)
        self._move(Trigger.PART_ARRIVED)
        wait_s = max(self._timing.response_timeout_s, self._wait_s)  # behind an echo the answer has not begun yet
        self._deadline = now + missing * self._timing.byte_s + wait_s
        return None

    def _judge(self, now: float) -> Outcome | None:
        request = self._request
        assert request is not None
        self._refusal = self._framing.first_failure(request, self._sent, self._received)
        if self._refusal is not None:
            self._drain(Trigger.REFUSED, now)
            return None
        self._move(Trigger.ACCEPTED)
        exception = self._framing.exception(request, self._received)
        if exception is not None:
            return self._finish(f"exception_{exception}", (), now)
        return self._finish(None, self._framing.words(request, self._received), now)

    def _drain(self, trigger: Trigger, now: float) -> None:
        self._move(trigger)
        self._drain_deadline = now + self._timing.drain_s_max
        self._deadline = min(now + self._timing.drain_silence_s, self._drain_deadline)

    def _end_drain(self, now: float) -> Outcome | None:
        silent = now >= self._quiet_since + self._timing.drain_silence_s
        self._noisy = not silent
        request = self._request
        if silent and request is not None and not self._sent:
            self._received = b""
            self._move(Trigger.SILENT_UNSENT)
            self._wait_for_gap(now)
            return None
        self._move(Trigger.SILENT if silent else Trigger.NEVER_SILENT)
        if request is None:
            self._deadline = None
            return None
        return self._finish(self._failure(request), ())

    def _failure(self, request: Request) -> str:
        if not self._sent:
            return "line_busy"
        return self._framing.diagnose(request, self._sent, self._received)

    def _finish(self, reason: str | None, words: tuple[int, ...], answered_at: float | None = None) -> Outcome:
        assert self._request is not None
        answer_s = None
        if answered_at is not None:  # the bytes of an echo went by before the request had ended
            answer_bytes = len(self._received) - (len(self._sent) if self._echoed else 0)
            answer_s = max(0.0, answered_at - self._asked_until - answer_bytes * self._timing.byte_s)
        outcome = _made_outcome(self._request, reason, words, bool(self._sent), answer_s)
        self._request, self._deadline = None, None
        return outcome

    def _move(self, trigger: Trigger) -> None:
        self.state = self._transitions[self.state][trigger]


def following_transaction_id(transaction_id: int) -> int:
    """1 to 65535 in turn: 0 is what servers answer that do not copy the id."""
    return transaction_id % _TRANSACTION_IDS + 1
