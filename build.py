#!/usr/bin/env python3
"""One command line for people who build Wattgate. Standard library only, so a bare machine can run it.

`setup` keeps one virtual environment, `.venv`, in step with this tree: it holds the pinned
dependencies and Wattgate itself, installed (not linked), with its C compiled. What was done is
noted in `.venv/built.json`, so a second start does only what has changed. Times are seconds.

Exit status: 0 done, 1 something failed (the end of its log is shown), 2 something is missing on
this machine or was asked wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

FEATURES_BEGIN, FEATURES_END = "<!-- features: made by build.py features -->", "<!-- end of features -->"
PYTHON_MIN = (3, 11)
PYTHON_MINORS = (11, 12, 13)  # supported; `test --all-pythons` runs on both ends of what is installed
PACKAGES = ("edge", "native", "cloud_sync", "hw")
EXTRAS = ("console", "demo")  # what running needs; `test` adds dev
WORKERS_MAX = 4  # processes of pytest
LOG_TAIL_LINES = 25
LEFT_BEHIND = (
    "build",
    "wattgate.egg-info",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    if sentence := wrong_python(sys.version_info[:2]):
        return complain(sentence)
    options = read_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = options.run(options)
    except Refused as refused:
        return complain(str(refused))
    except StepFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    return status


class Refused(Exception):
    """This machine lacks something, or the command was asked wrongly: exit status 2."""


class StepFailed(Exception):
    """A step ended badly. The text is what a person needs to see."""


def complain(sentence: str) -> int:
    """Says on stderr why nothing was done. Returns exit status 2."""
    print(f"build.py: {sentence}", file=sys.stderr)
    return 2


def wrong_python(version: tuple[int, ...]) -> str | None:
    """The sentence for a Python that is too old, None for a good one."""
    if version >= PYTHON_MIN:
        return None
    found = ".".join(str(part) for part in version)
    return (
        f"Wattgate needs Python 3.11 or newer, this is {found} ({sys.executable}). "
        "Debian 12 and 13 bring a newer one as /usr/bin/python3."
    )


# ---- the command line


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of one command; `options.run` is the function that does it."""
    parser = argparse.ArgumentParser(
        prog="build.py",
        description="Builds, shows and tests Wattgate.",
        epilog="Start with: python3 build.py demo",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run, command=name)
        return command

    add("setup", run_setup, "make .venv with everything in it, .venv/bin/wattgate too", "python3 build.py setup")
    demo = add(
        "demo",
        run_demo,
        "set up, then show a street of prepaid meters, its console and its cloud",
        "python3 build.py demo --seconds 100 --json",
    )
    demo.add_argument("--seconds", type=float, metavar="N", help="end by itself after N seconds (else: Ctrl-C)")
    demo.add_argument("--speed", type=float, metavar="X", help="accounting seconds per second (8640: a day in 10 s)")
    demo.add_argument("--port", type=int, metavar="P", help="first port to try for the console (8080)")
    demo.add_argument("--json", action="store_true", help="the last line on stdout is one JSON object: what happened")
    demo.add_argument(
        "--data", metavar="DIR", help="keep journal, site book and cloud database in DIR, go on from there"
    )
    test = add(
        "test",
        run_test,
        "set up, then check style and types and run the tests; what is not listed here goes to pytest",
        "python3 build.py test tests/core -k tiers",
    )
    test.add_argument("--all-pythons", action="store_true", help="run pytest on the other end of Python 3.11..3.13 too")
    test.set_defaults(pytest_arguments=[])
    add_kernel_commands(add)
    add(
        "features",
        run_features,
        "write the feature table of edge/core/README.md anew from features.json",
        "python3 build.py features",
    )
    add("clean", run_clean, "remove what the other commands made", "python3 build.py clean")

    options, rest = parser.parse_known_args(arguments)
    options.given = list(arguments[1:])
    if options.command == "test":
        options.pytest_arguments = rest
    elif rest:
        parser.error(f"unknown: {' '.join(rest)} (python3 build.py {options.command} --help lists what there is)")
    return options


