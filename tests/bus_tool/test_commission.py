"""`wattgate commission`: a meter put into service on a pseudo-terminal, its record, its page, its rows in the book."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge.bus.frame import RTU
from edge.commission.page import LANGUAGES, say
from edge.commission.record import read_record, signature_holds, signed_bytes
from edge.commission.steps import NotCommissioned, RelayPlace, agrees, relay_commands, switches_load
from edge.meters.model import load_model
from edge.store.site_book import AreaEntry, MeterEntry, Site, SiteBook, read_site_book, write_site_book
from hw.sim.meter import Meter
from hw.sim.models import MODELS
from hw.sim.relay_board import RelayBoard

ROOT = Path(__file__).resolve().parent.parent.parent
CATALOGUE = ROOT / "edge" / "commission" / "catalogue"
Run = Callable[..., tuple[int, str, str]]


class Behind:
    """A load behind a contact."""

    energy_ws = 7_200_000

    def __init__(self, relay: Any, watts: int) -> None:
        self.relay, self.watts = relay, watts

    @property
    def power_w(self) -> int:
        return self.watts if self.relay.closed else 0


class Cabinet:
    """A meter at 7 behind channel 6 of a board at 20, a site book, a key, and the command that commissions it."""

    def __init__(self, line: Any, said: Run, folder: Path, watts: int = 500) -> None:
        self.line, self.said, self.folder = line, said, folder
        self.board = RelayBoard()
        self.relay = self.board.relays[6]
        meter = Meter("M07", 7, MODELS["eastron_sdm120"], 1_234_000, Behind(self.relay, watts), None, lambda: 0)
        line.add(meter).devices.update({20: self.board})
        self.serial = str(meter.quantities()["serial"])
        self.book, self.key = folder / "site.json", folder / "installer.pem"
        self.out, self.page = folder / "M07.json", folder / "M07.html"
        write_site_book(self.book, SiteBook(Site("Asia/Shanghai", "CNY"), (), (), ()))
        assert said("commission", "key", "--out", str(self.key))[0] == 0

    def commission(self, *more: str, display: str = "1236.0") -> tuple[int, str, str]:
        return self.said(
            *("commission", "meter", "--line", self.line.path, "--line-id", "line-1", "--timeout-ms", "200"),
            *("--model", "eastron_sdm120", "--baud", "9600", "--device-id", "7", "--meter-id", "M07"),
            *("--display", display, "--site-book", str(self.book), "--installer", "Li Wei", "--key", str(self.key)),
            *("--out", str(self.out), *more),
        )


TEST = ("--relay", "R07:20:relay_board_8ch:6", "--relay-test", "--yes")
ACCOUNT = ("--account", "A07", "--tariff", "demo-street@1")


@pytest.fixture
def cabinet(sim_line: Any, said: Run, tmp_path: Path) -> Cabinet:
    """See Cabinet."""
    return Cabinet(sim_line(), said, tmp_path)


def test_a_meter_is_commissioned_with_witness_relay_test_page_and_book(cabinet: Cabinet) -> None:
    status, text, complaint = cabinet.commission(*TEST, *ACCOUNT, "--position", "house 7", "--page", str(cabinet.page))
    assert (status, complaint) == (0, "")
    assert "M07 is commissioned" in text
    record = read_record(cabinet.out).record
    assert (record.serial, record.position, record.account, record.line.device_id) == (
        *(cabinet.serial, "house 7", "A07", 7),
    )
    assert (record.witness.register, record.witness.display, record.witness.agree) == ("1236", "1236.0", True)
    test = record.relay_test
    assert test is not None
    assert (test.result, test.steps) == ("passed", ["before:closed", "open:open", "close:closed"])
    assert (test.power_before_w, test.power_open_w, test.power_after_w, test.switches_load) == (500, 0, 500, True)
    book = read_site_book(cabinet.book)
    assert book.meters == (MeterEntry("M07", "line-1", 7, "eastron_sdm120", "house 7", cabinet.serial, relay_id="R07"),)
    assert [(row.relay_id, row.device_id, row.channel) for row in book.relays] == [("R07", 20, 6)]
    assert [(row.account_id, row.meter_id, row.tariff) for row in book.accounts] == [("A07", "M07", "demo-street@1")]
    assert cabinet.relay.closed


def test_a_relay_that_does_not_obey_leaves_the_book_as_it_was(cabinet: Cabinet) -> None:
    cabinet.relay.stuck = True
    status, text, _ = cabinet.commission(*TEST)
    assert status == 1
    assert "told to open: closed" in text
    record = read_record(cabinet.out).record
    assert record.relay_test is not None
    assert (record.relay_test.result, record.relay_test.switches_load) == ("failed", False)
    assert read_site_book(cabinet.book).meters == ()


def test_a_relay_that_switches_somebody_elses_load_fails(cabinet: Cabinet) -> None:
    status, _, _ = cabinet.commission("--relay", "R05:20:relay_board_8ch:5", "--relay-test", "--yes")
    test = read_record(cabinet.out).record.relay_test
    assert test is not None
    assert (status, test.result, test.switches_load) == (1, "failed", False)
    assert test.steps == ["before:closed", "open:open", "close:closed"]
    assert all(relay.closed for relay in cabinet.board.relays)


def test_without_a_load_the_contact_is_tested_and_the_load_left_open(sim_line: Any, said: Run, tmp_path: Path) -> None:
    cabinet = Cabinet(sim_line(), said, tmp_path, watts=0)
    assert cabinet.commission(*TEST)[0] == 0
    test = read_record(cabinet.out).record.relay_test
    assert test is not None
    assert (test.result, test.switches_load) == ("passed", None)


def test_a_contact_that_stands_open_is_not_switched(cabinet: Cabinet) -> None:
    cabinet.relay.closed = False
    status, _, _ = cabinet.commission(*TEST)
    test = read_record(cabinet.out).record.relay_test
    assert test is not None
    assert (status, test.steps, cabinet.relay.closed) == (1, ["before:open"], False)


class WatchedRelay:
    """A contact that tells when it is opened."""

    stuck = False

    def __init__(self, on_open: Callable[[], object]) -> None:
        self.closed, self.on_open = True, on_open

    def command(self, closed: bool) -> None:
        was, self.closed = self.closed, closed
        if was and not closed:
            self.on_open()


def watched(cabinet: Cabinet, on_open: Callable[[], object]) -> WatchedRelay:
    relay = WatchedRelay(on_open)
    relays: Any = list(cabinet.board.relays)
    relays[6] = relay
    cabinet.board.relays = tuple(relays)
    return relay


def test_a_test_that_is_interrupted_closes_the_contact_again(cabinet: Cabinet) -> None:
    interrupted: list[subprocess.Popen[bytes]] = []
    opened = threading.Event()

    def interrupt() -> None:
        opened.set()
        interrupted[0].send_signal(signal.SIGINT)

    relay = watched(cabinet, interrupt)
    command = [
        *(sys.executable, "-m", "edge.cli", "commission", "meter", "--line", cabinet.line.path, "--line-id", "line-1"),
        *("--timeout-ms", "200", "--model", "eastron_sdm120", "--baud", "9600", "--device-id", "7"),
        *("--meter-id", "M07", "--site-book", str(cabinet.book), "--installer", "Li Wei", "--key", str(cabinet.key)),
        *("--out", str(cabinet.out), *TEST),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    interrupted.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL))
    assert interrupted[0].wait(60) == 130
    assert opened.is_set()
    assert relay.closed
    assert not cabinet.out.exists()


def test_a_line_that_is_lost_in_the_test_is_told_with_the_contact(cabinet: Cabinet) -> None:
    watched(cabinet, cabinet.line.hang_up)
    status, _, complaint = cabinet.commission(*TEST)
    assert status == 2
    assert "the contact of R07 may be open" in complaint
    assert not cabinet.out.exists()


def test_only_the_contacts_own_commands_are_written(cabinet: Cabinet) -> None:
    cabinet.commission(*TEST)
    writes = {frame[:6] for frame in cabinet.line.asked if frame[1] in (5, 6, 15, 16)}
    assert writes == {bytes((20, 5, 0, 6, 0, 0)), bytes((20, 5, 0, 6, 0xFF, 0))}


@pytest.mark.parametrize(
    ("more", "display", "what"),
    [
        ((), "1230.0", "the display 1230.0"),
        (("--serial", "4711"), "1236.0", "not 4711"),
        (("--area", "A9"), "1236.0", "no area A9"),
        (("--account", "A07"), "1236.0", "needs --tariff"),
        (("--supply",), "1236.0", "needs --area"),
        (("--supply", "--area", "A1", *ACCOUNT), "1236.0", "has no account"),
        (("--relay-test", "--yes"), "1236.0", "needs --relay"),
        (TEST[:3], "1236.0", "confirm with --yes"),
        (("--relay", "R1:20:eastron_sdm120:0", "--relay-test", "--yes"), "1236.0", "has no relay"),
        (("--relay", "R1:20:relay_board_8ch:8", "--relay-test", "--yes"), "1236.0", "relay channels"),
        (("--relay", "R1:20"), "1236.0", "ID:ADDRESS:MODEL:CHANNEL"),
        (("--relay", "R1:20:no_board:0"), "1236.0", "is not known"),
        (("--device-id", "9"), "1236.0", "nobody answers at address 9"),
        (("--model", "abb_b21"), "1236.0", "does not look like model abb_b21"),
        (("--model", "relay_board_8ch"), "1236.0", "measures nothing"),
        (("--meter-id", "M 07"), "1236.0", "meters"),
        (("--line", "ttyUSB0"), "1236.0", "whole path"),
        ((), "12x", "is not a reading"),
    ],
)
def test_what_is_not_so_is_told_and_nothing_recorded(
    more: tuple[str, ...], display: str, what: str, cabinet: Cabinet
) -> None:
    before = cabinet.book.read_bytes()
    status, text, complaint = cabinet.commission(*more, display=display)
    assert (status, text) == (2, "")
    assert what in complaint
    assert "Traceback" not in complaint
    assert not cabinet.out.exists()
    assert cabinet.book.read_bytes() == before
    assert sorted(path.name for path in cabinet.folder.iterdir()) == ["installer.pem", "site.json"]


def test_a_record_is_never_written_over(cabinet: Cabinet) -> None:
    assert cabinet.commission()[0] == 0
    first = cabinet.out.read_bytes()
    status, _, complaint = cabinet.commission()
    assert status == 2
    assert "is there already" in complaint
    assert cabinet.out.read_bytes() == first


def test_a_row_that_says_something_else_is_not_changed(cabinet: Cabinet) -> None:
    assert cabinet.commission("--position", "house 7")[0] == 0
    cabinet.out.unlink()
    status, _, complaint = cabinet.commission("--position", "house 8")
    assert status == 2
    assert "position 'house 7' -> 'house 8'" in complaint
    assert read_site_book(cabinet.book).meters[0].position == "house 7"


def test_a_meter_is_commissioned_again_without_a_second_row(cabinet: Cabinet) -> None:
    assert cabinet.commission(*ACCOUNT)[0] == 0
    cabinet.out.unlink()
    assert cabinet.commission(*ACCOUNT)[0] == 0
    assert len(read_site_book(cabinet.book).meters) == 1


def test_the_meter_that_feeds_an_area_brings_its_transformers(cabinet: Cabinet) -> None:
    """Customers come first: an area without any is refused, as the agent would refuse it."""
    supply = ("--area", "T1", "--supply", "--ct-ratio", "40")
    status, _, complaint = cabinet.commission(*supply)
    assert status == 2
    assert "no customer's meter" in complaint
    customers = tuple(MeterEntry(f"M{number:02}", "line-1", number, "eastron_sdm120") for number in (1, 2))
    write_site_book(cabinet.book, SiteBook(Site("Asia/Shanghai", "CNY"), customers, (), ()))
    assert cabinet.commission(*supply, "--area-meters", "M01")[0] == 0
    assert read_site_book(cabinet.book).areas == (AreaEntry("T1", ("M07",), meter_ids=("M01",), ct_ratio=40),)
    record = read_record(cabinet.out).record
    assert (record.area, record.area_role, record.ct_ratio) == ("T1", "supply", 40)


def test_a_customers_meter_behind_transformers_has_its_own_ratio(cabinet: Cabinet) -> None:
    assert cabinet.commission(*ACCOUNT, "--ct-ratio", "40")[0] == 0
    assert read_site_book(cabinet.book).meters[0].ct_ratio == 40
    assert read_record(cabinet.out).record.ct_ratio == 40


def test_a_customers_meter_joins_an_area_that_names_its_meters(cabinet: Cabinet) -> None:
    meters = tuple(MeterEntry(f"M{number:02}", "line-1", number, "eastron_sdm120") for number in (1, 2))
    area = AreaEntry("T1", ("M01",), meter_ids=("M02",))
    write_site_book(cabinet.book, SiteBook(Site("Asia/Shanghai", "CNY"), meters, (), (), (area,)))
    assert cabinet.commission("--area", "T1", *ACCOUNT)[0] == 0
    assert read_site_book(cabinet.book).areas == (AreaEntry("T1", ("M01",), meter_ids=("M02", "M07")),)


def test_a_new_site_book_needs_zone_and_currency(cabinet: Cabinet) -> None:
    cabinet.book.unlink()
    status, _, complaint = cabinet.commission()
    assert status == 2
    assert "--time-zone" in complaint
    assert cabinet.commission("--time-zone", "Asia/Shanghai", "--currency", "CNY")[0] == 0
    assert read_site_book(cabinet.book).site == Site("Asia/Shanghai", "CNY")


# --- signature --------------------------------------------------------------------------------


def test_a_record_verifies_and_a_changed_one_does_not(cabinet: Cabinet, said: Run) -> None:
    assert cabinet.commission()[0] == 0
    status, text, _ = said("commission", "verify", str(cabinet.out))
    assert status == 0
    assert "signed by Li Wei" in text
    assert "compare the fingerprint" in text
    for name, changed in (("position", "elsewhere"), ("ct_ratio", 2), ("installer", "Wang")):
        document = json.loads(cabinet.out.read_text("utf-8"))
        document["record"][name] = changed
        other = cabinet.folder / "changed.json"
        other.write_text(json.dumps(document), "utf-8")
        status, text, _ = said("commission", "verify", str(other), "--json")
        assert (status, json.loads(text)["status"]) == (1, "bad")


def test_whose_key_it_must_be_can_be_said(cabinet: Cabinet, said: Run) -> None:
    assert cabinet.commission()[0] == 0
    own = read_record(cabinet.out).signature.public_key
    pem = cabinet.folder / "public.pem"
    stranger = Ed25519PrivateKey.generate().public_key()
    pem.write_bytes(stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    verify = ("commission", "verify", str(cabinet.out), "--json", "--public-key")
    assert said(*verify, own)[0] == 0
    status, text, _ = said(*verify, str(pem))
    assert (status, json.loads(text)["status"]) == (1, "other_key")


def test_every_field_of_a_record_is_signed(cabinet: Cabinet) -> None:
    assert cabinet.commission(*TEST, *ACCOUNT)[0] == 0
    signed = read_record(cabinet.out)
    assert signature_holds(signed)
    plain = msgspec.to_builtins(signed.record)

    def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict) and value:
            return [found for name, part in value.items() for found in leaves(part, (*path, name))]
        return [path]

    paths = leaves(plain)
    assert len(paths) > 25
    for path in paths:
        assert f'"{path[-1]}":'.encode() in signed_bytes(signed.record)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v": 2}', "\x00", "x" * 1_000_001])
def test_what_is_no_record_is_told_with_status_2(text: str, said: Run, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    status, _, complaint = said("commission", "verify", str(path))
    assert status == 2
    assert str(path) in complaint


def test_a_key_that_is_none_is_told_before_anything_is_asked(cabinet: Cabinet) -> None:
    other_kind = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, what in ((b"no key", "no key in PEM"), (other_kind, "must be an Ed25519 key")):
        cabinet.key.write_bytes(content)
        status, _, complaint = cabinet.commission()
        assert status == 2
        assert what in complaint
    assert cabinet.line.asked == []


def test_a_new_key_is_its_owners_alone_and_never_written_over(said: Run, tmp_path: Path) -> None:
    path = tmp_path / "installer.pem"
    status, text, _ = said("commission", "key", "--out", str(path), "--json")
    assert (status, path.stat().st_mode & 0o777) == (0, 0o600)
    assert set(json.loads(text)) == {"file", "public_key", "fingerprint"}
    assert said("commission", "key", "--out", str(path))[0] == 2


# --- page, words, small decisions -------------------------------------------------------------


class Tags(HTMLParser):
    """Tags and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_everything_in_both_languages_and_runs_nothing(cabinet: Cabinet) -> None:
    hostile = "<script>alert(1)</script>"
    status, _, _ = cabinet.commission(*TEST, "--position", hostile, "--page", str(cabinet.page))
    assert status == 0
    page = Tags()
    page.feed(cabinet.page.read_text("utf-8"))
    assert "script" not in page.tags
    assert hostile in page.text
    for words in (
        "电表投运记录",
        "Commissioning record",
        "令断开",
        "told to open",
        cabinet.serial,
        "Li Wei",
        "1236 kWh",
    ):
        assert words in page.text
    assert "http" not in page.text


