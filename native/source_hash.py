"""One hash over the C sources: baked into a build, and compared when it is loaded."""

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("include/kernel.h", "include/line.h", "src/kernel.c", "src/line.c")


def source_hash(folder: Path = HERE) -> str | None:
    """SHA-256 in hex over the names and bytes of the sources; None when one is not there."""
    total = hashlib.sha256()
    for name in SOURCES:
        path = folder / name
        if not path.is_file():
            return None
        content = path.read_bytes()
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
