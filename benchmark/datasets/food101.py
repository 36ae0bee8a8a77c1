"""Food-101: photographs of 101 dishes; the training labels are partly noisy."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset


class Food101(ImageFilesDataset):
    """Food-101."""

    info = DatasetInfo(
        name="food101",
        title="Food-101",
        class_names=(),
        num_classes=101,
        licence="none stated; the images belong to their Foodspotting authors, research use only",
        source="Bossard et al. (2014), https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "food-101.tar.gz",
                "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
                "md5:85eeb15f3717b99a5da872d97d918f87",
                "torchvision.datasets.Food101",
            ),
        ),
        published_images={"train": 75_750, "test": 25_250},
        counts_source="torchvision.datasets.Food101 (750 and 250 images a class)",
        split_note="10 % of train held out by class, by the hash of each image's path",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return `train` and `test`."""
        from torchvision.datasets import Food101 as Reader

        parts = {"train": Reader(self.root, "train"), "test": Reader(self.root, "test")}
        return {
            name: list(zip(map(Path, part._image_files), part._labels, strict=True)) for name, part in parts.items()
        }


DATASET = Food101()
