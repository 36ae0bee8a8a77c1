"""Oxford-IIIT Pet: photographs of 37 breeds of cats and dogs."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset

_URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"


class OxfordIIITPet(ImageFilesDataset):
    """The breeds of Oxford-IIIT Pet."""

    info = DatasetInfo(
        name="oxford_iiit_pet",
        title="Oxford-IIIT Pet",
        class_names=(),
        num_classes=37,
        licence="CC BY-SA 4.0",
        source="Parkhi et al. (2012), https://www.robots.ox.ac.uk/~vgg/data/pets/",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "oxford-iiit-pet/images.tar.gz",
                f"{_URL}images.tar.gz",
                "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
                "torchvision.datasets.OxfordIIITPet",
            ),
            SourceFile(
                "oxford-iiit-pet/annotations.tar.gz",
                f"{_URL}annotations.tar.gz",
                "md5:95a8c909bbe2e81eed6a22bccdf3f68f",
                "torchvision.datasets.OxfordIIITPet",
            ),
        ),
        published_images={"train": 3_680, "test": 3_669},
        counts_source="google-research/task_adaptation, oxford_iiit_pet_test.py (trainval and test)",
        split_note="10 % of trainval held out by class, by the hash of each image's path",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return `train` (the published trainval) and `test`."""
        from torchvision.datasets import OxfordIIITPet as Reader

        parts = {"train": Reader(self.root, "trainval"), "test": Reader(self.root, "test")}
        return {name: list(zip(map(Path, part._images), part._labels, strict=True)) for name, part in parts.items()}


DATASET = OxfordIIITPet()
