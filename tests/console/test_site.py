"""The pages about the place: lines with their devices, transformer areas, the gateway with its store and prices."""

import dataclasses
import html
import re
from typing import Any

import pytest

from edge.agent.snapshot import AreaDetail, DayLossView, StoreView
from edge.console.language import load_languages
from edge.console.lines import ADVICE
from edge.console.site import percent, price, size
from edge.ports import RelayStatus

PAGES = ("/lines", "/areas", "/system")


def text_of(page: str) -> str:
    """A page's text as a person reads it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


def line_with(details: Any, **changes: Any) -> Any:
    """Details whose first line is changed so; fields of the line's view and of its detail."""
    plain = details()
    first = plain.lines[0]
    of_view = {name: value for name, value in changes.items() if hasattr(first.line, name)}
    of_detail = {name: value for name, value in changes.items() if name not in of_view}
    changed = dataclasses.replace(first, line=dataclasses.replace(first.line, **of_view), **of_detail)
    return dataclasses.replace(plain, lines=(changed,))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cycle_ms": 640, "poll_interval_ms": 500}, "The poll interval is too short: a round takes 0.64 s"),
        ({"cycle_ms": 501, "poll_interval_ms": 500}, "The poll interval is too short: a round takes 0.501 s"),
        ({"cycle_ms": 500, "poll_interval_ms": 500}, "The wire is nearly full: a round takes 0.5 s of 0.5 s."),
        ({"cycle_ms": 8_001, "poll_interval_ms": 10_000}, "The wire is nearly full: a round takes 8.001 s of 10 s."),
        ({"cycle_ms": 8_000, "poll_interval_ms": 10_000}, "The wire has time to spare: a round takes 8 s of 10 s."),
        ({"cycle_ms": None}, "No round over this line has ended yet."),
        ({"open": False, "last_error": None}, "This line is closed: unknown cause"),
    ],
)
def test_a_line_says_whether_its_wire_has_time_left(
    world: Any, details: Any, changes: dict[str, Any], sentence: str
) -> None:
    world.source.details = lambda: line_with(details, **changes)
    assert sentence in text_of(world.get("/lines").text)


def test_the_share_of_the_wire_is_rounded_up(world: Any, details: Any) -> None:
    world.source.details = lambda: line_with(details, cycle_ms=9_991, poll_interval_ms=10_000)
    assert "Wire in use 100 %" in text_of(world.get("/lines").text)


def test_a_line_and_each_meter_on_it_show_how_fast_they_answer(world: Any) -> None:
    page = text_of(world.get("/lines").text)
    assert "Busy in the last minute 93 %" in page
    assert "Answering time half within 25 ms, 95 % within 40, 99 % within 80, slowest 212 ms" in page
    assert "answers: half within 20 ms, 95 % within 25, 99 % within 40, slowest 61 ms; waited for 142 ms" in page
    assert page.count("waited for") == 1


def test_errors_stand_by_frequency_with_what_to_do(world: Any) -> None:
    page = text_of(world.get("/lines").text)
    timeout, crc = (
        page.index("300 \N{MULTIPLICATION SIGN} no answer in time"),
        page.index("10 \N{MULTIPLICATION SIGN} checksum wrong"),
    )
    assert timeout < crc
    assert "Put 120 ohm at both ends of the line" in page


def test_every_advice_has_words_and_every_word_is_given(world: Any) -> None:
    for language in load_languages().values():
        assert [code for code in ADVICE.values() if not language.knows("error_advice", code)] == []
        assert [reason for reason in ADVICE if not language.knows("error", reason)] == []


def test_a_silent_device_says_since_when_and_stands_first(world: Any) -> None:
    page = text_of(world.get("/lines").text)
    assert "silent since Sun 2 Aug, 12:00" in page
    assert "Asked again at least every 60 s." in page
    second = page[page.index("line-2") :]
    assert second.index("Building 3, unit 8") < second.index("Building 3, unit 2")


