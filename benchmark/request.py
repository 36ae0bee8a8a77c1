"""From what a user writes to a complete `TrialSpec`: defaults written out, names pinned, combinations checked.

Used for one trial's YAML and for every cell of a study's grid. Loads neither weights nor data, nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from benchmark.backbones.contract import PAPER_BACKBONES, BackboneInfo, find_backbone
from benchmark.backbones.parts.weight_files import WEIGHT_SUFFIXES, file_sha256, is_weight_file_name
from benchmark.datasets.contract import find_dataset, name_and_root, open_dataset
from benchmark.documents import load_yaml, require_mapping, validated
from benchmark.errors import RequestError
from benchmark.launch_plan import ComputeOptions, LaunchPlan, plan_launch
from benchmark.methods.contract import Method, find_method
from benchmark.protocols import Augmentation, find_protocol, resolve_protocol
from benchmark.spec import (
    BackboneSpec,
    DatasetSpec,
    Frozen,
    MethodSpec,
    ProtocolSpec,
    SplitPreset,
    TrainingSpec,
    TrialSpec,
    kept_defaults,
    recorded_options,
)

TRAINS_ON_VALIDATION = ("vtab_1000", "train_and_validation")
"""The presets under which validation images are trained on, and so choose nothing."""


class NamedRequest(Frozen):
    """A part that a user writes as a mapping, or as its name alone."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone_is_a_mapping(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class BackboneRequest(NamedRequest):
    """A backbone as a user names it."""

    name: str = Field(description="pinned name; `adaptertune list backbones` shows them")
    weights: str | None = Field(
        default=None,
        description="`random`, or the path of a local file (.safetensors, .pth, .npz); default: its published weights",
    )
    image_size: int | None = Field(default=None, ge=8, description="side of the input in pixels; default: its own")


class DatasetRequest(NamedRequest):
    """A data set as a user names it."""

    name: str = Field(
        description="public name (`adaptertune list datasets`), `image_folder:DIR`, `image_folder:FILE.tar`, `hf:NAME`"
    )
    root: str | None = Field(default=None, description="folder of the data; default: below $ADAPTERTUNE_DATA")
    split: SplitPreset | None = Field(
        default=None, description="default: the protocol's; `paper` follows the run's seed, as released"
    )
    validation_fraction: float | None = Field(
        default=None, gt=0, lt=1, description="share of the training images held out for validation"
    )


class ProtocolRequest(NamedRequest):
    """A protocol as a user names it; parts of it may be replaced. Null: as the protocol says."""

    name: Literal["fair", "paper"] = Field(default="fair", description="the named protocol")
    augmentation: Augmentation | None = Field(default=None, description="of training images")
    normalisation: Literal["backbone", "imagenet"] | None = Field(default=None, description="whose mean and std")
    selection: Literal["best_validation", "last_epoch"] | None = Field(
        default=None, description="which epoch's weights are tested"
    )
    resizing: Literal["backbone", "torchvision"] | None = Field(
        default=None, description="whose filter and centre crop"
    )
    centre_crop: Literal["resizing", "none"] | None = Field(
        default=None, description="none: an image's whole shorter side is shown, as suits small, tightly cut images"
    )


class TrialRequest(Frozen):
    """One trial as a user writes it: the keys of a trial's YAML file."""

    backbone: BackboneRequest
    dataset: DatasetRequest
    method: str | dict[str, Any]
    seed: int = Field(default=0, ge=0, lt=2**31)
    protocol: ProtocolRequest = ProtocolRequest()
    training: dict[str, Any] = Field(default_factory=dict, description="the training fields that differ from default")
    reads_test: bool = Field(default=True, description="whether the test split is read at the end")
    launch: dict[str, Any] = Field(default_factory=dict, description="workers and accumulation; never changes a score")


class LaunchRequest(ComputeOptions):
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
    return resolve_with_launch(require_mapping(load_yaml(path), str(path)))


def resolve_with_launch(request: Mapping[str, Any]) -> tuple[TrialSpec, LaunchPlan]:
    """Complete and check one trial, and say how it is spread; the argument is `resolve_trial`'s.

    Raises:
        RequestError: Anything in it is wrong.
    """
    spec = resolve_trial(request)
    launch = validated(LaunchRequest, request.get("launch", {}), "launch")
    spread = launch.model_dump(exclude=set(ComputeOptions.model_fields))
    return spec, plan_launch(spec.training.global_batch_images, **spread, compute=launch.compute_options())


