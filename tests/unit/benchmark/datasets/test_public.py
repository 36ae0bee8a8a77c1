from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.datasets import (
    cifar10,
    cifar100,
    fgvc_aircraft,
    flowers102,
    food101,
    imagenet_r,
    oxford_iiit_pet,
    svhn,
    tiny_imagenet,
)
from benchmark.datasets.contract import SplitChoice, dataset_names, find_dataset, open_dataset
from benchmark.datasets.reading.splitting import SPLITS
from benchmark.errors import MissingError, RequestError
from benchmark.request import resolve_trial
from tests.unit.benchmark.datasets import published_files as files
from tests.unit.benchmark.datasets.image_files import pixels

FILE_SETS = [
    (svhn.DATASET, files.write_svhn, {"train": 20, "test": 4}, [18, 2, 4]),
    (oxford_iiit_pet.DATASET, files.write_pets, {"train": 20, "test": 4}, [18, 2, 4]),
    (food101.DATASET, files.write_food101, {"train": 20, "test": 4}, [18, 2, 4]),
    (flowers102.DATASET, files.write_flowers102, {"train": 4, "validation": 2, "test": 6}, [4, 2, 6]),
    (fgvc_aircraft.DATASET, files.write_aircraft, {"train": 3, "validation": 3, "test": 3}, [3, 3, 3]),
    (tiny_imagenet.DATASET, files.write_tiny_imagenet, {"train": 20, "test": 3}, [18, 2, 3]),
    (imagenet_r.DATASET, files.write_imagenet_r, {"all": 20}, [14, 2, 4]),
]


def trial_of(dataset: object, seed: int = 0, protocol: object = "fair") -> Any:
    method = "head_only"
    asked = {"backbone": "vit_nano", "dataset": dataset, "method": method, "seed": seed, "protocol": protocol}
    return resolve_trial(asked)


@pytest.mark.parametrize(
    ("dataset", "write", "published", "counts"), FILE_SETS, ids=[entry[0].facts.name for entry in FILE_SETS]
)
def test_every_image_is_in_one_split_and_decodes_when_read_in_its_real_format(
    tmp_path: Path, dataset: Any, write: Callable[[Path], None], published: dict[str, int], counts: list[int]
) -> None:
    write(tmp_path / "data")
    read = files.small(dataset, published)(str(tmp_path / "data"))
    splits = [read.items(split) for split in SPLITS]
    assert [len(items.labels) for items in splits] == counts == list(read.info.num_images.values())
    names = [name for items in splits for name in items.identities.tolist()]
    assert len(set(names)) == len(names)
    assert {items.decode(0).mode for items in splits} == {"RGB"}
    assert {label for items in splits for label in items.labels.tolist()} == {0, 1}
    assert len({items.content_sha256 for items in splits}) == 1


@pytest.mark.parametrize(
    ("dataset", "write"), [(cifar10.DATASET, files.write_cifar10), (cifar100.DATASET, files.write_cifar100)]
)
def test_cifar_batches_are_read_when_their_checksums_are_right(tmp_path: Path, dataset: Any, write: Any) -> None:
    checksums = write(tmp_path / "data")
    published = {"train": 20, "test": 4 if dataset is cifar10.DATASET else 20}
    kind = files.small(dataset, published)
    kind.batch_checksums = lambda _: checksums
    images = kind(str(tmp_path / "data")).load("test")
    assert images.pixels.shape == (published["test"], 32, 32, 3)
    assert images.identities[1] == "test/00001"
    assert images.labels[:4].tolist() == [0, 1, 0, 1]


def test_nothing_is_unpickled_when_a_batch_has_another_checksum(tmp_path: Path) -> None:
    checksums = files.write_cifar10(tmp_path / "data")
    marker = tmp_path / "executed"
    evil = b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V" + str(marker).encode() + b"\ntRtR."
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3").write_bytes(evil)
    kind = files.small(cifar10.DATASET, {"train": 20, "test": 4})
    kind.batch_checksums = lambda _: checksums
    with pytest.raises(RequestError, match=r"data_batch_3.*as stated by torchvision"):
        kind(str(tmp_path / "data")).items("train")
    assert not marker.exists()


