"""Oxford Flowers-102: photographs of 102 flowers common in the United Kingdom."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset

_URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"


def _file(name: str, md5: str) -> SourceFile:
    return SourceFile(f"flowers-102/{name}", f"{_URL}{name}", f"md5:{md5}", "torchvision.datasets.Flowers102")


class Flowers102(ImageFilesDataset):
    """Flowers-102 with its own validation images."""

    info = DatasetInfo(
        name="flowers102",
        title="Oxford 102 Flower",
        class_names=(),
        num_classes=102,
        licence="none stated by the publisher; cite Nilsback & Zisserman (2008)",
        source="Nilsback & Zisserman (2008), https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        flips_keep_labels=True,
        files=(
            _file("102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            _file("imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            _file("setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
        published_images={"train": 1_020, "validation": 1_020, "test": 6_149},
        counts_source="google-research/task_adaptation, oxford_flowers102_test.py",
        split_note="as published; the preset `paper` joins train and validation and splits anew",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return `train`, `validation` and `test`."""
        from torchvision.datasets import Flowers102 as Original

        # `data prepare` compared the checksums; torchvision would again at every start.
        reader = type("Flowers102", (Original,), {"_check_integrity": lambda _: True})
        parts = {name: reader(self.root, part) for name, part in _PARTS.items()}
        return {
            name: list(zip(map(Path, part._image_files), part._labels, strict=True)) for name, part in parts.items()
        }


_PARTS = {"train": "train", "validation": "val", "test": "test"}

DATASET = Flowers102()
