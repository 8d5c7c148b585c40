"""What `wattgate verify --json` and `wattgate explain --json` print, as types, and their JSON Schema:
`python3 -m edge.store.output` prints it. Money nano-currency, times Unix seconds.
"""

import json
import sys
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

SCHEMA_FILE = "store.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Stream = Literal["led", "res", "evt", "rdg"]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]


class _Record(Struct, forbid_unknown_fields=True):
    """Nothing but the fields named."""


class Records(_Record):
    """How many records a stream holds."""

    led: Count
    res: Count
    evt: Count
    rdg: Count


class ProblemFound(_Record):
    """One thing that is wrong. `stream` may name another part: journal, seal, checkpoint, snapshot, anchor."""

    stream: str
    seq: int | None
    problem: str


class VerifyOutput(_Record):
    """Of `verify`. `place` and `seal` are what an anchor would hold; `anchor` is none, agrees or why not."""

    store: str
    schema: Annotated[int, Meta(ge=1)]
    gateway: str
    epoch: Count
    records: Records
    place: Count
    seal: Sha256
    checkpoints: Count
    anchor: Literal[
        "none",
        "agrees",
        "journal_missing",
        "journal_behind",
        "other_history",
        "other_gateway",
        "anchor_missing",
        "anchor_unreadable",
    ]
    problems: list[ProblemFound]


class RecordNamed(_Record):
    """A record of the journal."""

    stream: Stream
    seq: Annotated[int, Meta(ge=1)]


class VerdictOutput(_Record):
    """Why the supply is as it is. `because` are the records it rests on."""

    supply: Literal["connected", "disconnected", "ready_for_reconnection", "unknown"]
    code: Literal[
        "not_opened",
        "in_credit",
        "protected",
        "keep_supply",
        "register_hold",
        "supply_hold",
        "reserve_low",
        "notice_not_delivered",
        "blocked",
        "grace_runs",
        "due",
        "cut",
        "ready",
    ]
    reason: str
    because: list[RecordNamed]
    output_connected: bool | None
    money_nano: int
    live_balance_nano: int
    blockers: list[str]
    grace_left_s: Count | None


class ChainLine(_Record):
    """One record of the story, in words."""

    stream: Stream
    seq: Annotated[int, Meta(ge=1)]
    at: int
    type: str
    text: str
    because: bool


class ExplainOutput(_Record):
    """Of `explain`: the answer in words, its verdict, and the records from early to late."""

    account: str
    at: int
    text: str
    verdict: VerdictOutput
    chain: list[ChainLine]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of both."""
    (verify, explain), definitions = msgspec.json.schema_components(
        (VerifyOutput, ExplainOutput), ref_template="#/$defs/{name}"
    )
    title = "the object that wattgate verify or wattgate explain prints with --json"
    return {"$schema": _DIALECT, "title": title, "anyOf": [verify, explain], "$defs": definitions}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