def test_a_device_that_never_answered_has_no_time(world: Any, details: Any, make_device: Any) -> None:
    never = make_device(4, silent=True, last_ok_at=None, polls_ok=0)
    world.source.details = lambda: line_with(details, devices=(never,))
    page = text_of(world.get("/lines").text)
    assert "has never answered" in page
    assert "silent since" not in page


def test_a_meter_without_account_and_a_relay_board_are_named(world: Any, details: Any, make_device: Any) -> None:
    devices = (make_device(99), make_device(5, meter_ids=(), relay_ids=("R-1", "R-2")))
    world.source.details = lambda: line_with(details, devices=devices)
    page = text_of(world.get("/lines").text)
    assert "Meter address 99 · 202600000099" in page
    assert "Relays address 5 · R-1, R-2" in page


def test_lines_with_128_devices_are_under_100_kilobytes(world: Any, details: Any, make_device: Any) -> None:
    weak = {"polls_failed": 9, "errors": {"crc": 8, "timeout": 1}}
    devices = tuple(make_device(number, **weak) for number in range(1, 129))
    world.source.details = lambda: line_with(details, devices=devices)
    for language in ("en", "zh-CN"):
        page = world.get("/lines", headers={"accept-encoding": "identity", "accept-language": language})
        files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
        loaded = [world.get(address, headers={"accept-encoding": "identity"}) for address in files]
        assert len(page.content) + sum(len(one.content) for one in loaded) < 100_000


def test_an_incomplete_day_shows_no_rate_but_what_is_missing(world: Any) -> None:
    page = text_of(world.get("/areas").text)
    assert "2026-08-04 incomplete" in page
    assert "18.75 %" not in page
    assert "coverage 92.30 % · not read: 202600000008" in page
    assert "2026-07-26 5.20 %" in page
    assert "Overload" in page


def test_a_day_says_how_far_apart_its_meters_were_sampled_where_it_is_known(world: Any, details: Any) -> None:
    known = DayLossView(20_660, 10, 9, 1, 1000, 10_000, (), 1_390)
    unknown = dataclasses.replace(known, day=20_661, spread_ms=None)
    world.source.details = lambda: details(areas=(AreaDetail("a", (), (known, unknown)),))
    page = text_of(world.get("/areas").text)
    assert "coverage 100.00 % · sampled within 1.39 s" in page
    assert page.count("sampled within") == 1


def test_the_plot_of_losses_leaves_incomplete_days_out(world: Any, details: Any) -> None:
    page = world.get("/areas").text
    assert "Loss of complete days: 5.2 % to 6.72 %, last 6.72 %." in page
    assert page.count('class="plot-wide"') == page.count('class="plot-narrow"') == 1
    one = DayLossView(20_660, 10, 9, 1, 1000, 10_000, ())
    lost = dataclasses.replace(one, missing=("M",), day=20_661)
    world.source.details = lambda: details(areas=(AreaDetail("a", (), (one, lost)),))
    assert "Loss of complete days" not in world.get("/areas").text


def test_a_place_without_areas_says_so(world: Any, details: Any) -> None:
    world.source.details = lambda: details(areas=())
    assert "No transformer area is set up." in text_of(world.get("/areas").text)
    assert "/areas" not in world.get("/system").text


def test_system_shows_store_streams_and_whole_hashes(world: Any) -> None:
    page = text_of(world.get("/system").text)
    assert "Journal size 77.5 MiB" in page
    assert "Free on the disk 23.0 GiB of 29.7 GiB" in page
    assert "9f2c51ab" * 8 in page
    assert "2 records waiting" in page
    assert "The anchor lies on the same disk" in page


@pytest.mark.parametrize(("free", "warned"), [(9, True), (10, False)])
def test_a_disk_that_is_nearly_full_is_told(world: Any, details: Any, free: int, warned: bool) -> None:
    store = StoreView(1, 100, free, None, False, ())
    world.source.details = lambda: details(store=store)
    page = text_of(world.get("/system").text)
    assert ("The disk is nearly full" in page) is warned
    assert "same disk" not in page


