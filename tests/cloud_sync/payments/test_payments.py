"""A channel's payment becomes one signed credit, whatever is repeated, killed or mistyped."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.backend.commands import CommandDesk
from cloud_sync.orders import verify_order
from cloud_sync.payments.channels import channel_of_key, revoke_channel
from cloud_sync.payments.desk import PaymentDesk
from cloud_sync.payments.types import PaymentRequest, amount_of, nano_of
from cloud_sync.voucher import read_voucher
from cloud_sync.wire import Order
from edge.cli import main

DAY = "2027-01-15"


def test_payment_is_a_signed_credit_of_the_backend(office: Any) -> None:
    answer = office.pay()
    assert answer.status_code == 201, answer.text
    envelope = office.backend.desk.envelope(answer.json()["cid"])
    order = verify_order(envelope, office.ring, "gw-1")
    assert isinstance(order, Order)
    assert (order.meter, order.args["amount_nano"], order.args["payment_id"]) == (
        "M01",
        50 * 10**9,
        answer.json()["payment_id"],
    )


def test_the_same_key_and_body_has_the_same_answer_and_another_body_a_conflict(office: Any) -> None:
    first = office.pay()
    office.at += 5
    assert office.pay().json() == first.json()
    assert office.pay(amount="50").json() == first.json()
    conflict = office.pay(amount="51.00")
    assert (conflict.status_code, conflict.json()["error"]) == (409, "idempotency_conflict")
    assert office.credits() == 1


def test_key_of_one_channel_is_not_that_of_another(office: Any) -> None:
    other = office.add("shop-1")
    assert office.pay().json()["payment_id"] != office.pay(key=other).json()["payment_id"]
    payment_id = office.pay().json()["payment_id"]
    assert office.get(f"/v1/payments/{payment_id}", other).status_code == 404


def test_desks_that_receive_one_payment_at_once_place_one_credit(office: Any) -> None:
    channel = channel_of_key(office.backend.database, office.key)
    assert channel is not None

    def pay(_number: int) -> Any:
        desk = office.open_desk()
        try:
            return desk.pay(channel, "k1", PaymentRequest("gw-1", "M01", "50"), office.at)
        finally:
            desk.database.close()

    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(pay, range(16)))
    assert len(set(answers)) == 1
    assert office.credits() == 1


class Killed(BaseException):
    """The process is gone."""


class DyingDesk(CommandDesk):
    def credit(self, *arguments: Any, **_named: Any) -> Any:
        if self.dies_after:
            super().credit(*arguments)
        raise Killed

    dies_after = False


@pytest.mark.parametrize("dies_after", [False, True], ids=["before the order", "after the order"])
@pytest.mark.parametrize("cure", ["retry", "start"])
def test_kill_between_the_commits_loses_and_doubles_nothing(office: Any, dies_after: bool, cure: str) -> None:
    dying = DyingDesk(office.backend.database, office.ring, office.signers)
    dying.dies_after = dies_after
    channel = channel_of_key(office.backend.database, office.key)
    assert channel is not None
    desk = PaymentDesk(office.backend.database, dying)
    with pytest.raises(Killed):
        desk.pay(channel, "k1", PaymentRequest("gw-1", "M01", "50.00"), office.at)
    office.at += 60
    answer = office.pay() if cure == "retry" else office.get(f"/v1/reconciliation/{DAY}")
    assert answer.is_success, answer.text
    assert office.credits() == 1
    (paid,) = office.get(f"/v1/reconciliation/{DAY}").json()["payments"]
    assert paid["cid"] is not None
    assert paid["received_at"] == office.at - 60


def test_caps_hold_at_their_limit_and_a_unit_above_it(office: Any) -> None:
    assert office.pay("a", amount="100").status_code == 201
    assert office.pay("b", amount="100.000000001").json()["error"] == "payment_cap"
    assert office.pay("c", amount="100").status_code == 201
    assert office.pay("d", amount="50.000000001").json()["error"] == "day_cap"
    assert office.pay("e", amount="50").status_code == 201
    assert office.pay("f", amount="0.000000001").json()["allowed"] == "0.00 more until 00:00 UTC"
    assert office.pay("a", amount="100").status_code == 201  # a retry is none
    office.at += 86400
    assert office.pay("f", amount="0.000000001").status_code == 201


@pytest.mark.parametrize(
    ("changed", "error", "where"),
    [
        ({"amount": 50.0}, "malformed", "body $.amount"),
        ({"amount": 50}, "malformed", "body $.amount"),
        ({"amount": "-1"}, "malformed", "body $.amount"),
        ({"amount": "1e3"}, "malformed", "body $.amount"),
        ({"amount": "1.0000000001"}, "malformed", "body $.amount"),
        ({"amount": "1\n"}, "malformed", "body $.amount"),
        ({"amount": "0.00"}, "amount", "body $.amount"),
        ({"meter": "M 01"}, "malformed", "body $.meter"),
        ({"gateway": "gw-2"}, "unknown_gateway", "body $.gateway"),
        ({"more": 1}, "malformed", "body $"),
    ],
)
def test_bad_payment_is_refused_with_where_and_what_is_allowed(
    office: Any, changed: dict[str, Any], error: str, where: str
) -> None:
    answer = office.pay(**changed)
    problem = answer.json()
    assert (answer.status_code, problem["error"], problem["where"]) == (422, error, where)
    assert problem["allowed"]
    assert office.credits() == 0


def test_keys_that_are_wrong_revoked_or_only_approve_open_nothing(office: Any) -> None:
    assert office.pay(key="bank-1.0000").status_code == 401
    assert office.pay(key=office.key.replace("bank-1", "bank-2")).status_code == 401
    assert office.pay(key=office.add("cashier", approves=True)).status_code == 403
    assert office.key.partition(".")[2].encode() not in bytes(
        office.backend.database.execute("SELECT key_hash FROM channel WHERE id = 'bank-1'").fetchone()[0]
    )
    revoke_channel(office.backend.database, "bank-1", 2)
    assert office.pay().status_code == 401
    assert office.credits() == 0


def test_reversal_needs_another_persons_key_and_is_one_order(office: Any) -> None:
    payment_id, approver = office.pay().json()["payment_id"], office.add("cashier", approves=True)
    path = f"/v1/payments/{payment_id}/reversal"
    for second in ("", office.key, office.add("shop-1")):
        refused = office.client.post(path, headers=office.headers(Second_Key=second))
        assert refused.status_code == 403, refused.text
    answers = [office.client.post(path, headers=office.headers(Second_Key=approver)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    cid = answers[0].json()["reversal_cid"]
    assert isinstance(verify_order(office.backend.desk.envelope(cid), office.ring, "gw-1"), Order)
    assert office.get(f"/v1/payments/{payment_id}").json()["reversal_cid"] == cid


def test_voucher_is_the_order_itself(office: Any) -> None:
    paid = office.pay().json()
    answer = office.client.post(f"/v1/payments/{paid['payment_id']}/voucher", headers=office.headers())
    envelope = office.backend.desk.envelope(paid["cid"])
    assert read_voucher(answer.json()["qr"]) == read_voucher(answer.json()["typed"]) == envelope


def test_timeline_and_statistics_follow_the_gateway(office: Any) -> None:
    paid = office.pay().json()
    office.pay("k2")
    database = office.backend.database
    sql = "UPDATE command SET result = 'applied', result_at = ? WHERE cid = ?"
    database.execute(sql, (office.at + 7, paid["cid"]))
    fields = {"type": "PaymentApplied", "payment_id": paid["payment_id"], "balance_nano": -1_500_000_000}
    columns = "gateway, stream, epoch, seq, hash, body, received_at"
    sql = f"INSERT INTO record ({columns}) VALUES ('gw-1', 'led', 1, 1, ?, ?, ?)"
    database.execute(sql, (b"h", json.dumps(fields).encode(), office.at + 9))
    seen = office.get(f"/v1/payments/{paid['payment_id']}").json()
    assert (seen["result"], seen["answered_at"] - office.at, seen["balance"], seen["balance_at"] - office.at) == (
        "applied",
        7,
        "-1.50",
        9,
    )
    counted = office.get(f"/v1/statistics/{DAY}").json()
    assert (counted["payments"], counted["applied"], counted["waiting"]) == (2, 1, 1)
    assert counted["answer_seconds_p99"] == 7


def test_commands_add_list_reconcile_and_revoke(office: Any, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def types(*words: str) -> Any:
        assert main(["payments", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    channel = ("channel", "--db", office.place)
    key = types(*channel, "add", "app-1", "--payment-max", "100", "--day-max", "250.5")["key"]
    paid = office.pay(key=key).json()
    assert types(*channel, "list")["app-1"]["day_max"] == "250.50"
    told = types("reconcile", "--db", office.place, "app-1", DAY, "--out", str(out))
    assert (told["count"], told["total"], told["totals"]) == (1, "50.00", {"waiting": "50.00"})
    assert paid["payment_id"] in (out / f"app-1-{DAY}.csv").read_text()
    assert json.loads((out / f"app-1-{DAY}.json").read_text())["payments"][0]["payment_id"] == paid["payment_id"]
    types(*channel, "revoke", "app-1")
    assert office.pay(key=key).status_code == 401
    assert main(["payments", "reconcile", "--db", office.place, "nobody", DAY]) == 2
    assert "there is no channel 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize("nano", [1, 10**9, 123_456_789_012_345_678, 1_500_000_000])
def test_amount_is_the_same_after_both_ways(nano: int) -> None:
    assert nano_of(amount_of(nano)) == nano