def add_kernel_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Commands about the C."""
    add("native", run_native, "compile the C anew and show what the compiler says", "python3 build.py native")
    prove = add("prove", run_prove, "prove the kernel's contracts with Frama-C WP", "python3 build.py prove")
    prove.add_argument("--defects", action="store_true", help="each seeded defect must break the proof (slow)")
    fuzz = add(
        "fuzz",
        run_fuzz,
        "run the C against oracles with libFuzzer, ASan and UBSan, the kernel and then the line",
        "python3 build.py fuzz --seconds 60",
    )
    fuzz.add_argument("--seconds", type=int, default=60, metavar="N", help="how long (60)")
    bench = add(
        "bench",
        run_bench,
        "measure the kernel, the line master, the whole agent or the cloud beside others",
        "python3 build.py bench bus --quick",
    )
    bench.add_argument("what", choices=["tariff", "bus", "agent", "fleet"], help="what to measure")
    bench.add_argument(
        "--quick", action="store_true", help="few rounds: a first look, in half a minute (agent: in six)"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")


def run_setup(options: argparse.Namespace) -> int:
    """`build.py setup`."""
    environment = Environment(ROOT / ".venv", base_python())
    environment.prepare(EXTRAS)
    say(f"Ready: {environment.program('wattgate')}")
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """`build.py demo`: becomes `wattgate demo` with the same options."""
    environment = Environment(ROOT / ".venv", base_python())
    environment.prepare(EXTRAS)
    program = environment.program("wattgate")
    sys.stderr.flush()
    os.execve(program, [str(program), "demo", *options.given], clean_environment(os.environ))


def run_native(options: argparse.Namespace) -> int:
    """`build.py native`: compiles and installs even if nothing changed."""
    environment = Environment(ROOT / ".venv", base_python())
    environment.prepare(EXTRAS, compile_anew=True)
    log = environment.log("compile").read_text(errors="replace")
    for line in log.splitlines():
        if "warning:" in line or "error:" in line or "note:" in line:
            print(line)
    say("The kernel in .venv is built from this tree.")
    return 0


def run_prove(options: argparse.Namespace) -> int:
    """`build.py prove`: native/proof/prove.py says what is proved."""
    command = [sys.executable, str(ROOT / "native/proof/prove.py"), *options.given]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def run_fuzz(options: argparse.Namespace) -> int:
    """`build.py fuzz`: builds the harness anew and runs it; what it finds is left in .venv-fuzz."""
    if shutil.which("clang") is None:
        raise Refused("clang is missing (Debian packages clang and libclang-rt-14-dev).")
    folder = ROOT / ".venv-fuzz"
    flags = ["-std=gnu11", "-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    limits = [f"-max_total_time={options.seconds}", "-max_len=1024", "-verbosity=0", "-print_final_stats=1"]
    for name, source, corpus in (("fuzz_rate", "kernel.c", "corpus"), ("fuzz_line", "line.c", "corpus_line")):
        (folder / corpus).mkdir(parents=True, exist_ok=True)
        program = folder / name
        sources = [str(ROOT / f"native/fuzz/{name}.c"), str(ROOT / "native/src" / source)]
        built = [f"-I{ROOT / 'native/include'}", *sources, "-o", str(program)]
        run_step(f"Compiling {name}", ["clang", *flags, *built], folder / "compile.log")
        done = subprocess.run([str(program), *limits, corpus], cwd=folder, check=False)
        if done.returncode != 0:
            print(f"found something in {source}: see {folder}")
            return 1
        print(f"{source} and its oracle agree")
    return 0


BENCH_EXTRAS = {"tariff": (), "bus": ("demo",), "agent": ("console", "demo"), "fleet": ("backend",)}
BENCH_PEERS = {
    "tariff": ("nrel-pysam==7.1.1.post1", "numpy==2.4.6", "ratebook==0.1.0"),  # the last needs Python 3.12
    "bus": ("minimalmodbus==2.1.1",),  # pymodbus is the demo's already; libmodbus comes from Debian
    "agent": (),  # thingsboard-gateway pins another pymodbus and gets an environment of its own; collectd is Debian's
    "fleet": (),  # Mosquitto and PostgreSQL are Debian's
}
LIBMODBUS_PACKAGE = "libmodbus5"
THINGSBOARD_PACKAGES = ("thingsboard-gateway==3.8.5", "pymodbus==3.9.2")
COLLECTD_PACKAGE = "collectd-core"


def run_bench(options: argparse.Namespace) -> int:
    """`build.py bench tariff|bus|agent|fleet`: in an environment of its own, with the peers it compares with."""
    environment = Environment(ROOT / ".venv-bench", newest_python())
    environment.prepare(BENCH_EXTRAS[options.what])
    for peer in BENCH_PEERS[options.what]:
        try:
            run_step(f"Installing {peer}", environment.pip(peer), environment.log(peer.partition("=")[0]))
        except StepFailed as failed:
            say(f"{failed}\n{peer} is not compared.")
    preparations: dict[str, Callable[[Environment], list[str]]] = {
        "tariff": prepare_tariff_bench,
        "bus": prepare_bus_bench,
        "agent": prepare_agent_bench,
        "fleet": lambda _environment: ["-P", "-m", "hw.sim.fleet.bench"],
    }
    prepared = preparations[options.what](environment)
    flags = [flag for flag in ("--quick", "--json") if flag in options.given]
    command = [str(environment.program("python")), *prepared, *flags]
    return subprocess.run(command, cwd=ROOT, env=clean_environment(os.environ), check=False).returncode


def prepare_tariff_bench(environment: Environment) -> list[str]:
    """Compiles what it compares with. Returns what Python is given to run."""
    library = environment.folder / "plain_loop.so"
    source = str(ROOT / "native/bench/plain_loop.c")
    compiling = ["gcc", "-std=c11", "-O3", "-shared", "-fPIC", source, "-o", str(library)]
    run_step("Compiling the plain loop", compiling, environment.log("plain_loop"))
    return [str(ROOT / "native/bench/bench_tariff.py"), "--loop", str(library)]


def prepare_bus_bench(environment: Environment) -> list[str]:
    """Compiles the paced line and looks for libmodbus. Returns what Python is given to run."""
    program = environment.folder / "paced_line"
    source = str(ROOT / "hw/sim/bench_bus/paced_line.c")
    run_step(
        "Compiling the paced line", ["gcc", "-std=gnu11", "-O2", source, "-o", str(program)], environment.log("line")
    )
    library = find_libmodbus(environment)
    found = ["--libmodbus", str(library)] if library else []
    return ["-m", "hw.sim.bench_bus", "--line", str(program), *found]


def find_libmodbus(environment: Environment) -> Path | None:
    """libmodbus.so.5: the system's, or unpacked from Debian's package beside the environment, installed nowhere."""
    places = [environment.folder / "libmodbus", Path("/usr/lib"), Path("/usr/local/lib")]
    if found := first_file(places, "libmodbus.so.5"):
        return found
    folder = unpacked(environment, "libmodbus", LIBMODBUS_PACKAGE)
    return first_file([folder], "libmodbus.so.5") if folder else None


def prepare_agent_bench(environment: Environment) -> list[str]:
    """Compiles the meters, installs the gateways compared with. Returns what Python is given to run."""
    program = environment.folder / "meters"
    source = str(ROOT / "hw/sim/bench_agent/meters.c")
    run_step(
        "Compiling the meters", ["gcc", "-std=gnu11", "-O2", source, "-o", str(program)], environment.log("meters")
    )
    thingsboard = install_thingsboard(environment)
    collectd = unpacked(environment, "collectd", COLLECTD_PACKAGE, LIBMODBUS_PACKAGE)
    peers = {"--thingsboard": thingsboard, "--collectd": collectd}
    found = [part for option, place in peers.items() if place is not None for part in (option, str(place))]
    return ["-m", "hw.sim.bench_agent", "--meters", str(program), *found]


def install_thingsboard(environment: Environment) -> Path | None:
    """The Python that thingsboard-gateway is installed in, beside the environment; None if it cannot be."""
    folder = environment.folder / "thingsboard"
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists():
        return python
    try:
        making = [str(environment.program("python")), "-m", "venv", "--clear", str(folder)]
        run_step("Making an environment for thingsboard-gateway", making, environment.log("thingsboard-venv"))
        installing = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *THINGSBOARD_PACKAGES]
        run_step("Installing thingsboard-gateway", installing, environment.log("thingsboard"))
    except StepFailed as failed:
        say(f"{failed}\nthingsboard-gateway is not compared.")
        return None
    done.touch()
    return python


def unpacked(environment: Environment, name: str, *packages: str) -> Path | None:
    """Debian packages, fetched and unpacked in a folder of the environment, installed nowhere; None if that fails."""
    folder = environment.folder / name
    done = folder / "unpacked"
    if done.exists():
        return folder
    folder.mkdir(exist_ok=True)
    script = 'cd "$0" && apt-get download "$@" && for file in *.deb; do dpkg-deb -x "$file" .; done'
    try:
        run_step(f"Fetching {name}", ["sh", "-ec", script, str(folder), *packages], environment.log(name))
    except StepFailed as failed:
        say(f"{failed}\n{name} is not compared.")
        return None
    done.touch()
    return folder


def first_file(folders: Sequence[Path], name: str) -> Path | None:
    """The first file of that name below one of the folders."""
    return next((path for folder in folders if folder.is_dir() for path in sorted(folder.rglob(name))), None)


def newest_python() -> Path:
    """The newest supported Python that can compile for itself: not every peer takes an old one."""
    for python in reversed(find_pythons().values()):
        facts = probe_python(python)
        if facts is not None and not missing_packages(facts):
            return python
    return base_python()


def run_features(_options: argparse.Namespace) -> int:
    """Puts the table of features.json between the marks of the core's README."""
    folder = ROOT / "edge" / "core"
    readme = folder / "README.md"
    rows = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    readme.write_text(with_feature_table(readme.read_text(encoding="utf-8"), rows), encoding="utf-8")
    say(f"{len(rows)} features in {readme.relative_to(ROOT)}")
    return 0


