"""Test vectors of the contract: bytes another language must make or take, each with why it exists.

Everything is made from fixed keys and times, so the same code gives the same bytes. A vector says
`id`, `kind`, `why`, `bytes` (hex), what they were made from (`input`) and what must come of them
(`expected`). Kinds, and what a reader does with each, stand in the export's README.md.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from cloud_sync.acks import sign_ack
from cloud_sync.contract import sample
from cloud_sync.contract.exchanges import exchange_vectors
from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.envelope import DOMAIN_ACK, DOMAIN_APPROVAL, DOMAIN_DOCUMENT, DOMAIN_ORDER, seal
from cloud_sync.orders import approve_order, sign_document, sign_order
from cloud_sync.proof.checkpoint import DOMAIN_CHECKPOINT, sign_checkpoint
from cloud_sync.proof.head import DOMAIN_HEAD, TreeHead, sign_head
from cloud_sync.proof.merkle import consistency_path, inclusion_path, root_of
from cloud_sync.voucher import voucher_for_qr, voucher_for_typing
from cloud_sync.wire import CONTRACT_VERSION, ZERO_HASH, Document, Mark, Order, record_bytes, record_hash, topic_of

Vector = dict[str, Any]

# The batch `payload-batch` as zlib 1.3 makes it at level 6. Written down: other makers give other bytes for one text.
_BATCH_ZLIB: Final = bytes.fromhex(
    "789ca58fcf6a023110c6df65ce2b187551f7a6b75eaaf74624ee4e35904dc2666c2be2dd07e843f42c8214fa3a6a1fc3b82b2afe01c1"
    "1c86cc37dfcc8f6f0a1f10b100869f10f952621080a30c45ea7b85896fd19a78949bde65e628ffd90cfd1e949f7cfefac024121d446f"
    "30e540138b1c220ead3836634d1d8b1a130e0107417ec0eacdc3e65e293c85bfcc7297358ea41ef6b5d0c60ff6b6815042c77894661e"
    "7a8eea8a498a9a5ad62a7983c51e6585a758d7d4b3e125ffd5105e512b77a9845f85b0fdfed9cc57ebd562fbb7fc5ffe72b83cdc964a"
    "bd3837be11aafa68a812ab847743d51af5f018aa37db01e66eae46"
)


def vector_document() -> dict[str, Any]:
    """The whole file: keys, then vectors."""
    return {
        "contract": CONTRACT_VERSION,
        "note": "Keys here are for tests only: everybody knows them.",
        "domains": {
            "ack": DOMAIN_ACK.hex(),
            "order": DOMAIN_ORDER.hex(),
            "document": DOMAIN_DOCUMENT.hex(),
            "approval": DOMAIN_APPROVAL.hex(),
            "checkpoint": DOMAIN_CHECKPOINT.hex(),
            "head": DOMAIN_HEAD.hex(),
        },
        "keyring": [
            {
                "kid": entry.kid,
                "role": entry.role.value,
                "public_key": entry.public_key.public_bytes_raw().hex(),
                **({} if entry.credit_nano_max is None else {"credit_nano_max": entry.credit_nano_max}),
            }
            for entry in sample.RING
        ],
        "private_seeds": {
            name: sample.seed_of(name).hex() for name in (*sample.SIGNERS, sample.STRANGER.kid, "device")
        },
        "vectors": list(vectors()),
    }


def vectors() -> Iterator[Vector]:
    """Every vector, in the order of the prose."""
    yield from _topic_vectors()
    yield from _record_vectors()
    yield from _payload_vectors()
    yield from _ack_vectors()
    yield from _order_vectors()
    yield from _document_vectors()
    yield from _voucher_vectors()
    yield from _proof_vectors()
    yield from exchange_vectors()


def _topic_vectors() -> Iterator[Vector]:
    channel = "up/led"
    for gateway in (sample.GATEWAY, "GW_0000000000000000-042"):
        topic = topic_of(gateway, channel)
        why = "The shard is a function of the id, so that a broker's rules can be made without a table."
        yield _vector(f"topic-{gateway}", "topic", why, topic.encode(), {"gateway": gateway, "channel": channel}, topic)


def _record_vectors() -> Iterator[Vector]:
    for stream, epoch in (("led", 1), ("led", 2), ("evt", 1)):
        previous = ZERO_HASH
        for seq, body in enumerate(sample.BODIES, 1):
            why = "One chain per stream and epoch: each record names the hash of the one before, the first 32 zeros."
            if seq == 3:
                why = "The body is hashed as UTF-8 bytes, as sent."
            digest = record_hash(sample.GATEWAY, stream, epoch, seq, previous, body.encode())
            said = {"gateway": sample.GATEWAY, "stream": stream, "epoch": epoch, "seq": seq}
            said |= {"previous": previous.hex(), "body": body}
            content = record_bytes(sample.GATEWAY, stream, epoch, seq, previous, body.encode())
            yield _vector(f"record-{stream}-{epoch}-{seq}", "record", why, content, said, {"hash": digest.hex()})
            previous = digest


def _payload_vectors() -> Iterator[Vector]:
    batch, hello = sample.batch_of(sample.BODIES), sample.hello_of(4, sample.chain_of(sample.BODIES)[-1], 2)
    for name, channel, message, why in (
        ("hello", "up/hello", hello, "Said at every connect: the cloud sends what is pending."),
        ("status", "st", sample.status_of(online=True), "Retained; the Will is the same with online false."),
        ("batch", "up/led", batch, "Flag byte 0, then JSON. Only the hash before the first record travels."),
    ):
        yield _payload(f"payload-{name}", channel, sample.raw(message), why, _plain(message))
    packed = b"\1" + _BATCH_ZLIB
    why = "Flag byte 1: the same JSON in zlib's format (RFC 1950)."
    yield _payload("payload-batch-zlib", "up/led", packed, why, _plain(batch))
    text = sample.encoded(batch)
    for name, payload, reason, why in (
        ("empty", b"", "empty", "Nothing is no message."),
        ("flag", b"\2" + text, "flag", "A frame of a later contract is not guessed at."),
        ("cut", packed[:-5], "compression", "A stream without its end may lack records."),
        ("tail", packed + b"!", "compression", "Bytes after the end belong to nobody."),
        ("other-gateway", b"\0" + text.replace(b'"gw-1"', b'"gw-2"'), "gateway", "A device speaks only for itself."),
        ("version", b"\0" + text.replace(b'"v":1', b'"v":2'), "version", "Another contract is not read as this one."),
        ("unknown-field", b"\0" + text[:-1] + b',"x":1}', "malformed", "A batch with a field nobody knows is refused."),
        ("stream", b"\0" + text.replace(b'"stream":"led"', b'"stream":"res"'), "stream", "The topic names the stream."),
    ):
        yield _payload(f"payload-refused-{name}", "up/led", payload, why, {"refused": reason})


def _ack_vectors() -> Iterator[Vector]:
    mark = Mark(epoch=1, seq=4, hash=sample.chain_of(sample.BODIES)[-1].hex())
    marks = {"led": mark}
    ack = sign_ack(sample.ack_of(marks), sample.SIGNERS["ingest-1"])
    gap = Mark(epoch=1, seq=0, hash=ZERO_HASH.hex(), miss=(1, 2))
    asking = sign_ack(sample.ack_of({"led": gap}), sample.SIGNERS["ingest-1"])
    fence = Mark(epoch=2, seq=0, hash=ZERO_HASH.hex(), fenced=True)
    fencing = sign_ack(sample.ack_of({"led": fence}), sample.SIGNERS["ingest-1"])
    stranger = sign_ack(sample.ack_of(marks, "stranger-1"), sample.STRANGER)
    vend = sign_ack(sample.ack_of(marks, "vend-1"), sample.SIGNERS["vend-1"])
    other = sign_ack(sample.ack_of(marks, gateway="gw-2"), sample.SIGNERS["ingest-1"])
    wrong = seal(DOMAIN_ORDER, sample.SIGNERS["ingest-1"].key, sample.encoded(sample.ack_of(marks)))
    for name, envelope, refused, why in (
        ("", ack, None, "Everything up to the mark is committed; `at` is the server's time, a floor for the clock."),
        ("miss", asking, None, "Asks for records 1 to 2 again; the mark does not move."),
        ("fenced", fencing, None, "A newer epoch is open: stop sending this one."),
        ("refused-bit", _flipped(ack), "signature", "One bit of the content changed."),
        ("refused-domain", wrong, "signature", "A signature made for orders is worth nothing for an ack."),
        ("refused-key", stranger, "unknown_key", "A key that is not in the ring."),
        ("refused-role", vend, "role", "A known key of another role may not acknowledge."),
        ("refused-gateway", other, "gateway", "The ack of another gateway, on our topic."),
        ("refused-short", ack[:60], "version", "Shorter than its own frame."),
    ):
        expected = _plain(msgspec.json.decode(envelope[65:])) if refused is None else {"refused": refused}
        yield _vector("-".join(filter(None, ("ack", name))), "ack", why, envelope, _signed(DOMAIN_ACK), expected)


def _order_vectors() -> Iterator[Vector]:
    for name, why, envelope, refused in _orders():
        expected = _plain(msgspec.json.decode(envelope[65:])) if refused is None else {"refused": refused}
        yield _vector(f"order-{name}", "order", why, envelope, _signed(DOMAIN_ORDER), expected)


def _orders() -> Iterator[tuple[str, str, bytes, str | None]]:
    credit = _order(sample.credit_of())
    supply = {"exp": sample.AT + 3600, "sv": 3}
    refund_args = {"amount_nano": 10_000_000_000, "payment_id": "P-77"}
    refund = sample.order_of("refund", "ops-1", args=refund_args)
    approved = approve_order(refund, sample.SIGNERS["tariff-1"])
    self_approved = approve_order(refund, sample.SIGNERS["ops-1"])
    over = sample.credit_of(args={"amount_nano": sample.CREDIT_NANO_MAX + 1, "payment_id": "P-78"})
    nothing = sample.credit_of(args={"amount_nano": 0, "payment_id": "P-78"})
    yield "credit", "A payment. Counted once for ever by cid; no exp, valid on any clock.", credit, None
    yield "cut", "Ends at exp, and loses against a higher sv of the meter.", _order(_cut(**supply)), None
    yield "revoke", "Ends an order that is not answered yet.", _order(_revoke()), None
    yield "refund", "Takes money back: a second person's envelope stands in args.approval.", _order(approved), None
    yield "refused-bit", "One bit of the content changed.", _flipped(credit), "signature"
    wrong = seal(DOMAIN_ACK, sample.SIGNERS["vend-1"].key, sample.encoded(sample.credit_of()))
    yield "refused-domain", "Signed as something else.", wrong, "signature"
    stranger = sign_order(sample.credit_of(kid="stranger-1"), sample.STRANGER)
    yield "refused-key", "A key that is not in the ring.", stranger, "unknown_key"
    yield "refused-role", "An ops key may not credit.", _order(sample.credit_of(kid="ops-1")), "role"
    yield "refused-gateway", "Made for another gateway.", _order(sample.credit_of(gw="gw-2")), "wrong_gateway"
    yield "refused-exp", "A credit never expires by itself.", _order(sample.credit_of(exp=sample.AT)), "arguments"
    yield "refused-sv", "A cut without exp and sv could undo a later restore.", _order(_cut()), "arguments"
    yield "refused-cap", "One nano above what this key may credit.", _order(over), "cap"
    yield "refused-zero", "Nothing is no payment.", _order(nothing), "amount"
    yield "refused-approval", "Nobody approves an order of their own.", _order(self_approved), "approval"
    unknown = sample.order_of("open_valve", "ops-1")
    yield "refused-type", "A type this version does not know.", _order(unknown), "unknown_type"
    extra = seal(DOMAIN_ORDER, sample.SIGNERS["vend-1"].key, sample.encoded(sample.credit_of())[:-1] + b',"only_if":1}')
    yield "refused-field", "A field nobody knows may be a condition.", extra, "malformed"


def _document_vectors() -> Iterator[Vector]:
    document = Document(
        v=CONTRACT_VERSION,
        gw=sample.GATEWAY,
        kind="tariff",
        version=7,
        body='{"tariff_id":"home","version":7}',
        nbf=sample.AT,
        kid="tariff-1",
    )
    envelope = sign_document(document, sample.SIGNERS["tariff-1"])
    why = "Desired state; set_tariff puts it in force by version and SHA-256 of `body`."
    expected = {**_plain(document), "body_sha256": document.body_hash}
    yield _vector("document-tariff", "document", why, envelope, _signed(DOMAIN_DOCUMENT), expected)
    ops = sign_document(msgspec.structs.replace(document, kid="ops-1"), sample.SIGNERS["ops-1"])
    why = "Tariffs are a second person's business."
    yield _vector("document-refused-role", "document", why, ops, _signed(DOMAIN_DOCUMENT), {"refused": "role"})


def _voucher_vectors() -> Iterator[Vector]:
    envelope = _order(sample.credit_of())
    qr, typed = voucher_for_qr(envelope), voucher_for_typing(envelope)
    why_qr = "Version byte, length, envelope; Base45 (RFC 9285), then the check character: frame mod 37."
    why_typed = "The same frame in Crockford Base32 with check symbol, in groups of five."
    spoken = typed.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    wrong = typed[:7] + ("2" if typed[7] != "2" else "3") + typed[8:]
    for name, text, refused, why in (
        ("qr", qr, None, why_qr),
        ("typed", typed, None, why_typed),
        ("as-people-type", spoken, None, "Small letters, blanks for dashes, o for 0 and l for 1."),
        ("refused-typo", wrong, "check", "One wrong character is always noticed in the typed form."),
        ("refused-cut", typed[:-6], "check", "The end is missing."),
        ("refused-character", typed[:7] + "?" + typed[8:], "characters", "A character that cannot occur."),
        ("refused-empty", "", "empty", "Nothing was typed."),
    ):
        expected = {"refused": refused} if refused else {"envelope": envelope.hex()}
        yield _vector(f"voucher-{name}", "voucher", why, text.encode(), {"text": text}, expected)


def _proof_vectors() -> Iterator[Vector]:
    checkpoint = sample.checkpoint_of()
    envelope = sign_checkpoint(checkpoint, sample.DEVICE_KEY)
    why = "Daily, signed by the device: what the ledger is at one record. Travels as `detail` of an evt record."
    said = {**_signed(DOMAIN_CHECKPOINT), "public_key": sample.DEVICE_KEY.public_key().public_bytes_raw().hex()}
    yield _vector("checkpoint", "checkpoint", why, envelope, said, _plain(checkpoint))
    other = Ed25519PrivateKey.from_private_bytes(sample.seed_of("stranger-1"))
    forged = seal(DOMAIN_CHECKPOINT, other, sample.encoded(checkpoint))
    why = "Another key signed under the device key's id."
    yield _vector("checkpoint-refused-key", "checkpoint", why, forged, said, {"refused": "signature"})
    leaves = [envelope, b"second leaf", b"third leaf"]
    head = TreeHead(
        v=CONTRACT_VERSION,
        kid="ingest-1",
        at=sample.AT,
        day=sample.AT // 86_400,
        size=3,
        root=root_of(leaves).hex(),
        previous=ZERO_HASH.hex(),
    )
    tree = {"leaves": [leaf.hex() for leaf in leaves], **_signed(DOMAIN_HEAD)}
    expected = _plain(head) | {
        "inclusion": {str(index): [h.hex() for h in inclusion_path(leaves, index)] for index in range(3)},
        "consistency": {str(size): [h.hex() for h in consistency_path(leaves, size)] for size in (1, 2, 3)},
    }
    why = "RFC 6962: the root over the day's checkpoints, signed; paths show that one is in it and that it only grew."
    yield _vector("head", "head", why, sign_head(head, sample.SIGNERS["ingest-1"]), tree, expected)


# --- parts ------------------------------------------------------------------------------------


def _vector(name: str, kind: str, why: str, content: bytes, said: Any, expected: Any) -> Vector:
    return {"id": name, "kind": kind, "why": why, "bytes": content.hex(), "input": said, "expected": expected}


def _payload(name: str, channel: str, payload: bytes, why: str, expected: Any) -> Vector:
    said = {"gateway": sample.GATEWAY, "topic": topic_of(sample.GATEWAY, channel)}
    return _vector(name, "payload", why, payload, said, expected)


def _signed(domain: bytes) -> dict[str, Any]:
    return {"gateway": sample.GATEWAY, "domain": domain.hex()}


def _plain(message: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))


def _flipped(envelope: bytes) -> bytes:
    """One bit of the content turned so that it still reads as the same message with another number in it."""
    place = envelope.rindex(str(sample.AT).encode()) + 9
    return envelope[:place] + bytes((envelope[place] ^ 1,)) + envelope[place + 1 :]


def _order(order: Order) -> bytes:
    return sign_order(order, sample.SIGNERS[order.kid])


def _cut(**fields: Any) -> Order:
    return sample.order_of("cut", "ops-1", **fields)


def _revoke() -> Order:
    return sample.order_of("revoke", "ops-1", meter="", args={"cid": "cut-1"})
