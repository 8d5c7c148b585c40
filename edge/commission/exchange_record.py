"""The record of an exchange: the old meter's last register and how it is known, the new one's first, who says so.

Energy is Wh as whole numbers where the journal has it, and the register's own unit as exact decimal text where a person
reads it; time ISO 8601 with its zone; no floats. Signed like a commissioning record, under a domain prefix of its own.
"""

import hashlib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.commission.page import both, page_of, signature_rows
from edge.commission.record import (
    FILE_BYTES_MAX,
    RecordError,
    Signature,
    SignedRecord,
    WitnessReading,
    read_record,
    signature_fits,
    signature_of,
)

EXCHANGE_DOMAIN: Final = b"wattgate/exchange/1\0"
RelayWord = Literal["open", "closed", "unknown"]


class OldMeter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The meter that was taken down. `source` says how its last register is known."""

    meter_id: str
    model: str
    serial: str
    device_id: int
    ct_ratio: int
    register: str
    unit: str
    last_wh: int
    source: Literal["read", "typed", "estimated"]
    at: str
    relay: RelayWord | None  # None: there is no relay


class NewMeter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The meter in its place."""

    meter_id: str
    model: str
    serial: str
    identity: dict[str, str]
    device_id: int
    ct_ratio: int
    witness: WitnessReading
    first_wh: int
    at: str
    relay: RelayWord | None


class ExchangeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. Charged is from `recorded_wh` to `old.last_wh`, and `estimated_wh` for the time between the meters.

    Registers are as the meters show them; what is in Wh is with the ratio of the current transformers.
    """

    account: str
    at: str
    wattgate: str
    gateway: str
    line_id: str
    position: str
    old: OldMeter
    new: NewMeter
    recorded_wh: int
    estimated_wh: int
    relay_id: str | None
    control_state: str  # what the account's supply shall be
    installer: str


class SignedExchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    v: Literal[1]
    kind: Literal["exchange"]
    record: ExchangeRecord
    signature: Signature


def exchange_bytes(record: ExchangeRecord) -> bytes:
    """What is signed."""
    return EXCHANGE_DOMAIN + msgspec.json.encode(record, order="sorted")


def sign_exchange(record: ExchangeRecord, key: Ed25519PrivateKey) -> SignedExchange:
    """The record with its signature."""
    return SignedExchange(1, "exchange", record, signature_of(exchange_bytes(record), key))


def exchange_holds(signed: SignedExchange) -> bool:
    """Whether the key that the record names has signed exactly this record."""
    return signature_fits(exchange_bytes(signed.record), signed.signature)


def record_hash(signed: SignedExchange) -> str:
    """What the journal keeps of it: SHA-256 of what is signed, hexadecimal."""
    return hashlib.sha256(exchange_bytes(signed.record)).hexdigest()


def exchange_json(signed: SignedExchange) -> bytes:
    """The file's bytes, for people with an editor too."""
    return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"


class _Kind(msgspec.Struct):
    kind: str = ""


def read_any(path: Path) -> SignedRecord | SignedExchange:
    """A record's file, of a commissioning or of an exchange. Raises RecordError."""
    try:
        content = path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else b""
        if msgspec.json.decode(content, type=_Kind).kind != "exchange":
            return read_record(path)
        return msgspec.json.decode(content, type=SignedExchange)
    except OSError as problem:
        raise RecordError(f"{path}: {problem.strerror}") from problem
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return read_record(path)  # which says what is wrong


def exchange_page(signed: SignedExchange) -> str:
    """The same as a page to print, Chinese and English side by side."""
    return page_of("exchange.title", signed.record.account, _rows(signed))


def _rows(signed: SignedExchange) -> Iterator[tuple[str, str]]:
    """(field, its value as HTML)."""
    record, old, new = signed.record, signed.record.old, signed.record.new
    for name in ("account", "at", "position", "installer", "wattgate", "gateway", "line_id"):
        yield f"field.{name}", escape(f"{getattr(record, name)}") or "-"
    yield (
        "exchange.old",
        escape(f"{old.meter_id}, {old.model}, {old.serial or '-'}, {both('field.device_id')} {old.device_id}"),
    )
    yield "field.ct_ratio", f"{old.ct_ratio}" if old.ct_ratio == new.ct_ratio else f"{old.ct_ratio} → {new.ct_ratio}"
    yield "exchange.last", escape(f"{old.register} {old.unit} ({both(f'exchange.source.{old.source}')}), {old.at}")
    yield "exchange.charged", f"{old.last_wh - record.recorded_wh} Wh"
    yield "exchange.estimated", escape(f"{record.estimated_wh} Wh" if record.estimated_wh else both("exchange.nothing"))
    yield (
        "exchange.new",
        escape(f"{new.meter_id}, {new.model}, {new.serial or '-'}, {both('field.device_id')} {new.device_id}"),
    )
    yield "field.identity", escape(", ".join(f"{name} {value}" for name, value in new.identity.items())) or "-"
    witness = new.witness
    yield "exchange.first", escape(f"{witness.register} {witness.unit} ({witness.point}), {new.at}")
    yield "field.display", escape("-" if witness.display is None else f"{witness.display} {witness.unit}")
    yield "field.voltages", escape(", ".join(f"{name} {value} V" for name, value in witness.voltages.items())) or "-"
    yield "field.relay", escape(record.relay_id or "-")
    yield "exchange.relay_before", escape(_state(old.relay))
    yield "exchange.relay_after", escape(_state(new.relay))
    yield "exchange.control_state", escape(both(f"control.{record.control_state}"))
    yield from signature_rows(signed.signature)


def _state(word: RelayWord | None) -> str:
    return "-" if word is None else both(f"state.{word}")
