"""A scripted Modbus device that keeps a number for every address, and all the ways a line spoils its answers.

None of it is pymodbus, and its CRC is its own. `FAULTS` is a table: a function that makes what comes
back out of what was sent, and for RTU and Modbus TCP the reason codes under which it may be reported
("good": the answer is right all the same, and may be believed). Times are seconds from the request.
Source: Modbus Application Protocol V1.1b3, Modbus over Serial Line V1.02, Modbus Messaging on TCP/IP V1.0b.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hw.sim.world.lines import with_crc

Parts = list[tuple[float, bytes]]
Kind = Literal["rtu", "mbap"]

GOOD: Final = "good"
# A connection that ends: not bytes, so it stands where no bytes can.
CLOSED: Final = b"closed by the other side"
# The answer to a request of another device id, another function ... carries numbers nobody asked for.
SPOILED: Final = 0x5A5A
OTHER_FUNCTION: Final = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 16: 15}
READ_BITS: Final = (1, 2)
READS: Final = (1, 2, 3, 4)
BYTE_S: Final = 11 / 9600
REOPENED_S: Final = 1.0  # a lost port is opened again so much later


class ScriptedDevice:
    """Answers every request it is sent, in RTU or MBAP, and applies what is written; `fault` names what goes wrong."""

    def __init__(self, framing: Kind = "rtu") -> None:
        self.framing: Kind = framing
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
        return tuple(word & 1 for word in words) if function_code in READ_BITS else words

    def hold_float(self, function_code: int, address: int, value: float) -> None:
        """Puts a float32 into two registers, high word first."""
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        self.registers[function_code, address], self.registers[function_code, address + 1] = high, low

    def answer(self, sent: bytes) -> Parts:
        """What comes back, as (seconds from now, bytes)."""
        if self.fault == "none":
            return [(self.latency_s, self.good(sent))]
        self.variant += 1
        return FAULTS[self.fault].spoil(self, sent)

    def good(self, sent: bytes) -> bytes:
        """The right answer; a write is done."""
        return self.frame(sent, self.good_pdu(self.pdu(sent)))

    def good_pdu(self, pdu: bytes, spoil: int = 0) -> bytes:
        """The right answer from its function code on."""
        function_code, address, number = struct.unpack_from(">BHH", pdu)
        if function_code not in READS:
            self._take_write(function_code, address, (number,) if function_code != 16 else _words_of(pdu[6:]))
            return pdu[:5]
        if any((function_code, at) in self.holes for at in range(address, address + number)):
            return bytes((function_code | 0x80, 2))
        words = [word ^ spoil for word in self.truth(function_code, address, number)]
        data = _bits_of(words) if function_code in READ_BITS else struct.pack(f">{number}H", *words)
        return bytes((function_code, len(data))) + data

    def lie(self, sent: bytes) -> bytes:
        """Right in form and not so: other numbers, or a confirmation of what was never done."""
        pdu = self.pdu(sent)
        if pdu[0] not in READS:
            return pdu[:5]
        if pdu[0] in READ_BITS:
            good = self.good_pdu(pdu)
            return good[:2] + bytes(byte ^ 0x55 for byte in good[2:])
        return self.good_pdu(pdu, SPOILED)

    def stale(self, sent: bytes) -> bytes:
        """An old answer that has the form of the new one: to another address, or to an older write."""
        pdu = self.pdu(sent)
        if pdu[0] not in READS:
            return pdu[:2] + bytes((pdu[2] ^ 1,)) + pdu[3:5]
        function_code, address, count = struct.unpack_from(">BHH", pdu)
        return self.good_pdu(struct.pack(">BHH", function_code, (address + 0x101) & 0x7FFF, count), 0x0101)

    def pdu(self, frame: bytes) -> bytes:
        """A frame from its function code on."""
        return frame[1:-2] if self.framing == "rtu" else frame[7:]

    def unit(self, frame: bytes) -> int:
        """A frame's device id."""
        return frame[0] if self.framing == "rtu" else frame[6]

    def frame(self, sent: bytes, pdu: bytes, device_id: int | None = None, transaction_id: int | None = None) -> bytes:
        """A whole answer; its head is that of the request unless something else is given."""
        unit = self.unit(sent) if device_id is None else device_id
        if self.framing == "rtu":
            return with_crc(bytes((unit,)) + pdu)
        head = sent[:2] if transaction_id is None else (transaction_id & 0xFFFF).to_bytes(2, "big")
        return head + struct.pack(">HHB", 0, len(pdu) + 1, unit) + pdu

    def transaction_id(self, sent: bytes) -> int:
        """The number of a Modbus TCP request; 0 in RTU, which has none."""
        return int.from_bytes(sent[:2], "big") if self.framing == "mbap" else 0

    def _take_write(self, function_code: int, address: int, words: tuple[int, ...]) -> None:
        self.written[function_code, address] = words
        if not self.obeys:
            return
        if function_code == 5:
            self.registers[1, address] = int(words[0] == 0xFF00)
        else:
            self.registers.update({(3, address + index): word for index, word in enumerate(words)})


