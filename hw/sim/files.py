"""Writes a JSON file whole or not at all, so that a reader in another process never sees half of it.

Not synced to the disk: what the twin writes only has to outlive processes, not power cuts.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces `path` in one step."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(new, path)
