"""DKGA04: the decoder key of one meter out of a vending key (IEC 62055-41:2018).

HMAC-SHA-256 with the 160-bit vending key over the facts of the meter, each with its length before
it, truncated to 128 bits for EA11. Source: STS.md. Vendors and tests derive keys; a gateway is
given the one of its meter and never sees a vending key.
"""

import hmac
from dataclasses import dataclass
from typing import Final

VENDING_KEY_BYTES: Final = 20
_ALGORITHM: Final = "04"
_ENCRYPTION: Final = "11"
_KEY_BITS: Final = 128
_ITEMS: Final = 4


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """What a decoder key is bound to. `supply_group` has 6 digits, `meter_number` 18, `tariff_index` 2."""

    base_year: int
    tariff_index: str
    supply_group: str
    key_type: int
    key_revision: int
    meter_number: str


def derive_decoder_key(vending_key: bytes, facts: DecoderFacts) -> int:
    """The 128-bit decoder key of a meter."""
    assert len(vending_key) == VENDING_KEY_BYTES
    data = (
        _items(_ALGORITHM, f"{facts.base_year % 100:02d}", _ENCRYPTION, facts.tariff_index)
        + b"\0"
        + _items(facts.supply_group, str(facts.key_type), str(facts.key_revision), facts.meter_number)
        + _KEY_BITS.to_bytes(4, "big")
    )
    digest = hmac.digest(vending_key, data, "sha256")
    return int.from_bytes(digest[: _KEY_BITS // 8], "big")


def _items(*items: str) -> bytes:
    assert len(items) == _ITEMS
    return bytes((_ITEMS,)) + b"".join(bytes((len(item),)) + item.encode("ascii") for item in items)
