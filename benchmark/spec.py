"""What one trial is: everything that may change its score, and the identity that follows from it.

A `TrialSpec` is complete: every default is written out, every name is pinned, local inputs are named by their content
hash. `trial_id` is the hash of its canonical JSON, so equal specs are one trial wherever and whenever they are asked
for. How a trial is spread over machines is not here: see `benchmark/launch_plan.py`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scalar = bool | int | float | str | None

ADDED_LATER = {"hashed": "when-changed"}
"""Marks a field that came after the first release: it enters the hash only when it differs from its default, which is
the earlier behaviour, so that ids stay what they were."""

NOT_HASHED = {"hashed": "never"}
"""Marks a field that cannot change the score, such as the path of a file whose content hash stands beside it."""


SplitPreset = Literal["fixed", "paper", "vtab_1000", "train_and_validation"]
"""Which split of a data set: `fixed` is independent of the run's seed, `paper` follows it as the released code did,
`vtab_1000` trains on all of VTAB-1k's 1,000 labelled images, `train_and_validation` on all that is not tested."""


HeadInit = Literal["uniform", "trunc_normal", "zero", "lda"]
"""How the head's weight starts: `uniform`, U(-1/sqrt(d), 1/sqrt(d)), the bias too, as `torch.nn.Linear` does;
`trunc_normal`, N(0, 0.02²) cut at ±2 and a bias of zero, as timm does in Vision Transformers; `zero`; `lda`, the
closed-form head of the method `lda_head` on the frozen features of the training images."""


SoupRecipe = Literal["uniform", "greedy"]
"""How a weight soup is mixed (Wortsman et al., arXiv 2203.05482)."""


class Frozen(BaseModel):
    """A spec part: immutable, unknown keys refused, types not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class BackboneSpec(Frozen):
    """A pretrained Vision Transformer, pinned."""

    name: str = Field(description="full name of the backbone: architecture and pretrained tag")
    weights: Literal["bundled", "pretrained", "file", "random"] = Field(
        description="where the weights come from; `random` only when asked for"
    )
    weights_sha256: str | None = Field(description="content hash of bundled or local weights; none for the others")
    image_size_pixels: int = Field(ge=8, description="side of the square input image")
    revision: int = Field(ge=1, description="raised when this backbone's numbers change")
    weights_file: str | None = Field(
        default=None, description="path of local weights", json_schema_extra=dict(NOT_HASHED)
    )
    assumed_from: str | None = Field(
        default=None,
        description="the paper's bare name, where the protocol `paper` assumed the tag",
        json_schema_extra=dict(NOT_HASHED),
    )


class DatasetSpec(Frozen):
    """A data set and its split. The hash says which image is where; the fields after it say how to get there again."""

    name: str = Field(description="the data set's public name")
    split_sha256: str = Field(description="hash of the split manifest, or of its rule: which image is in which split")
    revision: int = Field(ge=1, description="raised when this data set's numbers change")
    root: str | None = Field(default=None, description="where the data lie", json_schema_extra=dict(NOT_HASHED))
    split: SplitPreset = Field(
        default="fixed", description="the split's preset; in the hash above", json_schema_extra=dict(NOT_HASHED)
    )
    validation_fraction: float | None = Field(
        default=None,
        description="share of training images held out; null: the data set's own; in the hash above",
        json_schema_extra=dict(NOT_HASHED),
    )


class MatchRecord(Frozen):
    """What a study's `match` gave one condition."""

    parameters: int | None = Field(default=None, ge=1, description="asked for: trained parameters without the head")
    training_flops: int | None = Field(default=None, ge=1, description="asked for: of one image, forward and backward")
    memory_bytes: int | None = Field(default=None, ge=1, description="asked for: of one worker, as `plan` estimates it")
    option: str | None = Field(description="the option that was solved; null: the method's size cannot be chosen")
    achieved_parameters: int = Field(ge=0, description="trained parameters without the head, by the method's formula")
    achieved: int | None = Field(default=None, ge=0, description="the figure that was asked for; null: parameters")


class MethodSpec(Frozen):
    """An adaptation method with all of its options written out."""

    name: str = Field(description="the method's public name")
    revision: int = Field(ge=1, description="raised when this method's numbers change")
    options: dict[str, Scalar] = Field(description="the method's own options, such as rank, placement, init")
    defaults: dict[str, Scalar] = Field(
        default_factory=dict,
        description="options added later that keep their default; not among `options`, so that ids stay",
        json_schema_extra=dict(NOT_HASHED),
    )
    match: MatchRecord | None = Field(
        default=None,
        description="the budget that the size was solved for, where one was asked",
        json_schema_extra=dict(NOT_HASHED),
    )


