"""`adaptertune plan`: what a study would run, and what it would take; runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuning.cli.output import AsJson, Settings, StudyArgument, print_json
from tuning.cli.plan_tables import show
from tuning.devices import DEVICES, UTILISATION, Device, find_device
from tuning.scheduled_trial import ScheduledTrial
from tuning.study import load_study

if TYPE_CHECKING:
    from benchmark.training.estimate import Estimate
    from benchmark.training.fitting import Fit

EXAMPLE = "Example: adaptertune plan demo --set training.epochs=12"

ASSUMED_UTILISATION = 0.25
"""Share of the measured matrix-product rate that a trial is assumed to reach; small models reach less."""

DEFAULT_DEVICE = "h100"
"""Of studies whose workers take GPUs."""

DeviceOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(DEVICES),
        help=f"The GPU to plan for. Default: {DEFAULT_DEVICE} where the study's workers take GPUs, else this machine.",
    ),
]
PriceOption = Annotated[
    float | None, typer.Option(min=0, help="US dollars an hour of that GPU, instead of the assumed price.")
]


def plan(
    study: StudyArgument,
    settings: Settings = None,
    device: DeviceOption = None,
    price: PriceOption = None,
    as_json: AsJson = False,
) -> int:
    """List a study's trials with parameters, operations, memory and estimated cost; run nothing."""
    if device is not None:
        find_device(device)
    loaded = load_study(study, settings or [])
    groups = _by_condition(loaded.trials)
    name = device or (DEFAULT_DEVICE if any(members[0].num_gpus for members in groups) else None)
    table = _priced(name, price) if name else {}
    labels = [loaded.labels[members[0].spec.condition_id] for members in groups]
    rows = [_row(label, members, table) for label, members in zip(labels, groups, strict=True)]
    document = {
        "study": loaded.spec.name,
        "num_trials": loaded.num_trials,
        "num_trials_not_chosen_yet": loaded.num_trials_to_come,
        "num_conditions": len(rows),
        **(_on_gpus(name, table, rows) if name else _on_this_machine(rows)),
        "conditions": rows,
    }
    if as_json:
        print_json(document)
    else:
        show(document)
    return 0


def _priced(name: str, price: float | None) -> dict[str, Device]:
    if price is None:
        return dict(DEVICES)
    own = replace(find_device(name), usd_per_hour=price, price_source="--price")
    return {**DEVICES, name: own}


def _by_condition(trials: Sequence[ScheduledTrial]) -> list[list[ScheduledTrial]]:
    groups: dict[str, list[ScheduledTrial]] = {}
    for trial in trials:
        groups.setdefault(trial.spec.condition_id, []).append(trial)
    return list(groups.values())


def _row(label: str, members: Sequence[ScheduledTrial], table: dict[str, Device]) -> dict[str, Any]:
    """Return what one condition takes, here and on the GPUs of a table."""
    from benchmark.training.estimate import estimate
    from benchmark.training.fitting import fitted

    spec, launch = members[0].spec, members[0].plan
    counted = estimate(spec, launch)
    fits = fitted(spec, launch, [one.usable_bytes for one in table.values()]) if table else []
    return {
        "condition": label,
        "backbone": spec.backbone.name,
        "dataset": spec.dataset.name,
        "precision": spec.training.precision,
        "seeds": [trial.spec.seed for trial in members],
        "trial_ids": [trial.spec.trial_id for trial in members],
        "match": None if spec.method.match is None else spec.method.match.model_dump(),
        "num_workers": launch.num_workers,
        "micro_batch_images": launch.micro_batch_images,
        "accumulation_steps": launch.accumulation_steps,
        **asdict(counted),
        "devices": {
            name: _on_device(device, fit, counted, spec.training.precision)
            for (name, device), fit in zip(table.items(), fits, strict=True)
        },
    }


def _on_device(device: Device, fit: Fit, counted: Estimate, precision: str) -> dict[str, Any]:
    gpu_hours = device.seconds(counted.total_flops, precision) / 3600
    return {
        "fits": fit.fits,
        "micro_batch_images": fit.plan.micro_batch_images,
        "accumulation_steps": fit.plan.accumulation_steps,
        "zero_stage": fit.plan.zero_stage,
        "memory_bytes": fit.memory.total,
        "memory": asdict(fit.memory),
        "hours_per_trial": gpu_hours / fit.plan.num_workers,
        "gpu_hours_per_trial": gpu_hours,
        "usd_per_trial": gpu_hours * device.usd_per_hour,
    }


def _on_gpus(name: str, table: dict[str, Device], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the whole study takes on each GPU, with what that assumes."""
    from benchmark.training.fitting import zero_stages

    devices = [_whole_study(key, device, rows) for key, device in table.items()]
    (chosen,) = [one for one in devices if one["name"] == name]
    for row in rows:
        row["worker_seconds"] = row["devices"][name]["gpu_hours_per_trial"] * 3600 * len(row["seeds"])
    return {
        "worker_hours": chosen["gpu_hours"],
        "assumption": f"{UTILISATION:.0%} of the peak rate of its precision, no outputs kept, no packs",
        "device": name,
        "zero_stages": list(zero_stages()),
        "devices": devices,
    }


def _whole_study(name: str, device: Device, rows: list[dict[str, Any]]) -> dict[str, Any]:
    gpu_hours = sum(row["devices"][name]["gpu_hours_per_trial"] * len(row["seeds"]) for row in rows)
    return {
        "name": name,
        **asdict(device),
        "usable_bytes": device.usable_bytes,
        "fits": all(row["devices"][name]["fits"] for row in rows),
        "gpu_hours": gpu_hours,
        "usd": gpu_hours * device.usd_per_hour,
    }


def _on_this_machine(rows: list[dict[str, Any]]) -> dict[str, Any]:
    from benchmark.training.estimate import measure_matmul_flops_per_second

    rate = ASSUMED_UTILISATION * measure_matmul_flops_per_second()
    for row in rows:
        row["worker_seconds"] = row["total_flops"] / rate * len(row["seeds"])
    return {
        "worker_hours": sum(row["worker_seconds"] for row in rows) / 3600,
        "assumption": f"{ASSUMED_UTILISATION:.0%} of this machine's fp32 matrix-product rate on one thread",
        "device": None,
        "devices": [],
    }
