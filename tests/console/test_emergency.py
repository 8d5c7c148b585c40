"""Selecting the emergency credit: offered where it is, one wish to the door, an answer in words and units."""

import html
import re
from typing import Any

import pytest

from edge.agent.snapshot import EmergencyView
from edge.console.language import load_languages
from edge.core.units import MoneyNano
from edge.ports import DoorAnswer

NANO = 1_000_000_000
SELECTED = DoorAnswer(
    True,
    "emergency_selected",
    {"account": "A-1002", "unit": "money", "limit_nano": 10 * NANO, "live_balance_nano": -31_204_400_000},
)


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


def test_a_wish_reaches_the_door_once_and_a_reload_selects_nothing_again(world: Any) -> None:
    world.door.answer = SELECTED
    response = world.enter("", "/emergency")
    assert response.status_code == 303
    assert world.door.selected == [("A-1002", "console")]
    for _ in range(2):
        text = text_of(world.get(response.headers["location"]).text)
        assert "Accepted The emergency credit may be used." in text
        assert "Emergency credit 10.00 CNY" in text
        assert "New balance \N{MINUS SIGN}31.21 CNY" in text
    assert len(world.door.selected) == 1


@pytest.mark.parametrize("code", ["emergency_selected", "not_offered", "unknown_account", "recovery"])
@pytest.mark.parametrize("tag", ["en", "zh-CN"])
def test_each_answer_has_its_words(world: Any, code: str, tag: str) -> None:
    world.door.answer = DoorAnswer(code == "emergency_selected", code, {"account": "A-1002", "unit": "energy"})
    page = world.get(world.enter("", "/emergency").headers["location"], headers={"accept-language": tag}).text
    words = load_languages()[tag].term("answer", code)
    assert words != code
    assert f"<h1>{words}</h1>" in page


def test_it_is_offered_on_the_page_of_an_account_that_may_select_it_and_on_no_other(world: Any) -> None:
    assert 'href="/emergency?account=A-1002"' in world.get("/account/A-1002").text
    assert "/emergency?account" not in world.get("/account/A-1003").text
    page = world.get("/emergency?account=A-1002").text
    assert re.findall(r'<option value="([^"]*)"( selected)?', page) == [("A-1002", " selected")]
    assert "10.00 CNY" in page


@pytest.mark.parametrize("status", ["enabled", "invoked", "in_use", "exhausted"])
def test_one_that_is_not_offered_is_shown_with_its_status(world: Any, make_account: Any, status: str) -> None:
    view = EmergencyView(status, MoneyNano(10 * NANO), MoneyNano(2_500_000_000))
    world.publish([make_account(1, emergency=view)], version=2)
    page = world.get("/account/A-1001").text
    assert "/emergency?account" not in page
    words = {"enabled": "not offered now", "invoked": "selected", "in_use": "in use", "exhausted": "used up"}
    assert f"10.00 {words[status]}, used 2.50" in text_of(page)
    assert "offered to nobody" in text_of(world.get("/emergency").text)


def test_no_account_reaches_no_door(world: Any) -> None:
    response = world.enter("", "/emergency", data={"account": ""})
    assert world.door.selected == []
    assert "Not accepted" in world.get(response.headers["location"]).text


def test_a_forgotten_answer_points_to_the_event_log(world: Any) -> None:
    assert world.get("/emergency/unknown").status_code == 404


def test_before_the_first_round_there_is_nothing_to_select(make_world: Any) -> None:
    world = make_world()
    assert world.get("/emergency").status_code == 503
    assert world.get("/emergency/unknown").status_code == 503
