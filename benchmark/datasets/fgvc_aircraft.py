"""FGVC-Aircraft: photographs of 100 variants of aircraft."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset


class FgvcAircraft(ImageFilesDataset):
    """The variants of FGVC-Aircraft, with their own validation images."""

    info = DatasetInfo(
        name="fgvc_aircraft",
        title="FGVC-Aircraft 2013b, variants",
        class_names=(),
        num_classes=100,
        licence="non-commercial research only, says the publisher; the photographers keep their rights",
        source="Maji et al. (2013), https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "fgvc-aircraft-2013b.tar.gz",
                "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                "md5:d4acdd33327262359767eeaa97a4f732",
                "google-deepmind/dm_nevis and mlverse/torchvision (R)",
            ),
        ),
        published_images={"train": 3_334, "validation": 3_333, "test": 3_333},
        counts_source="mmpretrain.datasets.FGVCAircraft (6,667 in trainval, 3,333 in test), torchvision (10,000)",
        split_note="as published; the preset `paper` joins train and validation and splits anew",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return `train`, `validation` and `test`."""
        from torchvision.datasets import FGVCAircraft

        parts = {name: FGVCAircraft(self.root, part) for name, part in _PARTS.items()}
        return {
            name: list(zip(map(Path, part._image_files), part._labels, strict=True)) for name, part in parts.items()
        }


_PARTS = {"train": "train", "validation": "val", "test": "test"}

DATASET = FgvcAircraft()
