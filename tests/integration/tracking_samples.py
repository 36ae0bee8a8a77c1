"""Small made-up trials for the tests of tracking."""

from __future__ import annotations

import io

import numpy as np

from benchmark.result import Cost, EpochRecord, Provenance, Scores, TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import BackboneSpec, DatasetSpec, MethodSpec, ProtocolSpec, Scalar, TrainingSpec, TrialSpec
from benchmark.tracking import PlannedTrial

CHECKSUM = "ab" * 32
NUM_IMAGES, NUM_CLASSES = 6, 3


def trial_spec(seed: int = 0, method: str = "adaptertune", rank: int = 16, **options: Scalar) -> TrialSpec:
    return TrialSpec(
        backbone=BackboneSpec(
            name="vit_small.bundled", weights="bundled", weights_sha256=CHECKSUM, image_size_pixels=64, revision=1
        ),
        dataset=DatasetSpec(name="digits", split_sha256=CHECKSUM, revision=1),
        method=MethodSpec(
            name=method, revision=1, options={"rank": rank, "placement": "all", "init": "zero", **options}
        ),
        protocol=ProtocolSpec(
            name="fair", revision=1, normalisation="backbone", augmentation="none", selection="best_validation"
        ),
        training=TrainingSpec(epochs=6, warmup_epochs=1.0),
        seed=seed,
    )


def planned(*specs: TrialSpec) -> list[PlannedTrial]:
    return [PlannedTrial(spec.trial_id, spec.condition_id, spec.model_dump(mode="json")) for spec in specs]


def epochs(first: int, last: int) -> list[EpochRecord]:
    return [epoch_record(epoch) for epoch in range(first, last + 1)]


def epoch_record(epoch: int, validation_loss: float = 0.5) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        train_loss=1.0 / epoch if epoch else None,
        validation_loss=validation_loss,
        validation_top1=epoch / 10,
        feature_drift=0.01 * epoch,
        learning_rate=1e-3,
        train_seconds=2.0,
        evaluation_seconds=0.5,
    )


def completed(spec: TrialSpec, top1: float = 0.75) -> TrialOutcome:
    scores = Scores(top1=top1, mean_per_class=0.7, loss=0.6, num_images=NUM_IMAGES)
    result = ended(spec, TrialStatus.COMPLETED).result.model_copy(
        update={
            "epochs": epochs(0, 6),
            "first_step_losses": [1.5, 1.25],
            "selected_epoch": 5,
            "validation": scores,
            "test": scores,
            "test_read_at": "2026-01-02T03:04:05+00:00",
            "confusion": [[2, 0, 0], [0, 2, 0], [1, 0, 1]],
            "cost": cost(),
        }
    )
    return TrialOutcome(result, predictions(), b"the weights")


def ended(spec: TrialSpec, status: TrialStatus, reason: str | None = None) -> TrialOutcome:
    result = TrialResult(
        trial_id=spec.trial_id,
        condition_id=spec.condition_id,
        spec=spec.model_dump(mode="json"),
        status=status,
        reason=reason,
        provenance=provenance(),
    )
    return TrialOutcome(result)


def cost() -> Cost:
    return Cost(
        num_trainable_parameters=1000,
        num_adapter_parameters=900,
        num_total_parameters=50000,
        train_seconds=12.0,
        evaluation_seconds=3.0,
        wall_seconds=20.0,
        train_images_per_second=None,
        peak_memory_bytes=10**9,
        checkpoint_bytes=4000,
    )


def provenance() -> Provenance:
    return Provenance(
        weights_sha256=CHECKSUM,
        split_sha256=CHECKSUM,
        frozen_sha256_before=CHECKSUM,
        frozen_sha256_after=CHECKSUM,
        sources_sha256=CHECKSUM,
        git_commit="0123456789abcdef",
        git_dirty=True,
        packages={"torch": "2.15.0", "timm": "1.0.31"},
        python="3.11.2",
        device="cpu",
        host="node-1",
        launch_plan={"num_workers": 2},
        started_at="2026-01-02T03:03:05+00:00",
        finished_at="2026-01-02T03:03:25+00:00",
    )


def logits() -> np.ndarray:
    return np.arange(NUM_IMAGES * NUM_CLASSES, dtype=np.float32).reshape(NUM_IMAGES, NUM_CLASSES)[:, ::-1].copy()


def predictions() -> bytes:
    buffer = io.BytesIO()
    identity = np.array([f"test/{index}" for index in range(NUM_IMAGES)])
    label = np.array([0, 0, 1, 1, 2, 2], dtype=np.int64)
    np.savez(buffer, identity=identity, label=label, logits=logits())
    return buffer.getvalue()
