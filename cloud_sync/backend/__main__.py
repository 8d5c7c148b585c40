"""`python -m cloud_sync.backend`: what `wattgate backend run` does, without the other commands."""

import argparse
import sys

from cloud_sync.backend.run_command import add_run_options, run_backend


def main() -> int:
    """The exit status: 0 after an orderly end, 1 when it failed later, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m cloud_sync.backend", description=__doc__)
    add_run_options(parser)
    return run_backend(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
