"""A study runs unchanged from one CPU to many nodes by its `resources` alone: the same trials, and they fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import RequestError
from launch.resources import Node, check_feasible, count_slots
from tuning.study import Study, load_study, shipped_studies

ONE_CPU = ("resources.workers_per_trial=1", "resources.gpus_per_worker=0", "resources.by_method={}")
LARGE = ("backbone={name: vit_large_patch16_224.augreg_in21k, weights: random}", "dataset=cifar100")


def on_gpus(num_workers: int) -> tuple[str, ...]:
    return (f"resources.workers_per_trial={num_workers}", "resources.gpus_per_worker=1", "resources.by_method={}")


def nodes(number: int, num_gpus: int) -> tuple[Node, ...]:
    return tuple(Node(f"node{index}", f"10.0.0.{index}", 64, num_gpus) for index in range(number))


def trial_ids(study: Study) -> list[str]:
    return [trial.spec.trial_id for trial in study.trials]


def runnable() -> Iterator[str]:
    """Yield the shipped studies that need no images of the user's."""
    return (name for name in shipped_studies() if name not in ("my-images", "real-check"))


@pytest.mark.parametrize("name", list(runnable()))
@pytest.mark.parametrize(("num_nodes", "num_workers", "num_slots"), [(1, 1, 8), (1, 8, 1), (4, 8, 4), (4, 32, 1)])
def test_trials_are_the_same_and_fit_when_only_resources_change(
    name: str, num_nodes: int, num_workers: int, num_slots: int
) -> None:
    alone, shared = load_study(name, ONE_CPU), load_study(name, on_gpus(num_workers))
    cluster = nodes(num_nodes, num_gpus=8)
    assert trial_ids(alone) == trial_ids(shared)
    for one, other in zip(alone.trials, shared.trials, strict=True):
        check_feasible(one.resources, one.plan.num_workers, nodes(1, num_gpus=0))
        check_feasible(other.resources, other.plan.num_workers, cluster)
        assert one.plan.global_batch_images == other.plan.global_batch_images
        assert (one.plan.device, other.plan.device) == ("cpu", "cuda")
        assert count_slots(other.resources, other.plan.num_workers, cluster) == num_slots


def test_accumulation_is_chosen_when_a_worker_has_little_memory() -> None:
    settings = [*LARGE, "method=full_finetune", "training.precision=bf16", *on_gpus(1)]
    plenty, scarce = (
        load_study("ablation-rank", [*settings, "claims=[]", f"resources.memory_bytes_per_worker={num_bytes}"])
        for num_bytes in (72 * 10**9, 21 * 10**9)
    )
    assert trial_ids(plenty) == trial_ids(scarce)
    assert {trial.plan.accumulation_steps for trial in plenty.trials} == {1}
    # The table of `plan large`: 27 GB at 128 images at once, of which 4 GB do not depend on them.
    assert {trial.plan.accumulation_steps for trial in scarce.trials} == {2}
    assert {trial.plan.global_batch_images for trial in scarce.trials} == {128}


def test_study_is_refused_when_no_micro_batch_fits() -> None:
    with pytest.raises(RequestError, match=r"resources.memory_bytes_per_worker.*full_finetune on vit_nano needs \d+"):
        load_study("demo", ["resources.memory_bytes_per_worker=100000", "method=full_finetune", "claims=[]"])


def test_workers_that_divide_the_batch_are_named_when_they_do_not() -> None:
    with pytest.raises(RequestError, match="workers x accumulation be 16 or 32"):
        load_study("large", on_gpus(24))


def test_large_study_is_expanded_without_its_images_or_weights(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ADAPTERTUNE_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    study = load_study("large")
    assert (study.num_trials, len(study.planned_conditions)) == (18, 6)
