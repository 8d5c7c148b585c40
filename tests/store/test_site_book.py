"""The site book: written whole or not at all, and every fault named with file, table and row."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB

from edge.core.calendar import daily_windows
from edge.core.policy import NoticeProof, Policy
from edge.core.units import MoneyNano
from edge.store.site_book import (
    AccountEntry,
    AreaEntry,
    AtomicStorage,
    MeterEntry,
    RelayEntry,
    Site,
    SiteBook,
    SiteBookError,
    read_site_book,
    write_site_book,
)

SITE = Site(time_zone="Asia/Shanghai", currency="CNY")
BOOK = SiteBook(
    site=SITE,
    meters=(
        MeterEntry("M01", "line-1", 1, "eastron_sdm120", position="二号楼一单元", relay_id="R01"),
        MeterEntry("M02", "line-1", 2, "hiking_dds238_2", relay_id="R02"),
        MeterEntry("M99", "line-1", 99, "eastron_sdm630", position="变压器"),
    ),
    relays=(
        RelayEntry("R01", "line-1", 40, "relay_board_8ch", 3),
        RelayEntry("R02", "line-1", 2, "hiking_dds238_2"),
    ),
    accounts=(
        AccountEntry("A01", "M01", "demo-street@1", MoneyNano(-5), protected=True),
        AccountEntry(
            "A02",
            "M02",
            "demo-street@1",
            policy=Policy(cut_windows=daily_windows([("09:00", "16:00")]), notice_proof=NoticeProof.CLOUD_RECEIPT),
        ),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good site book."""
    path = tmp_path / "site.json"
    write_site_book(path, BOOK)
    return path


@pytest.fixture
def edited(path: Path) -> Callable[[Callable[[Any], object]], Path]:
    """The good site book after somebody's hand: the edit gets the tables and changes them."""

    def edit(change: Callable[[Any], object]) -> Path:
        content = json.loads(path.read_text("utf-8"))
        change(content)
        path.write_text(json.dumps(content), "utf-8")
        return path

    return edit


def test_book_is_read_as_it_was_written(path: Path) -> None:
    assert read_site_book(path) == BOOK


def test_tinydb_reads_and_writes_the_same_file(path: Path) -> None:
    with TinyDB(path, storage=AtomicStorage) as book:
        book.table("meters").insert({"meter_id": "M03", "line_id": "line-1", "device_id": 3, "model": "x"})
    assert [meter.meter_id for meter in read_site_book(path).meters] == ["M01", "M02", "M99", "M03"]


def test_chinese_stays_readable_in_the_file(path: Path) -> None:
    assert "二号楼一单元" in path.read_text("utf-8")
    assert read_site_book(path).meters[0].position == "二号楼一单元"


# --- written whole ---------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_crash_before_the_rename_leaves_the_old_book(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        with pytest.raises(KeyboardInterrupt):
            write_site_book(path, SiteBook(SITE, (), (), ()))
    assert read_site_book(path) == BOOK
    write_site_book(path, SiteBook(SITE, (), (), ()))  # what the crash left lying about does not disturb
    assert read_site_book(path).meters == ()
    assert os.listdir(path.parent) == ["site.json"]


def test_content_is_on_the_disk_before_the_rename_and_the_name_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    write_site_book(path, BOOK)
    assert calls == ["file", "rename", "folder"]


# --- faults of the file ----------------------------------------------------------------------


def test_missing_book_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteBookError, match=r"site\.json: there is no site book"):
        read_site_book(tmp_path / "site.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be an object of tables: site, meters, relays, accounts"),
        ('{"meters": []}', "table meters: must be an object of rows by number"),
        ('{"meters": {"1": []}}', "table meters, row 1: must be an object"),
        ('{"meters": {"one": {}}}', "table meters: row 'one': its key must be a whole number"),
        ('{"meters": {"1": {}, "1": {}}}', "'1' stands there twice"),
        ('{"meters": {"1": {"meter_id": "M1", "meter_id": "M2"}}}', "'meter_id' stands there twice"),
        ('{"metres": {}}', "table 'metres' is unknown; allowed: site, meters, relays, accounts"),
        ("{}", "table site has 0 rows, it must have 1"),
        ('{"site": {"1": {}}}', "table site, row 1: .*`time_zone`"),
    ],
)
def test_file_that_is_no_site_book_is_refused(path: Path, content: str, sentence: str) -> None:
    path.write_text(content, "utf-8")
    with pytest.raises(SiteBookError, match=rf"site\.json: .*{sentence}|site\.json: {sentence}"):
        read_site_book(path)


