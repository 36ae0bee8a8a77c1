"""A trial while it runs: its model, images, engine and state on one rank."""

from __future__ import annotations

import io
import platform
import time
from dataclasses import asdict, astuple, dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor

from benchmark.backbones.contract import find_backbone, licence_of_weights
from benchmark.datasets.contract import Split, open_dataset
from benchmark.errors import TrialError
from benchmark.launch_plan import LaunchPlan
from benchmark.methods.contract import LabelledFeatures, find_method
from benchmark.methods.parts.masks import MaskSource
from benchmark.provenance import git_state, host_name, package_versions, sources_sha256, user_name, utc_now
from benchmark.result import Cost, EpochRecord, Provenance, Scores, TrialOutcome, TrialResult, TrialStatus
from benchmark.spec import BackboneSpec, DatasetSpec, TrialSpec, as_canonical_json, hashed_fields
from benchmark.streams import generator
from benchmark.training.attention import choose_attention
from benchmark.training.blocks import checkpoint_blocks, compile_blocks
from benchmark.training.checkpoint import TrialState, restore, snapshot, weights_to_bytes
from benchmark.training.energy import EnergyMeter
from benchmark.training.engine import ParameterGroup
from benchmark.training.evaluation import Evaluator, confusion_of, scores_of
from benchmark.training.frozen_weights import cast_frozen_weights
from benchmark.training.images import Presentation, SplitImages, open_images
from benchmark.training.loop import TrainedEpoch, count_steps_per_epoch
from benchmark.training.memory import forget_peak_memory, peak_memory_bytes
from benchmark.training.model import AdaptedClassifier, Depth, assemble
from benchmark.training.operations import flops_per_image
from benchmark.training.prefix import CACHE, PrefixBudget, PrefixedImages, frozen_depth
from benchmark.training.pretrained import (
    autocast_dtype_of,
    deciding_seed,
    prefix_key,
    presentation_of,
    pretrained_features,
)
from benchmark.training.starts import lda_solution, set_shared_start
from benchmark.training.validation import Validation

if TYPE_CHECKING:
    from jaxtyping import Float
    from timm.models.vision_transformer import VisionTransformer

NUM_FIRST_STEPS = 100
"""How many optimiser steps' losses are kept one by one."""

NUM_START_IMAGES = 1024
"""Training images that a method's start values are computed from, at most."""

NUM_START_IMAGES_PER_BATCH = 64

GPU_EVALUATION_IMAGES, CPU_EVALUATION_IMAGES = 256, 64
CPU_EVALUATION_TOKENS = 4096
"""Few enough for what one operation writes to be in a core's cache when the next reads it."""

LEAST_MIRRORED_SHARE = 0.25
"""Of the blocks must be frozen in front for mirrored images' outputs to be kept: they double the room."""


