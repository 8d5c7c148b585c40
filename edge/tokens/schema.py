"""What `wattgate token --json` prints, as types, and their JSON Schema: `python3 -m edge.tokens.schema` prints it.

One object a line. `ok` is there in answers of `decode` only; a key change section that completes
the change has the fields of the new key too.
"""

import json
import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

SCHEMA_FILE = "token.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Key = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="128 bits")]
StsDigits = Annotated[str, Meta(pattern="^[0-9]{20}$")]
PaygoDigits = Annotated[str, Meta(pattern="^([0-9]{9}|[0-9]{12}|[1-4]{15}|[1-4]{20})$")]
Four = Annotated[int, Meta(ge=0, le=15)]
Twelve = Annotated[int, Meta(ge=0, le=4095)]
Tid = Annotated[int, Meta(ge=0, le=16_777_215, description="minutes since the base year")]
Instant = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:00Z$")]
Amount = Annotated[int, Meta(ge=0, le=18_201_624)]


class _Record(Struct, forbid_unknown_fields=True):
    """Nothing but the fields named."""


class DecoderKey(_Record):
    """Of `token key`."""

    decoder_key: Key


class Refused(_Record):
    """A token that does not count, and why. `token` is as it was typed if it is malformed."""

    token: str
    ok: Literal[False]
    reason: Literal["crc", "malformed", "expired_key", "used", "old", "unknown"]


class StsRecord(_Record, rename={"token_class": "class"}):
    """An STS token but for key changes. Class 0 has an amount, class 2 a value, class 1 a control field."""

    token: StsDigits
    token_class: Literal[0, 1, 2]
    subclass: Four
    random: Four | None
    tid: Tid | None
    issued_at: Instant | None
    amount_tenths: Amount | None
    ok: Literal[True] | UnsetType = UNSET
    value: Amount | UnsetType = UNSET
    control: Annotated[str, Meta(pattern="^[0-9a-f]{11}$")] | UnsetType = UNSET


class KeySectionRecord(_Record, rename={"token_class": "class"}):
    """A key change section. 1 brings ken_high, krn, rollover, key_type, 2 ken_low, ti, 3 sgc_low, 4 sgc_high.

    The last to come has the fields of the new key. `decoder_key` is that of the section order 1432 (see the README).
    """

    token: StsDigits
    token_class: Literal[2]
    subclass: Literal[3, 4, 8, 9]
    section: Literal[1, 2, 3, 4]
    key_bits: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
    ok: Literal[True] | UnsetType = UNSET
    ken_high: Four | UnsetType = UNSET
    krn: Four | UnsetType = UNSET
    rollover: bool | UnsetType = UNSET
    key_type: Annotated[int, Meta(ge=0, le=3)] | UnsetType = UNSET
    ken_low: Four | UnsetType = UNSET
    ti: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET
    sgc_low: Twelve | UnsetType = UNSET
    sgc_high: Twelve | UnsetType = UNSET
    key_changed: Literal[True] | UnsetType = UNSET
    decoder_key: Key | UnsetType = UNSET
    base: Literal[1993, 2014, 2035] | UnsetType = UNSET
    ken: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET
    sgc: Annotated[int, Meta(ge=0, le=0xFFFFFF)] | UnsetType = UNSET


class PaygoRecord(_Record):
    """An OpenPAYGO token; `value` is null where the type has none."""

    token: PaygoDigits
    value: Annotated[int, Meta(ge=0, le=999_999)] | None
    type: Literal["ADD_TIME", "SET_TIME", "DISABLE_PAYG", "COUNTER_SYNC"]
    count: Annotated[int, Meta(ge=0)]
    ok: Literal[True] | UnsetType = UNSET


TYPES: tuple[type[Struct], ...] = (DecoderKey, Refused, StsRecord, KeySectionRecord, PaygoRecord)


def make_schema() -> dict[str, Any]:
    """The JSON Schema of a line."""
    refs, definitions = msgspec.json.schema_components(TYPES, ref_template="#/$defs/{name}")
    return {
        "$schema": _DIALECT,
        "title": "a line that wattgate token prints with --json",
        "anyOf": list(refs),
        "$defs": definitions,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make_schema(), indent=2) + "\n")
