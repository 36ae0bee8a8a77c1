"""A trial of a study, ready to be scheduled."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmark.launch_plan import LaunchPlan
from benchmark.spec import TrialSpec
from launch.resources import TrialResources
from launch.worker_group import GroupShape


@dataclass(frozen=True)
class ScheduledTrial:
    """A trial and how it is to be spread.

    Attributes:
        spec: What may change its score.
        plan: What must not.
        resources: What each of its workers occupies.
        min_workers: With how many it may go on where the cluster holds no more; none: with all or not at all.
        priority: Trials of a higher one start first.
    """

    spec: TrialSpec
    plan: LaunchPlan
    resources: TrialResources = field(default_factory=TrialResources)
    min_workers: int | None = None
    priority: int = 0

    @property
    def shape(self) -> GroupShape:
        """What it needs of a worker group: trials of one shape share slots."""
        return GroupShape(self.plan.num_workers, self.resources, self.plan.device, self.plan.threads_per_worker)

    @property
    def num_gpus(self) -> int:
        """How many GPUs it holds, over all of its workers."""
        return int(self.resources.gpus_per_worker * self.plan.num_workers)
