"""The feature table of the core is made from features.json, and every row names a test that is there."""

import ast
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS: list[dict[str, str]] = json.loads((ROOT / "edge" / "core" / "features.json").read_text("utf-8"))
STANDARDS = {"COSEM", "SMETS2", "STS", "OpenPAYGO", "fee control"}


@pytest.fixture(scope="module")
def build() -> Any:
    spec = importlib.util.spec_from_file_location("build", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_table_in_the_readme_is_the_one_of_the_file(build: Any) -> None:
    text = (ROOT / "edge" / "core" / "README.md").read_text("utf-8")
    assert build.with_feature_table(text, ROWS) == text, "run: python3 build.py features"


def test_each_row_is_whole_and_stands_once() -> None:
    assert all(set(row) == {"standard", "feature", "test"} and all(row.values()) for row in ROWS)
    assert {row["standard"] for row in ROWS} == STANDARDS
    assert len({(row["standard"], row["feature"]) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['standard']}: {row['feature']}")
def test_each_row_names_a_test_that_is_there(modules: Mapping[str, ast.Module], row: dict[str, str]) -> None:
    file, _, name = row["test"].partition("::")
    names = {node.name for node in modules[file].body if isinstance(node, ast.FunctionDef)}
    assert name in names
