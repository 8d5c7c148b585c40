"""STS credit and management tokens: 20 digits to what they say, and back (IEC 62055-41, EA11).

A token is 66 bits: a block of 64 (subclass 4, random 4, TID 24, amount 16, CRC 16, most significant
first), encrypted with MISTY1, and two class bits. The block's bits 28 and 27 stand at 65 and 64, the
class bits in their place. Class 1 is not encrypted. Amounts are tenths of kWh (m3, minutes), TIDs
whole minutes since the base year, times Unix seconds. Source: STS.md.

Nothing here remembers anything: replays, the key expiry and key changes are edge.core.token's.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from edge.core.token import BASE_YEARS, ForMeter, KeyChange, KeySection, StsMemory, StsToken, Unreadable
from edge.core.units import UnixSeconds
from edge.tokens.misty1 import Misty1

DIGITS: Final = 20
TID_MAX: Final = (1 << 24) - 1
AMOUNT_TENTHS_MAX: Final = 18_201_624
CREDIT, ANY_METER, ONE_METER, RESERVED = range(4)
CREDIT_SUBCLASSES: Final = range(4)  # electricity, water, gas, time; 4 to 7 are currency, coded otherwise
TEST_SUBCLASSES: Final = range(2)
AMOUNT_SUBCLASSES: Final = (0, 6)  # of class 2: power limit, phase unbalance limit
MANAGEMENT_SUBCLASSES: Final = (0, 1, 2, 5, 6)
# Subclass of a key change token -> its section.
SECTION_OF: Final = {3: 1, 4: 2, 8: 3, 9: 4}
_SECONDS_PER_MINUTE: Final = 60
_TOKEN_BITS: Final = 66
_CLASS_SHIFT: Final = 27
_CLASS_MASK: Final = 0b11 << _CLASS_SHIFT
_MANTISSA_BITS: Final = 14
_MANTISSA_MAX: Final = (1 << _MANTISSA_BITS) - 1
_STEPS: Final = (1, 10, 100, 1000)  # of a mantissa, by exponent
_DATA_BITS: Final = 48

# Blanks and dashes are only for the eye; a Chinese keyboard may give full-width digits.
_TYPED_AS_MEANT: Final = str.maketrans(
    {" ": None, "-": None, "\t": None, "\u3000": None, "\u00a0": None, "\n": None, "\r": None}
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
)


def typed_digits(text: str) -> str:
    """Typed text without blanks and dashes; whether digits are left is for the reader of a scheme."""
    return text.translate(_TYPED_AS_MEANT)


def well_formed(digits: str) -> bool:
    """Whether digits can be an STS token, of whatever meter: 20 of them and less than 2^66."""
    return len(digits) == DIGITS and digits.isascii() and digits.isdigit() and int(digits) < 1 << _TOKEN_BITS


def read_sts(text: str, keys: tuple[int, ...], base_year: int) -> StsToken | KeySection | Unreadable:
    """What typed text says to a decoder with this key, or with one of the two that `decoder_keys` gives."""
    digits = typed_digits(text)
    if not well_formed(digits):
        return Unreadable("malformed")
    token_class, sent = _untransposed(int(digits))
    blocks = [sent] if token_class == ANY_METER else [Misty1(key).decrypt(sent) for key in keys]
    for index, block in enumerate(blocks):
        if _intact(token_class, block):
            return _meaning(token_class, block, digits, base_year, other_key=index > 0)
    # Class 3 is reserved: whether it is encrypted is not said, so it is broken only if it is both ways.
    if token_class == RESERVED and _intact(token_class, sent):
        return Unreadable("unknown")
    return Unreadable("crc", guess=True)


def read_for_meter(text: str) -> ForMeter | Unreadable:
    """Digits for a meter that decodes them itself: only their form can be checked here."""
    digits = typed_digits(text)
    return ForMeter(digits) if well_formed(digits) else Unreadable("malformed")


def decoder_keys(commissioned: int, memory: StsMemory) -> tuple[int, ...]:
    """The key after all changes since commissioning; two while no token came under the newest."""
    key, before = commissioned, commissioned
    for change in memory.key_changes:
        key, before = changed_key(change, key), key
    if memory.key_shown:
        return (key,)
    last = memory.key_changes[-1]
    return key, changed_key(replace(last, other_key=not last.other_key), before)


def changed_key(change: KeyChange, key: int) -> int:
    """The key that four sections bring, which came under `key`.

    Sections 1, 4, 3, 2 hold it from high to low (STS.md; IEC 62055-41, 6.3.16). The other key is
    that of 1, 3, 4, 2, as the published compliance tokens have it (6.2.8.1).
    """
    first, second, third, fourth = (section_key_bits(digits, key) for digits in change.digits)
    higher, lower = (third, fourth) if change.other_key else (fourth, third)
    return first << 96 | higher << 64 | lower << 32 | second


def section_key_bits(digits: str, key: int) -> int:
    """The 32 key bits in a section that came under `key`."""
    token_class, sent = _untransposed(int(digits))
    block = Misty1(key).decrypt(sent)
    assert token_class == ONE_METER
    assert _intact(token_class, block)
    return block >> 16 & 0xFFFF_FFFF


def token_digits(token_class: int, data: int, key: int) -> str:
    """The 20 digits of 48 bits of data, with CRC, encrypted where the class is."""
    assert 0 <= data < 1 << _DATA_BITS
    block = data << 16 | sts_crc(token_class, data)
    sent = block if token_class == ANY_METER else Misty1(key).encrypt(block)
    moved = (sent & _CLASS_MASK) >> _CLASS_SHIFT
    return f"{moved << 64 | sent & ~_CLASS_MASK | token_class << _CLASS_SHIFT:020d}"


def sts_crc(token_class: int, data: int) -> int:
    """CRC-16 of class and data as 50 bits, left padded to seven bytes; the result's bytes swapped."""
    crc = 0xFFFF
    for byte in (token_class << _DATA_BITS | data).to_bytes(7, "big"):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return (crc & 0xFF) << 8 | crc >> 8


