"""Leaving a cluster: while another thread of the driver is busy, as the one is that delivers results to MLflow, and
when Ctrl-C comes while it starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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

# In a callback, as during an import, where Python itself would only say that it ignores the interruption.
INTERRUPTED = """
import pathlib, signal, tempfile, weakref
from launch.cluster import connect

class One:
    pass

def interrupt():
    one = One()
    watch = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGINT))
    del one

try:
    with connect("local", 1, meanwhile=interrupt):
        print("connected")
except KeyboardInterrupt:
    print("interrupted", list(pathlib.Path(tempfile.gettempdir()).iterdir()))
"""


def run_program(program: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.timeout(200)
def test_process_goes_on_when_references_become_garbage_while_ray_shuts_down(tmp_path: Path) -> None:
    done = run_program(PROGRAM, tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.timeout(200)
def test_interruption_while_the_node_starts_is_not_lost_and_leaves_nothing_behind() -> None:
    # Not pytest's own temporary folder: below that, Ray's sockets would have names too long.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="stop-") as folder:
        done = run_program(INTERRUPTED, Path(folder), TMPDIR=folder)
    assert (done.returncode, done.stdout) == (0, "interrupted []\n"), done.stderr
