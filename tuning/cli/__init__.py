"""The program `adaptertune`: where all parts are put together. Heavy packages are imported inside commands."""

from __future__ import annotations

import contextlib
import sys

from launch.interrupts import INTERRUPTED, held_interrupts

INTERRUPTION = "Interrupted. The same command goes on from here."


def main() -> None:
    """Run the command line and leave with its exit status."""
    try:
        status = _run(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anyone to say so
        sys.stderr.write(f"{INTERRUPTION}\n")
        status = INTERRUPTED
    # Where an interruption has passed through exec(), which dataclasses use, Python would end itself by the signal,
    # whatever the status; the next exec() takes that back (run_eval_code_obj in its pythonrun.c).
    exec("")  # noqa: S102
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    with contextlib.ExitStack() as stack:
        with held_interrupts():
            if _has_own_cluster(arguments):
                from launch.fork_start import started_early

                # What a run's workers import takes longer than anything else in its start.
                stack.enter_context(started_early())
            from benchmark.garbage import lasting_imports

            with lasting_imports():
                from tuning.cli.app import run
        return run(arguments)


def _has_own_cluster(arguments: list[str]) -> bool:
    asks = any(argument in ("-h", "--help") or argument.startswith("--address") for argument in arguments)
    return arguments[:1] == ["run"] and not asks