def test_file_in_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes('{"site": {"1": {"time_zone": "亚洲"}}}'.encode("gb18030"))
    with pytest.raises(SiteBookError, match=r"site\.json: is not JSON"):
        read_site_book(path)


# --- faults of a row -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "row", "field", "value", "sentence"),
    [
        ("meters", "2", "device_id", 0, r"row 2: .*>= 1.*device_id"),
        ("meters", "2", "device_id", 248, r"row 2: .*<= 247.*device_id"),
        ("meters", "2", "device_id", "2", r"row 2: Expected `int`, got `str` - at `\$\.device_id`"),
        ("meters", "2", "device_id", None, r"row 2: .*device_id"),
        ("meters", "1", "meter_id", "", r"row 1: .*meter_id"),
        ("meters", "1", "meter_id", "M 1", r"row 1: .*meter_id"),
        ("meters", "1", "meter_id", "M1\n", r"row 1: .*meter_id"),
        ("meters", "1", "power_w_max", 0, r"row 1: .*power_w_max"),
        ("meters", "1", "colour", "red", r"row 1: field 'colour' is unknown; allowed: meter_id, line_id, device_id"),
        ("relays", "1", "channel", -1, r"row 1: .*channel"),
        ("relays", "1", "relay_id", "R" * 65, r"row 1: .*relay_id"),
        ("accounts", "1", "account_id", "张三", r"row 1: .*account_id"),
        ("accounts", "1", "opening_nano", 10**18, r"row 1: .*opening_nano"),
        ("accounts", "1", "opening_nano", 1.5, r"row 1: .*opening_nano"),
        ("accounts", "1", "opening_nano", 10**30, r"row 1: .*"),
        ("accounts", "1", "protected", "yes", r"row 1: .*protected"),
        ("site", "1", "currency", "Yuan", r"row 1: .*currency"),
        ("site", "1", "minor_digits", 10, r"row 1: .*minor_digits"),
        ("site", "1", "owner", "me", r"row 1: field 'owner' is unknown; allowed: time_zone, currency, minor_digits"),
    ],
)
def test_fault_in_a_field_names_table_row_and_field(
    edited: Any, table: str, row: str, field: str, value: object, sentence: str
) -> None:
    path = edited(lambda content: content[table][row].update({field: value}))
    with pytest.raises(SiteBookError, match=rf"site\.json: table {table}, {sentence}"):
        read_site_book(path)


def test_row_is_named_by_its_number_in_the_file(edited: Any) -> None:
    def renumber(content: Any) -> None:
        content["meters"] = {"1": content["meters"]["1"], "70": {**content["meters"]["2"], "device_id": 300}}

    with pytest.raises(SiteBookError, match="table meters, row 70"):
        read_site_book(edited(renumber))


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"grace_hour": 1}, "field 'grace_hour' is unknown; allowed: .*grace_hours"),
        ({"grace_hours": -1}, r"policy\.grace_hours: is -1, allowed is 0 to 8760"),
        ({"reserve_days": 91}, r"policy\.reserve_days: is 91, allowed is 0 to 90"),
        ({"control_mode": 7}, r"policy\.control_mode: is 7, allowed is 0 to 6"),
        ({"issue_day": 29}, r"policy\.issue_day: is 29, allowed is 0 to 28"),
        ({"evaluate_at": "noon"}, r"policy\.evaluate_at: allowed is live, freeze or a time"),
        ({"evaluate_at": "25:00"}, r"policy\.evaluate_at"),
        ({"legal_profile": "none"}, "legal_profile"),
        ({"cut_windows": {"windows": [[0, 1441]]}}, r"policy\.cut_windows\.windows: minutes of the day are 0 to 1440"),
        ({"cut_windows": {"windows": [[0, 60]], "weekdays": [7]}}, r"policy\.cut_windows\.weekdays"),
        ({"cut_windows": {"windows": [[0, 60]], "weekday": [1]}}, "field 'weekday' is unknown"),
        ({"notice_windows": {"windows": [[-1, 60]]}}, r"policy\.notice_windows\.windows"),
        ({"overdraft_nano": -1}, r"policy\.overdraft_nano"),
        ("lenient", "policy"),
    ],
)
def test_fault_in_a_policy_is_refused(edited: Any, policy: object, sentence: str) -> None:
    path = edited(lambda content: content["accounts"]["2"].update({"policy": policy}))
    with pytest.raises(SiteBookError, match=rf"table accounts, row 2: .*{sentence}|table accounts, row 2: {sentence}"):
        read_site_book(path)


