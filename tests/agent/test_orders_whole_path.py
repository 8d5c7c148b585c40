"""From the backend's desk to the account and back: signed, sent, obeyed, answered, with every check in between."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.commands import OrderNotPossible, Placed, Risk
from cloud_sync.backend.ingest import Received
from cloud_sync.keys import Role, generate_keys
from cloud_sync.wire import ZERO_HASH, Batch, encode_payload, record_hash, topic_of
from edge.agent.order_desk import OrderDesk
from edge.bootstrap import _Checks
from edge.core import events as ev
from edge.policies.document import load_policy
from edge.store.codec import encode_event

Run = Callable[[Coroutine[Any, Any, Any]], Any]

GATEWAY = "gw-1"
YUAN = 1_000_000_000
DAY_S = 86_400


class Path:
    """A street under one gateway, its backend, and a wire that carries what one says to the other."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.world = kit.World(kit.House(1, opening_nano=10 * YUAN), kit.House(2, opening_nano=10 * YUAN))
        self.ring, self.signers = generate_keys()
        self.backend = Backend(":memory:", self.ring, self.signers)
        self.backend.enroll(GATEWAY, kit.start_at)
        self.results_sent, self.head, self.now = 0, ZERO_HASH, 0.0

    def open_desk(self) -> OrderDesk:
        gateway = self.world.gateway
        return OrderDesk(
            _Checks(self.ring, GATEWAY),
            {"M01": "A01", "M02": "A02"},
            self.world.read,
            lambda: gateway.state,
            gateway.newest_sample,
            gateway.submit,
            load_policy,
        )

    async def carry(self) -> None:
        """What is due goes down, twice as brokers may; then the results go up."""
        desk = self.open_desk()
        self.now += 1000
        for message in self.backend.commands_due(self.now):
            for _ in range(2):
                if message.topic == topic_of(GATEWAY, "dn/cfg"):
                    await desk.take_document(message.payload)
                else:
                    await desk.take_order(message.payload, "cloud")
        results = [encode_event(event)[1] for event in self.world.log.events if event.stream == "res"]
        for body in results[self.results_sent :]:
            self.results_sent += 1
            batch = Batch(
                v=1, gw=GATEWAY, stream="res", epoch=1, first=self.results_sent,
                prev=self.head.hex(), bodies=(body.decode(),),
            )  # fmt: skip
            self.head = record_hash(GATEWAY, "res", 1, self.results_sent, self.head, body)
            self.backend.take([Received(topic_of(GATEWAY, "up/res"), encode_payload(batch))], self.at, self.now)

    async def order(self, placed: Placed) -> str | None:
        await self.carry()
        return self.backend.result_of(placed.cid)

    @property
    def at(self) -> int:
        return int(self.world.read().at)

    def policy_of(self, account_id: str) -> tuple[str, int, int, str]:
        account = self.world.gateway.state.accounts[account_id]
        return account.policy.policy_id, account.policy.version, account.policy.grace_hours, account.risk_level


@pytest.fixture
def on_path(virtual: Run, kit: Any) -> Callable[[Callable[[Path], Coroutine[Any, Any, Any]]], Any]:
    def run(scenario: Callable[[Path], Coroutine[Any, Any, Any]]) -> Any:
        async def whole() -> None:
            path = Path(kit)
            await path.world.live(1)
            await scenario(path)
            assert path.world.log.replay() == path.world.gateway.state
            assert path.backend.problems() == []
            path.backend.close()

        return virtual(whole())

    return run


def policy(version: int = 1, **changes: Any) -> str:
    document: dict[str, Any] = {
        "format": 1, "policy_id": "household", "version": version, "segment": "household",
        "policy": {"grace_hours": 96}, "risk_levels": {"high": {"grace_hours": 24}},
    }  # fmt: skip
    return json.dumps(document | changes)


