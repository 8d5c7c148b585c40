"""Policy documents: what a site decides about one customer, signed, versioned and dated.

A document names a policy and its version, from when until when it holds, and the risk levels under
which other figures stand (RULES.md 6 and 9: one customer, one policy). A level that has expired
falls back to the normal policy, never to a harsher one; that is decided in edge.core. The
signature is checked before the text comes here. Times are local dates or Unix seconds, as named.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from edge.core.calendar import DailyWindows, daily_windows
from edge.core.credit_terms import CreditTerms
from edge.core.lean import dataclass
from edge.core.policy import LoadLimit, Policy
from edge.core.policy_ranges import check_policy

DOCUMENT_BYTES_MAX = 64_000
SEGMENTS = ("household", "small_business", "industry", "public_body", "landlord", "statutory")
_HEAD = ("format", "policy_id", "version", "segment", "title", "valid_until", "policy", "risk_levels", "provenance")
_OWN = ("policy_id", "version", "signed_by", "valid_until")  # said by the head and by the signature
_NESTED: Mapping[str, Any] = {"credit": CreditTerms, "load_limit": LoadLimit}


class PolicyRefused(ValueError):
    """Why a document is no policy: where, what was found, what is allowed."""

    def __init__(self, pointer: str, found: str, allowed: str) -> None:
        super().__init__(f"policy refused at {pointer or '/'}: found {found}; allowed is {allowed}")
        self.pointer = pointer


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy as written: the normal one, and what differs under each risk level."""

    segment: str
    normal: Policy
    levels: Mapping[str, Policy]


def load_policy(text: str, signed_by: str) -> PolicyDocument:
    """The policy in a document's text. `signed_by`: the key that vouches for it. Raises PolicyRefused."""
    if len(text.encode("utf-8", "replace")) > DOCUMENT_BYTES_MAX:
        raise PolicyRefused("", "a longer text", f"{DOCUMENT_BYTES_MAX} bytes")
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise PolicyRefused("", f"no JSON ({str(error)[:100]})", "one JSON object") from None
    head = _read_head(document)
    stated = _object(head["policy"], "/policy")
    own = {"policy_id": head["policy_id"], "version": head["version"], "signed_by": signed_by}
    until = head.get("valid_until")
    normal = _policy(stated, own | {"valid_until": until}, "/policy")
    levels = {}
    for level, changes in _object(head.get("risk_levels", {}), "/risk_levels").items():
        pointer = f"/risk_levels/{level}"
        levels[level] = _policy({**stated, **_object(changes, pointer)}, own | {"valid_until": until}, pointer)
    return PolicyDocument(str(head["segment"]), normal, levels)


def _read_head(document: Any) -> dict[str, Any]:
    head = _object(document, "")
    _refuse_unknown(head, _HEAD, "")
    for name in ("format", "policy_id", "version", "segment", "policy"):
        if name not in head:
            raise PolicyRefused("", f"no {name}", f"an object with {name}")
    if head["format"] != 1 or isinstance(head["format"], bool):
        raise PolicyRefused("/format", repr(head["format"])[:40], "1")
    if head["segment"] not in SEGMENTS:
        raise PolicyRefused("/segment", repr(head["segment"])[:40], ", ".join(SEGMENTS))
    name = head["policy_id"]
    if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isascii() or not name.isprintable():
        raise PolicyRefused("/policy_id", repr(name)[:80], "1 to 64 printable ASCII characters")
    until = head.get("valid_until")
    if until is not None and (isinstance(until, bool) or not isinstance(until, int) or until < 0):
        raise PolicyRefused("/valid_until", repr(until)[:40], "Unix seconds, or null")
    return head


def _policy(stated: Mapping[str, Any], own: Mapping[str, Any], pointer: str) -> Policy:
    """A policy from its stated fields; what is not stated is the default of edge.core.policy."""
    allowed = tuple(field.name for field in fields(Policy) if field.name not in _OWN)
    _refuse_unknown(stated, allowed, pointer)
    values: dict[str, Any] = dict(own)
    for name, value in stated.items():
        values[name] = _value(name, value, f"{pointer}/{name}")
    try:
        policy = msgspec.convert(values, Policy)
        check_policy(policy)
    except ValueError as error:  # msgspec's validation errors are some too
        raise PolicyRefused(pointer, str(error)[:200], "what edge/policies/README.md lists") from None
    return policy


def _value(name: str, value: Any, pointer: str) -> Any:
    if name in _NESTED and value is not None:
        _refuse_unknown(_object(value, pointer), tuple(field.name for field in fields(_NESTED[name])), pointer)
        return value
    if not name.endswith("_windows") or value is None:
        return value
    return _windows(_object(value, pointer), pointer)


def _windows(stated: Mapping[str, Any], pointer: str) -> DailyWindows:
    """Windows as people write them: {"windows": [["08:00", "20:00"]], "days": ["mon"], "holidays": ["2026-10-01"]}."""
    _refuse_unknown(stated, ("windows", "days", "holidays"), pointer)
    try:
        pairs = [(str(first), str(end)) for first, end in stated.get("windows", ())]
        days = {"days": list(stated["days"])} if "days" in stated else {}
        return daily_windows(pairs, holidays=[str(day) for day in stated.get("holidays", ())], **days)
    except (ValueError, TypeError) as error:
        raise PolicyRefused(pointer, str(error)[:120], "windows as HH:MM pairs, days as mon..sun, dates") from None


def policy_fields() -> dict[str, str]:
    """Every field a document may state, with its default as JSON: for the README and for `templates`."""
    policy = Policy()
    return {
        field.name: json.dumps(_plain(getattr(policy, field.name)))
        for field in fields(Policy)
        if field.name not in _OWN
    }


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value) if is_dataclass(value) or not isinstance(value, str | int) else value


def _object(value: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PolicyRefused(pointer, type(value).__name__, "an object")
    return value


def _refuse_unknown(stated: Mapping[str, Any], allowed: tuple[str, ...], pointer: str) -> None:
    unknown = sorted(set(stated) - set(allowed))
    if unknown:
        raise PolicyRefused(f"{pointer}/{unknown[0][:40]}", "an unknown field", ", ".join(allowed))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
