"""A whole street under load: gateways, a broker, the backend and its database, and the books of both sides.

Whatever has ended is started again as a supervisor does it. A bank pays until it is told that it has paid. `settled`
waits until nothing is under way any more; then both sides must agree to the byte. Money nano-currency.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import failures
from cloud_sync.keys import KeyRing, generate_key_directory
from tests.cloud_sync.faults.gateway import ACCOUNT, Card, Gateway
from tests.cloud_sync.faults.pipe import Pipe
from tests.cloud_sync.faults.programs import ADDRESS, BackendProgram, Broker, Program, gateway_program

GATEWAYS: Final = ("gw-1", "gw-2", "gw-3")
METER: Final = "m-1"
CREDIT_NANO: Final = 1_000_000_000
AT: Final = 5000
ROUND_SECONDS: Final = 0.02
POLL_SECONDS: Final = 0.02
SETTLING_SECONDS_MAX: Final = 90.0
RESTART_SECONDS: Final = 0.1

_Answer = TypeVar("_Answer")


class Street:
    """Three gateways at one backend. Use it with `async with street.running()`."""

    def __init__(self, folder: Path, place: str, broker: Broker, *others: Broker, is_sharded: bool = False) -> None:
        """`is_sharded`: each broker has a backend of its own; else one walks from the first to the others."""
        self.is_sharded = is_sharded
        self.folder, self.place, self.broker, self.brokers = folder, place, broker, [broker, *others]
        self.keys = folder / "keys"
        self.ring: KeyRing = generate_key_directory(self.keys)
        self.backend_ports = [one.port for one in self.brokers]
        self.gateway_ports = {name: [one.port for one in self.brokers] for name in GATEWAYS}
        self.cards = {name: Card(folder / f"{name}.db", name) for name in GATEWAYS}
        self.gateways: dict[str, Gateway] = {}
        self.backends: list[BackendProgram] = []
        self.subscribe_qos = 1  # of the gateways
        self.payments: dict[str, str] = {}  # payment id -> gateway
        self.cids: dict[str, str] = {}  # payment id -> command id, once the bank was told
        self.pipes: list[Pipe] = []  # before the first broker: the gateways' and the backend's
        self.is_kept = True  # the backend is started again when it has ended
        self._boots = itertools.count(1)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._banking: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(
        self, piped: bool = False, outside: Sequence[str] = (), at: int = AT, is_clock_trusted: bool = True
    ) -> AsyncIterator[None]:
        """Everything is up, and everything ends. `piped`: nobody reaches the broker but through `pipes`.

        `outside`: gateways that the test starts. `at`, `is_clock_trusted`: what the clocks of the others say.
        """
        if piped:
            await self._lay_pipes()
        with contextlib.closing(Backend.from_directory(self.place, self.keys)) as backend:
            backend.enroll_all(GATEWAYS, AT)
        shares = [[port] for port in self.backend_ports] if self.is_sharded else [self.backend_ports]
        self.backends = [BackendProgram(self.folder, self.place, ports, self.keys) for ports in shares]
        keeping = asyncio.create_task(self._keep_backend())
        try:
            for broker in self.brokers:
                if not broker.is_running:
                    broker.start()
            await comes_true(lambda: any(broker.is_ready for broker in self.brokers), "a broker that answers")
            for name in GATEWAYS:
                if name not in outside:
                    self.start_gateway(name, at, is_clock_trusted)
            yield
        finally:
            keeping.cancel()
            for task in [*self._banking, *self._tasks.values()]:
                task.cancel()
            ended = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            for program in (*self.backends, *self.brokers):
                program.kill()
            for pipe in self.pipes:
                pipe.close()
            for card in self.cards.values():
                card.close()
        assert not [one for one in ended if not isinstance(one, asyncio.CancelledError)], ended

    @property
    def backend(self) -> BackendProgram:
        """The one, or the first broker's."""
        return self.backends[0]

    async def _lay_pipes(self) -> None:
        self.pipes = [Pipe(self.broker.port, seed) for seed in (1, 2)]
        for pipe in self.pipes:
            await pipe.start()
        self.gateway_ports = {name: [self.pipes[0].port] for name in GATEWAYS}
        self.backend_ports = [self.pipes[1].port]

    # --- parts that come and go ---

    def start_gateway(self, name: str, at: int = AT, is_clock_trusted: bool = True) -> None:
        """A boot of this gateway from its card."""
        gateway = self.gateways[name] = self._booted(self.cards[name], at, is_clock_trusted)
        self._tasks[name] = asyncio.create_task(gateway.run())

    def _booted(self, card: Card, at: int = AT, is_clock_trusted: bool = True) -> Gateway:
        ports = [(ADDRESS, port) for port in self.gateway_ports[card.gateway_id]]
        return Gateway(card, self.ring, ports, f"boot-{next(self._boots)}", at, is_clock_trusted, self.subscribe_qos)

    @contextlib.asynccontextmanager
    async def twin_of(self, name: str, copied_card: Path) -> AsyncIterator[None]:
        """Another device that calls itself so, with a copy of the card."""
        with contextlib.closing(Card(copied_card, name)) as card:
            task = asyncio.create_task(self._booted(card).run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def stop_gateway(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def gateway_outside(self, name: str, charges: int) -> Program:
        """The gateway as a process of its own, which charges until its card holds so many."""
        return gateway_program(self.cards[name].path, self.keys, name, self.gateway_ports[name][0], charges)

    async def _keep_backend(self) -> None:
        """What systemd does for a service with Restart=always."""
        while True:
            for backend in self.backends:
                if self.is_kept and not backend.is_running:
                    backend.start()
            await asyncio.sleep(RESTART_SECONDS)

    # --- load ---

    async def load(self, rounds: int, payments_every: int = 10) -> None:
        """Charges in every gateway, and now and then a payment."""
        for number in range(rounds):
            for name in self._tasks:
                self.gateways[name].charge(1000 + number)
            if number % payments_every == 0:
                self.pay(list(self._tasks)[number // payments_every % len(self._tasks)])
            await asyncio.sleep(ROUND_SECONDS)

    def pay(self, gateway_id: str) -> str:
        """A bank sends a payment, and again until it is taken. The payment's id."""
        payment_id = f"payment-{len(self.payments) + 1}"
        self.payments[payment_id] = gateway_id
        task = asyncio.create_task(self._bank(payment_id))
        self._banking.add(task)
        task.add_done_callback(self._banking.discard)
        return payment_id

    async def _bank(self, payment_id: str) -> None:
        gateway_id = self.payments[payment_id]
        credit = partial(_credit, gateway_id, payment_id)
        while payment_id not in self.cids:
            with contextlib.suppress(*failures(OSError)):
                self.cids[payment_id] = await self.ask(credit)
            await asyncio.sleep(ROUND_SECONDS)

    async def banks_are_done(self) -> None:
        """Waits until every payment is in the database, whether its gateway knows of it or not."""
        await comes_true(lambda: not self._banking, "the end of all payments")

    async def pay_again(self) -> None:
        """Every bank asks for every payment once more, as after a night without answers."""
        self.cids.clear()
        for payment_id in self.payments:
            await self._bank(payment_id)

    # --- what the backend knows ---

    async def ask(self, question: Callable[[Backend], _Answer]) -> _Answer:
        """Asks the database by a connection of its own. Raises what the database raises."""
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Callable[[Backend], _Answer]) -> _Answer:
        with contextlib.closing(Backend.from_directory(self.place, self.keys)) as backend:
            return question(backend)

    async def quarantined(self) -> Counter[str]:
        """Messages that were not believed, by reason."""
        found: Counter[str] = Counter()
        for row in await self.ask(Backend.quarantined):
            found[str(row["reason"])] += int(row["count"])
        return found

    async def alarms(self) -> set[str]:
        return {str(alarm["kind"]) for alarm in await self.ask(Backend.alarms)}

    async def takes_records(self) -> None:
        """Waits until the backend has acknowledged something that was not there before."""
        before = self._acked()
        for gateway in self.gateways.values():
            gateway.charge(1)
        await comes_true(lambda: self._acked() > before, "an acknowledgement")

    def _acked(self) -> int:
        return sum(head.acked_seq for card in self.cards.values() for head in card.heads().values())

    # --- the end ---

    async def settled(self) -> None:
        """Waits until every record is acknowledged and every payment has its result."""
        try:
            async with asyncio.timeout(SETTLING_SECONDS_MAX):
                while not await self._is_settled():
                    await asyncio.sleep(5 * POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"not settled: {await self._unsettled()}\n{self.backend.text()[-2000:]}") from None

    async def _is_settled(self) -> bool:
        if self._banking or not all(card.is_all_acked for card in self.cards.values()):
            return False
        with contextlib.suppress(*failures(OSError)):
            return bool(await self.ask(lambda backend: backend.metrics()["commands_pending"] == 0))
        return False

    async def _unsettled(self) -> list[str]:
        heads = {name: {s: (h.seq, h.acked_seq) for s, h in card.heads().items()} for name, card in self.cards.items()}
        pending: object = "nobody knows"
        with contextlib.suppress(*failures(OSError)):
            pending = await self.ask(lambda backend: backend.metrics()["commands_pending"])
        refused = {name: dict(gateway.session.refusals) for name, gateway in self.gateways.items()}
        return [f"heads {heads}", f"commands pending {pending}", f"banks waiting {len(self._banking)}", f"{refused}"]

    async def check_books(self) -> None:
        """0 lost, 0 doubled, 0 broken chains, and all balances equal on both sides."""
        assert await self.ask(Backend.problems) == []
        for name, card in self.cards.items():
            there = await self.ask(partial(_records, name))
            ours = card.records()
            assert {stream: len(rows) for stream, rows in there.items()} == {s: len(rows) for s, rows in ours.items()}
            assert there == ours, "every record arrived once, in its order, to the byte"
        balances = {one.gateway_id: one for one in await self.ask(Backend.balances)}
        assert {name: card.balance_nano for name, card in self.cards.items()} == {
            name: balances[name].money_nano if name in balances else 0 for name in self.cards
        }
        assert {balance.account_id for balance in balances.values()} <= {ACCOUNT}
        await self._check_payments()

    async def _check_payments(self) -> None:
        assert set(self.cids) == set(self.payments)
        taken = {cid: amount for card in self.cards.values() for cid, amount in card.applied().items()}
        assert taken == dict.fromkeys(self.cids.values(), CREDIT_NANO)
        for name, card in self.cards.items():
            own = {self.cids[payment] for payment, gateway in self.payments.items() if gateway == name}
            assert set(card.applied()) == own, "money went where it was paid for"
            charged = sum(posting for posting in _postings(card) if posting < 0)
            assert card.balance_nano == CREDIT_NANO * len(own) + charged
        results = await self.ask(partial(_results, tuple(self.cids.values())))
        assert set(results) <= {"applied"}


def _credit(gateway_id: str, payment_id: str, backend: Backend) -> str:
    return backend.credit(gateway_id, METER, payment_id, CREDIT_NANO, AT).cid


def _results(cids: Iterable[str], backend: Backend) -> list[str | None]:
    return [backend.result_of(cid) for cid in cids]


def _records(gateway_id: str, backend: Backend) -> dict[str, list[tuple[int, bytes, bytes]]]:
    """What the backend holds of a gateway, as its card would say it."""
    sql = "SELECT stream, seq, hash, body FROM record WHERE gateway = ? ORDER BY stream, epoch, seq"
    found: dict[str, list[tuple[int, bytes, bytes]]] = {}
    for stream, seq, digest, body in backend.database.execute(sql, (gateway_id,)):
        found.setdefault(stream, []).append((seq, bytes(digest), bytes(body)))
    return found


def _postings(card: Card) -> list[int]:
    import msgspec

    rows: Mapping[str, list[tuple[int, bytes, bytes]]] = card.records()
    return [int(msgspec.json.decode(body)["posting_nano"]) for _seq, _hash, body in rows.get("led", [])]


async def comes_true(condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Waits for what a process or a socket brings about."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true within {within_s} s") from None
