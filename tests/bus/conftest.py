"""A scripted device that answers wrong on purpose, and the ways to talk to it: none of it is pymodbus.

`Slave` keeps a register for every address and knows the faults of a line by name. It is used at
three depths: straight against a Transaction in made-up time, at the master end of a pseudo-terminal,
and behind a fake port on a virtual event loop. Times are seconds.
"""

import asyncio
import heapq
import os
import struct
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from edge.bus.frame import RTU, Framing, Request, crc16
from edge.bus.talker import Talker
from edge.bus.transaction import Ask, Outcome, Timing, Transaction
from edge.core.units import ClockQuality, UnixSeconds
from edge.ports import BytePort, ClockReading
from hw.serial_port import serial_opener

Parts = list[tuple[float, bytes]]

# The answer to a request of another device id, another function ... carries numbers nobody asked for.
SPOILED = 0x5A5A
OTHER_FUNCTION = {1: 2, 3: 4, 4: 3, 5: 6, 6: 5, 16: 15}


class Slave:
    """Answers every request it is sent, in RTU or MBAP, and applies what is written."""

    def __init__(self, framing: Framing = RTU) -> None:
        self.framing = framing
        self.fault = "none"
        self.latency_s = 0.0
        self.late_s = 0.0
        self.written: dict[tuple[int, int], tuple[int, ...]] = {}
        self.registers: dict[tuple[int, int], int] = {}  # (function code, address): what stands there for once
        self.holes: set[tuple[int, int]] = set()  # (function code, address) that are answered with exception 2
        self.obeys = True  # whether a write that is confirmed is also done
        self.variant = 0

    def truth(self, function_code: int, address: int, count: int) -> tuple[int, ...]:
        """What the registers or coils really hold."""
        words = tuple(
            self.registers.get((function_code, at), (at * 7919 + function_code * 613 + 12_345) & 0xFFFF)
            for at in range(address, address + count)
        )
        return tuple(word & 1 for word in words) if function_code in (1, 2) else words

    def hold_float(self, function_code: int, address: int, value: float) -> None:
        """Puts a float32 into two registers, high word first."""
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        self.registers[function_code, address], self.registers[function_code, address + 1] = high, low

    def answer(self, sent: bytes) -> Parts:
        """What comes back, as (seconds from now, bytes)."""
        self.variant += self.fault != "none"
        return FAULTS[self.fault](self, sent)

    def good(self, sent: bytes) -> bytes:
        device_id, pdu = self.unwrap(sent)
        return self.wrap(sent, device_id, self.good_pdu(pdu))

    def good_pdu(self, pdu: bytes, spoil: int = 0) -> bytes:
        function_code, address, number = struct.unpack_from(">BHH", pdu)
        if function_code in (5, 6, 16):
            self.take_write(function_code, address, (number,) if function_code != 16 else words_of(pdu[6:]))
            return pdu[:5]
        if any((function_code, at) in self.holes for at in range(address, address + number)):
            return bytes((function_code | 0x80, 2))
        words = [word ^ spoil for word in self.truth(function_code, address, number)]
        data = bits_of(words) if function_code in (1, 2) else struct.pack(f">{number}H", *words)
        return bytes((function_code, len(data))) + data

    def take_write(self, function_code: int, address: int, words: tuple[int, ...]) -> None:
        self.written[function_code, address] = words
        if not self.obeys:
            return
        if function_code == 5:
            self.registers[1, address] = int(words[0] == 0xFF00)
        else:
            self.registers.update({(3, address + index): word for index, word in enumerate(words)})

    def spoiled_pdu(self, pdu: bytes) -> bytes:
        """Right in form, wrong in content, and nothing is written."""
        if pdu[0] in (5, 6, 16):
            return pdu[:1] + bytes(((pdu[1]), pdu[2] ^ 1)) + pdu[3:5]
        if pdu[0] in (1, 2):
            good = self.good_pdu(pdu)
            return good[:2] + bytes(byte ^ 0x55 for byte in good[2:])
        return self.good_pdu(pdu, SPOILED)

    def unwrap(self, frame: bytes) -> tuple[int, bytes]:
        head, tail = self.framing.head_bytes, self.framing.tail_bytes
        return frame[head - 1], frame[head : len(frame) - tail]

    def wrap(self, sent: bytes, device_id: int, pdu: bytes) -> bytes:
        if self.framing.name == "rtu":
            return with_crc(bytes((device_id,)) + pdu)
        return sent[:4] + struct.pack(">HB", len(pdu) + 1, device_id) + pdu


def words_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


