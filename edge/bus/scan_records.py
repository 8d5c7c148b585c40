"""What a scan wants of its driver and what it gets back: links, steps, exchanges, findings.

A scan is a generator: it yields steps and is sent what came of each. It does no I/O and has no clock, so a test answers
it from a table. Times are seconds (`_s`) or milliseconds (`_ms`); `received` is every byte from one question to the
next, believed or not.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from edge.bus.frame import Request

T = TypeVar("T")
Confidence = Literal["certain", "probable", "possible"]
# A gateway that says it has nobody there: as good as silence.
NOBODY_BEHIND: Final = ("exception_10", "exception_11")


@dataclass(frozen=True, slots=True)
class Link:
    """How characters are sent: a baud rate and 8N1 and the like; no format where a server keeps both to itself."""

    baud: int
    format: str

    @property
    def is_ours(self) -> bool:
        """Whether the settings are those of a port of our own."""
        return bool(self.format)


@dataclass(frozen=True, slots=True)
class Open:
    """Close the line and open it with these settings. Sent back: nothing; thrown: LinkUnusable."""

    link: Link
    timeout_s: float  # from the end of a request to the first byte
    silence_s: float  # listened for after any fault


class LinkUnusable(OSError):
    """The port cannot be set like this, such as a parity that its driver does not have. Thrown in place of an answer
    to `Open`; whoever has another link to try goes on with that."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Ask nobody anything for so long. Sent back: the bytes that came."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Question:
    """One request through the strict transaction. Sent back: its Exchange."""

    request: Request
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """How far it is. Sent back: nothing."""

    phase: Literal["quick", "full", "again", "recognise"]
    link: Link
    done: int
    total: int
    found: int


Step = Open | Listen | Question | Note


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and how it ended. `reason` None: `words` may be believed; else a code of edge/bus."""

    request: Request
    reason: str | None
    words: tuple[int, ...]
    received: bytes
    latency_ms: float | None  # None when nothing came

    @property
    def answered(self) -> bool:
        """Whether a device said something that may be believed, be it that it refuses."""
        if self.reason is None:
            return True
        return self.reason.startswith("exception_") and self.reason not in NOBODY_BEHIND

    @property
    def garbled(self) -> bool:
        """Whether something came that may not be believed."""
        return not self.answered and bool(self.received) and self.reason not in NOBODY_BEHIND


Talk = Generator[Step, Exchange | bytes | None, T]


@dataclass(frozen=True, slots=True)
class Recognition:
    """Which models a device may be. One is an answer; several are listed and none is picked."""

    models: tuple[str, ...]
    confidence: Confidence | None  # None: no model fits
    identity: Mapping[str, str]  # what the identity registers say: serial number, model code, version
    values: Mapping[str, str]  # the key values as the first of `models` reads them
    evidence: Mapping[str, Mapping[str, str]]  # model: register or point: expected, plausible, implausible, refused


@dataclass(frozen=True, slots=True)
class Health:
    """The same two questions put to one device again and again: a short answer and a long one."""

    device_id: int
    link: Link
    short: tuple[Exchange, ...]
    long: tuple[Exchange, ...]
    constant: bool  # the short one reads a serial number: two good answers must be equal

    @property
    def all(self) -> tuple[Exchange, ...]:
        return self.short + self.long

    @property
    def errors(self) -> dict[str, int]:
        """How many of each reason code."""
        found: dict[str, int] = {}
        for exchange in self.all:
            if not exchange.answered and exchange.reason is not None:
                found[exchange.reason] = found.get(exchange.reason, 0) + 1
        return dict(sorted(found.items()))

    @property
    def latencies_ms(self) -> tuple[float, ...]:
        """Of believed answers, sorted."""
        return tuple(sorted(row.latency_ms for row in self.all if row.answered and row.latency_ms is not None))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A fault with a name, how sure it is, and the numbers it was told by."""

    code: str
    confidence: Confidence
    evidence: Mapping[str, int]
    device_id: int | None = None
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Somebody at an address. `also_at`: other settings at which the same device answered."""

    device_id: int
    link: Link
    recognition: Recognition
    health: Health
    also_at: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan found. `complete` False: it ended early, since the line itself is at fault."""

    found: tuple[Found, ...]
    diagnoses: tuple[Diagnosis, ...]
    links: tuple[Link, ...]
    unusable: tuple[Link, ...]  # links of the order that the port cannot be set to
    questions: int
    complete: bool


def ask(request: Request, gap_s: float = 0.0) -> Talk[Exchange]:
    """One exchange."""
    exchange = yield Question(request, gap_s)
    assert isinstance(exchange, Exchange)
    return exchange


def percentile(values: tuple[float, ...], percent: int) -> float | None:
    """Nearest rank of sorted values; None of nothing."""
    return values[max(0, -(-percent * len(values) // 100) - 1)] if values else None
