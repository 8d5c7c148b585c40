"""One line on a real pseudo-terminal: what pymodbus's server makes of our devices, byte by byte."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from hw.sim.device import Device, ExceptionCode
from hw.sim.line import SILENCE_S, Line
from hw.sim.relay_board import RelayBoard

GONE_S = 0.02  # long enough for a dead terminal to show
QUIET_STEPS, QUIET_STEP_S = 6, 0.01
DELAY_S = 0.05
Frame = Callable[[str], bytes]

# A request to device 7 and its answer, whole frames with their checksums.
READ_TWO = bytes.fromhex("07 03 0010 0002 c5a8")
ANSWER_TWO = bytes.fromhex("07 03 04 1234 5678 e707")


class Register:
    """A device with two registers from address 16 on; it remembers what it was asked."""

    def __init__(self) -> None:
        self.silent = False
        self.asked: list[tuple[int, int, int]] = []
        self.written: list[tuple[int, int, Sequence[int]]] = []

    def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
        self.asked.append((function_code, address, count))
        if function_code not in (3, 4):
            return ExceptionCode.ILLEGAL_FUNCTION
        return [0x1234, 0x5678][:count] if address == 16 else ExceptionCode.ILLEGAL_DATA_ADDRESS

    def write(self, function_code: int, address: int, values: Sequence[int]) -> ExceptionCode | None:
        self.written.append((function_code, address, values))
        return ExceptionCode.ILLEGAL_DATA_VALUE if values[0] == 9 else None


class Wire:
    """The gateway's end, asynchronous."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._heard = asyncio.Queue[bytes]()
        asyncio.get_running_loop().add_reader(self.descriptor, self._on_bytes)

    def _on_bytes(self) -> None:
        self._heard.put_nowait(os.read(self.descriptor, 1024))

    def write(self, data: bytes) -> None:
        os.write(self.descriptor, data)

    async def hear(self, count: int) -> bytes:
        """Exactly so many bytes, and nothing with them."""
        heard = b""
        async with asyncio.timeout(10):
            while len(heard) < count:
                heard += await self._heard.get()
        return heard

    async def is_quiet(self) -> bool:
        """Waits in steps, so that a busy machine cannot skip the turns of the loop that would bring an answer."""
        for _ in range(QUIET_STEPS):
            await asyncio.sleep(QUIET_STEP_S)
        return self._heard.empty()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.descriptor)
        os.close(self.descriptor)


Conversation = Callable[[Line, Wire, Register], Awaitable[None]]


def on_a_line(
    conversation: Conversation, devices: dict[int, Device] | None = None, silence_s: float = SILENCE_S
) -> None:
    """Runs a conversation on a fresh line with a device 7, and closes everything."""

    async def run() -> None:
        register = Register()
        descriptors_before = len(os.listdir("/proc/self/fd"))
        line = Line({7: register, **(devices or {})}, lambda: None, silence_s)
        await line.open()
        wire = Wire(line.gateway_path)
        try:
            await conversation(line, wire, register)
        finally:
            wire.close()
            await line.close()
        assert len(os.listdir("/proc/self/fd")) == descriptors_before

    asyncio.run(run())


def test_a_read_is_answered_to_the_byte() -> None:
    async def conversation(_line: Line, wire: Wire, register: Register) -> None:
        wire.write(READ_TWO)
        assert await wire.hear(9) == ANSWER_TWO
        assert register.asked == [(3, 16, 2)]

    on_a_line(conversation)


ANSWERS = [
    ("07 04 0010 0001", "07 04 02 1234"),
    ("07 03 0020 0001", "07 83 02"),  # unknown address
    ("07 01 0000 0001", "07 81 01"),  # a function this device has not got
    ("07 02 0000 0001", "07 82 01"),
    ("07 11", "07 91 01"),  # pymodbus would answer these three itself
    ("07 08 0000 1234", "07 88 01"),
    ("07 2b 0e 01 00", "07 ab 01"),
    ("07 06 0010 0001", "07 06 0010 0001"),
    ("07 06 0010 0009", "07 86 03"),
    ("07 10 0010 0001 02 0001", "07 10 0010 0001"),
    ("07 10 0010 0002 02 0001", "07 90 03"),  # two announced, one sent
    ("07 05 0003 ff00", "07 05 0003 ff00"),
    ("07 05 0003 0000", "07 05 0003 0000"),
    ("07 0f 0000 0003 01 05", "07 0f 0000 0003"),
]


@pytest.mark.parametrize(("request_", "answer"), ANSWERS)
def test_requests_and_their_answers(request_: str, answer: str, frame: Frame) -> None:
    async def conversation(_line: Line, wire: Wire, _register: Register) -> None:
        wire.write(frame(request_))
        expected = frame(answer)
        assert await wire.hear(len(expected)) == expected

    on_a_line(conversation)


