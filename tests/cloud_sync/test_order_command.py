"""`wattgate order`: what a person types becomes one signed order, and a typing error becomes none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import KEYRING_FILE, KeyRing, generate_key_directory, load_key_ring
from cloud_sync.orders import verify_order
from cloud_sync.wire import Order
from edge.cli import main
from edge.policies.commands import template_text

GATEWAY = "gw-1"


class Office:
    """A backend's database, its keys, and whoever types."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.keys, self.db = folder / "keys", folder / "cloud.db"
        self.ring: KeyRing = generate_key_directory(self.keys)
        backend = Backend.from_directory(self.db, self.keys)
        backend.enroll(GATEWAY, 1)
        backend.close()
        self.policy = folder / "policy.json"
        document = json.loads(template_text("cn-household"))
        self.policy.write_text(json.dumps(document), "utf-8")
        self.level = next(iter(document["risk_levels"]))

    def types(self, *arguments: object, gateway: str = GATEWAY) -> tuple[int, str, str]:
        words = ["order", "--db", str(self.db), "--keys", str(self.keys), "--json", gateway, *map(str, arguments)]
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


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, capsys)


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
    office.db = tmp_path / "other.db"
    assert "there is no such database" in office.types("cut", "M01")[2]
    assert not office.db.exists()


def test_help_names_every_order_with_an_example(office: Office) -> None:
    status, text, _complaint = office.types("--help")
    assert status == 0
    types: Callable[[str], bool] = lambda name: name in text  # noqa: E731
    assert all(map(types, ("set-policy", "take-back", "permit", "example:")))
