"""Builds the C of the gateway, the tariff kernel and the line wires: the extension module native._kernel, through cffi
in API mode.

`pip install .` calls BuildExt (pyproject.toml names it). `python native/build_kernel.py --inplace
[DIR]` puts the module beside the sources instead (or into DIR), for work on the kernel itself.
The declarations are taken from the headers, so they stand in one place.
"""

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))  # run as a script, and inside pip's build, the package is not importable yet

from native.source_hash import source_hash  # noqa: E402

C_SOURCES = ["native/src/kernel.c", "native/src/line.c"]
STRICT = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def make_ffi() -> FFI:
    """The module's interface: the headers' declarations and the hash of the sources."""
    headers = [HERE / "include/kernel.h", HERE / "include/line.h"]
    declarations = [header.read_text("ascii").split("/* [cffi */")[1].split("/* cffi] */")[0] for header in headers]
    ffi = FFI()
    ffi.cdef("".join(declarations) + "extern const char tariff_source_hash[65];")
    hash_line = f'const char tariff_source_hash[65] = "{source_hash()}";'
    ffi.set_source("native._kernel", f'#include "kernel.h"\n#include "line.h"\n{hash_line}')
    return ffi


class BuildExt(build_ext):
    """Adds cffi's generated wrapper, and compiles our own source with stricter flags than the wrapper stands."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        wrapper = folder / "_kernel.c"
        make_ffi().emit_c_code(str(wrapper))
        include = str(HERE / "include")
        objects = self.compiler.compile(
            C_SOURCES, output_dir=str(folder), include_dirs=[include], extra_postargs=STRICT
        )
        ext.sources, ext.include_dirs, ext.extra_objects = [str(wrapper)], [include], objects
        super().build_extension(ext)


def build_in_place(folder: Path) -> Path:
    """Builds the module into a folder and returns its path."""
    extension = Extension("native._kernel", C_SOURCES, py_limited_api=True)
    with tempfile.TemporaryDirectory() as temporary:
        command = BuildExt(Distribution({"name": "wattgate", "ext_modules": [extension]}))
        command.build_temp, command.build_lib = temporary, temporary
        command.ensure_finalized()
        command.run()
        built = Path(command.get_ext_fullpath(extension.name))
        target = folder / built.name
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f"{built.name}.new"  # a loaded module must not be written over
        new.write_bytes(built.read_bytes())
        new.chmod(0o755)
        new.replace(target)
    return target


def main() -> int:
    """Builds the module in place, as the arguments say."""
    parser = argparse.ArgumentParser(description="Compile the tariff kernel.")
    parser.add_argument("--inplace", nargs="?", type=Path, const=HERE, required=True, metavar="DIR")
    target = build_in_place(parser.parse_args().inplace)
    print(f"{target} for {sysconfig.get_platform()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