def test_policy_takes_what_is_left_out_from_the_defaults(edited: Any) -> None:
    changes: Mapping[str, object] = {"grace_hours": 24, "evaluate_at": "09:30"}
    path = edited(lambda content: content["accounts"]["2"].update({"policy": changes}))
    assert read_site_book(path).accounts[1].policy == Policy(grace_hours=24, evaluate_at="09:30")


@pytest.mark.parametrize("zone", ["Asia/Atlantis", "", "../../etc/passwd", "/etc/passwd", "Asia", "UTC\0"])
def test_unknown_time_zone_is_refused(edited: Any, zone: str) -> None:
    path = edited(lambda content: content["site"]["1"].update({"time_zone": zone}))
    with pytest.raises(SiteBookError, match="table site: time_zone"):
        read_site_book(path)


# --- references ------------------------------------------------------------------------------


def copied(table: str, row: str, **changes: object) -> Callable[[Any], object]:
    """Another row like one that is there, but for some fields."""
    return lambda content: content[table].update({"9": {**content[table][row], **changes}})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (copied("site", "1"), "table site has 2 rows, it must have 1"),
        (copied("meters", "1", device_id=9, relay_id=None), "meters: 'M01' stands there twice"),
        (copied("relays", "1", channel=4), "relays: 'R01' stands there twice"),
        (copied("accounts", "1", meter_id="M99"), "accounts: 'A01' stands there twice"),
        (copied("accounts", "1", account_id="A09"), r"accounts \(meter_id\): 'M01' stands there twice"),
        (copied("meters", "1", meter_id="M09", device_id=9), r"meters \(relay_id\): 'R01' stands there twice"),
        (copied("meters", "1", meter_id="M09", device_id=9, relay_id="R9"), "meter M09: relay 'R9' is not in table"),
        (copied("accounts", "1", account_id="A09", meter_id="M9"), "account A09: meter 'M9' is not in table meters"),
        (
            copied("meters", "1", meter_id="M09", relay_id=None),
            "meters M01 and M09 are both at line line-1, device id 1",
        ),
        (copied("relays", "1", relay_id="R09"), "relays R01 and R09 are both at line line-1, device id 40, channel 3"),
        (
            copied("relays", "1", relay_id="R09", device_id=1, channel=0),
            "relay R09: line line-1, device id 1 is a 'eastron_sdm120' elsewhere, here a 'relay_board_8ch'",
        ),
    ],
)
def test_wrong_reference_is_named(edited: Any, change: Callable[[Any], object], sentence: str) -> None:
    with pytest.raises(SiteBookError, match=rf"site\.json: {sentence}"):
        read_site_book(edited(change))


# --- one payer, several meters -----------------------------------------------------------------


def with_other_meters(*meter_ids: str) -> Callable[[Any], object]:
    return lambda content: content["accounts"]["1"].update({"other_meter_ids": meter_ids})


def test_a_landlord_pays_for_further_meters_and_an_area_sells_through_them(edited: Any) -> None:
    book = read_site_book(edited(with_other_meters("M99")))
    assert book.accounts[0].meter_ids == ("M01", "M99")
    area = AreaEntry("T1", supply_meter_ids=("M00",))
    assert book.sale_meter_ids(area) == ("M01", "M99", "M02")


@pytest.mark.parametrize(
    ("meter_id", "sentence"),
    [
        ("M77", "account A01: other_meter_ids: meter 'M77' is not in table meters"),
        ("M01", r"accounts \(meter_id\): 'M01' stands there twice"),
        ("M02", r"accounts \(meter_id\): 'M02' stands there twice"),
    ],
)
def test_a_further_meter_is_there_and_has_no_other_payer(edited: Any, meter_id: str, sentence: str) -> None:
    with pytest.raises(SiteBookError, match=rf"site\.json: {sentence}"):
        read_site_book(edited(with_other_meters(meter_id)))


def test_a_relay_of_the_configuration_is_known_and_one_of_both_is_refused(
    edited: Callable[[Callable[[Any], None]], Path],
) -> None:
    """A relay on GPIO lines stands in the configuration: the book only says whose meter it switches."""

    def bound_to_gpio(content: Any) -> None:
        content["meters"]["3"]["relay_id"] = "G01"

    path = edited(bound_to_gpio)
    with pytest.raises(SiteBookError, match=r"relay 'G01' is not in table relays, nor in gpio_relays of the conf"):
        read_site_book(path)
    for others in (["G01"], None):
        assert read_site_book(path, others).meters[2].relay_id == "G01"
    with pytest.raises(SiteBookError, match="relay R01 is in table relays and in gpio_relays of the configuration"):
        read_site_book(path, ["G01", "R01"])


