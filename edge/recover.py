"""`wattgate recover`: opens a new epoch on a gateway in RECOVERY, by a permit in a file.

The same signed `resync` order that the cloud would send: same bytes, same check. A gateway that pins
no keys takes no orders and no payments, so there the person at its command line is the operator.
Exit status: 0 the epoch is open, 2 it is not, and why.
"""

import argparse
import sys
from pathlib import Path

RECOVER_EXAMPLE = """example:
  wattgate recover --config /etc/wattgate/gateway.toml                        says whether it is needed, and why
  wattgate recover --config /etc/wattgate/gateway.toml --permit resync.bin    a signed order, as the cloud sends it
  wattgate recover --config gateway.toml --epoch 2                            only where no keys are pinned
"""
EXIT_BAD_INPUT = 2
PERMIT_BYTES_MAX = 4096


def add_recover_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `recover` to the commands of `wattgate`."""
    recover = commands.add_parser(
        "recover",
        help="go on with a store that is not the newest",
        epilog=RECOVER_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recover.add_argument("--config", required=True, type=Path, metavar="FILE", help="the gateway's TOML file")
    way = recover.add_mutually_exclusive_group()
    way.add_argument("--permit", type=Path, metavar="FILE", help="a signed resync order")
    way.add_argument("--epoch", type=int, metavar="N", help="the epoch to open, where no keys are pinned")
    recover.set_defaults(run=_recover)


def _recover(options: argparse.Namespace) -> int:
    # The whole gateway is known there; other commands need not load it.
    import asyncio

    from edge.bootstrap import RecoverRefused, prepare, recover
    from edge.cli import gateway_clock
    from edge.config import ConfigError, read_config
    from edge.store.journal import JournalError
    from native.kernel import StaleKernel

    try:
        permit = None if options.permit is None else _read_permit(options.permit)
        config = read_config(options.config)
        said = asyncio.run(recover(prepare(config), gateway_clock(config), permit, options.epoch))
    except (ConfigError, StaleKernel, JournalError, RecoverRefused, OSError) as error:
        sys.stderr.write(f"wattgate: {error}\n")
        return EXIT_BAD_INPUT
    sys.stdout.write(f"{said}\n")
    return 0


def _read_permit(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PERMIT_BYTES_MAX + 1)
