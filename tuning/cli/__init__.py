"""The program `adaptertune`: where all parts are put together. Heavy packages are imported inside commands."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    from benchmark.garbage import lasting_imports

    with lasting_imports():
        from tuning.cli.app import run
    sys.exit(run(sys.argv[1:]))
