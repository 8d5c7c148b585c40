"""Orders: judged once, answered once, and no argument of a signed order can end the agent."""

import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from cloud_sync.wire import Document, Order
from edge.agent.order_desk import NOTE_INTERVAL_S, OrderDesk, Refused
from edge.core import events as ev
from edge.core.units import ClockReading
from edge.policies.document import load_policy
from edge.ports import DoorAnswer

Run = Callable[[Coroutine[Any, Any, Any]], Any]

YUAN = 1_000_000_000
HOLD = {"kind": "dispute", "reference": "case 7"}
DEBT = {"kind": "old", "amount_nano": 5 * YUAN, "reference": "bill 3"}
PLAN = {"plan_id": "plan-1", "total_nano": 5 * YUAN, "parts": [[20_600, 4_000], [20_630, 6_000]]}
BUY = {"number": 7, "operation": "append", "unit": "money", "value_nano": 5 * YUAN}
CORRECTION = {"amount_nano": -YUAN, "reference": "led 12", "reason": "wrong meter"}


class Checks:
    """Verdicts under the test's hand; by default every envelope is good."""

    def __init__(self) -> None:
        self.refused: Refused | None = None
        self.vouchers: dict[str, bytes] = {}
        self.second: tuple[str, ...] = ("k-2",)

    def order(self, envelope: bytes, _clock: ClockReading) -> Order | Refused:
        order = msgspec.json.decode(envelope, type=Order)
        if self.refused is None:
            return order
        return Refused(self.refused.reason, order if self.refused.order is not None else None)

    def signed_by(self, order: Order) -> tuple[str, ...]:
        return (order.kid, *self.second)

    def document(self, envelope: bytes) -> Document | Refused:
        return self.refused or msgspec.json.decode(envelope, type=Document)

    def voucher(self, text: str) -> bytes | Refused:
        return self.vouchers.get(text) or Refused("check_digit")


