"""What waits for a person on site: a key to press, a notice to confirm; each with a name, once, answered in words."""

import html
import re
from dataclasses import replace
from typing import Any

import pytest

from edge.agent.snapshot import NoticeView
from edge.console.language import load_languages
from edge.console.on_site import waiting
from edge.core.units import UnixSeconds
from edge.ports import DoorAnswer

RAISED_AT = UnixSeconds(1_772_400_000)
OPEN = NoticeView(2, RAISED_AT, None, None)
CODES = {
    "switched_on": True,
    "notice_confirmed": True,
    **dict.fromkeys(("no_person", "no_transition", "local_reason", "no_notice", "other_notice", "other_proof"), False),
    **dict.fromkeys(("already_delivered", "document", "unknown_account", "recovery"), False),
}


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("<main", 1)[1])).split())


@pytest.fixture
def street(world: Any, make_account: Any) -> Any:
    """One account ready to be switched on, one with a notice that nobody confirmed, one that waits for nobody."""
    ready = make_account(1, control_state="ready_for_reconnection", control_reason="armed", notices=())
    notified = make_account(2, notices=(replace(OPEN, number=1, receipt_at=RAISED_AT, proof="local_display"), OPEN))
    world.publish([ready, notified, make_account(3, notices=())], version=2)
    return world


def test_only_what_waits_for_somebody_is_offered(street: Any) -> None:
    found = waiting(street.source.current)
    assert [(entry.account.account_id, entry.key, entry.notices) for entry in found] == [
        ("A-1001", True, ()),
        ("A-1002", False, (OPEN,)),
    ]
    assert "A-1002" not in text_of(street.get("/on-site?account=A-1001").text)
    assert "Nothing waits" in text_of(street.get("/on-site?account=A-1003").text)
    links = ['href="/on-site?account=' in street.get(f"/account/A-100{n}").text for n in (1, 2, 3)]
    assert links == [True, True, False]


def test_a_key_press_reaches_the_door_once_with_the_name_and_a_reload_presses_nothing(street: Any) -> None:
    street.door.answer = DoorAnswer(True, "switched_on", {"account": "A-1001"})
    response = street.enter("", "/on-site", data={"account": "A-1001", "person": " Li 7 "})
    assert response.status_code == 303
    for _ in range(2):
        assert "Accepted The supply is switched on." in text_of(street.get(response.headers["location"]).text)
    assert street.door.pressed == [("A-1001", "Li 7")]
    assert street.door.confirmed == []


def test_a_notice_is_confirmed_as_the_page_showed_it(street: Any) -> None:
    page = street.get("/on-site?account=A-1002").text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    fields.pop("form_token")
    street.enter("", "/on-site", data={**fields, "person": "Li"})
    assert street.door.confirmed == [("A-1002", 2, RAISED_AT, "Li")]
    assert street.door.pressed == []


@pytest.mark.parametrize("person", ["", "   ", "x" * 65, "a\nb"])
def test_nobody_does_anything_without_a_name(street: Any, person: str) -> None:
    response = street.enter("", "/on-site", data={"account": "A-1001", "person": person})
    assert street.door.pressed == []
    assert "sign with name or badge" in text_of(street.get(response.headers["location"]).text)


@pytest.mark.parametrize("raised_at", ["", "soon", "-1", "9" * 16, "²"])
def test_a_notice_that_is_none_reaches_no_door(street: Any, raised_at: str) -> None:
    data = {"account": "A-1002", "person": "Li", "number": "2", "raised_at": raised_at}
    response = street.enter("", "/on-site", data=data)
    assert street.door.confirmed == []
    assert "Not accepted" in text_of(street.get(response.headers["location"]).text)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("tag", ["en", "zh-CN"])
def test_each_answer_has_its_words(street: Any, code: str, tag: str) -> None:
    street.door.answer = DoorAnswer(CODES[code], code, {"account": "A-1001"})
    response = street.enter("", "/on-site", data={"account": "A-1001", "person": "Li"})
    page = street.get(response.headers["location"], headers={"accept-language": tag}).text
    words = load_languages()[tag].term("answer", code)
    assert words != code
    assert f" {words} " in text_of(page)


def test_a_forgotten_answer_and_a_street_that_starts_have_their_pages(make_world: Any, world: Any) -> None:
    assert world.get("/on-site/unknown").status_code == 404
    starting = make_world()
    assert starting.get("/on-site").status_code == 503
    assert starting.get("/on-site/unknown").status_code == 503
