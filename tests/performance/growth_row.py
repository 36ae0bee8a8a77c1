"""One row of `growth.py`: runs the trials of a JSON file, alone or as a rank of `torchrun`, and prints their costs."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmark.launch_plan import plan_launch
from benchmark.request import resolve_trial
from benchmark.result import Cost, TrialOutcome
from benchmark.training.process_group import join_from_environment, leave
from benchmark.training.trial import pack_steps
from tests.performance.steady_state import rate_of_products


def costs_of(trials: list[dict[str, Any]], per_pack: int, num_workers: int) -> Iterator[Cost]:
    """Run trials, as many in one pass as may, and yield what each cost."""
    specs = [resolve_trial(trial) for trial in trials]
    for start in range(0, len(specs), per_pack):
        pack = specs[start : start + per_pack]
        plan = plan_launch(pack[0].training.global_batch_images, num_workers)
        for step in pack_steps(pack, plan, [None] * len(pack)):
            if isinstance(step.report, TrialOutcome):
                assert step.report.result.cost is not None
                yield step.report.result.cost


def main() -> int:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    membership = join_from_environment()
    rate = rate_of_products(getattr(torch, work["dtype"]))
    list(costs_of([work["first"]], 1, membership.world_size))  # what is read and computed once a process
    costs = list(costs_of(work["trials"], work["per_pack"], membership.world_size))
    leave()
    if membership.rank == 0:
        train, evaluation, wall = (
            sum(getattr(cost, f"{part}_seconds") for cost in costs) for part in ("train", "evaluation", "wall")
        )
        row = {
            "train": train,
            "rest": (wall - train - evaluation) / len(costs),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "flops": costs[0].training_flops_per_image,
            "rate": rate * membership.world_size,
        }
        sys.stdout.write(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
