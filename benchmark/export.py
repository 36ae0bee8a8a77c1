"""A trained adaptation as files: safetensors, its record and a model card; and the way back onto a timm model (`load`).

The files need nothing of the study that they come from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor, nn

from benchmark.backbones.contract import BackboneInfo, find_backbone, tensors_sha256
from benchmark.backbones.parts.loading import HEAD_PREFIXES, resize_input
from benchmark.errors import MissingError, RequestError
from benchmark.folders import require_writable_folder
from benchmark.methods.contract import Method, find_method
from benchmark.result import TrialOutcome, TrialResult
from benchmark.spec import TrialSpec
from benchmark.training.checkpoint import restore, weights_to_bytes
from benchmark.training.model import AdaptedClassifier, adapt, load_pinned
from benchmark.training.pretrained import presentation_of

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

ADAPTER_FILE, MERGED_FILE = "adapter.safetensors", "model.safetensors"
RESULT_FILE, CARD_FILE = "result.json", "README.md"


@dataclass(frozen=True)
class TrainedTrial:
    """A completed trial with the tensors it trained.

    Attributes:
        result: Its record.
        tensors: Trained tensors by name, adapters and head.
    """

    result: TrialResult
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, outcome: TrialOutcome) -> TrainedTrial:
        """Return what a trial left.

        Raises:
            MissingError: It did not complete.
        """
        if outcome.checkpoint is None:
            trial, reason = outcome.result.trial_id, outcome.result.reason or "no reason is stored"
            raise MissingError(f"trial {trial} has no trained weights: it is {outcome.result.status} ({reason})")
        return cls(outcome.result, safetensors.torch.load(outcome.checkpoint))

    @property
    def spec(self) -> TrialSpec:
        """What was trained."""
        return TrialSpec.model_validate(self.result.spec)

    @property
    def method(self) -> Method:
        """The method that was trained."""
        return find_method(self.spec.method.name)

    @property
    def num_classes(self) -> int:
        """Classes of the head."""
        return len(self.tensors["head.weight"])

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; their numbers where the record has none."""
        return self.result.class_names or [str(label) for label in range(self.num_classes)]

    def build(self) -> AdaptedClassifier:
        """Return the trained model, in evaluation mode on the CPU; the backbone is loaded as the trial pinned it.

        Raises:
            MissingError: The backbone's weights are not here.
        """
        return self.put_on(load_pinned(self.spec.backbone, self.spec.seed).model)

    def put_on(self, backbone: VisionTransformer) -> AdaptedClassifier:
        """Attach the trained tensors to the pretrained backbone, of this trial's input size and without a head."""
        options = self.method.Options.model_validate(self.spec.method.options)
        model = adapt(backbone, self.method, options, self.spec.seed, self.num_classes)
        restore(model.trainable(), self.tensors)
        return model.eval()


def read_trained(directory: Path) -> TrainedTrial:
    """Read an exported folder, or the output folder of `python -m benchmark`.

    Raises:
        MissingError: It is no such folder.
    """
    weights = [directory / name for name in (ADAPTER_FILE, "checkpoint.safetensors") if (directory / name).is_file()]
    if not weights or not (directory / RESULT_FILE).is_file():
        raise MissingError(f"{directory} holds no trained trial: {RESULT_FILE} and {ADAPTER_FILE} are expected there")
    result = TrialResult.model_validate_json((directory / RESULT_FILE).read_text(encoding="utf-8"))
    return TrainedTrial.of(TrialOutcome(result, checkpoint=weights[0].read_bytes()))


def load(backbone: VisionTransformer, directory: str | Path) -> AdaptedClassifier:
    """Put an exported adaptation back on a timm model.

    Example:
        model = load(timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=True), "exported")

    Args:
        backbone: The pretrained timm model at its own input size, with or without its head; changed in place.
        directory: What `adaptertune export` wrote.

    Returns:
        The classifier, in evaluation mode: pixels [batch, 3, size, size] to logits [batch, classes].

    Raises:
        MissingError: The folder holds no trained trial.
        RequestError: The backbone has other weights than the adaptation was trained on.
    """
    trained = read_trained(Path(directory))
    state = {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith(HEAD_PREFIXES)}
    expected = trained.result.provenance.weights_sha256 if trained.result.provenance else None
    if expected is not None and tensors_sha256(state) != expected:
        rule = f"the adaptation was trained on {trained.spec.backbone.name} with the tensors {expected[:12]}"
        hint = f"Use timm.create_model({trained.spec.backbone.name!r}, pretrained=True), at its own input size."
        raise RequestError("backbone", tensors_sha256(state)[:12], rule, hint)
    backbone.reset_classifier(0)
    resize_input(backbone, trained.spec.backbone.image_size_pixels)
    return trained.put_on(backbone)


