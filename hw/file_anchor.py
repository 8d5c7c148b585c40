"""The anchor in a file: for sites without a companion MCU, and for the simulator.

One JSON object with a check over the rest; written to a new file, synced, renamed, folder synced, so a
power cut leaves the old state or the new one. A file on the same card notices an old journal put back
by itself, not a whole card put back: only the MCU's anchor does that.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edge.ports import AnchorError, AnchorState

_BYTES_MAX = 4096


class FileAnchor:
    """The Anchor of edge.ports over one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> AnchorState | None:
        """What was written last, None when there is no file. AnchorError for a damaged one."""
        try:
            with self._path.open("rb") as file:
                content = file.read(_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorError(f"{self._path}: {error.strerror or error}") from error
        try:
            fields = json.loads(content)
            check = fields.pop("check")
            if check != _check(fields):
                raise ValueError("its check does not fit")
            seal = bytes.fromhex(fields["seal"])
            return AnchorState(fields["gateway"], fields["boots"], fields["epoch"], fields["place"], seal)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise AnchorError(f"{self._path}: is not an anchor: {error}") from error

    def write(self, state: AnchorState) -> None:
        """Replaces the file. AnchorError when the disk refuses."""
        fields = {
            "gateway": state.gateway_id,
            "boots": state.boots,
            "epoch": state.epoch,
            "place": state.place,
            "seal": state.seal.hex(),
        }
        text = json.dumps({**fields, "check": _check(fields)}) + "\n"
        new = self._path.with_name(self._path.name + ".new")
        try:
            with new.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise AnchorError(f"{self._path}: {error.strerror or error}") from error


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
