"""Small data sets in each publisher's real on-disk format, and the facts that go with them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from benchmark.datasets.reading.public import PublicDataset
from tests.unit.benchmark.datasets.image_files import pixels


def small(dataset: PublicDataset, published: dict[str, int], **facts: Any) -> Any:
    """Return a data set's class with the counts of small files."""
    info = dataclasses.replace(dataset.facts, published_images=published, num_images={}, **facts)
    return type(f"Small{type(dataset).__name__}", (type(dataset),), {"info": info})


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)


def write_cifar10(root: Path, num_images: int = 4) -> dict[str, str]:
    """Write five training batches and a test batch; return their checksums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        data = np.random.default_rng(seed).integers(0, 256, (num_images, 3 * 32 * 32), dtype=np.uint8)
        labels = [row % 2 for row in range(num_images)]
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))
    return checksums_of(root, folder)


def write_cifar100(root: Path, num_images: int = 20) -> dict[str, str]:
    """Write CIFAR-100's two batches; return their checksums."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("train", "test")):
        data = np.random.default_rng(seed).integers(0, 256, (num_images, 3 * 32 * 32), dtype=np.uint8)
        labels = [row % 2 for row in range(num_images)]
        (folder / name).write_bytes(pickle.dumps({"data": data, "fine_labels": labels, "coarse_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "baby"]}))
    return checksums_of(root, folder)


def checksums_of(root: Path, folder: Path) -> dict[str, str]:
    """Return the MD5 of each file, by its path below the root."""
    return {
        path.relative_to(root).as_posix(): f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
        for path in folder.iterdir()
    }


def write_svhn(root: Path) -> None:
    """Write MATLAB files: X [32, 32, 3, N] and y [N, 1], in which 10 stands for the digit 0."""
    root.mkdir(parents=True)
    for seed, (part, count) in enumerate({"train": 20, "test": 4}.items()):
        images = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.array([[10 if row % 2 else 1] for row in range(count)], dtype=np.uint8)
        scipy.io.savemat(root / f"{part}_32x32.mat", {"X": images, "y": labels})


def write_pets(root: Path) -> None:
    """Write `annotations/{trainval,test}.txt` (image, class from 1, species, breed) and `images/*.jpg`."""
    annotations = root / "oxford-iiit-pet" / "annotations"
    annotations.mkdir(parents=True)
    for part, count in {"trainval": 10, "test": 2}.items():
        lines = []
        for breed, name in enumerate(("Abyssinian", "american_bulldog"), start=1):
            for number in range(count):
                image = f"{name}_{part}{number}"
                lines.append(f"{image} {breed} {breed} 1")
                write_image(root / "oxford-iiit-pet" / "images" / f"{image}.jpg", number)
        (annotations / f"{part}.txt").write_text("\n".join(lines) + "\n")


def write_food101(root: Path) -> None:
    """Write `meta/{train,test}.json` (class: image paths) and `images/CLASS/NUMBER.jpg`."""
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for part, count in {"train": 10, "test": 2}.items():
        listed = {dish: [f"{dish}/{part}{number}" for number in range(count)] for dish in ("apple_pie", "waffles")}
        (folder / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for path in [path for paths in listed.values() for path in paths]:
            write_image(folder / "images" / f"{path}.jpg", len(path))


def write_flowers102(root: Path) -> None:
    """Write `jpg/image_00001.jpg`, ..., `imagelabels.mat` (from 1) and `setid.mat` (image numbers from 1)."""
    folder = root / "flowers-102"
    for number in range(1, 13):
        write_image(folder / "jpg" / f"image_{number:05d}.jpg", number)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2] * 6])})
    parts = {"trnid": [[12, 1, 2, 3]], "valid": [[4, 5]], "tstid": [[6, 7, 8, 9, 10, 11]]}
    scipy.io.savemat(folder / "setid.mat", {name: np.array(numbers) for name, numbers in parts.items()})


def write_aircraft(root: Path) -> None:
    """Write `data/variants.txt`, `data/images_variant_{train,val,test}.txt` and `data/images/NUMBER.jpg`."""
    folder = root / "fgvc-aircraft-2013b" / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nA340-200\n")
    number = 34_957
    for part in ("train", "val", "test"):
        lines = []
        for variant in ("A340-200", "707-320", "A340-200"):
            number += 1
            lines.append(f"{number:07d} {variant}")
            write_image(folder / "images" / f"{number:07d}.jpg", number)
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")


def write_tiny_imagenet(root: Path) -> None:
    """Write `train/WNID/images/*.JPEG` and `val/images/*.JPEG` with `val/val_annotations.txt`, tab-separated."""
    folder = root / "tiny-imagenet-200"
    lines = []
    for wnid in ("n01443537", "n01629819"):
        for number in range(10):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", number)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t1\t1\n")
    for number, wnid in enumerate(("n01629819", "n01443537", "n01629819")):
        write_image(folder / "val" / "images" / f"val_{number}.JPEG", number)
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")


def write_imagenet_r(root: Path) -> None:
    """Write `WNID/STYLE_NUMBER.jpg` below `imagenet-r`, beside the README that the archive holds."""
    for wnid in ("n01443537", "n01484850"):
        for number in range(10):
            write_image(root / "imagenet-r" / wnid / f"art_{number}.jpg", number)
    (root / "imagenet-r" / "README.txt").write_text("renditions")


def write_vtab(root: Path, task: str, num_classes: int, num_test: int = 6) -> None:
    """Write a task's image lists, `PATH LABEL` in each line, and the images; several lines share an image file."""
    folder = root / "vtab-1k" / task
    for seed in range(4):
        write_image(folder / "images" / f"{seed:06d}.png", seed)

    def lines(count: int) -> list[str]:
        return [f"images/{row % 4:06d}.png {row % num_classes}" for row in range(count)]

    lists = {"train800": lines(800), "val200": lines(200), "test": lines(num_test)}
    for name, content in {**lists, "train800val200": lists["train800"] + lists["val200"]}.items():
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")


def pack_tar_gz(path: Path, folder: Path) -> None:
    """Pack a folder as publishers do: its own name is the archive's first folder."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)


def pack_zip(path: Path, folder: Path) -> None:
    """Pack a folder below its own name."""
    with zipfile.ZipFile(path, "w") as archive:
        for child in sorted(folder.rglob("*")):
            archive.write(child, child.relative_to(folder.parent))
