"""Requests, and answers judged by a strict decoder of our own.

Units: registers and coils as whole numbers, lengths in bytes. An answer is believed only if every
check of its framing passes; each check has its own reason code and stands in a table, so a test can
take one out and show what it is there for. Source: Modbus Application Protocol V1.1b3, Modbus over
Serial Line V1.02, Modbus Messaging on TCP/IP V1.0b.
"""

import struct
from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from typing import Any, Final

from edge.core.lean import dataclass

READ_BITS: Final = (1, 2)
READ_REGISTERS: Final = (3, 4)
WRITE_SINGLE: Final = (5, 6)
WRITE_REGISTERS: Final = 16
COIL_ON: Final = 0xFF00
_EXCEPTION_FLAG: Final = 0x80
_CRC_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one device. `frame` is ready to send (MBAP: with a transaction id of 0 still)."""

    device_id: int
    function_code: int
    address: int
    count: int  # registers or coils
    words: tuple[int, ...]  # what is written; empty for a read
    frame: bytes
    answer_pdu_bytes: int  # length of the good answer, from function code to the last data byte
    is_write: bool = field(init=False, compare=False, repr=False)
    good_head: bytes = field(init=False, compare=False, repr=False)  # of the good answer to a read, from the device id
    rtu_answer_bytes: int = field(init=False, compare=False, repr=False)  # of the good answer to a read of registers

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_write", bool(self.words))
        head = bytes((self.device_id, self.function_code, (self.answer_pdu_bytes - 2) & 0xFF))
        object.__setattr__(self, "good_head", head)
        one_look = self.function_code in READ_REGISTERS and not self.is_write
        whole_bytes = 1 + self.answer_pdu_bytes + _CRC_BYTES
        object.__setattr__(self, "rtu_answer_bytes", whole_bytes if one_look else 0)  # 0: judged by the table alone


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true of an answer. `passes(request, sent, received)`."""

    reason: str
    passes: Callable[[Request, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Framing:
    """How a request becomes bytes and what an answer must look like."""

    name: str
    head_bytes: int  # before the function code
    tail_bytes: int  # after the data
    checks: tuple[Check, ...]

    @property
    def hears_itself(self) -> bool:
        """Whether each answer stands behind its request."""
        return False

    def read(self, device_id: int, function_code: int, address: int, count: int) -> Request:
        """Asks for `count` registers or coils."""
        assert function_code in READ_BITS + READ_REGISTERS
        assert 1 <= device_id <= 247
        data_bytes = (count + 7) // 8 if function_code in READ_BITS else 2 * count
        frame = _built(self.name, device_id, function_code, address, count, ())
        return Request(device_id, function_code, address, count, (), frame, 2 + data_bytes)

    def write(self, device_id: int, function_code: int, address: int, words: tuple[int, ...]) -> Request:
        """Writes one coil (0xFF00, 0x0000), one register or several. Device id 0, a broadcast, has no answer."""
        assert function_code in (*WRITE_SINGLE, WRITE_REGISTERS)
        assert 1 <= device_id <= 247
        assert words
        frame = _built(self.name, device_id, function_code, address, len(words), words)
        return Request(device_id, function_code, address, len(words), words, frame, 5)

    def stamped(self, request: Request, transaction_id: int) -> bytes:
        """The bytes to send: MBAP carries the transaction id, RTU has none."""
        assert 1 <= transaction_id <= 0xFFFF
        if self.name == "rtu":
            return request.frame
        return transaction_id.to_bytes(2, "big") + request.frame[2:]

    def whole_bytes(self, request: Request, received: bytes) -> int:
        """How long the whole answer is: known from the request, shorter for an exception."""
        is_exception = received[self.head_bytes : self.head_bytes + 1] == _exception_code(request)
        return self.head_bytes + (2 if is_exception else request.answer_pdu_bytes) + self.tail_bytes

    def good_registers(self, request: Request, sent: bytes, received: bytes) -> tuple[int, ...] | None:
        """The registers of an answer that passes every check of RTU. None says nothing: ask the checks.

        Nearly all answers pass, and this takes a third of the time of asking one check after the other. A serial
        port's wire does the same in C (native/src/line.c).
        """
        if (
            self.tail_bytes != _CRC_BYTES
            or len(received) != request.rtu_answer_bytes
            or not received.startswith(request.good_head)
            or received.startswith(sent)
            or crc16(received) != 0
        ):
            return None
        return registers_in(request, received)

    def first_failure(self, request: Request, sent: bytes, received: bytes) -> str | None:
        """Reason code of the first check that fails; None for an answer that may be believed."""
        for check in self.checks:
            if not check.passes(request, sent, received):
                return check.reason
        return None

    def exception(self, request: Request, received: bytes) -> int | str | None:
        """The exception code of a believed answer, None if it is a good one."""
        pdu = received[self.head_bytes :]
        return pdu[1] if pdu[:1] == _exception_code(request) else None

    def words(self, request: Request, received: bytes) -> tuple[int, ...]:
        """Registers or coils of a believed answer; nothing for a write."""
        if request.is_write:
            return ()
        data = received[self.head_bytes + 2 : len(received) - self.tail_bytes]
        if request.function_code in READ_BITS:
            bits = int.from_bytes(data, "little")
            return tuple(bits >> index & 1 for index in range(request.count))
        return _registers_of(len(data) // 2)(data, 0)

    def diagnose(self, request: Request, sent: bytes, received: bytes) -> str:
        """Names what went wrong with all that came until the line was silent. Nothing here is believed."""
        if not received:
            return "timeout"
        failure = self.first_failure(request, sent, received)
        if failure is None:
            return "late_reply"
        if failure == "echo_of_request":  # an adapter that hears itself: the answer may follow
            return failure
        for offset in range(1, len(received) - self.head_bytes):
            rest = received[offset:]
            if self.first_failure(request, sent, rest[: self.whole_bytes(request, rest)]) is None:
                return "noise_before"
        return failure


def registers_in(request: Request, received: Any) -> tuple[int, ...]:
    """The registers of an RTU answer that is known to be good; what stands behind it is not looked at."""
    return _registers_of(request.count)(received, 3)


@lru_cache(maxsize=128)
def _registers_of(count: int) -> Callable[[bytes, int], tuple[int, ...]]:
    return struct.Struct(f">{count}H").unpack_from


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS; 0 over a frame with its CRC means the frame is whole."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_table_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0xA001 if byte & 1 else byte >> 1
    return byte


_CRC_TABLE: Final = tuple(_crc_table_entry(byte) for byte in range(256))


_EXCEPTION_CODES: Final = tuple(bytes((code | _EXCEPTION_FLAG,)) for code in range(_EXCEPTION_FLAG))


def _exception_code(request: Request) -> bytes:
    return _EXCEPTION_CODES[request.function_code]


# The checks see slices, so a short answer fails the check for its length and none by accident.


def _is_not_our_own_request(request: Request, sent: bytes, received: bytes) -> bool:
    """The right answer to a single write equals the request, so only a read-back proves a write."""
    return request.function_code in WRITE_SINGLE or not received.startswith(sent)


def _device_id_matches(head_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        return received[head_bytes - 1 : head_bytes] in (b"", bytes((request.device_id,)))

    return passes


def _function_matches(head_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        function_code = received[head_bytes : head_bytes + 1]
        return function_code in (b"", bytes((request.function_code,)), _exception_code(request))

    return passes


def _byte_count_matches(head_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        if request.is_write or received[head_bytes : head_bytes + 1] == _exception_code(request):
            return True
        return received[head_bytes + 1 : head_bytes + 2] in (b"", bytes((request.answer_pdu_bytes - 2,)))

    return passes


def _echo_matches(head_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    """A write is answered with its own address and value (or count)."""

    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        if not request.is_write or received[head_bytes : head_bytes + 1] == _exception_code(request):
            return True
        echo = received[head_bytes + 1 : head_bytes + 5]
        return echo == sent[head_bytes + 1 : head_bytes + 1 + len(echo)]

    return passes


def _is_long_enough(head_bytes: int, tail_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        is_exception = received[head_bytes : head_bytes + 1] == _exception_code(request)
        return len(received) >= head_bytes + (2 if is_exception else request.answer_pdu_bytes) + tail_bytes

    return passes


def _is_no_longer(head_bytes: int, tail_bytes: int) -> Callable[[Request, bytes, bytes], bool]:
    def passes(request: Request, sent: bytes, received: bytes) -> bool:
        is_exception = received[head_bytes : head_bytes + 1] == _exception_code(request)
        return len(received) <= head_bytes + (2 if is_exception else request.answer_pdu_bytes) + tail_bytes

    return passes


def _crc_is_good(request: Request, sent: bytes, received: bytes) -> bool:
    return crc16(received) == 0


def _transaction_id_matches(request: Request, sent: bytes, received: bytes) -> bool:
    """Id 0 is never sent, so an answer that carries it is refused too."""
    return sent.startswith(received[:2])


def _protocol_id_is_modbus(request: Request, sent: bytes, received: bytes) -> bool:
    return b"\x00\x00".startswith(received[2:4])


def _mbap_length_matches(request: Request, sent: bytes, received: bytes) -> bool:
    is_exception = received[7:8] == _exception_code(request)
    length = 1 + (2 if is_exception else request.answer_pdu_bytes)
    return length.to_bytes(2, "big").startswith(received[4:6])


RTU: Final = Framing(
    name="rtu",
    head_bytes=1,
    tail_bytes=_CRC_BYTES,
    checks=(
        Check("echo_of_request", _is_not_our_own_request),
        Check("wrong_unit", _device_id_matches(1)),
        Check("wrong_function", _function_matches(1)),
        Check("wrong_count", _byte_count_matches(1)),
        Check("wrong_echo", _echo_matches(1)),
        Check("truncated", _is_long_enough(1, _CRC_BYTES)),
        Check("trailing_bytes", _is_no_longer(1, _CRC_BYTES)),
        Check("crc", _crc_is_good),
    ),
)

MBAP: Final = Framing(
    name="mbap",
    head_bytes=7,
    tail_bytes=0,
    checks=(
        Check("echo_of_request", _is_not_our_own_request),
        Check("wrong_transaction", _transaction_id_matches),
        Check("wrong_protocol", _protocol_id_is_modbus),
        Check("wrong_unit", _device_id_matches(7)),
        Check("wrong_function", _function_matches(7)),
        Check("wrong_length", _mbap_length_matches),
        Check("wrong_count", _byte_count_matches(7)),
        Check("wrong_echo", _echo_matches(7)),
        Check("truncated", _is_long_enough(7, 0)),
        Check("trailing_bytes", _is_no_longer(7, 0)),
    ),
)


@dataclass(frozen=True, slots=True)
class EchoedFraming(Framing):
    """RTU through an adapter that hears itself: the whole request comes back first, byte for byte, then the answer.

    The echo is expected at its place and never searched for. An answer without it is refused, and so is a
    damaged echo, which says that somebody else was talking.
    """

    @property
    def hears_itself(self) -> bool:
        return True

    def good_registers(self, request: Request, sent: bytes, received: bytes) -> tuple[int, ...] | None:
        """The same behind the echo."""
        if not received.startswith(sent):
            return None
        return Framing.good_registers(self, request, sent, received[len(sent) :])

    def whole_bytes(self, request: Request, received: bytes) -> int:
        echo_bytes = len(request.frame)
        return echo_bytes + Framing.whole_bytes(self, request, received[echo_bytes:])

    def first_failure(self, request: Request, sent: bytes, received: bytes) -> str | None:
        if received == sent:
            return "timeout"
        if not received.startswith(sent):
            if sent.startswith(received):
                return "truncated"
            bare = Framing.first_failure(self, request, sent, received)
            return "no_local_echo" if bare is None else "damaged_local_echo"
        return Framing.first_failure(self, request, sent, received[len(sent) :])

    def exception(self, request: Request, received: bytes) -> int | str | None:
        return Framing.exception(self, request, received[len(request.frame) :])

    def words(self, request: Request, received: bytes) -> tuple[int, ...]:
        return Framing.words(self, request, received[len(request.frame) :])

    def diagnose(self, request: Request, sent: bytes, received: bytes) -> str:
        if not received.startswith(sent) or received == sent:
            return (received and self.first_failure(request, sent, received)) or "timeout"
        return RTU.diagnose(request, sent, received[len(sent) :])


RTU_ECHOED: Final = EchoedFraming(RTU.name, RTU.head_bytes, RTU.tail_bytes, RTU.checks)

FRAMINGS: Final = {"rtu": RTU, "rtu_echoed": RTU_ECHOED, "mbap": MBAP}


def framing_of(name: str) -> Framing:
    """The framing of this name, DL/T 645 among them, which only a line that speaks it loads."""
    if name.startswith("dlt645"):
        from edge.bus.dlt645 import DLT645, DLT645_ECHOED

        return {"dlt645": DLT645, "dlt645_echoed": DLT645_ECHOED}[name]
    return FRAMINGS[name]


def _built(framing: str, device_id: int, function_code: int, address: int, count: int, words: tuple[int, ...]) -> bytes:
    """The whole request (V1.1b3, 6.1 to 6.12). Every one is compared with pymodbus's in tests/bus/test_frame.py."""
    if function_code in WRITE_SINGLE:
        body = struct.pack(">BHH", function_code, address, words[0])
    elif words:
        body = struct.pack(f">BHHB{count}H", function_code, address, count, 2 * count, *words)
    else:
        body = struct.pack(">BHH", function_code, address, count)
    unit = bytes((device_id,)) + body
    if framing == "mbap":
        return struct.pack(">HHH", 0, 0, len(unit)) + unit
    return unit + crc16(unit).to_bytes(_CRC_BYTES, "little")