class ProtocolSpec(Frozen):
    """How images are presented and how the reported checkpoint is chosen."""

    name: Literal["fair", "paper"] = Field(description="the named protocol these settings started from")
    revision: int = Field(ge=1, description="raised when this protocol's numbers change")
    normalisation: Literal["backbone", "imagenet"] = Field(description="whose mean and standard deviation")
    augmentation: Literal["none", "flip", "shift", "crop_flip"] = Field(description="what happens to training images")
    selection: Literal["best_validation", "last_epoch"] = Field(description="which epoch's weights are tested")
    resizing: Literal["backbone", "torchvision"] = Field(
        default="backbone",
        description="whose filter and centre crop: the backbone's own, or torchvision's bilinear at 224/256",
        json_schema_extra=dict(ADDED_LATER),
    )
    centre_crop: Literal["resizing", "none"] = Field(
        default="resizing",
        description="how much of an image is shown: what `resizing` crops, or its whole shorter side",
        json_schema_extra=dict(ADDED_LATER),
    )


class TrainingSpec(Frozen):
    """Optimisation. The batch is the global one: how workers share it is the launch plan's matter."""

    epochs: int = Field(default=50, ge=1, description="passes over the training images")
    warmup_epochs: float = Field(default=5.0, ge=0, description="linear warm-up from 0, in epochs")
    global_batch_images: int = Field(default=128, ge=1, description="images per optimiser step, over all workers")
    learning_rate: float = Field(default=1.0e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(default=0.05, ge=0, description="AdamW's decoupled decay, on everything trainable")
    gradient_clip_norm: float | None = Field(default=1.0, gt=0, description="global-norm clipping; null: none")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="compute type; parameters stay fp32")

    head_init: HeadInit = Field(
        default="uniform",
        description="how the head starts: as torch's linear layers, as timm's heads, at zero, or at the LDA solution",
        json_schema_extra=dict(ADDED_LATER),
    )

    @model_validator(mode="after")
    def _warmup_ends_before_training(self) -> TrainingSpec:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be smaller than epochs {self.epochs}")
        return self


class SoupSpec(Frozen):
    """A trial that trains nothing: its trained tensors are the mean of other trials'."""

    recipe: SoupRecipe = Field(
        description="uniform: the mean of all members; greedy: of those that do not lower validation top-1"
    )
    members: list[str] = Field(min_length=2, description="ids of the trials, one a seed of this trial's condition")


class TrialSpec(Frozen):
    """One trial: one backbone, one data set, one method, one seed."""

    backbone: BackboneSpec
    dataset: DatasetSpec
    method: MethodSpec
    protocol: ProtocolSpec
    training: TrainingSpec
    seed: int = Field(ge=0, lt=2**31, description="names every random stream: initialisation, data order, masks")
    reads_test: bool = Field(
        default=True,
        description="whether the test split is read at the end; a search's trials never open it",
        json_schema_extra=dict(ADDED_LATER),
    )
    soup: SoupSpec | None = Field(
        default=None,
        description="for a weight soup: which trials' tensors it averages; its seed is then its first member's",
        json_schema_extra=dict(ADDED_LATER),
    )

    @functools.cached_property
    def trial_id(self) -> str:
        """The trial's identity: 16 hexadecimal digits of the canonical JSON's SHA-256."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    @functools.cached_property
    def condition_id(self) -> str:
        """The identity of the trial's condition: the same spec under any seed, 12 hexadecimal digits."""
        return hashlib.sha256(_joined(self.hashed_parts).encode()).hexdigest()[:12]

    @functools.cached_property
    def hashed_parts(self) -> dict[str, str]:
        """The canonical JSON of each part that enters the identity, the seed left out."""
        return {name: as_canonical_json(value) for name, value in hashed_fields(self).items() if name != "seed"}

    def canonical_json(self) -> str:
        """Return the JSON text that the identity is computed from."""
        return _joined({**self.hashed_parts, "seed": as_canonical_json(self.seed)})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> TrialSpec:
        """Return a copy with some fields replaced. One under another seed shares what was computed of the others."""
        copy = super().model_copy(update=update, deep=deep)
        for name in _COMPUTED:
            copy.__dict__.pop(name, None)
        if set(update or ()) <= {"seed"}:
            copy.__dict__ |= {"condition_id": self.condition_id, "hashed_parts": self.hashed_parts}
        return copy


_COMPUTED = ("trial_id", "condition_id", "hashed_parts")
"""What a `TrialSpec` keeps once it has been asked for."""


def _joined(parts: Mapping[str, str]) -> str:
    """Return the canonical JSON of an object from that of its values."""
    return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"


def hashed_fields(model: BaseModel) -> dict[str, Any]:
    """Return the fields of a spec that enter its identity, nested specs included."""
    fields: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        rule = marks.get("hashed", "always")
        if rule == "never" or (rule == "when-changed" and value == field.default):
            continue
        fields[name] = hashed_fields(value) if isinstance(value, BaseModel) else value
    return fields


def recorded_options(options: BaseModel) -> dict[str, Scalar]:
    """Return a method's options as a trial records them: one added later only where it differs from its default."""
    kept = kept_defaults(options)
    return {name: value for name, value in options.model_dump().items() if name not in kept}


def kept_defaults(options: BaseModel) -> dict[str, Scalar]:
    """Return the options added later that have their default: in force, yet not among the recorded ones."""
    values = options.model_dump()
    return {
        name: values[name]
        for name, field in type(options).model_fields.items()
        if isinstance(field.json_schema_extra, dict)
        and field.json_schema_extra.get("hashed") == "when-changed"
        and name in values
        and values[name] == field.default
    }


def as_canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values give equal text."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
