"""The auditor as a module. It is a file to run, of no package, and shares no code with what it audits."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("audit.py")


@pytest.fixture(scope="module")
def auditor() -> Any:
    spec = importlib.util.spec_from_file_location("auditor_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