def encode_amount(tenths: int) -> int:
    """Sixteen bits for an amount: the lowest exponent that reaches it, rounded up."""
    assert 0 <= tenths <= AMOUNT_TENTHS_MAX
    for exponent, step in enumerate(_STEPS):
        mantissa = -(-(tenths - _amount_floor(exponent)) // step)
        if mantissa <= _MANTISSA_MAX:
            return exponent << _MANTISSA_BITS | max(0, mantissa)
    raise AssertionError(tenths)


def decode_amount(code: int) -> int:
    """Tenths of the unit that sixteen bits stand for."""
    exponent = code >> _MANTISSA_BITS
    return (code & _MANTISSA_MAX) * _STEPS[exponent] + _amount_floor(exponent)


def tid_from_time(at: UnixSeconds, base_year: int) -> int:
    """The TID of an instant; below 0 or over TID_MAX where the base year does not reach it."""
    return (at - _base_at(base_year)) // _SECONDS_PER_MINUTE


def time_from_tid(tid: int, base_year: int) -> UnixSeconds:
    """The instant a TID stands for. STS knows no time zone: its clock is read as UTC."""
    return UnixSeconds(_base_at(base_year) + tid * _SECONDS_PER_MINUTE)


def _base_at(base_year: int) -> int:
    assert base_year in BASE_YEARS
    return int(datetime(base_year, 1, 1, tzinfo=UTC).timestamp())


def _amount_floor(exponent: int) -> int:
    return (_MANTISSA_MAX + 1) * sum(_STEPS[:exponent])


def _untransposed(number: int) -> tuple[int, int]:
    """Class and sent block of a 66-bit number."""
    token_class = (number & _CLASS_MASK) >> _CLASS_SHIFT
    sent = number & ((1 << 64) - 1) & ~_CLASS_MASK
    return token_class, sent | (number >> 64) << _CLASS_SHIFT


def _intact(token_class: int, block: int) -> bool:
    return sts_crc(token_class, block >> 16) == block & 0xFFFF


def _meaning(
    token_class: int, block: int, digits: str, base_year: int, *, other_key: bool
) -> StsToken | KeySection | Unreadable:
    subclass = block >> 60
    if token_class == ANY_METER and subclass in TEST_SUBCLASSES:
        return StsToken(token_class, subclass, control=block >> 16 & (1 << 44) - 1)
    if token_class == ONE_METER and subclass in SECTION_OF:
        return replace(_section(subclass, block, digits), other_key=other_key)
    known = {CREDIT: CREDIT_SUBCLASSES, ONE_METER: MANAGEMENT_SUBCLASSES}.get(token_class, ())
    if subclass not in known:
        return Unreadable("unknown")
    tid, code = block >> 32 & TID_MAX, block >> 16 & 0xFFFF
    amount = decode_amount(code)
    return StsToken(
        token_class,
        subclass,
        random=block >> 56 & 0xF,
        tid=tid,
        issued_at=time_from_tid(tid, base_year),
        amount_tenths=amount if token_class == CREDIT else None,
        value=None if token_class == CREDIT else amount if subclass in AMOUNT_SUBCLASSES else code,
        other_key=other_key,
    )


def _section(subclass: int, block: int, digits: str) -> KeySection:
    number, head = SECTION_OF[subclass], block >> 48 & 0xFFF
    if number == 1:
        return KeySection(
            number,
            digits,
            key_expiry_part=head >> 8,
            key_revision=head >> 4 & 0xF,
            rollover=bool(head >> 3 & 1),
            key_type=head & 0b11,
        )
    if number == 2:
        return KeySection(number, digits, key_expiry_part=head >> 8, tariff_index=head & 0xFF)
    return KeySection(number, digits, supply_group_part=head)
