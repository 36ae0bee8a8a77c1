"""A cluster for the tests of one file, and what it must leave behind: nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import cluster
from tests.cluster.aftermath import orphaned_shared_memory, shared_memory_files, short_folder
from tests.cluster.fake_study import PROGRAMS_FOLDER, own_children
from tuning import packing, scheduler

# Ray starts its workers with a niceness of 15: beside other work on two cores they would hardly get any time.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(scope="module")
def decoy_folder(tmp_path_factory) -> Path:
    """A folder whose own packages have the names of the suite's."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("benchmark", "reports", "tests"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('a decoy was imported')\n")
    (folder / "launch.py").write_text("raise ImportError('a decoy was imported')\n")
    return folder


@pytest.fixture(scope="module")
def connected(decoy_folder):
    """One cluster for the whole module, started from a folder full of decoys; at the end nothing of it is left."""
    shared_memory, home = shared_memory_files(), set(Path.home().iterdir())
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(decoy_folder):
        patch.setenv("PYTHONPATH", PROGRAMS_FOLDER)
        with cluster.connect("local", num_cpus=2) as connection:
            folder = Path(connection.sources.folder).parent
            assert folder.exists()
            yield connection
    assert not folder.exists()
    assert orphaned_shared_memory(shared_memory) == []
    assert set(Path.home().iterdir()) <= home
    assert own_children() == []


@pytest.fixture
def shared_cluster(connected, monkeypatch):
    """Lets `run_trials` use the module's cluster instead of starting its own."""

    @contextlib.contextmanager
    def already_connected(address, num_cpus=None, meanwhile=None, preload=None):
        yield connected

    monkeypatch.setattr(scheduler, "connect", already_connected)
    return connected


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary folder of a test's own: whatever lies or runs there is the test's."""
    with short_folder() as folder:
        yield folder


@pytest.fixture
def all_pack(monkeypatch):
    """Lets trials without training pack, whose options no real method has."""
    monkeypatch.setattr(packing, "_packs", lambda spec: True)