def test_a_policy_placed_in_the_cloud_is_in_force_on_site_and_its_result_is_known(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        place = path.backend.desk.set_policy
        assert await path.order(place(GATEWAY, 1, policy(), path.at, ["M01"])) == "applied"
        assert path.policy_of("A01") == ("household", 1, 96, "")
        assert path.policy_of("A02")[0] == "normal"
        risk = Risk("high", path.at + DAY_S)
        assert await path.order(place(GATEWAY, 1, policy(), path.at, ["M01", "M02"], risk)) == "applied"
        assert path.policy_of("A01") == path.policy_of("A02") == ("household", 1, 24, "high")
        path.world.start()
        await path.world.live(2)
        assert path.policy_of("A01") == ("household", 1, 24, "high")
        await path.world.live(25)
        assert path.policy_of("A01") == path.policy_of("A02") == ("household", 1, 96, "")
        assert await path.order(place(GATEWAY, 2, policy(2), path.at)) == "applied"
        assert path.policy_of("A02") == ("household", 2, 96, "")
        assert len(path.world.log.of(ev.PolicyAccepted)) == 2
        assert {event.signed_by for event in path.world.log.of(ev.PolicyAccepted)} == {"ops-1"}

    on_path(scenario)


def test_a_policy_that_has_expired_on_the_way_is_rejected_and_the_cloud_learns_it(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        body = policy(valid_until=path.at)
        assert await path.order(path.backend.desk.set_policy(GATEWAY, 1, body, path.at, ["M01"])) == "rejected"
        assert path.policy_of("A01")[0] == "normal"
        assert path.backend.metrics()["commands_pending"] == 0

    on_path(scenario)


def test_one_version_of_a_policy_is_never_two_documents(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        path.backend.desk.set_policy(GATEWAY, 1, policy(), path.at)
        with pytest.raises(OrderNotPossible, match="document_conflict"):
            path.backend.desk.set_policy(GATEWAY, 1, policy(title={"en": "other"}), path.at)
        assert path.backend.desk.set_policy(GATEWAY, 1, policy(policy_id="shop"), path.at).new

    on_path(scenario)


def test_a_payment_is_taken_back_by_two_persons_and_the_ledger_names_them(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        desk, second = path.backend.desk, path.signers[Role.TARIFF]
        assert await path.order(path.backend.credit(GATEWAY, "M01", "P-1", 5 * YUAN, path.at)) == "applied"
        part = desk.take_back(GATEWAY, "M01", "P-1", 2 * YUAN, second, path.at)
        assert await path.order(part) == "applied"
        assert desk.take_back(GATEWAY, "M01", "P-1", 2 * YUAN, second, path.at) == Placed(part.cid, new=False)
        assert await path.order(desk.take_back(GATEWAY, "M01", "P-1", None, second, path.at)) == "applied"
        assert path.world.gateway.state.accounts["A01"].money_nano == 10 * YUAN
        assert {event.signed_by for event in path.world.log.of(ev.PaymentReversed)} == {("ops-1", "tariff-1")}
        with pytest.raises(OrderNotPossible, match="approval"):
            desk.take_back(GATEWAY, "M01", "P-1", None, path.signers[Role.OPS], path.at, reference="again")

    on_path(scenario)


def test_a_revoked_credit_never_counts_and_one_that_counted_cannot_be_revoked(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        desk = path.backend.desk
        credit = path.backend.credit(GATEWAY, "M01", "P-1", 5 * YUAN, path.at)
        assert await path.order(credit) == "applied"
        assert await path.order(desk.revoke(GATEWAY, credit.cid, path.at)) == "rejected"
        early = desk.revoke(GATEWAY, "cr-of-a-voucher", path.at)
        assert await path.order(early) == "revoked"
        assert path.world.gateway.state.applied["cr-of-a-voucher"] == "rejected:revoked"
        assert desk.revoke(GATEWAY, "cr-of-a-voucher", path.at) == Placed(early.cid, new=False)

    on_path(scenario)


def test_a_revocation_overtakes_the_order_that_still_waits(on_path: Any) -> None:
    """Sent oldest first, the order would always win against its own revocation."""

    async def scenario(path: Path) -> None:
        credit = path.backend.credit(GATEWAY, "M01", "P-1", 5 * YUAN, path.at)
        revocation = path.backend.desk.revoke(GATEWAY, credit.cid, path.at)
        assert await path.order(revocation) == "revoked"
        assert path.backend.result_of(credit.cid) == "rejected"
        assert path.backend.metrics()["commands_pending"] == 0
        assert path.world.gateway.state.accounts["A01"].money_nano == 10 * YUAN

    on_path(scenario)


def test_keep_supply_stands_until_it_is_lifted(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        desk = path.backend.desk
        assert await path.order(desk.keep_supply(GATEWAY, "M01", keep=True, at=path.at)) == "applied"
        assert await path.order(desk.cut(GATEWAY, "M01", path.at)) == "rejected"
        assert await path.order(desk.keep_supply(GATEWAY, "M01", keep=False, at=path.at)) == "applied"
        assert await path.order(desk.cut(GATEWAY, "M01", path.at)) == "applied"

    on_path(scenario)