def test_the_record_is_printed_as_one_object(cabinet: Cabinet) -> None:
    status, text, _ = cabinet.commission("--json")
    assert (status, json.loads(text)) == (0, json.loads(cabinet.out.read_text("utf-8")))


@pytest.mark.parametrize(
    ("display", "expected"),
    [
        ("1236", True),
        ("1236.0", True),
        ("1235", True),
        ("1236.1", True),
        ("1237", True),
        ("1235.7", False),
        ("1230", False),
    ],
)
def test_a_display_agrees_within_its_last_digit(display: str, expected: bool) -> None:
    assert agrees(Decimal("1236.04"), Decimal(display)) is expected


@pytest.mark.parametrize(
    ("before", "opened", "expected"),
    [
        (500, 0, True),
        (500, 50, True),
        (500, 51, False),
        (19, 0, None),
        (None, 0, None),
        (500, None, None),
        (-500, 0, True),
    ],
)
def test_a_load_is_switched_when_it_is_gone(before: int | None, opened: int | None, expected: bool | None) -> None:
    assert switches_load(before, opened) is expected


def test_relay_commands_are_those_that_the_model_allows() -> None:
    for name in ("relay_board_8ch", "hiking_dds238_2", "eastron_sdm530y"):
        model = load_model(name)
        assert model.relay is not None
        for request in relay_commands(RTU, RelayPlace("R", 3, model, 0)):
            assert model.allows_write(request.function_code, request.address, request.count)
    with pytest.raises(NotCommissioned):
        relay_commands(RTU, RelayPlace("R", 3, load_model("abb_b23"), 0))


def test_both_catalogues_have_the_same_keys() -> None:
    english, chinese = (json.loads((CATALOGUE / f"{name}.json").read_text("utf-8")) for name in LANGUAGES)
    assert list(english) == list(chinese)
    assert say("zh", "word.yes") == "是"


@pytest.mark.parametrize("command", ["meter", "verify", "key"])
def test_each_command_explains_itself_with_an_example(command: str, said: Run) -> None:
    status, text, _ = said("commission", command, "--help")
    assert status == 0
    assert f"wattgate commission {command}" in text.split("example:")[1]