def test_digit_zero_is_label_zero_when_svhn_calls_it_ten(tmp_path: Path) -> None:
    files.write_svhn(tmp_path / "data")
    read = files.small(svhn.DATASET, {"train": 20, "test": 4})(str(tmp_path / "data"))
    assert read.items("test").labels.tolist() == [1, 0, 1, 0]


def test_split_is_the_released_one_when_the_preset_is_paper(tmp_path: Path) -> None:
    import torch

    files.write_flowers102(tmp_path / "data")
    kind = files.small(flowers102.DATASET, {"train": 4, "validation": 2, "test": 6})
    # Released code: train and val joined, a permutation by the seed, the first int(6 * 0.1) = 0 images held out.
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3)).tolist()
    joined = [f"flowers-102/jpg/image_{number:05d}.jpg" for number in (12, 1, 2, 3, 4, 5)]
    read = kind(str(tmp_path / "data"), SplitChoice("paper", None, 3))
    assert read.items("train").identities.tolist() == [joined[row] for row in order]
    assert dict(read.info.num_images) == {"train": 6, "validation": 0, "test": 6}


def test_identities_of_trials_are_known_when_no_data_are_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPTERTUNE_DATA", str(tmp_path / "nothing"))
    ids = {trial_of(name).trial_id for name in dataset_names() if name not in ("image_folder", "hf")}
    assert len(ids) == len(dataset_names()) - 2
    assert trial_of({"name": "cifar100", "root": "/somewhere"}).trial_id == trial_of("cifar100").trial_id
    assert trial_of({"name": "cifar100", "validation_fraction": 0.1}).trial_id == trial_of("cifar100").trial_id
    assert trial_of({"name": "cifar100", "validation_fraction": 0.2}).trial_id != trial_of("cifar100").trial_id
    paper = [trial_of({"name": "cifar100", "split": "paper"}, seed) for seed in (0, 1)]
    assert paper[0].condition_id == paper[1].condition_id != trial_of("cifar100").condition_id


def test_split_hashes_stay_as_they_are_when_the_code_changes() -> None:
    # Recorded when the data sets came in: another value would give every stored trial on them another identity.
    recorded = {
        "cifar10": "6e3426a18edf0412",
        "cifar100": "756427c0e8eaf7bc",
        "flowers102": "fcef776cd3d497ce",
        "imagenet_r": "219e00f36da0f6e0",
        "vtab_dmlab": "1445f4fb858ba605",
    }
    assert {name: find_dataset(name).split_sha256[:16] for name in recorded} == recorded


def test_file_and_place_are_named_when_no_data_are_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPTERTUNE_DATA", str(tmp_path))
    dataset = open_dataset(trial_of("cifar100").dataset)
    with pytest.raises(MissingError) as missing:
        dataset.items("train")
    for part in ("adaptertune data prepare cifar100", "cifar-100-python.tar.gz", str(tmp_path / "cifar100"), "md5:eb"):
        assert part in str(missing.value)


def test_counts_are_named_when_a_file_is_missing_from_a_list(tmp_path: Path) -> None:
    files.write_food101(tmp_path / "data")
    read = files.small(food101.DATASET, {"train": 21, "test": 4})(str(tmp_path / "data"))
    with pytest.raises(RequestError, match=r"found \{'train': 20, 'test': 4\}; food101 has \{'train': 21"):
        read.items("train")


def test_folder_is_named_when_a_list_is_damaged(tmp_path: Path) -> None:
    files.write_food101(tmp_path / "data")
    (tmp_path / "data" / "food-101" / "meta" / "train.json").write_text("{")
    read = files.small(food101.DATASET, {"train": 20, "test": 4})(str(tmp_path / "data"))
    with pytest.raises(RequestError, match=r"data: the files of food101 are damaged"):
        read.items("train")