def with_feature_table(text: str, rows: Sequence[Mapping[str, str]]) -> str:
    """A README with the table of features between its two marks."""
    before, _, rest = text.partition(FEATURES_BEGIN)
    _, _, after = rest.partition(FEATURES_END)
    lines = ["| from | feature | shown by |", "|---|---|---|"]
    for row in rows:
        file, _, name = row["test"].partition("::")
        test = f"[{name}](../../{file})"
        lines.append(f"| {row['standard']} | {row['feature']} | {test} |")
    table = "\n".join(lines)
    return f"{before}{FEATURES_BEGIN}\n{table}\n{FEATURES_END}{after}"


def run_clean(options: argparse.Namespace) -> int:
    """`build.py clean`."""
    made = [ROOT / name for name in LEFT_BEHIND]
    made += ROOT.glob(".venv*")
    for folder in (*PACKAGES, "tests"):
        made += (ROOT / folder).rglob("__pycache__")
    made.append(ROOT / "__pycache__")
    for path in made:
        if path.exists():
            shutil.rmtree(path)
            say(f"Removed {path.relative_to(ROOT)}")
    return 0


# ---- the tests


def run_test(options: argparse.Namespace) -> int:
    """`build.py test`: style, types, tests; everything is run even if something before it failed."""
    began = time.monotonic()
    environment = Environment(ROOT / ".venv", base_python())
    # The oracle is 220 MB: only where nothing may be skipped.
    extras = (*EXTRAS, "backend", "gpio", "dev", *(("oracle",) if os.environ.get("WATTGATE_NO_SKIP") == "1" else ()))
    environment.prepare(extras)
    results = {
        "ruff check": run_check(environment, "ruff", "check"),
        "ruff format": run_check(environment, "ruff", "format", "--check"),
    }
    with ThreadPoolExecutor(1) as beside:
        types = beside.submit(run_check, environment, "mypy")  # while the tests wait for their demo
        results[f"pytest on {environment.python_name}"] = run_pytest(environment, options.pytest_arguments)
        results["mypy"] = types.result()
    if options.all_pythons:
        for python in other_ends(find_pythons(), environment.python_name):
            other = Environment(ROOT / f".venv-{python_name(python)}", python)
            other.prepare(extras)
            # What is slow says the same on every Python: once is enough.
            quick = [argument for argument in options.pytest_arguments if argument != "--slow"]
            results[f"pytest on {other.python_name}"] = run_pytest(other, quick)
    for name, failures in results.items():
        say(f"{'passed' if failures is None else 'FAILED'}  {name}{failures or ''}")
    say(f"{time.monotonic() - began:.0f} s in all")
    return 0 if all(failures is None for failures in results.values()) else 1


