"""JSON Schema of every message, made from the structs the code itself reads with.

Two forms: one file per message (draft 2020-12), and components for the AsyncAPI document, whose
schema language is older (draft 7) and has no `prefixItems`.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

import msgspec

from cloud_sync.order_types import ORDER_TYPES
from cloud_sync.proof.checkpoint import Checkpoint
from cloud_sync.proof.head import TreeHead
from cloud_sync.proof.receipt import HeadFile, Proof, Receipt
from cloud_sync.wire import (
    Ack,
    Approval,
    Batch,
    Document,
    Hello,
    LocalId,
    Order,
    ShortText,
    Status,
    UnixTime,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class LedgerBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a backend reads of a led record's body; every other field is the gateway's own and is kept as sent.

    Money is nano-currency, energy Wh. `balance_nano` must be the sum of the account's `posting_nano` so far.
    """

    account: LocalId
    at: UnixTime
    posting_nano: int | None = None
    balance_nano: int | None = None
    estimate_nano: int | None = None
    register_wh: int | None = None


class ResultBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a backend reads of a res record's body: the answer to an order, once. `reason` when it is a refusal."""

    cid: LocalId
    result: ShortText  # applied | rejected | superseded | revoked | too_late
    reason: str | None = None


class CheckpointBody(msgspec.Struct, frozen=True):
    """The body of an evt record that carries a signed checkpoint: `detail` is its envelope in hex."""

    condition: str  # checkpoint_signed
    detail: str


class KeyRingEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trusted public key of keyring.json, which is an array of these."""

    kid: ShortText
    role: str  # root | ops | vend | tariff | ingest
    public_key: str  # 32 bytes, hex
    credit_nano_max: int | None = None


# In the order a reader meets them.
TYPES: Final[tuple[type, ...]] = (
    Hello,
    Status,
    Batch,
    LedgerBody,
    ResultBody,
    CheckpointBody,
    Ack,
    Order,
    Approval,
    Document,
    KeyRingEntry,
    Checkpoint,
    TreeHead,
    HeadFile,
    Receipt,
    Proof,
    *dict.fromkeys(kind.arguments for kind in ORDER_TYPES.values()),  # `args` of an order, by its type
)


def schema_files() -> dict[str, Any]:
    """One schema per message, by the name of its type."""
    return {kind.__name__: {"$schema": DIALECT, **_flush(msgspec.json.schema(kind))} for kind in TYPES}


def schema_components() -> dict[str, Any]:
    """All schemas with their parts, referring to each other inside an AsyncAPI document."""
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    return {name: _older(_flush(components[name])) for name in sorted(components)}


def _flush(schema: Any) -> Any:
    """The same with descriptions that do not keep a docstring's indentation: Python 3.13 has none left."""
    if isinstance(schema, list):
        return [_flush(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    flush = {key: _flush(value) for key, value in schema.items()}
    if isinstance(flush.get("description"), str):
        flush["description"] = cleandoc(flush["description"])
    return flush


def _older(schema: Any) -> Any:
    """The same in draft 7: a tuple's items stand in `items` themselves, and what follows in `additionalItems`."""
    if isinstance(schema, list):
        return [_older(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    older = {key: _older(value) for key, value in schema.items()}
    if "prefixItems" in older:
        older |= {"additionalItems": older.pop("items", True), "items": older.pop("prefixItems")}
    return older