def test_an_anchor_that_fails_and_a_doubted_clock_are_told(world: Any, details: Any) -> None:
    store = StoreView(1, 100, 50, "no such device", False, ())
    world.source.details = lambda: details(store=store, clock_doubted=True)
    page = text_of(world.get("/system").text)
    assert "The anchor cannot be written: no such device" in page
    assert "The clock is doubted" in page


def test_prices_are_exact_and_say_for_how_much(world: Any, details: Any) -> None:
    page = text_of(world.get("/system").text)
    assert "peak, up to 170.000 kWh 0.54 CNY/kWh" in page
    assert "peak, above 260.000 kWh 0.84 CNY/kWh" in page
    assert "valley, any energy \N{MINUS SIGN}0.39005 CNY/kWh" in page


def test_a_policy_is_told_in_sentences(world: Any) -> None:
    page = text_of(world.get("/system").text)
    assert "A cut comes 72 h after receipt of notice 2 at the earliest." in page
    assert "Cuts only within 08:00\N{EN DASH}20:00 (Mon, Tue, Wed, Thu, Fri)." in page
    assert "No cuts on holidays." in page


def test_a_policy_without_notices_promises_no_grace(world: Any, details: Any, make_policy: Any) -> None:
    direct = make_policy(legal_profile="prepayment_immediate", notices_needed=False, signed_by="", cut_windows=None)
    world.source.details = lambda: details(policies=(direct,))
    page = text_of(world.get("/system").text)
    assert "as soon as the credit is used up" in page
    assert "notice 2" not in page
    assert "nobody is cut under it" in page


def test_without_details_the_pages_say_that_the_gateway_starts(world: Any) -> None:
    world.source.details = None
    for path in PAGES:
        assert world.get(path).status_code == 503


def test_details_are_made_for_no_other_page(world: Any) -> None:
    def never() -> None:
        raise AssertionError("made without being asked for")

    world.source.details = never
    for path in ("/", "/account/A-1002", "/events", "/health"):
        assert world.get(path).status_code == 200


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (2**31, "2.0 GiB")]
)
def test_sizes_are_cut_off(number: int, text: str) -> None:
    assert size(number).replace(",", "") == text


def test_prices_and_shares_keep_their_digits() -> None:
    assert [price(micro) for micro in (0, 510_000, 513_500, 1, 1_234_000_000)] == [
        "0.00", "0.51", "0.5135", "0.000001", "1,234.00",
    ]  # fmt: skip
    assert [percent(share) for share in (642, -5, 10_000)] == ["6.42 %", "\N{MINUS SIGN}0.05 %", "100.00 %"]


GPIO_RELAYS = (
    RelayStatus("R07", "/dev/gpiochip0 line 17", True, False, None),
    RelayStatus("R08", "/dev/gpiochip0 line 22", False, False, None),
    RelayStatus("R09", "/dev/gpiochip1 line 3", True, None, "/dev/gpiochip1 line 3: the GPIO chip is gone"),
)


@pytest.mark.parametrize(
    ("language", "title", "sentences"),
    [
        ("en", "GPIO relays", ("open, no supply", "told to open, no contact is read back", "the GPIO chip is gone")),
        ("zh-CN", "GPIO 继电器", ("无供电", "没有触点回读", "GPIO 芯片已不存在")),
    ],
)
def test_gpio_relays_stand_below_the_lines_with_what_is_known_of_them(
    world: Any, details: Any, language: str, title: str, sentences: tuple[str, ...]
) -> None:
    world.source.details = lambda: dataclasses.replace(details(), gpio_relays=GPIO_RELAYS)
    page = text_of(world.get(f"/lines?lang={language}").text)
    below = page[page.index(title) :]
    assert [below.index(one) for one in sentences] == sorted(below.index(one) for one in sentences)
    assert "R09 /dev/gpiochip1 line 3" in below
    world.source.details = details
    assert title not in text_of(world.get(f"/lines?lang={language}").text)