def run_check(environment: Environment, program: str, *arguments: str) -> str | None:
    """One checker over the tree: None, or its words, which are shown at once and again at the end of a run."""
    command = [str(environment.program(program)), *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(os.environ),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    say(f"{' '.join((program, *arguments))}: {'clean' if done.returncode == 0 else 'found something'}")
    if done.returncode == 0:
        return None
    print(done.stdout, flush=True)
    if arguments[:1] == ("format",):
        say("`.venv/bin/ruff format` writes it the agreed way.")
    return indented(done.stdout)


def run_pytest(environment: Environment, arguments: Sequence[str]) -> str | None:
    """The tests, on what is installed (not `python -m pytest`, which would import this tree): None, or what failed."""
    say(f"pytest on Python {environment.python_name}")
    pytest, spread = str(environment.program("pytest")), parallel(arguments)
    # Tests are compiled with their assertions spelt out, which takes longer than to run most of them: it is kept.
    kept = {key: value for key, value in clean_environment(os.environ).items() if key != "PYTHONDONTWRITEBYTECODE"}
    if spread and not tests_are_compiled(ROOT, environment.python_name):  # once, or each process does it for itself
        subprocess.run([pytest, "--collect-only", "-qq"], cwd=ROOT, env=kept, capture_output=True, check=False)
    with tempfile.TemporaryDirectory(prefix="wattgate-tests-") as folder:
        report = Path(folder, "junit.xml")
        command = [pytest, *spread, f"--junit-xml={report}", *arguments]
        status = subprocess.run(command, cwd=ROOT, env=kept, check=False).returncode
        return None if status == 0 else failed_tests(report)


def failed_tests(report: Path) -> str:
    """The tests that failed, each with the end of its trace, out of pytest's `report`.

    Of a long run often only the end is kept: what failed must be in it.
    """
    if not report.exists():
        return indented("pytest ended before it could say which tests failed")
    told = []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        for failure in (*case.iter("failure"), *case.iter("error")):
            last = (failure.text or failure.get("message") or "").strip().splitlines()[-LOG_TAIL_LINES:]
            told.append("\n".join((f"{case.get('classname')}::{case.get('name')}", *last)))
    return indented("\n\n".join(told) or "no test is reported as failed")


def indented(text: str) -> str:
    """Lines under the one that names them."""
    return "".join(f"\n    {line}" for line in text.strip().splitlines())


def tests_are_compiled(root: Path, python_name: str) -> bool:
    """Whether pytest has left its bytecode of the tests for a Python `3.13`."""
    compiled = root.glob(f"tests/*/__pycache__/*.cpython-{python_name.replace('.', '')}-pytest-*.pyc")
    return next(compiled, None) is not None


def parallel(arguments: Sequence[str]) -> list[str]:
    """Spreads the tests over the cores, unless pytest's arguments say how to run them."""
    workers = min(WORKERS_MAX, len(os.sched_getaffinity(0)) + 2)  # one waits for the demo, one for a line
    own = ("-n", "--numprocesses", "--pdb", "--trace", "-s", "--collect-only", "-p")
    if any(argument.startswith(own) for argument in arguments):
        return []
    return ["-n", str(workers), "--dist", "worksteal"]


# ---- Pythons


PROBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "prefix": sys.base_prefix,
    "has_venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "header": os.path.join(sysconfig.get_path("include"), "Python.h"),
    "has_header": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "compiler": (os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc").split()[0],
}))
"""


@dataclass(frozen=True)
class PythonFacts:
    """What one Python says of itself: can it make an environment and compile for itself?"""

    version: tuple[int, int, int]
    prefix: str
    has_venv: bool
    header: str
    has_header: bool
    compiler: str


def base_python() -> Path:
    """The Python that runs this file, or the one under it when that is a virtual environment's."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable)


