"""Tariff documents in files: read within bounds, refused in one sentence with the file and the JSON pointer.

Nothing of a file is trusted before it is proven: its size is asked before it is read, and a key
that stands twice, which JSON leaves open, is refused. Source: RFC 8259, RFC 6901.
"""

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge.core.tariff import Tariff, TariffRefused, load_versions
from edge.core.tariff_values import escaped

FILE_BYTES_MAX = 16_000_000  # 256 versions, each with 4,096 holidays of its own, are less
DEPTH_MAX = 16  # a document has 9
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PATH_CHARACTERS_MAX = 400
_MESSAGE_CHARACTERS_MAX = 1200


class TariffFileRefused(Exception):
    """Why a file is no tariff: one sentence on one line, with the file and the JSON pointer of the fault."""

    def __init__(self, path: Path, pointer: str, found: str, allowed: str) -> None:
        sentence = f"{_shortened(str(path))}: tariff refused at {pointer or '/'}: found {found}; allowed is {allowed}"
        super().__init__(_printable(sentence))
        self.path = path
        self.pointer = pointer
        self.found = found
        self.allowed = allowed


def read_tariff_file(path: Path) -> tuple[Tariff, ...]:
    """The dated versions of the tariff in a file, one or several. Raises TariffFileRefused and nothing else."""
    document = read_document(path)
    try:
        versions = load_versions(document)
    except TariffRefused as refusal:
        raise TariffFileRefused(path, refusal.pointer, refusal.found, refusal.allowed) from None
    _check_zone(path, versions[0].time_zone, "/versions/0/time_zone" if "versions" in document else "/time_zone")
    return versions


def read_document(path: Path) -> Any:
    """The JSON value in a file, whatever it states. Raises TariffFileRefused."""
    try:
        value = json.loads(_text(path), object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        place = f"{error.msg} in line {error.lineno}, column {error.colno}"
        raise TariffFileRefused(path, "", f"no JSON: {place}", "one JSON object") from None
    except RecursionError:
        raise TariffFileRefused(path, "", "objects or lists nested too deeply", f"{DEPTH_MAX} levels") from None
    except ValueError as error:  # an integer of thousands of digits
        raise TariffFileRefused(path, "", f"a number that cannot be read ({error})", "numbers of few digits") from None
    _check_shape(path, value)
    return value


def _check_zone(path: Path, name: str, pointer: str) -> None:
    """Refuses a zone that is not there: the core, which reads no zone files, knows only how one is spelled."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Asia" is a folder, "leapseconds" no zone
        raise TariffFileRefused(path, pointer, f'"{name}"', "a zone that the time zone data here has") from None


def _text(path: Path) -> str:
    """The file as text, after its kind and size are known."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TariffFileRefused(path, "", "no regular file", "a file with a JSON document")
        if status.st_size > FILE_BYTES_MAX:
            raise TariffFileRefused(path, "", f"{status.st_size} bytes", f"at most {FILE_BYTES_MAX} bytes")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)  # it may have grown since
    except (OSError, ValueError) as error:  # ValueError: a path with a zero character
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TariffFileRefused(path, "", f"no readable file ({reason})", "a file with a JSON document") from None
    if len(content) > FILE_BYTES_MAX:
        raise TariffFileRefused(path, "", "more bytes than it had", f"at most {FILE_BYTES_MAX} bytes")
    if content.startswith(_BYTE_ORDER_MARK):
        raise TariffFileRefused(path, "", "a byte order mark", "UTF-8 without one")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TariffFileRefused(path, "", f"byte {error.start} is not UTF-8", "text in UTF-8") from None


class _Repeated(dict[str, Any]):
    """An object in which a key stands twice."""

    key = ""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) == len(pairs):
        return keys
    repeated = _Repeated(keys)
    counts = Counter(key for key, _ in pairs)
    repeated.key = next(key for key, count in counts.items() if count > 1)
    return repeated


def _check_shape(path: Path, value: Any) -> None:
    """Refuses a key that stands twice, and nesting deeper than any document's, with their places."""
    level: list[tuple[str, Any]] = [("", value)] if isinstance(value, dict | list) else []
    for _ in range(DEPTH_MAX):
        deeper: list[tuple[str, Any]] = []
        for pointer, item in level:
            if isinstance(item, _Repeated):
                here = f"{pointer}/{escaped(item.key[:64])}"
                raise TariffFileRefused(path, here, "a key that stands twice", "each key once")
            keyed = item.items() if isinstance(item, dict) else enumerate(item)
            deeper.extend((f"{pointer}/{_step(key)}", inner) for key, inner in keyed if isinstance(inner, dict | list))
        level = deeper
    if level:
        raise TariffFileRefused(path, level[0][0], "objects or lists nested too deeply", f"{DEPTH_MAX} levels")


def _step(key: str | int) -> str:
    return escaped(str(key)[:64])


def _shortened(path: str) -> str:
    """The end of a path says most."""
    return path if len(path) <= _PATH_CHARACTERS_MAX else f"...{path[-_PATH_CHARACTERS_MAX:]}"


def _printable(sentence: str) -> str:
    """One line of bounded length that any terminal takes: what is not printable is spelled out."""
    characters = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in sentence)
    text = "".join(characters)
    return text if len(text) <= _MESSAGE_CHARACTERS_MAX else f"{text[:_MESSAGE_CHARACTERS_MAX]}..."
