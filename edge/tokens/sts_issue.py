"""STS tokens made, for tests and for vendors: what edge/tokens/sts.py reads, written.

A gateway never makes one: nothing the agent or the console runs imports this.
"""

from dataclasses import dataclass, field
from typing import Final

from edge.tokens.sts import (
    AMOUNT_SUBCLASSES,
    ANY_METER,
    CREDIT,
    ONE_METER,
    SECTION_OF,
    TID_MAX,
    encode_amount,
    token_digits,
)

CONTROL_MAX: Final = (1 << 44) - 1
_SUBCLASS_OF: Final = {section: subclass for subclass, section in SECTION_OF.items()}


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key change brings. `other_key`: sections 3 and 4 as the published compliance tokens have them."""

    key: int = field(repr=False)
    key_expiry: int
    key_revision: int
    key_type: int
    tariff_index: int
    supply_group: int
    rollover: bool = False
    other_key: bool = False


def issue_credit(key: int, tid: int, amount_tenths: int, random: int, subclass: int = 0) -> str:
    """The digits of a class 0 token."""
    return _with_tid(CREDIT, subclass, key, tid, encode_amount(amount_tenths), random)


def issue_management(key: int, tid: int, value: int, random: int, subclass: int) -> str:
    """The digits of a class 2 token: a limit in W, a register, a rate, or nothing."""
    code = encode_amount(value) if subclass in AMOUNT_SUBCLASSES else value
    return _with_tid(ONE_METER, subclass, key, tid, code, random)


def issue_test(subclass: int, control: int) -> str:
    """The digits of a class 1 token, which is any meter's."""
    assert 0 <= control <= CONTROL_MAX
    return token_digits(ANY_METER, subclass << 44 | control, key=0)


def issue_key_change(key: int, new: NewKey) -> tuple[str, ...]:
    """The digits of sections 1 to 4, under the key that is to go."""
    words = [new.key >> shift & 0xFFFF_FFFF for shift in (96, 64, 32, 0)]
    higher, lower = (2, 3) if new.other_key else (3, 2)  # index of the section
    bits = {0: words[0], higher: words[1], lower: words[2], 1: words[3]}
    heads = (
        new.key_expiry >> 4 << 8 | new.key_revision << 4 | new.rollover << 3 | new.key_type,
        (new.key_expiry & 0xF) << 8 | new.tariff_index,
        new.supply_group & 0xFFF,
        new.supply_group >> 12,
    )
    return tuple(
        token_digits(ONE_METER, _SUBCLASS_OF[index + 1] << 44 | head << 32 | bits[index], key)
        for index, head in enumerate(heads)
    )


def _with_tid(token_class: int, subclass: int, key: int, tid: int, code: int, random: int) -> str:
    assert 0 <= tid <= TID_MAX
    assert 0 <= random < 16
    assert 0 <= code < 1 << 16
    return token_digits(token_class, subclass << 44 | random << 40 | tid << 16 | code, key)