def test_line_is_named_when_a_validation_class_is_unknown(tmp_path: Path) -> None:
    files.write_tiny_imagenet(tmp_path / "data")
    path = tmp_path / "data" / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("val_0.JPEG\tn99999999\t0\t0\t1\t1\n")
    read = files.small(tiny_imagenet.DATASET, {"train": 20, "test": 3})(str(tmp_path / "data"))
    with pytest.raises(RequestError, match=r"val_annotations\.txt:1: found 'n99999999'"):
        read.items("test")


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"name": "flowers102", "validation_fraction": 0.2}, "ships its own validation images"),
        ({"name": "imagenet_r", "split": "paper"}, "has the splits fixed"),
        ({"name": "cifar10", "split": "vtab_1000"}, "has the splits fixed, paper"),
        ({"name": "cifar10", "split": "paper", "validation_fraction": 0.2}, "sets its own share"),
        ({"name": "cifar10", "validation_fraction": 1.0}, "less than 1"),
        ({"name": "cifar11"}, "cifar10"),
    ],
)
def test_option_is_refused_with_its_field_when_the_data_set_has_no_such_split(asked: dict[str, Any], rule: str) -> None:
    with pytest.raises(RequestError, match=rf"dataset.*{rule}"):
        trial_of(asked)


def test_vtab_task_is_split_800_to_200_when_fixed(tmp_path: Path) -> None:
    files.write_vtab(tmp_path / "data", "dmlab", num_classes=6)
    read = small_dmlab(tmp_path / "data", SplitChoice())
    assert {split: len(read.items(split).labels) for split in SPLITS} == {"train": 800, "validation": 200, "test": 6}
    assert read.items("test").labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(np.asarray(read.items("test").decode(1)), pixels(1))


def test_vtab_task_trains_on_all_1000_when_asked(tmp_path: Path) -> None:
    files.write_vtab(tmp_path / "data", "dmlab", num_classes=6)
    read = small_dmlab(tmp_path / "data", SplitChoice("vtab_1000"))
    assert dict(read.info.num_images) == {"train": 1000, "validation": 200, "test": 6}
    assert len(read.items("train").labels) == 1000
    assert read.split_sha256 != small_dmlab(tmp_path / "data", SplitChoice()).split_sha256


def test_validation_chooses_no_epoch_when_it_is_trained_on() -> None:
    asked = {"name": "vtab_dmlab", "split": "vtab_1000"}
    with pytest.raises(RequestError, match=r"protocol\.selection: found 'best_validation'.*trained on too"):
        trial_of(asked)
    assert trial_of(asked, protocol={"name": "fair", "selection": "last_epoch"}).dataset.split == "vtab_1000"


def test_line_is_named_when_a_vtab_list_holds_another_label(tmp_path: Path) -> None:
    files.write_vtab(tmp_path / "data", "dmlab", num_classes=7)
    with pytest.raises(RequestError, match=r"train800\.txt:7: found 'images/000002\.png 6'"):
        small_dmlab(tmp_path / "data", SplitChoice()).items("train")


def small_dmlab(root: Path, choice: SplitChoice) -> Any:
    from benchmark.datasets.reading.vtab import vtab_task

    facts = {"source": "a test", "licence": "none", "counts_source": "a test"}
    return vtab_task("vtab_dmlab", "DMLab", "dmlab", 6, 6, **facts).copy_at(str(root), choice)


def test_all_19_tasks_are_there_when_vtab_is_listed() -> None:
    # Zhai et al. (2019), table 1: 7 natural, 4 specialised, 8 structured tasks.
    assert len([name for name in dataset_names() if name.startswith("vtab_")]) == 19


@pytest.mark.parametrize("name", [name for name in dataset_names() if name not in ("image_folder", "hf", "digits")])
def test_facts_are_complete_when_a_data_set_is_public(name: str) -> None:
    info = find_dataset(name).info
    assert info.name == name
    assert info.num_classes >= 2
    assert all((info.licence, info.source, info.counts_source, info.split_note, info.files))
    assert all(file.url or file.page for file in info.files)
    assert all(file.checksum_source for file in info.files if file.checksum)


def test_no_heavy_package_is_imported_when_data_sets_are_listed() -> None:
    program = (
        "import sys; from benchmark.datasets.contract import dataset_names, find_dataset; "
        "[find_dataset(name).info.title for name in dataset_names()]; "
        "print(sorted({'torch', 'torchvision', 'PIL', 'datasets', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
