"""What holds for every test: it runs on the installed package, and nothing is skipped unnamed.

A test that needs a program from outside says `@pytest.mark.needs_program("mosquitto")`. Where it
is missing the test is skipped and the end of the run names it with its Debian package; with
WATTGATE_NO_SKIP=1 (as .ci/run sets it) any skip fails the run. A test that needs a Python package
from outside the extra `dev` says `@pytest.mark.needs_package("PySAM")`, and the same holds. Times are seconds.
"""

import importlib.util
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).resolve().parent.parent
POLL_INTERVAL_S = 0.02
SLOW_STARTS_AT_S = 220.0  # below the timeouts of tests/demo, which come first, while their demo runs
PASSED: dict[str, bool] = {}  # test without its parameters: whether all of it passed

# Program: the Debian package that brings it, where the names differ.
DEBIAN_PACKAGES = {
    "chromedriver": "chromium-driver",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
}
# Module from outside the extra `dev`: the extra of pyproject.toml that brings it.
EXTRAS = {"PySAM": "oracle"}
# Debian keeps servers out of an ordinary user's PATH.
SERVER_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# The machines that run this are shared: no example fails for being slow. A landing is judged by examples that are the
# same each time; whoever works here draws new ones with every run.
LANDING = os.environ.get("WATTGATE_NO_SKIP") == "1"
# Examples of a property that names no number of its own. A long one takes a multiple of it: `settings().max_examples`.
for profile, examples in (("quick", 40), ("full", 100)):
    hypothesis.settings.register_profile(
        profile, deadline=None, print_blob=True, derandomize=LANDING, max_examples=examples
    )
hypothesis.settings.load_profile("quick")
if LANDING:
    # Hypothesis also draws the constants of whatever modules happen to be loaded: which those are depends on the tests
    # that a worker was given before, so "the same each time" would not hold.
    no_constants = providers._local_constants
    providers._get_local_constants = lambda: no_constants


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --slow."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to test the source tree in place of the installed package; chooses how many examples a property has."""
    if config.getoption("--slow"):
        hypothesis.settings.load_profile("full")
    config.addinivalue_line(
        "markers", "needs_package(name): skipped, and named at the end, where the Python package is not installed"
    )
    on_path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*on_path, *(folder for folder in SERVER_FOLDERS if folder not in on_path)])
    sentence = wrong_package(os.environ.get("WATTGATE_TREE"), os.environ.get("PYTHONPATH"))
    if sentence:
        raise pytest.UsageError(sentence)
    if not tree_is_meant(os.environ.get("WATTGATE_TREE"), os.environ.get("PYTHONPATH")):
        os.environ["PYTHONSAFEPATH"] = "1"  # processes that tests start import the installed package too


def wrong_package(tree_wanted: str | None, python_path: str | None) -> str | None:
    """The sentence for tests that would not run on the installed package; None if they do, or need not."""
    if tree_is_meant(tree_wanted, python_path):
        return None
    for name in ("edge", "native", "cloud_sync", "hw"):
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec is not None else None
        if origin is None or "site-packages" not in Path(origin).parts:
            return (
                f"the tests run on the installed package, but `{name}` is {origin or 'not installed'}. "
                "Use `python3 build.py test`, or after it `.venv/bin/pytest` (not `python -m pytest`); "
                "WATTGATE_TREE=1 tests the tree on purpose."
            )
    return None


def tree_is_meant(tree_wanted: str | None, python_path: str | None) -> bool:
    """Whether somebody asked for the source tree: by name, or by putting it on the path."""
    entries = (python_path or "").split(os.pathsep)
    return tree_wanted == "1" or any(entry and Path(entry).resolve() == ROOT for entry in entries)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out slow tests, and starts the longest first so that the cores finish together."""
    if not config.getoption("--slow"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        if slow:
            config.hook.pytest_deselected(items=slow)
            items[:] = [item for item in items if not item.get_closest_marker("slow")]
    items.sort(key=lambda item: -seconds_allowed(item))


def seconds_allowed(item: pytest.Item) -> float:
    """What its own timeout mark allows; 0 for the many that have none. The slow tier waits until the demo was seen."""
    marker = item.get_closest_marker("timeout")
    seconds = float(marker.args[0]) if marker is not None and marker.args else 0.0
    return min(seconds, SLOW_STARTS_AT_S) if item.get_closest_marker("slow") else seconds


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose program or package is not installed."""
    for marker in item.iter_markers("needs_program"):
        for program in marker.args:
            if shutil.which(program) is None:
                pytest.skip(missing_program(program))
    for marker in item.iter_markers("needs_package"):
        for package in marker.args:
            if importlib.util.find_spec(package) is None:
                pytest.skip(missing_package(package))


def missing_program(program: str) -> str:
    """Why a test is skipped: `needs chromedriver (Debian: chromium-driver)`."""
    return f"needs {program} (Debian: {DEBIAN_PACKAGES.get(program, program)})"


def missing_package(package: str) -> str:
    """Why a test is skipped: `needs the Python package PySAM (pip install 'wattgate[oracle]')`."""
    return f"needs the Python package {package} (pip install 'wattgate[{EXTRAS.get(package, 'dev')}]')"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With WATTGATE_NO_SKIP=1 a run that skipped anything has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter is not None and reporter.stats.get("skipped")
    unshown = unshown_features(session.config)
    if ((skipped and no_skip()) or unshown) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remembers which tests passed: the feature table rests on them."""
    if report.when == "call":
        PASSED[report.nodeid.partition("[")[0]] = PASSED.get(report.nodeid.partition("[")[0], True) and report.passed


def unshown_features(config: pytest.Config) -> list[str]:
    """Rows of the feature table whose test did not run, or failed. Asked of whole runs only."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.getoption("keyword")
    features = ROOT / "edge" / "core" / "features.json"  # tests/tidy fails where it is missing
    if hasattr(config, "workerinput") or not whole or config.getoption("collectonly") or not features.exists():
        return []
    rows = json.loads(features.read_text(encoding="utf-8"))
    return [f"{row['standard']}: {row['feature']}: {row['test']}" for row in rows if not PASSED.get(row["test"])]


def no_skip() -> bool:
    """Whether a skip counts as a failure."""
    return os.environ.get("WATTGATE_NO_SKIP") == "1"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what was not run, last."""
    unshown = unshown_features(terminalreporter.config)
    if unshown:
        terminalreporter.section("features that no passed test shows", red=True)
        for row in unshown:
            terminalreporter.line(row)
    reasons = Counter(skip_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if not reasons:
        return
    terminalreporter.section("not run", red=no_skip(), yellow=not no_skip())
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")
    if no_skip():
        terminalreporter.line("WATTGATE_NO_SKIP=1: a run that skips has failed", red=True)


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The words given with a skip."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for real things outside the test's control (a process, a socket): never for a clock it could drive."""

    def wait(condition: Callable[[], object], within_s: float = 10.0, what: str = "the condition") -> None:
        end = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come true within {within_s} s")
            time.sleep(POLL_INTERVAL_S)

    return wait


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an English shell; (exit status, what it printed, what it complained about)."""
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        from edge.cli import main  # what most tests never need

        try:
            status = main(arguments)
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        return (status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def auditor() -> Any:
    """The auditor as a module. It is a file to run, of no package, and shares no code with what it audits."""
    spec = importlib.util.spec_from_file_location("wattgate_auditor", ROOT / "tests" / "auditor" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