class OpenTrial:
    """One rank's hold on a running trial.

    Attributes:
        rank: This process's rank in the trial.
        spec: What the trial is.
        model: Its model, without an engine.
        train: The training images.
        trainable: The parameters that train, by name.
        validation: Measures the model on validation.
        masks: The model's random masks.
        frozen_sha256_before: Hash of the model's frozen tensors before the first step.
        state: What is resumed from, and what the result is made of.
        pack_size: How many trials train in one pass with this one, itself included.
        other_evaluation_seconds: Of evaluation outside the epochs and the test.
        soup_members: The trials whose tensors a soup averages; none for a trial that trains.
    """

    def __init__(self, spec: TrialSpec, plan: LaunchPlan, resume_from: bytes | None) -> None:
        """Load images and weights, attach the method, and take up a checkpoint where there is one."""
        self._started_at, self._started = utc_now(), time.perf_counter()
        torch.set_num_threads(plan.threads_per_worker)
        forget_peak_memory(plan.device)
        self._energy = EnergyMeter(plan.device)
        self.spec, self._plan = spec, plan
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self._device = torch.device(plan.device)
        self._evaluator = _evaluator(spec, plan, self.rank)
        self._dataset = open_dataset(spec.dataset, spec.seed)
        train, validation = self._images("train"), self._images("validation")
        self.train: SplitImages | PrefixedImages = train
        count_steps_per_epoch(len(self.train), plan.global_batch_images)
        self.model = assemble(spec, self._dataset.info.num_classes).to(self._device)
        choose_attention(self.model.backbone, self._evaluator)
        self._method = find_method(spec.method.name)
        self._options = self._method.Options.model_validate(spec.method.options)
        self._start_from_images()
        self._flops = flops_per_image(self.model, spec) if self.rank == 0 else None
        self._cast_frozen_weights()
        self.other_evaluation_seconds = 0.0
        self.soup_members: list[str] = []
        self.validation = Validation(
            self.model, self._skip_frozen_prefix(train, validation), self._evaluator, self._pretrained_features
        )
        self._change_blocks()
        self.frozen_sha256_before = self.model.frozen_sha256()
        self.trainable = self.model.trainable()
        self.masks = MaskSource(self.model)
        self.state = self._resumed_state(resume_from)
        self.pack_size = 1

    @property
    def fits_head(self) -> bool:
        """Whether the method sets the head in closed form; that is then its one epoch."""
        return self._method.fits_head

    @property
    def packs(self) -> bool:
        """Whether the method can train in one pass with others: its passes are the same operations at every step."""
        return self._method.packs(self._options)

    @property
    def num_epochs(self) -> int:
        """Epochs that this trial runs."""
        return 1 if self.fits_head else self.spec.training.epochs

    @property
    def next_epoch(self) -> int | None:
        """The epoch that comes next, 1-based; none after the last."""
        epoch = self.state.num_finished_epochs + 1
        return epoch if epoch <= self.num_epochs else None

    @property
    def parameter_group(self) -> ParameterGroup:
        """What an engine trains of this trial."""
        training = self.spec.training
        return ParameterGroup(list(self.trainable.values()), training.weight_decay, training.gradient_clip_norm)

    def fit_head(self) -> TrainedEpoch:
        """Set the head in closed form from the features of all training images, without augmentation."""
        started = time.perf_counter()
        train, validation = (
            LabelledFeatures(self._evaluator.outputs(_Features(self.model), images), images.labels)
            for images in (self.train, self.validation.images)
        )
        self._method.fit_head(self.model.head, self._options, train, validation)
        return TrainedEpoch([], 0.0, time.perf_counter() - started)

    def measure_start(self) -> EpochRecord:
        """Record epoch 0: the model before its first step."""
        return self._close(0, None)

    def close_epoch(self, trained: TrainedEpoch) -> EpochRecord:
        """Evaluate on validation, record the epoch, and keep the weights if they are the selected ones."""
        epoch = self.state.num_finished_epochs + 1
        room = NUM_FIRST_STEPS - len(self.state.first_step_losses)
        self.state.first_step_losses.extend(trained.step_losses[: max(0, room)])
        return self._close(epoch, trained)

    def checkpoint(self, moments: dict[str, Tensor]) -> bytes | None:
        """Return the bytes to resume from, on rank 0.

        Args:
            moments: The optimiser's, by name.
        """
        if self.rank != 0:
            return None
        self.state.model = snapshot(self.trainable)
        self.state.moments = moments
        return self.state.to_bytes()

    def restore_selected(self) -> None:
        """Put the weights of the selected epoch back into the model."""
        restore(self.trainable, self.state.selected)

    def finish(self) -> TrialOutcome:
        """Open the test split, once, unless the trial leaves it closed, and return the outcome.

        Raises:
            TrialError: The frozen tensors changed.
        """
        frozen_sha256_after = self._frozen_sha256_after()
        tested = self._read_test() if self.spec.reads_test else _Tested()
        checkpoint = weights_to_bytes(snapshot(self.trainable), {"trial_id": self.spec.trial_id})
        result = TrialResult(
            trial_id=self.spec.trial_id,
            condition_id=self.spec.condition_id,
            spec=self.spec.model_dump(),
            status=TrialStatus.COMPLETED,
            epochs=self.state.records,
            first_step_losses=self.state.first_step_losses,
            selected_epoch=self.state.selected_epoch,
            validation=self.state.selected_scores,
            soup_members=self.soup_members,
            test=tested.scores,
            test_read_at=tested.read_at,
            confusion=tested.confusion,
            class_names=list(self._dataset.info.class_names),
            cost=self._cost(tested.seconds, len(checkpoint)),
            provenance=self._provenance(frozen_sha256_after),
        )
        return TrialOutcome(result, tested.predictions, checkpoint)

    def _read_test(self) -> _Tested:
        started = time.perf_counter()
        images, read_at = self._prefixed("test", self._images("test")), utc_now()
        logits = self._evaluator.outputs(self.model, images)
        return _Tested(
            scores=scores_of(logits, images.labels),
            read_at=read_at,
            confusion=confusion_of(logits, images.labels).tolist(),
            predictions=predictions_to_bytes(images, logits),
            seconds=time.perf_counter() - started,
        )

    def _images(self, split: Split) -> SplitImages:
        return open_images(self._dataset, split, presentation_of(self.spec))

    def _cast_frozen_weights(self) -> None:
        dtype = autocast_dtype_of(self.spec.training.precision)
        if dtype is not None and self._plan.cast_frozen_weights:
            cast_frozen_weights(self.model, dtype)

    def _change_blocks(self) -> None:
        """Compile blocks, or run them again for the backward pass: last, since both hide what a block is."""
        if self._plan.compile_blocks:
            compile_blocks(self.model, with_adapters=not self._plan.checkpoint_activations)
        if self._plan.checkpoint_activations:
            checkpoint_blocks(self.model)

    def _skip_frozen_prefix(self, train: SplitImages, validation: SplitImages) -> SplitImages | PrefixedImages:
        """Let images start behind the model's frozen part where that is kept; training images if at most mirrored.

        Returns:
            The validation images.
        """
        depth = frozen_depth(self.model) if max(astuple(self._prefix_budget)) else None
        if depth is None:
            return validation
        self.model.starts_at = depth
        started = time.perf_counter()
        prefixed = self._prefixed("validation", validation)
        if self._keeps_training_outputs(depth):
            self.train = self._prefixed("train", train, with_mirrored=self.spec.protocol.augmentation == "flip")
        self.other_evaluation_seconds = time.perf_counter() - started
        return prefixed

    def _keeps_training_outputs(self, depth: Depth) -> bool:
        """Whether a training image's outputs are few: one, or two where it is mirrored and that saves much."""
        augmentation = self.spec.protocol.augmentation
        if self.spec.soup is not None or augmentation not in ("none", "flip"):
            return False
        num_blocks = len(list(cast("VisionTransformer", self.model.backbone).blocks.children()))
        is_deep = depth.is_pooled or depth.num_blocks >= LEAST_MIRRORED_SHARE * num_blocks
        return augmentation == "none" or (is_deep and self.num_epochs > 1)

    def _prefixed(self, split: Split, images: SplitImages, with_mirrored: bool = False) -> SplitImages | PrefixedImages:
        depth = self.model.starts_at
        if depth is None:
            return images
        evaluator, budget = self._lone_evaluator, self._prefix_budget
        key = prefix_key(*self._pretrained_on(), split, evaluator, self.model.weights_sha256, self._dataset)
        return CACHE.prefixed(self.model, depth, images, key, evaluator, budget, with_mirrored)

    @property
    def _lone_evaluator(self) -> Evaluator:
        """One of this rank alone, on all images, so that no rank waits for another."""
        return replace(self._evaluator, rank=0, world_size=1)

    @property
    def _prefix_budget(self) -> PrefixBudget:
        return PrefixBudget(self._plan.prefix_cache_bytes, self._plan.prefix_file_bytes)

    def _start_from_images(self) -> None:
        """Let the method compute start values; the images depend on the split alone, neither on seed nor on rank."""
        if self.spec.training.head_init == "lda":
            weight, bias = lda_solution(*self._pretrained_on(), self._lone_evaluator)
            with torch.no_grad():
                self.model.head.weight.copy_(weight)
                self.model.head.bias.copy_(bias)
        if self._method.uses_images_at_start(self._options):
            set_shared_start(self.model, self._start_key(), self._compute_start)

    def _compute_start(self) -> None:
        order = torch.randperm(len(self.train), generator=generator(0, "start-images"))[:NUM_START_IMAGES]
        batches = [self.train.batch(rows, self._device) for rows in order.split(NUM_START_IMAGES_PER_BATCH)]
        backbone = cast("VisionTransformer", self.model.backbone)
        self._method.start_from_images(backbone, self._options, batches)

    def _start_key(self) -> str:
        backbone, dataset, seed, presentation = self._pretrained_on()
        options = self._options.model_dump()
        asked = [
            hashed_fields(backbone),
            hashed_fields(dataset),
            seed,
            asdict(presentation),
            self._method.name,
            options,
        ]
        return as_canonical_json(asked)

    def _pretrained_on(self) -> tuple[BackboneSpec, DatasetSpec, int, Presentation]:
        """Return what decides the pretrained features: weights, split, the seed where one follows it, presentation."""
        return self.spec.backbone, self.spec.dataset, deciding_seed(self.spec), presentation_of(self.spec)

    def _resumed_state(self, resume_from: bytes | None) -> TrialState:
        if resume_from is None or self.spec.soup is not None:  # a soup is handed its ingredients
            return TrialState(trial_id=self.spec.trial_id)
        state = TrialState.from_bytes(resume_from)
        if state.trial_id != self.spec.trial_id:
            raise TrialError(f"the checkpoint belongs to trial {state.trial_id}, not {self.spec.trial_id}")
        restore(self.trainable, state.model)
        return state

    def _pretrained_features(self, num_first_images: int | None) -> Float[Tensor, "images width"]:
        return pretrained_features(*self._pretrained_on(), self._evaluator, self._prefix_budget, num_first_images)

    def _close(self, epoch: int, trained: TrainedEpoch | None) -> EpochRecord:
        started = time.perf_counter()
        validated = self.validation.measure() if trained else self.validation.measure_start()
        scores = validated.scores
        record = EpochRecord(
            epoch=epoch,
            train_loss=float(np.mean(trained.step_losses)) if trained and trained.step_losses else None,
            validation_loss=scores.loss,
            validation_top1=scores.top1,
            feature_drift=validated.feature_drift,
            learning_rate=trained.learning_rate if trained else 0.0,
            train_seconds=trained.seconds if trained else 0.0,
            evaluation_seconds=time.perf_counter() - started,
        )
        self._select(record, scores)
        self.state.records.append(record)
        return record

    def _select(self, record: EpochRecord, scores: Scores) -> None:
        """Keep an epoch's weights: the last, or the highest validation accuracy, the lower loss deciding a tie."""
        if record.epoch == 0:
            return
        best = next((old for old in self.state.records if old.epoch == self.state.selected_epoch), None)
        is_better = best is None or (-scores.top1, scores.loss) < (-best.validation_top1, best.validation_loss)
        if is_better or self.spec.protocol.selection == "last_epoch":
            self.state.selected_epoch, self.state.selected_scores = record.epoch, scores
            self.state.selected = snapshot(self.trainable)

    def _frozen_sha256_after(self) -> str:
        after = self.model.frozen_sha256()
        if after != self.frozen_sha256_before:
            raise TrialError("the frozen backbone's bytes changed during training")
        return after

    def _cost(self, test_seconds: float, checkpoint_bytes: int) -> Cost:
        energy_joules = self._energy.joules()
        train_seconds = sum(record.train_seconds for record in self.state.records)
        global_batch = self._plan.global_batch_images
        num_images_per_epoch = count_steps_per_epoch(len(self.train), global_batch) * global_batch
        num_trained_images = len(self.train) if self.fits_head else num_images_per_epoch * self.num_epochs
        num_trainable = sum(parameter.numel() for parameter in self.trainable.values())
        return Cost(
            num_trainable_parameters=num_trainable,
            num_adapter_parameters=num_trainable - sum(p.numel() for p in self.model.head.parameters()),
            num_total_parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            train_seconds=train_seconds,
            evaluation_seconds=sum(record.evaluation_seconds for record in self.state.records)
            + test_seconds
            + self.other_evaluation_seconds,
            wall_seconds=(time.perf_counter() - self._started) / self.pack_size,
            train_images_per_second=num_trained_images / train_seconds if train_seconds else None,
            peak_memory_bytes=peak_memory_bytes(self._plan.device) if self.pack_size == 1 else None,
            checkpoint_bytes=checkpoint_bytes,
            forward_flops_per_image=self._flops.forward if self._flops else None,
            training_flops_per_image=self._flops.training if self._flops else None,
            energy_joules=None if energy_joules is None else energy_joules / self.pack_size,
        )

    def _provenance(self, frozen_sha256_after: str) -> Provenance:
        commit, is_dirty = git_state()
        return Provenance(
            weights_sha256=self.model.weights_sha256,
            backbone_licence=licence_of_weights(self.spec.backbone.name, self.spec.backbone.weights),
            split_sha256=self.spec.dataset.split_sha256,
            frozen_sha256_before=self.frozen_sha256_before,
            frozen_sha256_after=frozen_sha256_after,
            sources_sha256=sources_sha256(),
            git_commit=commit,
            git_dirty=is_dirty,
            packages=package_versions(),
            python=platform.python_version(),
            device=_device_name(self._plan.device),
            host=host_name(),
            user=user_name(),
            launch_plan=self._plan.model_dump(),
            pack_size=self.pack_size,
            started_at=self._started_at,
            finished_at=utc_now(),
        )


