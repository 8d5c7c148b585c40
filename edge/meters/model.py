"""The meter models there are: those that ship, and those of the user's own folder.

A model is one TOML file named after its id. A file of the user's never stands in for one that ships:
an id that exists twice is refused.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from edge.core.units import WattHours
from edge.meters import point as points
from edge.meters.checked_table import ModelError
from edge.meters.model_file import READ_REGISTERS_UNKNOWN, read_model_file
from edge.meters.point import Point, ValueRefused
from edge.meters.records import (
    AllowedWrite,
    Commissioning,
    ForbiddenWrite,
    LinkSpec,
    MeterModel,
    Register,
    RelaySpec,
    UnusableRelay,
)

__all__ = [
    "READ_REGISTERS_UNKNOWN",
    "AllowedWrite",
    "Commissioning",
    "ForbiddenWrite",
    "LinkSpec",
    "MeterModel",
    "ModelError",
    "Point",
    "Register",
    "RelaySpec",
    "UnusableRelay",
    "ValueRefused",
    "known_models",
    "load_model",
    "model_files",
    "read_model_file",
    "register_wh",
]


def load_model(model_id: str, folder: Path | None = None) -> MeterModel:
    """The model `model_id`, shipped or in the user's own `folder`. Raises ModelError."""
    files = model_files(folder)
    path = files.get(model_id)
    if path is None:
        raise ModelError(f"{model_id}.toml", "id", model_id, ", ".join(files))
    return _model_of_file(path, path.stat().st_mtime_ns)


def known_models(folder: Path | None = None) -> tuple[str, ...]:
    """Ids of the models there are, sorted. Raises ModelError."""
    return tuple(model_files(folder))


def model_files(folder: Path | None = None) -> dict[str, Path]:
    """The file of each model, by id, sorted: the shipped ones and those in `folder`. Raises ModelError."""
    files = {path.stem: path for path in _shipped_folder().glob("*.toml")}
    if folder is not None:
        if not folder.is_dir():
            raise ModelError(str(folder), "the folder", "no folder", "a folder with model files, NAME.toml")
        for path in sorted(folder.glob("*.toml")):
            if path.stem in files:
                raise ModelError(str(path), "id", path.stem, "a name that no other model has; this one is built in")
            files[path.stem] = path
    return dict(sorted(files.items()))


def register_wh(point: Point, registers: Sequence[int]) -> WattHours:
    """A cumulative energy register in Wh: the floor of its exact value."""
    return points.register_wh(point, registers)


@lru_cache(maxsize=64)
def _model_of_file(path: Path, changed_ns: int) -> MeterModel:
    """Read once for all meters of a model, and again when the file has changed."""
    return read_model_file(path)


def _shipped_folder() -> Path:
    return Path(__file__).parent