def bits_of(words: Sequence[int]) -> bytes:
    number = sum((word & 1) << index for index, word in enumerate(words))
    return number.to_bytes((len(words) + 7) // 8, "little")


def with_crc(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(2, "little")


def none(slave: Slave, sent: bytes) -> Parts:
    return [(slave.latency_s, slave.good(sent))]


def late_reply(slave: Slave, sent: bytes) -> Parts:
    return [(slave.late_s, slave.good(sent))]


def wrong_unit(slave: Slave, sent: bytes) -> Parts:
    device_id, pdu = slave.unwrap(sent)
    return [(0.0, slave.wrap(sent, device_id + 1, slave.spoiled_pdu(pdu)))]


def wrong_function(slave: Slave, sent: bytes) -> Parts:
    device_id, pdu = slave.unwrap(sent)
    answer = slave.spoiled_pdu(pdu) if pdu[0] < 5 else pdu[:5]
    return [(0.0, slave.wrap(sent, device_id, bytes((OTHER_FUNCTION[pdu[0]],)) + answer[1:]))]


def wrong_count(slave: Slave, sent: bytes) -> Parts:
    """The count says something else; the frame is as long as wanted, shorter or longer."""
    device_id, pdu = slave.unwrap(sent)
    answer = slave.spoiled_pdu(pdu)
    data = (answer[2:], answer[2:-1], answer[2:] + b"\x00")[slave.variant % 3]
    declared = answer[1] + (2 if slave.variant % 2 else -1) if slave.variant % 3 == 0 else len(data)
    return [(0.0, slave.wrap(sent, device_id, bytes((answer[0], declared)) + data))]


def wrong_echo(slave: Slave, sent: bytes) -> Parts:
    """Another address or another value is confirmed, and nothing was switched."""
    device_id, pdu = slave.unwrap(sent)
    echo = bytearray(pdu[:5])
    echo[1 + slave.variant % 4] ^= 1
    return [(0.0, slave.wrap(sent, device_id, bytes(echo)))]


def crc_error(slave: Slave, sent: bytes) -> Parts:
    frame = bytearray(slave.good(sent))
    if frame[1] < 5:
        frame[3 + slave.variant % (len(frame) - 5)] ^= 1 << slave.variant % 8
    else:
        frame[-1 - slave.variant % 2] ^= 0x10
    return [(0.0, bytes(frame))]


def truncated(slave: Slave, sent: bytes) -> Parts:
    """Cut off anywhere, or cut short and closed with a good CRC."""
    device_id, pdu = slave.unwrap(sent)
    frame = slave.good(sent)
    if slave.variant % 2:
        return [(0.0, frame[: 1 + slave.variant // 2 % (len(frame) - 1)])]
    return [(0.0, slave.wrap(sent, device_id, slave.spoiled_pdu(pdu)[:-1] if pdu[0] < 5 else pdu[:4]))]


def noise_before(slave: Slave, sent: bytes) -> Parts:
    noise = (b"\x00", b"\xff", sent[:1], b"\x00\x00\x00", b"\xaa" * 11)[slave.variant % 5]
    return [(0.0, noise + slave.good(sent))]


def noise_after(slave: Slave, sent: bytes) -> Parts:
    """Somebody else's frame of the same form with more bytes behind it, in one piece."""
    device_id, pdu = slave.unwrap(sent)
    wrong = slave.wrap(sent, device_id, slave.spoiled_pdu(pdu) if pdu[0] < 5 else pdu[:5])
    return [
        (0.0, wrong + (b"\x00", b"\x00\x00", b"\xff", slave.good(sent) if pdu[0] < 5 else wrong)[slave.variant % 4])
    ]


def echo_of_request(slave: Slave, sent: bytes) -> Parts:
    return [(0.0, sent)]


def silence(slave: Slave, sent: bytes) -> Parts:
    return []


def stale_transaction(slave: Slave, sent: bytes) -> Parts:
    device_id, pdu = slave.unwrap(sent)
    number = (int.from_bytes(sent[:2], "big") - 1, 0)[slave.variant % 2]
    return [(0.0, number.to_bytes(2, "big") + slave.wrap(sent, device_id, slave.spoiled_pdu(pdu))[2:])]


def wrong_protocol(slave: Slave, sent: bytes) -> Parts:
    device_id, pdu = slave.unwrap(sent)
    return [(0.0, sent[:2] + b"\x00\x01" + slave.wrap(sent, device_id, slave.spoiled_pdu(pdu))[4:])]


def wrong_length(slave: Slave, sent: bytes) -> Parts:
    device_id, pdu = slave.unwrap(sent)
    frame = slave.wrap(sent, device_id, slave.spoiled_pdu(pdu))
    return [(0.0, frame[:4] + struct.pack(">H", len(frame) - 6 + (1, -1)[slave.variant % 2]) + frame[6:])]


FAULTS: dict[str, Callable[[Slave, bytes], Parts]] = {
    fault.__name__: fault
    for fault in (
        none,
        late_reply,
        wrong_unit,
        wrong_function,
        wrong_count,
        wrong_echo,
        crc_error,
        truncated,
        noise_before,
        noise_after,
        echo_of_request,
        silence,
        stale_transaction,
        wrong_protocol,
        wrong_length,
    )
}


def exchanges(framing: Framing, fault: str, device_id: int = 5) -> list[tuple[Request, Request]]:
    """Requests the fault can spoil, each with a good one after it that a stale answer would fit."""
    reads = [
        (framing.read(device_id, 4, 0x48, 2), framing.read(device_id, 4, 0x4A, 2)),
        (framing.read(device_id, 3, 0x2000, 14), framing.read(device_id, 3, 0x4000, 14)),
        (framing.read(device_id, 1, 0x0310, 20), framing.read(device_id, 1, 0x0324, 20)),
    ]
    single = [
        (framing.write(device_id, 5, 3, (0xFF00,)), framing.write(device_id, 5, 4, (0xFF00,))),
        (framing.write(device_id, 6, 0x1A, (1,)), framing.write(device_id, 6, 0x1B, (1,))),
    ]
    several = [(framing.write(device_id, 16, 0x1A, (1,)), framing.write(device_id, 16, 0x1C, (0,)))]
    if fault == "wrong_count":
        return reads
    if fault == "wrong_echo":
        return [*single, *several]
    if fault == "echo_of_request":  # to a single write the echo is the right answer: the read-back tells
        return [*reads, *several]
    return [*reads, *single, *several]


def believed_wrongly(slave: Slave, outcome: Outcome) -> bool:
    """Whether an outcome says something that is not so."""
    request = outcome.request
    if outcome.reason is not None:
        return False
    if request.is_write:
        return slave.written.get((request.function_code, request.address)) != request.words
    return outcome.words != slave.truth(request.function_code, request.address, request.count)


def converse(slave: Slave, timing: Timing, steps: Sequence[tuple[str, Request]]) -> list[Outcome]:
    """(fault, request) pairs through a Transaction, in time that only the machine itself asks for."""
    transaction = Transaction(slave.framing, timing)
    now, order = 0.0, count()
    coming: list[tuple[float, int, bytes]] = []
    outcomes: list[Outcome] = []
    waiting = list(steps)
    while waiting or not transaction.idle:
        outcome = None
        if transaction.idle:
            slave.fault, request = waiting.pop(0)
            transaction.submit(request, now)
        elif coming and coming[0][0] <= (transaction.get_timer() or now):
            now, _, data = heapq.heappop(coming)
            outcome = transaction.receive(data, now)
        else:
            now = max(now, transaction.get_timer() or now)
            outcome = transaction.handle_timer(now)
        sent = transaction.outgoing()
        for delay_s, data in slave.answer(sent) if sent else []:
            heapq.heappush(coming, (now + delay_s, next(order), data))
        if outcome is not None:
            outcomes.append(outcome)
    return outcomes


@dataclass
class Script:
    """A source of asks for a Talker: (fault, request) pairs, one after the other."""

    slave: Slave
    steps: list[tuple[str, Request]]
    outcomes: list[Outcome] = field(default_factory=list)
    finished: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def next_ask(self, now: float) -> Ask | None:
        if not self.steps:
            if not self.finished.done():
                self.finished.set_result(None)
            return None
        self.slave.fault, request = self.steps.pop(0)
        return Ask(request)

    def due_at(self) -> float | None:
        return None

    def take(self, ask: Ask, outcome: Outcome, now: float) -> None:
        self.outcomes.append(outcome)


class PtySlave:
    """The slave at the master end of a pseudo-terminal; the gateway opens `path`."""

    def __init__(self, slave: Slave) -> None:
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


async def talk_over_ptys(lines: int, timing: Timing, late_s: float, steps: list[tuple[str, Request]]) -> list[Any]:
    """The steps shared out over many lines that run side by side; (slave, outcomes) of each."""
    ends = [PtySlave(Slave()) for _ in range(lines)]
    scripts = []
    tasks = []
    for index, end in enumerate(ends):
        end.slave.late_s = late_s
        script = Script(end.slave, [step for pair in pairs_of(steps)[index::lines] for step in pair])
        talker = Talker(RTU, timing, script, lambda: None)
        scripts.append(script)
        tasks.append(asyncio.ensure_future(talker.serve(serial_opener(end.path, 115_200), lambda: None)))
    try:
        await asyncio.gather(*(script.finished for script in scripts))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            end.close()
    return [(script.slave, script.outcomes) for script in scripts]


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

    def __init__(self, slaves: dict[int, Slave], delay_s: float = 0.02) -> None:
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
        exchanges=exchanges,
        talk_over_ptys=talk_over_ptys,
        with_crc=with_crc,
    )


@pytest.fixture
def virtual() -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner.run
