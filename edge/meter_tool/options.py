"""What the commands that talk to a line have in common: options read from text, and lines of output.

`wattgate meter`, `wattgate bus` and `wattgate commission` use it. A wrong option is one sentence that says what was
found and what is allowed, and exit status 2. Baud rates in bits a second, formats as data bits, parity, stop bits.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from edge.meters.model import MeterModel, load_model, model_files
from edge.meters.records import MODBUS

EXIT_BAD_INPUT = 2
FORMATS = ("8N1", "8N2", "8E1", "8E2", "8O1", "8O2")
_DIGITS_MAX = 12


class CommandError(Exception):
    """An option that cannot be used, in one sentence."""


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers between two limits, for `type=` of an option."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} to {high}")
        return int(text)

    return number


def known_model(name: str, folder: Path | None, protocols: Sequence[str] = (MODBUS,)) -> MeterModel:
    """The model of that name, `folder` with those of one's own included. Raises CommandError, or ModelError."""
    known = model_files(folder)
    if name not in known:
        raise CommandError(f"model {name!r} is not known; there are {', '.join(known)}")
    model = load_model(name, folder)
    if model.protocol not in protocols:
        raise CommandError(f"model {name!r} speaks {model.protocol}; here it must be {' or '.join(protocols)}")
    return model


def help_of(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """What a command without its sub-command does: say what there is, and that something was missing."""

    def run(_options: argparse.Namespace) -> int:
        parser.print_help()
        return EXIT_BAD_INPUT

    return run


def print_line(text: str) -> None:
    """A line on standard output, in whatever it can show. Whoever looked at the first lines only may be gone."""
    encoding = sys.stdout.encoding or "utf-8"
    with suppress(BrokenPipeError):
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
