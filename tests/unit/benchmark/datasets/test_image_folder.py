from __future__ import annotations

import logging
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.contract import _found, find_dataset, open_dataset, write_manifest
from benchmark.datasets.reading.splitting import SPLITS
from benchmark.errors import MissingError, RequestError
from benchmark.request import resolve_trial
from tests.unit.benchmark.datasets.image_files import make_folder, make_tar, make_tar_of, pixels, png_bytes


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERTUNE_DATA", str(tmp_path / "data-root"))


def trial_of(dataset: object, seed: int = 0) -> object:
    return resolve_trial({"backbone": "vit_nano", "dataset": dataset, "method": "head_only", "seed": seed})


def test_a_tenth_of_each_class_is_held_out_when_there_is_no_validation_folder(tmp_path: Path) -> None:
    dataset = find_dataset(f"image_folder:{make_folder(tmp_path / 'pets')}")
    counts = {split: np.bincount(dataset.items(split).labels).tolist() for split in SPLITS}
    assert counts == {"train": [9, 9], "validation": [1, 1], "test": [2, 3]}
    assert dataset.info.class_names == ("cat", "dog")
    assert dict(dataset.info.num_images) == {"train": 18, "validation": 2, "test": 5}


def test_the_share_is_the_asked_one_when_a_fraction_is_given(tmp_path: Path) -> None:
    dataset = find_dataset("image_folder", root=str(make_folder(tmp_path / "pets")), validation_fraction=0.3)
    assert dict(dataset.info.num_images) == {"train": 14, "validation": 6, "test": 5}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_are_the_folders_own_when_there_is_one(tmp_path: Path, name: str) -> None:
    folders = {"train/a": 3, "train/b": 3, f"{name}/a": 2, f"{name}/b": 1, "test/a": 1, "test/b": 1}
    dataset = find_dataset(f"image_folder:{make_folder(tmp_path / 'pets', folders)}")
    assert dict(dataset.info.num_images) == {"train": 6, "validation": 3, "test": 2}


def test_a_fraction_is_refused_when_there_is_a_validation_folder(tmp_path: Path) -> None:
    folders = {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 1, "test/a": 1, "test/b": 1}
    root = make_folder(tmp_path / "pets", folders)
    with pytest.raises(RequestError, match="validation images of its own"):
        trial_of({"name": "image_folder", "root": str(root), "validation_fraction": 0.2})


def test_pixels_are_the_files_when_decoded(tmp_path: Path) -> None:
    items = find_dataset(f"image_folder:{make_folder(tmp_path / 'pets')}").items("test")
    assert items.identities[0] == "test/cat/000.png"
    np.testing.assert_array_equal(np.asarray(items.decode(0)), pixels(21))  # the 21st image that make_folder writes


def test_identity_is_the_same_when_the_folder_is_moved_or_packed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "animals")
    plain, below = make_tar(tmp_path / "plain.tar", folder), make_tar(tmp_path / "below.tar", folder, "pets/")
    trials = [trial_of(f"image_folder:{place}") for place in (folder, moved, plain, below)]
    trials.append(trial_of({"name": "image_folder", "root": str(folder)}))
    assert len({trial.trial_id for trial in trials}) == 1
    assert {trial.dataset.name for trial in trials} == {"image_folder"}
    assert trials[0].dataset.root == str(folder)
    images = [np.asarray(open_dataset(trial.dataset).items("train").decode(3)) for trial in trials]
    assert all(np.array_equal(images[0], image) for image in images)


def test_identity_changes_when_one_image_changes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "train" / "cat" / "003.png").write_bytes(png_bytes(999))
    assert trial_of(f"image_folder:{folder}").trial_id != trial_of(f"image_folder:{other}").trial_id


def test_trial_is_refused_when_its_images_changed_since_it_was_planned(tmp_path: Path) -> None:
    trial = trial_of(f"image_folder:{make_folder(tmp_path / 'pets')}")
    changed = make_folder(tmp_path / "other", {"train/cat": 10, "train/dog": 10, "test/cat": 2, "test/dog": 2})
    with pytest.raises(RequestError, match=r"other.*was planned on the split"):
        open_dataset(trial.dataset.model_copy(update={"root": str(changed)}))


def test_what_was_read_serves_every_seed_when_the_split_does_not_follow_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures")
    first, second = (trial_of(f"image_folder:{folder}", seed) for seed in (0, 1))
    assert open_dataset(first.dataset, first.seed) is open_dataset(second.dataset, second.seed)


def test_only_the_split_follows_the_seed_when_the_preset_is_paper(tmp_path: Path) -> None:
    asked = {"name": "image_folder", "root": str(make_folder(tmp_path / "pets")), "split": "paper"}
    first, second = trial_of(asked, seed=1), trial_of(asked, seed=2)
    assert first.condition_id == second.condition_id
    held_out = [
        set(open_dataset(trial.dataset, trial.seed).items("validation").identities) for trial in (first, second)
    ]
    assert held_out[0] != held_out[1]


def test_manifest_holds_identities_and_its_hash_when_written(tmp_path: Path) -> None:
    dataset = find_dataset(f"image_folder:{make_folder(tmp_path / 'pets')}")
    write_manifest(dataset, tmp_path / "split.json")
    text = (tmp_path / "split.json").read_text()
    assert dataset.manifest_sha256 in text
    assert "test/dog/002.png" in text


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_hashed_once_when_nothing_changed(tmp_path: Path, packed: bool) -> None:
    folder = make_folder(tmp_path / "pets")
    place = [folder, make_tar(tmp_path / "pets.tar", folder)][packed]
    before = find_dataset(f"image_folder:{place}").split_sha256
    (path,) = (tmp_path / "data-root" / "index").glob("*.json")
    written = path.stat().st_mtime_ns
    _found.cache_clear()
    assert find_dataset(f"image_folder:{place}").split_sha256 == before
    assert path.stat().st_mtime_ns == written


