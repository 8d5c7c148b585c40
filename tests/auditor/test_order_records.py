"""The auditor on what orders lead to: policies, holds, receipts, arming and key presses, and the orders themselves."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cloud_sync.keys import KeyRing, Role, Signer, generate_keys
from cloud_sync.order_types import ORDER_TYPES
from cloud_sync.orders import approve_order, sign_order
from cloud_sync.wire import Order
from edge.core import commands as cmd
from edge.core.account import Register, State
from edge.core.calendar import fixed_zone
from edge.core.charge import Rating
from edge.core.disconnect_control import Trigger
from edge.core.policy import NoticeProof, Policy
from edge.core.rating import reference_rate
from edge.core.step import step
from edge.core.supply_hold import SupplyHold, SupplyHoldKind
from edge.core.tariff import compile_tariff, load_tariff
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours
from edge.policies.document import load_policy
from edge.store.codec import encode_event

NANO = 1_000_000_000
HOUR_S = 3600
START_AT = 1_711_900_800  # 2024-04-01 00:00 in Shanghai
DOCUMENT = {
    "format": 1,
    "id": "street",
    "version": 1,
    "currency": "CNY",
    "minor_digits": 2,
    "time_zone": "Asia/Shanghai",
    "valid_from": "2020-01-01",
    "cycle": {"length": "month", "start_day": 1},
    "periods": [{"name": "all", "windows": [{"from": "00:00", "to": "24:00"}]}],
    "blocks": {"scope": "cycle", "limits_kwh": ["170"]},
    "prices": {"base_by_period": {"all": "0"}, "adder_by_block": ["0.51", "0.56"]},
}
POLICY = Policy(reserve_days=0, grace_hours=2, notice_proof=NoticeProof.CLOUD_RECEIPT)
SET = json.dumps(
    {
        "format": 1,
        "policy_id": "household",
        "version": 1,
        "segment": "household",
        "policy": {"grace_hours": 4, "reserve_days": 0, "notice_proof": "cloud_receipt"},
        "risk_levels": {"high": {"grace_hours": 1}},
    }
)
Bodies = list[tuple[str, bytes]]


class Story:
    """Commands in, journal bodies out, an hour after the other."""

    def __init__(self) -> None:
        zone, tariff = fixed_zone("Asia/Shanghai", 8 * HOUR_S, START_AT + 10**8), load_tariff(DOCUMENT)
        compiled = compile_tariff([tariff], zone, START_AT - 10**6, START_AT + 10**7)
        terms = {"street@1": tariff.terms}
        rate = reference_rate([compiled])
        self.rating = Rating(rate, {"street@1": 0}, {"street@1": 1}, {"street@1": 0}, zone, 10_000_000, terms)
        self.state, self.bodies, self.hour, self.count = State(), Bodies(), 0, 0

    @property
    def clock(self) -> ClockReading:
        at = START_AT + self.hour * HOUR_S + 60
        return ClockReading(UnixSeconds(at), (at - START_AT) * 1000, "boot", ClockQuality.NTP)

    def do(self, make: Any, *fields: Any, **named: Any) -> None:
        stepped = step(self.state, make(self.clock, *fields, **named), self.rating)
        self.state = stepped.state
        self.bodies.extend(encode_event(event) for event in stepped.events)

    def order(self, make: Any, *fields: Any, **named: Any) -> None:
        self.count += 1
        self.do(make, *fields, cid=f"c-{self.count}", **named)
        assert self.state.applied[f"c-{self.count}"] == "applied"

    def read(self, hour: int, register_wh: int) -> None:
        self.hour = hour
        sample = cmd.Sample("A1", self.clock.at, WattHours(register_wh), clock=self.clock)
        self.do(cmd.TakeRound, (sample,), record=True)

    def receive(self, number: int) -> None:
        episode = self.state.accounts["A1"].episode
        assert episode is not None
        notice = episode.notice(number)
        assert notice is not None
        self.order(cmd.ConfirmNotice, "A1", number, "cloud_receipt", raised_at=notice.raised_at)


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    """A policy set and one under a risk level, a hold in the way of a cut, the cut, an operator's, arm and key."""
    story, terms = Story(), load_policy(SET, "ops-1")
    story.do(cmd.AcceptTariff, "street@1", json.dumps(DOCUMENT))
    register = Register(UnixSeconds(START_AT), WattHours(0))
    story.do(cmd.OpenAccount, "A1", "M1", POLICY, "street@1", register, MoneyNano(NANO))
    story.do(cmd.AcceptPolicy, "household@1", SET, "ops-1")
    story.order(cmd.SetPolicy, (), terms.normal)
    until = UnixSeconds(START_AT + 2 * HOUR_S)
    story.order(cmd.SetPolicy, ("A1",), terms.normal, "high", terms.levels["high"], until)
    story.read(3, 3_000)
    dispute = SupplyHold(SupplyHoldKind.DISPUTE, "case 7")
    story.order(cmd.SetSupplyHold, "A1", dispute, True)
    story.receive(2)
    story.read(7, 3_100)
    story.receive(3)
    story.read(10, 3_200)
    story.order(cmd.SetSupplyHold, "A1", dispute, False)
    story.read(11, 3_300)
    assert story.state.accounts["A1"].local_reason == "no_credit"
    story.order(cmd.SwitchSupply, "A1", Trigger.REMOTE_DISCONNECT, "operator")
    story.order(cmd.SwitchSupply, "A1", Trigger.REMOTE_RECONNECT, "operator", arm=True)
    story.order(cmd.ApplyPayment, "A1", "P1", MoneyNano(30 * NANO), "cloud", story.clock.at)
    story.read(12, 3_300)
    story.do(cmd.SwitchSupply, "A1", Trigger.MANUAL_RECONNECT, "key_press", actor="Li")
    story.read(13, 3_400)
    return story.bodies


