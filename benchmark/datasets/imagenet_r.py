"""ImageNet-R(endition): art, cartoons, sculptures and the like of 200 ImageNet classes."""

from __future__ import annotations

from pathlib import Path

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.public import ImageFilesDataset


class ImageNetR(ImageFilesDataset):
    """ImageNet-R, which is published unsplit.

    The released code's three-way split of it is not in its public sources, so there is no preset `paper`.
    """

    presets = ("fixed",)
    info = DatasetInfo(
        name="imagenet_r",
        title="ImageNet-R(endition)",
        class_names=(),
        num_classes=200,
        licence="MIT for the publisher's repository; the images' own rights are not stated",
        source="Hendrycks et al. (2021), https://github.com/hendrycks/imagenet-r",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "imagenet-r.tar",
                "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
                "md5:a61312130a589d0ca1a8fca1f2bd3337",
                "torch_uncertainty.datasets.ImageNetR",
            ),
        ),
        published_images={"all": 30_000},
        counts_source="the publisher's README",
        split_note="20 % is the test split, 10 % of the rest validation, by class, by the hash of each image's path",
    )

    def list_published(self) -> dict[str, list[tuple[Path, int]]]:
        """Return all images."""
        from torchvision.datasets import ImageFolder

        samples = ImageFolder(str(self.root / "imagenet-r")).samples
        return {"all": [(Path(path), label) for path, label in samples]}


DATASET = ImageNetR()
