"""Who may command the relays of meters: password and operator code, and the file they are kept in.

The file is JSON by meter address, with "*" for every meter that is not named; only its owner may read it, and no
message quotes it: {"320100000147": {"level": 2, "password": "123456", "operator": "00000001"}}. Source: DL/T 645-2007
clause 5.2.4 and annex B (password and operator code).
"""

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_OTHERS: Final = 0o077  # group and the rest, to read, to write or to run
_EVERY: Final = "*"
_KEYS: Final = ("level", "password", "operator")


class AuthorityFileError(ValueError):
    """The file cannot be used: file, meter and what is allowed."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who commands: password level 0-9, six digits, and an operator code of eight. Not shown in a printout."""

    level: int
    password: str = field(repr=False)
    operator: str

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise ValueError(f"level: is {self.level}, allowed is 0 to 9")
        for name, value, length in (("password", self.password, 6), ("operator", self.operator, 8)):
            if len(value) != length or not (value.isascii() and value.isdigit()):
                raise ValueError(f"{name}: must be {length} decimal digits")


def read_authority_file(path: Path, addresses: Iterable[str]) -> dict[str, Authority]:
    """Who commands each of these meters. Raises AuthorityFileError."""
    rows = _content(path)
    found = {}
    for address in addresses:
        row = rows.get(address, rows.get(_EVERY))
        if row is None:
            raise AuthorityFileError(f"{path}: meter {address} has a relay but no row here, and there is none for '*'")
        if not isinstance(row, dict) or sorted(row) != sorted(_KEYS) or not isinstance(row["level"], int):
            raise AuthorityFileError(f"{path}: meter {address}: must have {', '.join(_KEYS)}, level a whole number")
        try:
            found[address] = Authority(row["level"], str(row["password"]), str(row["operator"]))
        except ValueError as problem:
            raise AuthorityFileError(f"{path}: meter {address}: {problem}") from None
    return found


def _content(path: Path) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise AuthorityFileError(
                    f"{path}: its mode is {mode:04o}, so others may use the passwords; allowed is 0600 or less"
                )
            rows = json.load(file)
    except OSError as error:
        raise AuthorityFileError(f"{path}: {error.strerror}") from error
    except AuthorityFileError:
        raise
    except (ValueError, RecursionError):  # its text could quote a password
        raise AuthorityFileError(f"{path}: is not JSON") from None
    if not isinstance(rows, dict):
        raise AuthorityFileError(f"{path}: must be an object of rows by meter address")
    return rows
