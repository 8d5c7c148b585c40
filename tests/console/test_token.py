"""Typing a token: the digits reach the door once, and the page says in plain words what became of them."""

import html
import re
from typing import Any

import polib  # type: ignore[import-untyped]
import pytest

from edge.console.formats import formats_for
from edge.console.language import CATALOGUES, load_languages
from edge.console.token import grouped
from edge.ports import DoorAnswer

NOW = 1_785_736_800
DIGITS = "12345678901234567890"
CODES = [entry.msgid for entry in polib.pofile(str(CATALOGUES / "en.po")) if entry.msgctxt == "token_answer"]
CREDITED: dict[str, Any] = {
    "account": "A-1002",
    "unit": "energy",
    "amount": 25_000,
    "payment_id": "sts:M:1993:1",
    "live_balance_nano": 30_500_000_000,
}


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


def answered(world: Any, code: str, accepted: bool = False, tag: str = "en", **params: Any) -> str:
    """The text of the page after an entry that the door answered like this."""
    world.door.answer = DoorAnswer(accepted, code, {"account": "A-1002", **params})
    page = world.get(world.enter(DIGITS, "/token").headers["location"], headers={"accept-language": tag})
    assert page.status_code == 200
    return text_of(page.text)


def test_digits_reach_the_door_once_as_typed_and_a_reload_enters_nothing(world: Any) -> None:
    response = world.enter(" 1234 5678-9012 3456 7890 ", "/token")
    assert response.status_code == 303
    assert world.door.typed == [("A-1002", "1234 5678-9012 3456 7890", "console")]
    for _ in range(2):
        assert world.get(response.headers["location"]).status_code == 200
    assert len(world.door.typed) == 1
    assert world.door.entered == []


def test_energy_is_said_in_kilowatt_hours_with_the_new_balance(world: Any) -> None:
    text = answered(world, "applied", True, **CREDITED)
    assert "Accepted The credit is on the account." in text
    assert "Amount 25.000 kWh" in text
    assert "New balance 30.500 kWh" in text
    assert "Digits entered 1234 5678 9012 3456 7890" in text
    assert "Position Building 3, unit 2" in text
    assert "CNY" not in text


def test_time_is_said_in_days_hours_and_minutes(world: Any) -> None:
    text = answered(
        world, "applied", True, unit="time", amount=2 * 86_400, live_balance_nano=(86_400 + 7200 + 59) * 10**6
    )
    assert "Amount 2 d" in text
    assert "New balance 1 d 2 h" in text


@pytest.mark.parametrize(
    ("wait_s", "words"),
    [(60, "Wait 1 minute, then try again."), (61, "Wait 2 minutes"), (30_720, "Wait 512 minutes")],
)
def test_waiting_time_is_rounded_up_and_says_until_when(world: Any, wait_s: int, words: str) -> None:
    text = answered(world, "crc", wait_s=wait_s, open_at=NOW + 60)
    assert words in text
    assert "The next entry counts from 14:01:00 on." in text


def test_no_wait_is_said_where_there_is_none(world: Any) -> None:
    assert "Wait" not in answered(world, "used", unit="energy")


def test_whoever_types_a_spent_token_sees_the_balance_of_now(world: Any) -> None:
    text = answered(world, "used", unit="energy")
    assert "Not accepted This token was already used. It was spent before; nothing was added now." in text
    assert "Balance \N{MINUS SIGN}31.205 kWh" in text  # 10^9 nano of an energy account are 1 kWh


@pytest.mark.parametrize("tag", ["en", "zh-CN"])
@pytest.mark.parametrize("code", CODES)
def test_each_answer_has_its_words(world: Any, code: str, tag: str) -> None:
    words = load_languages()[tag].term("token_answer", code)
    assert words != code
    assert words in answered(world, code, tag=tag)


def test_the_reasons_of_the_core_and_of_the_desk_all_have_words() -> None:
    reasons = {"locked", "malformed", "crc", "unknown", "unit", "amount", "expired_key", "used", "old"}
    payments = {"above_limit", "above_maximum_balance", "above_meter_day_limit", "above_gateway_day_limit"}
    desk = {"applied", "count_sync", "key_section", "key_changed", "unknown_account", "no_decoder", "not_handed_over"}
    assert reasons | payments | desk | {"wrong_unit", "recovery", "empty"} == set(CODES)


def test_nothing_typed_reaches_no_door(world: Any) -> None:
    page = world.get(world.enter("  ", "/token").headers["location"])
    assert "Nothing was entered." in page.text
    assert world.door.typed == []


def test_the_form_offers_the_accounts_with_a_decoder_and_chooses_the_one_asked_for(world: Any) -> None:
    page = world.get("/token?account=A-1004").text
    assert re.findall(r'<option value="([^"]*)"( selected)?', page) == [
        ("", ""),
        ("A-1002", ""),
        ("A-1004", " selected"),
    ]
    assert 'inputmode="numeric"' in page


def test_an_account_page_leads_to_the_form_where_the_meter_takes_tokens(world: Any) -> None:
    assert 'href="/token?account=A-1004"' in world.get("/account/A-1004").text
    assert "/token?account=" not in world.get("/account/A-1001").text


def test_a_site_without_decoders_shows_no_way_to_the_form(make_world: Any, accounts: Any) -> None:
    world = make_world(token_accounts=frozenset())
    world.publish(accounts)
    assert 'href="/token"' not in world.get("/").text
    assert "No meter here takes typed tokens." in world.get("/token").text


def test_an_answer_is_forgotten_after_many_and_says_so(world: Any) -> None:
    assert world.get("/token/unknown").status_code == 404


def test_before_the_first_round_the_form_says_so(make_world: Any) -> None:
    world = make_world()
    for path in ("/token", "/token/x"):
        assert world.get(path).status_code == 503


def test_what_was_typed_is_shown_as_text_and_never_as_markup(world: Any) -> None:
    page = world.get(world.enter("<b>1</b>" * 40, "/token").headers["location"]).text
    assert "<b>1" not in page
    assert len(grouped("7" * 5000)) < 80


def test_chinese_pages_of_tokens_hold_no_english(world: Any) -> None:
    form = text_of(world.get("/token", headers={"accept-language": "zh"}).text)
    assert "输入充值码" in form
    answer = answered(world, "crc", tag="zh-CN", wait_s=120, open_at=NOW)
    assert "请等待2分钟后重试。" in answer
    assert "wait" not in answer.lower()


@pytest.mark.parametrize(
    ("amount", "unit", "shown"),
    [
        (1, "energy", "0.001 kWh"),
        (-25_000, "energy", "\N{MINUS SIGN}25.000 kWh"),
        (0, "time", "0 min"),
        (90_061, "time", "1 d 1 h 1 min"),
        (-3600, "time", "\N{MINUS SIGN}1 h"),
    ],
)
def test_quantity_in_its_unit(world: Any, amount: int, unit: str, shown: str) -> None:
    assert formats_for(world.source.current, load_languages()["en"]).of(unit).credit(amount) == shown
