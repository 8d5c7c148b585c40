"""What the pages say: who is cut and why, the ledger in words, the log page by page."""

import dataclasses
import html
import re
from typing import Any

import pytest

from edge.agent.snapshot import BlockerView
from edge.core.units import MoneyNano, UnixSeconds

NANO = 1_000_000_000


def text_of(page: str) -> str:
    """A page's text as a person reads it."""
    body = page.split("<main", 1)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def rows_of(page: str) -> list[str]:
    """Account ids of the rows, in order."""
    return re.findall(r'<li id="account-([^"]+)"', page)


def row_text(page: str, account_id: str) -> str:
    row = re.search(rf'<li id="account-{account_id}".*?</li>', page, re.DOTALL)
    assert row is not None
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", row[0])).split())


def test_street_is_sorted_worst_first(world: Any) -> None:
    assert rows_of(world.get("/").text) == [
        "A-1010",  # relay disobeys
        "A-1002", "A-1003",  # cut, most in debt first
        "A-1004", "A-1005", "A-1006",  # below zero
        "A-1007",  # held
        "A-1008",  # silent
        "A-1009",  # low
        "A-1001", "A-1011", "A-1012",
    ]  # fmt: skip


def test_counts_at_the_top_count_each_property(world: Any) -> None:
    counts = dict(re.findall(r'<b id="count-(\w+)"[^>]*>(\d+)</b>', world.get("/").text))
    assert counts == {
        "all": "12", "cut": "3", "below": "5", "silent": "1", "held": "1", "low": "1", "disobeys": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("show", "expected"),
    [("cut", ["A-1010", "A-1002", "A-1003"]), ("silent", ["A-1008"]), ("held", ["A-1007"]), ("low", ["A-1009"])],
)
def test_a_filter_leaves_one_condition(world: Any, show: str, expected: list[str]) -> None:
    assert rows_of(world.get(f"/?show={show}").text) == expected


def test_an_unknown_filter_shows_all(world: Any) -> None:
    assert len(rows_of(world.get("/?show=nonsense").text)) == 12


@pytest.mark.parametrize(
    ("account_id", "sentence"),
    [
        ("A-1002", "No credit. Returns once 31.21 is paid."),
        ("A-1003", "Cut by an operator. A payment does not restore it."),
        ("A-1004", "Not cut: Notice not delivered (+1)"),
        ("A-1005", "Cut from Wed 5 Aug, 14:00 unless paid."),
        ("A-1006", "Protected: is never cut."),
        ("A-1007", "The register went back. Nothing is charged, nobody is cut on it."),
        ("A-1008", "The meter does not answer: no answer in time"),
        ("A-1010", "Commanded off, but the relay is closed: supply goes on."),
    ],
)
def test_each_row_says_why(world: Any, account_id: str, sentence: str) -> None:
    assert sentence in row_text(world.get("/").text, account_id)
    assert sentence in text_of(world.get(f"/account/{account_id}").text)


def test_an_order_to_keep_supply_outweighs_the_end_of_the_grace(world: Any, make_account: Any) -> None:
    owing = {"live_balance_nano": MoneyNano(-NANO), "days_left": None, "grace_ends_at": UnixSeconds(2**31)}
    blockers = (BlockerView("notice_not_delivered", {"number": 2}), BlockerView("keep_supply", {}))
    world.publish([make_account(1, **owing, blockers=blockers)], version=2)
    assert "Not cut: Keep-supply order (+1)" in row_text(world.get("/").text, "A-1001")


def test_commanded_is_told_apart_from_confirmed(world: Any) -> None:
    page = world.get("/").text
    assert "off confirmed" in row_text(page, "A-1002")
    assert "off but found closed" in row_text(page, "A-1010")
    assert "on not read back" in row_text(page, "A-1011")


def test_an_open_relay_counts_as_cut_even_when_commanded_on(world: Any, make_account: Any) -> None:
    world.publish([make_account(1, output_connected=False)], version=2)
    page = world.get("/").text
    assert 'id="count-cut">1<' in page
    assert "Commanded on, but the relay is open" in page


