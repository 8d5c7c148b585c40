"""Runs what a scan or a change of settings wants on a real line: steps in, exchanges out.

Every request goes through the line's own Talker, so nothing is sent into noise and nothing loose is believed. A tap at
the port keeps the raw bytes beside it, as evidence only. Times are seconds of the event loop.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.bus.frame import Framing, Request, framing_of
from edge.bus.scan_records import Exchange, Link, LinkUnusable, Listen, Note, Open, Question, Step, T, Talk
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing
from edge.ports import BytePort, PortOpener

_DRAINS_MAX = 4
Opener = Callable[[Link], PortOpener]


class LineLost(OSError):
    """The port is gone in the middle of the work."""


class Tap:
    """Stands between the port and the Talker: what was written when, what came since, and when it began."""

    def __init__(self, opener: PortOpener) -> None:
        self._opener = opener
        self.sent_at: float | None = None
        self.first_at: float | None = None
        self.sent_bytes = 0
        self.received = b""

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        loop = asyncio.get_running_loop()

        def heard(data: bytes) -> None:
            if self.first_at is None:
                self.first_at = loop.time()
            self.received += data
            on_bytes(data)

        self._port = await self._opener(heard, on_lost)
        return self

    def write(self, data: bytes) -> None:
        self.sent_at, self.first_at, self.received = asyncio.get_running_loop().time(), None, b""
        self.sent_bytes = len(data)
        self._port.write(data)

    def close(self) -> None:
        """Lets the port go."""
        self._port.close()

    def start_anew(self) -> None:
        """Forgets what came: it was handed on, or belongs to nobody."""
        self.first_at, self.received = None, b""


class Driver:
    """A line that can be opened with other settings. `run` does what a generator of steps wants."""

    def __init__(self, framing: str, opener: Opener, on_note: Callable[[Note], None]) -> None:
        self.framing: Framing = framing_of(framing)
        self._opener, self._on_note = opener, on_note
        self._tap: Tap | None = None
        self._talker: Talker | None = None
        self._serving: asyncio.Task[str] | None = None
        self._timing = Timing(0, 0, 0, 0, 0)
        self._question: Question | None = None
        self._answer: asyncio.Future[Outcome] | None = None
        self._permitted: frozenset[bytes] = frozenset()
        self.opened = 0

    def permit(self, writes: Sequence[Request]) -> None:
        """These frames and no other may be written. Without it a line is only read."""
        self._permitted = frozenset(request.frame for request in writes)

    async def run(self, talk: Talk[T]) -> T:
        """Answers every step until the generator returns. Raises OSError if the line cannot be opened or is lost."""
        came: Exchange | bytes | None = None
        problem: LinkUnusable | None = None
        while True:
            try:
                step = talk.send(came) if problem is None else talk.throw(problem)
            except StopIteration as end:
                result: T = end.value
                return result
            came, problem = None, None
            try:
                came = await self._done(step)
            except LinkUnusable as unusable:
                problem = unusable

    async def close(self) -> None:
        """Lets the line go."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _done(self, step: Step) -> Exchange | bytes | None:
        match step:
            case Open():
                await self._open(step)
            case Listen():
                return await self._listen(step.seconds)
            case Question():
                return await self._ask(step)
            case Note():
                self._on_note(step)
        return None

    async def _open(self, step: Open) -> None:
        await self.close()
        timing = Timing.of_serial(step.link.baud, step.timeout_s, step.silence_s, _DRAINS_MAX * step.silence_s)
        self._timing = replace(timing, gap_s=0.0, byte_s=0.0) if self.framing.name == "mbap" else timing
        self._tap = tap = Tap(self._opener(step.link))
        self._talker = talker = Talker(self.framing, self._timing, self, lambda: None)
        opened = asyncio.Event()
        self._serving = serving = asyncio.ensure_future(talker.serve(tap, opened.set))
        serving.add_done_callback(lambda task: opened.set())
        await opened.wait()
        if serving.done():
            try:
                await serving  # raises why it cannot be opened
            except OSError as problem:
                if problem.errno == errno.EINVAL:
                    raise LinkUnusable(problem.errno, problem.strerror) from problem
                raise
        self.opened += 1

    async def _listen(self, seconds: float) -> bytes:
        tap = self._tap
        assert tap is not None
        tap.start_anew()
        await asyncio.sleep(seconds)
        data = tap.received
        tap.start_anew()
        return data

    async def _ask(self, question: Question) -> Exchange:
        tap, talker, serving = self._tap, self._talker, self._serving
        assert tap is not None
        assert talker is not None
        assert serving is not None
        assert not question.request.is_write or question.request.frame in self._permitted, (
            "a write that nobody permitted"
        )
        self._question = question
        self._answer = answer = asyncio.get_running_loop().create_future()

        def give_up(task: asyncio.Task[str]) -> None:
            answer.cancel()

        serving.add_done_callback(give_up)
        tap.start_anew()
        talker.talk()
        try:
            outcome = await answer
        except asyncio.CancelledError:
            if not serving.done():
                raise
            raise LineLost(await serving) from None
        finally:
            serving.remove_done_callback(give_up)
        if question.gap_s:  # what trails behind an answer comes within its gap
            await asyncio.sleep(question.gap_s)
        return Exchange(outcome.request, outcome.reason, outcome.words, self._heard(outcome), self._latency_ms(tap))

    def _heard(self, outcome: Outcome) -> bytes:
        """What came, without the request that an adapter with a known echo sends back first."""
        assert self._tap is not None
        echo = outcome.request.frame if self.framing.hears_itself else b""
        return self._tap.received.removeprefix(echo)

    def _latency_ms(self, tap: Tap) -> float | None:
        if tap.first_at is None or tap.sent_at is None or self.framing.hears_itself:
            return None
        return max(0.0, tap.first_at - tap.sent_at - tap.sent_bytes * self._timing.byte_s) * 1000

    def next_ask(self, now: float) -> Ask | None:
        """The question that waits."""
        return Ask(self._question.request, self._question.gap_s) if self._question is not None else None

    def due_at(self) -> float | None:
        """Nothing comes due by itself."""
        return None

    def wait_s(self, ask: Ask) -> float | None:
        """As the step that opened the line said."""
        return None

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        """Hands an outcome to whoever waits for it."""
        self._question = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)