class _Features(torch.nn.Module):
    """A classifier without its head."""

    def __init__(self, model: AdaptedClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model.features(inputs)


@dataclass(frozen=True)
class _Tested:
    """What the test split gave."""

    scores: Scores | None = None
    read_at: str | None = None
    confusion: list[list[int]] | None = None
    predictions: bytes | None = None
    seconds: float = 0.0


def predictions_to_bytes(images: SplitImages | PrefixedImages, logits: Float[Tensor, "images classes"]) -> bytes:
    """Return per-image results as `.npz`: `identity`, `label`, `logits`."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        identity=images.identities,
        label=images.labels.numpy(),
        logits=logits.numpy().astype(np.float32),
    )
    return buffer.getvalue()


def evaluation_batch_images(spec: TrialSpec, plan: LaunchPlan) -> int:
    """Return how many images are evaluated at once where memory has not run out."""
    if plan.device == "cuda":
        return max(plan.micro_batch_images, GPU_EVALUATION_IMAGES)
    patch = find_backbone(spec.backbone.name).patch_size_pixels
    tokens = (spec.backbone.image_size_pixels // patch) ** 2
    return min(CPU_EVALUATION_IMAGES, 2 ** max(0, (CPU_EVALUATION_TOKENS // tokens).bit_length() - 1))


def _evaluator(spec: TrialSpec, plan: LaunchPlan, rank: int) -> Evaluator:
    return Evaluator(
        rank=rank,
        world_size=plan.num_workers,
        batch_images=max(1, evaluation_batch_images(spec, plan) >> plan.num_reductions),
        device=torch.device(plan.device),
        autocast_dtype=autocast_dtype_of(spec.training.precision),
        explicit_attention=plan.explicit_attention,
    )


def _device_name(device: str) -> str:
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