def test_balance_is_rounded_towards_minus_infinity_and_what_is_to_pay_upwards(world: Any, make_account: Any) -> None:
    world.publish(
        [
            make_account(
                1,
                live_balance_nano=MoneyNano(-1),
                days_left=None,
                control_state="ready_for_reconnection",
                control_reason="no_credit",
                output_connected=False,
            )
        ],
        version=2,
    )
    row = row_text(world.get("/").text, "A-1001")
    assert "\N{MINUS SIGN}0.01" in row
    assert "Returns once 0.01 is paid" in row


def test_gateway_strip_shows_time_clock_cloud_backlog_and_journal(world: Any) -> None:
    text = text_of(world.get("/").text)
    for expected in ("2026-08-03 14:00 Asia/Shanghai", "network time", "cloud connected", "events 2, readings 1",
                     "18402 9f2c51ab77e0", "line-1 open, line-2 open"):  # fmt: skip
        assert expected in text


def test_trouble_of_the_gateway_stands_above_the_rows(world: Any, accounts: Any) -> None:
    snapshot = world.source.current
    cloud = type(snapshot.cloud)(False, None, {"led": 3})
    line = type(snapshot.lines[0])("line-1", "/dev/ttyUSB0", False, "line_closed", 0, 0, {}, None)
    world.publish(accounts, version=2, clock_quality="floor", cloud=cloud, lines=(line,))
    alerts = world.get("/").text.split('id="alerts"')[1].split("</div>")[0]
    assert "clock is not trusted" in alerts
    assert "No link to the cloud" in alerts
    assert "Line line-1 is closed: line is closed" in alerts


def test_account_page_shows_blockers_with_evidence_and_notices_with_proof(world: Any) -> None:
    text = text_of(world.get("/account/A-1004").text)
    assert "Notice not delivered No receipt of notice 2" in text
    assert "Credit is running low raised Sat 25 Jul, 14:00 delivered Sat 25 Jul, 16:00" in text
    assert "receipt from the cloud" in text
    assert "no receipt yet" in text
    assert "Last notice before the cut not raised" in text


def test_an_unknown_code_is_shown_as_it_is(world: Any, make_account: Any) -> None:
    blockers = (BlockerView("volcano", {"ash_mm": 3}),)
    world.publish([make_account(1, live_balance_nano=MoneyNano(-NANO), days_left=None, blockers=blockers)], version=2)
    assert "Not cut: volcano" in text_of(world.get("/").text)
    assert "volcano ash" in text_of(world.get("/account/A-1001").text)


def test_ledger_is_in_words_newest_first_with_seq_and_hash(world: Any) -> None:
    page = world.get("/account/A-1002").text
    ledger = page.split('id="ledger"')[1].split("</ol>")[0]
    text = text_of("<main>" + ledger)
    assert "Supply commanded off (by the account): No credit. A payment can restore it." in text
    assert "Payment P-77120 by voucher; money on account 70.00. +20.00" in text
    assert "Daily freeze: 1,226.300 kWh, +4.210 kWh." in text
    stamps = re.findall(r'class="when">([^<]+)<', ledger)
    assert len(stamps) == 15
    assert stamps == sorted(stamps, reverse=True)


def test_a_record_of_unknown_type_still_shows_its_fields(world: Any) -> None:
    world.ledger.extra = [{"type": "SomethingNew", "at": 0, "account": "A-1002", "gained_nano": 5 * NANO, "seq": 1}]
    assert "SomethingNew (gained_nano: 5.00)" in text_of(world.get("/account/A-1002").text)


def test_a_record_without_the_fields_of_its_sentence_still_shows(world: Any) -> None:
    world.ledger.extra = [{"type": "PaymentApplied", "at": 0, "amount_nano": 1, "account": "A-1002", "seq": 1}]
    assert "Payment \N{EN DASH} by \N{EN DASH}" in text_of(world.get("/account/A-1002").text)


def test_meter_values_carry_their_units(world: Any) -> None:
    text = text_of(world.get("/account/A-1001").text)
    for expected in ("Voltage L1 228.4 V", "Power 402.7 W", "Power factor 0.97 Frequency 50.01 Hz"):
        assert expected in text


def test_unknown_account_is_a_page_of_its_own(world: Any) -> None:
    page = world.get("/account/nobody")
    assert page.status_code == 404
    assert "There is no such account here" in page.text


