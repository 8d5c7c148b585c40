"""Both languages say everything, and a request gets the one it wants."""

import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import polib  # type: ignore[import-untyped]
import pytest

import edge.console.language as language_module
from edge.console.language import CATALOGUES, LANGUAGES, choose, load_languages

CONSOLE = Path(language_module.__file__).parent
_LITERAL = r'"((?:[^"\\]|\\.)*)"'


def source_texts() -> Iterator[tuple[str, str]]:
    for path in sorted([*CONSOLE.glob("*.py"), *CONSOLE.glob("templates/*.html")]):
        yield path.name, path.read_text(encoding="utf-8")


def used_texts() -> set[str]:
    """English texts that templates and code look up by themselves."""
    found: set[str] = set()
    for _, text in source_texts():
        for pattern in (rf"\b_\({_LITERAL}\)", r"\b_\('((?:[^'\\]|\\.)*)'\)", rf"\.text\({_LITERAL}\)"):
            found.update(re.findall(pattern, text))
        found.update(one for one, _ in re.findall(rf"\bcount\({_LITERAL}, {_LITERAL}", text))
    return found


def catalogue(tag: str) -> dict[tuple[str | None, str], Any]:
    return {(entry.msgctxt, entry.msgid): entry for entry in polib.pofile(str(CATALOGUES / LANGUAGES[tag][0]))}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_every_text_in_use_has_its_chinese() -> None:
    known = {message for context, message in catalogue("zh-CN") if context is None}
    used = used_texts()
    assert len(used) > 60
    assert used - known == set()


def test_texts_chosen_by_a_variable_are_in_the_catalogue_too() -> None:
    known = {message for context, message in catalogue("zh-CN") if context is None}
    for _, text in source_texts():
        for template in re.findall(rf"template = {_LITERAL}", text):
            assert template in known
    assert {"{n} d", "{n} h", "{n} min"} <= known


def test_no_translation_is_left_over() -> None:
    everything = " ".join(text.replace('\\"', '"') for _, text in source_texts())
    for context, message in catalogue("zh-CN"):
        if context is None:
            assert message in everything, f"nobody says {message!r}"


def test_both_catalogues_know_the_same_codes() -> None:
    english = {key for key in catalogue("en") if key[0]}
    chinese = {key for key in catalogue("zh-CN") if key[0]}
    assert english == chinese
    assert len(english) > 200


def test_every_context_in_use_exists() -> None:
    contexts = {context for context, _ in catalogue("en")}
    used = {found for _, text in source_texts() for found in re.findall(r'\bterm\("(\w+)"', text)}
    assert used - contexts == set()


def test_every_translation_has_the_fields_of_its_original() -> None:
    english = catalogue("en")
    for (context, message), entry in catalogue("zh-CN").items():
        original = english[context, message].msgstr if context else message
        for translated in [entry.msgstr] if entry.msgstr else entry.msgstr_plural.values():
            assert fields(translated) <= fields(original) | {"month"}, message
            if context != "format":
                assert fields(translated) == fields(original), message


def test_nothing_is_untranslated() -> None:
    for tag in LANGUAGES:
        for key, entry in catalogue(tag).items():
            assert entry.msgstr or all(entry.msgstr_plural.values()), key


def test_plurals_follow_the_language() -> None:
    languages = load_languages()
    assert languages["en"].count("{n} day", "{n} days", 1) == "1 day"
    assert languages["en"].count("{n} day", "{n} days", 0) == "0 days"
    assert languages["zh-CN"].count("{n} day", "{n} days", 1) == "1 天"


def test_an_unknown_code_is_its_own_word() -> None:
    for language in load_languages().values():
        assert language.term("blocker", "volcano") == "volcano"
        assert not language.knows("blocker", "volcano")


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "expected"),
    [
        (None, None, "", "en"),
        (None, None, "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        (None, None, "de,en;q=0.5,zh;q=0.9", "zh-CN"),
        (None, None, "zh;q=0,en;q=0.1", "en"),
        (None, None, "zh-Hant-TW", "zh-CN"),
        (None, "zh-CN", "en", "zh-CN"),
        ("en", "zh-CN", "zh", "en"),
        ("xx", "zh-CN", "en", "zh-CN"),
        ("xx", "yy", "fr;q=nonsense,,;;q", "en"),
    ],
)
def test_language_is_asked_for_then_remembered_then_wished(
    asked: str | None, remembered: str | None, accepted: str, expected: str
) -> None:
    assert choose(asked, remembered, accepted, "en") == expected


def test_a_language_asked_for_is_remembered(world: Any) -> None:
    page = world.get("/?lang=zh-CN")
    assert "台区" in page.text
    assert page.cookies["wattgate_language"] == "zh-CN"
    assert "samesite=strict" in page.headers["set-cookie"].lower()
    assert "台区" in world.get("/events", headers={"cookie": "wattgate_language=zh-CN"}).text


def test_switching_the_language_stays_on_the_page(world: Any) -> None:
    page = world.get("/events?account=A-1005&lang=en").text
    assert 'href="/events?account=A-1005&amp;lang=zh-CN"' in page


def test_chinese_pages_hold_no_english_text(world: Any) -> None:
    sentences = {text for text in used_texts() if " " in text and "{" not in text}
    assert len(sentences) > 30
    for path in (
        "/",
        "/account/A-1004",
        "/account/A-1002",
        "/events",
        "/voucher",
        "/token",
        "/nowhere",
        "/lines",
        "/areas",
        "/system",
    ):
        page = world.get(path, headers={"accept-language": "zh"}).text
        assert [text for text in sentences if f">{text}<" in page] == []
