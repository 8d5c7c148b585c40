"""The words of an explained bill, in English and Chinese: catalogue/en.json and catalogue/zh.json, key by key.

JSON and not the console's gettext catalogues: the command must speak both languages on an
installation without the console, which is what brings the reader of those.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "zh")


class Words:
    """The words of one language."""

    def __init__(self, language: str) -> None:
        self._words = load_words(language)

    def text(self, key: str, **values: object) -> str:
        """The sentence of a key with its values filled in."""
        return self._words[key].format(**values)

    def period(self, name: str) -> str:
        """What people call a period; one that the catalogue does not have stands as the tariff names it."""
        return self._words.get(f"period.{name}", name.replace("_", " "))


@cache
def load_words(language: str) -> Mapping[str, str]:
    """Every sentence of a language by its key."""
    words: dict[str, str] = json.loads((files("edge.tariffs") / "catalogue" / f"{language}.json").read_text("utf-8"))
    return words
