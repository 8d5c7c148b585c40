"""A signed order as text, to be scanned or typed at the console: same bytes, same command id.

The frame is a version byte (0x01), the envelope's length (2 bytes, high first) and the envelope.
For a QR code: "MG1:", the frame in Base45 (RFC 9285), a check character. For typing: the frame in
Crockford Base32 and a check character, in groups of five. The check value of both is the frame
as one number, modulo 37, which notices every single wrong character of the typed form.
Nothing here looks at the signature: that is the door's business (orders.py).
"""

from typing import Final

import msgspec

from cloud_sync.orders import ORDER_BYTES_MAX

VOUCHER_VERSION: Final = 1
QR_PREFIX: Final = "MG1:"
_HEADER_BYTES: Final = 3
_GROUP: Final = 5

_BASE45: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECK_TYPED: Final = _BASE32 + "*~$=U"  # Crockford's check symbols
_CHECK_QR: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ*"  # no blank: an edge that gets trimmed
_CHECK_MODULUS: Final = 37

# Read as what they look like; blanks and dashes are only for the eye.
_TYPED_AS_MEANT: Final = str.maketrans(
    {"O": "0", "I": "1", "L": "1", "-": None, " ": None, "\t": None, "\r": None, "\n": None}
)
TEXT_CHARACTERS_MAX: Final = 4 * (ORDER_BYTES_MAX + _HEADER_BYTES)


class VoucherRefused(msgspec.Struct, frozen=True):
    """Why a text is no voucher. `position` counts the characters that matter, from 1.

    Reasons, first that applies: empty, too_long, characters (one that cannot occur), check (a wrong
    or missing character), version, length (cut short, or more than one voucher).
    """

    reason: str
    position: int | None = None


def voucher_for_qr(envelope: bytes) -> str:
    """The voucher in the characters of a QR code's alphanumeric mode."""
    frame = _frame(envelope)
    return QR_PREFIX + _base45(frame) + _CHECK_QR[_check(frame)]


def voucher_for_typing(envelope: bytes) -> str:
    """The voucher in groups of five characters with dashes."""
    frame = _frame(envelope)
    text = _base32(frame) + _CHECK_TYPED[_check(frame)]
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def read_voucher(text: str) -> bytes | VoucherRefused:
    """The envelope in a voucher of either form, or why there is none."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return VoucherRefused("too_long")
    scanned = text.strip("\r\n\t").lstrip().upper()
    frame = _read_qr(scanned.removeprefix(QR_PREFIX)) if scanned.startswith(QR_PREFIX) else _read_typed(text)
    if isinstance(frame, VoucherRefused):
        return frame
    return _unframe(frame)


def _frame(envelope: bytes) -> bytes:
    assert 0 < len(envelope) <= ORDER_BYTES_MAX
    return bytes((VOUCHER_VERSION,)) + len(envelope).to_bytes(2, "big") + envelope


def _unframe(frame: bytes) -> bytes | VoucherRefused:
    if not frame or frame[0] != VOUCHER_VERSION:
        return VoucherRefused("version")
    envelope = frame[_HEADER_BYTES:]
    if not envelope or len(envelope) != int.from_bytes(frame[1:_HEADER_BYTES], "big"):
        return VoucherRefused("length")
    return envelope


def _check(frame: bytes) -> int:
    return int.from_bytes(frame, "big") % _CHECK_MODULUS


# --- typed form -------------------------------------------------------------------------------


def _base32(frame: bytes) -> str:
    """Five bits a character, the last one filled up with zero bits."""
    count = -(-len(frame) * 8 // 5)
    number = int.from_bytes(frame, "big") << (count * 5 - len(frame) * 8)
    return "".join(_BASE32[number >> shift & 31] for shift in range((count - 1) * 5, -1, -5))


def _read_typed(text: str) -> bytes | VoucherRefused:
    characters = text.upper().translate(_TYPED_AS_MEANT)
    if not characters:
        return VoucherRefused("empty")
    for position, character in enumerate(characters, start=1):
        allowed = _CHECK_TYPED if position == len(characters) else _BASE32
        if character not in allowed:
            return VoucherRefused("characters", position)
    digits = characters[:-1]
    number = 0
    for digit in digits:
        number = number << 5 | _BASE32.index(digit)
    length, padding = divmod(len(digits) * 5, 8)
    if padding >= 5 or number & ((1 << padding) - 1):
        return VoucherRefused("check")
    frame = (number >> padding).to_bytes(length, "big")
    if _CHECK_TYPED[_check(frame)] != characters[-1]:
        return VoucherRefused("check")
    return frame


# --- scanned form -----------------------------------------------------------------------------


def _base45(frame: bytes) -> str:
    text = []
    for start in range(0, len(frame), 2):
        pair = frame[start : start + 2]
        value = int.from_bytes(pair, "big")
        for _ in range(len(pair) + 1):
            value, digit = divmod(value, 45)
            text.append(_BASE45[digit])
    return "".join(text)


def _read_qr(characters: str) -> bytes | VoucherRefused:
    if len(characters) < 2:
        return VoucherRefused("length")
    frame = bytearray()
    body = characters[:-1]
    for start in range(0, len(body), 3):
        group = body[start : start + 3]
        for offset, character in enumerate(group):
            if character not in _BASE45:
                return VoucherRefused("characters", start + offset + 1)
        value = sum(_BASE45.index(character) * 45**power for power, character in enumerate(group))
        if len(group) == 1 or value >= 256 ** (len(group) - 1):
            return VoucherRefused("check")
        frame += value.to_bytes(len(group) - 1, "big")
    if _CHECK_QR[_check(bytes(frame))] != characters[-1]:
        return VoucherRefused("check")
    return bytes(frame)
