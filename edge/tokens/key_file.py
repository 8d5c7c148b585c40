"""The file of decoder keys: JSON {meter id: 32 hexadecimal digits}, which only its owner may read.

Whoever has a key mints tokens for its meter, so a file that others can read is refused, and no
message ever quotes a key.
"""

import json
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

_KEY = re.compile(r"[0-9A-Fa-f]{32}")
_OTHERS = 0o077  # group and the rest, to read, to write or to run


class KeyFileError(ValueError):
    """The key file cannot be used: file, meter and what is allowed."""


def read_key_file(path: Path, meters: Collection[str]) -> dict[str, str]:
    """The keys of these meters, as hex. Each must have one, and nobody else may."""
    found = _content(path)
    if not isinstance(found, dict):
        raise KeyFileError(f"{path}: must be an object of keys by meter id")
    for meter_id in meters:
        if meter_id not in found:
            raise KeyFileError(f"{path}: meter {meter_id} has a token decoder in the site book but no key here")
    for meter_id, key in found.items():
        if meter_id not in meters:
            raise KeyFileError(
                f"{path}: meter {meter_id!r} has a key, but no sts or openpaygo decoder in the site book"
            )
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise KeyFileError(f"{path}: meter {meter_id}: its key must be 32 hexadecimal digits")
    return found


def _content(path: Path) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise KeyFileError(
                    f"{path}: its mode is {mode:04o}, so others may use the keys; allowed is 0600 or less"
                )
            return json.load(file, object_pairs_hook=_unique_keys)
    except KeyFileError:
        raise
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # its text could quote a key
        raise KeyFileError(f"{path}: is not JSON with each meter once") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a meter stands there twice")
    return found
