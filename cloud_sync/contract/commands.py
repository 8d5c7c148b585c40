"""`wattgate contract export`: writes all that another language needs, the same bytes each time.

Exit status: 0 written, 2 bad arguments or a folder that cannot be written.
"""

import argparse
import hashlib
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cloud_sync.contract.asyncapi import asyncapi_document
from cloud_sync.contract.schemas import schema_files
from cloud_sync.contract.vectors import vector_document

EXIT_BAD_INPUT: Final = 2
SUMS_FILE: Final = "SHA256SUMS"

EXAMPLE: Final = """example:
  wattgate contract export contract        writes contract/README.md and what it names
"""


def add_contract_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `contract` and its commands to those of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    contract = commands.add_parser("contract", help="the wire contract", epilog=EXAMPLE, formatter_class=raw)
    kinds = contract.add_subparsers(required=True, metavar="COMMAND")
    export = kinds.add_parser("export", help="write it for other languages", epilog=EXAMPLE, formatter_class=raw)
    export.add_argument("folder", type=Path, metavar="DIR", help="made if absent; files of the same names are replaced")
    export.add_argument("--json", action="store_true", help="one object for programs")
    export.set_defaults(run=_export)


def contract_files() -> dict[str, bytes]:
    """Every file of the export, by its path in the folder; the last lists the hashes of the others."""
    files = {
        "README.md": resources.files("cloud_sync.contract").joinpath("contract.md").read_bytes(),
        "asyncapi.json": _text(asyncapi_document()),
        "vectors.json": _text(vector_document()),
    }
    files |= {f"schemas/{name}.json": _text(schema) for name, schema in schema_files().items()}
    files = dict(sorted(files.items()))
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return {**files, SUMS_FILE: "".join(lines).encode()}


def _text(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _export(options: argparse.Namespace) -> int:
    files = contract_files()
    try:
        for name, content in files.items():
            path = options.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        sys.stderr.write(f"wattgate contract export: {error}\n")
        return EXIT_BAD_INPUT
    facts = {"folder": str(options.folder), "files": list(files), "bytes": sum(map(len, files.values()))}
    line = f"{options.folder}: {len(files)} files, {facts['bytes']} bytes; begin with README.md"
    sys.stdout.write((json.dumps(facts) if options.json else line) + "\n")
    return 0
