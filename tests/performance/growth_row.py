"""One row of `growth.py`: runs the trials of a JSON file, alone or as a rank of `torchrun`, and prints their costs."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from benchmark.request import resolve_trial
from benchmark.training.process_group import join_from_environment, leave
from tests.performance.packs import costs_of
from tests.performance.steady_state import rate_of_products


def main() -> int:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    membership = join_from_environment()
    rate = rate_of_products(getattr(torch, work["dtype"]))
    specs, size = [resolve_trial(trial) for trial in work["trials"]], work["per_pack"]
    list(costs_of([specs[:1]], membership.world_size))  # what is read and computed once a process
    packs = (specs[start : start + size] for start in range(0, len(specs), size))
    costs = list(costs_of(packs, membership.world_size))
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
