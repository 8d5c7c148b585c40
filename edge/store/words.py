"""The sentences of the store's commands and warnings, by key: catalogue/en.json and catalogue/zh.json."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CATALOGUE = Path(__file__).parent / "catalogue"


@cache
def load_words(language: str) -> Mapping[str, str]:
    """Every sentence of a language by its key."""
    words: dict[str, str] = json.loads((_CATALOGUE / f"{language}.json").read_text("utf-8"))
    return words
