"""Who may import whom: the table of DESIGN.md, and what may come from outside.

Changing a row is a commit of its own, with the reason.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = ("edge", "native", "cloud_sync", "hw", "tests", "build")
EVERYTHING = ("edge", "native", "cloud_sync", "hw", "build")

# The longest matching row counts. A name allows itself and what is below it; one with a dash takes it away again.
TABLE: dict[str, tuple[str, ...]] = {
    "edge": (),
    "edge.ports": ("edge.core",),
    "edge.core": ("edge.core",),
    "edge.meters": ("edge.core", "edge.meters"),
    "edge.bus": ("edge.core", "edge.meters", "edge.ports", "edge.bus", "edge.dlt645"),
    # The loop waits in C, which is given to it here; every other file of the line does without.
    "edge.bus.loop": ("edge.core", "edge.meters", "edge.ports", "edge.bus", "native.line"),
    # `wattgate meter`: one meter on one line, asked by a person. It opens its line itself.
    "edge.meter_tool": ("edge.core", "edge.meters", "edge.bus", "edge.ports", "edge.meter_tool"),
    "edge.meter_tool.commands": (
        "edge.core",
        "edge.meters",
        "edge.bus",
        "edge.ports",
        "edge.meter_tool",
        "hw.socket_port",
    ),
    # `wattgate bus`: a scan, a change of settings, a report. The logic is pure; the commands open the line.
    "edge.bus_tool": ("edge.core", "edge.meters", "edge.bus", "edge.ports", "edge.bus_tool"),
    "edge.bus_tool.doctor": ("edge.bus", "edge.bus_tool", "hw.port_facts"),
    "edge.bus_tool.commands": (
        "edge.core",
        "edge.meters",
        "edge.bus",
        "edge.ports",
        "edge.bus_tool",
        "edge.meter_tool.options",
        "edge.meter_tool.show",
        "hw.port_facts",
        "hw.serial_facts",
        "hw.socket_port",
    ),
    # `wattgate commission`: a meter put into service. Steps like those of a scan, rows for the site book, a signature.
    "edge.commission": (
        "edge.core",
        "edge.meters",
        "edge.bus",
        "edge.ports",
        "edge.store.site_book",
        "edge.commission",
    ),
    "edge.commission.commands": (
        "edge.core",
        "edge.meters",
        "edge.bus",
        "edge.ports",
        "edge.bus_tool.driver",
        "edge.meter_tool.options",
        "edge.meter_tool.show",
        "edge.store.site_book",
        "edge.commission",
        "hw.socket_port",
    ),
    # An exchange ends with a record in the journal of a stopped agent: it needs what the agent is started from.
    "edge.commission.exchange_store": ("edge.core", "edge.ports", "edge.store", "edge.commission"),
    "edge.commission.exchange_commands": ("edge", "native.kernel"),
    # A codec: no line and no clock. edge.bus makes a framing of it.
    "edge.dlt645": ("edge.dlt645",),
    "edge.store": ("edge.core", "edge.ports", "edge.store"),
    # Commands for a stopped store: they bring the hash of the wire and the anchor's file along.
    "edge.store.commands": ("edge.core", "edge.ports", "edge.store", "edge.zone", "cloud_sync.wire", "hw.file_anchor"),
    "edge.agent": (
        "edge.core",
        "edge.meters",
        "edge.bus",
        "edge.ports",
        "edge.agent",
        "cloud_sync.wire",
        "cloud_sync.session",
        "cloud_sync.order_types",
    ),
    "edge.console": ("edge.core", "edge.agent.snapshot", "edge.ports", "edge.console"),
    # `wattgate status` and its like: asks a running agent over its socket, in the words of the console.
    "edge.terminal": (
        "edge.core",
        "edge.agent.snapshot",
        "edge.console.formats",
        "edge.console.kinds",
        "edge.console.language",
        "edge.console.street",
        "edge.console.words",
        "edge.terminal",
    ),
    # The core reads no zone files: this makes its table of offsets.
    "edge.zone": ("edge.core",),
    # Tariff documents, bills and their commands: no part of the running agent.
    "edge.policies": ("edge.core", "edge.policies"),
    "edge.tariffs": ("edge.core", "edge.zone", "native", "edge.tariffs"),
    # The schemes of typed tokens with their keys, and their commands. The agent gets what they decode.
    "edge.tokens": ("edge.core", "edge.tokens"),
    "edge.config": ("edge.core", "edge.meters", "edge.ports", "edge.config"),
    "edge.bootstrap": (*EVERYTHING, "-hw.sim", "-build"),
    "edge.cli": (*EVERYTHING, "-build"),
    "edge.cli_parser": (*EVERYTHING, "-build"),
    "edge.recover": ("edge", "native"),
    "native": ("native",),
    # Compares the kernel with its reference and with others: run by build.py, installed nowhere.
    "native.bench": ("native", "edge.core"),
    "cloud_sync": ("cloud_sync", "-cloud_sync.backend"),
    "cloud_sync.backend": ("cloud_sync", "edge.core.tariff", "edge.core.rating", "native"),
    # A process of its own beside the backend's, at its database.
    "cloud_sync.notices": ("cloud_sync",),
    # The same; it places credits with the desk.
    "cloud_sync.payments": ("cloud_sync",),
    "hw": ("edge.ports", "hw", "-hw.sim"),
    "hw.sim": EVERYTHING,
    "tests": EVERYTHING,
    # A harness of several files, which its conftest loads: one file would be too long to read.
    "tests.cloud_sync.faults": (*EVERYTHING, "tests.cloud_sync.faults"),
    "build": ("hw.sim",),
}

# What decides about money may not depend on any library, and the kernel's wrapper only on cffi.
OUTSIDE: dict[str, tuple[str, ...]] = {
    "edge.core": (),
    "edge.dlt645": (),
    "edge.meters": (),
    "edge.ports": (),
    "edge.tokens": ("msgspec", "openpaygo"),
    "native": ("cffi", "setuptools"),
    "hw.sim.bench_bus": ("minimalmodbus", "pymodbus"),
    "native.bench": ("numpy", "PySAM", "ratebook"),
}

# Functions that import what their first argument names.
BY_NAME = ("import_module", "__import__")

# Modules of the standard library that would give the core a clock, an accident or a way out.
IMPURE = (
    "asyncio",
    "concurrent",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
)


def test_every_module_keeps_to_the_import_table(modules: Mapping[str, ast.Module]) -> None:
    names = names_of(modules)
    findings = [found for path, tree in modules.items() for found in against_table(path, tree, names)]
    assert not findings, "\n" + "\n".join(findings)


def test_the_core_imports_no_clock_no_accident_and_no_way_out(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in impure_imports(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_what_comes_from_outside_is_declared_in_pyproject(modules: Mapping[str, ast.Module]) -> None:
    declared = declared_modules()
    findings = [found for path, tree in modules.items() for found in undeclared(path, tree, declared)]
    assert not findings, "\n" + "\n".join(findings)


BAD_IMPORTS = [
    ("edge/core/step.py", "from edge.store import journal", "edge.store.journal"),
    ("edge/core/step.py", "import edge.agent", "edge.agent"),
    ("edge/core/step.py", "from ..store.journal import Journal", "edge.store.journal"),
    ("edge/core/step.py", "def late():\n    from cloud_sync.wire import Hello", "cloud_sync.wire"),
    ("edge/core/step.py", "import importlib\nimportlib.import_module('hw.gpio')", "hw.gpio"),
    ("edge/meters/codec.py", "from edge.bus.line import LineMaster", "edge.bus.line"),
    ("edge/bus/line.py", "from edge.agent.loop import Agent", "edge.agent.loop"),
    ("edge/store/journal.py", "from edge.meters import model", "edge.meters"),
    ("edge/agent/loop.py", "from cloud_sync.transport import Client", "cloud_sync.transport"),
    ("edge/agent/loop.py", "from edge.store.journal import SqliteJournal", "edge.store.journal"),
    ("edge/console/app.py", "from edge.agent.loop import Agent", "edge.agent.loop"),
    ("edge/bootstrap.py", "from hw.sim import street", "hw.sim"),
    ("native/rating.py", "from edge.core import rating", "edge.core.rating"),
    ("cloud_sync/session.py", "from edge.core import units", "edge.core"),
    ("cloud_sync/session.py", "from cloud_sync.backend import ingest", "cloud_sync.backend"),
    ("cloud_sync/backend/audit.py", "from edge.core import ledger", "edge.core"),
    ("hw/gpio.py", "from edge.core.units import WattHours", "edge.core.units"),
    ("hw/rs485.py", "from hw.sim import line", "hw.sim"),
    ("edge/wallet.py", "import edge.core.units", "edge.core.units"),
]


@pytest.mark.parametrize(("path", "text", "target"), BAD_IMPORTS)
def test_import_against_the_table_is_found(path: str, text: str, target: str) -> None:
    known = {"edge.core.rating", "hw.sim", "cloud_sync.backend", "edge.store.journal"}
    assert [found for found in against_table(path, ast.parse(text), known) if target in found]


GOOD_IMPORTS = [
    ("edge/core/step.py", "from edge.core.units import WattHours\nfrom dataclasses import dataclass"),
    ("edge/bus/line.py", "from edge import ports"),
    ("edge/agent/loop.py", "from cloud_sync.session import SyncSession"),
    ("cloud_sync/backend/audit.py", "import native\nfrom edge.core.rating import rate"),
    ("edge/cli.py", "from hw.sim import demo"),
    ("tests/core/test_step.py", "from edge.core import step"),
]


@pytest.mark.parametrize(("path", "text"), GOOD_IMPORTS)
def test_import_that_the_table_allows_is_not_found(path: str, text: str) -> None:
    assert list(against_table(path, ast.parse(text), {"edge.ports"})) == []


@pytest.mark.parametrize(
    "text", ["import time", "from os import path", "import logging.handlers", "import random as r"]
)
def test_impure_import_is_found_in_the_core_only(text: str) -> None:
    assert list(impure_imports("edge/core/step.py", ast.parse(text)))
    assert list(impure_imports("edge/agent/loop.py", ast.parse(text))) == []


def test_undeclared_dependency_is_found() -> None:
    tree = ast.parse("import numpy\nimport json\nimport edge.core\nimport tinydb")
    assert len(list(undeclared("edge/store/book.py", tree, {"tinydb"}))) == 1
    assert len(list(undeclared("edge/core/book.py", tree, {"tinydb"}))) == 2


def against_table(path: str, tree: ast.Module, known: Collection[str]) -> Iterator[str]:
    """Imports of our own modules that the table does not allow."""
    module = module_name(path)
    allowed = TABLE[longest(module, TABLE)]
    for line, target in dict.fromkeys(imports(module, tree, known, is_package=path.endswith("__init__.py"))):
        if target.split(".")[0] in OURS and not permitted(target, allowed):
            what = ", ".join(allowed) or "nothing of ours"
            yield f"{path}:{line}: imports {target}; DESIGN.md lets {longest(module, TABLE)} import: {what}"


def impure_imports(path: str, tree: ast.Module) -> Iterator[str]:
    """Imports in the core that make its results depend on more than its arguments."""
    if longest(module_name(path), TABLE) != "edge.core":
        return
    for line, target in imports(module_name(path), tree, ()):
        if target.split(".")[0] in IMPURE:
            yield f"{path}:{line}: the core imports {target}; take it as an argument (time is command.at) or use a port"


def undeclared(path: str, tree: ast.Module, declared: Collection[str]) -> Iterator[str]:
    """Imports from outside that pyproject.toml does not name, or that this package may not have."""
    row = longest(module_name(path), OUTSIDE)
    allowed = OUTSIDE[row] if row else declared
    for line, target in imports(module_name(path), tree, ()):
        top = target.split(".")[0]
        if top not in sys.stdlib_module_names and top not in OURS and top not in allowed:
            where = (
                f"{row} may use only: {', '.join(allowed) or 'the standard library'}" if row else "add its pinned line"
            )
            yield f"{path}:{line}: imports {top}, which pyproject.toml does not give it; {where}"


def imports(
    module: str, tree: ast.Module, known: Collection[str], is_package: bool = False
) -> Iterator[tuple[int, str]]:
    """(line, module imported) wherever it stands, in functions too, and by name through importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            yield from ((node.lineno, str(arg.value)) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def permitted(target: str, allowed: tuple[str, ...]) -> bool:
    """Whether the longest row that fits the target allows it."""
    rows = {row.removeprefix("-"): not row.startswith("-") for row in allowed}
    row = longest(target, rows)
    return bool(row) and rows[row]


def longest(module: str, rows: Collection[str]) -> str:
    """The row for a module: itself or the nearest above it; empty if there is none."""
    while module and module not in rows:
        module = module.rpartition(".")[0]
    return module


def module_name(path: str) -> str:
    """`edge/core/units.py` is `edge.core.units`."""
    return re.sub(r"(/__init__)?\.py$", "", path).replace("/", ".")


def names_of(modules: Mapping[str, ast.Module]) -> set[str]:
    """The dotted names of all files, and of the folders above them."""
    names = {module_name(path) for path in modules}
    return names | {name.rpartition(".")[0] for name in names}


def declared_modules() -> set[str]:
    """Top-level modules of the distributions that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    lines += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    declared = {distribution_name(line) for line in lines}
    return {
        module
        for module, distributions in packages_distributions().items()
        if any(distribution_name(name) in declared for name in distributions)
    }


def distribution_name(requirement: str) -> str:
    """The normal form of the name in a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s=<>~!;\[]", requirement)[0]).lower()
