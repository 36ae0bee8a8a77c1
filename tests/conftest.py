"""What several tests share: small requests, and settings that keep a test process quiet and deterministic."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmark.training.process_group import join, leave


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start: a shell makes its background jobs, and so their children, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests that start a cluster to one process, and every other file whole to whichever is free."""
    from xdist.scheduler import LoadFileScheduling

    class OneClusterAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = "tests/cluster/"
            return folder if nodeid.startswith(folder) else str(super()._split_scope(nodeid))

    return OneClusterAtATime(config, log)


FAULTS = pytest.StashKey[list[tuple[str, str, str]]]()
LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def note_fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return what adds a row to the table of faults that is printed at the end."""
    rows = request.config.stash.setdefault(FAULTS, [])

    def note(fault: str, noticed_seconds: float | None, again_seconds: float | None) -> None:
        shown = ["–" if seconds is None else f"{seconds:.1f}" for seconds in (noticed_seconds, again_seconds)]
        rows.append((fault, shown[0], shown[1]))

    return note


@pytest.fixture
def note_line(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what adds a line below that table."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of faults: seconds until each was noticed, and until work went on."""
    rows = config.stash.get(FAULTS, [])
    for row in [("fault", "noticed, s", "going on again, s"), *rows] if rows else []:
        terminalreporter.write_line(f"{row[0]:64}{row[1]:>12}{row[2]:>19}")
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results are bit-equal only at the same number of threads."""
    torch.set_num_threads(1)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    """A process group in which this process is alone."""
    join(0, 1)
    yield
    leave()


@pytest.fixture
def tiny_request() -> dict[str, Any]:
    """Return a trial that trains in a second."""
    return {
        "backbone": "vit_nano",
        "dataset": "digits",
        "method": {"name": "adaptertune", "rank": 4},
        "seed": 0,
        "training": {"epochs": 2, "warmup_epochs": 1, "global_batch_images": 256, "learning_rate": 3e-3},
    }
