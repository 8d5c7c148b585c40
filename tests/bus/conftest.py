"""Ways to talk to a scripted device that answers wrong on purpose (`hw/sim/wire_faults.py`): none of it is pymodbus.

It is used at three depths: straight against a Transaction in made-up time, at the master end of a
pseudo-terminal, and behind a fake port on a virtual event loop. Times are seconds.
"""

import asyncio
import heapq
import os
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.frame import RTU, Framing, Request
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing, Transaction
from edge.core.units import ClockQuality, UnixSeconds
from edge.ports import BytePort, ClockReading
from hw.serial_port import serial_opener
from hw.sim.wire_faults import GOOD, Parts, ScriptedDevice
from hw.sim.world.lines import with_crc
from hw.socket_port import socket_opener


def Slave(framing: Framing = RTU) -> ScriptedDevice:
    """A device that speaks this framing."""
    return ScriptedDevice("mbap" if framing.name == "mbap" else "rtu")


def believed_wrongly(slave: ScriptedDevice, outcome: Outcome) -> bool:
    """Whether an outcome says something that is not so."""
    request = outcome.request
    if outcome.reason is not None:
        return False
    if request.is_write:
        return slave.written.get((request.function_code, request.address)) != request.words
    return outcome.words != slave.truth(request.function_code, request.address, request.count)


@dataclass(frozen=True, slots=True)
class Ended:
    """How an exchange ended, judged at that moment."""

    outcome: Outcome
    wrong: bool

    @property
    def reason(self) -> str:
        return self.outcome.reason or GOOD


def converse(
    framing: Framing,
    slave: ScriptedDevice,
    timing: Timing,
    steps: Sequence[tuple[str, Request]],
    on_wire: Callable[[bytes, Parts], Parts] = lambda sent, parts: parts,
) -> list[Ended]:
    """(fault, request) pairs through a Transaction, in time that only the machine itself asks for."""
    transaction = Transaction(framing, timing)
    now, order = 0.0, count()
    coming: list[tuple[float, int, bytes]] = []
    ended: list[Ended] = []
    waiting = list(reversed(steps))
    while waiting or not transaction.idle:
        outcome = None
        if transaction.idle and (not coming or coming[0][0] > now):
            slave.fault, request = waiting.pop()
            slave.written.clear()
            transaction.submit(request, now)
        elif coming and coming[0][0] <= (transaction.get_timer() or now):
            now, _, data = heapq.heappop(coming)
            outcome = transaction.receive(data, now)
        else:
            now = max(now, transaction.get_timer() or now)
            outcome = transaction.handle_timer(now)
        sent = transaction.outgoing()
        for delay_s, data in on_wire(sent, slave.answer(sent)) if sent else []:
            heapq.heappush(coming, (now + delay_s, next(order), data))
        if outcome is not None:
            ended.append(Ended(outcome, believed_wrongly(slave, outcome)))
    return ended


@dataclass
class Script:
    """A source of asks for a Talker: (fault, request) pairs, one after the other."""

    slave: ScriptedDevice
    steps: list[tuple[str, Request]]
    ended: list[Ended] = field(default_factory=list)
    finished: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def next_ask(self, now: float) -> Ask | None:
        if not self.steps:
            if not self.finished.done():
                self.finished.set_result(None)
            return None
        self.slave.fault, request = self.steps.pop(0)
        self.slave.written.clear()
        return Ask(request)

    def due_at(self) -> float | None:
        return None

    def wait_s(self, ask: Ask) -> float | None:
        return None

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        self.ended.append(Ended(outcome, believed_wrongly(self.slave, outcome)))


class PtySlave:
    """The slave at the master end of a pseudo-terminal; the gateway opens `path`."""

    def __init__(self, slave: ScriptedDevice) -> None:
        self.slave = slave
        self._master, self._held = os.openpty()
        tty.setraw(self._held)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._held)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self._held)

    def _read(self) -> None:
        for delay_s, data in self.slave.answer(os.read(self._master, 512)):
            if delay_s:
                self._loop.call_later(delay_s, os.write, self._master, data)
            else:
                os.write(self._master, data)


