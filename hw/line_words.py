"""What is said about a line's device, in English and Chinese: `WHERE: sentence`.

The English sentence is the key of catalogue/zh.json, as gettext does it, and holds no values: what a
port reports is text (an OSError's, or the reason it was lost), and stays translatable on its way.
"""

import json
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "zh")
_BETWEEN = (": ", " ")


def in_language(reason: str, language: str) -> str:
    """A port's reason in `en` or `zh`. What has no words of its own (the system's) stays as it is."""
    for between in _BETWEEN:
        where, _, sentence = reason.partition(between)
        if sentence in sentences(language):
            return where + between + sentences(language)[sentence]
    return reason


def filled(sentence: str, language: str, **values: object) -> str:
    """A sentence of the catalogue with its values in it."""
    return sentences(language).get(sentence, sentence).format(**values)


@cache
def sentences(language: str) -> dict[str, str]:
    """English sentence: the sentence in `language`; nothing for English, which needs no table."""
    assert language in LANGUAGES
    if language == "en":
        return {}
    found: dict[str, str] = json.loads((Path(__file__).parent / "catalogue" / f"{language}.json").read_text("utf-8"))
    return found