@pytest.mark.parametrize("extra", [{"relay_id": "R09"}, {"decoder": {"scheme": "openpaygo", "count": 3}}])
def test_a_further_meter_neither_switches_nor_takes_tokens(edited: Any, extra: dict[str, Any]) -> None:
    def change(content: Any) -> None:
        with_other_meters("M99")(content)
        content["meters"]["3"].update(extra)
        content["relays"]["9"] = {"relay_id": "R09", "line_id": "line-1", "device_id": 41, "model": "relay_board_8ch"}

    with pytest.raises(SiteBookError, match=f"account A01: other_meter_ids: meter M99: {next(iter(extra))}: is not"):
        read_site_book(edited(change))


# --- decoders of typed tokens ------------------------------------------------------------------

STS = {"scheme": "sts", "base_year": 2014, "commissioned_at": "2026-03-02T08:00:00+08:00"}
PAYGO = {"scheme": "openpaygo", "count": 3}


def with_decoder(decoder: object) -> Callable[[Any], object]:
    return lambda content: content["meters"]["1"].update({"decoder": decoder})


def test_decoders_are_read_with_an_instant_that_says_its_zone(edited: Any) -> None:
    meter = read_site_book(edited(with_decoder(STS))).meters[0]
    assert meter.decoder is not None
    assert (meter.decoder.scheme, meter.decoder.base_year, meter.decoder.key_expiry) == ("sts", 2014, None)
    assert meter.decoder.commissioned_at is not None
    assert meter.decoder.commissioned_at.timestamp() == 1_772_409_600
    for decoder in (PAYGO, {**PAYGO, "starting_code": 1, "seconds_per_step": 3600}, {"scheme": "relay"}, None):
        assert read_site_book(edited(with_decoder(decoder))).meters[1].decoder is None


def test_decoders_are_written_as_they_are_read(edited: Any, path: Path) -> None:
    book = read_site_book(edited(with_decoder({**STS, "key_expiry": 0})))
    write_site_book(path, book)
    assert read_site_book(path) == book
    assert json.loads(path.read_text("utf-8"))["meters"]["1"]["decoder"] == {**STS, "key_expiry": 0}


@pytest.mark.parametrize(
    ("decoder", "sentence"),
    [
        ("sts", r"Expected `object \| null`, got `str` - at `\$\.decoder`"),
        ({}, r".*`scheme`"),
        ({**STS, "scheme": "STS"}, r".*'STS' - at `\$\.decoder\.scheme`"),
        ({**STS, "key": "00"}, "field 'key' is unknown; allowed: scheme, base_year, key_expiry, commissioned_at"),
        ({**STS, "base_year": 2015}, r".*2015 - at `\$\.decoder\.base_year`"),
        ({**STS, "key_expiry": 256}, r".*<= 255.*decoder\.key_expiry"),
        ({**STS, "key_expiry": -1}, r".*>= 0.*decoder\.key_expiry"),
        ({**STS, "commissioned_at": "2026-03-02T08:00:00"}, r".*timezone.*decoder\.commissioned_at"),
        ({**STS, "commissioned_at": "yesterday"}, r".*decoder\.commissioned_at"),
        ({**STS, "base_year": None}, r"decoder\.base_year: is missing; scheme sts needs it"),
        ({"scheme": "sts", "base_year": 2014}, r"decoder\.commissioned_at: is missing; scheme sts needs it"),
        ({**STS, "base_year": 1993}, r"decoder\.commissioned_at: 2026-.* is out of reach of the base year 1993"),
        ({**STS, "base_year": 2035}, r"decoder\.commissioned_at: 2026-.* is out of reach of the base year 2035"),
        (
            {**STS, "count": 3},
            r"decoder\.count: does not belong to scheme sts, which has base_year, commissioned_at, key_expiry",
        ),
        ({"scheme": "openpaygo"}, r"decoder\.count: is missing; scheme openpaygo needs it"),
        ({**PAYGO, "count": 100_001}, r".*<= 100000.*decoder\.count"),
        ({**PAYGO, "starting_code": 0}, r".*>= 1.*decoder\.starting_code"),
        ({**PAYGO, "seconds_per_step": 0}, r".*>= 1.*decoder\.seconds_per_step"),
        ({**PAYGO, "base_year": 2014}, r"decoder\.base_year: does not belong to scheme openpaygo"),
        ({"scheme": "relay", "count": 1}, r"decoder\.count: does not belong to scheme relay, which has no other field"),
    ],
)
def test_fault_in_a_decoder_is_one_sentence(edited: Any, decoder: object, sentence: str) -> None:
    with pytest.raises(SiteBookError, match=rf"site\.json: table meters, row 1: {sentence}") as refused:
        read_site_book(edited(with_decoder(decoder)))
    assert "\n" not in str(refused.value)
