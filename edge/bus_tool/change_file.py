"""The file that knows of a change under way: written before the meter is, so that a power cut cannot hide a meter.

One JSON object, written whole to a new file, synced and renamed. It is removed once it is known where the meter is.
"""

import json
import os
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from edge.bus_tool.change import ChangePlan, Place, Witness

DEFAULT_FILE = Path("wattgate-bus-change.json")


class ChangeFileError(ValueError):
    """The file cannot be used, in one sentence."""


class OpenChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of which nobody knows how it ended."""

    line: str
    model: str
    setting: str
    before: Place
    after: Place
    identity: dict[str, str]
    energy: str | None
    status: str = "started"

    @property
    def witness(self) -> Witness:
        """What the meter is known again by."""
        energy = None if self.energy is None else Decimal(self.energy)
        return Witness(self.identity, self.identity.get("serial"), energy)


def open_change(line: str, plan: ChangePlan, witness: Witness, status: str = "started") -> OpenChange:
    """The record of a change that is about to be made."""
    energy = None if witness.energy is None else f"{witness.energy:f}"
    return OpenChange(
        line, plan.model.id, plan.setting, plan.before, plan.after, dict(witness.identity), energy, status
    )


def read_change(path: Path) -> OpenChange | None:
    """The change that is under way; None if there is none. Raises ChangeFileError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=OpenChange)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise ChangeFileError(f"{path}: cannot be used: {problem}") from problem


def write_change(path: Path, change: OpenChange) -> None:
    """Returns when it would survive a power cut. Raises OSError."""
    content: dict[str, Any] = {name: getattr(change, name) for name in change.__struct_fields__}
    content |= {"before": asdict(change.before), "after": asdict(change.after)}
    new = path.with_name(path.name + ".new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync_folder(path)


def remove_change(path: Path) -> None:
    """It is known where the meter is."""
    path.unlink(missing_ok=True)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Makes a rename or a removal last."""
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
