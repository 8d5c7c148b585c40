"""OpenPAYGO Token: digits to value, type and count, and back, through the library `openpaygo`.

The library computes the hash chain; what it says of replays is not relied on, and what it raises
never gets out. Measured on 0.6.3:
- with no used counts a token may be replayed (a TypeError where a late one is looked at): it is
  always given some;
- an unknown 12-digit token raises UnboundLocalError;
- a counter sync, and a 12-digit token of value 999, pass its check however often they come, and a
  late sync would take the count back, so that spent tokens count again. `CountMemory` refuses both.
Values are whole steps (a day by default), times seconds. Loaded only when an account has the scheme.
"""

from dataclasses import dataclass, field
from typing import Final

from edge.core.token import CountMemory, PaygoToken, TokenKind, Unreadable
from edge.tokens.sts import typed_digits

STARTING_CODE_MAX: Final = 999_999_999
VALUE_MAX: Final = 995
EXTENDED_VALUE_MAX: Final = 999_999
SECONDS_PER_STEP: Final = 86_400
# Names as in the library's published vectors.
KINDS: Final = {
    "ADD_TIME": TokenKind.CREDIT,
    "SET_TIME": TokenKind.SET_CREDIT,
    "DISABLE_PAYG": TokenKind.RELEASE,
    "COUNTER_SYNC": TokenKind.COUNT_SYNC,
}
NAMES: Final = {kind: name for name, kind in KINDS.items()}
# Digits of a token -> whether it is extended, whether it uses the digits 1 to 4 only.
_FORMS: Final = {9: (False, False), 12: (True, False), 15: (False, True), 20: (True, True)}


@dataclass(frozen=True, slots=True)
class PaygoDevice:
    """What the maker gave a device. Without a starting code it is made of the key."""

    key_hex: str = field(repr=False)
    starting_code: int | None = None
    seconds_per_step: int = SECONDS_PER_STEP


def read_paygo(text: str, device: PaygoDevice, memory: CountMemory) -> PaygoToken | Unreadable:
    """What typed text says to a device that remembers this: a token of its own, or why it is none.

    Whether the token is spent, `memory.refusal` says.
    """
    digits = typed_digits(text)
    form = _FORMS.get(len(digits))
    if form is None or not (digits.isascii() and digits.isdigit()) or (form[1] and not set(digits) <= set("1234")):
        return Unreadable("malformed")
    extended, restricted = form
    found = _decode(digits, device, memory, restricted=restricted)
    if isinstance(found, PaygoToken) and not extended and found.kind in _VALUED and found.value > VALUE_MAX:
        return _UNKNOWN  # reserved values: nobody issues them
    return found


def issue_paygo(
    kind: TokenKind,
    value: int | None,
    device: PaygoDevice,
    count: int,
    *,
    extended: bool = False,
    restricted: bool = False,
) -> tuple[str, int]:
    """The digits of the next token of a kind after `count`, and its count."""
    from openpaygo import OpenPAYGOTokenEncoder

    new_count, digits = OpenPAYGOTokenEncoder.generate_token(
        secret_key=device.key_hex,
        count=count,
        value=value,
        token_type=_TYPES[kind],
        starting_code=device.starting_code,
        restricted_digit_set=restricted,
        extended_token=extended,
    )
    return str(digits), int(new_count)


_VALUED: Final = (TokenKind.CREDIT, TokenKind.SET_CREDIT)
# The library's TokenType, which is a bare class of integers.
_TYPES: Final = {TokenKind.CREDIT: 1, TokenKind.SET_CREDIT: 2, TokenKind.RELEASE: 3, TokenKind.COUNT_SYNC: 4}
_KIND_OF_TYPE: Final = {number: kind for kind, number in _TYPES.items()}
_ALREADY_USED: Final = 11
_UNKNOWN: Final = Unreadable("unknown", guess=True)


def _decode(digits: str, device: PaygoDevice, memory: CountMemory, *, restricted: bool) -> PaygoToken | Unreadable:
    from openpaygo import OpenPAYGOTokenDecoder

    try:
        value, type_number, count, _ = OpenPAYGOTokenDecoder.decode_token(
            token=digits,
            secret_key=device.key_hex,
            count=memory.count,
            used_counts=list(memory.used) or [memory.count],
            starting_code=device.starting_code,
            restricted_digit_set=restricted,
        )
    except UnboundLocalError:
        return _UNKNOWN
    except TypeError:
        return Unreadable("used")
    if type_number == _ALREADY_USED:
        return Unreadable("used")
    kind = _KIND_OF_TYPE.get(type_number)
    if kind is None:
        return _UNKNOWN
    amount_s = int(value) * device.seconds_per_step if kind in _VALUED else 0
    return PaygoToken(kind, int(value), int(count), amount_s)