@pytest.fixture
def violations(auditor: Any) -> Callable[[Bodies], list[str]]:
    """What the auditor's books complain of when they read these bodies."""

    def read(bodies: Bodies) -> list[str]:
        row = {"account_id": "A1", "meter_id": "M1", "tariff": "street@1", "protected": False, "opening_nano": NANO}
        row["policy"] = msgspec.json.decode(msgspec.json.encode(POLICY))
        folder = auditor.Folder(
            journal=[auditor.Record(n, stream, 1, n, b"", body) for n, (stream, body) in enumerate(bodies, 1)],
            identities=[("G1", 1)],
            marks={},
            cloud={},
            cloud_records=[],
            damage=[],
            registers={"at": START_AT + 10**6, "meters": {"M1": {"start_register_wh": 0}}},
            street={"wall_start_at": START_AT},
            site={"site": {"1": {"time_zone": "Asia/Shanghai", "minor_digits": 2}}, "accounts": {"1": row}},
            tariff_text=json.dumps(DOCUMENT),
            keys=[{"kid": "ops-1", "role": "ops"}, {"kid": "vend-1", "role": "vend"}],
            boot_id="boot",
        )
        books = auditor.Books(folder)
        books.read_all()
        return list(books.violations)

    return read


def altered(bodies: Bodies, kind: str, field: str, value: Any) -> Bodies:
    found = [(stream, json.loads(body)) for stream, body in bodies]
    changed = [event for _, event in found if event["type"] == kind and event.get(field) != value]
    assert changed
    changed[-1][field] = value
    return [(stream, json.dumps(event).encode()) for stream, event in found]


def test_a_true_story_of_orders_holds_and_has_what_is_to_be_audited(bodies: Bodies, violations: Any) -> None:
    assert violations(bodies) == []
    kinds = [json.loads(body)["type"] for _, body in bodies]
    assert {"PolicyAccepted", "PolicySet", "RiskLevelExpired", "SupplyHoldChanged", "NoticeDelivered"} <= set(kinds)
    assert kinds.count("DisconnectControlChanged") == 4


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("PolicyAccepted", "signed_by", "vend-1", "a policy of an ops key"),
        ("PolicyAccepted", "policy", "household@2", "its name"),
        ("PolicySet", "risk_until", None, "a risk level with policy and end"),
        ("RiskLevelExpired", "risk_level", "low", "a risk level that is over"),
        ("RiskLevelExpired", "at", START_AT + HOUR_S, "a risk level that is over"),
        ("SupplyHoldChanged", "stands", True, "reasons against this cut"),
        ("SupplyHoldChanged", "reference", "", "a reason with a reference"),
        ("NoticeDelivered", "proof", "deemed_after_hours", "proof"),
        ("NoticeDelivered", "proof", "local_display", "proof"),
        ("DisconnectControlChanged", "actor", "", "somebody who pressed the key"),
        ("DisconnectControlChanged", "trigger", "local_reconnect", "switched on by nobody"),
        ("OrderApplied", "result", "revoked", "result"),
    ],
)
def test_one_field_that_is_altered_is_noticed(
    bodies: Bodies, violations: Any, kind: str, field: str, value: Any, said: str
) -> None:
    assert any(said in text for text in violations(altered(bodies, kind, field, value)))


