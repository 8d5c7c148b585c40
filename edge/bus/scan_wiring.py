"""What is wrong with a line, told by what came over it: each fault with a name and the numbers that show it.

Nothing here is believed as an answer; bytes only serve as evidence. Counts, bytes, percent. Sources: Modbus over Serial
Line V1.02, 3.3 (two-wire, termination, polarisation); TIA-485-A (states of an idle pair).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.bus.frame import RTU, Framing, Request, crc16
from edge.bus.scan_records import Confidence, Diagnosis, Exchange, Health, Link

# A driver that is switched on may leave one stray character behind; more than that is noise.
_UNASKED_BYTES_MIN: Final = 3
_ECHOES_MIN: Final = 3
_ERRORS_MIN: Final = 3
_TAIL_BYTES_MAX: Final = 4
_ERROR_PERCENT_OF_SHARED: Final = 25
_ERROR_PERCENT_OF_OTHERS: Final = 5
_LONG_OVER_SHORT_PERCENT: Final = 25
_SPREAD_MS: Final = 20.0
_KNOWN_FUNCTIONS: Final = (1, 2, 3, 4, 5, 6, 15, 16)
_FIXED_LENGTH: Final = 8  # a read request, the answer to a write


@dataclass(slots=True)
class LinkCounts:
    """What came over the line at one link."""

    asked: int = 0
    answered: int = 0
    garbled: int = 0
    tailed: int = 0  # of these: a good answer, and a few more bytes behind it
    echoed: int = 0
    answers_behind_echo: int = 0
    inverted_frames: int = 0
    received_bytes: int = 0
    unasked_bytes: int = 0
    unasked_zero_bytes: int = 0
    foreign_frames: int = 0


@dataclass(slots=True)
class LineEvidence:
    """Counts of all that was asked and heard, by link; `diagnoses` names what they show."""

    framing: Framing
    by_link: dict[Link, LinkCounts] = field(default_factory=dict)

    def heard(self, link: Link, data: bytes) -> None:
        """Bytes that came while nobody was asked."""
        counts = self.by_link.setdefault(link, LinkCounts())
        counts.unasked_bytes += len(data)
        counts.unasked_zero_bytes += data.count(0)
        counts.foreign_frames += len(foreign_frames(data)) if self.framing.name == RTU.name else 0

    def book(self, link: Link, exchange: Exchange) -> None:
        """One exchange. A question that was never sent had noise before it."""
        if exchange.reason == "line_busy":
            self.heard(link, exchange.received)
            return
        counts = self.by_link.setdefault(link, LinkCounts())
        counts.asked += 1
        counts.answered += exchange.answered
        counts.garbled += exchange.garbled
        counts.received_bytes += len(exchange.received)
        if self.framing.name != RTU.name or exchange.answered:
            return
        sent = exchange.request.frame
        if exchange.received.startswith(sent):
            counts.echoed += 1
            counts.answers_behind_echo += bool(answers_in(exchange.request, exchange.received[len(sent) :]))
        elif has_tail(exchange, RTU):
            counts.tailed += 1
        else:
            inverted = bytes(byte ^ 0xFF for byte in exchange.received)
            counts.inverted_frames += bool(answers_in(exchange.request, inverted))

    def total(self, name: str) -> int:
        """One count over all links."""
        return sum(getattr(counts, name) for counts in self.by_link.values())

    @property
    def spoiled(self) -> bool:
        """Whether the line itself is at fault: nobody is understood, and most questions bring bytes."""
        asked = self.total("asked")
        return asked > 0 and not self.total("answered") and 2 * (self.total("garbled") - self.total("tailed")) >= asked

    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """What the counts show; one row for each fault."""
        checks = (self._foreign, self._noise, self._echo, self._swapped, self._garbled, self._silent)
        return tuple(found for check in checks if (found := check()) is not None)

    def _foreign(self) -> Diagnosis | None:
        frames = self.total("foreign_frames")
        if not frames:
            return None
        return Diagnosis("another_master", "certain" if frames > 1 else "probable",
                         {"foreign_frames": frames, "unasked_bytes": self.total("unasked_bytes")})  # fmt: skip

    def _noise(self) -> Diagnosis | None:
        data = self.total("unasked_bytes")
        if data < _UNASKED_BYTES_MIN or self.total("foreign_frames") or self._is_break():
            return None
        noisy = sum(counts.unasked_bytes > 0 for counts in self.by_link.values())
        evidence = {"unasked_bytes": data, "links_noisy": noisy, "links_heard": len(self.by_link)}
        return Diagnosis("noise", "certain" if noisy == len(self.by_link) else "probable", evidence)

    def _echo(self) -> Diagnosis | None:
        echoed, asked = self.total("echoed"), self.total("asked")
        if echoed < _ECHOES_MIN or 10 * echoed < 9 * asked:
            return None
        evidence = {"asked": asked, "echoed": echoed, "answers_behind_echo": self.total("answers_behind_echo")}
        return Diagnosis("local_echo", "certain", evidence)

    def _swapped(self) -> Diagnosis | None:
        """Inverted answers prove it; a pair that idles as a break, or garbage at every speed, make it probable."""
        inverted = self.total("inverted_frames")
        garbage_everywhere = len(self.by_link) > 1 and self.spoiled and not self.total("echoed") and all(
            2 * counts.garbled >= counts.asked for counts in self.by_link.values()
        )  # fmt: skip
        if inverted < 2 and not garbage_everywhere and not (self._is_break() and not self.total("answered")):
            return None
        confidence: Confidence = "certain" if inverted >= 2 else "probable"
        names = ("asked", "answered", "garbled", "inverted_frames", "unasked_bytes", "unasked_zero_bytes")
        return Diagnosis("swapped_wires", confidence,
                         {**{name: self.total(name) for name in names}, "links": len(self.by_link)})  # fmt: skip

    def _garbled(self) -> Diagnosis | None:
        """Bytes and no answer at the one speed that was tried: a wrong speed looks like crossed wires."""
        if not self.spoiled or self.total("echoed") or self._swapped() is not None:
            return None
        return Diagnosis("garbled_answers", "probable", {
            "asked": self.total("asked"), "garbled": self.total("garbled"), "links": len(self.by_link)
        })  # fmt: skip

    def _silent(self) -> Diagnosis | None:
        if not self.total("asked") or self.total("received_bytes") or self.total("unasked_bytes"):
            return None
        evidence = {"asked": self.total("asked"), "links": len(self.by_link)}
        return Diagnosis("silent_line", "certain", evidence)

    def _is_break(self) -> bool:
        data = self.total("unasked_bytes")
        return data >= _UNASKED_BYTES_MIN and 10 * self.total("unasked_zero_bytes") >= 9 * data


def answers_in(request: Request, received: bytes, framing: Framing = RTU) -> tuple[bytes, ...]:
    """Whole answers to the request anywhere in what came, one behind the other."""
    found, at = [], 0
    while at < len(received) - framing.head_bytes:
        rest = received[at:]
        frame = rest[: framing.whole_bytes(request, rest)]
        if framing.first_failure(request, request.frame, frame) is None:
            found.append(frame)
            at += len(frame)
        else:
            at += 1
    return tuple(found)


def foreign_frames(data: bytes) -> tuple[bytes, ...]:
    """RTU frames of somebody else's conversation: only lengths a request or an answer can have are looked at."""
    found, at = [], 0
    while at + 5 <= len(data):
        lengths = (_FIXED_LENGTH, 5 + data[at + 2])
        ends = [at + length for length in lengths if at + length <= len(data)]
        whole = [data[at:end] for end in ends if _is_frame(data[at:end])]
        found += whole[:1]
        at += len(whole[0]) if whole else 1
    return tuple(found)


