"""Frames of DL/T 645-2007: requests as bytes, and answers judged by strict checks.

Addresses are the twelve decimal digits on the meter; identifiers are numbers as printed in the standard
(0x00010000), sent low byte first. Data is told and taken without the offset of 33H, which is on the wire
only. An answer is believed only if every check passes; each has its own reason and stands in a table.
Source: DL/T 645-2007, clause 5 (link layer) and annex A.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

READ: Final = 0x11
READ_ADDRESS: Final = 0x13
CONTROL: Final = 0x1C
ANY_ADDRESS: Final = "AAAAAAAAAAAA"  # asks the only meter on the line for its address

_START: Final = 0x68
_END: Final = 0x16
_LEAD: Final = 0xFE
_LEAD_BYTES_MAX: Final = 4  # "before a frame 1 to 4 bytes FEH are sent": to wake the receiver
_LEAD_BYTES_HEARD_MAX: Final = 8  # more are noise: a line that babbles FEH must not be waited for
_WILDCARD: Final = "A"
_OFFSET: Final = 0x33
_HEAD_BYTES: Final = 10  # two starts, address, control, length
_TAIL_BYTES: Final = 2
_ANSWER: Final = 0x80
_REFUSAL: Final = 0x40
_MORE: Final = 0x20
_DATA_BYTES_MAX: Final = 200
_IDENTIFIER_BYTES: Final = 4

# Bits of the error byte (annex C of the standard).
ERRORS: Final = (
    "other_error",
    "no_such_data",
    "not_authorised",
    "baud_not_changed",
    "too_many_seasons",
    "too_many_slots",
    "too_many_rates",
)


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one meter; `frame` is ready to send."""

    address: str
    control: int
    identifier: int | None  # an answer must repeat it
    frame: bytes
    exactly_bytes: int | None = None  # of the answer's data behind the identifier; None: any length
    multiple_of: int = 1  # without `exactly_bytes`: a block holds whole values


