"""Tokens entered one after the other into a decoder's memory, each as the object that commands print.

This is the whole behaviour of a decoder without a door: no lock, no account, no money. Keys are
integers, times ISO 8601 in UTC.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from edge.core.token import (
    CountMemory,
    KeySection,
    PaygoToken,
    StsMemory,
    StsToken,
    TokenKind,
    Unreadable,
)
from edge.tokens.openpaygo_scheme import NAMES, PaygoDevice, read_paygo
from edge.tokens.sts import ONE_METER, SECTION_OF, decoder_keys, read_sts, section_key_bits, typed_digits, well_formed

Record = dict[str, object]
_SUBCLASS_OF = {section: subclass for subclass, section in SECTION_OF.items()}


def sts_records(texts: Iterable[str], key: int, memory: StsMemory) -> Iterator[Record]:
    """What becomes of each token, in order: a replay is used, a key change changes the key of those after it."""
    for text in texts:
        digits = typed_digits(text)
        shown = digits if well_formed(digits) else text
        keys = decoder_keys(key, memory)
        read = read_sts(text, keys, memory.base_year)
        if isinstance(read, Unreadable):
            yield _refused(shown, read.reason)
        elif isinstance(read, KeySection):
            reason = memory.section_refusal(read)
            if reason is not None:
                yield _refused(shown, reason)
                continue
            completes = memory.completed_by(read)
            memory = memory.with_section(read)
            record = _section_record(read, keys[1 if read.other_key else 0])
            yield {**record, **(_new_key_fields(key, memory) if completes else {})}
        else:
            reason = memory.refusal(read)
            if reason is None and read.tid is not None:
                memory = memory.with_tid(read.tid, other_key=read.other_key)
            yield _refused(shown, reason) if reason is not None else _sts_record(shown, read)


def paygo_records(texts: Iterable[str], device: PaygoDevice, memory: CountMemory) -> Iterator[Record]:
    """What becomes of each token, in order."""
    for text in texts:
        read = read_paygo(text, device, memory)
        shown = typed_digits(text) if not (isinstance(read, Unreadable) and read.reason == "malformed") else text
        reason = read.reason if isinstance(read, Unreadable) else memory.refusal(read)
        if reason is not None:
            yield _refused(shown, reason)
            continue
        assert isinstance(read, PaygoToken)
        memory = memory.with_count(read.count, read.kind)
        valued = read.kind in (TokenKind.CREDIT, TokenKind.SET_CREDIT)
        yield {
            "token": shown,
            "ok": True,
            "value": read.value if valued else None,
            "type": NAMES[read.kind],
            "count": read.count,
        }


def _refused(token: str, reason: str) -> Record:
    return {"token": token, "ok": False, "reason": reason}


def _sts_record(digits: str, token: StsToken) -> Record:
    record: Record = {
        "token": digits,
        "ok": True,
        "class": token.token_class,
        "subclass": token.subclass,
        "random": token.random,
        "tid": token.tid,
        "issued_at": None if token.issued_at is None else utc_text(token.issued_at),
        "amount_tenths": token.amount_tenths,
    }
    if token.value is not None:
        record["value"] = token.value
    if token.control is not None:
        record["control"] = f"{token.control:011x}"
    return record


def _section_record(section: KeySection, key: int) -> Record:
    record: Record = {
        "token": section.digits,
        "ok": True,
        "class": ONE_METER,
        "subclass": _SUBCLASS_OF[section.number],
        "section": section.number,
    }
    if section.number == 1:
        record |= {
            "ken_high": section.key_expiry_part,
            "krn": section.key_revision,
            "rollover": section.rollover,
            "key_type": section.key_type,
        }
    elif section.number == 2:
        record |= {"ken_low": section.key_expiry_part, "ti": section.tariff_index}
    else:
        record["sgc_low" if section.number == 3 else "sgc_high"] = section.supply_group_part
    return record | {"key_bits": f"{section_key_bits(section.digits, key):08x}"}


def _new_key_fields(key: int, memory: StsMemory) -> Record:
    return {
        "key_changed": True,
        "decoder_key": f"{decoder_keys(key, memory)[0]:032x}",
        "base": memory.base_year,
        "ken": memory.key_expiry,
        "sgc": memory.supply_group,
    }


def utc_text(at: int) -> str:
    """An instant as people and programs read it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