def probe_python(python: Path) -> PythonFacts | None:
    """Asks a Python what it has; None if it does not run (a shim of a version manager may not)."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run([str(python), "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True)
        facts = json.loads(done.stdout)
        facts["version"] = tuple(facts["version"])
        return PythonFacts(**facts)
    return None


def python_name(python: Path) -> str:
    """Its version as `3.13`."""
    facts = probe_python(python)
    if facts is None:
        raise Refused(f"{python} does not run.")
    return f"{facts.version[0]}.{facts.version[1]}"


def find_pythons() -> dict[str, Path]:
    """The supported Pythons of this machine that run: on PATH, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found: dict[str, Path] = {}
    for minor in PYTHON_MINORS:
        name = f"3.{minor}"
        on_path = [Path(folder) / f"python{name}" for folder in os.get_exec_path()]
        for python in [*on_path, *sorted(pyenv.glob(f"{name}.*/bin/python{name}"))]:
            if python.exists() and name not in found and probe_python(python) is not None:
                found[name] = python
    return found


def other_ends(pythons: Mapping[str, Path], current: str) -> list[Path]:
    """The oldest and the newest of them, without the one that was tested already."""
    names = sorted(pythons, key=lambda name: int(name.split(".")[1]))
    ends = dict.fromkeys([*names[:1], *names[-1:]])
    return [pythons[name] for name in ends if name != current]


