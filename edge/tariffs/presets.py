"""The ready tariff documents of this folder, by name, each with the source of its figures in `provenance`."""

import json
from importlib.resources import files
from importlib.resources.abc import Traversable

from edge.core.tariff import Tariff, load_versions

_SUFFIX = ".json"
_SCHEMA_SUFFIX = ".schema.json"


class PresetUnknown(Exception):
    """There is no preset of this name; the sentence names those there are."""


def preset_names() -> list[str]:
    """Names of all presets, in the order of the alphabet."""
    names = (entry.name for entry in files("edge.tariffs").iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in names if _is_preset(name))


def preset_text(name: str) -> str:
    """The document of a preset as it is kept, JSON text. Raises PresetUnknown."""
    if name not in preset_names():
        raise PresetUnknown(f"no preset {name[:60]!r}; there are {', '.join(preset_names())}")
    return _entry(name).read_text("utf-8")


def load_preset(name: str) -> tuple[Tariff, ...]:
    """The dated versions of a preset. Raises PresetUnknown."""
    return load_versions(json.loads(preset_text(name)))


def _entry(name: str) -> Traversable:
    return files("edge.tariffs") / f"{name}{_SUFFIX}"


def _is_preset(file_name: str) -> bool:
    return file_name.endswith(_SUFFIX) and not file_name.endswith(_SCHEMA_SUFFIX)
