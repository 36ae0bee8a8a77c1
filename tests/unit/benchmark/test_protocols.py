"""Guards the protocols as data: `fair` keeps its identity, `paper` is what the paper's code does."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark.errors import RequestError
from benchmark.protocols import FAIR, PAPER, PROTOCOLS, Protocol, resolve_protocol
from benchmark.request import resolve_trial
from benchmark.spec import TrainingSpec, hashed_fields
from benchmark.training.pretrained import presentation_of


def test_fair_protocol_keeps_its_hash_when_the_data_set_is_digits(tiny_request: dict[str, Any]) -> None:
    # The fields and values by which the shipped demo's trials are known.
    assert hashed_fields(resolve_trial(tiny_request).protocol) == {
        "name": "fair",
        "revision": 2,
        "normalisation": "backbone",
        "augmentation": "none",
        "selection": "best_validation",
    }


def test_paper_protocol_is_the_released_one_when_named_alone(tiny_request: dict[str, Any]) -> None:
    protocol = resolve_trial({**tiny_request, "dataset": "cifar10", "protocol": "paper"}).protocol
    assert (protocol.normalisation, protocol.resizing) == ("imagenet", "torchvision")
    assert (protocol.augmentation, protocol.selection) == ("crop_flip", "last_epoch")


def test_paper_trains_as_released_when_nothing_else_is_asked() -> None:
    # AdapterTune's released configurations (arXiv 2603.14706); the head's start, which they do not state, is timm's.
    released = TrainingSpec(
        epochs=50,
        warmup_epochs=5,
        global_batch_images=128,
        learning_rate=1e-3,
        weight_decay=0.05,
        gradient_clip_norm=1.0,
        label_smoothing=0.0,
        precision="fp32",
        head_init="trunc_normal",
    )
    request = {"backbone": "vit_nano", "dataset": "cifar10", "method": "head_only", "protocol": "paper"}
    assert resolve_trial(request).training == released


def test_study_wins_over_the_protocol_when_both_set_a_training_field(tiny_request: dict[str, Any]) -> None:
    request = {**tiny_request, "dataset": "cifar10", "protocol": "paper"}
    assert resolve_trial(request).training.epochs == tiny_request["training"]["epochs"]


def test_fair_protocol_crops_and_mirrors_when_mirroring_keeps_the_class() -> None:
    assert resolve_protocol("fair", {}, "pets", flips_keep_labels=True).augmentation == "crop_flip"


def test_images_are_mirrored_only_when_asked_for_where_nobody_knows_whether_that_keeps_their_class():
    assert resolve_protocol("fair", {}, "image_folder", flips_keep_labels=None).augmentation == "none"
    asked = resolve_protocol("fair", {"augmentation": "flip"}, "image_folder", flips_keep_labels=None)
    assert asked.augmentation == "flip"


@pytest.mark.parametrize("augmentation", ["flip", "crop_flip"])
def test_fair_protocol_refuses_to_mirror_when_that_changes_the_class(augmentation: str) -> None:
    with pytest.raises(RequestError, match=r"protocol\.augmentation.*svhn may show another class"):
        resolve_protocol("fair", {"augmentation": augmentation}, "svhn", flips_keep_labels=False)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_training_fields_of_a_protocol_are_known_when_it_is_shipped(protocol: Protocol) -> None:
    assert TrainingSpec(**protocol.training)


def test_protocols_say_how_methods_are_tuned_and_how_they_split_when_compared() -> None:
    assert "same budget" in FAIR.tuning
    assert (FAIR.split, PAPER.split) == ("fixed", "paper")
    assert any("seed also moves the split" in note for note in PAPER.notes)


def test_whole_image_is_shown_when_no_centre_crop_is_asked_for(tiny_request: dict[str, Any]) -> None:
    tiny = {"name": "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "weights": "random", "image_size": 96}
    request = {**tiny_request, "backbone": tiny}
    cropped = resolve_trial(request)
    whole = resolve_trial({**request, "protocol": {"name": "fair", "centre_crop": "none"}})
    assert (presentation_of(cropped).crop_fraction, presentation_of(whole).crop_fraction) == (0.9, 1.0)
    assert cropped.trial_id != whole.trial_id
