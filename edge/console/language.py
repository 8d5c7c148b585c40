"""The two languages of the console: catalogues read at start, and which one a request wants.

Catalogues are gettext .po files. polib reads them, the standard library's gettext looks up and
counts plurals. English text is its own key; codes (reasons, errors, record types) are looked up
under a context and fall back to the code itself.
"""

import functools
import gettext
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polib  # type: ignore[import-untyped]

CATALOGUES = Path(__file__).parent / "catalogue"
# Tag of RFC 5646 -> (file, name as its readers write it).
LANGUAGES: Mapping[str, tuple[str, str]] = {"en": ("en.po", "English"), "zh-CN": ("zh_CN.po", "中文")}


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its tag, its own name and its words."""

    tag: str
    name: str
    translations: gettext.NullTranslations

    def text(self, message: str) -> str:
        """A fixed text, in this language."""
        return self.translations.gettext(message)

    def count(self, one: str, many: str, number: int) -> str:
        """A text with a number in it, as `{n}`."""
        return self.translations.ngettext(one, many, number).format(n=number)

    def term(self, context: str, code: str) -> str:
        """The words for a code, or the code itself when it is unknown."""
        return self.translations.pgettext(context, code)

    def line_reason(self, reason: str) -> str:
        """Why a line is closed, as its port says it: `WHERE: sentence`. What the system says itself stays."""
        for between in (": ", " "):
            where, _, sentence = reason.partition(between)
            if self.knows("line", sentence):
                return where + between + self.term("line", sentence)
        return self.term("error", reason)

    def knows(self, context: str, code: str) -> bool:
        """Whether there are words for this code."""
        return self.term(context, code) != code


@functools.cache
def load_languages() -> Mapping[str, Language]:
    """All languages, keyed by tag, read once. A broken catalogue fails here, at start."""
    return {tag: Language(tag, name, _load(CATALOGUES / file)) for tag, (file, name) in LANGUAGES.items()}


def choose(asked: str | None, remembered: str | None, accept_language: str, default: str) -> str:
    """The tag to answer in: asked for in the address, else remembered, else the browser's wish."""
    for wish in (asked, remembered):
        if wish and (tag := _match(wish)):
            return tag
    for wish in _by_preference(accept_language):
        if tag := _match(wish):
            return tag
    return default


def _load(path: Path) -> gettext.NullTranslations:
    return gettext.GNUTranslations(io.BytesIO(polib.pofile(str(path)).to_binary()))


def _match(wish: str) -> str | None:
    """The language of ours with the same primary subtag: zh, zh-TW and zh-CN all read zh-CN."""
    primary = wish.strip().lower().partition("-")[0]
    return next((tag for tag in LANGUAGES if tag.lower().partition("-")[0] == primary), None)


def _by_preference(accept_language: str) -> list[str]:
    ranked: list[tuple[int, int, str]] = []
    for position, item in enumerate(accept_language.split(",")[:20]):
        name, _, parameter = item.partition(";")
        if weight := _weight_in_thousandths(parameter):
            ranked.append((-weight, position, name))
    return [name for _, _, name in sorted(ranked)]


def _weight_in_thousandths(parameter: str) -> int:
    """`q=0.8` is 800; no parameter is 1000; anything unreadable is 0."""
    key, _, value = parameter.strip().partition("=")
    if not key:
        return 1000
    whole, _, fraction = value.strip().partition(".")
    digits = (fraction + "000")[:3]
    if key.strip() != "q" or whole not in ("0", "1") or not (digits.isascii() and digits.isdigit()):
        return 0
    return min(1000, int(whole) * 1000 + int(digits))