def test_folder_is_named_when_it_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere: there is no such folder or tar; the layout is"):
        trial_of(f"image_folder:{tmp_path / 'nowhere'}")


def test_class_is_named_when_it_is_empty(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets", {"train/cat": 3, "train/dog": 0, "test/cat": 1, "test/dog": 1})
    with pytest.raises(RequestError, match=r"pets/train/dog: found 'no image'; a class must not be empty"):
        trial_of(f"image_folder:{folder}")


def test_classes_are_named_when_they_differ_between_splits(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets", {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/cow": 1})
    with pytest.raises(RequestError, match=r"pets: found 'only in train: dog; only in test: cow'"):
        trial_of(f"image_folder:{folder}")


def test_layout_is_explained_when_there_is_no_test_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no test; the layout is train/CLASS/IMAGE"):
        trial_of(f"image_folder:{make_folder(tmp_path / 'pets', {'train/cat': 3, 'train/dog': 3})}")


def test_pairs_are_listed_when_an_image_is_in_train_and_test(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(tmp_path / "pets")
    shutil.copy(folder / "train" / "dog" / "004.png", folder / "test" / "dog" / "again.png")
    with caplog.at_level(logging.WARNING):
        trial_of(f"image_folder:{folder}")
    assert "train/dog/004.png = test/dog/again.png" in caplog.text
    assert find_dataset(f"image_folder:{folder}").shared_images == [("train/dog/004.png", "test/dog/again.png")]


def test_files_are_listed_when_they_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(tmp_path / "pets")
    (folder / "train" / "cat" / "notes.txt").write_text("fluffy")
    (folder / "train" / "cat" / ".DS_Store").write_text("")
    with caplog.at_level(logging.WARNING):
        trial_of(f"image_folder:{folder}")
    assert "1 files are not images and are left out" in caplog.text
    assert "notes.txt" in caplog.text


def test_file_is_named_when_an_image_is_corrupt(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    (folder / "test" / "cat" / "001.png").write_bytes(png_bytes(1)[:40])
    for place in (folder, make_tar(tmp_path / "pets.tar", folder)):
        with pytest.raises(RequestError, match=r"test/cat/001\.png.*corrupt"):
            find_dataset(f"image_folder:{place}").items("test").decode(1)


def test_file_is_named_when_an_image_vanished(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    items = find_dataset(f"image_folder:{folder}").items("test")
    (folder / "test" / "cat" / "000.png").unlink()
    with pytest.raises(MissingError, match=r"test/cat/000\.png"):
        items.decode(0)


@pytest.mark.parametrize("name", ["../train/cat/a.png", "/train/cat/a.png", "train/../../a.png"])
def test_member_is_named_when_a_tar_leads_outside(tmp_path: Path, name: str) -> None:
    path = make_tar_of(tmp_path / "unsafe.tar", name)
    with pytest.raises(RequestError, match=r"unsafe\.tar: found '.*a\.png'; a member's name must be relative"):
        trial_of(f"image_folder:{path}")


def test_member_is_named_when_a_tar_holds_a_link(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets")
    (folder / "train" / "cat" / "link.png").symlink_to("/etc/hostname")
    with pytest.raises(RequestError, match=r"train/cat/link\.png' is a link"):
        trial_of(f"image_folder:{make_tar(tmp_path / 'pets.tar', folder)}")


def test_tar_is_named_when_it_is_truncated(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "pets.tar", make_folder(tmp_path / "pets"))
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    os.truncate(path, last.offset_data + 10)
    with pytest.raises(RequestError, match=r"pets\.tar.*truncated|pets\.tar.*unexpected end"):
        trial_of(f"image_folder:{path}")


def test_advice_is_to_unpack_when_a_tar_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "pets.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(make_folder(tmp_path / "pets"), arcname=".")
    with pytest.raises(RequestError, match="gunzip"):
        trial_of(f"image_folder:{path}")


def test_place_is_asked_for_when_none_is_given() -> None:
    with pytest.raises(RequestError, match="needs the place of the images"):
        trial_of("image_folder")


def test_one_place_is_asked_for_when_two_are_given() -> None:
    with pytest.raises(RequestError, match="holds a place already"):
        trial_of({"name": "image_folder:a", "root": "b"})


@pytest.mark.parametrize(("key", "value"), [("validation_fraction", 0.2), ("split", "paper"), ("root", "x")])
def test_option_is_refused_when_the_split_is_in_the_package(key: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"dataset\.{key}.*digits"):
        trial_of({"name": "digits", key: value})


@pytest.mark.real
def test_shared_cifar100_is_read_from_its_tar_when_it_is_here() -> None:
    place = os.environ.get("ADAPTERTUNE_REAL_DATA")
    if not place:
        pytest.skip("ADAPTERTUNE_REAL_DATA is not set")
    dataset = find_dataset(f"image_folder:{Path(place) / 'cifar100_100_20.tar'}")
    # README beside the file: 100 classes, 100 training and 20 test images each; a tenth of train is held out.
    assert len(dataset.info.class_names) == 100
    assert dict(dataset.info.num_images) == {"train": 9_000, "validation": 1_000, "test": 2_000}
    assert dataset.load("test").pixels.shape == (2_000, 32, 32, 3)
