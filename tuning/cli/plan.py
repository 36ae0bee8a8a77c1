"""`adaptertune plan`: what a study would run, and what it would take; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tuning.cli.output import AsJson, Settings, StudyArgument, console, print_json
from tuning.scheduled_trial import ScheduledTrial
from tuning.study import load_study

if TYPE_CHECKING:
    from benchmark.training.estimate import Estimate

EXAMPLE = "Example: adaptertune plan demo --set training.epochs=12"

ASSUMED_UTILISATION = 0.25
"""Share of the measured matrix-product rate that a trial is assumed to reach; small models reach less."""


def plan(study: StudyArgument, settings: Settings = None, as_json: AsJson = False) -> int:
    """List a study's trials with parameters, operations, memory and estimated cost; run nothing."""
    from benchmark.training.estimate import estimate, measure_matmul_flops_per_second

    loaded = load_study(study, settings or [])
    rate = ASSUMED_UTILISATION * measure_matmul_flops_per_second()
    rows = []
    for members in _by_condition(loaded.trials):
        counted = estimate(members[0].spec, members[0].plan)
        label = loaded.labels[members[0].spec.condition_id]
        rows.append(_row(label, members, counted, counted.total_flops / rate))
    worker_hours = sum(row["worker_seconds"] for row in rows) / 3600
    document = {
        "study": loaded.spec.name,
        "num_trials": loaded.num_trials,
        "num_trials_not_chosen_yet": loaded.num_trials_to_come,
        "num_conditions": len(rows),
        "worker_hours": worker_hours,
        "assumption": f"{ASSUMED_UTILISATION:.0%} of this machine's fp32 matrix-product rate on one thread",
        "conditions": rows,
    }
    if as_json:
        print_json(document)
    else:
        _show(document)
    return 0


def _by_condition(trials: Sequence[ScheduledTrial]) -> list[list[ScheduledTrial]]:
    groups: dict[str, list[ScheduledTrial]] = {}
    for trial in trials:
        groups.setdefault(trial.spec.condition_id, []).append(trial)
    return list(groups.values())


def _row(label: str, members: Sequence[ScheduledTrial], counted: Estimate, seconds_per_trial: float) -> dict[str, Any]:
    spec = members[0].spec
    return {
        "condition": label,
        "backbone": spec.backbone.name,
        "dataset": spec.dataset.name,
        "seeds": [trial.spec.seed for trial in members],
        "trial_ids": [trial.spec.trial_id for trial in members],
        "match": None if spec.method.match is None else spec.method.match.model_dump(),
        "num_workers": members[0].plan.num_workers,
        **asdict(counted),
        "worker_seconds": seconds_per_trial * len(members),
    }


_SHARED = {"backbone": "backbone", "dataset": "data", "seeds": "seeds", "num_workers": "workers"}
"""Fields that most studies hold constant, with their headings."""


def _show(document: dict[str, Any]) -> None:
    """Print what all conditions share once, then a table of what varies."""
    rows = document["conditions"]
    varying = [field for field in _SHARED if any(row[field] != rows[0][field] for row in rows)]
    shared = [f"{_SHARED[field]} {_as_text(rows[0][field])}" for field in _SHARED if field not in varying]
    console.print("; ".join([f"{document['num_conditions']} conditions", *shared]), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("condition", overflow="fold")
    for field in varying:
        table.add_column(_SHARED[field])
    for heading in ("trained", "GFLOP/image", "MB", "worker s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["condition"],
            *(_as_text(row[field]) for field in varying),
            f"{row['num_trainable_parameters']:,}",
            f"{row['training_flops_per_image'] / 1e9:.3f}",
            f"{row['memory_bytes'] / 1e6:.0f}",
            f"{row['worker_seconds']:.0f}",
        )
    console.print(table)
    if document["num_trials_not_chosen_yet"]:
        console.print(
            f"{document['num_trials_not_chosen_yet']} of {document['num_trials']} trials are known only when others "
            "have ended; the rest:"
        )
    num_known = document["num_trials"] - document["num_trials_not_chosen_yet"]
    console.print(
        f"{num_known} trials, roughly {document['worker_hours']:.2f} worker hours, assuming {document['assumption']}."
    )


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
