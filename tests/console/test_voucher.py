"""Entering a voucher: the text reaches the door once, and the page says what the door said."""

import html
import re
from typing import Any

import pytest

from edge.console.language import load_languages
from edge.console.voucher import RecentAnswers
from edge.ports import DoorAnswer

NANO = 1_000_000_000
CODES = ["applied", "duplicate", "signature", "wrong_gateway", "malformed", "unknown_key", "refused", "empty"]


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


def test_a_voucher_reaches_the_door_once_and_a_reload_enters_nothing(world: Any) -> None:
    response = world.enter("  ABCD EFGH\nJKMN  ")
    assert response.status_code == 303
    assert world.door.entered == [("ABCD EFGH\nJKMN", "console")]
    for _ in range(2):
        assert world.get(response.headers["location"]).status_code == 200
    assert len(world.door.entered) == 1


def test_the_answer_says_amount_balance_and_place(world: Any) -> None:
    answer = world.get(world.enter("ABCD").headers["location"])
    text = text_of(answer.text)
    assert "Accepted The payment is on the account." in text
    assert "Position Building 3, unit 2" in text
    assert "Amount 50.00 CNY" in text
    assert "New balance 18.79 CNY" in text
    assert 'href="/account/A-1002"' in answer.text


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("tag", ["en", "zh-CN"])
def test_each_answer_has_its_words(world: Any, code: str, tag: str) -> None:
    world.door.answer = DoorAnswer(accepted=code == "applied", code=code, params={})
    page = world.get(world.enter("ABCD").headers["location"], headers={"accept-language": tag}).text
    words = load_languages()[tag].term("answer", code)
    assert words != code
    assert f"<h1>{words}</h1>" in page


def test_an_unknown_answer_shows_its_code_and_its_fields(world: Any) -> None:
    world.door.answer = DoorAnswer(False, "volcano", {"ash_nano": NANO, "reason": "no_credit"})
    text = text_of(world.get(world.enter("ABCD").headers["location"]).text)
    assert "Not accepted volcano ash_nano 1.00 CNY Reason No credit" in text


def test_an_answer_for_an_account_of_another_gateway_has_no_link(world: Any) -> None:
    world.door.answer = DoorAnswer(False, "wrong_gateway", {"account": "B-1"})
    page = world.get(world.enter("ABCD").headers["location"]).text
    assert "/account/B-1" not in page


def test_nothing_entered_never_reaches_the_door(world: Any) -> None:
    page = world.get(world.enter("   ").headers["location"])
    assert "Nothing was entered." in page.text
    assert world.door.entered == []


def test_a_forgotten_answer_points_to_the_event_log(world: Any) -> None:
    page = world.get("/voucher/unknown")
    assert page.status_code == 404
    assert "What was entered stands in the event log." in page.text


def test_answers_are_kept_in_bounds() -> None:
    answers = RecentAnswers()
    kept = [answers.keep(DoorAnswer(True, str(number), {})) for number in range(100)]
    assert len(set(kept)) == 100
    assert answers.find(kept[0]) is None
    newest = answers.find(kept[-1])
    assert newest is not None
    assert newest.code == "99"


def test_the_form_works_from_an_account_page_too(world: Any) -> None:
    page = world.get("/account/A-1002").text
    assert '<form method="post" action="/voucher"' in page
    assert 'name="form_token"' in page