def _words_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


def _bits_of(words: Sequence[int]) -> bytes:
    number = sum((word & 1) << index for index, word in enumerate(words))
    return number.to_bytes((len(words) + 7) // 8, "little")


Spoil = Callable[[ScriptedDevice, bytes], Parts]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: what comes, and how it may be named. No reasons for a framing: it does not happen there."""

    spoil: Spoil
    rtu: frozenset[str] = frozenset()
    mbap: frozenset[str] = frozenset()
    of: Literal["all", "reads", "writes", "proven"] = "all"  # proven: not single writes, whose answer is their echo

    def reasons(self, framing: Kind) -> frozenset[str]:
        """How it may be named in a framing."""
        return self.rtu if framing == "rtu" else self.mbap

    def spoils(self, framing: Kind, function_code: int) -> bool:
        """Whether it can befall a request."""
        if not self.reasons(framing):
            return False
        fits = {"reads": READS, "writes": (5, 6, 16), "proven": (*READS, 16)}
        return self.of == "all" or function_code in fits[self.of]


def _row(spoil: Spoil, rtu: str = "", mbap: str = "", of: Literal["all", "reads", "writes", "proven"] = "all") -> Fault:
    return Fault(spoil, frozenset(rtu.split()), frozenset(mbap.split()), of)


# --- silence, and what comes too late --------------------------------------------------------


def silence(device: ScriptedDevice, sent: bytes) -> Parts:
    """Nothing comes."""
    return []


def late_reply(device: ScriptedDevice, sent: bytes) -> Parts:
    """The right answer, after the timeout."""
    return [(device.late_s, device.good(sent))]


def late_reply_twice(device: ScriptedDevice, sent: bytes) -> Parts:
    """The same late answer again, as from a repeater."""
    answer = device.good(sent)
    return [(device.late_s, answer), (1.1 * device.late_s, answer)]


def stale_reply_late(device: ScriptedDevice, sent: bytes) -> Parts:
    """Instead of an answer, an old one of equal length, after the timeout."""
    return [(device.late_s, device.frame(sent, device.stale(sent), None, device.transaction_id(sent) - 1))]


def stale_reply_before(device: ScriptedDevice, sent: bytes) -> Parts:
    """An old answer of equal length and the right one, in one piece."""
    stale = device.frame(sent, device.stale(sent), None, device.transaction_id(sent) - 1)
    return [(0.0, stale + device.good(sent))]


def stale_reply_behind(device: ScriptedDevice, sent: bytes) -> Parts:
    """The right answer and an old one of equal length, in one piece."""
    stale = device.frame(sent, device.stale(sent), None, device.transaction_id(sent) - 1)
    return [(0.0, device.good(sent) + stale)]


# --- somebody else's answer ------------------------------------------------------------------


def wrong_unit(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another device answers."""
    return [(0.0, device.frame(sent, device.lie(sent), device.unit(sent) + 1 + device.variant % 3))]


def unit_0(device: ScriptedDevice, sent: bytes) -> Parts:
    """An answer with the device id of broadcasts."""
    return [(0.0, device.frame(sent, device.lie(sent), 0))]


def unit_255(device: ScriptedDevice, sent: bytes) -> Parts:
    """A gateway answers in its own name."""
    return [(0.0, device.frame(sent, device.lie(sent), 255))]


def data_of_another_unit(device: ScriptedDevice, sent: bytes) -> Parts:
    """Our head, another device's data and the checksum of its frame: two senders, one cut off by the other."""
    other = device.frame(sent, device.lie(sent), device.unit(sent) + 1)
    return [(0.0, bytes((device.unit(sent),)) + other[1:])]


def foreign_request(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another master's request to another device, heard in front of the answer."""
    foreign = with_crc(struct.pack(">BBHH", device.unit(sent) % 247 + 1, 3, 0, 2))
    return [(0.0, foreign + device.good(sent))]


# --- the content does not fit ----------------------------------------------------------------


def wrong_function(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer to a request of another function."""
    lie = device.lie(sent)
    return [(0.0, device.frame(sent, bytes((OTHER_FUNCTION[lie[0]],)) + lie[1:]))]


def unknown_function(device: ScriptedDevice, sent: bytes) -> Parts:
    """A function code that Modbus does not have."""
    code = (0, 0x3F, 0x7F, 0x80)[device.variant % 4]
    return [(0.0, device.frame(sent, bytes((code,)) + device.lie(sent)[1:]))]


def wrong_count(device: ScriptedDevice, sent: bytes) -> Parts:
    """The count says something else; the frame is as long as wanted, shorter or longer."""
    lie = device.lie(sent)
    data = (lie[2:], lie[2:-1], lie[2:] + b"\x00")[device.variant % 3]
    declared = lie[1] + (2 if device.variant % 2 else -1) if device.variant % 3 == 0 else len(data)
    return [(0.0, device.frame(sent, bytes((lie[0], declared)) + data))]


def odd_count(device: ScriptedDevice, sent: bytes) -> Parts:
    """A count that is no whole number of registers, over a frame of the right length."""
    lie = device.lie(sent)
    return [(0.0, device.frame(sent, bytes((lie[0], lie[1] + (1, -1)[device.variant % 2])) + lie[2:]))]


def count_0(device: ScriptedDevice, sent: bytes) -> Parts:
    """A count of 0, over the data or over nothing."""
    lie = device.lie(sent)
    return [(0.0, device.frame(sent, bytes((lie[0], 0)) + (lie[2:], b"")[device.variant % 2]))]


def count_bit_repaired(device: ScriptedDevice, sent: bytes) -> Parts:
    """One bit of the count turned, and the checksum made to fit."""
    lie = device.lie(sent)
    return [(0.0, device.frame(sent, bytes((lie[0], lie[1] ^ 1 << device.variant % 8)) + lie[2:]))]


def one_register_less(device: ScriptedDevice, sent: bytes) -> Parts:
    """A sound answer to a shorter request."""
    lie = device.lie(sent)
    cut = 1 if lie[0] in READ_BITS else 2
    return [(0.0, device.frame(sent, bytes((lie[0], lie[1] - cut)) + lie[2:-cut]))]


def one_register_more(device: ScriptedDevice, sent: bytes) -> Parts:
    """A sound answer to a longer request."""
    lie = device.lie(sent)
    more = b"\x00" if lie[0] in READ_BITS else b"\x00\x00"
    return [(0.0, device.frame(sent, bytes((lie[0], lie[1] + len(more))) + lie[2:] + more))]


def wrong_echo_address(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another coil or register is confirmed, and nothing was switched."""
    echo = bytearray(device.pdu(sent)[:5])
    echo[1 + device.variant % 2] ^= 1 << device.variant // 2 % 8
    return [(0.0, device.frame(sent, bytes(echo)))]


def wrong_echo_value(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another value or count is confirmed, and nothing was switched."""
    echo = bytearray(device.pdu(sent)[:5])
    echo[3 + device.variant % 2] ^= 1 << device.variant // 2 % 8
    return [(0.0, device.frame(sent, bytes(echo)))]


# --- damaged ---------------------------------------------------------------------------------


def crc_error(device: ScriptedDevice, sent: bytes) -> Parts:
    """A bit of the data turned, or of the checksum where there is no data."""
    frame = bytearray(device.good(sent))
    if frame[1] < 5:
        frame[3 + device.variant % (len(frame) - 5)] ^= 1 << device.variant % 8
    else:
        frame[-1 - device.variant % 2] ^= 0x10
    return [(0.0, bytes(frame))]


def crc_bytes_swapped(device: ScriptedDevice, sent: bytes) -> Parts:
    """The checksum high byte first, as some write it."""
    frame = device.frame(sent, device.lie(sent))
    return [(0.0, frame[:-2] + (frame[:-3:-1] if frame[-1] != frame[-2] else b"\x00\x00"))]


def bit_flip(device: ScriptedDevice, sent: bytes) -> Parts:
    """One bit turned anywhere."""
    frame = bytearray(device.good(sent))
    place = device.variant * 11 % (8 * len(frame))
    frame[place // 8] ^= 1 << place % 8
    return [(0.0, bytes(frame))]


def burst(device: ScriptedDevice, sent: bytes) -> Parts:
    """Up to two bytes in a row damaged, as by a contact that switches nearby."""
    frame = bytearray(device.good(sent))
    place = device.variant % (len(frame) - 1)
    frame[place] ^= 1 + device.variant * 29 % 255
    frame[place + 1] ^= device.variant * 53 % 256
    return [(0.0, bytes(frame))]


def truncated(device: ScriptedDevice, sent: bytes) -> Parts:
    """Cut off after any byte."""
    frame = device.good(sent)
    return [(0.0, frame[: 1 + device.variant % (len(frame) - 1)])]


def short_with_good_checksum(device: ScriptedDevice, sent: bytes) -> Parts:
    """A byte of the data is missing, and checksum or head were made for what is there."""
    return [(0.0, device.frame(sent, device.lie(sent)[:-1]))]


def first_byte_lost(device: ScriptedDevice, sent: bytes) -> Parts:
    """An adapter that turns round too late."""
    return [(0.0, device.good(sent)[1 + device.variant % 2 :])]


def byte_lost(device: ScriptedDevice, sent: bytes) -> Parts:
    """One byte is missing inside."""
    frame = device.good(sent)
    place = 1 + device.variant % (len(frame) - 2)
    return [(0.0, frame[:place] + frame[place + 1 :])]


def byte_doubled(device: ScriptedDevice, sent: bytes) -> Parts:
    """One byte came twice."""
    frame = device.good(sent)
    place = device.variant % len(frame)
    return [(0.0, frame[: place + 1] + frame[place:])]


def line_break(device: ScriptedDevice, sent: bytes) -> Parts:
    """As many zeros, or as many ones, as the answer has bytes."""
    return [(0.0, (b"\x00", b"\xff")[device.variant % 2] * len(device.good(sent)))]


# --- too much --------------------------------------------------------------------------------


def noise_before(device: ScriptedDevice, sent: bytes) -> Parts:
    """Stray bytes and the answer, in one piece."""
    noise = (b"\x00", b"\xff", sent[:1], b"\x00\x00\x00", b"\xaa" * 11)[device.variant % 5]
    return [(0.0, noise + device.good(sent))]


def noise_before_apart(device: ScriptedDevice, sent: bytes) -> Parts:
    """Stray bytes, a pause, the answer."""
    noise = (b"\x00", b"\xff", sent[:1])[device.variant % 3]
    return [(0.0, noise), (4 * BYTE_S, device.good(sent))]


def noise_inside(device: ScriptedDevice, sent: bytes) -> Parts:
    """Stray bytes in the middle of the answer."""
    frame = device.good(sent)
    place = 1 + device.variant % (len(frame) - 1)
    return [(0.0, frame[:place] + (b"\x00", b"\xff\xff", b"\x55")[device.variant % 3] + frame[place:])]


def noise_after(device: ScriptedDevice, sent: bytes) -> Parts:
    """Somebody else's frame of the same form with more bytes behind it, in one piece."""
    lie = device.frame(sent, device.lie(sent))
    good = device.good(sent) if sent_reads(device, sent) else lie
    return [(0.0, lie + (b"\x00", b"\x00\x00", b"\xff", good)[device.variant % 4])]


def noise_after_apart(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer, and a stray byte within the gap behind it."""
    return [(0.0, device.good(sent)), (BYTE_S, (b"\x00", b"\xff")[device.variant % 2])]


def noise_instead(device: ScriptedDevice, sent: bytes) -> Parts:
    """Bytes that mean nothing."""
    length = 1 + device.variant * 7 % 40
    return [(0.0, bytes((device.variant * 31 + index * 97 + 5) & 0xFF for index in range(length)))]


def doubled(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer twice, in one piece."""
    return [(0.0, 2 * device.good(sent))]


def doubled_apart(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer twice, the second within the gap behind the first."""
    answer = device.good(sent)
    return [(0.0, answer), (BYTE_S, answer)]


def ascii_frame(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer in Modbus ASCII."""
    body = bytes((device.unit(sent),)) + device.good_pdu(device.pdu(sent))
    return [(0.0, b":" + (body + bytes((-sum(body) & 0xFF,))).hex().upper().encode() + b"\r\n")]


# --- echo ------------------------------------------------------------------------------------


def echo_of_request(device: ScriptedDevice, sent: bytes) -> Parts:
    """The adapter hears itself, and nobody answers."""
    return [(0.0, sent)]


def echo_and_answer(device: ScriptedDevice, sent: bytes) -> Parts:
    """The adapter hears itself, then the answer comes, in one piece or two."""
    answer = device.good(sent)
    return [(0.0, sent + answer)] if device.variant % 2 else [(0.0, sent), (2 * BYTE_S, answer)]


def half_echo_and_answer(device: ScriptedDevice, sent: bytes) -> Parts:
    """The end of the request is heard in front of the answer."""
    return [(0.0, sent[1 + device.variant % (len(sent) - 1) :] + device.good(sent))]


# --- exceptions ------------------------------------------------------------------------------


def exception(device: ScriptedDevice, sent: bytes) -> Parts:
    """The device says no: 1 to 11."""
    return [(0.0, device.frame(sent, bytes((sent_function(device, sent) | 0x80, 1 + device.variant % 11))))]


def exception_unknown(device: ScriptedDevice, sent: bytes) -> Parts:
    """A refusal with a number that Modbus does not have."""
    return [(0.0, device.frame(sent, bytes((sent_function(device, sent) | 0x80, (0, 12, 255)[device.variant % 3]))))]


def exception_of_another_function(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another request is refused."""
    return [(0.0, device.frame(sent, bytes((OTHER_FUNCTION[sent_function(device, sent)] | 0x80, 2))))]


def exception_of_another_unit(device: ScriptedDevice, sent: bytes) -> Parts:
    """Another device refuses."""
    return [(0.0, device.frame(sent, bytes((sent_function(device, sent) | 0x80, 2)), device.unit(sent) + 1))]


def exception_damaged(device: ScriptedDevice, sent: bytes) -> Parts:
    """A refusal with a wrong checksum."""
    frame = bytearray(device.frame(sent, bytes((sent_function(device, sent) | 0x80, 2))))
    frame[2 + device.variant % 3] ^= 0x04
    return [(0.0, bytes(frame))]


def exception_truncated(device: ScriptedDevice, sent: bytes) -> Parts:
    """A refusal that broke off."""
    return [(0.0, device.frame(sent, bytes((sent_function(device, sent) | 0x80, 2)))[:-1])]


def exception_and_answer(device: ScriptedDevice, sent: bytes) -> Parts:
    """A refusal and an answer, in one piece."""
    refusal = device.frame(sent, bytes((sent_function(device, sent) | 0x80, 2)))
    return [(0.0, refusal + device.frame(sent, device.lie(sent)))]


# --- pauses ----------------------------------------------------------------------------------


def pause(characters: float) -> Spoil:
    """The answer in two pieces, that many characters apart."""

    def spoil(device: ScriptedDevice, sent: bytes) -> Parts:
        frame = device.good(sent)
        place = 1 + device.variant % (len(frame) - 1)
        return [(0.0, frame[:place]), (characters * BYTE_S, frame[place:])]

    return spoil


def pause_beyond_the_timeout(device: ScriptedDevice, sent: bytes) -> Parts:
    """The second half of the answer comes after the timeout."""
    frame = device.good(sent)
    place = 1 + device.variant % (len(frame) - 1)
    return [(0.0, frame[:place]), (device.late_s, frame[place:])]


def byte_by_byte(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer a byte at a time, or a segment a byte."""
    return [(index * BYTE_S, bytes((byte,))) for index, byte in enumerate(device.good(sent))]


def dribble(device: ScriptedDevice, sent: bytes) -> Parts:
    """Bytes one after the other without an end in sight."""
    noise = (0x00, 0xFF, device.unit(sent), 0x55)[device.variant % 4]
    return [(index * 3 * BYTE_S, bytes((noise,))) for index in range(100)]


# --- two at once -----------------------------------------------------------------------------


def collision(device: ScriptedDevice, sent: bytes) -> Parts:
    """Two devices together: the line shows what both agree on, or neither."""
    mine, other = device.good(sent), device.frame(sent, device.lie(sent), device.unit(sent) + 1)
    pairs = zip(mine, other, strict=True)
    return [(0.0, bytes(a & b if device.variant % 2 else a | b for a, b in pairs))]


def collision_shifted(device: ScriptedDevice, sent: bytes) -> Parts:
    """Two devices together, the second a few characters later."""
    mine, other = device.good(sent), device.frame(sent, device.lie(sent), device.unit(sent) + 1)
    shift = 1 + device.variant % (len(mine) - 1)
    both = bytes(a & b for a, b in zip(mine[shift:], other, strict=False))
    return [(0.0, mine[:shift] + both + other[len(mine) - shift :])]


def two_interleaved(device: ScriptedDevice, sent: bytes) -> Parts:
    """Two devices' bytes in turn."""
    mine, other = device.good(sent), device.frame(sent, device.lie(sent), device.unit(sent) + 1)
    return [(0.0, bytes(byte for pair in zip(mine, other, strict=True) for byte in pair))]


def two_with_one_id(device: ScriptedDevice, sent: bytes) -> Parts:
    """Two meters of one device id, one after the other, in one piece."""
    return [(0.0, device.good(sent) + device.frame(sent, device.lie(sent)))]


# --- Modbus TCP ------------------------------------------------------------------------------


def transaction_before(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer to the request before."""
    return [(0.0, device.frame(sent, device.lie(sent), None, device.transaction_id(sent) - 1))]


def transaction_ahead(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer to a request that was not made yet."""
    return [(0.0, device.frame(sent, device.lie(sent), None, device.transaction_id(sent) + 1))]


def transaction_0(device: ScriptedDevice, sent: bytes) -> Parts:
    """A server that does not copy the transaction id."""
    return [(0.0, device.frame(sent, device.lie(sent), None, 0))]


def transaction_swapped(device: ScriptedDevice, sent: bytes) -> Parts:
    """The transaction id low byte first."""
    return [(0.0, sent[1::-1] + device.frame(sent, device.lie(sent))[2:])]


def stale_transaction(device: ScriptedDevice, sent: bytes) -> Parts:
    """The answer before, or id 0."""
    return (transaction_before, transaction_0)[device.variant % 2](device, sent)


def wrong_protocol(device: ScriptedDevice, sent: bytes) -> Parts:
    """Something that is not Modbus."""
    return [(0.0, sent[:2] + b"\x00\x01" + device.frame(sent, device.lie(sent))[4:])]


def _with_length(device: ScriptedDevice, sent: bytes, length: int) -> Parts:
    frame = device.frame(sent, device.lie(sent))
    return [(0.0, frame[:4] + struct.pack(">H", length) + frame[6:])]


def wrong_length(device: ScriptedDevice, sent: bytes) -> Parts:
    """The head says one byte more or less than there is."""
    right = len(device.lie(sent)) + 1
    return _with_length(device, sent, right + (1, -1)[device.variant % 2])


def length_0(device: ScriptedDevice, sent: bytes) -> Parts:
    """The head says that nothing follows."""
    return _with_length(device, sent, device.variant % 2)


def length_huge(device: ScriptedDevice, sent: bytes) -> Parts:
    """The head promises more than Modbus allows."""
    return _with_length(device, sent, (0xFFFF, 0x0100, 255)[device.variant % 3])


def length_too_large(device: ScriptedDevice, sent: bytes) -> Parts:
    """The head says and the segment has two bytes more."""
    frame = device.frame(sent, device.lie(sent) + b"\x00\x00")
    return [(0.0, frame)]


def head_only(device: ScriptedDevice, sent: bytes) -> Parts:
    """The head comes and nothing after it."""
    return [(0.0, device.frame(sent, device.lie(sent))[:7])]


def rtu_in_tcp(device: ScriptedDevice, sent: bytes) -> Parts:
    """A transparent server on the other side: RTU frames, and the address says Modbus TCP."""
    return [(0.0, with_crc(bytes((device.unit(sent),)) + device.lie(sent)))]


def closed_in_the_middle(device: ScriptedDevice, sent: bytes) -> Parts:
    """Half an answer, and the connection is closed."""
    frame = device.good(sent)
    return [(0.0, frame[: 1 + device.variant % (len(frame) - 1)]), (0.0, CLOSED)]


def late_after_reconnect(device: ScriptedDevice, sent: bytes) -> Parts:
    """The connection is closed; the answer comes on the next one."""
    return [(0.0, CLOSED), (REOPENED_S + 20 * BYTE_S, device.frame(sent, device.lie(sent)))]


def sent_function(device: ScriptedDevice, sent: bytes) -> int:
    """The function code of a request."""
    return device.pdu(sent)[0]


def sent_reads(device: ScriptedDevice, sent: bytes) -> bool:
    """Whether a request is a read."""
    return sent_function(device, sent) in READS


_EXCEPTIONS = " ".join(f"exception_{code}" for code in range(1, 12))
_UNKNOWN = "exception_0 exception_12 exception_255"
_DAMAGED = "crc wrong_unit wrong_function wrong_count wrong_echo truncated trailing_bytes noise_before"
_MBAP_DAMAGED = (
    "wrong_transaction wrong_protocol wrong_unit wrong_function wrong_length wrong_count wrong_echo truncated "
    "trailing_bytes noise_before"
)

FAULTS: Final[dict[str, Fault]] = {
    "silence": _row(silence, "timeout", "timeout"),
    "late_reply": _row(late_reply, "late_reply", "late_reply"),
    "late_reply_twice": _row(late_reply_twice, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "stale_reply_late": _row(stale_reply_late, "late_reply wrong_echo", "wrong_transaction"),
    "stale_reply_before": _row(stale_reply_before, "noise_before trailing_bytes", "noise_before"),
    "stale_reply_behind": _row(stale_reply_behind, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "wrong_unit": _row(wrong_unit, "wrong_unit", "wrong_unit"),
    "unit_0": _row(unit_0, "wrong_unit", "wrong_unit"),
    "unit_255": _row(unit_255, "wrong_unit", "wrong_unit"),
    "data_of_another_unit": _row(data_of_another_unit, "crc"),
    "foreign_request": _row(foreign_request, "noise_before", "noise_before"),
    "wrong_function": _row(wrong_function, "wrong_function", "wrong_function"),
    "unknown_function": _row(unknown_function, "wrong_function", "wrong_function"),
    "wrong_count": _row(wrong_count, "wrong_count", "wrong_count wrong_length", "reads"),
    "odd_count": _row(odd_count, "wrong_count", "wrong_count", "reads"),
    "count_0": _row(count_0, "wrong_count", "wrong_count wrong_length", "reads"),
    "count_bit_repaired": _row(count_bit_repaired, "wrong_count", "wrong_count", "reads"),
    "one_register_less": _row(one_register_less, "wrong_count", "wrong_length", "reads"),
    "one_register_more": _row(one_register_more, "wrong_count", "wrong_length", "reads"),
    "wrong_echo_address": _row(wrong_echo_address, "wrong_echo", "wrong_echo", "writes"),
    "wrong_echo_value": _row(wrong_echo_value, "wrong_echo", "wrong_echo", "writes"),
    "crc_error": _row(crc_error, "crc"),
    "crc_bytes_swapped": _row(crc_bytes_swapped, "crc"),
    "bit_flip": _row(bit_flip, _DAMAGED),
    "burst": _row(burst, _DAMAGED),
    "truncated": _row(truncated, "truncated", "truncated"),
    "short_with_good_checksum": _row(short_with_good_checksum, "truncated wrong_echo", "wrong_length"),
    "first_byte_lost": _row(first_byte_lost, _DAMAGED, _MBAP_DAMAGED),
    "byte_lost": _row(byte_lost, _DAMAGED, _MBAP_DAMAGED),
    "byte_doubled": _row(byte_doubled, _DAMAGED, _MBAP_DAMAGED),
    "line_break": _row(line_break, "wrong_unit", "wrong_transaction"),
    "noise_before": _row(noise_before, "noise_before", "noise_before"),
    "noise_before_apart": _row(noise_before_apart, "noise_before", "noise_before"),
    "noise_inside": _row(noise_inside, _DAMAGED, _MBAP_DAMAGED),
    "noise_after": _row(noise_after, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "noise_after_apart": _row(noise_after_apart, GOOD),
    "noise_instead": _row(noise_instead, _DAMAGED, _MBAP_DAMAGED),
    "doubled": _row(doubled, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "doubled_apart": _row(doubled_apart, GOOD),
    "ascii_frame": _row(ascii_frame, "wrong_unit", "wrong_transaction"),
    "echo_of_request": _row(echo_of_request, "echo_of_request", "echo_of_request", "proven"),
    "echo_and_answer": _row(echo_and_answer, "echo_of_request", "echo_of_request", "proven"),
    "half_echo_and_answer": _row(half_echo_and_answer, _DAMAGED, _MBAP_DAMAGED),
    "exception": _row(exception, _EXCEPTIONS, _EXCEPTIONS),
    "exception_unknown": _row(exception_unknown, _UNKNOWN, _UNKNOWN),
    "exception_of_another_function": _row(exception_of_another_function, "wrong_function", "wrong_function"),
    "exception_of_another_unit": _row(exception_of_another_unit, "wrong_unit", "wrong_unit"),
    "exception_damaged": _row(exception_damaged, "crc"),
    "exception_truncated": _row(exception_truncated, "truncated", "truncated"),
    "exception_and_answer": _row(exception_and_answer, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "pause_t1_5": _row(pause(2), GOOD, GOOD),
    "pause_t3_5": _row(pause(5), GOOD, GOOD),
    "pause_beyond_the_timeout": _row(pause_beyond_the_timeout, "late_reply", "late_reply"),
    "byte_by_byte": _row(byte_by_byte, GOOD, GOOD),
    "dribble": _row(dribble, _DAMAGED, _MBAP_DAMAGED),
    "collision": _row(collision, _DAMAGED),
    "collision_shifted": _row(collision_shifted, _DAMAGED),
    "two_interleaved": _row(two_interleaved, _DAMAGED),
    "two_with_one_id": _row(two_with_one_id, "trailing_bytes noise_before", "trailing_bytes noise_before"),
    "stale_transaction": _row(stale_transaction, "", "wrong_transaction"),
    "transaction_before": _row(transaction_before, "", "wrong_transaction"),
    "transaction_ahead": _row(transaction_ahead, "", "wrong_transaction"),
    "transaction_0": _row(transaction_0, "", "wrong_transaction"),
    "transaction_swapped": _row(transaction_swapped, "", "wrong_transaction"),
    "wrong_protocol": _row(wrong_protocol, "", "wrong_protocol"),
    "wrong_length": _row(wrong_length, "", "wrong_length"),
    "length_0": _row(length_0, "", "wrong_length"),
    "length_huge": _row(length_huge, "", "wrong_length"),
    "length_too_large": _row(length_too_large, "", "wrong_length"),
    "head_only": _row(head_only, "", "truncated"),
    "rtu_in_tcp": _row(rtu_in_tcp, "", "wrong_transaction truncated"),
}


# No check of a framing can tell this one: RTU carries no number of the request. What it says of money does not
# pass the plausibility of the register; of anything else it is believed.
def stale_reply_at_once(device: ScriptedDevice, sent: bytes) -> Parts:
    """Instead of the answer, an old one of the same device, function and length."""
    return [(0.0, device.frame(sent, device.stale(sent)))]


# What ends the connection too: for lines that have one.
CLOSING: Final[dict[str, Fault]] = {
    "closed_in_the_middle": _row(closed_in_the_middle, "port_lost", "port_lost"),
    "late_after_reconnect": _row(late_after_reconnect, "port_lost", "port_lost"),
}
