"""The tree as the house rules see it: paths relative to the root, with text and syntax."""

import ast
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("edge", "native", "cloud_sync", "hw", "tests", ".ci")
SUFFIXES = (".py", ".c", ".h", ".md", ".toml", ".html", ".css", ".js", ".sh", ".sql", ".po", ".service")
NOT_OURS = ("__pycache__", "build", "node_modules")


@pytest.fixture(scope="session")
def texts() -> Mapping[str, str]:
    """Every text file that people write: path to content."""
    paths = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in SUFFIXES]
    for name in FOLDERS:
        for folder, folders, files in os.walk(ROOT / name):
            folders[:] = [entry for entry in folders if entry not in NOT_OURS and not entry.startswith(".")]
            paths += [Path(folder) / file for file in files if file.endswith(SUFFIXES) or name == ".ci"]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


@pytest.fixture(scope="session")
def modules(texts: Mapping[str, str]) -> Mapping[str, ast.Module]:
    """Every Python file: path to syntax tree."""
    return {path: ast.parse(text, path) for path, text in texts.items() if path.endswith(".py")}