def test_a_harsher_policy_than_its_document_is_noticed(bodies: Bodies, violations: Any) -> None:
    [first, *_] = [json.loads(body)["policy"] for _, body in bodies if b'"PolicySet"' in body]
    found = violations(altered(bodies, "PolicySet", "policy", {**first, "grace_hours": 1}))
    assert any("the policy is" in text for text in found)


def test_a_key_press_without_credit_or_grace_is_noticed(bodies: Bodies, violations: Any) -> None:
    unpaid = [item for item in bodies if b'"P1"' not in item[1] and b'"EpisodeClosed"' not in item[1]]
    assert any("credit or grace" in text or "a local reason" in text for text in violations(unpaid))


def test_a_receipt_from_the_cloud_without_its_order_is_noticed(bodies: Bodies, violations: Any) -> None:
    kept = [item for item in bodies if b'"notice_receipt"' not in item[1]]
    assert any("the order behind a receipt" in text for text in violations(kept))


# --- the orders themselves -------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys() -> tuple[KeyRing, dict[Role, Signer], Any]:
    ring, signers = generate_keys()
    rows = [
        {
            "kid": entry.kid,
            "role": entry.role.value,
            "public_key": entry.public_key.public_bytes_raw().hex(),
            "credit_nano_max": entry.credit_nano_max,
        }
        for entry in ring
    ]
    return ring, dict(signers), SimpleNamespace(keys=rows)


def order_of(order_type: str, kid: str) -> Order:
    return Order(v=1, cid="c-1", gw="gw-1", meter="M1", type=order_type, args={"amount_nano": 5}, nbf=1, kid=kid)


@pytest.mark.parametrize("order_type", sorted(set(ORDER_TYPES) - {"set_roster", "set_config"}))
def test_each_order_is_opened_with_the_keys_it_needs_and_no_others(auditor: Any, keys: Any, order_type: str) -> None:
    _, signers, folder = keys
    kind = ORDER_TYPES[order_type]
    for role in (Role.VEND, Role.OPS, Role.TARIFF):
        order = order_of(order_type, signers[role].kid)
        order = approve_order(order, signers[Role.TARIFF]) if kind.approved else order
        envelope = sign_order(order, signers[role])
        if role is kind.role:
            assert auditor.opened_order(folder, envelope)["type"] == order_type
            with pytest.raises(ValueError, match="not signed"):
                auditor.opened_order(folder, envelope[:1] + bytes(64) + envelope[65:])
        else:
            with pytest.raises(ValueError, match=f"of a {role.value} key"):
                auditor.opened_order(folder, envelope)


def test_an_approval_by_the_same_person_or_of_something_else_is_none(auditor: Any, keys: Any) -> None:
    _, signers, folder = keys
    order, ops = order_of("correction", signers[Role.OPS].kid), signers[Role.OPS]
    with pytest.raises(ValueError, match="nobody else"):
        auditor.opened_order(folder, sign_order(approve_order(order, ops), ops))
    approval = approve_order(order, signers[Role.TARIFF]).args["approval"]
    more = msgspec.structs.replace(order, args={"amount_nano": 6, "approval": approval})
    with pytest.raises(ValueError, match="not what was approved"):
        auditor.opened_order(folder, sign_order(more, ops))
    with pytest.raises(KeyError):
        auditor.opened_order(folder, sign_order(order, ops))