def _is_frame(data: bytes) -> bool:
    return 1 <= data[0] <= 247 and data[1] & 0x7F in _KNOWN_FUNCTIONS and crc16(data) == 0


def shared_address(
    health: Health, others: Sequence[Health], framing: Framing, *, quiet: bool = False
) -> Diagnosis | None:
    """Whether two devices answer at this address: mixed replies to one and the same question.

    `quiet`: nothing was heard here while nobody was asked. Then garbage from the only address there is may be two
    new meters with their factory address.
    """
    asked, failed = len(health.all), sum(health.errors.values())
    double = sum(len(answers_in(row.request, row.received, framing)) > 1 for row in health.all)
    words = {row.words for row in health.short if row.reason is None} if health.constant else set()
    latencies = health.latencies_ms
    spread_ms = round(latencies[-1] - latencies[0]) if latencies else 0
    garbled = sum(row.garbled for row in health.all)
    rest = [row for other in others if other.link == health.link for row in other.all]
    rest_failed = sum(not row.answered for row in rest)
    evidence = {
        "asked": asked, "failed": failed, "garbled": garbled, "two_answers_to_one_question": double,
        "different_serials": max(0, len(words) - 1), "latency_spread_ms": spread_ms,
        "others_asked": len(rest), "others_failed": rest_failed,
    }  # fmt: skip
    confidence: Confidence | None = None
    if double or len(words) > 1:
        confidence = "certain"
    elif 100 * garbled >= _ERROR_PERCENT_OF_SHARED * asked and garbled >= _ERRORS_MIN and not tails(health, framing):
        mostly_garbled = 2 * sum(row.garbled for row in health.short) > len(health.short)
        confidence = "possible" if quiet and not rest and mostly_garbled else None
        others_are_clean = bool(rest) and 100 * rest_failed <= _ERROR_PERCENT_OF_OTHERS * len(rest)
        if others_are_clean or spread_ms > _SPREAD_MS:
            confidence = "probable"
    if confidence is None:
        return None
    return Diagnosis("two_on_one_address", confidence, evidence, health.device_id, health.link)


