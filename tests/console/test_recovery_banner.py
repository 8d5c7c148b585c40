"""RECOVERY on the pages: said at the top in every language, and nothing offered that would be refused."""

import html
import re
from typing import Any

import pytest

from edge.agent.snapshot import RecoveryView
from edge.ports import DoorAnswer

REASONS = [
    "journal_missing", "journal_behind", "other_history", "other_gateway", "anchor_missing", "anchor_unreadable",
]  # fmt: skip
PAGES = ["/", "/?show=cut", "/account/A-1002", "/events", "/voucher", "/token", "/emergency", "/nowhere"]


@pytest.fixture
def recovering(world: Any, accounts: Any) -> Any:
    world.publish(accounts, 2, recovery=RecoveryView("journal_behind", "ends at place 7, the anchor is at 9", 3))
    return world


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def banner(page: str) -> str:
    found = re.search(r'<div id="recovery".*?</div>', page, re.DOTALL)
    assert found is not None
    return text_of(found[0])


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("tag", ["en", "zh-CN"])
def test_every_page_says_so_in_both_languages_the_readers_first(recovering: Any, path: str, tag: str) -> None:
    said = banner(recovering.get(path, headers={"accept-language": tag}).text)
    english, chinese = said.index("The gateway is in recovery"), said.index("网关处于恢复状态")
    assert (english < chinese) is (tag == "en")
    assert "The journal is older than the one that was here last" in said
    assert "Supply stays as it is" in said
    assert "供电保持现状" in said
    assert "signed permit of epoch 3 or later" in said
    assert "纪元 3 及以上" in said
    assert "ends at place 7, the anchor is at 9" in said


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_words_in_both_languages(world: Any, accounts: Any, reason: str) -> None:
    world.publish(accounts, 2, recovery=RecoveryView(reason, "-", 2))
    said = banner(world.get("/").text).removesuffix(f"{reason}: -")
    assert reason not in said


@pytest.mark.parametrize("path", PAGES)
def test_outside_recovery_the_place_of_the_banner_is_empty(world: Any, path: str) -> None:
    assert banner(world.get(path).text) == ""


@pytest.mark.parametrize("path", ["/account/A-1002", "/voucher", "/token", "/emergency"])
def test_no_form_is_offered_that_would_be_refused(recovering: Any, path: str) -> None:
    page = recovering.get(path).text
    assert "<form" not in page
    assert "Nothing can be entered while the gateway is in recovery." in page


@pytest.mark.parametrize(
    ("path", "answer"), [("/voucher", "answer"), ("/token", "token_answer"), ("/emergency", "answer")]
)
def test_a_form_that_was_open_before_is_refused_with_words(world: Any, accounts: Any, path: str, answer: str) -> None:
    world.door.answer = DoorAnswer(False, "recovery", {})
    response = world.enter("1234", path)
    world.publish(accounts, 2, recovery=RecoveryView("journal_behind", "-", 2))
    page = world.get(response.headers["location"])
    assert "Not accepted" in page.text
    assert "while the gateway is in recovery" in page.text


def test_programs_are_told_too(recovering: Any) -> None:
    assert recovering.get("/health").json()["recovery"] == "journal_behind"


def test_an_open_page_loses_its_banner_when_recovery_ends(recovering: Any, accounts: Any) -> None:
    console = recovering.app.state.console
    language = console.languages["en"]
    during = console.street.current(recovering.source.current, language)
    recovering.publish(accounts, 3)
    after = console.street.current(recovering.source.current, language)
    assert "in recovery" in during.parts["recovery"].html
    assert (text_of(after.parts["recovery"].html), after.parts["recovery"].changed_in) == ("", 3)


def test_what_the_anchor_says_is_text_and_no_markup(world: Any, accounts: Any) -> None:
    world.publish(accounts, 2, recovery=RecoveryView("other_gateway", "<script>alert(1)</script>", 2))
    assert "<script>alert" not in world.get("/").text
