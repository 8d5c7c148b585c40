"""A customer sees one account with its key, and nothing else."""

import json
from typing import Any

import pytest

from edge.cli import main


def test_customer_sees_balance_with_its_time_and_receipts_of_one_account(
    office: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def new_key(account: str) -> str:
        assert main(["payments", "customer-key", "--db", office.place, "--json", "gw-1", account]) == 0
        return str(json.loads(capsys.readouterr().out)["key"])

    database = office.backend.database
    sql = "INSERT INTO account (gateway, account, money_nano, estimate_nano, at, seq) VALUES ('gw-1', ?, ?, ?, 77, 1)"
    database.execute(sql, ("A01", 50 * 10**9, 10**9))
    columns = "gateway, stream, epoch, seq, hash, body, received_at"
    for seq, account in enumerate(("A01", "A02"), start=1):
        fields = {"account": account, "payment_id": f"p{seq}", "amount_nano": 5, "balance_nano": 10**9, "at": 70}
        body = json.dumps({"type": "PaymentApplied"} | fields).encode()
        sql = f"INSERT INTO record ({columns}) VALUES ('gw-1', 'led', 1, ?, ?, ?, 80)"
        database.execute(sql, (seq, b"h", body))
    key = new_key("A01")
    seen = office.get("/v1/customer/account", key).json()
    assert (seen["account"], seen["balance"], seen["as_of"]) == ("A01", "49.00", 77)
    assert [(receipt["payment_id"], receipt["amount"]) for receipt in seen["receipts"]] == [("p1", "0.000000005")]
    newer = new_key("A01")
    assert office.get("/v1/customer/account", key).status_code == 401
    assert office.get("/v1/customer/account", newer).status_code == 200
    assert office.get("/v1/customer/account", office.key).status_code == 401
    assert office.pay(key=newer).status_code == 401
