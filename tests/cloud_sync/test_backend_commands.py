"""The command desk and its relay: one command for one payment, sent until the result is there."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.commands import OrderNotPossible, Placed
from cloud_sync.backend.ingest import Received
from cloud_sync.backend.relay import PER_GATEWAY_MAX, RESEND_SECONDS_FIRST, RESEND_SECONDS_MAX
from cloud_sync.keys import KeyRing, Role, Signer, generate_key_directory
from cloud_sync.orders import verify_document, verify_order
from cloud_sync.session import Publish
from cloud_sync.wire import (
    ZERO_HASH,
    Batch,
    Document,
    Hello,
    Order,
    encode_payload,
    record_hash,
    roster_hash,
    topic_of,
)

GATEWAY = "gw-1"
CAP_NANO = 1_000_000_000_000


def order_in(envelope: bytes | None, ring: KeyRing) -> Order:
    assert envelope is not None
    order = verify_order(envelope, ring, GATEWAY)
    assert isinstance(order, Order), order
    return order


def result(cid: str, text: str, first: int = 1, previous_hash: bytes = ZERO_HASH) -> Received:
    body = f'{{"type":"CommandApplied","cid":"{cid}","result":"{text}"}}'
    batch = Batch(v=1, gw=GATEWAY, stream="res", epoch=1, first=first, prev=previous_hash.hex(), bodies=(body,))
    return Received(topic_of(GATEWAY, "up/res"), encode_payload(batch))


def hello() -> Received:
    said = Hello(
        v=1, gw=GATEWAY, epoch=1, boot="b", clock="ntp", at=5, software="1", roster=(), roster_hash=roster_hash(()),
        heads={},
    )  # fmt: skip
    return Received(topic_of(GATEWAY, "up/hello"), encode_payload(said))


def commands_in(messages: list[Publish]) -> list[bytes]:
    return [message.payload for message in messages if message.topic == topic_of(GATEWAY, "dn/cmd")]


def test_credit_is_an_order_the_gateway_accepts(backend: Backend, ring: KeyRing) -> None:
    placed = backend.credit(GATEWAY, "m-1", "p-1", 5_000_000_000, at=1234)
    order = order_in(backend.desk.envelope(placed.cid), ring)
    assert placed.new
    assert order.args == {"amount_nano": 5_000_000_000, "payment_id": "p-1", "paid_at": 1234}
    assert (order.type, order.meter, order.exp, order.cid) == ("credit", "m-1", None, placed.cid)


def test_payment_that_comes_again_makes_no_second_command(backend: Backend) -> None:
    first = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    envelope = backend.desk.envelope(first.cid)
    assert backend.credit(GATEWAY, "m-1", "p-1", 5, at=2000) == Placed(first.cid, new=False)
    assert backend.desk.envelope(first.cid) == envelope
    assert len(commands_in(backend.commands_due(0.0))) == 1
    assert backend.database.execute("SELECT count(*) FROM command").fetchone() == (1,)


@pytest.mark.parametrize(("meter", "amount_nano"), [("m-2", 5), ("m-1", 6)])
def test_payment_id_with_other_facts_is_a_conflict(backend: Backend, meter: str, amount_nano: int) -> None:
    backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    with pytest.raises(OrderNotPossible, match="payment_conflict"):
        backend.credit(GATEWAY, meter, "p-1", amount_nano, at=1000)


@pytest.mark.parametrize(
    ("gateway", "meter", "payment_id", "amount_nano", "reason"),
    [
        ("gw-9", "m-1", "p", 5, "unknown_gateway"),
        (GATEWAY, "m-1", "p", 0, "amount"),
        (GATEWAY, "m-1", "p", -5, "amount"),
        (GATEWAY, "m-1", "p", CAP_NANO + 1, "cap"),
        (GATEWAY, "", "p", 5, "arguments"),
        (GATEWAY, "m-1", "", 5, "arguments"),
        (GATEWAY, "m 1", "p", 5, "malformed"),
    ],
)
def test_credit_the_gateway_would_refuse_is_not_placed(
    backend: Backend, gateway: str, meter: str, payment_id: str, amount_nano: int, reason: str
) -> None:
    with pytest.raises(OrderNotPossible) as refused:
        backend.credit(gateway, meter, payment_id, amount_nano, at=1000)
    assert refused.value.reason == reason
    assert backend.database.execute("SELECT count(*) FROM command").fetchone() == (0,)
    assert backend.database.execute("SELECT count(*) FROM payment").fetchone() == (0,)


def test_each_supply_order_of_a_meter_has_a_higher_version(backend: Backend, ring: KeyRing) -> None:
    cids = [
        backend.cut(GATEWAY, "m-1", 1000).cid,
        backend.restore(GATEWAY, "m-1", 1000).cid,
        backend.cut(GATEWAY, "m-1", 1000).cid,
        backend.cut(GATEWAY, "m-2", 1000).cid,
    ]
    orders = [order_in(backend.desk.envelope(cid), ring) for cid in cids]
    assert [(order.type, order.meter, order.sv) for order in orders] == [
        ("cut", "m-1", 1), ("restore", "m-1", 2), ("cut", "m-1", 3), ("cut", "m-2", 1),
    ]  # fmt: skip
    assert {order.exp for order in orders} == {1000 + 24 * 3600}


def test_tariff_travels_as_a_document_before_the_order_that_names_it(backend: Backend, ring: KeyRing) -> None:
    placed = backend.set_tariff(GATEWAY, 3, '{"price": 1}', effective_at=90_000, at=1000)
    document_message, order_message = backend.commands_due(0.0)
    document = verify_document(document_message.payload, ring, GATEWAY)
    assert isinstance(document, Document)
    assert document_message.topic == topic_of(GATEWAY, "dn/cfg")
    assert (document.kind, document.version, document.body) == ("tariff", 3, '{"price": 1}')
    order = order_in(order_message.payload, ring)
    assert order.args == {"version": 3, "hash": document.body_hash, "effective_at": 90_000}
    assert backend.set_tariff(GATEWAY, 3, '{"price": 1}', 90_000, 2000) == Placed(placed.cid, new=False)
    with pytest.raises(OrderNotPossible, match="document_conflict"):
        backend.set_tariff(GATEWAY, 3, '{"price": 1000}', 90_000, 2000)


def test_desk_without_a_key_cannot_sign(ring: KeyRing, signers: Mapping[Role, Signer]) -> None:
    backend = Backend(":memory:", ring, {Role.INGEST: signers[Role.INGEST], Role.VEND: signers[Role.VEND]})
    backend.enroll(GATEWAY, 1)
    with pytest.raises(OrderNotPossible, match="no_key"):
        backend.cut(GATEWAY, "m-1", 1000)
    with pytest.raises(OrderNotPossible, match="no_key"):
        backend.set_tariff(GATEWAY, 1, "{}", 1, 1)
    assert backend.credit(GATEWAY, "m-1", "p", 5, 1000).new
    backend.close()


def test_command_is_repeated_with_growing_pauses_until_its_result(backend: Backend) -> None:
    placed = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    sent_at = [tick for tick in range(4000) if commands_in(backend.commands_due(float(tick)))]
    pauses = [after - before for before, after in pairwise(sent_at)]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]
    assert (pauses[0], pauses[-1]) == (RESEND_SECONDS_FIRST, RESEND_SECONDS_MAX)
    assert backend.metrics()["commands_pending"] == 1
    backend.take([result(placed.cid, "applied")], 2000, 4000.0)
    assert backend.result_of(placed.cid) == "applied"
    assert backend.commands_due(10_000.0) == []
    assert backend.metrics()["commands_pending"] == 0


def test_hello_brings_everything_pending_at_once_and_makes_the_pause_short(backend: Backend) -> None:
    first = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    second = backend.cut(GATEWAY, "m-1", at=1001)
    for tick in range(1000):
        backend.commands_due(float(tick))
    envelopes = [backend.desk.envelope(placed.cid) for placed in (first, second)]
    assert commands_in(backend.take([hello()], 2000, 1001.0)) == envelopes
    assert commands_in(backend.commands_due(1005.9)) == []
    assert commands_in(backend.commands_due(1006.0)) == envelopes


def test_no_gateway_is_sent_more_at_once_than_it_can_take(backend: Backend) -> None:
    """A gateway back after a week dropped the orders that its queue had no room for: a payment came too late."""
    placed = [backend.credit(GATEWAY, "m-1", f"p-{number}", 5, at=1000) for number in range(100)]
    envelopes = [backend.desk.envelope(order.cid) for order in placed]
    assert commands_in(backend.take([hello()], 2000, 1.0)) == envelopes[:PER_GATEWAY_MAX]
    assert commands_in(backend.commands_due(1.1)) == []
    backend.take([result(placed[0].cid, "applied")], 2000, 1.2)
    assert commands_in(backend.commands_due(1.2)) == envelopes[PER_GATEWAY_MAX : PER_GATEWAY_MAX + 1]
    assert commands_in(backend.commands_due(1.3)) == []
    assert len(commands_in(backend.commands_due(6.3))) == PER_GATEWAY_MAX  # nobody answered: they count as lost


def test_restarted_backend_sends_what_is_pending(tmp_path: Path, keys: Any) -> None:
    backend = Backend(tmp_path / "cloud.db", *keys)
    backend.enroll(GATEWAY, 1)
    placed = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    envelope = backend.desk.envelope(placed.cid)
    assert commands_in(backend.commands_due(0.0)) == [envelope]
    backend.close()
    again = Backend(tmp_path / "cloud.db", *keys)
    assert commands_in(again.commands_due(0.0)) == [envelope]
    again.close()


def test_order_placed_by_another_process_is_sent_by_the_running_one(tmp_path: Path, keys: Any) -> None:
    service, desk = Backend(tmp_path / "cloud.db", *keys), Backend(tmp_path / "cloud.db", *keys)
    service.enroll(GATEWAY, 1)
    placed = desk.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    assert commands_in(service.commands_due(0.0)) == [desk.desk.envelope(placed.cid)]
    service.close()
    desk.close()


def test_first_result_stands_and_a_foreign_one_changes_nothing(backend: Backend) -> None:
    placed = backend.credit(GATEWAY, "m-1", "p-1", 5, at=1000)
    body = f'{{"type":"CommandApplied","cid":"{placed.cid}","result":"applied"}}'.encode()
    head = record_hash(GATEWAY, "res", 1, 1, ZERO_HASH, body)
    backend.take([result(placed.cid, "applied"), result(placed.cid, "rejected", 2, head)], 2000, 0.0)
    assert backend.result_of(placed.cid) == "applied"
    backend.enroll("gw-2", 1)
    other = backend.credit("gw-2", "m-1", "p-2", 5, at=1000)
    foreign_hash = record_hash(
        GATEWAY, "res", 1, 2, head, f'{{"type":"CommandApplied","cid":"{placed.cid}","result":"rejected"}}'.encode()
    )
    backend.take([result(other.cid, "applied", 3, foreign_hash)], 2000, 0.0)
    assert backend.counts(GATEWAY) == {"res": 3}
    assert backend.result_of(other.cid) is None


@pytest.mark.parametrize("gateway_id", ["", "a b", "x" * 24, "gw-1\n", "gw/1", "+"])
def test_only_a_gateway_id_can_be_enrolled(backend: Backend, gateway_id: str) -> None:
    with pytest.raises(ValueError, match="gateway id"):
        backend.enroll(gateway_id, 1)


def test_key_directory_opens_a_backend(tmp_path: Path) -> None:
    generate_key_directory(tmp_path / "keys")
    backend = Backend.from_directory(":memory:", tmp_path / "keys")
    backend.enroll(GATEWAY, 1)
    assert backend.credit(GATEWAY, "m-1", "p-1", 5, 1).new
    backend.close()
    (tmp_path / "keys" / "ingest-1.pem").unlink()
    with pytest.raises(ValueError, match="ingest"):
        Backend.from_directory(":memory:", tmp_path / "keys")
