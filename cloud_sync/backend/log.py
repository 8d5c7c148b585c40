"""The log of the backend: one line of JSON for each event, on stderr. `at`: Unix seconds with three digits."""

import json
import sys
import time
from typing import Any


def say(event: str, **details: Any) -> None:
    """Writes one line."""
    line = {"at": round(time.time(), 3), "event": event, **details}
    sys.stderr.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stderr.flush()