def write_export(trained: TrainedTrial, directory: Path, merge: bool = False) -> list[Path]:
    """Write a trained trial's files.

    Args:
        trained: What to write.
        directory: Made if need be; files of the same names are replaced.
        merge: Also write the whole model with the adaptation in its weights, which plain timm loads.

    Returns:
        The files.

    Raises:
        RequestError: The method cannot be merged, or the folder cannot be written to.
        MissingError: Merging needs the backbone's weights, which are not here.
    """
    # A refusal to merge comes before the folder, and leaves none behind.
    merged = merged_tensors(trained) if merge else None
    require_writable_folder(directory, "--output")
    contents: dict[str, bytes] = {
        ADAPTER_FILE: weights_to_bytes(trained.tensors, {"trial_id": trained.result.trial_id}),
        RESULT_FILE: (trained.result.model_dump_json(indent=2) + "\n").encode(),
        CARD_FILE: model_card(trained, merge).encode(),
    }
    if merged is not None:
        contents[MERGED_FILE] = weights_to_bytes(merged, {"format": "pt"})
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [directory / name for name in contents]


def merged_tensors(trained: TrainedTrial) -> dict[str, Tensor]:
    """Return the tensors of a plain timm model that computes what the adapted one does, its head included."""
    model = trained.build()
    backbone: Any = model.backbone
    trained.method.merge(backbone, trained.method.Options.model_validate(trained.spec.method.options))
    head: nn.Linear = model.head
    return {**backbone.state_dict(), "head.weight": head.weight, "head.bias": head.bias}


def model_card(trained: TrainedTrial, merged: bool) -> str:
    """Return a model card in Markdown, with the metadata block that the Hugging Face hub reads."""
    spec, result = trained.spec, trained.result
    info, shown = find_backbone(spec.backbone.name), presentation_of(spec)
    licence = result.provenance.backbone_licence if result.provenance else None
    rows = {
        "Method": f"{trained.method.title} (`{spec.method.name}`), {json.dumps(spec.method.options)}",
        "Source of the method": trained.method.source,
        "Backbone": f"`{spec.backbone.name}`, weights: {spec.backbone.weights}",
        "Terms of the backbone's weights": licence or "none stored",
        "SHA-256 of the backbone's tensors": result.provenance.weights_sha256 if result.provenance else "none stored",
        "Input": f"{shown.image_size_pixels} px, {shown.interpolation}, mean {shown.mean}, std {shown.std}",
        "Data": f"`{spec.dataset.name}`, split {spec.dataset.split_sha256[:12]}, {trained.num_classes} classes",
        "Training": f"{spec.training.epochs} epochs, protocol {spec.protocol.name}, seed {spec.seed}",
        "Validation top-1": _percent(result.validation.top1 if result.validation else None),
        "Test top-1, read once": _percent(result.test.top1 if result.test else None),
        "Trial": f"`{result.trial_id}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    metadata = f"---\nlibrary_name: timm\ntags: [image-classification, {spec.method.name}]\n---"
    what = f"A weight soup of {len(result.soup_members)} trials" if result.soup_members else "One seed"
    note = f"{what}: its scores say little about the method; the study's report has the intervals."
    title = f"# {trained.method.title} on {spec.backbone.name}"
    return "\n\n".join([metadata, title, f"| | |\n|---|---|\n{table}", note, _how_to_load(info, trained, merged)])


def _how_to_load(info: BackboneInfo, trained: TrainedTrial, merged: bool) -> str:
    if info.weights_sha256 is not None:  # a bundled backbone, which timm does not know
        create = f"build_backbone({info.name!r}, 'bundled', {info.image_size_pixels})"
        imports = "from benchmark.backbones.contract import build_backbone"
    else:
        create, imports = f"timm.create_model({info.name!r}, pretrained=True)", "import timm"
    lines = [imports, "from benchmark.export import load", f"model = load({create}, 'this/folder')"]
    text = "Needs `adaptertune-bench`:\n\n```python\n" + "\n".join(lines) + "\n```\n"
    if merged and info.weights_sha256 is None:
        size, classes = trained.spec.backbone.image_size_pixels, trained.num_classes
        create = f"timm.create_model({info.name!r}, num_classes={classes}, img_size={size})"
        plain = ["import timm", "from safetensors.torch import load_file", f"model = {create}"]
        plain.append(f"model.load_state_dict(load_file('{MERGED_FILE}'), strict=True)")
        text += "\nThe merged weights need timm alone:\n\n```python\n" + "\n".join(plain) + "\n```\n"
    return text


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f} %"
