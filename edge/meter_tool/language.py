"""Which language a command speaks. By itself, so that a program which only warns loads nothing else."""

from collections.abc import Mapping

LANGUAGES = ("en", "zh")


def language_of(environment: Mapping[str, str]) -> str:
    """The language of a shell's environment: zh or en."""
    text = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "zh" if text.startswith("zh") else "en"
