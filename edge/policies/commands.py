"""`wattgate policy`: check a policy document, show the templates by segment.

Exit status: 0 done, 2 a document or a name that cannot be used, said in one sentence on standard error.
"""

import argparse
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from edge.policies.document import DOCUMENT_BYTES_MAX, PolicyDocument, PolicyRefused, load_policy

EXIT_BAD_INPUT = 2
POLICY_EXAMPLE = """example:
  wattgate policy templates                        names and titles
  wattgate policy templates cn-household > p.json
  wattgate policy check p.json --json
"""


def add_policy_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Registers `policy check` and `policy templates`."""
    shape: Any = {"epilog": POLICY_EXAMPLE, "formatter_class": argparse.RawDescriptionHelpFormatter}
    policy = subparsers.add_parser("policy", help="check policy documents, show templates", **shape)
    commands = policy.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="0: a good policy; 2: the place of the fault", **shape)
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--json", action="store_true", help="one object for programs")
    check.set_defaults(run=_check)
    templates = commands.add_parser("templates", help="the templates by segment", **shape)
    templates.add_argument("name", nargs="?", metavar="NAME")
    templates.add_argument("--json", action="store_true", help="one object for programs")
    templates.set_defaults(run=_templates)


def template_names() -> list[str]:
    """Names of all templates, in the order of the alphabet."""
    names = (entry.name for entry in (files("edge.policies") / "templates").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def template_text(name: str) -> str:
    """A template as it is kept, JSON text. KeyError for a name that is none."""
    if name not in template_names():
        raise KeyError(name)
    return (files("edge.policies") / "templates" / f"{name}.json").read_text("utf-8")


def _check(options: argparse.Namespace) -> int:
    try:
        with options.file.open("rb") as file:
            text = file.read(DOCUMENT_BYTES_MAX + 1).decode("utf-8")
        document = load_policy(text, signed_by="check")
    except (OSError, UnicodeDecodeError, PolicyRefused) as error:
        sys.stderr.write(f"wattgate policy: {options.file}: {error}" + "\n")
        return EXIT_BAD_INPUT
    _say(json.dumps(_facts(document)) if options.json else _line(document))
    return 0


def _facts(document: PolicyDocument) -> dict[str, object]:
    normal = document.normal
    return {
        "ok": True,
        "policy": f"{normal.policy_id}@{normal.version}",
        "segment": document.segment,
        "legal_profile": normal.legal_profile.value,
        "risk_levels": sorted(document.levels),
        "valid_until": normal.valid_until,
    }


def _line(document: PolicyDocument) -> str:
    levels = ", ".join(sorted(document.levels)) or "-"
    normal = document.normal
    return (
        f"{normal.policy_id}@{normal.version}  {document.segment}  {normal.legal_profile.value}  risk levels: {levels}"
    )


def _templates(options: argparse.Namespace) -> int:
    if options.name is None:
        titles = {name: json.loads(template_text(name))["title"] for name in template_names()}
        if options.json:
            _say(json.dumps(titles, ensure_ascii=False))
        else:
            for name, title in titles.items():
                _say(f"{name:20} {title['zh']} / {title['en']}")
        return 0
    try:
        sys.stdout.write(template_text(options.name))
    except KeyError:
        known = ", ".join(template_names())
        sys.stderr.write(f"wattgate policy: no template {options.name[:60]!r}; there are {known}" + "\n")
        return EXIT_BAD_INPUT
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