class SocketSlave:
    """The slave behind a socket of its own; the gateway connects to `port`."""

    def __init__(self, slave: ScriptedDevice) -> None:
        self.slave = slave

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while sent := await reader.read(512):
            for delay_s, data in self.slave.answer(sent):
                if delay_s:
                    loop.call_later(delay_s, writer.write, data)
                else:
                    writer.write(data)
        writer.close()


async def talk_over_ptys(
    lines: int, timing: Timing, late_s: float, steps: list[tuple[str, Request]]
) -> list[list[Ended]]:
    """The steps shared out over many lines that run side by side; how they ended, line by line."""
    pairs = pairs_of(steps)
    scripts = {str(index): [step for pair in pairs[index::lines] for step in pair] for index in range(lines)}
    return list((await talk_side_by_side(RTU, "serial", timing, late_s, scripts)).values())


async def talk_side_by_side(
    framing: Framing, line: str, timing: Timing, late_s: float, scripts: dict[str, list[tuple[str, Request]]]
) -> dict[str, list[Ended]]:
    """Each script on a real line of its own, a pseudo-terminal or a socket; how its steps ended."""
    running: dict[str, Script] = {}
    ends: list[PtySlave | SocketSlave] = []
    tasks = []
    for name, steps in scripts.items():
        slave = Slave(framing)
        slave.late_s = late_s
        end: PtySlave | SocketSlave
        if line in ("serial", "wire"):
            end = PtySlave(slave)
            opener = serial_opener(end.path, 115_200)
        else:
            end = SocketSlave(slave)
            await end.start()
            opener = socket_opener("127.0.0.1", end.port)
        ends.append(end)
        running[name] = Script(slave, list(steps))
        talker = Talker(framing, timing, running[name], lambda: None)
        tasks.append(asyncio.ensure_future(talker.serve(opener, lambda: None)))
    try:
        await asyncio.gather(*(script.finished for script in running.values()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end.close()
    return {name: script.ended for name, script in running.items()}


def pairs_of(steps: list[tuple[str, Request]]) -> list[list[tuple[str, Request]]]:
    return [steps[index : index + 2] for index in range(0, len(steps), 2)]


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock jumps to the next timer: nothing sleeps, a deadlock is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = self
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout is None:
            raise RuntimeError("deadlock: no timer and no ready task")
        self.now += max(timeout, 0.0)
        return ()

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class LoopClock:
    """The accounting clock of a virtual loop, `speed` times as fast."""

    def __init__(self, speed: int = 1) -> None:
        self.speed = speed

    def read(self) -> ClockReading:
        elapsed_ms = round(asyncio.get_running_loop().time() * 1000 * self.speed)
        return ClockReading(UnixSeconds(1_700_000_000 + elapsed_ms // 1000), elapsed_ms, "boot", ClockQuality.NTP)


class FakePort:
    """A port on a virtual loop with a slave at each device id; nobody answers for the others."""

    def __init__(self, slaves: dict[int, ScriptedDevice], delay_s: float = 0.02) -> None:
        self.slaves, self.delay_s = slaves, delay_s
        self.sent: list[tuple[float, bytes]] = []
        self.refuse_open: str | None = None
        self.opened = 0
        self._lose: Callable[[str], None] = lambda reason: None

    async def __call__(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> BytePort:
        if self.refuse_open is not None:
            raise OSError(self.refuse_open)
        self.opened += 1
        self._on_bytes, self._lose = on_bytes, on_lost
        return self

    def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), data))
        slave = self.slaves.get(data[0])
        for delay_s, part in slave.answer(data) if slave else []:
            loop.call_later(self.delay_s + delay_s, self.deliver, part)

    def deliver(self, data: bytes) -> None:
        self._on_bytes(data)

    def lose(self, reason: str) -> None:
        self._lose(reason)

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def wire() -> SimpleNamespace:
    """The tools of this file by name: test modules cannot import them."""
    return SimpleNamespace(
        Slave=Slave,
        FakePort=FakePort,
        LoopClock=LoopClock,
        believed_wrongly=believed_wrongly,
        converse=converse,
        talk_over_ptys=talk_over_ptys,
        talk_side_by_side=talk_side_by_side,
        with_crc=with_crc,
    )


@pytest.fixture
def virtual() -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner.run
