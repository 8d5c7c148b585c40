"""The anchor in a file: for sites without a companion MCU, and for the simulator.

Two slots of 4 KiB, each a JSON object with a check over the rest, written in turn and in place: a power cut spoils
the slot that was being written and the other one stands, one record behind. So a write costs the card one block. The
file itself is made beside its place, synced and renamed. A file on the same card notices an old journal put back by
itself, not a whole card put back: only the MCU's anchor does that. Until 0.1 a file was one such object alone.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.ports import AnchorError, AnchorState

_SLOT_BYTES = 4096  # a block of the file system: nothing of the other slot is written along
_SLOTS = 2
_FILE_BYTES = _SLOTS * _SLOT_BYTES


class FileAnchor:
    """The Anchor of edge.ports over one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count: int | None = None  # of the newest slot, which lies in place count % 2; None before a look

    def read(self) -> AnchorState | None:
        """What was written last, None when there is no file. AnchorError for a damaged one."""
        try:
            content = self._content()
        except OSError as error:
            raise AnchorError(f"{self._path}: {error.strerror or error}") from error
        if content is None:
            return None
        try:
            fields = _newest(content)
            seal = bytes.fromhex(fields["seal"])
            return AnchorState(fields["gateway"], fields["boots"], fields["epoch"], fields["place"], seal)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise AnchorError(f"{self._path}: is not an anchor: {error}") from error

    def write(self, state: AnchorState) -> None:
        """Writes the older slot. AnchorError when the disk refuses."""
        fields = {
            "gateway": state.gateway_id,
            "boots": state.boots,
            "epoch": state.epoch,
            "place": state.place,
            "seal": state.seal.hex(),
        }
        try:
            if self._count is None:
                self._count = self._newest_count()
            if self._count is None:
                self._make({**fields, "count": 0})
                self._count = 0
            else:
                self._rewrite({**fields, "count": self._count + 1})
                self._count += 1
        except OSError as error:
            self._count = None  # what the disk holds now has to be looked at
            raise AnchorError(f"{self._path}: {error.strerror or error}") from error

    def _content(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(_FILE_BYTES + 1)
        except FileNotFoundError:
            return None

    def _newest_count(self) -> int | None:
        """The count of the newest good slot; None where the file has to be made: none, damaged, or of one object."""
        content = self._content()
        if content is None or len(content) != _FILE_BYTES:
            return None
        try:
            return int(_newest(content)["count"])
        except (ValueError, KeyError, TypeError):
            return None

    def _make(self, fields: dict[str, Any]) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with new.open("wb") as file:
            file.write(_slot(fields) + b" " * (_SLOT_BYTES - 1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        _sync_folder(self._path.parent)

    def _rewrite(self, fields: dict[str, Any]) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, _slot(fields), fields["count"] % _SLOTS * _SLOT_BYTES)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _slot(fields: dict[str, Any]) -> bytes:
    text = json.dumps({**fields, "check": _check(fields)})
    return text.encode().ljust(_SLOT_BYTES - 1) + b"\n"


def _newest(content: bytes) -> dict[str, Any]:
    """The fields of the newest good slot. ValueError, KeyError or TypeError: of the first slot that is no good."""
    good, faults = [], []
    for slot in _slots(content):
        try:
            fields = json.loads(slot)
            check = fields.pop("check")
            if check != _check(fields):
                raise ValueError("its check does not fit")
            good.append(fields)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            faults.append(error)
    if not good:
        raise faults[0]
    return max(good, key=lambda fields: int(fields.get("count", 0)))


def _slots(content: bytes) -> Iterator[bytes]:
    """The slots that hold something; a file of one object is one."""
    parts = [content[begin : begin + _SLOT_BYTES] for begin in range(0, max(1, len(content)), _SLOT_BYTES)]
    return (part for part in parts if part.strip() or len(parts) == 1)


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
