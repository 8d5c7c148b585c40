"""build.py decides rightly what is missing and what is due, and the suite refuses what it must. No network is used."""

import argparse
import fcntl
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("setup", "demo", "test", "native", "prove", "fuzz", "bench", "features", "clean")
COMPLETE = {
    "version": (3, 11, 2),
    "prefix": "/usr",
    "has_venv": True,
    "header": "/usr/include/python3.11/Python.h",
    "has_header": True,
    "compiler": "gcc",
}


@pytest.fixture(scope="module")
def build() -> Iterator[ModuleType]:
    """build.py as a module; the root is not on sys.path, so that nothing imports the tree."""
    spec = importlib.util.spec_from_file_location("wattgate_build", ROOT / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wattgate_build"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["wattgate_build"]


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    """A tree with one file in each package."""
    tree = tmp_path / "tree"
    for package in ("edge", "native", "cloud_sync", "hw"):
        (tree / package).mkdir(parents=True)
        (tree / package / "__init__.py").write_text(f'"""{package}."""\n')
    shutil.copy(ROOT / "pyproject.toml", tree)
    (tree / "LICENSE").write_text("Apache\n")
    return tree


# ---- the command line


def test_help_lists_exactly_the_commands_there_are(build: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.read_arguments(["--help"])
    assert ended.value.code == 0
    assert tuple(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(
    build: ModuleType, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build.read_arguments([command, "--help"])
    assert ended.value.code == 0
    assert f"example: python3 build.py {command}" in capsys.readouterr().out


def test_demo_hands_its_options_on_as_they_were_given(build: ModuleType) -> None:
    given = ["--seconds", "100", "--speed=8640", "--port", "8081", "--json", "--data", "here"]
    assert build.read_arguments(["demo", *given]).given == given


@pytest.mark.parametrize("words", [["demo", "--secnds", "3"], ["demo", "--port", "x"], ["setup", "now"], ["fly"], []])
def test_wrong_words_end_with_status_2(build: ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build.read_arguments(words)
    assert ended.value.code == 2


def test_what_test_does_not_know_goes_to_pytest_in_order(build: ModuleType) -> None:
    options = build.read_arguments(["test", "tests/core", "-k", "tiers", "--all-pythons", "-x"])
    assert options.all_pythons
    assert options.pytest_arguments == ["tests/core", "-k", "tiers", "-x"]


@pytest.mark.parametrize(
    ("arguments", "spread"),
    [([], True), (["tests/core", "-k", "tiers"], True), (["--slow"], True), (["-n", "3"], False), (["--pdb"], False)],
)
def test_tests_are_spread_over_the_cores_unless_told_otherwise(
    build: ModuleType, arguments: list[str], spread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert build.parallel(arguments) == (["-n", "4", "--dist", "worksteal"] if spread else [])


def test_what_failed_is_told_at_the_end_by_name_and_with_the_end_of_its_trace(
    build: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "test_money.py").write_text(
        "import pytest\n\n\ndef test_good():\n    pass\n\n\n"
        "def test_bad():\n    assert 1 == 2, 'a cent is missing'\n\n\n"
        "@pytest.fixture\ndef broker():\n    raise OSError('no broker')\n\n\ndef test_wire(broker):\n    pass\n"
    )
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", "test_money.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    told = build.failed_tests(report)
    assert "test_money::test_bad" in told
    assert "a cent is missing" in told
    assert "test_money::test_wire" in told
    assert "no broker" in told
    assert "test_good" not in told


def test_a_run_of_tests_that_broke_off_says_so(build: ModuleType, tmp_path: Path) -> None:
    assert "ended before" in build.failed_tests(tmp_path / "junit.xml")


def test_tests_are_compiled_beforehand_only_where_a_python_has_no_bytecode_of_them(
    build: ModuleType, tmp_path: Path
) -> None:
    assert not build.tests_are_compiled(tmp_path, "3.11")
    folder = tmp_path / "tests" / "core" / "__pycache__"
    folder.mkdir(parents=True)
    (folder / "test_step.cpython-311-pytest-9.2.0.pyc").touch()
    assert build.tests_are_compiled(tmp_path, "3.11")
    assert not build.tests_are_compiled(tmp_path, "3.13")


def test_exit_status_tells_refusal_failure_and_interruption_apart(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for problem, status in ((build.Refused("no"), 2), (build.StepFailed("log"), 1), (KeyboardInterrupt(), 130)):

        def fail(_: argparse.Namespace, problem: BaseException = problem) -> int:
            raise problem

        monkeypatch.setattr(build, "run_setup", fail)
        assert build.main(["setup"]) == status


# ---- Pythons and packages


@pytest.mark.parametrize("version", [(3, 10), (3, 8), (2, 7)])
def test_old_python_gets_a_sentence_with_its_version(build: ModuleType, version: tuple[int, int]) -> None:
    sentence = build.wrong_python(version)
    assert f"this is {version[0]}.{version[1]}" in sentence
    assert "3.11" in sentence


@pytest.mark.parametrize("version", [(3, 11), (3, 13), (3, 14)])
def test_new_python_is_accepted(build: ModuleType, version: tuple[int, int]) -> None:
    assert build.wrong_python(version) is None


@pytest.mark.parametrize(
    ("lack", "compiler", "packages"),
    [
        ({}, "/usr/bin/gcc", []),
        ({"has_venv": False}, "/usr/bin/gcc", ["python3-venv"]),
        ({"has_header": False}, "/usr/bin/gcc", ["python3-dev"]),
        ({}, None, ["gcc"]),
        ({"has_venv": False, "has_header": False}, None, ["python3-venv", "python3-dev", "gcc"]),
    ],
)
def test_each_missing_part_names_its_debian_package(
    build: ModuleType, lack: dict[str, Any], compiler: str | None, packages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "is_default_python", lambda facts: True)
    facts = build.PythonFacts(**{**COMPLETE, **lack})
    missing = build.missing_packages(facts, lambda _: compiler)
    assert [package for _, package in missing] == packages


def test_package_of_a_second_python_carries_its_version(build: ModuleType) -> None:
    facts = build.PythonFacts(**{**COMPLETE, "version": (3, 13, 0), "prefix": "/opt/python", "has_header": False})
    assert [package for _, package in build.missing_packages(facts, str)] == ["python3.13-dev"]


def test_missing_header_is_refused_by_path_before_anything_is_made(
    build: ModuleType, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = build.PythonFacts(**{**COMPLETE, "has_header": False})
    monkeypatch.setattr(build, "probe_python", lambda python: facts)
    monkeypatch.setattr(build, "is_default_python", lambda facts: True)
    environment = build.Environment(small_tree / ".venv", Path("python3"), small_tree)
    with pytest.raises(build.Refused) as refused:
        environment.prepare(["console"])
    assert "/usr/include/python3.11/Python.h is missing (Debian package python3-dev)" in str(refused.value)
    assert str(refused.value).endswith("sudo apt install python3-dev")
    assert not environment.folder.exists()


def test_probe_tells_what_this_python_has(build: ModuleType) -> None:
    facts = build.probe_python(Path(sys.executable))
    assert facts.version == sys.version_info[:3]
    assert facts.prefix == sys.base_prefix
    assert facts.header.endswith("Python.h")


def test_shim_that_does_not_run_is_no_python(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = json.dumps({**COMPLETE, "version": [3, 13, 0]})
    scripts = {
        "first/python3.12": "#!/bin/sh\necho 'python3.12: command not found' >&2\nexit 127\n",
        "first/python3.13": "#!/bin/sh\nexit 127\n",
        "second/python3.13": f"#!/bin/sh\necho '{answer}'\n",
        "pyenv/versions/3.11.9/bin/python3.11": f"#!/bin/sh\necho '{answer}'\n",
    }
    for name, text in scripts.items():
        script = tmp_path / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text)
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert build.find_pythons() == {
        "3.11": tmp_path / "pyenv/versions/3.11.9/bin/python3.11",
        "3.13": tmp_path / "second/python3.13",
    }


@pytest.mark.parametrize(
    ("names", "current", "ends"),
    [
        (["3.11", "3.12", "3.13"], "3.11", ["3.13"]),
        (["3.11", "3.12", "3.13"], "3.12", ["3.11", "3.13"]),
        (["3.13", "3.11"], "3.13", ["3.11"]),
        (["3.11"], "3.11", []),
    ],
)
def test_both_ends_of_the_installed_pythons_are_tested(
    build: ModuleType, names: list[str], current: str, ends: list[str]
) -> None:
    pythons = {name: Path(f"python{name}") for name in names}
    assert build.other_ends(pythons, current) == [Path(f"python{name}") for name in ends]


# ---- what is due


def test_hash_of_a_tree_depends_on_its_contents_only(build: ModuleType, small_tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(small_tree, copy)
    os.utime(copy / "LICENSE", (0, 0))
    assert build.tree_hash(copy) == build.tree_hash(small_tree)


@pytest.mark.parametrize("name", ["edge/core.py", "native/src/kernel.c", "edge/console/page.html", "pyproject.toml"])
def test_hash_of_a_tree_sees_every_installed_file(build: ModuleType, small_tree: Path, name: str) -> None:
    before = build.tree_hash(small_tree)
    (small_tree / name).parent.mkdir(parents=True, exist_ok=True)
    (small_tree / name).write_text("x")
    assert build.tree_hash(small_tree) != before


def test_hash_of_a_tree_keeps_files_apart(build: ModuleType, small_tree: Path) -> None:
    (small_tree / "edge/a.py").write_text("12")
    (small_tree / "edge/b.py").write_text("3")
    before = build.tree_hash(small_tree)
    (small_tree / "edge/a.py").write_text("1")
    (small_tree / "edge/b.py").write_text("23")
    assert build.tree_hash(small_tree) != before


@pytest.mark.parametrize("name", ["edge/__pycache__/x.pyc", "native/_kernel.abi3.so", "tests/test_x.py", "README.md"])
def test_hash_of_a_tree_ignores_what_is_not_installed(build: ModuleType, small_tree: Path, name: str) -> None:
    before = build.tree_hash(small_tree)
    (small_tree / name).parent.mkdir(parents=True, exist_ok=True)
    (small_tree / name).write_text("x")
    assert build.tree_hash(small_tree) == before


def in_step(build: ModuleType, tree: Path, extras: list[str]) -> Any:
    """An environment as `prepare` leaves it, but for the programs in it."""
    environment = build.Environment(tree / ".venv", Path("python3"), tree)
    environment.program("python").parent.mkdir(parents=True)
    for name in ("python", "wattgate"):
        environment.program(name).touch()
    environment.built = {
        "python": "3.11",
        "prefix": "/usr",
        "folder": str(environment.folder),
        "extras": extras,
        "pins": build.pinned(build.read_project(tree), extras),
        "tree": build.tree_hash(tree),
    }
    environment.write_built()
    return environment


def due(
    build: ModuleType, environment: Any, extras: list[str], version: tuple[int, int, int] = (3, 11, 2)
) -> list[str]:
    """The first words of the steps that are due."""
    facts = build.PythonFacts(**{**COMPLETE, "version": version})
    project = build.read_project(environment.root)
    return [title.split()[0] for title, _ in environment.due(facts, project, extras, False)]


def test_nothing_is_due_when_nothing_changed(build: ModuleType, small_tree: Path) -> None:
    assert due(build, in_step(build, small_tree, ["console", "demo"]), ["demo"]) == []


def test_new_patch_release_of_python_keeps_the_environment(build: ModuleType, small_tree: Path) -> None:
    assert due(build, in_step(build, small_tree, ["demo"]), ["demo"], (3, 11, 9)) == []


def test_changed_source_is_compiled_and_installed_again(build: ModuleType, small_tree: Path) -> None:
    environment = in_step(build, small_tree, ["demo"])
    (small_tree / "edge/new.py").write_text("x = 1\n")
    assert due(build, environment, ["demo"]) == ["Compiling"]


def test_removed_program_is_installed_again(build: ModuleType, small_tree: Path) -> None:
    environment = in_step(build, small_tree, ["demo"])
    environment.program("wattgate").unlink()
    assert due(build, environment, ["demo"]) == ["Compiling"]


def test_further_extra_is_installed(build: ModuleType, small_tree: Path) -> None:
    assert due(build, in_step(build, small_tree, ["demo"]), ["demo", "dev"]) == ["Installing", "Compiling"]


def test_changed_pin_is_installed(build: ModuleType, small_tree: Path) -> None:
    environment = in_step(build, small_tree, ["demo"])
    project = small_tree / "pyproject.toml"
    project.write_text(project.read_text().replace('"tinydb==4.9.0"', '"tinydb==4.8.0"'))
    assert due(build, environment, ["demo"]) == ["Installing", "Compiling"]


@pytest.mark.parametrize("torn", ["", "[]", '{"python": "3.1'])
def test_other_python_or_torn_notes_make_everything_anew(build: ModuleType, small_tree: Path, torn: str) -> None:
    environment = in_step(build, small_tree, ["demo"])
    assert due(build, environment, ["demo"], (3, 13, 0)) == ["Making", "Installing", "Compiling"]
    (environment.folder / "built.json").write_text(torn)
    assert due(build, environment, ["demo"]) == ["Making", "Installing", "Compiling"]


def test_stale_build_folder_is_gone_before_installing(
    build: ModuleType, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = in_step(build, small_tree, ["demo"])
    stale = small_tree / "build/lib/edge/removed.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    seen: list[bool] = []
    monkeypatch.setattr(build, "run_step", lambda title, command, log: seen.append(stale.exists()))
    environment.install_tree("Installing", "hash")
    assert seen == [False]
    assert environment.read_built()["tree"] == "hash"


def test_failed_installation_is_not_noted_as_done(
    build: ModuleType, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(title: str, command: list[str], log: Path) -> None:
        raise build.StepFailed(title)

    environment = in_step(build, small_tree, ["demo"])
    monkeypatch.setattr(build, "run_step", fail)
    with pytest.raises(build.StepFailed):
        environment.install_tree("Installing", "hash")
    assert due(build, environment, ["demo"]) == ["Compiling"]


def test_failed_step_shows_the_end_of_its_log_and_where_it_is(build: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    script = "for n in range(100): print('line', n)\nraise SystemExit(3)"
    with pytest.raises(build.StepFailed) as failed:
        build.run_step("[1/1] Installing", [sys.executable, "-c", script], log)
    assert "line 99" in str(failed.value)
    assert "line 50" not in str(failed.value)
    assert str(failed.value).endswith(f"The whole log: {log}")


def test_second_build_waits_until_the_first_has_set_up(build: ModuleType, tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        with build.only_one(tmp_path), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_clean_removes_what_was_made_and_nothing_else(
    build: ModuleType, small_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted(path for path in small_tree.rglob("*") if path.is_file())
    for name in (".venv/bin/python", ".venv-3.13/x", "build/x", "edge/__pycache__/x.pyc", ".mypy_cache/x"):
        (small_tree / name).parent.mkdir(parents=True)
        (small_tree / name).touch()
    monkeypatch.setattr(build, "ROOT", small_tree)
    assert build.main(["clean"]) == 0
    assert sorted(path for path in small_tree.rglob("*") if path.is_file()) == kept


def test_our_python_is_not_led_to_other_modules(build: ModuleType) -> None:
    environment = {"PYTHONPATH": "/x", "PYTHONHOME": "/y", "PATH": "/bin"}
    assert build.clean_environment(environment) == {"PATH": "/bin", "PYTHONSAFEPATH": "1"}


# ---- what is installed


def test_every_dependency_is_pinned_and_installed_as_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    lines += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    lines += project["tool"]["wattgate"]["constraints"]
    pins = {normal(line.split("==")[0]): line.split("==")[1] for line in lines}
    installed = {normal(found.metadata["Name"]): found.version for found in importlib.metadata.distributions()}
    ours = {name: version for name, version in installed.items() if name not in ("pip", "wattgate")}
    assert {name: version for name, version in ours.items() if pins.get(name) != version} == {}


def normal(name: str) -> str:
    """A distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_data_file_of_the_tree_is_installed() -> None:
    not_installed = (".md", ".png", ".pyc", ".so", ".o")  # pages and pictures for people who read the tree
    tools = {"__pycache__", "bench", "fuzz", "proof"}  # the last three serve build.py, from the tree
    missing = []
    for package in ("edge", "native", "cloud_sync", "hw"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        installed = Path(spec.origin).parent
        for path in (ROOT / package).rglob("*"):
            wanted = path.is_file() and path.suffix not in not_installed and not tools & {*path.parts}
            if wanted and not (installed / path.relative_to(ROOT / package)).exists():
                missing.append(path.relative_to(ROOT).as_posix())
    assert missing == []


# ---- the suite's own rules


@pytest.fixture
def run_suite(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs pytest on the given test text, under the conftest of this suite."""

    def run(text: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
        (tmp_path / "tests/test_it.py").write_text(text)
        return pytest_in(tmp_path, *arguments, WATTGATE_TREE="1", **variables)

    return run


def pytest_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m pytest` in a folder, with none of our variables but those given."""
    ours = ("WATTGATE_", "PYTHONPATH", "PYTHONSAFEPATH", "PYTEST_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | variables
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


NEEDY = """
import pytest
@pytest.mark.needs_program("sh")
def test_with_a_program_that_is_there(): assert 1 + 1 == 2
@pytest.mark.needs_program("no-such-program")
def test_with_a_program_that_is_not(): assert 1 + 1 == 3
"""


def test_missing_program_is_named_at_the_end(run_suite: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_suite(NEEDY)
    assert done.returncode == 0
    assert "1 test: needs no-such-program (Debian: no-such-program)" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_skip_fails_the_run_where_nothing_may_be_skipped(
    run_suite: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert run_suite(NEEDY, WATTGATE_NO_SKIP="1").returncode == 1
    assert run_suite(NEEDY, "-n", "1", WATTGATE_NO_SKIP="1").returncode == 1


def test_slow_test_runs_only_when_asked_for(run_suite: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    text = "import pytest\n@pytest.mark.slow\ndef test_slow_thing(): assert 1 + 1 == 3\ndef test_quick_thing(): pass\n"
    assert run_suite(text).returncode == 0
    assert run_suite(text, "--slow").returncode == 1


def test_tests_refuse_to_run_on_the_source_tree() -> None:
    done = pytest_in(ROOT, "--collect-only", "tests/tidy")
    assert done.returncode == 4
    assert "the tests run on the installed package, but `edge` is" in done.stderr
