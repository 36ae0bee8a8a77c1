"""`python -m benchmark TRIAL.yaml`: trains one trial with torch, timm, DeepSpeed, pydantic and PyYAML alone.

Runs alone, or as a rank under `torchrun` or the `deepspeed` launcher.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmark.errors import AdapterTuneError


def main(arguments: list[str] | None = None) -> int:
    """Train the trial of a YAML file and write its result; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Train one trial and write result.json, predictions.npz and checkpoint.safetensors.",
        epilog="example: python -m benchmark trial.yaml --output-dir trial-output",
    )
    parser.add_argument("trial", type=Path, metavar="TRIAL.yaml", help="the trial: backbone, dataset, method, seed")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("trial-output"), help="where the files go (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        from benchmark.standalone import run_trial_file

        run_trial_file(options.trial, options.output_dir)
    except AdapterTuneError as error:
        logging.getLogger(__name__).error("error: %s", error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
