"""From the backend's desk to the account and back: signed, sent, obeyed, answered, with every check in between."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.commands import OrderNotPossible, Placed, Risk
from cloud_sync.backend.ingest import Received
from cloud_sync.keys import Role, generate_keys
from cloud_sync.wire import ZERO_HASH, Batch, encode_payload, record_hash, topic_of
from edge.agent.customer_desk import CustomerDesk
from edge.agent.order_desk import OrderDesk
from edge.bootstrap import _Checks
from edge.core import events as ev
from edge.core.policy import NoticeProof
from edge.policies.document import load_policy
from edge.ports import DoorAnswer
from edge.store.codec import encode_event

Run = Callable[[Coroutine[Any, Any, Any]], Any]

GATEWAY = "gw-1"
YUAN = 1_000_000_000
DAY_S = 86_400


class Path:
    """A street under one gateway, its backend, and a wire that carries what one says to the other."""

    def __init__(self, kit: Any, **policy: Any) -> None:
        self.kit = kit
        terms = replace(kit.policy, **policy)
        houses = [kit.House(number, opening_nano=10 * YUAN, policy=terms) for number in (1, 2)]
        self.world = kit.World(*houses)
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

    async def press_key(self, account_id: str, actor: str) -> DoorAnswer:
        gateway = self.world.gateway
        desk = CustomerDesk(self.world.read, lambda: gateway.state, gateway.newest_sample, gateway.submit)
        return await desk.press_key(account_id, actor)

    def account(self, account_id: str = "A01") -> Any:
        return self.world.gateway.state.accounts[account_id]

    def house(self, account_id: str = "A01") -> Any:
        return self.world.houses[account_id]

    def policy_of(self, account_id: str) -> tuple[str, int, int, str]:
        account = self.world.gateway.state.accounts[account_id]
        return account.policy.policy_id, account.policy.version, account.policy.grace_hours, account.risk_level


@pytest.fixture
def on_path(virtual: Run, kit: Any) -> Callable[..., Any]:
    def run(scenario: Callable[[Path], Coroutine[Any, Any, Any]], **policy: Any) -> Any:
        async def whole() -> None:
            path = Path(kit, **policy)
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


def test_a_receipt_from_the_cloud_starts_the_grace_and_nothing_else_does(on_path: Any) -> None:
    """Under `cloud_receipt` no notice counts as handed over on site: without a door nobody could ever be cut."""

    async def scenario(path: Path) -> None:
        await path.world.live(60)
        account = path.account()
        notice = account.episode.notice(2)
        assert notice is not None
        assert notice.receipt is None
        receipt = {"number": 2, "raised_at": notice.raised_at}
        stale = path.backend.desk.order("notice_receipt", GATEWAY, "M01", receipt | {"raised_at": 1}, path.at)
        assert await path.order(stale) == "rejected"
        assert path.world.gateway.state.applied[stale.cid] == "rejected:other_notice"
        place = path.backend.desk.order("notice_receipt", GATEWAY, "M01", receipt, path.at)
        assert await path.order(place) == "applied"
        assert [event.proof for event in path.world.log.of(ev.NoticeDelivered) if event.number == 2] == [
            "cloud_receipt"
        ]
        again = path.backend.desk.order("notice_receipt", GATEWAY, "M01", {**receipt, "document_hash": "0"}, path.at)
        assert await path.order(again) == "rejected"
        assert path.world.gateway.state.applied[again.cid] == "rejected:already_delivered"
        await path.world.live(80)
        assert path.account().control_state.value == "connected"  # notice 3 waits for its receipt
        third = path.account().episode.notice(3)
        receipt = {"number": 3, "raised_at": third.raised_at}
        assert (
            await path.order(path.backend.desk.order("notice_receipt", GATEWAY, "M01", receipt, path.at)) == "applied"
        )
        await path.world.live(100)
        assert path.account().control_state.value == "ready_for_reconnection"

    on_path(scenario, notice_proof=NoticeProof.CLOUD_RECEIPT)


def test_a_hold_keeps_everybody_on_until_it_ends_or_is_lifted(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        desk = path.backend.desk
        storm = {"kind": "weather_hold", "reference": "storm-12", "until": path.at + 60 * 3600}
        assert await path.order(desk.order("supply_hold", GATEWAY, "", storm, path.at)) == "applied"
        holds = [account.supply_holds for account in path.world.gateway.state.accounts.values()]
        assert len(holds) == 2
        assert all(hold[0].reference == "storm-12" for hold in holds)
        dispute = {"kind": "dispute", "reference": "case 7"}
        placed = desk.order("supply_hold", GATEWAY, "M01", dispute, path.at)
        assert desk.order("supply_hold", GATEWAY, "M01", dispute, path.at) == Placed(placed.cid, new=False)
        with pytest.raises(OrderNotPossible, match="pending"):  # lifted first, then set, if the wire turned them round
            desk.order("supply_hold", GATEWAY, "M01", dispute | {"stands": False}, path.at)
        assert await path.order(placed) == "applied"
        await path.world.live(58)
        assert path.account().control_state.value == "connected"
        assert "weather_hold" in path.account().episode.deferred
        await path.world.live(70)
        assert path.account("A02").control_state.value == "ready_for_reconnection"
        assert path.account().control_state.value == "connected"
        lift = desk.order("supply_hold", GATEWAY, "M01", dispute | {"stands": False}, path.at)
        assert await path.order(lift) == "applied"
        again = desk.order("supply_hold", GATEWAY, "M01", dispute, path.at)
        assert again.new
        assert again.cid != placed.cid
        assert await path.order(again) == "applied"

    on_path(scenario)


def test_debts_plans_and_corrections_reach_the_account_by_two_signatures(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        place, second = path.backend.desk.order, path.signers[Role.TARIFF]
        debt = {"kind": "old", "amount_nano": 5 * YUAN, "reference": "bill 3"}
        with pytest.raises(OrderNotPossible, match="approval"):
            place("set_debt", GATEWAY, "M01", debt, path.at)
        assert await path.order(place("set_debt", GATEWAY, "M01", debt, path.at, second)) == "applied"
        assert path.account().debts.old_nano == 5 * YUAN
        day = path.at // DAY_S
        plan = {"plan_id": "plan-1", "total_nano": 5 * YUAN, "parts": [[day + 1, 4_000], [day + 31, 6_000]]}
        assert await path.order(place("instalments", GATEWAY, "M01", plan, path.at)) == "applied"
        plan["plan_id"] = "plan-2"
        assert await path.order(place("instalments", GATEWAY, "M01", plan, path.at)) == "rejected"
        assert path.account().debts.plan.plan_id == "plan-1"
        before = path.account().money_nano
        correction = {"amount_nano": 2 * YUAN, "reference": "led 12", "reason": "wrong meter"}
        assert await path.order(place("correction", GATEWAY, "M01", correction, path.at, second)) == "applied"
        assert not place("correction", GATEWAY, "M01", correction, path.at, second).new
        assert path.account().money_nano == before + 2 * YUAN
        [posted] = path.world.log.of(ev.CorrectionPosted)
        assert posted.signed_by == ("ops-1", "tariff-1")
        with pytest.raises(OrderNotPossible, match="approval"):
            place("correction", GATEWAY, "M01", correction, path.at, path.signers[Role.OPS], "again")

    on_path(scenario)


def test_credit_is_set_aside_bought_by_number_and_leaves_with_the_tenant(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        place, second = path.backend.desk.order, path.signers[Role.TARIFF]
        assert (
            await path.order(place("reserved_credit", GATEWAY, "M01", {"amount_nano": 4 * YUAN}, path.at)) == "applied"
        )
        assert path.account().reserved_nano == 4 * YUAN
        buy = {"number": 7, "operation": "append", "unit": "money", "value_nano": 5 * YUAN, "alarm_nano": YUAN}
        before = path.account().money_nano
        assert await path.order(place("purchase_order", GATEWAY, "M01", buy, path.at, second)) == "applied"
        assert path.account().money_nano == before + 5 * YUAN
        twice = place("purchase_order", GATEWAY, "M01", buy, path.at, second, "again")
        assert await path.order(twice) == "rejected"
        assert path.world.gateway.state.applied[twice.cid] == "rejected:duplicate"
        assert path.account().money_nano == before + 5 * YUAN
        tenant = {"tenant": "T-2", "opening_nano": 3 * YUAN}
        assert await path.order(place("change_tenant", GATEWAY, "M01", tenant, path.at, second)) == "applied"
        assert (path.account().tenant, path.account().money_nano, path.account().reserved_nano) == ("T-2", 3 * YUAN, 0)
        assert await path.order(place("payment_mode", GATEWAY, "M01", {"mode": "credit"}, path.at)) == "applied"
        await path.world.live(100)
        assert path.account().control_state.value == "connected"
        assert path.account().episode.deferred == ("credit_mode",)

    on_path(scenario)


def test_an_armed_supply_waits_for_the_key_and_opens_no_way_round_a_debt(on_path: Any) -> None:
    async def scenario(path: Path) -> None:
        desk, press = path.backend.desk, path.press_key
        assert (await press("A01", "Li")).code == "no_transition"
        assert await path.order(desk.cut(GATEWAY, "M01", path.at)) == "applied"
        assert (await press("A01", "Li")).code == "no_transition"  # no key undoes an operator's cut
        assert await path.order(desk.arm(GATEWAY, "M01", path.at)) == "applied"
        await path.world.live(3)
        assert (path.account().control_state.value, path.house().closed) == ("ready_for_reconnection", False)
        path.world.start()
        await path.world.live(4)
        assert path.account().control_state.value == "ready_for_reconnection"
        pressed = await press("A01", "Li")
        assert (pressed.accepted, pressed.code) == (True, "switched_on")
        await path.world.live(5)
        assert path.house().closed
        assert [event.actor for event in path.world.log.of(ev.DisconnectControlChanged)] == ["", "", "Li"]
        await path.world.live(60)
        assert path.account().local_reason == "no_credit"
        assert (await press("A01", "Li")).code == "local_reason"
        assert await path.order(desk.cut(GATEWAY, "M01", path.at)) == "applied"
        assert await path.order(desk.arm(GATEWAY, "M01", path.at)) == "applied"
        assert (await press("A01", "Li")).code == "local_reason"
        assert not path.house().closed

    on_path(scenario)
