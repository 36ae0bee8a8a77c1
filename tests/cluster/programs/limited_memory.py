"""A real trial in a process that may take only so much more address space than it has: as on a machine too small."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from benchmark.launch_plan import LaunchPlan
from benchmark.result import TrialOutcome
from benchmark.spec import TrialSpec
from benchmark.training import trial
from benchmark.training.trial import EpochReport

ROOM_BYTES = 500 * 2**20


def trial_steps(
    spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None = None
) -> Iterator[EpochReport | TrialOutcome]:
    """Run a trial as the suite does, under the limit."""
    taken_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken_bytes + ROOM_BYTES, resource.RLIM_INFINITY))
    return trial.trial_steps(spec, plan, resume_from)