@dataclass(frozen=True, slots=True)
class Answer:
    """A believed answer: what came after the identifier. With `more` it is only the first part."""

    address: str
    data: bytes
    more: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that are not believed, or a meter that said no (`meter_refused`), and why."""

    reason: str
    detail: str = ""


def read_request(address: str, identifier: int, exactly_bytes: int | None = None, multiple_of: int = 1) -> Request:
    """Asks a meter for a data item. Without `exactly_bytes` a block, of which the first part is enough.

    An address with AA in its leading places asks every meter whose last digits these are.
    """
    return replace(_request(address, READ, identifier, b""), exactly_bytes=exactly_bytes, multiple_of=multiple_of)


def address_request() -> Request:
    """Asks for the address of the only meter on a line: with two, their answers collide."""
    return _request(ANY_ADDRESS, READ_ADDRESS, None, b"")


def control_request(address: str, data: bytes) -> Request:
    """A supply command, see `edge.dlt645.supply`."""
    return _request(address, CONTROL, None, data)


def encode_frame(address: str, control: int, data: bytes) -> bytes:
    """A frame with its offset and checksum, four bytes FEH before it."""
    assert len(data) <= _DATA_BYTES_MAX
    head = bytes((_START, *_address_bytes(address), _START, control, len(data)))
    body = head + bytes((byte + _OFFSET) & 0xFF for byte in data)
    return bytes((_LEAD,) * _LEAD_BYTES_MAX) + body + bytes((sum(body) & 0xFF, _END))


def is_address(text: str) -> bool:
    """Whether it is the address of one meter: twelve decimal digits, not the broadcast of nines."""
    return len(text) == 12 and text.isascii() and text.isdigit() and text != "9" * 12


def is_pattern(text: str) -> bool:
    """Whether it is such an address, or the last digits of some with AA before them."""
    known = text.lstrip(_WILDCARD)
    return is_address(text) or (
        len(text) == 12 and len(known) % 2 == 0 and (not known or (known.isascii() and known.isdigit()))
    )


def whole_bytes(received: bytes) -> int | None:
    """How long the frame that began will be, with what leads it; None until its length has come.

    What cannot become a frame is as long as it is: nothing is waited for.
    """
    start = _lead_bytes(received)
    if start > _LEAD_BYTES_HEARD_MAX or received[start : start + 1] not in (b"", bytes((_START,))):
        return len(received)
    if len(received) < start + _HEAD_BYTES:
        return None
    return start + _HEAD_BYTES + received[start + _HEAD_BYTES - 1] + _TAIL_BYTES


def without_lead(received: bytes) -> bytes:
    """What came, from its first byte that is not FEH; of more of them than lead a frame some are left."""
    return received[min(_lead_bytes(received), _LEAD_BYTES_HEARD_MAX) :]


def judge(request: Request, sent: bytes, received: bytes) -> Answer | Refused:
    """The answer to a request, or the reason of the first check that fails."""
    frame = without_lead(received)
    for reason, passes in CHECKS:
        if not passes(request, sent, frame):
            return Refused(reason)
    data = _data(frame)
    if frame[8] & _REFUSAL:
        said = [name for bit, name in enumerate(ERRORS) if data[0] >> bit & 1]
        return Refused("meter_refused", said[-1] if said else ERRORS[0])  # the one that says most
    skipped = 0 if request.identifier is None else _IDENTIFIER_BYTES
    return Answer(_address_of(frame), data[skipped:], bool(frame[8] & _MORE))


def _request(address: str, control: int, identifier: int | None, data: bytes) -> Request:
    assert is_pattern(address)
    head = b"" if identifier is None else identifier.to_bytes(_IDENTIFIER_BYTES, "little")
    return Request(address, control, identifier, encode_frame(address, control, head + data))


def _address_bytes(address: str) -> bytes:
    return bytes.fromhex(address)[::-1]


def _address_of(frame: bytes) -> str:
    return frame[6:0:-1].hex().upper()


def _lead_bytes(received: bytes) -> int:
    count = 0
    while count < len(received) and received[count] == _LEAD:
        count += 1
    return count


def _data(frame: bytes) -> bytes:
    return bytes((byte - _OFFSET) & 0xFF for byte in frame[_HEAD_BYTES:-_TAIL_BYTES])


# --- the checks, in this order; `frame` is what came without its leading FEH ---


def _came(request: Request, sent: bytes, frame: bytes) -> bool:
    return bool(frame)


def _is_not_our_own(request: Request, sent: bytes, frame: bytes) -> bool:
    """An adapter that hears itself: the answer may follow."""
    return not frame.startswith(sent[_lead_bytes(sent) :])


def _starts(request: Request, sent: bytes, frame: bytes) -> bool:
    return frame[0] == _START and frame[7:8] in (b"", bytes((_START,)))


def _is_long_enough(request: Request, sent: bytes, frame: bytes) -> bool:
    return len(frame) >= _HEAD_BYTES + _TAIL_BYTES and len(frame) >= (whole_bytes(frame) or 0)


def _is_no_longer(request: Request, sent: bytes, frame: bytes) -> bool:
    return len(frame) == whole_bytes(frame)


def _ends(request: Request, sent: bytes, frame: bytes) -> bool:
    return frame[-1] == _END


def _sum_is_good(request: Request, sent: bytes, frame: bytes) -> bool:
    return sum(frame[:-_TAIL_BYTES]) & 0xFF == frame[-_TAIL_BYTES]


def _address_matches(request: Request, sent: bytes, frame: bytes) -> bool:
    """Every meter that a pattern means may answer, but with its address."""
    found = _address_of(frame)
    return is_address(found) and found.endswith(request.address.lstrip(_WILDCARD))


def _control_matches(request: Request, sent: bytes, frame: bytes) -> bool:
    good = {request.control | _ANSWER, request.control | _ANSWER | _REFUSAL}
    if request.control == READ and request.exactly_bytes is None:  # the first part of a block holds its first value
        good.add(READ | _ANSWER | _MORE)
    return frame[8] in good


def _length_matches(request: Request, sent: bytes, frame: bytes) -> bool:
    length = frame[9]
    if frame[8] & _REFUSAL:
        return length == 1
    if request.control == READ:
        data_bytes = length - _IDENTIFIER_BYTES
        if request.exactly_bytes is not None:
            return data_bytes == request.exactly_bytes
        return 0 < data_bytes <= _DATA_BYTES_MAX and data_bytes % request.multiple_of == 0
    return length == (6 if request.control == READ_ADDRESS else 0)


def _identifier_matches(request: Request, sent: bytes, frame: bytes) -> bool:
    if request.identifier is None or frame[8] & _REFUSAL:
        return True
    return _data(frame)[:_IDENTIFIER_BYTES] == request.identifier.to_bytes(_IDENTIFIER_BYTES, "little")


def _address_is_repeated(request: Request, sent: bytes, frame: bytes) -> bool:
    """The answer to a question for the address holds it twice: two colliding meters rarely agree."""
    if request.control != READ_ADDRESS or frame[8] & _REFUSAL:
        return True
    return _data(frame) == frame[1:7]


CHECKS: Final[tuple[tuple[str, Callable[[Request, bytes, bytes], bool]], ...]] = (
    ("timeout", _came),
    ("echo_of_request", _is_not_our_own),
    ("not_a_frame", _starts),
    ("truncated", _is_long_enough),
    ("trailing_bytes", _is_no_longer),
    ("no_end", _ends),
    ("checksum", _sum_is_good),
    ("wrong_address", _address_matches),
    ("wrong_control", _control_matches),
    ("wrong_length", _length_matches),
    ("wrong_identifier", _identifier_matches),
    ("wrong_address", _address_is_repeated),
)
