"""One open port and the conversation on it: asks its source what to say, hands back how it went.

Times are seconds of the event loop. Works in callbacks and not in a task per request: a poll costs
one wake-up for the gap before it and one for its answer, and the latter alone where the port has a
wire, which sends at the time it is told and takes the good answer by itself. What it does not take
comes here, and is gone through as if it had been done here. A port must not call back from within
its own `write`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from edge.bus.frame import RTU, Framing, registers_in
from edge.bus.loop import Timer, timer_of
from edge.bus.transaction import Ask, Outcome, State, Timing, Transaction
from edge.ports import BytePort, PortOpener, Wire

_GAP: Final = State.GAP


class AskSource(Protocol):
    """Whoever wants to know things of a line."""

    def next_ask(self, now: float) -> Ask | None:
        """What to ask now. It stays the next one until `take` is told how it ended."""
        ...

    def due_at(self) -> float | None:
        """When there will be something to ask, if `next_ask` has nothing now."""
        ...

    def wait_s(self, ask: Ask) -> float | None:
        """How long to wait for its answer to begin; None: as the line says."""
        ...

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        """How it ended."""
        ...


class Talker:
    """The only one who writes to a port."""

    def __init__(self, framing: Framing, timing: Timing, source: AskSource, on_unasked: Callable[[], None]) -> None:
        self._framing, self._timing, self._source, self._on_unasked = framing, timing, source, on_unasked
        self._port: BytePort | None = None
        self._wire: Wire | None = None
        self._armed = False  # the wire has the request, and says how it ended
        self._ask: Ask | None = None
        self._timer: Timer | None = None
        self._transaction = Transaction(framing, timing)

    @property
    def is_open(self) -> bool:
        return self._port is not None

    async def serve(self, opener: PortOpener, on_open: Callable[[], None]) -> str:
        """One life of the port: returns why it was lost. Raises OSError if it cannot be opened."""
        self._loop = asyncio.get_running_loop()
        lost: asyncio.Future[str] = self._loop.create_future()
        self._lost = lost
        transaction = Transaction(self._framing, self._timing, self._loop.time(), before=self._transaction)
        port = await opener(partial(self._on_bytes, transaction), partial(self._on_lost, lost))
        self._port, self._transaction, self._timer = port, transaction, timer_of(self._loop, self._on_timer)
        self._wire = getattr(port, "wire", None)
        transaction.sent_by_port = self._wire is not None
        if self._wire is not None:
            self._wire.listen(self._on_answer, self._on_end)
        try:
            on_open()
            self.talk()
            return await lost
        finally:
            self._port, self._ask, self._wire, self._armed = None, None, None, False
            port.close()
            self._timer.close()

    def talk(self) -> None:
        """Says the next thing if the line is free. To be called when the source has something new."""
        if self._port is not None:
            self._talk(self._loop.time())

    def _talk(self, now: float) -> None:
        if self._armed:
            return
        transaction = self._transaction
        if self._ask is None and transaction.idle:
            self._ask = ask = self._source.next_ask(now)
            if ask is not None:
                transaction.submit(ask.request, now, ask.gap_s, self._source.wait_s(ask))
        if self._wire is not None and transaction.state is _GAP:
            self._arm(self._wire)
            return
        data = transaction.outgoing()
        if data:
            assert self._port is not None
            try:
                self._port.write(data)
            except OSError as problem:
                self._on_lost(self._lost, problem.strerror or str(problem))
        when = transaction.get_timer()
        if when is None:
            when = self._source.due_at()
        if when is not None and self._timer is not None:
            self._timer.set(when)

    def _arm(self, wire: Wire) -> None:
        """Leaves the waiting request to the wire."""
        ask, when = self._ask, self._transaction.get_timer()
        assert ask is not None
        assert when is not None
        answer_bytes = ask.request.rtu_answer_bytes if self._framing is RTU else 0
        first_s, timing = self._transaction.wait_s, self._timing
        part_s = max(first_s, timing.response_timeout_s)
        wire.arm(ask.request.frame, when, answer_bytes, timing.byte_s, first_s, part_s)
        self._armed = True

    def talk_first(self) -> None:
        """Like `talk`, for what cannot wait: it goes before a request that only waits for its gap."""
        if self._armed:
            assert self._wire is not None
            self._armed = not self._wire.disarm()
        if self._port is not None and not self._armed and self._ask and self._transaction.state is State.GAP:
            now = self._loop.time()
            ask = self._source.next_ask(now)
            if ask is not None and ask is not self._ask:
                self._ask = ask
                self._transaction.exchange(ask.request, now, ask.gap_s, self._source.wait_s(ask))
        self.talk()

    def _on_bytes(self, transaction: Transaction, data: bytes) -> None:
        if transaction is not self._transaction or self._port is None:
            return  # the last words of a port that is closed
        self._take(data, self._loop.time())

    def _take(self, data: bytes, now: float) -> None:
        transaction = self._transaction
        unasked_before = transaction.unasked_bytes
        outcome = transaction.receive(data, now)
        if transaction.unasked_bytes != unasked_before:
            self._on_unasked()
        self._go_on(outcome, now)

    def _on_answer(self, received: Any, sent_at: float, at: float) -> None:
        """The wire has sent the request and believes its answer."""
        self._armed = False
        ask = self._ask
        assert ask is not None
        self._go_on(self._transaction.answered(registers_in(ask.request, received), sent_at, at), at)

    def _on_end(self, sent_at: float | None, received: bytes, at: float) -> None:
        """The wire has no good answer: what it did and heard is gone through here."""
        self._armed = False
        transaction = self._transaction
        if sent_at is not None:
            transaction.sent(sent_at)
        if received:
            self._take(received, at)
        else:
            self._go_on(None, at)

    def _on_lost(self, lost: asyncio.Future[str], reason: str) -> None:
        if not lost.done():
            lost.set_result(reason)

    def _on_timer(self, when: float) -> None:
        """Something is due. Before a silence is believed, the loop gets one more look at the port:
        after a stall the answer may be there already and only not be read yet."""
        if self._port is None or self._armed:
            return
        transaction = self._transaction
        now = max(self._loop.time(), when)  # a loop may call a timer its clock's resolution too early
        deadline = transaction.get_timer()
        if deadline is not None and now >= deadline and transaction.state is not State.GAP:
            self._loop.call_later(0, self._on_silence, transaction, deadline, now)
            return
        self._go_on(transaction.handle_timer(now), now)

    def _on_silence(self, transaction: Transaction, deadline: float, now: float) -> None:
        """The second look found nothing, unless the deadline has moved since."""
        if self._port is None or transaction is not self._transaction:
            return
        silent = transaction.get_timer() == deadline
        self._go_on(transaction.handle_timer(max(self._loop.time(), now)) if silent else None, now)

    def _go_on(self, outcome: Outcome | None, now: float) -> None:
        """Books an outcome and says the next thing. A bug in the source ends `serve` with its error."""
        try:
            if outcome is not None:
                ask, self._ask = self._ask, None
                assert ask is not None
                self._source.take(ask, outcome, now)
            if self._port is not None:
                self._talk(now)
        except Exception as bug:
            if self._lost.done():
                raise
            self._lost.set_exception(bug)
