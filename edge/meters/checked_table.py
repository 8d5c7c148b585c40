"""Reads a TOML table key by key and refuses what it does not know, in words for people.

Every refusal names file, key, what was found and what is allowed.
"""

import tomllib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

_NUMBERS_MAX: Final = 2**63 - 1


class ModelError(ValueError):
    """A model file that cannot be used: says file, key, found and allowed."""

    def __init__(self, file: str, key: str, found: object, allowed: str) -> None:
        super().__init__(f"{file}: {key}: found {found!r}, allowed: {allowed}")
        self.file, self.key, self.found, self.allowed = file, key, found, allowed


class CheckedTable:
    """One table of a file. `done()` refuses the keys nobody asked for."""

    def __init__(self, file: str, path: str, content: dict[str, Any]) -> None:
        self._file, self._path, self._content = file, path, content
        self._asked: set[str] = set()

    @classmethod
    def from_file(cls, path: Path) -> "CheckedTable":
        """The top table of a file; decimals stay decimals."""
        try:
            return cls(path.name, "", tomllib.loads(path.read_text("utf-8"), parse_float=Decimal))
        except OSError as problem:
            raise ModelError(path.name, "the whole file", problem.strerror, "a file that can be read") from problem
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise ModelError(path.name, "the whole file", str(problem), "TOML in UTF-8") from problem

    def text(self, key: str, allowed: Sequence[str] | None = None) -> str:
        value = self._ask(key, "a text")
        if not isinstance(value, str) or not value:
            raise self.refusal(key, value, "a text")
        if allowed is not None and value not in allowed:
            raise self.refusal(key, value, ", ".join(allowed))
        return value

    def optional_text(self, key: str, allowed: Sequence[str] | None = None) -> str | None:
        return self.text(key, allowed) if self.has(key) else None

    def integer(self, key: str, low: int = 0, high: int = _NUMBERS_MAX) -> int:
        return self._integer(key, self._ask(key, f"{low}..{high}"), low, high)

    def optional_integer(self, key: str, low: int = 0, high: int = _NUMBERS_MAX) -> int | None:
        return self.integer(key, low, high) if self.has(key) else None

    def one_of(self, key: str, allowed: Sequence[int]) -> int:
        value = self._ask(key, ", ".join(map(str, allowed)))
        if isinstance(value, bool) or value not in allowed:
            raise self.refusal(key, value, ", ".join(map(str, allowed)))
        return int(value)

    def optional_one_of(self, key: str, allowed: Sequence[int]) -> int | None:
        return self.one_of(key, allowed) if self.has(key) else None

    def decimal(self, key: str) -> Decimal:
        """A positive number, exact; 0.01 is a hundredth and not the float next to it."""
        value = self._ask(key, "a number above 0")
        number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        if not number or not Decimal(value).is_finite() or value <= 0:
            raise self.refusal(key, value, "a number above 0")
        return Decimal(value)

    def boolean(self, key: str) -> bool:
        value = self._ask(key, "true or false")
        if not isinstance(value, bool):
            raise self.refusal(key, value, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._list(key, "a list of texts")
        if not all(isinstance(value, str) and value for value in values):
            raise self.refusal(key, values, "a list of texts")
        return tuple(values)

    def optional_texts(self, key: str) -> tuple[str, ...]:
        return self.texts(key) if self.has(key) else ()

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        values = self._list(key, f"a list of numbers {low}..{high}")
        return tuple(self._integer(key, value, low, high) for value in values)

    def optional_integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        return self.integers(key, low, high) if self.has(key) else ()

    def numbers_or_texts(self, key: str) -> tuple[int | str, ...]:
        """A list such as [101, 103] or ["B21 "]; empty if the key is absent."""
        if not self.has(key):
            return ()
        values = self._list(key, "a list of whole numbers or texts")
        if not all(_is_number_or_text(value) for value in values):
            raise self.refusal(key, values, "a list of whole numbers or texts")
        return tuple(values)

    def meanings(self, key: str) -> dict[int, int | str]:
        """A table such as {0 = 2400, 1 = 4800}: what a register's number means; empty if the key is absent."""
        if not self.has(key):
            return {}
        rows = self.table(key)._content
        for number, meaning in rows.items():
            if not (number.isascii() and number.isdigit()) or not _is_number_or_text(meaning):
                raise self.refusal(f"{key}.{number}", meaning, "a number of the register = a whole number or a text")
        return {int(number): meaning for number, meaning in rows.items()}

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._content

    def table(self, key: str) -> "CheckedTable":
        value = self._ask(key, "a table")
        if not isinstance(value, dict):
            raise self.refusal(key, value, "a table")
        return CheckedTable(self._file, self._name(key), value)

    def named_tables(self, key: str) -> Iterator[tuple[str, "CheckedTable"]]:
        """The tables [key.NAME] in the order of the file; none if the key is absent."""
        self._asked.add(key)
        if key in self._content:
            group = self.table(key)
            for name in group._content:
                yield name, group.table(name)

    def listed_tables(self, key: str) -> Iterator["CheckedTable"]:
        """The tables [[key]] in the order of the file; none if the key is absent."""
        self._asked.add(key)
        if key in self._content:
            for index, value in enumerate(self._list(key, "a list of tables")):
                if not isinstance(value, dict):
                    raise self.refusal(key, value, "a list of tables")
                yield CheckedTable(self._file, f"{self._name(key)}[{index}]", value)

    def done(self) -> None:
        for key in self._content:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise self.refusal(key, self._content[key], f"no such key here; known keys: {known}")

    def refusal(self, key: str, found: object, allowed: str) -> ModelError:
        return ModelError(self._file, self._name(key), found, allowed)

    def _ask(self, key: str, allowed: str) -> Any:
        self._asked.add(key)
        if key not in self._content:
            raise ModelError(self._file, self._name(key), "nothing", f"{allowed} (the key is required)")
        return self._content[key]

    def _list(self, key: str, allowed: str) -> list[Any]:
        value = self._ask(key, allowed)
        if not isinstance(value, list) or not value:
            raise self.refusal(key, value, f"{allowed}, not empty")
        return value

    def _integer(self, key: str, value: object, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refusal(key, value, f"a whole number {low}..{high}")
        return value

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def _is_number_or_text(value: object) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool)
    return number or (isinstance(value, str) and bool(value))
