"""Synthetic studies: what tracking would hand over, with numbers that are made up and known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmark.result import Cost, EpochRecord, Provenance, Scores, TrialResult, TrialStatus
from benchmark.spec import as_canonical_json
from benchmark.tracking import PlannedTrial, StudyRecord, TrackedTrial

BACKBONE = "vit_nano"
DATASET = "digits"
TRAINING = {"epochs": 10, "learning_rate": 0.001, "global_batch_images": 128}


def make_spec(
    method: str,
    seed: int,
    backbone: str = BACKBONE,
    dataset: str = DATASET,
    training: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    return {
        "backbone": {"name": backbone, "weights": "bundled", "image_size_pixels": 32, "revision": 1},
        "dataset": {"name": dataset, "split_sha256": "5" * 64, "revision": 1},
        "method": {"name": method, "revision": 1, "options": options},
        "protocol": {"name": "fair", "revision": 1},
        "training": TRAINING | dict(training or {}),
        "seed": seed,
    }


def plan(spec: Mapping[str, Any]) -> PlannedTrial:
    without_seed = {name: value for name, value in spec.items() if name != "seed"}
    return PlannedTrial(_hash(spec, 16), _hash(without_seed, 12), dict(spec))


def _hash(value: Mapping[str, Any], length: int) -> str:
    return hashlib.sha256(as_canonical_json(value).encode()).hexdigest()[:length]


def make_cost(parameters: int = 1000) -> Cost:
    return Cost(
        num_trainable_parameters=parameters,
        num_adapter_parameters=parameters - 650,
        num_total_parameters=250_000,
        train_seconds=10.0,
        evaluation_seconds=2.0,
        wall_seconds=15.0,
        train_images_per_second=1200.0,
        peak_memory_bytes=310_000_000,
        checkpoint_bytes=4 * parameters,
    )


def make_provenance() -> Provenance:
    return Provenance(
        weights_sha256="a" * 64,
        split_sha256="5" * 64,
        frozen_sha256_before="f" * 64,
        frozen_sha256_after="f" * 64,
        sources_sha256="c" * 64,
        git_commit="0123456789abcdef0123456789abcdef01234567",
        git_dirty=False,
        packages={"torch": "2.11.0", "timm": "1.0.20"},
        python="3.11.7",
        device="cpu Intel",
        host="node-1",
        launch_plan={"workers": 2, "micro_batch_images": 64, "zero_stage": 0},
        started_at="2026-01-01T10:00:00Z",
        finished_at="2026-01-01T10:00:15Z",
    )


def completed(
    spec: Mapping[str, Any], test: float | None, validation: float | None = None, parameters: int = 1000
) -> TrackedTrial:
    planned = plan(spec)
    result = TrialResult(
        trial_id=planned.trial_id,
        condition_id=planned.condition_id,
        spec=dict(spec),
        status=TrialStatus.COMPLETED,
        selected_epoch=9,
        test=None if test is None else Scores(top1=test, mean_per_class=test, loss=0.1, num_images=360),
        validation=None
        if validation is None
        else Scores(top1=validation, mean_per_class=validation, loss=0.1, num_images=180),
        test_read_at="2026-01-01T10:00:14Z",
        cost=make_cost(parameters),
        provenance=make_provenance(),
    )
    return TrackedTrial(f"run{planned.trial_id}", result)


def failed(spec: Mapping[str, Any], status: TrialStatus = TrialStatus.FAILED, reason: str = "boom") -> TrackedTrial:
    planned = plan(spec)
    result = TrialResult(
        trial_id=planned.trial_id,
        condition_id=planned.condition_id,
        spec=dict(spec),
        status=status,
        reason=reason,
    )
    return TrackedTrial(f"run{planned.trial_id}", result)


def make_study(
    trials: Sequence[TrackedTrial],
    planned: Sequence[Mapping[str, Any]] | None = None,
    claims: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> StudyRecord:
    specs = [trial.result.spec for trial in trials] if planned is None else planned
    reads = [
        {
            "trial_id": trial.result.trial_id,
            "seed": trial.result.spec["seed"],
            "read_at": trial.result.test_read_at,
            "selected_epoch": trial.result.selected_epoch,
            "run_id": trial.run_id,
        }
        for trial in trials
        if trial.result.test is not None
    ]
    values: dict[str, Any] = {
        "name": "synthetic",
        "spec": {"question": "Does it help?", "kind": "confirm", "claims": [dict(claim) for claim in claims]},
        "planned": [plan(spec) for spec in specs],
        "trials": list(trials),
        "run_id": "parent",
        "experiment_id": "1",
        "tracking_uri": "sqlite:////tmp/some folder/tracking.db",
        "wall_seconds": 321.0,
        "test_reads": reads,
    }
    return StudyRecord(**(values | fields))


def no_curves(run_ids: Sequence[str]) -> dict[str, list[EpochRecord]]:
    return {}


def curves_of(study: StudyRecord, num_epochs: int = 12) -> Callable[[Sequence[str]], dict[str, list[EpochRecord]]]:
    """Curves in which a zero initialisation starts with no drift and any other with some."""
    trials = {trial.run_id: trial.result for trial in study.trials}

    def read(run_ids: Sequence[str]) -> dict[str, list[EpochRecord]]:
        return {run_id: [_epoch(trials[run_id], epoch) for epoch in range(num_epochs + 1)] for run_id in run_ids}

    return read


def losses_of(study: StudyRecord, num_steps: int = 100) -> Callable[[Sequence[str]], dict[str, list[float]]]:
    """Losses that fall from 2.3, a little higher for every seed."""
    seeds = {trial.run_id: trial.result.spec["seed"] for trial in study.trials}
    steps = range(num_steps)
    return lambda run_ids: {run: [2.3 * math.exp(-step / 50) + 0.01 * seeds[run] for step in steps] for run in run_ids}


def _epoch(result: TrialResult, epoch: int) -> EpochRecord:
    start = {"zero": 0.0, "small": 0.004, "normal": 0.21}.get(str(result.spec["method"]["options"].get("init")), 0.0)
    shift = 0.01 * result.spec["seed"]
    return EpochRecord(
        epoch=epoch,
        train_loss=None if epoch == 0 else math.exp(-epoch / 3),
        validation_loss=math.exp(-epoch / 3),
        validation_top1=0.97 - (0.87 + shift - 0.1 * start) * math.exp(-epoch / 2.2) - 0.05 * start,
        feature_drift=start * math.exp(-epoch / 4) + 0.12 * (1 - math.exp(-epoch / (5 + 10 * shift))),
        learning_rate=0.001,
        train_seconds=1.0,
        evaluation_seconds=0.2,
    )


SCORES: dict[tuple[str, tuple[tuple[str, Any], ...]], tuple[float, float, int]] = {
    ("head_only", ()): (0.872, 0.880, 650),
    ("adaptertune", (("init", "zero"), ("placement", "all"), ("rank", 4))): (0.944, 0.947, 3_434),
    ("adaptertune", (("init", "zero"), ("placement", "all"), ("rank", 8))): (0.961, 0.963, 5_994),
    ("adaptertune", (("init", "zero"), ("placement", "all"), ("rank", 16))): (0.970, 0.974, 11_114),
    ("adaptertune", (("init", "zero"), ("placement", "all"), ("rank", 32))): (0.972, 0.976, 21_354),
    ("adaptertune", (("init", "zero"), ("placement", "every:2"), ("rank", 16))): (0.962, 0.966, 5_900),
    ("adaptertune", (("init", "zero"), ("placement", "last:2"), ("rank", 16))): (0.941, 0.949, 4_300),
    ("adaptertune", (("init", "normal"), ("placement", "all"), ("rank", 16))): (0.963, 0.968, 11_114),
    ("adaptertune", (("init", "small"), ("placement", "all"), ("rank", 16))): (0.969, 0.973, 11_114),
    ("lora", (("rank", 8),)): (0.966, 0.967, 6_800),
    ("full_finetune", ()): (0.971, 0.975, 201_290),
}

CLAIMS = (
    {
        "id": "beats-head",
        "text": "AdapterTune r16 beats head-only",
        "a": {"method": "adaptertune", "rank": 16, "placement": "all", "init": "zero"},
        "b": {"method": "head_only"},
    },
    {
        "id": "beats-full",
        "text": "AdapterTune r16 beats full fine-tuning",
        "a": {"method": "adaptertune", "rank": 16, "placement": "all", "init": "zero"},
        "b": {"method": "full_finetune"},
    },
    {
        "id": "last-is-enough",
        "text": "Adapters in the last two blocks are as good as everywhere",
        "a": {"method": "adaptertune", "rank": 16, "placement": "last:2", "init": "zero"},
        "b": {"method": "adaptertune", "rank": 16, "placement": "all", "init": "zero"},
        "margin": -0.005,
    },
)


def full_study(num_seeds: int = 5, drop: bool = True, **fields: Any) -> StudyRecord:
    """A study with every figure, two missing seeds and three claims."""
    specs, trials = [], []
    for position, ((method, options), (test, validation, parameters)) in enumerate(SCORES.items()):
        for seed in range(num_seeds):
            spec = make_spec(method, seed, **dict(options))
            specs.append(spec)
            wobble = round(math.sin(7.3 * seed + 1.9 * position) * 2) / 360 + (seed - 2) / 360
            trials.append(completed(spec, test + wobble, validation + wobble / 2, parameters))
    if drop:
        trials[6] = failed(trials[6].result.spec, TrialStatus.OUT_OF_MEMORY, "CUDA out of memory:\n tried 2 GiB")
        del trials[-1]
    return make_study(trials, specs, CLAIMS, **({"name": "adapter-digits"} | fields))


PAPER_BACKBONES = (
    "deit_tiny_patch16_224.fb_in1k",
    "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
)
CORE_DATASETS = ("cifar10", "cifar100", "svhn", "oxford_iiit_pet", "food101")
PAPER_METHODS: tuple[tuple[str, dict[str, Any], float, int], ...] = (
    ("head_only", {}, 0.70, 1_000),
    ("adaptertune", {"rank": 16, "placement": "all", "init": "zero"}, 0.85, 10_000),
    ("full_finetune", {}, 0.84, 1_000_000),
)


def paper_specs(datasets: Sequence[str] = CORE_DATASETS, num_seeds: int = 3) -> list[dict[str, Any]]:
    return [
        make_spec(method, seed, backbone, dataset, **options)
        for backbone in PAPER_BACKBONES
        for method, options, _, _ in PAPER_METHODS
        for dataset in datasets
        for seed in range(num_seeds)
    ]


def paper_study(datasets: Sequence[str] = CORE_DATASETS, num_run: int | None = None, **fields: Any) -> StudyRecord:
    """The paper's core comparison: AdapterTune 15 points above head only, 1 point above full fine-tuning.

    Seeds move all methods alike but for a tenth of a point, so that paired differences are sure.
    """
    scores = {row[0]: (position, *row[2:]) for position, row in enumerate(PAPER_METHODS, 1)}
    specs = paper_specs(datasets)
    trials = []
    for spec in specs[:num_run]:
        position, score, parameters = scores[spec["method"]["name"]]
        wobble = 0.01 * spec["seed"] + 0.0005 * ((spec["seed"] * position) % 3)
        trials.append(completed(spec, score + wobble, score, parameters))
    return make_study(trials, specs, **({"name": "paper-core"} | fields))
