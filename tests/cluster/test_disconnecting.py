"""Leaving a cluster while another thread of the driver is busy, as the one that delivers results to MLflow is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.study_command import REPOSITORY

# Each reference becomes garbage that only Python's collector finds, in the thread in which a collection falls due.
PROGRAM = """
import gc, threading, time
import ray
from launch.cluster import connect

class Cycle:
    pass

def drop(references):
    while references:
        one = Cycle()
        one.itself, one.reference = one, references.pop()
        del one
        time.sleep(0.0001)

gc.set_threshold(20, 1, 1)
with connect("local", 1):
    references = [ray.put(number) for number in range(20_000)]
    threading.Thread(target=drop, args=(references,), daemon=True).start()
print(len(references) > 0)
"""


@pytest.mark.timeout(200)
def test_process_goes_on_when_references_become_garbage_while_ray_shuts_down(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
