"""One open port and the conversation on it: asks its source what to say, hands back how it went.

Times are seconds of the event loop. Works in callbacks and not in a task per request: a poll costs
one wake-up for the gap before it and one for its answer. A port must not call back from within its
own `write`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from edge.bus.frame import Framing
from edge.bus.transaction import Ask, Outcome, State, Timing, Transaction
from edge.ports import BytePort, PortOpener


class AskSource(Protocol):
    """Whoever wants to know things of a line."""

    def next_ask(self, now: float) -> Ask | None:
        """What to ask now. It stays the next one until `take` is told how it ended."""
        ...

    def due_at(self) -> float | None:
        """When there will be something to ask, if `next_ask` has nothing now."""
        ...

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        """How it ended."""
        ...


class Talker:
    """The only one who writes to a port."""

    def __init__(self, framing: Framing, timing: Timing, source: AskSource, on_unasked: Callable[[], None]) -> None:
        self._framing, self._timing, self._source, self._on_unasked = framing, timing, source, on_unasked
        self._port: BytePort | None = None
        self._ask: Ask | None = None
        self._timer: asyncio.TimerHandle | None = None
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
        self._port, self._transaction = port, transaction
        try:
            on_open()
            self.talk()
            return await lost
        finally:
            self._port, self._ask = None, None
            port.close()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def talk(self) -> None:
        """Says the next thing if the line is free. To be called when the source has something new."""
        if self._port is None:
            return
        now = self._loop.time()
        if self._transaction.idle and self._ask is None:
            self._ask = self._source.next_ask(now)
            if self._ask is not None:
                self._transaction.submit(self._ask.request, now, self._ask.gap_s)
        data = self._transaction.outgoing()
        if data:
            try:
                self._port.write(data)
            except OSError as problem:
                self._on_lost(self._lost, problem.strerror or str(problem))
        deadline = self._transaction.get_timer()
        self._set_timer(self._source.due_at() if deadline is None else deadline)

    def talk_first(self) -> None:
        """Like `talk`, for what cannot wait: it goes before a request that only waits for its gap."""
        if self._port is not None and self._ask is not None and self._transaction.state is State.GAP:
            now = self._loop.time()
            ask = self._source.next_ask(now)
            if ask is not None and ask is not self._ask:
                self._ask = ask
                self._transaction.exchange(ask.request, now, ask.gap_s)
        self.talk()

    def _on_bytes(self, transaction: Transaction, data: bytes) -> None:
        if transaction is not self._transaction or self._port is None:
            return  # the last words of a port that is closed
        unasked_before = transaction.unasked_bytes
        outcome = transaction.receive(data, self._loop.time())
        if transaction.unasked_bytes != unasked_before:
            self._on_unasked()
        self._go_on(outcome)

    def _on_lost(self, lost: asyncio.Future[str], reason: str) -> None:
        if not lost.done():
            lost.set_result(reason)

    def _on_timer(self, looked_for: float | None) -> None:
        """Something is due. Before a silence is believed, the loop gets one more look at the port:
        after a stall the answer may be there already and only not be read yet."""
        timer, self._timer = self._timer, None
        assert timer is not None
        now = max(self._loop.time(), timer.when())  # a loop may call a timer its clock's resolution too early
        deadline = self._transaction.get_timer()
        silence_due = deadline is not None and now >= deadline and self._transaction.state is not State.GAP
        if silence_due and looked_for != deadline:
            self._timer = self._loop.call_later(0, self._on_timer, deadline)
            return
        self._go_on(self._transaction.handle_timer(now))

    def _go_on(self, outcome: Outcome | None) -> None:
        """Books an outcome and says the next thing. A bug in the source ends `serve` with its error."""
        try:
            if outcome is not None:
                ask, self._ask = self._ask, None
                assert ask is not None
                self._source.take(ask, outcome, self._loop.time())
            self.talk()
        except Exception as bug:
            if self._lost.done():
                raise
            self._lost.set_exception(bug)

    def _set_timer(self, when: float | None) -> None:
        """A timer that is due too early is left alone: it finds nothing to do and sets the next one."""
        if when is None:
            return
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer, None)
