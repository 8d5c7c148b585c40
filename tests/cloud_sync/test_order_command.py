"""`wattgate order`: what a person types becomes one signed order, and a typing error becomes none."""

import json
import shlex
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.database import open_existing
from cloud_sync.backend.order_kinds import KINDS
from cloud_sync.keys import KEYRING_FILE, KeyRing, generate_key_directory, load_key_ring
from cloud_sync.order_types import ORDER_TYPES
from cloud_sync.orders import verify_order
from cloud_sync.wire import Order
from edge.cli import main
from edge.policies.commands import template_text

GATEWAY = "gw-1"
SECOND = ("--second-keys", "{keys}", "--second-kid", "tariff-1")


class Office:
    """A backend's database, its keys, and whoever types."""

    def __init__(self, folder: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.keys, self.db = folder / "keys", place
        self.ring: KeyRing = generate_key_directory(self.keys)
        backend = Backend.from_directory(self.db, self.keys)
        backend.enroll(GATEWAY, 1)
        backend.close()
        self.policy = folder / "policy.json"
        document = json.loads(template_text("cn-household"))
        self.policy.write_text(json.dumps(document), "utf-8")
        self.level = next(iter(document["risk_levels"]))

    def types(self, *arguments: object, gateway: str = GATEWAY) -> tuple[int, str, str]:
        words = ["order", "--db", self.db, "--keys", str(self.keys), "--json", gateway, *map(str, arguments)]
        try:
            status = main(words)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *self.capsys.readouterr())

    def placed(self, *arguments: object) -> Order:
        status, text, complaint = self.types(*arguments)
        assert (status, complaint) == (0, "")
        backend = Backend.from_directory(self.db, self.keys)
        envelope = backend.desk.envelope(json.loads(text)["cid"])
        backend.close()
        assert envelope is not None
        order = verify_order(envelope, load_key_ring(self.keys / KEYRING_FILE), GATEWAY)
        assert isinstance(order, Order), order
        return order

    def placed_words(self, example: str) -> Order:
        return self.placed(*shlex.split(example.replace("/media/key", str(self.keys))))

    def answer(self, cid: str) -> None:
        with closing(open_existing(self.db)) as database:
            database.execute("UPDATE command SET result = 'applied' WHERE cid = ?", (cid,))

    def take_notices(self, *notices: tuple[str, int, int, str]) -> None:
        """What the backend has once a gateway said hello and sent these: account, number, when, document."""
        roster = json.dumps([{"meter": "M01", "account": "A01"}, {"meter": "M02", "account": "A02"}])
        with closing(open_existing(self.db)) as database:
            database.execute("UPDATE gateway SET roster = ?", (roster,))
            for seq, (account, number, at, document_hash) in enumerate(notices, 1):
                event = {"type": "NoticeRaised", "at": at, "account": account, "number": number}
                event |= {"document_hash": document_hash} if document_hash else {}
                body = json.dumps(event, separators=(",", ":")).encode()
                database.execute("INSERT INTO record VALUES (?, 'led', 1, ?, ?, ?, 1)", (GATEWAY, seq, b"\0", body))


@pytest.fixture
def office(tmp_path: Path, new_place: Callable[[], str], capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, new_place(), capsys)


def test_each_kind_of_order_is_placed_as_it_was_typed(office: Office) -> None:
    credit = office.placed("credit", "M01", "P-1", "12.34")
    assert (credit.type, credit.meter, credit.args["amount_nano"]) == ("credit", "M01", 12_340_000_000)
    assert office.placed("cut", "M01").sv == 1
    assert office.placed("restore", "M01").sv == 2
    keep = office.placed("keep-supply", "M01", "--off")
    assert (keep.type, keep.args, keep.sv) == ("keep_supply", {"keep": False}, 3)
    second = ("--second-keys", office.keys, "--second-kid", "tariff-1")
    assert office.placed("take-back", "M01", "P-1", *second).type == "reverse"
    refund = office.placed("take-back", "M01", "P-1", *second, "--amount", "0.01")
    assert (refund.type, refund.args["amount_nano"]) == ("refund", 10_000_000)
    assert office.placed("revoke", credit.cid).args == {"cid": credit.cid}
    policy = office.placed("set-policy", office.policy, "--meter", "M01")
    assert (policy.type, policy.meter, policy.args["version"]) == ("set_policy", "M01", 1)
    risk = office.placed("set-policy", office.policy, "--risk-level", office.level, "--risk-until", 1_900_000_000)
    assert (risk.meter, risk.args["risk_level"], risk.args["risk_until"]) == ("", office.level, 1_900_000_000)


