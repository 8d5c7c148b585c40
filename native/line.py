"""Serial lines from Python: exchanges that are sent, answered and checked in C, without waking anybody for the gap.

Times are seconds of time.monotonic(), as an event loop has them; in C they are nanoseconds. What counts as a good
answer, and every bound, stands in include/line.h. A build that does not belong to the sources beside it refuses to
load (StaleKernel). Linux only.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from native._kernel import ffi, lib
from native.kernel import StaleKernel  # which has refused by now, if there is a reason to

__all__ = ["Buffer", "StaleKernel", "Wire", "Wires", "answer_verdict"]

Buffer = Any  # reads like bytes; holds good until the next wait

_NS: Final = 1_000_000_000
_S: Final = 1e-9
_NEVER: Final = 2**63 - 1
_WIRES: Final[int] = lib.LINE_WIRES
_ANSWERED: Final[int] = lib.LINE_ANSWERED
_LOST: Final[int] = lib.LINE_LOST
_UNSENT: Final[int] = lib.LINE_UNSENT
_GOOD: Final[int] = lib.LINE_GOOD
_PART: Final[int] = lib.LINE_PART
_arm, _wait = lib.line_arm, lib.line_wait

Came = Callable[[bytes], None]
Unsent = Callable[[bytes], None]
Lost = Callable[[int], None]
Answered = Callable[[Buffer, float, float], None]
Ended = Callable[[float | None, bytes, float], None]


def answer_verdict(request: bytes, answer_bytes: int, received: bytes) -> bool | None:
    """Whether this is the good answer, `answer_bytes` long; None while it may become one."""
    verdict = lib.line_answer(request, len(request), answer_bytes, received, len(received))
    return None if verdict == _PART else bool(verdict == _GOOD)


class Wire:
    """One line. Its port is told what comes outside an exchange, its talker how an exchange ended."""

    __slots__ = ("_answered", "_armed", "_came", "_ended", "_lost", "_owner", "_received", "_struct", "_unsent")

    def __init__(self, owner: Any, struct: Any, came: Came, unsent: Unsent, lost: Lost) -> None:
        self._owner = owner  # keeps the memory
        self._struct, self._received = struct, ffi.buffer(struct.received)
        self._came, self._unsent, self._lost = came, unsent, lost
        self._answered: Answered | None = None
        self._ended: Ended | None = None
        self._armed = False

    def listen(self, answered: Answered, ended: Ended) -> None:
        """`answered(received, sent_at, at)`: the good answer came. `ended(sent_at, received, at)`: it is the caller's
        again, who goes on with what came, if anything did; `sent_at` None: the request was not sent."""
        self._answered, self._ended = answered, ended

    def arm(self, request: bytes, at: float, answer_bytes: int, byte_s: float, first_s: float, part_s: float) -> None:
        """Sends at this time and waits for an answer of this length; 0: whatever comes ends the exchange.

        `first_s`: from the end of the request to the first byte; `part_s`: between two parts, beyond their bytes."""
        due_ns = int(at * _NS) + 1  # rounded up: never before the gap is over
        byte_ns, first_ns, part_ns = int(byte_s * _NS), int(first_s * _NS), int(part_s * _NS)
        if _arm(self._struct, request, len(request), answer_bytes, due_ns, byte_ns, first_ns, part_ns):
            raise ValueError(f"no exchange of {len(request)} and {answer_bytes} bytes on this wire now")
        self._armed = True

    def disarm(self) -> bool:
        """Takes back a request that waits for its gap. False: it is sent already, or there is none."""
        if not lib.line_disarm(self._struct):
            return False
        self._armed = False
        return True

    def close(self) -> None:
        """Nobody is told anything any more, and what is still asked of it goes nowhere: its place may be another's."""
        struct, self._struct = self._struct, ffi.new("struct line_wire *")
        struct.descriptor, struct.event = -1, lib.LINE_NOTHING
        struct.phase, struct.due_ns = lib.LINE_LISTENING, _NEVER
        self._armed = False
        self._answered = self._ended = None

    def tell(self) -> None:
        """Says what has happened."""
        struct = self._struct
        event = struct.event
        if event == _ANSWERED:
            self._armed = False
            assert self._answered is not None
            self._answered(self._received, struct.sent_ns * _S, struct.came_ns * _S)
        elif event:
            self._tell_of_trouble(event)

    def _tell_of_trouble(self, event: int) -> None:
        struct = self._struct
        armed, self._armed = self._armed, False
        data = self._received[: struct.received_bytes]
        if event == _LOST:
            self._lost(struct.problem)
            return
        if event == _UNSENT:
            self._unsent(ffi.buffer(struct.request)[struct.written : struct.request_bytes])
            data = b""
        if armed:
            assert self._ended is not None
            self._ended(struct.sent_ns * _S if struct.sent_ns else None, data, struct.came_ns * _S)
        else:
            self._came(data)


class Wires:
    """The wires of one event loop, and its waiting."""

    def __init__(self, epoll: int) -> None:
        """`epoll`: the descriptor of an epoll object, in which others may be registered too."""
        self._struct = struct = ffi.new("struct line_loop *")
        struct.epoll = epoll
        self._happened, self._others = struct.happened, struct.others
        self._wires: list[Wire | None] = [None] * _WIRES

    def open(self, descriptor: int, came: Came, unsent: Unsent, lost: Lost) -> Wire | None:
        """A wire for a descriptor that the caller has registered with epoll; None when all are in use."""
        if None not in self._wires:
            return None
        number = self._wires.index(None)
        struct = self._struct.wires + number
        struct.descriptor, struct.due_ns, struct.event = descriptor, _NEVER, lib.LINE_NOTHING
        self._wires[number] = wire = Wire(self._struct, struct, came, unsent, lost)
        self._struct.wire_count = max(self._struct.wire_count, number + 1)
        return wire

    def close(self, wire: Wire) -> None:
        wire.close()
        self._wires[self._wires.index(wire)] = None

    def wait(self, until: float) -> list[Wire]:
        """Waits until something happens, at most until then. Returns the wires that have something to tell.

        An exchange that goes well from its gap on ends here once, with its answer."""
        result = _wait(self._struct, _NEVER if until == inf else int(until * _NS) + 1)
        if result != lib.LINE_CALLED:
            if result == lib.LINE_INTERRUPTED:
                return []
            raise OSError(ffi.errno, "epoll failed")
        struct, happened, wires = self._struct, self._happened, self._wires
        found = [wires[happened[index]] for index in range(struct.happened_count)]
        return [wire for wire in found if wire is not None]

    def others(self) -> Sequence[tuple[int, int]]:
        """Descriptors that belong to no wire, and epoll's events: what the last wait found of them."""
        others = self._others
        if not self._struct.other_count:
            return ()
        return [(others[index].descriptor, others[index].events) for index in range(self._struct.other_count)]