class Desk:
    """A desk in a running street: one account open, one whose meter has never answered."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.world = kit.World(kit.House(1, opening_nano=10 * YUAN), kit.House(2))
        self.world.houses["A02"].silent = True
        self.checks = Checks()

    async def open(self) -> None:
        await self.world.live(1)
        self.desk = OrderDesk(
            self.checks,
            {"M01": "A01", "M02": "A02"},
            self.world.read,
            lambda: self.world.gateway.state,
            self.world.gateway.newest_sample,
            self.world.gateway.submit,
            load_policy,
        )
        self.known = len(self.world.log.events)

    def order(self, order_type: str, cid: str = "c-1", meter: str = "M01", **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "v": 1, "cid": cid, "gw": "gw-1", "meter": meter, "type": order_type, "args": {},
            "nbf": self.kit.start_at, "kid": "k-1",
        }  # fmt: skip
        return msgspec.json.encode(Order(**{**fields, **changes}))

    def credit(self, cid: str = "c-1", meter: str = "M01", **arguments: Any) -> bytes:
        return self.order("credit", cid, meter, args={"payment_id": "p-1", "amount_nano": 5 * YUAN, **arguments})

    async def take(self, envelope: bytes, door: str = "cloud") -> DoorAnswer:
        return await self.desk.take_order(envelope, door)

    async def document(self, body: str, kind: str = "tariff", version: int = 1) -> None:
        document = Document(v=1, gw="gw-1", kind=kind, version=version, body=body, nbf=self.kit.start_at, kid="k-1")
        await self.desk.take_document(msgspec.json.encode(document))

    def new(self) -> list[Any]:
        """Events since the last look."""
        found = self.world.log.events[self.known :]
        self.known = len(self.world.log.events)
        return list(found)

    @property
    def money(self) -> int:
        money: int = self.world.gateway.state.accounts["A01"].money_nano
        return money


@pytest.fixture
def at_desk(virtual: Run, kit: Any) -> Callable[[Callable[[Desk], Coroutine[Any, Any, Any]]], Any]:
    """Runs a scenario at an open desk. The log must replay to the state in the end, whatever came in."""

    def run(scenario: Callable[[Desk], Coroutine[Any, Any, Any]]) -> Any:
        async def whole() -> Any:
            desk = Desk(kit)
            await desk.open()
            answer = await scenario(desk)
            assert desk.world.log.replay() == desk.world.gateway.state
            await desk.world.gateway.take_round()  # and the agent goes on
            return answer

        return virtual(whole())

    return run


# --- credits ---------------------------------------------------------------------------------


def test_credit_is_applied_and_the_answer_says_what_became_of_the_money(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        answer = await desk.take(desk.credit())
        assert (answer.accepted, answer.code) == (True, "applied")
        live = answer.params["live_balance_nano"]
        assert answer.params == {
            "cid": "c-1", "account": "A01", "amount_nano": 5 * YUAN, "balance_nano": 15 * YUAN, "payment_id": "p-1",
            "live_balance_nano": live,
        }  # fmt: skip
        assert 14 * YUAN < live < 15 * YUAN
        assert [type(event).__name__ for event in desk.new()] == ["PaymentApplied", "OrderApplied"]

    at_desk(scenario)


def test_a_payment_is_taken_back_in_part_and_then_what_is_left_of_it(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        part = await desk.take(desk.order("refund", "c-2", args={"payment_id": "p-1", "amount_nano": 2 * YUAN}))
        assert (part.accepted, part.params["amount_nano"], desk.money) == (True, 2 * YUAN, 13 * YUAN)
        rest = await desk.take(desk.order("reverse", "c-3", args={"payment_id": "p-1"}))
        assert (rest.accepted, rest.params["balance_nano"], desk.money) == (True, 10 * YUAN, 10 * YUAN)
        for cid, payment_id in (("c-4", "p-1"), ("c-5", "p-9")):
            nothing = await desk.take(desk.order("reverse", cid, args={"payment_id": payment_id}))
            assert not nothing.accepted
        assert desk.money == 10 * YUAN

    at_desk(scenario)


def test_repeated_order_answers_with_its_stored_result_and_writes_nothing(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        desk.new()
        for door in ("cloud", "voucher", "cloud"):
            answer = await desk.take(desk.credit(), door)
            assert (answer.accepted, answer.code) == (False, "duplicate")
            assert answer.params == {"cid": "c-1", "result": "applied"}
        assert desk.new() == []
        assert desk.money == 15 * YUAN

    at_desk(scenario)


def test_repeated_refusal_answers_with_its_stored_result(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit(amount_nano=10**18))
        answer = await desk.take(desk.credit(amount_nano=10**18))
        assert answer.params == {"cid": "c-1", "result": "rejected:above_limit"}

    at_desk(scenario)


def test_same_payment_under_another_order_is_a_duplicate(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit("c-1"))
        answer = await desk.take(desk.credit("c-2"))
        assert (answer.accepted, answer.code, answer.params) == (False, "duplicate", {"cid": "c-2"})
        assert desk.money == 15 * YUAN
        assert desk.world.gateway.state.applied == {"c-1": "applied", "c-2": "rejected:duplicate"}

    at_desk(scenario)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (lambda desk: desk.credit(meter="M09"), "unknown_account"),
        (lambda desk: desk.credit(meter="M02"), "unknown_account"),  # known to the site book, not opened yet
        (lambda desk: desk.credit(amount_nano=200_000 * YUAN), "above_limit"),
        (lambda desk: desk.credit(paid_at="yesterday"), "arguments"),
        (lambda desk: desk.credit(paid_at=None), "arguments"),
        (lambda desk: desk.credit(paid_at=-1), "arguments"),
        (lambda desk: desk.credit(paid_at=10**30), "arguments"),
        (lambda desk: desk.credit(paid_at=True), "arguments"),
        (lambda desk: desk.order("cut", meter="M09", exp=2**39, sv=1), "unknown_account"),
        (lambda desk: desk.order("cut", exp=desk.kit.start_at, sv=1), "expired"),
        (lambda desk: desk.order("restore", exp=2**39, sv=1), "no_transition"),
        (lambda desk: desk.order("keep_supply", meter="M09", exp=2**39, sv=1), "unknown_account"),
        (lambda desk: desk.order("set_tariff", meter="", args={"version": 1, "hash": "0" * 64}), "unknown_tariff"),
        (lambda desk: desk.order("set_tariff", meter="M09", args=tariff_order(desk)), "unknown_account"),
        (lambda desk: desk.order("set_tariff", meter="M02", args=tariff_order(desk)), "unknown_account"),
        (lambda desk: desk.order("set_tariff", args=tariff_order(desk, effective_at="soon")), "arguments"),
        (lambda desk: desk.order("set_tariff", args=tariff_order(desk, effective_at=10**30)), "arguments"),
        (lambda desk: desk.order("set_tariff", args=tariff_order(desk, effective_at=0)), "before_valid_from"),
        (lambda desk: desk.order("arm", exp=2**39, sv=1), "no_transition"),  # it is on
        (lambda desk: desk.order("arm", meter="M09", exp=2**39, sv=1), "unknown_account"),
        (lambda desk: desk.order("arm", exp=2**39, sv=1, args={"reason": 7}), "arguments"),
        (lambda desk: desk.order("supply_hold", meter="M09", args=HOLD), "unknown_account"),  # and not the whole site
        (lambda desk: desk.order("supply_hold", meter="M02", args=HOLD), "unknown_account"),
        (lambda desk: desk.order("supply_hold", args={**HOLD, "until": 2**40}), "arguments"),
        (lambda desk: desk.order("supply_hold", args={**HOLD, "kind": "mood"}), "arguments"),
        (lambda desk: desk.order("notice_receipt", args={"number": 2, "raised_at": 1}), "no_notice"),
        (lambda desk: desk.order("notice_receipt", meter="M09", args={"number": 2, "raised_at": 1}), "unknown_account"),
        (lambda desk: desk.order("notice_receipt", args={"number": 2}), "arguments"),
        (lambda desk: desk.order("set_debt", meter="M09", args=DEBT), "unknown_account"),
        (lambda desk: desk.order("instalments", args={**PLAN, "parts": "all"}), "arguments"),
        (lambda desk: desk.order("purchase_order", args={**BUY, "number": "7"}), "arguments"),
        (lambda desk: desk.order("change_tenant", args={"tenant": ""}), "arguments"),
        (lambda desk: desk.order("change_tenant", meter="M02", args={"tenant": "T-2"}), "unknown_account"),
        (lambda desk: desk.order("payment_mode", args={"mode": "barter"}), "arguments"),
        (lambda desk: desk.order("payment_mode", meter="M02", args={"mode": "credit"}), "unknown_account"),
        (lambda desk: desk.order("correction", args={**CORRECTION, "reference": ""}), "arguments"),
        (lambda desk: desk.order("open_valve"), "not_supported"),
        (lambda desk: desk.order("set_roster", meter="", args={"version": 1, "hash": "0" * 64}), "not_supported"),
        (lambda desk: desk.order("set_config", meter="", args={"version": 1, "hash": "0" * 64}), "not_supported"),
        (lambda desk: desk.order("revoke", meter="", args={"cid": "c-1"}), "arguments"),
        (lambda desk: desk.order("resync", meter=""), "not_supported"),
    ],
)
def test_refusal_is_answered_stored_and_changes_nothing(
    at_desk: Any, envelope: Callable[[Desk], bytes], reason: str
) -> None:
    """The cloud repeats an order until its result arrives: each refusal is one."""

    async def scenario(desk: Desk) -> None:
        before = desk.world.gateway.state
        answer = await desk.take(envelope(desk))
        assert (answer.accepted, answer.code, answer.params) == (False, reason, {"cid": "c-1"})
        assert [event.reason for event in desk.new() if isinstance(event, ev.OrderRefused)] == [reason]
        state = desk.world.gateway.state
        assert state.accounts == before.accounts
        assert state.payments == before.payments
        assert state.pending_tariffs == ()
        assert state.applied["c-1"] == f"rejected:{reason}"
        assert (await desk.take(envelope(desk))).code == "duplicate"
        assert desk.new() == []

    at_desk(scenario)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (lambda desk: desk.order("set_debt", args={**DEBT, "amount_nano": -1}), "amount"),
        (lambda desk: desk.order("set_debt", args={**DEBT, "amount_nano": 10**18}), "above_limit"),
        (lambda desk: desk.order("set_debt", args={**DEBT, "daily_nano": -1}), "terms"),
        (lambda desk: desk.order("instalments", args=PLAN), "above_old_debt"),
        (lambda desk: desk.order("purchase_order", args={**BUY, "unit": "energy"}), "wrong_unit"),
        (lambda desk: desk.order("purchase_order", args={**BUY, "value_nano": 0}), "amount"),
        (lambda desk: desk.order("correction", args={**CORRECTION, "amount_nano": 0}), "amount"),
        (lambda desk: desk.order("correction", args={**CORRECTION, "amount_nano": 10**18}), "above_limit"),
        (lambda desk: desk.order("reserved_credit", args={"amount_nano": 11 * YUAN}), "not_available"),
        (lambda desk: desk.order("reserved_credit", args={"amount_nano": -1}), "not_reserved"),
    ],
)
def test_an_order_about_money_that_is_refused_moves_none(
    at_desk: Any, envelope: Callable[[Desk], bytes], reason: str
) -> None:
    """The reading it was judged by is recorded, as for every order about money; nothing else is."""

    async def scenario(desk: Desk) -> None:
        before = desk.world.gateway.state.accounts["A01"]
        assert (await desk.take(envelope(desk))).code == reason
        after = desk.world.gateway.state.accounts["A01"]
        assert (after.money_nano, after.debts, after.reserved_nano) == (before.money_nano, before.debts, 0)
        assert desk.world.gateway.state.applied == {"c-1": f"rejected:{reason}"}
        assert (await desk.take(envelope(desk))).code == "duplicate"

    at_desk(scenario)


def tariff_order(desk: Desk, **changes: Any) -> dict[str, Any]:
    return {"version": 1, "hash": hashlib.sha256(desk.kit.tariff.encode()).hexdigest(), **changes}


# --- supply ----------------------------------------------------------------------------------


def test_cut_and_restore_of_an_operator_reach_the_account(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        cut = await desk.take(desk.order("cut", "c-1", exp=2**39, sv=1, args={"reason": "works"}))
        assert (cut.accepted, cut.code, cut.params) == (True, "applied", {"cid": "c-1"})
        account = desk.world.gateway.state.accounts["A01"]
        assert (account.control_state.value, account.control_reason) == ("disconnected", "works")
        old = await desk.take(desk.order("restore", "c-2", exp=2**39, sv=1))
        assert (old.accepted, old.code) == (False, "superseded")
        restored = await desk.take(desk.order("restore", "c-3", exp=2**39, sv=2))
        assert (restored.accepted, restored.code) == (True, "applied")
        assert desk.world.gateway.state.accounts["A01"].control_state.value == "connected"

    at_desk(scenario)


def test_payment_does_not_undo_an_operators_cut(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.order("cut", "c-1", exp=2**39, sv=1))
        await desk.take(desk.credit("c-2"))
        assert desk.world.gateway.state.accounts["A01"].control_state.value == "disconnected"

    at_desk(scenario)


def test_keep_supply_refuses_a_later_cut(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.take(desk.order("keep_supply", "c-1", exp=2**39, sv=1))).code == "applied"
        answer = await desk.take(desk.order("cut", "c-2", exp=2**39, sv=2))
        assert (answer.accepted, answer.code) == (False, "keep_supply")

    at_desk(scenario)


# --- envelopes nobody vouches for ------------------------------------------------------------


def test_order_nobody_vouches_for_is_noted_and_stored_nowhere(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("signature")
        answer = await desk.take(desk.credit())
        assert (answer.accepted, answer.code, answer.params) == (False, "signature", {})
        (noted,) = desk.new()
        assert (noted.condition, noted.detail) == ("order_refused", "signature by cloud")
        assert desk.world.gateway.state.applied == {}

    at_desk(scenario)


def test_flood_of_bad_orders_is_one_record_a_minute(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("signature")
        for _ in range(50):
            await desk.take(desk.credit())
        await desk.document("{}")  # a bad document is of the same flood
        assert len(desk.new()) == 1
        desk.world.elapsed_ms_more = (NOTE_INTERVAL_S - 10) * 1000  # a commit takes seconds here
        await desk.take(desk.credit())
        assert len(desk.new()) == 0
        desk.world.elapsed_ms_more = NOTE_INTERVAL_S * 1000
        await desk.take(desk.credit())
        assert len(desk.new()) == 1
        assert desk.desk.refused_unauthentic == 53

    at_desk(scenario)


def test_order_whose_window_forbids_it_is_refused_for_good(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("expired", msgspec.json.decode(desk.order("cut"), type=Order))
        answer = await desk.take(desk.order("cut", exp=2**39, sv=1))
        assert (answer.accepted, answer.code, answer.params) == (False, "expired", {"cid": "c-1"})
        assert desk.world.gateway.state.applied == {"c-1": "rejected:expired"}
        await desk.take(desk.order("cut", exp=2**39, sv=1))
        assert len(desk.new()) == 1

    at_desk(scenario)


def test_order_that_comes_too_early_leaves_no_trace(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("not_yet", msgspec.json.decode(desk.order("cut"), type=Order))
        assert await desk.take(desk.order("cut", exp=2**39, sv=1)) == DoorAnswer(False, "not_yet", {})
        assert desk.new() == []
        desk.checks.refused = None  # the cloud sends it again, in time
        assert (await desk.take(desk.order("cut", exp=2**39, sv=1))).code == "applied"

    at_desk(scenario)


# --- vouchers --------------------------------------------------------------------------------


def test_voucher_is_the_same_order_by_another_door(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.vouchers["TYPED"] = desk.credit()
        answer = await desk.desk.take_voucher("TYPED")
        assert (answer.accepted, answer.code) == (True, "applied")
        assert [event.door for event in desk.new() if isinstance(event, ev.PaymentApplied)] == ["voucher"]
        assert (await desk.take(desk.credit())).code == "duplicate"
        assert desk.money == 15 * YUAN

    at_desk(scenario)


def test_mistyped_voucher_is_answered_and_not_recorded(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        assert await desk.desk.take_voucher("TIPED") == DoorAnswer(False, "check_digit", {})
        assert desk.new() == []

    at_desk(scenario)


# --- tariffs ---------------------------------------------------------------------------------


def test_tariff_is_stored_and_put_in_force_by_its_hash(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        body = desk.kit.tariff_document(version=2)
        await desk.document(body)
        await desk.document(body)  # the cloud repeats it
        assert [type(event).__name__ for event in desk.new()] == ["TariffAccepted"]
        assert desk.world.gateway.state.accounts["A01"].tariff == "demo-street@1"
        at = desk.kit.start_at + 7200
        arguments = {"version": 2, "hash": hashlib.sha256(body.encode()).hexdigest(), "effective_at": at}
        answer = await desk.take(desk.order("set_tariff", meter="", args=arguments))
        assert (answer.accepted, answer.code) == (True, "applied")
        assert desk.world.gateway.state.pending_tariffs == ((at, "A01", "demo-street@2"),)
        await desk.world.live(3)
        assert desk.world.gateway.state.accounts["A01"].tariff == "demo-street@2"

    at_desk(scenario)


def bad_tariffs(kit: Any) -> dict[str, str]:
    return {
        "no JSON": "{",
        "no tariff": "{}",
        "nested": "[" * 100_000,
        "unknown key": json.dumps({**json.loads(kit.tariff), "\ud800": 1}),
        "other zone": kit.tariff_document(version=2, time_zone="Europe/Berlin"),
        "other currency": kit.tariff_document(version=2, currency="EUR"),
        "other minor unit": kit.tariff_document(version=2, minor_digits=3),
        "version in force": kit.tariff_document(title="the same version with other content"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "no JSON", "no tariff", "nested", "unknown key", "other zone", "other currency", "other minor unit",
        "version in force",
    ],
)  # fmt: skip
def test_tariff_that_does_not_fit_is_noted_and_the_agent_goes_on(at_desk: Any, name: str) -> None:
    """Whatever is stored is compiled at every start: one bad document would end the agent for good."""

    async def scenario(desk: Desk) -> None:
        before = desk.world.gateway.state.tariffs
        await desk.document(bad_tariffs(desk.kit)[name])
        assert desk.world.gateway.state.tariffs == before
        (noted,) = desk.new()
        assert noted.condition == "tariff_refused"
        assert noted.detail

    at_desk(scenario)


# --- policies --------------------------------------------------------------------------------


def policy(version: int = 1, **changes: Any) -> str:
    """A policy with one risk level, as the cloud signs it."""
    document: dict[str, Any] = {
        "format": 1, "policy_id": "household", "version": version, "segment": "household",
        "policy": {"grace_hours": 96, "reserve_days": 5}, "risk_levels": {"high": {"grace_hours": 24}},
    }  # fmt: skip
    return json.dumps(document | changes)


def policy_order(desk: Desk, body: str, cid: str = "c-1", meter: str = "M01", **arguments: Any) -> bytes:
    digest = hashlib.sha256(body.encode()).hexdigest()
    version = json.loads(body)["version"]
    return desk.order("set_policy", cid, meter, args={"version": version, "hash": digest, **arguments})


def in_force(desk: Desk) -> tuple[str, int, int, str]:
    account = desk.world.gateway.state.accounts["A01"]
    return account.policy.policy_id, account.policy.version, account.policy.grace_hours, account.risk_level


def test_policy_is_stored_once_and_put_in_force_by_its_hash_in_one_transaction(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        for _ in range(2):  # the cloud repeats it
            await desk.document(policy(), "policy")
        assert [type(event).__name__ for event in desk.new()] == ["PolicyAccepted"]
        before = desk.world.log.appends
        answer = await desk.take(policy_order(desk, policy()))
        assert (answer.accepted, answer.code) == (True, "applied")
        assert [type(event).__name__ for event in desk.new()] == ["PolicySet", "OrderApplied"]
        assert desk.world.log.appends == before + 1
        assert in_force(desk) == ("household", 1, 96, "")
        assert desk.world.gateway.state.accounts["A01"].policy.signed_by == "k-1"

    at_desk(scenario)


def test_the_next_start_has_the_policy_that_was_set_and_not_the_site_books(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document(policy(), "policy")
        until = desk.kit.start_at + 86_400
        await desk.take(policy_order(desk, policy(), risk_level="high", risk_until=until))
        assert in_force(desk) == ("household", 1, 24, "high")
        desk.world.start()
        await desk.world.live(1)
        assert in_force(desk) == ("household", 1, 24, "high")
        await desk.world.live(24)
        assert in_force(desk) == ("household", 1, 96, "")  # the level has ended

    at_desk(scenario)


def test_a_risk_level_that_is_over_when_its_order_comes_is_the_normal_policy(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document(policy(), "policy")
        answer = await desk.take(policy_order(desk, policy(), risk_level="high", risk_until=desk.kit.start_at))
        assert answer.code == "applied"
        assert in_force(desk) == ("household", 1, 96, "")

    at_desk(scenario)


@pytest.mark.parametrize("named", [{"meter": ""}, {"meter": "", "meters": ["M01", "M01"]}])
def test_policy_is_set_for_the_whole_site_or_for_the_meters_of_a_segment(at_desk: Any, named: dict[str, Any]) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document(policy(), "policy")
        assert (await desk.take(policy_order(desk, policy(), **named))).code == "applied"
        assert in_force(desk) == ("household", 1, 96, "")
        assert len([event for event in desk.new() if isinstance(event, ev.PolicySet)]) == 1

    at_desk(scenario)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"hash": "0" * 64}, "unknown_policy"),
        ({"version": 2}, "unknown_policy"),
        ({"meter": "M09"}, "unknown_account"),
        ({"meter": "M02"}, "unknown_account"),  # known to the site book, not opened yet
        ({"meter": "", "meters": ["M01", "M02"]}, "unknown_account"),  # all of them or none
        ({"meter": "", "meters": []}, "arguments"),
        ({"meter": "", "meters": "M01"}, "arguments"),
        ({"meter": "", "meters": [1]}, "arguments"),
        ({"meters": ["M01"]}, "arguments"),
        ({"risk_level": "high"}, "arguments"),
        ({"risk_level": "high", "risk_until": "soon"}, "arguments"),
        ({"risk_until": 2**31}, "arguments"),
        ({"risk_level": 1, "risk_until": 2**31}, "arguments"),
        ({"risk_level": "low", "risk_until": 2**31}, "unknown_risk_level"),
    ],
)
def test_policy_order_that_cannot_be_obeyed_is_rejected_with_a_stored_reason(
    at_desk: Any, named: dict[str, Any], reason: str
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document(policy(), "policy")
        answer = await desk.take(policy_order(desk, policy(), **named))
        assert (answer.accepted, answer.code) == (False, reason)
        assert desk.world.gateway.state.applied == {"c-1": f"rejected:{reason}"}
        assert in_force(desk) == ("normal", 1, 6, "")

    at_desk(scenario)


def test_expired_and_older_policies_are_rejected_and_the_one_in_force_stays(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        bodies = (policy(3), policy(2), policy(4, valid_until=desk.kit.start_at), policy(5, policy={
            "credit": {"unit": "energy"}}, risk_levels={}))  # fmt: skip
        for body in bodies:
            await desk.document(body, "policy", json.loads(body)["version"])
        codes = [(await desk.take(policy_order(desk, body, f"c-{number}"))).code for number, body in enumerate(bodies)]
        assert codes == ["applied", "older_version", "expired", "wrong_unit"]
        assert in_force(desk) == ("household", 3, 96, "")

    at_desk(scenario)


@pytest.mark.parametrize(
    ("body", "version"),
    [
        ("{", 1),
        (policy(policy={"grace_hours": 1_000_000}), 1),
        (policy(policy={"grace": 1}), 1),
        (policy(2), 1),
        (policy(title={"en": "the same version with other content"}), 1),
    ],
)
def test_policy_document_that_is_none_is_noted_and_its_order_rejected(at_desk: Any, body: str, version: int) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document(policy(), "policy")
        desk.new()
        await desk.document(body, "policy", version)
        (noted,) = desk.new()
        assert noted.condition == "policy_refused"
        digest = hashlib.sha256(body.encode()).hexdigest()
        answer = await desk.take(desk.order("set_policy", args={"version": version, "hash": digest}))
        assert answer.code == "unknown_policy"

    at_desk(scenario)


def test_policy_nobody_vouches_for_is_never_stored(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("role")
        await desk.document(policy(), "policy")
        assert [(event.condition, event.detail) for event in desk.new()] == [("document_refused", "role")]
        desk.checks.refused = None
        assert (await desk.take(policy_order(desk, policy()))).code == "unknown_policy"

    at_desk(scenario)


# --- money back, and orders taken back -------------------------------------------------------


def test_a_reversal_needs_two_signatures_and_its_record_names_both(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        desk.checks.second = ()
        for cid, kind, more in (("c-2", "reverse", {}), ("c-3", "refund", {"amount_nano": YUAN})):
            answer = await desk.take(desk.order(kind, cid, args={"payment_id": "p-1", **more}))
            assert (answer.accepted, answer.code) == (False, "two_signatures")
        assert desk.money == 15 * YUAN
        desk.checks.second = ("k-2",)
        desk.new()
        assert (await desk.take(desk.order("reverse", "c-4", args={"payment_id": "p-1"}))).accepted
        (reversed_,) = [event for event in desk.new() if isinstance(event, ev.PaymentReversed)]
        assert reversed_.signed_by == ("k-1", "k-2")

    at_desk(scenario)


def test_a_reversal_for_another_meter_than_the_payments_is_rejected(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        answer = await desk.take(desk.order("reverse", "c-2", "M02", args={"payment_id": "p-1"}))
        assert (answer.accepted, answer.code, desk.money) == (False, "other_account", 15 * YUAN)

    at_desk(scenario)


def test_a_reversal_below_zero_opens_an_episode_and_cuts_nothing_at_once(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        await desk.take(desk.order("refund", "c-0", args={"payment_id": "p-1", "amount_nano": 1}))
        before = desk.world.gateway.state.accounts["A01"]
        assert before.episode is None
        desk.world.houses["A01"].power_w = 3000
        await desk.world.live(5)  # 15 kWh: more than half of the 15 yuan
        await desk.take(desk.order("reverse", "c-2", args={"payment_id": "p-1"}))
        await desk.world.live(1)
        account = desk.world.gateway.state.accounts["A01"]
        assert account.recorded_live_nano < 10 * YUAN
        assert account.control_state.value == "connected"
        assert desk.world.houses["A01"].closed

    at_desk(scenario)


def test_an_order_that_is_revoked_before_it_comes_is_never_obeyed(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        answer = await desk.take(desk.order("revoke", "c-9", meter="", args={"cid": "c-1"}))
        assert (answer.accepted, answer.code) == (True, "applied")
        assert desk.world.gateway.state.applied == {"c-1": "rejected:revoked", "c-9": "revoked"}
        late = await desk.take(desk.credit())
        assert (late.code, late.params["result"]) == ("duplicate", "rejected:revoked")
        assert desk.money == 10 * YUAN
        assert [event.cid for event in desk.new() if event.stream == "res"] == ["c-1", "c-9"]

    at_desk(scenario)


def test_a_revocation_that_comes_after_the_result_is_too_late(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.take(desk.credit())
        answer = await desk.take(desk.order("revoke", "c-9", meter="", args={"cid": "c-1"}))
        assert (answer.accepted, answer.code, desk.money) == (False, "too_late", 15 * YUAN)
        assert desk.world.gateway.state.applied == {"c-1": "applied", "c-9": "rejected:too_late"}

    at_desk(scenario)


def test_document_nobody_vouches_for_is_noted(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        desk.checks.refused = Refused("signature")
        await desk.document(desk.kit.tariff_document(version=2))
        assert [(event.condition, event.detail) for event in desk.new()] == [("document_refused", "signature")]

    at_desk(scenario)


def test_document_of_another_kind_is_left_alone(at_desk: Any) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.document("{}", kind="roster")
        assert desk.new() == []

    at_desk(scenario)
