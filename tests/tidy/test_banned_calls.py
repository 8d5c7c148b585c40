"""Calls that have a better replacement here, each with what to write in its place.

A new row needs no more than a name, where it is right all the same, and the replacement.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

SHELL = ("build.py", "edge/cli", "edge/bootstrap", "hw/", "tests/")
TALKS = (
    "build.py",
    "edge/cli",
    "native/build_kernel.py",
    "native/bench/",
    "native/proof/",
    "cloud_sync/backend/__main__.py",
    "hw/sim/",
    "hw/firmware/",
    "tests/",
)
# What never runs on the virtual loop, where every order must be the same twice.
REAL_LOOP = ("cloud_sync/connection", "cloud_sync/backend/", "edge/console/", "hw/", "tests/")


@dataclass(frozen=True)
class Ban:
    """One row: the call, the files where it is right (path prefixes), what to write elsewhere."""

    call: str
    allowed_in: tuple[str, ...]
    instead: str


BANS = (
    Ban(
        "time.sleep", ("tests/conftest.py", "hw/firmware/", "hw/sim/"), "wait on the loop; in tests the fixture `until`"
    ),
    Ban("time.time", (*SHELL, "cloud_sync/backend/"), "the Clock port: its reading has quality and boot id"),
    Ban("time.time_ns", (*SHELL, "cloud_sync/backend/"), "the Clock port: its reading has quality and boot id"),
    Ban("print", TALKS, "a value returned, or logging; only command lines print"),
    Ban("eval", (), "ast.literal_eval, json or a table"),
    Ban("exec", ("edge/core/lean",), "a function"),  # there: what the standard dataclass does as well
    Ban("pickle.load", (), "json or msgspec: pickle runs what it reads"),
    Ban("pickle.loads", (), "json or msgspec: pickle runs what it reads"),
    Ban("pickle.dump", (), "json or msgspec"),
    Ban("pickle.dumps", (), "json or msgspec"),
    Ban("marshal.loads", (), "json or msgspec"),
    Ban("shelve.open", (), "the journal or the site book"),
    Ban("yaml.load", (), "tomllib or json; yaml.safe_load if a foreign file is YAML"),
    Ban("os.system", (), "subprocess.run with a list"),
    Ban("os.popen", (), "subprocess.run with a list"),
    Ban("tempfile.mktemp", (), "tempfile.mkstemp, or tmp_path in tests"),
    Ban("hashlib.md5", (), "hashlib.sha256"),
    Ban("hashlib.sha1", (), "hashlib.sha256"),
    Ban("random.random", ("hw/sim/", "tests/"), "the random port, or secrets for what must not be guessed"),
    Ban("random.randint", ("hw/sim/", "tests/"), "the random port, or secrets for what must not be guessed"),
    Ban("random.uniform", ("hw/sim/", "tests/"), "the random port, or secrets for what must not be guessed"),
    Ban("random.choice", ("hw/sim/", "tests/"), "the random port, or secrets for what must not be guessed"),
    Ban("asyncio.get_event_loop", (), "asyncio.get_running_loop()"),
    Ban("asyncio.wait", REAL_LOOP, "asyncio.gather: the sets that wait returns have no order, so a replay differs"),
    Ban("datetime.datetime.utcnow", (), "datetime.now(UTC): a time says its zone"),
    Ban("datetime.datetime.utcfromtimestamp", (), "datetime.fromtimestamp(at, zone)"),
    Ban("datetime.datetime.today", (), "datetime.now(zone)"),
    Ban("datetime.date.today", (), "the Clock port and the site's zone"),
)

# These are wrong only with too few arguments: call, arguments needed, what to write.
TOO_FEW = {
    "datetime.datetime.now": (1, "datetime.now(zone): a time says its zone"),
    "datetime.datetime.fromtimestamp": (2, "datetime.fromtimestamp(at, zone)"),
}

SKIPS = ("pytest.skip", "pytest.xfail", "pytest.importorskip")
SKIP_MARKS = ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail")


def test_nobody_makes_a_banned_call(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in banned(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_nobody_swallows_what_they_do_not_know(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in swallowed(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


def test_nobody_skips_a_test_but_for_a_missing_program(modules: Mapping[str, ast.Module]) -> None:
    findings = [found for path, tree in modules.items() for found in skips(path, tree)]
    assert not findings, "\n" + "\n".join(findings)


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.call)
def test_each_row_finds_its_call_and_knows_where_it_is_right(ban: Ban) -> None:
    head, _, tail = ban.call.rpartition(".")
    spellings = (
        [f"import {head.split('.')[0]}\n{ban.call}(1)", f"from {head} import {tail} as t\nt(1)"]
        if head
        else [f"{ban.call}(1)"]
    )
    for text in spellings:
        assert [found for found in banned("edge/core/step.py", ast.parse(text)) if ban.call in found]
        for allowed in ban.allowed_in:
            assert not [found for found in banned(allowed, ast.parse(text)) if ban.call in found]


@pytest.mark.parametrize(
    "text",
    [
        "import datetime as dt\ndt.datetime.now()",
        "from datetime import datetime\ndatetime.fromtimestamp(at)",
        "import asyncio\nasyncio.sleep(0.5)",
        "import asyncio\nasyncio.sleep(delay=3)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
    ],
)
def test_call_with_the_wrong_arguments_is_found(text: str) -> None:
    assert list(banned("edge/agent/loop.py", ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "from datetime import UTC, datetime\ndatetime.now(UTC)",
        "import asyncio\nasyncio.sleep(0)\nasyncio.sleep(BACKOFF_S)",
        "import subprocess\nsubprocess.run(['ls'])",
        "import time\ntime.monotonic()",
        "self.print(1)",
    ],
)
def test_right_call_is_not_found(text: str) -> None:
    assert list(banned("edge/agent/loop.py", ast.parse(text))) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("try: f()\nexcept: pass", 1),
        ("try: f()\nexcept Exception: pass", 1),
        ("for x in y:\n try: f()\n except BaseException: continue", 1),
        ("try: f()\nexcept (OSError, Exception): ...", 1),
        ("import contextlib\nwith contextlib.suppress(Exception): f()", 1),
        ("try: f()\nexcept Exception: log.exception('x')", 0),
        ("import contextlib\nwith contextlib.suppress(OSError): f()", 0),
    ],
)
def test_swallowed_error_is_found(text: str, count: int) -> None:
    assert len(list(swallowed("edge/agent/loop.py", ast.parse(text)))) == count


@pytest.mark.parametrize(
    "text",
    [
        "import pytest\npytest.skip('later')",
        "import pytest\n@pytest.mark.skipif(True)\ndef test_it(): assert f()",
        "import pytest\npytestmark = pytest.mark.xfail",
        "import pytest\nlib = pytest.importorskip('lib')",
    ],
)
def test_skip_is_found_outside_the_common_conftest(text: str) -> None:
    assert list(skips("tests/core/test_step.py", ast.parse(text)))
    assert list(skips("tests/conftest.py", ast.parse(text))) == []


def banned(path: str, tree: ast.Module) -> Iterator[str]:
    """Calls of the table, under whatever name they were imported."""
    rows = {ban.call: ban for ban in BANS}
    aliases = aliases_of(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = resolved(node.func, aliases)
        if name in rows and not path.startswith(rows[name].allowed_in):
            yield f"{path}:{node.lineno}: {name}(); write {rows[name].instead}"
        elif name in TOO_FEW and len(node.args) + len(node.keywords) < TOO_FEW[name][0]:
            yield f"{path}:{node.lineno}: {name}() without a zone; write {TOO_FEW[name][1]}"
        elif name == "asyncio.sleep" and sleeps_a_literal(node):
            yield f"{path}:{node.lineno}: asyncio.sleep of a bare number; name it (..._S), or await an event"
        elif name.startswith("subprocess.") and any(
            keyword.arg == "shell" and ast.unparse(keyword.value) != "False" for keyword in node.keywords
        ):
            yield f"{path}:{node.lineno}: {name}(shell=...); give the command as a list"


def sleeps_a_literal(node: ast.Call) -> bool:
    """Whether it sleeps a number other than 0 (which only lets others run)."""
    values = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "delay")]
    return any(isinstance(value, ast.Constant) and value.value != 0 for value in values)


def swallowed(path: str, tree: ast.Module) -> Iterator[str]:
    """Handlers for everything that do nothing."""
    aliases = aliases_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(does_nothing(line) for line in node.body):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds):
                yield f"{path}:{node.lineno}: swallows every error; name the one expected, or log it"
        elif (
            isinstance(node, ast.Call)
            and resolved(node.func, aliases) == "contextlib.suppress"
            and any(ast.unparse(kind) in ("Exception", "BaseException") for kind in node.args)
        ):
            yield f"{path}:{node.lineno}: suppresses every error; name the one expected"


def does_nothing(line: ast.stmt) -> bool:
    """`pass`, `continue`, `...` or a bare word."""
    return isinstance(line, ast.Pass | ast.Continue) or (
        isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    )


def skips(path: str, tree: ast.Module) -> Iterator[str]:
    """Tests that are left out on somebody's word."""
    if not path.startswith("tests/") or path == "tests/conftest.py":
        return
    aliases = aliases_of(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        name = resolved(node, aliases)
        if name in SKIPS or name in SKIP_MARKS:
            yield f"{path}:{node.lineno}: {name}; use @pytest.mark.needs_program, or mend what fails"


def aliases_of(tree: ast.Module) -> dict[str, str]:
    """Local name to dotted name, for everything imported."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases


def resolved(node: ast.AST, aliases: Mapping[str, str]) -> str:
    """The dotted name behind an expression; empty if it is not a name."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        head = resolved(node.value, aliases)
        return f"{head}.{node.attr}" if head else ""
    return ""
