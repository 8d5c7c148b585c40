"""The compiled module (build_kernel.py makes it): cffi's two objects."""

from typing import Any

ffi: Any
lib: Any
