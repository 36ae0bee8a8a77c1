"""The program `adaptertune`: where all parts are put together. Heavy packages are imported inside commands."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    from benchmark.garbage import lasting_imports

    with lasting_imports():
        from tuning.cli.app import run
    exit_status = run(sys.argv[1:])
    # On its way out Python would look through all that MLflow, Ray and pandas ever made, which takes it a second.
    gc.freeze()
    sys.exit(exit_status)
