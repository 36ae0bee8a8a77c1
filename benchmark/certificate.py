"""A method's certificate: what every adaptation must keep, measured on a backbone.

The items: the features equal the frozen model's at step 0 to the last bit, where the method claims so; every trainable
tensor has a gradient within five steps; the frozen bytes stay; the number of parameters is the formula's at two widths
and two ranks; one seed gives one start; a checkpoint restores the outputs; the loss falls on 64 images; merged weights
give the unmerged features, where the method merges.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import safetensors.torch
import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmark.backbones.contract import BackboneInfo, build_backbone, tensors_sha256
from benchmark.documents import validated
from benchmark.errors import RequestError
from benchmark.methods.contract import Method, RankedOptions
from benchmark.methods.parts.masks import MaskSource
from benchmark.spec import recorded_options
from benchmark.training.checkpoint import restore, snapshot, weights_to_bytes
from benchmark.training.model import AdaptedClassifier, adapt

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

NUM_CLASSES = 10
NUM_IMAGES = 64
NUM_STEPS = 20
NUM_GRADIENT_STEPS = 5
LEARNING_RATE = 3.0e-3
COUNT_WIDTHS = (48, 96)
SEED = 3

MERGE_TOLERANCE = 1.0e-5
"""Largest difference of a merged feature, relative to the largest feature: fp32 rounding through the blocks gives about
1e-6, a wrong merge 1e-2 and more."""

Verdict = Literal["pass", "fail", "not_applicable"]


@dataclass(frozen=True)
class Finding:
    """What the examination of one item found.

    Attributes:
        item: The item's name.
        verdict: Whether it holds, or cannot apply.
        measured: The figures, or why it does not apply.
    """

    item: str
    verdict: Verdict
    measured: str


@dataclass(frozen=True)
class Certificate:
    """All findings about one method with one set of options.

    Attributes:
        method: Public name.
        options: As a trial records them.
        backbone: Name of the backbone it was examined on.
        findings: One an item.
    """

    method: str
    options: Mapping[str, Any]
    backbone: str
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether no item fails."""
        return all(finding.verdict != "fail" for finding in self.findings)


@dataclass(frozen=True)
class Subject:
    """A backbone to examine methods on.

    Attributes:
        info: Its facts; the counts' formula reads them.
        build: Returns it without a head, each time with the same weights.
    """

    info: BackboneInfo
    build: Callable[[], VisionTransformer]


def registered_subject(backbone: str) -> Subject:
    """Return a backbone of the registry, with the weights that it has by default."""
    from benchmark.request import BackboneRequest, resolve_backbone

    spec, info = resolve_backbone(BackboneRequest(name=backbone))
    return Subject(info, lambda: build_backbone(spec.name, spec.weights, spec.image_size_pixels))


def small_subject(width: int, depth: int = 2, **structure: Any) -> Subject:
    """Return a small random Vision Transformer.

    Args:
        width: Embedding dimension, a multiple of 8.
        depth: Number of blocks.
        structure: Further arguments of timm's `VisionTransformer`.
    """
    from timm.models.vision_transformer import VisionTransformer

    arguments = {"img_size": 18, "patch_size": 6, "embed_dim": width, "depth": depth, "num_heads": 4, "num_classes": 0}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        template = VisionTransformer(**{**arguments, **structure}).eval()
    num_parameters = sum(parameter.numel() for parameter in template.parameters())
    half = (0.5, 0.5, 0.5)
    info = BackboneInfo(
        f"small_{width}", width, depth, 6, 18, num_parameters, half, half, "bicubic", "", "random weights"
    )
    return Subject(info, functools.partial(copy.deepcopy, template))