def missing_packages(facts: PythonFacts, find: Callable[[str], str | None] = shutil.which) -> list[tuple[str, str]]:
    """Pairs of (what is missing, the Debian package that brings it)."""
    suffix = "" if facts.prefix == "/usr" and is_default_python(facts) else f".{facts.version[1]}"
    missing: list[tuple[str, str]] = []
    if not facts.has_venv:
        missing.append(("the module ensurepip", f"python3{suffix}-venv"))
    if not facts.has_header:
        missing.append((facts.header, f"python3{suffix}-dev"))
    if find(facts.compiler) is None:
        missing.append((f"the C compiler {facts.compiler}", "gcc"))
    return missing


def is_default_python(facts: PythonFacts) -> bool:
    """Whether it is the Python that Debian's `python3` means (its packages carry no minor version)."""
    default = Path("/usr/bin/python3")
    return not default.exists() or default.resolve().name == f"python3.{facts.version[1]}"


# ---- the environment


@dataclass
class Environment:
    """One virtual environment, brought in step with the tree by `prepare`."""

    folder: Path
    base: Path
    root: Path = ROOT
    built: dict[str, Any] = field(default_factory=dict)

    @property
    def python_name(self) -> str:
        """The version of its Python as `3.13`."""
        return str(self.built["python"])

    def program(self, name: str) -> Path:
        """A program installed in it."""
        return self.folder / "bin" / name

    def log(self, name: str) -> Path:
        """Where the output of a step goes."""
        return self.folder / "log" / f"{name}.log"

    def prepare(self, extras: Sequence[str], compile_anew: bool = False) -> None:
        """Does what is missing, and nothing else. Extras once installed stay."""
        began = time.monotonic()
        with only_one(self.root):
            facts = probe_python(self.base)
            if facts is None:
                raise Refused(f"{self.base} does not run.")
            steps = self.due(facts, read_project(self.root), extras, compile_anew)
            if not steps:
                return
            refuse_missing(facts)
            for number, (title, step) in enumerate(steps, 1):
                step(f"[{number}/{len(steps)}] {title}")
            say(f"{self.folder.name} is in step with this tree ({time.monotonic() - began:.0f} s)")

    def due(
        self, facts: PythonFacts, project: Mapping[str, Any], extras: Sequence[str], compile_anew: bool
    ) -> list[tuple[str, Callable[[str], None]]]:
        """The steps that are needed, as (title, function of the title shown)."""
        version = ".".join(str(part) for part in facts.version[:2])
        identity = {"python": version, "prefix": facts.prefix, "folder": str(self.folder)}
        self.built = self.read_built()
        steps: list[tuple[str, Callable[[str], None]]] = []
        if {key: self.built.get(key) for key in identity} != identity or not self.program("python").exists():
            self.built = dict(identity)
            steps.append((f"Making {self.folder.name} with Python {version}", self.make_folder))
        wanted = sorted({*extras, *self.built.get("extras", [])} & set(optional(project)))
        pins = pinned(project, wanted)
        if self.built.get("pins") != pins:
            title = f"Installing {len(pins['wanted'])} pinned packages and what they need"
            steps.append((title, lambda shown: self.install_pins(shown, wanted, pins)))
        tree = tree_hash(self.root)
        if compile_anew or steps or self.built.get("tree") != tree or not self.program("wattgate").exists():
            steps.append(("Compiling the C, installing Wattgate", lambda shown: self.install_tree(shown, tree)))
        return steps

    def make_folder(self, shown: str) -> None:
        """A new, empty environment, in place of what stood there."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.log("venv").parent.mkdir(parents=True)
        run_step(shown, [str(self.base), "-m", "venv", str(self.folder)], self.log("venv"))
        self.write_built()

    def install_pins(self, shown: str, extras: Sequence[str], pins: Mapping[str, list[str]]) -> None:
        """The dependencies; what they pull in is pinned by a constraints file."""
        constraints = self.folder / "constraints.txt"
        constraints.write_text("\n".join(pins["constraints"]) + "\n")
        run_step(shown, self.pip("--constraint", str(constraints), *pins["wanted"]), self.log("packages"))
        self.built.update(extras=list(extras), pins=dict(pins))
        self.write_built()

    def install_tree(self, shown: str, tree: str) -> None:
        """Wattgate itself, from a clean build: a stale build folder would feed it removed files."""
        self.remove_leavings()
        only_ours = ("--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall")
        command = self.pip("--verbose", *only_ours, str(self.root))
        self.built.pop("tree", None)
        self.write_built()
        try:
            run_step(shown, command, self.log("compile"))
        finally:
            self.remove_leavings()
        self.built["tree"] = tree
        self.write_built()

    def pip(self, *arguments: str) -> list[str]:
        """The command that installs into it."""
        return [str(self.program("python")), "-m", "pip", "install", "--disable-pip-version-check", *arguments]

    def remove_leavings(self) -> None:
        """What setuptools leaves in the tree."""
        for name in ("build", "wattgate.egg-info"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def read_built(self) -> dict[str, Any]:
        """What stands in `built.json`; nothing if it is not there or torn."""
        try:
            built = json.loads((self.folder / "built.json").read_text())
        except (OSError, ValueError):
            return {}
        return built if isinstance(built, dict) else {}

    def write_built(self) -> None:
        """Notes what is installed, in one move."""
        new = self.folder / "built.json.new"
        new.write_text(json.dumps(self.built, indent=1) + "\n")
        new.replace(self.folder / "built.json")


def refuse_missing(facts: PythonFacts) -> None:
    """Refuses with everything that is missing at once, and the command that brings it."""
    missing = missing_packages(facts)
    if missing:
        lines = "".join(f"\n  {what} is missing (Debian package {package})" for what, package in missing)
        packages = " ".join(package for _, package in missing)
        raise Refused(f"this machine is not complete:{lines}\nInstall with: sudo apt install {packages}")


def read_project(root: Path) -> dict[str, Any]:
    """pyproject.toml as it is."""
    import tomllib  # not at the top: an older Python must get as far as its sentence

    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def optional(project: Mapping[str, Any]) -> Mapping[str, list[str]]:
    """The extras by name."""
    extras: Mapping[str, list[str]] = project["project"]["optional-dependencies"]
    return extras


def pinned(project: Mapping[str, Any], extras: Sequence[str]) -> dict[str, list[str]]:
    """What to install for these extras (the build's own needs too), and the pins for what that pulls in."""
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in extras:
        wanted += optional(project)[extra]
    return {"wanted": sorted(set(wanted)), "constraints": project["tool"]["wattgate"]["constraints"]}


def tree_hash(root: Path) -> str:
    """SHA-256 over everything that is installed: paths and contents, in a fixed order."""
    digest = hashlib.sha256()
    for path in tree_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def tree_files(root: Path) -> list[Path]:
    """The files that the installed package is made of."""
    files = [root / name for name in ("LICENSE", "pyproject.toml")]
    for package in PACKAGES:
        for folder, folders, names in os.walk(root / package):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
            files += [Path(folder) / name for name in names if not name.endswith((".pyc", ".so", ".o"))]
    return sorted(path for path in files if path.is_file())


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Holds off a second build.py in the same tree until this one has set up."""
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another build.py that is setting up this tree")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# ---- running and telling


def run_step(title: str, command: Sequence[str], log: Path) -> None:
    """Runs a program with its output in a log, showing how long it takes; shows the end of the log if it fails."""
    began = time.monotonic()
    live = sys.stderr.isatty()
    print(f"{title} ...", end="" if live else "\n", file=sys.stderr, flush=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=clean_environment(os.environ),
        )
        while True:
            try:
                status = process.wait(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if live:
                    print(f"\r{title} ... {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
            except BaseException:
                process.terminate()
                process.wait()
                raise
    seconds = f"{time.monotonic() - began:.1f} s"
    if status != 0:
        print(f"\r{title} ... failed after {seconds}", file=sys.stderr)
        raise StepFailed(log_end(title, log))
    if live:
        print(f"\r{title} ... {seconds}", file=sys.stderr)


def log_end(title: str, log: Path) -> str:
    """The last lines of a log, and where the rest stands."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    tail = "\n".join(f"    {line}" for line in lines)
    return f"{title}: failed. The end of its log:\n{tail}\nThe whole log: {log}"


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would make our Python import something else than what is installed.

    PYTHONSAFEPATH keeps `python -m edge.cli`, started somewhere below in this folder, from importing the tree.
    """
    kept = {key: value for key, value in environment.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONSAFEPATH": "1"}


def say(line: str) -> None:
    """One line of progress. On stderr: stdout belongs to results."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