def test_event_log_can_be_turned_to_its_end_without_loss_or_repetition(make_world: Any, accounts: Any) -> None:
    world = make_world(events_per_page=20)
    world.publish(accounts)
    seen: list[str] = []
    address: str | None = "/events"
    while address:
        page = world.get(address).text
        seen += re.findall(r'class="proof code">([^<]+)<', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = html.unescape(older[1]) if older else None
    assert len(seen) == 75
    assert sum(entry.startswith("ledger") for entry in seen) == 72


def test_event_log_filters_by_account_over_page_borders(make_world: Any, accounts: Any) -> None:
    world = make_world(events_per_page=10)
    world.publish(accounts)
    page = world.get("/events?account=A-1005").text
    entries = page.split("<ol")[1].split("</ol>")[0]
    assert entries.count("<li>") == 10
    assert "A-1002" not in entries
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older is not None
    assert "account=A-1005" in older[1]


@pytest.mark.parametrize("before", ["x", "-1", "1.5", "9" * 5000, "\N{SUPERSCRIPT TWO}"])
def test_a_senseless_place_in_the_log_is_its_start(world: Any, before: str) -> None:
    page = world.get("/events", params={"before": before})
    assert page.status_code == 200
    assert "SomethingNew" in page.text


def test_before_the_first_round_pages_say_so_and_ask_again(make_world: Any) -> None:
    world = make_world()
    for path in ("/", "/account/A-1001", "/events", "/voucher", "/voucher/x"):
        page = world.get(path)
        assert page.status_code == 503
        assert "The gateway is starting" in page.text
        assert 'http-equiv="refresh"' in page.text
    assert world.get("/health").status_code == 503


def test_health_is_for_programs_and_names_no_customer(world: Any) -> None:
    answer = world.get("/health")
    assert answer.json()["status"] == "ok"
    assert answer.json()["accounts"] == 12
    assert "A-1002" not in answer.text


def test_first_load_with_128_meters_is_under_100_kilobytes(world: Any, make_account: Any, accounts: Any) -> None:
    for language in ("en", "zh-CN"):
        street = [*accounts, *(make_account(number) for number in range(13, 129))]
        assert len(street) == 128
        world.publish(street, version=world.source.current.version + 1)
        page = world.get("/", headers={"accept-encoding": "identity", "accept-language": language})
        size = len(page.content)
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            size += len(world.get(address, headers={"accept-encoding": "identity"}).content)
        assert size < 100_000
    compressed = world.get("/", headers={"accept-encoding": "gzip"})
    assert int(compressed.headers["content-length"]) < 12_000


def test_pages_say_their_language_and_label_every_field(world: Any) -> None:
    for path in ("/", "/account/A-1002", "/events", "/lines", "/areas", "/system", "/voucher", "/token"):
        page = world.get(path, headers={"accept-language": "zh-CN"}).text
        assert '<html lang="zh-CN">' in page
        assert page.count("<h1") == 1
        fields = set(re.findall(r'<(?:textarea|select|input) id="([^"]+)"', page))
        assert fields == set(re.findall(r'<label for="([^"]+)"', page))


def test_a_relay_under_command_is_no_alarm_before_it_was_read_back(world: Any, make_account: Any) -> None:
    world.publish([make_account(1, output_connected=False, switching=True)], version=2)
    assert "0 relay alarm" in text_of(world.get("/").text)
    world.publish([make_account(1, output_connected=False)], version=3)
    assert "1 relay alarm" in text_of(world.get("/").text)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("meter", ("open, no supply", "Relay the meter's own, read back")),
        ("board", ("open, no supply", "Relay on a relay board, read back")),
        ("gpio", ("open, no supply", "Relay on GPIO lines, its contact is read back")),
        ("gpio_commanded", ("told to open, no contact is read back", "Relay on GPIO lines, no contact is read back")),
    ],
)
def test_an_account_says_what_switches_it_and_whether_that_is_read_back(
    world: Any, kind: str, said: tuple[str, ...]
) -> None:
    shown = world.source.current.accounts[1]
    assert (shown.account_id, shown.output_connected) == ("A-1002", False)
    world.publish([dataclasses.replace(shown, relay_kind=kind)], version=2)
    page = text_of(world.get("/account/A-1002").text)
    assert [sentence for sentence in said if sentence not in page] == []
    assert ("confirmed" in row_text(world.get("/").text, "A-1002")) is True
    assert ("not confirmed" in row_text(world.get("/").text, "A-1002")) is (kind == "gpio_commanded")