def certify(method: Method, values: Mapping[str, Any], subject: Subject) -> Certificate:
    """Examine a method with these options on a backbone.

    Raises:
        RequestError: The options are wrong, or do not fit the backbone.
    """
    options = validated(method.Options, values, "method")
    problems = method.check(options, subject.info)
    if problems:
        raise RequestError.of(problems)
    examination = Examination(method, options, subject)
    excused = method.not_applicable(options)
    findings = []
    for item, examine in examination.items.items():
        is_excused = item in excused
        findings.append(Finding(item, "not_applicable", excused[item]) if is_excused else Finding(item, *examine()))
    return Certificate(method.name, recorded_options(options), subject.info.name, tuple(findings))


@dataclass
class TrainingRun:
    """What twenty steps on sixty-four images left.

    Attributes:
        model: The trained model.
        losses: Before each step's update.
        without_gradient: Trainable tensors whose gradient was zero or absent in the first five steps.
    """

    model: AdaptedClassifier
    losses: list[float] = field(default_factory=list)
    without_gradient: set[str] = field(default_factory=set)


class Examination:
    """The items, each a function that returns a verdict and its figures; one training run serves several."""

    def __init__(self, method: Method, options: Any, subject: Subject) -> None:
        """Examine `method` with `options` on `subject`."""
        self.method, self.options, self.subject = method, options, subject
        self.items: dict[str, Callable[[], tuple[Verdict, str]]] = {
            "identity": self.identity,
            "gradients": self.gradients,
            "frozen": self.frozen,
            "count": self.count,
            "seed": self.seed,
            "checkpoint": self.checkpoint,
            "loss": self.loss,
            "merge": self.merge,
        }

    def identity(self) -> tuple[Verdict, str]:
        """Compare the features at step 0 with the frozen model's: equal to 0 ulp where claimed, else different."""
        reference, found = self._features(self.subject.build()), self._features(self._fresh().backbone)
        if reference.shape != found.shape:
            return "fail", f"features of shape {tuple(found.shape)} instead of {tuple(reference.shape)}"
        difference = (found - reference).abs().max().item()
        if self.method.is_identity_at_start(self.options):
            return _verdict(difference == 0.0), f"largest difference {difference:g}"
        if difference == 0.0:
            return "fail", "identical at the start, though the method does not claim it"
        return "not_applicable", f"does not start at the pretrained function: largest difference {difference:.3g}"

    def gradients(self) -> tuple[Verdict, str]:
        """Every trainable tensor has a gradient other than zero within five steps."""
        num_tensors = len(self.run.model.trainable())
        missing = sorted(self.run.without_gradient)
        if missing:
            return "fail", f"{len(missing)} of {num_tensors} tensors without: {', '.join(missing[:3])}"
        return "pass", f"{num_tensors} tensors"

    def frozen(self) -> tuple[Verdict, str]:
        """The pretrained tensors that do not train keep their bytes, from before attaching to the last step."""
        reference = self._fresh().frozen
        if not self.method.rewrites_frozen_weights(self.options):
            pretrained = self.subject.build().state_dict()
            reference = {name: pretrained[name] for name in reference}
        changed = [name for name, tensor in self.run.model.frozen.items() if not torch.equal(tensor, reference[name])]
        same_bytes = tensors_sha256(self.run.model.frozen) == tensors_sha256(reference)
        if changed or not same_bytes:
            return "fail", f"changed: {', '.join(sorted(changed)[:3]) or 'the bytes of equal values'}"
        return "pass", f"{len(reference)} tensors after {NUM_STEPS} steps"

    def count(self) -> tuple[Verdict, str]:
        """The trainable parameters are as many as the formula says, at two widths and two ranks."""
        subjects = [self.subject, *_count_subjects(self.subject.info.depth)]
        figures = []
        for subject in subjects:
            for options in _at_two_ranks(self.options):
                model = adapt(subject.build(), self.method, options, SEED, NUM_CLASSES)
                head = (subject.info.width + 1) * NUM_CLASSES
                counted = sum(parameter.numel() for parameter in model.trainable().values()) - head
                formula = self.method.count_parameters(options, subject.info)
                if counted != formula:
                    return "fail", f"{counted} instead of {formula} at width {subject.info.width}"
                figures.append(counted)
        return "pass", ", ".join(map(str, figures))

    def seed(self) -> tuple[Verdict, str]:
        """One seed gives the same start twice."""
        first, second = self._fresh().state_dict(), self._fresh().state_dict()
        different = [name for name in first if not torch.equal(first[name], second[name])]
        if different or first.keys() != second.keys():
            return "fail", f"different: {', '.join(different[:3])}"
        return "pass", f"{len(first)} tensors"

    def checkpoint(self) -> tuple[Verdict, str]:
        """The trained tensors, through safetensors, give a fresh model of the same seed the same outputs."""
        content = weights_to_bytes(snapshot(self.run.model.trainable()), {})
        fresh = self._fresh()
        restore(fresh.trainable(), safetensors.torch.load(content))
        with torch.no_grad():
            is_equal = torch.equal(fresh(self._pixels), self.run.model(self._pixels))
        return _verdict(is_equal), f"{len(content)} bytes"

    def loss(self) -> tuple[Verdict, str]:
        """The loss on sixty-four images is lower after twenty steps."""
        first, last = self.run.losses[0], self.run.losses[-1]
        return _verdict(last < first), f"{first:.3f} to {last:.3f}"

    def merge(self) -> tuple[Verdict, str]:
        """The merged weights, loaded into a plain backbone, give the unmerged features."""
        if self.method.not_mergeable:
            return "not_applicable", self.method.not_mergeable
        trained = self.run.model.backbone
        reference = self._features(trained)
        merged: Any = copy.deepcopy(trained)
        self.method.merge(merged, self.options)
        plain = self.subject.build()
        plain.load_state_dict(merged.state_dict(), strict=True)
        difference = ((self._features(plain) - reference).abs().max() / reference.abs().max()).item()
        return _verdict(difference <= MERGE_TOLERANCE), f"{difference:.1e} relative, allowed {MERGE_TOLERANCE:.0e}"

    @cached_property
    def run(self) -> TrainingRun:
        """Twenty steps of AdamW with the random masks on."""
        model = self._fresh()
        trainable, masks, rows = model.trainable(), MaskSource(model), torch.arange(NUM_IMAGES)
        run = TrainingRun(model, without_gradient=set(trainable))
        optimizer = torch.optim.AdamW(trainable.values(), lr=LEARNING_RATE)
        for step in range(NUM_STEPS):
            optimizer.zero_grad()
            with masks.drawn(SEED, step, rows):
                loss = functional.cross_entropy(model(self._pixels), self._labels)
                loss.backward()
            if step < NUM_GRADIENT_STEPS:
                run.without_gradient -= {name for name, value in trainable.items() if _has_gradient(value)}
            optimizer.step()
            run.losses.append(loss.item())
        return run

    def _fresh(self) -> AdaptedClassifier:
        return adapt(self.subject.build(), self.method, self.options, SEED, NUM_CLASSES)

    @cached_property
    def _pixels(self) -> Tensor:
        size = self.subject.info.image_size_pixels
        return torch.randn(NUM_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))

    @cached_property
    def _labels(self) -> Tensor:
        return torch.randint(0, NUM_CLASSES, (NUM_IMAGES,), generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def _features(self, backbone: torch.nn.Module) -> Tensor:
        features: Tensor = backbone(self._pixels)
        return features


@functools.lru_cache(maxsize=2)
def _count_subjects(depth: int) -> tuple[Subject, ...]:
    return tuple(small_subject(width, depth) for width in COUNT_WIDTHS)


def _at_two_ranks(options: Any) -> list[Any]:
    if not isinstance(options, RankedOptions):
        return [options]
    return [options, options.model_copy(update={"rank": 2 * options.rank})]


def _has_gradient(parameter: torch.nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.count_nonzero())


def _verdict(holds: bool) -> Verdict:
    return "pass" if holds else "fail"
