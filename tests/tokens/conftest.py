"""Vectors of the token schemes, and the public test keys they go with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
Vector = dict[str, Any]


def _read(name: str) -> list[Vector]:
    return [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], list[Vector]]:
    """The lines of a vector file."""
    return _read


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `<file>_vector` runs once for each line of that file."""
    for name in metafunc.fixturenames:
        if name.endswith("_vector"):
            lines = _read(name.removesuffix("_vector"))
            metafunc.parametrize(name, lines, ids=[line["id"] for line in lines])


@pytest.fixture(scope="session")
def key() -> int:
    """STS.md's decoder key for base year 1993. Public: no device has it."""
    return 0xF94B6ED353C3BFDB113E2D3A7EA3C41D