def test_every_row_of_the_table_places_what_its_own_example_says(office: Office) -> None:
    """The examples people copy are typed here; where two must sign, the second key is the tariff's."""
    said = {}
    for kind in KINDS:
        order = said[kind.order_type] = office.placed_words(kind.example)
        assert (order.type, "approval" in order.args) == (kind.order_type, ORDER_TYPES[kind.order_type].approved)
    assert said["correction"].args["amount_nano"] == -3_200_000_000
    assert said["instalments"].args["parts"] == [[20_818, 4_000], [20_849, 6_000]]
    assert (said["supply_hold"].meter, said["supply_hold"].args["until"]) == ("", 1_798_646_400)
    assert office.placed("arm", "M01").type == "arm"


def test_a_state_is_not_ordered_twice_at_a_time_and_can_be_lifted_once_it_is_answered(office: Office) -> None:
    hold = ("supply-hold", "dispute", "case-7", "--meter", "M01")
    first = json.loads(office.types(*hold)[1])
    assert json.loads(office.types(*hold)[1]) == {**first, "new": False}
    status, text, complaint = office.types(*hold, "--off")
    assert (status, text) == (2, "")
    assert f"pending: {first['cid']} is not answered yet" in complaint
    assert office.placed("supply-hold", "operator_hold", "case-8", "--meter", "M01").args["kind"] == "operator_hold"
    office.answer(first["cid"])
    assert office.placed(*hold, "--off").args["stands"] is False


def test_the_newest_notice_of_the_ledger_is_the_one_that_is_confirmed(office: Office) -> None:
    status, _text, complaint = office.types("notice-receipt", "M01", "2")
    assert status == 2
    assert "no_notice: no notice 2 of M01 has come in" in complaint
    assert office.placed("notice-receipt", "M01", "2", "--raised-at", "1700").args == {"number": 2, "raised_at": 1700}
    office.take_notices(("A01", 2, 1800, ""), ("A02", 2, 1850, ""), ("A01", 3, 1900, "f" * 64))
    assert office.placed("notice-receipt", "M01", "2").args == {"number": 2, "raised_at": 1800}
    third = {"number": 3, "raised_at": 1900, "document_hash": "f" * 64}
    assert office.placed("notice-receipt", "M01", "3").args == third


def test_a_permit_is_also_a_file_for_the_technician(office: Office, tmp_path: Path) -> None:
    permit = office.placed("permit", "2", "--out", tmp_path / "permit.bin")
    assert (permit.type, permit.args) == ("resync", {"epoch": 2})
    assert isinstance(verify_order((tmp_path / "permit.bin").read_bytes(), office.ring, GATEWAY), Order)