def test_written_bits_reach_the_device_in_order(frame: Frame) -> None:
    async def conversation(_line: Line, wire: Wire, register: Register) -> None:
        wire.write(frame("07 0f 0002 0003 01 05"))
        await wire.hear(8)
        assert register.written == [(15, 2, [1, 0, 1])]

    on_a_line(conversation)


def test_a_relay_board_is_read_back_over_the_wire(frame: Frame) -> None:
    async def conversation(_line: Line, wire: Wire, _register: Register) -> None:
        wire.write(frame("64 05 0002 0000"))
        assert await wire.hear(8) == frame("64 05 0002 0000")
        wire.write(frame("64 01 0000 0008"))
        assert await wire.hear(6) == frame("64 01 01 fb")

    on_a_line(conversation, {100: RelayBoard()})


@pytest.mark.parametrize("request_", ["08 03 0010 0002", "00 03 0010 0002", "08 11", "08 06 0010 0001"])
def test_nobody_answers_for_a_device_that_is_not_there(request_: str, frame: Frame) -> None:
    async def conversation(_line: Line, wire: Wire, register: Register) -> None:
        wire.write(frame(request_))
        assert await wire.is_quiet()
        wire.write(READ_TWO)
        assert await wire.hear(9) == ANSWER_TWO
        assert register.asked == [(3, 16, 2)]

    on_a_line(conversation)


def test_a_silent_device_gives_no_answer_of_any_kind_and_later_speaks_again(frame: Frame) -> None:
    async def conversation(_line: Line, wire: Wire, register: Register) -> None:
        register.silent = True
        for request in (READ_TWO, frame("07 01 0000 0001"), frame("07 06 0010 0001"), frame("07 11")):
            wire.write(request)
            assert await wire.is_quiet()
        assert (register.asked, register.written) == ([], [])
        register.silent = False
        wire.write(READ_TWO)
        assert await wire.hear(9) == ANSWER_TWO

    on_a_line(conversation)


@pytest.mark.parametrize("rubbish", ["07 03 00", "07 10 0010 0040 80", "ff ff ff ff", "07 03 0010 0002 0000", "05"])
def test_rubbish_is_forgotten_after_a_silence(rubbish: str) -> None:
    async def conversation(_line: Line, wire: Wire, _register: Register) -> None:
        for _ in range(3):
            wire.write(bytes.fromhex(rubbish))
            assert await wire.is_quiet()
            wire.write(READ_TWO)
            assert await wire.hear(9) == ANSWER_TWO

    on_a_line(conversation)


def test_a_request_in_pieces_is_one_request() -> None:
    async def conversation(_line: Line, wire: Wire, register: Register) -> None:
        for byte in READ_TWO:
            wire.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await wire.hear(9) == ANSWER_TWO
        assert await wire.is_quiet()
        assert register.asked == [(3, 16, 2)]

    on_a_line(conversation, silence_s=60)


def test_every_request_brings_the_street_up_to_date_first() -> None:
    async def run() -> None:
        calls: list[str] = []

        class Noted(Register):
            def read(self, function_code: int, address: int, count: int) -> Sequence[int] | ExceptionCode:
                calls.append("read")
                return super().read(function_code, address, count)

        line = Line({7: Noted()}, lambda: calls.append("advance"))
        await line.open()
        wire = Wire(line.gateway_path)
        wire.write(READ_TWO)
        await wire.hear(9)
        wire.close()
        await line.close()
        assert calls == ["advance", "read"]

    asyncio.run(run())


def test_a_fault_can_drop_spoil_and_delay_in_either_direction() -> None:
    async def conversation(line: Line, wire: Wire, register: Register) -> None:
        line.fault_to_devices = lambda _data: []
        wire.write(READ_TWO)
        assert await wire.is_quiet()
        assert register.asked == []

        line.fault_to_devices = None
        line.fault_to_gateway = lambda data: [(0.0, data[:4]), (DELAY_S, data[4:-1] + b"\xff")]
        began = asyncio.get_running_loop().time()
        wire.write(READ_TWO)
        assert await wire.hear(4) == ANSWER_TWO[:4]
        assert await wire.hear(5) == ANSWER_TWO[4:-1] + b"\xff"
        assert asyncio.get_running_loop().time() - began >= DELAY_S

        line.fault_to_gateway = None
        wire.write(READ_TWO)
        assert await wire.hear(9) == ANSWER_TWO

    on_a_line(conversation)


def test_the_terminal_stays_alive_while_no_gateway_has_it_open() -> None:
    async def run() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        line = Line({7: Register()}, lambda: None)
        await line.open()
        for _ in range(3):
            wire = Wire(line.gateway_path)
            wire.write(READ_TWO)
            assert await wire.hear(9) == ANSWER_TWO
            wire.close()
            await asyncio.sleep(GONE_S)
        await line.close()
        assert complaints == []

    asyncio.run(run())
