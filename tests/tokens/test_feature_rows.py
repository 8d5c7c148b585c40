"""The rows of edge/tokens/README.md name tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "edge" / "tokens" / "README.md").read_text("utf-8")
ROWS = re.findall(r"^\| (?:STS|OpenPAYGO|SMETS2) \| .+ \| `(.+)::(.+)` \|$", README, re.MULTILINE)


def test_there_are_rows_of_every_scheme() -> None:
    assert len(ROWS) >= 10
    assert README.count("\n| OpenPAYGO |") >= 1


@pytest.mark.parametrize(("path", "name"), ROWS, ids=[name for _, name in ROWS])
def test_each_row_names_a_test_that_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
