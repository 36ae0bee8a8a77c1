"""Tiny-ImageNet: 64 x 64 photographs of 200 ImageNet classes. Its test labels are not public."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset
from benchmark.errors import RequestError


class TinyImageNet(ImageFilesDataset):
    """Tiny-ImageNet-200; the published validation images are the test split here, as everywhere."""

    info = DatasetInfo(
        name="tiny_imagenet",
        title="Tiny-ImageNet-200",
        class_names=(),
        num_classes=200,
        licence="ImageNet's terms of access: non-commercial research",
        source="Le & Yang (2015), Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "tiny-imagenet-200.zip",
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "md5:90528d7ca1a48142e341f4ef8d21d0de",
                "avalanche.benchmarks.datasets.tiny_imagenet",
            ),
        ),
        published_images={"train": 100_000, "test": 10_000},
        counts_source="the Hugging Face card of zh-plus/tiny-imagenet (500 training and 50 validation images a class)",
        split_note="10 % of train held out by class, by the hash of each image's path; the published val is the test",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return `train` and `test` (the published val)."""
        from torchvision.datasets import ImageFolder

        folder = self.root / "tiny-imagenet-200"
        train = ImageFolder(str(folder / "train"))
        return {
            "train": [(Path(path), label) for path, label in train.samples],
            "test": _annotated(folder / "val", train.class_to_idx),
        }


def _annotated(folder: Path, label_of: dict[str, int]) -> list[tuple[Path, int]]:
    """Return the images of `val_annotations.txt`: file name, class and a box in each line, separated by tabs."""
    annotations = folder / "val_annotations.txt"
    images = []
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, rest = line.partition("\t")
        class_name = rest.partition("\t")[0]
        if class_name not in label_of:
            rule = "the class of a validation image must be one of train's"
            raise RequestError(f"{annotations}:{number}", class_name, rule, "Unpack the archive again.")
        images.append((folder / "images" / name, label_of[class_name]))
    return images


DATASET = TinyImageNet()
