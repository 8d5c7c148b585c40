"""Requests are the bytes other programs send too; answers are believed only whole and to the letter."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, bit_message, register_message

from edge.bus.frame import COIL_ON, FRAMINGS, MBAP, RTU, Framing, Request, crc16

READS: dict[int, Any] = {
    1: bit_message.ReadCoilsRequest,
    2: bit_message.ReadDiscreteInputsRequest,
    3: register_message.ReadHoldingRegistersRequest,
    4: register_message.ReadInputRegistersRequest,
}
GOOD_ANSWER = bytes.fromhex("05 04 04 43 66 33 33 1F 3A")


@pytest.mark.parametrize(
    ("request_made", "frame"),
    [
        (RTU.read(5, 4, 0x0048, 2), "05 04 00 48 00 02 F0 59"),
        (RTU.read(1, 3, 0x001A, 1), "01 03 00 1A 00 01 A5 CD"),
        (RTU.read(1, 1, 0x0000, 8), "01 01 00 00 00 08 3D CC"),
        (RTU.write(1, 5, 0x0000, (0xFF00,)), "01 05 00 00 FF 00 8C 3A"),
        (RTU.write(1, 5, 0x0000, (0x0000,)), "01 05 00 00 00 00 CD CA"),
        (RTU.write(1, 16, 0x001A, (0,)), "01 10 00 1A 00 01 02 00 00 A4 6A"),
        (RTU.write(1, 16, 0x001A, (1,)), "01 10 00 1A 00 01 02 00 01 65 AA"),
        (MBAP.read(7, 4, 0x0048, 2), "00 00 00 00 00 06 07 04 00 48 00 02"),
        (MBAP.write(7, 6, 0x0001, (5,)), "00 00 00 00 00 06 07 06 00 01 00 05"),
    ],
)
def test_requests_are_these_bytes(request_made: Request, frame: str) -> None:
    assert request_made.frame == bytes.fromhex(frame)


def test_a_transaction_id_is_put_into_modbus_tcp_and_not_into_rtu() -> None:
    assert MBAP.stamped(MBAP.read(7, 4, 0x48, 2), 0x1234).hex(" ") == "12 34 00 00 00 06 07 04 00 48 00 02"
    request = RTU.read(5, 4, 0x48, 2)
    assert RTU.stamped(request, 0x1234) == request.frame


@pytest.mark.parametrize("transaction_id", [0, 0x1_0000])
def test_a_transaction_id_of_0_is_never_sent(transaction_id: int) -> None:
    with pytest.raises(AssertionError):
        MBAP.stamped(MBAP.read(7, 4, 0x48, 2), transaction_id)


def test_broadcasts_are_not_asked_for() -> None:
    with pytest.raises(AssertionError):
        RTU.read(0, 4, 0x48, 2)


def test_the_crc_is_modbus_and_zero_over_a_whole_frame() -> None:
    assert crc16(b"123456789") == 0x4B37
    assert crc16(bytes.fromhex("05 04 00 48 00 02 F0 59")) == 0


@pytest.mark.parametrize(
    ("asked", "answer", "words"),
    [
        (RTU.read(5, 4, 0x48, 2), b"\x05\x04\x04\x43\x66\x33\x33", (0x4366, 0x3333)),
        (RTU.read(5, 1, 0, 8), b"\x05\x01\x01\x85", (1, 0, 1, 0, 0, 0, 0, 1)),
        (RTU.read(5, 1, 0, 10), b"\x05\x01\x02\x01\x02", (1, 0, 0, 0, 0, 0, 0, 0, 0, 1)),
        (RTU.write(5, 16, 0x1A, (1,)), b"\x05\x10\x00\x1a\x00\x01", ()),
        (RTU.write(5, 5, 3, (0xFF00,)), b"\x05\x05\x00\x03\xff\x00", ()),
    ],
)
def test_a_good_answer_gives_its_words(
    wire: SimpleNamespace, asked: Request, answer: bytes, words: tuple[int, ...]
) -> None:
    received = wire.with_crc(answer)
    assert RTU.whole_bytes(asked, received) == len(received)
    assert RTU.first_failure(asked, asked.frame, received) is None
    assert RTU.exception(asked, received) is None
    assert RTU.words(asked, received) == words


@pytest.mark.parametrize("asked", [RTU.read(5, 4, 0x48, 60), RTU.write(5, 5, 3, (0,)), RTU.read(5, 1, 0, 8)])
def test_an_exception_is_five_bytes_whatever_was_asked(wire: SimpleNamespace, asked: Request) -> None:
    received = wire.with_crc(bytes((5, asked.function_code | 0x80, 2)))
    assert RTU.whole_bytes(asked, received) == 5
    assert RTU.first_failure(asked, asked.frame, received) is None
    assert RTU.exception(asked, received) == 2


def test_the_exception_of_another_function_is_refused(wire: SimpleNamespace) -> None:
    asked = RTU.read(5, 4, 0x48, 2)
    assert RTU.first_failure(asked, asked.frame, wire.with_crc(b"\x05\x83\x02")) == "wrong_function"


@pytest.mark.parametrize("framing", [RTU, MBAP])
@given(data=st.binary(max_size=40))
def test_random_bytes_are_never_believed(framing: Framing, data: bytes) -> None:
    asked = framing.read(5, 4, 0x48, 2)
    assert framing.first_failure(asked, framing.stamped(asked, 0x1234), data) is not None


@given(position=st.integers(0, 32), bit=st.integers(0, 7))
def test_one_wrong_bit_anywhere_in_an_answer_is_refused(wire: SimpleNamespace, position: int, bit: int) -> None:
    asked = RTU.read(5, 4, 0x2000, 14)
    received = bytearray(wire.Slave().good(asked.frame))
    assert RTU.first_failure(asked, asked.frame, bytes(received)) is None
    received[position] ^= 1 << bit
    assert RTU.first_failure(asked, asked.frame, bytes(received)) is not None


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"", "timeout"),
        (b"\x00" + GOOD_ANSWER, "noise_before"),
        (GOOD_ANSWER, "late_reply"),
        (GOOD_ANSWER + b"\x00", "trailing_bytes"),
        (GOOD_ANSWER[:5], "truncated"),
        (GOOD_ANSWER[:-1] + b"\x00", "crc"),
        (bytes.fromhex("05 04 00 48 00 02 F0 59"), "echo_of_request"),
        (bytes.fromhex("05 04 00 48 00 02 F0 59") + GOOD_ANSWER, "echo_of_request"),
    ],
)
def test_what_went_wrong_is_named(received: bytes, reason: str) -> None:
    asked = RTU.read(5, 4, 0x48, 2)
    assert RTU.diagnose(asked, asked.frame, received) == reason


def test_our_crc_agrees_with_pymodbus() -> None:
    for length in range(0, 256, 7):
        data = bytes((index * 37 + length) & 0xFF for index in range(length))
        assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")


@given(
    st.sampled_from([("rtu", FramerRTU), ("mbap", FramerSocket)]),
    st.integers(1, 247),
    st.sampled_from(sorted(READS)),
    st.integers(0, 0xFF00),
    st.integers(1, 125),
)
def test_a_read_is_what_pymodbus_builds(
    framing: tuple[str, Any], device_id: int, function_code: int, address: int, count: int
) -> None:
    theirs = READS[function_code](address=address, dev_id=device_id, count=count)
    ours = FRAMINGS[framing[0]].read(device_id, function_code, address, count)
    assert ours.frame == framing[1](DecodePDU(is_server=False)).buildFrame(theirs)


@given(
    st.sampled_from([("rtu", FramerRTU), ("mbap", FramerSocket)]),
    st.integers(1, 247),
    st.integers(0, 0xFF00),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123),
)
def test_a_write_is_what_pymodbus_builds(
    framing: tuple[str, Any], device_id: int, address: int, words: list[int]
) -> None:
    build, write = framing[1](DecodePDU(is_server=False)).buildFrame, FRAMINGS[framing[0]].write
    to: dict[str, Any] = {"address": address, "dev_id": device_id}
    is_on = words[0] % 2 == 0
    coil = bit_message.WriteSingleCoilRequest(bits=[is_on], **to)
    assert write(device_id, 5, address, (COIL_ON if is_on else 0,)).frame == build(coil)
    one = register_message.WriteSingleRegisterRequest(registers=words[:1], **to)
    assert write(device_id, 6, address, (words[0],)).frame == build(one)
    several = register_message.WriteMultipleRegistersRequest(registers=words, **to)
    assert write(device_id, 16, address, tuple(words)).frame == build(several)


@given(
    st.sampled_from(["rtu", "rtu_echoed", "mbap"]),
    st.integers(1, 247),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(0, 0xFF00),
    st.integers(1, 125),
    st.data(),
)
def test_the_short_way_believes_an_answer_only_if_every_check_does(
    framing_name: str, device_id: int, function_code: int, address: int, count: int, data: st.DataObject
) -> None:
    framing = FRAMINGS[framing_name]
    request = framing.read(device_id, function_code, address, count)
    sent = framing.stamped(request, 7)
    # Sometimes the very registers that make an answer look like the request itself.
    registers = data.draw(
        st.one_of(st.binary(min_size=2 * count, max_size=2 * count), st.just(sent[3:].ljust(250)[: 2 * count]))
    )
    body = bytes((device_id, function_code, 2 * count)) + registers
    whole = body + crc16(body).to_bytes(2, "little")
    received = whole if framing_name == "rtu" else sent + whole
    place = data.draw(st.integers(0, len(received) - 1))
    spoiled = received[:place] + bytes((received[place] ^ data.draw(st.integers(0, 255)),)) + received[place + 1 :]
    for answer in (received, spoiled, received + b"\x00", received[:-1], received[1:]):
        words = framing.good_registers(request, sent, answer)
        if words is not None:
            assert framing.first_failure(request, sent, answer) is None
            assert framing.exception(request, answer) is None
            assert framing.words(request, answer) == words
        elif framing_name != "mbap" and function_code in (3, 4):
            assert framing.first_failure(request, sent, answer) is not None


def test_the_short_way_is_taken_by_every_good_answer_to_a_read_of_registers(wire: SimpleNamespace) -> None:
    request = RTU.read(5, 4, 0x48, 2)
    assert RTU.good_registers(request, request.frame, GOOD_ANSWER) == (0x4366, 0x3333)
    write = RTU.write(5, 16, 0x48, (1,))
    assert RTU.good_registers(write, write.frame, write.frame[:6] + bytes(2)) is None
