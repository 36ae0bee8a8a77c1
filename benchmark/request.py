"""From what a user writes to a complete `TrialSpec`: defaults written out, names pinned, combinations checked.

Used for one trial's YAML and for every cell of a study's grid. Loads neither weights nor data, nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from benchmark.backbones.contract import BackboneInfo, find_backbone
from benchmark.datasets.contract import find_dataset
from benchmark.documents import load_yaml, require_mapping, validated
from benchmark.errors import RequestError
from benchmark.launch_plan import LaunchPlan, plan_launch
from benchmark.methods.contract import Method, find_method
from benchmark.spec import (
    BackboneSpec,
    DatasetSpec,
    Frozen,
    MethodSpec,
    ProtocolSpec,
    TrainingSpec,
    TrialSpec,
    recorded_options,
)

PROTOCOL_REVISION = 1


class NamedRequest(Frozen):
    """A part that a user writes as a mapping, or as its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone_is_a_mapping(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class BackboneRequest(NamedRequest):
    """A backbone as a user names it."""

    name: str = Field(description="pinned name; `adaptertune list backbones` shows them")
    weights: Literal["bundled", "random"] | None = Field(
        default=None, description="the backbone's own weights unless `random` is asked for"
    )
    image_size: int | None = Field(default=None, ge=8, description="side of the input in pixels; default: its own")


class DatasetRequest(NamedRequest):
    """A data set as a user names it."""

    name: str = Field(description="public name; `adaptertune list datasets` shows them")


class ProtocolRequest(NamedRequest):
    """A protocol as a user names it; parts of it may be replaced."""

    name: Literal["fair"] = Field(default="fair", description="the named protocol")
    augmentation: Literal["none", "flip", "shift"] = Field(default="none", description="of training images")
    normalisation: Literal["backbone", "imagenet"] = Field(default="backbone", description="whose mean and std")
    selection: Literal["best_validation", "last_epoch"] = Field(
        default="best_validation", description="which epoch's weights are tested"
    )


class TrialRequest(Frozen):
    """One trial as a user writes it: the keys of a trial's YAML file."""

    backbone: BackboneRequest
    dataset: DatasetRequest
    method: str | dict[str, Any]
    seed: int = Field(default=0, ge=0, lt=2**31)
    protocol: ProtocolRequest = ProtocolRequest()
    training: dict[str, Any] = Field(default_factory=dict, description="the training fields that differ from default")
    launch: dict[str, Any] = Field(default_factory=dict, description="workers and accumulation; never changes a score")


class LaunchRequest(Frozen):
    """How one trial is to be spread; what is not given follows from the global batch."""

    num_workers: int = Field(default=1, ge=1)
    accumulation_steps: int = Field(default=1, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    threads_per_worker: int = Field(default=1, ge=1)


def read_trial(path: Path) -> tuple[TrialSpec, LaunchPlan]:
    """Read one trial's YAML file.

    Raises:
        RequestError: Anything in it is wrong.
    """
    request = require_mapping(load_yaml(path), str(path))
    spec = resolve_trial(request)
    launch = validated(LaunchRequest, request.get("launch", {}), "launch")
    return spec, plan_launch(spec.training.global_batch_images, **launch.model_dump())


def resolve_trial(request: Mapping[str, Any], where_method: str = "method") -> TrialSpec:
    """Complete and check one trial.

    Args:
        request: The keys of `TrialRequest`; `method` may override training fields.
        where_method: Path of the method's mapping, for errors.

    Raises:
        RequestError: A key, a value or a combination is refused; every problem found is in it.
    """
    asked = validated(TrialRequest, request, "")
    backbone, info = resolve_backbone(asked.backbone)
    method, options, overrides = _resolve_method(asked.method, where_method)
    problems = [problem.below(where_method) for problem in method.check(options, info)]
    if problems:
        raise RequestError.of(problems)
    return TrialSpec(
        backbone=backbone,
        dataset=_resolve_dataset(asked.dataset),
        method=MethodSpec(name=method.name, revision=method.revision, options=recorded_options(options)),
        protocol=ProtocolSpec(revision=PROTOCOL_REVISION, **asked.protocol.model_dump()),
        training=_resolve_training(asked.training, overrides, where_method),
        seed=asked.seed,
    )


def resolve_backbone(request: BackboneRequest) -> tuple[BackboneSpec, BackboneInfo]:
    """Pin a backbone: its weights, its input size.

    Raises:
        RequestError: There is no such backbone, or its patches do not divide the image size.
    """
    info = find_backbone(request.name)
    size = request.image_size or info.image_size_pixels
    if size % info.patch_size_pixels:
        below = size // info.patch_size_pixels * info.patch_size_pixels
        rule = f"the image size must be a multiple of the patch size {info.patch_size_pixels}"
        hint = f"The nearest: {max(below, info.patch_size_pixels)} and {below + info.patch_size_pixels}."
        raise RequestError("backbone.image_size", size, rule, hint)
    weights = request.weights or "bundled"
    spec = BackboneSpec(
        name=info.name,
        weights=weights,
        weights_sha256=info.weights_sha256 if weights == "bundled" else None,
        image_size_pixels=size,
        revision=info.revision,
    )
    return spec, info


def _resolve_dataset(request: DatasetRequest) -> DatasetSpec:
    dataset = find_dataset(request.name)
    return DatasetSpec(name=request.name, split_sha256=dataset.split_sha256, revision=dataset.info.revision)


def _resolve_method(asked: str | Mapping[str, Any], where: str) -> tuple[Method, Any, dict[str, Any]]:
    values = {"name": asked} if isinstance(asked, str) else dict(asked)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise RequestError(f"{where}.name", name, "a method needs the name of one")
    method = find_method(name, where if isinstance(asked, str) else f"{where}.name")
    overrides = {key: values.pop(key) for key in list(values) if key in TrainingSpec.model_fields}
    options = validated(method.Options, values, where, valid_keys=TrainingSpec.model_fields)
    return method, options, overrides


def _resolve_training(training: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> TrainingSpec:
    base = validated(TrainingSpec, training, "training")
    if not overrides:
        return base
    return validated(TrainingSpec, {**base.model_dump(), **overrides}, where)