def resolve_trial(request: Mapping[str, Any], where_method: str = "method") -> TrialSpec:
    """Complete and check one trial.

    Args:
        request: The keys of `TrialRequest`; `method` may override training fields.
        where_method: Path of the method's mapping, for errors.

    Raises:
        RequestError: A key, a value or a combination is refused; every problem found is in it.
    """
    asked = validated(TrialRequest, request, "")
    backbone, info = resolve_backbone(asked.backbone, asked.protocol.name)
    method, options, overrides = resolve_method(asked.method, where_method)
    problems = [problem.below(where_method) for problem in method.check(options, info)]
    if problems:
        raise RequestError.of(problems)
    dataset = _resolve_dataset(asked.dataset, asked.protocol.name, asked.seed)
    return TrialSpec(
        backbone=backbone,
        dataset=dataset,
        method=MethodSpec(
            name=method.name,
            revision=method.revision,
            options=recorded_options(options),
            defaults=kept_defaults(options),
        ),
        protocol=_resolve_protocol(asked.protocol, dataset, asked.seed),
        training=_resolve_training(asked.protocol.name, asked.training, overrides, where_method),
        seed=asked.seed,
        reads_test=asked.reads_test,
    )


def resolve_backbone(request: BackboneRequest, protocol: str = "fair") -> tuple[BackboneSpec, BackboneInfo]:
    """Pin a backbone: its name, its weights, its input size.

    Raises:
        RequestError: There is no such backbone, or its patches do not divide the image size.
        MissingError: A local weight file is not there.
    """
    assumed = PAPER_BACKBONES.get(request.name) if protocol == "paper" else None
    info = find_backbone(assumed or request.name)
    size = request.image_size or info.image_size_pixels
    if size % info.patch_size_pixels:
        below = size // info.patch_size_pixels * info.patch_size_pixels
        rule = f"the image size must be a multiple of the patch size {info.patch_size_pixels}"
        hint = f"The nearest: {max(below, info.patch_size_pixels)} and {below + info.patch_size_pixels}."
        raise RequestError("backbone.image_size", size, rule, hint)
    spec = BackboneSpec(
        name=info.name,
        **_resolve_weights(request.weights or info.default_weights, info),
        image_size_pixels=size,
        revision=info.revision,
        assumed_from=request.name if assumed else None,
    )
    return spec, info.resized(size)


def _resolve_weights(asked: str, info: BackboneInfo) -> dict[str, Any]:
    """Return the fields of a spec that say where weights come from; a local file enters by its content."""
    if asked == info.default_weights:
        return {"weights": asked, "weights_sha256": info.weights_sha256}
    if asked == "random":
        return {"weights": "random", "weights_sha256": None}
    if is_weight_file_name(asked):
        path = Path(asked).expanduser().absolute()
        return {"weights": "file", "weights_sha256": file_sha256(path), "weights_file": str(path)}
    rule = f"must be {info.default_weights}, random, or the path of a file that ends with {', '.join(WEIGHT_SUFFIXES)}"
    raise RequestError("backbone.weights", asked, rule, f"Leave it out for {info.default_weights} weights.")


def _resolve_dataset(request: DatasetRequest, protocol: str, seed: int) -> DatasetSpec:
    """Pin a data set and its split, which is the protocol's unless the request names one."""
    split = request.split or find_protocol(protocol).split
    dataset = find_dataset(
        request.name,
        root=request.root,
        validation_fraction=request.validation_fraction,
        split=split,
        seed=seed,
    )
    return DatasetSpec(
        name=dataset.info.name,
        split_sha256=dataset.split_sha256,
        revision=dataset.info.revision,
        root=name_and_root(request.name, request.root)[1],
        split=split,
        validation_fraction=request.validation_fraction,
    )


def resolve_method(asked: str | Mapping[str, Any], where: str = "method") -> tuple[Method, Any, dict[str, Any]]:
    """Return the method that was asked for, its checked options, and the training fields among them.

    Raises:
        RequestError: There is no such method, or an option is refused.
    """
    values = {"name": asked} if isinstance(asked, str) else dict(asked)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise RequestError(f"{where}.name", name, "a method needs the name of one")
    method = find_method(name, where if isinstance(asked, str) else f"{where}.name")
    overrides = {key: values.pop(key) for key in list(values) if key in TrainingSpec.model_fields}
    options = validated(method.Options, values, where, valid_keys=TrainingSpec.model_fields)
    return method, options, overrides


def _resolve_protocol(request: ProtocolRequest, dataset: DatasetSpec, seed: int) -> ProtocolSpec:
    replaced = request.model_dump(exclude={"name"}, exclude_none=True)
    info = open_dataset(dataset, seed).info
    protocol = resolve_protocol(request.name, replaced, info.name, info.flips_keep_labels)
    if dataset.split in TRAINS_ON_VALIDATION and protocol.selection == "best_validation":
        rule = f"under the split {dataset.split} the validation images are trained on too, so they can choose no epoch"
        hint = "Write protocol: {name: fair, selection: last_epoch}, or leave the split at its default."
        raise RequestError("protocol.selection", protocol.selection, rule, hint)
    return protocol


def _resolve_training(
    protocol: str, training: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> TrainingSpec:
    """Put together the protocol's training fields, the study's over them, and the method's over both."""
    base = validated(TrainingSpec, {**find_protocol(protocol).training, **training}, "training")
    if not overrides:
        return base
    return validated(TrainingSpec, {**base.model_dump(), **overrides}, where)
