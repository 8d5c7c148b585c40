"""An explanation in words, English and Chinese: catalogue/en.json and catalogue/zh.json, key by key.

A sentence is found by the event's class, and by one telling field where there are several. Fields are
put in by their unit: `_nano` as money, `_wh` as kWh, `at` as local time. JSON and not the console's gettext:
the command must speak both languages where no console is installed.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from edge.core import events as ev
from edge.core.calendar import format_date
from edge.core.units import NANO_PER_UNIT, ClockReading, round_half_away
from edge.store.explain import Explanation, Kept
from edge.store.words import load_words

LANGUAGES = ("en", "zh")
# Fields whose value picks the sentence: Class.value before Class.
TELLING = ("trigger", "commanded", "connected", "keep", "stands", "number", "occasion", "wanted")
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


class ExplainWords:
    """The words of one language for one site: its money, its clock."""

    def __init__(self, language: str, currency: str, minor_digits: int, offset_at: Callable[[int], int]) -> None:
        """`offset_at(at)` is the local offset from UTC in seconds."""
        self._words = load_words(language)
        self._currency = currency
        self._minor_digits = minor_digits
        self._offset_at = offset_at

    def verdict(self, explained: Explanation) -> str:
        """The answer in one or two sentences."""
        found = explained.verdict
        values = {
            "account": explained.account,
            "at": self.time(explained.at),
            "reason": self.word("reason", found.reason),
            "money_nano": self.money(found.money_nano),
            "live_balance_nano": self.money(found.live_balance_nano),
            "blockers": self._list(self.word("blocker", code) for code in found.blockers),
            "grace_left": self._duration(found.grace_left_s or 0),
        }
        sentences = [self._words[f"verdict.{found.code}"].format(**values)]
        wanted = found.supply == "connected"
        if found.output_connected is not None and found.output_connected is not wanted:
            sentences.append(self._words["verdict.relay_differs"])
        return self._words["space"].join(sentences)

    def sentence(self, kept: Kept) -> str:
        """What one record says."""
        event = kept.event
        name = type(event).__name__
        values = {entry.name: self._value(entry.name, getattr(event, entry.name)) for entry in fields(event)}
        if isinstance(event, ev.CutDeferred):
            values["blockers"] = self._list(self._blocker(code, evidence) for code, evidence in event.blockers)
        telling = (f"{name}.{str(getattr(event, field)).lower()}" for field in TELLING if hasattr(event, field))
        key = next((key for key in (*telling, name) if key in self._words), "other")
        said = self._words[key].format(type=name, **values)
        actor = getattr(event, "actor", "")
        return self._words["space"].join((said, self._words["by_actor"].format(actor=actor))) if actor else said

    def text(self, key: str) -> str:
        """A word by its key."""
        return self._words[key]

    def time(self, at: int) -> str:
        """An instant as a local clock shows it."""
        day, second = divmod(at + self._offset_at(at), _DAY_S)
        hour, minute = divmod(second // _MINUTE_S, 60)
        return f"{format_date(day)} {hour:02d}:{minute:02d}"

    def money(self, nano: int) -> str:
        """An amount to the minor unit, as a bill would round it; the records have it exact."""
        in_minor = round_half_away(nano, NANO_PER_UNIT // 10**self._minor_digits)
        whole, minor = divmod(abs(in_minor), 10**self._minor_digits)
        sign = "-" if in_minor < 0 else ""
        part = f".{minor:0{self._minor_digits}d}" if self._minor_digits else ""
        return f"{sign}{whole}{part} {self._currency}".strip()

    def word(self, kind: str, code: str) -> str:
        """A code in words; one the catalogue does not have stands as it is."""
        return self._words.get(f"{kind}.{code}", code)

    def _value(self, name: str, value: Any) -> Any:
        if value is None:
            return self._words["none"]
        if isinstance(value, ClockReading):
            return self.time(value.at)
        if name.endswith("_nano") and isinstance(value, tuple):
            return self.money(sum(value))
        if isinstance(value, bool) or not isinstance(value, int):
            return self._code(name, value) if isinstance(value, str) else value
        if name.endswith("_nano"):
            return self.money(value)
        if name.endswith("_wh"):
            return f"{value // 1000}.{value % 1000:03d}" if value >= 0 else value
        if name in ("at", "until") or name.endswith("_at"):
            return self.time(value)
        return value

    def _code(self, name: str, value: str) -> str:
        """A code by its own field's words, else by those of reasons, which many fields share."""
        return self._words.get(f"{name}.{value}") or self.word("reason", value)

    def _blocker(self, code: str, evidence: Mapping[str, int | str]) -> str:
        shown = ", ".join(f"{name} {self._value(name, value)}" for name, value in evidence.items())
        return f"{self.word('blocker', code)} ({shown})" if shown else self.word("blocker", code)

    def _list(self, parts: Any) -> str:
        return self._words["comma"].join(parts)

    def _duration(self, seconds: int) -> str:
        hours, rest = divmod(seconds, _HOUR_S)
        return self._words["duration"].format(hours=hours, minutes=rest // _MINUTE_S)
