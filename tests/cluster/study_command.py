"""Runs `adaptertune run` as a user does, on a study that trains in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
TRAINING = {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 256, "learning_rate": 3e-3}


ONE_AT_A_TIME = {"cpus_per_worker": 2}
"""Resources that give a machine of two cores one slot: half as many processes to start as with two."""


def write_study(folder: Path, name: str, method: list[Any], seed: list[int], **parts: Any) -> Path:
    """Write a study of the bundled backbone and digits; return its file."""
    path = folder / f"{name}.yaml"
    study = {"name": name, "backbone": "vit_nano", "dataset": "digits", "method": method, "seed": seed, **parts}
    path.write_text(yaml.safe_dump({**study, "training": TRAINING}), encoding="utf-8")
    return path


def start_run(
    study: Path, output: Path, *options: str, entrance: Sequence[str] = (), **environment: str
) -> subprocess.Popen[str]:
    """Start `adaptertune run --json` in a session of its own, as a terminal would, behind another command if given."""
    return subprocess.Popen(
        [*entrance, sys.executable, "-m", "tuning", "run", str(study), "--output", str(output), "--json", *options],
        cwd=study.parent,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
