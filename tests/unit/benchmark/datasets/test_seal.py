"""A search cannot open a test split: neither its driver nor a rank, whichever way the images are reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.datasets.contract import Dataset, Split, find_dataset
from benchmark.datasets.reading.seal import sealed_tests
from benchmark.errors import RequestError, SealedTestError
from benchmark.launch_plan import plan_launch
from benchmark.request import resolve_trial
from benchmark.result import TrialStatus
from benchmark.standalone import run_trial
from benchmark.training.images import open_images
from benchmark.training.input.decoded_index import open_split
from benchmark.training.pretrained import presentation_of

SIZE = 18


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images in two classes, of which the test images are no images at all."""
    for split, number in (("train", 8), ("test", 4)):
        for index in range(number):
            path = tmp_path / "images" / split / f"class{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(index).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            if split == "test":
                path.write_bytes(b"no image")
    return tmp_path / "images"


def trial(dataset: dict[str, Any], **keys: Any) -> dict[str, Any]:
    training = {"epochs": 1, "warmup_epochs": 0, "global_batch_images": 2}
    return {"backbone": "vit_nano", "dataset": dataset, "method": "head_only", "training": training, **keys}


OPENINGS: list[Callable[[Dataset, Split], object]] = [
    lambda dataset, split: dataset.items(split),
    lambda dataset, split: dataset.load(split),
    lambda dataset, split: open_split(dataset, split, SIZE),
]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("preset", ["fixed", "train_and_validation"])
def test_test_split_stays_closed_under_the_seal(opening: Callable[[Dataset, Split], object], preset: Any) -> None:
    dataset = find_dataset("digits", split=preset)
    with sealed_tests():
        with sealed_tests():
            pass
        assert opening(dataset, "train") is not None
        with pytest.raises(SealedTestError, match="digits is sealed"):
            opening(dataset, "test")
    assert opening(dataset, "test") is not None


def test_test_split_stays_closed_when_the_process_has_opened_it_before() -> None:
    spec = resolve_trial({"backbone": "vit_nano", "dataset": "digits", "method": "head_only"})
    dataset, presentation = find_dataset("digits"), presentation_of(spec)
    assert len(open_images(dataset, "test", presentation)) == 360
    with sealed_tests(), pytest.raises(SealedTestError):
        open_images(dataset, "test", presentation)


def test_searching_trial_completes_without_test_scores_when_the_test_images_cannot_be_read(folder: Path) -> None:
    dataset = {"name": f"image_folder:{folder}", "validation_fraction": 0.25}
    spec = resolve_trial(trial(dataset, reads_test=False))
    outcome = run_trial(spec, plan_launch(2))
    assert outcome.result.status is TrialStatus.COMPLETED
    assert outcome.result.validation is not None
    unread = (outcome.result.test, outcome.result.test_read_at, outcome.result.confusion, outcome.predictions)
    assert unread == (None, None, None, None)
    with pytest.raises(RequestError, match=r"test/class0/0\.png"):
        run_trial(resolve_trial(trial(dataset)), plan_launch(2))


def test_trial_that_reads_the_test_split_is_another_one() -> None:
    searching, confirming = (resolve_trial(trial({"name": "digits"}, reads_test=reads)) for reads in (False, True))
    assert searching.trial_id != confirming.trial_id


def test_training_images_are_all_that_is_not_tested_when_asked_for() -> None:
    parts, joined = find_dataset("digits"), find_dataset("digits", split="train_and_validation")
    assert joined.info.num_images == {"train": 1437, "validation": 180, "test": 360}
    expected = [*parts.items("train").identities, *parts.items("validation").identities]
    assert joined.items("train").identities.tolist() == expected == joined.read_manifest()["splits"]["train"]
    assert joined.split_sha256 != parts.split_sha256
    stored = open_split(joined, "train", SIZE)
    last = parts.load("validation").pixels[-1]
    assert np.array_equal(stored.image(len(stored) - 1), last)
    assert np.array_equal(np.asarray(joined.items("train").decode(1436)), last)


def test_validation_cannot_choose_the_epoch_when_it_is_trained_on() -> None:
    dataset = {"name": "digits", "split": "train_and_validation"}
    with pytest.raises(RequestError, match=r"protocol\.selection"):
        resolve_trial(trial(dataset))
    protocol = {"name": "fair", "selection": "last_epoch"}
    assert resolve_trial(trial(dataset, protocol=protocol)).dataset.split == "train_and_validation"
