"""The protocols as data: how images are presented, which weights are tested, and how training is set by default.

`paper` is the released protocol of AdapterTune (arXiv 2603.14706) as it is, with its weak points; `fair` mends them.
A study names one and may replace parts of it; what it then asks for stands in every trial's spec. What is added to a
protocol of this file changes the trials that name it: raise its revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from benchmark.errors import RequestError, nearest
from benchmark.spec import ProtocolSpec

Augmentation = Literal["none", "flip", "shift", "crop_flip"]
MIRRORING_AUGMENTATIONS = frozenset({"flip", "crop_flip"})


@dataclass(frozen=True)
class Protocol:
    """A named protocol.

    Attributes:
        name: Public name.
        title: One line for people.
        revision: Raised when the numbers obtained with it change.
        normalisation: Whose mean and standard deviation.
        resizing: Whose filter and centre crop.
        augmentation: Of training images whose class survives mirroring.
        augmentation_unless_flips_keep_labels: Of digits, signs and the like, and of images that nobody stated it of.
        allows_flips_that_change_labels: Whether an augmentation that mirrors may be asked for on those.
        selection: Which epoch's weights are tested.
        split: Preset of the data set's split: `fixed`, or `paper`, which follows the run's seed.
        training: The training fields it fixes by default; a study and a method may override them. The rest are
            `TrainingSpec`'s own defaults.
        optimiser: What trains, for people.
        schedule: How the learning rate moves, for people.
        tuning: What each method may tune before it is compared.
        notes: What a reader of its results should know.
        source: Where it is stated.
    """

    name: Literal["fair", "paper"]
    title: str
    revision: int
    normalisation: Literal["backbone", "imagenet"]
    resizing: Literal["backbone", "torchvision"]
    augmentation: Augmentation
    augmentation_unless_flips_keep_labels: Augmentation
    allows_flips_that_change_labels: bool
    selection: Literal["best_validation", "last_epoch"]
    split: Literal["fixed", "paper"]
    training: Mapping[str, Any]
    optimiser: str
    schedule: str
    tuning: str
    notes: tuple[str, ...]
    source: str

    def augmentation_for(self, flips_keep_labels: bool | None) -> Augmentation:
        """Return the augmentation of a data set's training images; where nobody knows, none that mirrors."""
        return self.augmentation if flips_keep_labels else self.augmentation_unless_flips_keep_labels


_OPTIMISER = "AdamW (betas 0.9 and 0.999), weight decay on everything trainable, gradients clipped by their global norm"
_SCHEDULE = "linear warm-up from 0, then cosine to 0, per optimiser step"

FAIR = Protocol(
    name="fair",
    title="each backbone and each method on its own best terms",
    revision=2,
    normalisation="backbone",
    resizing="backbone",
    augmentation="crop_flip",
    augmentation_unless_flips_keep_labels="none",
    allows_flips_that_change_labels=False,
    selection="best_validation",
    split="fixed",
    training=MappingProxyType({"head_init": "trunc_normal"}),
    optimiser=_OPTIMISER,
    schedule=_SCHEDULE,
    tuning="the same budget for every method, full fine-tuning included: equally many settings, chosen on validation",
    notes=(
        "mean, standard deviation, filter and centre crop are those of the backbone's pretraining",
        "no mirroring and no heavy crops on digits, nor on a user's own images unless the study asks for them",
        "the split does not depend on the run's seed",
        "the tested weights are those of the epoch whose validation score is shown beside them",
        "the head starts as timm's own heads do, small enough for features of any norm",
    ),
    source="this project",
)

PAPER = Protocol(
    name="paper",
    title="AdapterTune's released protocol, exactly as it is",
    revision=2,
    normalisation="imagenet",
    resizing="torchvision",
    augmentation="crop_flip",
    augmentation_unless_flips_keep_labels="crop_flip",
    allows_flips_that_change_labels=True,
    selection="last_epoch",
    split="paper",
    training=MappingProxyType(
        {
            "epochs": 50,
            "warmup_epochs": 5.0,
            "global_batch_images": 128,
            "learning_rate": 1.0e-3,
            "weight_decay": 0.05,
            "gradient_clip_norm": 1.0,
            "label_smoothing": 0.0,
            "precision": "fp32",
            "head_init": "trunc_normal",
        }
    ),
    optimiser=_OPTIMISER,
    schedule=_SCHEDULE,
    tuning="none: one learning rate for every method, full fine-tuning untuned",
    notes=(
        "ImageNet's mean and standard deviation whatever the backbone was pretrained with",
        "random crops of 8-100 % of the area and mirroring, on digits too",
        "the run's seed also moves the split: 10 % of the training images become validation",
        "the last epoch's weights are tested; the best epoch's validation score does not choose them",
        "how the head starts is not stated there; timm's own way is assumed",
        "the released full runs use a global batch of 1024 and a learning rate of 5e-4 for every method",
    ),
    source="arXiv 2603.14706, released configurations and code",
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in (FAIR, PAPER)})


def find_protocol(name: str, where: str = "protocol") -> Protocol:
    """Return the protocol of that name.

    Raises:
        RequestError: There is none; the valid names are given.
    """
    if name not in PROTOCOLS:
        raise RequestError(where, name, "there is no such protocol", nearest(name, PROTOCOLS))
    return PROTOCOLS[name]


def resolve_protocol(
    name: str, replaced: Mapping[str, Any], dataset_name: str, flips_keep_labels: bool | None
) -> ProtocolSpec:
    """Write a protocol out for one data set.

    Args:
        name: The protocol's.
        replaced: The fields that were asked for instead of the protocol's own.
        dataset_name: For errors.
        flips_keep_labels: Whether a mirrored image of the data set still shows its class; none: not known, so only who
            asks for it gets it.

    Raises:
        RequestError: An augmentation that mirrors was asked for where it changes the class.
    """
    protocol = find_protocol(name, "protocol.name")
    augmentation = replaced.get("augmentation") or protocol.augmentation_for(flips_keep_labels)
    may_mirror = flips_keep_labels is not False or protocol.allows_flips_that_change_labels
    if augmentation in MIRRORING_AUGMENTATIONS and not may_mirror:
        rule = f"a mirrored image of {dataset_name} may show another class, so `{name}` does not mirror it"
        raise RequestError("protocol.augmentation", augmentation, rule, "Use none or shift.")
    own = {
        "normalisation": protocol.normalisation,
        "selection": protocol.selection,
        "resizing": protocol.resizing,
    }
    return ProtocolSpec(
        name=protocol.name,
        revision=protocol.revision,
        **{**own, **replaced, "augmentation": augmentation},
    )