def test_the_same_request_again_is_the_same_order_and_says_what_became_of_it(office: Office) -> None:
    first = json.loads(office.types("credit", "M01", "P-1", "5")[1])
    again = json.loads(office.types("credit", "M01", "P-1", "5.00")[1])
    assert (first["new"], again["new"], again["cid"]) == (True, False, first["cid"])
    asked = json.loads(office.types("result", first["cid"])[1])
    assert asked == {"cid": first["cid"], "new": False, "result": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("credit", "M01", "P-1", "0"), "not an amount above 0"),
        (("credit", "M01", "P-1", "nan"), "not an amount above 0"),
        (("credit", "M01", "P-1", "0.0000000001"), "not an amount above 0"),
        (("credit", "M01", "P-1", "20000"), "cap"),
        (("take-back", "M01", "P-1"), "--second-keys"),
        (("take-back", "M01", "P-1", "--second-keys", "{keys}", "--second-kid", "ops-1"), "approval"),
        (("take-back", "M01", "P-1", "--second-keys", "{keys}", "--second-kid", "nobody"), "nobody.pem"),
        (("set-policy", "{none}"), "none.json"),
        (("set-policy", "{policy}", "--risk-level", "high"), "come together"),
        (("set-policy", "{policy}", "--risk-level", "moon", "--risk-until", "1900000000"), "no risk level 'moon'"),
        (("set-policy", "{policy}", "--risk-level", "x", "--risk-until", "2026-12-31T00:00"), "not a time"),
        (("set-policy", "{wrong}"), "/policy/grace"),
        (("set-tariff", "{policy}"), "--effective-at"),
        (("supply-hold", "weather_hold", "storm"), "a weather hold has an end"),
        (("supply-hold", "mood", "storm"), "invalid choice: 'mood'"),
        (("set-debt", "M01", "old", "5", "bill-3"), "--second-keys"),
        (("set-debt", "M01", "old", "5", "bill-3", "--second-keys", "{keys}", "--second-kid", "ops-1"), "approval"),
        (("set-debt", "M01", "old", "5", "b", "--share", "101", *SECOND), "not a share from 0 to 100 %"),
        (("set-debt", "M01", "old", "5", "b", "--cap-days", "0", *SECOND), "arguments: Expected `int` >= 1"),
        (("instalments", "M01", "plan-1", "5", "2026-13-01=100"), "not a part of a plan, as 2026-12-31=40"),
        (("instalments", "M01", "plan-1", "5", "2026-12-31"), "not a part of a plan"),
        (("purchase-order", "M01", "4294967296", "append", "money", "5", *SECOND), "arguments: Expected `int` <="),
        (("change-tenant", "M01", "a name", *SECOND), "arguments"),
        (("payment-mode", "M01", "barter"), "invalid choice"),
        (("correction", "M01", "led-12", "why", "--amount", "much", *SECOND), "not an amount, as 12.34 or -12.34"),
        (("correction", "M01", "led-12", "why", *SECOND), "--amount"),
        (("reserve", "M01", "--amount", "0.0000000001"), "not an amount"),
        (("notice-receipt", "M01", "4"), "invalid choice"),
        (("notice-receipt", "M01", "2"), "no_notice"),
        (("result", "c-9"), "no order 'c-9'"),
    ],
)
def test_what_cannot_be_ordered_is_said_and_nothing_is_placed(
    office: Office, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.json").write_text(
        json.dumps(json.loads(office.policy.read_text("utf-8")) | {"policy": {"grace": 1}}), "utf-8"
    )
    places = {name: str(tmp_path / f"{name}.json") for name in ("policy", "none", "wrong")} | {"keys": str(office.keys)}
    status, text, complaint = office.types(*(word.format(**places) for word in arguments))
    assert (status, text) == (2, "")
    assert said in complaint
    backend = Backend.from_directory(office.db, office.keys)
    assert backend.metrics()["commands_pending"] == 0
    backend.close()


def test_a_database_that_is_none_and_a_gateway_nobody_enrolled_are_refused(office: Office, tmp_path: Path) -> None:
    assert "unknown_gateway" in office.types("cut", "M01", gateway="gw-9")[2]
    office.db = str(tmp_path / "other.db")
    assert "there is no such database" in office.types("cut", "M01")[2]
    assert not Path(office.db).exists()


def test_help_names_every_order_with_an_example(office: Office) -> None:
    status, text, _complaint = office.types("--help")
    assert status == 0
    types: Callable[[str], bool] = lambda name: name in text  # noqa: E731
    orders = ("set-policy", "take-back", "permit", "notice-receipt", *(kind.name for kind in KINDS))
    assert all(map(types, (*orders, "example:")))
