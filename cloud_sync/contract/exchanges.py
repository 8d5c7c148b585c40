"""Conversations with a backend, message by message: what the gateway sends, and which marks the ack must state.

A backend begins with the gateway enrolled and the epoch of `setup` open. `verdict` is a word for people.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.contract.sample import BODIES, GATEWAY, batch_of, chain_of, hello_of, raw
from cloud_sync.wire import ZERO_HASH, topic_of

_CHAIN: Final = chain_of(BODIES)
_LED: Final = topic_of(GATEWAY, "up/led")
_HELLO: Final = topic_of(GATEWAY, "up/hello")
_FORKED: Final = BODIES[1].replace("50000000000", "90000000000")


@dataclass(frozen=True, slots=True)
class Step:
    """One message and what comes of it. `mark`: of led in the ack, None when there must be no ack at all."""

    topic: str
    payload: bytes
    verdict: str
    mark: dict[str, Any] | None


def exchange_vectors() -> Iterator[dict[str, Any]]:
    """All conversations."""
    first = Step(_LED, raw(batch_of(BODIES[:2])), "taken", _mark(2))
    yield _exchange(
        "hello-then-led",
        "The way it goes: hello is answered with marks, records are taken and acknowledged after the commit.",
        [
            Step(_HELLO, raw(hello_of(2, _CHAIN[1])), "hello", _mark(0)),
            first,
            Step(_LED, raw(batch_of(BODIES[2:], 3, _CHAIN[1])), "taken", _mark(4)),
        ],
    )
    yield _exchange(
        "duplicate",
        "QoS 1 repeats, and so does a gateway without an ack: the same records again change nothing and are acked.",
        [first, Step(_LED, first.payload, "duplicate", _mark(2))],
    )
    yield _exchange(
        "overlap",
        "A resend may begin before the mark and end after it: the known part must agree, the rest is taken.",
        [first, Step(_LED, raw(batch_of(BODIES[1:], 2, _CHAIN[0])), "taken", _mark(4))],
    )
    yield _exchange(
        "fork",
        "A second history (a cloned card, a changed record): the same sequence with other bytes moves no mark.",
        [first, Step(_LED, raw(batch_of((BODIES[0], _FORKED))), "fork", _mark(2))],
    )
    yield _exchange(
        "fork-behind-the-mark",
        "A record that does not follow the one acknowledged is a fork too, though its sequence is the next.",
        [first, Step(_LED, raw(batch_of(BODIES[2:3], 3, _CHAIN[0])), "fork", _mark(2))],
    )
    yield _exchange(
        "gap",
        "A message was lost: what comes too early is kept aside, the mark stays, and `miss` asks for the hole.",
        [
            Step(_LED, raw(batch_of(BODIES[2:], 3, _CHAIN[1])), "gap", {**_mark(0), "miss": [1, 2]}),
            Step(_LED, first.payload, "taken", _mark(4)),
        ],
    )
    fenced = Step(_LED, first.payload, "fenced", {**_mark(0, epoch=2), "fenced": True})
    yield _exchange(
        "fenced-epoch",
        "A store of an older epoch (rolled back, or replaced) is told to stop: its spent credit cannot come again.",
        [fenced],
        epoch=2,
    )
    yield _exchange(
        "epoch-not-permitted",
        "A newer epoch without the operator's permit is not taken and not answered.",
        [Step(_LED, raw(batch_of(BODIES[:1], epoch=2)), "epoch_not_permitted", None)],
    )


def _exchange(name: str, why: str, steps: Sequence[Step], epoch: int = 1) -> dict[str, Any]:
    return {
        "id": f"exchange-{name}",
        "kind": "exchange",
        "why": why,
        "setup": {"gateway": GATEWAY, "epoch": epoch},
        "steps": [
            {
                "topic": step.topic,
                "bytes": step.payload.hex(),
                "expected": {"verdict": step.verdict, "mark": step.mark},
            }
            for step in steps
        ],
    }


def _mark(seq: int, epoch: int = 1) -> dict[str, Any]:
    return {"epoch": epoch, "seq": seq, "hash": (_CHAIN[seq - 1] if seq else ZERO_HASH).hex()}
