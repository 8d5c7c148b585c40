"""The build: strict compilation, the hash baked in, and a stale build that refuses to load."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import native
from native import kernel
from native.source_hash import SOURCES, source_hash

ROOT = Path(__file__).parent.parent.parent


def load_kernel(folder: Path) -> subprocess.CompletedProcess[str]:
    """Imports the kernel of a copy of the package in a fresh interpreter."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import native.kernel; print(native.kernel.SOURCE_HASH)"
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The installed package with its compiled module, and the sources of the tree beside it."""
    shutil.copytree(Path(native.__file__).parent, tmp_path / "native")
    for name in SOURCES:
        (tmp_path / "native" / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "native" / name, tmp_path / "native" / name)
    return tmp_path


def test_compiled_kernel_belongs_to_the_sources_of_this_tree() -> None:
    assert source_hash(ROOT / "native") == kernel.SOURCE_HASH


def test_fresh_build_loads(copied: Path) -> None:
    result = load_kernel(copied)
    assert (result.returncode, result.stdout.strip()) == (0, kernel.SOURCE_HASH)


@pytest.mark.parametrize("name", SOURCES)
def test_build_of_other_sources_refuses_to_load_and_names_the_command(copied: Path, name: str) -> None:
    path = copied / "native" / name
    path.write_bytes(path.read_bytes() + b"\n")
    result = load_kernel(copied)
    assert result.returncode == 1
    assert "StaleKernel: the compiled tariff kernel is older than its sources" in result.stderr
    assert "`python3 build.py native`" in result.stderr


def test_missing_build_says_how_to_make_one(copied: Path) -> None:
    for module in (copied / "native").glob("_kernel*.so"):
        module.unlink()
    result = load_kernel(copied)
    assert result.returncode == 1
    assert "StaleKernel: the tariff kernel is not compiled: run `python3 build.py native`" in result.stderr


def test_package_alone_loads_no_kernel() -> None:
    code = "import native, sys; sys.exit('native._kernel' in sys.modules or 'native.kernel' in sys.modules)"
    folder = str(Path(native.__file__).parent.parent)
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_hash_tells_every_source_apart_and_is_absent_without_them(tmp_path: Path) -> None:
    assert source_hash(tmp_path) is None
    hashes = set()
    for contents in [(b"a", b"b", b"", b""), (b"b", b"a", b"", b""), (b"ab", b"", b"", b""), (b"", b"", b"a", b"b")]:
        for name, content in zip(SOURCES, contents, strict=True):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        hashes.add(source_hash(tmp_path))
    assert len(hashes) == 4


def words_of(name: str) -> set[str]:
    source = (ROOT / "native/src" / name).read_text("ascii")
    return set(source.replace("(", " ").replace("*", " ").replace(";", " ").split())


def test_kernel_is_free_of_what_it_must_not_use() -> None:
    banned = {"malloc", "calloc", "free", "double", "float", "__int128", "goto", "unsigned", "long", "size_t"}
    assert not words_of("kernel.c") & banned


def test_line_is_free_of_what_it_must_not_use() -> None:
    assert not words_of("line.c") & {"malloc", "calloc", "free", "double", "float", "__int128", "goto", "strcpy"}


@pytest.mark.needs_program("gcc")
@pytest.mark.parametrize("name", ["kernel.c", "line.c"])
def test_c_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror"]
    command = ["gcc", *strict, f"-I{ROOT / 'native/include'}", "-c", str(ROOT / "native/src" / name)]
    result = subprocess.run([*command, "-o", str(tmp_path / "kernel.o")], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
