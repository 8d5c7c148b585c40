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
from edge.bus.loop import Timer, timer_of
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
        try:
            on_open()
            self.talk()
            return await lost
        finally:
            self._port, self._ask = None, None
            port.close()
            self._timer.close()

    def talk(self) -> None:
        """Says the next thing if the line is free. To be called when the source has something new."""
        if self._port is not None:
            self._talk(self._loop.time())

    def _talk(self, now: float) -> None:
        transaction = self._transaction
        if self._ask is None and transaction.idle:
            self._ask = ask = self._source.next_ask(now)
            if ask is not None:
                transaction.submit(ask.request, now, ask.gap_s, self._source.wait_s(ask))
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

    def talk_first(self) -> None:
        """Like `talk`, for what cannot wait: it goes before a request that only waits for its gap."""
        if self._port is not None and self._ask is not None and self._transaction.state is State.GAP:
            now = self._loop.time()
            ask = self._source.next_ask(now)
            if ask is not None and ask is not self._ask:
                self._ask = ask
                self._transaction.exchange(ask.request, now, ask.gap_s, self._source.wait_s(ask))
        self.talk()

    def _on_bytes(self, transaction: Transaction, data: bytes) -> None:
        if transaction is not self._transaction or self._port is None:
            return  # the last words of a port that is closed
        unasked_before, now = transaction.unasked_bytes, self._loop.time()
        outcome = transaction.receive(data, now)
        if transaction.unasked_bytes != unasked_before:
            self._on_unasked()
        self._go_on(outcome, now)

    def _on_lost(self, lost: asyncio.Future[str], reason: str) -> None:
        if not lost.done():
            lost.set_result(reason)

    def _on_timer(self, when: float) -> None:
        """Something is due. Before a silence is believed, the loop gets one more look at the port:
        after a stall the answer may be there already and only not be read yet."""
        if self._port is None:
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
                self._talk(self._loop.time())
        except Exception as bug:
            if self._lost.done():
                raise
            self._lost.set_exception(bug)
