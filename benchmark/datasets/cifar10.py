"""CIFAR-10: 32 x 32 photographs of ten kinds of things."""

from __future__ import annotations

from typing import Any

from benchmark.datasets.contract import DatasetInfo, SourceFile
from benchmark.datasets.reading.cifar import CifarDataset


class Cifar10(CifarDataset):
    """CIFAR-10 in its python version."""

    info = DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        licence="none stated by the publisher; cite Krizhevsky (2009)",
        source="Krizhevsky (2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        flips_keep_labels=True,
        files=(
            SourceFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
                "torchvision.datasets.CIFAR10",
            ),
        ),
        published_images={"train": 50_000, "test": 10_000},
        counts_source="google-research/task_adaptation, cifar_test.py (trainval and test)",
        split_note="10 % of train held out by class, by the hash of each image's number",
    )

    def torchvision_class(self) -> Any:
        """Return torchvision's reader."""
        from torchvision.datasets import CIFAR10

        return CIFAR10


DATASET = Cifar10()