def has_tail(exchange: Exchange, framing: Framing) -> bool:
    """A good answer with a few more bytes behind it: the end of the wire sends them back."""
    request, received = exchange.request, exchange.received
    whole = framing.whole_bytes(request, received)
    good = framing.first_failure(request, request.frame, received[:whole]) is None
    return good and 0 < len(received) - whole <= _TAIL_BYTES_MAX


def tails(health: Health, framing: Framing) -> int:
    """How many answers have a tail."""
    return sum(has_tail(row, framing) for row in health.all)


def missing_termination(healths: Sequence[Health], framing: Framing) -> Diagnosis | None:
    """Errors that rise with the length of the answer or with the speed, or bytes behind good answers."""
    short = [row for health in healths for row in health.short]
    long = [row for health in healths for row in health.long]
    short_failed, long_failed = (sum(not row.answered for row in rows) for rows in (short, long))
    tail = sum(tails(health, framing) for health in healths)
    rates = _error_percents(healths)
    rising = len(rates) > 1 and rates[-1] >= rates[0] + _LONG_OVER_SHORT_PERCENT and rates == sorted(rates)
    longer_is_worse = (
        long_failed >= _ERRORS_MIN
        and bool(short)
        and 100 * long_failed // len(long) - 100 * short_failed // len(short) >= _LONG_OVER_SHORT_PERCENT
    )
    if tail < _ERRORS_MIN and not longer_is_worse and not rising:
        return None
    evidence = {
        "short_asked": len(short), "short_failed": short_failed, "long_asked": len(long), "long_failed": long_failed,
        "answers_with_a_tail": tail, "error_percent_at_lowest_speed": rates[0], "error_percent_at_highest": rates[-1],
    }  # fmt: skip
    return Diagnosis("no_termination", "probable", evidence)


def _error_percents(healths: Sequence[Health]) -> list[int]:
    """Errors in percent, by speed, the slowest first."""
    speeds = sorted({health.link.baud for health in healths})
    found = []
    for baud in speeds:
        rows = [row for health in healths if health.link.baud == baud for row in health.all]
        found.append(100 * sum(not row.answered for row in rows) // len(rows) if rows else 0)
    return found or [0]
